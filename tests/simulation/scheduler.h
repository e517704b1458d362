#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <random>
#include <utility>
#include <vector>

#include "common/check.h"

namespace onggi::simulation {

/// The simulated world's own time; every node reads it through a clock of its own.
using Time = std::chrono::nanoseconds;

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// One stream of chances for a whole run: the seed is the run.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  uint64_t Next() { return engine_(); }
  /// In [0, n); n > 0.
  uint64_t Below(uint64_t n) { return engine_() % n; }
  bool Chance(uint64_t per_thousand) { return Below(1000) < per_thousand; }
  /// Evenly in [least, most].
  Time Between(Time least, Time most) {
    if (most <= least) return least;
    return least +
           Time(static_cast<int64_t>(Below(static_cast<uint64_t>((most - least).count()) + 1)));
  }

 private:
  std::mt19937_64 engine_;
};

/// Virtual time: runs what is due, in order of time and then of asking.
class Scheduler {
 public:
  Time now() const { return now_; }
  void After(Time delay, std::function<void()> run) { At(now_ + delay, std::move(run)); }
  void At(Time time, std::function<void()> run) {
    queue_.push({std::max(time, now_), sequence_++, std::move(run)});
  }
  /// Runs the next one due at or before `end`; false: there is none, and the time is `end`.
  bool RunOne(Time end) {
    if (queue_.empty() || queue_.top().time > end) {
      now_ = end;
      return false;
    }
    // The queue gives only const access to what it is about to lose.
    Item item = std::move(const_cast<Item&>(queue_.top()));
    queue_.pop();
    now_ = item.time;
    item.run();
    return true;
  }

 private:
  struct Item {
    Time time;
    uint64_t sequence;
    std::function<void()> run;
    bool operator<(const Item& other) const {
      return std::tie(time, sequence) > std::tie(other.time, other.sequence);
    }
  };
  Time now_{0};
  uint64_t sequence_ = 0;
  std::priority_queue<Item> queue_;
};

/// Executors of code that is written for Asio. To be destroyed after the schedule: what waits there
/// may hold an executor's work long after whoever ran on it is gone, such as the answer to a
/// request of a coroutine that has ended since.
class Executors {
 public:
  Executors() = default;
  Executors(const Executors&) = delete;
  /// Nothing runs any more, nor can: what holds work is a coroutine that nobody ends.
  ~Executors() {
    for (const boost::asio::io_context& context : contexts_) CHECK(context.stopped());
  }
  boost::asio::io_context* Make() { return &contexts_.emplace_back(1); }

 private:
  std::deque<boost::asio::io_context> contexts_;
};

}  // namespace onggi::simulation
