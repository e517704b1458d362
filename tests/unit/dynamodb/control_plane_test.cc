#include "server/dynamodb/control_plane.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>

#include "replication/metadata/keys.h"
#include "server/dynamodb/schema.h"
#include "tests/unit/dynamodb/memory_store.h"

namespace onggi::dynamodb {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kInvalid = "One or more parameter values were invalid: ";

class NoFigures final : public TableStatistics {
 public:
  boost::asio::awaitable<TableFigures> Figures(TableId /*table*/) override {
    TableFigures figures;
    figures.item_count = 7;
    figures.size_bytes = 70;
    co_return figures;
  }
};

class ControlPlaneTest : public ::testing::Test {
 protected:
  ControlPlaneTest() { RegisterControlOperations(plane_, &operations_); }

  /// Runs an operation as the Api does, and returns its body or its error's.
  std::string Call(const std::string& operation, const std::string& json) {
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    EXPECT_FALSE(parser.parse(json).get(object)) << json;
    const OperationTable::Entry* entry = operations_.Find(operation);
    Outcome valid = ValidateInput(*entry->model, object);
    if (!valid.ok()) return RenderError(valid.error());
    CallContext call;
    call.scope = &scope_;
    call.catalog = &catalog_;
    call.operation = entry->model->name;
    call.host = "localhost:8000";
    std::string body;
    Outcome outcome;
    bool done = false;
    boost::asio::co_spawn(
        context_,
        [&]() -> boost::asio::awaitable<void> {
          outcome = co_await entry->operation->Run(call, Input(object), &body);
          done = true;
        },
        boost::asio::detached);
    context_.restart();
    context_.run();
    EXPECT_TRUE(done);
    return outcome.ok() ? body : RenderError(outcome.error());
  }

  /// The message of the answer, without its JSON.
  std::string Message(const std::string& operation, const std::string& json) {
    const std::string answer = Call(operation, json);
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    std::string_view message;
    if (parser.parse(answer).get(object) || object["message"].get(message)) return answer;
    return std::string(message);
  }

  /// What the coordinator does after CreateTable.
  void Activate(const std::string& name) {
    const auto table = catalog_.Find(scope_.account, name);
    ASSERT_NE(table, nullptr);
    SetStatus(name, proto::TABLE_STATUS_ACTIVE);
  }
  void SetStatus(const std::string& name, proto::TableStatus status) {
    proto::Table record = catalog_.Find(scope_.account, name)->record;
    record.set_status(status);
    metadata::Transaction transaction;
    transaction.puts.push_back(
        {metadata::keys::Table(TableId(record.id())), record.SerializeAsString()});
    catalog_.PutWatched(record, store_.Apply(transaction).revision);
  }

  static std::string Table(const std::string& name, const std::string& more = "") {
    return R"({"TableName":")" + name +
           R"(","KeySchema":[{"AttributeName":"a","KeyType":"HASH"}],)"
           R"("AttributeDefinitions":[{"AttributeName":"a","AttributeType":"S"}],)"
           R"("BillingMode":"PAY_PER_REQUEST")" +
           more + "}";
  }
  static std::string Provisioned(const std::string& name, int read, int write) {
    return R"({"TableName":")" + name +
           R"(","KeySchema":[{"AttributeName":"a","KeyType":"HASH"}],)"
           R"("AttributeDefinitions":[{"AttributeName":"a","AttributeType":"S"}],)"
           R"("ProvisionedThroughput":{"ReadCapacityUnits":)" +
           std::to_string(read) + R"(,"WriteCapacityUnits":)" + std::to_string(write) + "}}";
  }
  void CreateActive(const std::string& json, const std::string& name) {
    const std::string answer = Call("CreateTable", json);
    ASSERT_THAT(answer, HasSubstr("TableDescription")) << answer;
    Activate(name);
  }
  static std::string Arn(const std::string& name) {
    return "arn:aws:dynamodb:us-east-1:000000000000:table/" + name;
  }

  boost::asio::io_context context_{1};
  MemoryStore store_{context_};
  Catalog catalog_;
  NoFigures figures_;
  ManualClock clock_;
  ControlPlane plane_{store_, catalog_, figures_, {}, clock_};
  Scope scope_{"default", "us-east-1", "000000000000"};
  OperationTable operations_;
};

