#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
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

#include "common/ids.h"
#include "common/runtime.h"
#include "common/status.h"
#include "replication/group/group.h"
#include "replication/log/log_store.h"
#include "replication/metadata/metadata_store.h"
#include "server/partition/effects.h"
#include "server/partition/schema.h"
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
  bool Valid() const;
  void Next();
  std::string_view key() const;  ///< valid until Next()
  model::ItemView item() const;  ///< valid until Next(); of a local index: the projected attributes
  /// Not ok when the walk ended early (a damaged block, a lost disk).
  Status status() const;

 private:
  friend class Partition;
  Cursor(std::shared_ptr<const Partition> partition, std::unique_ptr<storage::RangeIterator> it)
      : partition_(std::move(partition)), it_(std::move(it)) {}
  std::shared_ptr<const Partition> partition_;  ///< keeps the store open
  std::unique_ptr<storage::RangeIterator> it_;
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
};

/// One replica of a partition: a range of a table's items, their local indexes and its log.
///
/// Lifecycle: made and stopped by PartitionManager; Start() opens the store, replays the log and
/// takes over as primary; Stop() answers what is in flight and closes. A failed Start leaves it
/// closed.
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
///
/// On failure: a refused append answers its writes as not done; a store that cannot apply (full
/// disk) answers kUnknownOutcome, keeps the committed entries and tries again until it can.
class Partition final : public log::AppendListener, public std::enable_shared_from_this<Partition> {
 public:
  using Executor = boost::asio::io_context::executor_type;

  /// `config` is the partition's configuration as read at `config_revision`.
  Partition(const PartitionEnvironment& environment, Executor home,
            std::shared_ptr<const TableSchema> schema, proto::PartitionConfig config,
            Revision config_revision);
  ~Partition() override;

  /// Opens, replays, takes over. Ok: it serves. Called once, on the home executor.
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
  /// The range [start, end) of the key space that it holds; an empty end is the end of the space.
  std::string_view range_start() const { return config_.range_start(); }
  std::string_view range_end() const { return config_.range_end(); }

  /// Reads one item. consistent: sees every write that was answered before the call; kNotPrimary or
  /// kUnavailable when this replica may not promise that now. Otherwise any applied state.
  Status Get(std::string_view key, bool consistent, PinnedItem* item) const;

  /// A cursor on [lower, upper) of `space`. Bounds are keys of that space: model::EncodeKey for
  /// items; collection prefix + AppendTerminated(index sort key) + AppendSortKey(base sort key) for
  /// a local index. Long walks (scans) pass fill_cache = false so that they do not push hot items
  /// out.
  Result<std::unique_ptr<Cursor>> NewCursor(KeySpace space, std::string_view lower,
                                            std::string_view upper, bool reverse, bool consistent,
                                            bool fill_cache) const;

  PartitionStatistics statistics() const;

  /// Bytes of one item collection, items and local index entries; tables with local indexes only.
  Result<uint64_t> CollectionBytes(std::string_view collection_prefix) const;

  /// Flushes the store and cuts the log behind it. Blocks on the disk. Ok, having done nothing,
  /// while another flush is under way.
  Status Flush();

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

  /// An entry that is appended and not yet applied.
  struct Entry {
    LogPosition position;
    EntryType type = EntryType::kWrites;
    std::string payload;
    PartitionStatistics after;
    TaskList tasks;
    std::vector<std::string> keys;         ///< latched by it
    std::vector<std::string> collections;  ///< likewise
  };

  // write_path.cc; on the home executor except Submit.
  void Submit(WriteTask* task);
  void Drain();
  void EvaluateTask(WriteTask* task);
  void CloseBatch();
  void AbandonBatch(const Status& status);
  void RebuildLatches();
  void ApplyCommitted();
  Status ApplyEntries(size_t count);
  void ReleaseLatches(const Entry& entry);
  void FailTasks(TaskList* tasks, const Status& status);
  void RetryApplyLater();
  void RetryApply(const Status& resumed);
  void BlockApply(const Status& status);
  Result<uint64_t> CollectionBytesNow(std::string_view prefix) const;

  // AppendListener; on the log's writer thread.
  void OnDurable(PartitionId partition, LogPosition position, const Status& status) override;
  void HandleDurable();

  // reign.cc; on the home executor but for OpenStore, Replay and TruncateLog (blocking pool).
  Status OpenStore(AppliedState* applied);
  Status Replay(LogPosition from, LogIndex up_to, AppliedState* state);
  boost::asio::awaitable<Status> OnBlockingPool(std::function<Status()> work);
  boost::asio::awaitable<Status> ReplayCommitted();
  void Step(const group::Event& event);
  void Do(group::AppendToLog action);
  void Do(const group::ProposeSwap& action);
  void ReadConfiguration();
  void EndReign();
  void ArmTick();
  void Wake();
  void TruncateLog();
  Status FlushNow();
  std::string Directory() const;

  const PartitionEnvironment& environment_;
  const Executor home_;
  const PartitionId id_;
  const std::shared_ptr<const TableSchema> schema_;
  const proto::PartitionConfig config_;  ///< as opened; the group knows the newest members
  const Revision config_revision_;

  std::unique_ptr<storage::PartitionStore> store_;
  std::atomic<bool> remove_files_{false};
  std::atomic<bool> flushing_{false};
  /// May this replica admit writes and answer strong reads? Written on the home executor.
  std::atomic<bool> serving_{false};

  // Inbox: pushed by any thread.
  std::mutex inbox_mutex_;
  TaskList inbox_;             // guarded by inbox_mutex_
  bool drain_posted_ = false;  // guarded by inbox_mutex_
  std::atomic<size_t> queued_{0};

  // Durability news from the log's writer thread.
  std::mutex durable_mutex_;
  LogPosition durable_;          // guarded by durable_mutex_
  Status durable_status_;        // guarded by durable_mutex_
  bool durable_posted_ = false;  // guarded by durable_mutex_

  // Home executor only.
  TaskList waiting_;      ///< taken from the inbox, not evaluated yet
  Entry open_;            ///< the batch that gathers
  EffectWriter effects_;  ///< of open_
  std::deque<Entry> in_flight_;
  size_t uncommitted_bytes_ = 0;
  LatchMap latches_;
  CollectionLatchMap collection_latches_;
  PartitionStatistics evaluated_;  ///< after everything evaluated
  group::Group group_;
  group::Actions actions_;
  LogPosition last_appended_;
  LogIndex commit_index_;
  LogPosition applied_;
  bool apply_blocked_ = false;
  /// Nothing more is fed to the group.
  bool stopping_ = false;
  /// Why Start() is to end; ok: it is not.
  Status give_up_;
  bool tick_armed_ = false;
  /// Start() waits on it for news; null when nobody waits.
  boost::asio::steady_timer* waiter_ = nullptr;
  std::string scratch_;

  mutable std::mutex statistics_mutex_;
  PartitionStatistics statistics_;  // guarded by statistics_mutex_; as of applied_
};

}  // namespace onggi::partition
