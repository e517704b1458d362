#include "server/dynamodb/item_request.h"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <vector>

#include "server/model/json.h"

namespace onggi::dynamodb {
namespace {

constexpr std::array<std::string_view, 1> kProjectionOnly = {"ProjectionExpression"};
constexpr std::array<std::string_view, 1> kAttributesToGetOnly = {"AttributesToGet"};
constexpr std::array<std::string_view, 1> kConditionOnly = {"ConditionExpression"};
constexpr std::array<std::string_view, 2> kExpectedLegacy = {"Expected", "ConditionalOperator"};
constexpr std::array<std::string_view, 2> kUpdateExpressions = {"UpdateExpression",
                                                                "ConditionExpression"};
constexpr std::array<std::string_view, 3> kUpdateLegacy = {"AttributeUpdates", "Expected",
                                                           "ConditionalOperator"};
constexpr std::array<std::string_view, 3> kQueryExpressions = {
    "ProjectionExpression", "FilterExpression", "KeyConditionExpression"};
constexpr std::array<std::string_view, 4> kQueryLegacy = {"AttributesToGet", "QueryFilter",
                                                          "ConditionalOperator", "KeyConditions"};
constexpr std::array<std::string_view, 2> kScanExpressions = {"ProjectionExpression",
                                                              "FilterExpression"};
constexpr std::array<std::string_view, 3> kScanLegacy = {"AttributesToGet", "ScanFilter",
                                                         "ConditionalOperator"};

bool Contains(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void AppendListed(std::string_view name, std::string* list) {
  if (!list->empty()) list->append(", ");
  list->append(name);
}

Outcome CheckPlaceholdersHaveExpressions(Input input, const ParameterSet& set, bool any,
                                         bool any_with_values) {
  if (!any && input.Has("ExpressionAttributeNames")) {
    return ValidationError("ExpressionAttributeNames can only be specified when using expressions");
  }
  if (any_with_values || !input.Has("ExpressionAttributeValues")) return {};
  std::string absent;
  size_t count = 0;
  for (const std::string_view name : set.expressions) {
    if (name == "ProjectionExpression") continue;  // has no values
    if (count++ > 0) absent.append(" and ");
    absent.append(name);
  }
  if (count == 0) return {};
  return ValidationError(
      "ExpressionAttributeValues can only be specified when using expressions: " + absent +
      (count > 1 ? " are null" : " is null"));
}

Outcome FillPlaceholders(Input input, expression::Placeholders* placeholders) {
  if (const auto names = input.Object("ExpressionAttributeNames")) {
    if (names->size() == 0) return ValidationError("ExpressionAttributeNames must not be empty");
    for (const auto field : *names) {
      if (Status status = expression::Placeholders::CheckNamePlaceholder(field.key); !status.ok()) {
        return FromStatus(status);
      }
      std::string_view name;
      if (field.value.get(name)) continue;  // a null value: as if it were absent
      if (Status status = model::CheckAttributeName(name); !status.ok()) {
        return ValidationError("ExpressionAttributeNames contains invalid value: " +
                               status.message() + " for key " + std::string(field.key));
      }
      placeholders->AddName(field.key, name);
    }
  }
  const auto values = input.Object("ExpressionAttributeValues");
  if (!values) return {};
  if (values->size() == 0) return ValidationError("ExpressionAttributeValues must not be empty");
  for (const auto field : *values) {
    if (Status status = expression::Placeholders::CheckValuePlaceholder(field.key); !status.ok()) {
      return FromStatus(status);
    }
  }
  for (const auto field : *values) {
    std::string encoded;
    if (Status status = model::ParseValue(field.value, &encoded); !status.ok()) {
      return ValidationError("ExpressionAttributeValues contains invalid value: " +
                             status.message() + " for key " + std::string(field.key));
    }
    placeholders->AddValue(field.key, std::move(encoded));
  }
  return {};
}

/// Stores a parsed expression, or says why it is none.
template <class T>
Outcome Take(Result<T> result, std::optional<T>* out) {
  if (!result.ok()) return FromStatus(std::move(result).status());
  out->emplace(std::move(result).value());
  return {};
}

}  // namespace

const ParameterSet kReadParameters = {kProjectionOnly, kAttributesToGetOnly};
const ParameterSet kWriteParameters = {kConditionOnly, kExpectedLegacy};
const ParameterSet kUpdateParameters = {kUpdateExpressions, kUpdateLegacy};
const ParameterSet kQueryParameters = {kQueryExpressions, kQueryLegacy};
const ParameterSet kScanParameters = {kScanExpressions, kScanLegacy};

Outcome CheckParameters(Input input, const ParameterSet& set, bool* has_expressions) {
  bool any = false, any_with_values = false;
  for (const std::string_view name : set.expressions) {
    if (!input.Has(name)) continue;
    any = true;
    any_with_values |= name != "ProjectionExpression";
  }
  *has_expressions = any;
  if (!any) return CheckPlaceholdersHaveExpressions(input, set, any, any_with_values);

  // KeyConditions may stand beside a filter or projection expression.
  const bool key_expression = input.Has("KeyConditionExpression");
  std::string legacy, given;
  for (const std::string_view name : set.legacy) {
    if (!input.Has(name) || (name == "KeyConditions" && !key_expression)) continue;
    AppendListed(name, &legacy);
  }
  if (!legacy.empty()) {
    for (const std::string_view name : set.expressions) {
      if (input.Has(name)) AppendListed(name, &given);
    }
    return ValidationError(
        "Can not use both expression and non-expression parameters in the same request: "
        "Non-expression parameters: {" +
        legacy + "} Expression parameters: {" + given + "}");
  }
  return CheckPlaceholdersHaveExpressions(input, set, any, any_with_values);
}

Outcome ParseExpressions(Input input, const ParameterSet& set, Expressions* out) {
  expression::Placeholders placeholders;
  if (Outcome outcome = FillPlaceholders(input, &placeholders); !outcome.ok()) return outcome;
  const auto text_of = [&](std::string_view name) -> std::optional<std::string_view> {
    return Contains(set.expressions, name) ? input.String(name) : std::nullopt;
  };
  if (const auto text = text_of("UpdateExpression")) {
    Outcome outcome = Take(expression::ParseUpdate(*text, &placeholders), &out->update);
    if (!outcome.ok()) return outcome;
  }
  if (const auto text = text_of("ConditionExpression")) {
    Outcome outcome = Take(expression::ParseCondition(*text, "ConditionExpression", &placeholders),
                           &out->condition);
    if (!outcome.ok()) return outcome;
  }
  if (const auto text = text_of("KeyConditionExpression")) {
    Outcome outcome =
        Take(expression::ParseKeyCondition(*text, &placeholders), &out->key_condition);
    if (!outcome.ok()) return outcome;
  }
  if (const auto text = text_of("FilterExpression")) {
    Outcome outcome =
        Take(expression::ParseCondition(*text, "FilterExpression", &placeholders), &out->filter);
    if (!outcome.ok()) return outcome;
  }
  if (const auto text = text_of("ProjectionExpression")) {
    Outcome outcome = Take(expression::ParseProjection(*text, &placeholders), &out->projection);
    if (!outcome.ok()) return outcome;
  }
  const Status unused = placeholders.CheckAllUsed();
  return unused.ok() ? Outcome() : Outcome(FromStatus(unused));
}

Outcome ParseAttributesToGet(Input input, std::optional<expression::Projection>* projection) {
  const auto array = input.Array("AttributesToGet");
  if (!array) return {};
  std::vector<std::string> names;
  std::unordered_set<std::string_view> seen;
  for (const auto element : *array) {
    std::string_view name;
    if (element.get(name)) continue;
    if (Status status = model::CheckAttributeName(name); !status.ok()) return FromStatus(status);
    if (!seen.insert(name).second) {
      return ValidationError(
          "One or more parameter values were invalid: Duplicate value in attribute name: " +
          std::string(name));
    }
    names.emplace_back(name);
  }
  projection->emplace(expression::Projection::OfAttributes(names));
  return {};
}

Outcome ParseLegacyCondition(Input input, std::string_view parameter,
                             std::optional<expression::Condition>* condition) {
  const auto conditions = input.Object(parameter);
  const auto op = input.String("ConditionalOperator");
  if (op) {
    const Status status = expression::CheckConditionalOperator(conditions ? conditions->size() : 0);
    if (!status.ok()) return FromStatus(status);
  }
  if (!conditions || conditions->size() == 0) return {};
  const auto combine = op && *op == "OR" ? expression::ConditionalOperator::kOr
                                         : expression::ConditionalOperator::kAnd;
  return Take(parameter == "Expected" ? expression::ConditionFromExpected(*conditions, combine)
                                      : expression::ConditionFromFilter(*conditions, combine),
              condition);
}

Outcome ParseItemParameter(Input input, std::string_view parameter, std::string* item) {
  const auto object = input.Object(parameter);
  if (!object) return ValidationError("Item key cannot be null");  // the wire schema requires it
  const Status status = model::ParseItem(*object, item);
  return status.ok() ? Outcome() : Outcome(FromStatus(status));
}

Outcome ParseStartKey(Input input, std::string* key) {
  const auto object = input.Object("ExclusiveStartKey");
  if (!object) return {};
  const Status status = model::ParseItem(*object, key);
  if (status.ok()) return {};
  // The service puts its prefix before some of the messages only: not before those of numbers and
  // sets.
  for (const std::string_view own : {"contains duplicates", "number set", "numeric value",
                                     "significant digits", "number with magnitude"}) {
    if (status.message().find(own) != std::string::npos) return FromStatus(status);
  }
  return ValidationError("The provided starting key is invalid: " + status.message());
}

}  // namespace onggi::dynamodb
