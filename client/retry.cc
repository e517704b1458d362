#include "client/retry.h"

#include <algorithm>

namespace onggi::client {

std::chrono::nanoseconds Backoff(const RetryPolicy& policy, int attempt, double random) {
  const int doublings = std::clamp(attempt - 1, 0, 30);
  const auto longest =
      std::min<std::chrono::nanoseconds>(policy.max, policy.base * (1LL << doublings));
  return std::chrono::nanoseconds(
      static_cast<int64_t>(static_cast<double>(longest.count()) * random));
}

bool RetryQuota::Take(bool timed_out) {
  const int cost = timed_out ? kTimeoutCost : kCost;
  std::scoped_lock lock(mutex_);
  if (available_ < cost) return false;
  available_ -= cost;
  return true;
}

void RetryQuota::Success(bool retried, bool timed_out) {
  const int back = !retried ? 1 : timed_out ? kTimeoutCost : kCost;
  std::scoped_lock lock(mutex_);
  available_ = std::min(kCapacity, available_ + back);
}

int RetryQuota::available() const {
  std::scoped_lock lock(mutex_);
  return available_;
}

}  // namespace onggi::client
