#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "replication/group/configuration.h"
#include "replication/group/messages.h"

/// What comes into a Group and what comes out of it.
namespace onggi::group {

/// Time since any fixed point, never going back.
using Time = std::chrono::milliseconds;

// What happens to a group. ------------------------------------------------------------------------

/// First event, once. What this replica's disk holds and the configuration as last known (from the
/// metadata store, or the persisted copy if that is newer).
struct Start {
  Start() {}
  Member self;
  uint64_t boot = 0;  ///< random for each process, never 0
  /// The state on disk includes everything up to here; entries at or below it may be gone.
  LogPosition base;
  /// The log after `base`: first index of each epoch's run, ascending, and the last entry.
  std::vector<LogPosition> runs;
  LogIndex last;  ///< base.index when the log is empty
  Configuration configuration;
  Revision revision;
  Time now{0};
};
/// The primary appends `count` entries (allowed while serving(): CHECKed).
struct Propose {
  uint64_t count = 1;
};
/// The log store has made durable what the AppendToLog that ended at `position` (and all before it)
/// appended.
struct LogDurable {
  LogPosition position;
};
/// A PersistConfiguration is durable.
struct ConfigurationDurable {
  Epoch epoch;
};
/// The state machine has applied everything up to `index`, and what that made besides the state (a
/// split's child) is durable.
struct Applied {
  LogIndex index;
};
/// Entries at or below `base` are in the flushed state; the log no longer has them.
struct BaseAdvanced {
  LogPosition base;
};
/// What entry `index`, the latest Split or Absorb that this replica's state includes, is about is
/// durable here: the split's child (this node's replica of it, made by applying), or a copy of the
/// absorbed neighbour's frozen data. After Start when the disk has it, and once it has been
/// applied. A replica that applied the entry and has no such thing says nothing.
struct Holds {
  LogIndex index;
};
/// This replica can only go on from a checkpoint: its log is damaged, or what a merge has brought
/// is not on this node. It leads no more, and is counted on no more once the primary has heard of
/// it.
struct Rebuild {};
struct AppendReceived {
  AppendMessage message;
};
struct AckReceived {
  AckMessage message;
};
/// R11: peers treat their promise to the sender as run out.
struct ResignReceived {
  ResignMessage message;
};
/// `member`, which CreateReplica asked for, is durable on its node.
struct ReplicaCreated {
  Member member;
};
/// Outcome of the latest ProposeSwap.
struct SwapResult {
  enum class Outcome : uint8_t {
    kSucceeded,
    kRefused,       ///< the partition's own key has another mod_revision than was expected
    kOtherRefused,  ///< the own key is as expected, the neighbour's (ProposeSwap::right) is not
    kUnknown,       ///< may have taken effect, or may still
  };
  Outcome outcome = Outcome::kUnknown;
  Revision revision;  ///< kSucceeded: the key's new mod_revision
};
/// The key was read (linearizably, after ReadConfiguration), or a watch or a lease's exception
/// showed it.
struct ConfigurationSeen {
  Configuration configuration;
  Revision revision;
};
/// The key was deleted, at `revision`: the partition was dropped, or merged into its neighbour.
struct KeyDeleted {
  Revision revision;
};
/// The connection to a member was (re)made: whatever was under way to it may be lost.
struct PeerConnected {
  Member member;
};
/// The connection to a member closed, or its node's lease lapsed (R4).
struct PeerLost {
  Member member;
};
/// The promise to the primary's node has run out, and this node's restart wait and place in the
/// order of candidates have passed (R5, R6): take over if in sync.
struct Promote {};
/// The promises that WaitPromises asked about have run out (R7).
struct PromisesRunOut {
  Epoch epoch;
};
/// A checkpoint replaced this replica's state and log (R9), at or after commit_index. No LogDurable
/// of what was appended before may follow.
struct CheckpointInstalled {
  LogPosition position;
};
/// On the primary: the checkpoint that NeedsCheckpoint asked for has been installed on `member`.
struct CheckpointSent {
  Member member;
  LogPosition position;
};
/// Time passes. Needed, every 50 ms or so, only while NeedsTick().
struct Tick {
  Time now;
};
/// The replica is closing: ends a reign. No event may follow.
struct Stop {};

// What an operator, a coordinator or the driver asks of a primary. Asked of a replica that does not
// lead, they do nothing; they are forgotten with the reign.

/// R8: gives way to `target`, which is in sync (else nothing happens). serving() is false from here
/// on, but strong reads go on until the target has matched and the swap is asked for.
struct Transfer {
  Member target;
};
/// Takes a transfer back whose swap was not asked for yet; else nothing happens.
struct CancelTransfer {};
/// Swaps the learner `in`, once it has caught up, for the in-sync `out` (not the primary), which
/// then stays out as long as it can be spared. Forgotten after Group::kReplaceFor.
struct Replace {
  Member out;
  Member in;
};
/// How many replicas the partition is to have: 1, 3 or 5. Raised only in a swap that meets the new
/// minimum (R13); lowered at once, what is too many becomes a learner. Forgotten with the reign:
/// another primary may have been asked for another number since.
struct SetReplication {
  uint32_t replication = 1;
};
/// R11: the primary resigns now. Tick does so of a primary that cannot settle a swap. (A disk that
/// hangs ends heartbeats instead, R10; a store without space refuses writes where it leads, R10.)
struct Resign {};
/// R13, on the primary: entry `index` is a Split, applied here. Once every in-sync replica Holds
/// its child (those that do not within kAckTimeout are left out, if enough do), the swap cuts the
/// range at `key` and makes the child's key. Given again by every new reign that finds the key
/// still uncut, and with another Split entry where too few hold a child (ARCHITECTURE.md, "Splits
/// and merges").
struct FinishSplit {
  FinishSplit() {}
  LogIndex index;
  std::string key;  ///< first key of the child
  PartitionId child;
  /// By the parent's replica, the child's on the same node: of all that Split names. (By replica: a
  /// node that lost its disk and came again as another member must not bring the child's back.)
  std::map<Member, ReplicaId> child_replicas;
};
/// R14, on the right neighbour's primary: entry `index` is a Freeze, applied here: the state
/// machine admits nothing more. Once every in-sync replica has applied it, Frozen{revision} is the
/// grant.
struct Freeze {
  LogIndex index;
};
/// Takes a grant back: a new epoch is won first, so that no transaction on the granted revision can
/// succeed; then Thawed. The state machine may then propose a Thaw entry.
struct Thaw {};
/// R14, on the left neighbour's primary: entry `index` is an Absorb, applied here: it has put the
/// frozen neighbour's data aside. Once every in-sync replica Holds it, the swap widens the range
/// and deletes the right neighbour's key, if that is still at `right_revision`, the grant for the
/// very Freeze that Absorb names. A Merged entry after it makes the data part of the state; the
/// wider range is served once that is applied.
struct FinishMerge {
  FinishMerge() {}
  LogIndex index;
  PartitionId right;
  Revision right_revision;
  std::string range_end;  ///< of the right neighbour
};

/// Forgets a FinishMerge; what was asked for already may still happen.
struct CancelMerge {};

using Event = std::variant<Start, Propose, LogDurable, ConfigurationDurable, Applied, BaseAdvanced,
                           Holds, Rebuild, CancelMerge, AppendReceived, AckReceived, ResignReceived,
                           ReplicaCreated, SwapResult, ConfigurationSeen, KeyDeleted, PeerConnected,
                           PeerLost, Promote, PromisesRunOut, CheckpointInstalled, CheckpointSent,
                           Tick, Stop, Transfer, CancelTransfer, Replace, SetReplication, Resign,
                           FinishSplit, Freeze, Thaw, FinishMerge>;

// What the driver is to do, in order. -------------------------------------------------------------

/// Write the configuration to this replica's disk; answer ConfigurationDurable. What a later
/// AppendToLog appends must not become durable before it (R1). A metadata store on the same disk
/// (embedded) has done so already.
struct PersistConfiguration {
  std::shared_ptr<const Configuration> configuration;
  Revision revision;
};
/// Drop the log's entries from `from` on (LogStore::DropSuffix).
struct DropSuffix {
  LogIndex from;
};
/// Append [first, last]; answer LogDurable with the last one's position.
struct AppendToLog {
  enum class Source : uint8_t {
    kEpochStart,  ///< one entry that opens a reign: the driver writes it with its own type, empty
    kProposal,    ///< the entries of the Propose being answered
    kMessage,     ///< from the AppendReceived being answered
  };
  Source source = Source::kProposal;
  LogIndex first;
  LogIndex last;
  /// Epoch of the entries; kMessage: of the last (the message has the runs).
  Epoch epoch;
};
/// Send `message` with the payloads of (previous.index, last], in several messages (SplitAppend)
/// when they are too many bytes.
struct SendAppend {
  Member to;
  AppendMessage message;
};
struct SendAck {
  Member to;
  AckMessage message;
};
struct SendResign {
  Member to;
  ResignMessage message;
};
/// Have the node of message.to make that replica; its CreatedMessage comes back as ReplicaCreated.
struct SendCreate {
  CreateMessage message;
};
/// A partition that comes into being with a split.
struct ChildPartition {
  PartitionId partition;
  Configuration configuration;
};
/// The neighbour that a merge takes in.
struct RightPartition {
  PartitionId partition;
  Revision expected;
};
/// Compare-and-swap the partition's key: only if its mod_revision is `expected`. With `child`, the
/// same transaction requires that the child's key is missing, and makes it (its table is this
/// one's). With `right`, it requires that key to be at its revision, and deletes it. Answer
/// SwapResult. One is under way at a time.
struct ProposeSwap {
  Configuration configuration;
  Revision expected;
  std::optional<ChildPartition> child;
  std::optional<RightPartition> right;
};
/// Read the key, linearizably; answer ConfigurationSeen (or KeyDeleted).
struct ReadConfiguration {};
/// Everything up to `index` is committed and durable here: apply it; answer Applied. On the primary
/// its requests may be answered once applied.
struct CommitAdvanced {
  LogIndex index;
};
/// A new primary is known, this replica or another: PartitionLease::OnLearnedPrimary, before
/// anything else happens.
struct LearnedPrimary {
  Member previous;
  Epoch previous_epoch;
  std::shared_ptr<const Configuration> configuration;
  Revision revision;
  /// There may have been primaries between the two: every promise counts (R7).
  bool skipped = false;
};
/// A primary resigned `epoch` and all below: PartitionLease::OnResigned. A promotion that waited
/// for its lease may go ahead (Promote, in order of candidates), and so may WaitPromises.
struct PrimaryResigned {
  Member primary;
  Epoch epoch;
};
/// Answer PromisesRunOut at PartitionLease::promises_until() (R7), which PrimaryResigned may bring
/// forward.
struct WaitPromises {
  Epoch epoch;
};
/// A process on a node, and a lease of its.
struct LeaseMember {
  NodeId node;
  uint64_t boot = 0;  ///< 0: has not acknowledged yet in this reign, so no lease counts
  constexpr auto operator<=>(const LeaseMember&) const = default;
};
/// Strong reads are served from here on while all these leases hold (R5): PartitionLease::Hold,
/// before any later action. Replaces the previous set.
struct HoldLease {
  Epoch epoch;
  std::vector<LeaseMember> members;  ///< without this node
};
/// Serve no strong read from here on: PartitionLease::Release, before any later action.
struct ReleaseLease {};
/// This replica is the primary, and its epoch-start entry is committed and applied: it may serve.
struct ReignBegan {
  Epoch epoch;
};
/// Stop serving; requests appended and not committed get "outcome unknown" (R12).
struct ReignEnded {};
/// `to` needs entries that the log no longer has: stream it a checkpoint (R9).
struct NeedsCheckpoint {
  Member to;
};
/// Whether Propose is allowed has changed within a reign: a transfer has begun, was taken back, or
/// the reign's configuration came into doubt, or out of it.
struct AdmissionChanged {
  bool serving = false;
};
/// The configuration named this replica, and the key no longer does (or is deleted): close it and
/// remove its data. What happens to it afterwards matters to nobody.
struct Removed {};
/// R14: the right neighbour's grant.
struct Frozen {
  LogIndex index;     ///< of the Freeze
  Revision revision;  ///< of this partition's key: a swap, and so a Thaw, makes it another
};
/// R14: no grant is in force any more.
struct Thawed {};
/// R14: the right neighbour's grant had been taken back; nothing happened.
struct MergeRefused {
  PartitionId right;
};

using Action =
    std::variant<PersistConfiguration, DropSuffix, AppendToLog, SendAppend, SendAck, SendResign,
                 SendCreate, ProposeSwap, ReadConfiguration, CommitAdvanced, LearnedPrimary,
                 PrimaryResigned, WaitPromises, HoldLease, ReleaseLease, ReignBegan, ReignEnded,
                 NeedsCheckpoint, AdmissionChanged, Removed, Frozen, Thawed, MergeRefused>;
using Actions = std::vector<Action>;

}  // namespace onggi::group
