#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>

namespace onggi::coordinator {

/// Where the coordinator's pauses come from, so that a test or the simulator can let time pass.
/// Called on the coordinator's executor.
class Timers {
 public:
  /// Dropped: the callback is not called any more.
  using Handle = std::shared_ptr<void>;

  virtual ~Timers() = default;

  /// Calls `callback` on the coordinator's executor, once, after `delay`; never from within.
  virtual Handle After(std::chrono::milliseconds delay, std::function<void()> callback) = 0;
};

/// Real time, by Asio's steady timer on `executor`.
class AsioTimers final : public Timers {
 public:
  explicit AsioTimers(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}
  Handle After(std::chrono::milliseconds delay, std::function<void()> callback) override;

 private:
  const boost::asio::any_io_executor executor_;
};

/// Suspends the calling coroutine, which runs on the timers' executor. Cancellation by Asio ends
/// the wait by throwing, as Asio's own operations do.
boost::asio::awaitable<void> Sleep(Timers& timers, std::chrono::milliseconds delay);

}  // namespace onggi::coordinator