TEST_F(ControlPlaneTest, CreatesATableAndDescribesIt) {
  const std::string created = Call("CreateTable", Table("abc"));
  EXPECT_THAT(created, HasSubstr(R"("TableStatus":"CREATING")"));
  EXPECT_THAT(created, HasSubstr(R"("BillingModeSummary":{"BillingMode":"PAY_PER_REQUEST"})"));
  EXPECT_THAT(Call("DescribeTable", R"({"TableName":"abc"})"),
              HasSubstr(R"("TableStatus":"CREATING")"));
  Activate("abc");
  const std::string described = Call("DescribeTable", R"({"TableName":"abc"})");
  EXPECT_THAT(
      described,
      HasSubstr(R"({"Table":{"AttributeDefinitions":[{"AttributeName":"a","AttributeType":"S"}],)"
                R"("TableName":"abc","KeySchema":[{"AttributeName":"a","KeyType":"HASH"}],)"
                R"("TableStatus":"ACTIVE","CreationDateTime":1700000000,"ProvisionedThroughput":{)"
                R"("NumberOfDecreasesToday":0,"ReadCapacityUnits":0,"WriteCapacityUnits":0},)"
                R"("TableSizeBytes":70,"ItemCount":7,"TableArn":")" +
                Arn("abc") + "\","));
  EXPECT_THAT(described, HasSubstr(R"("BillingModeSummary":{"BillingMode":"PAY_PER_REQUEST",)"
                                   R"("LastUpdateToPayPerRequestDateTime":1700000000})"));
  EXPECT_THAT(described, HasSubstr(R"("DeletionProtectionEnabled":false)"));
  EXPECT_THAT(described, HasSubstr(R"("WarmThroughput":{"ReadUnitsPerSecond":12000,)"
                                   R"("WriteUnitsPerSecond":4000,"Status":"ACTIVE"})"));
  EXPECT_EQ(described, Call("DescribeTable", R"({"TableName":")" + Arn("abc") + "\"}"));
}

TEST_F(ControlPlaneTest, GivesEveryTableItsOwnId) {
  CreateActive(Table("abc"), "abc");
  CreateActive(Table("def"), "def");
  EXPECT_NE(catalog_.Find("default", "abc")->id(), catalog_.Find("default", "def")->id());
}

TEST_F(ControlPlaneTest, RefusesASecondTableOfAName) {
  CreateActive(Table("abc"), "abc");
  EXPECT_EQ(Call("CreateTable", Table("abc")),
            R"({"__type":"com.amazonaws.dynamodb.v20120810#ResourceInUseException",)"
            R"("message":"Table already exists: abc"})");
}

TEST_F(ControlPlaneTest, LosesARaceForANameToTheOtherCreator) {
  store_.before_commit = [&] {
    store_.PutNow(metadata::keys::Name("default", "abc"), metadata::keys::FormatId(9));
  };
  EXPECT_EQ(Message("CreateTable", Table("abc")), "Table already exists: abc");
}

TEST_F(ControlPlaneTest, WinsARaceForAnIdByTakingTheNext) {
  store_.before_commit = [&] {
    store_.PutNow(metadata::keys::NextTable(), metadata::keys::FormatId(5));
  };
  ASSERT_THAT(Call("CreateTable", Table("abc")), HasSubstr("TableDescription"));
  EXPECT_EQ(catalog_.Find("default", "abc")->id(), TableId(5));
}

TEST_F(ControlPlaneTest, KeepsWhatTheStoreSaysToItself) {
  store_.fault = Status(Code::kIoError, "/data/catalog: fsync");
  EXPECT_EQ(Call("CreateTable", Table("abc")),
            R"({"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError",)"
            R"("message":"Internal server error"})");
}

TEST_F(ControlPlaneTest, NamesTablesThatAreNotThere) {
  for (const char* operation : {"DescribeTable", "DeleteTable", "DescribeTimeToLive"}) {
    EXPECT_EQ(Message(operation, R"({"TableName":"abc"})"),
              "Requested resource not found: Table: abc not found");
  }
  EXPECT_EQ(Call("DescribeContinuousBackups", R"({"TableName":"abc"})"),
            R"({"__type":"com.amazonaws.dynamodb.v20120810#TableNotFoundException",)"
            R"("message":"Table not found: abc"})");
}

