#include "replication/metadata/membership.h"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "common/log.h"
#include "common/uuid.h"
#include "replication/metadata/keys.h"

namespace onggi::metadata {

namespace asio = boost::asio;

namespace {

constexpr uint32_t kWireVersion = 1;
constexpr uint32_t kDiskVersion = 1;
/// Compares lost to others who join at the same time, before the caller is told to ask again.
constexpr int kMaxTries = 20;
constexpr auto kRetryInterval = std::chrono::milliseconds(500);

int64_t Milliseconds(const Clock& clock) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(clock.WallNow().time_since_epoch())
      .count();
}

Status Refused(std::string reason) { return {Code::kConditionFailed, std::move(reason)}; }

std::string Describe(const proto::VersionRange& range) {
  if (range.oldest() == range.newest()) return std::to_string(range.newest());
  return std::to_string(range.oldest()) + " to " + std::to_string(range.newest());
}

/// Ok if this program may join: it knows what is in force, and understands every other member.
Status CheckVersions(const proto::Cluster& cluster, const proto::Node& joining,
                     const std::vector<proto::Node>& members) {
  RETURN_IF_ERROR(CheckInForce(cluster, joining.wire_versions(), joining.disk_versions()));
  for (const proto::Node& member : members) {
    const auto& theirs = member.wire_versions();
    const auto& ours = joining.wire_versions();
    if (ours.newest() < theirs.oldest() || theirs.newest() < ours.oldest()) {
      return Refused("node " + std::to_string(member.id()) + " speaks version " + Describe(theirs) +
                     ", this program " + Describe(ours));
    }
  }
  return Status::Ok();
}

/// What the catalog says about those who are members already.
struct Members {
  std::vector<std::pair<proto::Node, Revision>> nodes;
  std::vector<NodeId> alive;

  bool IsAlive(uint64_t node) const {
    for (const NodeId id : alive)
      if (id.value == node) return true;
    return false;
  }
};

asio::awaitable<Result<Members>> ReadMembers(MetadataStore& store) {
  Members members;
  Result<RangeResult> nodes = co_await store.RangePrefix(std::string(keys::kNodePrefix));
  if (!nodes.ok()) co_return std::move(nodes).status();
  for (const KeyValue& kv : nodes->kvs) {
    proto::Node node;
    if (!node.ParseFromString(kv.value)) co_return Corruption(kv.key + ": does not parse");
    members.nodes.emplace_back(std::move(node), kv.mod_revision);
  }
  Result<RangeResult> alive = co_await store.RangePrefix(std::string(keys::kAlivePrefix));
  if (!alive.ok()) co_return std::move(alive).status();
  for (const KeyValue& kv : alive->kvs) {
    if (const auto id = keys::ParseAlive(kv.key)) members.alive.push_back(*id);
  }
  co_return members;
}

struct Found {
  const proto::Node* node = nullptr;
  Revision revision;
};

Found Find(const Members& members, NodeId id) {
  for (const auto& [node, revision] : members.nodes)
    if (node.id() == id.value) return {&node, revision};
  return {};
}

/// The record of a node that comes back, or the reason why it may not.
Result<proto::Node> Rejoin(const Members& members, const NodeIdentity& identity,
                           const proto::Node& description) {
  const std::string name = "node " + identity.node.ToString();
  const Found found = Find(members, identity.node);
  if (found.node == nullptr) {
    return Refused("the cluster has no " + name +
                   " (any more): this data directory is of no use "
                   "to it; start with a new one");
  }
  if (found.node->state() == proto::NODE_STATE_DECOMMISSIONED) {
    return Refused(name + " was decommissioned: start with a new data directory");
  }
  if (found.node->disk_id() != identity.disk_id) {
    return Refused("this data directory is not the one that " + name + " joined with: disk id " +
                   identity.disk_id + ", the catalog has " + found.node->disk_id());
  }
  if (members.IsAlive(found.node->id()) && found.node->rpc_address() != description.rpc_address()) {
    return Refused(name + " is alive at " + found.node->rpc_address() +
                   ": this is a copy of its data directory (if it has just ended, wait " +
                   std::to_string(kNodeLease.count()) + " s)");
  }
  const auto& boots = identity.boots;
  if (!boots.empty() && found.node->boot() != 0 &&
      std::find(boots.begin(), boots.end(), found.node->boot()) == boots.end()) {
    return Refused(name + " has run since this data directory was copied: it lacks what was " +
                   "acknowledged then; start with a new one");
  }
  proto::Node record = description;
  record.set_id(identity.node.value);
  record.set_joined_ms(found.node->joined_ms());
  record.set_state(found.node->state());
  record.set_state_since_ms(found.node->state_since_ms());
  return record;
}

}  // namespace

proto::VersionRange SupportedWireVersions() {
  proto::VersionRange range;
  range.set_oldest(1);
  range.set_newest(kWireVersion);
  return range;
}

