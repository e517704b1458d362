#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "replication/group/configuration.h"
#include "replication/group/epoch_runs.h"

namespace onggi::group {

/// Time since any fixed point, never going back.
using Time = std::chrono::milliseconds;

/// Append of R1. The payloads of (previous.index, last] travel beside it: the group never sees
/// them.
struct AppendMessage {
  Member from;
  Epoch epoch;
  /// The configuration of `epoch` and the key's mod_revision, the receiver's authority.
  std::shared_ptr<const Configuration> configuration;
  Revision revision;
  LogPosition previous;
  LogIndex last;  ///< previous.index: no entries
  /// Epochs of the entries: the first index of each run, ascending. Empty without entries.
  std::vector<LogPosition> runs;
  LogIndex commit;
};

/// Answer to an Append.
struct AckMessage {
  enum class Kind : uint8_t {
    kMatch,    ///< `index`: the last entry that an Append of `epoch` verified, durable
    kMissing,  ///< the previous entry is not there: go on from `index` (at most)
    kRefused,  ///< the receiver knows the higher `epoch`: `configuration`
  };
  Kind kind = Kind::kMatch;
  Member from;
  Epoch epoch;
  LogIndex index;
  std::shared_ptr<const Configuration> configuration;  ///< kRefused only
  Revision revision;                                   ///< kRefused only
};

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
/// The state machine has applied everything up to `index`.
struct Applied {
  LogIndex index;
};
/// Entries at or below `base` are in the flushed state; the log no longer has them.
struct BaseAdvanced {
  LogPosition base;
};
struct AppendReceived {
  AppendMessage message;
};
struct AckReceived {
  AckMessage message;
};
/// Outcome of the latest ProposeSwap.
struct SwapResult {
  enum class Outcome : uint8_t { kSucceeded, kRefused, kUnknown };
  Outcome outcome = Outcome::kUnknown;
  Revision revision;  ///< kSucceeded: the key's new mod_revision
};
/// The key was read (linearizably, after ReadConfiguration) or a watch showed it.
struct ConfigurationSeen {
  Configuration configuration;
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
/// A checkpoint replaced this replica's state and log (R9).
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

using Event = std::variant<Start, Propose, LogDurable, ConfigurationDurable, Applied, BaseAdvanced,
                           AppendReceived, AckReceived, SwapResult, ConfigurationSeen,
                           PeerConnected, PeerLost, Promote, PromisesRunOut, CheckpointInstalled,
                           CheckpointSent, Tick, Stop>;

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
/// Compare-and-swap the partition's key: only if its mod_revision is `expected`. Answer SwapResult.
/// One is under way at a time.
struct ProposeSwap {
  Configuration configuration;
  Revision expected;
};
/// Read the key, linearizably; answer ConfigurationSeen.
struct ReadConfiguration {};
/// Everything up to `index` is committed and durable here: apply it; answer Applied. On the primary
/// its requests may be answered once applied.
struct CommitAdvanced {
  LogIndex index;
};
/// Answer PromisesRunOut once every promise that R7 names has run out.
struct WaitPromises {
  Epoch epoch;
  Member previous_primary;
};
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

using Action = std::variant<PersistConfiguration, DropSuffix, AppendToLog, SendAppend, SendAck,
                            ProposeSwap, ReadConfiguration, CommitAdvanced, WaitPromises,
                            ReignBegan, ReignEnded, NeedsCheckpoint>;
using Actions = std::vector<Action>;

/// The rules of replication.md (R1 to R4, R6, R7, R9, R12) for one partition's replica: a pure
/// state machine without I/O, clock or thread, so that the simulator runs the very code that ships.
///
/// One owner: the partition's strand feeds it events and carries out the actions in order. Leases
/// (R5), transfer (R8) and Resign (R11) have their place in the driver: they come in as Promote and
/// PromisesRunOut, and go out as WaitPromises. From PacificA (Lin et al., MSR-TR-2008-25) and
/// Vertical Paxos II (Lamport, Malkhi, Zhou 2009).
///
/// With replication 1 the life is: Start -> ProposeSwap(epoch + 1) -> SwapResult -> Persist... ->
/// AppendToLog(kEpochStart) -> LogDurable -> CommitAdvanced -> Applied -> ReignBegan; then Propose
/// -> AppendToLog -> LogDurable -> CommitAdvanced for each batch.
class Group {
 public:
  enum class Role : uint8_t {
    kIdle,       ///< not started, stopped, or named by no configuration
    kBackup,     ///< in sync or learner
    kCandidate,  ///< has asked for a reign
    kPrimary,    ///< has won its epoch; perhaps not serving yet
  };

  Group() = default;

  /// Appends to `actions` what the event calls for. `actions` is not cleared.
  void Step(const Event& event, Actions* actions);

  Role role() const { return role_; }
  /// Primary, reign begun, no doubt about its configuration: Propose is allowed.
  bool serving() const { return role_ == Role::kPrimary && serving_ && !suspended_; }
  /// The newest configuration known.
  const Configuration& configuration() const { return *config_; }
  Revision revision() const { return revision_; }
  /// Epoch of the entries that a Propose makes now.
  Epoch append_epoch() const { return active_epoch_; }
  LogIndex last_index() const { return log_.last(); }
  LogIndex durable_index() const { return durable_; }
  LogIndex commit_index() const { return commit_; }
  /// Whether Tick would ever do anything: something is unacknowledged or to be asked again.
  bool NeedsTick() const;
  /// Epoch of an entry in [base, last]; 0 otherwise.
  Epoch EpochAt(LogIndex index) const { return log_.EpochAt(index); }

