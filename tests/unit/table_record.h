#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/proto/catalog.pb.h"

namespace onggi {

/// An ACTIVE table, the account's and region's defaults, with a string as its partition key.
/// `sort_type` empty: without a sort key.
inline proto::Table TableRecord(uint64_t id, std::string name, std::string_view partition_key,
                                std::string_view sort_key, std::string_view sort_type = "S") {
  proto::Table table;
  table.set_id(id);
  table.set_account("default");
  table.set_region("us-east-1");
  table.set_name(std::move(name));
  table.set_status(proto::TABLE_STATUS_ACTIVE);
  table.mutable_partition_key()->set_name(std::string(partition_key));
  table.mutable_partition_key()->set_type("S");
  if (!sort_type.empty()) {
    table.mutable_sort_key()->set_name(std::string(sort_key));
    table.mutable_sort_key()->set_type(std::string(sort_type));
  }
  return table;
}

inline void AddLocalIndex(proto::Table* table, std::string_view name, std::string_view key,
                          std::string_view type, std::string_view projection,
                          const std::vector<std::string>& included = {}) {
  proto::LocalIndex* index = table->add_local_indexes();
  index->set_name(std::string(name));
  index->mutable_sort_key()->set_name(std::string(key));
  index->mutable_sort_key()->set_type(std::string(type));
  index->mutable_projection()->set_type(std::string(projection));
  for (const auto& attribute : included) {
    index->mutable_projection()->add_non_key_attributes(attribute);
  }
}

}  // namespace onggi
