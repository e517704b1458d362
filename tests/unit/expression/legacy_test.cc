#include "server/expression/legacy.h"

#include <gtest/gtest.h>

#include "tests/unit/expression/expression_test_util.h"

namespace onggi::expression {
namespace {

constexpr char kItem[] = R"({
  "pk":{"S":"k"}, "s":{"S":"hello"}, "n":{"N":"5"}, "ss":{"SS":["a","b"]}, "l":{"L":[{"N":"1"}]},
  "m":{"M":{"x":{"N":"1"}}}, "b":{"B":"aGU="}, "t":{"BOOL":true}, "z":{"NULL":true}})";

using ConditionParser = Result<Condition> (*)(simdjson::dom::object, ConditionalOperator);

/// "true", "false" or the error.
std::string Evaluate(ConditionParser parse, std::string_view json,
                     ConditionalOperator op = ConditionalOperator::kAnd) {
  simdjson::dom::parser parser;
  const Result<Condition> condition = parse(parser.parse(std::string(json)), op);
  if (!condition.ok()) return condition.status().message();
  const std::string item = Item(kItem);
  return condition->Evaluate(model::ItemView(item)) ? "true" : "false";
}

std::string Expected(std::string_view json, ConditionalOperator op = ConditionalOperator::kAnd) {
  return Evaluate(&ConditionFromExpected, json, op);
}

/// {"attribute": {"ComparisonOperator": op, "AttributeValueList": values}}
std::string Comparison(std::string_view attribute, std::string_view op, std::string_view values) {
  return "{\"" + std::string(attribute) + R"(":{"ComparisonOperator":")" + std::string(op) +
         R"(","AttributeValueList":[)" + std::string(values) + "]}}";
}

constexpr char kInvalid[] = "One or more parameter values were invalid: ";

TEST(Expected, ComparesAsTheServiceDoes) {
  struct Case {
    const char* attribute;
    const char* op;
    const char* values;
    bool holds;
  };
  const Case kCases[] = {
      {"n", "EQ", R"({"N":"5.0"})", true},
      {"n", "EQ", R"({"L":[]})", false},
      {"t", "EQ", R"({"BOOL":true})", true},
      {"q", "EQ", R"({"N":"5"})", false},
      {"n", "NE", R"({"N":"5"})", false},
      {"n", "NE", R"({"S":"x"})", true},
      {"q", "NE", R"({"N":"5"})", true},  // a missing attribute is unequal
      {"n", "LT", R"({"N":"6"})", true},
      {"q", "LT", R"({"N":"6"})", false},
      {"n", "LE", R"({"N":"5"})", true},
      {"n", "GT", R"({"N":"5"})", false},
      {"n", "GT", R"({"S":"a"})", false},
      {"n", "GE", R"({"N":"5"})", true},
      {"n", "NULL", "", false},
      {"q", "NULL", "", true},
      {"z", "NULL", "", false},  // the attribute is there, and its type is NULL
      {"n", "NOT_NULL", "", true},
      {"q", "NOT_NULL", "", false},
      {"s", "CONTAINS", R"({"S":"ell"})", true},
      {"ss", "CONTAINS", R"({"S":"a"})", true},
      {"l", "CONTAINS", R"({"N":"1"})", true},
      {"m", "CONTAINS", R"({"S":"x"})", false},
      {"n", "CONTAINS", R"({"BOOL":true})", false},
      {"s", "NOT_CONTAINS", R"({"S":"ell"})", false},
      {"n", "NOT_CONTAINS", R"({"S":"ell"})", true},
      {"ss", "NOT_CONTAINS", R"({"N":"1"})", true},
      {"q", "NOT_CONTAINS", R"({"S":"ell"})", false},  // but a missing one does not "not contain"
      {"s", "BEGINS_WITH", R"({"S":"he"})", true},
      {"s", "BEGINS_WITH", R"({"B":"aGU="})", false},
      {"b", "BEGINS_WITH", R"({"B":"aGU="})", true},
      {"n", "IN", R"({"N":"4"},{"N":"5"})", true},
      {"n", "IN", R"({"N":"4"})", false},
      {"n", "BETWEEN", R"({"N":"1"},{"N":"5"})", true},
      {"n", "BETWEEN", R"({"N":"6"},{"N":"9"})", false},
  };
  for (const Case& c : kCases) {
    const std::string json = Comparison(c.attribute, c.op, c.values);
    EXPECT_EQ(Expected(json), c.holds ? "true" : "false") << json;
    EXPECT_EQ(Evaluate(&ConditionFromFilter, json), c.holds ? "true" : "false") << json;
  }
}

