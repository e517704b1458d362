#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

namespace onggi::checkpoint {

/// Paces threads that copy bytes, all together to so many a second. Thread-safe.
class TokenBucket {
 public:
  /// 0: no limit.
  explicit TokenBucket(uint64_t bytes_per_second) : rate_(bytes_per_second) {}

  /// Waits until `bytes` may be copied. False once stopped, or as soon as `give_up` (asked ten
  /// times a second) says so.
  bool Take(uint64_t bytes, const std::function<bool()>& give_up);

  void SetRate(uint64_t bytes_per_second);
  /// Take returns false from now on.
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;
  /// What may be made up for after a pause: little, or a burst would be felt.
  static constexpr std::chrono::milliseconds kBurst{20};

  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t rate_;           // guarded by mutex_
  Clock::time_point next_;  // guarded by mutex_: when what was granted so far has been copied
  bool stopped_ = false;    // guarded by mutex_
};

}  // namespace onggi::checkpoint
