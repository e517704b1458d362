#pragma once

#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "server/partition/node_home.h"
#include "server/partition/partition.h"
#include "tests/simulation/partition_machine.h"
#include "tests/simulation/process.h"
#include "tests/simulation/shipped_world.h"

namespace onggi::simulation {

/// The replicas' thread. Outlives the process in what is scheduled.
class Process::Home final : public partition::NodeHome, public std::enable_shared_from_this<Home> {
 public:
  /// `io`: of shipped partitions; null: there are none.
  Home(Process* process, boost::asio::io_context* io) : process_(process), io_(io) {}

  Executor executor() const override;
  WallTime WallNow() const override;
  lease::BootTime Now() const override;
  void Post(std::function<void()> task) override;
  void Post(std::shared_ptr<replica::Runnable> target) override;
  void PostAfter(std::chrono::milliseconds delay, std::function<void()> task) override;
  bool Block(std::function<void()> work) override;

  /// The process is about to go: all that waits comes at once, and all timers have run out, so that
  /// what the partitions have under way ends and lets go of them.
  void Die();
  void Gone() { process_ = nullptr; }

 private:
  std::function<void()> Keep(std::function<void()> task);

  Process* process_;
  boost::asio::io_context* const io_;
  bool dying_ = false;
  /// What is scheduled, when partitions may be in it: only here, and not in the schedule, which
  /// outlives them.
  std::map<uint64_t, std::function<void()>> kept_;
  uint64_t last_kept_ = 0;
};

class Process::Link final : public transport::Transport {
 public:
  explicit Link(Process* process) : process_(process) {}
  bool Send(NodeId to, transport::GroupMessage message, uint64_t boot) override;
  bool Connected(NodeId peer) const override { return process_->BootOf(peer) != 0; }
  uint64_t Boot(NodeId peer) const override { return process_->BootOf(peer); }
  void SetPeers(std::map<NodeId, transport::Peer>) override {}

 private:
  Process* const process_;
};

class Process::Sender final : public replica::CheckpointSender {
 public:
  explicit Sender(Process* process) : process_(process) {}
  void Send(const group::Member& to, TableId, PartitionId partition, Epoch epoch,
            std::string directory, LogPosition position, std::function<void(Status)> done) override;

 private:
  Process* const process_;
};

/// The shipped partitions of a process, and what PartitionManager is to them in a node: makes,
/// opens and removes replicas, and knows what is on the disk.
class Process::Shipped final : private partition::PartitionHost {
 public:
  Shipped(Process* process, ShippedWorld* world);
  ~Shipped();

  boost::asio::io_context* io() { return io_; }
  StoreDisks& disks() { return world_->disks(); }
  /// Once the process has its parts.
  void Start(transport::Transport* link, replica::CheckpointSender* sender);
  void Crash();

  bool Create(PartitionId partition, ReplicaId replica);
  /// Once the last one here of the same partition is closed.
  void Open(PartitionId partition, ReplicaId replica, const group::Configuration& configuration,
            Revision revision);
  bool Opens(PartitionId partition) const { return opening_.count(partition) != 0; }
  /// Stops it and removes its files and log.
  void Remove(PartitionId partition);
  /// Stops it, and opens it again.
  void ReopenLater(PartitionId partition, ReplicaId replica);
  /// Files and log of one that is not open.
  void RemoveFiles(PartitionId partition);
  bool closing(PartitionId partition) const;
  bool ChildOfUncut(PartitionId partition) const;
  std::string ReceiveFiles(const StoreDisks::Tree& files);
  void OnStarted(PartitionId partition, ReplicaId replica, const Status& status);

  /// Work from RocksDB's threads.
  bool Foreign() const { return std::this_thread::get_id() != thread_; }
  void AddForeign(std::function<void()> work);
  /// Runs until nothing is ready, and sees what has changed on the disk.
  void Settle();
  std::string StoreOf(PartitionId partition) const;
  /// The log is about to be cut up to there: the store's files must have as much.
  bool MayCut(PartitionId partition, LogIndex up_to);

 private:
  // partition::PartitionHost.
  void OnConfiguration(TableId table, PartitionId partition,
                       const partition::KnownConfiguration& known) override;
  void OnReplicaRemoved(TableId table, PartitionId partition) override;
  void OnReplicaFailed(TableId table, PartitionId partition, const Status& status) override;
  void OnChildMade(PartitionId child, ReplicaId replica) override;
  std::shared_ptr<const partition::Partition> FindFrozen(PartitionId partition,
                                                         LogIndex freeze) override;

  std::string DirectoryOf(PartitionId partition) const;
  PartitionMachine* Find(PartitionId partition) const;
  std::unique_ptr<PartitionMachine> Take(PartitionId partition);
  void Poll();
  void Host();
  void LookAtDisk();

  Process* const process_;
  ShippedWorld* const world_;
  const std::thread::id thread_ = std::this_thread::get_id();
  const std::string root_;
  boost::asio::io_context* const io_;
  partition::PartitionEnvironment* const environment_;
  std::map<PartitionId, std::unique_ptr<PartitionMachine>> opening_;
  /// Being stopped, or stopped and under way somewhere.
  std::vector<std::unique_ptr<PartitionMachine>> removed_;
  std::map<PartitionId, std::shared_ptr<partition::News>> closed_;
  std::mutex mutex_;
  std::vector<std::function<void()>> foreign_;  // guarded by mutex_
  uint64_t changes_ = 0;
  uint64_t received_ = 0;
};

}  // namespace onggi::simulation
