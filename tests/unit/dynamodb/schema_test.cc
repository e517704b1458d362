#include "server/dynamodb/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/dynamodb/input.h"

namespace onggi::dynamodb {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

/// The body that `json` is answered with for `operation`; "" when it is valid.
std::string Answer(std::string_view operation, const std::string& json) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  const auto error = parser.parse(json).get(object);
  EXPECT_FALSE(error) << json;
  const OperationModel* model = FindOperation(operation);
  EXPECT_NE(model, nullptr) << operation;
  const Outcome outcome = ValidateInput(*model, object);
  return outcome.ok() ? "" : RenderError(outcome.error());
}

std::string Serialization(const std::string& message) {
  return "{\"__type\":\"com.amazon.coral.service#SerializationException\",\"Message\":\"" +
         message + "\"}";
}

std::string Validation(const std::string& message) {
  return "{\"__type\":\"com.amazon.coral.validate#ValidationException\",\"message\":\"" + message +
         "\"}";
}

constexpr char kGetItem[] = R"({"TableName":"abc","Key":{"a":{"S":"x"}}})";

TEST(SchemaTypes, AcceptsValidRequests) {
  EXPECT_EQ(Answer("GetItem", kGetItem), "");
  EXPECT_EQ(Answer("ListTables", "{}"), "");
  EXPECT_EQ(Answer("BatchWriteItem",
                   R"({"RequestItems":{"abc":[{"PutRequest":{"Item":{"a":{"S":"x"}}}}]}})"),
            "");
}

TEST(SchemaTypes, IgnoresUnknownMembersAndTreatsNullAsAbsent) {
  EXPECT_EQ(
      Answer("GetItem",
             R"({"TableName":"abc","Key":{"a":{"S":"x"}},"Nonsense":[1],"ConsistentRead":null})"),
      "");
  EXPECT_EQ(Answer("DescribeTable", R"({"TableName":null})"),
            Validation("The parameter 'TableName' is required but was not present in the request"));
}

TEST(SchemaTypes, RefusesScalarsOfOtherTypes) {
  EXPECT_EQ(Answer("GetItem", R"({"TableName":23})"),
            Serialization("NUMBER_VALUE cannot be converted to String"));
  EXPECT_EQ(Answer("GetItem", R"({"TableName":2.5})"),
            Serialization("DECIMAL_VALUE cannot be converted to String"));
  EXPECT_EQ(Answer("GetItem", R"({"TableName":true})"),
            Serialization("TRUE_VALUE cannot be converted to String"));
  EXPECT_EQ(Answer("GetItem", R"({"TableName":false})"),
            Serialization("FALSE_VALUE cannot be converted to String"));
  EXPECT_EQ(Answer("ListTables", R"({"Limit":"1"})"),
            Serialization("STRING_VALUE cannot be converted to Integer"));
  EXPECT_EQ(Answer("ListTables", R"({"Limit":true})"),
            Serialization("TRUE_VALUE cannot be converted to Integer"));
  EXPECT_EQ(Answer("GetItem", R"({"ConsistentRead":1})"),
            Serialization("NUMBER_VALUE cannot be converted to Boolean"));
  EXPECT_EQ(Answer("GetItem", R"({"ConsistentRead":"maybe"})"),
            Serialization("Unexpected token received from parser"));
  EXPECT_EQ(Answer("CreateTable", R"({"ProvisionedThroughput":{"ReadCapacityUnits":"5"}})"),
            Serialization("STRING_VALUE cannot be converted to Long"));
}

TEST(SchemaTypes, RefusesCollectionsWhereScalarsAreDue) {
  EXPECT_EQ(Answer("GetItem", R"({"TableName":[]})"),
            Serialization("Unrecognized collection type class java.lang.String"));
  EXPECT_EQ(Answer("GetItem", R"({"TableName":{}})"),
            Serialization("Start of structure or map found where not expected"));
  EXPECT_EQ(Answer("ListTables", R"({"Limit":[1]})"),
            Serialization("Unrecognized collection type class java.lang.Integer"));
  EXPECT_EQ(Answer("GetItem", R"({"ConsistentRead":[true]})"),
            Serialization("Unrecognized collection type class java.lang.Boolean"));
}

