#include <algorithm>

#include "common/check.h"
#include "replication/lease/node_leases.h"

namespace onggi::lease {

PartitionLease::~PartitionLease() { node_->Close(partition_, this); }

bool PartitionLease::Holds(BootTime now) const {
  const uint64_t sequence = sequence_.load(std::memory_order_acquire);
  if (sequence % 2 != 0) return false;
  const uint64_t epoch = epoch_.load(std::memory_order_acquire);
  if (epoch == 0) return false;
  if (group::Mutated(group::Mutation::kServeWithoutLease)) return true;
  const uint64_t count = count_.load(std::memory_order_acquire);
  for (uint64_t i = 0; i < count; ++i) {
    const PeerLease* peer = slots_[i].peer.load(std::memory_order_acquire);
    if (!peer->Holds(slots_[i].boot.load(std::memory_order_acquire), now)) return false;
  }
  // After the leases: an acknowledgement fences first and extends then, so a lease that it extended
  // is seen with its fence.
  if (epoch < fence_.load(std::memory_order_acquire)) return false;
  return sequence_.load(std::memory_order_acquire) == sequence;
}

void PartitionLease::Fence(Epoch epoch) {
  uint64_t fence = fence_.load(std::memory_order_relaxed);
  while (fence < epoch.value && !fence_.compare_exchange_weak(fence, epoch.value)) {
  }
}

void PartitionLease::Hold(const group::HoldLease& action) {
  const uint64_t sequence = sequence_.load(std::memory_order_relaxed);
  sequence_.store(sequence + 1, std::memory_order_seq_cst);
  epoch_.store(0, std::memory_order_release);
  if (action.members.size() <= kMaxMembers) {
    for (size_t i = 0; i < action.members.size(); ++i) {
      slots_[i].peer.store(node_->Lease(action.members[i].node), std::memory_order_release);
      slots_[i].boot.store(action.members[i].boot, std::memory_order_release);
    }
    count_.store(action.members.size(), std::memory_order_release);
    epoch_.store(action.epoch.value, std::memory_order_release);
  }
  sequence_.store(sequence + 2, std::memory_order_seq_cst);
}

void PartitionLease::Release() {
  const uint64_t sequence = sequence_.load(std::memory_order_relaxed);
  sequence_.store(sequence + 1, std::memory_order_seq_cst);
  epoch_.store(0, std::memory_order_release);
  sequence_.store(sequence + 2, std::memory_order_seq_cst);
}

void PartitionLease::OnLearnedPrimary(const group::LearnedPrimary& action, BootTime now) {
  const BootTime until = node_->Learned(table_, partition_, action, now);
  std::erase_if(promises_, [&](const Promise& promise) { return promise.until <= now; });
  if (action.configuration->lease_released) {
    // Its last primary had served, and so outlasted all leases before its own, and gave that up.
    promises_.clear();
    return;
  }
  const auto resigned = resigned_.find(action.previous.node);
  const bool run_out = resigned != resigned_.end() && resigned->second >= action.previous_epoch;
  if (!run_out || action.skipped)
    promises_.push_back({action.previous.node, action.previous_epoch, until});
}

void PartitionLease::OnResigned(const group::PrimaryResigned& action) {
  Epoch& epoch = resigned_[action.primary.node];
  epoch = std::max(epoch, action.epoch);
  std::erase_if(promises_, [&](const Promise& promise) {
    return promise.node == action.primary.node && promise.epoch <= action.epoch;
  });
}

BootTime PartitionLease::promises_until() const {
  BootTime until = node_->restart_until();
  for (const Promise& promise : promises_) until = std::max(until, promise.until);
  return until;
}

std::optional<BootTime> PartitionLease::PromotionTime(const group::Configuration& configuration,
                                                      const group::Member& self) const {
  if (configuration.primary == self || !configuration.InSync(self)) return std::nullopt;
  const NodeId node = configuration.primary.node;
  const auto resigned = resigned_.find(node);
  const bool run_out = resigned != resigned_.end() && resigned->second >= configuration.epoch;
  BootTime time = run_out ? node_->restart_until() : node_->promised_until(node);
  for (const group::Member& member : configuration.in_sync) {
    if (member == self) break;
    if (member != configuration.primary) time += kCandidateDelay;
  }
  return time;
}

}  // namespace onggi::lease
