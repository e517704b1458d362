#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "replication/metadata/simulated_store.h"
#include "tests/simulation/process.h"
#include "tests/simulation/scheduler.h"

namespace onggi::simulation {

class Coordinators;
class Jobs;
class ShippedWorld;

/// A machine: what crashes do not change.
struct Node {
  NodeId id;
  Disk disk;
  DiskFaults disk_faults;
  double clock_rate = 1;
  Time clock_offset{0};
  Time paused_until{0};
  bool metadata_cut = false;
  std::shared_ptr<Process> process;  ///< null: it is down
  uint64_t lives = 0;

  bool paused(Time now) const { return now < paused_until; }
};

/// What a run is like. Drawn from its seed, or set by a scenario.
struct Profile {
  size_t nodes = 3;
  uint32_t replication = 3;
  size_t partitions = 1;
  Time chaos{seconds(12)};
  /// Per thousand of messages.
  uint64_t drop = 0;
  uint64_t duplicate = 0;
  Time least_delay{microseconds(100)};
  Time most_delay{milliseconds(2)};
  /// Between two faults of a kind, on average; 0: none of them.
  Time crashes{0};
  Time pauses{0};
  Time cuts{0};
  Time hangs{0};
  Time fulls{0};     ///< of disks
  Time failures{0};  ///< of disks, to write or to read
  Time metadata_cuts{0};
  Time wipes{0};
  Time transfers{0};
  Time moves{0};
  Time replications{0};
  Time splits{0};
  Time merges{0};
  Time everybody_down{0};
  /// Per thousand moments at which something hangs in the air (a swap asked for, a reign begun, a
  /// checkpoint installed, a shape changed): right then something breaks.
  uint64_t ambushes = 0;
  /// Per thousand messages: kept for up to kStray, and delivered to whoever is there then.
  uint64_t strays = 0;
  /// Links also lose only heartbeats, or everything else.
  bool thin_links = false;
  /// Appends are cut into parts of so much payload.
  size_t message_bytes = 1024;
  /// Replicas are the shipped partitions, over RocksDB; else the simulation's own state machine.
  bool shipped = false;
  /// The shipped coordinators, so many, look after the partitions; 0: Jobs does.
  size_t coordinators = 0;
  metadata::SimulatedFaults metadata;
  Time between_requests{milliseconds(5)};  ///< 0: no clients

  /// `generation`: a seed that is written down is drawn as when it was found.
  static Profile Draw(Random* random, int generation);
  static constexpr int kGeneration = 5;
  /// In one seed of so many the partitions are the shipped ones, from generation 4 on.
  static constexpr uint64_t kShippedShare = 4;
  static bool IsShipped(uint64_t seed) { return seed % kShippedShare == 0; }
};

/// A cluster in a bottle: nodes, network, metadata store, clients and somebody who breaks them, all
/// from one seed. After every step it looks whether what replication.md promises still holds.
class Cluster {
 public:
  Cluster(uint64_t seed, Profile profile);
  explicit Cluster(uint64_t seed, int generation = Profile::kGeneration);
  ~Cluster();

  /// The whole run: chaos, healing, last checks. What went wrong, or nothing.
  std::string Run();

  // For directed scenarios.
  void Begin();
  /// Runs for this long, or until something is wrong or `until` says so.
  bool RunFor(Time time, const std::function<bool()>& until = {});
  void CrashNode(NodeId node);
  void StartNode(NodeId node);
  void Pause(NodeId node, Time time);
  void Unpause(NodeId node);
  void Cut(NodeId from, NodeId to, bool cut);
  void Isolate(NodeId node, bool cut);
  void CutMetadata(NodeId node, bool cut);
  std::string Finish();
  /// The machine of the replica that the key names as the primary; null while it does not lead.
  Machine* Primary(PartitionId partition);
  std::optional<group::Configuration> Key(PartitionId partition, Revision* revision = nullptr);
  std::vector<PartitionId> Partitions();
  Process* ProcessOf(NodeId node);

