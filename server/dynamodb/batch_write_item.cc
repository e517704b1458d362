#include <algorithm>
#include <span>
#include <unordered_set>
#include <vector>

#include "server/dynamodb/capacity.h"
#include "server/dynamodb/item_operations.h"
#include "server/dynamodb/item_request.h"
#include "server/dynamodb/item_validation.h"
#include "server/dynamodb/json_writer.h"

/// BatchWriteItem.
/// Source: docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
namespace onggi::dynamodb {
namespace {

using Kind = partition::WriteRequest::Kind;

constexpr size_t kMaxWrites = 25;

struct Write {
  simdjson::dom::element json;  ///< as the request has it, for UnprocessedItems
  Kind kind = Kind::kPut;
  std::string item;  ///< item or key in stored form
  std::string key;   ///< as the partition orders it
};

/// The part of the request about one table.
struct TableRequest {
  std::string_view name;
  std::vector<Write> writes;
  std::shared_ptr<const Table> table;
  size_t first_write = 0;
};

Outcome ParseWrite(simdjson::dom::element json, Write* write) {
  simdjson::dom::object object;
  if (json.get(object)) return {};
  const Input input(object);
  const auto put = input.Structure("PutRequest");
  const auto remove = input.Structure("DeleteRequest");
  if (put.has_value() == remove.has_value()) {
    return ValidationError(
        "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the "
        "supported datatypes");
  }
  write->json = json;
  write->kind = put ? Kind::kPut : Kind::kDelete;
  Outcome outcome = put ? ParseItemParameter(*put, "Item", &write->item)
                        : ParseItemParameter(*remove, "Key", &write->item);
  if (!outcome.ok() || !put) return outcome;
  if (model::ItemView(write->item).BilledSize() > partition::kMaxItemBytes) {
    return ValidationError("Item size has exceeded the maximum allowed size");
  }
  return {};
}

Outcome ParseRequest(Input input, std::vector<TableRequest>* requests) {
  const auto tables = input.Object("RequestItems");
  if (!tables) return {};
  size_t total = 0;
  for (const auto field : *tables) {
    simdjson::dom::array list;
    if (!field.value.get(list)) total += list.size();
  }
  if (total > kMaxWrites) {
    return ValidationError("Too many items requested for the BatchWriteItem call");
  }
  for (const auto field : *tables) {
    simdjson::dom::array list;
    if (field.value.get(list)) continue;
    TableRequest& request = requests->emplace_back();
    request.name = field.key;
    request.writes.reserve(list.size());
    for (const auto element : list) {
      Outcome outcome = ParseWrite(element, &request.writes.emplace_back());
      if (!outcome.ok()) return outcome;
    }
  }
  return {};
}

/// The service words an item's missing or mistyped key differently in a batch.
Outcome CheckBatchItem(const partition::TableSchema& schema, const model::ItemView& item,
                       KeyValues* values) {
  Outcome outcome = CheckItem(schema, item, values);
  if (outcome.ok()) return outcome;
  const std::string& message = outcome.error().message;
  if (message.find("Missing the key") != std::string::npos ||
      message.find("Type mismatch for key") != std::string::npos) {
    return ValidationError("The provided key element does not match the schema");
  }
  return outcome;
}

Outcome CheckAgainstTable(const CallContext& context, TableRequest* request) {
  Outcome outcome = FindTableForData(context, request->name, &request->table);
  if (!outcome.ok()) return outcome;
  const partition::TableSchema& schema = *request->table->schema;
  std::unordered_set<std::string_view> seen;
  for (Write& write : request->writes) {
    const model::ItemView item(write.item);
    KeyValues values;
    outcome = write.kind == Kind::kPut ? CheckBatchItem(schema, item, &values)
                                       : CheckKey(schema, item, &values);
    if (!outcome.ok()) return outcome;
    values.EncodeTo(&write.key);
    if (!seen.insert(write.key).second) {
      return ValidationError("Provided list of item keys contains duplicates");
    }
  }
  return {};
}

/// May the client send this write again as it is? True for what certainly did not happen.
bool IsUnprocessed(const Status& status) {
  switch (status.code()) {
    case Code::kUnavailable:
    case Code::kNotPrimary: return true;
    case Code::kResourceExhausted:
      return FromStatus(status).type != ErrorType::kItemCollectionSizeLimitExceeded;
    default: return false;
  }
}

/// What the whole batch answers: an error when a write failed for good, or when none was done.
Outcome OutcomeOf(std::span<const routing::RoutedWrite> writes) {
  size_t unprocessed = 0;
  for (const routing::RoutedWrite& write : writes) {
    if (write.outcome.status.ok()) continue;
    if (!IsUnprocessed(write.outcome.status)) return FromStatus(write.outcome.status);
    ++unprocessed;
  }
  if (!writes.empty() && unprocessed == writes.size()) {
    return FromStatus(writes.front().outcome.status);
  }
  return {};
}

void WriteUnprocessed(const std::vector<TableRequest>& requests,
                      std::span<const routing::RoutedWrite> writes, std::string* body) {
  body->push_back('{');
  for (const TableRequest& request : requests) {
    bool first = true;
    for (size_t i = 0; i < request.writes.size(); ++i) {
      if (writes[request.first_write + i].outcome.status.ok()) continue;
      if (first) {
        if (body->back() != '{') body->push_back(',');
        model::WriteJsonString(request.name, body);
        body->append(":[");
      } else {
        body->push_back(',');
      }
      first = false;
      body->append(simdjson::minify(request.writes[i].json));
    }
    if (!first) body->push_back(']');
  }
  body->push_back('}');
}

void WriteCollectionMetrics(const std::vector<TableRequest>& requests,
                            std::span<const routing::RoutedWrite> writes, std::string* body) {
  body->push_back('{');
  for (const TableRequest& request : requests) {
    const partition::TableSchema& schema = *request.table->schema;
    if (schema.local_indexes.empty()) continue;
    if (body->back() != '{') body->push_back(',');
    model::WriteJsonString(request.name, body);
    body->append(":[");
    // One entry for each collection, with its size after the last of its writes.
    std::unordered_set<std::string_view> seen;
    for (size_t i = request.writes.size(); i-- > 0;) {
      const partition::WriteOutcome& outcome = writes[request.first_write + i].outcome;
      const model::ItemView item(request.writes[i].item);
      if (!outcome.status.ok() ||
          !seen.insert(item.Find(schema.partition_key.name).encoded()).second) {
        continue;
      }
      if (body->back() != '[') body->push_back(',');
      WriteItemCollectionMetrics(schema, item, outcome.collection_bytes, body);
    }
    body->push_back(']');
  }
  body->push_back('}');
}

void Answer(Input input, const std::vector<TableRequest>& requests,
            std::span<const routing::RoutedWrite> writes, std::string* body) {
  ObjectWriter response(body);
  WriteUnprocessed(requests, writes, response.Key("UnprocessedItems"));
  if (input.StringOr("ReturnItemCollectionMetrics", "NONE") == "SIZE") {
    WriteCollectionMetrics(requests, writes, response.Key("ItemCollectionMetrics"));
  }
  const CapacityDetail detail = CapacityDetailOf(input);
  if (detail == CapacityDetail::kNone) return;
  WriteArray(requests, response.Key("ConsumedCapacity"),
             [&](const TableRequest& request, std::string* out) {
               ConsumedCapacity consumed;
               for (size_t i = 0; i < request.writes.size(); ++i) {
                 const auto& outcome = writes[request.first_write + i].outcome;
                 if (outcome.status.ok()) consumed.AddWrite(outcome);
               }
               WriteConsumedCapacity(detail, request.name, *request.table->schema, consumed, -1,
                                     out);
             });
}

class BatchWriteItem final : public Operation {
 public:
  explicit BatchWriteItem(routing::Router* router) : router_(router) {}

