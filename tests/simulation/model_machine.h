#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "replication/replica/replica.h"
#include "tests/simulation/disk.h"
#include "tests/simulation/machine.h"
#include "tests/simulation/truth.h"

namespace onggi::simulation {

/// Entry types of the simulated state machine; 1 is the replica's own.
inline constexpr uint8_t kOperationEntry = 2;

/// The replicated state machine of the simulation: versions of keys, with splits and merges done as
/// R13 and R14 want them. Its flushed state is the Image on the node's disk.
class ModelMachine final : public Machine, public replica::StateMachine {
 public:
  /// `image`: of this replica, on the node's disk; outlives the machine, or `gone` is called first.
  ModelMachine(Process* process, PartitionId partition, ReplicaId replica, const State& state);

  void Attach(std::shared_ptr<replica::Replica> replica) { replica_ = std::move(replica); }
  /// After Replica::Start.
  void Started();

  const State& state() const { return state_; }

  // Machine.
  replica::Replica& replica() const override { return *replica_; }
  std::shared_ptr<replica::Replica> shared_replica() const override { return replica_; }
  bool removed() const override { return removed_; }
  bool Serves(const std::string& key) const override;
  void Write(const Request& request, Done done) override;
  std::optional<Version> StrongRead(const std::string& key) const override;
  void Split(const std::string& key, PartitionId child,
             std::map<NodeId, ReplicaId> replicas) override;
  std::optional<Cutting> cutting() const override;
  void Freeze() override;
  LogIndex frozen() const override { return state_.frozen; }
  std::optional<Grant> grant() const override { return grant_; }
  void Absorb(PartitionId right, const group::Configuration& right_configuration, LogIndex freeze,
              Revision grant) override;
  std::string Describe() const override;
  void Flush(bool force) override;

  // StateMachine.
  Status Apply(std::span<const replica::CommittedEntry> entries) override;
  Status Recover() override { return Status::Ok(); }
  void OnCommitBlocked(LogIndex) override {}
  void OnApplied() override {}
  void OnReignBegan(Epoch epoch) override;
  void OnReignEnded() override;
  void OnAdmissionChanged(bool serving) override;
  void OnSuffixDropped(LogIndex) override {}
  void OnConfiguration(std::shared_ptr<const group::Configuration> configuration,
                       Revision revision) override;
  void OnRemoved() override;
  void OnFatal(const Status& status) override;
  void OnFrozen(LogIndex index, Revision revision) override;
  void OnThawed() override;
  void OnMergeRefused(PartitionId right) override;
  Result<LogPosition> MakeCheckpoint(const std::string& directory) override;
  void DropCheckpoint(const std::string& directory) override;
  Result<LogPosition> InstallCheckpoint(const std::string& directory) override;

 private:
  struct Pending {
    std::string key;
    uint64_t version;
    uint64_t value;
    Done done;
  };

  Status ApplyOne(const replica::CommittedEntry& entry);
  Status ApplyOperation(const Operation& operation, uint64_t id, LogIndex index);
  /// The state on disk becomes what it is now.
  void FlushState();
  void Holds();
  void Thaw();
  bool busy_with_shape() const {
    return moving_ || freezing_ || absorbing_ || merging_ || state_.split ||
           state_.frozen != LogIndex();
  }
  bool Propose(uint64_t operation, LogPosition* position);
  void Later(std::function<void()> run);
  void MakeChild();
  void FinishShape();
  void FinishAbsorb(LogIndex index);
  void FinishMerge();
  void ThawLater();

  Process* const process_;
  const PartitionId partition_;
  std::shared_ptr<replica::Replica> replica_;
  std::shared_ptr<const group::Configuration> configuration_;
  State state_;
  std::map<LogIndex, Pending> pending_;
  std::map<std::string, std::pair<uint64_t, LogIndex>> latches_;
  bool removed_ = false;
  bool leads_ = false;
  std::optional<std::string> moving_;  ///< keys from here on are about to be split off
  bool freezing_ = false;
  bool thawing_ = false;
  bool absorbing_ = false;
  bool merging_ = false;  ///< the key has grown, the log is about to say so
  Revision right_grant_;
  std::optional<Grant> grant_;
};

}  // namespace onggi::simulation
