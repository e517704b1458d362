#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string_view>

#include "common/ids.h"
#include "common/status.h"
#include "server/partition/partition.h"

namespace onggi::partition {

/// Finds the partition that holds a key. What the API layer sees of the node: the implementation
/// (PartitionManager) opens partitions lazily and follows the partition map.
class Directory {
 public:
  virtual ~Directory() = default;

  /// The open partition of `table` whose range holds `key`, or null when it must first be opened.
  /// Hot path, any thread.
  virtual std::shared_ptr<Partition> TryFind(TableId table, std::string_view key) = 0;

  /// The same, opening it where needed. NotFound: the table has no such partition (it is being
  /// created or was dropped). Resumes on the caller's executor.
  virtual boost::asio::awaitable<Result<std::shared_ptr<Partition>>> Find(TableId table,
                                                                          std::string_view key) = 0;
};

}  // namespace onggi::partition
