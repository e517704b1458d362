#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/cluster.h"

namespace onggi::simulation {

/// What coordinators and operators do to partitions, as coarse as the simulation needs it: learners
/// for lost replicas, transfers, moves, other numbers of replicas, splits and merges. Changes only
/// learners itself, by compare-and-swap through a store that fails like everybody's.
class Jobs {
 public:
  explicit Jobs(Cluster* cluster);

  /// No more moves and merges; those under way are given up.
  void Quiet() {
    moves_.clear();
    merges_.clear();
  }
  /// Looks after every partition once.
  void Repair();
  void Transfer();
  void Move();
  void ChangeReplication();
  void Split();
  void Merge();

 private:
  struct Moving {
    PartitionId partition;
    group::Member out;
    ReplicaId in;
    NodeId to;
    Time until;
  };
  struct Merging {
    PartitionId left;
    PartitionId right;
    Time until;
    bool absorbed = false;
  };

  struct Splitting {
    PartitionId partition;
    std::string key;
    PartitionId child;
    std::map<group::Member, ReplicaId> replicas;  ///< of the child, by the parent's
  };

  std::optional<PartitionId> Any();
  void AddLearner(PartitionId partition, NodeId node, ReplicaId replica);
  void RemoveLearner(PartitionId partition, const group::Member& member);
  void Swap(PartitionId partition, const group::Configuration& configuration, Revision expected);
  void SplitAgain(Machine* primary, const group::Configuration& key);
  void GoOn();
  bool GoOn(const Moving& move);
  bool GoOn(Merging* merge);
  bool GoOn(Splitting* split);

  Cluster* const cluster_;
  std::unique_ptr<metadata::SimulatedStore> store_;
  std::vector<Moving> moves_;
  std::vector<Merging> merges_;
  std::vector<Splitting> splits_;  ///< of shipped partitions
  std::map<PartitionId, uint32_t> replication_;
};

}  // namespace onggi::simulation
