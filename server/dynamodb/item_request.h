#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "server/dynamodb/error.h"
#include "server/dynamodb/input.h"
#include "server/expression/expression.h"
#include "server/model/value.h"

/// What the item operations' requests have in common, as far as it can be checked without a table:
/// the service finds these errors before it looks the table up.
namespace onggi::dynamodb {

/// The expression parameters of an operation, and the older ones that may not stand beside them,
/// both in the order in which the service's messages list them.
struct ParameterSet {
  std::span<const std::string_view> expressions;
  std::span<const std::string_view> legacy;
};

extern const ParameterSet kReadParameters;    ///< GetItem, and each table of BatchGetItem
extern const ParameterSet kWriteParameters;   ///< PutItem, DeleteItem
extern const ParameterSet kUpdateParameters;  ///< UpdateItem
extern const ParameterSet kQueryParameters;
extern const ParameterSet kScanParameters;

/// "Can not use both expression and non-expression parameters in the same request: ...", and
/// placeholders without expressions. `*has_expressions`: at least one of set.expressions is there.
Outcome CheckParameters(Input input, const ParameterSet& set, bool* has_expressions);

/// Everything of a request that decides about items.
struct Expressions {
  std::optional<expression::Update> update;
  std::optional<expression::Condition> condition;  ///< ConditionExpression or Expected
  std::optional<expression::Condition> filter;     ///< FilterExpression, QueryFilter or ScanFilter
  std::optional<expression::ParsedKeyCondition> key_condition;
  std::optional<expression::Projection> projection;  ///< ProjectionExpression or AttributesToGet
};

/// Placeholders, then the expressions that `set` names, in the service's order, then whether every
/// placeholder was used.
Outcome ParseExpressions(Input input, const ParameterSet& set, Expressions* out);

/// AttributesToGet, when it is there.
Outcome ParseAttributesToGet(Input input, std::optional<expression::Projection>* projection);

/// Expected, QueryFilter or ScanFilter (`parameter`) with ConditionalOperator, when they are there.
Outcome ParseLegacyCondition(Input input, std::string_view parameter,
                             std::optional<expression::Condition>* condition);

/// An Item or Key parameter in stored form; appended to `item`.
Outcome ParseItemParameter(Input input, std::string_view parameter, std::string* item);

/// ExclusiveStartKey, when it is there; `key` stays empty when not.
Outcome ParseStartKey(Input input, std::string* key);

}  // namespace onggi::dynamodb
