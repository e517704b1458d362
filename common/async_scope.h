#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <condition_variable>
#include <cstddef>
#include <list>
#include <memory>
#include <mutex>

namespace onggi {

/// Owns coroutines: nothing is spawned detached, and stopping waits for the last of them.
///
/// Thread-safe. Each coroutine runs on the executor it was spawned with. Stop asks every coroutine
/// to end (Asio cancellation, terminal: its pending operation completes with operation_aborted) and
/// Join or AsyncJoin waits until all have ended. A coroutine that throws anything but a
/// cancellation ends the process: errors between modules are Status.
class AsyncScope {
 public:
  AsyncScope();
  /// Every coroutine must have ended: CHECKs that Join was called.
  ~AsyncScope();
  AsyncScope(const AsyncScope&) = delete;
  AsyncScope& operator=(const AsyncScope&) = delete;

  /// Starts `coroutine` on `executor`. False, and it never runs, once stopping.
  bool Spawn(boost::asio::any_io_executor executor, boost::asio::awaitable<void> coroutine);

  /// Refuses new coroutines and cancels the running ones. Returns at once; may be called twice.
  void RequestStop();
  bool stopping() const;

  /// RequestStop, then waits until all have ended. For a thread that runs none of the executors.
  void Stop();

  /// Waits until all have ended, without asking them to. For a coroutine not owned by this scope;
  /// one waiter at a time.
  boost::asio::awaitable<void> AsyncJoin();

  /// RequestStop and AsyncJoin.
  boost::asio::awaitable<void> AsyncStop();

  /// Coroutines that have not ended.
  size_t size() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace onggi
