#include "server/dynamodb/page_request.h"

#include <algorithm>

namespace onggi::dynamodb {
namespace {

constexpr char kStartKeyInvalid[] = "The provided starting key is invalid";

/// How messages name a Select value; COUNT has words of its own.
std::string_view SelectText(Select select) {
  switch (select) {
    case Select::kAllAttributes: return "ALL_ATTRIBUTES";
    case Select::kAllProjected: return "ALL_PROJECTED_ATTRIBUTES";
    case Select::kCount: return "only the Count";
    case Select::kSpecific: return "SPECIFIC_ATTRIBUTES";
    case Select::kDefault: break;
  }
  return {};
}

Select SelectOf(std::string_view text) {
  if (text == "ALL_ATTRIBUTES") return Select::kAllAttributes;
  if (text == "ALL_PROJECTED_ATTRIBUTES") return Select::kAllProjected;
  if (text == "COUNT") return Select::kCount;
  return text == "SPECIFIC_ATTRIBUTES" ? Select::kSpecific : Select::kDefault;
}

class PageOperation final : public Operation {
 public:
  PageOperation(routing::Router* router, PreparePage prepare)
      : router_(router), prepare_(prepare) {}

  boost::asio::awaitable<Outcome> Run(CallContext& context, Input input,
                                      std::string* body) override {
    PageParameters parameters;
    PageRequest request;
    Outcome outcome = prepare_(context, input, &parameters, &request);
    if (!outcome.ok()) co_return outcome;
    co_return co_await ReadPage(router_, request, context.deadline, body);
  }

 private:
  routing::Router* const router_;
  const PreparePage prepare_;
};

bool IsProjected(const partition::LocalIndex& index, std::string_view name) {
  return index.projection == partition::ProjectionType::kAll ||
         std::binary_search(index.projected.begin(), index.projected.end(), name);
}

/// Must the items be read because the index's entries lack what is asked for?
bool NeedsItems(const partition::LocalIndex& index, Select select,
                const expression::Projection* projection) {
  if (index.projection == partition::ProjectionType::kAll) return false;
  if (select == Select::kAllAttributes) return true;
  if (projection == nullptr) return false;
  for (const auto& use : projection->attributes()) {
    if (!IsProjected(index, use.name)) return true;
  }
  return false;
}

/// The table's own key within a start key, with the prefix that the service gives to its errors.
Outcome CheckTableKeyOfStart(const partition::TableSchema& schema, const model::ItemView& key) {
  Outcome outcome = CheckKeyValue(schema.partition_key, key.Find(schema.partition_key.name), true);
  if (outcome.ok() && schema.sort_key) {
    outcome = CheckKeyValue(*schema.sort_key, key.Find(schema.sort_key->name), false);
  }
  if (!outcome.ok()) {
    outcome.error().message = std::string(kStartKeyInvalid) + ": " + outcome.error().message;
  }
  return outcome;
}

}  // namespace

Outcome ParseSelect(Input input, Select* select) {
  *select = SelectOf(input.StringOr("Select", {}));
  if (*select == Select::kDefault) return {};
  const bool expression = input.Has("ProjectionExpression");
  const bool attributes = input.Has("AttributesToGet");
  if (*select == Select::kSpecific) {
    if (expression || attributes) return {};
    return ValidationError(
        "Must specify the AttributesToGet or ProjectionExpression when choosing to get "
        "SPECIFIC_ATTRIBUTES");
  }
  if (expression || attributes) {
    std::string message = "Cannot specify the ";
    message.append(expression ? "ProjectionExpression" : "AttributesToGet");
    message.append(" when choosing to get ").append(SelectText(*select));
    return ValidationError(std::move(message));
  }
  if (*select == Select::kAllProjected && !input.Has("IndexName")) {
    return ValidationError(
        "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName");
  }
  return {};
}

Outcome ResolvePage(const CallContext& context, Input input, const PageParameters& parameters,
                    PageRequest* request) {
  request->table_name = input.StringOr("TableName", {});
  Outcome outcome = FindTableForData(context, request->table_name, &request->table);
  if (!outcome.ok()) return outcome;
  const partition::TableSchema& schema = *request->table->schema;
  if (const auto name = input.String("IndexName")) {
    outcome = FindLocalIndex(schema, *name, &request->index);
    if (!outcome.ok()) return outcome;
  }
  const Expressions& expressions = parameters.expressions;
  request->consistent = input.BoolOr("ConsistentRead", false);
  request->limit = static_cast<size_t>(input.Int("Limit").value_or(0));
  request->filter = expressions.filter ? &*expressions.filter : nullptr;
  request->projection = expressions.projection ? &*expressions.projection : nullptr;
  request->count_only = parameters.select == Select::kCount;
  request->detail = CapacityDetailOf(input);
  if (request->index >= 0) {
    request->fetch_items = NeedsItems(schema.local_indexes[static_cast<size_t>(request->index)],
                                      parameters.select, request->projection);
  }
  return {};
}

Outcome CheckStartKey(const PageRequest& request, const std::string& start_key,
                      std::string_view count_message) {
  if (start_key.empty()) return {};
  const partition::TableSchema& schema = *request.table->schema;
  const model::ItemView key(start_key);
  size_t expected = schema.sort_key ? 2 : 1;
  const partition::LocalIndex* index =
      request.index < 0 ? nullptr : &schema.local_indexes[static_cast<size_t>(request.index)];
  if (index != nullptr && (!schema.sort_key || index->sort_key.name != schema.sort_key->name)) {
    ++expected;
  }
  if (key.attributes().size() != expected) return ValidationError(std::string(count_message));
  if (index != nullptr) {
    const std::pair<const partition::KeyAttribute*, bool> keys[] = {{&schema.partition_key, true},
                                                                    {&index->sort_key, false}};
    for (const auto& [attribute, is_partition_key] : keys) {
      const model::ValueView value = key.Find(attribute->name);
      if (!value.valid()) return ValidationError(kStartKeyInvalid);
      Outcome outcome = CheckKeyValue(*attribute, value, is_partition_key);
      if (!outcome.ok()) return outcome;
    }
  }
  return CheckTableKeyOfStart(schema, key);
}

Outcome CheckPagePaths(const PageRequest& request) {
  const partition::TableSchema& schema = *request.table->schema;
  if (request.projection != nullptr) {
    Outcome outcome = CheckKeyPaths(schema, request.projection->attributes());
    if (!outcome.ok()) return outcome;
  }
  if (request.filter == nullptr) return {};
  return CheckKeyPaths(schema, request.filter->attributes());
}

std::unique_ptr<Operation> MakePageOperation(routing::Router* router, PreparePage prepare) {
  return std::make_unique<PageOperation>(router, prepare);
}

}  // namespace onggi::dynamodb
