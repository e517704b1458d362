#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/async_scope.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/metrics.h"
#include "common/proto/routing.pb.h"
#include "common/status.h"
#include "server/partition/directory.h"
#include "server/partition/statistics.h"
#include "server/partition/write.h"
#include "server/routing/page.h"
#include "server/routing/recent_writes.h"
#include "server/routing/route_map.h"

namespace onggi::routing {

class Network;

/// One item write to wherever its partition is. `request` is borrowed as partition::WriteRequest
/// says, until the write is answered.
struct RoutedWrite {
  TableId table;
  partition::WriteRequest request;
  partition::WriteOutcome outcome;
};

/// An item that was read, and the memory that keeps it alive: this node's or our own.
class ReadItem {
 public:
  bool found() const { return remote_ ? found_ : pinned_.found(); }
  /// Only when found.
  model::ItemView item() const { return remote_ ? model::ItemView(bytes_) : pinned_.item(); }

 private:
  friend class Router;
  partition::PinnedItem pinned_;
  std::string bytes_;
  bool remote_ = false;
  bool found_ = false;
};

/// One item to be read, and the answer.
struct RoutedRead {
  TableId table;
  std::string_view key;
  /// Sees every write that was answered before the call.
  bool consistent = false;
  ReadItem item;
  Status status;
};

struct RouterOptions {
  RouterOptions() {}
  NodeId self;
  /// Names this process in the ids of writes; random, never 0.
  uint64_t boot = 0;
  /// For requests that bring no deadline of their own.
  std::chrono::milliseconds default_timeout{10'000};
  /// How long a table without a partition in the map is taken for one whose partitions are yet to
  /// come. Its record and they are written in one transaction, but delivered by two watches.
  std::chrono::milliseconds map_wait{2'000};
  /// An eventually consistent read that a replica has not answered by then is asked of another.
  std::chrono::milliseconds replica_patience{300};
  /// Figures of tables with many partitions elsewhere are asked for again after this long.
  std::chrono::milliseconds figures_age{1'000};
};

/// Takes reads and writes of items to the partitions that hold them, here or on other nodes.
///
/// What this node may serve it serves, at the price of a lookup. Other requests go to the primary
/// (eventually consistent reads: to any replica in sync, near ones first), over Network. Everything
/// that may be tried again is, within the request's deadline: wrong guesses of the map, partitions
/// that are changing hands, nodes that have gone. So during a failover requests wait. An eventually
/// consistent read of what was just written through this node goes to the primary.
///
/// A write keeps its id over all tries, by which partitions know it again (replication.md R12): it
/// is applied once. One whose outcome is still unknown at the deadline ends in kUnknownOutcome.
///
/// Made by main after the partitions and the map; stopped before they are, and destroyed when
/// nothing asks it any more and the partitions have stopped, while the I/O threads still run.
/// Thread-safe. Owns no thread.
class Router {
 public:
  /// `local` finds this node's replicas. `network` is null on a node without peers. All outlive it.
  /// Metrics go to `registry`, if there is one.
  Router(RouterOptions options, partition::Directory* local, RouteMap* map, Network* network,
         metrics::Registry* registry);
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  /// Answers what waits for another try with kUnavailable, as everything from now on that this node
  /// cannot serve at once. Any thread.
  void Stop();

  // Reads. Errors: kNotFound, the table has no such partition; kUnavailable or kDeadlineExceeded,
  // nobody could serve it in time; kResourceExhausted, too many requests are under way;
  // kCorruption, kIoError of the partition.

  /// The read, if this node can serve it at once; false, having done nothing, otherwise. Hot path.
  bool TryGet(RoutedRead* read);
  /// All of them at once, wherever they must go; each has its own status. Resumes on the caller's
  /// executor.
  boost::asio::awaitable<void> Get(std::span<RoutedRead> reads, SteadyTime deadline);

  /// All the writes at once, each atomic on its own, in no order. Outcomes as
  /// partition::WriteOutcome says, and kNotFound when the table has no such partition.
  boost::asio::awaitable<void> Write(std::span<RoutedWrite> writes, SteadyTime deadline);

  /// Reads a page across partitions, in order of keys, each entry once, whatever splits, moves and
  /// merges happen meanwhile. On an error what the sink has got is no page.
  boost::asio::awaitable<Status> ReadPage(const PageQuery& query, PageSink* sink,
                                          PageFigures* figures);

  /// What the table's partitions hold, summed, wherever they are. Partitions that cannot be asked
  /// within 2 s count as they last did.
  boost::asio::awaitable<partition::PartitionStatistics> Figures(TableId table);

 private:
  struct Attempts;
  struct Sleeper;
  struct Counters;
  struct CachedFigures;
  class ReadRound;
  class WriteRound;

  SteadyTime DeadlineOf(SteadyTime asked) const;
  /// This node's replica that holds the key, opened where needed, within the deadline.
  boost::asio::awaitable<Result<std::shared_ptr<partition::Partition>>> OpenLocal(
      TableId table, std::string key, SteadyTime deadline);
  /// `fresh`: not by a backup that may lack a write of a moment ago.
  bool ReadHere(RoutedRead* read, bool fresh);
  /// Who is to be asked for a read of the partition, after those in `tried`; 0: nobody can be now,
  /// and `tried` begins anew. `fresh`: the primary first, if it can be reached.
  NodeId ReplicaFor(const Route& route, bool consistent, bool fresh,
                    std::vector<NodeId>* tried) const;
  /// Opens this node's replica for the reads to come.
  void OpenLater(TableId table, PartitionId partition, std::string key);
  /// Takes in what a peer knows better.
  void Learn(const proto::RoutedError& error);

  boost::asio::awaitable<void> WriteLoop(std::span<RoutedWrite> writes, SteadyTime deadline);
  boost::asio::awaitable<Status> ReadPiece(const PageQuery& query, Attempts* attempts,
                                           PageSink* sink, PageFigures* figures,
                                           std::string* reached);
  boost::asio::awaitable<Status> ReadRemotePiece(const PageQuery& query, const Route& route,
                                                 NodeId node, PageSink* sink, PageFigures* figures,
                                                 std::string* reached);

  /// Waits before another try after `status`: not at all when the map says something else than at
  /// the last, less when it comes to say so. False: there will be none.
  boost::asio::awaitable<bool> Pause(const Status& status, Attempts* attempts);
  void OnRouteChanged(const RouteMap::RoutePtr& route);
  /// Those who wait for `route`; null: everybody.
  void WakeSleepers(const Route* route);

  const RouterOptions options_;
  partition::Directory* const local_;
  RouteMap* const map_;
  Network* const network_;
  std::unique_ptr<Counters> counters_;
  std::atomic<uint64_t> next_request_{1};
  std::atomic<bool> stopping_{false};
  RecentWrites recent_;                ///< used where there are peers
  std::atomic<uint64_t> connects_{0};  ///< connections that have come about

  std::mutex mutex_;
  std::list<std::shared_ptr<Sleeper>> sleepers_;                         // guarded by mutex_
  std::unordered_map<TableId, std::shared_ptr<CachedFigures>> figures_;  // guarded by mutex_
  std::unordered_set<PartitionId> opening_;                              // guarded by mutex_

  AsyncScope scope_;
};

}  // namespace onggi::routing
