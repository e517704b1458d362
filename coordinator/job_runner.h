#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "common/clock.h"
#include "common/status.h"
#include "coordinator/cluster_view.h"
#include "coordinator/fenced_catalog.h"
#include "coordinator/node_client.h"
#include "coordinator/options.h"
#include "coordinator/timers.h"

namespace onggi::coordinator {

/// proto::Job::step of the jobs that copy a replica. What is to be done follows from the
/// partition's configuration; the step only says what must have been true before.
enum ReplicaStep : uint32_t {
  kReplicaPlanned = 0,  ///< `to` may exist on its node, and no configuration has named it
  kReplicaNamed = 1,    ///< the configuration named it as a learner
  kReplicaUndo = 2,     ///< given up (`error`): `to` is taken out again
};

/// Of a merge: the moves that bring the right partition's replicas to the left one's nodes (`from`
/// and `to` are of the present one), then the merge itself.
enum MergeStep : uint32_t {
  kMergePlanned = 0,  ///< no move is under way
  kMergeMoving = 1,   ///< `from` gives way to `to`, which may not be named yet
  kMergeMoved = 2,    ///< `to` was named
};

/// Carries one job after another to its end, each by steps that look at what is and do what is
/// missing. So a step may be done twice, by two coordinators, or after its outcome was lost: it
/// finds what it would have done, or its compare fails.
///
/// Belongs to one leadership, on the coordinator's executor. Run() returns when the job has ended,
/// or the leadership has; a job that ends neither way is resumed by the next leader. Errors of
/// nodes and of the store are tried again with growing pauses, for as long as the job makes sense.
class JobRunner {
 public:
  /// How a job that fails for now is doing.
  struct Trouble {
    uint32_t attempts = 0;
    std::string error;
  };
  /// Called when a job has ended, with its final record.
  using EndCallback = std::function<void(const proto::Job&)>;
  /// Called for each failed try.
  using FailureCallback = std::function<void(const proto::Job&, const Status&)>;

  JobRunner(FencedCatalog& catalog, NodeClient& nodes, Timers& timers, const Clock& clock,
            const Options& options, EndCallback on_end, FailureCallback on_failure);

  /// Spawned once for each running job of the view.
  boost::asio::awaitable<void> Run(uint64_t job);

  /// Of running jobs whose present step has failed at least once.
  const std::map<uint64_t, Trouble>& troubles() const { return troubles_; }

 private:
  enum class Next : uint8_t {
    kAgain,  ///< something changed: look again
    kWait,   ///< others are to do something: look again in a while
    kEnded,  ///< the job's record says so
  };
  using StepResult = Result<Next>;

  boost::asio::awaitable<StepResult> Step(proto::Job job);
  boost::asio::awaitable<StepResult> Finish(proto::Job job, std::string error);
  boost::asio::awaitable<StepResult> SaveStep(proto::Job job, metadata::Transaction also);

  // replica_jobs.cc
  boost::asio::awaitable<StepResult> CopyReplica(proto::Job job);
  boost::asio::awaitable<StepResult> NameReplica(proto::Job job, proto::PartitionConfig config,
                                                 Revision revision);
  boost::asio::awaitable<StepResult> AwaitCaughtUp(proto::Job job, proto::PartitionConfig config,
                                                   Revision revision);
  boost::asio::awaitable<StepResult> RetireReplica(proto::Job job, proto::PartitionConfig config,
                                                   Revision revision);
  boost::asio::awaitable<StepResult> Undo(proto::Job job, std::string why);
  boost::asio::awaitable<StepResult> TakeBack(proto::Job job);
  boost::asio::awaitable<StepResult> RemoveReplica(proto::Job job);
  boost::asio::awaitable<StepResult> TransferPrimary(proto::Job job);
  boost::asio::awaitable<StepResult> SetReplication(proto::Job job);
  /// Takes a learner out of the key, in one transaction with the job's record.
  boost::asio::awaitable<StepResult> Unname(proto::Job job, proto::PartitionConfig config,
                                            Revision revision, proto::ReplicaRef ref);
  /// Ok too when the node is gone: whoever comes back with a replica that nothing names is told.
  boost::asio::awaitable<Status> Drop(uint64_t table, uint64_t partition, proto::ReplicaRef ref);
  /// Who leads while `out`, the primary, is replaced; nullopt: nobody could.
  std::optional<proto::ReplicaRef> OtherLeader(const proto::PartitionConfig& config,
                                               const proto::ReplicaRef& out) const;
  bool Changed(PartitionId id, Revision since) const;
  /// What a command to a primary answered; kNotPrimary is only this runner's own end.
  boost::asio::awaitable<Status> Judge(const proto::PartitionConfig& config, Status status);
  boost::asio::awaitable<Status> AskReplace(proto::PartitionConfig config, proto::ReplicaRef out,
                                            proto::ReplicaRef in);
  boost::asio::awaitable<Status> AskTransfer(proto::PartitionConfig config, proto::ReplicaRef to);
  boost::asio::awaitable<Status> AskReplication(proto::PartitionConfig config,
                                                uint32_t replication);

  // range_jobs.cc
  boost::asio::awaitable<StepResult> Split(proto::Job job);
  boost::asio::awaitable<StepResult> Merge(proto::Job job);
  boost::asio::awaitable<StepResult> PlanMergeMove(proto::Job job, proto::PartitionConfig left,
                                                   proto::PartitionConfig right);
  boost::asio::awaitable<StepResult> MergeMove(proto::Job job, proto::PartitionConfig right,
                                               Revision revision);

  bool Stalled(const proto::Job& job) const;

  FencedCatalog& catalog_;
  ClusterView& view_;
  NodeClient& nodes_;
  Timers& timers_;
  const Clock& clock_;
  const Options& options_;
  const EndCallback on_end_;
  const FailureCallback on_failure_;
  std::map<uint64_t, Trouble> troubles_;
};

}  // namespace onggi::coordinator
