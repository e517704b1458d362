#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <unordered_set>
#include <vector>

#include "server/dynamodb/capacity.h"
#include "server/dynamodb/item_operations.h"
#include "server/dynamodb/item_request.h"
#include "server/dynamodb/item_validation.h"
#include "server/dynamodb/item_writer.h"
#include "server/dynamodb/json_writer.h"

/// BatchGetItem.
/// Source: docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
namespace onggi::dynamodb {
namespace {

constexpr size_t kMaxKeys = 100;
/// Items of a response, as billed; keys whose items did not fit go back as UnprocessedKeys.
constexpr size_t kMaxResponseBytes = size_t{16} << 20;
constexpr size_t kYieldBytes = 256 * 1024;
/// Keys read together: their items are held until they are written.
constexpr size_t kReadAtOnce = 32;

struct KeyToGet {
  simdjson::dom::element json;  ///< as the request has it, for UnprocessedKeys
  std::string item_key;         ///< stored form
  std::string key;              ///< as the partition orders it
  bool unprocessed = false;
};

/// The part of the request about one table.
struct TableRequest {
  std::string_view name;
  simdjson::dom::object json;
  bool consistent = false;
  std::optional<expression::Projection> projection;
  std::vector<KeyToGet> keys;
  std::shared_ptr<const Table> table;
  ConsumedCapacity consumed;
};

Outcome ParseKeys(simdjson::dom::array keys, size_t* total, TableRequest* request) {
  std::unordered_set<std::string> seen;
  for (const auto element : keys) {
    simdjson::dom::object object;
    if (element.get(object)) continue;  // the wire schema has refused everything but null
    KeyToGet key;
    key.json = element;
    if (Status status = model::ParseItem(object, &key.item_key); !status.ok()) {
      return FromStatus(status);
    }
    if (!seen.insert(key.item_key).second) {
      return ValidationError("Provided list of item keys contains duplicates");
    }
    if (++*total > kMaxKeys) {
      return ValidationError("Too many items requested for the BatchGetItem call");
    }
    request->keys.push_back(std::move(key));
  }
  return {};
}

Outcome ParseTable(std::string_view name, simdjson::dom::object json, size_t* total,
                   TableRequest* request) {
  const Input input(json);
  request->name = name;
  request->json = json;
  request->consistent = input.BoolOr("ConsistentRead", false);
  bool has_expressions = false;
  Outcome outcome = CheckParameters(input, kReadParameters, &has_expressions);
  if (!outcome.ok()) return outcome;
  if (has_expressions) {
    Expressions expressions;
    outcome = ParseExpressions(input, kReadParameters, &expressions);
    if (!outcome.ok()) return outcome;
    request->projection = std::move(expressions.projection);
  } else {
    outcome = ParseAttributesToGet(input, &request->projection);
    if (!outcome.ok()) return outcome;
  }
  const auto keys = input.Array("Keys");
  return keys ? ParseKeys(*keys, total, request) : Outcome();
}

Outcome CheckAgainstTable(const CallContext& context, TableRequest* request) {
  Outcome outcome = FindTableForData(context, request->name, &request->table);
  if (!outcome.ok()) return outcome;
  const partition::TableSchema& schema = *request->table->schema;
  for (KeyToGet& key : request->keys) {
    KeyValues values;
    outcome = CheckKey(schema, model::ItemView(key.item_key), &values);
    if (!outcome.ok()) return outcome;
    values.EncodeTo(&key.key);
  }
  if (!request->projection) return {};
  return CheckKeyPaths(schema, request->projection->attributes());
}

Outcome Prepare(const CallContext& context, Input input, std::vector<TableRequest>* requests) {
  const auto tables = input.Object("RequestItems");
  if (!tables) return {};
  size_t total = 0;
  for (const auto field : *tables) {
    simdjson::dom::object json;
    if (field.value.get(json)) continue;
    Outcome outcome = ParseTable(field.key, json, &total, &requests->emplace_back());
    if (!outcome.ok()) return outcome;
  }
  for (TableRequest& request : *requests) {
    Outcome outcome = CheckAgainstTable(context, &request);
    if (!outcome.ok()) return outcome;
  }
  return {};
}

/// How far the response is, over all tables.
struct Progress {
  size_t bytes = 0;
  size_t bytes_since_yield = 0;
  size_t answered = 0;  ///< keys that were looked up
  Status last_failure;  ///< of a key that goes back unprocessed
};

/// May a read that failed so be tried again by the client, key by key?
bool IsTransient(const Status& status) {
  switch (status.code()) {
    case Code::kUnavailable:
    case Code::kNotPrimary:
    case Code::kResourceExhausted:
    case Code::kUnknownOutcome:
    case Code::kDeadlineExceeded: return true;
    default: return false;
  }
}

/// Takes what was read of one key and appends its item, when there is one, to `items`.
Status TakeOne(const routing::RoutedRead& read, TableRequest* request, KeyToGet* key,
               ItemWriter* writer, Progress* progress, std::string* items) {
  if (!read.status.ok()) {
    key->unprocessed = true;
    progress->last_failure = read.status;
    return IsTransient(read.status) ? Status::Ok() : read.status;
  }
  const routing::ReadItem& item = read.item;
  const size_t bytes = item.found() ? item.item().BilledSize() : 0;
  if (progress->bytes + bytes > kMaxResponseBytes) {
    key->unprocessed = true;
    ++progress->answered;  // the client goes on from here: the batch as a whole did not fail
    return Status::Ok();
  }
  ++progress->answered;
  progress->bytes += bytes;
  progress->bytes_since_yield += bytes;
  request->consumed.table += ReadHalfUnits(bytes, request->consistent);
  if (!item.found()) return Status::Ok();
  if (items->back() != '[') items->push_back(',');
  writer->Write(item.item(), items);
  return Status::Ok();
}

/// The entry of UnprocessedKeys: what the client sent, with the keys that are left.
void WriteUnprocessed(const TableRequest& request, std::string* body) {
  ObjectWriter entry(body);
  for (const auto field : request.json) {
    std::string* out = entry.Key(field.key);
    if (field.key != "Keys") {
      out->append(simdjson::minify(field.value));
      continue;
    }
    out->push_back('[');
    for (const KeyToGet& key : request.keys) {
      if (!key.unprocessed) continue;
      if (out->back() != '[') out->push_back(',');
      out->append(simdjson::minify(key.json));
    }
    out->push_back(']');
  }
}

class BatchGetItem final : public Operation {
 public:
  explicit BatchGetItem(routing::Router* router) : router_(router) {}

