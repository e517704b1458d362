#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "replication/log/format.h"
#include "replication/log/group_index.h"
#include "replication/log/log_store.h"
#include "replication/log/segment_keeper.h"

namespace onggi::log {

// Buffers that grew past this are given back.
inline constexpr size_t kKeepBuffer = 1u << 20;

/// A queued append, or the part of it that is of one epoch: neighbouring records of one partition.
struct Item {
  RecordKind kind = RecordKind::kEntry;
  PartitionId partition;
  LogIndex first;
  LogIndex last;
  Epoch epoch;
  uint32_t bytes = 0;
  uint32_t records = 0;
  bool whole = true;  ///< the last item of its append: a batch may end here
  std::shared_ptr<AppendListener> listener;
};

/// What is queued for one segment.
struct Chunk {
  SegmentPtr segment;
  std::string records;
  std::vector<Item> items;

  void Recycle() {
    segment.reset();
    items.clear();
    records.clear();
    if (records.capacity() > kKeepBuffer) std::string().swap(records);
    if (items.capacity() > kKeepBuffer / sizeof(Item)) std::vector<Item>().swap(items);
  }
};

/// LogStore's state. The callers' side is in log_store.cc, the writer thread's in log_writer.cc.
class LogStore::Impl {
 public:
  Impl(LogOptions options, FileSystem* file_system)
      : options_(std::move(options)), file_system_(file_system) {}
  ~Impl() { Close(); }

  Status Open();
  void Close();
  Status Append(PartitionId partition, std::span<const EntryView> entries,
                std::shared_ptr<AppendListener> listener);
  Status AppendMarker(RecordKind kind, PartitionId partition, LogIndex index);
  Result<std::vector<Entry>> Read(PartitionId partition, LogIndex from, size_t max_bytes) const;
  void Truncate(PartitionId partition, LogIndex up_to);
  Status Flush();
  std::vector<PartitionId> Pinning(uint64_t max_bytes) const;
  LogStats Stats() const;
  bool Stalled(std::chrono::milliseconds limit) const;

  template <class F>
  auto WithGroup(PartitionId partition, F f) const {
    static const GroupIndex kNone;
    std::lock_guard lock(mutex_);
    const auto it = groups_.find(partition);
    return f(it == groups_.end() ? kNone : it->second);
  }
  std::vector<PartitionId> Partitions() const;

 private:
  using Clock = std::chrono::steady_clock;

  // A part of the items of the chunk being written.
  struct Batch {
    std::span<Item> items;
    std::string_view records;
    uint64_t count = 0;
    uint64_t appends = 0;
  };

  Status Admit(uint64_t bytes);
  Status PlanRoom(uint64_t bytes);
  void Queue(Item item, std::string_view records);
  void FreeOldest();
  void WriterLoop();
  bool WaitForWork(std::unique_lock<std::mutex>* lock);
  void WriteChunk(Chunk* chunk);
  Status EnterSegment(const SegmentPtr& segment);
  Status WriteBatch(const Batch& batch);
  Status Sync();
  void Complete(const Batch& batch, uint64_t offset);
  static void Notify(const Batch& batch, const Status& status);
  void Fail(const Status& status);

  const LogOptions options_;
  FileSystem* const file_system_;
  std::unique_ptr<SegmentKeeper> keeper_;
  std::thread writer_;
  /// When the writer thread began with the disk, as Clock counts; 0: it is not at it.
  std::atomic<Clock::rep> busy_since_{0};

  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  // Under mutex_. Appends are given their place in a segment when they are queued (the plan), so
  // that what has been accepted always has room.
  std::unordered_map<PartitionId, GroupIndex> groups_;
  SegmentTable segments_;  ///< up to the one being written
  std::deque<Chunk> queue_;
  Chunk spare_;
  SegmentPtr plan_segment_;
  uint64_t plan_offset_ = 0;
  uint64_t appended_ = 0;   ///< items queued since Open
  uint64_t completed_ = 0;  ///< items completed
  uint64_t synced_ = 0;     ///< items durable
  uint64_t told_ = 0;       ///< items whose listeners have been called
  size_t flush_waiters_ = 0;
  bool writer_idle_ = false;
  bool closing_ = false;
  bool failed_ = false;
  uint64_t synced_segment_ = 0;  ///< number of the segment of the last synced batch
  LogStats stats_;
  std::once_flag closed_;

  // The writer thread's own.
  SegmentPtr active_;
  uint64_t write_offset_ = 0;
  uint64_t sequence_ = 0;          ///< of the last batch written
  uint64_t durable_sequence_ = 0;  ///< of the last batch synced
  uint64_t last_check_ = 0;
  uint64_t log_id_ = 0;
  uint64_t batches_this_life_ = 0;
  Clock::time_point sync_due_ = Clock::time_point::max();
};

}  // namespace onggi::log
