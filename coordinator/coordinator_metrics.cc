#include "coordinator/coordinator_metrics.h"

#include <algorithm>

#include "coordinator/job_names.h"

namespace onggi::coordinator {

namespace {

constexpr const char* kNodeStates[] = {"active", "draining", "decommissioned", "dead",
                                       "unreachable"};
constexpr proto::JobKind kJobKinds[] = {
    proto::JOB_KIND_ADD_REPLICA,      proto::JOB_KIND_REPLACE_REPLICA, proto::JOB_KIND_MOVE_REPLICA,
    proto::JOB_KIND_TRANSFER_PRIMARY, proto::JOB_KIND_SPLIT,           proto::JOB_KIND_MERGE,
    proto::JOB_KIND_REMOVE_REPLICA,   proto::JOB_KIND_SET_REPLICATION,
};

}  // namespace

CoordinatorMetrics::CoordinatorMetrics(metrics::Registry& registry)
    : registry_(registry),
      active_(registry.AddGauge("onggi_coordinator_active",
                                "1 on the coordinator that is the active one")),
      elections_(registry.AddCounter("onggi_coordinator_elections_total",
                                     "times this coordinator became the active one")),
      reports_(registry.AddCounter("onggi_coordinator_reports_total", "load reports of nodes")),
      tables_(registry.AddGauge("onggi_cluster_tables", "tables of the cluster")),
      partitions_(registry.AddGauge("onggi_cluster_partitions", "partitions of the cluster")),
      under_replicated_(
          registry.AddGauge("onggi_cluster_under_replicated_partitions",
                            "partitions with fewer living in-sync replicas than wanted")),
      leaderless_(registry.AddGauge("onggi_cluster_leaderless_partitions",
                                    "partitions whose primary does not live or does not serve")),
      bytes_(registry.AddGauge("onggi_cluster_bytes", "bytes of all partitions, each once")),
      warnings_(registry.AddGauge("onggi_cluster_warnings",
                                  "things that `onggi status` says a person should look at")),
      hot_partitions_(registry.AddGauge("onggi_cluster_hot_key_partitions",
                                        "partitions whose load one key makes")),
      lag_(registry.AddGauge("onggi_cluster_max_lag_entries",
                             "entries that the slowest replica of all has yet to acknowledge")) {
  for (const char* state : kNodeStates) {
    nodes_[state] = &registry.AddGauge("onggi_cluster_nodes", "nodes by state", {{"state", state}});
  }
  for (const proto::JobKind kind : kJobKinds) {
    const std::string name(Name(kind));
    running_[kind] =
        &registry.AddGauge("onggi_cluster_jobs", "jobs that are running", {{"kind", name}});
    oldest_[kind] = &registry.AddGauge("onggi_cluster_oldest_job_seconds",
                                       "age of the oldest job that is running", {{"kind", name}});
    ended_[kind] = {
        &registry.AddCounter("onggi_coordinator_jobs_total", "jobs that ended",
                             {{"kind", name}, {"outcome", "done"}}),
        &registry.AddCounter("onggi_coordinator_jobs_total", "jobs that ended",
                             {{"kind", name}, {"outcome", "failed"}}),
    };
    failures_[kind] = &registry.AddCounter("onggi_coordinator_step_failures_total",
                                           "tries of a job's step that failed", {{"kind", name}});
  }
}

CoordinatorMetrics::~CoordinatorMetrics() { Clear(); }

void CoordinatorMetrics::SetActive(bool active) {
  active_.Set(active ? 1 : 0);
  if (active) {
    elections_.Add();
  } else {
    Clear();
  }
}

void CoordinatorMetrics::Clear() {
  for (metrics::Gauge* gauge : {&tables_, &partitions_, &under_replicated_, &leaderless_, &bytes_,
                                &warnings_, &hot_partitions_, &lag_}) {
    gauge->Set(0);
  }
  for (auto& [state, gauge] : nodes_) gauge->Set(0);
  for (auto& [kind, gauge] : running_) gauge->Set(0);
  for (auto& [kind, gauge] : oldest_) gauge->Set(0);
  RemoveMissing(&node_series_, {});
  RemoveMissing(&partition_series_, {});
  SetHotKeys({});
}

void CoordinatorMetrics::OnJobEnded(const proto::Job& job) {
  const auto it = ended_.find(job.kind());
  if (it == ended_.end()) return;
  it->second[job.state() == proto::JOB_STATE_DONE ? 0 : 1]->Add();
}

void CoordinatorMetrics::OnFailure(const proto::Job& job) {
  if (const auto it = failures_.find(job.kind()); it != failures_.end()) it->second->Add();
}

void CoordinatorMetrics::Update(const ClusterView& view, const Plan& plan, int64_t wall_ms) {
  tables_.Set(static_cast<int64_t>(view.tables().size()));
  partitions_.Set(static_cast<int64_t>(view.partitions().size()));
  under_replicated_.Set(static_cast<int64_t>(plan.under_replicated));
  leaderless_.Set(static_cast<int64_t>(plan.leaderless));
  warnings_.Set(static_cast<int64_t>(plan.warnings.size()));
  hot_partitions_.Set(static_cast<int64_t>(plan.hot_keys.size()));
  uint64_t bytes = 0;
  for (const auto& [id, partition] : view.partitions()) bytes += view.BytesOf(partition);
  bytes_.Set(static_cast<int64_t>(bytes));

  std::map<std::string, int64_t> states;
  for (const auto& [id, node] : view.nodes()) {
    const bool here = node.record.state() == proto::NODE_STATE_ACTIVE ||
                      node.record.state() == proto::NODE_STATE_DRAINING;
    ++states[here && !node.alive ? "unreachable" : std::string(Name(node.record.state()))];
  }
  for (auto& [state, gauge] : nodes_) gauge->Set(states[state]);

  std::map<proto::JobKind, int64_t> running;
  std::map<proto::JobKind, int64_t> oldest;
  for (const auto& [id, job] : view.jobs()) {
    if (!job.running()) continue;
    ++running[job.record.kind()];
    int64_t& age = oldest[job.record.kind()];
    age = std::max(age, (wall_ms - job.record.created_ms()) / 1000);
  }
  for (auto& [kind, gauge] : running_) gauge->Set(running[kind]);
  for (auto& [kind, gauge] : oldest_) gauge->Set(oldest[kind]);
  SetNodes(view);
  SetBusyPartitions(view);
  SetHotKeys(plan.hot_keys);
}

void CoordinatorMetrics::RemoveMissing(std::vector<metrics::Labels>* old,
                                       std::vector<metrics::Labels> now) {
  for (const metrics::Labels& labels : *old) {
    if (std::find(now.begin(), now.end(), labels) == now.end()) registry_.Remove(labels);
  }
  *old = std::move(now);
}

void CoordinatorMetrics::SetNodes(const ClusterView& view) {
  struct Load {
    int64_t replicas = 0;
    int64_t primaries = 0;
  };
  std::map<NodeId, Load> loads;
  for (const auto& [id, partition] : view.partitions()) {
    for (const proto::ReplicaRef& ref : Members(partition.config)) {
      ++loads[NodeId(ref.node())].replicas;
    }
    ++loads[NodeId(partition.config.primary().node())].primaries;
  }
  std::vector<metrics::Labels> now;
  for (const auto& [id, node] : view.nodes()) {
    double bytes = 0;
    double reads = 0;
    double writes = 0;
    for (const auto& [partition, status] : node.replicas) {
      bytes += static_cast<double>(status.bytes());
      reads += status.read_units();
      writes += status.write_units();
    }
    metrics::Labels labels{{"node", id.ToString()}, {"zone", node.record.zone()}};
    const auto set = [&](const char* name, const char* help, auto value) {
      registry_.AddGauge(name, help, labels).Set(static_cast<int64_t>(value));
    };
    set("onggi_cluster_node_replicas", "replicas on a node", loads[id].replicas);
    set("onggi_cluster_node_primaries", "partitions that a node leads", loads[id].primaries);
    set("onggi_cluster_node_bytes", "bytes of the replicas on a node", bytes);
    set("onggi_cluster_node_read_units", "read units a second that a node serves", reads);
    set("onggi_cluster_node_write_units", "write units a second that a node takes", writes);
    now.push_back(std::move(labels));
  }
  RemoveMissing(&node_series_, std::move(now));
}

/// A bounded number of series, however many partitions there are.
void CoordinatorMetrics::SetBusyPartitions(const ClusterView& view) {
  struct Busy {
    double load;  ///< in write units: a partition serves three times as many read units
    uint64_t bytes;
    const PartitionView* partition;
    const proto::ReplicaStatus* status;
    bool operator<(const Busy& other) const {
      return load != other.load ? load > other.load : bytes > other.bytes;
    }
  };
  std::vector<Busy> busy;
  uint64_t lag = 0;
  for (const auto& [id, partition] : view.partitions()) {
    const proto::ReplicaStatus* status = view.PrimaryStatus(partition);
    if (status == nullptr) continue;
    lag = std::max(lag, status->lag_entries());
    busy.push_back(
        {status->read_units() / 3 + status->write_units(), status->bytes(), &partition, status});
  }
  lag_.Set(static_cast<int64_t>(lag));
  const size_t count = std::min(busy.size(), kMaxBusyPartitions);
  std::partial_sort(busy.begin(), busy.begin() + static_cast<ptrdiff_t>(count), busy.end());
  std::vector<metrics::Labels> now;
  for (size_t i = 0; i < count; ++i) {
    const proto::PartitionConfig& config = busy[i].partition->config;
    const TableView* table = view.Table(TableId(config.table()));
    metrics::Labels labels{{"table_name", table == nullptr ? "" : table->record.name()},
                           {"partition", PartitionId(config.partition()).ToString()}};
    const auto set = [&](const char* name, const char* help, auto value) {
      registry_.AddGauge(name, help, labels).Set(static_cast<int64_t>(value));
    };
    set("onggi_cluster_partition_read_units", "read units a second of a busy partition",
        busy[i].status->read_units());
    set("onggi_cluster_partition_write_units", "write units a second of a busy partition",
        busy[i].status->write_units());
    set("onggi_cluster_partition_bytes", "bytes of a busy partition", busy[i].bytes);
    now.push_back(std::move(labels));
  }
  RemoveMissing(&partition_series_, std::move(now));
}

/// One series for each, and only while it is hot.
void CoordinatorMetrics::SetHotKeys(const std::vector<HotKeyReport>& hot_keys) {
  std::vector<metrics::Labels> now;
  for (size_t i = 0; i < hot_keys.size() && i < kMaxHotKeys; ++i) {
    const HotKeyReport& hot = hot_keys[i];
    metrics::Labels labels{{"table", hot.table.ToString()},
                           {"partition", hot.partition.ToString()},
                           {"key", hot.key.text()}};
    registry_
        .AddGauge("onggi_cluster_hot_key_load_percent",
                  "part of its partition's load that a key takes which no split could help", labels)
        .Set(static_cast<int64_t>(hot.key.share() * 100));
    now.push_back(std::move(labels));
  }
  RemoveMissing(&hot_keys_, std::move(now));
}

}  // namespace onggi::coordinator