TEST(Expected, KnowsExistsAndValue) {
  EXPECT_EQ(Expected("{}"), "true");
  EXPECT_EQ(Expected(R"({"n":{"Value":{"N":"5"}}})"), "true");
  EXPECT_EQ(Expected(R"({"n":{"Value":{"N":"6"}}})"), "false");
  EXPECT_EQ(Expected(R"({"n":{"Exists":true,"Value":{"N":"5"}}})"), "true");
  EXPECT_EQ(Expected(R"({"n":{"Exists":false}})"), "false");
  EXPECT_EQ(Expected(R"({"q":{"Exists":false}})"), "true");
  EXPECT_EQ(Expected(R"({"n":{"ComparisonOperator":"IN","Value":{"N":"5"}}})"), "true");
  EXPECT_EQ(Expected(R"({"q":{"ComparisonOperator":"NULL"}})"), "true");
  EXPECT_EQ(Expected(R"({"m.x":{"Value":{"N":"1"}}})"), "false");  // names are no paths
}

TEST(Expected, JoinsByItsOperator) {
  const char* both = R"({"n":{"Value":{"N":"5"}},"s":{"Value":{"S":"hello"}}})";
  const char* one = R"({"n":{"Value":{"N":"5"}},"s":{"Value":{"S":"x"}}})";
  const char* none = R"({"n":{"Value":{"N":"6"}},"q":{"ComparisonOperator":"NOT_NULL"}})";
  EXPECT_EQ(Expected(both), "true");
  EXPECT_EQ(Expected(one), "false");
  EXPECT_EQ(Expected(one, ConditionalOperator::kOr), "true");
  EXPECT_EQ(Expected(none, ConditionalOperator::kOr), "false");
}

TEST(Expected, RefusesWithTheServicesMessages) {
  const std::pair<std::string, std::string> kCases[] = {
      {R"({"n":{}})", "Value must be provided when Exists is null for Attribute: n"},
      {R"({"n":{"Exists":true}})", "Value must be provided when Exists is true for Attribute: n"},
      {R"({"n":{"Exists":false,"Value":{"N":"5"}}})",
       "Value cannot be used when Exists is false for Attribute: n"},
      {R"({"n":{"Value":{"N":"5"},"AttributeValueList":[{"N":"5"}]}})",
       "Value and AttributeValueList cannot be used together for Attribute: n"},
      {R"({"n":{"AttributeValueList":[{"N":"5"}]}})",
       "AttributeValueList can only be used with a ComparisonOperator for Attribute: n"},
      {R"({"n":{"Exists":true,"ComparisonOperator":"EQ","Value":{"N":"5"}}})",
       "Exists and ComparisonOperator cannot be used together for Attribute: n"},
      {R"({"n":{"ComparisonOperator":"EQ"}})",
       "Value or AttributeValueList must be used with ComparisonOperator: EQ for Attribute: n"},
      {Comparison("n", "EQ", ""), "Invalid number of argument(s) for the EQ ComparisonOperator"},
      {Comparison("n", "NULL", R"({"N":"1"})"),
       "Invalid number of argument(s) for the NULL ComparisonOperator"},
      {Comparison("n", "IN", ""), "Invalid number of argument(s) for the IN ComparisonOperator"},
      {Comparison("n", "BETWEEN", R"({"N":"1"})"),
       "Invalid number of argument(s) for the BETWEEN ComparisonOperator"},
      {Comparison("n", "IN", R"({"N":"5"},{"S":"x"})"),
       "AttributeValues inside AttributeValueList must be of same type"},
      {Comparison("n", "LT", R"({"SS":["a"]})"),
       "ComparisonOperator LT is not valid for SS AttributeValue type"},
      {Comparison("n", "IN", R"({"BOOL":true})"),
       "ComparisonOperator IN is not valid for BOOL AttributeValue type"},
      {Comparison("n", "CONTAINS", R"({"L":[]})"),
       "ComparisonOperator CONTAINS is not valid for L AttributeValue type"},
      {Comparison("n", "BEGINS_WITH", R"({"N":"1"})"),
       "ComparisonOperator BEGINS_WITH is not valid for N AttributeValue type"},
  };
  for (const auto& [json, error] : kCases) EXPECT_EQ(Expected(json), kInvalid + error) << json;
  EXPECT_EQ(Expected(Comparison("n", "BETWEEN", R"({"N":"9"},{"N":"1"})")),
            "The BETWEEN condition was provided a range where the lower bound is greater than the "
            "upper bound");
  EXPECT_EQ(
      Expected(Comparison("n", "EQ", "{}")),
      "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes");
}

