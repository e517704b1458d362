#pragma once

#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "server/partition/partition.h"
#include "tests/simulation/machine.h"
#include "tests/simulation/shipped_world.h"

namespace onggi::simulation {

/// A replica over the shipped partition, whose writes take the way that those of a node's API take.
class PartitionMachine final : public Machine {
 public:
  PartitionMachine(Process* process, const partition::PartitionEnvironment& environment,
                   partition::PartitionPlace place,
                   std::shared_ptr<const partition::TableSchema> schema, PartitionId id,
                   const group::Configuration& configuration, Revision revision);

  /// Opens it. It is hosted as soon as it has its replica.
  void Start(boost::asio::io_context* io);
  bool HasReplica() const { return partition_->replica() != nullptr; }
  const std::shared_ptr<partition::Partition>& partition() const { return partition_; }
  void SetRemoved() { removed_ = true; }

  /// Of the items that it holds, with the range that this is about; nullopt: it may not be read.
  struct Held {
    std::string start, end;
    uint64_t hash = 0;
  };
  std::optional<Held> Hold() const;

  // Machine.
  replica::Replica& replica() const override { return *partition_->replica(); }
  std::shared_ptr<replica::Replica> shared_replica() const override {
    return replica().shared_from_this();
  }
  bool removed() const override { return removed_; }
  bool Serves(const std::string& key) const override;
  void Write(const Request& request, Done done) override;
  std::optional<Version> StrongRead(const std::string& key) const override;
  void Split(const std::string& key, PartitionId child,
             std::map<NodeId, ReplicaId> replicas) override;
  std::optional<Cutting> cutting() const override { return std::nullopt; }
  void Freeze() override;
  LogIndex frozen() const override { return partition_->frozen_at(); }
  std::optional<Grant> grant() const override;
  void Absorb(PartitionId right, const group::Configuration& right_configuration, LogIndex freeze,
              Revision grant) override;
  std::string Describe() const override;
  void Flush(bool force) override;

 private:
  Process* const process_;
  const std::shared_ptr<partition::NodeHome> home_;
  boost::asio::io_context* io_ = nullptr;
  std::shared_ptr<partition::Partition> partition_;
  bool removed_ = false;
};

}  // namespace onggi::simulation
