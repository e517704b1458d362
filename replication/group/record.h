#pragma once

#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/status.h"
#include "replication/group/configuration.h"

/// The partition's metadata key: group::Configuration and proto::PartitionConfig say the same, but
/// for table and partition, which only the record has.
namespace onggi::group {

Member FromRecord(const proto::ReplicaRef& ref);
void ToRecord(const Member& member, proto::ReplicaRef* ref);

Configuration FromRecord(const proto::PartitionConfig& record);
/// Replaces all that a configuration says; table and partition stay as they are.
void ToRecord(const Configuration& configuration, proto::PartitionConfig* record);

/// The value of the key of a partition.
std::string Encode(TableId table, PartitionId partition, const Configuration& configuration);

/// The value that follows `record`, the key as it was read: `configuration` in its place.
std::string EncodeSwap(proto::PartitionConfig record, const Configuration& configuration);

/// kCorruption for bytes that are no record.
Result<proto::PartitionConfig> ParseRecord(std::string_view value);

}  // namespace onggi::group
