#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/ids.h"
#include "common/status.h"
#include "replication/group/configuration.h"

/// Copies of a partition's state on their way from its primary to a new replica (R9).
namespace onggi::checkpoint {

/// A directory of plain files that nobody changes, and what it holds.
struct CheckpointSource {
  CheckpointSource() {}
  TableId table;
  PartitionId partition;
  Epoch epoch;            ///< of the primary that offers it
  LogPosition position;   ///< the state has every entry up to here
  std::string metadata;   ///< the partition's own, carried as it is; at most 1 MB
  std::string directory;  ///< stays until the transfer is done
};

/// One that has arrived: complete, checked and durable.
struct CheckpointInfo {
  CheckpointInfo() {}
  NodeId from;
  group::Member to;  ///< the replica that is meant
  TableId table;
  PartitionId partition;
  Epoch epoch;
  LogPosition position;
  std::string metadata;
  std::string directory;
  uint64_t bytes = 0;
};

/// Takes checkpoints in: the node's partitions. Any thread; be quick.
class CheckpointReceiver {
 public:
  virtual ~CheckpointReceiver() = default;

  /// Before anything is copied: is there such a replica, and does it want a state as of
  /// `info.position`? An error ends the transfer, and is what the sender hears. `metadata`,
  /// `directory` and `bytes` are not known yet.
  virtual Status Accept(const CheckpointInfo& info) = 0;

  /// `info.directory` is the receiver's now: it moves or removes it, then calls `done`, once, on
  /// any thread. What is left in it afterwards is removed.
  virtual void Install(CheckpointInfo info, std::function<void(Status)> done) = 0;
};

}  // namespace onggi::checkpoint
