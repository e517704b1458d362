#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <utility>

#include "common/clock.h"
#include "common/runtime.h"
#include "replication/replica/environment.h"

namespace onggi::partition {

/// The home of a node's partitions and their replicas: one thread, with its clocks and timers, and
/// threads that may block. Shared by those that live on it.
///
/// An interface, so that the simulator runs partitions in virtual time.
class NodeHome : public replica::Home {
 public:
  using Executor = boost::asio::io_context::executor_type;

  /// What is posted to it runs on the home. The same for life.
  virtual Executor executor() const = 0;
  /// The calendar's time; may jump either way. Any thread.
  virtual WallTime WallNow() const = 0;
};

/// An io thread as a home.
class ThreadHome final : public NodeHome {
 public:
  ThreadHome(Executor executor, BlockingPool* blocking)
      : executor_(std::move(executor)), blocking_(blocking) {}

  Executor executor() const override { return executor_; }
  WallTime WallNow() const override { return Clock::System().WallNow(); }
  replica::BootTime Now() const override;
  void Post(std::function<void()> task) override;
  void Post(std::shared_ptr<replica::Runnable> target) override;
  void PostAfter(std::chrono::milliseconds delay, std::function<void()> task) override;
  bool Block(std::function<void()> work) override { return blocking_->TrySubmit(std::move(work)); }

 private:
  const Executor executor_;
  BlockingPool* const blocking_;
};

/// Where one coroutine on a home waits for news, or for time to pass. On the home.
class Waiter {
 public:
  /// The home outlives it.
  explicit Waiter(NodeHome* home) : home_(home) {}

  /// Returns when Wake() is called (true) or the time is over (false). One at a time.
  boost::asio::awaitable<bool> Wait(std::chrono::milliseconds time);
  /// Does nothing while nobody waits.
  void Wake() { Finish(true); }

 private:
  void Finish(bool woken);

  NodeHome* const home_;
  std::function<void(bool)> resume_;  ///< null: nobody waits
  uint64_t waits_ = 0;
  /// Expires with this: a timer may fire later.
  const std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace onggi::partition
