#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/limits.h"
#include "common/proto/node.pb.h"
#include "common/runtime.h"
#include "common/status.h"
#include "replication/group/configuration.h"
#include "replication/lease/node_leases.h"
#include "replication/log/log_store.h"
#include "replication/metadata/metadata_store.h"
#include "replication/replica/replica.h"
#include "replication/transport/transport.h"
#include "server/partition/effects.h"
#include "server/partition/load_meter.h"
#include "server/partition/news.h"
#include "server/partition/node_home.h"
#include "server/partition/request_table.h"
#include "server/partition/schema.h"
#include "server/partition/shape.h"
#include "server/partition/statistics.h"
#include "server/partition/write.h"
#include "server/storage/partition_store.h"

namespace onggi::partition {

class Partition;

/// A write on its way: request in, outcome out. Owned by the caller, who waits for it.
struct WriteTask {
  std::shared_ptr<Partition> partition;
  WriteRequest request;
  WriteOutcome outcome;

 private:
  friend class Partition;
  friend class Completions;
  friend boost::asio::awaitable<void> Execute(std::span<WriteTask> tasks);
  struct Join;
  Join* join_ = nullptr;
  WriteTask* next_ = nullptr;
};

/// Runs the writes, each atomic on its own, all at once and in no order, and returns when every
/// outcome is there. Resumes on the caller's executor.
boost::asio::awaitable<void> Execute(std::span<WriteTask> tasks);

/// Which ordered space of a partition a cursor walks: the items, or local index number `index`.
struct KeySpace {
  int index = -1;
  static KeySpace Items() { return {}; }
  static KeySpace LocalIndex(int number) { return {number}; }
};

/// Walks a key range of one space over a snapshot taken at its creation, forward or backward.
/// Lower is inclusive, upper exclusive, both in keys of the space; empty = unbounded.
class Cursor {
 public:
  ~Cursor();
  bool Valid() const;
  void Next();
  std::string_view key() const;  ///< valid until Next()
  model::ItemView item() const;  ///< valid until Next(); of a local index: the projected attributes
  /// Not ok when the walk ended early (a damaged block, a lost disk).
  Status status() const;

 private:
  friend class Partition;
  Cursor(std::shared_ptr<const Partition> partition, std::unique_ptr<storage::RangeIterator> it,
         bool consistent)
      : partition_(std::move(partition)), it_(std::move(it)), consistent_(consistent) {}
  std::shared_ptr<const Partition> partition_;  ///< keeps the store open
  std::unique_ptr<storage::RangeIterator> it_;
  const bool consistent_;
  size_t bytes_ = 0;  ///< walked
};

/// An item read and the memory that keeps it alive.
class PinnedItem {
 public:
  bool found() const { return found_; }
  model::ItemView item() const { return model::ItemView(value_.view()); }

