#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"
#include "server/model/value.h"

/// Keys: the byte strings by which items are ordered in a partition.
///
/// An item's key is hash(8 bytes, big-endian xxh3-64 of the partition key's payload), the partition
/// key escaped and terminated so that no key is another's prefix, and the sort key in an
/// order-preserving form. Byte order is DynamoDB order within a partition key: numbers by value,
/// strings by UTF-8 bytes, binary by unsigned bytes.
namespace onggi::model {

/// Smallest and largest sizes of key attributes, in bytes.
inline constexpr size_t kMaxPartitionKeySize = 2048;
inline constexpr size_t kMaxSortKeySize = 1024;

/// The 64-bit hash of a partition key value: where in a table's key space its collection lives.
uint64_t HashPartitionKey(ValueView partition_key);

/// Appends the 8-byte hash and the escaped partition key: the prefix of the whole item collection.
void AppendCollectionPrefix(ValueView partition_key, std::string* out);

/// Appends a sort key in its last place: order-preserving, not terminated.
void AppendSortKey(ValueView sort_key, std::string* out);

/// Appends a key part that others follow (the index sort key of a local index): escaped and
/// terminated, order-preserving, prefix-free.
void AppendTerminated(ValueView value, std::string* out);

/// hash + partition key + sort key (sort_key invalid where the table has none).
std::string EncodeKey(ValueView partition_key, ValueView sort_key);

}  // namespace onggi::model
