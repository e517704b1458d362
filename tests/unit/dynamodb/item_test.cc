#include "tests/unit/dynamodb/node_fixture.h"

namespace onggi::dynamodb {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ItemOperations : public NodeTest {
 protected:
  void SetUp() override { table_ = node_->Create(node_->NewTable("N")); }

  /// A table with a local index "by_l" (KEYS_ONLY) on the string l.
  void UseIndexedTable() {
    proto::Table record = node_->NewTable("N");
    AddLocalIndex(&record, "by_l", "l", "S", "KEYS_ONLY");
    table_ = node_->Create(record);
  }
};

TEST_F(ItemOperations, GetReturnsWhatWasPut) {
  Put("a", R"({"N":"1.0"})", R"("v":{"L":[{"S":"x"},{"BOOL":true}]})");
  EXPECT_EQ(Call("GetItem", R"({"TableName":"$T","Key":{"pk":{"S":"a"},"sk":{"N":"1"}}})"),
            R"({"Item":{"pk":{"S":"a"},"sk":{"N":"1"},"v":{"L":[{"S":"x"},{"BOOL":true}]}}})");
  EXPECT_EQ(Call("GetItem", R"({"TableName":"$T","Key":{"pk":{"S":"a"},"sk":{"N":"2"}}})"), "{}");
}

TEST_F(ItemOperations, GetProjectsInPlaceAndByPath) {
  Put("a", R"({"N":"1"})", R"("m":{"M":{"x":{"N":"1"},"y":{"N":"2"}}},"v":{"S":"s"})");
  const std::string key = R"("TableName":"$T","Key":{"pk":{"S":"a"},"sk":{"N":"1"}})";
  EXPECT_EQ(Call("GetItem", "{" + key + R"(,"ProjectionExpression":"v, absent"})"),
            R"({"Item":{"v":{"S":"s"}}})");
  EXPECT_EQ(Call("GetItem", "{" + key + R"(,"ProjectionExpression":"m.y"})"),
            R"({"Item":{"m":{"M":{"y":{"N":"2"}}}}})");
  EXPECT_EQ(Call("GetItem", "{" + key + R"(,"AttributesToGet":["v"]})"),
            R"({"Item":{"v":{"S":"s"}}})");
  EXPECT_EQ(Call("GetItem", "{" + key + R"(,"ProjectionExpression":"absent"})"), R"({"Item":{}})");
}

TEST_F(ItemOperations, ReturnValuesOfEveryOperation) {
  const std::string item =
      R"("TableName":"$T","Item":{"pk":{"S":"a"},"sk":{"N":"1"},"v":{"N":"1"}})";
  const std::string key = R"("TableName":"$T","Key":{"pk":{"S":"a"},"sk":{"N":"1"}})";
  EXPECT_EQ(Call("PutItem", "{" + item + R"(,"ReturnValues":"ALL_OLD"})"), "{}");
  EXPECT_EQ(Call("PutItem", "{" + item + R"(,"ReturnValues":"ALL_OLD"})"),
            R"({"Attributes":{"pk":{"S":"a"},"sk":{"N":"1"},"v":{"N":"1"}}})");
  const auto update = [&](std::string_view values, std::string_view expression) {
    return Call("UpdateItem", "{" + key + R"(,"ReturnValues":")" + std::string(values) +
                                  R"(","UpdateExpression":")" + std::string(expression) +
                                  R"(","ExpressionAttributeValues":{":one":{"N":"1"}}})");
  };
  EXPECT_EQ(update("UPDATED_NEW", "ADD v :one"), R"({"Attributes":{"v":{"N":"2"}}})");
  EXPECT_EQ(update("UPDATED_OLD", "ADD v :one"), R"({"Attributes":{"v":{"N":"2"}}})");
  EXPECT_EQ(update("UPDATED_OLD", "SET fresh = :one"), "{}");
  EXPECT_EQ(update("ALL_NEW", "ADD v :one"),
            R"({"Attributes":{"fresh":{"N":"1"},"pk":{"S":"a"},"sk":{"N":"1"},"v":{"N":"4"}}})");
  EXPECT_EQ(update("NONE", "ADD v :one"), "{}");
  EXPECT_EQ(Call("DeleteItem", "{" + key + R"(,"ReturnValues":"ALL_OLD"})"),
            R"({"Attributes":{"fresh":{"N":"1"},"pk":{"S":"a"},"sk":{"N":"1"},"v":{"N":"5"}}})");
  EXPECT_EQ(Call("DeleteItem", "{" + key + R"(,"ReturnValues":"ALL_OLD"})"), "{}");
}

TEST_F(ItemOperations, RefusesReturnValuesThatAnOperationDoesNotHave) {
  EXPECT_EQ(Call("PutItem", R"({"TableName":"no_such","Item":{},"ReturnValues":"ALL_NEW"})"),
            "ValidationException: ReturnValues can only be ALL_OLD or NONE");
  EXPECT_EQ(Call("DeleteItem", R"({"TableName":"no_such","Key":{},"ReturnValues":"UPDATED_OLD"})"),
            "ValidationException: ReturnValues can only be ALL_OLD or NONE");
}

