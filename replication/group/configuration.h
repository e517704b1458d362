#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"

namespace onggi::group {

/// One copy of a partition on one node.
struct Member {
  NodeId node;
  ReplicaId replica;
  constexpr auto operator<=>(const Member&) const = default;
};

/// Who holds a partition, and which keys it has: its metadata key without table and partition,
/// which never change (record.h).
struct Configuration {
  Configuration() {}

  /// 0: no replica has ever led, and every replica that is named may still have to be made.
  Epoch epoch;
  Member primary;
  std::vector<Member> in_sync;  ///< has the primary
  std::vector<Member> learners;
  std::string range_start;
  std::string range_end;  ///< empty: the end of the key space
  uint32_t replication = 1;
  uint32_t min_in_sync = 1;
  /// No lease of any earlier epoch holds any more: R7 has nothing to wait for.
  bool lease_released = false;
  /// Names the process that is to lead in this epoch, so that a restarted one does not take its
  /// earlier self's reign for its own.
  uint64_t boot = 0;

  bool InSync(const Member& member) const {
    return std::find(in_sync.begin(), in_sync.end(), member) != in_sync.end();
  }
  bool Learner(const Member& member) const {
    return std::find(learners.begin(), learners.end(), member) != learners.end();
  }
  bool Names(const Member& member) const { return InSync(member) || Learner(member); }
  bool operator==(const Configuration&) const = default;
};

/// The majority that an acknowledged write is always on (R4).
constexpr uint32_t MinInSync(uint32_t replication) { return replication / 2 + 1; }

}  // namespace onggi::group
