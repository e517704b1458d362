#include "replication/log/log_store.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "common/check.h"
#include "replication/log/format.h"
#include "replication/log/group_index.h"
#include "replication/log/recovery.h"
#include "replication/log/segment_keeper.h"

namespace onggi::log {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kMaxAppendBytes = 1ull << 30;
// Buffers that grew past this are given back.
constexpr size_t kKeepBuffer = 1u << 20;

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

// Where an append is serialised before the lock is taken.
std::string& Scratch() {
  thread_local std::string scratch;
  if (scratch.capacity() > kKeepBuffer) std::string().swap(scratch);
  scratch.clear();
  return scratch;
}

}  // namespace

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

  template <class F>
  auto WithGroup(PartitionId partition, F f) const {
    static const GroupIndex kNone;
    std::lock_guard lock(mutex_);
    const auto it = groups_.find(partition);
    return f(it == groups_.end() ? kNone : it->second);
  }
  std::vector<PartitionId> Partitions() const;

 private:
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

Status LogStore::Impl::Open() {
  if (options_.segment_bytes > (2ull << 30) || options_.segment_bytes < 2 * kSegmentHeaderBytes ||
      options_.initial_segment_bytes < 2 * kSegmentHeaderBytes)
    return InvalidArgument("a log segment has between 8 KB and 2 GB");
  RETURN_IF_ERROR(file_system_->CreateDirectories(options_.directory));
  ASSIGN_OR_RETURN(Recovered recovered, Recover(options_, file_system_));
  for (const std::string& path : recovered.leftovers) RETURN_IF_ERROR(file_system_->Remove(path));
  log_id_ = recovered.keeper.log_id;
  keeper_ = std::make_unique<SegmentKeeper>(options_, file_system_, std::move(recovered.keeper));
  groups_ = std::move(recovered.groups);
  segments_ = std::move(recovered.segments);
  write_offset_ = recovered.write_offset;
  sequence_ = recovered.last_sequence;
  last_check_ = recovered.last_check;
  if (segments_.empty()) {
    ASSIGN_OR_RETURN(SegmentPtr first, keeper_->MakeFirst());
    segments_.Push(std::move(first));
    write_offset_ = kSegmentHeaderBytes;
  }
  active_ = segments_.back();
  // The last life may have ended between write and sync: what was found is not yet on the disk.
  RETURN_IF_ERROR(active_->file->Sync());
  durable_sequence_ = sequence_;
  synced_segment_ = active_->number;
  plan_segment_ = active_;
  plan_offset_ = write_offset_;
  for (auto& [partition, group] : groups_) {
    group.queued_last = group.last();
    group.queued_epoch = group.EpochAt(group.last());
    group.any_next = group.empty();
  }
  keeper_->Start();
  writer_ = std::thread([this] { WriterLoop(); });
  return {};
}

void LogStore::Impl::Close() {
  std::call_once(closed_, [this] {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    work_.notify_all();
    if (writer_.joinable()) writer_.join();
    if (keeper_) keeper_->Stop();
  });
}

Status LogStore::Impl::Admit(uint64_t bytes) {
  if (closing_) return Unavailable("the log is closed");
  if (failed_) return Unavailable("the log has failed");
  if (keeper_->space_low())
    return {Code::kOutOfSpace,
            options_.directory + ": the disk is below its reserve of free space"};
  if (stats_.queued_bytes + bytes > options_.max_queued_bytes && stats_.queued_bytes > 0)
    return {Code::kResourceExhausted, "the log's queue is full"};
  return PlanRoom(bytes);
}

/// Moves the plan to a segment with room for an append of `bytes` of records.
Status LogStore::Impl::PlanRoom(uint64_t bytes) {
  const uint64_t need = BatchBytes(bytes) + kBatchAlignment;
  while (plan_offset_ + need > plan_segment_->capacity) {
    // Room beside the append for one batch without records.
    keeper_->RequireCapacity(kSegmentHeaderBytes + need + kBatchHeaderBytes);
    ASSIGN_OR_RETURN(plan_segment_, keeper_->Take());
    plan_offset_ = kSegmentHeaderBytes;
    queue_.push_back(std::exchange(spare_, Chunk()));
    queue_.back().segment = plan_segment_;
  }
  plan_offset_ += need;
  return {};
}

