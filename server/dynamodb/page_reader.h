#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "server/dynamodb/capacity.h"
#include "server/dynamodb/catalog.h"
#include "server/dynamodb/key_range.h"
#include "server/expression/condition.h"
#include "server/expression/projection.h"
#include "server/routing/router.h"

namespace onggi::dynamodb {

/// What a Query or Scan reads, once the request is known to be right. What it points to outlives
/// the read.
struct PageRequest {
  std::shared_ptr<const Table> table;
  std::string_view table_name;  ///< as the request named it
  int index = -1;               ///< number of a local index; -1: the table's items
  KeyRange range;
  bool reverse = false;
  bool consistent = false;
  bool fill_cache = true;  ///< false for scans: they must not push hot items out
  size_t limit = 0;        ///< items to process; 0: no limit
  const expression::Condition* filter = nullptr;
  const expression::Projection* projection = nullptr;
  bool count_only = false;   ///< Select COUNT
  bool fetch_items = false;  ///< index entries lack attributes that are wanted: read the items
  CapacityDetail detail = CapacityDetail::kNone;
};

/// Reads one page and appends the response: Items, Count, ScannedCount, LastEvaluatedKey where the
/// page ended at the limit or at 1 MB, ConsumedCapacity. Lets other requests of its thread go first
/// every 256 KB. Errors: those of the partitions, as FromStatus() has them.
boost::asio::awaitable<Outcome> ReadPage(routing::Router* router, const PageRequest& request,
                                         SteadyTime deadline, std::string* body);

}  // namespace onggi::dynamodb
