#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "coordinator/planner.h"

/// Shared by the files of Planner.
namespace onggi::coordinator {

/// What one call of Decide works on.
struct Planner::Round {
  Round(const ClusterView& v, SteadyTime t) : view(v), now(t), placement(v) {
    for (const auto& [id, job] : v.jobs()) {
      // One that stands aside must not take the place of what it waits for.
      const bool parked = job.record.kind() == proto::JOB_KIND_SPLIT && v.StandsAside(job.record);
      running += job.running() && !parked ? 1 : 0;
    }
  }

  void Warn(std::string text) {
    if (plan.warnings.size() < Plan::kMaxWarnings) plan.warnings.push_back(std::move(text));
  }
  bool Busy(PartitionId id) const {
    return view.JobOf(id) != nullptr || planned.contains(id) || resting.contains(id);
  }
  /// A split stands aside for what makes its partition whole.
  bool BusyForRepair(PartitionId id) const {
    return view.JobBefore(id, proto::JOB_KIND_REPLACE_REPLICA) != nullptr || planned.contains(id) ||
           resting.contains(id);
  }
  bool Full(const Options& options) const { return running + plan.jobs.size() >= options.max_jobs; }
  proto::Job& Add(proto::JobKind kind, const PartitionView& partition, std::string reason) {
    proto::Job& job = plan.jobs.emplace_back();
    job.set_kind(kind);
    job.set_table(partition.config.table());
    job.set_partition(partition.config.partition());
    job.set_reason(std::move(reason));
    planned.insert(PartitionId(partition.config.partition()));
    return job;
  }

  const ClusterView& view;
  const SteadyTime now;
  Placement placement;
  Plan plan;
  size_t running = 0;
  std::set<PartitionId> planned;
  std::set<PartitionId> resting;  ///< a job of theirs has just failed
  bool repairing = false;  ///< something is lost, or on its way to be replaced: no balancing now
};

inline std::vector<NodeId> NodesOf(const std::vector<proto::ReplicaRef>& refs) {
  std::vector<NodeId> nodes;
  for (const auto& ref : refs) nodes.push_back(NodeId(ref.node()));
  return nodes;
}

inline std::vector<NodeId> Without(std::vector<NodeId> nodes, NodeId node) {
  std::erase(nodes, node);
  return nodes;
}

/// In sync as far as it should be, and nothing on its way.
inline bool Whole(const PartitionView& partition) {
  return partition.config.in_sync_size() == static_cast<int>(partition.config.replication()) &&
         partition.config.learners_size() == 0;
}

inline std::string Text(PartitionId id) { return "partition " + id.ToString(); }

}  // namespace onggi::coordinator
