#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/status.h"
#include "server/partition/statistics.h"

namespace rocksdb {
class WriteBatch;
}

/// Effects: what a log entry does to a partition's store.
///
/// A write is evaluated once, on the primary; its entry carries the final bytes, so a backup or a
/// replay only applies them and cannot come to another result (architecture.md section 4).
/// docs/formats.md describes the bytes.
namespace onggi::partition {

/// Log entry types. On disk: never renumber.
enum class EntryType : uint8_t {
  kEpochStart = 1,  ///< opens a reign; no effects
  kWrites = 2,      ///< a batch of effects
  // Changes of shape (shape.h).
  kSplit = 3,   ///< what lies at or past a key becomes another partition
  kFreeze = 4,  ///< the left neighbour is to take this partition in: nothing is admitted any more
  kThaw = 5,    ///< it is not
  kAbsorb = 6,  ///< the frozen right neighbour's data is put aside
  kMerged = 7,  ///< and becomes part of this partition
};

/// First byte of every key in a partition's store: which ordered space it belongs to.
inline constexpr char kMetaSpace = 0x01;
inline constexpr char kItemSpace = 0x02;
inline constexpr char kCollectionSpace = 0x03;
inline constexpr char kLocalIndexSpace = 0x10;  ///< + number of the index

/// The store key of the applied state.
inline constexpr std::string_view kAppliedKey{
    "\x01"
    "applied",
    8};

/// The store key of what is called so in the meta space.
inline std::string MetaKey(std::string_view name) {
  return std::string(1, kMetaSpace).append(name);
}

/// Keys [from, to) of a partition's store.
struct StoreRange {
  std::string from;
  std::string to;

  /// Of a space: from `start` to `end`; empty: from its beginning, to its end.
  static StoreRange Of(char space, std::string_view start, std::string_view end);
  /// Of the meta space: what begins with `name`.
  static StoreRange OfMeta(std::string_view name);
};

/// What one replica has applied: the place in the log and the live figures at that place. One
/// record in the store, in the same batch as the effects.
struct AppliedState {
  Epoch epoch;
  LogIndex index;
  PartitionStatistics statistics;

  void EncodeTo(std::string* out) const;
  static Result<AppliedState> Decode(std::string_view bytes);
};

/// Figures with their version, as they stand in records.
void AppendFigures(const PartitionStatistics& statistics, std::string* out);
bool ReadFigures(std::string_view* in, PartitionStatistics* statistics);

/// Collects the effects of one log entry. Starts with the partition's figures after it.
class EffectWriter {
 public:
  bool empty() const { return operations_.empty(); }
  size_t size() const { return operations_.size(); }
  void Put(char space, std::string_view key, std::string_view value);
  void Delete(char space, std::string_view key);
  /// The entry's payload, leaving the writer empty.
  std::string Finish(const PartitionStatistics& after);

 private:
  std::string operations_;
};

/// Walks an entry's effects in order: (store key, value), no value for a deletion. `statistics` may
/// be null. Corruption when malformed; what came before the damage has been visited.
Status ForEachEffect(
    std::string_view payload, PartitionStatistics* statistics,
    const std::function<void(std::string_view, std::optional<std::string_view>)>& visit);

/// Adds an entry's effects to a RocksDB batch and gives its figures. Corruption when malformed.
Status ReplayEffects(std::string_view payload, rocksdb::WriteBatch* batch,
                     PartitionStatistics* statistics);

}  // namespace onggi::partition