TEST_F(ControlPlaneTest, ChecksBillingOfNewTables) {
  const std::string rest =
      R"("TableName":"abc","KeySchema":[{"AttributeName":"a","KeyType":"HASH"}],)"
      R"("AttributeDefinitions":[{"AttributeName":"a","AttributeType":"S"}])";
  EXPECT_EQ(Message("CreateTable", "{" + rest + "}"),
            std::string(kInvalid) +
                "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode "
                "is PROVISIONED");
  EXPECT_EQ(
      Message("CreateTable", Table("abc", R"(,"ProvisionedThroughput":)"
                                          R"({"ReadCapacityUnits":1,"WriteCapacityUnits":1})")),
      std::string(kInvalid) +
          "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode "
          "is PAY_PER_REQUEST");
  EXPECT_EQ(
      Message("CreateTable", "{" + rest +
                                 R"(,"ProvisionedThroughput":{"ReadCapacityUnits":1000000000001,)"
                                 R"("WriteCapacityUnits":1000000000001}})"),
      "Given value 1000000000001 for ReadCapacityUnits is out of bounds");
}

/// CreateTable with these keys ("name:HASH,...") and definitions ("name,..."), and `more`.
std::string WithKeys(const std::string& keys, const std::string& definitions,
                     const std::string& more = "") {
  const auto split = [](const std::string& text) {
    std::vector<std::string> parts;
    std::string part;
    for (const char c : text + ",") {
      if (c != ',') {
        part += c;
      } else if (!part.empty()) {
        parts.push_back(std::exchange(part, ""));
      }
    }
    return parts;
  };
  std::string json = R"({"TableName":"abc","BillingMode":"PAY_PER_REQUEST","KeySchema":[)";
  const char* comma = "";
  for (const std::string& key : split(keys)) {
    const size_t colon = key.find(':');
    json += std::string(comma) + R"({"AttributeName":")" + key.substr(0, colon) +
            R"(","KeyType":")" + key.substr(colon + 1) + "\"}";
    comma = ",";
  }
  json += R"(],"AttributeDefinitions":[)";
  comma = "";
  for (const std::string& name : split(definitions)) {
    json += std::string(comma) + R"({"AttributeName":")" + name + R"(","AttributeType":"S"})";
    comma = ",";
  }
  return json + "]" + more + "}";
}

std::string LocalIndex(const std::string& name, const std::string& hash, const std::string& range,
                       const std::string& projection = R"({"ProjectionType":"ALL"})") {
  return R"({"IndexName":")" + name + R"(","KeySchema":[{"AttributeName":")" + hash +
         R"(","KeyType":"HASH"})" +
         (range.empty() ? "" : R"(,{"AttributeName":")" + range + R"(","KeyType":"RANGE"})") +
         R"(],"Projection":)" + projection + "}";
}