 private:
  friend class Partition;
  storage::PinnedValue value_;
  bool found_ = false;
};

/// What every partition of a node shares. Outlives them.
struct PartitionEnvironment {
  NodeId node;
  storage::StorageEnvironment* storage = nullptr;
  log::LogStore* log = nullptr;
  metadata::MetadataStore* metadata = nullptr;
  BlockingPool* blocking = nullptr;
  /// True while the disk is below its reserve: writes are refused, reads go on (R10).
  const std::atomic<bool>* disk_low = nullptr;
  std::string partitions_directory;
  /// Random for each process, never 0 (group::Start::boot).
  uint64_t boot = 0;
  /// The largest item collection of a table with local indexes, in bytes.
  uint64_t collection_limit_bytes = uint64_t{10} << 30;
  uint64_t merge_copy_limit_bytes = kMergeCopyLimitBytes;
  /// A store that has failed flushes what it has in memory to resume, which takes seconds at most.
  /// One that takes longer than this is opened again.
  std::chrono::milliseconds resume_patience{30'000};

  // With other nodes. Null: this is the only one, and its metadata store is on this very disk.
  transport::Transport* transport = nullptr;
  std::shared_ptr<lease::NodeLeases> leases;  ///< null: PartitionManager makes one without peers
  replica::ConfigurationStore* configurations = nullptr;
  replica::CheckpointSender* checkpoints = nullptr;
};

/// The configuration that a partition goes by, and the mod_revision of its key.
struct KnownConfiguration {
  group::Configuration configuration;
  Revision revision;
};

/// Whoever looks after the partitions of a node. Called on their homes.
class PartitionHost {
 public:
  virtual ~PartitionHost() = default;
  /// A newer configuration is known than the map may show yet.
  virtual void OnConfiguration(TableId table, PartitionId partition,
                               const KnownConfiguration& known) = 0;
  /// Its configuration names this replica no more: to be closed and removed.
  virtual void OnReplicaRemoved(TableId table, PartitionId partition) = 0;
  /// It has stopped by itself: to be closed.
  virtual void OnReplicaFailed(TableId table, PartitionId partition, const Status& status) = 0;
  /// A split has made this node's replica of its child. On any thread.
  virtual void OnChildMade(PartitionId child, ReplicaId replica) = 0;
  /// This node's replica of `partition`, open, if it is frozen by that very entry; else null. On a
  /// thread that may block: waits a few seconds for it.
  virtual std::shared_ptr<const Partition> FindFrozen(PartitionId partition, LogIndex freeze) = 0;
};

/// Where and as whom a partition runs.
struct PartitionPlace {
  std::shared_ptr<NodeHome> home;
  std::shared_ptr<replica::Log> log;
  PartitionHost* host = nullptr;  ///< outlives the partition's Stop()
  ReplicaId replica;
  /// Told when the store is closed and, where it is dropped, its files are gone.
  std::shared_ptr<News> closed;
};

/// One replica of a partition: a range of a table's items, their local indexes and its log.
///
/// Lifecycle: made and stopped by PartitionManager; Start() opens the store, replays the log and
/// takes its place, as primary where it is one; Stop() answers what is in flight and closes. A
/// failed Start leaves it closed.
///
/// Owner of its state: the home executor, one thread of the IoPool. Writes cross to it by message
/// (the inbox) and their outcomes cross back; reads run on the thread that asks, on RocksDB's own
/// snapshots.
///
/// Writes: the inbox is drained in bursts. Each write latches its item's key and is evaluated once,
/// against the latch's uncommitted version if there is one, else the store; so writes to a hot key
/// join one batch instead of waiting for a disk each (log order commits them in the order of
/// evaluation, and a write that answers from an uncommitted version waits for it). The effects of a
/// burst are one log entry; kMaxEntriesInFlight entries are on their way while the next gathers.
/// replica::Replica has the entries from there until they are committed, on every replica, and
/// gives them back to be applied.
///
/// On failure: a refused append answers its writes as not done; a store that cannot apply (full
/// disk) answers kUnknownOutcome, keeps the committed entries and tries again until it can; a reign
/// that ends answers kUnknownOutcome for what was appended (R12).
class Partition final : public replica::StateMachine,
                        public std::enable_shared_from_this<Partition> {
 public:
  /// `config` is the partition's configuration as read at `config_revision`.
  Partition(const PartitionEnvironment& environment, PartitionPlace place,
            std::shared_ptr<const TableSchema> schema, proto::PartitionConfig config,
            Revision config_revision);
  ~Partition() override;

  /// Opens and takes its place: as the primary that the configuration names, Ok says that it
  /// serves (with other replicas: that it does or could not in a few seconds); as any other,
  /// that it follows. kCorruption: nothing to go on from (R9: lost). Called once, on the home.
  boost::asio::awaitable<Status> Start();
  /// Stops admitting, answers what is in flight (within 10 s) and, if asked to, flushes. On the
  /// home executor. The store closes with the last reference to the partition.
  boost::asio::awaitable<void> Stop(bool flush);
  /// Makes a Start() that is under way end with `reason` soon, if it has not succeeded yet. On the
  /// home executor.
  void GiveUpStart(Status reason);
  /// The directory goes with the last reference too: the partition was dropped.
  void RemoveFilesOnClose() { remove_files_.store(true); }

  // -- Any thread. --

  PartitionId id() const { return id_; }
  const TableSchema& schema() const { return *schema_; }
  /// Does it admit writes and answer strong reads, as far as it knows? Cheap, and only a guess for
  /// those who choose a replica: the request itself finds out.
  bool serving() const { return serving_.load(std::memory_order_acquire); }
  ReplicaId replica_id() const { return place_.replica; }
  /// The Freeze that it has applied, and that no Thaw has ended; 0: none.
  LogIndex frozen_at() const { return LogIndex(frozen_at_.load(std::memory_order_acquire)); }
  /// The range [start, end) of the key space that it holds; an empty end is the end of the space.
  /// It may shrink and grow. Views live as long as the partition.
  std::string_view range_start() const { return range_.load(std::memory_order_acquire)->start; }
  std::string_view range_end() const { return range_.load(std::memory_order_acquire)->end; }
  /// The newest configuration that it knows.
  std::shared_ptr<const KnownConfiguration> configuration() const;
  /// Who leads it as far as it knows (node 0: nobody), for an answer of kNotPrimary.
  replica::PrimaryHint primary_hint() const;

  /// Reads one item. consistent: sees every write that was answered before the call; kNotPrimary
  /// when this replica may not promise that now, or does not hold the key. Otherwise any applied
  /// state of a replica in sync, but not one from before what it had acknowledged in an earlier
  /// life: kNotPrimary until it knows.
  Status Get(std::string_view key, bool consistent, PinnedItem* item) const;

  /// A cursor on [lower, upper) of `space`. Bounds are keys of that space: model::EncodeKey for
  /// items; collection prefix + AppendTerminated(index sort key) + AppendSortKey(base sort key) for
  /// a local index. Long walks (scans) pass fill_cache = false so that they do not push hot items
  /// out. kNotPrimary also where the bounds are not inside the range that it holds.
  Result<std::unique_ptr<Cursor>> NewCursor(KeySpace space, std::string_view lower,
                                            std::string_view upper, bool reverse, bool consistent,
                                            bool fill_cache) const;

  PartitionStatistics statistics() const;

  /// Told when configuration(), serving(), frozen_at(), grant() or what is applied may have
  /// changed.
  News& news() { return news_; }

  /// Bytes of one item collection, items and local index entries; tables with local indexes only.
  Result<uint64_t> CollectionBytes(std::string_view collection_prefix) const;

  /// Flushes the store and has the log cut behind it, also where another replica still needs it.
  /// Blocks on the disk. Ok, having done nothing, while another flush is under way.
  Status Flush();
  /// Flushes the store, so that little is left to be written when the shape changes and writes have
  /// to wait. Blocks on the disk.
  Status WriteAhead();
  /// What the state on the disk has: where a crash would leave it. Blocks on the disk. kNotFound
  /// before it is open.
  Result<LogPosition> PersistedPosition() const;

  // -- On the home executor. --

  /// Null before Start() and after Stop().
  replica::Replica* replica() { return replica_.get(); }

  /// Proposes that what lies at or past record.key becomes record.child, with the replicas given;
  /// index and figures are found here. Ok: it is proposed, or was; the key tells when it is done.
  /// Errors: kNotPrimary; kInvalidArgument (not inside the range, or not where it may be cut);
  /// kUnavailable (another split is under way, or the log is full).
  Status ProposeSplit(SplitRecord record);

  // A merge (ARCHITECTURE.md, "Splits and merges"), a step at a time; PartitionManager takes it
  // from one to the next. Ok: proposed, or already there. Errors as ProposeSplit.

  /// On the right neighbour. kInvalidArgument: it is too large to be copied while nobody writes.
  Status ProposeFreeze();
  /// The Freeze that is granted, and the revision that vouches for it; 0: none.
  std::pair<LogIndex, Revision> grant() const { return {freeze_.granted, freeze_.revision}; }
  /// On the left one.
  Status ProposeAbsorb(AbsorbRecord record, Revision grant);
  void CancelMerge();
  /// What a merge would have to copy of a partition with such figures, in bytes.
  static uint64_t MergeCopyBytes(const PartitionStatistics& figures);

  /// What a node reports of it.
  void Describe(proto::ReplicaStatus* status) const;
  LoadMeter& load() const { return load_; }
  /// Changes when anything is done with it.
  uint64_t activity() const {
    return load_.activity() + applied_index_.load(std::memory_order_relaxed);
  }

  /// Writes waiting to be evaluated, and evaluated ones not yet answered.
  size_t queued_writes() const { return queued_.load(std::memory_order_relaxed); }

 private:
  friend boost::asio::awaitable<void> Execute(std::span<WriteTask> tasks);

  /// Entries in the log's hands at once: one being synced, one queued behind it.
  static constexpr size_t kMaxEntriesInFlight = 2;
  /// A batch closes at this size even while others are in flight.
  static constexpr size_t kMaxBatchBytes = size_t{1} << 20;
  /// Evaluation pauses while this much is uncommitted; the inbox waits.
  static constexpr size_t kMaxUncommittedBytes = size_t{32} << 20;
  /// Writes that may wait in the inbox; more are refused with kResourceExhausted.
  static constexpr size_t kMaxQueuedWrites = 65536;

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };

