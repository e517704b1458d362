#include "replication/log/log_store.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "common/check.h"
#include "replication/log/format.h"
#include "replication/log/log_store_impl.h"
#include "replication/log/recovery.h"

namespace onggi::log {
namespace {

constexpr uint64_t kMaxAppendBytes = 1ull << 30;

// Where an append is serialised before the lock is taken.
std::string& Scratch() {
  thread_local std::string scratch;
  if (scratch.capacity() > kKeepBuffer) std::string().swap(scratch);
  scratch.clear();
  return scratch;
}

/// Makes what was found durable, and overwrites the places where the next batch may go. A batch
/// that a loss of power tore there chains to what was found. Sectors of the next life's batch,
/// where they hold the same bytes, could complete it: after a second loss of power, an entry would
/// be back that one life did not have.
Status EraseTornBatches(const Recovered& recovered) {
  static constexpr char kZeros[kBatchHeaderBytes] = {};
  const std::string_view zeros(kZeros, sizeof(kZeros));
  if (!recovered.segments.empty()) {
    const Segment& last = *recovered.segments.back();
    if (recovered.write_offset + kBatchHeaderBytes <= last.capacity) {
      RETURN_IF_ERROR(last.file->Write(recovered.write_offset, std::span(&zeros, 1)));
    }
    // The last life may have ended between write and sync.
    RETURN_IF_ERROR(last.file->Sync());
  }
  for (const SegmentPtr& segment : recovered.keeper.prepared) {
    char bytes[kBatchHeaderBytes] = {};
    RETURN_IF_ERROR(segment->file->Read(kSegmentHeaderBytes, bytes, sizeof(bytes)).status());
    if (std::string_view(bytes, sizeof(bytes)) == zeros) continue;
    RETURN_IF_ERROR(segment->file->Write(kSegmentHeaderBytes, std::span(&zeros, 1)));
    RETURN_IF_ERROR(segment->file->Sync());
  }
  return {};
}

}  // namespace

Status LogStore::Impl::Open() {
  if (options_.segment_bytes > (2ull << 30) || options_.segment_bytes < 2 * kSegmentHeaderBytes ||
      options_.initial_segment_bytes < 2 * kSegmentHeaderBytes)
    return InvalidArgument("a log segment has between 8 KB and 2 GB");
  RETURN_IF_ERROR(file_system_->CreateDirectories(options_.directory));
  ASSIGN_OR_RETURN(Recovered recovered, Recover(options_, file_system_));
  for (const std::string& path : recovered.leftovers) RETURN_IF_ERROR(file_system_->Remove(path));
  RETURN_IF_ERROR(EraseTornBatches(recovered));
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
    active_ = segments_.back();
  } else {
    active_ = segments_.back();
  }
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

// LogStore. ---------------------------------------------------------------------------------------

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

bool LogStore::Impl::Stalled(std::chrono::milliseconds limit) const {
  const Clock::rep since = busy_since_.load(std::memory_order_relaxed);
  return since != 0 && Clock::now() - Clock::time_point(Clock::duration(since)) > limit;
}

LogStats LogStore::Stats() const { return impl_->Stats(); }
bool LogStore::Stalled(std::chrono::milliseconds limit) const { return impl_->Stalled(limit); }

}  // namespace onggi::log