void LogStore::Impl::Queue(Item item, std::string_view records) {
  if (queue_.empty() || queue_.back().segment != plan_segment_) {
    queue_.push_back(std::exchange(spare_, Chunk()));
    queue_.back().segment = plan_segment_;
  }
  Chunk& chunk = queue_.back();
  stats_.queued_bytes += item.bytes;
  ++stats_.queued_appends;
  ++appended_;
  chunk.records.append(records);
  chunk.items.push_back(std::move(item));
}

Status LogStore::Impl::Append(PartitionId partition, std::span<const EntryView> entries,
                              std::shared_ptr<AppendListener> listener) {
  CHECK(!entries.empty());
  std::string& scratch = Scratch();
  uint64_t total = 0;
  for (const EntryView& entry : entries) total += kRecordHeaderBytes + entry.payload.size();
  if (total > kMaxAppendBytes) return InvalidArgument("an append of more than 1 GB");
  scratch.reserve(total);
  for (const EntryView& entry : entries) {
    RecordView record;
    record.type = entry.type;
    record.partition = partition;
    record.index = entry.index;
    record.epoch = entry.epoch;
    record.payload = entry.payload;
    EncodeRecord(record, &scratch);
  }
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    RETURN_IF_ERROR(Admit(total));
    GroupIndex& group = groups_[partition];
    const LogIndex first = entries.front().index;
    CHECK_MSG(
        group.any_next ? first > group.queued_last : first.value == group.queued_last.value + 1,
        "partition " + partition.ToString() + ": append of entry " + first.ToString() +
            " after entry " + group.queued_last.ToString());
    std::string_view records(scratch);
    for (size_t i = 0; i < entries.size();) {
      Item item;
      item.partition = partition;
      item.first = entries[i].index;
      item.epoch = entries[i].epoch;
      uint64_t bytes = 0;
      const size_t begin = i;
      for (; i < entries.size() && entries[i].epoch == item.epoch; ++i) {
        CHECK(entries[i].index.value == item.first.value + (i - begin));
        bytes += kRecordHeaderBytes + entries[i].payload.size();
      }
      CHECK(item.epoch >= group.queued_epoch);
      item.last = entries[i - 1].index;
      item.bytes = static_cast<uint32_t>(bytes);
      item.records = static_cast<uint32_t>(i - begin);
      item.whole = i == entries.size();
      item.listener = listener;
      group.queued_last = item.last;
      group.queued_epoch = item.epoch;
      group.any_next = false;
      CHECK(i == entries.size() || entries[i].index.value == item.last.value + 1);
      Queue(std::move(item), records.substr(0, bytes));
      records.remove_prefix(bytes);
    }
    wake = writer_idle_;
  }
  if (wake) work_.notify_one();
  keeper_->Touch();
  return {};
}

Status LogStore::Impl::AppendMarker(RecordKind kind, PartitionId partition, LogIndex index) {
  std::string& scratch = Scratch();
  RecordView record;
  record.kind = kind;
  record.partition = partition;
  record.index = index;
  EncodeRecord(record, &scratch);
  {
    std::lock_guard lock(mutex_);
    const auto it = groups_.find(partition);
    if (it == groups_.end()) return {};
    GroupIndex& group = it->second;
    if (kind == RecordKind::kDropSuffix) {
      CHECK(index >= group.first());
      if (index > group.queued_last) return {};
    }
    RETURN_IF_ERROR(Admit(scratch.size()));
    if (kind == RecordKind::kDropSuffix) {
      group.queued_last = LogIndex(index.value - 1);
      group.queued_epoch = Epoch();  // not known for entries that are not written yet
    } else {
      group.queued_last = LogIndex();
      group.queued_epoch = Epoch();
      group.any_next = true;
    }
    Item item;
    item.kind = kind;
    item.partition = partition;
    item.first = item.last = index;
    item.bytes = static_cast<uint32_t>(scratch.size());
    item.records = 1;
    Queue(std::move(item), scratch);
  }
  work_.notify_one();
  keeper_->Touch();
  return {};
}

