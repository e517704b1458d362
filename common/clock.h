#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace onggi {

using SteadyTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

/// Where time comes from, so that a test or a simulated cluster can supply its own.
class Clock {
 public:
  virtual ~Clock() = default;

  /// Never goes back; only differences mean anything.
  virtual SteadyTime Now() const = 0;

  /// The calendar's time; may jump either way.
  virtual WallTime WallNow() const = 0;

  /// Seconds since 1970, as the service's timestamps count them.
  double WallSeconds() const {
    return std::chrono::duration<double>(WallNow().time_since_epoch()).count();
  }

  /// The machine's clock; lives as long as the process.
  static Clock& System();
};

/// A clock that stands still until it is told. Thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(WallTime wall = WallTime(std::chrono::seconds(1'700'000'000)))
      : wall_(wall) {}

  SteadyTime Now() const override {
    std::scoped_lock lock(mutex_);
    return steady_;
  }
  WallTime WallNow() const override {
    std::scoped_lock lock(mutex_);
    return wall_;
  }

  /// Moves both times forward.
  void Advance(std::chrono::nanoseconds by) {
    std::scoped_lock lock(mutex_);
    steady_ += std::chrono::duration_cast<SteadyTime::duration>(by);
    wall_ += std::chrono::duration_cast<WallTime::duration>(by);
  }

  /// The calendar jumps; the steady time does not notice.
  void SetWall(WallTime wall) {
    std::scoped_lock lock(mutex_);
    wall_ = wall;
  }

 private:
  mutable std::mutex mutex_;
  SteadyTime steady_{std::chrono::hours(1)};
  WallTime wall_;
};

/// "20130524T000000Z", the form of X-Amz-Date.
std::string FormatAmzDate(WallTime time);

/// "Fri, 24 May 2013 00:00:00 GMT", the form of the Date header (RFC 9110, 5.6.7).
std::string FormatHttpDate(WallTime time);

}  // namespace onggi
