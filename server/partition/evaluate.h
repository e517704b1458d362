#pragma once

#include <cstdint>
#include <string>

#include "server/partition/effects.h"
#include "server/partition/schema.h"
#include "server/partition/write.h"

namespace onggi::partition {

/// What one write does, found once, on the primary.
struct Evaluation {
  bool changes = false;  ///< false: no log entry is due; the outcome is an answer to a strong read
  bool deletes = false;  ///< the item is gone afterwards
  std::string new_item;  ///< stored form; empty when deletes or !changes
  int64_t collection_delta = 0;  ///< bytes that the item collection grows by
};

/// Evaluates `request` against the item as it is (`old_item` invalid: none), fills `outcome` and,
/// where the write changes something, appends item and local index effects to `effects` and updates
/// `statistics`. `collection_bytes` is the item collection's size before. On a failure
/// (outcome->status) nothing was appended.
Evaluation Evaluate(const TableSchema& schema, uint64_t collection_limit_bytes,
                    const WriteRequest& request, const model::ItemView& old_item,
                    uint64_t collection_bytes, EffectWriter* effects,
                    PartitionStatistics* statistics, WriteOutcome* outcome);

/// The item collection's prefix within an item key.
std::string_view CollectionPrefixOf(const TableSchema& schema, const WriteRequest& request,
                                    std::string* scratch);

}  // namespace onggi::partition
