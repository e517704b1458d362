#pragma once

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/metrics.h"
#include "coordinator/coordinator.h"
#include "tests/simulation/cluster.h"

namespace onggi::simulation {

/// The shipped coordinators over the simulated cluster, in place of Jobs: in virtual time, each
/// with its own connection to the metadata store, and with commands to the nodes that take a while,
/// get lost either way, or are carried out while their coordinator has long been cut off.
///
/// The nodes' registry, liveness keys and load reports are made here; what load there is, is
/// invented, so that partitions split and merge.
class Coordinators {
 public:
  Coordinators(Cluster* cluster, size_t candidates);
  ~Coordinators();

  /// After every step of the schedule.
  void Step() {
    io_->restart();
    io_->poll();
  }
  /// A node has begun another life, or ended one.
  void Started(const Node& node);
  void Crashed(const Node& node);
  /// Cuts one of them off, or joins it again; or loses what it says or hears.
  void Disturb();
  /// Another load of some partition, which may make it split, or merge with its neighbour.
  void ChangeLoad();
  /// Their table is to have another number of replicas.
  void ChangeReplication();
  /// What it is to have by now.
  uint32_t replication() const { return replication_; }
  /// Everybody is joined, and no load asks for anything.
  void Quiet();
  std::string Describe() const;

 private:
  class SimulatedTimers;
  class SimulatedClock;
  class Client;
  class PatientStore;
  struct Candidate;
  struct Load {
    double units = 0;
    std::string split_key;
  };

  void Put(std::string key, std::string value);
  void PutTable(uint32_t replication);
  void Report();
  proto::ReportLoadRequest ReportOf(const Node& node);

  Cluster* const cluster_;
  boost::asio::io_context* const io_;
  const std::unique_ptr<SimulatedTimers> timers_;
  const std::unique_ptr<SimulatedClock> clock_;
  std::vector<std::unique_ptr<Candidate>> candidates_;
  std::map<PartitionId, Load> loads_;
  uint64_t sequence_ = 0;
  uint32_t replication_ = 0;
  bool quiet_ = false;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace onggi::simulation
