#include "tests/simulation/jobs.h"

#include <algorithm>
#include <utility>

#include "replication/group/record.h"
#include "replication/metadata/keys.h"

namespace onggi::simulation {

namespace {
constexpr TableId kTable{1};
}

Jobs::Jobs(Cluster* cluster)
    : cluster_(cluster), store_(metadata::SimulatedStore::Connect(cluster->shared_metadata())) {}

std::optional<PartitionId> Jobs::Any() {
  const std::vector<PartitionId> all = cluster_->Partitions();
  if (all.empty()) return std::nullopt;
  return all[cluster_->random().Below(all.size())];
}

/// Only ever learners.
void Jobs::Swap(PartitionId partition, const group::Configuration& configuration,
                Revision expected) {
  const std::string key = metadata::keys::Partition(kTable, partition);
  metadata::Transaction transaction;
  transaction.compares.push_back(metadata::Compare::At(key, expected));
  transaction.puts.push_back({key, group::Encode(kTable, partition, configuration)});
  store_->AsyncCommit(std::move(transaction), [](const auto&) {});
}

void Jobs::AddLearner(PartitionId partition, NodeId node, ReplicaId replica) {
  Process* process = cluster_->ProcessOf(node);
  if (process == nullptr || cluster_->node(node).paused(cluster_->scheduler().now())) return;
  process->DropReplica(partition);
  if (process->disk().images.count(partition) != 0) return;
  if (!process->CreateReplica(partition, replica)) return;
  Revision revision;
  auto key = cluster_->Key(partition, &revision);
  if (!key || key->epoch == Epoch(0)) return;
  key->learners.push_back({node, replica});
  Swap(partition, *key, revision);
}

void Jobs::RemoveLearner(PartitionId partition, const group::Member& member) {
  Revision revision;
  auto key = cluster_->Key(partition, &revision);
  if (!key || !key->Learner(member)) return;
  std::erase(key->learners, member);
  Swap(partition, *key, revision);
}

void Jobs::Repair() {
  GoOn();
  for (const PartitionId partition : cluster_->Partitions()) {
    const auto key = cluster_->Key(partition);
    if (!key || key->epoch == Epoch(0)) continue;
    std::vector<group::Member> members = key->in_sync;
    members.insert(members.end(), key->learners.begin(), key->learners.end());
    std::vector<NodeId> free;
    for (const auto& node : cluster_->nodes()) {
      const bool has = std::any_of(members.begin(), members.end(),
                                   [&](const auto& member) { return member.node == node->id; });
      if (!has && node->process != nullptr) free.push_back(node->id);
    }
    if (Machine* primary = cluster_->Primary(partition)) SplitAgain(primary, *key);
    size_t whole = 0;
    bool removed = false;
    for (const group::Member& member : members) {
      const Node& node = cluster_->node(member.node);
      const auto image = node.disk.images.find(partition);
      const bool lost = image == node.disk.images.end() || image->second.replica != member.replica;
      if (!lost) {
        ++whole;
      } else if (key->Learner(member) && !removed) {
        removed = true;
        RemoveLearner(partition, member);
      }
    }
    if (removed) continue;
    const bool moving = std::any_of(moves_.begin(), moves_.end(), [&](const Moving& move) {
      return move.partition == partition;
    });
    const auto wanted = replication_.find(partition);
    // A partition that is about to have fewer may need one more to get there.
    const uint32_t replication =
        std::max(key->replication, wanted == replication_.end() ? 0 : wanted->second);
    if (whole < replication && !free.empty()) {
      AddLearner(partition, free[cluster_->random().Below(free.size())], cluster_->NextReplica());
    } else if (!moving && key->in_sync.size() >= replication && !key->learners.empty()) {
      RemoveLearner(partition, key->learners.front());
    }
    if (wanted != replication_.end()) {
      if (Machine* primary = cluster_->Primary(partition))
        primary->replica().Ask(group::SetReplication{wanted->second});
    }
  }
}

void Jobs::Transfer() {
  const auto partition = Any();
  if (!partition) return;
  const auto key = cluster_->Key(*partition);
  Machine* primary = cluster_->Primary(*partition);
  if (!key || primary == nullptr || key->in_sync.size() < 2) return;
  const group::Member target = key->in_sync[cluster_->random().Below(key->in_sync.size())];
  primary->replica().Ask(group::Transfer{target});
  if (!cluster_->random().Chance(700)) return;
  Process* process = cluster_->ProcessOf(key->primary.node);
  process->After(cluster_->random().Between(Time(0), milliseconds(500)),
                 [primary, self = primary->shared_replica()] {
                   self->Ask(group::CancelTransfer{});
                   (void)primary;
                 });
}

void Jobs::Move() {
  const auto partition = Any();
  if (!partition || !moves_.empty()) return;
  const auto key = cluster_->Key(*partition);
  if (!key || key->epoch == Epoch(0) || key->in_sync.size() < 2) return;
  const group::Member out = key->in_sync[cluster_->random().Below(key->in_sync.size())];
  for (const auto& node : cluster_->nodes()) {
    const group::Member there{node->id, ReplicaId()};
    bool has = false;
    for (const auto* members : {&key->in_sync, &key->learners}) {
      for (const group::Member& member : *members) has = has || member.node == there.node;
    }
    if (has || node->process == nullptr) continue;
    Moving move{*partition, out, cluster_->NextReplica(), node->id,
                cluster_->scheduler().now() + seconds(4)};
    AddLearner(*partition, move.to, move.in);
    moves_.push_back(move);
    return;
  }
}

bool Jobs::GoOn(const Moving& move) {
  if (cluster_->scheduler().now() > move.until) return false;
  const auto key = cluster_->Key(move.partition);
  const group::Member in{move.to, move.in};
  if (!key || !key->InSync(move.out)) return false;
  if (!key->Names(in)) return true;
  if (Machine* primary = cluster_->Primary(move.partition)) {
    if (key->primary == move.out) {
      for (const group::Member& member : key->in_sync) {
        if (member == move.out) continue;
        primary->replica().Ask(group::Transfer{member});
        break;
      }
    } else {
      primary->replica().Ask(group::Replace{move.out, in});
    }
  }
  return true;
}

void Jobs::ChangeReplication() {
  const auto partition = Any();
  if (!partition) return;
  const auto key = cluster_->Key(*partition);
  if (!key || key->epoch == Epoch(0)) return;
  std::vector<uint32_t> choices{1, 3};
  if (cluster_->nodes().size() >= 5) choices.push_back(5);
  replication_[*partition] = choices[cluster_->random().Below(choices.size())];
}

void Jobs::Split() {
  const auto partition = Any();
  if (!partition || cluster_->Partitions().size() >= 6) return;
  const auto key = cluster_->Key(*partition);
  Machine* primary = cluster_->Primary(*partition);
  if (!key || primary == nullptr) return;
  std::map<NodeId, ReplicaId> replicas;
  for (const auto* members : {&key->in_sync, &key->learners}) {
    for (const group::Member& member : *members) replicas[member.node] = cluster_->NextReplica();
  }
  const std::string at = cluster_->SomeCut();
  const PartitionId child = cluster_->NextPartition();
  // As a coordinator's job: it is asked for again until it is done.
  if (cluster_->world() != nullptr) {
    Splitting split{*partition, at, child, {}};
    for (const auto* members : {&key->in_sync, &key->learners}) {
      for (const group::Member& member : *members) split.replicas[member] = replicas[member.node];
    }
    splits_.push_back(std::move(split));
  }
  primary->Split(at, child, std::move(replicas));
}

bool Jobs::GoOn(Splitting* split) {
  const auto key = cluster_->Key(split->partition);
  if (!key || split->key <= key->range_start) return false;
  if (!key->range_end.empty() && split->key >= key->range_end) return false;
  Machine* primary = cluster_->Primary(split->partition);
  if (primary == nullptr) return true;
  std::map<NodeId, ReplicaId> replicas;
  for (const auto* members : {&key->in_sync, &key->learners}) {
    for (const group::Member& member : *members) {
      ReplicaId& replica = split->replicas[member];
      if (replica == ReplicaId()) replica = cluster_->NextReplica();
      replicas[member.node] = replica;
    }
  }
  primary->Split(split->key, split->child, std::move(replicas));
  return true;
}

/// A split whose members were replaced before enough of them had their part of the child.
void Jobs::SplitAgain(Machine* primary, const group::Configuration& key) {
  const auto split = primary->cutting();
  if (!split) return;
  std::map<NodeId, ReplicaId> missing;
  for (const group::Member& member : key.in_sync) {
    if (split->child_replicas.count({member.node, member.replica}) == 0)
      missing[member.node] = cluster_->NextReplica();
  }
  if (!missing.empty()) primary->Split(split->key, split->child, std::move(missing));
}

// Merges. -----------------------------------------------------------------------------------------

void Jobs::Merge() {
  if (!merges_.empty()) return;
  std::map<std::string, PartitionId> starts;
  for (const PartitionId partition : cluster_->Partitions()) {
    const auto key = cluster_->Key(partition);
    if (key && key->epoch != Epoch(0)) starts[key->range_start] = partition;
  }
  for (const auto& [start, left] : starts) {
    const auto key = cluster_->Key(left);
    const auto next = starts.find(key->range_end);
    if (key->range_end.empty() || next == starts.end() || cluster_->random().Chance(300)) continue;
    merges_.push_back({left, next->second, cluster_->scheduler().now() + seconds(8)});
    return;
  }
}

bool Jobs::GoOn(Merging* merge) {
  if (cluster_->scheduler().now() > merge->until) return false;
  const auto left_key = cluster_->Key(merge->left);
  const auto right_key = cluster_->Key(merge->right);
  if (!left_key || !right_key || left_key->range_end != right_key->range_start) return false;
  Machine* left = cluster_->Primary(merge->left);
  Machine* right = cluster_->Primary(merge->right);
  if (left == nullptr || right == nullptr) return true;
  // Members on the same nodes, primaries on one.
  for (const group::Member& member : left_key->in_sync) {
    const bool both =
        std::any_of(right_key->in_sync.begin(), right_key->in_sync.end(),
                    [&](const group::Member& other) { return other.node == member.node; });
    if (!both) return true;
  }
  if (left_key->primary.node != right_key->primary.node) {
    for (const group::Member& member : right_key->in_sync) {
      if (member.node == left_key->primary.node) right->replica().Ask(group::Transfer{member});
    }
    return true;
  }
  if (!right->grant()) {
    if (!merge->absorbed) right->Freeze();
    return true;
  }
  if (merge->absorbed) return true;
  left->Absorb(merge->right, *right_key, right->grant()->freeze, right->grant()->revision);
  // A shipped partition is asked for each step until it is done, as PartitionManager does.
  merge->absorbed = cluster_->world() == nullptr;
  return true;
}

void Jobs::GoOn() {
  std::erase_if(moves_, [&](const Moving& move) { return !GoOn(move); });
  std::erase_if(merges_, [&](Merging& merge) { return !GoOn(&merge); });
  std::erase_if(splits_, [&](Splitting& split) { return !GoOn(&split); });
}

}  // namespace onggi::simulation
