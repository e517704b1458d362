#include <optional>

#include "server/dynamodb/capacity.h"
#include "server/dynamodb/item_operations.h"
#include "server/dynamodb/item_request.h"
#include "server/dynamodb/item_validation.h"
#include "server/dynamodb/item_writer.h"
#include "server/dynamodb/json_writer.h"

/// GetItem.
/// Source: docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetItem.html
namespace onggi::dynamodb {
namespace {

/// One GetItem, from its input to its answer. Reused by a thread on the fast path, for its buffers.
struct GetItemCall {
  std::string_view table_name;
  std::string item_key;  ///< Key in stored form
  std::string key;       ///< as the partition orders it
  bool consistent = false;
  CapacityDetail detail = CapacityDetail::kNone;
  std::optional<expression::Projection> projection;
  std::shared_ptr<const Table> table;

  void Clear() {
    item_key.clear();
    key.clear();
    projection.reset();
    table.reset();
  }
};

Outcome Prepare(const CallContext& context, Input input, GetItemCall* call) {
  bool has_expressions = false;
  if (Outcome outcome = CheckParameters(input, kReadParameters, &has_expressions); !outcome.ok()) {
    return outcome;
  }
  if (Outcome outcome = ParseItemParameter(input, "Key", &call->item_key); !outcome.ok()) {
    return outcome;
  }
  if (has_expressions) {
    Expressions expressions;
    if (Outcome outcome = ParseExpressions(input, kReadParameters, &expressions); !outcome.ok()) {
      return outcome;
    }
    call->projection = std::move(expressions.projection);
  } else if (Outcome outcome = ParseAttributesToGet(input, &call->projection); !outcome.ok()) {
    return outcome;
  }
  call->table_name = input.StringOr("TableName", {});
  call->consistent = input.BoolOr("ConsistentRead", false);
  call->detail = CapacityDetailOf(input);

  if (Outcome outcome = FindTableForData(context, call->table_name, &call->table); !outcome.ok()) {
    return outcome;
  }
  const partition::TableSchema& schema = *call->table->schema;
  KeyValues values;
  if (Outcome outcome = CheckKey(schema, model::ItemView(call->item_key), &values); !outcome.ok()) {
    return outcome;
  }
  values.EncodeTo(&call->key);
  if (!call->projection) return {};
  return CheckKeyPaths(schema, call->projection->attributes());
}

Outcome Answer(const GetItemCall& call, const routing::RoutedRead& read, std::string* body) {
  if (!read.status.ok()) return FromStatus(read.status);
  const routing::ReadItem& item = read.item;
  ObjectWriter response(body);
  if (item.found()) {
    response.Key("Item");
    ItemWriter(call.projection ? &*call.projection : nullptr).Write(item.item(), body);
  }
  if (call.detail != CapacityDetail::kNone) {
    ConsumedCapacity consumed;
    consumed.table = ReadHalfUnits(item.found() ? item.item().BilledSize() : 0, call.consistent);
    response.Key("ConsumedCapacity");
    WriteConsumedCapacity(call.detail, call.table_name, *call.table->schema, consumed, -1, body);
  }
  response.Close();
  return {};
}

routing::RoutedRead ReadOf(const GetItemCall& call) {
  routing::RoutedRead read;
  read.table = call.table->id();
  read.key = call.key;
  read.consistent = call.consistent;
  return read;
}

class GetItem final : public Operation {
 public:
  explicit GetItem(routing::Router* router) : router_(router) {}

  bool HasFastPath() const override { return true; }

  std::optional<Outcome> TryRun(CallContext& context, Input input, std::string* body) override {
    thread_local GetItemCall call;
    call.Clear();
    Outcome outcome = Prepare(context, input, &call);
    if (outcome.ok()) {
      routing::RoutedRead read = ReadOf(call);
      if (!router_->TryGet(&read)) return std::nullopt;
      outcome = Answer(call, read, body);
    }
    call.table.reset();  // not kept alive by an idle thread
    return outcome;
  }

  boost::asio::awaitable<Outcome> Run(CallContext& context, Input input,
                                      std::string* body) override {
    GetItemCall call;
    if (Outcome outcome = Prepare(context, input, &call); !outcome.ok()) co_return outcome;
    routing::RoutedRead read = ReadOf(call);
    const std::span<routing::RoutedRead> reads(&read, 1);
    co_await router_->Get(reads, context.deadline);
    co_return Answer(call, read, body);
  }

 private:
  routing::Router* const router_;
};

}  // namespace

std::unique_ptr<Operation> MakeGetItem(routing::Router* router) {
  return std::make_unique<GetItem>(router);
}

}  // namespace onggi::dynamodb
