#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "common/status.h"
#include "server/storage/data_directory.h"

namespace onggi::storage {

/// Watches the free space of a file system ahead of need (replication.md R10): below a reserve,
/// writes are refused while what was promised still fits; they are accepted again once a quarter
/// more than the reserve is free.
///
/// One thread of its own, joined by the destructor.
class DiskWatch {
 public:
  using Query = std::function<Result<DiskSpace>(const std::string& path)>;

  /// `reserve_bytes` 0: a twentieth of the file system, within [32 MB, 1 GB]. `query` stands in for
  /// the operating system in tests.
  DiskWatch(std::string path, uint64_t reserve_bytes, std::chrono::milliseconds interval,
            Query query = QueryDiskSpace);
  ~DiskWatch();
  DiskWatch(const DiskWatch&) = delete;
  DiskWatch& operator=(const DiskWatch&) = delete;

  /// Bytes that accepted writes have yet to take on the disk (full write buffers): they count as
  /// used. `promised` is called on the watch's thread, until the destructor or the next call.
  void SetPromised(std::function<uint64_t()> promised);

  /// Any thread.
  const std::atomic<bool>& low() const { return low_; }
  uint64_t available_bytes() const { return available_.load(std::memory_order_relaxed); }
  uint64_t reserve_bytes() const { return reserve_; }

 private:
  void Look();
  void Run();

  const std::string path_;
  const std::chrono::milliseconds interval_;
  const Query query_;
  uint64_t reserve_ = 0;
  std::atomic<bool> low_{false};
  std::atomic<uint64_t> available_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::mutex promised_mutex_;
  std::function<uint64_t()> promised_;  // guarded by promised_mutex_
  bool stopping_ = false;               // guarded by mutex_
  std::thread thread_;
};

}  // namespace onggi::storage
