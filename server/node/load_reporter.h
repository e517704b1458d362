#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <map>
#include <string>

#include "common/async_scope.h"
#include "common/ids.h"
#include "common/proto/coordinator.pb.h"
#include "server/node/coordinator_link.h"

namespace onggi::node {

/// Tells the active coordinator every second or two what this node holds and serves. An idle
/// partition costs no message: only what has changed since the last report that was answered is
/// sent, and everything when the coordinator asks for it.
///
/// Nothing waits for it: without a coordinator it does nothing but look again.
class LoadReporter {
 public:
  /// What it tells, besides what it keeps itself (node, boot, sequence, full, removed, cpu_*):
  /// `replicas` is everything. Called on the executor.
  using Source = std::function<proto::ReportLoadRequest()>;

  LoadReporter(NodeId node, uint64_t boot, CoordinatorLink* link,
               boost::asio::any_io_executor executor, Source source);

  void Start();
  /// Not on the executor's thread: blocks.
  void Stop() { scope_.Stop(); }

 private:
  boost::asio::awaitable<void> Run();
  boost::asio::awaitable<std::chrono::milliseconds> Report();

  const NodeId node_;
  const uint64_t boot_;
  CoordinatorLink* const link_;
  const boost::asio::any_io_executor executor_;
  const Source source_;
  uint64_t sequence_ = 0;
  std::string told_to_;                      ///< the coordinator that has had a full report
  std::map<uint64_t, std::string> told_;     ///< by partition: what it was told last
  std::map<uint64_t, uint64_t> told_table_;  ///< by partition
  std::chrono::steady_clock::time_point cpu_at_;
  double cpu_seconds_ = 0;
  AsyncScope scope_;
};

}  // namespace onggi::node