  Scheduler& scheduler() { return scheduler_; }
  Executors& executors() { return executors_; }
  Random& random() { return random_; }
  Truth& truth() { return truth_; }
  const Profile& profile() const { return profile_; }
  metadata::SimulatedCluster& metadata() { return *metadata_; }
  Node& node(NodeId id) { return *nodes_.at(id.value - 1); }
  std::vector<std::unique_ptr<Node>>& nodes() { return nodes_; }
  void Transmit(NodeId from, uint64_t boot, NodeId to, Packet packet);
  bool Reaches(NodeId from, NodeId to) const { return cuts_.count({from, to}) == 0; }
  std::shared_ptr<metadata::SimulatedCluster> shared_metadata() { return metadata_; }
  void AfterStep(Process* process);
  /// One of the moments of Profile::ambushes, on that node.
  void Ambush(NodeId node, PartitionId partition);
  /// Is what `node` says of itself true of its disk (R1)?
  void CheckSaid(Process* process, const transport::GroupMessage& message);
  void Touch(PartitionId partition) { touched_.insert(partition); }
  ReplicaId NextReplica() { return ReplicaId(++replicas_); }
  PartitionId NextPartition() { return PartitionId(++partition_ids_); }
  /// A swap that may take effect as long as the key is at `expected`.
  void Asked(PartitionId partition, Revision expected, const group::Configuration& configuration);
  const std::string& FirstEnd(PartitionId partition) { return first_ends_[partition]; }
  void SetFirstEnd(PartitionId partition, const std::string& end) { first_ends_[partition] = end; }
  /// What else is lost on the way.
  std::function<bool(NodeId from, NodeId to, const Packet& packet)> drop_if;
  /// A swap of that node is answered "outcome unknown" and done so much later.
  std::function<std::optional<Time>(NodeId node, const metadata::Transaction& transaction)> late_if;
  /// Writes by a scenario: at that node.
  bool Write(NodeId node, const std::string& key);
  /// What shipped partitions stand on; null: there are none.
  ShippedWorld* world() { return world_.get(); }
  /// Entries that a shipped replica has applied, and what it holds then.
  void Observe(Process* process, PartitionId partition, Machine* machine);
  /// Those up to `applied` alone, from the log on its disk; false if none is new, or one is wrong.
  bool Observe(Process* process, PartitionId partition, LogIndex applied);
  /// A node's log was not written: its process ends.
  void DiskFailed(NodeId node);
  /// A node whose disk was cut off in the middle of something ends there.
  void PowerLost(NodeId node);
  /// Where a split may be asked for.
  std::string SomeCut();
  /// Of all that has happened: the same seed has the same.
  uint64_t course() const {
    return truth_.course() ^ steps_ * 0x9E3779B97F4A7C15ull ^
           static_cast<uint64_t>(scheduler_.now().count());
  }
  /// Asks everybody, as clients do.
  void OneRead(const std::string& key);
  /// Somebody sees a partition in the map, or sees it gone.
  void Seen(PartitionId partition) {
    if (seen_.insert(partition).second && partition.value > profile_.partitions)
      truth_.CountSplit();
  }
  void Deleted(PartitionId partition) {
    if (deleted_.insert(partition).second) truth_.CountMerge();
  }
  bool verbose = false;
  void Say(const std::string& what);

  uint64_t steps() const { return steps_; }
  /// That the coordinators have begun, as far as the catalog still has them.
  uint64_t jobs() const;

 private:
  struct Swap {
    Revision expected;
    group::Configuration configuration;
  };

  void MakePartitions();
  void Every(Time mean, void (Cluster::*what)());
  void Dial();
  void Client();
  void OneWrite(int attempt, const std::string& key);
  struct Retried;
  void OneRetriedWrite(const std::string& key);
  void Try(const std::shared_ptr<Retried>& write);
  void TryLater(const std::shared_ptr<Retried>& write);
  void CompareContents();
  void Repair();
  void Transfer();
  void Move();
  void ChangeReplication();
  void DisturbCoordinators();
  void Split();
  void Merge();
  std::string Describe();
  void CrashSomebody();
  void PauseSomebody();
  void CutSomething();
  void HangSomebody();
  void FillSomebody();
  void FailSomebody();
  void FillFor(NodeId node, Time time);
  void FailFor(NodeId node, Time time);
  /// Has the node see what its disk is like, now and then.
  void SetDiskFaults(NodeId node, Time time);
  void ShowDiskFaults(NodeId node);
  void CutMetadataSomewhere();
  void Spring(NodeId node, PartitionId partition);
  void CrashFor(NodeId node, Time down);
  void IsolateFor(NodeId node, Time time);
  void CutMetadataFor(NodeId node, Time time);
  void ThinFor(NodeId a, NodeId b, Time time);
  void WipeSomebody();
  void CrashEverybody();
  void Check();
  void CheckPartition(PartitionId partition);
  void CheckReaders(Process* process, PartitionId partition, Machine* machine);
  bool Whole();
  void CheckMember(PartitionId partition, const group::Member& member);
  void Heal();

  std::unique_ptr<ShippedWorld> world_;  ///< first: it outlives all that may name it
  Executors executors_;                  ///< and they what is in the schedule
  const uint64_t seed_;
  Random random_;
  Scheduler scheduler_;
  Profile profile_;
  Truth truth_;
  std::shared_ptr<metadata::SimulatedCluster> metadata_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::set<std::pair<NodeId, NodeId>> cuts_;
  /// Links that lose heartbeats (true) or everything else (false).
  std::map<std::pair<NodeId, NodeId>, bool> thin_;
  std::map<PartitionId, std::vector<Swap>> swaps_;
  std::set<PartitionId> touched_;
  std::set<PartitionId> seen_;
  std::set<PartitionId> deleted_;
  std::vector<std::string> keys_;
  std::map<PartitionId, std::string> first_ends_;
  uint64_t replicas_ = 100;
  uint64_t partition_ids_ = 0;
  uint64_t values_ = 0;
  uint64_t steps_ = 0;
  bool calm_ = false;   ///< no more faults
  bool quiet_ = false;  ///< no more jobs
  std::unique_ptr<Jobs> jobs_;
  std::unique_ptr<Coordinators> coordinators_;
};

}  // namespace onggi::simulation
