#pragma once

#include <atomic>
#include <chrono>
#include <memory>

#include "common/status.h"
#include "coordinator/leadership.h"

namespace onggi::coordinator {

/// Looks whether the metadata store answers, for whoever asks if this coordinator is of any use
/// (/readyz): one small read every kInterval, which etcd answers only with a majority.
///
/// Made and destroyed on the environment's executor; looks for as long as it exists. The store may
/// answer later than that.
class StoreProbe {
 public:
  explicit StoreProbe(const Environment& environment);
  StoreProbe(const StoreProbe&) = delete;
  StoreProbe& operator=(const StoreProbe&) = delete;

  /// kUnavailable once the last answer is older than kPatience. Thread-safe.
  Status Check() const;

  static constexpr std::chrono::milliseconds kInterval{1'000};
  /// Past a change of etcd's leader, which takes about two seconds.
  static constexpr std::chrono::milliseconds kPatience{5'000};

 private:
  /// Shared with the request that is under way.
  struct State {
    explicit State(SteadyTime now) : answered(now) {}
    std::atomic<SteadyTime> answered;
    std::atomic<bool> asking = false;
  };

  void Ask();

  const Environment environment_;
  const std::shared_ptr<State> state_;
  Timers::Handle timer_;
};

}  // namespace onggi::coordinator