TEST(SchemaTypes, RefusesScalarsWhereCollectionsAreDue) {
  EXPECT_EQ(Answer("GetItem", R"({"Key":"x"})"), Serialization("Unexpected field type"));
  EXPECT_EQ(Answer("GetItem", R"({"Key":["x"]})"),
            Serialization("Unrecognized collection type java.util.Map<java.lang.String, "
                          "com.amazonaws.dynamodb.v20120810.AttributeValue>"));
  EXPECT_EQ(Answer("GetItem", R"({"Key":{"a":"x"}})"),
            Serialization("Unexpected value type in payload"));
  EXPECT_EQ(Answer("GetItem", R"({"Key":{"a":["x"]}})"),
            Serialization("Unrecognized collection type class "
                          "com.amazonaws.dynamodb.v20120810.AttributeValue"));
  EXPECT_EQ(Answer("GetItem", R"({"AttributesToGet":"x"})"),
            Serialization("Unexpected field type"));
  EXPECT_EQ(Answer("GetItem", R"({"AttributesToGet":{"a":1}})"),
            Serialization("Start of structure or map found where not expected"));
  EXPECT_EQ(Answer("CreateTable", R"({"ProvisionedThroughput":"x"})"),
            Serialization("Unexpected field type"));
  EXPECT_EQ(Answer("CreateTable", R"({"ProvisionedThroughput":["x"]})"),
            Serialization("Unrecognized collection type class "
                          "com.amazonaws.dynamodb.v20120810.ProvisionedThroughput"));
  EXPECT_EQ(Answer("GetItem", R"({"ExpressionAttributeNames":[]})"),
            Serialization("Unrecognized collection type java.util.Map<java.lang.String, "
                          "java.lang.String>"));
  EXPECT_EQ(Answer("BatchWriteItem", R"({"RequestItems":[]})"),
            Serialization("Unrecognized collection type java.util.Map<java.lang.String, "
                          "java.util.List<com.amazonaws.dynamodb.v20120810.WriteRequest>>"));
  EXPECT_THAT(Answer("BatchWriteItem", R"({"RequestItems":{"abc":"x"}})"),
              HasSubstr("ParameterizedTypeImpl cannot be cast to class java.lang.Class"));
}

TEST(SchemaTypes, ChecksInsideAttributeValues) {
  const auto put = [](const std::string& value) {
    return Answer("PutItem", R"({"TableName":"abc","Item":{"a":)" + value + "}}");
  };
  EXPECT_EQ(put(R"({"S":1})"), Serialization("NUMBER_VALUE cannot be converted to String"));
  EXPECT_EQ(put(R"({"N":1})"), Serialization("NUMBER_VALUE cannot be converted to String"));
  EXPECT_EQ(put(R"({"BOOL":"yes"})"), "");
  EXPECT_EQ(put(R"({"NULL":0})"), Serialization("NUMBER_VALUE cannot be converted to Boolean"));
  EXPECT_EQ(put(R"({"SS":"x"})"), Serialization("Unexpected field type"));
  EXPECT_EQ(put(R"({"SS":[1]})"), Serialization("NUMBER_VALUE cannot be converted to String"));
  EXPECT_EQ(put(R"({"L":[{"M":{"b":{"S":true}}}]})"),
            Serialization("TRUE_VALUE cannot be converted to String"));
  EXPECT_EQ(put(R"({"M":[]})"),
            Serialization("Unrecognized collection type java.util.Map<java.lang.String, "
                          "com.amazonaws.dynamodb.v20120810.AttributeValue>"));
  EXPECT_EQ(put(R"({"L":["x"]})"), Serialization("Unexpected value type in payload"));
}

TEST(SchemaTypes, ChecksBase64) {
  const auto put = [](const std::string& value) {
    return Answer("PutItem", R"({"TableName":"abc","Item":{"a":{"B":)" + value + "}}}");
  };
  EXPECT_EQ(put(R"("")"), "");
  EXPECT_EQ(put(R"("AA==")"), "");
  EXPECT_EQ(put(R"("AAAA")"), "");
  EXPECT_EQ(put("1"), Serialization("only base-64-encoded strings are convertible to bytes"));
  EXPECT_EQ(put(R"("A")"),
            Serialization("Base64 encoded length is expected a multiple of 4 bytes but found: 1"));
  EXPECT_EQ(put(R"("AB==")"), Serialization("Invalid last non-pad Base64 character dectected"));
  EXPECT_EQ(put(R"("A*A=")"), Serialization("Invalid last non-pad Base64 character dectected"));
  EXPECT_EQ(put(R"("====")"), Serialization("Invalid last non-pad Base64 character dectected"));
  EXPECT_EQ(put("[]"), Serialization("Unrecognized collection type class java.nio.ByteBuffer"));
}

