#include <array>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "common/check.h"
#include "replication/log/log_store_impl.h"
#include "replication/log/recovery.h"

// The writer thread of the log store.

namespace onggi::log {

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
    busy_since_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
    WriteChunk(&chunk);
    busy_since_.store(0, std::memory_order_relaxed);
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

}  // namespace onggi::log
