#include "server/routing/page.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "server/expression/projection.h"
#include "server/model/key.h"

namespace onggi::routing {

namespace asio = boost::asio;

using partition::Cursor;
using partition::Partition;

namespace {

/// Bytes of items after which a long read lets others have the thread.
constexpr size_t kYieldBytes = 256 * 1024;
/// What an item costs at least towards that, however small it is.
constexpr size_t kMinItemCost = 64;
/// Reads of single items are billed in steps of this.
constexpr size_t kReadStep = 4096;

/// Turns what a cursor passes into a page.
class Reader {
 public:
  Reader(const Partition& partition, const PageQuery& query, PageSink* sink, PageFigures* figures)
      : partition_(partition), query_(query), sink_(*sink), figures_(*figures) {}

  Status Take(const Cursor& cursor) {
    const model::ItemView entry = cursor.item();
    model::ItemView item = entry;
    size_t bytes = entry.BilledSize();
    if (query_.fetch_items) {
      RETURN_IF_ERROR(Fetch(entry, &item));
      const size_t item_bytes = item.valid() ? item.BilledSize() : 0;
      figures_.fetched_steps += std::max<size_t>(1, (item_bytes + kReadStep - 1) / kReadStep);
      figures_.read_bytes += bytes;
      bytes = std::max(bytes, item_bytes);
    } else {
      figures_.read_bytes += bytes;
    }
    ++figures_.scanned;
    figures_.page_bytes += bytes;
    cost_ += std::max(bytes, kMinItemCost);
    if (item.valid() && (query_.filter == nullptr || query_.filter->Evaluate(item))) {
      ++figures_.matched;
      if (!query_.count_only) sink_.Take(item);
    }
    if (figures_.scanned == query_.limit || figures_.page_bytes >= query_.max_bytes) End(entry);
    return Status::Ok();
  }

  /// Did it process kYieldBytes since the last call that said so?
  bool TimeToYield() {
    if (cost_ < kYieldBytes) return false;
    cost_ = 0;
    return true;
  }

 private:
  Status Fetch(const model::ItemView& entry, model::ItemView* item) {
    fetch_key_ = PositionOf(*query_.schema, -1, entry);
    fetched_ = partition::PinnedItem();
    RETURN_IF_ERROR(partition_.Get(fetch_key_, query_.consistent, &fetched_));
    // The entry is of the cursor's snapshot; its item may have gone since.
    *item = fetched_.found() ? fetched_.item() : model::ItemView();
    return Status::Ok();
  }

  void End(const model::ItemView& entry) {
    const partition::TableSchema& schema = *query_.schema;
    std::vector<std::string> names = {schema.partition_key.name};
    if (schema.sort_key) names.push_back(schema.sort_key->name);
    if (query_.index >= 0) {
      names.push_back(schema.local_indexes[static_cast<size_t>(query_.index)].sort_key.name);
    }
    expression::Projection::OfAttributes(names).Project(entry, &figures_.last_entry);
  }

  const Partition& partition_;
  const PageQuery& query_;
  PageSink& sink_;
  PageFigures& figures_;
  std::string fetch_key_;
  partition::PinnedItem fetched_;
  size_t cost_ = 0;
};

bool IsEmpty(const std::string& lower, const std::string& upper) {
  return !upper.empty() && lower >= upper;
}

Status NotHere() { return {Code::kNotPrimary, "the partition does not hold the key"}; }

/// Cuts [lower, upper) to what the partition holds; kNotPrimary when it does not hold where the
/// read begins.
Status Cut(const Partition& partition, bool reverse, std::string* lower, std::string* upper,
           std::string* reached) {
  const std::string start(partition.range_start());
  const std::string end(partition.range_end());
  reached->clear();
  if (reverse) {
    if (!end.empty() && (upper->empty() || *upper > end)) return NotHere();
    if (!upper->empty() && *upper <= start) return NotHere();
    if (*lower < start) *reached = *lower = start;
  } else {
    if (*lower < start || (!end.empty() && *lower >= end)) return NotHere();
    if (!end.empty() && (upper->empty() || *upper > end)) *reached = *upper = end;
  }
  return Status::Ok();
}

}  // namespace

std::string PositionOf(const partition::TableSchema& schema, int index,
                       const model::ItemView& item) {
  std::string key;
  model::AppendCollectionPrefix(item.Find(schema.partition_key.name), &key);
  if (index >= 0) {
    const auto& local = schema.local_indexes[static_cast<size_t>(index)];
    model::AppendTerminated(item.Find(local.sort_key.name), &key);
  }
  if (schema.sort_key) model::AppendSortKey(item.Find(schema.sort_key->name), &key);
  return key;
}

asio::awaitable<Status> ReadPartitionPage(const Partition& partition, const PageQuery& query,
                                          const std::atomic<bool>* cancelled, PageSink* sink,
                                          PageFigures* figures, std::string* reached) {
  std::string lower = query.lower;
  std::string upper = query.upper;
  Status status = Cut(partition, query.reverse, &lower, &upper, reached);
  if (!status.ok() || IsEmpty(lower, upper)) co_return status;
  const partition::KeySpace space =
      query.index < 0 ? partition::KeySpace::Items() : partition::KeySpace::LocalIndex(query.index);
  auto opened =
      partition.NewCursor(space, lower, upper, query.reverse, query.consistent, query.fill_cache);
  if (!opened.ok()) co_return std::move(opened).status();
  Cursor& cursor = **opened;
  Reader reader(partition, query, sink, figures);
  const uint64_t scanned_before = figures->scanned;
  for (; cursor.Valid(); cursor.Next()) {
    status = reader.Take(cursor);
    if (status.code() == Code::kNotPrimary && figures->scanned != scanned_before) {
      // The replica may fetch items no longer: whoever may goes on from this entry.
      reached->assign(cursor.key());
      if (query.reverse) reached->push_back('\0');
      co_return Status::Ok();
    }
    if (!status.ok() || figures->full()) co_return status;
    if (!reader.TimeToYield()) continue;
    const auto executor = co_await asio::this_coro::executor;
    co_await asio::post(executor, asio::use_awaitable);
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) {
      co_return Unavailable("nobody waits for the page");
    }
    if (std::chrono::steady_clock::now() >= query.deadline) {
      co_return Status(Code::kDeadlineExceeded, "the page was not read in time");
    }
  }
  co_return cursor.status();
}

}  // namespace onggi::routing