TEST_F(ItemOperations, FailedConditionsReturnTheItemWhenAsked) {
  Put("a", R"({"N":"1"})");
  const std::string request = R"("TableName":"$T","Item":{"pk":{"S":"a"},"sk":{"N":"1"}},)"
                              R"j("ConditionExpression":"attribute_not_exists(pk)")j";
  EXPECT_EQ(Call("PutItem", "{" + request + "}"),
            "ConditionalCheckFailedException: The conditional request failed");
  EXPECT_EQ(Call("PutItem", "{" + request + R"(,"ReturnValuesOnConditionCheckFailure":"ALL_OLD"})"),
            "ConditionalCheckFailedException: The conditional request failed "
            R"("Item":{"pk":{"S":"a"},"sk":{"N":"1"}})");
}

TEST_F(ItemOperations, KeysAreHeldAgainstTheSchema) {
  const std::string mismatch =
      "ValidationException: The provided key element does not match the schema";
  for (const char* key :
       {R"({"pk":{"S":"a"}})", R"({"pk":{"S":"a"},"sk":{"S":"1"}})",
        R"({"pk":{"S":"a"},"x":{"N":"1"}})", R"({"pk":{"S":"a"},"sk":{"N":"1"},"x":{"N":"1"}})"}) {
    EXPECT_EQ(Call("GetItem", std::string(R"({"TableName":"$T","Key":)") + key + "}"), mismatch);
  }
  const std::string prefix = "ValidationException: One or more parameter values were invalid: ";
  EXPECT_EQ(Call("PutItem", R"({"TableName":"$T","Item":{"pk":{"S":"a"}}})"),
            prefix + "Missing the key sk in the item");
  EXPECT_EQ(Call("PutItem", R"({"TableName":"$T","Item":{"pk":{"S":"a"},"sk":{"SS":["x"]}}})"),
            prefix + "Type mismatch for key sk expected: N actual: SS");
  EXPECT_EQ(
      Call("PutItem", R"({"TableName":"$T","Item":{"pk":{"S":""},"sk":{"N":"1"}}})"),
      "ValidationException: One or more parameter values are not valid. The AttributeValue for a "
      "key attribute cannot contain an empty string value. Key: pk");
  EXPECT_EQ(Call("GetItem", R"({"TableName":"$T","Key":{"pk":{"S":")" + std::string(2049, 'x') +
                                R"("},"sk":{"N":"1"}}})"),
            prefix + "Size of hashkey has exceeded the maximum size limit of2048 bytes");
  EXPECT_EQ(Call("UpdateItem", R"({"TableName":"$T","Key":{"pk":{"S":"a"},"sk":{"N":"1"}},)"
                               R"("UpdateExpression":"REMOVE sk"})"),
            prefix + "Cannot update attribute sk. This attribute is part of the key");
  EXPECT_EQ(Call("GetItem", R"({"TableName":"$T","Key":{"pk":{"S":"a"},"sk":{"N":"1"}},)"
                            R"("ProjectionExpression":"pk.x"})"),
            "ValidationException: Key attributes must be scalars; list random access '[]' and map "
            "lookup '.' are not allowed: Key: pk");
}

TEST_F(ItemOperations, IndexKeysHaveTheirTypes) {
  UseIndexedTable();
  const std::string prefix = "ValidationException: One or more parameter values were invalid: ";
  EXPECT_EQ(
      Call("PutItem", R"({"TableName":"$T","Item":{"pk":{"S":"a"},"sk":{"N":"1"},"l":{"N":"1"}}})"),
      prefix + "Type mismatch for Index Key l Expected: S Actual: N IndexName: by_l");
  EXPECT_EQ(
      Call("PutItem", R"({"TableName":"$T","Item":{"pk":{"S":"a"},"sk":{"N":"1"},"l":{"S":""}}})"),
      "ValidationException: One or more parameter values are not valid. A value specified for a "
      "secondary index key is not supported. The AttributeValue for a key attribute cannot "
      "contain an empty string value. IndexName: by_l, IndexKey: l");
  EXPECT_EQ(
      Call("UpdateItem",
           R"({"TableName":"$T","Key":{"pk":{"S":"a"},"sk":{"N":"1"}},)"
           R"j("UpdateExpression":"SET l = :n","ConditionExpression":"attribute_exists(nothing)",)j"
           R"("ExpressionAttributeValues":{":n":{"N":"1"}}})"),
      prefix + "Type mismatch for Index Key l Expected: S Actual: N IndexName: by_l");
  EXPECT_EQ(
      Call("UpdateItem", R"({"TableName":"$T","Key":{"pk":{"S":"a"},"sk":{"N":"1"}},)"
                         R"j("UpdateExpression":"SET l = if_not_exists(absent, :n)",)j"
                         R"("ExpressionAttributeValues":{":n":{"N":"1"}}})"),
      "ValidationException: The update expression attempted to update the secondary index key to "
      "unsupported type");
}

