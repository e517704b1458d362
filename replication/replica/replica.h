#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "replication/group/group.h"
#include "replication/group/messages.h"
#include "replication/lease/node_leases.h"
#include "replication/log/log_store.h"
#include "replication/metadata/metadata_store.h"
#include "replication/replica/environment.h"
#include "replication/replica/window.h"
#include "replication/transport/transport.h"

namespace onggi::replica {

/// An entry that is committed, as it is handed to the state machine. Views live for the call.
struct CommittedEntry {
  LogPosition position;
  uint8_t type = 0;
  std::string_view payload;
};

/// Type of the entry that opens a reign: the replica's own, without payload. The machine is given
/// it with the others, and has nothing to do. All other types are the machine's.
inline constexpr uint8_t kEpochStartEntry = 1;

/// What a replica replicates. Every function is called on the replica's home but for Recover() and
/// those of checkpoints, which may block; none may call back into the replica unless it says so.
class StateMachine {
 public:
  virtual ~StateMachine() = default;

  /// Applies committed entries, which follow what was applied before without a gap, all or none. An
  /// error: nothing was applied (a full disk); it will be tried again after Recover().
  virtual Status Apply(std::span<const CommittedEntry> entries) = 0;
  /// Apply() has failed: what may be done that it succeeds. On a thread that may block.
  virtual Status Recover() = 0;
  /// Does applying an entry of this type take work on the disk? Then it is not given to Apply().
  virtual bool AppliesAlone(uint8_t /*type*/) const { return false; }
  /// Such an entry: true when the disk has what it is about (group::Holds). On a thread that may
  /// block; nothing else is applied meanwhile. Errors as Apply().
  virtual Result<bool> ApplyAlone(const CommittedEntry& /*entry*/) { return false; }
  /// It has been applied.
  virtual void OnAppliedAlone(const CommittedEntry& /*entry*/) {}

  /// Entries up to `commit` are committed, and cannot be applied now (Apply() has failed).
  virtual void OnCommitBlocked(LogIndex commit) = 0;
  /// Entries were applied and the group has heard of it: more may be proposed from here.
  virtual void OnApplied() = 0;
  /// This replica leads: Propose() is allowed, from here on too.
  virtual void OnReignBegan(Epoch epoch) = 0;
  /// It leads no longer: what it proposed and has not seen committed may be committed by another.
  virtual void OnReignEnded() = 0;
  /// Within a reign, Propose() is forbidden for a while, or allowed again.
  virtual void OnAdmissionChanged(bool serving) = 0;
  /// The entries from `from` on were another reign's and never committed: they are gone.
  virtual void OnSuffixDropped(LogIndex from) = 0;
  /// A newer configuration is known.
  virtual void OnConfiguration(std::shared_ptr<const group::Configuration> configuration,
                               Revision revision) = 0;
  /// No configuration names this replica any more: it is to be closed and its data removed.
  virtual void OnRemoved() = 0;
  /// The replica cannot go on (a damaged log): it is stopped, and is to be closed.
  virtual void OnFatal(const Status& status) = 0;
  // R14: outcomes of Freeze, Thaw and FinishMerge (group/events.h).
  virtual void OnFrozen(LogIndex index, Revision revision) = 0;
  virtual void OnThawed() = 0;
  virtual void OnMergeRefused(PartitionId right) = 0;

  /// Makes a copy of the applied state in `directory`, in place of what may be there, and says of
  /// what position. On a thread that may block, while Apply() may run.
  virtual Result<LogPosition> MakeCheckpoint(const std::string& directory) = 0;
  /// It has been sent, or will not be. Likewise.
  virtual void DropCheckpoint(const std::string& directory) = 0;
  /// Replaces the state by the checkpoint in `directory`, which is consumed, whole or not at all,
  /// durably. On a thread that may block; nothing else is called meanwhile.
  virtual Result<LogPosition> InstallCheckpoint(const std::string& directory) = 0;
  /// It has been installed, and nothing has been applied behind it. The entry to say group::Holds
  /// of, if any.
  virtual std::optional<LogIndex> OnInstalled() { return std::nullopt; }
};

/// What the replicas of one node share, and each one's own. Plain pointers outlive the replica.
struct ReplicaOptions {
  ReplicaOptions() {}

  PartitionId partition;
  TableId table;
  group::Member self;
  uint64_t boot = 0;  ///< of this process, never 0