TEST(Filter, NeedsItsArguments) {
  EXPECT_EQ(Evaluate(&ConditionFromFilter, R"({"n":{"ComparisonOperator":"EQ"}})"),
            std::string(kInvalid) + "Invalid number of argument(s) for the EQ ComparisonOperator");
}

TEST(ConditionalOperator, NeedsTwoConditions) {
  EXPECT_TRUE(CheckConditionalOperator(2).ok());
  EXPECT_EQ(CheckConditionalOperator(0).message(),
            "ConditionalOperator cannot be used without Filter or Expected");
  EXPECT_EQ(
      CheckConditionalOperator(1).message(),
      "ConditionalOperator can only be used when Filter or Expected has two or more elements");
}

TEST(KeyConditions, BecomeAKeyCondition) {
  const KeySchema schema("pk", model::Type::kString, "sk", model::Type::kNumber);
  const auto bind = [&](std::string_view json) -> Result<KeyCondition> {
    simdjson::dom::parser parser;
    Result<ParsedKeyCondition> parsed =
        KeyConditionFromKeyConditions(parser.parse(std::string(json)));
    if (!parsed.ok()) return parsed.status();
    return parsed->Bind(schema);
  };
  const std::string pk = R"("pk":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"a"}]})";
  const auto with = [&](std::string_view op, std::string_view values) {
    const std::string sk = Comparison("sk", op, values);
    return bind("{" + pk + "," + sk.substr(1));
  };
  EXPECT_EQ(bind("{" + pk + "}")->range_operator, KeyOperator::kNone);
  EXPECT_EQ(with("LT", R"({"N":"1"})")->range_operator, KeyOperator::kLess);
  EXPECT_EQ(with("BETWEEN", R"({"N":"1"},{"N":"2"})")->range_upper, Value(R"({"N":"2"})"));
  for (const char* op : {"NE", "CONTAINS", "NOT_CONTAINS", "IN"}) {
    EXPECT_EQ(with(op, R"({"N":"1"})").status().message(),
              "Attempted conditional constraint is not an indexable operation");
  }
  EXPECT_EQ(with("NULL", "").status().message(),
            "Attempted conditional constraint is not an indexable operation");
  EXPECT_EQ(with("BEGINS_WITH", R"({"S":"a"})").status().message(),
            std::string(kInvalid) + "Condition parameter type does not match schema type");
  EXPECT_EQ(bind("{}").status().message(), "Conditions can be of length 1 or 2 only");
  EXPECT_EQ(bind(Comparison("pk", "LT", R"({"S":"a"})")).status().message(),
            "Query key condition not supported");
}

/// The new item or the error. `item_json` "" for none.
std::string Updated(std::string_view json, const std::string& item_json = kItem,
                    bool* creates_nothing = nullptr) {
  simdjson::dom::parser parser;
  const Result<Update> update = UpdateFromAttributeUpdates(parser.parse(std::string(json)));
  if (!update.ok()) return update.status().message();
  const std::string item = item_json.empty() ? "" : Item(item_json);
  const std::string key = Item(R"({"pk":{"S":"k"}})");
  Update::Output output;
  const Status status = update->Apply(item.empty() ? model::ItemView() : model::ItemView(item),
                                      model::ItemView(key), false, &output);
  if (creates_nothing != nullptr) *creates_nothing = output.creates_nothing;
  return status.ok() ? Json(output.item) : status.message();
}

