#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/ids.h"

namespace onggi::group {

/// One copy of a partition on one node.
struct Member {
  NodeId node;
  ReplicaId replica;
  constexpr auto operator<=>(const Member&) const = default;
};

/// Who holds a partition: the part of its metadata key that the group's rules look at (the key has
/// the range and the table besides; whoever writes a swap keeps those as they were).
struct Configuration {
  Configuration() {}

  Epoch epoch;
  Member primary;
  std::vector<Member> in_sync;  ///< has the primary
  std::vector<Member> learners;
  uint32_t replication = 1;
  uint32_t min_in_sync = 1;
  bool lease_released = false;
  /// Names the process that proposed this, so that a restarted one does not take its earlier self's
  /// reign for its own.
  uint64_t boot = 0;

  bool InSync(const Member& member) const {
    return std::find(in_sync.begin(), in_sync.end(), member) != in_sync.end();
  }
  bool Learner(const Member& member) const {
    return std::find(learners.begin(), learners.end(), member) != learners.end();
  }
  bool operator==(const Configuration&) const = default;
};

}  // namespace onggi::group
