#include "common/metrics.h"

#include <dirent.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "common/check.h"

namespace onggi::metrics {

size_t ThisShard() {
  static std::atomic<size_t> next{0};
  thread_local const size_t shard = next.fetch_add(1, std::memory_order_relaxed) % kShards;
  return shard;
}

uint64_t Counter::Value() const {
  uint64_t sum = 0;
  for (const Cell& cell : cells_) sum += cell.value.load(std::memory_order_relaxed);
  return sum;
}

Histogram::Histogram(std::span<const uint64_t> bounds, double scale)
    : bound_count_(bounds.size()), scale_(scale) {
  CHECK(bounds.size() <= kMaxBounds);
  CHECK(std::is_sorted(bounds.begin(), bounds.end()));
  std::copy(bounds.begin(), bounds.end(), bounds_.begin());
}

void Histogram::Observe(uint64_t value) {
  const auto end = bounds_.begin() + static_cast<ptrdiff_t>(bound_count_);
  const auto bucket =
      static_cast<size_t>(std::lower_bound(bounds_.begin(), end, value) - bounds_.begin());
  Cell& cell = cells_[ThisShard()];
  cell.sum.fetch_add(value, std::memory_order_relaxed);
  cell.buckets[bucket].fetch_add(1, std::memory_order_relaxed);
}

uint64_t Histogram::Count() const {
  uint64_t count = 0;
  for (const Cell& cell : cells_) {
    for (const auto& bucket : cell.buckets) count += bucket.load(std::memory_order_relaxed);
  }
  return count;
}

uint64_t Histogram::Sum() const {
  uint64_t sum = 0;
  for (const Cell& cell : cells_) sum += cell.sum.load(std::memory_order_relaxed);
  return sum;
}

Histogram::Snapshot Histogram::Collect() const {
  Snapshot snapshot;
  std::array<uint64_t, kMaxBounds + 1> counts{};
  for (const Cell& cell : cells_) {
    for (size_t i = 0; i <= bound_count_; ++i) {
      counts[i] += cell.buckets[i].load(std::memory_order_relaxed);
    }
  }
  for (size_t i = 0; i < bound_count_; ++i) {
    snapshot.count += counts[i];
    snapshot.cumulative.emplace_back(static_cast<double>(bounds_[i]) * scale_, snapshot.count);
  }
  snapshot.count += counts[bound_count_];
  snapshot.sum = static_cast<double>(Sum()) * scale_;
  return snapshot;
}

std::span<const uint64_t> LatencyBounds() {
  static constexpr std::array<uint64_t, 21> kBounds = {
      10'000,        25'000,         50'000,        100'000,     200'000,     300'000,
      500'000,       750'000,        1'000'000,     2'000'000,   3'000'000,   5'000'000,
      10'000'000,    25'000'000,     50'000'000,    100'000'000, 250'000'000, 1'000'000'000,
      2'500'000'000, 10'000'000'000, 30'000'000'000};
  return kBounds;
}

std::span<const uint64_t> SizeBounds() {
  static constexpr std::array<uint64_t, 10> kBounds = {64,    256,    1024,    4096,    16384,
                                                       65536, 262144, 1048576, 4194304, 16777216};
  return kBounds;
}

std::span<const uint64_t> CountBounds() {
  static constexpr std::array<uint64_t, 13> kBounds = {1,   2,   4,   8,    16,   32,  64,
                                                       128, 256, 512, 1024, 2048, 4096};
  return kBounds;
}

Registry::Metric& Registry::Find(std::string name, std::string help, Kind kind, Labels labels) {
  std::sort(labels.begin(), labels.end());
  auto [family, made] = families_.try_emplace(std::move(name));
  if (made) {
    family->second.kind = kind;
    family->second.help = std::move(help);
  }
  CHECK_MSG(family->second.kind == kind, family->first);
  Metric& metric = family->second.metrics[labels];
  if (metric.labels.empty()) metric.labels = std::move(labels);
  return metric;
}

Counter& Registry::AddCounter(std::string name, std::string help, Labels labels) {
  std::scoped_lock lock(mutex_);
  Metric& metric = Find(std::move(name), std::move(help), Kind::kCounter, std::move(labels));
  if (!metric.counter) metric.counter = std::make_unique<Counter>();
  return *metric.counter;
}

Gauge& Registry::AddGauge(std::string name, std::string help, Labels labels) {
  std::scoped_lock lock(mutex_);
  Metric& metric = Find(std::move(name), std::move(help), Kind::kGauge, std::move(labels));
  if (!metric.gauge) metric.gauge = std::make_unique<Gauge>();
  return *metric.gauge;
}

Histogram& Registry::AddLatency(std::string name, std::string help, Labels labels) {
  std::scoped_lock lock(mutex_);
  Metric& metric = Find(std::move(name), std::move(help), Kind::kHistogram, std::move(labels));
  if (!metric.histogram) metric.histogram = std::make_unique<Histogram>(LatencyBounds(), 1e-9);
  return *metric.histogram;
}

Histogram& Registry::AddHistogram(std::string name, std::string help,
                                  std::span<const uint64_t> bounds, Labels labels) {
  std::scoped_lock lock(mutex_);
  Metric& metric = Find(std::move(name), std::move(help), Kind::kHistogram, std::move(labels));
  if (!metric.histogram) metric.histogram = std::make_unique<Histogram>(bounds, 1.0);
  return *metric.histogram;
}

void Registry::AddGaugeCallback(std::string name, std::string help, Labels labels,
                                std::function<double()> read) {
  std::scoped_lock lock(mutex_);
  Find(std::move(name), std::move(help), Kind::kGauge, std::move(labels)).read = std::move(read);
}

void Registry::AddCounterCallback(std::string name, std::string help, Labels labels,
                                  std::function<double()> read) {
  std::scoped_lock lock(mutex_);
  Find(std::move(name), std::move(help), Kind::kCounter, std::move(labels)).read = std::move(read);
}

void Registry::Remove(const Labels& labels) {
  CHECK(!labels.empty());
  std::scoped_lock lock(mutex_);
  for (auto& [name, family] : families_) {
    std::erase_if(family.metrics, [&](const auto& entry) {
      return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
        return std::find(entry.first.begin(), entry.first.end(), label) != entry.first.end();
      });
    });
  }
}

