#include "coordinator/planner.h"

#include "coordinator/planner_round.h"

namespace onggi::coordinator {

Plan Planner::Decide(const ClusterView& view, SteadyTime now) {
  Forget(view);
  std::erase_if(failed_at_,
                [&](const auto& entry) { return now - entry.second >= options_.max_backoff; });
  Round round(view, now);
  for (const auto& [id, when] : failed_at_) round.resting.insert(id);
  PlanNodeStates(round);
  // First: what is in the way of a new replica goes.
  PlanUnnamed(round);
  for (const auto& [id, partition] : view.partitions()) {
    if (!view.Available(partition)) ++round.plan.leaderless;
    if (view.LivingInSync(partition) < partition.config.replication()) {
      ++round.plan.under_replicated;
    }
    const TableView* table = view.Table(TableId(partition.config.table()));
    if (table == nullptr || table->record.status() == proto::TABLE_STATUS_DELETING) continue;
    PlanRepair(round, id, partition);
  }
  single_hot_.clear();
  for (const auto& [id, partition] : view.partitions()) PlanSplit(round, id, partition);
  if (options_.merge) {
    for (const auto& [id, partition] : view.partitions()) PlanMerge(round, id, partition);
  }
  if (options_.balance && !round.repairing) {
    PlanTransfers(round);
    PlanMoves(round);
  }
  return std::move(round.plan);
}

void Planner::PlanNodeStates(Round& round) {
  for (const auto& [id, node] : round.view.nodes()) {
    const proto::NodeState state = node.record.state();
    // Silence counts from when it was last this coordinator that heard nobody.
    const SteadyTime missing =
        node.alive ? std::max(node.heard_at(), round.view.mostly_silent_at()) : node.missing_since;
    const bool gone = (node.silent || !node.alive) && round.now - missing >= options_.dead_after;
    const bool heard = node.reported && node.report_boot == node.record.boot() && !node.silent;
    if (state == proto::NODE_STATE_DEAD && node.alive && heard) {
      round.plan.node_states.emplace_back(id, proto::NODE_STATE_ACTIVE);
    } else if ((state == proto::NODE_STATE_ACTIVE || state == proto::NODE_STATE_DRAINING) && gone) {
      round.plan.node_states.emplace_back(id, proto::NODE_STATE_DEAD);
    } else if (state == proto::NODE_STATE_DRAINING) {
      // Its own word that nothing is left there, named or not.
      bool empty = node.alive && node.reported && node.replicas.empty();
      for (const auto& [partition_id, partition] : round.view.partitions()) {
        if (HasMemberOn(partition.config, id)) empty = false;
      }
      for (const auto& [job_id, job] : round.view.jobs()) {
        if (job.running() &&
            (job.record.from().node() == id.value || job.record.to().node() == id.value)) {
          empty = false;
        }
      }
      if (empty) round.plan.node_states.emplace_back(id, proto::NODE_STATE_DECOMMISSIONED);
    }
    if (!node.alive && state != proto::NODE_STATE_DECOMMISSIONED) {
      round.Warn("node " + id.ToString() + " does not answer");
    }
    if (node.silent) {
      round.Warn("node " + id.ToString() +
                 " is registered and does not report: is it out of reach, or its certificate "
                 "another authority's?");
    }
    if (node.disk_low) round.Warn("node " + id.ToString() + ": its disk is below the reserve");
  }
}

void Planner::PlanRepair(Round& round, PartitionId id, const PartitionView& partition) {
  const ClusterView& view = round.view;
  const auto& config = partition.config;
  const size_t replication = config.replication();
  std::vector<proto::ReplicaRef> healthy;
  std::vector<proto::ReplicaRef> staying;  // healthy, and not on a node that drains
  std::optional<proto::ReplicaRef> lost;
  std::optional<proto::ReplicaRef> draining;
  for (const auto& ref : Members(config)) {
    if (view.Lost(ref, id)) {
      // A learner first: it can be taken out at once.
      if (!lost || IsLearner(config, ref)) lost = ref;
      continue;
    }
    healthy.push_back(ref);
    const proto::NodeState state = view.Node(NodeId(ref.node()))->record.state();
    if (state == proto::NODE_STATE_DRAINING || state == proto::NODE_STATE_DECOMMISSIONED) {
      draining = ref;
    } else {
      staying.push_back(ref);
    }
  }
  if (lost || healthy.size() < replication) round.repairing = true;
  if (round.BusyForRepair(id) || round.Full(options_)) return;

  const uint32_t wanted = view.Table(TableId(config.table()))->record.replication();
  const std::string wants = "its table wants " + std::to_string(wanted) + " replicas";
  std::optional<proto::ReplicaRef> leader;
  if (draining) leader = round.placement.BestPrimary(view, partition, NodeId(draining->node()));
  const bool hands_over =
      draining && leader && config.boot() != 0 && SameReplica(config.primary(), *draining);
  // Before repairs, since a lost one may be what it is to do without; but only of who serves, and
  // has members enough to commit: else a repair may be what it takes to.
  const bool fewer = wanted != 0 && wanted < replication && healthy.size() >= wanted &&
                     view.Available(partition) && !round.Busy(id);
  if (fewer && view.LivingInSync(partition) >= config.min_in_sync()) {
    if (hands_over) {  // the primary stays in any case
      *round.Add(proto::JOB_KIND_TRANSFER_PRIMARY, partition, wants).mutable_to() = *leader;
    } else {
      round.Add(proto::JOB_KIND_SET_REPLICATION, partition, wants);
    }
    return;
  }

  const uint64_t bytes = view.BytesOf(partition);
  const auto place = [&]() {
    std::vector<NodeId> excluded = NodesOf(healthy);
    for (const NodeId node : view.NodesWithReplica(id)) excluded.push_back(node);
    return round.placement.PlaceReplica(NodesOf(staying), excluded, bytes,
                                        options_.max_copies_per_node);
  };
  const auto start_copy = [&](proto::JobKind kind, std::string reason, NodeId to) -> proto::Job& {
    proto::Job& job = round.Add(kind, partition, std::move(reason));
    job.mutable_to()->set_node(to.value);
    round.placement.AddCopy(to);
    round.placement.AddReplica(to, bytes);
    return job;
  };
  if (lost && healthy.size() >= replication) {
    if (!IsLearner(config, *lost)) return;  // the primary takes a healthy learner in its place
    *round.Add(proto::JOB_KIND_REMOVE_REPLICA, partition, "lost").mutable_from() = *lost;
  } else if (lost) {
    // What a living node lost (a damaged directory) is best made again there, once the primary has
    // taken it out (R4): a node has one replica of a partition.
    const NodeId there(lost->node());
    const NodeUsage* usage = round.placement.Node(there);
    std::optional<NodeId> to;
    if (usage != nullptr && usage->takes_replicas && IsLearner(config, *lost)) {
      to = there;
    } else if (usage != nullptr && usage->takes_replicas &&
               config.in_sync_size() > static_cast<int>(config.min_in_sync())) {
      return;
    } else {
      to = place();
    }
    if (!to && fewer) {  // its primary may do without even so
      round.Add(proto::JOB_KIND_SET_REPLICATION, partition, wants);
      return;
    }
    if (!to) {
      round.Warn(Text(id) + ": no node can take the place of node " + there.ToString());
      return;
    }
    const bool dead = *to != there;
    *start_copy(proto::JOB_KIND_REPLACE_REPLICA,
                "node " + there.ToString() + (dead ? " is dead" : " lost its replica"), *to)
         .mutable_from() = *lost;
  } else if (healthy.size() < replication) {
    const auto to = place();
    if (!to) {
      round.Warn(Text(id) + ": no node for another replica");
      return;
    }
    start_copy(proto::JOB_KIND_ADD_REPLICA, "too few replicas", *to);
  } else if (healthy.size() > view.WantedReplicas(config) && config.learners_size() > 0 &&
             config.in_sync_size() >= static_cast<int>(replication)) {
    // Before drains, which one of these may be what is left of.
    const auto on_draining = [&](const proto::ReplicaRef& ref) {
      return draining && ref.node() == draining->node();
    };
    const auto& learners = config.learners();
    const auto first = std::find_if(learners.begin(), learners.end(), on_draining);
    *round.Add(proto::JOB_KIND_REMOVE_REPLICA, partition, "surplus").mutable_from() =
        first == learners.end() ? learners.Get(0) : *first;
  } else if (draining) {
    const std::string reason = "node " + std::to_string(draining->node()) + " drains";
    if (hands_over) {
      *round.Add(proto::JOB_KIND_TRANSFER_PRIMARY, partition, reason).mutable_to() = *leader;
      return;
    }
    if (replication == 1) {
      round.Warn(Text(id) + ": its only replica, on node " + std::to_string(draining->node()) +
                 ", cannot be moved");
      return;
    }
    const auto to = place();
    if (!to) {
      round.Warn(Text(id) + ": no node can take over from node " +
                 std::to_string(draining->node()));
      return;
    }
    *start_copy(proto::JOB_KIND_MOVE_REPLICA, reason, *to).mutable_from() = *draining;
  } else if (wanted > replication && RoomForMore(view, id, partition, healthy.size())) {
    if (healthy.size() >= ClusterView::NextReplication(config.replication(), wanted)) {
      round.Add(proto::JOB_KIND_SET_REPLICATION, partition, wants);
    } else if (const auto to = place()) {
      start_copy(proto::JOB_KIND_ADD_REPLICA, wants, *to);
    }
  } else {
    if (wanted > replication) round.Warn(Text(id) + ": " + wants + ", and there are too few nodes");
    if (options_.balance) PlanZone(round, id, partition, healthy);
  }
}

/// Are there as many nodes as the next number of replicas takes? Else the partition would wait,
/// with a greater minimum, for one that cannot come.
bool Planner::RoomForMore(const ClusterView& view, PartitionId id, const PartitionView& partition,
                          size_t healthy) const {
  const proto::PartitionConfig& config = partition.config;
  std::set<NodeId> taken;
  for (const NodeId node : view.NodesWithReplica(id)) taken.insert(node);
  for (const auto& ref : Members(config)) taken.insert(NodeId(ref.node()));
  size_t free = 0;
  for (const auto& [node, record] : view.nodes()) {
    if (view.TakesReplicas(node) && !taken.contains(node)) ++free;
  }
  return healthy + free >=
         ClusterView::NextReplication(config.replication(), view.WantedReplicas(config));
}

/// Two replicas in one zone, and a zone without any that could take one.
bool Planner::PlanZone(Round& round, PartitionId id, const PartitionView& partition,
                       const std::vector<proto::ReplicaRef>& healthy) {
  if (!Whole(partition) || partition.config.replication() == 1) return false;
  if (CoolingDown(id, round.now)) return false;
  const std::vector<NodeId> nodes = NodesOf(healthy);
  for (const auto& ref : healthy) {
    const NodeId node(ref.node());
    const std::vector<NodeId> kept = Without(nodes, node);
    if (round.placement.InZone(kept, node) == 0) continue;
    const uint64_t bytes = round.view.BytesOf(partition);
    std::vector<NodeId> excluded = round.view.NodesWithReplica(id);
    excluded.insert(excluded.end(), nodes.begin(), nodes.end());
    const auto to = round.placement.PlaceReplica(kept, excluded, bytes, 1);
    if (!to || round.placement.InZone(kept, *to) >= round.placement.InZone(kept, node)) continue;
    proto::Job& job = round.Add(proto::JOB_KIND_MOVE_REPLICA, partition, "zones");
    *job.mutable_from() = ref;
    job.mutable_to()->set_node(to->value);
    round.placement.AddCopy(*to);
    round.placement.AddCopy(node);
    round.placement.AddReplica(*to, bytes);
    moved_at_[id] = round.now;
    return true;
  }
  return false;
}

void Planner::PlanUnnamed(Round& round) {
  const ClusterView& view = round.view;
  std::map<std::tuple<NodeId, PartitionId, uint64_t>, SteadyTime> still;
  for (const auto& [node_id, node] : view.nodes()) {
    for (const auto& [id, status] : node.replicas) {
      if (status.role() != proto::REPLICA_ROLE_UNNAMED) continue;
      const std::tuple key(node_id, id, status.replica());
      const auto since = unnamed_since_.find(key);
      const SteadyTime first = since == unnamed_since_.end() ? round.now : since->second;
      still[key] = first;
      if (round.now - first < options_.unnamed_grace || round.Full(options_)) continue;
      if (view.JobBefore(id, proto::JOB_KIND_REMOVE_REPLICA) != nullptr) continue;
      if (round.planned.contains(id)) continue;
      proto::ReplicaRef ref;
      ref.set_node(node_id.value);
      ref.set_replica(status.replica());
      const PartitionView* partition = view.Partition(id);
      if (partition != nullptr &&
          (IsInSync(partition->config, ref) || IsLearner(partition->config, ref))) {
        continue;
      }
      proto::Job& job = round.plan.jobs.emplace_back();
      job.set_kind(proto::JOB_KIND_REMOVE_REPLICA);
      job.set_table(partition == nullptr ? status.table() : partition->config.table());
      job.set_partition(id.value);
      job.set_reason("no configuration names it");
      *job.mutable_from() = ref;
      round.planned.insert(id);
      still[key] = round.now;
    }
  }
  unnamed_since_ = std::move(still);
}

bool Planner::CoolingDown(PartitionId id, SteadyTime now) const {
  const auto moved = moved_at_.find(id);
  return moved != moved_at_.end() && now - moved->second < options_.balance_cooldown;
}

void Planner::Forget(const ClusterView& view) {
  const auto gone = [&](const auto& entry) { return view.Partition(entry.first) == nullptr; };
  std::erase_if(hot_since_, gone);
  std::erase_if(cold_since_, gone);
  std::erase_if(moved_at_, gone);
  std::erase_if(shedding_, [&](NodeId node) { return view.Node(node) == nullptr; });
}

}  // namespace onggi::coordinator