TEST_F(ControlPlaneTest, ChecksKeysOfNewTables) {
  EXPECT_EQ(Message("CreateTable", WithKeys("a:HASH,b:RANGE", "a")),
            "Invalid KeySchema: Some index key attribute have no definition");
  EXPECT_EQ(Message("CreateTable", WithKeys("a:HASH", "b")),
            std::string(kInvalid) +
                "Some index key attributes are not defined in AttributeDefinitions. Keys: [a], "
                "AttributeDefinitions: [b]");
  EXPECT_EQ(Message("CreateTable", WithKeys("a:HASH,a:RANGE", "a,b")),
            "Both the Hash Key and the Range Key element in the KeySchema have the same name");
  EXPECT_EQ(Message("CreateTable", WithKeys("a:RANGE", "a")),
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type");
  EXPECT_EQ(Message("CreateTable", WithKeys("a:HASH,b:HASH", "a,b")),
            "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type");
  EXPECT_EQ(Message("CreateTable", WithKeys("a:HASH", "a,b")),
            std::string(kInvalid) +
                "Number of attributes in KeySchema does not exactly match number of attributes "
                "defined in AttributeDefinitions");
}

TEST_F(ControlPlaneTest, ChecksLocalIndexes) {
  const auto with = [&](const std::string& keys, const std::string& definitions,
                        const std::string& indexes) {
    return Message("CreateTable",
                   WithKeys(keys, definitions, R"(,"LocalSecondaryIndexes":[)" + indexes + "]"));
  };
  const std::string invalid(kInvalid);
  EXPECT_EQ(with("a:HASH,b:RANGE", "a,b", ""), invalid + "List of LocalSecondaryIndexes is empty");
  EXPECT_EQ(with("a:HASH", "a,b", LocalIndex("idx", "a", "b")),
            invalid +
                "Table KeySchema does not have a range key, which is required when specifying a "
                "LocalSecondaryIndex");
  EXPECT_EQ(with("a:HASH,b:RANGE", "a,b", LocalIndex("idx", "a", "c")),
            invalid +
                "Some index key attributes are not defined in AttributeDefinitions. Keys: [a, c], "
                "AttributeDefinitions: [a, b]");
  EXPECT_EQ(with("a:HASH,b:RANGE", "a,b", LocalIndex("idx", "a", "")),
            invalid + "Index KeySchema does not have a range key for index: idx");
  EXPECT_EQ(with("a:HASH,b:RANGE", "a,b,c", LocalIndex("idx", "c", "b")),
            invalid +
                "Index KeySchema does not have the same leading hash key as table KeySchema for "
                "index: idx. index hash key: c, table hash key: a");
  EXPECT_EQ(with("a:HASH,b:RANGE", "a,b,c", LocalIndex("idx", "a", "c", "{}")),
            invalid + "Unknown ProjectionType: null");
  EXPECT_EQ(
      with("a:HASH,b:RANGE", "a,b,c",
           LocalIndex("idx", "a", "c", R"({"ProjectionType":"ALL","NonKeyAttributes":["x"]})")),
      invalid + "ProjectionType is ALL, but NonKeyAttributes is specified");
  EXPECT_EQ(with("a:HASH,b:RANGE", "a,b,c",
                 LocalIndex("idx", "a", "c") + "," + LocalIndex("idx", "a", "c")),
            invalid + "Duplicate index name: idx");
  EXPECT_EQ(with("a:HASH,b:RANGE", "a,b,c,d", LocalIndex("idx", "a", "c")),
            invalid +
                "Some AttributeDefinitions are not used. AttributeDefinitions: [a, b, c, d], keys "
                "used: [a, b, c]");
  std::string six;
  for (int i = 0; i < 6; ++i) {
    six += (i > 0 ? "," : "") + LocalIndex("idx" + std::to_string(i), "a", "c");
  }
  EXPECT_EQ(with("a:HASH,b:RANGE", "a,b,c", six),
            invalid + "Number of LocalSecondaryIndexes exceeds per-table limit of 5");
}

TEST_F(ControlPlaneTest, DescribesLocalIndexes) {
  const std::string answer =
      Call("CreateTable",
           WithKeys("a:HASH,b:RANGE", "a,b,c",
                    R"(,"LocalSecondaryIndexes":[)" +
                        LocalIndex("idx", "a", "c",
                                   R"({"ProjectionType":"INCLUDE","NonKeyAttributes":["x","y"]})") +
                        "]"));
  EXPECT_THAT(
      answer,
      HasSubstr(R"("LocalSecondaryIndexes":[{"IndexName":"idx","KeySchema":[{"AttributeName":"a",)"
                R"("KeyType":"HASH"},{"AttributeName":"c","KeyType":"RANGE"}],"Projection":{)"
                R"("ProjectionType":"INCLUDE","NonKeyAttributes":["x","y"]},"IndexSizeBytes":0,)"
                R"("ItemCount":0,"IndexArn":")" +
                Arn("abc") + R"(/index/idx"}])"));
}

TEST_F(ControlPlaneTest, RefusesWhatIsNotBuiltByName) {
  EXPECT_EQ(Message("CreateTable", Table("abc", R"(,"GlobalSecondaryIndexes":[)" +
                                                    LocalIndex("idx", "a", "") + "]")),
            "GlobalSecondaryIndexes is not supported yet by this version of Onggi");
  EXPECT_EQ(Message("CreateTable", Table("abc", R"(,"StreamSpecification":{"StreamEnabled":true,)"
                                                R"("StreamViewType":"KEYS_ONLY"})")),
            "StreamSpecification is not supported yet by this version of Onggi");
  EXPECT_EQ(Message("CreateTable", Table("abc", R"(,"ResourcePolicy":"{}")")),
            "ResourcePolicy is not supported yet by this version of Onggi");
  EXPECT_EQ(catalog_.size(), 0u);
  CreateActive(Table("abc"), "abc");
  EXPECT_EQ(Message("UpdateTable", R"({"TableName":"abc","GlobalSecondaryIndexUpdates":)"
                                   R"([{"Delete":{"IndexName":"idx"}}]})"),
            "GlobalSecondaryIndexUpdates is not supported yet by this version of Onggi");
}