std::vector<prometheus::MetricFamily> Registry::Collect() const {
  std::vector<prometheus::MetricFamily> out;
  std::scoped_lock lock(mutex_);
  for (const auto& [name, family] : families_) {
    if (family.metrics.empty()) continue;
    prometheus::MetricFamily shown;
    shown.name = name;
    shown.help = family.help;
    shown.type = family.kind == Kind::kCounter ? prometheus::MetricType::Counter
                 : family.kind == Kind::kGauge ? prometheus::MetricType::Gauge
                                               : prometheus::MetricType::Histogram;
    for (const auto& [labels, metric] : family.metrics) {
      prometheus::ClientMetric value;
      for (const auto& [label, text] : labels) value.label.push_back({label, text});
      if (metric.read) {
        (family.kind == Kind::kCounter ? value.counter.value : value.gauge.value) = metric.read();
      } else if (metric.counter) {
        value.counter.value = static_cast<double>(metric.counter->Value());
      } else if (metric.gauge) {
        value.gauge.value = static_cast<double>(metric.gauge->Value());
      } else if (metric.histogram) {
        const Histogram::Snapshot snapshot = metric.histogram->Collect();
        value.histogram.sample_count = snapshot.count;
        value.histogram.sample_sum = snapshot.sum;
        for (const auto& [bound, count] : snapshot.cumulative) {
          value.histogram.bucket.push_back({count, bound});
        }
      }
      shown.metric.push_back(std::move(value));
    }
    out.push_back(std::move(shown));
  }
  return out;
}

std::string Registry::TextExposition() const {
  return prometheus::TextSerializer().Serialize(Collect());
}

namespace {

/// The numbers of /proc/self/stat behind the command's closing parenthesis, from field 3 on.
std::vector<uint64_t> ProcStat() {
  std::vector<uint64_t> fields;
  FILE* file = std::fopen("/proc/self/stat", "re");
  if (file == nullptr) return fields;
  char text[2048];
  const size_t n = std::fread(text, 1, sizeof(text) - 1, file);
  std::fclose(file);
  text[n] = 0;
  const char* at = std::strrchr(text, ')');
  if (at == nullptr) return fields;
  at += 2;
  fields.push_back(0);  // the state is a letter
  at = std::strchr(at, ' ');
  while (at != nullptr && *at != 0) {
    char* end = nullptr;
    fields.push_back(std::strtoull(at, &end, 10));
    if (end == at) break;
    at = end;
  }
  return fields;
}

double ProcField(size_t field, double scale) {
  const std::vector<uint64_t> fields = ProcStat();
  return field - 3 < fields.size() ? static_cast<double>(fields[field - 3]) * scale : 0;
}

double OpenFiles() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  double count = -3;  // ".", ".." and the directory itself
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

double StartTime() {
  timespec boot{};
  clock_gettime(CLOCK_BOOTTIME, &boot);
  const double now = static_cast<double>(time(nullptr));
  const double since_boot = ProcField(22, 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK)));
  return now - static_cast<double>(boot.tv_sec) + since_boot;
}

}  // namespace

uint64_t ResidentMemoryBytes() {
  return static_cast<uint64_t>(ProcField(24, static_cast<double>(sysconf(_SC_PAGESIZE))));
}

void AddProcessMetrics(Registry& registry) {
  registry.AddGaugeCallback("process_resident_memory_bytes", "Resident memory size in bytes.", {},
                            [] { return static_cast<double>(ResidentMemoryBytes()); });
  registry.AddGaugeCallback("process_virtual_memory_bytes", "Virtual memory size in bytes.", {},
                            [] { return ProcField(23, 1.0); });
  registry.AddGaugeCallback("process_open_fds", "Number of open file descriptors.", {}, OpenFiles);
  registry.AddGaugeCallback("process_max_fds", "Maximum number of open file descriptors.", {}, [] {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    return static_cast<double>(limit.rlim_cur);
  });
  registry.AddCounterCallback(
      "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", {}, [] {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        const auto seconds = [](const timeval& t) {
          return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
        };
        return seconds(usage.ru_utime) + seconds(usage.ru_stime);
      });
  registry.AddGaugeCallback("process_start_time_seconds",
                            "Start time of the process since unix epoch in seconds.", {},
                            [start = StartTime()] { return start; });
  registry.AddGaugeCallback("process_threads", "Number of threads.", {},
                            [] { return ProcField(20, 1.0); });
}

}  // namespace onggi::metrics
