#include "coordinator/leadership.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "coordinator/job_names.h"
#include "coordinator/placement.h"
#include "replication/metadata/keys.h"

namespace onggi::coordinator {

namespace asio = boost::asio;
namespace keys = metadata::keys;

namespace {

constexpr std::string_view kFollowed[] = {keys::kCluster,         keys::kNodePrefix,
                                          keys::kAlivePrefix,     keys::kTablePrefix,
                                          keys::kPartitionPrefix, keys::kJobPrefix};
/// Finished jobs removed in one transaction.
constexpr size_t kMaxPruned = 50;

}  // namespace

Leadership::Leadership(const Environment& environment, const Options& options,
                       metadata::Leader leader, CoordinatorMetrics& metrics)
    : environment_(environment),
      options_(options),
      metrics_(metrics),
      leader_(std::move(leader)),
      catalog_(*environment.store, view_, *environment.clock, leader_.Fence()),
      planner_(options),
      runner_(
          catalog_, *environment.nodes, *environment.timers, *environment.clock, options,
          [this](const proto::Job& job) {
            metrics_.OnJobEnded(job);
            const bool failed = job.state() == proto::JOB_STATE_FAILED;
            if (failed) planner_.OnFailed(PartitionId(job.partition()), environment_.clock->Now());
            log::Info("a job has ended", "job", job.id(), "kind", Name(job.kind()), "partition",
                      job.partition(), "outcome", failed ? job.error() : std::string("done"));
          },
          [this](const proto::Job& job, const Status& status) {
            metrics_.OnFailure(job);
            log::Warn("a job's step will be tried again", "job", job.id(), "kind", Name(job.kind()),
                      "partition", job.partition(), "status", status);
          }),
      tables_(
          *environment.store,
          [this](const proto::Table& table, metadata::Transaction* transaction) {
            return PlaceTable(table, transaction);
          },
          [this](metadata::Transaction transaction) {
            return catalog_.Commit(std::move(transaction));
          },
          *environment.timers, environment.executor) {}

Leadership::~Leadership() = default;

asio::awaitable<Status> Leadership::Start() {
  for (const std::string_view prefix : kFollowed) {
    const Status status = co_await Follow(std::string(prefix));
    if (!status.ok()) co_return status;
  }
  if (const auto& cluster = view_.cluster();
      cluster && (cluster->wire_version() > options_.newest_wire_version ||
                  cluster->disk_version() > options_.newest_disk_version)) {
    co_return Status(Code::kConditionFailed,
                     "newer versions are in force than this program knows: wire " +
                         std::to_string(cluster->wire_version()) + ", disk " +
                         std::to_string(cluster->disk_version()));
  }
  const Status tables = co_await tables_.Start();
  if (!tables.ok()) co_return tables;
  started_ = true;
  Look();
  scope_.Spawn(environment_.executor, Plan());
  co_return Status::Ok();
}

asio::awaitable<void> Leadership::Stop() {
  started_ = false;
  watches_.clear();
  co_await tables_.AsyncStop();
  co_await scope_.AsyncStop();
  watches_.clear();
}

asio::awaitable<Status> Leadership::Follow(std::string prefix) {
  Result<metadata::RangeResult> range = co_await environment_.store->RangePrefix(prefix);
  if (!range.ok()) co_return std::move(range).status();
  view_.Replace(prefix, *range, environment_.clock->Now());
  const Revision next(range->revision.value + 1);
  auto on_batch = [this, prefix](const metadata::WatchBatch& batch) { OnBatch(prefix, batch); };
  watches_[prefix] = environment_.store->Watch(prefix, next, environment_.executor, on_batch);
  co_return Status::Ok();
}

/// A watch that fell behind what the store keeps begins again.
asio::awaitable<void> Leadership::FollowAgain(std::string prefix) {
  for (;;) {
    const Status status = co_await Follow(prefix);
    if (status.ok()) break;
    co_await Sleep(*environment_.timers, options_.tick);
  }
  Look();
}

void Leadership::OnBatch(const std::string& prefix, const metadata::WatchBatch& batch) {
  if (batch.compacted) {
    scope_.Spawn(environment_.executor, FollowAgain(prefix));
    return;
  }
  const SteadyTime now = environment_.clock->Now();
  for (const auto& event : batch.events) {
    if (event.type == metadata::WatchEvent::Type::kDelete) {
      view_.Erase(event.kv.key, event.kv.mod_revision, now);
    } else if (!view_.Put(event.kv, now)) {
      log::Error("a record of the catalog does not parse", "key", event.kv.key);
    }
  }
  Look();
}

/// Acts on what the view has learned: new addresses of nodes, jobs without a coroutine.
void Leadership::Look() {
  if (!started_) return;
  for (const auto& [id, node] : view_.nodes()) {
    Revision& told = told_[id];
    if (told == node.revision) continue;
    told = node.revision;
    environment_.nodes->SetNode(node.record);
  }
  std::erase_if(told_, [&](const auto& entry) {
    if (view_.Node(entry.first) != nullptr) return false;
    environment_.nodes->RemoveNode(entry.first);
    return true;
  });
  for (const auto& [id, job] : view_.jobs()) {
    if (!job.running() || running_.contains(id)) continue;
    if (scope_.Spawn(environment_.executor, runner_.Run(id))) running_.insert(id);
  }
  std::erase_if(running_, [&](uint64_t id) {
    const JobView* job = view_.Job(id);
    return job == nullptr || !job->running();
  });
}

asio::awaitable<void> Leadership::Plan() {
  for (;;) {
    view_.NoticeSilence(environment_.clock->Now(),
                        options_.silent_after_reports * options_.report_interval);
    coordinator::Plan plan = planner_.Decide(view_, environment_.clock->Now());
    metrics_.Update(view_, plan, catalog_.WallMilliseconds());
    warnings_ = plan.warnings;
    co_await Carry(plan);
    co_await Prune();
    co_await RaiseVersions();
    co_await Sleep(*environment_.timers, options_.tick);
  }
}

/// What cannot be written now is planned again at the next tick, if it is still wanted.
asio::awaitable<void> Leadership::Carry(const coordinator::Plan& plan) {
  for (const auto& [node, state] : plan.node_states) {
    const Status status = co_await SetNodeState(node, state);
    if (status.ok()) {
      log::Info("a node's state has changed", "node", node, "state", Name(state));
    } else if (status.code() != Code::kConditionFailed) {
      co_return;
    } else {
      static log::RateLimit limit(std::chrono::seconds(10));
      if (const uint64_t times = limit.Allow()) {
        log::Warn("a node's state cannot be changed yet", "node", node, "state", Name(state),
                  "status", status, "times", times);
      }
    }
  }
  for (const proto::Job& job : plan.jobs) {
    Result<proto::Job> created = co_await catalog_.CreateJob(job);
    if (created.ok()) {
      log::Info("a job begins", "job", created->id(), "kind", Name(job.kind()), "partition",
                job.partition(), "reason", job.reason());
    } else if (created.status().code() != Code::kConditionFailed &&
               created.status().code() != Code::kNotFound) {
      log::Warn("a job could not be begun", "status", created.status());
      co_return;
    }
    Look();
  }
}

asio::awaitable<Status> Leadership::SetNodeState(NodeId node, proto::NodeState state) {
  const NodeView* view = view_.Node(node);
  if (view == nullptr) co_return NotFound("there is no node " + node.ToString());
  proto::Node record = view->record;
  record.set_state(state);
  record.set_state_since_ms(catalog_.WallMilliseconds());
  metadata::Transaction transaction;
  transaction.compares.push_back(metadata::Compare::At(keys::Node(node), view->revision));
  if (state == proto::NODE_STATE_DEAD && !view->alive) {  // not if it has come back just now
    transaction.compares.push_back(metadata::Compare::Missing(keys::Alive(node)));
  } else if (state == proto::NODE_STATE_DEAD) {  // nor if a silent one was heard just now
    if (environment_.clock->Now() - view->heard_at() < options_.dead_after) {
      co_return Status(Code::kConditionFailed, "it has reported");
    }
  }
  transaction.puts.push_back({keys::Node(node), record.SerializeAsString()});
  co_return co_await catalog_.Commit(std::move(transaction));
}

asio::awaitable<void> Leadership::Prune() {
  std::vector<std::pair<int64_t, uint64_t>> ended;
  for (const auto& [id, job] : view_.jobs()) {
    if (!job.running()) ended.emplace_back(job.record.updated_ms(), id);
  }
  if (ended.size() <= options_.finished_jobs_kept) co_return;
  std::sort(ended.begin(), ended.end());
  const size_t count = std::min(ended.size() - options_.finished_jobs_kept, kMaxPruned);
  metadata::Transaction transaction;
  for (size_t i = 0; i < count; ++i) transaction.deletes.push_back(keys::Job(ended[i].second));
  // The watch takes them out of the view; if it is not done, it is done another time.
  (void)co_await catalog_.Commit(std::move(transaction));
}

/// Once every member, and this program, knows more than what is in force, that is put in force: a
/// coordinator that raised it past its own would not be let in at its next start. A registration
/// writes the cluster's key too, so none can slip in between the look at the members and the
/// commit.
asio::awaitable<void> Leadership::RaiseVersions() {
  const auto newest = [this](const std::vector<proto::Node>& nodes, proto::Cluster* cluster) {
    uint32_t wire = options_.newest_wire_version;
    uint32_t disk = options_.newest_disk_version;
    bool any = false;
    for (const proto::Node& node : nodes) {
      if (node.state() == proto::NODE_STATE_DECOMMISSIONED) continue;
      any = true;
      wire = std::min(wire, node.wire_versions().newest());
      disk = std::min(disk, node.disk_versions().newest());
    }
    if (!any) return false;
    if (wire <= cluster->wire_version() && disk <= cluster->disk_version()) return false;
    cluster->set_wire_version(std::max(cluster->wire_version(), wire));
    cluster->set_disk_version(std::max(cluster->disk_version(), disk));
    return true;
  };
  if (!view_.cluster()) co_return;
  std::vector<proto::Node> nodes;
  for (const auto& [id, node] : view_.nodes()) nodes.push_back(node.record);
  proto::Cluster cluster = *view_.cluster();
  if (!newest(nodes, &cluster)) co_return;

  const std::string key(keys::kCluster);
  Result<metadata::KeyValue> kv = co_await environment_.store->Get(key);
  const std::string prefix(keys::kNodePrefix);
  Result<metadata::RangeResult> range = co_await environment_.store->RangePrefix(prefix);
  if (!kv.ok() || !range.ok() || !cluster.ParseFromString(kv->value)) co_return;
  nodes.clear();
  for (const auto& node : range->kvs) {
    if (!nodes.emplace_back().ParseFromString(node.value)) co_return;
  }
  if (!newest(nodes, &cluster)) co_return;
  metadata::Transaction transaction;
  transaction.compares.push_back(metadata::Compare::At(key, kv->mod_revision));
  transaction.puts.push_back({key, cluster.SerializeAsString()});
  const Status status = co_await catalog_.Commit(std::move(transaction));
  if (!status.ok()) co_return;
  log::Info("newer versions are in force", "wire", cluster.wire_version(), "disk",
            cluster.disk_version());
}

Result<std::vector<NodeId>> Leadership::PlaceTable(const proto::Table& table,
                                                   metadata::Transaction* transaction) {
  Placement placement(view_);
  size_t count = table.replication();
  if (count == 0) count = options_.default_replication;
  if (count == 0) count = placement.active_nodes() >= 3 ? 3 : 1;
  std::vector<NodeId> nodes = placement.PlaceNew(count);
  if (nodes.size() < count) {
    return Unavailable("table " + table.name() + " wants " + std::to_string(count) +
                       " replicas, and " + std::to_string(nodes.size()) + " nodes take any");
  }
  // Not on a node that has begun to drain, or was removed, by the time it is done.
  for (const NodeId node : nodes) {
    transaction->compares.push_back(
        metadata::Compare::At(keys::Node(node), view_.Node(node)->revision));
  }
  return nodes;
}

}  // namespace onggi::coordinator
