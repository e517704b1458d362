#include <algorithm>
#include <utility>

#include "common/log.h"
#include "coordinator/job_runner.h"
#include "coordinator/placement.h"
#include "replication/metadata/keys.h"

/// The jobs of JobRunner that concern replicas: add, replace, move, remove, transfer.
namespace onggi::coordinator {

namespace asio = boost::asio;
namespace keys = metadata::keys;

namespace {

/// Failed transfers after which one is given up: balance finds another, a drain tries again later.
constexpr uint32_t kMaxTransferTries = 5;
/// Of another number of replicas, likewise.
constexpr uint32_t kMaxReplicationTries = 2;

std::string KeyOf(const proto::PartitionConfig& config) {
  return keys::Partition(TableId(config.table()), PartitionId(config.partition()));
}

void EraseLearner(proto::PartitionConfig* config, const proto::ReplicaRef& ref) {
  auto* learners = config->mutable_learners();
  learners->erase(
      std::remove_if(learners->begin(), learners->end(),
                     [&](const proto::ReplicaRef& learner) { return SameReplica(learner, ref); }),
      learners->end());
}

metadata::Transaction Swap(const proto::PartitionConfig& config, Revision revision) {
  metadata::Transaction transaction;
  transaction.compares.push_back(metadata::Compare::At(KeyOf(config), revision));
  transaction.puts.push_back({KeyOf(config), config.SerializeAsString()});
  return transaction;
}

std::string NodeName(const proto::ReplicaRef& ref) { return "node " + std::to_string(ref.node()); }

}  // namespace

asio::awaitable<Status> JobRunner::Judge(const proto::PartitionConfig& config, Status status) {
  if (status.code() == Code::kNotPrimary || status.code() == Code::kNotFound ||
      status.code() == Code::kConditionFailed) {
    (void)co_await catalog_.Refresh(KeyOf(config));
  }
  if (status.code() == Code::kNotPrimary || status.code() == Code::kNotFound) {
    co_return Unavailable("node " + std::to_string(config.primary().node()) + ": " +
                          status.message());
  }
  co_return status;
}

std::optional<proto::ReplicaRef> JobRunner::OtherLeader(const proto::PartitionConfig& config,
                                                        const proto::ReplicaRef& out) const {
  const PartitionView* partition = view_.Partition(PartitionId(config.partition()));
  if (partition == nullptr) return std::nullopt;
  const Placement placement(view_);
  const auto best = placement.BestPrimary(view_, *partition, NodeId(out.node()));
  if (best) return best;
  // For the while of a move also one whose node drains.
  for (const auto& ref : config.in_sync()) {
    if (!SameReplica(ref, out) && view_.Alive(NodeId(ref.node()))) return ref;
  }
  return std::nullopt;
}

bool JobRunner::Changed(PartitionId id, Revision since) const {
  const PartitionView* partition = view_.Partition(id);
  return partition == nullptr || partition->revision != since;
}

asio::awaitable<Status> JobRunner::AskReplace(proto::PartitionConfig config, proto::ReplicaRef out,
                                              proto::ReplicaRef in) {
  proto::ReplaceReplicaRequest request;
  request.set_table(config.table());
  request.set_partition(config.partition());
  *request.mutable_out() = std::move(out);
  *request.mutable_in() = std::move(in);
  const NodeId leader(config.primary().node());
  Status status = co_await nodes_.ReplaceReplica(leader, std::move(request));
  if (status.ok()) status = co_await catalog_.Refresh(KeyOf(config));
  co_return co_await Judge(config, std::move(status));
}

asio::awaitable<Status> JobRunner::AskTransfer(proto::PartitionConfig config,
                                               proto::ReplicaRef to) {
  proto::TransferPrimaryRequest request;
  request.set_table(config.table());
  request.set_partition(config.partition());
  *request.mutable_to() = std::move(to);
  const NodeId leader(config.primary().node());
  Status status = co_await nodes_.TransferPrimary(leader, std::move(request));
  if (status.ok()) status = co_await catalog_.Refresh(KeyOf(config));
  co_return co_await Judge(config, std::move(status));
}

asio::awaitable<Status> JobRunner::AskReplication(proto::PartitionConfig config,
                                                  uint32_t replication) {
  proto::SetReplicationRequest request;
  request.set_table(config.table());
  request.set_partition(config.partition());
  request.set_replication(replication);
  const NodeId leader(config.primary().node());
  Status status = co_await nodes_.SetReplication(leader, std::move(request));
  if (status.ok()) status = co_await catalog_.Refresh(KeyOf(config));
  co_return co_await Judge(config, std::move(status));
}

asio::awaitable<Status> JobRunner::Drop(uint64_t table, uint64_t partition, proto::ReplicaRef ref) {
  const NodeId node(ref.node());
  if (!view_.Alive(node)) co_return Status::Ok();
  proto::DropReplicaRequest request;
  request.set_table(table);
  request.set_partition(partition);
  request.set_replica(ref.replica());
  Status status = co_await nodes_.DropReplica(node, std::move(request));
  if (status.code() == Code::kNotFound || !view_.Alive(node)) co_return Status::Ok();
  co_return status;
}

/// What `from`, `to` and the configuration are to each other says what comes next, whoever did the
/// last step.
asio::awaitable<JobRunner::StepResult> JobRunner::CopyReplica(proto::Job job) {
  if (job.step() == kReplicaUndo) co_return co_await TakeBack(std::move(job));
  const PartitionView* partition = view_.Partition(PartitionId(job.partition()));
  if (partition == nullptr) co_return co_await Undo(std::move(job), "the partition is gone");
  proto::PartitionConfig config = partition->config;
  const Revision revision = partition->revision;
  if (IsInSync(config, job.to())) {
    co_return co_await RetireReplica(std::move(job), std::move(config), revision);
  }
  if (IsLearner(config, job.to())) {
    co_return co_await AwaitCaughtUp(std::move(job), std::move(config), revision);
  }
  if (job.step() == kReplicaNamed) {
    co_return co_await Undo(std::move(job), "its replica was taken out by somebody else");
  }
  co_return co_await NameReplica(std::move(job), std::move(config), revision);
}

/// Makes the replica durable on its node, then names it (R9).
asio::awaitable<JobRunner::StepResult> JobRunner::NameReplica(proto::Job job,
                                                              proto::PartitionConfig config,
                                                              Revision revision) {
  const NodeId target(job.to().node());
  const PartitionId id(config.partition());
  const NodeView* node = view_.Node(target);
  if (!view_.Alive(target) || node->record.state() != proto::NODE_STATE_ACTIVE) {
    std::string why = NodeName(job.to()) + " takes no replicas any more";
    co_return co_await Undo(std::move(job), std::move(why));
  }
  const Revision node_revision = node->revision;
  if (job.kind() == proto::JOB_KIND_REPLACE_REPLICA && job.from().node() == job.to().node()) {
    // The same node: the lost one makes room first, in the key and on the disk.
    const proto::ReplicaRef from = job.from();
    if (IsLearner(config, from)) {
      co_return co_await Unname(std::move(job), std::move(config), revision, from);
    }
    if (IsInSync(config, from)) {
      if (Stalled(job)) co_return co_await Undo(std::move(job), "the primary keeps the lost one");
      co_return Next::kWait;
    }
    const Status dropped = co_await Drop(job.table(), job.partition(), from);
    if (!dropped.ok()) co_return dropped.WithContext(NodeName(from));
  }
  if (job.kind() == proto::JOB_KIND_MOVE_REPLICA) {
    if (!IsInSync(config, job.from()) && !IsLearner(config, job.from())) {
      std::string why = NodeName(job.from()) + " has no replica any more";
      co_return co_await Undo(std::move(job), std::move(why));
    }
  } else {
    const auto members = Members(config);
    const auto healthy = std::count_if(members.begin(), members.end(),
                                       [&](const auto& ref) { return !view_.Lost(ref, id); });
    if (healthy >= static_cast<ptrdiff_t>(view_.WantedReplicas(config))) {
      co_return co_await Undo(std::move(job), "no longer needed");
    }
  }
  proto::CreateReplicaRequest request;
  request.set_table(job.table());
  request.set_partition(job.partition());
  request.set_replica(job.to().replica());
  const Status created = co_await nodes_.CreateReplica(target, std::move(request));
  if (created.code() == Code::kAlreadyExists || created.code() == Code::kOutOfSpace) {
    std::string why = NodeName(job.to()) + ": " + created.message();
    co_return co_await Undo(std::move(job), std::move(why));
  }
  if (!created.ok()) co_return created.WithContext(NodeName(job.to()));

  *config.add_learners() = job.to();
  // A dead learner makes room at once; a dead member in sync is the primary's to take out.
  if (job.kind() == proto::JOB_KIND_REPLACE_REPLICA) EraseLearner(&config, job.from());
  job.set_step(kReplicaNamed);
  metadata::Transaction swap = Swap(config, revision);
  // Not on a node that has begun to drain meanwhile.
  swap.compares.push_back(metadata::Compare::At(keys::Node(target), node_revision));
  co_return co_await SaveStep(std::move(job), std::move(swap));
}

/// `to` is a learner: the primary brings it up to date, and takes it in where a place is free.
asio::awaitable<JobRunner::StepResult> JobRunner::AwaitCaughtUp(proto::Job job,
                                                                proto::PartitionConfig config,
                                                                Revision revision) {
  const PartitionId id(config.partition());
  const bool full = config.in_sync_size() >= static_cast<int>(config.replication());
  const bool from_in_sync = IsInSync(config, job.from());
  if (view_.Lost(job.to(), id)) {
    std::string why = NodeName(job.to()) + " has lost it";
    co_return co_await Undo(std::move(job), std::move(why));
  }
  if (Stalled(job)) co_return co_await Undo(std::move(job), "it did not catch up in time");
  if (!full) co_return Next::kWait;
  const uint32_t wanted = view_.WantedReplicas(config);
  if (job.kind() == proto::JOB_KIND_ADD_REPLICA && config.replication() < wanted) {
    // The table has been given more. A place is made for it when enough have caught up (R13).
    const uint32_t next = ClusterView::NextReplication(config.replication(), wanted);
    const Status asked = co_await AskReplication(config, next);
    if (asked.code() == Code::kUnavailable) co_return Next::kWait;
    if (asked.code() == Code::kInvalidArgument) {  // as of a node of an earlier version
      std::string why = asked.message();
      co_return co_await Undo(std::move(job), std::move(why));
    }
    if (!asked.ok()) co_return asked;
    co_return Changed(id, revision) ? Next::kAgain : Next::kWait;
  }
  if (job.kind() != proto::JOB_KIND_MOVE_REPLICA) {
    // Others took the place: somebody who was thought lost has come back.
    const bool lost_member = std::any_of(config.in_sync().begin(), config.in_sync().end(),
                                         [&](const auto& ref) { return view_.Lost(ref, id); });
    if (!lost_member) co_return co_await Undo(std::move(job), "no longer needed");
    // Mostly the primary has noticed itself (R4). Not where the catalog alone has given a node up.
    const bool leader_lives = view_.Alive(NodeId(config.primary().node()));
    if (!from_in_sync || !leader_lives) co_return Next::kWait;
  }
  if (!from_in_sync) co_return co_await Undo(std::move(job), "no longer needed");
  if (SameReplica(config.primary(), job.from())) {
    const auto leader = OtherLeader(config, job.from());
    if (!leader) co_return co_await Undo(std::move(job), "no other replica could lead meanwhile");
    const Status asked = co_await AskTransfer(config, *leader);
    if (!asked.ok()) co_return asked;
    co_return Changed(id, revision) ? Next::kAgain : Next::kWait;
  }
  const Status asked = co_await AskReplace(config, job.from(), job.to());
  if (asked.code() == Code::kUnavailable) {
    log::Debug("a move waits", "job", job.id(), "status", asked);
    co_return Next::kWait;
  }
  if (!asked.ok()) co_return asked;
  co_return Changed(id, revision) ? Next::kAgain : Next::kWait;
}

/// `to` is in sync: `from`, if there is one, goes.
asio::awaitable<JobRunner::StepResult> JobRunner::RetireReplica(proto::Job job,
                                                                proto::PartitionConfig config,
                                                                Revision revision) {
  const PartitionId id(config.partition());
  const proto::ReplicaRef from = job.from();
  if (from.replica() == 0) co_return co_await Finish(std::move(job), "");
  if (IsLearner(config, from)) {
    co_return co_await Unname(std::move(job), std::move(config), revision, from);
  }
  if (IsInSync(config, from)) {
    if (job.kind() == proto::JOB_KIND_REPLACE_REPLICA) {
      if (view_.Lost(from, id)) co_return Next::kWait;  // the primary's to take out (R4)
      co_return co_await Finish(std::move(job), "");    // it has come back, in time
    }
    const bool leads = SameReplica(config.primary(), from);
    Status asked;
    if (leads) {
      asked = co_await AskTransfer(config, job.to());
    } else {
      asked = co_await AskReplace(config, from, job.to());
    }
    if (!asked.ok()) co_return asked;
    co_return Changed(id, revision) ? Next::kAgain : Next::kWait;
  }
  // A lost replica that was made again on the same node has left nothing to drop.
  if (from.node() != job.to().node()) {
    const Status dropped = co_await Drop(job.table(), job.partition(), from);
    if (!dropped.ok()) co_return dropped.WithContext(NodeName(from));
  }
  co_return co_await Finish(std::move(job), "");
}

asio::awaitable<JobRunner::StepResult> JobRunner::Unname(proto::Job job,
                                                         proto::PartitionConfig config,
                                                         Revision revision, proto::ReplicaRef ref) {
  EraseLearner(&config, ref);
  metadata::Transaction swap = Swap(config, revision);
  co_return co_await SaveStep(std::move(job), std::move(swap));
}

asio::awaitable<JobRunner::StepResult> JobRunner::Undo(proto::Job job, std::string why) {
  log::Info("a job is given up", "job", job.id(), "partition", job.partition(), "why", why);
  job.set_step(kReplicaUndo);
  job.set_error(std::move(why));
  metadata::Transaction nothing;
  co_return co_await SaveStep(std::move(job), std::move(nothing));
}

asio::awaitable<JobRunner::StepResult> JobRunner::TakeBack(proto::Job job) {
  const PartitionView* partition = view_.Partition(PartitionId(job.partition()));
  if (partition != nullptr) {
    if (IsInSync(partition->config, job.to())) {
      // It made it after all: forward is the only way.
      job.set_step(kReplicaNamed);
      job.clear_error();
      metadata::Transaction nothing;
      co_return co_await SaveStep(std::move(job), std::move(nothing));
    }
    if (IsLearner(partition->config, job.to())) {
      const proto::ReplicaRef to = job.to();
      co_return co_await Unname(std::move(job), partition->config, partition->revision, to);
    }
  }
  const Status dropped = co_await Drop(job.table(), job.partition(), job.to());
  if (!dropped.ok()) co_return dropped.WithContext(NodeName(job.to()));
  std::string why = job.error();
  co_return co_await Finish(std::move(job), std::move(why));
}

asio::awaitable<JobRunner::StepResult> JobRunner::RemoveReplica(proto::Job job) {
  const PartitionView* partition = view_.Partition(PartitionId(job.partition()));
  const proto::ReplicaRef from = job.from();
  if (partition != nullptr && IsInSync(partition->config, from)) {
    co_return co_await Finish(std::move(job), "it is in sync");
  }
  if (partition != nullptr && IsLearner(partition->config, from)) {
    co_return co_await Unname(std::move(job), partition->config, partition->revision, from);
  }
  const Status dropped = co_await Drop(job.table(), job.partition(), from);
  if (dropped.code() == Code::kConditionFailed) {
    co_return co_await Finish(std::move(job), dropped.message());
  }
  if (!dropped.ok()) co_return dropped.WithContext(NodeName(from));
  co_return co_await Finish(std::move(job), "");
}

asio::awaitable<JobRunner::StepResult> JobRunner::TransferPrimary(proto::Job job) {
  const PartitionView* partition = view_.Partition(PartitionId(job.partition()));
  if (partition == nullptr) co_return co_await Finish(std::move(job), "the partition is gone");
  const proto::PartitionConfig config = partition->config;
  if (SameReplica(config.primary(), job.to())) co_return co_await Finish(std::move(job), "");
  if (!IsInSync(config, job.to())) {
    std::string why = NodeName(job.to()) + " is not in sync";
    co_return co_await Finish(std::move(job), std::move(why));
  }
  const auto trouble = troubles_.find(job.id());
  if (trouble != troubles_.end() && trouble->second.attempts >= kMaxTransferTries) {
    std::string error = trouble->second.error;
    co_return co_await Finish(std::move(job), std::move(error));
  }
  const Revision revision = partition->revision;
  const Status asked = co_await AskTransfer(config, job.to());
  if (!asked.ok()) co_return asked.WithContext(NodeName(config.primary()));
  co_return Changed(PartitionId(job.partition()), revision) ? Next::kAgain : Next::kWait;
}

/// The replicas that takes are there, or it is to do with fewer. What adds them asks as well
/// (AwaitCaughtUp), since the first of them has no place before.
asio::awaitable<JobRunner::StepResult> JobRunner::SetReplication(proto::Job job) {
  const PartitionView* partition = view_.Partition(PartitionId(job.partition()));
  if (partition == nullptr) co_return co_await Finish(std::move(job), "the partition is gone");
  const proto::PartitionConfig config = partition->config;
  const TableView* table = view_.Table(TableId(config.table()));
  const uint32_t wanted = table == nullptr ? 0 : table->record.replication();
  if (wanted == 0 || wanted == config.replication()) co_return co_await Finish(std::move(job), "");
  // Given up soon: the partition may have to be repaired first.
  const auto trouble = troubles_.find(job.id());
  if (trouble != troubles_.end() && trouble->second.attempts >= kMaxReplicationTries) {
    std::string error = trouble->second.error;
    co_return co_await Finish(std::move(job), std::move(error));
  }
  const Revision revision = partition->revision;
  const uint32_t next = ClusterView::NextReplication(config.replication(), wanted);
  const Status asked = co_await AskReplication(config, next);
  if (asked.code() == Code::kInvalidArgument) {  // as of a node of an earlier version
    std::string why = asked.message();
    co_return co_await Finish(std::move(job), std::move(why));
  }
  if (!asked.ok()) co_return asked.WithContext(NodeName(config.primary()));
  co_return Changed(PartitionId(job.partition()), revision) ? Next::kAgain : Next::kWait;
}

}  // namespace onggi::coordinator
