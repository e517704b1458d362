#include "server/dynamodb/page_reader.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <vector>

#include "server/dynamodb/item_operations.h"
#include "server/dynamodb/item_writer.h"
#include "server/dynamodb/json_writer.h"

namespace onggi::dynamodb {
namespace {

using partition::Cursor;
using partition::Partition;

/// Bytes of items after which a long read lets others have the thread.
constexpr size_t kYieldBytes = 256 * 1024;
/// What an item costs at least towards that, however small it is.
constexpr size_t kMinItemCost = 64;

/// Turns what a cursor passes into a response.
class Page {
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

  /// Processes the cursor's entry. `*full`: the page ends behind it.
  Status Take(const Partition& partition, const Cursor& cursor, bool* full);

  /// Did it process kYieldBytes since the last call that said so?
  bool TimeToYield() {
    if (cost_ < kYieldBytes) return false;
    cost_ = 0;
    return true;
  }

  void Finish();

 private:
  void Emit(const model::ItemView& item);
  void WriteLastKey(const model::ItemView& entry);
  Status Fetch(const Partition& partition, const model::ItemView& entry, model::ItemView* item);

  const PageRequest& request_;
  const partition::TableSchema& schema_;
  std::string* const body_;
  ObjectWriter response_;
  ItemWriter writer_;
  std::string fetch_key_;
  partition::PinnedItem fetched_;
  std::string last_key_;  ///< JSON; empty: the read came to its end
  size_t count_ = 0;
  size_t scanned_ = 0;
  size_t read_bytes_ = 0;  ///< of the items, or of the index's entries
  size_t page_bytes_ = 0;
  size_t cost_ = 0;
  HalfUnits fetch_units_ = 0;
};

Status Page::Fetch(const Partition& partition, const model::ItemView& entry,
                   model::ItemView* item) {
  fetch_key_ = PositionOf(schema_, -1, entry);
  fetched_ = partition::PinnedItem();
  RETURN_IF_ERROR(partition.Get(fetch_key_, request_.consistent, &fetched_));
  // The entry is of the cursor's snapshot; its item may have gone since.
  *item = fetched_.found() ? fetched_.item() : model::ItemView();
  return Status::Ok();
}

Status Page::Take(const Partition& partition, const Cursor& cursor, bool* full) {
  const model::ItemView entry = cursor.item();
  model::ItemView item = entry;
  size_t bytes = entry.BilledSize();
  read_bytes_ += bytes;
  ++scanned_;
  if (request_.fetch_items) {
    RETURN_IF_ERROR(Fetch(partition, entry, &item));
    const size_t item_bytes = item.valid() ? item.BilledSize() : 0;
    fetch_units_ += ReadHalfUnits(item_bytes, request_.consistent);
    bytes = std::max(bytes, item_bytes);
  }
  page_bytes_ += bytes;
  cost_ += std::max(bytes, kMinItemCost);
  if (item.valid() && (request_.filter == nullptr || request_.filter->Evaluate(item))) {
    Emit(item);
  }
  *full = scanned_ == request_.limit || page_bytes_ >= kMaxPageBytes;
  if (*full) WriteLastKey(entry);
  return Status::Ok();
}

void Page::Emit(const model::ItemView& item) {
  ++count_;
  if (request_.count_only) return;
  if (count_ > 1) body_->push_back(',');
  writer_.Write(item, body_);
}

void Page::WriteLastKey(const model::ItemView& entry) {
  const auto write = [&](const std::string& name) {
    last_key_.push_back(last_key_.empty() ? '{' : ',');
    model::WriteJsonString(name, &last_key_);
    last_key_.push_back(':');
    model::WriteValue(entry.Find(name), &last_key_);
  };
  write(schema_.partition_key.name);
  if (schema_.sort_key) write(schema_.sort_key->name);
  if (request_.index >= 0) {
    const std::string& name =
        schema_.local_indexes[static_cast<size_t>(request_.index)].sort_key.name;
    // An index may be sorted by the table's own sort key.
    if (!schema_.sort_key || name != schema_.sort_key->name) write(name);
  }
  last_key_.push_back('}');
}

void Page::Finish() {
  if (!request_.count_only) body_->push_back(']');
  response_.Int("Count", static_cast<int64_t>(count_));
  response_.Int("ScannedCount", static_cast<int64_t>(scanned_));
  if (!last_key_.empty()) {
    response_.Key("LastEvaluatedKey");
    body_->append(last_key_);
  }
  if (request_.detail != CapacityDetail::kNone) {
    ConsumedCapacity consumed;
    const HalfUnits units = ReadHalfUnits(read_bytes_, request_.consistent);
    if (request_.index >= 0) {
      consumed.table = fetch_units_;
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

/// Reads what `partition` holds of the range.
boost::asio::awaitable<Status> ReadPartition(const PageRequest& request, const Partition& partition,
                                             Page* page, bool* full) {
  KeyRange range = request.range;
  if (partition.range_start() > range.lower) range.lower = partition.range_start();
  const std::string_view end = partition.range_end();
  if (!end.empty() && (range.upper.empty() || end < range.upper)) range.upper = end;
  if (range.Empty()) co_return Status::Ok();
  const partition::KeySpace space = request.index < 0
                                        ? partition::KeySpace::Items()
                                        : partition::KeySpace::LocalIndex(request.index);
  auto opened = partition.NewCursor(space, range.lower, range.upper, request.reverse,
                                    request.consistent, request.fill_cache);
  if (!opened.ok()) co_return std::move(opened).status();
  Cursor& cursor = **opened;
  for (; cursor.Valid(); cursor.Next()) {
    if (Status status = page->Take(partition, cursor, full); !status.ok()) co_return status;
    if (*full) co_return Status::Ok();
    if (page->TimeToYield()) {
      const auto executor = co_await boost::asio::this_coro::executor;
      co_await boost::asio::post(executor, boost::asio::use_awaitable);
    }
  }
  co_return cursor.status();
}

/// The range's partitions in order of their keys. A query's range is one item collection, so they
/// are few.
boost::asio::awaitable<Result<std::vector<std::shared_ptr<Partition>>>> PartitionsOf(
    partition::Directory* directory, const PageRequest& request) {
  std::vector<std::shared_ptr<Partition>> partitions;
  std::string position = request.range.lower;
  for (;;) {
    auto found = co_await FindPartition(directory, request.table->id(), position);
    if (!found.ok()) co_return std::move(found).status();
    const std::string_view end = (*found)->range_end();
    partitions.push_back(std::move(found).value());
    if (end.empty() || (!request.range.upper.empty() && end >= request.range.upper)) break;
    position = end;
  }
  co_return partitions;
}

boost::asio::awaitable<Status> ReadBackward(partition::Directory* directory,
                                            const PageRequest& request, Page* page) {
  auto partitions = co_await PartitionsOf(directory, request);
  if (!partitions.ok()) co_return std::move(partitions).status();
  bool full = false;
  for (auto at = partitions->rbegin(); at != partitions->rend() && !full; ++at) {
    Status status = co_await ReadPartition(request, **at, page, &full);
    if (!status.ok()) co_return status;
  }
  co_return Status::Ok();
}

boost::asio::awaitable<Status> ReadForward(partition::Directory* directory,
                                           const PageRequest& request, Page* page) {
  std::string position = request.range.lower;
  for (;;) {
    auto found = co_await FindPartition(directory, request.table->id(), position);
    if (!found.ok()) co_return std::move(found).status();
    const Partition& partition = **found;
    bool full = false;
    Status status = co_await ReadPartition(request, partition, page, &full);
    if (!status.ok() || full) co_return status;
    const std::string_view end = partition.range_end();
    if (end.empty() || (!request.range.upper.empty() && end >= request.range.upper)) break;
    position = end;
  }
  co_return Status::Ok();
}

}  // namespace

boost::asio::awaitable<Outcome> ReadPage(partition::Directory* directory,
                                         const PageRequest& request, std::string* body) {
  Page page(request, body);
  if (!request.range.Empty()) {
    Status status;
    if (request.reverse) {
      status = co_await ReadBackward(directory, request, &page);
    } else {
      status = co_await ReadForward(directory, request, &page);
    }
    if (!status.ok()) co_return FromStatus(status);
  }
  page.Finish();
  co_return Outcome();
}

}  // namespace onggi::dynamodb
