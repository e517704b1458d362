#include "server/model/attribute_value.h"
#include "server/model/key.h"
#include "tests/unit/dynamodb/node_fixture.h"

namespace onggi::dynamodb {
namespace {

using testing::HasSubstr;
using testing::Not;

/// pk "p" holds sk 0..9 with n = 9 - sk and d = "v"; by_n is KEYS_ONLY, all_n ALL, both on n.
class QueryOperation : public NodeTest {
 protected:
  void SetUp() override {
    if (songs_.empty()) {
      proto::Table record = node_->NewTable("N");
      AddLocalIndex(&record, "by_n", "n", "N", "KEYS_ONLY");
      AddLocalIndex(&record, "all_n", "n", "N", "ALL");
      songs_ = table_ = node_->Create(record);
      for (int i = 0; i < 10; ++i) {
        Put("p", "{\"N\":\"" + std::to_string(i) + "\"}",
            "\"n\":{\"N\":\"" + std::to_string(9 - i) + "\"},\"d\":{\"S\":\"v\"}");
      }
    }
    table_ = songs_;
  }
  static void TearDownTestSuite() {
    songs_.clear();
    NodeTest::TearDownTestSuite();
  }

  /// Runs a query with :p = "p", and :s, :n where the text uses them, and further members.
  std::string Query(std::string condition, std::string more = "") {
    std::string values = R"(":p":{"S":"p"})";
    if ((condition + more).find(":s") != std::string::npos) values += R"(,":s":{"N":"4"})";
    if ((condition + more).find(":d") != std::string::npos) values += R"(,":d":{"S":"v"})";
    if (!more.empty()) more = "," + more;
    return Call("Query", R"({"TableName":"$T","KeyConditionExpression":")" + condition +
                             R"(","ExpressionAttributeValues":{)" + values + "}" + more + "}");
  }

  static inline std::string songs_;
};

std::string SortKeys(const std::string& body) {
  std::string keys;
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  if (parser.parse(body).get(document)) return body;
  simdjson::dom::array items;
  if (document["Items"].get(items)) return body;
  for (const auto item : items) keys += std::string(item["sk"]["N"].get_string().value());
  return keys;
}

TEST_F(QueryOperation, ReadsRangesInBothDirections) {
  for (const auto& [condition, expected] : std::vector<std::pair<std::string, std::string>>{
           {"pk = :p", "0123456789"},
           {"pk = :p AND sk = :s", "4"},
           {"pk = :p AND sk < :s", "0123"},
           {"pk = :p AND sk <= :s", "01234"},
           {"pk = :p AND sk > :s", "56789"},
           {"pk = :p AND sk >= :s", "456789"},
           {"pk = :p AND sk BETWEEN :s AND :s", "4"}}) {
    EXPECT_EQ(SortKeys(Query(condition)), expected) << condition;
    EXPECT_EQ(SortKeys(Query(condition, R"("ScanIndexForward":false)")),
              std::string(expected.rbegin(), expected.rend()))
        << condition;
  }
  EXPECT_EQ(SortKeys(Query("pk = :p AND n > :s", R"("IndexName":"by_n")")), "43210");
  EXPECT_EQ(
      SortKeys(Query("pk = :p AND n <= :s", R"("IndexName":"all_n","ScanIndexForward":false)")),
      "56789");
}

TEST_F(QueryOperation, PagesEndWithTheLimitAndGoOnBehindTheirLastKey) {
  const std::string first = Query("pk = :p", R"("Limit":4)");
  EXPECT_EQ(SortKeys(first), "0123");
  EXPECT_THAT(first, HasSubstr(R"("Count":4,"ScannedCount":4,)"
                               R"("LastEvaluatedKey":{"pk":{"S":"p"},"sk":{"N":"3"}})"));
  EXPECT_EQ(SortKeys(Query("pk = :p", R"("ExclusiveStartKey":{"pk":{"S":"p"},"sk":{"N":"3"}})")),
            "456789");
  EXPECT_EQ(SortKeys(Query("pk = :p", R"("ScanIndexForward":false,)"
                                      R"("ExclusiveStartKey":{"pk":{"S":"p"},"sk":{"N":"3"}})")),
            "210");
  // A full page has a last key even where nothing follows, and a page that found the end has none.
  EXPECT_THAT(Query("pk = :p", R"("Limit":10)"), HasSubstr("LastEvaluatedKey"));
  EXPECT_THAT(Query("pk = :p", R"("Limit":11)"), Not(HasSubstr("LastEvaluatedKey")));
  const std::string index = Query("pk = :p", R"("IndexName":"by_n","Limit":3)");
  EXPECT_EQ(SortKeys(index), "987");
  EXPECT_THAT(index,
              HasSubstr(R"("LastEvaluatedKey":{"pk":{"S":"p"},"sk":{"N":"7"},"n":{"N":"2"}})"));
  EXPECT_EQ(SortKeys(Query("pk = :p", R"("IndexName":"by_n","Limit":3,"ExclusiveStartKey":)"
                                      R"({"pk":{"S":"p"},"sk":{"N":"7"},"n":{"N":"2"}})")),
            "654");
}

TEST_F(QueryOperation, CountsBeforeTheFilter) {
  EXPECT_EQ(
      Query("pk = :p", R"("FilterExpression":"n > :s AND d = :d","Select":"COUNT","Limit":7)"),
      R"({"Count":5,"ScannedCount":7,"LastEvaluatedKey":{"pk":{"S":"p"},"sk":{"N":"6"}}})");
}

