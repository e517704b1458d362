#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "replication/replica/replica.h"
#include "tests/simulation/disk.h"

namespace onggi::simulation {

class Process;

/// Answer to a write.
enum class Outcome : uint8_t {
  kOk,
  kRefused,  ///< did not happen and never will (by itself: a retry may)
  kUnknown,
  kFailed,  ///< evaluated, and its condition did not hold: a strong read
};

/// A write. All keep the version of their key, which counts its writes.
struct Request {
  enum class Kind : uint8_t {
    kUpdate,       ///< whatever is there
    kConditional,  ///< if the version is `expected`
    kPutBeside,    ///< another item of the same collection, which has no version
    kDeleteBeside,
  };
  Kind kind = Kind::kUpdate;
  std::string key;
  uint64_t value = 0;  ///< its own: of no other write
  uint64_t expected = 0;
};

/// One replica of a partition, as a process hosts it: over the simulation's own state machine
/// (ModelMachine), or the shipped partition (PartitionMachine).
class Machine {
 public:
  explicit Machine(ReplicaId replica) : replica_id_(replica) {}
  virtual ~Machine() = default;

  ReplicaId replica_id() const { return replica_id_; }
  virtual replica::Replica& replica() const = 0;
  virtual std::shared_ptr<replica::Replica> shared_replica() const = 0;
  virtual bool removed() const = 0;

  // Requests, on the primary.
  virtual bool Serves(const std::string& key) const = 0;  ///< by range, whoever leads
  /// The version after it; of kFailed: the one that it saw, and `value` its value.
  using Done = std::function<void(Outcome, uint64_t version, uint64_t value)>;
  virtual void Write(const Request& request, Done done) = 0;
  virtual std::optional<Version> StrongRead(const std::string& key) const = 0;
  virtual void Split(const std::string& key, PartitionId child,
                     std::map<NodeId, ReplicaId> replicas) = 0;
  /// A split that is applied, and the key does not show yet (as far as it can be told).
  struct Cutting {
    std::string key;
    PartitionId child;
    std::map<group::Member, ReplicaId> child_replicas;
  };
  virtual std::optional<Cutting> cutting() const = 0;
  /// R14: this is the right neighbour.
  virtual void Freeze() = 0;
  virtual LogIndex frozen() const = 0;
  struct Grant {
    LogIndex freeze;
    Revision revision;
  };
  virtual std::optional<Grant> grant() const = 0;
  /// R14: this is the left neighbour; the right one's Freeze and its grant.
  virtual void Absorb(PartitionId right, const group::Configuration& right_configuration,
                      LogIndex freeze, Revision grant) = 0;

  virtual std::string Describe() const = 0;
  /// Has the state reach the disk and the log be cut behind it; `force`: also where others need it.
  virtual void Flush(bool force) = 0;

 private:
  const ReplicaId replica_id_;
};

}  // namespace onggi::simulation
