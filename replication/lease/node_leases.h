#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "replication/group/configuration.h"
#include "replication/group/events.h"
#include "replication/group/mutation.h"

namespace onggi::lease {

/// CLOCK_BOOTTIME of a node: goes on while the machine sleeps. Only that node's own readings are
/// ever compared with each other.
using BootTime = std::chrono::nanoseconds;

/// Reads CLOCK_BOOTTIME.
BootTime Now();

inline constexpr BootTime kHeartbeatInterval = std::chrono::milliseconds(200);
/// A heartbeat sent at s, once acknowledged, gives a lease until s + kLease - kMargin.
inline constexpr BootTime kLease = std::chrono::seconds(1);
/// Twice this absorbs what 1 % of difference in clock rates makes of kLease.
inline constexpr BootTime kMargin = std::chrono::milliseconds(20);
/// How long acknowledging binds, by the acknowledger's own clock.
inline constexpr BootTime kPromise = kLease + kMargin;
/// Between two candidates for a primary's place (R6).
inline constexpr BootTime kCandidateDelay = std::chrono::milliseconds(40);

/// Node to node, every kHeartbeatInterval: asks for a lease.
struct Heartbeat {
  NodeId from;
  uint64_t boot = 0;    ///< process that asks
  BootTime sent_at{0};  ///< its clock
  /// The asker has taken in everything through `confirmed` that the process `confirmed_boot` of the
  /// receiver had to tell it.
  uint64_t confirmed_boot = 0;
  uint64_t confirmed = 0;
};

/// A partition whose configuration has moved on from under the asker's primary.
struct NewerConfiguration {
  TableId table;
  PartitionId partition;
  std::shared_ptr<const group::Configuration> configuration;
  Revision revision;
};

/// Gives the lease, except for the partitions in `newer` (R5). To be sent only to the process that
/// asked.
struct HeartbeatAck {
  NodeId from;
  uint64_t boot = 0;     ///< process that acknowledges
  uint64_t to_boot = 0;  ///< process that asked
  BootTime sent_at{0};   ///< of the heartbeat
  uint64_t version = 0;  ///< to be confirmed
  /// `newer` is everything; else it only begins with it, and this gives no lease.
  bool complete = true;
  std::vector<NewerConfiguration> newer;  ///< at most kMaxNewerPerAck
};
inline constexpr size_t kMaxNewerPerAck = 1000;

class NodeLeases;

/// The lease that a peer has given this node. Lives as long as NodeLeases; read by any thread,
/// without a lock.
class PeerLease {
 public:
  /// 0: none yet. Of the process `boot`, which may change with it.
  BootTime until() const { return BootTime(until_.load(std::memory_order_acquire)); }
  /// Does a lease of the process `boot` hold at `now`?
  bool Holds(uint64_t boot, BootTime now) const {
    // The writer takes the lease back before it changes the boot.
    const int64_t until = until_.load(std::memory_order_acquire);
    if (now.count() >= until) return false;
    if (group::Mutated(group::Mutation::kLeaseOfAnotherProcess)) return true;
    return boot_.load(std::memory_order_acquire) == boot && boot != 0;
  }

 private:
  friend class NodeLeases;
  std::atomic<int64_t> until_{0};
  std::atomic<uint64_t> boot_{0};
};

/// One partition's side of its node's leases: which of them its strong reads need (R5), and which
/// promises its next primary here has to wait out (R7). Made by NodeLeases::Open.
///
/// All but Holds() and promises_until() belong to the replica's strand; NodeLeases outlives it.
class PartitionLease {
 public:
  PartitionLease(NodeLeases* node, TableId table, PartitionId partition)
      : node_(node), table_(table), partition_(partition) {}
  ~PartitionLease();
  PartitionLease(const PartitionLease&) = delete;
  PartitionLease& operator=(const PartitionLease&) = delete;

  /// More members than that in an effective set are never served for.
  static constexpr size_t kMaxMembers = 15;

  /// Any thread, no lock: may a strong read be served whose request arrived before this call? `now`
  /// must have been read after that arrival.
  bool Holds(BootTime now) const;
  /// Any thread: an epoch from `epoch` on is known to be granted; nothing below it is served again.
  /// Done by NodeLeases when an acknowledgement says so; for whoever hears of it elsewhere.
  void Fence(Epoch epoch);

  // Carries out the group's actions of the same name.
  void Hold(const group::HoldLease& action);
  void Release();
  void OnLearnedPrimary(const group::LearnedPrimary& action, BootTime now);
  void OnResigned(const group::PrimaryResigned& action);

  /// R7: when every promise that this replica's reign has to wait for has run out, the restart wait
  /// included. Asked after OnLearnedPrimary.
  BootTime promises_until() const;

  /// R6: when this replica, in sync in `configuration`, may take over from its primary: the promise
  /// to that node has run out (or was given back), and candidates before it in the order had their
  /// chance. nullopt: never (it is the primary, or not in sync). Changes with every heartbeat of
  /// the primary's node.
  std::optional<BootTime> PromotionTime(const group::Configuration& configuration,
                                        const group::Member& self) const;