TEST_F(QueryOperation, FetchesWhatTheIndexDoesNotHold) {
  const std::string capacity = R"(,"Limit":2,"ReturnConsumedCapacity":"INDEXES")";
  EXPECT_THAT(Query("pk = :p", R"("IndexName":"by_n","ProjectionExpression":"d")" + capacity),
              HasSubstr(R"({"Items":[{"d":{"S":"v"}},{"d":{"S":"v"}}])"));
  EXPECT_THAT(Query("pk = :p", R"("IndexName":"by_n","Select":"ALL_ATTRIBUTES")" + capacity),
              HasSubstr(R"("CapacityUnits":1.5,"Table":{"CapacityUnits":1.0},)"
                        R"("LocalSecondaryIndexes":{"by_n":{"CapacityUnits":0.5}})"));
  EXPECT_THAT(Query("pk = :p", R"("IndexName":"by_n")" + capacity),
              HasSubstr(R"("CapacityUnits":0.5,"Table":{"CapacityUnits":0.0},)"
                        R"("LocalSecondaryIndexes":{"by_n":{"CapacityUnits":0.5}})"));
  EXPECT_THAT(Query("pk = :p", R"("IndexName":"all_n","ProjectionExpression":"d")" + capacity),
              HasSubstr(R"("Table":{"CapacityUnits":0.0})"));
}

TEST_F(QueryOperation, RefusesInTheServicesWords) {
  const std::string prefix = "ValidationException: ";
  for (const auto& [condition, more, message] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"sk = :p", "", "Query condition missed key schema element: pk"},
           {"pk = :p AND n = :s", "", "Query condition missed key schema element: sk"},
           {"pk = :p", R"("IndexName":"nope")",
            "The table does not have the specified index: nope"},
           {"pk = :p", R"("FilterExpression":"sk = :s")",
            "Filter Expression can only contain non-primary key attributes: Primary key attribute: "
            "sk"},
           {"pk = :p", R"("IndexName":"by_n","FilterExpression":"d = :d")",
            "One or more parameter values were invalid: Secondary index by_n does not project one "
            "or "
            "more filter attributes: [d]"},
           {"pk = :p", R"("ExclusiveStartKey":{"pk":{"S":"p"}})",
            "The provided starting key is invalid"},
           {"pk = :p", R"("ExclusiveStartKey":{"pk":{"S":"q"},"sk":{"N":"1"}})",
            "The provided starting key is outside query boundaries based on provided conditions"},
           {"pk = :p AND sk > :s", R"("ExclusiveStartKey":{"pk":{"S":"p"},"sk":{"N":"4"}})",
            "The provided starting key does not match the range key predicate"},
           {"pk = :p", R"("ExclusiveStartKey":{"pk":{"S":"p"},"sk":{}})",
            "The provided starting key is invalid: Supplied AttributeValue is empty, must contain "
            "exactly one of the supported datatypes"},
           {"pk = :p", R"("Select":"SPECIFIC_ATTRIBUTES")",
            "Must specify the AttributesToGet or ProjectionExpression when choosing to get "
            "SPECIFIC_ATTRIBUTES"},
           {"pk = :p", R"("Select":"COUNT","ProjectionExpression":"d")",
            "Cannot specify the ProjectionExpression when choosing to get only the Count"},
           {"pk = :p", R"("Select":"ALL_PROJECTED_ATTRIBUTES")",
            "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName"}}) {
    EXPECT_EQ(Query(condition, more), prefix + message) << condition << " " << more;
  }
  EXPECT_EQ(Call("Query", R"({"TableName":"none"})"),
            prefix +
                "Either the KeyConditions or KeyConditionExpression parameter must be specified "
                "in the request.");
}

TEST_F(QueryOperation, LegacyConditionsReadTheSame) {
  EXPECT_EQ(SortKeys(Call("Query",
                          R"({"TableName":"$T","KeyConditions":{)"
                          R"("pk":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"p"}]},)"
                          R"("sk":{"ComparisonOperator":"GE","AttributeValueList":[{"N":"7"}]}},)"
                          R"("QueryFilter":{"n":{"ComparisonOperator":"LT",)"
                          R"("AttributeValueList":[{"N":"2"}]}}})")),
            "89");
}

TEST_F(QueryOperation, WalksACollectionThatIsCutOverPartitions) {
  proto::Table record = node_->NewTable("N");
  // The collection of "p", cut at sk = 3 and sk = 6.
  std::vector<std::string> boundaries;
  for (const int at : {3, 6}) {
    boundaries.push_back(model::EncodeKey(
        model::ValueView(model::AttributeValue::String("p").Encode()),
        model::ValueView(model::AttributeValue::Of(model::Number::FromInt(at)).Encode())));
  }
  table_ = node_->Create(record, boundaries);
  for (int i = 0; i < 10; ++i) Put("p", "{\"N\":\"" + std::to_string(i) + "\"}");
  EXPECT_EQ(SortKeys(Query("pk = :p")), "0123456789");
  EXPECT_EQ(SortKeys(Query("pk = :p", R"("ScanIndexForward":false)")), "9876543210");
  EXPECT_EQ(SortKeys(Query("pk = :p AND sk <= :s", R"("ScanIndexForward":false,"Limit":3)")),
            "432");
  EXPECT_EQ(SortKeys(Query("pk = :p", R"("Limit":4,"ExclusiveStartKey":)"
                                      R"({"pk":{"S":"p"},"sk":{"N":"2"}})")),
            "3456");
}

}  // namespace
}  // namespace onggi::dynamodb
