#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "server/model/value.h"

namespace onggi::expression {
class Condition;
class Update;
}  // namespace onggi::expression

namespace onggi::partition {

/// Names a write across all its tries: the process that asks and a number of its own.
struct RequestId {
  uint64_t boot = 0;  ///< 0: the write has no name, and is not looked up
  uint64_t sequence = 0;
  bool operator==(const RequestId&) const = default;
};

/// One item write, already validated against the table's schema. Views and pointers are borrowed:
/// they live until the write is answered.
struct WriteRequest {
  enum class Kind : uint8_t { kPut, kUpdate, kDelete };

  Kind kind = Kind::kPut;
  std::string_view key;  ///< model::EncodeKey of the item's key attributes
  model::ItemView item;  ///< kPut: the new item; kUpdate and kDelete: the key attributes alone
  const expression::Condition* condition = nullptr;  ///< null: unconditional
  const expression::Update* update = nullptr;  ///< of kUpdate; null: ensures that the item exists
  bool want_old = false;  ///< fill old_item (ReturnValues ALL_OLD; on a failed condition, ALL_OLD)
  bool want_new = false;  ///< fill new_item (ALL_NEW)
  bool want_updated = false;  ///< fill updated_old and updated_new (UPDATED_OLD, UPDATED_NEW)
  /// Named, the write is applied once however often it is tried within RequestTable::kKept: a retry
  /// is answered with the outcome of the first.
  RequestId id;
};

/// What became of a WriteRequest. Sizes are as the service bills them, in bytes.
struct WriteOutcome {
  /// Ok; kConditionFailed; kInvalidArgument with the service's message (what the update found in
  /// the item, a result over 400 KB, an index key of a wrong type); kResourceExhausted (item
  /// collection over its limit: message begins "Collection size exceeded."; or a full queue);
  /// kOutOfSpace; kUnavailable (nothing happened); kUnknownOutcome (it may have happened).
  Status status;
  bool existed = false;  ///< there was an item before
  size_t old_size = 0;   ///< billed size of the item before; 0 = none
  size_t new_size = 0;   ///< billed size of the item after; 0 = none
  std::string old_item;  ///< stored form; empty = none or not asked for
  std::string new_item;
  std::string updated_old;
  std::string updated_new;
  /// Per local index of the schema, in order: write units that its maintenance cost.
  std::vector<uint32_t> index_write_units;
  /// Bytes of the item collection after the write, items and local index entries; tables with local
  /// indexes only.
  uint64_t collection_bytes = 0;
};

/// The largest item, names and values together.
inline constexpr size_t kMaxItemBytes = 400 * 1024;

}  // namespace onggi::partition