proto::VersionRange SupportedDiskVersions() {
  proto::VersionRange range;
  range.set_oldest(1);
  range.set_newest(kDiskVersion);
  return range;
}

Status CheckInForce(const proto::Cluster& cluster, const proto::VersionRange& wire,
                    const proto::VersionRange& disk) {
  const auto knows = [](const proto::VersionRange& range, uint32_t version) {
    return range.oldest() <= version && version <= range.newest();
  };
  if (!knows(wire, cluster.wire_version())) {
    return Refused("the cluster speaks version " + std::to_string(cluster.wire_version()) +
                   ", this program " + Describe(wire));
  }
  if (!knows(disk, cluster.disk_version())) {
    return Refused("the cluster's format on disk is version " +
                   std::to_string(cluster.disk_version()) + ", this program knows " +
                   Describe(disk));
  }
  return Status::Ok();
}

asio::awaitable<Result<proto::Cluster>> EnsureCluster(MetadataStore& store, std::string expected_id,
                                                      const Clock& clock) {
  const std::string key(keys::kCluster);
  for (int i = 0; i < kMaxTries; ++i) {
    Result<KeyValue> kv = co_await store.Get(key);
    if (kv.ok()) {
      proto::Cluster cluster;
      if (!cluster.ParseFromString(kv->value)) co_return Corruption(key + ": does not parse");
      if (!expected_id.empty() && cluster.id() != expected_id) {
        co_return Refused("the metadata store is of cluster " + cluster.id() + ", not of " +
                          expected_id);
      }
      co_return cluster;
    }
    if (kv.status().code() != Code::kNotFound) co_return std::move(kv).status();
    if (!expected_id.empty()) {
      co_return Refused("the metadata store is empty, and this belongs to cluster " + expected_id);
    }
    proto::Cluster cluster;
    cluster.set_id(NewUuid());
    cluster.set_created_ms(Milliseconds(clock));
    cluster.set_wire_version(kWireVersion);
    cluster.set_disk_version(kDiskVersion);
    Transaction transaction;
    transaction.compares.push_back(Compare::Missing(key));
    transaction.puts.push_back({key, cluster.SerializeAsString()});
    Result<TransactionResult> result = co_await store.Commit(std::move(transaction));
    // Whoever won, and whether an unknown outcome was one, is read again.
    if (!result.ok() && result.status().code() != Code::kUnknownOutcome) {
      co_return std::move(result).status();
    }
  }
  co_return Unavailable("the cluster's record changes all the time");
}

asio::awaitable<Result<std::vector<proto::Node>>> LivingMembers(MetadataStore& store, NodeId self) {
  auto members = co_await ReadMembers(store);
  if (!members.ok()) co_return std::move(members).status();
  std::vector<proto::Node> living;
  for (auto& [node, revision] : members->nodes) {
    if (node.id() != self.value && members->IsAlive(node.id())) living.push_back(std::move(node));
  }
  co_return living;
}