  /// The newest uncommitted version of an item, and the entry that makes it.
  struct Latch {
    std::string item;  ///< stored form; empty: deleted
    LogIndex index;
  };
  struct CollectionLatch {
    uint64_t bytes = 0;
    LogIndex index;
  };
  using LatchMap = std::unordered_map<std::string, Latch, Hash, std::equal_to<>>;
  using CollectionLatchMap =
      std::unordered_map<std::string, CollectionLatch, Hash, std::equal_to<>>;

  /// Tasks in order of arrival, linked through WriteTask::next_.
  struct TaskList {
    WriteTask* head = nullptr;
    WriteTask* tail = nullptr;
    void Push(WriteTask* task);
    WriteTask* Pop();
    bool empty() const { return head == nullptr; }
  };

  /// An entry of this reign that is appended and not yet applied.
  struct Entry {
    LogPosition position;
    size_t bytes = 0;
    PartitionStatistics after;
    TaskList tasks;
    TaskList retries;                      ///< of named writes that it carries
    std::vector<std::string> keys;         ///< latched by it
    std::vector<std::string> collections;  ///< likewise
  };

  /// The keys that it has, and those that it serves: less while a split is being decided.
  struct Range {
    std::string start;
    std::string end;
    bool Holds(std::string_view key) const { return key >= start && (end.empty() || key < end); }
    bool HoldsBounds(std::string_view lower, std::string_view upper) const {
      return lower >= start && (end.empty() || (!upper.empty() && upper <= end));
    }
  };

