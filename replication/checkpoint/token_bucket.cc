#include "replication/checkpoint/token_bucket.h"

namespace onggi::checkpoint {

bool TokenBucket::Take(uint64_t bytes, const std::function<bool()>& give_up) {
  std::unique_lock lock(mutex_);
  if (stopped_) return false;
  if (rate_ == 0) return !give_up();
  const Clock::time_point start = std::max(next_, Clock::now() - kBurst);
  next_ = start + std::chrono::nanoseconds(static_cast<int64_t>(static_cast<double>(bytes) /
                                                                static_cast<double>(rate_) * 1e9));
  const Clock::time_point until = next_;
  while (!stopped_ && rate_ != 0 && Clock::now() < until) {
    if (give_up()) return false;
    changed_.wait_until(lock, std::min(until, Clock::now() + std::chrono::milliseconds(100)));
  }
  return !stopped_ && !give_up();
}

void TokenBucket::SetRate(uint64_t bytes_per_second) {
  std::scoped_lock lock(mutex_);
  rate_ = bytes_per_second;
  // What was granted at the old rate is not owed at the new one.
  next_ = Clock::now();
  changed_.notify_all();
}

void TokenBucket::Stop() {
  std::scoped_lock lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

}  // namespace onggi::checkpoint
