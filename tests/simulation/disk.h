#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "replication/replica/environment.h"
#include "tests/simulation/scheduler.h"

namespace onggi::simulation {

struct Version {
  uint64_t version = 0;
  uint64_t value = 0;
};

/// What a replica holds; a copy of it is a flushed state or a checkpoint.
struct State {
  LogPosition applied;
  std::map<std::string, Version> data;
  /// A split that was applied, until the key shows it: `data` has the child's part till then, so
  /// that it is on as many disks as before.
  struct Split {
    LogIndex index;
    uint64_t operation = 0;
  };
  std::optional<Split> split;
  LogIndex frozen;  ///< the Freeze in force; 0: none
  /// Where the data ends, as the log has it.
  std::string end;
  /// A right neighbour's frozen data, kept aside until the log says that it belongs here.
  struct Absorbed {
    LogIndex index;
    uint64_t operation = 0;
    std::map<std::string, Version> data;
  };
  std::optional<Absorbed> absorbed;

  uint64_t Hash() const;
};

/// One replica on a disk.
struct Image {
  ReplicaId replica;
  State state;
  Time made{0};
};

/// A partition's entries on a disk.
struct DiskLog {
  LogPosition before;  ///< the entry before the first
  std::vector<log::Entry> entries;
  /// Entries up to here are known to be the committed ones (or were compared): see Cluster.
  LogIndex compared;

  LogIndex last() const { return LogIndex(before.index.value + entries.size()); }
  Epoch EpochAt(LogIndex index) const;
};

/// What survives a crash of its node.
struct Disk {
  std::map<PartitionId, DiskLog> logs;
  std::map<PartitionId, replica::ConfigurationStore::Known> configurations;
  std::map<PartitionId, Image> images;
  uint64_t wipes = 0;

  void Wipe() {
    logs.clear();
    configurations.clear();
    images.clear();
    ++wipes;
  }
};

/// How the disk behaves, and until when.
struct DiskFaults {
  Time least{microseconds(200)};
  Time most{milliseconds(4)};
  Time hung_until{0};
  Time low_until{0};         ///< below the node's reserve: the watch that looks ahead has seen it
  Time full_until{0};        ///< takes nothing more
  Time unwritable_until{0};  ///< the log's writes fail, and the process ends (R10)
  Time unreadable_until{0};  ///< reads fail, of the log and of stores
  Time store_until{0};       ///< writes of stores fail
  /// What follows from any of these may still come.
  Time ailing_until{0};
};

/// The operations of one process on its disk, in order: the log's (of all partitions, as one
/// sequence), and configurations. Each becomes durable with the next sync; a crash keeps any prefix
/// of what was under way.
class DiskWriter {
 public:
  using Run = std::function<void(std::function<void()>)>;

  /// `run` runs a function in the process, if that still lives; `failed` ends it.
  DiskWriter(Scheduler* scheduler, Random* random, Disk* disk, DiskFaults* faults, Run run,
             std::function<void(PartitionId)> changed, std::function<void()> failed)
      : scheduler_(scheduler),
        random_(random),
        disk_(disk),
        faults_(faults),
        run_(std::move(run)),
        changed_(std::move(changed)),
        failed_(std::move(failed)) {}

  struct Operation {
    enum class Type : uint8_t { kAppend, kDrop, kRemove, kConfiguration, kForget };
    Type type = Type::kAppend;
    PartitionId partition;
    LogIndex from;
    std::vector<log::Entry> entries;
    std::shared_ptr<log::AppendListener> listener;
    replica::ConfigurationStore::Known known;
    std::function<void(Status)> done;
    Status outcome;     ///< that `done` is told
    bool lost = false;  ///< it does not reach the disk
    Time queued{0};
  };

  void Queue(Operation operation);
  /// Everything queued is durable now. False: the disk fails.
  bool Flush();
  bool full() const { return scheduler_->now() < faults_->full_until; }
  bool unreadable() const { return scheduler_->now() < faults_->unreadable_until; }
  /// Of a write that failed: may it have happened all the same?
  bool Perhaps() { return random_->Chance(500); }
  /// The process is gone: any prefix of what is queued stays; the last may be torn.
  void Crash();
  /// Since when the oldest operation waits; nullopt: none does.
  std::optional<Time> oldest() const;
  /// The last index of a partition, with what is queued.
  LogIndex QueuedLast(PartitionId partition) const;
  bool crashed() const { return crashed_; }
  Disk& disk() { return *disk_; }

 private:
  bool unwritable() const { return scheduler_->now() < faults_->unwritable_until; }
  void Do(const Operation& operation, size_t entries);
  void Sync();
  void Finish(size_t operations);

  Scheduler* const scheduler_;
  Random* const random_;
  Disk* const disk_;
  DiskFaults* const faults_;
  const Run run_;
  const std::function<void(PartitionId)> changed_;
  const std::function<void()> failed_;
  std::deque<Operation> queue_;
  bool syncing_ = false;
  bool crashed_ = false;
  uint64_t flushes_ = 0;
  const std::shared_ptr<int> alive_ = std::make_shared<int>();
};

/// The node's log, to a replica.
class SimulatedLog final : public replica::Log {
 public:
  /// `cut`: may it be cut up to there? What is asked after the crash fails.
  SimulatedLog(std::shared_ptr<DiskWriter> writer, std::function<bool(PartitionId, LogIndex)> cut)
      : writer_(std::move(writer)), cut_(std::move(cut)) {}
  Status Append(PartitionId partition, std::span<const log::EntryView> entries,
                std::shared_ptr<log::AppendListener> listener) override;
  Result<std::vector<log::Entry>> Read(PartitionId partition, LogIndex from,
                                       size_t max_bytes) const override;
  LogIndex FirstIndex(PartitionId partition) const override;
  LogIndex LastIndex(PartitionId partition) const override;
  Epoch EpochAt(PartitionId partition, LogIndex index) const override;
  void Truncate(PartitionId partition, LogIndex up_to) override;
  Status DropSuffix(PartitionId partition, LogIndex from) override;
  Status RemoveGroup(PartitionId partition) override;
  Status Flush() override;

 private:
  const std::shared_ptr<DiskWriter> writer_;
  const std::function<bool(PartitionId, LogIndex)> cut_;
};

class SimulatedConfigurations final : public replica::ConfigurationStore {
 public:
  explicit SimulatedConfigurations(std::shared_ptr<DiskWriter> writer)
      : writer_(std::move(writer)) {}
  std::optional<Known> Find(PartitionId partition) const override;
  void AsyncPut(PartitionId partition, const group::Configuration& configuration, Revision revision,
                std::function<void(Status)> done) override;
  void AsyncRemove(PartitionId partition) override;

 private:
  const std::shared_ptr<DiskWriter> writer_;
};

}  // namespace onggi::simulation
