#pragma once

#include <grpc/support/time.h>
#include <grpcpp/completion_queue.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace onggi::metadata::etcd {

/// Where a gRPC operation reports that it is done.
class Tag {
 public:
  virtual ~Tag() = default;
  /// On the loop's thread. `ok`: as gRPC's CompletionQueue::Next says for the operation.
  virtual void Done(bool ok) = 0;
};

/// A Tag that calls a member function of its owner.
template <class Owner, void (Owner::*kDone)(bool)>
class MemberTag final : public Tag {
 public:
  explicit MemberTag(Owner* owner) : owner_(owner) {}
  void Done(bool ok) override { (owner_->*kDone)(ok); }

 private:
  Owner* const owner_;
};

/// The etcd client's thread: completions of gRPC, timers, and what other threads post.
///
/// Start() starts the thread. Shutdown(), on the thread, after the last gRPC operation has been
/// started: what is under way is still completed, then the thread ends, and Join() returns.
class Loop {
 public:
  using Clock = std::chrono::steady_clock;
  using TimerId = std::pair<Clock::time_point, uint64_t>;

  Loop() = default;
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void Start();
  /// Runs `task` on the thread, in order. False, and it never runs, after Shutdown. Thread-safe.
  bool Post(std::function<void()> task);
  bool OnThread() const { return std::this_thread::get_id() == thread_.get_id(); }

  // On the thread only.
  TimerId After(std::chrono::milliseconds delay, std::function<void()> task);
  void Cancel(const TimerId& timer) { timers_.erase(timer); }
  grpc::CompletionQueue* queue() { return &queue_; }
  bool stopping() const { return stopping_; }
  void Shutdown();

  void Join();

  /// `delay` from now, for gRPC.
  static gpr_timespec Deadline(std::chrono::milliseconds delay);

 private:
  class Wake;

  void Run();
  void RunPosted();
  void RunTimers();

  grpc::CompletionQueue queue_;
  std::thread thread_;

  std::mutex mutex_;
  std::deque<std::function<void()>> posted_;  // guarded by mutex_
  bool waking_ = false;                       // guarded by mutex_
  bool closed_ = false;                       // guarded by mutex_

  // The thread's own.
  std::map<TimerId, std::function<void()>> timers_;
  uint64_t last_timer_ = 0;
  bool stopping_ = false;
};

/// How handles and others who may outlive the loop reach it. Thread-safe.
class Poster {
 public:
  explicit Poster(Loop* loop) : loop_(loop) {}
  /// Dropped once closed.
  void Post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    if (loop_ != nullptr) loop_->Post(std::move(task));
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    loop_ = nullptr;
  }

 private:
  std::mutex mutex_;
  Loop* loop_;  // guarded by mutex_
};

}  // namespace onggi::metadata::etcd