Result<std::vector<Entry>> LogStore::Impl::Read(PartitionId partition, LogIndex from,
                                                size_t max_bytes) const {
  struct Piece {
    SegmentPtr segment;
    Run run;
    LogIndex limit;
  };
  std::vector<Piece> pieces;
  {
    std::lock_guard lock(mutex_);
    const auto it = groups_.find(partition);
    if (it == groups_.end()) return std::vector<Entry>();
    const GroupIndex& group = it->second;
    if (from < group.first()) {
      return NotFound("entry " + from.ToString() + " of partition " + partition.ToString() +
                      " is no longer in the log");
    }
    if (from > group.last()) return std::vector<Entry>();
    size_t bytes = 0;
    for (size_t i = group.FindRun(from); i < group.run_count(); ++i) {
      // The first run may hold mostly entries before `from`: it does not count.
      if (!pieces.empty() && pieces.size() > 1 && bytes >= max_bytes) break;
      const Run& run = group.RunAt(i);
      if (!pieces.empty()) bytes += run.bytes;
      pieces.push_back({segments_.At(run.segment), run, group.RunLimit(i)});
    }
  }
  std::vector<Entry> entries;
  size_t bytes = 0;
  std::string buffer;
  LogIndex next = from;
  for (const Piece& piece : pieces) {
    buffer.resize(piece.run.bytes);
    ASSIGN_OR_RETURN(const size_t size,
                     piece.segment->file->Read(piece.run.offset, buffer.data(), buffer.size()));
    std::string_view records(buffer.data(), size);
    while (next < piece.limit) {
      const std::optional<RecordView> record = DecodeRecord(&records, RecordCheck::kVerify);
      if (!record || record->partition != partition || record->kind != RecordKind::kEntry ||
          record->index > next) {
        const LogIndex first = WithGroup(partition, [](const GroupIndex& g) { return g.first(); });
        if (next < first) {  // truncated, and the segment recycled, while we were reading
          return NotFound("entry " + next.ToString() + " of partition " + partition.ToString() +
                          " is no longer in the log");
        }
        return Corruption(piece.segment->path + ": entry " + next.ToString() + " of partition " +
                          partition.ToString() + " is damaged");
      }
      if (record->index < next) continue;
      if (!entries.empty() && bytes + record->payload.size() > max_bytes) return entries;
      bytes += record->payload.size();
      entries.push_back({record->epoch, record->index, record->type, std::string(record->payload)});
      next = LogIndex(next.value + 1);
    }
  }
  return entries;
}

std::vector<PartitionId> LogStore::Impl::Partitions() const {
  std::lock_guard lock(mutex_);
  std::vector<PartitionId> partitions;
  for (const auto& [partition, group] : groups_)
    if (!group.empty()) partitions.push_back(partition);
  return partitions;
}

void LogStore::Impl::Truncate(PartitionId partition, LogIndex up_to) {
  std::lock_guard lock(mutex_);
  const auto it = groups_.find(partition);
  if (it == groups_.end()) return;
  GroupIndex& group = it->second;
  group.Truncate(up_to, &segments_);
  if (up_to >= group.queued_last) {
    group.queued_last = up_to;
    group.any_next = true;
  }
  FreeOldest();
}

/// Hands segments that hold nothing needed to the keeper, oldest first: a marker (DropSuffix,
/// RemoveGroup) thus never goes before the entries that it is about.
void LogStore::Impl::FreeOldest() {
  while (segments_.size() > 1 && segments_.front()->live_runs == 0 &&
         segments_.front()->number < synced_segment_)
    keeper_->Free(segments_.PopFront());
}

Status LogStore::Impl::Flush() {
  std::unique_lock lock(mutex_);
  const uint64_t target = appended_;
  ++flush_waiters_;
  work_.notify_one();
  const auto reached = [&] { return synced_ >= target && told_ >= target; };
  done_.wait(lock, [&] { return reached() || failed_; });
  --flush_waiters_;
  if (reached()) return {};
  return {Code::kUnknownOutcome, "the log has failed"};
}

std::vector<PartitionId> LogStore::Impl::Pinning(uint64_t max_bytes) const {
  std::lock_guard lock(mutex_);
  uint64_t total = segments_.TotalBytes();
  uint64_t cutoff = 0;
  for (const SegmentPtr& segment : segments_) {
    if (total <= max_bytes || segment == segments_.back()) break;
    total -= segment->capacity;
    cutoff = segment->number;
  }
  std::vector<PartitionId> partitions;
  if (cutoff == 0) return partitions;
  for (const auto& [partition, group] : groups_)
    if (group.has_runs() && group.OldestRun().segment <= cutoff) partitions.push_back(partition);
  return partitions;
}

