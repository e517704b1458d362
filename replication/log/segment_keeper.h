#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "replication/log/log_store.h"
#include "replication/log/segment.h"

namespace onggi::log {

/// Prepares segments ahead of the writer and recycles those behind it, on a thread of its own.
///
/// A prepared segment is allocated, filled with zeros (or recycled), has its header synced and its
/// name in the directory: whoever takes it can only write. A segment is freed by a rename that is
/// synced before the next is freed and before its bytes are touched, so that after any crash the
/// live names are a run of numbers without gaps.
///
/// Failure: when a segment cannot be prepared, TryTake says why and preparing is tried again every
/// `space_check_interval`.
class SegmentKeeper {
 public:
  struct Initial {
    uint64_t log_id = 0;
    uint64_t next_number = 1;    ///< of the next segment to prepare
    uint64_t next_capacity = 0;  ///< of the next segment to prepare
    std::deque<SegmentPtr> prepared;
    std::vector<std::string> free_paths;  ///< recycled files of segment_bytes
  };

  SegmentKeeper(const LogOptions& options, FileSystem* file_system, Initial initial);
  ~SegmentKeeper();

  void Start();
  /// Finishes what is under way; frees nothing more.
  void Stop();

  /// Makes a segment now, on the calling thread (before Start).
  Result<SegmentPtr> MakeFirst();

  /// Tells that entries are being appended: a segment ahead is wanted.
  void Touch();

  /// The next segment if it is prepared and has room for `bytes` of batches. Otherwise waits while
  /// one is being made (milliseconds: the filling is cut short). kOutOfSpace when it cannot be.
  /// Every call takes the next number, even if it is then too small: the caller uses all.
  Result<SegmentPtr> Take();
  /// What a taken segment must at least hold.
  void RequireCapacity(uint64_t capacity);

  /// Hands over the oldest segment, which holds nothing that is needed.
  void Free(SegmentPtr segment);

  /// Whether appends are to be refused for lack of space.
  bool space_low() const { return space_low_.load(std::memory_order_relaxed); }
  uint64_t free_bytes() const;

 private:
  using Clock = std::chrono::steady_clock;

  void Run();
  Result<SegmentPtr> Prepare(uint64_t number, uint64_t capacity, std::string recycled);
  Status FillWithZeros(File* file, uint64_t capacity);
  Status Retire(const Segment& segment, bool* kept);
  void CheckSpace();
  std::string Path(std::string_view prefix, uint64_t number) const;

  const LogOptions& options_;
  FileSystem* const file_system_;
  std::thread thread_;
  std::atomic<bool> space_low_{false};
  std::atomic<bool> urgent_{false};
  std::atomic<bool> touched_{false};

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable changed_;
  uint64_t log_id_;
  uint64_t next_number_;
  uint64_t next_capacity_;
  uint64_t required_capacity_ = 0;
  std::deque<SegmentPtr> prepared_;
  std::vector<std::string> free_paths_;
  std::deque<SegmentPtr> to_free_;
  Status prepare_status_;
  Clock::time_point retry_at_;
  bool stop_ = false;
};

}  // namespace onggi::log
