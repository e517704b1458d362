#include <optional>

#include "server/dynamodb/capacity.h"
#include "server/dynamodb/item_operations.h"
#include "server/dynamodb/item_request.h"
#include "server/dynamodb/item_validation.h"
#include "server/dynamodb/item_writer.h"
#include "server/dynamodb/json_writer.h"

/// PutItem, UpdateItem and DeleteItem.
/// Sources: docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_PutItem.html,
/// API_UpdateItem.html and API_DeleteItem.html
namespace onggi::dynamodb {
namespace {

using Kind = partition::WriteRequest::Kind;

/// Bytes for an item in stored form before it has to grow: most are smaller.
constexpr size_t kItemReserve = 384;

enum class ReturnValues : uint8_t { kNone, kAllOld, kAllNew, kUpdatedOld, kUpdatedNew };

ReturnValues ReturnValuesOf(Input input) {
  const auto text = input.String("ReturnValues");
  if (!text || *text == "NONE") return ReturnValues::kNone;
  if (*text == "ALL_OLD") return ReturnValues::kAllOld;
  if (*text == "ALL_NEW") return ReturnValues::kAllNew;
  return *text == "UPDATED_OLD" ? ReturnValues::kUpdatedOld : ReturnValues::kUpdatedNew;
}

/// One write, from its input to its answer.
struct WriteCall {
  std::string_view table_name;
  std::string item;  ///< Item, or Key, in stored form
  std::string key;   ///< as the partition orders it
  Expressions expressions;
  ReturnValues return_values = ReturnValues::kNone;
  bool item_on_failure = false;     ///< ReturnValuesOnConditionCheckFailure: ALL_OLD
  bool collection_metrics = false;  ///< ReturnItemCollectionMetrics: SIZE
  CapacityDetail detail = CapacityDetail::kNone;
  std::shared_ptr<const Table> table;
};

Outcome CheckReturnValues(Kind kind, ReturnValues values) {
  if (kind == Kind::kUpdate || values == ReturnValues::kNone || values == ReturnValues::kAllOld) {
    return {};
  }
  return ValidationError("ReturnValues can only be ALL_OLD or NONE");
}

Outcome ParseAttributeUpdates(Input input, std::optional<expression::Update>* update) {
  const auto updates = input.Object("AttributeUpdates");
  if (!updates || updates->size() == 0) return {};
  auto parsed = expression::UpdateFromAttributeUpdates(*updates);
  if (!parsed.ok()) return FromStatus(parsed.status());
  update->emplace(std::move(parsed).value());
  return {};
}

/// What can be said of the request without its table.
Outcome ParseRequest(Kind kind, Input input, WriteCall* call) {
  const ParameterSet& set = kind == Kind::kUpdate ? kUpdateParameters : kWriteParameters;
  bool has_expressions = false;
  if (Outcome outcome = CheckParameters(input, set, &has_expressions); !outcome.ok()) {
    return outcome;
  }
  call->item.reserve(kItemReserve);
  Outcome outcome = ParseItemParameter(input, kind == Kind::kPut ? "Item" : "Key", &call->item);
  if (!outcome.ok()) return outcome;

  call->return_values = ReturnValuesOf(input);
  outcome = CheckReturnValues(kind, call->return_values);
  if (!outcome.ok()) return outcome;
  if (kind == Kind::kPut && model::ItemView(call->item).BilledSize() > partition::kMaxItemBytes) {
    return ValidationError("Item size has exceeded the maximum allowed size");
  }
  if (has_expressions) {
    outcome = ParseExpressions(input, set, &call->expressions);
    if (!outcome.ok()) return outcome;
  } else {
    if (kind == Kind::kUpdate) {
      outcome = ParseAttributeUpdates(input, &call->expressions.update);
      if (!outcome.ok()) return outcome;
    }
    outcome = ParseLegacyCondition(input, "Expected", &call->expressions.condition);
    if (!outcome.ok()) return outcome;
  }
  call->table_name = input.StringOr("TableName", {});
  call->item_on_failure =
      input.StringOr("ReturnValuesOnConditionCheckFailure", "NONE") == "ALL_OLD";
  call->collection_metrics = input.StringOr("ReturnItemCollectionMetrics", "NONE") == "SIZE";
  call->detail = CapacityDetailOf(input);
  return {};
}

/// What the table's schema says to it.
Outcome CheckAgainstTable(Kind kind, WriteCall* call) {
  const partition::TableSchema& schema = *call->table->schema;
  const model::ItemView item(call->item);
  KeyValues values;
  Outcome outcome =
      kind == Kind::kPut ? CheckItem(schema, item, &values) : CheckKey(schema, item, &values);
  if (!outcome.ok()) return outcome;
  values.EncodeTo(&call->key);
  if (const auto& update = call->expressions.update) {
    outcome = CheckUpdateTargets(schema, *update);
    if (!outcome.ok()) return outcome;
    outcome = CheckKeyPaths(schema, update->attributes());
    if (!outcome.ok()) return outcome;
  }
  if (const auto& condition = call->expressions.condition) {
    outcome = CheckKeyPaths(schema, condition->attributes());
  }
  return outcome;
}

Outcome Prepare(Kind kind, const CallContext& context, Input input, WriteCall* call) {
  if (Outcome outcome = ParseRequest(kind, input, call); !outcome.ok()) return outcome;
  if (Outcome outcome = FindTableForData(context, call->table_name, &call->table); !outcome.ok()) {
    return outcome;
  }
  return CheckAgainstTable(kind, call);
}

void FillRequest(Kind kind, const WriteCall& call, partition::WriteRequest* request) {
  request->kind = kind;
  request->key = call.key;
  request->item = model::ItemView(call.item);
  request->condition = call.expressions.condition ? &*call.expressions.condition : nullptr;
  request->update = call.expressions.update ? &*call.expressions.update : nullptr;
  request->want_old = call.return_values == ReturnValues::kAllOld ||
                      (call.item_on_failure && request->condition != nullptr);
  request->want_new = call.return_values == ReturnValues::kAllNew;
  request->want_updated = call.return_values == ReturnValues::kUpdatedOld ||
                          call.return_values == ReturnValues::kUpdatedNew;
}

/// The item that ReturnValues asks for; empty: none.
const std::string& ReturnedItem(ReturnValues values, const partition::WriteOutcome& outcome) {
  static const std::string kNone;
  switch (values) {
    case ReturnValues::kNone: return kNone;
    case ReturnValues::kAllOld: return outcome.old_item;
    case ReturnValues::kAllNew: return outcome.new_item;
    case ReturnValues::kUpdatedOld: return outcome.updated_old;
    case ReturnValues::kUpdatedNew: return outcome.updated_new;
  }
  return kNone;
}

Outcome Failure(const WriteCall& call, const partition::WriteOutcome& outcome) {
  ApiError error = FromStatus(outcome.status);
  if (outcome.status.code() == Code::kConditionFailed && call.item_on_failure &&
      !outcome.old_item.empty()) {
    error.extra = "\"Item\":";
    model::WriteItem(model::ItemView(outcome.old_item), &error.extra);
  }
  return error;
}

Outcome Answer(Kind kind, const WriteCall& call, const partition::WriteOutcome& outcome,
               std::string* body) {
  if (!outcome.status.ok()) return Failure(call, outcome);
  const partition::TableSchema& schema = *call.table->schema;
  ObjectWriter response(body);
  if (const std::string& returned = ReturnedItem(call.return_values, outcome); !returned.empty()) {
    const model::ItemView item(returned);
    // Updated attributes may be none; whole items never are.
    if (item.attributes().size() > 0) {
      response.Key("Attributes");
      model::WriteItem(item, body);
    }
  }
  if (call.detail != CapacityDetail::kNone) {
    ConsumedCapacity consumed;
    consumed.AddWrite(outcome);
    response.Key("ConsumedCapacity");
    WriteConsumedCapacity(call.detail, call.table_name, schema, consumed, -1, body);
  }
  const bool touched = kind != Kind::kDelete || outcome.existed;
  if (call.collection_metrics && touched && !schema.local_indexes.empty()) {
    response.Key("ItemCollectionMetrics");
    WriteItemCollectionMetrics(schema, model::ItemView(call.item), outcome.collection_bytes, body);
  }
  response.Close();
  return {};
}

class WriteItem final : public Operation {
 public:
  WriteItem(Kind kind, routing::Router* router) : kind_(kind), router_(router) {}

  boost::asio::awaitable<Outcome> Run(CallContext& context, Input input,
                                      std::string* body) override {
    WriteCall call;
    if (Outcome outcome = Prepare(kind_, context, input, &call); !outcome.ok()) co_return outcome;
    routing::RoutedWrite write;
    write.table = call.table->id();
    FillRequest(kind_, call, &write.request);
    write.request.id = context.write_id;
    const std::span<routing::RoutedWrite> writes(&write, 1);
    co_await router_->Write(writes, context.deadline);
    co_return Answer(kind_, call, write.outcome, body);
  }

 private:
  const Kind kind_;
  routing::Router* const router_;
};

}  // namespace

std::unique_ptr<Operation> MakePutItem(routing::Router* router) {
  return std::make_unique<WriteItem>(Kind::kPut, router);
}

std::unique_ptr<Operation> MakeUpdateItem(routing::Router* router) {
  return std::make_unique<WriteItem>(Kind::kUpdate, router);
}

std::unique_ptr<Operation> MakeDeleteItem(routing::Router* router) {
  return std::make_unique<WriteItem>(Kind::kDelete, router);
}

}  // namespace onggi::dynamodb
