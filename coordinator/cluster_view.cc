#include "coordinator/cluster_view.h"

#include <algorithm>

#include "replication/metadata/keys.h"

namespace onggi::coordinator {

namespace keys = metadata::keys;

std::vector<proto::ReplicaRef> Members(const proto::PartitionConfig& config) {
  std::vector<proto::ReplicaRef> members(config.in_sync().begin(), config.in_sync().end());
  members.insert(members.end(), config.learners().begin(), config.learners().end());
  return members;
}

bool SameReplica(const proto::ReplicaRef& a, const proto::ReplicaRef& b) {
  return a.node() == b.node() && a.replica() == b.replica();
}

namespace {

template <class Refs>
bool Has(const Refs& refs, const proto::ReplicaRef& ref) {
  return std::any_of(refs.begin(), refs.end(), [&](const auto& r) { return SameReplica(r, ref); });
}

}  // namespace

bool IsInSync(const proto::PartitionConfig& config, const proto::ReplicaRef& ref) {
  return Has(config.in_sync(), ref);
}

bool IsLearner(const proto::PartitionConfig& config, const proto::ReplicaRef& ref) {
  return Has(config.learners(), ref);
}

bool HasMemberOn(const proto::PartitionConfig& config, NodeId node) {
  const auto here = [node](const proto::ReplicaRef& ref) { return ref.node() == node.value; };
  return std::any_of(config.in_sync().begin(), config.in_sync().end(), here) ||
         std::any_of(config.learners().begin(), config.learners().end(), here);
}

bool ClusterView::Put(const metadata::KeyValue& kv, SteadyTime now) {
  if (const auto node = keys::ParseAlive(kv.key)) {
    Revision& known = alive_[*node];
    const bool is_new = kv.mod_revision > known;
    known = std::max(known, kv.mod_revision);
    if (const auto it = nodes_.find(*node); it != nodes_.end()) {
      it->second.alive = true;
      if (is_new) it->second.alive_since = now;
    }
    return true;
  }
  if (const auto node = keys::ParseNode(kv.key)) return PutNode(kv, *node, now);
  if (const auto table = keys::ParseTable(kv.key)) return PutTable(kv, *table);
  if (keys::ParsePartition(kv.key)) return PutPartition(kv, now);
  if (const auto id = keys::ParseJob(kv.key)) {
    proto::Job record;
    if (!record.ParseFromString(kv.value) || record.id() != *id) return false;
    JobView& job = jobs_[*id];
    if (kv.mod_revision <= job.revision) return true;
    job.record = std::move(record);
    job.revision = kv.mod_revision;
    for (const uint64_t partition : {job.record.partition(), job.record.other()}) {
      if (partition == 0) continue;
      const PartitionId p(partition);
      if (job.running()) {
        busy_[p].insert(*id);
      } else {
        NotBusy(p, *id);
      }
    }
    return true;
  }
  if (kv.key == keys::kCluster) {
    proto::Cluster record;
    if (!record.ParseFromString(kv.value)) return false;
    if (kv.mod_revision <= cluster_revision_) return true;
    cluster_ = std::move(record);
    cluster_revision_ = kv.mod_revision;
    return true;
  }
  return true;
}

bool ClusterView::PutNode(const metadata::KeyValue& kv, NodeId id, SteadyTime now) {
  proto::Node record;
  if (!record.ParseFromString(kv.value)) return false;
  const bool is_new = !nodes_.contains(id);
  NodeView& node = nodes_[id];
  if (kv.mod_revision <= node.revision) return true;
  node.record = std::move(record);
  node.revision = kv.mod_revision;
  if (is_new) {
    node.alive = alive_.contains(id);
    node.missing_since = node.alive_since = now;
  }
  return true;
}

bool ClusterView::PutTable(const metadata::KeyValue& kv, TableId id) {
  proto::Table record;
  if (!record.ParseFromString(kv.value)) return false;
  TableView& table = tables_[id];
  if (kv.mod_revision <= table.revision) return true;
  table.record = std::move(record);
  table.revision = kv.mod_revision;
  return true;
}

bool ClusterView::PutPartition(const metadata::KeyValue& kv, SteadyTime now) {
  proto::PartitionConfig config;
  if (!config.ParseFromString(kv.value)) return false;
  const PartitionId id(config.partition());
  const bool is_new = !partitions_.contains(id);
  PartitionView& partition = partitions_[id];
  if (kv.mod_revision <= partition.revision) return true;
  // Under a new start the old one would point nowhere. Not after a merge has put another one there.
  auto& by_start = tables_[TableId(config.table())].partitions;
  if (!is_new && partition.config.range_start() != config.range_start()) {
    const auto old = by_start.find(partition.config.range_start());
    if (old != by_start.end() && old->second == id) by_start.erase(old);
  }
  partition.config = std::move(config);
  partition.revision = kv.mod_revision;
  if (is_new) partition.first_seen = now;
  by_start[partition.config.range_start()] = id;
  return true;
}

void ClusterView::ErasePartition(PartitionId id) {
  const auto it = partitions_.find(id);
  if (it == partitions_.end()) return;
  const auto table = tables_.find(TableId(it->second.config.table()));
  if (table != tables_.end()) {
    auto& by_start = table->second.partitions;
    const auto place = by_start.find(it->second.config.range_start());
    if (place != by_start.end() && place->second == id) by_start.erase(place);
    if (by_start.empty() && table->second.revision == Revision()) tables_.erase(table);
  }
  partitions_.erase(it);
}

void ClusterView::Erase(std::string_view key, Revision revision, SteadyTime now) {
  if (const auto id = keys::ParseAlive(key)) {
    const auto it = alive_.find(*id);
    if (it == alive_.end() || it->second > revision) return;
    alive_.erase(it);
    if (const auto node = nodes_.find(*id); node != nodes_.end() && node->second.alive) {
      node->second.alive = false;
      node->second.missing_since = now;
    }
  } else if (const auto node = keys::ParseNode(key)) {
    const auto it = nodes_.find(*node);
    if (it != nodes_.end() && it->second.revision <= revision) nodes_.erase(it);
  } else if (const auto table = keys::ParseTable(key)) {
    const auto it = tables_.find(*table);
    if (it == tables_.end() || it->second.revision > revision) return;
    if (it->second.partitions.empty()) {
      tables_.erase(it);
    } else {  // until its partitions have gone too
      it->second.record.Clear();
      it->second.revision = Revision();
    }
  } else if (const auto partition = keys::ParsePartition(key)) {
    const auto it = partitions_.find(partition->partition);
    if (it != partitions_.end() && it->second.revision <= revision &&
        it->second.config.table() == partition->table.value) {
      ErasePartition(partition->partition);
    }
  } else if (const auto job = keys::ParseJob(key)) {
    const auto it = jobs_.find(*job);
    if (it == jobs_.end() || it->second.revision > revision) return;
    for (const uint64_t of : {it->second.record.partition(), it->second.record.other()}) {
      NotBusy(PartitionId(of), *job);
    }
    jobs_.erase(it);
  }
}

void ClusterView::Replace(std::string_view prefix, const metadata::RangeResult& range,
                          SteadyTime now) {
  std::vector<std::string> gone;
  const auto check = [&](std::string key) {
    const auto it = std::lower_bound(range.kvs.begin(), range.kvs.end(), key,
                                     [](const auto& kv, const auto& k) { return kv.key < k; });
    if (it == range.kvs.end() || it->key != key) gone.push_back(std::move(key));
  };
  if (prefix == keys::kNodePrefix) {
    for (const auto& [id, node] : nodes_) check(keys::Node(id));
  } else if (prefix == keys::kAlivePrefix) {
    for (const auto& [id, revision] : alive_) check(keys::Alive(id));
  } else if (prefix == keys::kTablePrefix) {
    for (const auto& [id, table] : tables_) check(keys::Table(id));
  } else if (prefix == keys::kPartitionPrefix) {
    for (const auto& [id, p] : partitions_) check(keys::Partition(TableId(p.config.table()), id));
  } else if (prefix == keys::kJobPrefix) {
    for (const auto& [id, job] : jobs_) check(keys::Job(id));
  }
  for (const std::string& key : gone) Erase(key, range.revision, now);
  for (const metadata::KeyValue& kv : range.kvs) (void)Put(kv, now);
}

bool ClusterView::Report(const proto::ReportLoadRequest& report, SteadyTime now, bool* want_full) {
  *want_full = false;
  const auto it = nodes_.find(NodeId(report.node()));
  if (it == nodes_.end()) return false;
  NodeView& node = it->second;
  if (node.record.boot() != report.boot()) return false;
  const bool same_process = node.reported && node.report_boot == report.boot();
  if (same_process && report.sequence() <= node.report_sequence) return false;
  if (!report.full() && !same_process) {
    *want_full = true;
    return true;
  }
  node.reported = true;
  node.report_boot = report.boot();
  node.report_sequence = report.sequence();
  node.reported_at = now;
  node.used_bytes = report.used_bytes();
  node.free_bytes = report.free_bytes();
  node.cpu_used = report.cpu_used();
  node.cpu_total = report.cpu_total();
  node.disk_low = report.disk_low();
  if (report.full()) node.replicas.clear();
  for (const auto& gone : report.removed()) node.replicas.erase(PartitionId(gone.partition()));
  for (const auto& status : report.replicas()) {
    node.replicas[PartitionId(status.partition())] = status;
  }
  return true;
}

const NodeView* ClusterView::Node(NodeId node) const {
  const auto it = nodes_.find(node);
  return it == nodes_.end() ? nullptr : &it->second;
}

const TableView* ClusterView::Table(TableId table) const {
  const auto it = tables_.find(table);
  return it == tables_.end() || it->second.revision == Revision() ? nullptr : &it->second;
}

uint32_t ClusterView::WantedReplicas(const proto::PartitionConfig& config) const {
  const TableView* table = Table(TableId(config.table()));
  return std::max(config.replication(), table == nullptr ? 0 : table->record.replication());
}

const PartitionView* ClusterView::Partition(PartitionId partition) const {
  const auto it = partitions_.find(partition);
  return it == partitions_.end() ? nullptr : &it->second;
}

const JobView* ClusterView::Job(uint64_t job) const {
  const auto it = jobs_.find(job);
  return it == jobs_.end() ? nullptr : &it->second;
}

void ClusterView::NotBusy(PartitionId partition, uint64_t job) {
  const auto it = busy_.find(partition);
  if (it != busy_.end() && it->second.erase(job) > 0 && it->second.empty()) busy_.erase(it);
}

const JobView* ClusterView::JobOf(PartitionId partition) const {
  const auto it = busy_.find(partition);
  if (it == busy_.end()) return nullptr;
  const JobView* found = nullptr;
  for (const uint64_t id : it->second) {
    const JobView* job = Job(id);
    if (found == nullptr || job->record.kind() != proto::JOB_KIND_SPLIT) found = job;
  }
  return found;
}

const JobView* ClusterView::JobBefore(PartitionId partition, proto::JobKind kind) const {
  const JobView* job = JobOf(partition);
  if (job == nullptr || job->record.kind() != proto::JOB_KIND_SPLIT) return job;
  const bool repair = kind == proto::JOB_KIND_REPLACE_REPLICA ||
                      kind == proto::JOB_KIND_ADD_REPLICA || kind == proto::JOB_KIND_REMOVE_REPLICA;
  const bool parent = job->record.partition() == partition.value;
  return parent && repair && StandsAside(job->record) ? nullptr : job;
}

bool ClusterView::StandsAside(const proto::Job& split) const {
  const PartitionId id(split.partition());
  const PartitionView* partition = Partition(id);
  if (partition == nullptr) return false;
  const auto& in_sync = partition->config.in_sync();
  // Recovered with loss of data: its split ends (JobRunner::Split).
  if (in_sync.size() < static_cast<int>(partition->config.min_in_sync())) return false;
  const auto left = std::count_if(in_sync.begin(), in_sync.end(),
                                  [&](const auto& ref) { return !Lost(ref, id); });
  return left < static_cast<int64_t>(partition->config.min_in_sync());
}

const proto::ReplicaStatus* ClusterView::Status(const proto::ReplicaRef& ref,
                                                PartitionId partition) const {
  const NodeView* node = Node(NodeId(ref.node()));
  if (node == nullptr || !node->reported) return nullptr;
  const auto it = node->replicas.find(partition);
  if (it == node->replicas.end() || it->second.replica() != ref.replica()) return nullptr;
  return &it->second;
}

const proto::ReplicaStatus* ClusterView::PrimaryStatus(const PartitionView& partition) const {
  return Status(partition.config.primary(), PartitionId(partition.config.partition()));
}

uint64_t ClusterView::BytesOf(const PartitionView& partition) const {
  uint64_t bytes = 0;
  for (const auto& ref : partition.config.in_sync()) {
    const auto* status = Status(ref, PartitionId(partition.config.partition()));
    if (status != nullptr) bytes = std::max(bytes, status->bytes());
  }
  return bytes;
}

void ClusterView::NoticeSilence(SteadyTime now, std::chrono::milliseconds limit) {
  size_t alive = 0;
  size_t silent = 0;
  for (auto& [id, node] : nodes_) {
    node.silent = node.alive && now - node.heard_at() > limit;
    alive += node.alive ? 1 : 0;
    silent += node.silent ? 1 : 0;
  }
  if (silent > 0 && 2 * silent >= alive) mostly_silent_at_ = now;
}

std::vector<NodeId> ClusterView::NodesWithReplica(PartitionId partition) const {
  std::vector<NodeId> nodes;
  for (const auto& [id, node] : nodes_) {
    const auto it = node.replicas.find(partition);
    if (it != node.replicas.end() && it->second.role() != proto::REPLICA_ROLE_LOST) {
      nodes.push_back(id);
    }
  }
  return nodes;
}

bool ClusterView::Alive(NodeId node) const {
  const NodeView* view = Node(node);
  return view != nullptr && view->alive;
}

bool ClusterView::TakesReplicas(NodeId node) const {
  const NodeView* view = Node(node);
  return view != nullptr && view->alive && !view->silent &&
         view->record.state() == proto::NODE_STATE_ACTIVE && !view->disk_low;
}

bool ClusterView::Lost(const proto::ReplicaRef& ref, PartitionId partition) const {
  const NodeView* node = Node(NodeId(ref.node()));
  if (node == nullptr) return true;
  const proto::NodeState state = node->record.state();
  if (state == proto::NODE_STATE_DEAD) return true;
  if (state == proto::NODE_STATE_DECOMMISSIONED && !node->alive) return true;
  const auto* status = Status(ref, partition);
  return status != nullptr && status->role() == proto::REPLICA_ROLE_LOST;
}

size_t ClusterView::LivingInSync(const PartitionView& partition) const {
  const PartitionId id(partition.config.partition());
  return static_cast<size_t>(
      std::count_if(partition.config.in_sync().begin(), partition.config.in_sync().end(),
                    [&](const auto& ref) { return Alive(NodeId(ref.node())) && !Lost(ref, id); }));
}

bool ClusterView::Available(const PartitionView& partition) const {
  const auto& primary = partition.config.primary();
  if (!Alive(NodeId(primary.node()))) return false;
  const auto* status = PrimaryStatus(partition);
  if (status == nullptr) return true;  // not reported (yet): opened when it is asked
  return status->role() == proto::REPLICA_ROLE_PRIMARY ||
         status->role() == proto::REPLICA_ROLE_CLOSED;
}

const PartitionView* ClusterView::RightNeighbour(const PartitionView& partition) const {
  if (partition.config.range_end().empty()) return nullptr;
  const TableView* table = Table(TableId(partition.config.table()));
  if (table == nullptr) return nullptr;
  const auto it = table->partitions.find(partition.config.range_end());
  return it == table->partitions.end() ? nullptr : Partition(it->second);
}

}  // namespace onggi::coordinator
