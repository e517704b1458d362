#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/dynamodb/error.h"
#include "server/expression/tree.h"
#include "server/expression/update.h"
#include "server/model/key.h"
#include "server/model/value.h"
#include "server/partition/schema.h"

/// Checks of items and keys against a table's schema, in the service's words. All are
/// ValidationExceptions.
namespace onggi::dynamodb {

/// An item's key attributes: views into the item. `sort` is invalid where the table has no sort
/// key.
struct KeyValues {
  model::ValueView partition;
  model::ValueView sort;

  /// The item's key in its partition: see model/key.h. Appends.
  void EncodeTo(std::string* out) const {
    model::AppendCollectionPrefix(partition, out);
    if (sort.valid()) model::AppendSortKey(sort, out);
  }
};

/// One key attribute's value: type ("The provided key element does not match the schema"), not
/// empty, and not too long. `value` may be invalid: absent, which is a mismatch too.
Outcome CheckKeyValue(const partition::KeyAttribute& attribute, model::ValueView value,
                      bool is_partition_key);

/// A Key parameter: exactly the table's key attributes.
Outcome CheckKey(const partition::TableSchema& schema, const model::ItemView& key,
                 KeyValues* values);

/// An item about to be put: it has the table's key attributes, and what it has of index key
/// attributes can stand in the index.
Outcome CheckItem(const partition::TableSchema& schema, const model::ItemView& item,
                  KeyValues* values);

/// No key attribute, of the table or of an index, may be looked into by a path.
Outcome CheckKeyPaths(const partition::TableSchema& schema,
                      const std::vector<expression::AttributeUse>& uses);

/// An update may not write key attributes of the table, nor give key attributes of an index a
/// literal of another type. (What it computes for them is checked against the item, in the
/// partition.)
Outcome CheckUpdateTargets(const partition::TableSchema& schema, const expression::Update& update);

/// "The table does not have the specified index: x" or its number in the schema.
Outcome FindLocalIndex(const partition::TableSchema& schema, std::string_view name, int* index);

}  // namespace onggi::dynamodb
