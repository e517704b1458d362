#include "replication/metadata/etcd_loop.h"

#include <grpcpp/alarm.h>

#include <algorithm>

#include "common/runtime.h"

namespace onggi::metadata::etcd {

/// Ends the thread's wait: an alarm that goes off at once.
class Loop::Wake final : public Tag {
 public:
  explicit Wake(Loop* loop) : loop_(loop) {
    alarm_.Set(&loop->queue_, gpr_now(GPR_CLOCK_MONOTONIC), this);
  }
  void Done(bool /*ok*/) override {
    Loop* const loop = loop_;
    delete this;
    loop->RunPosted();
  }

 private:
  Loop* const loop_;
  grpc::Alarm alarm_;
};

Loop::~Loop() { Join(); }

void Loop::Start() {
  thread_ = std::thread([this] {
    SetThreadName("metadata");
    Run();
  });
}

bool Loop::Post(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  posted_.push_back(std::move(task));
  if (!std::exchange(waking_, true)) new Wake(this);  // it deletes itself
  return true;
}

void Loop::RunPosted() {
  std::deque<std::function<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    waking_ = false;
    tasks.swap(posted_);
  }
  for (auto& task : tasks) task();
}

Loop::TimerId Loop::After(std::chrono::milliseconds delay, std::function<void()> task) {
  const TimerId id(Clock::now() + delay, ++last_timer_);
  timers_.emplace(id, std::move(task));
  return id;
}

void Loop::RunTimers() {
  while (!timers_.empty() && timers_.begin()->first.first <= Clock::now()) {
    const std::function<void()> task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }
}

void Loop::Shutdown() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  stopping_ = true;
  timers_.clear();
  queue_.Shutdown();
}

void Loop::Run() {
  constexpr std::chrono::milliseconds kLongest{60'000};
  for (;;) {
    std::chrono::milliseconds wait = kLongest;
    if (!timers_.empty()) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first.first - Clock::now());
      wait = std::clamp(left, std::chrono::milliseconds(0), kLongest);
    }
    void* tag = nullptr;
    bool ok = false;
    switch (queue_.AsyncNext(&tag, &ok, Deadline(wait))) {
      case grpc::CompletionQueue::SHUTDOWN: return;
      case grpc::CompletionQueue::GOT_EVENT: static_cast<Tag*>(tag)->Done(ok); break;
      case grpc::CompletionQueue::TIMEOUT: break;
    }
    RunTimers();
  }
}

void Loop::Join() {
  if (thread_.joinable()) thread_.join();
}

gpr_timespec Loop::Deadline(std::chrono::milliseconds delay) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_millis(delay.count(), GPR_TIMESPAN));
}

}  // namespace onggi::metadata::etcd
