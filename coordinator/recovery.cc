#include <algorithm>
#include <string>
#include <utility>

#include "common/log.h"
#include "coordinator/leadership.h"
#include "replication/metadata/keys.h"

/// Unsafe recovery: what an operator may order when no in-sync replica of a partition lives (R4).
namespace onggi::coordinator {

namespace asio = boost::asio;
namespace keys = metadata::keys;

namespace {

Status Refused(std::string reason) { return {Code::kConditionFailed, std::move(reason)}; }

std::string NodesOf(const google::protobuf::RepeatedPtrField<proto::ReplicaRef>& replicas) {
  std::string nodes;
  for (const auto& ref : replicas) {
    nodes += (nodes.empty() ? "" : ",") + std::to_string(ref.node());
  }
  return nodes;
}

std::string NodeName(const proto::ReplicaRef& ref) { return "node " + std::to_string(ref.node()); }

/// What the node's present process has said of the replica; null: nothing yet.
const proto::ReplicaStatus* SaidOf(const ClusterView& view, const proto::ReplicaRef& ref,
                                   PartitionId id) {
  const NodeView* node = view.Node(NodeId(ref.node()));
  if (node == nullptr || node->report_boot != node->record.boot()) return nullptr;
  return view.Status(ref, id);
}

/// By its node's lease and its own word alone: a node that the catalog calls dead may have come
/// back a moment ago, and one that has said nothing yet may have everything.
bool MayLive(const ClusterView& view, const proto::ReplicaRef& ref, PartitionId id) {
  if (!view.Alive(NodeId(ref.node()))) return false;
  const auto* said = SaidOf(view, ref, id);
  return said == nullptr || said->role() != proto::REPLICA_ROLE_LOST;
}

/// One replica, which is to begin a reign of its own.
proto::PartitionConfig Recovered(proto::PartitionConfig config, const proto::ReplicaRef& ref) {
  config.set_epoch(config.epoch() + 1);
  *config.mutable_primary() = ref;
  config.clear_in_sync();
  *config.add_in_sync() = ref;
  // Nor any other learner: it may know entries to be committed that this one lacks, and nobody
  // takes back what he has applied.
  config.clear_learners();
  config.set_lease_released(false);
  // The number stays that of the process that led last, on another node. So no process takes this
  // for a reign that it asked for: the replica wins an epoch of its own first, after its promises.
  // Not 0, which says that nobody ever led, and that what is not on the disk may be made empty.
  if (config.boot() == 0) config.set_boot(1);
  return config;
}

}  // namespace

/// The learner on `node`, if nothing better is left.
Result<proto::ReplicaRef> Leadership::CheckRecovery(const PartitionView& partition,
                                                    NodeId node) const {
  const proto::PartitionConfig& config = partition.config;
  const PartitionId id(config.partition());
  for (const auto& ref : config.in_sync()) {
    if (!MayLive(view_, ref, id)) continue;
    return Refused(NodeName(ref) + " lives and has a replica in sync: nothing need be lost, and " +
                   "the partition recovers by itself");
  }
  const std::string name = "node " + node.ToString();
  if (!HasMemberOn(config, node)) return Refused(name + " has no replica of it");
  if (!view_.Alive(node)) return Refused(name + " does not answer");
  const auto learner =
      std::find_if(config.learners().begin(), config.learners().end(),
                   [&](const proto::ReplicaRef& ref) { return ref.node() == node.value; });
  const bool in_sync = learner == config.learners().end();  // and not there, as seen above
  const auto* said = in_sync ? nullptr : SaidOf(view_, *learner, id);
  if (in_sync || (said != nullptr && said->role() == proto::REPLICA_ROLE_LOST)) {
    return Refused(name + " has lost its replica");
  }
  if (said == nullptr) return Refused(name + " has not said yet what it has: ask again");
  return *learner;
}

asio::awaitable<Result<proto::RecoverResponse>> Leadership::Recover(proto::RecoverRequest request) {
  // A partition that changes meanwhile (a learner more) is no reason to refuse.
  constexpr int kAttempts = 5;
  const NodeId node(request.node());
  const PartitionId id(request.partition());
  for (int attempt = 1;; ++attempt) {
    const auto partition = Find(request.table(), request.partition());
    if (!partition.ok()) co_return partition.status();
    const Result<proto::ReplicaRef> ref = CheckRecovery(**partition, node);
    if (!ref.ok()) co_return ref.status();
    proto::RecoverResponse response;
    *response.mutable_before() = (*partition)->config;
    *response.mutable_after() = Recovered((*partition)->config, *ref);
    *response.mutable_replica() = *SaidOf(view_, *ref, id);
    if (!request.accept_data_loss()) co_return response;

    const proto::PartitionConfig& before = response.before();
    const std::string key = keys::Partition(TableId(before.table()), id);
    metadata::Transaction swap;
    swap.compares.push_back(metadata::Compare::At(key, (*partition)->revision));
    // The same process as was asked, on a node that the cluster still has.
    swap.compares.push_back(metadata::Compare::At(keys::Node(node), view_.Node(node)->revision));
    for (const auto& lost : before.in_sync()) {
      if (view_.Alive(NodeId(lost.node()))) continue;  // it lives, and has lost its replica
      swap.compares.push_back(metadata::Compare::Missing(keys::Alive(NodeId(lost.node()))));
    }
    swap.puts.push_back({key, response.after().SerializeAsString()});
    const Status done = co_await catalog_.Commit(std::move(swap));
    Look();
    if (done.code() == Code::kUnknownOutcome) {
      co_return done.WithContext("it may have been done (onggi partition list shows it)");
    }
    if (done.code() == Code::kConditionFailed && attempt < kAttempts) continue;
    if (!done.ok()) co_return done;
    const proto::ReplicaStatus& replica = response.replica();
    log::Warn("a partition was recovered with loss of data", "partition", id, "node", node,
              "replica", ref->replica(), "epoch", response.after().epoch(), "log_epoch",
              replica.durable_epoch(), "log_index", replica.durable_index(), "were_in_sync",
              NodesOf(before.in_sync()), "were_learners", NodesOf(before.learners()));
    response.set_recovered(true);
    co_return response;
  }
}

}  // namespace onggi::coordinator
