#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "replication/group/configuration.h"
#include "replication/log/log_store.h"

/// What a Replica stands on: each part is an interface, so that the simulator runs the very same
/// Replica under virtual time, in one thread, with disks and links that fail.
namespace onggi::replica {

/// CLOCK_BOOTTIME of this node (a suspended machine's leases go on running out).
using BootTime = std::chrono::nanoseconds;

/// A shared object with one thing to do on its home: posting it allocates nothing of its own.
class Runnable {
 public:
  virtual ~Runnable() = default;
  virtual void Run() = 0;
};

/// The single thread that owns a replica, with its clock and timers, and threads that may block.
class Home {
 public:
  virtual ~Home() = default;

  /// Any thread.
  virtual BootTime Now() const = 0;

  /// Runs the task on the home, later, in order of posting. Any thread.
  virtual void Post(std::function<void()> task) = 0;
  virtual void Post(std::shared_ptr<Runnable> target) = 0;

  /// Runs the task on the home once `delay` has passed. It cannot be cancelled: it looks whether it
  /// still has a point. Called on the home.
  virtual void PostAfter(std::chrono::milliseconds delay, std::function<void()> task) = 0;

  /// Runs `work` where it may block on the disk. False, and it is dropped, when the queue is full.
  /// Any thread.
  [[nodiscard]] virtual bool Block(std::function<void()> work) = 0;
};

/// The node's log store as a replica uses it. Contracts and errors as in log::LogStore. Listeners
/// may be called on any thread, but never from within Append.
class Log {
 public:
  virtual ~Log() = default;
  virtual Status Append(PartitionId partition, std::span<const log::EntryView> entries,
                        std::shared_ptr<log::AppendListener> listener) = 0;
  /// On threads that may block.
  virtual Result<std::vector<log::Entry>> Read(PartitionId partition, LogIndex from,
                                               size_t max_bytes) const = 0;
  virtual LogIndex FirstIndex(PartitionId partition) const = 0;
  virtual LogIndex LastIndex(PartitionId partition) const = 0;
  virtual Epoch EpochAt(PartitionId partition, LogIndex index) const = 0;
  virtual void Truncate(PartitionId partition, LogIndex up_to) = 0;
  virtual Status DropSuffix(PartitionId partition, LogIndex from) = 0;
  virtual Status RemoveGroup(PartitionId partition) = 0;
  /// On threads that may block.
  virtual Status Flush() = 0;
};

/// The real log.
class StoreLog final : public Log {
 public:
  /// `store` outlives it.
  explicit StoreLog(log::LogStore* store) : store_(store) {}
  Status Append(PartitionId partition, std::span<const log::EntryView> entries,
                std::shared_ptr<log::AppendListener> listener) override {
    return store_->Append(partition, entries, std::move(listener));
  }
  Result<std::vector<log::Entry>> Read(PartitionId partition, LogIndex from,
                                       size_t max_bytes) const override {
    return store_->Read(partition, from, max_bytes);
  }
  LogIndex FirstIndex(PartitionId partition) const override {
    return store_->FirstIndex(partition);
  }
  LogIndex LastIndex(PartitionId partition) const override { return store_->LastIndex(partition); }
  Epoch EpochAt(PartitionId partition, LogIndex index) const override {
    return store_->EpochAt(partition, index);
  }
  void Truncate(PartitionId partition, LogIndex up_to) override {
    store_->Truncate(partition, up_to);
  }
  Status DropSuffix(PartitionId partition, LogIndex from) override {
    return store_->DropSuffix(partition, from);
  }
  Status RemoveGroup(PartitionId partition) override { return store_->RemoveGroup(partition); }
  Status Flush() override { return store_->Flush(); }

 private:
  log::LogStore* const store_;
};

/// Where a replica keeps the newest configuration that it knows, on its own disk (R1): durable
/// before any message, acknowledgement or entry of the epoch.
class ConfigurationStore {
 public:
  struct Known {
    group::Configuration configuration;
    Revision revision;
  };
  virtual ~ConfigurationStore() = default;

  /// What was last made durable; nullopt: nothing. Any thread.
  virtual std::optional<Known> Find(PartitionId partition) const = 0;
  /// Makes it durable, then calls `done`, on any thread, never from within the call. Of several for
  /// one partition the last wins. On an error nothing is known to be durable: ask again.
  virtual void AsyncPut(PartitionId partition, const group::Configuration& configuration,
                        Revision revision, std::function<void(Status)> done) = 0;
  /// Forgets a partition whose replica has gone from this node. Durable some time.
  virtual void AsyncRemove(PartitionId partition) = 0;
};

/// Streams checkpoints to other nodes (R9).
class CheckpointSender {
 public:
  virtual ~CheckpointSender() = default;

  /// Streams the files of `directory`, the state at `position`, to `to`'s replica, and calls `done`
  /// once it has installed them (or, with the reason, has not), on any thread, never from within
  /// the call. The directory is the caller's, and stays until then.
  virtual void Send(const group::Member& to, TableId table, PartitionId partition, Epoch epoch,
                    std::string directory, LogPosition position,
                    std::function<void(Status)> done) = 0;
};

}  // namespace onggi::replica