  // write_path.cc; on the home executor except Submit.
  void Submit(WriteTask* task);
  void Drain();
  Status Refusal() const;
  void EvaluateTask(WriteTask* task);
  bool AnswerRetry(WriteTask* task);
  void AnswerFromRecord(WriteTask* task, const std::string& key);
  void FinishTask(WriteTask* task);
  Entry* EntryOf(LogIndex index);
  void CloseBatch();
  void AbandonBatch(const Status& status);
  void RestoreLatches();
  void ReleaseLatches(const Entry& entry);
  void FailTasks(TaskList* tasks, const Status& status);
  Result<uint64_t> CollectionBytesNow(std::string_view prefix) const;

  // replica::StateMachine. apply.cc.
  Status Apply(std::span<const replica::CommittedEntry> entries) override;
  Status Recover() override;
  void OnCommitBlocked(LogIndex commit) override;
  void OnApplied() override;
  void OnReignBegan(Epoch epoch) override;
  void OnReignEnded() override;
  void OnAdmissionChanged(bool serving) override;
  void OnSuffixDropped(LogIndex from) override;
  void OnConfiguration(std::shared_ptr<const group::Configuration> configuration,
                       Revision revision) override;
  void OnRemoved() override;
  void OnFatal(const Status& status) override;
  void OnFrozen(LogIndex index, Revision revision) override;
  void OnThawed() override;
  void OnMergeRefused(PartitionId right) override;
  Result<LogPosition> MakeCheckpoint(const std::string& directory) override;
  void DropCheckpoint(const std::string& directory) override;
  Result<LogPosition> InstallCheckpoint(const std::string& directory) override;
  Status ApplyEntries(std::span<const replica::CommittedEntry> entries);
  Status LoadRequests();
  std::optional<LogIndex> OnInstalled() override;