LogStats LogStore::Impl::Stats() const {
  std::lock_guard lock(mutex_);
  LogStats stats = stats_;
  stats.live_bytes = segments_.TotalBytes();
  stats.segments = segments_.size();
  stats.groups = groups_.size();
  stats.free_bytes = keeper_->free_bytes();
  stats.out_of_space = keeper_->space_low();
  return stats;
}

// The writer thread.
// -------------------------------------------------------------------------------

/// Returns with the lock held: true for a chunk to write or a sync that is due, false at the end.
bool LogStore::Impl::WaitForWork(std::unique_lock<std::mutex>* lock) {
  for (;;) {
    if (failed_) return false;
    if (!queue_.empty()) return true;
    const bool unsynced = synced_ < completed_;
    if (unsynced && (closing_ || flush_waiters_ > 0 || Clock::now() >= sync_due_)) return true;
    if (closing_) return false;
    writer_idle_ = true;
    if (unsynced) {
      work_.wait_until(*lock, sync_due_);
    } else {
      work_.wait(*lock);
    }
    writer_idle_ = false;
  }
}

void LogStore::Impl::WriterLoop() {
  std::unique_lock lock(mutex_);
  while (WaitForWork(&lock)) {
    if (queue_.empty()) {
      lock.unlock();
      if (Status status = Sync(); !status.ok()) Fail(status);
      lock.lock();
      continue;
    }
    Chunk chunk = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    WriteChunk(&chunk);
    chunk.Recycle();
    lock.lock();
    told_ = completed_;
    if (flush_waiters_ > 0) done_.notify_all();
    if (spare_.records.capacity() == 0) spare_ = std::move(chunk);
    // Under constant load a due sync must not wait for the queue to run dry.
    if (!failed_ && synced_ < completed_ && Clock::now() >= sync_due_) {
      lock.unlock();
      if (Status status = Sync(); !status.ok()) Fail(status);
      lock.lock();
    }
  }
  const bool seal =
      !failed_ && batches_this_life_ > 0 && write_offset_ + kBatchHeaderBytes <= active_->capacity;
  lock.unlock();
  // A batch without records after a clean stop: it proves that the last entries had been synced, so
  // that damage to them is not taken for a torn tail.
  if (seal) {
    Status status = WriteBatch(Batch());
    if (status.ok()) status = Sync();
    if (!status.ok()) Fail(status);
  }
  lock.lock();
  done_.notify_all();
  // Only tests get here after a failure: whoever waits is told.
  std::deque<Chunk> queue = std::exchange(queue_, {});
  lock.unlock();
  for (Chunk& chunk : queue) {
    Batch batch;
    batch.items = chunk.items;
    Notify(batch, {Code::kUnknownOutcome, "the log has failed"});
  }
}

void LogStore::Impl::WriteChunk(Chunk* chunk) {
  Status status;
  if (chunk->segment != active_) status = EnterSegment(chunk->segment);
  std::span<Item> items(chunk->items);
  std::string_view records(chunk->records);
  while (!items.empty()) {
    Batch batch;
    size_t taken = 0;
    size_t bytes = 0;
    while (taken < items.size()) {
      size_t end = taken;
      size_t more = 0;
      do more += items[end].bytes;
      while (!items[end++].whole);
      if (taken > 0 && bytes + more > options_.max_batch_bytes) break;
      for (; taken < end; ++taken) batch.count += items[taken].records;
      bytes += more;
      ++batch.appends;
    }
    batch.items = items.first(taken);
    batch.records = records.substr(0, bytes);
    items = items.subspan(taken);
    records.remove_prefix(bytes);
    const uint64_t offset = write_offset_ + kBatchHeaderBytes;
    if (status.ok()) status = WriteBatch(batch);
    if (!status.ok()) {
      Fail(status);
      Notify(batch, {Code::kUnknownOutcome, status.message()});
      continue;
    }
    Complete(batch, offset);
    Notify(batch, {});
  }
  if (!status.ok()) Fail(status);
}

