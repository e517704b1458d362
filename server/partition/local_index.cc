#include "server/partition/local_index.h"

#include <algorithm>

#include "server/model/attribute_value.h"
#include "server/model/key.h"

namespace onggi::partition {
namespace {

/// Bytes that the service adds to every index entry's stored size.
constexpr uint32_t kWriteUnitBytes = 1024;

uint32_t UnitsFor(size_t bytes) {
  return std::max<uint32_t>(1,
                            static_cast<uint32_t>((bytes + kWriteUnitBytes - 1) / kWriteUnitBytes));
}

}  // namespace

LocalIndexEntry MakeLocalIndexEntry(const TableSchema& schema, const LocalIndex& index,
                                    const model::ItemView& item) {
  LocalIndexEntry entry;
  if (!item.valid()) return entry;
  const model::ValueView sort = item.Find(index.sort_key.name);
  if (!sort.valid()) return entry;
  entry.exists = true;
  model::AppendCollectionPrefix(item.Find(schema.partition_key.name), &entry.key);
  model::AppendTerminated(sort, &entry.key);
  if (schema.sort_key) model::AppendSortKey(item.Find(schema.sort_key->name), &entry.key);
  if (index.projection == ProjectionType::kAll) {
    entry.value = item.encoded();
  } else {
    model::MapBuilder builder;
    for (const std::string& name : index.projected) {
      if (const model::ValueView value = item.Find(name); value.valid()) {
        builder.Add(name, value.encoded());
      }
    }
    builder.FinishItem(&entry.value);
  }
  entry.billed_size = model::ItemView(entry.value).BilledSize();
  return entry;
}

Status CheckIndexKeysAfterUpdate(const TableSchema& schema, const model::ItemView& item) {
  for (const LocalIndex& index : schema.local_indexes) {
    const model::ValueView value = item.Find(index.sort_key.name);
    if (!value.valid()) continue;
    if (value.type() != index.sort_key.type) {
      return InvalidArgument(
          "The update expression attempted to update the secondary index key to unsupported type");
    }
    if (value.type() == model::Type::kNumber) continue;
    const size_t size = value.AsString().size();
    if (size == 0) {
      return InvalidArgument(
          "One or more parameter values are not valid. The update expression attempted to update a "
          "secondary index key to a value that is not supported. The AttributeValue for a key "
          "attribute cannot contain an empty " +
          std::string(value.type() == model::Type::kString ? "string" : "binary") + " value.");
    }
    if (size > model::kMaxSortKeySize) {
      return InvalidArgument(
          "One or more parameter values were invalid: Size of rangekey has exceeded the maximum "
          "size "
          "limit of1024 bytes");
    }
  }
  return Status::Ok();
}

uint32_t IndexWriteUnits(const LocalIndexEntry& before, const LocalIndexEntry& after) {
  if (!before.exists && !after.exists) return 0;
  if (!before.exists) return UnitsFor(after.billed_size);
  if (!after.exists) return UnitsFor(before.billed_size);
  if (before.key != after.key) return UnitsFor(before.billed_size) + UnitsFor(after.billed_size);
  if (before.value == after.value) return 0;
  return UnitsFor(std::max(before.billed_size, after.billed_size));
}

}  // namespace onggi::partition
