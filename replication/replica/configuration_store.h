#pragma once

#include <memory>
#include <string>

#include "replication/metadata/embedded_store.h"
#include "replication/replica/environment.h"

namespace onggi::replica {

/// The configurations that a node's replicas know, in one small database: what many replicas learn
/// at once (a node has died) shares a sync.
///
/// Made before the first replica, destroyed after the last. Thread-safe. Key: the partition's id,
/// 16 hexadecimal digits; value: revision (8 bytes, little-endian) and proto::PartitionConfig.
class DiskConfigurationStore final : public ConfigurationStore {
 public:
  /// Opens or makes it, and reads it whole. Errors as EmbeddedStore::Open.
  static Result<std::unique_ptr<DiskConfigurationStore>> Open(const std::string& directory);
  ~DiskConfigurationStore() override;

  std::optional<Known> Find(PartitionId partition) const override;
  void AsyncPut(PartitionId partition, const group::Configuration& configuration, Revision revision,
                std::function<void(Status)> done) override;
  void AsyncRemove(PartitionId partition) override;

  /// Answers what is pending and stops.
  void Close();

 private:
  class Impl;
  explicit DiskConfigurationStore(std::shared_ptr<Impl> impl);
  const std::shared_ptr<Impl> impl_;
};

}  // namespace onggi::replica