TEST_F(ItemOperations, OldAndNewParametersDoNotMix) {
  EXPECT_EQ(Call("UpdateItem",
                 R"({"TableName":"none","Key":{},"UpdateExpression":"x","ConditionExpression":"x",)"
                 R"("AttributeUpdates":{},"Expected":{},"ConditionalOperator":"OR"})"),
            "ValidationException: Can not use both expression and non-expression parameters in the "
            "same request: Non-expression parameters: {AttributeUpdates, Expected, "
            "ConditionalOperator} Expression parameters: {UpdateExpression, ConditionExpression}");
  EXPECT_EQ(Call("UpdateItem",
                 R"({"TableName":"none","Key":{},"ExpressionAttributeValues":{":a":{"N":"1"}}})"),
            "ValidationException: ExpressionAttributeValues can only be specified when using "
            "expressions: UpdateExpression and ConditionExpression are null");
  EXPECT_EQ(
      Call("GetItem", R"({"TableName":"none","Key":{},"ExpressionAttributeNames":{"#a":"b"}})"),
      "ValidationException: ExpressionAttributeNames can only be specified when using "
      "expressions");
  EXPECT_EQ(Call("PutItem", R"({"TableName":"none","Item":{},"ConditionalOperator":"OR"})"),
            "ValidationException: ConditionalOperator cannot be used without Filter or Expected");
}

TEST_F(ItemOperations, ErrorsComeInTheServicesOrder) {
  // Values, then ReturnValues, then size, then expressions, then the table, then keys.
  EXPECT_THAT(Call("PutItem", R"({"TableName":"none","Item":{"a":{}},"ReturnValues":"ALL_NEW"})"),
              HasSubstr("Supplied AttributeValue is empty"));
  EXPECT_THAT(
      Call("PutItem", R"({"TableName":"none","Item":{"a":{"S":")" + std::string(410'000, 'x') +
                          R"("}},"ConditionExpression":"a a"})"),
      HasSubstr("Item size has exceeded the maximum allowed size"));
  EXPECT_THAT(Call("PutItem", R"({"TableName":"none","Item":{},"ConditionExpression":"a a"})"),
              HasSubstr("Invalid ConditionExpression: Syntax error"));
  EXPECT_EQ(Call("PutItem", R"({"TableName":"none","Item":{}})"),
            "ResourceNotFoundException: Requested resource not found");
}

TEST_F(ItemOperations, ConsumedCapacityAndCollectionMetrics) {
  UseIndexedTable();
  EXPECT_EQ(Call("PutItem",
                 R"({"TableName":"$T","Item":{"pk":{"S":"a"},"sk":{"N":"1"},"l":{"S":"x"}},)"
                 R"("ReturnConsumedCapacity":"INDEXES","ReturnItemCollectionMetrics":"SIZE"})"),
            R"({"ConsumedCapacity":{"TableName":")" + table_ +
                R"(","CapacityUnits":2.0,"Table":{"CapacityUnits":1.0},)"
                R"("LocalSecondaryIndexes":{"by_l":{"CapacityUnits":1.0}}},)"
                R"("ItemCollectionMetrics":{"ItemCollectionKey":{"pk":{"S":"a"}},)"
                R"("SizeEstimateRangeGB":[0.0,1.0]}})");
  EXPECT_EQ(Call("GetItem", R"({"TableName":"$T","Key":{"pk":{"S":"b"},"sk":{"N":"1"}},)"
                            R"("ReturnConsumedCapacity":"TOTAL","ConsistentRead":true})"),
            R"({"ConsumedCapacity":{"TableName":")" + table_ + R"(","CapacityUnits":1.0}})");
}

TEST_F(ItemOperations, AFullDiskRefusesWritesAndServesReads) {
  Put("a", R"({"N":"1"})");
  node_->disk_low() = true;
  EXPECT_THAT(Call("PutItem", R"({"TableName":"$T","Item":{"pk":{"S":"b"},"sk":{"N":"1"}}})"),
              StartsWith("InternalServerError: The server is out of disk space"));
  EXPECT_THAT(Call("GetItem", R"({"TableName":"$T","Key":{"pk":{"S":"a"},"sk":{"N":"1"}}})"),
              HasSubstr("\"Item\""));
  node_->disk_low() = false;
  Put("b", R"({"N":"1"})");
}

TEST_F(ItemOperations, UpdateWithoutExpressionMakesTheItem) {
  EXPECT_EQ(
      Call("UpdateItem",
           R"({"TableName":"$T","Key":{"pk":{"S":"u"},"sk":{"N":"1"}},"ReturnValues":"ALL_NEW"})"),
      R"({"Attributes":{"pk":{"S":"u"},"sk":{"N":"1"}}})");
}

}  // namespace
}  // namespace onggi::dynamodb
