#include <algorithm>
#include <optional>

#include "server/dynamodb/item_operations.h"
#include "server/dynamodb/page_request.h"

/// Query.
/// Source: docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html
namespace onggi::dynamodb {
namespace {

using expression::KeyCondition;
using expression::KeyOperator;
using partition::KeyAttribute;
using partition::TableSchema;

/// What can be said of the request without its table.
Outcome ParseRequest(Input input, PageParameters* parameters) {
  bool has_expressions = false;
  Expressions& expressions = parameters->expressions;
  Outcome outcome = CheckParameters(input, kQueryParameters, &has_expressions);
  if (!outcome.ok()) return outcome;
  if (!has_expressions) {
    outcome = ParseLegacyCondition(input, "QueryFilter", &expressions.filter);
    if (!outcome.ok()) return outcome;
    outcome = ParseAttributesToGet(input, &expressions.projection);
    if (!outcome.ok()) return outcome;
  }
  outcome = ParseStartKey(input, &parameters->start_key);
  if (!outcome.ok()) return outcome;
  const auto key_conditions = input.Object("KeyConditions");
  if (!key_conditions && !input.Has("KeyConditionExpression")) {
    return ValidationError(
        "Either the KeyConditions or KeyConditionExpression parameter must be specified in the "
        "request.");
  }
  if (has_expressions) {
    outcome = ParseExpressions(input, kQueryParameters, &expressions);
    if (!outcome.ok()) return outcome;
  }
  if (key_conditions && !expressions.key_condition) {
    auto parsed = expression::KeyConditionFromKeyConditions(*key_conditions);
    if (!parsed.ok()) return FromStatus(parsed.status());
    if (key_conditions->size() < 1 || key_conditions->size() > 2) {
      return ValidationError("Conditions can be of length 1 or 2 only");
    }
    expressions.key_condition.emplace(std::move(parsed).value());
  }
  return ParseSelect(input, &parameters->select);
}

/// The sort key that the query runs along: the index's or the table's; null where there is none.
const KeyAttribute* SortKeyOf(const PageRequest& request) {
  const TableSchema& schema = *request.table->schema;
  if (request.index >= 0) return &schema.local_indexes[static_cast<size_t>(request.index)].sort_key;
  return schema.sort_key ? &*schema.sort_key : nullptr;
}

Outcome BindKeyCondition(const PageRequest& request, const PageParameters& parameters,
                         KeyCondition* condition) {
  const TableSchema& schema = *request.table->schema;
  const KeyAttribute* sort_key = SortKeyOf(request);
  expression::KeySchema keys(schema.partition_key.name, schema.partition_key.type);
  if (sort_key != nullptr) {
    keys.range_name = sort_key->name;
    keys.range_type = sort_key->type;
  }
  auto bound = parameters.expressions.key_condition->Bind(keys);
  if (!bound.ok()) return FromStatus(bound.status());
  *condition = std::move(bound).value();
  Outcome outcome =
      CheckKeyValue(schema.partition_key, model::ValueView(condition->hash_value), true);
  if (!outcome.ok() || condition->range_operator == KeyOperator::kNone) return outcome;
  outcome = CheckKeyValue(*sort_key, model::ValueView(condition->range_value), false);
  if (!outcome.ok() || condition->range_operator != KeyOperator::kBetween) return outcome;
  return CheckKeyValue(*sort_key, model::ValueView(condition->range_upper), false);
}

/// The start key must be one that this query could have answered with.
Outcome CheckStartWithinQuery(const PageRequest& request, const KeyCondition& condition,
                              const std::string& start_key) {
  if (start_key.empty()) return {};
  const model::ItemView key(start_key);
  const bool same_collection =
      key.Find(request.table->schema->partition_key.name) == model::ValueView(condition.hash_value);
  if (condition.range_operator == KeyOperator::kNone) {
    if (same_collection) return {};
    return ValidationError(
        "The provided starting key is outside query boundaries based on provided conditions");
  }
  if (!SatisfiesSortCondition(condition, key.Find(SortKeyOf(request)->name))) {
    return ValidationError("The provided starting key does not match the range key predicate");
  }
  if (same_collection) return {};
  return ValidationError("The query can return at most one row and cannot be restarted");
}

Outcome CheckFilter(const PageRequest& request, bool legacy) {
  if (request.filter == nullptr) return {};
  const TableSchema& schema = *request.table->schema;
  const auto uses = request.filter->attributes();
  const KeyAttribute* sort_key = SortKeyOf(request);
  for (const KeyAttribute* attribute : {&schema.partition_key, sort_key}) {
    if (attribute == nullptr) continue;
    for (const auto& use : uses) {
      if (use.name != attribute->name) continue;
      std::string message = legacy ? "QueryFilter" : "Filter Expression";
      message.append(" can only contain non-primary key attributes: Primary key attribute: ");
      return ValidationError(message.append(attribute->name));
    }
  }
  if (request.index < 0) return {};
  const auto& index = schema.local_indexes[static_cast<size_t>(request.index)];
  if (index.projection == partition::ProjectionType::kAll) return {};
  std::string absent;
  for (const auto& use : uses) {
    if (std::binary_search(index.projected.begin(), index.projected.end(), use.name)) continue;
    if (!absent.empty()) absent.append(", ");
    absent.append(use.name);
  }
  if (absent.empty()) return {};
  return ValidationError("One or more parameter values were invalid: Secondary index " +
                         index.name + " does not project one or more filter attributes: [" +
                         absent + "]");
}

Outcome Prepare(const CallContext& context, Input input, PageParameters* parameters,
                PageRequest* request) {
  Outcome outcome = ParseRequest(input, parameters);
  if (!outcome.ok()) return outcome;
  outcome = ResolvePage(context, input, *parameters, request);
  if (!outcome.ok()) return outcome;
  outcome = CheckStartKey(*request, parameters->start_key, "The provided starting key is invalid");
  if (!outcome.ok()) return outcome;
  KeyCondition condition;
  outcome = BindKeyCondition(*request, *parameters, &condition);
  if (!outcome.ok()) return outcome;
  outcome = CheckStartWithinQuery(*request, condition, parameters->start_key);
  if (!outcome.ok()) return outcome;
  outcome = CheckPagePaths(*request);
  if (!outcome.ok()) return outcome;
  outcome = CheckFilter(*request, input.Has("QueryFilter"));
  if (!outcome.ok()) return outcome;

  request->reverse = !input.BoolOr("ScanIndexForward", true);
  request->range = RangeOfQuery(request->index >= 0, condition);
  if (!parameters->start_key.empty()) {
    const model::ItemView start(parameters->start_key);
    request->range.ContinueAfter(PositionOf(*request->table->schema, request->index, start),
                                 request->reverse);
  }
  return {};
}

}  // namespace

std::unique_ptr<Operation> MakeQuery(routing::Router* router) {
  return MakePageOperation(router, Prepare);
}

}  // namespace onggi::dynamodb
