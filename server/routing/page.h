#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/status.h"
#include "server/expression/condition.h"
#include "server/model/value.h"
#include "server/partition/partition.h"

namespace onggi::routing {

/// What a Query or Scan reads, of however many partitions. What it points to outlives the read.
struct PageQuery {
  PageQuery() {}
  TableId table;
  /// Keys and local indexes of the table.
  const partition::TableSchema* schema = nullptr;
  int index = -1;     ///< number of a local index; -1: the items
  std::string lower;  ///< [lower, upper) in keys of the space; an empty upper is its end
  std::string upper;
  bool reverse = false;
  bool consistent = false;
  bool fill_cache = true;  ///< false for scans: they must not push hot items out
  size_t limit = 0;        ///< entries to process; 0: no limit
  /// The page ends behind the entry that takes it to this many bytes, counted before the filter.
  size_t max_bytes = size_t{1} << 20;
  const expression::Condition* filter = nullptr;
  /// Top-level attributes that a partition elsewhere may leave out: all but these. Null: none.
  const std::vector<std::string>* attributes = nullptr;
  bool count_only = false;
  bool fetch_items = false;  ///< entries of the index lack attributes that are wanted
  SteadyTime deadline = SteadyTime::max();
};

/// How a page went. Bytes are as the service bills them.
struct PageFigures {
  uint64_t matched = 0;     ///< entries that passed the filter
  uint64_t scanned = 0;     ///< entries processed
  uint64_t read_bytes = 0;  ///< of the space's entries
  uint64_t page_bytes = 0;  ///< what counts towards max_bytes
  /// Items fetched for index entries, each in steps of 4 KB rounded up, at least one.
  uint64_t fetched_steps = 0;
  /// The page ended at its limits, behind this entry: an item in stored form with at least the key
  /// attributes of table and index. Empty: the range was read to its end.
  std::string last_entry;

  bool full() const { return !last_entry.empty(); }
};

/// Takes the entries of a page that passed the filter, in order. The view is valid for the call;
/// with PageQuery::attributes it may lack others.
class PageSink {
 public:
  virtual ~PageSink() = default;
  virtual void Take(const model::ItemView& item) = 0;
};

/// Reads what one replica holds of `query`'s range from its beginning (its end in reverse), within
/// what is left of the page after `figures`, and adds to them. Gives its thread up to others every
/// 256 KB.
///
/// `*reached`: how far it went. Forward, everything below it is read, backward everything from it
/// on; empty: the whole range. Meaningless when the page is full. kNotPrimary when the partition
/// does not hold the beginning of the range, or may not serve the read: nothing was added. Other
/// errors, also kDeadlineExceeded and kUnavailable (`*cancelled` became true), leave the page
/// unfinished.
boost::asio::awaitable<Status> ReadPartitionPage(const partition::Partition& partition,
                                                 const PageQuery& query,
                                                 const std::atomic<bool>* cancelled, PageSink* sink,
                                                 PageFigures* figures, std::string* reached);

/// The encoded key of an item, or of an entry of local index `index`, that has all key attributes.
std::string PositionOf(const partition::TableSchema& schema, int index,
                       const model::ItemView& item);

}  // namespace onggi::routing