TEST(SchemaConstraints, NamesMissingMembers) {
  EXPECT_EQ(Answer("GetItem", "{}"),
            Validation("2 validation errors detected: Value null at 'tableName' failed to satisfy "
                       "constraint: Member must not be null; Value null at 'key' failed to satisfy "
                       "constraint: Member must not be null"));
}

TEST(SchemaConstraints, ChecksTableNamesOfItemOperationsInTheClassicalForm) {
  EXPECT_EQ(Answer("GetItem", R"({"TableName":"ab","Key":{}})"),
            Validation("1 validation error detected: Value 'ab' at 'tableName' failed to satisfy "
                       "constraint: Member must have length greater than or equal to 3"));
  EXPECT_EQ(Answer("GetItem", R"({"TableName":"a;","Key":{}})"),
            Validation("2 validation errors detected: Value 'a;' at 'tableName' failed to satisfy "
                       "constraint: Member must satisfy regular expression pattern: "
                       "[a-zA-Z0-9_.-]+; Value 'a;' at 'tableName' failed to satisfy constraint: "
                       "Member must have length greater than or equal to 3"));
  EXPECT_THAT(Answer("GetItem", R"({"TableName":")" + std::string(256, 'a') + R"(","Key":{}})"),
              HasSubstr("Member must have length less than or equal to 255"));
}

TEST(SchemaConstraints, ChecksTableNamesOfControlOperationsInTheNewForm) {
  const std::string length =
      Validation("TableName must be at least 3 characters long and at most 255 characters long");
  EXPECT_EQ(Answer("DescribeTable", R"({"TableName":"ab"})"), length);
  EXPECT_EQ(Answer("DescribeTable", R"({"TableName":""})"), length);
  EXPECT_EQ(Answer("CreateTable", R"({"TableName":")" + std::string(256, 'a') + "\"}"), length);
  EXPECT_EQ(Answer("CreateTable", "{}"),
            Validation("The parameter 'TableName' is required but was not present in the request"));
  EXPECT_EQ(Answer("DescribeTable", R"({"TableName":"abc;"})"),
            Validation("1 validation error detected: Value 'abc;' at 'tableName' failed to satisfy "
                       "constraint: Member must satisfy regular expression pattern: "
                       "[a-zA-Z0-9_.-]+"));
}

TEST(SchemaConstraints, TakesArnsAsTableNames) {
  EXPECT_EQ(Answer("GetItem",
                   R"({"TableName":"arn:aws:dynamodb:us-east-1:000000000000:table/abc","Key":{}})"),
            "");
  EXPECT_EQ(Answer("DescribeTable",
                   R"({"TableName":"arn:aws:dynamodb:us-east-1:000000000000:table/abc"})"),
            "");
  EXPECT_EQ(
      Answer(
          "BatchGetItem",
          R"({"RequestItems":{"arn:aws:dynamodb:us-east-1:000000000000:table/abc":{"Keys":[{}]}}})"),
      "");
}

TEST(SchemaConstraints, ListsEnumsInTheServicesOrder) {
  EXPECT_EQ(
      Answer("GetItem", R"({"TableName":"abc","Key":{},"ReturnConsumedCapacity":"hi"})"),
      Validation("1 validation error detected: Value 'hi' at 'returnConsumedCapacity' failed "
                 "to satisfy constraint: Member must satisfy enum value set: [INDEXES, TOTAL, "
                 "NONE]"));
  EXPECT_THAT(Answer("PutItem", R"({"TableName":"abc","Item":{},"ReturnValues":"x"})"),
              HasSubstr("[ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]"));
}

