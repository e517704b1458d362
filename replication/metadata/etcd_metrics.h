#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "common/metrics.h"
#include "common/status.h"

namespace onggi::metadata::etcd {

enum class Operation : uint8_t { kRange, kCommit, kGrantLease, kRevokeLease };
inline constexpr size_t kOperations = 4;

/// The etcd client's metrics (docs/operating.md). Without a registry they are counted and not
/// shown. Thread-safe.
class Metrics {
 public:
  explicit Metrics(metrics::Registry* registry);

  void Finished(Operation operation, const Status& status, std::chrono::nanoseconds time);

  metrics::Gauge* pending;           ///< requests not answered
  metrics::Gauge* watches;           ///< open watches
  metrics::Gauge* leases;            ///< leases kept alive
  metrics::Counter* retries;         ///< attempts beyond a request's first
  metrics::Counter* lost_endpoints;  ///< members given up
  metrics::Counter* switches;        ///< changes of the member in use
  metrics::Counter* resumed;         ///< watch streams opened again
  metrics::Counter* compacted;       ///< watches that had to start over
  metrics::Counter* lost_leases;     ///< leases that ended against our will
  metrics::Counter* tokens;          ///< authentications

 private:
  enum Outcome : uint8_t { kOk, kUnavailable, kUnknown, kRefused, kOutcomes };

  metrics::Registry own_;
  std::array<std::array<metrics::Counter*, kOutcomes>, kOperations> requests_{};
  std::array<metrics::Histogram*, kOperations> durations_{};
};

}  // namespace onggi::metadata::etcd
