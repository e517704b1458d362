#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace onggi {

/// N threads, each running its own io_context, so that what is owned by one executor never runs on
/// two threads and needs no strand.
///
/// Made by main (or a test) before anything that runs on it, stopped after everything that does.
/// Thread i runs only context i. An exception that leaves a handler ends the process: nothing may
/// throw out of our own code.
class IoPool {
 public:
  using Executor = boost::asio::io_context::executor_type;

  static constexpr size_t kNotAnIoThread = static_cast<size_t>(-1);

  /// Starts `threads` (at least 1) threads named "<name>-<index>" (cut to 15 characters).
  explicit IoPool(size_t threads, std::string name = "io");
  /// Stop() if it was not called.
  ~IoPool();
  IoPool(const IoPool&) = delete;
  IoPool& operator=(const IoPool&) = delete;

  size_t size() const { return contexts_.size(); }
  boost::asio::io_context& context(size_t index) { return *contexts_[index]; }
  Executor executor(size_t index) { return contexts_[index]->get_executor(); }

  /// Executors in turn, for work that belongs to no thread in particular. Thread-safe.
  Executor NextExecutor();

  /// The index of the pool's thread that calls, or kNotAnIoThread when another does.
  size_t current() const;

  /// Lets the threads end as soon as their contexts have no work left, and joins them; what never
  /// finishes by itself must have been stopped before. Must not be called on one of its threads.
  void Join();

  /// Drops what is queued and joins the threads. Must not be called on one of its threads.
  void Stop();

 private:
  std::vector<std::unique_ptr<boost::asio::io_context>> contexts_;
  std::vector<boost::asio::executor_work_guard<Executor>> guards_;
  std::vector<std::thread> threads_;
  std::atomic<size_t> next_{0};
};

/// Threads for work that blocks on a disk, behind a bounded queue.
///
/// Thread-safe. The destructor finishes what is queued.
class BlockingPool {
 public:
  /// Starts `threads` (at least 1) threads named "<name>-<index>". At most `max_queued` tasks wait.
  BlockingPool(size_t threads, size_t max_queued, std::string name = "disk");
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  /// Queues `task`. False, and the task is dropped, when the queue is full or the pool is stopping:
  /// the caller answers Unavailable.
  [[nodiscard]] bool TrySubmit(std::function<void()> task);

  /// Queues `task`, waiting for a place. For threads that may block, never for an io thread. False
  /// when the pool is stopping.
  [[nodiscard]] bool Submit(std::function<void()> task);

  /// Waits until nothing is queued or running. Between IoPool::Stop() and its destruction: tasks
  /// post their results to it.
  void WaitIdle();

  /// Finishes what is queued and joins the threads; later submissions are refused.
  void Stop();

  size_t queued() const;

 private:
  void Run();

  const size_t max_queued_;
  mutable std::mutex mutex_;
  std::condition_variable has_task_;
  std::condition_variable has_place_;
  std::condition_variable idle_;
  std::deque<std::function<void()>> tasks_;  // guarded by mutex_
  size_t running_ = 0;                       // guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  std::vector<std::thread> threads_;
};

/// Names the calling thread for ps, top and debuggers; cut to 15 characters.
void SetThreadName(const std::string& name);

/// Raises the limit on open files to the hard limit, and returns the limit now in force.
size_t RaiseOpenFileLimit();

}  // namespace onggi