asio::awaitable<Result<Membership>> RegisterNode(MetadataStore& store, NodeIdentity identity,
                                                 proto::Node description, const Clock& clock) {
  if (identity.disk_id.empty()) co_return InvalidArgument("the data directory has no disk id");
  if (!description.has_wire_versions()) {
    *description.mutable_wire_versions() = SupportedWireVersions();
  }
  if (!description.has_disk_versions()) {
    *description.mutable_disk_versions() = SupportedDiskVersions();
  }
  description.set_disk_id(identity.disk_id);
  for (int i = 0; i < kMaxTries; ++i) {
    Membership membership;
    auto cluster = co_await EnsureCluster(store, identity.cluster_id, clock);
    if (!cluster.ok()) co_return std::move(cluster).status();
    membership.cluster = *cluster;
    // Compared, so that no version is put in force between the check and the commit; and put again
    // as it is, so that whoever puts one in force finds that somebody has joined since it looked.
    Result<KeyValue> cluster_kv = co_await store.Get(std::string(keys::kCluster));
    if (!cluster_kv.ok()) co_return std::move(cluster_kv).status();
    if (!membership.cluster.ParseFromString(cluster_kv->value)) {
      co_return Corruption(cluster_kv->key + ": does not parse");
    }
    auto read = co_await ReadMembers(store);
    if (!read.ok()) co_return std::move(read).status();
    const Members& members = *read;
    const int64_t now = Milliseconds(clock);

    // A disk that took part in a registration whose answer was lost is no new one.
    if (identity.node == NodeId()) {
      for (const auto& [node, revision] : members.nodes) {
        if (node.disk_id() == identity.disk_id) identity.node = NodeId(node.id());
      }
    }

    Transaction transaction;
    transaction.compares.push_back(Compare::At(cluster_kv->key, cluster_kv->mod_revision));
    transaction.puts.push_back({cluster_kv->key, cluster_kv->value});
    const std::string next_key = keys::NextNode();
    if (identity.node != NodeId()) {
      Result<proto::Node> record = Rejoin(members, identity, description);
      if (!record.ok()) co_return std::move(record).status();
      membership.node = *record;
      // Marked dead, and here after all: with its own disk it is welcome.
      if (record->state() == proto::NODE_STATE_DEAD ||
          record->state() == proto::NODE_STATE_UNSPECIFIED) {
        membership.node.set_state(proto::NODE_STATE_ACTIVE);
        membership.node.set_state_since_ms(now);
      }
      transaction.compares.push_back(
          Compare::At(keys::Node(identity.node), Find(members, identity.node).revision));
    } else {
      uint64_t id = 1;
      Revision next_revision;
      Result<KeyValue> next = co_await store.Get(next_key);
      if (next.ok()) {
        const auto parsed = keys::ParseId(next->value);
        if (!parsed) co_return Corruption(next_key + ": not an id");
        id = *parsed;
        next_revision = next->mod_revision;
      } else if (next.status().code() != Code::kNotFound) {
        co_return std::move(next).status();
      }
      membership.node = description;
      membership.node.set_id(id);
      membership.node.set_state(proto::NODE_STATE_ACTIVE);
      membership.node.set_state_since_ms(now);
      membership.node.set_joined_ms(now);
      transaction.compares.push_back(Compare::At(next_key, next_revision));
      transaction.puts.push_back({next_key, keys::FormatId(id + 1)});
      transaction.compares.push_back(Compare::Missing(keys::Node(NodeId(id))));
    }
    membership.node.set_started_ms(now);

    std::vector<proto::Node> others;
    for (const auto& [node, revision] : members.nodes) {
      const bool gone = node.state() == proto::NODE_STATE_DECOMMISSIONED;
      if (node.id() == membership.node.id() || gone) continue;
      if (node.state() != proto::NODE_STATE_DEAD) others.push_back(node);
      if (description.rpc_address().empty() || node.rpc_address() != description.rpc_address()) {
        continue;
      }
      if (members.IsAlive(node.id())) {
        co_return Refused("node " + std::to_string(node.id()) + " at " + node.rpc_address() +
                          " is alive (if it has just ended, wait " +
                          std::to_string(kNodeLease.count()) + " s)");
      }
      // Its disk is gone, or it could not have been started at this address.
      if (node.state() == proto::NODE_STATE_DEAD || identity.node != NodeId()) continue;
      proto::Node dead = node;
      dead.set_state(proto::NODE_STATE_DEAD);
      dead.set_state_since_ms(now);
      transaction.compares.push_back(Compare::At(keys::Node(NodeId(node.id())), revision));
      transaction.compares.push_back(Compare::Missing(keys::Alive(NodeId(node.id()))));
      transaction.puts.push_back({keys::Node(NodeId(node.id())), dead.SerializeAsString()});
    }
    const Status versions = CheckVersions(membership.cluster, membership.node, others);
    if (!versions.ok()) co_return versions;

    const NodeId id(membership.node.id());
    transaction.puts.push_back({keys::Node(id), membership.node.SerializeAsString()});
    Result<TransactionResult> result = co_await store.Commit(std::move(transaction));
    if (!result.ok()) {
      // Unknown: the next round finds the disk's id in the catalog, or does it over.
      if (result.status().code() == Code::kUnknownOutcome) continue;
      co_return std::move(result).status();
    }
    if (!result->succeeded) continue;
    membership.node_revision = result->revision;
    co_return membership;
  }
  co_return Unavailable("the catalog of nodes changes all the time");
}

asio::awaitable<void> KeepAlive(MetadataStore& store, NodeId node, uint64_t boot,
                                std::chrono::seconds ttl) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  // Wakes the loop; shared, since the store may call back after this has been cancelled.
  auto wake = std::make_shared<asio::steady_timer>(executor);
  for (;;) {
    auto lost = std::make_shared<bool>(false);
    std::function<void()> on_lost = [wake, lost] {
      *lost = true;
      wake->cancel();
    };
    Result<std::unique_ptr<LeaseHandle>> lease = co_await store.GrantLease(ttl, on_lost);
    Status status = lease.status();
    if (lease.ok()) {
      Transaction transaction;
      Put put;
      put.key = keys::Alive(node);
      put.value = keys::FormatId(boot);
      put.lease = (*lease)->id();
      transaction.puts.push_back(std::move(put));
      Result<TransactionResult> result = co_await store.Commit(std::move(transaction));
      status = result.status();
    }
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    if (status.ok() && !*lost) {
      wake->expires_at(asio::steady_timer::time_point::max());
      co_await wake->async_wait(token);
      log::Warn("the node's lease was lost; it asks for another", "node", node);
    } else {
      if (!status.ok()) log::Warn("the node's lease could not be made", "status", status);
      wake->expires_after(kRetryInterval);
      co_await wake->async_wait(token);
    }
  }
}

}  // namespace onggi::metadata
