#include "tests/unit/dynamodb/node_fixture.h"

namespace onggi::dynamodb {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class BatchOperations : public NodeTest {
 protected:
  void SetUp() override { table_ = node_->Create(node_->NewTable("N")); }

  static std::string PutOf(const std::string& sk, const std::string& more = "") {
    return R"({"PutRequest":{"Item":{"pk":{"S":"p"},"sk":{"N":")" + sk + R"("})" + more + "}}}";
  }
  static std::string DeleteOf(const std::string& sk) {
    return R"({"DeleteRequest":{"Key":{"pk":{"S":"p"},"sk":{"N":")" + sk + R"("}}}})";
  }
  std::string Write(const std::string& requests, const std::string& more = "") {
    return Call("BatchWriteItem", R"({"RequestItems":{"$T":[)" + requests + "]}" + more + "}");
  }
  std::string Get(const std::string& keys, const std::string& more = "") {
    return Call("BatchGetItem", R"({"RequestItems":{"$T":{"Keys":[)" + keys + "]" + more + "}}}");
  }
  static std::string Key(const std::string& sk) {
    return R"({"pk":{"S":"p"},"sk":{"N":")" + sk + R"("}})";
  }
};

TEST_F(BatchOperations, WritesAndReads) {
  EXPECT_EQ(Write(PutOf("1") + "," + PutOf("2") + "," + DeleteOf("3")),
            R"({"UnprocessedItems":{}})");
  EXPECT_EQ(Get(Key("1") + "," + Key("2") + "," + Key("3"), R"(,"ProjectionExpression":"sk")"),
            R"({"Responses":{")" + table_ +
                R"(":[{"sk":{"N":"1"}},{"sk":{"N":"2"}}]},"UnprocessedKeys":{}})");
  EXPECT_EQ(Get(Key("9")), R"({"Responses":{")" + table_ + R"(":[]},"UnprocessedKeys":{}})");
}

TEST_F(BatchOperations, RefusesDuplicatesHoweverTheyAreWritten) {
  const std::string duplicates =
      "ValidationException: Provided list of item keys contains duplicates";
  EXPECT_EQ(Get(Key("1") + "," + Key("1.0")), duplicates);
  EXPECT_EQ(Write(PutOf("10") + "," + DeleteOf("1e1")), duplicates);
}

TEST_F(BatchOperations, RefusesInTheServicesWords) {
  const std::string prefix = "ValidationException: ";
  EXPECT_EQ(Write("{}"),
            prefix +
                "Supplied AttributeValue has more than one datatypes set, must contain "
                "exactly one of the supported datatypes");
  EXPECT_EQ(Write(R"({"PutRequest":{"Item":{"pk":{"S":"p"}}}})"),
            prefix + "The provided key element does not match the schema");
  EXPECT_EQ(Write(PutOf("1", R"(,"v":{"S":")" + std::string(410'000, 'x') + R"("})")),
            prefix + "Item size has exceeded the maximum allowed size");
  EXPECT_EQ(Get(R"({"pk":{"S":"p"}})"),
            prefix + "The provided key element does not match the schema");
  EXPECT_EQ(
      Get(Key("1"), R"(,"AttributesToGet":["a","a"])"),
      prefix + "One or more parameter values were invalid: Duplicate value in attribute name: a");
  EXPECT_EQ(Call("BatchGetItem", R"({"RequestItems":{"absent":{"Keys":[{"pk":{"S":"p"}}]}}})"),
            "ResourceNotFoundException: Requested resource not found");
}

TEST_F(BatchOperations, CountsOverAllTables) {
  const std::string other = node_->Create(node_->NewTable("N"));
  std::string writes, keys;
  for (int i = 0; i < 60; ++i) {
    if (i < 13) writes += (i == 0 ? "" : ",") + PutOf(std::to_string(i));
    keys += (i == 0 ? "" : ",") + Key(std::to_string(i));
  }
  EXPECT_EQ(Call("BatchWriteItem", R"({"RequestItems":{"$T":[)" + writes + R"(],")" + other +
                                       "\":[" + writes + "]}}"),
            "ValidationException: Too many items requested for the BatchWriteItem call");
  EXPECT_EQ(Call("BatchGetItem", R"({"RequestItems":{"$T":{"Keys":[)" + keys + R"(]},")" + other +
                                     R"(":{"Keys":[)" + keys + "]}}}"),
            "ValidationException: Too many items requested for the BatchGetItem call");
}

TEST_F(BatchOperations, SumsCapacityByTable) {
  EXPECT_EQ(
      Write(PutOf("1") + "," + PutOf("2", R"(,"v":{"S":")" + std::string(1500, 'x') + R"("})"),
            R"(,"ReturnConsumedCapacity":"TOTAL")"),
      R"({"UnprocessedItems":{},"ConsumedCapacity":[{"TableName":")" + table_ +
          R"(","CapacityUnits":3.0}]})");
  EXPECT_THAT(
      Call("BatchGetItem", R"({"RequestItems":{"$T":{"ConsistentRead":true,"Keys":[)" + Key("1") +
                               "," + Key("7") + R"(]}},"ReturnConsumedCapacity":"INDEXES"})"),
      HasSubstr(R"("CapacityUnits":2.0,"Table":{"CapacityUnits":2.0}})"));
}

TEST_F(BatchOperations, GivesBackKeysBeyondSixteenMegabytes) {
  std::string keys;
  for (int i = 0; i < 50; ++i) {
    const std::string sk = std::to_string(i);
    Put("p", "{\"N\":\"" + sk + "\"}", "\"v\":{\"S\":\"" + std::string(380'000, 'x') + "\"}");
    keys += (i == 0 ? "" : ",") + Key(sk);
  }
  const std::string body = Get(keys, R"(,"ConsistentRead":true)");
  EXPECT_LT(body.size(), size_t{17} << 20);
  const size_t at = body.find("\"UnprocessedKeys\"");
  ASSERT_NE(at, std::string::npos);
  EXPECT_THAT(body.substr(at),
              StartsWith(R"("UnprocessedKeys":{")" + table_ + R"(":{"Keys":[{"pk")"));
  EXPECT_THAT(body.substr(at), HasSubstr(R"(],"ConsistentRead":true}})"));
}

TEST_F(BatchOperations, ReportsEachCollectionOnce) {
  proto::Table record = node_->NewTable("N");
  AddLocalIndex(&record, "by_l", "l", "S", "ALL");
  table_ = node_->Create(record);
  EXPECT_EQ(Write(PutOf("1") + "," + PutOf("2"), R"(,"ReturnItemCollectionMetrics":"SIZE")"),
            R"({"UnprocessedItems":{},"ItemCollectionMetrics":{")" + table_ +
                R"(":[{"ItemCollectionKey":{"pk":{"S":"p"}},"SizeEstimateRangeGB":[0.0,1.0]}]}})");
}

}  // namespace
}  // namespace onggi::dynamodb
