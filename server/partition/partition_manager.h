#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/async_scope.h"
#include "common/proto/node.pb.h"
#include "common/runtime.h"
#include "replication/checkpoint/checkpoint.h"
#include "replication/metadata/metadata_store.h"
#include "replication/transport/transport.h"
#include "server/partition/directory.h"
#include "server/partition/news.h"
#include "server/partition/partition.h"

namespace onggi::partition {

struct ManagerOptions {
  ManagerOptions() {}
  /// The log may take this much on disk; past it, the partitions that hold its oldest entries are
  /// flushed.
  uint64_t log_limit_bytes = uint64_t{256} << 20;
  std::chrono::milliseconds maintenance_interval{1000};
  /// A partition that nobody has asked anything of for this long is closed; 0: never.
  std::chrono::milliseconds idle_close{0};
  /// Partitions of a lost node that are opened at a time to take over.
  size_t max_failover_opens = 16;
};

/// The partitions of this node: follows the partition map, opens lazily, closes what is idle, drops
/// what the map drops, flushes what holds the log back, brings messages of other nodes to replicas,
/// and has them take over from a node that is lost.
///
/// Made and started by main after the log and metadata stores, stopped before them. With other
/// nodes it is the transport's and the checkpoints' handler: their calls may come from Start()
/// until Stop() has returned, and do nothing before and after. The map is guarded by one lock, held
/// shared for a lookup; opening and closing run on each partition's home executor.
class PartitionManager final : public Directory,
                               public transport::MessageHandler,
                               public checkpoint::CheckpointReceiver,
                               private PartitionHost {
 public:
  PartitionManager(const PartitionEnvironment& environment, IoPool* io, ManagerOptions options);
  ~PartitionManager() override;

  /// Reads the map and checks the directories against it: Corruption names what is missing. (With
  /// other nodes such a replica is lost, and the node goes on without.) Blocks.
  Status Start();
  /// Stops and flushes every partition. Not on an I/O thread. Blocks.
  void Stop();

  std::shared_ptr<Partition> TryFind(TableId table, std::string_view key) override;
  boost::asio::awaitable<Result<std::shared_ptr<Partition>>> Find(TableId table,
                                                                  std::string_view key) override;
  /// By number; kNotFound when this node has no replica of it. Opens it.
  boost::asio::awaitable<Result<std::shared_ptr<Partition>>> FindPartition(PartitionId partition);

  /// Every partition of a table that this node has a replica of, opened where needed.
  boost::asio::awaitable<Result<std::vector<std::shared_ptr<Partition>>>> PartitionsOf(
      TableId table);

  size_t open_partitions() const;
  size_t queued_writes() const;

  // -- The commands of node.proto (partition_admin.cc). Errors as written there. --

  /// Blocks on the disk.
  Status CreateReplica(TableId table, PartitionId partition, ReplicaId replica);
  boost::asio::awaitable<Status> DropReplica(TableId table, PartitionId partition,
                                             ReplicaId replica);
  boost::asio::awaitable<Status> TransferPrimary(PartitionId partition, group::Member to,
                                                 SteadyTime deadline);
  boost::asio::awaitable<Status> ReplaceReplica(PartitionId partition, group::Member out,
                                                group::Member in, SteadyTime deadline);
  boost::asio::awaitable<Status> SetReplication(PartitionId partition, uint32_t replication,
                                                SteadyTime deadline);
  boost::asio::awaitable<Status> SplitPartition(TableId table, PartitionId partition,
                                                std::string key, PartitionId child,
                                                std::vector<group::Member> child_replicas,
                                                SteadyTime deadline);
  boost::asio::awaitable<Status> MergePartitions(TableId table, PartitionId left, PartitionId right,
                                                 SteadyTime deadline);
  /// Of one table or (0) all, one partition or (0) all.
  std::vector<proto::ReplicaStatus> GetReplicas(TableId table, PartitionId partition) const;

  // -- transport::MessageHandler (manager_messages.cc). Any thread. --

  void OnMessage(NodeId from, uint64_t boot, transport::GroupMessage message) override;
  void OnNewerConfiguration(NodeId from, lease::NewerConfiguration newer) override;
  void OnPeerConnected(NodeId peer, uint64_t boot) override;
  void OnPeerLost(NodeId peer) override;

  // -- checkpoint::CheckpointReceiver. Any thread. --

  Status Accept(const checkpoint::CheckpointInfo& info) override;
  void Install(checkpoint::CheckpointInfo info, std::function<void(Status)> done) override;

 private:
  using OpenResult = Result<std::shared_ptr<Partition>>;
  using OpenCallback = std::function<void(OpenResult)>;

  /// A replica of this node. Guarded by mutex_.
  struct Slot {
    TableId table;
    PartitionId id;
    ReplicaId replica;  ///< of this node, by the configuration or its directory
    proto::PartitionConfig config;
    Revision revision;
    std::shared_ptr<Partition> partition;  ///< null: closed or opening
    bool opening = false;
    std::shared_ptr<Partition> starting;  ///< while opening: to give up on
    /// The map no longer names it; whoever opens it removes it.
    bool dropped = false;
    /// Named, and not on this disk, or damaged (R9): never opened again.
    bool lost = false;
    /// When it last could not go on, or not be opened, for its disk.
    SteadyTime failed_at;
    std::vector<OpenCallback> waiters;
    /// Tells when the store of the latest Partition has been closed.
    std::shared_ptr<News> closed;
    /// Closed: what it had when it was open here last (figures only); without them if it never was.
    std::optional<proto::ReplicaStatus> figures;
    uint64_t activity = 0;  ///< the partition's count when last looked at
    SteadyTime active_at;
  };
  struct TableEntry {
    std::shared_ptr<const TableSchema> schema;
    bool deleted = false;  ///< its record is gone, its partitions are going
    std::map<std::string, std::shared_ptr<Slot>, std::less<>> slots;  ///< by range start
  };
  using Delivery = std::function<void(replica::Replica&)>;

  // partition_manager.cc: opening and closing.
  std::shared_ptr<Slot> FindSlot(TableId table, std::string_view key,
                                 std::shared_ptr<const TableSchema>* schema) const;
  std::shared_ptr<Slot> FindSlot(PartitionId partition) const;
  boost::asio::awaitable<OpenResult> OpenSlot(std::shared_ptr<Slot> slot);
  void OpenSlot(const std::shared_ptr<Slot>& slot, OpenCallback answer);
  void AnswerWaiters(Slot* slot, const OpenResult& result);
  boost::asio::awaitable<void> RunOpen(std::shared_ptr<Slot> slot, std::shared_ptr<NodeHome> home);
  boost::asio::awaitable<Status> AwaitClosed(std::shared_ptr<News> closed);
  boost::asio::awaitable<void> Maintain();
  void CloseIdle();
  void FlushLater(std::shared_ptr<Partition> partition);
  boost::asio::awaitable<void> StopPartition(std::shared_ptr<Partition> partition, bool dropped);
  const std::shared_ptr<NodeHome>& HomeOf(PartitionId partition) const;

  // partition_admin.cc
  Status MakeReplica(PartitionId partition, ReplicaId replica);
  /// What a merge that was taken a step on waits for: more news of a partition than was seen.
  struct MergeStep {
    std::shared_ptr<Partition> waits_for;
    uint64_t seen = 0;
  };
  boost::asio::awaitable<Status> OnHome(std::shared_ptr<Partition> partition,
                                        std::function<Status(Partition&)> work,
                                        SteadyTime deadline);
  boost::asio::awaitable<Status> StepMerge(std::shared_ptr<Partition> left, PartitionId right,
                                           MergeStep* step, SteadyTime deadline);

  // partition_map.cc: the map, and the directories.
  void OnTables(const metadata::WatchBatch& batch);
  void OnPartitions(const metadata::WatchBatch& batch);
  void PutTable(const metadata::KeyValue& kv);
  void PutPartition(const metadata::KeyValue& kv);
  void Learn(proto::PartitionConfig config, Revision revision);
  void PlaceSlot(const std::shared_ptr<Slot>& slot, const std::string& old_start);
  std::shared_ptr<Slot> TakeSlot(PartitionId partition);
  void DropPartition(PartitionId partition);
  void DropSlot(const std::shared_ptr<Slot>& slot);
  void RemoveLog(PartitionId partition);
  void RemoveLeftLogs();
  void RemoveDirectory(PartitionId partition, ReplicaId replica = ReplicaId());
  void Leave(PartitionId partition, Revision revision);
  Status CheckDirectories(uint64_t next_partition, const std::set<PartitionId>& in_map);
  Status CheckNamed(const std::set<std::string>& present);
  Result<bool> ChildOfUncut(PartitionId partition) const;
  void WatchTables(Revision from);
  void WatchPartitions(Revision from);
  boost::asio::awaitable<void> Resync();

  // manager_messages.cc
  void Deliver(const std::shared_ptr<Partition>& partition, Delivery delivery);
  void ForEachOpen(const std::function<bool(const Slot&)>& wanted, const Delivery& delivery);
  void OnCreate(NodeId from, uint64_t boot, const group::CreateMessage& create, TableId table,
                PartitionId partition);
  void AnswerCreate(const std::shared_ptr<Slot>& slot, const group::CreateMessage& create,
                    NodeId from, uint64_t boot, bool led);
  void Answered(PartitionId partition);
  void TakeOver(NodeId lost);
  boost::asio::awaitable<void> RunTakeOver(std::vector<std::shared_ptr<Slot>> slots, NodeId lost);
  void ResignLost();
  void CheckPrimary(const std::shared_ptr<Partition>& partition);

  // PartitionHost.
  void OnConfiguration(TableId table, PartitionId partition,
                       const KnownConfiguration& known) override;
  void OnReplicaRemoved(TableId table, PartitionId partition) override;
  void OnReplicaFailed(TableId table, PartitionId partition, const Status& status) override;
  void OnChildMade(PartitionId child, ReplicaId replica) override;
  std::shared_ptr<const Partition> FindFrozen(PartitionId partition, LogIndex freeze) override;

  std::string DirectoryOf(PartitionId partition) const;
  bool alone() const { return environment_.transport == nullptr; }

  PartitionEnvironment environment_;
  IoPool* const io_;
  const ManagerOptions options_;
  std::vector<std::shared_ptr<NodeHome>> homes_;
  std::shared_ptr<replica::Log> log_;

  mutable std::shared_mutex mutex_;
  std::unordered_map<TableId, TableEntry> tables_;                     // guarded by mutex_
  std::unordered_map<PartitionId, std::shared_ptr<Slot>> partitions_;  // guarded by mutex_
  bool started_ = false;                                               // guarded by mutex_
  bool stopping_ = false;                                              // guarded by mutex_
  /// On this disk and not named by the map as it is known: replicas that a coordinator has had made
  /// and not named yet, or that were removed while nobody ran. Guarded by mutex_.
  std::map<PartitionId, ReplicaId> unnamed_;
  /// Replicas that are being made. Guarded by mutex_.
  std::set<PartitionId> making_;
  /// New partitions that another node has asked to be made here, from there to the answer. Guarded
  /// by mutex_.
  std::set<PartitionId> answering_;
  /// Partitions that this node left, and the revisions that said so: what is older, in a message
  /// that was long on its way, does not bring them back. The kMaxLeft latest. Guarded by mutex_.
  std::unordered_map<PartitionId, Revision> left_;
  std::deque<PartitionId> left_in_order_;
  /// Of its own, since the log may have to make room for what removes a group.
  std::mutex logs_mutex_;
  /// Dropped partitions whose logs could not be removed yet. Guarded by logs_mutex_.
  std::set<PartitionId> logs_to_remove_;
  /// Messages that are waiting for a partition to open. Guarded by mutex_.
  std::unordered_map<PartitionId, size_t> waiting_messages_;

  /// Tasks on the blocking pool that refer to this object.
  std::atomic<size_t> blocking_tasks_{0};
  AsyncScope scope_;
  std::unique_ptr<metadata::WatchHandle> table_watch_;
  std::unique_ptr<metadata::WatchHandle> partition_watch_;
};

}  // namespace onggi::partition
