#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/async_scope.h"
#include "common/clock.h"
#include "common/proto/coordinator.pb.h"
#include "common/status.h"
#include "coordinator/cluster_view.h"
#include "coordinator/coordinator_metrics.h"
#include "coordinator/fenced_catalog.h"
#include "coordinator/job_runner.h"
#include "coordinator/node_client.h"
#include "coordinator/options.h"
#include "coordinator/planner.h"
#include "coordinator/table_jobs.h"
#include "coordinator/timers.h"
#include "replication/metadata/election.h"
#include "replication/metadata/metadata_store.h"

namespace onggi::coordinator {

/// The world that a coordinator runs in. All of it outlives the coordinator.
struct Environment {
  Environment() {}
  metadata::MetadataStore* store = nullptr;
  NodeClient* nodes = nullptr;
  Timers* timers = nullptr;
  const Clock* clock = nullptr;
  metrics::Registry* registry = nullptr;
  /// A strand or a single thread: everything of the coordinator runs there.
  boost::asio::any_io_executor executor;
};

/// A coordinator while it is the active one: follows the catalog, plans once a tick, runs the jobs,
/// and answers what operators and nodes ask.
///
/// Lifecycle: made by Coordinator when it is elected, Start(), Stop() when it no longer is;
/// requests under way keep it alive. All on the environment's executor. Every write is fenced by
/// the leadership, so what is under way when it ends changes nothing any more; the next leader
/// finds all of it in the catalog.
class Leadership {
 public:
  Leadership(const Environment& environment, const Options& options, metadata::Leader leader,
             CoordinatorMetrics& metrics);
  ~Leadership();
  Leadership(const Leadership&) = delete;
  Leadership& operator=(const Leadership&) = delete;

  /// Reads the catalog, resumes its jobs, begins to plan. An error of the store: nothing has begun;
  /// Stop() and another one. kConditionFailed: newer versions are in force than this program knows;
  /// another coordinator must lead.
  boost::asio::awaitable<Status> Start();
  boost::asio::awaitable<void> Stop();

  // What is asked (common/proto/coordinator.proto).
  Result<proto::ReportLoadResponse> ReportLoad(const proto::ReportLoadRequest& request);
  boost::asio::awaitable<Result<proto::ClusterStatusResponse>> ClusterStatus();
  proto::ListNodesResponse ListNodes() const;
  boost::asio::awaitable<Result<proto::DrainNodeResponse>> DrainNode(
      proto::DrainNodeRequest request);
  boost::asio::awaitable<Status> CancelDrain(proto::CancelDrainRequest request);
  boost::asio::awaitable<Status> RemoveNode(proto::RemoveNodeRequest request);
  Result<proto::ListPartitionsResponse> ListPartitions(
      const proto::ListPartitionsRequest& request) const;
  boost::asio::awaitable<Result<proto::JobResponse>> Split(proto::SplitRequest request);
  boost::asio::awaitable<Result<proto::JobResponse>> Move(proto::MoveRequest request);
  boost::asio::awaitable<Result<proto::JobResponse>> Merge(proto::MergeRequest request);
  boost::asio::awaitable<Result<proto::JobResponse>> Transfer(proto::TransferRequest request);
  boost::asio::awaitable<Result<proto::RecoverResponse>> Recover(proto::RecoverRequest request);

  const ClusterView& view() const { return view_; }

 private:
  boost::asio::awaitable<Status> Follow(std::string prefix);
  boost::asio::awaitable<void> FollowAgain(std::string prefix);
  void OnBatch(const std::string& prefix, const metadata::WatchBatch& batch);
  void Look();
  boost::asio::awaitable<void> Plan();
  boost::asio::awaitable<void> Carry(const coordinator::Plan& plan);
  boost::asio::awaitable<void> Prune();
  boost::asio::awaitable<void> RaiseVersions();
  boost::asio::awaitable<Status> SetNodeState(NodeId node, proto::NodeState state);
  boost::asio::awaitable<Result<proto::JobResponse>> StartJob(proto::Job job);
  Result<std::vector<NodeId>> PlaceTable(const proto::Table& table,
                                         metadata::Transaction* transaction);
  proto::NodeInfo Describe(NodeId id, const NodeView& node) const;
  proto::PartitionInfo Describe(PartitionId id, const PartitionView& partition) const;
  std::vector<proto::Job> DescribeJobs() const;
  Result<const PartitionView*> Find(uint64_t table, uint64_t partition) const;
  Status CheckDrain(NodeId node) const;
  Result<proto::ReplicaRef> CheckRecovery(const PartitionView& partition, NodeId node) const;

  const Environment environment_;
  const Options& options_;
  CoordinatorMetrics& metrics_;
  const metadata::Leader leader_;
  ClusterView view_;
  FencedCatalog catalog_;
  Planner planner_;
  JobRunner runner_;
  TableJobs tables_;
  std::map<std::string, std::unique_ptr<metadata::WatchHandle>> watches_;
  std::map<NodeId, Revision> told_;  ///< what NodeClient knows of
  std::set<uint64_t> running_;       ///< jobs that have a coroutine
  std::vector<std::string> warnings_;
  bool started_ = false;
  AsyncScope scope_;
};

}  // namespace onggi::coordinator
