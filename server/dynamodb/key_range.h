#pragma once

#include <cstdint>
#include <string>

#include "server/expression/key_condition.h"
#include "server/model/value.h"
#include "server/partition/schema.h"
#include "server/routing/page.h"

/// Queries and scan segments as ranges of encoded keys. `index` is the number of a local index, or
/// -1 for the table's items: each has its own key space (partition.h, KeySpace).
namespace onggi::dynamodb {

/// [lower, upper); an empty upper is the end of the space.
struct KeyRange {
  std::string lower;
  std::string upper;

  bool Empty() const { return !upper.empty() && lower >= upper; }
  /// Leaves what comes after `key` in the direction of the read.
  void ContinueAfter(const std::string& key, bool reverse);
};

/// What a Query of the table's items, or of a local index, reads.
KeyRange RangeOfQuery(bool is_index, const expression::KeyCondition& condition);

/// Segment `segment` of `total` (segment < total): the space of hashes cut into even parts.
KeyRange RangeOfSegment(uint32_t segment, uint32_t total);

using routing::PositionOf;

/// Does a sort key satisfy the condition? Types match.
bool SatisfiesSortCondition(const expression::KeyCondition& condition, model::ValueView sort_key);

}  // namespace onggi::dynamodb
