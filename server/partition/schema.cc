#include "server/partition/schema.h"

#include <algorithm>

#include "common/check.h"

namespace onggi::partition {
namespace {

KeyAttribute FromRecord(const proto::KeyAttribute& record) {
  const auto type = model::TypeFromName(record.type());
  CHECK_MSG(type.has_value(), record.type());
  return {record.name(), *type};
}

}  // namespace

std::shared_ptr<const TableSchema> TableSchema::FromRecord(const proto::Table& record) {
  auto schema = std::make_shared<TableSchema>();
  schema->id = TableId(record.id());
  schema->partition_key = partition::FromRecord(record.partition_key());
  if (record.has_sort_key()) schema->sort_key = partition::FromRecord(record.sort_key());
  for (const proto::LocalIndex& source : record.local_indexes()) {
    LocalIndex index;
    index.name = source.name();
    index.sort_key = partition::FromRecord(source.sort_key());
    const std::string& projection = source.projection().type();
    index.projection = projection == "ALL"         ? ProjectionType::kAll
                       : projection == "KEYS_ONLY" ? ProjectionType::kKeysOnly
                                                   : ProjectionType::kInclude;
    for (const std::string& name : source.projection().non_key_attributes()) {
      index.non_key_attributes.push_back(name);
    }
    index.projected = index.non_key_attributes;
    index.projected.push_back(schema->partition_key.name);
    if (schema->sort_key) index.projected.push_back(schema->sort_key->name);
    index.projected.push_back(index.sort_key.name);
    std::sort(index.projected.begin(), index.projected.end());
    index.projected.erase(std::unique(index.projected.begin(), index.projected.end()),
                          index.projected.end());
    schema->local_indexes.push_back(std::move(index));
  }
  return schema;
}

}  // namespace onggi::partition
