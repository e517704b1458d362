#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/model/value.h"
#include "server/partition/schema.h"

namespace onggi::partition {

/// The entry that an item has in a local index.
struct LocalIndexEntry {
  bool exists = false;  ///< items without the index's sort key have none (sparse index)
  std::string key;      ///< collection prefix, index sort key, table sort key
  std::string value;    ///< the projected attributes, an item in stored form
  size_t billed_size = 0;
};

/// `item` invalid: no entry. The item's index key, if any, has the schema's type (CheckIndexKeys).
LocalIndexEntry MakeLocalIndexEntry(const TableSchema& schema, const LocalIndex& index,
                                    const model::ItemView& item);

/// InvalidArgument, in the service's words for an update, when an attribute of the new item that is
/// an index key has a wrong type, is empty or too long.
Status CheckIndexKeysAfterUpdate(const TableSchema& schema, const model::ItemView& item);

/// Write units that moving from one entry to the other costs: nothing when they are the same; a
/// delete and a put when the key changes; else one write of the larger (1 KB units).
uint32_t IndexWriteUnits(const LocalIndexEntry& before, const LocalIndexEntry& after);

}  // namespace onggi::partition
