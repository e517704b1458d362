#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/dynamodb/input.h"
#include "server/model/value.h"
#include "server/partition/schema.h"
#include "server/partition/write.h"

/// Capacity units and what responses say of them.
/// Source: docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
namespace onggi::dynamodb {

/// Capacity in halves of a unit: the smallest read costs one half.
using HalfUnits = uint64_t;

/// A read of `bytes` in one piece: 4 KB a unit, half of that when eventually consistent, at least
/// one step.
HalfUnits ReadHalfUnits(size_t bytes, bool consistent);

/// A write of an item of `bytes`: 1 KB a unit, at least one.
HalfUnits WriteHalfUnits(size_t bytes);

/// "0.5", "1.0".
void AppendHalfUnits(HalfUnits units, std::string* out);

/// ReturnConsumedCapacity.
enum class CapacityDetail : uint8_t { kNone, kTotal, kIndexes };
CapacityDetail CapacityDetailOf(Input input);

/// What one request consumed of one table.
struct ConsumedCapacity {
  HalfUnits table = 0;
  std::vector<HalfUnits> local_indexes;  ///< in the schema's order; may be shorter: the rest are 0

  HalfUnits Total() const;
  void AddIndex(size_t index, HalfUnits units);
  /// Adds the units of a write that happened.
  void AddWrite(const partition::WriteOutcome& outcome);
};

/// Appends the ConsumedCapacity structure, {"TableName":...}, as `detail` (not kNone) asks.
/// `table_name` as the request named the table. Indexes that nothing was consumed of are left out
/// unless `always_index` (a read of that index; -1: none).
void WriteConsumedCapacity(CapacityDetail detail, std::string_view table_name,
                           const partition::TableSchema& schema, const ConsumedCapacity& consumed,
                           int always_index, std::string* out);

/// Appends one ItemCollectionMetrics structure: the collection's key and its size as a range of 1
/// GB. `key` has at least the table's partition key.
void WriteItemCollectionMetrics(const partition::TableSchema& schema, const model::ItemView& key,
                                uint64_t collection_bytes, std::string* out);

}  // namespace onggi::dynamodb