/// Makes `segment` the one to write. Every segment that is left holds at least one batch, so that
/// recovery can tell an unused segment from a damaged one.
Status LogStore::Impl::EnterSegment(const SegmentPtr& segment) {
  if (write_offset_ == kSegmentHeaderBytes) RETURN_IF_ERROR(WriteBatch(Batch()));
  if (durable_sequence_ < sequence_) RETURN_IF_ERROR(Sync());
  active_ = segment;
  write_offset_ = kSegmentHeaderBytes;
  std::lock_guard lock(mutex_);
  segments_.Push(segment);
  return {};
}

Status LogStore::Impl::WriteBatch(const Batch& batch) {
  BatchHeader header;
  header.segment = active_->number;
  header.sequence = sequence_ + 1;
  header.durable = durable_sequence_;
  header.previous = last_check_;
  header.count = static_cast<uint32_t>(batch.count);
  header.length = static_cast<uint32_t>(batch.records.size());
  header.checksum = Checksum(batch.records, log_id_);
  std::array<char, kBatchHeaderBytes> head;
  EncodeBatchHeader(&header, log_id_, head.data());
  static constexpr char kPadding[kBatchAlignment] = {};
  const uint64_t size = BatchBytes(batch.records.size());
  CHECK(write_offset_ + size <= active_->capacity);
  const std::array<std::string_view, 3> pieces = {
      std::string_view(head.data(), head.size()), batch.records,
      std::string_view(kPadding, size - kBatchHeaderBytes - batch.records.size())};
  const auto begin = Clock::now();
  RETURN_IF_ERROR(active_->file->Write(write_offset_, pieces));
  const auto written = Clock::now();
  write_offset_ += size;
  sequence_ = header.sequence;
  last_check_ = header.check;
  ++batches_this_life_;
  if (sync_due_ == Clock::time_point::max()) sync_due_ = begin + options_.relaxed_interval;
  // Without records (a seal, a segment left unused) the caller decides when to sync.
  const bool sync = options_.durability == Durability::kSync && batch.count > 0;
  if (sync) RETURN_IF_ERROR(Sync());
  if (options_.on_batch && batch.count > 0) {
    BatchObservation observation;
    observation.write_time = written - begin;
    observation.sync_time = sync ? Clock::now() - written : Clock::duration::zero();
    observation.entries = batch.count;
    observation.bytes = size;
    options_.on_batch(observation);
  }
  return {};
}

Status LogStore::Impl::Sync() {
  const bool needed = durable_sequence_ != sequence_;
  if (needed) RETURN_IF_ERROR(active_->file->Sync());
  durable_sequence_ = sequence_;
  sync_due_ = Clock::time_point::max();
  std::lock_guard lock(mutex_);
  if (needed) ++stats_.syncs;
  synced_ = completed_;
  synced_segment_ = active_->number;
  FreeOldest();
  if (flush_waiters_ > 0) done_.notify_all();
  return {};
}

/// Enters a written batch, whose records begin at `offset`, into the index.
void LogStore::Impl::Complete(const Batch& batch, uint64_t offset) {
  std::lock_guard lock(mutex_);
  uint64_t queued = 0;
  for (const Item& item : batch.items) {
    const auto it = groups_.find(item.partition);
    switch (item.kind) {
      case RecordKind::kEntry: {
        if (it == groups_.end()) break;
        Run run;
        run.first = item.first;
        run.segment = active_->number;
        run.offset = static_cast<uint32_t>(offset);
        run.bytes = item.bytes;
        const Status status = it->second.Add(item.first, item.last, item.epoch, run, &segments_);
        CHECK_MSG(status.ok(), status.message());
        break;
      }
      case RecordKind::kDropSuffix:
        if (it != groups_.end()) it->second.DropSuffix(item.first, &segments_);
        break;
      case RecordKind::kRemoveGroup:
        if (it != groups_.end()) {
          GroupIndex& group = it->second;
          // Entries queued after the removal start the group anew.
          const LogIndex queued_last = group.queued_last;
          const Epoch queued_epoch = group.queued_epoch;
          const bool any_next = group.any_next;
          group.Clear(&segments_);
          if (queued_last == LogIndex()) {
            groups_.erase(it);
          } else {
            group.queued_last = queued_last;
            group.queued_epoch = queued_epoch;
            group.any_next = any_next;
          }
        }
        break;
    }
    offset += item.bytes;
    queued += item.bytes;
  }
  // The plan counted a header for each append; they share one.
  uint64_t planned = 0;
  for (size_t i = 0, bytes = 0; i < batch.items.size(); ++i) {
    bytes += batch.items[i].bytes;
    if (!batch.items[i].whole) continue;
    planned += BatchBytes(bytes) + kBatchAlignment;
    bytes = 0;
  }
  if (plan_segment_ == active_) plan_offset_ -= planned - BatchBytes(batch.records.size());
  stats_.queued_bytes -= queued;
  stats_.queued_appends -= batch.items.size();
  ++stats_.batches;
  stats_.entries += batch.count;
  stats_.bytes_written += BatchBytes(batch.records.size());
  completed_ += batch.items.size();
  if (options_.durability == Durability::kSync) synced_ = completed_;
}

