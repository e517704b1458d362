#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>

#include "common/clock.h"
#include "common/ids.h"

namespace onggi::routing {

/// Item collections that were written through this node a moment ago, on other nodes. Backups apply
/// a write a little later than its primary answers it; who writes and reads through one node should
/// find what it wrote, also without asking for a consistent read: such reads go to the primary.
///
/// Best effort: a fixed table in which a newer write takes an older one's place. Thread-safe,
/// without locks.
class RecentWrites {
 public:
  /// Backups are rarely this far behind; when they are, eventually consistent means what it says.
  static constexpr std::chrono::milliseconds kRecent{500};

  /// `key` as encoded: its first bytes are the hash of the partition key.
  void Add(TableId table, std::string_view key, SteadyTime now) {
    const uint64_t moment = Moment(now);
    Store(HashOf(table, key), moment);
    Store(HashOf(table, {}), moment);  // for reads of ranges
  }

  /// `key` empty: anything of the table.
  bool Has(TableId table, std::string_view key) const {
    const uint64_t hash = HashOf(table, key);
    const uint64_t entry = (*slots_)[hash % kSlots].load(std::memory_order_relaxed);
    if ((entry ^ hash) >> kMomentBits != 0) return false;
    const uint64_t age = Moment(std::chrono::steady_clock::now()) - entry;
    return (age & kMomentMask) <= static_cast<uint64_t>(kRecent.count());
  }

 private:
  static constexpr size_t kSlots = 4096;
  static constexpr int kMomentBits = 24;  ///< of milliseconds: it comes round after four hours
  static constexpr uint64_t kMomentMask = (uint64_t{1} << kMomentBits) - 1;

  static uint64_t Moment(SteadyTime time) {
    const auto since =
        std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch());
    return static_cast<uint64_t>(since.count()) & kMomentMask;
  }
  static uint64_t HashOf(TableId table, std::string_view key) {
    uint64_t hash = (table.value + 1) * 0x9E3779B97F4A7C15;
    for (size_t i = 0; i < 8 && i < key.size(); ++i) {
      hash = (hash ^ static_cast<uint8_t>(key[i])) * 0x100000001B3;
    }
    return hash ^ (hash >> 32);
  }
  void Store(uint64_t hash, uint64_t moment) {
    (*slots_)[hash % kSlots].store((hash & ~kMomentMask) | moment, std::memory_order_relaxed);
  }

  std::unique_ptr<std::array<std::atomic<uint64_t>, kSlots>> slots_ =
      std::make_unique<std::array<std::atomic<uint64_t>, kSlots>>();
};

}  // namespace onggi::routing