  /// R4: an Append unacknowledged for this long removes the member.
  static constexpr Time kAckTimeout{1000};
  /// An unacknowledged Append is sent again, an unanswered question asked again, after this.
  static constexpr Time kRetryInterval{200};

 private:
  /// What the primary knows of another member.
  struct Progress {
    LogIndex match;           ///< acknowledged in the active epoch
    LogIndex from;            ///< where to send from again: match + 1 once something matched
    LogIndex next;            ///< first entry not yet sent
    bool waiting = false;     ///< an Append is unacknowledged
    Time waiting_since{0};    ///< since when, without progress
    Time sent_at{0};          ///< the latest Append
    bool lost = false;        ///< PeerLost, and no acknowledgement since
    bool checkpoint = false;  ///< NeedsCheckpoint was asked for
  };
  struct PendingAppend {
    LogPosition last;
    /// What becomes durable with it: less than last.index once a suffix was dropped.
    LogIndex effective;
  };

  void On(const Start& event, Actions* actions);
  void On(const Propose& event, Actions* actions);
  void On(const LogDurable& event, Actions* actions);
  void On(const ConfigurationDurable& event, Actions* actions);
  void On(const Applied& event, Actions* actions);
  void On(const BaseAdvanced& event, Actions* actions);
  void On(const AppendReceived& event, Actions* actions);
  void On(const AckReceived& event, Actions* actions);
  void On(const SwapResult& event, Actions* actions);
  void On(const ConfigurationSeen& event, Actions* actions);
  void On(const PeerConnected& event, Actions* actions);
  void On(const PeerLost& event, Actions* actions);
  void On(const Promote& event, Actions* actions);
  void On(const PromisesRunOut& event, Actions* actions);
  void On(const CheckpointInstalled& event, Actions* actions);
  void On(const CheckpointSent& event, Actions* actions);
  void On(const Tick& event, Actions* actions);
  void On(const Stop& event, Actions* actions);

  bool Mine(const Configuration& configuration) const;
  void Learn(std::shared_ptr<const Configuration> configuration, Revision revision,
             Actions* actions);
  void Follow(Actions* actions);
  void AskToRead(Actions* actions);
  void Ask(Configuration configuration, Actions* actions);
  void AskForReign(Actions* actions);
  void AskAgain(Actions* actions);
  void EndReign(Actions* actions);
  void BeginReign(const Configuration& previous, Actions* actions);
  void ActivateEpoch(Actions* actions);
  void AppendOwn(AppendToLog::Source source, uint64_t count, Actions* actions);
  void RefreshProgress(bool new_epoch);
  void Send(const Member& to, Progress& progress, Actions* actions);
  void SendAgain(const Member& to, Progress& progress, Actions* actions);
  void SendToAll(Actions* actions);
  std::vector<Member> EffectiveSet() const;
  void AdvanceCommit(Actions* actions);
  void AdvanceBackupCommit(Actions* actions);
  void SetCommit(LogIndex index, Actions* actions);
  void MaybeServe(Actions* actions);
  Configuration Desired() const;
  void MaybeReconfigure(Actions* actions);
  bool Suspect(const Member& member) const;
  bool CaughtUp(const Member& member) const;
  bool Verify(const AppendMessage& message, Actions* actions);
  void Acknowledge(Actions* actions);

  Role role_ = Role::kIdle;
  Member self_;
  uint64_t boot_ = 0;
  Time now_{0};
  /// No Tick was needed since the last one: now_ may be long past.
  bool clock_stale_ = true;

  EpochRuns log_;
  LogIndex durable_;
  LogIndex commit_;
  LogIndex applied_;
  std::vector<PendingAppend> pending_;

  std::shared_ptr<const Configuration> config_;
  Revision revision_;
  Epoch durable_config_epoch_;

  // Proposals that might be in force: all were asked on revision_ (R3).
  std::vector<Configuration> outstanding_;
  Epoch highest_asked_;
  bool swap_in_flight_ = false;
  Revision swap_revision_;  ///< that the swap in flight was asked on
  bool reading_ = false;    ///< asked ReadConfiguration, nothing seen since
  std::optional<Time> ask_again_at_;

  // As primary.
  Epoch active_epoch_;  ///< of entries and messages: its configuration is durable here
  std::shared_ptr<const Configuration> active_config_;
  Revision active_revision_;
  Epoch reign_;           ///< first epoch of the reign
  LogIndex epoch_start_;  ///< 0 until the entry is appended
  bool serving_ = false;
  bool suspended_ = false;  ///< a swap was refused: no commit until the key is read
  bool promises_out_ = true;
  std::map<Member, Progress> progress_;

  // As backup: in config_->epoch.
  LogIndex verified_;        ///< highest entry that an Append verified
  LogIndex primary_commit_;  ///< highest that the primary sent
  LogIndex acked_;           ///< last acknowledged
  bool ack_due_ = false;     ///< an Append was verified and not yet answered
};

/// Cuts an Append in two before it is sent: `message` keeps the entries through `at`, which lies in
/// [previous.index, last); the rest is returned.
AppendMessage SplitAppend(AppendMessage* message, LogIndex at);

}  // namespace onggi::group