  // merge.cc; on the home but for those that block (ApplyAlone, ApplyShape, ApplyAbsorb, CopyFrom,
  // LoadShape).
  bool AppliesAlone(uint8_t type) const override;
  Result<bool> ApplyAlone(const replica::CommittedEntry& entry) override;
  void OnAppliedAlone(const replica::CommittedEntry& entry) override;
  Status ApplyShape(LogPosition position, const PartitionStatistics& after,
                    rocksdb::WriteBatch* batch);
  Status ProposeShape(EntryType type, std::string payload, const PartitionStatistics& after);
  Status LoadShape();
  void OnFreezeApplied(LogIndex index);
  void AskThaw();
  void ThawLater();
  void OnThawApplied();
  Result<bool> ApplyAbsorb(const replica::CommittedEntry& entry);
  Status CopyFrom(const Partition& right, const AbsorbRecord& record);
  void OnAbsorbApplied(const replica::CommittedEntry& entry);
  void FinishMerge();
  void FinishMergeLater();
  void ProposeMerged();
  void OnMergedApplied(const replica::CommittedEntry& entry);
  Status LoadInherited();
  std::vector<char> Spaces() const;

  // split.cc; on the home but for those that block (ApplySplit, MakeChild, BecomeChild, LoadSplit,
  // HoldsChild) or are whose the state is (TrimForeign, TrimRange).
  Result<bool> ApplySplit(const replica::CommittedEntry& entry);
  void OnSplitApplied(const replica::CommittedEntry& entry);
  Status CheckCut(std::string_view key) const;
  double ShareFrom(std::string_view key) const;
  bool Uncut(const SplitRecord& split) const;
  void FinishSplit();
  Status MakeChild(const SplitRecord& record);
  Status BecomeChild(const std::string& path, const SplitRecord& record);
  Status LoadSplit(std::optional<SplitRecord>* split) const;
  bool HoldsChild(const SplitRecord& split) const;
  void TrimOutside();
  Status TrimForeign(const std::string& start, const std::string& end, bool absorbed);
  Status TrimRange(const StoreRange& range);
  void Recount();
  bool FiguresAreOfRange() const;
  Result<PartitionStatistics> Count(const Range& range, AppliedState* base) const;
  void TakeCount(const AppliedState& base, const PartitionStatistics& exact);

  // life.cc; on the home executor but for OpenStore and NewsOfFlush (blocking pool).
  Status OpenStore(AppliedState* applied);
  storage::PartitionStore::Events StoreEvents();
  void ResumeLater();
  void GiveUpStore(const Status& why);
  void UseStore(std::unique_ptr<storage::PartitionStore> store);
  storage::PartitionStore& store() const { return *store_.load(std::memory_order_acquire); }
  bool OpenedStore() const { return store_.load(std::memory_order_acquire) != nullptr; }
  bool Settled() const;
  void BlockWhenPossible(std::function<void()> task, std::function<void()> refuse,
                         replica::BootTime deadline);
  boost::asio::awaitable<Status> OnBlockingPool(std::function<Status()> work,
                                                std::chrono::milliseconds patience);
  void Wake() {
    news_.Tell();
    waiter_.Wake();
  }
  void NewsOfFlush(bool force);
  Status FlushNow();
  std::string Directory() const;
  void SetRange(const group::Configuration& configuration);
  bool ServesStrongReads() const;
  bool ServesReads(bool consistent) const;

  // load_report.cc; any thread.
  bool ReadItem(std::string_view key, storage::PinnedValue* value) const;
  std::string KeyText(std::string_view key) const;
  std::optional<std::string> CutAt(std::string_view key) const;
  std::optional<std::string> LoadSplitKey(const std::vector<std::string>& sorted) const;
  uint64_t HeldBytes() const;
  std::optional<std::string> SizeSplitKey() const;
  std::optional<std::string> MiddleOf(const std::string& start, const std::string& end) const;

  const PartitionEnvironment& environment_;
  const PartitionPlace place_;
  const NodeHome::Executor home_;
  const PartitionId id_;
  const std::shared_ptr<const TableSchema> schema_;
  const proto::PartitionConfig config_;  ///< as opened
  const Revision config_revision_;

