#include <algorithm>
#include <utility>
#include <vector>

#include "coordinator/job_runner.h"
#include "replication/metadata/keys.h"

/// The jobs of JobRunner that change ranges: split and merge. The primary does either in one
/// transaction; these get it that far, and see that it has happened.
namespace onggi::coordinator {

namespace asio = boost::asio;
namespace keys = metadata::keys;

namespace {

constexpr uint32_t kMaxMergeTries = 8;

std::string KeyOf(const proto::PartitionConfig& config) {
  return keys::Partition(TableId(config.table()), PartitionId(config.partition()));
}

bool Names(const proto::Job& job, uint64_t node) {
  return std::any_of(job.other_replicas().begin(), job.other_replicas().end(),
                     [node](const auto& ref) { return ref.node() == node; });
}

bool OnNode(const proto::PartitionConfig& config, uint64_t node) {
  return HasMemberOn(config, NodeId(node));
}

}  // namespace

asio::awaitable<JobRunner::StepResult> JobRunner::Split(proto::Job job) {
  const PartitionId parent_id(job.partition());
  if (view_.Partition(PartitionId(job.other())) != nullptr) {
    co_return co_await Finish(std::move(job), "");
  }
  const PartitionView* parent = view_.Partition(parent_id);
  if (parent == nullptr) co_return co_await Finish(std::move(job), "the partition is gone");
  const proto::PartitionConfig config = parent->config;
  // Recovered with loss of data (recovery.cc): it serves nothing before it is repaired, and that
  // takes the partition. What the Split may have made before on other disks is of data that is
  // lost; under the numbers of this job it would pass for what is made now.
  if (config.in_sync_size() < static_cast<int>(config.min_in_sync())) {
    co_return co_await Finish(std::move(job), "too few replicas are left");
  }
  const JobView* other = view_.JobOf(parent_id);
  if (view_.StandsAside(job) || (other != nullptr && other->record.id() != job.id())) {
    co_return Next::kWait;
  }

  // Who joined since the job was made has no number for its half yet.
  std::vector<uint64_t> unnamed;
  for (const auto& ref : Members(config)) {
    if (!Names(job, ref.node())) unnamed.push_back(ref.node());
  }
  if (!unnamed.empty()) {
    metadata::Transaction take;
    Result<uint64_t> first = co_await catalog_.TakeIds(keys::NextReplica(), unnamed.size(), &take);
    if (!first.ok()) co_return std::move(first).status();
    for (size_t i = 0; i < unnamed.size(); ++i) {
      proto::ReplicaRef* ref = job.add_other_replicas();
      ref->set_node(unnamed[i]);
      ref->set_replica(*first + i);
    }
    co_return co_await SaveStep(std::move(job), std::move(take));
  }

  proto::SplitPartitionRequest request;
  request.set_table(job.table());
  request.set_partition(job.partition());
  request.set_split_key(job.split_key());
  request.set_child(job.other());
  *request.mutable_child_replicas() = job.other_replicas();
  const NodeId leader(config.primary().node());
  Status status = co_await nodes_.SplitPartition(leader, std::move(request));
  const std::string child_key = keys::Partition(TableId(job.table()), PartitionId(job.other()));
  (void)co_await catalog_.Refresh(KeyOf(config));
  const Status read = co_await catalog_.Refresh(child_key);
  if (!read.ok()) co_return read;
  if (view_.Partition(PartitionId(job.other())) != nullptr) {
    co_return co_await Finish(std::move(job), "");
  }
  // Refused for good, and the child's key is not there: it never will be.
  if (status.code() == Code::kInvalidArgument) {
    std::string why = status.message();
    co_return co_await Finish(std::move(job), std::move(why));
  }
  status = co_await Judge(config, std::move(status));
  if (!status.ok()) co_return status.WithContext("node " + leader.ToString());
  co_return Next::kWait;
}

asio::awaitable<JobRunner::StepResult> JobRunner::Merge(proto::Job job) {
  const TableId table(job.table());
  const PartitionView* left = view_.Partition(PartitionId(job.partition()));
  const PartitionView* right = view_.Partition(PartitionId(job.other()));
  if (right == nullptr) {
    // Taken in, or gone with its table.
    co_return co_await Finish(std::move(job), left == nullptr ? "the partitions are gone" : "");
  }
  if (left == nullptr) co_return co_await Finish(std::move(job), "the left partition is gone");
  const proto::PartitionConfig l = left->config;
  const proto::PartitionConfig r = right->config;
  if (job.step() != kMergePlanned) {
    co_return co_await MergeMove(std::move(job), r, right->revision);
  }
  if (l.range_end() != r.range_start()) {
    co_return co_await Finish(std::move(job), "they are not neighbours any more");
  }
  // Each try takes writes from the right one for some time.
  const auto trouble = troubles_.find(job.id());
  if (trouble != troubles_.end() && trouble->second.attempts >= kMaxMergeTries) {
    std::string error = trouble->second.error;
    co_return co_await Finish(std::move(job), std::move(error));
  }
  // What is not whole is repaired first, and that takes the partition.
  for (const auto* config : {&l, &r}) {
    if (config->in_sync_size() < static_cast<int>(config->replication())) {
      co_return co_await Finish(std::move(job), "a replica is missing");
    }
  }
  const bool same_nodes = l.in_sync_size() == r.in_sync_size() &&
                          std::all_of(r.in_sync().begin(), r.in_sync().end(),
                                      [&](const auto& ref) { return OnNode(l, ref.node()); });
  if (!same_nodes) {
    // Of what is closed nobody knows: then its node says so in the end.
    const proto::ReplicaStatus* status = view_.PrimaryStatus(*right);
    const uint64_t bytes = status == nullptr ? UINT64_MAX : status->merge_copy_bytes();
    if (bytes != UINT64_MAX && bytes > options_.merge_copy_limit_bytes) {
      co_return co_await Finish(std::move(job),
                                "partition " + std::to_string(r.partition()) +
                                    " is too large to be merged: " + std::to_string(bytes >> 20) +
                                    " MB to copy, of at most " +
                                    std::to_string(options_.merge_copy_limit_bytes >> 20));
    }
    co_return co_await PlanMergeMove(std::move(job), l, r);
  }
  if (r.learners_size() > 0) {
    const proto::ReplicaRef learner = r.learners(0);
    co_return co_await Unname(std::move(job), r, right->revision, learner);
  }
  if (l.primary().node() != r.primary().node()) {
    const Revision before = right->revision;
    proto::ReplicaRef to;
    for (const auto& ref : r.in_sync()) {
      if (ref.node() == l.primary().node()) to = ref;
    }
    const Status asked = co_await AskTransfer(r, to);
    if (!asked.ok()) co_return asked;
    co_return Changed(PartitionId(r.partition()), before) ? Next::kAgain : Next::kWait;
  }
  proto::MergePartitionsRequest request;
  request.set_table(table.value);
  request.set_left(l.partition());
  request.set_right(r.partition());
  const NodeId leader(l.primary().node());
  Status status = co_await nodes_.MergePartitions(leader, std::move(request));
  const Status read_left = co_await catalog_.Refresh(KeyOf(l));
  const Status read_right = co_await catalog_.Refresh(KeyOf(r));
  if (!read_left.ok()) co_return read_left;
  if (!read_right.ok()) co_return read_right;
  if (view_.Partition(PartitionId(r.partition())) == nullptr) {
    co_return co_await Finish(std::move(job), "");
  }
  if (status.code() == Code::kInvalidArgument) {
    std::string why = status.message();
    co_return co_await Finish(std::move(job), std::move(why));
  }
  status = co_await Judge(l, std::move(status));
  if (!status.ok()) co_return status.WithContext("node " + leader.ToString());
  co_return Next::kWait;
}

/// One of the right partition's replicas that stands on none of the left one's nodes, to one of
/// those that the right one is not on.
asio::awaitable<JobRunner::StepResult> JobRunner::PlanMergeMove(proto::Job job,
                                                                proto::PartitionConfig left,
                                                                proto::PartitionConfig right) {
  proto::ReplicaRef from;
  for (const auto& ref : right.in_sync()) {
    if (!OnNode(left, ref.node())) from = ref;
  }
  NodeId target;
  for (const auto& ref : left.in_sync()) {
    if (OnNode(right, ref.node())) continue;
    if (!view_.TakesReplicas(NodeId(ref.node()))) {
      co_return co_await Finish(std::move(job),
                                "node " + std::to_string(ref.node()) + " takes no replicas now");
    }
    target = NodeId(ref.node());
  }
  if (from.replica() == 0 || target == NodeId() || right.replication() == 1) {
    co_return co_await Finish(std::move(job), "their replicas cannot be brought together");
  }
  metadata::Transaction take;
  Result<uint64_t> replica = co_await catalog_.TakeIds(keys::NextReplica(), 1, &take);
  if (!replica.ok()) co_return std::move(replica).status();
  *job.mutable_from() = from;
  job.mutable_to()->set_node(target.value);
  job.mutable_to()->set_replica(*replica);
  job.set_step(kMergeMoving);
  co_return co_await SaveStep(std::move(job), std::move(take));
}

/// As a move of the right partition; given up, it goes with the merge.
asio::awaitable<JobRunner::StepResult> JobRunner::MergeMove(proto::Job job,
                                                            proto::PartitionConfig right,
                                                            Revision revision) {
  const PartitionId id(right.partition());
  const proto::ReplicaRef from = job.from();
  const proto::ReplicaRef to = job.to();
  const std::string target = "node " + std::to_string(to.node());
  if (IsInSync(right, to)) {
    if (IsInSync(right, from)) {
      Status asked;
      if (SameReplica(right.primary(), from)) {
        asked = co_await AskTransfer(right, to);
      } else {
        asked = co_await AskReplace(right, from, to);
      }
      if (!asked.ok()) co_return asked;
      co_return Changed(id, revision) ? Next::kAgain : Next::kWait;
    }
    if (IsLearner(right, from)) {
      co_return co_await Unname(std::move(job), std::move(right), revision, from);
    }
    const Status dropped = co_await Drop(job.table(), right.partition(), from);
    if (!dropped.ok()) co_return dropped;
    job.set_step(kMergePlanned);
    job.clear_from();
    job.clear_to();
    metadata::Transaction nothing;
    co_return co_await SaveStep(std::move(job), std::move(nothing));
  }
  const bool hopeless = view_.Lost(to, id) || !IsInSync(right, from) || Stalled(job);
  if (IsLearner(right, to)) {
    if (hopeless) co_return co_await Unname(std::move(job), std::move(right), revision, to);
    if (right.in_sync_size() < static_cast<int>(right.replication())) co_return Next::kWait;
    if (SameReplica(right.primary(), from)) {
      const auto leader = OtherLeader(right, from);
      if (!leader) co_return Next::kWait;
      const Status transferred = co_await AskTransfer(right, *leader);
      if (!transferred.ok()) co_return transferred;
      co_return Changed(id, revision) ? Next::kAgain : Next::kWait;
    }
    const Status asked = co_await AskReplace(right, from, to);
    if (asked.code() == Code::kUnavailable) co_return Next::kWait;
    if (!asked.ok()) co_return asked;
    co_return Changed(id, revision) ? Next::kAgain : Next::kWait;
  }
  const bool takes = view_.TakesReplicas(NodeId(to.node()));
  if (hopeless || job.step() == kMergeMoved || !takes) {
    const Status dropped = co_await Drop(job.table(), right.partition(), to);
    if (!dropped.ok()) co_return dropped;
    co_return co_await Finish(std::move(job), target + " did not take over a replica");
  }
  const Revision node_revision = view_.Node(NodeId(to.node()))->revision;
  proto::CreateReplicaRequest request;
  request.set_table(job.table());
  request.set_partition(right.partition());
  request.set_replica(to.replica());
  const Status created = co_await nodes_.CreateReplica(NodeId(to.node()), std::move(request));
  if (created.code() == Code::kAlreadyExists || created.code() == Code::kOutOfSpace) {
    std::string why = target + ": " + created.message();
    co_return co_await Finish(std::move(job), std::move(why));
  }
  if (!created.ok()) co_return created.WithContext(target);
  *right.add_learners() = to;
  job.set_step(kMergeMoved);
  metadata::Transaction swap;
  swap.compares.push_back(metadata::Compare::At(KeyOf(right), revision));
  swap.compares.push_back(metadata::Compare::At(keys::Node(NodeId(to.node())), node_revision));
  swap.puts.push_back({KeyOf(right), right.SerializeAsString()});
  co_return co_await SaveStep(std::move(job), std::move(swap));
}

}  // namespace onggi::coordinator
