#include <algorithm>
#include <utility>

#include "coordinator/leadership.h"
#include "coordinator/placement.h"
#include "replication/metadata/keys.h"

/// What nodes and operators ask of the active coordinator (common/proto/coordinator.proto).
namespace onggi::coordinator {

namespace asio = boost::asio;
namespace keys = metadata::keys;

namespace {

constexpr uint32_t kDefaultLimit = 1000;
constexpr uint32_t kMaxLimit = 10'000;
constexpr uint32_t kDefaultHot = 20;

Status Refused(std::string reason) { return {Code::kConditionFailed, std::move(reason)}; }

std::string PageToken(uint64_t table, const std::string& range_start) {
  return keys::FormatId(table) + range_start;
}

proto::NodeState StateOf(const NodeView& node) { return node.record.state(); }

}  // namespace

Result<proto::ReportLoadResponse> Leadership::ReportLoad(const proto::ReportLoadRequest& request) {
  metrics_.OnReport();
  proto::ReportLoadResponse response;
  bool want_full = false;
  if (!view_.Report(request, environment_.clock->Now(), &want_full)) {
    // A report that was overtaken, or of a process whose registration is not seen here yet.
    const NodeView* node = view_.Node(NodeId(request.node()));
    if (node == nullptr) {
      return NotFound("the cluster has no node " + std::to_string(request.node()));
    }
    want_full = !node->reported || node->report_boot != request.boot();
  }
  response.set_want_full(want_full);
  response.set_interval_ms(static_cast<uint32_t>(options_.report_interval.count()));
  return response;
}

proto::NodeInfo Leadership::Describe(NodeId id, const NodeView& node) const {
  proto::NodeInfo info;
  *info.mutable_node() = node.record;
  info.set_alive(node.alive);
  info.set_used_bytes(node.used_bytes);
  info.set_free_bytes(node.free_bytes);
  info.set_cpu_used(node.cpu_used);
  info.set_cpu_total(node.cpu_total);
  info.set_disk_low(node.disk_low);
  double reads = 0;
  double writes = 0;
  for (const auto& [partition, status] : node.replicas) {
    reads += status.read_units();
    writes += status.write_units();
  }
  info.set_read_units(reads);
  info.set_write_units(writes);
  uint32_t replicas = 0;
  uint32_t primaries = 0;
  for (const auto& [partition_id, partition] : view_.partitions()) {
    if (HasMemberOn(partition.config, id)) ++replicas;
    if (partition.config.primary().node() == id.value) ++primaries;
  }
  info.set_replicas(replicas);
  info.set_primaries(primaries);
  const auto age = environment_.clock->Now() - node.reported_at;
  info.set_report_age_ms(
      node.reported ? std::chrono::duration_cast<std::chrono::milliseconds>(age).count() : -1);
  return info;
}

std::vector<proto::Job> Leadership::DescribeJobs() const {
  std::vector<proto::Job> running;
  std::vector<proto::Job> ended;
  for (const auto& [id, job] : view_.jobs()) {
    proto::Job record = job.record;
    if (const auto it = runner_.troubles().find(id); it != runner_.troubles().end()) {
      record.set_attempts(it->second.attempts);
      record.set_error(it->second.error);
    }
    (job.running() ? running : ended).push_back(std::move(record));
  }
  std::sort(ended.begin(), ended.end(), [](const auto& a, const auto& b) {
    return std::pair(a.updated_ms(), a.id()) > std::pair(b.updated_ms(), b.id());
  });
  running.insert(running.end(), std::make_move_iterator(ended.begin()),
                 std::make_move_iterator(ended.end()));
  return running;
}

asio::awaitable<Result<proto::ClusterStatusResponse>> Leadership::ClusterStatus() {
  const std::string election(keys::kCoordinatorElection);
  Result<metadata::RangeResult> candidates = co_await environment_.store->RangePrefix(election);
  if (!candidates.ok()) co_return std::move(candidates).status();
  proto::ClusterStatusResponse response;
  if (view_.cluster()) *response.mutable_cluster() = *view_.cluster();
  response.set_active_coordinator(options_.address);
  for (const auto& kv : candidates->kvs) {
    if (kv.key != leader_.key) response.add_coordinators(kv.value);
  }
  for (const auto& [id, node] : view_.nodes()) *response.add_nodes() = Describe(id, node);
  for (const auto& [id, table] : view_.tables()) {
    const proto::TableStatus status = table.record.status();
    if (table.revision == Revision()) continue;
    response.set_tables(response.tables() + 1);
    if (status != proto::TABLE_STATUS_ACTIVE) {
      std::string line = table.record.name();
      line += status == proto::TABLE_STATUS_CREATING   ? ": creating"
              : status == proto::TABLE_STATUS_DELETING ? ": deleting"
                                                       : ": updating";
      response.add_busy_tables(std::move(line));
    }
  }
  response.set_partitions(view_.partitions().size());
  for (const auto& [id, partition] : view_.partitions()) {
    if (!view_.Available(partition)) response.set_leaderless(response.leaderless() + 1);
    if (view_.LivingInSync(partition) < partition.config.replication()) {
      response.set_under_replicated(response.under_replicated() + 1);
    }
  }
  for (proto::Job& job : DescribeJobs()) *response.add_jobs() = std::move(job);
  for (const std::string& warning : warnings_) response.add_warnings(warning);
  co_return response;
}

proto::ListNodesResponse Leadership::ListNodes() const {
  proto::ListNodesResponse response;
  for (const auto& [id, node] : view_.nodes()) *response.add_nodes() = Describe(id, node);
  return response;
}

/// Whether the other nodes could hold what is on this one.
Status Leadership::CheckDrain(NodeId node) const {
  size_t others = 0;
  uint64_t room = 0;
  bool room_known = true;
  for (const auto& [id, other] : view_.nodes()) {
    if (id == node || !view_.TakesReplicas(id)) continue;
    ++others;
    room += other.free_bytes;
    room_known = room_known && other.reported;
  }
  uint64_t bytes = 0;
  for (const auto& [id, partition] : view_.partitions()) {
    if (!HasMemberOn(partition.config, node)) continue;
    bytes += view_.BytesOf(partition);
    const TableView* table = view_.Table(TableId(partition.config.table()));
    const std::string name = table == nullptr ? "?" : table->record.name();
    if (partition.config.replication() == 1) {
      return Refused("table " + name + " has one replica only, which cannot be moved");
    }
    const uint32_t wanted = view_.WantedReplicas(partition.config);
    if (wanted <= others) continue;
    return Refused("table " + name + " has " + std::to_string(wanted) + " replicas, and " +
                   std::to_string(others) + " nodes would remain to take them");
  }
  if (room_known && bytes > room) {
    return Refused("the other nodes have " + std::to_string(room) +
                   " bytes free, and this one has " + std::to_string(bytes) + " bytes of replicas");
  }
  return Status::Ok();
}

asio::awaitable<Result<proto::DrainNodeResponse>> Leadership::DrainNode(
    proto::DrainNodeRequest request) {
  const NodeId id(request.node());
  const Status read = co_await catalog_.Refresh(keys::Node(id));
  if (!read.ok()) co_return read;
  const NodeView* node = view_.Node(id);
  if (node == nullptr) co_return NotFound("there is no node " + id.ToString());
  const bool gone = StateOf(*node) == proto::NODE_STATE_DEAD;
  if (gone) co_return Refused("node " + id.ToString() + " is dead: remove it instead");
  if (StateOf(*node) == proto::NODE_STATE_ACTIVE) {
    if (!request.force()) {
      const Status room = CheckDrain(id);
      if (!room.ok()) co_return room;
    }
    const Status status = co_await SetNodeState(id, proto::NODE_STATE_DRAINING);
    if (!status.ok()) co_return status;
    node = view_.Node(id);
    if (node == nullptr) co_return NotFound("there is no node " + id.ToString());
  }
  proto::DrainNodeResponse response;
  response.set_replicas(Describe(id, *node).replicas());
  response.set_state(StateOf(*node));
  co_return response;
}

asio::awaitable<Status> Leadership::CancelDrain(proto::CancelDrainRequest request) {
  const NodeId id(request.node());
  const Status read = co_await catalog_.Refresh(keys::Node(id));
  if (!read.ok()) co_return read;
  const NodeView* node = view_.Node(id);
  if (node == nullptr) co_return NotFound("there is no node " + id.ToString());
  if (StateOf(*node) == proto::NODE_STATE_ACTIVE) co_return Status::Ok();
  if (StateOf(*node) != proto::NODE_STATE_DRAINING) {
    co_return Refused("node " + id.ToString() + " does not drain");
  }
  co_return co_await SetNodeState(id, proto::NODE_STATE_ACTIVE);
}

asio::awaitable<Status> Leadership::RemoveNode(proto::RemoveNodeRequest request) {
  const NodeId id(request.node());
  const Status read = co_await catalog_.Refresh(keys::Node(id));
  if (!read.ok()) co_return read;
  const NodeView* node = view_.Node(id);
  if (node == nullptr) co_return NotFound("there is no node " + id.ToString());
  metadata::Transaction transaction;
  if (StateOf(*node) != proto::NODE_STATE_DECOMMISSIONED) {
    if (!request.force()) co_return Refused("drain node " + id.ToString() + " first");
    if (node->alive) co_return Refused("node " + id.ToString() + " is alive: drain it");
    transaction.compares.push_back(metadata::Compare::Missing(keys::Alive(id)));
  }
  transaction.compares.push_back(metadata::Compare::At(keys::Node(id), node->revision));
  transaction.deletes.push_back(keys::Node(id));
  const Status status = co_await catalog_.Commit(std::move(transaction));
  if (!status.ok()) co_return status;
  co_return co_await catalog_.Refresh(keys::Node(id));
}

proto::PartitionInfo Leadership::Describe(PartitionId id, const PartitionView& partition) const {
  proto::PartitionInfo info;
  *info.mutable_config() = partition.config;
  const TableView* table = view_.Table(TableId(partition.config.table()));
  if (table != nullptr) info.set_table_name(table->record.name());
  info.set_available(view_.Available(partition));
  info.set_living_in_sync(static_cast<uint32_t>(view_.LivingInSync(partition)));
  info.set_bytes(view_.BytesOf(partition));
  if (const auto* status = view_.PrimaryStatus(partition); status != nullptr) {
    info.set_items(status->items());
    info.set_read_units(status->read_units());
    info.set_write_units(status->write_units());
    *info.mutable_hot_keys() = status->hot_keys();
  }
  info.set_single_hot_key(planner_.SingleHotKey(id));
  if (const JobView* job = view_.JobOf(id); job != nullptr) info.set_job(job->record.id());
  return info;
}

Result<proto::ListPartitionsResponse> Leadership::ListPartitions(
    const proto::ListPartitionsRequest& request) const {
  proto::ListPartitionsResponse response;
  const uint32_t fallback = request.hot() ? kDefaultHot : kDefaultLimit;
  const size_t limit = std::min(request.limit() == 0 ? fallback : request.limit(), kMaxLimit);
  const auto wanted = [&](const PartitionView& partition) {
    return request.node() == 0 || HasMemberOn(partition.config, NodeId(request.node()));
  };
  bool table_found = request.table_name().empty();
  std::vector<std::pair<double, const PartitionView*>> hot;
  for (const auto& [table_id, table] : view_.tables()) {
    const bool named = request.table_name().empty() ||
                       (table.record.name() == request.table_name() &&
                        (request.account().empty() || table.record.account() == request.account()));
    if (!named || table.revision == Revision()) continue;
    table_found = true;
    for (const auto& [start, id] : table.partitions) {
      const PartitionView* partition = view_.Partition(id);
      if (partition == nullptr || !wanted(*partition)) continue;
      if (request.hot()) {
        const auto* status = view_.PrimaryStatus(*partition);
        if (status == nullptr) continue;
        const double load = std::max(status->read_units() / options_.split_read_units,
                                     status->write_units() / options_.split_write_units);
        if (load > 0) hot.emplace_back(load, partition);
        continue;
      }
      const std::string token = PageToken(table_id.value, start);
      if (token < request.page_token()) continue;
      if (static_cast<size_t>(response.partitions_size()) == limit) {
        response.set_next_page_token(token);
        return response;
      }
      *response.add_partitions() = Describe(id, *partition);
    }
  }
  if (!table_found) return NotFound("there is no table " + request.table_name());
  std::stable_sort(hot.begin(), hot.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (size_t i = 0; i < hot.size() && i < limit; ++i) {
    const PartitionId id(hot[i].second->config.partition());
    *response.add_partitions() = Describe(id, *hot[i].second);
  }
  return response;
}

Result<const PartitionView*> Leadership::Find(uint64_t table, uint64_t partition) const {
  const PartitionView* found = view_.Partition(PartitionId(partition));
  if (found == nullptr || (table != 0 && found->config.table() != table)) {
    return NotFound("there is no partition " + std::to_string(partition));
  }
  return found;
}

asio::awaitable<Result<proto::JobResponse>> Leadership::StartJob(proto::Job job) {
  // A partition that changes meanwhile (a new reign) is no reason to refuse.
  constexpr int kAttempts = 5;
  job.set_reason("operator");
  proto::JobResponse response;
  for (int attempt = 1;; ++attempt) {
    if (const JobView* running = view_.JobOf(PartitionId(job.partition())); running != nullptr) {
      const proto::Job& other = running->record;
      const bool same = other.kind() == job.kind() && other.partition() == job.partition() &&
                        (job.other() == 0 || other.other() == job.other()) &&
                        (job.to().node() == 0 || other.to().node() == job.to().node());
      if (!same) {
        co_return Refused("job " + std::to_string(other.id()) + " has partition " +
                          std::to_string(job.partition()) + ": " + other.reason());
      }
      *response.mutable_job() = other;
      co_return response;
    }
    Result<proto::Job> created = co_await catalog_.CreateJob(job);
    if (created.ok()) {
      Look();
      *response.mutable_job() = *std::move(created);
      co_return response;
    }
    if (created.status().code() != Code::kConditionFailed || attempt == kAttempts) {
      Look();
      co_return std::move(created).status();
    }
    for (const uint64_t subject : {job.partition(), job.other()}) {
      if (subject == 0) continue;
      const Status read =
          co_await catalog_.Refresh(keys::Partition(TableId(job.table()), PartitionId(subject)));
      if (!read.ok()) co_return read;
    }
  }
}

asio::awaitable<Result<proto::JobResponse>> Leadership::Split(proto::SplitRequest request) {
  const auto partition = Find(request.table(), request.partition());
  if (!partition.ok()) co_return partition.status();
  const auto& config = (*partition)->config;
  std::string key = request.split_key();
  if (key.empty()) {
    if (const auto* status = view_.PrimaryStatus(**partition); status != nullptr) {
      key = status->load_split_key().empty() ? status->size_split_key() : status->load_split_key();
    }
    if (key.empty()) co_return Refused("its primary knows of no key to split it at");
  }
  if (key <= config.range_start() || (!config.range_end().empty() && key >= config.range_end())) {
    co_return InvalidArgument("the key is not inside the partition's range");
  }
  proto::Job job;
  job.set_kind(proto::JOB_KIND_SPLIT);
  job.set_table(config.table());
  job.set_partition(config.partition());
  job.set_split_key(std::move(key));
  co_return co_await StartJob(std::move(job));
}

asio::awaitable<Result<proto::JobResponse>> Leadership::Move(proto::MoveRequest request) {
  const auto partition = Find(request.table(), request.partition());
  if (!partition.ok()) co_return partition.status();
  const auto& config = (*partition)->config;
  proto::Job job;
  job.set_kind(proto::JOB_KIND_MOVE_REPLICA);
  job.set_table(config.table());
  job.set_partition(config.partition());
  std::vector<NodeId> kept;
  for (const auto& ref : Members(config)) {
    if (ref.node() == request.from_node()) {
      *job.mutable_from() = ref;
    } else {
      kept.push_back(NodeId(ref.node()));
    }
  }
  const NodeId from(request.from_node());
  if (config.replication() == 1) co_return Refused("a partition's only replica cannot be moved");
  if (job.from().replica() == 0) {
    co_return Refused("node " + from.ToString() + " has no replica of it");
  }
  NodeId to(request.to_node());
  if (to == NodeId()) {
    const Placement placement(view_);
    const auto best = placement.PlaceReplica(kept, {from}, view_.BytesOf(**partition), 0);
    if (!best) co_return Refused("no node can take it");
    to = *best;
  } else if (HasMemberOn(config, to)) {
    co_return Refused("node " + to.ToString() + " has a replica of it");
  } else if (!view_.TakesReplicas(to)) {
    co_return Refused("node " + to.ToString() + " takes no replicas");
  }
  job.mutable_to()->set_node(to.value);
  co_return co_await StartJob(std::move(job));
}

asio::awaitable<Result<proto::JobResponse>> Leadership::Merge(proto::MergeRequest request) {
  const auto left = Find(request.table(), request.left());
  if (!left.ok()) co_return left.status();
  const PartitionView* right = view_.RightNeighbour(**left);
  if (right == nullptr) co_return Refused("it has no right neighbour");
  if (request.right() != 0 && right->config.partition() != request.right()) {
    co_return Refused("they are not neighbours");
  }
  proto::Job job;
  job.set_kind(proto::JOB_KIND_MERGE);
  job.set_table((*left)->config.table());
  job.set_partition(request.left());
  job.set_other(right->config.partition());
  co_return co_await StartJob(std::move(job));
}

asio::awaitable<Result<proto::JobResponse>> Leadership::Transfer(proto::TransferRequest request) {
  const auto partition = Find(request.table(), request.partition());
  if (!partition.ok()) co_return partition.status();
  const auto& config = (*partition)->config;
  proto::Job job;
  job.set_kind(proto::JOB_KIND_TRANSFER_PRIMARY);
  job.set_table(config.table());
  job.set_partition(config.partition());
  if (request.to_node() == 0) {
    const Placement placement(view_);
    const auto best = placement.BestPrimary(view_, **partition, NodeId(config.primary().node()));
    if (!best) co_return Refused("no other replica in sync may lead it");
    *job.mutable_to() = *best;
  } else {
    for (const auto& ref : config.in_sync()) {
      if (ref.node() == request.to_node()) *job.mutable_to() = ref;
    }
    if (job.to().replica() == 0) {
      co_return Refused("node " + std::to_string(request.to_node()) + " has no replica in sync");
    }
  }
  co_return co_await StartJob(std::move(job));
}

}  // namespace onggi::coordinator