TEST(SchemaConstraints, ChecksMembersInTheServicesOrder) {
  EXPECT_EQ(
      Answer("Query", R"({"TableName":"a","Limit":-1,"Select":"x","IndexName":"b"})"),
      Validation(
          "4 validation errors detected: Value 'x' at 'select' failed to satisfy constraint: "
          "Member "
          "must satisfy enum value set: [SPECIFIC_ATTRIBUTES, COUNT, ALL_ATTRIBUTES, "
          "ALL_PROJECTED_ATTRIBUTES]; Value 'b' at 'indexName' failed to satisfy constraint: "
          "Member "
          "must have length greater than or equal to 3; Value 'a' at 'tableName' failed to satisfy "
          "constraint: Member must have length greater than or equal to 3; Value '-1' at 'limit' "
          "failed to satisfy constraint: Member must have value greater than or equal to 1"));
}

TEST(SchemaConstraints, ChecksNumbers) {
  EXPECT_EQ(Answer("ListTables", R"({"Limit":0})"),
            Validation("1 validation error detected: Value '0' at 'limit' failed to satisfy "
                       "constraint: Member must have value greater than or equal to 1"));
  EXPECT_EQ(Answer("ListTables", R"({"Limit":101})"),
            Validation("1 validation error detected: Value '101' at 'limit' failed to satisfy "
                       "constraint: Member must have value less than or equal to 100"));
  EXPECT_EQ(Answer("ListTables", R"({"Limit":1.9})"), "");
  EXPECT_THAT(
      Answer("Scan", R"({"TableName":"abc","TotalSegments":1000001,"Segment":-1})"),
      HasSubstr("2 validation errors detected: Value '1000001' at 'totalSegments' failed to "
                "satisfy constraint: Member must have value less than or equal to 1000000; "
                "Value '-1' at 'segment' failed to satisfy constraint: Member must have "
                "value greater than or equal to 0"));
}

TEST(SchemaConstraints, PathsNumberListMembersAndNameMapKeys) {
  EXPECT_EQ(
      Answer("CreateTable", R"({"TableName":"abc","AttributeDefinitions":[{"AttributeType":"X"}],)"
                            R"("KeySchema":[{"AttributeName":"a","KeyType":"HASH"}]})"),
      Validation("2 validation errors detected: Value null at "
                 "'attributeDefinitions.1.member.attributeName' failed to satisfy constraint: "
                 "Member must not be null; Value 'X' at "
                 "'attributeDefinitions.1.member.attributeType' failed to satisfy constraint: "
                 "Member must satisfy enum value set: [B, N, S]"));
  EXPECT_EQ(Answer("BatchWriteItem",
                   R"({"RequestItems":{"abc":[{"PutRequest":{}},{"DeleteRequest":{}}]}})"),
            Validation("2 validation errors detected: Value null at "
                       "'requestItems.abc.member.1.member.putRequest.item' failed to satisfy "
                       "constraint: Member must not be null; Value null at "
                       "'requestItems.abc.member.2.member.deleteRequest.key' failed to satisfy "
                       "constraint: Member must not be null"));
  EXPECT_EQ(Answer("BatchGetItem", R"({"RequestItems":{"abc":{}}})"),
            Validation("1 validation error detected: Value null at 'requestItems.abc.member.keys' "
                       "failed to satisfy constraint: Member must not be null"));
}

TEST(SchemaConstraints, ShowsCollectionsAsJavaDoes) {
  EXPECT_EQ(
      Answer("BatchGetItem", R"({"RequestItems":{}})"),
      Validation("1 validation error detected: Value '{}' at 'requestItems' failed to satisfy "
                 "constraint: Member must have length greater than or equal to 1"));
  EXPECT_EQ(Answer("GetItem", R"({"TableName":"abc","Key":{},"AttributesToGet":[]})"),
            Validation("1 validation error detected: Value '[]' at 'attributesToGet' failed to "
                       "satisfy constraint: Member must have length greater than or equal to 1"));
  EXPECT_EQ(Answer("BatchWriteItem", R"({"RequestItems":{"abc":[]}})"),
            Validation("1 validation error detected: Value '{abc=[]}' at 'requestItems' failed to "
                       "satisfy constraint: Map value must satisfy constraint: [Member must have "
                       "length less than or equal to 25, Member must have length greater than or "
                       "equal to 1]"));
  EXPECT_EQ(
      Answer("BatchWriteItem", R"({"RequestItems":{"a;":[{"DeleteRequest":{"Key":{}}}]}})"),
      Validation("1 validation error detected: Value '{a;=[WriteRequest(putRequest=null, "
                 "deleteRequest=DeleteRequest(key={}))]}' at 'requestItems' failed to satisfy "
                 "constraint: Map keys must satisfy constraint: [Member must have length less "
                 "than or equal to 255, Member must have length greater than or equal to 3, "
                 "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+]"));
}

