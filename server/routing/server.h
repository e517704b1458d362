#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "common/async_scope.h"
#include "common/metrics.h"
#include "common/runtime.h"
#include "server/partition/directory.h"
#include "server/routing/network.h"
#include "server/routing/route_map.h"

namespace onggi::routing {

struct ServerLimits {
  ServerLimits() {}
  /// Reads of items and writes of peers that are being carried out, in bytes as they came; more are
  /// refused.
  size_t max_bytes = size_t{128} << 20;
  /// Pages that are being read for peers; more are refused.
  size_t max_pages = 256;
  /// Requests that wait for a partition to be opened; more are refused.
  size_t max_waiting = 16'384;
};

/// Carries out what other nodes' routers ask of this node's replicas, and of nothing else: what it
/// cannot do here it refuses, with what it knows of the right place.
///
/// Made by main after the partitions and the map; Stop() before the partitions stop, and after
/// Network::Stop(). Thread-safe. Everything runs on the I/O threads. Bounds: ServerLimits, past
/// which it answers kResourceExhausted.
class Server final : public RequestHandler {
 public:
  /// Everything given outlives it. Metrics go to `registry`, if there is one.
  Server(NodeId self, partition::Directory* local, RouteMap* map, IoPool* io, ServerLimits limits,
         metrics::Registry* registry);
  ~Server() override;

  void OnRequests(const std::shared_ptr<Connection>& from, proto::RoutingFrame* frame) override;
  void OnClosed(const std::shared_ptr<Connection>& from) override;

  /// Refuses new requests and waits for those under way. Not on an I/O thread.
  void Stop();

 private:
  using ConnectionPtr = std::shared_ptr<Connection>;
  using PartitionPtr = std::shared_ptr<partition::Partition>;
  using Cancelled = std::shared_ptr<std::atomic<bool>>;
  struct WriteBatch;
  class Reservation;

  void TakeGets(const ConnectionPtr& from, proto::RoutingFrame* frame);
  boost::asio::awaitable<void> AnswerGets(ConnectionPtr from,
                                          std::unique_ptr<proto::RoutingFrame> frame, size_t bytes);
  void OnGets(const ConnectionPtr& from, proto::RoutingFrame* frame);
  void OnWrites(const ConnectionPtr& from, proto::RoutingFrame* frame);
  void OnPages(const ConnectionPtr& from, proto::RoutingFrame* frame);
  void OnFigures(const ConnectionPtr& from, proto::RoutingFrame* frame);
  void OnCancelled(const ConnectionPtr& from, const proto::RoutingFrame& frame);

  /// Why a request for `key` cannot be done here; Ok when a replica of this node may do it.
  Status Misplaced(TableId table, std::string_view key, bool reverse, bool any_replica) const;
  /// The same as an answer, with hints. What a replica here knows goes into the map before.
  void Refuse(const Status& status, TableId table, std::string_view key, bool reverse,
              proto::RoutedError* error) const;

  boost::asio::awaitable<void> GetLater(ConnectionPtr from, proto::RoutedGet request,
                                        SteadyTime deadline);
  boost::asio::awaitable<void> ExecuteWrites(ConnectionPtr from, std::unique_ptr<WriteBatch> batch);
  boost::asio::awaitable<void> ReadPage(ConnectionPtr from, proto::RoutedPage request,
                                        SteadyTime deadline, Cancelled cancelled);
  boost::asio::awaitable<void> CountFigures(ConnectionPtr from, proto::RoutedFigures request);
  boost::asio::awaitable<Result<PartitionPtr>> FindLocal(TableId table, std::string_view key,
                                                         bool reverse, bool any_replica);

  void AnswerGet(const ConnectionPtr& from, const proto::RoutedGet& request,
                 const partition::Partition& partition);
  void AnswerGetError(const ConnectionPtr& from, const proto::RoutedGet& request,
                      const Status& status);
  void AnswerWriteError(const ConnectionPtr& from, const proto::RoutedWrite& request,
                        const Status& status);
  void AnswerPageError(const ConnectionPtr& from, const proto::RoutedPage& request,
                       const Status& status);

  const NodeId self_;
  partition::Directory* const local_;
  RouteMap* const map_;
  IoPool* const io_;
  const ServerLimits limits_;
  metrics::Counter* served_ = nullptr;
  metrics::Counter* refused_ = nullptr;
  metrics::Counter* misplaced_ = nullptr;

  std::atomic<size_t> bytes_{0};
  std::atomic<size_t> pages_{0};
  std::atomic<size_t> waiting_{0};
  std::mutex mutex_;
  /// Guarded by mutex_. Pages that are being read, by who asked and the request's id.
  std::map<std::pair<const Connection*, uint64_t>, Cancelled> reading_;

  AsyncScope scope_;
};

}  // namespace onggi::routing