void LogStore::Impl::Notify(const Batch& batch, const Status& status) {
  for (size_t i = 0; i < batch.items.size(); ++i) {
    const Item& item = batch.items[i];
    if (!item.listener) continue;
    if (i + 1 < batch.items.size()) {
      const Item& next = batch.items[i + 1];
      if (next.listener == item.listener && next.partition == item.partition &&
          next.kind == item.kind)
        continue;  // told with the next one
    }
    item.listener->OnDurable(item.partition, {item.epoch, item.last}, status);
  }
}

void LogStore::Impl::Fail(const Status& status) {
  {
    std::lock_guard lock(mutex_);
    if (failed_) return;
    failed_ = true;
  }
  done_.notify_all();
  if (options_.on_fatal) {
    options_.on_fatal(status);
    return;
  }
  std::fprintf(stderr, "onggi: the replication log cannot be written: %s\n",
               status.ToString().c_str());
  std::fflush(stderr);
  std::abort();
}

// LogStore.
// ----------------------------------------------------------------------------------------

LogStore::LogStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LogStore::~LogStore() = default;

Result<std::unique_ptr<LogStore>> LogStore::Open(LogOptions options) {
  FileSystem* file_system =
      options.file_system != nullptr ? options.file_system : FileSystem::Posix();
  auto impl = std::make_unique<Impl>(std::move(options), file_system);
  RETURN_IF_ERROR(impl->Open());
  return std::unique_ptr<LogStore>(new LogStore(std::move(impl)));
}

void LogStore::Close() { impl_->Close(); }

Status LogStore::Append(PartitionId partition, std::span<const EntryView> entries,
                        std::shared_ptr<AppendListener> listener) {
  return impl_->Append(partition, entries, std::move(listener));
}

Result<std::vector<Entry>> LogStore::Read(PartitionId partition, LogIndex from,
                                          size_t max_bytes) const {
  return impl_->Read(partition, from, max_bytes);
}

LogIndex LogStore::FirstIndex(PartitionId partition) const {
  return impl_->WithGroup(partition, [](const GroupIndex& group) { return group.first(); });
}

LogIndex LogStore::LastIndex(PartitionId partition) const {
  return impl_->WithGroup(partition, [](const GroupIndex& group) { return group.last(); });
}

Epoch LogStore::EpochAt(PartitionId partition, LogIndex index) const {
  return impl_->WithGroup(partition, [&](const GroupIndex& group) { return group.EpochAt(index); });
}

std::vector<PartitionId> LogStore::Partitions() const { return impl_->Partitions(); }

void LogStore::Truncate(PartitionId partition, LogIndex up_to) {
  impl_->Truncate(partition, up_to);
}

Status LogStore::DropSuffix(PartitionId partition, LogIndex from) {
  return impl_->AppendMarker(RecordKind::kDropSuffix, partition, from);
}

Status LogStore::RemoveGroup(PartitionId partition) {
  return impl_->AppendMarker(RecordKind::kRemoveGroup, partition, LogIndex());
}

Status LogStore::Flush() { return impl_->Flush(); }

std::vector<PartitionId> LogStore::Pinning(uint64_t max_bytes) const {
  return impl_->Pinning(max_bytes);
}

LogStats LogStore::Stats() const { return impl_->Stats(); }

}  // namespace onggi::log
