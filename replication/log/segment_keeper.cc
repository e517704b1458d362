#include "replication/log/segment_keeper.h"

#include <algorithm>
#include <utility>

namespace onggi::log {
namespace {

constexpr uint64_t kFillChunk = 1u << 20;
// Little enough that the log's own fdatasync never waits long behind it.
constexpr uint64_t kFillSyncEvery = 4u << 20;
constexpr uint64_t kGrowth = 4;

}  // namespace

SegmentKeeper::SegmentKeeper(const LogOptions& options, FileSystem* file_system, Initial initial)
    : options_(options),
      file_system_(file_system),
      log_id_(initial.log_id),
      next_number_(initial.next_number),
      next_capacity_(initial.next_capacity),
      prepared_(std::move(initial.prepared)),
      free_paths_(std::move(initial.free_paths)) {}

SegmentKeeper::~SegmentKeeper() { Stop(); }

void SegmentKeeper::Start() {
  CheckSpace();
  thread_ = std::thread([this] { Run(); });
}

void SegmentKeeper::Stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    urgent_ = true;
  }
  wake_.notify_all();
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<SegmentPtr> SegmentKeeper::MakeFirst() {
  ASSIGN_OR_RETURN(SegmentPtr segment, Prepare(next_number_, next_capacity_, {}));
  ++next_number_;
  next_capacity_ = std::min(next_capacity_ * kGrowth, options_.segment_bytes);
  return segment;
}

void SegmentKeeper::Touch() {
  if (touched_.load(std::memory_order_relaxed)) return;
  {
    std::lock_guard lock(mutex_);
    touched_ = true;
  }
  wake_.notify_one();
}

Result<SegmentPtr> SegmentKeeper::Take() {
  std::unique_lock lock(mutex_);
  touched_ = true;
  if (prepared_.empty()) {
    urgent_ = true;
    wake_.notify_one();
    changed_.wait(lock, [&] { return stop_ || !prepared_.empty() || !prepare_status_.ok(); });
    urgent_ = stop_;
    if (prepared_.empty()) {
      return stop_ ? Unavailable("the log is closed") : prepare_status_;
    }
  }
  SegmentPtr segment = std::move(prepared_.front());
  prepared_.pop_front();
  wake_.notify_one();
  return segment;
}

void SegmentKeeper::RequireCapacity(uint64_t capacity) {
  std::lock_guard lock(mutex_);
  required_capacity_ = std::max(required_capacity_, capacity);
}

void SegmentKeeper::Free(SegmentPtr segment) {
  {
    std::lock_guard lock(mutex_);
    to_free_.push_back(std::move(segment));
  }
  wake_.notify_one();
}

uint64_t SegmentKeeper::free_bytes() const {
  std::lock_guard lock(mutex_);
  return free_paths_.size() * options_.segment_bytes;
}

void SegmentKeeper::Run() {
  std::unique_lock lock(mutex_);
  bool free_failed = false;
  Clock::time_point check_at = Clock::now() + options_.space_check_interval;
  while (!stop_) {
    const auto now = Clock::now();
    const bool waiting_to_retry = now < retry_at_;
    if (!to_free_.empty() && !(free_failed && waiting_to_retry)) {
      const SegmentPtr segment = to_free_.front();
      lock.unlock();
      bool kept = false;
      const Status status = Retire(*segment, &kept);
      lock.lock();
      free_failed = !status.ok();
      // Never the next one before this one: the live names stay a run without gaps.
      if (free_failed) {
        retry_at_ = Clock::now() + options_.space_check_interval;
      } else {
        to_free_.pop_front();
        if (kept) free_paths_.push_back(Path(kFreeName, segment->number));
        retry_at_ = {};  // space has come back, perhaps
      }
      continue;
    }
    const bool wanted = prepared_.empty() && (touched_ || !prepare_status_.ok());
    if (wanted && !waiting_to_retry) {
      const uint64_t capacity = std::max(next_capacity_, required_capacity_);
      std::string recycled;
      if (capacity == options_.segment_bytes && !free_paths_.empty()) {
        recycled = std::move(free_paths_.back());
        free_paths_.pop_back();
      }
      const uint64_t number = next_number_;
      lock.unlock();
      Result<SegmentPtr> segment = Prepare(number, capacity, std::move(recycled));
      lock.lock();
      prepare_status_ = segment.status();
      if (segment.ok()) {
        ++next_number_;
        next_capacity_ = std::min(next_capacity_ * kGrowth, options_.segment_bytes);
        required_capacity_ = 0;
        prepared_.push_back(std::move(*segment));
      } else {
        retry_at_ = Clock::now() + options_.space_check_interval;
      }
      changed_.notify_all();
      continue;
    }
    if (now >= check_at && (touched_ || space_low_)) {
      touched_ = false;
      lock.unlock();
      CheckSpace();
      lock.lock();
      check_at = Clock::now() + options_.space_check_interval;
      continue;
    }
    auto wake_at = Clock::time_point::max();
    if (touched_ || space_low_) wake_at = std::max(check_at, now);
    if (waiting_to_retry && (free_failed || wanted)) wake_at = std::min(wake_at, retry_at_);
    if (wake_at == Clock::time_point::max()) {
      wake_.wait(lock);
    } else {
      wake_.wait_until(lock, wake_at);
    }
  }
}