 private:
  friend class NodeLeases;

  /// A promise to the node of a primary that has been replaced.
  struct Promise {
    NodeId node;
    Epoch epoch;  ///< its last that was known
    BootTime until;
  };

  NodeLeases* const node_;
  const TableId table_;
  const PartitionId partition_;
  std::vector<Promise> promises_;
  std::map<NodeId, Epoch> resigned_;

  // Read by any thread; written by the strand. An odd sequence: being written.
  std::atomic<uint64_t> sequence_{0};
  std::atomic<uint64_t> epoch_{0};  ///< 0: nothing is held
  std::atomic<uint64_t> count_{0};
  struct Slot {
    std::atomic<const PeerLease*> peer{nullptr};
    std::atomic<uint64_t> boot{0};
  };
  Slot slots_[kMaxMembers];
  std::atomic<uint64_t> fence_{0};  ///< no epoch below it is served
};

/// The node's leases (R5): one per peer, whatever the number of partitions, with what R7 and R11
/// need of them. Pure: time comes in with every call, messages go out as return values.
///
/// One per process. Thread-safe: one lock, a leaf, held for a few map operations; the lease of a
/// peer and of a partition are read without it. Nothing is durable: a restarted node knows no
/// promise, and so waits out one that could have been given just before (restart_until), and a
/// lease given by an earlier process of a peer counts for no partition that the present one has not
/// acknowledged.
///
/// Bound: one entry per peer, and per peer one NewerConfiguration for each partition that moved
/// from under it and that it has not confirmed.
class NodeLeases {
 public:
  /// `restart_wait`: false for a node that has never had a peer (`onggi dev`).
  NodeLeases(NodeId self, uint64_t boot, BootTime now, bool restart_wait = true);

  NodeId self() const { return self_; }
  uint64_t boot() const { return boot_; }

  // As the one that asks. -------------------------------------------------------------------------

  /// What to send to `to` now; nullopt while Stall() holds: a node that cannot write its log shall
  /// lose its leases (R10).
  std::optional<Heartbeat> OnSendHeartbeat(NodeId to, BootTime now);

  /// Takes in an acknowledgement; one to another process is dropped. Fences the partitions that it
  /// excepts, and only then extends the lease. Returns them: the caller shows each to its replica
  /// (ConfigurationSeen).
  std::vector<NewerConfiguration> OnHeartbeatAck(const HeartbeatAck& ack);

  /// The lease that `peer` has given; stable for the life of this object.
  const PeerLease* Lease(NodeId peer);
  BootTime lease_until(NodeId peer) { return Lease(peer)->until(); }

  /// Peers whose lease has lapsed since the last call: their replicas are lost (R4).
  std::vector<NodeId> TakeLapsed(BootTime now);

  void Stall(bool stalled);

  // As the one that acknowledges. -----------------------------------------------------------------

  /// `now`: read after the heartbeat arrived.
  HeartbeatAck OnHeartbeat(const Heartbeat& heartbeat, BootTime now);

  /// Until when this node has bound itself not to replace `peer`'s primaries, the restart wait
  /// included.
  BootTime promised_until(NodeId peer) const;
  /// The same toward whoever was promised most.
  BootTime all_promises() const;
  BootTime restart_until() const { return restart_until_; }

  /// A partition of this node. One at a time for each id. The result must not outlive this object.
  std::shared_ptr<PartitionLease> Open(TableId table, PartitionId partition);

 private:
  friend class PartitionLease;

  struct Peer {
    PeerLease lease;
    bool lapse_reported = true;
    /// Heard of in its acknowledgements, to be confirmed.
    uint64_t heard_boot = 0;
    uint64_t heard_version = 0;
    BootTime promised_until{0};
    /// What it has not confirmed, by partition; `version` of the latest change.
    struct Unconfirmed {
      uint64_t version;
      NewerConfiguration newer;
    };
    std::map<PartitionId, Unconfirmed> newer;
  };

  Peer& PeerOf(NodeId node);
  BootTime PromisedTo(NodeId peer) const;
  /// Counts the promise to the node of `previous`, and gives one to the new primary's. Atomic with
  /// acknowledgements: one that is made later carries the configuration.
  BootTime Learned(TableId table, PartitionId partition, const group::LearnedPrimary& action,
                   BootTime now);
  void Close(PartitionId partition, const PartitionLease* lease);

  const NodeId self_;
  const uint64_t boot_;
  const BootTime restart_until_;

  mutable std::mutex mutex_;
  uint64_t version_ = 0;  ///< of the latest change to any peer's `newer`
  bool stalled_ = false;
  std::map<NodeId, std::unique_ptr<Peer>> peers_;
  std::map<PartitionId, PartitionLease*> partitions_;
};

}  // namespace onggi::lease