  /// The store that is read and written; those before it stay open for who reads them still.
  std::atomic<storage::PartitionStore*> store_{nullptr};
  std::vector<std::unique_ptr<storage::PartitionStore>> stores_;
  std::atomic<bool> remove_files_{false};
  std::atomic<bool> flushing_{false};
  std::atomic<bool> stopping_walks_{false};
  std::atomic<uint64_t> frozen_at_{0};
  /// Does this replica admit writes? Written on the home executor.
  std::atomic<bool> serving_{false};
  /// Is it in sync, by the newest configuration that it knows? A learner may lack anything.
  std::atomic<bool> readable_{true};
  /// The last entry that was in the log when this opened. Until it is applied, nobody has said here
  /// which of them are committed: what is applied may be older by far than what was acknowledged.
  std::atomic<uint64_t> unknown_until_{0};
  std::atomic<const Range*> range_{nullptr};
  std::vector<std::unique_ptr<const Range>> ranges_;  ///< all there were; the last is range_
  std::shared_ptr<replica::Replica> replica_;
  mutable LoadMeter load_;
  News news_;
  std::atomic<uint64_t> applied_index_{0};

  mutable std::mutex configuration_mutex_;
  std::shared_ptr<const KnownConfiguration> configuration_;  // guarded by configuration_mutex_

  // Inbox: pushed by any thread.
  std::mutex inbox_mutex_;
  TaskList inbox_;             // guarded by inbox_mutex_
  bool drain_posted_ = false;  // guarded by inbox_mutex_
  std::atomic<size_t> queued_{0};

  // Home executor only.
  TaskList waiting_;                    ///< taken from the inbox, not evaluated yet
  Entry open_;                          ///< the batch that gathers
  EffectWriter effects_;                ///< of open_
  RequestTable::Record open_requests_;  ///< of open_
  std::deque<Entry> in_flight_;
  size_t uncommitted_bytes_ = 0;
  LatchMap latches_;
  CollectionLatchMap collection_latches_;
  /// What open_ has taken over of those in flight, as it was.
  std::vector<std::pair<std::string, Latch>> replaced_latches_;
  std::vector<std::pair<std::string, CollectionLatch>> replaced_collections_;
  RequestTable requests_;
  PartitionStatistics evaluated_;  ///< after everything evaluated
  /// The entry of this reign from which on evaluated_ is of something else: the latest Split's or
  /// Merged's; 0: none. What was counted before says nothing of what came after.
  LogIndex figures_from_;
  bool recounted_ = false;            ///< evaluated_ was corrected: an entry is due, even if empty
  Epoch reign_;                       ///< that it leads in; 0: none
  std::optional<SplitRecord> split_;  ///< that is applied, and the key not cut
  std::string admit_end_;  ///< no write at or past it is admitted: proposed as a split's key
  std::optional<AbsorbRecord> absorb_;  ///< the latest that is applied and not merged
  LogIndex absorbing_;                  ///< Freeze of an Absorb that is proposed; 0: none
  LogIndex proposed_absorb_;            ///< the latest Absorb of this reign; 0: none
  Revision grant_;                      ///< of the neighbour's, for absorb_ or absorbing_; 0: none
  Revision asked_grant_;                ///< the one that the group was asked to use
  bool merged_proposed_ = false;
  /// As the right neighbour of a merge, in this reign.
  struct Freezing {
    bool proposed = false;
    bool thawing = false;
    LogIndex granted;
    Revision revision;
    bool IsNone() const { return !proposed; }
  };
  Freezing freeze_;
  /// From the store as it was opened or installed, for OnInstalled; or of an Absorb, for
  /// OnAbsorbApplied. Of those who have the state.
  std::optional<AbsorbRecord> installed_absorb_;
  std::optional<SplitRecord> installed_split_;
  bool installed_holds_ = false;
  bool trim_due_ = false;  ///< TrimOutside() was put off
  bool stopping_ = false;
  bool resuming_ = false;  ///< ResumeLater() is under way
  /// Why Start() is to end; ok: it is not.
  Status give_up_;
  Waiter waiter_;  ///< of Start(), for news
  std::string scratch_;

  /// As last sought by SizeSplitKey().
  struct Middle {
    const Range* range = nullptr;
    uint64_t bytes = 0;       ///< of the store
    uint64_t item_bytes = 0;  ///< write buffers grow in steps that say little of what is in them
    std::optional<std::string> key;
  };
  mutable std::mutex middle_mutex_;
  mutable Middle middle_;  // guarded by middle_mutex_

  mutable std::mutex statistics_mutex_;
  PartitionStatistics statistics_;  // guarded by statistics_mutex_; as of what is applied
};

}  // namespace onggi::partition
