#include "replication/lease/node_leases.h"

#include <time.h>

#include <algorithm>

#include "common/check.h"

namespace onggi::lease {

BootTime Now() {
  timespec now{};
  CHECK(::clock_gettime(CLOCK_BOOTTIME, &now) == 0);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

NodeLeases::NodeLeases(NodeId self, uint64_t boot, BootTime now, bool restart_wait)
    : self_(self),
      boot_(boot),
      restart_until_(restart_wait && !group::Mutated(group::Mutation::kForgetPromises)
                         ? now + kPromise
                         : BootTime(0)) {
  CHECK(boot != 0);
}

NodeLeases::Peer& NodeLeases::PeerOf(NodeId node) {
  std::unique_ptr<Peer>& peer = peers_[node];
  if (peer == nullptr) peer = std::make_unique<Peer>();
  return *peer;
}

// As the one that asks. ---------------------------------------------------------------------------

std::optional<Heartbeat> NodeLeases::OnSendHeartbeat(NodeId to, BootTime now) {
  std::lock_guard lock(mutex_);
  if (stalled_) return std::nullopt;
  const Peer& peer = PeerOf(to);
  Heartbeat heartbeat;
  heartbeat.from = self_;
  heartbeat.boot = boot_;
  heartbeat.sent_at = now;
  heartbeat.confirmed_boot = peer.heard_boot;
  heartbeat.confirmed = peer.heard_version;
  return heartbeat;
}

std::vector<NewerConfiguration> NodeLeases::OnHeartbeatAck(const HeartbeatAck& ack) {
  // What an earlier process asked for holds for nobody (R5).
  if (ack.to_boot != boot_ || ack.boot == 0) return {};
  std::lock_guard lock(mutex_);
  Peer& peer = PeerOf(ack.from);
  for (const NewerConfiguration& newer : ack.newer) {
    const auto it = partitions_.find(newer.partition);
    if (it != partitions_.end()) it->second->Fence(newer.configuration->epoch);
  }
  if (peer.heard_boot != ack.boot) {
    peer.heard_boot = ack.boot;
    peer.heard_version = 0;
  }
  peer.heard_version = std::max(peer.heard_version, ack.version);
  if (!ack.complete) return ack.newer;
  const int64_t until = (ack.sent_at + kLease - kMargin).count();
  if (peer.lease.boot_.load(std::memory_order_relaxed) != ack.boot) {
    // Readers look at the time first: they never see the new process with the old one's lease.
    peer.lease.until_.store(0, std::memory_order_release);
    peer.lease.boot_.store(ack.boot, std::memory_order_release);
  }
  if (until > peer.lease.until_.load(std::memory_order_relaxed)) {
    peer.lease.until_.store(until, std::memory_order_release);
    peer.lapse_reported = false;
  }
  return ack.newer;
}

const PeerLease* NodeLeases::Lease(NodeId peer) {
  std::lock_guard lock(mutex_);
  return &PeerOf(peer).lease;
}

std::vector<NodeId> NodeLeases::TakeLapsed(BootTime now) {
  std::lock_guard lock(mutex_);
  std::vector<NodeId> lapsed;
  for (auto& [node, peer] : peers_) {
    if (peer->lapse_reported || peer->lease.until() > now) continue;
    peer->lapse_reported = true;
    lapsed.push_back(node);
  }
  return lapsed;
}

void NodeLeases::Stall(bool stalled) {
  std::lock_guard lock(mutex_);
  stalled_ = stalled;
}

// As the one that acknowledges. -------------------------------------------------------------------

HeartbeatAck NodeLeases::OnHeartbeat(const Heartbeat& heartbeat, BootTime now) {
  std::lock_guard lock(mutex_);
  Peer& peer = PeerOf(heartbeat.from);
  if (heartbeat.confirmed_boot == boot_) {
    std::erase_if(peer.newer,
                  [&](const auto& entry) { return entry.second.version <= heartbeat.confirmed; });
  }
  HeartbeatAck ack;
  ack.from = self_;
  ack.boot = boot_;
  ack.to_boot = heartbeat.boot;
  ack.sent_at = heartbeat.sent_at;
  // Versions are confirmed in order, so the lowest go first.
  std::vector<const Peer::Unconfirmed*> newer;
  newer.reserve(peer.newer.size());
  for (const auto& [partition, unconfirmed] : peer.newer) newer.push_back(&unconfirmed);
  if (newer.size() > kMaxNewerPerAck) {
    std::sort(newer.begin(), newer.end(),
              [](const auto* a, const auto* b) { return a->version < b->version; });
    newer.resize(kMaxNewerPerAck);
    ack.complete = false;
  }
  for (const Peer::Unconfirmed* unconfirmed : newer) {
    ack.version = std::max(ack.version, unconfirmed->version);
    ack.newer.push_back(unconfirmed->newer);
  }
  // Also when it gives no lease: it says that this node takes the peer to be alive.
  peer.promised_until = std::max(peer.promised_until, now + kPromise);
  return ack;
}

BootTime NodeLeases::PromisedTo(NodeId peer) const {
  const auto it = peers_.find(peer);
  if (it == peers_.end()) return restart_until_;
  return std::max(restart_until_, it->second->promised_until);
}

BootTime NodeLeases::promised_until(NodeId peer) const {
  std::lock_guard lock(mutex_);
  return PromisedTo(peer);
}

BootTime NodeLeases::all_promises() const {
  std::lock_guard lock(mutex_);
  BootTime until = restart_until_;
  for (const auto& [node, peer] : peers_) until = std::max(until, peer->promised_until);
  return until;
}

BootTime NodeLeases::Learned(TableId table, PartitionId partition,
                             const group::LearnedPrimary& action, BootTime now) {
  std::lock_guard lock(mutex_);
  BootTime until = restart_until_;
  if (action.previous.node != self_) until = PromisedTo(action.previous.node);
  if (action.skipped) {
    for (const auto& [node, peer] : peers_) until = std::max(until, peer->promised_until);
  }
  const NodeId primary = action.configuration->primary.node;
  if (action.previous.node != self_ && !group::Mutated(group::Mutation::kLeaseWithoutEpoch)) {
    Peer& peer = PeerOf(action.previous.node);
    Peer::Unconfirmed& entry = peer.newer[partition];
    entry.version = ++version_;
    entry.newer = {table, partition, action.configuration, action.revision};
  }
  if (primary != self_) {
    Peer& peer = PeerOf(primary);
    // Learning of a new primary counts as acknowledging a heartbeat of its node (R6).
    peer.promised_until = std::max(peer.promised_until, now + kPromise);
  }
  return until;
}

std::shared_ptr<PartitionLease> NodeLeases::Open(TableId table, PartitionId partition) {
  auto opened = std::make_shared<PartitionLease>(this, table, partition);
  std::lock_guard lock(mutex_);
  partitions_[partition] = opened.get();
  return opened;
}

void NodeLeases::Close(PartitionId partition, const PartitionLease* lease) {
  std::lock_guard lock(mutex_);
  const auto it = partitions_.find(partition);
  if (it != partitions_.end() && it->second == lease) partitions_.erase(it);
}

}  // namespace onggi::lease
