#include "server/dynamodb/page_reader.h"

#include <vector>

#include "server/dynamodb/item_writer.h"
#include "server/dynamodb/json_writer.h"

namespace onggi::dynamodb {
namespace {

/// Turns the entries of a page into a response.
class Page final : public routing::PageSink {
 public:
  Page(const PageRequest& request, std::string* body)
      : request_(request),
        schema_(*request.table->schema),
        body_(body),
        response_(body),
        writer_(request.projection) {
    if (request.count_only) return;
    response_.Key("Items");
    body_->push_back('[');
  }

  void Take(const model::ItemView& item) override {
    if (body_->back() != '[') body_->push_back(',');
    writer_.Write(item, body_);
  }

  void Finish(const routing::PageFigures& figures);

 private:
  void WriteLastKey(const model::ItemView& entry);

  const PageRequest& request_;
  const partition::TableSchema& schema_;
  std::string* const body_;
  ObjectWriter response_;
  ItemWriter writer_;
};

void Page::WriteLastKey(const model::ItemView& entry) {
  std::string* out = response_.Key("LastEvaluatedKey");
  const auto write = [&](const std::string& name) {
    model::WriteJsonString(name, out);
    out->push_back(':');
    model::WriteValue(entry.Find(name), out);
  };
  out->push_back('{');
  write(schema_.partition_key.name);
  if (schema_.sort_key) {
    out->push_back(',');
    write(schema_.sort_key->name);
  }
  if (request_.index >= 0) {
    const std::string& name =
        schema_.local_indexes[static_cast<size_t>(request_.index)].sort_key.name;
    // An index may be sorted by the table's own sort key.
    if (!schema_.sort_key || name != schema_.sort_key->name) {
      out->push_back(',');
      write(name);
    }
  }
  out->push_back('}');
}

void Page::Finish(const routing::PageFigures& figures) {
  if (!request_.count_only) body_->push_back(']');
  response_.Int("Count", static_cast<int64_t>(figures.matched));
  response_.Int("ScannedCount", static_cast<int64_t>(figures.scanned));
  if (figures.full()) WriteLastKey(model::ItemView(figures.last_entry));
  if (request_.detail != CapacityDetail::kNone) {
    ConsumedCapacity consumed;
    const HalfUnits units = ReadHalfUnits(figures.read_bytes, request_.consistent);
    if (request_.index >= 0) {
      consumed.table = figures.fetched_steps * (request_.consistent ? 2 : 1);
      consumed.AddIndex(static_cast<size_t>(request_.index), units);
    } else {
      consumed.table = units;
    }
    response_.Key("ConsumedCapacity");
    WriteConsumedCapacity(request_.detail, request_.table_name, schema_, consumed, request_.index,
                          body_);
  }
  response_.Close();
}

routing::PageQuery QueryOf(const PageRequest& request, SteadyTime deadline) {
  routing::PageQuery query;
  query.table = request.table->id();
  query.schema = request.table->schema.get();
  query.index = request.index;
  query.lower = request.range.lower;
  query.upper = request.range.upper;
  query.reverse = request.reverse;
  query.consistent = request.consistent;
  query.fill_cache = request.fill_cache;
  query.limit = request.limit;
  query.filter = request.filter;
  query.count_only = request.count_only;
  query.fetch_items = request.fetch_items;
  query.deadline = deadline;
  return query;
}

}  // namespace

boost::asio::awaitable<Outcome> ReadPage(routing::Router* router, const PageRequest& request,
                                         SteadyTime deadline, std::string* body) {
  Page page(request, body);
  routing::PageFigures figures;
  if (!request.range.Empty()) {
    routing::PageQuery query = QueryOf(request, deadline);
    std::vector<std::string> attributes;
    if (request.projection != nullptr) {
      for (const expression::AttributeUse& use : request.projection->attributes()) {
        attributes.emplace_back(use.name);
      }
      query.attributes = &attributes;
    }
    const Status status = co_await router->ReadPage(query, &page, &figures);
    if (!status.ok()) co_return FromStatus(status);
  }
  page.Finish(figures);
  co_return Outcome();
}

}  // namespace onggi::dynamodb