TEST(AttributeUpdates, DoWhatTheyDidBeforeExpressions) {
  const std::string item = R"({"n":{"N":"5"},"ss":{"SS":["a","b"]},"l":{"L":[{"N":"1"}]}})";
  const std::pair<const char*, const char*> kCases[] = {
      {R"({})", R"({"l":{"L":[{"N":"1"}]},"n":{"N":"5"},"ss":{"SS":["a","b"]}})"},
      {R"({"n":{"Value":{"S":"x"}},"l":{"Action":"DELETE"},"ss":{"Action":"DELETE"}})",
       R"({"n":{"S":"x"}})"},
      {R"({"n":{"Action":"ADD","Value":{"N":"2"}},"q":{"Action":"ADD","Value":{"N":"1"}},)"
       R"("l":{"Action":"ADD","Value":{"L":[{"N":"2"}]}},)"
       R"("ss":{"Action":"ADD","Value":{"SS":["c","a"]}}})",
       R"({"l":{"L":[{"N":"1"},{"N":"2"}]},"n":{"N":"7"},"q":{"N":"1"},"ss":{"SS":["a","b","c"]}})"},
      {R"({"ss":{"Action":"DELETE","Value":{"SS":["a"]}},"q":{"Action":"DELETE"},)"
       R"("l":{"Action":"PUT","Value":{"N":"0"}}})",
       R"({"l":{"N":"0"},"n":{"N":"5"},"ss":{"SS":["b"]}})"},
      {R"({"ss":{"Action":"DELETE","Value":{"SS":["a","b"]}}})",
       R"({"l":{"L":[{"N":"1"}]},"n":{"N":"5"}})"},
      {R"({"m.x":{"Action":"PUT","Value":{"N":"1"}}})",
       R"({"l":{"L":[{"N":"1"}]},"m.x":{"N":"1"},"n":{"N":"5"},"ss":{"SS":["a","b"]}})"},
  };
  for (const auto& [json, result] : kCases) EXPECT_EQ(Updated(json, item), result) << json;
}

TEST(AttributeUpdates, CreateItemsUnlessTheyOnlyDelete) {
  bool creates_nothing = false;
  EXPECT_EQ(Updated(R"({"n":{"Action":"ADD","Value":{"N":"2"}}})", "", &creates_nothing),
            R"({"n":{"N":"2"},"pk":{"S":"k"}})");
  EXPECT_FALSE(creates_nothing);
  EXPECT_EQ(Updated("{}", "", &creates_nothing), R"({"pk":{"S":"k"}})");
  EXPECT_FALSE(creates_nothing);
  Updated(R"({"n":{"Action":"DELETE"}})", "", &creates_nothing);
  EXPECT_TRUE(creates_nothing);
}

TEST(AttributeUpdates, RefuseWithTheServicesMessages) {
  const std::pair<const char*, std::string> kCases[] = {
      {R"({"n":{}})",
       kInvalid +
           std::string("Only DELETE action is allowed when no attribute value is specified")},
      {R"({"n":{"Action":"ADD"}})",
       kInvalid +
           std::string("Only DELETE action is allowed when no attribute value is specified")},
      {R"({"n":{"Action":"DELETE","Value":{"N":"1"}}})",
       kInvalid + std::string("DELETE action with value is not supported for the type NUMBER")},
      {R"({"n":{"Action":"ADD","Value":{"S":"a"}}})",
       kInvalid + std::string("ADD action is not supported for the type STRING")},
      {R"({"s":{"Action":"ADD","Value":{"N":"1"}}})", "Type mismatch for attribute to update"},
      {R"({"ss":{"Action":"ADD","Value":{"NS":["1"]}}})", "Type mismatch for attribute to update"},
      {R"({"n":{"Action":"DELETE","Value":{"SS":["a"]}}})",
       "Type mismatch for attribute to update"},
  };
  for (const auto& [json, error] : kCases) EXPECT_EQ(Updated(json), error) << json;
}

}  // namespace
}  // namespace onggi::expression