  std::shared_ptr<Home> home;
  std::shared_ptr<Log> log;
  metadata::MetadataStore* metadata = nullptr;
  /// Null: the metadata store is embedded, on this disk, and what it says is durable.
  ConfigurationStore* configurations = nullptr;
  /// Null with checkpoints: one replica, no peers.
  transport::Transport* transport = nullptr;
  std::shared_ptr<lease::NodeLeases> leases;
  CheckpointSender* checkpoints = nullptr;
  /// Checkpoints that are being sent are made below it.
  std::string checkpoint_directory;
  /// True while the disk is below its reserve: Appends of others are dropped (R10). May be null.
  const std::atomic<bool>* disk_low = nullptr;

  /// An Append is split so that its payloads stay below this.
  size_t max_message_bytes = size_t{1} << 20;
  /// Read ahead of acknowledgements toward one member that catches up from the log.
  size_t max_stream_bytes = size_t{4} << 20;
  /// Payloads held in memory: those that are durable and wait for their commit or for apply give
  /// way first and are read back; past twice this, Appends of others are dropped.
  size_t max_window_bytes = size_t{32} << 20;
};

/// Who serves what this replica does not.
struct PrimaryHint {
  NodeId node;  ///< 0: not known
  Epoch epoch;
};

/// Drives one group::Group: carries out what it decides, and feeds it what happens.
///
/// Lifecycle: made by the partition; Start() once; Stop() once; no call after that does anything.
/// What is under way (a timer, a disk read) keeps it alive and finds it stopped.
///
/// Owner of its state: the home. Run(), and what is marked so, may be called on any thread.
///
/// It owns the *window*: the entries after applied_index whose payloads are in memory, those of
/// Propose() and of Appends. What the window does not have (at a start, or given up for memory) is
/// read from the log on a thread that may block.
///
/// Failure: an entry that the log refuses (a full disk) is tried again until it fits; a disk fault
/// ends the process in the log store (R10). A metadata store that does not answer is asked again by
/// the group's ticks. Bounds: max_window_bytes; one read of max_stream_bytes per member.
class Replica final : public Runnable,
                      public log::AppendListener,
                      public std::enable_shared_from_this<Replica> {
 public:
  /// `machine` outlives the replica, or Stop() is called and busy() is over before it goes.
  Replica(ReplicaOptions options, StateMachine* machine);
  ~Replica() override;

  // -- On the home. --

  /// `applied`: what the state machine holds. `configuration`: as the map has it; a newer one that
  /// was made durable here goes before it. kCorruption when the log does not go on where the state
  /// ends; then the replica is stopped.
  Status Start(LogPosition applied, group::Configuration configuration, Revision revision);

  /// Ends a reign and feeds the group no more.
  void Stop();

  /// May Propose() be called?
  bool leading() const { return !stopped_ && group_.serving(); }

  /// Appends one entry of this reign to the log and sends it: leading() only (CHECKed). On an error
  /// of the log nothing happened. The payload lives in the window until it is applied. Apply() is
  /// never called from within.
  Status Propose(uint8_t type, std::string payload, LogPosition* position);

  /// A message of another replica, from the transport.
  void OnMessage(transport::GroupMessage message);
  /// The connection to a node was made (again): Appends under way to it may be lost.
  void OnPeerConnected(NodeId node);
  /// It was lost, or the node's lease has lapsed: its replicas may leave the set, and if the
  /// primary is there this replica takes over once its promise has run out (R6).
  void OnPeerLost(NodeId node);
  /// The key as a watch, a message or an exception of a lease showed it.
  void OnConfigurationSeen(const group::Configuration& configuration, Revision revision);
  void OnKeyDeleted(Revision revision);
  /// The state on disk now includes everything up to here, and the log may be cut behind it. With
  /// `force`, what members that lag behind still need goes too.
  void OnFlushed(LogPosition position, bool force);

  /// What an operator, a coordinator or the machine asks of a primary (the second half of
  /// group/events.h: Transfer, Replace, FinishSplit, Freeze, ...). Does nothing where it does not
  /// lead; the outcome is seen in the configuration, or told to the machine. Not from within a call
  /// to the machine.
  void Ask(const group::Event& event) { Step(event); }

  /// A checkpoint of this partition has arrived in `directory`, sent in `epoch`: installs it unless
  /// it is older than what is here. The answer comes on the home.
  void InstallCheckpoint(Epoch epoch, LogPosition position, std::string directory,
                         std::function<void(Status)> done);

  const group::Group& group() const { return group_; }
  LogPosition applied() const { return applied_; }
  LogIndex last_index() const { return group_.last_index(); }
  /// The position that the next Propose() will have.
  LogPosition next_position() const {
    return {group_.append_epoch(), LogIndex(group_.last_index().value + 1)};
  }
  bool apply_blocked() const { return apply_blocked_; }
  bool stopped() const { return stopped_; }
  /// Has a thread that may block the machine's state, for ApplyAlone() or InstallCheckpoint()? From
  /// before it can begin until the machine hears of it (OnAppliedAlone, OnInstalled) or it failed.
  bool state_lent() const { return alone_ || installing_; }
  /// Is something under way on a thread that may block? The machine is not destroyed before.
  bool busy() const { return blocking_ > 0; }

  // -- Any thread. --

  /// May this replica promise, of a moment after this call began, that its applied state has every
  /// write answered before (R5)? Looks at leases each time; no lock.
  bool ServesStrongReads() const { return lease_->Holds(home_.Now()); }
  /// An epoch above this replica's is known to exist: it serves no strong read in a lower one from
  /// now on. (What a lease's exception says, NodeLeases fences itself.)
  void Fence(Epoch epoch) { lease_->Fence(epoch); }
  /// Where to go instead; node 0 when not known.
  PrimaryHint primary_hint() const {
    return {NodeId(hint_node_.load(std::memory_order_relaxed)),
            Epoch(hint_epoch_.load(std::memory_order_relaxed))};
  }
  /// Entries that the slowest member of the set lacks; 0 on a backup.
  uint64_t lag() const { return lag_.load(std::memory_order_relaxed); }
  /// As of the latest step, for reports.
  uint64_t durable_index() const { return durable_index_.load(std::memory_order_relaxed); }
  uint64_t commit_index() const { return commit_index_.load(std::memory_order_relaxed); }

  void Run() override;  ///< news of the log; Runnable
  void OnDurable(PartitionId partition, LogPosition position, const Status& status) override;

 private:
  /// Entries on their way to a member from the log, a read at a time.
  struct Stream {
    group::AppendMessage message;  ///< what is still to be sent
    bool reading = false;
    BootTime progress;  ///< when something was last sent or acknowledged
    std::deque<std::pair<LogIndex, size_t>> unacknowledged;  ///< last entry and bytes of each part
    size_t unacknowledged_bytes = 0;
  };
  /// What this replica knows of another, as primary.
  struct Peer {
    Epoch epoch;  ///< of match
    LogIndex match;
    uint64_t round = 0;  ///< of the group's latest Append
    std::unique_ptr<Stream> stream;
    bool checkpoint = false;  ///< one is being made or sent
    LogIndex checkpoint_index;
    int checkpoint_failures = 0;
  };
  /// What waits for its turn at the log: behind a configuration that is not durable yet, or a log
  /// that has no space.
  struct LogOperation {
    LogIndex drop_from;                  ///< 0: append `entries`
    std::vector<Window::Entry> entries;  ///< payloads shared with the window
    size_t bytes = 0;
  };

  // replica.cc
  void Step(const group::Event& event);
  void StepOne(const group::Event& event);
  void Notify();
  void Do(const group::PersistConfiguration& action);
  void Do(const group::DropSuffix& action);
  void Do(const group::AppendToLog& action);
  void Do(const group::SendAppend& action);
  void Do(const group::SendAck& action);
  void Do(const group::SendResign& action);
  void Do(const group::SendCreate& action);
  void Do(const group::ProposeSwap& action);
  void Do(const group::ReadConfiguration& action);
  void Do(const group::CommitAdvanced& action);
  void Do(const group::LearnedPrimary& action);
  void Do(const group::PrimaryResigned& action);
  void Do(const group::WaitPromises& action);
  void Do(const group::HoldLease& action);
  void Do(const group::ReleaseLease& action);
  void Do(const group::ReignBegan& action);
  void Do(const group::ReignEnded& action);
  void Do(const group::NeedsCheckpoint& action);
  void Do(const group::AdmissionChanged& action);
  void Do(const group::Removed& action);
  void Do(const group::Frozen& action);
  void Do(const group::Thawed& action);
  void Do(const group::MergeRefused& action);
  void OnAppend(transport::Append* append);
  void PersistNext();
  void ArmTick();
  bool Block(std::function<void()> work, std::function<void()> then);
  void Fatal(const Status& status);

  // apply.cc: the log's operations, commit and apply.
  void QueueLogOperation(LogOperation operation);
  void RunLogOperations();
  Status RunLogOperation(LogOperation* operation);
  void ApplyCommitted();
  bool ApplyBatch();
  Status ApplyEntries();
  void StartAlone(LogPosition position, uint8_t type, std::string payload);
  void FinishAlone(const CommittedEntry& entry, const Result<bool>& holds);
  void ReadToApply();
  void OnReadToApply(LogIndex from, Result<std::vector<log::Entry>> read);
  void BlockApply(const Status& status);
  void RetryApplyLater();
  void RetryApply(const Status& recovered);
  void TrimWindow();

  // sender.cc
  bool SendMessage(const group::Member& to, transport::GroupMessage message, uint64_t boot = 0);
  void SendFromWindow(const group::Member& to, group::AppendMessage message);
  bool SendPart(const group::Member& to, group::AppendMessage message,
                std::vector<transport::Entry> entries);
  void StreamAppend(const group::Member& to, Peer* peer, group::AppendMessage message);
  void PumpStream(const group::Member& to);
  void OnStreamRead(const group::Member& to, Epoch epoch, LogIndex from,
                    Result<std::vector<log::Entry>> read);
  void OnAck(const group::AckMessage& ack);
  void MakeCheckpoint(const group::Member& to);
  void OnCheckpointMade(const group::Member& to, Epoch epoch, std::string directory,
                        Result<LogPosition> position);
  void OnCheckpointSent(const group::Member& to, std::string directory, LogPosition position,
                        const Status& status);

  // leadership.cc: leases and promotion.
  void LookForPrimary();
  void ConsiderPromotion();
  void CheckPromises();
  Status ReplaceState(LogPosition position, const std::string& directory);
  void OnCheckpointInstalled(LogPosition position, const Status& status);

  const ReplicaOptions options_;
  const PartitionId id_;
  StateMachine* const machine_;
  Home& home_;
  Log& log_;
  const std::string key_;  ///< of the partition's configuration

  // News of the log, from its writer's thread.
  std::mutex durable_mutex_;
  LogPosition durable_;          // guarded by durable_mutex_
  Status durable_status_;        // guarded by durable_mutex_
  bool durable_posted_ = false;  // guarded by durable_mutex_

  const std::shared_ptr<lease::PartitionLease> lease_;

  // What any thread reads; written on the home.
  std::atomic<uint64_t> hint_node_{0};
  std::atomic<uint64_t> hint_epoch_{0};
  std::atomic<uint64_t> lag_{0};
  std::atomic<uint64_t> durable_index_{0};
  std::atomic<uint64_t> commit_index_{0};

  // Home only.
  group::Group group_;
  group::Actions actions_;
  std::deque<group::Event> events_;
  bool started_ = false;
  bool stopped_ = false;
  bool stepping_ = false;
  bool notifying_ = false;
  bool tick_armed_ = false;
  int blocking_ = 0;           ///< calls of Block() whose end has not been heard of
  bool news_applied_ = false;  ///< for the machine, once the group has settled
  bool news_reign_ = false;
  bool news_thawed_ = false;
  PartitionId merge_refused_;
  Window window_;
  std::vector<transport::Entry>* incoming_ = nullptr;  ///< of the Append being stepped
  LogIndex incoming_first_;
  std::map<group::Member, Peer> peers_;

  bool persisting_ = false;
  std::optional<group::PersistConfiguration> to_persist_;  ///< behind the one under way
  std::deque<LogOperation> log_operations_;
  size_t log_operation_bytes_ = 0;
  bool log_retry_armed_ = false;

  LogIndex commit_;
  LogPosition applied_;
  std::vector<CommittedEntry> batch_;
  bool apply_blocked_ = false;
  bool alone_ = false;       ///< ApplyAlone() is under way
  bool reading_ = false;     ///< entries to apply are being read from the log
  bool installing_ = false;  ///< a checkpoint: nothing else touches the state
  LogPosition flushed_;      ///< the log may be cut up to here
  LogIndex log_base_;        ///< and has been up to here

  Epoch waiting_promises_;        ///< WaitPromises of it is to be answered; 0: none
  bool promises_armed_ = false;   ///< a timer for it
  bool primary_lost_ = false;     ///< the primary's node is, as far as known
  bool promotion_armed_ = false;  ///< a timer for PromotionTime
};

}  // namespace onggi::replica
