#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <vector>

#include "server/partition/partition.h"

namespace onggi::partition {

/// The caller of Execute() and how many of its writes are still to be answered. Lives in the
/// caller's coroutine frame until resume() has been called.
struct WriteTask::Join {
  std::atomic<size_t> remaining{0};
  boost::asio::any_io_executor executor;
  void* handler = nullptr;
  void (*resume)(void* handler) = nullptr;
  Join* next = nullptr;
};

/// Gathers finished writes so that the callers of one thread are resumed by one posted message.
/// Used within one function on one thread; the destructor posts.
class Completions {
 public:
  Completions() = default;
  ~Completions() { Post(); }
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  /// The task's outcome is complete; the task may be gone when this returns.
  void Finish(WriteTask::Join* join);
  void Post();

 private:
  struct Target {
    boost::asio::any_io_executor executor;
    WriteTask::Join* head = nullptr;
    WriteTask::Join* tail = nullptr;
  };
  std::vector<Target> targets_;
};

}  // namespace onggi::partition
