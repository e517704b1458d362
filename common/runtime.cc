#include "common/runtime.h"

#include <pthread.h>
#include <sys/resource.h>

#include <utility>

#include "common/check.h"

namespace onggi {
namespace {

struct CurrentThread {
  const IoPool* pool = nullptr;
  size_t index = IoPool::kNotAnIoThread;
};
thread_local CurrentThread current_thread;

}  // namespace

void SetThreadName(const std::string& name) {
  // The kernel refuses longer names instead of cutting them.
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

size_t RaiseOpenFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  if (limit.rlim_cur < limit.rlim_max) {
    rlimit wanted = limit;
    wanted.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &wanted) == 0) limit = wanted;
  }
  return limit.rlim_cur;
}

IoPool::IoPool(size_t threads, std::string name) {
  if (threads == 0) threads = 1;
  for (size_t i = 0; i < threads; ++i) {
    // Hint 1: one thread runs it, so completions may skip wake-ups; posting from others stays safe.
    contexts_.push_back(std::make_unique<boost::asio::io_context>(1));
    guards_.push_back(boost::asio::make_work_guard(*contexts_.back()));
  }
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i, name] {
      SetThreadName(name + "-" + std::to_string(i));
      current_thread.pool = this;
      current_thread.index = i;
      contexts_[i]->run();
      current_thread = {};
    });
  }
}

IoPool::~IoPool() { Stop(); }

IoPool::Executor IoPool::NextExecutor() {
  return executor(next_.fetch_add(1, std::memory_order_relaxed) % size());
}

size_t IoPool::current() const {
  return current_thread.pool == this ? current_thread.index : kNotAnIoThread;
}

void IoPool::Join() {
  CHECK(current() == kNotAnIoThread);
  for (auto& guard : guards_) guard.reset();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void IoPool::Stop() {
  CHECK(current() == kNotAnIoThread);
  for (auto& context : contexts_) context->stop();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

BlockingPool::BlockingPool(size_t threads, size_t max_queued, std::string name)
    : max_queued_(max_queued == 0 ? 1 : max_queued) {
  if (threads == 0) threads = 1;
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i, name] {
      SetThreadName(name + "-" + std::to_string(i));
      Run();
    });
  }
}

BlockingPool::~BlockingPool() { Stop(); }

bool BlockingPool::TrySubmit(std::function<void()> task) {
  {
    std::scoped_lock lock(mutex_);
    if (stopping_ || tasks_.size() >= max_queued_) return false;
    tasks_.push_back(std::move(task));
  }
  has_task_.notify_one();
  return true;
}

bool BlockingPool::Submit(std::function<void()> task) {
  {
    std::unique_lock lock(mutex_);
    has_place_.wait(lock, [this] { return stopping_ || tasks_.size() < max_queued_; });
    if (stopping_) return false;
    tasks_.push_back(std::move(task));
  }
  has_task_.notify_one();
  return true;
}

void BlockingPool::Stop() {
  {
    std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  has_task_.notify_all();
  has_place_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void BlockingPool::WaitIdle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return tasks_.empty() && running_ == 0; });
}

size_t BlockingPool::queued() const {
  std::scoped_lock lock(mutex_);
  return tasks_.size();
}

void BlockingPool::Run() {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      has_task_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
      ++running_;
    }
    has_place_.notify_one();
    task();
    task = nullptr;  // what it holds goes before it counts as done
    std::scoped_lock lock(mutex_);
    --running_;
    if (tasks_.empty() && running_ == 0) idle_.notify_all();
  }
}

}  // namespace onggi