TEST(SchemaConstraints, ShowsAttributeValuesByClassAndHash) {
  std::string json = R"({"RequestItems":{"abc":[)";
  for (int i = 0; i < 26; ++i) {
    json += std::string(i > 0 ? "," : "") + R"({"PutRequest":{"Item":{"a":{"S":"x"}}}})";
  }
  json += "]}}";
  EXPECT_THAT(Answer("BatchWriteItem", json),
              HasSubstr("Value '{abc=[WriteRequest(putRequest=PutRequest(item={a=com.amazonaws."
                        "dynamodb.v20120810.AttributeValue@"));
}

TEST(SchemaConstraints, ListsAtMostTenErrors) {
  std::string json = R"({"TableName":"abc","KeySchema":[{"AttributeName":"a","KeyType":"HASH"}],)"
                     R"("AttributeDefinitions":[)";
  for (int i = 0; i < 12; ++i) json += std::string(i > 0 ? "," : "") + "{}";
  json += "]}";
  EXPECT_THAT(Answer("CreateTable", json), HasSubstr("10 validation errors detected: "));
}

TEST(SchemaConstraints, CountsUtf16Units) {
  // Three characters beyond the basic plane are six units.
  EXPECT_THAT(Answer("TagResource", R"({"ResourceArn":"x","Tags":[{"Key":")" +
                                        std::string(129, 'k') + R"(","Value":""}]})"),
              HasSubstr("at 'tags.1.member.key' failed to satisfy constraint: Member must have "
                        "length less than or equal to 128"));
  std::string emoji;
  for (int i = 0; i < 64; ++i) emoji += "\xF0\x9F\x98\x80";
  EXPECT_EQ(Answer("TagResource",
                   R"({"ResourceArn":"x","Tags":[{"Key":")" + emoji + R"(","Value":""}]})"),
            "");
}

TEST(TableArns, AreTakenApart) {
  TableArn arn;
  ASSERT_TRUE(ParseTableArn("arn:aws:dynamodb:eu-west-1:123456789012:table/abc", &arn));
  EXPECT_EQ(arn.region, "eu-west-1");
  EXPECT_EQ(arn.account, "123456789012");
  EXPECT_EQ(arn.table, "abc");
  EXPECT_EQ(arn.rest, "");
  ASSERT_TRUE(ParseTableArn("arn:aws:dynamodb:eu-west-1:1:table/abc/index/by-x", &arn));
  EXPECT_EQ(arn.rest, "index/by-x");
  EXPECT_FALSE(ParseTableArn("arn:aws:dynamodb:eu-west-1:1:table/ab", &arn));
  EXPECT_FALSE(ParseTableArn("arn:aws:dynamodb:eu-west-1:x:table/abc", &arn));
  EXPECT_FALSE(ParseTableArn("arn:aws:s3:eu-west-1:1:table/abc", &arn));
  EXPECT_FALSE(ParseTableArn("arn:aws:dynamodb:", &arn));
}

TEST(InputReading, ConvertsAsTheServiceDoes) {
  simdjson::dom::parser parser;
  const std::string json =
      R"({"T":"Yes","F":"no","One":"1","B":true,"I":1.9,"N":-1.5,"Z":null,"Big":18446744073709551615})";
  simdjson::dom::object object;
  ASSERT_FALSE(parser.parse(json).get(object));
  const Input input(object);
  EXPECT_EQ(input.Bool("T"), true);
  EXPECT_EQ(input.Bool("F"), false);
  EXPECT_EQ(input.Bool("One"), true);
  EXPECT_EQ(input.Bool("B"), true);
  EXPECT_EQ(input.Int("I"), 1);
  EXPECT_EQ(input.Int("N"), -2);
  EXPECT_EQ(input.Int("Big"), std::numeric_limits<int64_t>::max());
  EXPECT_FALSE(input.Has("Z"));
  EXPECT_FALSE(Input().Has("Z"));
}

}  // namespace
}  // namespace onggi::dynamodb
