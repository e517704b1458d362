#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "server/model/value.h"

namespace onggi::partition {

struct KeyAttribute {
  std::string name;
  model::Type type = model::Type::kString;  ///< kString, kNumber or kBinary
};

enum class ProjectionType : uint8_t { kAll, kKeysOnly, kInclude };

/// A local secondary index: the same partition key, another sort key.
struct LocalIndex {
  std::string name;
  KeyAttribute sort_key;
  ProjectionType projection = ProjectionType::kAll;
  std::vector<std::string> non_key_attributes;  ///< of kInclude

  /// Every attribute that an entry holds when the projection is not kAll: keys of table and index
  /// and the included ones, sorted.
  std::vector<std::string> projected;
};

/// What a partition needs to know of its table. Immutable: keys and local indexes never change in
/// the life of a table.
struct TableSchema {
  TableId id;
  KeyAttribute partition_key;
  std::optional<KeyAttribute> sort_key;
  std::vector<LocalIndex> local_indexes;

  static std::shared_ptr<const TableSchema> FromRecord(const proto::Table& record);
};

}  // namespace onggi::partition
