#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "coordinator/cluster_view.h"
#include "coordinator/options.h"
#include "coordinator/placement.h"

namespace onggi::coordinator {

/// A partition whose load one key makes, past what a split could help.
struct HotKeyReport {
  TableId table;
  PartitionId partition;
  proto::HotKey key;
};

/// What is to be done now.
struct Plan {
  /// Without id and times; `to` without replica id. Each for a partition that no running job has.
  std::vector<proto::Job> jobs;
  std::vector<std::pair<NodeId, proto::NodeState>> node_states;
  std::vector<HotKeyReport> hot_keys;
  /// What a person should look at; at most kMaxWarnings.
  std::vector<std::string> warnings;
  size_t leaderless = 0;
  size_t under_replicated = 0;

  static constexpr size_t kMaxWarnings = 20;
};

/// Decides, from what the cluster looks like, what should be done to it: replaces what is lost,
/// empties what drains, splits what is large or hot, merges what is cold, balances.
///
/// No I/O and no clock: the same sequence of views and times gives the same plans. It remembers
/// what only time shows (how long a partition has been hot, when it last moved); a new coordinator
/// begins without that, and so waits longer. One owner.
class Planner {
 public:
  explicit Planner(const Options& options) : options_(options) {}

  Plan Decide(const ClusterView& view, SteadyTime now);

  /// A job was given up: its partition is left alone for max_backoff.
  void OnFailed(PartitionId partition, SteadyTime now) { failed_at_[partition] = now; }

  /// Whether the partition's load is past the limits and mostly one key's, as last decided.
  bool SingleHotKey(PartitionId partition) const { return single_hot_.contains(partition); }

 private:
  struct Round;

  void PlanNodeStates(Round& round);
  void PlanRepair(Round& round, PartitionId id, const PartitionView& partition);
  bool RoomForMore(const ClusterView& view, PartitionId id, const PartitionView& partition,
                   size_t healthy) const;
  bool PlanZone(Round& round, PartitionId id, const PartitionView& partition,
                const std::vector<proto::ReplicaRef>& healthy);
  void PlanUnnamed(Round& round);
  void PlanSplit(Round& round, PartitionId id, const PartitionView& partition);
  void PlanMerge(Round& round, PartitionId id, const PartitionView& partition);
  void PlanTransfers(Round& round);
  void PlanMoves(Round& round);
  bool PlanMoveFrom(Round& round, NodeId heavy);
  void Forget(const ClusterView& view);
  bool CoolingDown(PartitionId id, SteadyTime now) const;

  const Options& options_;
  std::map<PartitionId, SteadyTime> hot_since_;
  /// Left partition: the right one, and since when both are cold.
  std::map<PartitionId, std::pair<PartitionId, SteadyTime>> cold_since_;
  std::map<PartitionId, SteadyTime> moved_at_;
  std::map<PartitionId, SteadyTime> failed_at_;
  std::map<std::tuple<NodeId, PartitionId, uint64_t>, SteadyTime> unnamed_since_;
  std::set<NodeId> shedding_;  ///< nodes that give replicas away until they are near the average
  std::set<PartitionId> single_hot_;
};

}  // namespace onggi::coordinator
