#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>

namespace onggi::client {

/// How a call is tried again. The defaults are those of the SDKs' standard retry mode for DynamoDB
/// (docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html).
struct RetryPolicy {
  RetryPolicy() {}
  /// Tries in all; 1: never again.
  int max_attempts = 3;
  /// The pause before try n + 1 is random, up to base * 2^(n-1), and at most max.
  std::chrono::milliseconds base{50};
  std::chrono::milliseconds max{20'000};
};

/// The pause after `attempt` failed tries. `random` is uniform in [0, 1).
std::chrono::nanoseconds Backoff(const RetryPolicy& policy, int attempt, double random);

/// The retry quota of one client: when most calls fail, further tries would only add to the load,
/// and are given up. Thread-safe.
class RetryQuota {
 public:
  static constexpr int kCapacity = 500;
  static constexpr int kCost = 5;
  static constexpr int kTimeoutCost = 10;

  /// May there be another try? `timed_out`: the last one got no answer in time.
  bool Take(bool timed_out);
  /// A call succeeded; `retried`: not at the first try.
  void Success(bool retried, bool timed_out);

  int available() const;

 private:
  mutable std::mutex mutex_;
  int available_ = kCapacity;
};

}  // namespace onggi::client
