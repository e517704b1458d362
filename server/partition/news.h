#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "common/clock.h"

namespace onggi::partition {

/// Tells whoever waits, on other threads, that something may have changed: they look again.
///
/// Thread-safe. Outlives its waiters. Tell() costs one atomic increment while nobody waits.
///
/// A waiter reads count() first, then looks, and waits if it does not like what it sees: so nothing
/// that is told in between is missed.
class News {
 public:
  /// What has been told so far.
  uint64_t count() const { return count_.load(); }
  void Tell();

  /// Returns when more has been told than `count`, or at the deadline. On the caller's executor,
  /// which is one thread or a strand.
  boost::asio::awaitable<void> Wait(uint64_t count, SteadyTime deadline);
  /// The same for a thread that may block.
  void Block(uint64_t count, SteadyTime deadline);

 private:
  std::atomic<uint64_t> count_{0};
  std::atomic<bool> waited_{false};  ///< somebody waits, or is about to look whether to
  std::mutex mutex_;
  std::condition_variable told_;
  std::vector<std::shared_ptr<boost::asio::steady_timer>> timers_;  // guarded by mutex_
};

}  // namespace onggi::partition
