#include "replication/group/record.h"

#include <utility>

namespace onggi::group {

Member FromRecord(const proto::ReplicaRef& ref) {
  return {NodeId(ref.node()), ReplicaId(ref.replica())};
}

void ToRecord(const Member& member, proto::ReplicaRef* ref) {
  ref->set_node(member.node.value);
  ref->set_replica(member.replica.value);
}

Configuration FromRecord(const proto::PartitionConfig& record) {
  Configuration configuration;
  configuration.epoch = Epoch(record.epoch());
  configuration.primary = FromRecord(record.primary());
  for (const auto& ref : record.in_sync()) configuration.in_sync.push_back(FromRecord(ref));
  for (const auto& ref : record.learners()) configuration.learners.push_back(FromRecord(ref));
  configuration.range_start = record.range_start();
  configuration.range_end = record.range_end();
  configuration.replication = record.replication();
  configuration.min_in_sync = record.min_in_sync();
  configuration.lease_released = record.lease_released();
  configuration.boot = record.boot();
  return configuration;
}

void ToRecord(const Configuration& configuration, proto::PartitionConfig* record) {
  record->set_epoch(configuration.epoch.value);
  ToRecord(configuration.primary, record->mutable_primary());
  record->clear_in_sync();
  for (const Member& member : configuration.in_sync) ToRecord(member, record->add_in_sync());
  record->clear_learners();
  for (const Member& member : configuration.learners) ToRecord(member, record->add_learners());
  record->set_range_start(configuration.range_start);
  record->set_range_end(configuration.range_end);
  record->set_replication(configuration.replication);
  record->set_min_in_sync(configuration.min_in_sync);
  record->set_lease_released(configuration.lease_released);
  record->set_boot(configuration.boot);
}

std::string Encode(TableId table, PartitionId partition, const Configuration& configuration) {
  proto::PartitionConfig record;
  record.set_table(table.value);
  record.set_partition(partition.value);
  return EncodeSwap(std::move(record), configuration);
}

std::string EncodeSwap(proto::PartitionConfig record, const Configuration& configuration) {
  ToRecord(configuration, &record);
  return record.SerializeAsString();
}

Result<proto::PartitionConfig> ParseRecord(std::string_view value) {
  proto::PartitionConfig record;
  if (!record.ParseFromArray(value.data(), static_cast<int>(value.size())))
    return Corruption("the record of a partition cannot be parsed");
  return record;
}

}  // namespace onggi::group
