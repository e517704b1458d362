#include "server/storage/disk_watch.h"

#include <algorithm>

#include "common/log.h"
#include "common/runtime.h"

namespace onggi::storage {

DiskWatch::DiskWatch(std::string path, uint64_t reserve_bytes, std::chrono::milliseconds interval,
                     Query query)
    : path_(std::move(path)),
      interval_(interval),
      query_(std::move(query)),
      reserve_(reserve_bytes) {
  if (reserve_ == 0) {
    const Result<DiskSpace> space = query_(path_);
    const uint64_t total = space.ok() ? space->total_bytes : 0;
    reserve_ = std::clamp<uint64_t>(total / 20, uint64_t{32} << 20, uint64_t{1} << 30);
  }
  Look();
  thread_ = std::thread([this] { Run(); });
}

DiskWatch::~DiskWatch() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void DiskWatch::SetPromised(std::function<uint64_t()> promised) {
  std::lock_guard lock(promised_mutex_);
  promised_ = std::move(promised);
}

void DiskWatch::Look() {
  const Result<DiskSpace> space = query_(path_);
  if (!space.ok()) {
    log::Warn("cannot ask for free disk space", "status", space.status());
    return;
  }
  available_.store(space->available_bytes, std::memory_order_relaxed);
  const bool was_low = low_.load(std::memory_order_relaxed);
  uint64_t promised = 0;
  {
    std::lock_guard lock(promised_mutex_);
    if (promised_) promised = promised_();
  }
  const uint64_t bound = promised + (was_low ? reserve_ + reserve_ / 4 : reserve_);
  const bool low = space->available_bytes < bound;
  if (low == was_low) return;
  low_.store(low, std::memory_order_relaxed);
  if (low) {
    log::Error("disk below its reserve: writes are refused", "available_bytes",
               space->available_bytes, "reserve_bytes", reserve_, "promised_bytes", promised);
  } else {
    log::Info("disk has space again: writes are accepted", "available_bytes",
              space->available_bytes);
  }
}

void DiskWatch::Run() {
  SetThreadName("disk-watch");
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, interval_, [this] { return stopping_; })) {
    lock.unlock();
    Look();
    lock.lock();
  }
}

}  // namespace onggi::storage