TEST_F(ControlPlaneTest, DeletesOnlyActiveUnprotectedTables) {
  Call("CreateTable", Table("abc", R"(,"DeletionProtectionEnabled":true)"));
  EXPECT_EQ(Message("DeleteTable", R"({"TableName":"abc"})"),
            "Attempt to change a resource which is still in use: Table is being created: abc");
  Activate("abc");
  EXPECT_EQ(Message("DeleteTable", R"({"TableName":"abc"})"),
            "Resource cannot be deleted as it is currently protected against deletion. Disable "
            "deletion protection first.");
  EXPECT_THAT(Call("UpdateTable", R"({"TableName":"abc","DeletionProtectionEnabled":false})"),
              HasSubstr(R"("DeletionProtectionEnabled":false)"));
  EXPECT_THAT(Call("DeleteTable", R"({"TableName":"abc"})"),
              HasSubstr(R"("TableStatus":"DELETING")"));
  EXPECT_EQ(Message("DeleteTable", R"({"TableName":"abc"})"),
            "Attempt to change a resource which is still in use: Table is being deleted: abc");
  EXPECT_FALSE(catalog_.Find("default", "abc")->Usable());
}

TEST_F(ControlPlaneTest, UpdatesThroughput) {
  CreateActive(Provisioned("abc", 5, 5), "abc");
  const auto update = [&](int read, int write) {
    return R"({"TableName":"abc","ProvisionedThroughput":{"ReadCapacityUnits":)" +
           std::to_string(read) + R"(,"WriteCapacityUnits":)" + std::to_string(write) + "}}";
  };
  EXPECT_EQ(Message("UpdateTable", update(5, 5)),
            "The provisioned throughput for the table will not change. The requested value equals "
            "the current value. Current ReadCapacityUnits provisioned for the table: 5. Requested "
            "ReadCapacityUnits: 5. Current WriteCapacityUnits provisioned for the table: 5. "
            "Requested WriteCapacityUnits: 5. Refer to the Amazon DynamoDB Developer Guide for "
            "current limits and how to request higher limits.");
  const std::string raised = Call("UpdateTable", update(6, 5));
  EXPECT_THAT(raised, HasSubstr(R"("TableStatus":"UPDATING")"));
  EXPECT_THAT(raised, HasSubstr(R"("LastIncreaseDateTime":1700000000,"NumberOfDecreasesToday":0,)"
                                R"("ReadCapacityUnits":5,"WriteCapacityUnits":5)"));
  EXPECT_THAT(Call("DescribeTable", R"({"TableName":"abc"})"),
              HasSubstr(R"("ReadCapacityUnits":6,"WriteCapacityUnits":5)"));
  Call("UpdateTable", update(4, 5));
  EXPECT_THAT(Call("DescribeTable", R"({"TableName":"abc"})"),
              HasSubstr(R"("LastDecreaseDateTime":1700000000,"NumberOfDecreasesToday":1)"));
  clock_.Advance(std::chrono::hours(25));
  EXPECT_THAT(Call("DescribeTable", R"({"TableName":"abc"})"),
              HasSubstr(R"("NumberOfDecreasesToday":0)"));
  Call("UpdateTable", update(3, 5));
  EXPECT_THAT(Call("DescribeTable", R"({"TableName":"abc"})"),
              HasSubstr(R"("NumberOfDecreasesToday":1)"));
}

