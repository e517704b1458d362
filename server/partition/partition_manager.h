#pragma once

#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/async_scope.h"
#include "common/runtime.h"
#include "replication/metadata/metadata_store.h"
#include "server/partition/directory.h"
#include "server/partition/partition.h"

namespace onggi::partition {

struct ManagerOptions {
  ManagerOptions() {}
  /// The log may take this much on disk; past it, the partitions that hold its oldest entries are
  /// flushed.
  uint64_t log_limit_bytes = uint64_t{256} << 20;
  std::chrono::milliseconds maintenance_interval{1000};
};

/// The partitions of this node: follows the partition map, opens lazily, drops what the map drops,
/// flushes what holds the log back.
///
/// Made and started by main after the log and metadata stores, stopped before them. The map is
/// guarded by one lock, held shared for a lookup; opening and closing run on each partition's home
/// executor.
class PartitionManager final : public Directory {
 public:
  PartitionManager(const PartitionEnvironment& environment, IoPool* io, ManagerOptions options);
  ~PartitionManager() override;

  /// Reads the map and checks the directories against it: Corruption names what is missing. Blocks.
  Status Start();
  /// Stops and flushes every partition. Not on an I/O thread. Blocks.
  void Stop();

  std::shared_ptr<Partition> TryFind(TableId table, std::string_view key) override;
  boost::asio::awaitable<Result<std::shared_ptr<Partition>>> Find(TableId table,
                                                                  std::string_view key) override;

  /// Every partition of a table that is open, or with `open_all` every one, opened where needed.
  boost::asio::awaitable<Result<std::vector<std::shared_ptr<Partition>>>> PartitionsOf(
      TableId table);

  size_t open_partitions() const;
  size_t queued_writes() const;

 private:
  using OpenResult = Result<std::shared_ptr<Partition>>;
  using OpenCallback = std::function<void(OpenResult)>;

  struct Slot {
    proto::PartitionConfig config;
    Revision revision;
    std::shared_ptr<Partition> partition;  ///< null: closed or opening
    bool opening = false;
    std::shared_ptr<Partition> starting;  ///< while opening: to give up on
    /// The map no longer names it; whoever opens it removes it.
    bool dropped = false;
    std::vector<OpenCallback> waiters;
  };
  struct TableEntry {
    std::shared_ptr<const TableSchema> schema;
    std::map<std::string, std::shared_ptr<Slot>, std::less<>> slots;  ///< by range start
  };

  void OnTables(const metadata::WatchBatch& batch);
  void OnPartitions(const metadata::WatchBatch& batch);
  void PutTable(const metadata::KeyValue& kv);
  void PutPartition(const metadata::KeyValue& kv);
  void DropPartition(TableId table, PartitionId partition);
  void RemoveLog(PartitionId partition);
  std::shared_ptr<Slot> FindSlot(TableId table, std::string_view key,
                                 std::shared_ptr<const TableSchema>* schema);
  boost::asio::awaitable<OpenResult> OpenSlot(std::shared_ptr<Slot> slot,
                                              std::shared_ptr<const TableSchema> schema);
  boost::asio::awaitable<void> RunOpen(std::shared_ptr<Slot> slot,
                                       std::shared_ptr<const TableSchema> schema,
                                       IoPool::Executor home);
  boost::asio::awaitable<void> Maintain();
  void FlushLater(std::shared_ptr<Partition> partition);
  boost::asio::awaitable<void> StopPartition(std::shared_ptr<Partition> partition, bool dropped);
  IoPool::Executor HomeOf(PartitionId partition);
  Status CheckDirectories(uint64_t next_partition);
  void RemoveDirectory(PartitionId partition);

  const PartitionEnvironment& environment_;
  IoPool* const io_;
  const ManagerOptions options_;

  mutable std::shared_mutex mutex_;
  std::unordered_map<TableId, TableEntry> tables_;  // guarded by mutex_
  bool stopping_ = false;                           // guarded by mutex_
  /// Dropped partitions whose logs could not be removed yet. Guarded by mutex_.
  std::vector<PartitionId> logs_to_remove_;

  AsyncScope scope_;
  std::unique_ptr<metadata::WatchHandle> table_watch_;
  std::unique_ptr<metadata::WatchHandle> partition_watch_;
};

}  // namespace onggi::partition
