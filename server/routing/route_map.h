#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/async_scope.h"
#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/status.h"
#include "replication/metadata/metadata_store.h"

namespace onggi::routing {

/// Where one partition is, as of one revision of its key. Immutable.
struct Route {
  /// As it stands in the metadata store.
  proto::PartitionConfig config;
  Revision revision;  ///< mod_revision of the key

  TableId table() const { return TableId(config.table()); }
  PartitionId partition() const { return PartitionId(config.partition()); }
  std::string_view start() const { return config.range_start(); }
  /// Empty: the end of the key space.
  std::string_view end() const { return config.range_end(); }
  NodeId primary() const { return NodeId(config.primary().node()); }
  Epoch epoch() const { return Epoch(config.epoch()); }
  bool Holds(std::string_view key) const {
    return key >= start() && (end().empty() || key < end());
  }
  /// Has the node a replica that is in sync?
  bool InSync(NodeId node) const;
};

/// Every partition's place: a cache of the metadata store's `partition/` keys, by table and key.
///
/// Kept by a watch, and corrected ahead of it by what other nodes answer (Learn). It may be stale
/// at any time: who is asked by it checks, and answers with what it knows better. Made and started
/// by main after the metadata store, stopped before it. Thread-safe: one shared lock, held for a
/// lookup. While the store is unavailable the map stays as it was; a watch that fell too far behind
/// reads everything again.
class RouteMap {
 public:
  using RoutePtr = std::shared_ptr<const Route>;
  /// A partition's new place, on the thread that learned of it, with no lock held.
  using Listener = std::function<void(const RoutePtr&)>;

  /// `executor` is a strand or a single thread; the watch runs there. `store` outlives this.
  RouteMap(metadata::MetadataStore& store, boost::asio::any_io_executor executor);
  ~RouteMap();
  RouteMap(const RouteMap&) = delete;
  RouteMap& operator=(const RouteMap&) = delete;

  /// Reads every key, then follows. Not on the executor's thread: blocks. Errors: the store's;
  /// kCorruption when a record does not parse.
  Status Start();
  /// Ends the watch. Not on the executor's thread: blocks.
  void Stop();

  /// The partition that holds `key`; null when the map knows none.
  RoutePtr Find(TableId table, std::string_view key) const;
  /// The partition that holds the greatest keys below `upper` (empty: of all).
  RoutePtr FindBelow(TableId table, std::string_view upper) const;
  /// By range, ascending.
  std::vector<RoutePtr> RoutesOf(TableId table) const;
  RoutePtr FindPartition(TableId table, PartitionId partition) const;

  /// A configuration that another node answered with. True if it was news. What the watch has
  /// passed already is none.
  bool Learn(const proto::PartitionConfig& config, Revision revision);

  /// Hears of every change from now on. One listener, set before Start() or never changed while
  /// the map runs.
  void SetListener(Listener listener) { listener_ = std::move(listener); }

  size_t size() const;
  const boost::asio::any_io_executor& executor() const { return executor_; }

 private:
  using Ranges = std::map<std::string, RoutePtr, std::less<>>;
  struct TableRoutes {
    Ranges ranges;  ///< by start
    std::unordered_map<PartitionId, RoutePtr> partitions;
  };

  void OnBatch(const metadata::WatchBatch& batch);
  void Watch(Revision from);
  boost::asio::awaitable<void> Reload();
  void Replace(const metadata::RangeResult& all);
  /// With the lock held. Null: it was no news.
  RoutePtr PutLocked(proto::PartitionConfig config, Revision revision);
  void RemoveLocked(TableId table, PartitionId partition, Revision revision);

  metadata::MetadataStore& store_;
  const boost::asio::any_io_executor executor_;
  Listener listener_;

  mutable std::shared_mutex mutex_;
  std::unordered_map<TableId, TableRoutes> tables_;  // guarded by mutex_
  Revision watched_;                                 // guarded by mutex_

  AsyncScope scope_;
  std::unique_ptr<metadata::WatchHandle> watch_;  // of executor_
};

}  // namespace onggi::routing
