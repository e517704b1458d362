#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"

namespace onggi::partition {

/// What a partition serves, in capacity units, and of which keys: for placement and splits.
///
/// Sampled: one event of kSampleEvery is counted for all of them, so that a read costs next to
/// nothing. Sampled keys are kept in a ring, the newest kKeys of them, so a key's part of the ring
/// is its part of the recent load. Thread-safe.
class LoadMeter {
 public:
  static constexpr uint32_t kSampleEvery = 16;
  static constexpr size_t kKeys = 512;

  /// One read or write of `units` at `key`.
  void OnRead(std::string_view key, double units) { OnEvent(&reads_, key, units); }
  void OnWrite(std::string_view key, double units) { OnEvent(&writes_, key, units); }

  /// Sampled units so far: of no meaning but that it changes where there is load.
  uint64_t activity() const {
    return reads_.load(std::memory_order_relaxed) + writes_.load(std::memory_order_relaxed);
  }

  struct Rates {
    double read_units = 0;  ///< a second
    double write_units = 0;
  };
  /// Takes the counters' growth since the last call into the rates. About once a second; one
  /// caller.
  void Update(SteadyTime now);
  Rates rates() const;

  struct HotKey {
    std::string key;
    double share = 0;  ///< of the sampled load, 0 to 1
  };
  /// The keys of recent events, in order of the key, one for each event.
  std::vector<std::string> SampledKeys() const;
  /// The keys with more than `min_share` of the load, greatest first.
  static std::vector<HotKey> HotKeys(const std::vector<std::string>& sorted, double min_share);

 private:
  void OnEvent(std::atomic<uint64_t>* counter, std::string_view key, double units) {
    thread_local uint32_t state = 0;
    // Weyl sequence: no event pattern falls into step with it.
    state += 0x9e3779b9u;
    if (state >= UINT32_MAX / kSampleEvery) return;
    Count(counter, key, units);
  }
  void Count(std::atomic<uint64_t>* counter, std::string_view key, double units);

  // In sixteenths of a unit times kSampleEvery: whole numbers, and nothing lost of half units.
  std::atomic<uint64_t> reads_{0};
  std::atomic<uint64_t> writes_{0};

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::vector<std::string> keys_;
  size_t next_key_ = 0;
  Rates rates_;
  uint64_t seen_reads_ = 0;
  uint64_t seen_writes_ = 0;
  SteadyTime updated_;
};

}  // namespace onggi::partition
