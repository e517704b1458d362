#include <algorithm>
#include <cmath>

#include "coordinator/planner.h"
#include "coordinator/planner_round.h"

/// The part of Planner that follows size and load: splits, merges, balance.
namespace onggi::coordinator {

namespace {

bool Over(const proto::ReplicaStatus& status, double read_units, double write_units) {
  return status.read_units() > read_units || status.write_units() > write_units;
}

}  // namespace

void Planner::PlanSplit(Round& round, PartitionId id, const PartitionView& partition) {
  const ClusterView& view = round.view;
  const NodeView* node = view.Node(NodeId(partition.config.primary().node()));
  const proto::ReplicaStatus* status = view.PrimaryStatus(partition);
  const bool fresh =
      status != nullptr && node->alive &&
      round.now - node->reported_at < options_.silent_after_reports * options_.report_interval;
  if (!fresh || !Over(*status, options_.split_read_units, options_.split_write_units)) {
    hot_since_.erase(id);
  } else {
    hot_since_.try_emplace(id, round.now);
  }
  if (!fresh) return;
  const bool hot = hot_since_.contains(id);
  const bool single_key =
      status->hot_keys_size() > 0 && status->hot_keys(0).share() >= options_.single_key_share;
  if (hot && single_key) {
    single_hot_.insert(id);
    HotKeyReport report{TableId(partition.config.table()), id, status->hot_keys(0)};
    round.plan.hot_keys.push_back(std::move(report));
  }
  if (round.Busy(id) || round.Full(options_) || !Whole(partition)) return;
  if (round.now - partition.first_seen < options_.split_cooldown) return;
  const bool large = view.BytesOf(partition) > options_.split_bytes;
  const bool sustained = hot && round.now - hot_since_[id] >= options_.split_sustain;
  const std::string* key = nullptr;
  std::string reason;
  if (sustained && !single_key && !status->load_split_key().empty()) {
    key = &status->load_split_key();
    reason = "load";
  } else if (large && !status->size_split_key().empty()) {
    key = &status->size_split_key();
    reason = "size";
  }
  if (key == nullptr) return;
  const TableView* table = view.Table(TableId(partition.config.table()));
  if (table == nullptr || table->record.status() == proto::TABLE_STATUS_DELETING) return;
  if (table->partitions.size() >= options_.max_partitions_per_table) {
    round.Warn("table " + table->record.name() + " has as many partitions as it may");
    return;
  }
  proto::Job& job = round.Add(proto::JOB_KIND_SPLIT, partition, std::move(reason));
  job.set_split_key(*key);
  hot_since_.erase(id);
}

/// Both must be small and cold at once, together well below what would split them again.
void Planner::PlanMerge(Round& round, PartitionId id, const PartitionView& left) {
  const ClusterView& view = round.view;
  const PartitionView* right = view.RightNeighbour(left);
  const auto cold = [&]() {
    if (right == nullptr) return false;
    const PartitionId right_id(right->config.partition());
    if (round.Busy(id) || round.Busy(right_id) || !Whole(left) || !Whole(*right)) return false;
    const TableView* table = view.Table(TableId(left.config.table()));
    if (table == nullptr || table->record.status() == proto::TABLE_STATUS_DELETING) return false;
    const proto::ReplicaStatus* a = view.PrimaryStatus(left);
    const proto::ReplicaStatus* b = view.PrimaryStatus(*right);
    if (a == nullptr || b == nullptr || !view.Available(left) || !view.Available(*right)) {
      return false;
    }
    for (const auto& ref : left.config.in_sync()) {
      if (!view.TakesReplicas(NodeId(ref.node()))) return false;
    }
    const double part = options_.merge_load_part;
    return b->merge_copy_bytes() <= options_.merge_copy_bytes &&
           a->read_units() + b->read_units() <= part * options_.split_read_units &&
           a->write_units() + b->write_units() <= part * options_.split_write_units &&
           static_cast<double>(view.BytesOf(left) + view.BytesOf(*right)) <=
               options_.merge_bytes_part * static_cast<double>(options_.split_bytes);
  };
  if (!cold()) {
    cold_since_.erase(id);
    return;
  }
  const PartitionId right_id(right->config.partition());
  const auto [it, inserted] = cold_since_.try_emplace(id, right_id, round.now);
  if (it->second.first != right_id) it->second = {right_id, round.now};
  if (round.now - it->second.second < options_.merge_sustain || round.Full(options_)) return;
  const NodeId leader(left.config.primary().node());
  const NodeUsage* usage = round.placement.Node(leader);
  if (usage == nullptr || usage->copies >= options_.max_copies_per_node) return;
  round.placement.AddCopy(leader);
  round.Add(proto::JOB_KIND_MERGE, left, "cold").set_other(right_id.value);
  round.planned.insert(right_id);
  cold_since_.erase(it);
}

/// Each transfer makes the sum of squares of primaries per node smaller, so this comes to an end.
void Planner::PlanTransfers(Round& round) {
  for (const auto& [id, partition] : round.view.partitions()) {
    if (round.Full(options_)) return;
    const NodeId leader(partition.config.primary().node());
    const NodeUsage* from = round.placement.Node(leader);
    // What nobody has opened yet (boot 0) is not opened to be balanced.
    if (from == nullptr || partition.config.boot() == 0 || !Whole(partition)) continue;
    if (from->transfers >= options_.max_transfers_per_node) continue;
    if (round.Busy(id) || CoolingDown(id, round.now) || !round.view.Available(partition)) continue;
    const auto to = round.placement.BestPrimary(round.view, partition, leader);
    if (!to) continue;
    const NodeId target(to->node());
    const NodeUsage* there = round.placement.Node(target);
    const size_t slack = std::max<size_t>(2, from->primaries / 20);
    if (there->transfers >= options_.max_transfers_per_node) continue;
    if (from->primaries < there->primaries + slack) continue;
    *round.Add(proto::JOB_KIND_TRANSFER_PRIMARY, partition, "balance").mutable_to() = *to;
    round.placement.RemovePrimary(leader);
    round.placement.AddPrimary(target);
    round.placement.AddTransfer(leader);
    round.placement.AddTransfer(target);
    moved_at_[id] = round.now;
  }
}

void Planner::PlanMoves(Round& round) {
  double sum = 0;
  size_t count = 0;
  for (const auto& [node, usage] : round.placement.nodes()) {
    if (!usage.takes_replicas) continue;
    // Without reports all replicas look alike, and would be moved for nothing. (Not for long: who
    // goes on saying nothing takes no replicas.)
    if (!round.view.Node(node)->reported) return;
    sum += usage.weight;
    ++count;
  }
  if (count < 2 || sum <= 0) return;
  const double average = sum / static_cast<double>(count);
  // Begins above the threshold, ends below half of it.
  std::vector<NodeId> heavy;
  for (const auto& [node, usage] : round.placement.nodes()) {
    if (!usage.takes_replicas) {
      shedding_.erase(node);
    } else if (usage.weight > average * (1 + options_.balance_threshold)) {
      shedding_.insert(node);
    } else if (usage.weight <= average * (1 + options_.balance_threshold / 2)) {
      shedding_.erase(node);
    }
    if (shedding_.contains(node) && usage.copies == 0) heavy.push_back(node);
  }
  std::sort(heavy.begin(), heavy.end(), [&](NodeId a, NodeId b) {
    return round.placement.Node(a)->weight > round.placement.Node(b)->weight;
  });
  for (const NodeId node : heavy) {
    if (round.Full(options_)) return;
    (void)PlanMoveFrom(round, node);
  }
}

/// The largest replica whose move leaves its new node lighter than this one was: every move makes
/// the sum of squares smaller. Backups before primaries, which would have to be transferred.
bool Planner::PlanMoveFrom(Round& round, NodeId heavy) {
  struct Choice {
    const PartitionView* partition = nullptr;
    proto::ReplicaRef from;
    NodeId to;
    double gain = 0;
  } best;
  const double weight = round.placement.Node(heavy)->weight;
  for (const auto& [id, partition] : round.view.partitions()) {
    const auto& config = partition.config;
    // One never led is no more than a name on this node.
    if (!HasMemberOn(config, heavy) || round.Busy(id) || !Whole(partition)) continue;
    if (config.boot() == 0 || config.replication() == 1 || CoolingDown(id, round.now)) continue;
    const std::vector<proto::ReplicaRef> members = Members(config);
    const auto from = std::find_if(members.begin(), members.end(),
                                   [&](const auto& ref) { return ref.node() == heavy.value; });
    const uint64_t bytes = round.view.BytesOf(partition);
    const double here = round.placement.WeightOf(heavy, bytes);
    const bool leads = SameReplica(config.primary(), *from);
    const double possible = here * (leads ? 0.75 : 1.0);
    if (possible <= best.gain) continue;
    const std::vector<NodeId> nodes = NodesOf(members);
    const std::vector<NodeId> kept = Without(nodes, heavy);
    std::vector<NodeId> excluded = round.view.NodesWithReplica(id);
    excluded.push_back(heavy);
    const auto to = round.placement.PlaceReplica(kept, excluded, bytes, 1);
    if (!to) continue;
    const double after = round.placement.Node(*to)->weight + round.placement.WeightOf(*to, bytes);
    if (after >= weight) continue;
    if (round.placement.InZone(kept, *to) > round.placement.InZone(kept, heavy)) continue;
    best = Choice{&partition, *from, *to, possible};
  }
  if (best.partition == nullptr) return false;
  const PartitionId id(best.partition->config.partition());
  const uint64_t bytes = round.view.BytesOf(*best.partition);
  proto::Job& job = round.Add(proto::JOB_KIND_MOVE_REPLICA, *best.partition, "balance");
  *job.mutable_from() = best.from;
  job.mutable_to()->set_node(best.to.value);
  round.placement.AddCopy(heavy);
  round.placement.AddCopy(best.to);
  round.placement.AddReplica(best.to, bytes);
  round.placement.RemoveReplica(heavy, bytes);
  moved_at_[id] = round.now;
  return true;
}

}  // namespace onggi::coordinator
