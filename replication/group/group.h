#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/ids.h"
#include "replication/group/configuration.h"
#include "replication/group/epoch_runs.h"
#include "replication/group/events.h"
#include "replication/group/messages.h"

namespace onggi::group {

/// The rules of replication.md (R1 to R4, R6 to R9, R11 to R14) for one partition's replica: a pure
/// state machine without I/O, clock or thread, so that the simulator runs the very code that ships.
///
/// One owner: the partition's strand feeds it events and carries out the actions in order. Leases
/// (R5) and the promises of R7 are its node's (lease::NodeLeases, lease::PartitionLease): the group
/// says when they are needed (HoldLease, LearnedPrimary, WaitPromises). From PacificA (Lin et al.,
/// MSR-TR-2008-25) and Vertical Paxos II (Lamport, Malkhi, Zhou 2009).
///
/// With replication 1 the life is: Start -> ProposeSwap(epoch + 1) -> SwapResult -> Persist... ->
/// AppendToLog(kEpochStart) -> LogDurable -> CommitAdvanced -> Applied -> ReignBegan; then Propose
/// -> AppendToLog -> LogDurable -> CommitAdvanced for each batch.
class Group {
 public:
  enum class Role : uint8_t {
    kIdle,       ///< not started, stopped, or named by no configuration
    kBackup,     ///< in sync or learner
    kCandidate,  ///< has asked for a reign, or makes the replicas of a new partition
    kPrimary,    ///< has won its epoch; perhaps not serving yet
  };

  Group() = default;

  /// Appends to `actions` what the event calls for. `actions` is not cleared.
  void Step(const Event& event, Actions* actions);

  Role role() const { return role_; }
  /// Primary, reign begun, no doubt about its configuration, no transfer: Propose is allowed.
  bool serving() const {
    return role_ == Role::kPrimary && serving_ && !suspended_ && !transfer_.has_value();
  }
  /// The newest configuration known.
  const Configuration& configuration() const { return *config_; }
  Revision revision() const { return revision_; }
  /// Epoch of the entries that a Propose makes now.
  Epoch append_epoch() const { return active_epoch_; }
  LogIndex last_index() const { return log_.last(); }
  LogIndex durable_index() const { return durable_; }
  LogIndex commit_index() const { return commit_; }
  LogIndex applied_index() const { return applied_; }
  /// Whether Tick would ever do anything: something is unacknowledged or to be asked again.
  bool NeedsTick() const;
  /// Epoch of an entry in [base, last]; 0 otherwise.
  Epoch EpochAt(LogIndex index) const { return log_.EpochAt(index); }
  /// Is this entry, and all before it, in the log or below it? Then a checkpoint of it would bring
  /// nothing, and could take away what lies behind it and has been acknowledged.
  bool Has(const LogPosition& position) const {
    if (rebuild_ || position.index > log_.last()) return false;
    return position.index <= log_.base().index || log_.EpochAt(position.index) == position.epoch;
  }
  /// The first entry that a connected member may still ask for: cutting the log behind it costs
  /// that member a checkpoint. last + 1 on a backup.
  LogIndex FirstNeeded() const;
  /// On the primary: has this learner caught up, so that it could be swapped in?
  bool Ready(const Member& learner) const { return CaughtUp(learner) && !Suspect(learner); }
  /// What it knows and waits for, for a person who looks into a partition that does not move.
  std::string Describe() const;
  /// On the primary: entries that the slowest in-sync member has yet to acknowledge; 0 otherwise.
  uint64_t Lag() const;

