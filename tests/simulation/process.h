#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "replication/lease/node_leases.h"
#include "replication/metadata/simulated_store.h"
#include "replication/replica/replica.h"
#include "replication/transport/transport.h"
#include "tests/simulation/disk.h"
#include "tests/simulation/machine.h"
#include "tests/simulation/store_disk.h"
#include "tests/simulation/truth.h"

namespace onggi::simulation {

class Cluster;
struct Node;

/// What goes from node to node.
using Packet = std::variant<transport::GroupMessage, lease::Heartbeat, lease::HeartbeatAck>;

/// One life of a node: everything that a crash takes away. Runs the replicas that its disk has.
///
/// Freed as it crashes; what is still scheduled finds it gone (Alive()).
class Process final : public std::enable_shared_from_this<Process> {
 public:
  Process(Cluster* cluster, Node* node, uint64_t boot);
  ~Process();

  /// Once, after construction.
  void Start();
  void Crash();
  bool alive() const { return alive_; }

  NodeId id() const;
  uint64_t boot() const { return boot_; }
  Truth& truth();
  Disk& disk();
  lease::NodeLeases& leases() { return *leases_; }
  metadata::SimulatedStore& store() { return *store_; }
  std::map<std::string, State>& checkpoints() { return checkpoints_; }

  /// Runs it now, or once the node is no longer paused, if the process still lives.
  void Run(const std::function<void()>& run);
  void Resume();
  void After(Time delay, std::function<void()> run);
  /// In order, soon, if that replica is still hosted.
  void PostTo(PartitionId partition, ReplicaId replica, std::function<void()> run);
  void Post(std::function<void()> run);
  lease::BootTime Now() const;

  // The network's side.
  void Connect(NodeId peer, uint64_t boot);
  void Disconnect(NodeId peer);
  bool ConnectedTo(NodeId peer, uint64_t boot) const;
  uint64_t BootOf(NodeId peer) const;
  void Receive(NodeId from, uint64_t from_boot, Packet packet);
  void Send(NodeId to, Packet packet);

  // Clients, operators and coordinators.
  void Write(const Request& request, Machine::Done done);
  std::optional<Version> StrongRead(const std::string& key);
  Machine* Host(PartitionId partition);
  const std::map<PartitionId, std::unique_ptr<Machine>>& hosts() const { return hosts_; }
  /// node.proto CreateReplica: durable when it returns.
  /// False: there is another one, or the disk did not take it.
  bool CreateReplica(PartitionId partition, ReplicaId replica);
  /// Removes replicas that no key names (any more).
  void CollectGarbage();
  void DropReplica(PartitionId partition);

  // The machines' side.
  /// Where a partition's data ended when it came into being.
  std::string FirstEnd(PartitionId partition);
  /// Is this node's replica frozen by that very entry?
  bool FrozenAt(PartitionId right, LogIndex freeze);
  /// Of a replica of the simulation's own kind.
  const State& StateOf(PartitionId partition);
  void MakeChild(const Operation& split, ReplicaId parent, State state);
  void RemoveLater(PartitionId partition, ReplicaId replica);
  void Changed(PartitionId partition);
  void Say(const std::string& what);
  /// Are the disk's faults such that this error may come of them?
  bool MayFail(const Status& status) const;
  /// Does the disk take anything?
  bool DiskTakes() const;
  /// One whose disk has failed under it begins anew.
  void ReopenLater(PartitionId partition, ReplicaId replica);
  void SetDiskLow(bool low) { disk_low_ = low; }
  /// Something hangs in the air here (Profile::ambushes).
  void Tempting(PartitionId partition);

  struct CheckpointDelivery {
    group::Member to;
    PartitionId partition;
    Epoch epoch;
    LogPosition position;
    State state;
    StoreDisks::Tree files;  ///< of a shipped one
    std::function<void(Status)> done;
  };
  void InstallCheckpoint(CheckpointDelivery delivery);

  // Shipped partitions (Profile::shipped; process_shipped.cc).
  /// Their opening has come to an end.
  void OnStarted(PartitionId partition, ReplicaId replica, const Status& status);
  /// The truth is to see what this replica has applied.
  void Observe(PartitionId partition);
  /// Where its store is; empty: there is none.
  std::string StoreOf(PartitionId partition) const;

  /// Entries of shipped partitions that the truth has seen applied.
  std::map<PartitionId, LogIndex> seen_applied;
  /// Commit indexes that the truth has seen.
  std::map<PartitionId, LogIndex> seen_commits;
  /// Epochs in which the truth has seen it act.
  std::map<PartitionId, Epoch> seen_epochs;

 private:
  class Home;
  class Shipped;
  class Link;
  class Sender;

  void ReadMap();
  void OnMapEntry(PartitionId partition, const group::Configuration& configuration,
                  Revision revision);
  void OnMapDeleted(PartitionId partition, Revision revision);
  void Open(PartitionId partition);
  void Close(PartitionId partition);
  void RemoveLog(PartitionId partition);
  void OnCreate(NodeId from, const transport::GroupMessage& message);
  void Heartbeats();
  void FlushSome();
  void ResignLost();
  bool OnTruncate(PartitionId partition, LogIndex up_to);

  Cluster* const cluster_;
  Node* const node_;
  const uint64_t boot_;
  bool alive_ = true;
  std::atomic<bool> disk_low_{false};
  std::deque<std::function<void()>> paused_;
  Time last_post_{0};

  std::shared_ptr<DiskWriter> log_writer_;
  std::shared_ptr<DiskWriter> configuration_writer_;
  std::shared_ptr<SimulatedLog> log_;
  std::unique_ptr<SimulatedConfigurations> configurations_;
  std::unique_ptr<Shipped> shipped_;
  std::shared_ptr<Home> home_;
  std::unique_ptr<Link> link_;
  std::unique_ptr<Sender> sender_;
  std::shared_ptr<lease::NodeLeases> leases_;
  std::unique_ptr<metadata::SimulatedStore> store_;
  std::unique_ptr<metadata::WatchHandle> watch_;
  std::map<NodeId, uint64_t> connections_;
  std::map<PartitionId, std::pair<group::Configuration, Revision>> map_;
  std::map<PartitionId, std::unique_ptr<Machine>> hosts_;
  /// Closed ones, which something under way may still name.
  std::vector<std::unique_ptr<Machine>> graveyard_;
  std::map<std::string, State> checkpoints_;
  std::map<PartitionId, Time> failed_;  ///< when a replica last failed for its disk
  uint64_t incoming_ = 0;
};

}  // namespace onggi::simulation
