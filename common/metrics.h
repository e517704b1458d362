#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace onggi::metrics {

/// Threads write to one of this many cells each, so that hot counters share no cache line.
inline constexpr size_t kShards = 16;

/// The calling thread's cell, 0 .. kShards-1.
size_t ThisShard();

using Labels = std::vector<std::pair<std::string, std::string>>;

/// A sum that only grows. Thread-safe; Add costs a few nanoseconds.
class Counter {
 public:
  void Add(uint64_t n = 1) { cells_[ThisShard()].value.fetch_add(n, std::memory_order_relaxed); }
  uint64_t Value() const;

 private:
  struct alignas(64) Cell {
    std::atomic<uint64_t> value{0};
  };
  std::array<Cell, kShards> cells_;
};

/// A value that goes both ways. Thread-safe.
class Gauge {
 public:
  void Set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  void Add(int64_t n) { value_.fetch_add(n, std::memory_order_relaxed); }
  int64_t Value() const { return value_.load(std::memory_order_relaxed); }

 private:
  alignas(64) std::atomic<int64_t> value_{0};
};

/// Counts of observations by size. Thread-safe; Observe costs about ten nanoseconds.
class Histogram {
 public:
  static constexpr size_t kMaxBounds = 31;

  /// `bounds`: the buckets' inclusive upper bounds in integer units, growing, at most kMaxBounds.
  /// Exposed values are multiplied by `scale` (nanoseconds observed, seconds shown: 1e-9).
  Histogram(std::span<const uint64_t> bounds, double scale);

  void Observe(uint64_t value);
  void Observe(std::chrono::nanoseconds duration) {
    Observe(static_cast<uint64_t>(std::max<int64_t>(duration.count(), 0)));
  }

  uint64_t Count() const;
  uint64_t Sum() const;

  struct Snapshot {
    std::vector<std::pair<double, uint64_t>> cumulative;  ///< scaled bound, count at or below it
    uint64_t count = 0;
    double sum = 0;  ///< scaled
  };
  Snapshot Collect() const;

 private:
  struct alignas(64) Cell {
    std::atomic<uint64_t> sum{0};
    std::array<std::atomic<uint64_t>, kMaxBounds + 1> buckets{};
  };
  std::array<uint64_t, kMaxBounds> bounds_;
  size_t bound_count_;
  double scale_;
  std::array<Cell, kShards> cells_;
};

/// Latency bounds in nanoseconds, 10 microseconds to 30 seconds; shown in seconds.
std::span<const uint64_t> LatencyBounds();
/// Size bounds in bytes, 64 to 16 MB.
std::span<const uint64_t> SizeBounds();
/// Powers of two from 1 to 4096, for batch sizes and queue depths.
std::span<const uint64_t> CountBounds();

/// Every metric of the process, by name and labels.
///
/// Thread-safe. A metric lives until Remove or until the registry ends; asking again for a name and
/// labels that exist returns the same one (its kind must be the same: CHECKed). Names follow
/// Prometheus: onggi_<area>_<what>_<unit>, counters end in _total.
class Registry : public prometheus::Collectable {
 public:
  Registry() = default;

  Counter& AddCounter(std::string name, std::string help, Labels labels = {});
  Gauge& AddGauge(std::string name, std::string help, Labels labels = {});
  /// A histogram of durations: observed in nanoseconds, shown in seconds.
  Histogram& AddLatency(std::string name, std::string help, Labels labels = {});
  /// A histogram of integers, shown as they are.
  Histogram& AddHistogram(std::string name, std::string help, std::span<const uint64_t> bounds,
                          Labels labels = {});

  /// A value that is asked for at collection. `read` is called with the registry's lock held, on
  /// the thread that collects: cheap, and it must not call the registry.
  void AddGaugeCallback(std::string name, std::string help, Labels labels,
                        std::function<double()> read);
  void AddCounterCallback(std::string name, std::string help, Labels labels,
                          std::function<double()> read);

  /// Removes the metrics whose labels include all of `labels` (not empty). References to them
  /// dangle.
  void Remove(const Labels& labels);

  std::vector<prometheus::MetricFamily> Collect() const override;

  /// The Prometheus text exposition, version 0.0.4.
  std::string TextExposition() const;

 private:
  enum class Kind : uint8_t { kCounter, kGauge, kHistogram };
  struct Metric {
    Labels labels;
    std::unique_ptr<Counter> counter;
    std::unique_ptr<Gauge> gauge;
    std::unique_ptr<Histogram> histogram;
    std::function<double()> read;
  };
  struct Family {
    Kind kind = Kind::kCounter;
    std::string help;
    std::map<Labels, Metric> metrics;
  };

  Metric& Find(std::string name, std::string help, Kind kind, Labels labels);

  mutable std::mutex mutex_;
  std::map<std::string, Family> families_;  // guarded by mutex_
};

/// Adds process_resident_memory_bytes, process_virtual_memory_bytes, process_open_fds,
/// process_max_fds, process_cpu_seconds_total, process_start_time_seconds and process_threads.
void AddProcessMetrics(Registry& registry);

/// Resident memory of this process in bytes, 0 when /proc cannot be read.
uint64_t ResidentMemoryBytes();

}  // namespace onggi::metrics
