#include "coordinator/placement.h"

#include <algorithm>
#include <tuple>

namespace onggi::coordinator {

namespace {

/// What an empty replica counts for: files, memory and requests to come.
constexpr uint64_t kReplicaBytes = uint64_t{64} << 20;

bool Contains(const std::vector<NodeId>& nodes, NodeId node) {
  return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
}

bool Copies(const proto::Job& job) {
  switch (job.kind()) {
    case proto::JOB_KIND_ADD_REPLICA:
    case proto::JOB_KIND_REPLACE_REPLICA:
    case proto::JOB_KIND_MOVE_REPLICA:
    case proto::JOB_KIND_MERGE: return true;
    default: return false;
  }
}

}  // namespace

Placement::Placement(const ClusterView& view) {
  by_capacity_ = true;
  for (const auto& [id, node] : view.nodes()) {
    if (node.record.state() == proto::NODE_STATE_DECOMMISSIONED) continue;
    NodeUsage& usage = nodes_[id];
    usage.zone = node.record.zone();
    usage.takes_replicas = view.TakesReplicas(id);
    usage.capacity_bytes = node.record.capacity_bytes();
    usage.free_bytes = node.reported ? node.free_bytes : 0;
    if (usage.capacity_bytes == 0) by_capacity_ = false;
  }
  for (const auto& [id, partition] : view.partitions()) {
    const uint64_t bytes = view.BytesOf(partition);
    for (const auto& ref : Members(partition.config)) AddReplica(NodeId(ref.node()), bytes);
    AddPrimary(NodeId(partition.config.primary().node()));
  }
  for (const auto& [id, job] : view.jobs()) {
    if (!job.running()) continue;
    const NodeId to(job.record.to().node());
    const NodeId from(job.record.from().node());
    const PartitionView* partition = view.Partition(PartitionId(job.record.partition()));
    if (job.record.kind() == proto::JOB_KIND_TRANSFER_PRIMARY) {
      AddTransfer(to);
      if (partition != nullptr) AddTransfer(NodeId(partition->config.primary().node()));
    } else if (Copies(job.record)) {
      AddCopy(to);
      AddCopy(from);
      if (partition != nullptr && to != NodeId() && !HasMemberOn(partition->config, to)) {
        AddReplica(to, view.BytesOf(*partition));
      }
    }
  }
  for (auto& [id, usage] : nodes_) Update(usage);
}

const NodeUsage* Placement::Node(NodeId node) const {
  const auto it = nodes_.find(node);
  return it == nodes_.end() ? nullptr : &it->second;
}

size_t Placement::active_nodes() const {
  return static_cast<size_t>(std::count_if(
      nodes_.begin(), nodes_.end(), [](const auto& entry) { return entry.second.takes_replicas; }));
}

void Placement::Update(NodeUsage& usage) const {
  const double size =
      static_cast<double>(usage.bytes) + static_cast<double>(usage.replicas * kReplicaBytes);
  usage.weight = by_capacity_ ? size / static_cast<double>(usage.capacity_bytes) : size;
}

double Placement::WeightOf(NodeId node, uint64_t bytes) const {
  const NodeUsage* usage = Node(node);
  const double size = static_cast<double>(bytes + kReplicaBytes);
  if (usage == nullptr || !by_capacity_) return size;
  return size / static_cast<double>(usage->capacity_bytes);
}

size_t Placement::InZone(const std::vector<NodeId>& nodes, NodeId node) const {
  const NodeUsage* usage = Node(node);
  if (usage == nullptr) return 0;
  return static_cast<size_t>(std::count_if(nodes.begin(), nodes.end(), [&](NodeId other) {
    const NodeUsage* there = Node(other);
    return there != nullptr && there->zone == usage->zone;
  }));
}

std::optional<NodeId> Placement::PlaceReplica(const std::vector<NodeId>& kept,
                                              const std::vector<NodeId>& excluded, uint64_t bytes,
                                              size_t max_copies) const {
  std::optional<NodeId> best;
  std::tuple<size_t, double, size_t> best_score;
  for (const auto& [id, usage] : nodes_) {
    if (!usage.takes_replicas || Contains(kept, id) || Contains(excluded, id)) continue;
    if (max_copies != 0 && usage.copies >= max_copies) continue;
    if (usage.free_bytes != 0 && usage.free_bytes < bytes + bytes / 4) continue;
    const std::tuple score(InZone(kept, id), usage.weight, usage.replicas);
    if (!best || score < best_score) {
      best = id;
      best_score = score;
    }
  }
  return best;
}

std::vector<NodeId> Placement::PlaceNew(size_t count) {
  std::vector<NodeId> chosen;
  while (chosen.size() < count) {
    const auto next = PlaceReplica(chosen, {}, 0, 0);
    if (!next) break;
    chosen.push_back(*next);
  }
  // Of equal count the first: it has the least weight.
  const auto leader = std::min_element(chosen.begin(), chosen.end(), [&](NodeId a, NodeId b) {
    return nodes_.at(a).primaries < nodes_.at(b).primaries;
  });
  if (leader != chosen.end()) std::rotate(chosen.begin(), leader, leader + 1);
  for (const NodeId node : chosen) AddReplica(node, 0);
  if (!chosen.empty()) AddPrimary(chosen.front());
  return chosen;
}

std::optional<proto::ReplicaRef> Placement::BestPrimary(const ClusterView& view,
                                                        const PartitionView& partition,
                                                        NodeId not_this) const {
  std::optional<proto::ReplicaRef> best;
  size_t best_primaries = 0;
  const PartitionId id(partition.config.partition());
  for (const auto& ref : partition.config.in_sync()) {
    const NodeId node(ref.node());
    const NodeUsage* usage = Node(node);
    if (node == not_this || usage == nullptr || view.Lost(ref, id) || !view.Alive(node)) continue;
    if (view.Node(node)->record.state() != proto::NODE_STATE_ACTIVE) continue;
    if (!best || usage->primaries < best_primaries) {
      best = ref;
      best_primaries = usage->primaries;
    }
  }
  return best;
}

void Placement::AddReplica(NodeId node, uint64_t bytes) {
  const auto it = nodes_.find(node);
  if (it == nodes_.end()) return;
  ++it->second.replicas;
  it->second.bytes += bytes;
  Update(it->second);
}

void Placement::RemoveReplica(NodeId node, uint64_t bytes) {
  const auto it = nodes_.find(node);
  if (it == nodes_.end() || it->second.replicas == 0) return;
  --it->second.replicas;
  it->second.bytes -= std::min(it->second.bytes, bytes);
  Update(it->second);
}

void Placement::AddPrimary(NodeId node) {
  if (const auto it = nodes_.find(node); it != nodes_.end()) ++it->second.primaries;
}

void Placement::RemovePrimary(NodeId node) {
  const auto it = nodes_.find(node);
  if (it != nodes_.end() && it->second.primaries > 0) --it->second.primaries;
}

void Placement::AddCopy(NodeId node) {
  if (const auto it = nodes_.find(node); it != nodes_.end()) ++it->second.copies;
}

void Placement::AddTransfer(NodeId node) {
  if (const auto it = nodes_.find(node); it != nodes_.end()) ++it->second.transfers;
}

}  // namespace onggi::coordinator