TEST_F(ControlPlaneTest, SwitchesBillingModes) {
  CreateActive(Provisioned("abc", 5, 5), "abc");
  Call("UpdateTable", R"({"TableName":"abc","BillingMode":"PAY_PER_REQUEST"})");
  const std::string on_demand = Call("DescribeTable", R"({"TableName":"abc"})");
  EXPECT_THAT(on_demand, HasSubstr(R"("BillingMode":"PAY_PER_REQUEST")"));
  EXPECT_THAT(on_demand, HasSubstr(R"("ReadCapacityUnits":0,"WriteCapacityUnits":0)"));
  EXPECT_EQ(Message("UpdateTable", R"({"TableName":"abc","BillingMode":"PROVISIONED"})"),
            std::string(kInvalid) +
                "ProvisionedThroughput must be specified when BillingMode is PROVISIONED");
  EXPECT_EQ(
      Message("UpdateTable", R"({"TableName":"abc","ProvisionedThroughput":)"
                             R"({"ReadCapacityUnits":1,"WriteCapacityUnits":1}})"),
      std::string(kInvalid) +
          "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode "
          "is PAY_PER_REQUEST");
  Call("UpdateTable", R"({"TableName":"abc","BillingMode":"PROVISIONED","ProvisionedThroughput":)"
                      R"({"ReadCapacityUnits":2,"WriteCapacityUnits":3}})");
  EXPECT_THAT(Call("DescribeTable", R"({"TableName":"abc"})"),
              HasSubstr(R"("ReadCapacityUnits":2,"WriteCapacityUnits":3)"));
}

TEST_F(ControlPlaneTest, AsksUpdatesForSomething) {
  CreateActive(Table("abc"), "abc");
  EXPECT_EQ(Message("UpdateTable", R"({"TableName":"abc"})"),
            "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, "
            "GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required");
}

TEST_F(ControlPlaneTest, DescribesBackClassEncryptionAndLimits) {
  CreateActive(Table("abc", R"(,"TableClass":"STANDARD_INFREQUENT_ACCESS",)"
                            R"("SSESpecification":{"Enabled":true,"KMSMasterKeyId":"k"},)"
                            R"("OnDemandThroughput":{"MaxReadRequestUnits":10},)"
                            R"("WarmThroughput":{"ReadUnitsPerSecond":13000})"),
               "abc");
  const std::string described = Call("DescribeTable", R"({"TableName":"abc"})");
  EXPECT_THAT(described,
              HasSubstr(R"("TableClassSummary":{"TableClass":"STANDARD_INFREQUENT_ACCESS"})"));
  EXPECT_THAT(described,
              HasSubstr(R"("SSEDescription":{"Status":"ENABLED","SSEType":"KMS",)"
                        R"("KMSMasterKeyArn":"arn:aws:kms:us-east-1:000000000000:key/k"})"));
  EXPECT_THAT(described, HasSubstr(R"("OnDemandThroughput":{"MaxReadRequestUnits":10,)"
                                   R"("MaxWriteRequestUnits":-1})"));
  EXPECT_THAT(described, HasSubstr(R"("WarmThroughput":{"ReadUnitsPerSecond":13000,)"
                                   R"("WriteUnitsPerSecond":4000,"Status":"ACTIVE"})"));
}

TEST_F(ControlPlaneTest, ChangesARecordThatAnotherWriterHasChanged) {
  CreateActive(Table("abc"), "abc");
  store_.before_commit = [&] {
    proto::Table record = catalog_.Find("default", "abc")->record;
    record.set_table_class("STANDARD_INFREQUENT_ACCESS");
    store_.PutNow(metadata::keys::Table(TableId(record.id())), record.SerializeAsString());
  };
  const std::string answer =
      Call("UpdateTable", R"({"TableName":"abc","DeletionProtectionEnabled":true})");
  EXPECT_THAT(answer, HasSubstr("STANDARD_INFREQUENT_ACCESS"));
  EXPECT_THAT(answer, HasSubstr(R"("DeletionProtectionEnabled":true)"));
}

TEST_F(ControlPlaneTest, ListsTablesInPages) {
  EXPECT_EQ(Call("ListTables", "{}"), R"({"TableNames":[]})");
  for (const char* name : {"bbb", "aaa", "ccc"}) CreateActive(Table(name), name);
  EXPECT_EQ(Call("ListTables", "{}"), R"({"TableNames":["aaa","bbb","ccc"]})");
  EXPECT_EQ(Call("ListTables", R"({"Limit":2})"),
            R"({"LastEvaluatedTableName":"bbb","TableNames":["aaa","bbb"]})");
  EXPECT_EQ(Call("ListTables", R"({"Limit":2,"ExclusiveStartTableName":"bbb"})"),
            R"({"TableNames":["ccc"]})");
  EXPECT_EQ(Call("ListTables", R"({"Limit":3})"), R"({"TableNames":["aaa","bbb","ccc"]})");
}