  /// R4: an Append unacknowledged for this long removes the member.
  static constexpr Time kAckTimeout{1000};
  /// An unacknowledged Append is sent again, an unanswered question asked again, after this.
  static constexpr Time kRetryInterval{200};
  /// A Replace that was not asked for again is forgotten: nobody waits for it any more, and whom it
  /// keeps out of the set may be needed.
  static constexpr Time kReplaceFor{10'000};
  /// R11: a primary that can neither commit nor change that for this long resigns.
  static constexpr Time kResignAfter{1500};

 private:
  /// What the primary knows of another member.
  struct Progress {
    LogIndex match;           ///< acknowledged in the active epoch
    LogIndex from;            ///< where to send from again: match + 1 once something matched
    LogIndex next;            ///< first entry not yet sent
    uint64_t round = 1;       ///< of what is sent: one more after each kMissing that counted
    bool waiting = false;     ///< an Append is unacknowledged
    Time waiting_since{0};    ///< since when, without progress
    Time sent_at{0};          ///< the latest Append
    bool lost = false;        ///< PeerLost, and no acknowledgement since
    bool checkpoint = false;  ///< NeedsCheckpoint was asked for
    bool rebuild = false;     ///< only a checkpoint helps it
    uint64_t boot = 0;        ///< process that last acknowledged in this reign
    LogIndex applied;         ///< reported in this reign
    LogIndex holds;           ///< reported in this reign
  };
  struct PendingAppend {
    LogPosition last;
    /// What becomes durable with it: less than last.index once a suffix was dropped.
    LogIndex effective;
  };
  /// What a swap asks for.
  struct Proposal {
    Configuration configuration;
    std::optional<ChildPartition> child;
    std::optional<RightPartition> right;
  };

  void On(const Start& event, Actions* actions);
  void On(const Propose& event, Actions* actions);
  void On(const LogDurable& event, Actions* actions);
  void On(const ConfigurationDurable& event, Actions* actions);
  void On(const Applied& event, Actions* actions);
  void On(const BaseAdvanced& event, Actions* actions);
  void On(const Holds& event, Actions* actions);
  void On(const Rebuild& event, Actions* actions);
  void On(const AppendReceived& event, Actions* actions);
  void On(const AckReceived& event, Actions* actions);
  void On(const ResignReceived& event, Actions* actions);
  void On(const ReplicaCreated& event, Actions* actions);
  void On(const SwapResult& event, Actions* actions);
  void On(const ConfigurationSeen& event, Actions* actions);
  void On(const KeyDeleted& event, Actions* actions);
  void On(const PeerConnected& event, Actions* actions);
  void On(const PeerLost& event, Actions* actions);
  void On(const Promote& event, Actions* actions);
  void On(const PromisesRunOut& event, Actions* actions);
  void On(const CheckpointInstalled& event, Actions* actions);
  void On(const CheckpointSent& event, Actions* actions);
  void On(const Tick& event, Actions* actions);
  void On(const Stop& event, Actions* actions);
  void On(const Transfer& event, Actions* actions);
  void On(const CancelTransfer& event, Actions* actions);
  void On(const Replace& event, Actions* actions);
  void On(const SetReplication& event, Actions* actions);
  void On(const Resign& event, Actions* actions);
  void On(const FinishSplit& event, Actions* actions);
  void On(const Freeze& event, Actions* actions);
  void On(const Thaw& event, Actions* actions);
  void On(const FinishMerge& event, Actions* actions);
  void On(const CancelMerge& event, Actions* actions);

  // Configurations and swaps (reign.cc).
  bool Continues(const Configuration& configuration) const;
  bool Begins(const Configuration& configuration) const;
  void Learn(std::shared_ptr<const Configuration> configuration, Revision revision,
             Actions* actions);
  void Follow(Actions* actions);
  void AskToRead(Actions* actions);
  void Ask(Proposal proposal, Actions* actions);
  void AskForReign(Actions* actions);
  void AskAgain(Actions* actions);
  bool Create(Actions* actions);
  void EndReign(Actions* actions);
  void BeginReign(Actions* actions);
  void ActivateEpoch(Actions* actions);
  void MaybeServe(Actions* actions);
  void Publish(Actions* actions);
  void GiveUp(Epoch epoch, Actions* actions);
  void SendResigns(Actions* actions);

  // Entries, as primary (primary.cc).
  void AppendOwn(AppendToLog::Source source, uint64_t count, Actions* actions);
  void RefreshProgress(bool new_epoch);
  void Send(const Member& to, Progress& progress, Actions* actions);
  void SendAgain(const Member& to, Progress& progress, Actions* actions);
  void SendToAll(Actions* actions);
  std::vector<Member> EffectiveSet() const;
  void AdvanceCommit(Actions* actions);
  void SetCommit(LogIndex index, Actions* actions);

  // Who is in sync, and which keys it has (reconfigure.cc).
  bool Suspect(const Member& member) const;
  bool CaughtUp(const Member& member) const;
  Proposal Desired() const;
  Configuration DesiredMembers() const;
  bool DesiredShape(Proposal* wanted) const;
  void MaybeReconfigure(Actions* actions);
  void ForgetReplace();
  void MaybeTransfer(Actions* actions);
  void MaybeGrant(Actions* actions);
  bool Stuck() const;
  bool HeldBy(const Member& member, LogIndex index) const;
  LogIndex ReportIndex() const;

  // As backup (group.cc).
  void AskForCommit(Actions* actions) const;
  void SendRefusal(const Member& to, Actions* actions) const;
  void AdvanceBackupCommit(Actions* actions);
  bool Verify(const AppendMessage& message, Actions* actions);
  void Acknowledge(Actions* actions);

  Role role_ = Role::kIdle;
  Member self_;
  uint64_t boot_ = 0;
  Time now_{0};
  /// No Tick was needed since the last one: now_ may be long past.
  bool clock_stale_ = true;
  bool gone_ = false;  ///< the key was deleted

  EpochRuns log_;
  LogIndex durable_;
  LogIndex commit_;
  LogIndex applied_;
  LogIndex holds_;
  std::vector<PendingAppend> pending_;

  std::shared_ptr<const Configuration> config_;
  Revision revision_;
  Epoch durable_config_epoch_;

  // Proposals that might be in force: all were asked on revision_ (R3).
  std::vector<Proposal> outstanding_;
  Epoch highest_asked_;
  bool swap_in_flight_ = false;
  Revision swap_revision_;  ///< that the swap in flight was asked on
  bool reading_ = false;    ///< asked ReadConfiguration, nothing seen since
  std::optional<Time> ask_again_at_;
  /// Never acts in this epoch or below again, whatever the key says (R8, R11).
  Epoch dead_epoch_;
  std::set<Member> created_;          ///< in epoch 0: those that are durable on their nodes
  std::optional<Time> create_until_;  ///< in epoch 0: how long to wait for all of them
  std::optional<Time> resign_again_at_;
  Time resigned_at_{0};

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
  std::optional<Member> transfer_;
  std::optional<Replace> replace_;
  std::optional<Time> replace_until_;  ///< with replace_: forgotten then
  uint32_t wanted_replication_ = 0;    ///< 0: as it is
  std::optional<FinishSplit> split_;
  std::optional<FinishMerge> merge_;
  std::optional<Time> shape_since_;  ///< when split_ or merge_ began to wait
  LogIndex freeze_;                  ///< 0: not frozen
  Revision granted_;                 ///< the revision that Frozen named last
  bool thawing_ = false;
  std::optional<Time> stuck_since_;
  // What Publish has told.
  bool told_serving_ = false;
  std::optional<HoldLease> held_;
  bool publish_ = false;  ///< something that Publish tells may have changed

  // As backup: in config_->epoch.
  LogIndex verified_;        ///< highest entry that an Append verified
  LogIndex primary_commit_;  ///< highest that the primary sent
  LogIndex acked_;           ///< last acknowledged
  bool ack_due_ = false;     ///< an Append was verified and not yet answered
  bool ask_commit_ = false;  ///< begun, and has not asked for the commit index yet
  LogIndex report_applied_;  ///< acknowledge again once this is applied
  bool rebuild_ = false;     ///< only a checkpoint helps
};

}  // namespace onggi::group
