#include "server/partition/load_meter.h"

#include <algorithm>
#include <cmath>

namespace onggi::partition {

namespace {

constexpr double kScale = 16;
/// Rates are smoothed over about this long.
constexpr double kSmoothSeconds = 5;

}  // namespace

void LoadMeter::Count(std::atomic<uint64_t>* counter, std::string_view key, double units) {
  counter->fetch_add(static_cast<uint64_t>(units * kScale * kSampleEvery),
                     std::memory_order_relaxed);
  // Whoever comes second is not worth waiting for.
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || key.empty()) return;
  if (keys_.size() < kKeys) {
    keys_.emplace_back(key);
    return;
  }
  keys_[next_key_].assign(key);
  next_key_ = (next_key_ + 1) % kKeys;
}

void LoadMeter::Update(SteadyTime now) {
  std::lock_guard lock(mutex_);
  const uint64_t reads = reads_.load(std::memory_order_relaxed);
  const uint64_t writes = writes_.load(std::memory_order_relaxed);
  if (updated_ != SteadyTime()) {
    const double seconds = std::chrono::duration<double>(now - updated_).count();
    if (seconds <= 0) return;
    const double weight = 1 - std::exp(-seconds / kSmoothSeconds);
    const auto blend = [&](double* rate, uint64_t from, uint64_t to) {
      const double latest = static_cast<double>(to - from) / kScale / seconds;
      *rate += (latest - *rate) * weight;
    };
    blend(&rates_.read_units, seen_reads_, reads);
    blend(&rates_.write_units, seen_writes_, writes);
  }
  seen_reads_ = reads;
  seen_writes_ = writes;
  updated_ = now;
}

LoadMeter::Rates LoadMeter::rates() const {
  std::lock_guard lock(mutex_);
  return rates_;
}

std::vector<std::string> LoadMeter::SampledKeys() const {
  std::vector<std::string> keys;
  {
    std::lock_guard lock(mutex_);
    keys = keys_;
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

std::vector<LoadMeter::HotKey> LoadMeter::HotKeys(const std::vector<std::string>& sorted,
                                                  double min_share) {
  std::vector<HotKey> hot;
  for (auto from = sorted.begin(); from != sorted.end();) {
    const auto to = std::upper_bound(from, sorted.end(), *from);
    const double share = static_cast<double>(to - from) / static_cast<double>(sorted.size());
    if (share > min_share) hot.push_back({*from, share});
    from = to;
  }
  std::sort(hot.begin(), hot.end(),
            [](const HotKey& a, const HotKey& b) { return a.share > b.share; });
  return hot;
}

}  // namespace onggi::partition
