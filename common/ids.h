#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace onggi {

/// A number that only converts to or from its own kind on purpose.
template <class Tag>
struct StrongId {
  uint64_t value = 0;

  constexpr StrongId() = default;
  constexpr explicit StrongId(uint64_t v) : value(v) {}
  constexpr auto operator<=>(const StrongId&) const = default;
  std::string ToString() const { return std::to_string(value); }
};

/// A storage node, numbered by the catalog when it first joins. 0 is no node.
using NodeId = StrongId<struct NodeIdTag>;
/// A table (or internal table), numbered by the catalog and never reused.
using TableId = StrongId<struct TableIdTag>;
/// A partition, numbered by the catalog and never reused.
using PartitionId = StrongId<struct PartitionIdTag>;
/// One copy of a partition on one disk. A wiped or damaged disk gets a new one (replication.md R9).
using ReplicaId = StrongId<struct ReplicaIdTag>;
/// The number of a configuration of a partition; every change of primary or in-sync set adds one.
using Epoch = StrongId<struct EpochTag>;
/// The place of an entry in a partition's log; the first entry is 1.
using LogIndex = StrongId<struct LogIndexTag>;
/// A revision of the metadata store: every transaction that changes anything adds one. 0 is none.
using Revision = StrongId<struct RevisionTag>;

/// Names one entry of a partition's log. Of two logs with an equal position, all before it is
/// equal.
struct LogPosition {
  Epoch epoch;
  LogIndex index;
  constexpr auto operator<=>(const LogPosition&) const = default;
};

}  // namespace onggi

template <class Tag>
struct std::hash<onggi::StrongId<Tag>> {
  size_t operator()(onggi::StrongId<Tag> id) const noexcept {
    return std::hash<uint64_t>{}(id.value);
  }
};