TEST_F(ControlPlaneTest, TagsAndUntags) {
  CreateActive(Table("abc", R"(,"Tags":[{"Key":"x","Value":"1"}])"), "abc");
  const std::string arn = "\"ResourceArn\":\"" + Arn("abc") + "\"";
  EXPECT_EQ(Call("TagResource", "{" + arn +
                                    R"(,"Tags":[{"Key":"y","Value":"2"},)"
                                    R"({"Key":"x","Value":"3"}]})"),
            "");
  EXPECT_EQ(Call("ListTagsOfResource", "{" + arn + "}"),
            R"({"Tags":[{"Key":"x","Value":"3"},{"Key":"y","Value":"2"}]})");
  EXPECT_EQ(Call("UntagResource", "{" + arn + R"(,"TagKeys":["x","z"]})"), "");
  EXPECT_EQ(Call("ListTagsOfResource", "{" + arn + "}"), R"({"Tags":[{"Key":"y","Value":"2"}]})");
}

TEST_F(ControlPlaneTest, ChecksTags) {
  CreateActive(Table("abc"), "abc");
  const std::string arn = "\"ResourceArn\":\"" + Arn("abc") + "\"";
  EXPECT_EQ(Message("TagResource", "{}"), "Invalid TableArn");
  EXPECT_THAT(Call("TagResource", R"({"ResourceArn":"abc","Tags":[]})"),
              HasSubstr("is not authorized to perform: dynamodb:TagResource on resource: abc"));
  EXPECT_EQ(
      Message("TagResource", R"({"ResourceArn":"a:b:c:d:e:f/g"})"),
      "1 validation error detected: Value null at 'tags' failed to satisfy constraint: Member "
      "must not be null");
  EXPECT_EQ(Message("ListTagsOfResource", R"({"ResourceArn":"a:b:c:d:e:f/g"})"),
            "Invalid TableArn: Invalid ResourceArn provided as input a:b:c:d:e:f/g");
  EXPECT_EQ(Message("ListTagsOfResource", R"({"ResourceArn":")" + Arn("nope") + "\"}"),
            "Requested resource not found: ResourcArn: " + Arn("nope") + " not found");
  EXPECT_EQ(Message("UntagResource", R"({"TagKeys":["x"],"ResourceArn":")" + Arn("nope") + "\"}"),
            "Requested resource not found");
  EXPECT_EQ(Message("TagResource", "{" + arn + R"(,"Tags":[]})"),
            "Atleast one Tag needs to be provided as Input.");
  EXPECT_EQ(Message("UntagResource", "{" + arn + R"(,"TagKeys":[]})"),
            "Atleast one Tag Key needs to be provided as Input.");
  std::string many;
  for (int i = 0; i < 51; ++i) {
    many += std::string(i > 0 ? "," : "") + R"({"Key":"k)" + std::to_string(i) + R"(","Value":""})";
  }
  EXPECT_THAT(Message("TagResource", "{" + arn + R"(,"Tags":[)" + many + "]}"),
              HasSubstr("Too many tags"));
  EXPECT_EQ(Call("ListTagsOfResource", "{" + arn + "}"), R"({"Tags":[]})");
}

TEST_F(ControlPlaneTest, AnswersWhatNeedsNoTable) {
  EXPECT_THAT(Call("DescribeLimits", "{}"), HasSubstr(R"("AccountMaxReadCapacityUnits":80000)"));
  EXPECT_EQ(Call("DescribeEndpoints", "{}"),
            R"({"Endpoints":[{"Address":"localhost:8000","CachePeriodInMinutes":1440}]})");
}

TEST_F(ControlPlaneTest, DescribesWhatEveryTableHas) {
  CreateActive(Table("abc"), "abc");
  EXPECT_EQ(Call("DescribeTimeToLive", R"({"TableName":"abc"})"),
            R"({"TimeToLiveDescription":{"TimeToLiveStatus":"DISABLED"}})");
  EXPECT_THAT(Call("DescribeContinuousBackups", R"({"TableName":"abc"})"),
              HasSubstr(R"("PointInTimeRecoveryStatus":"DISABLED")"));
}

}  // namespace
}  // namespace onggi::dynamodb
