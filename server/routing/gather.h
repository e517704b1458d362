#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <vector>

namespace onggi::routing {

class Resumptions;

/// A coroutine that waits for several things at once. Lives in its frame.
class Gather {
 public:
  /// `executor`: the coroutine's own.
  explicit Gather(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}
  Gather(const Gather&) = delete;
  Gather& operator=(const Gather&) = delete;

  /// One more thing to wait for; before Wait(), or while another is outstanding.
  void Add() { remaining_.fetch_add(1, std::memory_order_relaxed); }

  /// Returns when each thing added has been finished; on the executor. Once.
  boost::asio::awaitable<void> Wait();

 private:
  friend class Resumptions;
  std::atomic<size_t> remaining_{1};  ///< one for Wait()
  const boost::asio::any_io_executor executor_;
  void* handler_ = nullptr;
  void (*resume_)(void* handler) = nullptr;
  Gather* next_ = nullptr;
};

/// Finishes things that coroutines wait for, so that those of one thread are resumed by one posted
/// message. Used within one function on one thread; the destructor posts.
class Resumptions {
 public:
  Resumptions() = default;
  ~Resumptions() { Post(); }
  Resumptions(const Resumptions&) = delete;
  Resumptions& operator=(const Resumptions&) = delete;

  /// The waiting coroutine, and all that lives in it, may be gone when this returns.
  void Finish(Gather* gather);
  void Post();

 private:
  struct Target {
    boost::asio::any_io_executor executor;
    Gather* head = nullptr;
    Gather* tail = nullptr;
  };
  std::vector<Target> targets_;
};

}  // namespace onggi::routing
