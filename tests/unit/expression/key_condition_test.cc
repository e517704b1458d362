#include "server/expression/key_condition.h"

#include <gtest/gtest.h>

#include "tests/unit/expression/expression_test_util.h"

namespace onggi::expression {
namespace {

using model::Type;

const KeySchema kHashOnly("pk", Type::kString);
const KeySchema kWithRange("pk", Type::kString, "sk", Type::kNumber);
const KeySchema kWithString("pk", Type::kString, "sk", Type::kString);

std::string Error(std::string_view text, const KeySchema& schema = kWithRange) {
  Placeholders placeholders = CommonPlaceholders();
  return ParseKeyCondition(text, &placeholders, schema).status().message();
}

KeyCondition Parse(std::string_view text, const KeySchema& schema = kWithRange) {
  Placeholders placeholders = CommonPlaceholders();
  Result<KeyCondition> condition = ParseKeyCondition(text, &placeholders, schema);
  EXPECT_TRUE(condition.ok()) << text << ": " << condition.status().message();
  return condition.ok() ? *condition : KeyCondition();
}

TEST(KeyCondition, TakesThePartitionKey) {
  for (const char* text : {"pk = :s", ":s = pk", "(pk = :s)", "(pk) = (:s)"}) {
    const KeyCondition condition = Parse(text, kHashOnly);
    EXPECT_EQ(condition.hash_value, Value(R"({"S":"x"})"));
    EXPECT_EQ(condition.range_operator, KeyOperator::kNone);
  }
}

TEST(KeyCondition, TakesEveryOperatorOfTheSortKey) {
  const std::pair<const char*, KeyOperator> kCases[] = {
      {"sk = :v", KeyOperator::kEqual},
      {"sk < :v", KeyOperator::kLess},
      {"sk <= :v", KeyOperator::kLessEqual},
      {"sk > :v", KeyOperator::kGreater},
      {"sk >= :v", KeyOperator::kGreaterEqual},
      {":v < sk", KeyOperator::kGreater},
      {":v <= sk", KeyOperator::kGreaterEqual},
      {":v > sk", KeyOperator::kLess},
      {":v >= sk", KeyOperator::kLessEqual},
      {":v = sk", KeyOperator::kEqual},
      {"sk BETWEEN :v AND :w", KeyOperator::kBetween},
  };
  for (const auto& [text, op] : kCases) {
    for (const std::string& whole :
         {"pk = :s AND " + std::string(text), "(" + std::string(text) + ") AND pk = :s"}) {
      const KeyCondition condition = Parse(whole);
      EXPECT_EQ(condition.range_operator, op) << whole;
      EXPECT_EQ(condition.range_value, Value(R"({"N":"1"})"));
      EXPECT_EQ(condition.range_upper.empty(), op != KeyOperator::kBetween);
    }
  }
  const KeyCondition prefix = Parse("pk = :s AND begins_with(sk, :he)", kWithString);
  EXPECT_EQ(prefix.range_operator, KeyOperator::kBeginsWith);
  EXPECT_EQ(prefix.range_value, Value(R"({"S":"he"})"));
  EXPECT_EQ(Parse("pk = :s AND sk BETWEEN :v AND :w").range_upper, Value(R"({"N":"2"})"));
}

TEST(KeyCondition, RefusesWithTheServicesMessages) {
  const std::pair<const char*, const char*> kCases[] = {
      {"", "Invalid KeyConditionExpression: The expression can not be empty;"},
      {"pk", "Invalid KeyConditionExpression: Syntax error; token: \"<EOF>\", near: \"pk\""},
      {"pk = :u",
       "Invalid KeyConditionExpression: An expression attribute value used in expression is not "
       "defined; attribute value: :u"},
      {"pk = :s AND ((sk = :v))",
       "Invalid KeyConditionExpression: The expression has redundant parentheses;"},
      {"pk = :s OR sk = :v", "Invalid operator used in KeyConditionExpression: OR"},
      {"pk = :s AND (sk = :v OR sk = :w)", "Invalid operator used in KeyConditionExpression: OR"},
      {"NOT pk = :s", "Invalid operator used in KeyConditionExpression: NOT"},
      {"pk <> :s", "Invalid operator used in KeyConditionExpression: <>"},
      {"pk = :s AND sk IN (:v)", "Invalid operator used in KeyConditionExpression: IN"},
      {"attribute_exists(pk)", "Invalid operator used in KeyConditionExpression: attribute_exists"},
      {"attribute_not_exists(pk)",
       "Invalid operator used in KeyConditionExpression: attribute_not_exists"},
      {"attribute_type(pk, :typeN)",
       "Invalid operator used in KeyConditionExpression: attribute_type"},
      {"contains(pk, :s)", "Invalid operator used in KeyConditionExpression: contains"},
      {"size(pk) = :v", "KeyConditionExpressions cannot contain nested operations"},
      {"pk = :s AND sk BETWEEN :v AND size(pk)",
       "KeyConditionExpressions cannot contain nested operations"},
      {"pk = :s AND :v BETWEEN :v AND :w",
       "Invalid condition in KeyConditionExpression: BETWEEN operator must have the key attribute "
       "as its first operand"},
      {"pk = :s AND begins_with(:s, sk)",
       "Invalid condition in KeyConditionExpression: begins_with operator must have the key "
       "attribute as its first operand"},
      {"pk = sk",
       "Invalid condition in KeyConditionExpression: Multiple attribute names used in one "
       "condition"},
      {":s = :he", "Invalid condition in KeyConditionExpression: No key attribute specified"},
      {"zz.a = :s",
       "Invalid KeyConditionExpression: KeyConditionExpressions cannot have conditions on nested "
       "attributes"},
      {"pk = :s AND pk = :he",
       "Invalid KeyConditionExpression: KeyConditionExpressions must only contain one condition "
       "per key"},
      {"pk = :s AND sk > :v AND sk < :w",
       "Invalid KeyConditionExpression: KeyConditionExpressions must only contain one condition "
       "per key"},
      {"pk = :s AND sk > :v AND zz < :w", "Conditions can be of length 1 or 2 only"},
      {"pk > :s", "Query key condition not supported"},
      {"begins_with(pk, :s)", "Query key condition not supported"},
      {"sk = :v", "Query condition missed key schema element: pk"},
      {"pk = :s AND zz = :v", "Query condition missed key schema element: sk"},
      {"pk = :v",
       "One or more parameter values were invalid: Condition parameter type does not match schema "
       "type"},
      {"pk = :s AND sk = :s",
       "One or more parameter values were invalid: Condition parameter type does not match schema "
       "type"},
      {"pk = :v AND zz = :v",
       "One or more parameter values were invalid: Condition parameter type does not match schema "
       "type"},
      {"pk = :empty",
       "One or more parameter values are not valid. The AttributeValue for a key attribute cannot "
       "contain an empty string value. Key: pk"},
  };
  for (const auto& [text, error] : kCases) EXPECT_EQ(Error(text), error) << text;
  EXPECT_EQ(Error("pk = :s AND sk = :v", kHashOnly), "Query key condition not supported");
  EXPECT_EQ(Error("zz = :s", kHashOnly), "Query condition missed key schema element: pk");
  EXPECT_EQ(Error("pk = :s AND begins_with(sk, :empty)", kWithString),
            "One or more parameter values are not valid. The AttributeValue for a key attribute "
            "cannot contain an empty string value. Key: sk");
}

TEST(KeyCondition, RefusesKeysThatAreTooLong) {
  Placeholders placeholders;
  placeholders.AddValue(":p", Value(R"({"S":")" + Repeat("p", 2049) + R"("})"));
  placeholders.AddValue(":s", Value(R"({"S":")" + Repeat("s", 1025) + R"("})"));
  placeholders.AddValue(":ok", Value(R"({"S":")" + Repeat("s", 1024) + R"("})"));
  EXPECT_EQ(ParseKeyCondition("pk = :p", &placeholders, kWithString).status().message(),
            "One or more parameter values were invalid: Size of hashkey has exceeded the maximum "
            "size limit of2048 bytes");
  EXPECT_EQ(
      ParseKeyCondition("pk = :ok AND sk < :s", &placeholders, kWithString).status().message(),
      "One or more parameter values were invalid: Aggregated size of all range keys has exceeded "
      "the size limit of 1024 bytes");
  EXPECT_TRUE(ParseKeyCondition("pk = :ok AND sk < :ok", &placeholders, kWithString).ok());
}

TEST(KeyCondition, CanBeBoundLater) {
  Placeholders placeholders = CommonPlaceholders();
  const ParsedKeyCondition parsed = ParseKeyCondition("sk > :v AND pk = :s", &placeholders).value();
  ASSERT_EQ(parsed.attributes().size(), 2u);
  EXPECT_EQ(parsed.attributes()[0], "sk");
  EXPECT_TRUE(parsed.Bind(kWithRange).ok());
  EXPECT_FALSE(parsed.Bind(kHashOnly).ok());
}

}  // namespace
}  // namespace onggi::expression
