#pragma once

#include <functional>
#include <string>
#include <utility>

#include "replication/checkpoint/checkpoint_service.h"
#include "replication/replica/environment.h"

namespace onggi::node {

/// What replicas see of the node's checkpoint streams.
class CheckpointSender final : public replica::CheckpointSender {
 public:
  /// `service` outlives it.
  explicit CheckpointSender(checkpoint::CheckpointService* service) : service_(service) {}

  void Send(const group::Member& to, TableId table, PartitionId partition, Epoch epoch,
            std::string directory, LogPosition position,
            std::function<void(Status)> done) override {
    checkpoint::CheckpointSource source;
    source.table = table;
    source.partition = partition;
    source.epoch = epoch;
    source.position = position;
    source.directory = std::move(directory);
    service_->Send(to, std::move(source), std::move(done));
  }

 private:
  checkpoint::CheckpointService* const service_;
};

}  // namespace onggi::node