  boost::asio::awaitable<Outcome> Run(CallContext& context, Input input,
                                      std::string* body) override {
    std::vector<TableRequest> requests;
    if (Outcome outcome = Prepare(context, input, &requests); !outcome.ok()) co_return outcome;
    Progress progress;
    ObjectWriter response(body);
    response.Key("Responses")->push_back('{');
    for (TableRequest& request : requests) {
      if (&request != &requests.front()) body->push_back(',');
      model::WriteJsonString(request.name, body);
      body->append(":[");
      Status status = co_await ReadTable(context.deadline, &request, &progress, body);
      if (!status.ok()) co_return FromStatus(status);
      body->push_back(']');
    }
    body->push_back('}');
    if (progress.answered == 0 && !progress.last_failure.ok()) {
      co_return FromStatus(progress.last_failure);
    }
    Finish(input, requests, &response, body);
    co_return Outcome();
  }

 private:
  boost::asio::awaitable<Status> ReadTable(SteadyTime deadline, TableRequest* request,
                                           Progress* progress, std::string* body) {
    ItemWriter writer(request->projection ? &*request->projection : nullptr);
    for (size_t first = 0; first < request->keys.size(); first += kReadAtOnce) {
      const size_t count = std::min(kReadAtOnce, request->keys.size() - first);
      std::vector<routing::RoutedRead> reads(count);
      for (size_t i = 0; i < count; ++i) {
        reads[i].table = request->table->id();
        reads[i].key = request->keys[first + i].key;
        reads[i].consistent = request->consistent;
      }
      co_await Read(reads, deadline);
      for (size_t i = 0; i < count; ++i) {
        Status status =
            TakeOne(reads[i], request, &request->keys[first + i], &writer, progress, body);
        if (!status.ok()) co_return status;
        if (progress->bytes_since_yield < kYieldBytes) continue;
        progress->bytes_since_yield = 0;
        const auto executor = co_await boost::asio::this_coro::executor;
        co_await boost::asio::post(executor, boost::asio::use_awaitable);
      }
    }
    co_return Status::Ok();
  }

  /// Those that this node cannot serve at once go out together.
  boost::asio::awaitable<void> Read(std::vector<routing::RoutedRead>& reads, SteadyTime deadline) {
    std::vector<size_t> places;
    std::vector<routing::RoutedRead> elsewhere;
    for (size_t i = 0; i < reads.size(); ++i) {
      if (router_->TryGet(&reads[i])) continue;
      places.push_back(i);
      elsewhere.push_back(std::move(reads[i]));
    }
    if (elsewhere.empty()) co_return;
    const std::span<routing::RoutedRead> span(elsewhere);
    co_await router_->Get(span, deadline);
    for (size_t i = 0; i < places.size(); ++i) reads[places[i]] = std::move(elsewhere[i]);
  }

  static void Finish(Input input, const std::vector<TableRequest>& requests, ObjectWriter* response,
                     std::string* body) {
    response->Key("UnprocessedKeys")->push_back('{');
    for (const TableRequest& request : requests) {
      const auto left = [](const KeyToGet& key) { return key.unprocessed; };
      if (std::none_of(request.keys.begin(), request.keys.end(), left)) continue;
      if (body->back() != '{') body->push_back(',');
      model::WriteJsonString(request.name, body);
      body->push_back(':');
      WriteUnprocessed(request, body);
    }
    body->push_back('}');
    if (const CapacityDetail detail = CapacityDetailOf(input); detail != CapacityDetail::kNone) {
      WriteArray(requests, response->Key("ConsumedCapacity"),
                 [&](const TableRequest& request, std::string* out) {
                   WriteConsumedCapacity(detail, request.name, *request.table->schema,
                                         request.consumed, -1, out);
                 });
    }
    response->Close();
  }

  routing::Router* const router_;
};

}  // namespace

std::unique_ptr<Operation> MakeBatchGetItem(routing::Router* router) {
  return std::make_unique<BatchGetItem>(router);
}

}  // namespace onggi::dynamodb