Result<SegmentPtr> SegmentKeeper::Prepare(uint64_t number, uint64_t capacity,
                                          std::string recycled) {
  auto segment = std::make_shared<Segment>();
  segment->number = number;
  segment->capacity = capacity;
  segment->path = Path(kLiveName, number);
  const bool fresh = recycled.empty();
  const std::string path = fresh ? Path(kNewName, number) : std::move(recycled);
  if (fresh && number > 1) {
    ASSIGN_OR_RETURN(const uint64_t free, file_system_->FreeBytes(options_.directory));
    if (free < capacity + options_.reserve_bytes) {
      return Status(Code::kOutOfSpace, options_.directory + ": " + std::to_string(free) +
                                           " bytes of disk space are left");
    }
  }
  ASSIGN_OR_RETURN(segment->file, file_system_->Open(path, fresh));
  const auto prepare = [&]() -> Status {
    if (fresh) {
      RETURN_IF_ERROR(segment->file->Allocate(capacity));
      RETURN_IF_ERROR(FillWithZeros(segment->file.get(), capacity));
    }
    SegmentHeader header;
    header.log_id = log_id_;
    header.number = number;
    header.capacity = capacity;
    const std::string bytes = EncodeSegmentHeader(header);
    const std::string_view piece(bytes);
    RETURN_IF_ERROR(segment->file->Write(0, std::span(&piece, 1)));
    RETURN_IF_ERROR(segment->file->Sync());
    RETURN_IF_ERROR(file_system_->Rename(path, segment->path));
    return file_system_->SyncDirectory(options_.directory);
  };
  if (Status status = prepare(); !status.ok()) {
    // Under either name: a header without batches at the end of the log is harmless, but its number
    // is going to be used again.
    (void)file_system_->Remove(path);
    (void)file_system_->Remove(segment->path);
    return status;
  }
  return segment;
}

Status SegmentKeeper::FillWithZeros(File* file, uint64_t capacity) {
  const std::string zeros(kFillChunk, '\0');
  uint64_t unsynced = 0;
  for (uint64_t offset = 0; offset < capacity && !urgent_; offset += kFillChunk) {
    const std::string_view piece(zeros.data(), std::min(kFillChunk, capacity - offset));
    RETURN_IF_ERROR(file->Write(offset, std::span(&piece, 1)));
    unsynced += piece.size();
    if (unsynced >= kFillSyncEvery) {
      RETURN_IF_ERROR(file->Sync());
      unsynced = 0;
    }
  }
  return {};
}

Status SegmentKeeper::Retire(const Segment& segment, bool* kept) {
  size_t have = 0;
  {
    std::lock_guard lock(mutex_);
    have = free_paths_.size();
  }
  *kept = segment.capacity == options_.segment_bytes && have < options_.max_free_segments;
  if (*kept) {
    RETURN_IF_ERROR(file_system_->Rename(segment.path, Path(kFreeName, segment.number)));
  } else {
    RETURN_IF_ERROR(file_system_->Remove(segment.path));
  }
  return file_system_->SyncDirectory(options_.directory);
}

void SegmentKeeper::CheckSpace() {
  Result<uint64_t> free = file_system_->FreeBytes(options_.directory);
  space_low_ = free.ok() && *free < options_.reserve_bytes;
}

std::string SegmentKeeper::Path(std::string_view prefix, uint64_t number) const {
  return options_.directory + "/" + SegmentName(prefix, number);
}

}  // namespace onggi::log