  boost::asio::awaitable<Outcome> Run(CallContext& context, Input input,
                                      std::string* body) override {
    std::vector<TableRequest> requests;
    if (Outcome outcome = Prepare(context, input, &requests); !outcome.ok()) co_return outcome;
    size_t count = 0;
    for (TableRequest& request : requests) {
      request.first_write = count;
      count += request.writes.size();
    }
    std::vector<routing::RoutedWrite> writes(count);
    for (TableRequest& request : requests) {
      for (size_t i = 0; i < request.writes.size(); ++i) {
        const Write& write = request.writes[i];
        routing::RoutedWrite& routed = writes[request.first_write + i];
        routed.table = request.table->id();
        routed.request.kind = write.kind;
        routed.request.key = write.key;
        routed.request.item = model::ItemView(write.item);
      }
    }
    const std::span<routing::RoutedWrite> span(writes);
    co_await router_->Write(span, context.deadline);
    if (Outcome outcome = OutcomeOf(span); !outcome.ok()) co_return outcome;
    Answer(input, requests, span, body);
    co_return Outcome();
  }

 private:
  static Outcome Prepare(const CallContext& context, Input input,
                         std::vector<TableRequest>* requests) {
    Outcome outcome = ParseRequest(input, requests);
    for (size_t i = 0; outcome.ok() && i < requests->size(); ++i) {
      outcome = CheckAgainstTable(context, &(*requests)[i]);
    }
    return outcome;
  }

  routing::Router* const router_;
};

}  // namespace

std::unique_ptr<Operation> MakeBatchWriteItem(routing::Router* router) {
  return std::make_unique<BatchWriteItem>(router);
}

}  // namespace onggi::dynamodb
