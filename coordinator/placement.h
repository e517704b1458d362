#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "coordinator/cluster_view.h"
#include "coordinator/options.h"

namespace onggi::coordinator {

/// What stands, and is on its way, on one node.
struct NodeUsage {
  std::string zone;
  bool takes_replicas = false;
  uint64_t capacity_bytes = 0;  ///< 0: not known
  uint64_t free_bytes = 0;      ///< last reported; 0: not known
  uint64_t bytes = 0;           ///< of its replicas, those on their way included
  size_t replicas = 0;
  size_t primaries = 0;
  size_t copies = 0;     ///< running jobs that copy a replica to or from it
  size_t transfers = 0;  ///< running jobs that move a primary to or from it

  /// How full it is, for comparison with others: bytes, and something for each replica so that
  /// empty ones spread too, by its capacity where all nodes' are known.
  double weight = 0;
};

/// The usage of every node, and the choices that rest on it: replicas of a partition in different
/// zones first, then on different nodes, then where there is most room.
///
/// A value: made from the view for one round of decisions, and told of each decision, so that the
/// next one of the round sees it.
class Placement {
 public:
  explicit Placement(const ClusterView& view);

  const std::map<NodeId, NodeUsage>& nodes() const { return nodes_; }
  const NodeUsage* Node(NodeId node) const;
  size_t active_nodes() const;  ///< that take replicas

  /// Nodes for a new partition, the primary's first. Fewer than `count` when there are not enough.
  std::vector<NodeId> PlaceNew(size_t count);

  /// The best node for another replica of a partition that keeps its replicas on `kept`. Not one of
  /// those, nor of `excluded`; with at most `max_copies` - 1 copies under way (0: any number), and
  /// room for `bytes`. nullopt: none.
  std::optional<NodeId> PlaceReplica(const std::vector<NodeId>& kept,
                                     const std::vector<NodeId>& excluded, uint64_t bytes,
                                     size_t max_copies) const;

  /// How many of `nodes` stand in the zone of `node`.
  size_t InZone(const std::vector<NodeId>& nodes, NodeId node) const;

  /// The in-sync member that should lead: fewest primaries of those that take replicas, other than
  /// `not_this`. nullopt: none.
  std::optional<proto::ReplicaRef> BestPrimary(const ClusterView& view,
                                               const PartitionView& partition,
                                               NodeId not_this) const;

  // What a decision adds.
  void AddReplica(NodeId node, uint64_t bytes);
  void RemoveReplica(NodeId node, uint64_t bytes);
  void AddPrimary(NodeId node);
  void RemovePrimary(NodeId node);
  void AddCopy(NodeId node);
  void AddTransfer(NodeId node);

  /// What a replica of `bytes` adds to a node's weight.
  double WeightOf(NodeId node, uint64_t bytes) const;

 private:
  void Update(NodeUsage& usage) const;

  std::map<NodeId, NodeUsage> nodes_;
  bool by_capacity_ = false;
};

}  // namespace onggi::coordinator
