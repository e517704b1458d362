#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/status.h"
#include "replication/group/configuration.h"
#include "server/partition/statistics.h"
#include "server/storage/files.h"

namespace onggi::partition {

/// What a Split entry says, and the record of the latest in a store: what lies at or past `key` is
/// the child's (ARCHITECTURE.md, "Splits and merges").
struct SplitRecord {
  LogIndex index;  ///< of the entry
  std::string key;
  PartitionId child;
  /// By the parent's replica, the child's on the same node.
  std::map<group::Member, ReplicaId> child_replicas;
  PartitionStatistics left, right;  ///< figures of either side, by guess

  /// The entry's payload.
  std::string Encode() const;
  static Result<SplitRecord> Decode(LogIndex index, std::string_view payload);
};

/// Key of the record in the meta space. Value: varint index, payload.
inline constexpr std::string_view kSplitKey = "split";
std::string EncodeRecord(const SplitRecord& record);
Result<SplitRecord> DecodeRecord(std::string_view value);

/// What an Absorb entry says, and the record in a store of the latest one that no Merged has ended:
/// the data of the frozen right neighbour, at its own keys, lies beyond this partition's range.
struct AbsorbRecord {
  LogIndex index;  ///< of the entry
  PartitionId right;
  LogIndex freeze;    ///< the Freeze of the neighbour that its data is as of
  std::string start;  ///< the neighbour's range
  std::string end;    ///< empty: the end of the key space
  PartitionStatistics figures;
  bool held = false;  ///< the data is here; not in the entry

  std::string Encode() const;
  static Result<AbsorbRecord> Decode(LogIndex index, std::string_view payload);
};
inline constexpr std::string_view kAbsorbKey = "absorb";
std::string EncodeRecord(const AbsorbRecord& record);
Result<AbsorbRecord> DecodeAbsorbRecord(std::string_view value);

/// Payload of a Merged entry: which Absorb, and the figures of both together.
struct MergedEntry {
  LogIndex absorb;
  PartitionStatistics after;
  std::string Encode() const;
  static Result<MergedEntry> Decode(std::string_view payload);
};

/// Key of the record of a Freeze that no Thaw has ended. Value: varint index.
inline constexpr std::string_view kFrozenKey = "frozen";

/// Says in a child's directory whose it is, until its own key says so (file PARENT).
struct ParentMark {
  TableId table;
  PartitionId parent;
  std::string key;  ///< the child's first

  std::string Encode() const;
  /// nullopt: there is none, or something else is there. The disk's error where it does not say.
  static Result<std::optional<ParentMark>> Read(const storage::Files& files,
                                                const std::string& directory);
};

}  // namespace onggi::partition
