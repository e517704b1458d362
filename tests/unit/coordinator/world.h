#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/metrics.h"
#include "coordinator/coordinator.h"
#include "replication/metadata/simulated_store.h"
#include "tests/unit/coordinator/nodes.h"

namespace onggi::coordinator {

/// A store that counts the requests through it, and calls back before each.
class CountingStore : public metadata::MetadataStore {
 public:
  explicit CountingStore(metadata::MetadataStore& base) : base_(base) {}
  std::function<void()> before;

  void AsyncRange(std::string start, std::string end, size_t limit,
                  RangeCallback callback) override {
    if (before) before();
    base_.AsyncRange(std::move(start), std::move(end), limit, std::move(callback));
  }
  void AsyncCommit(metadata::Transaction transaction, TransactionCallback callback) override {
    if (before) before();
    base_.AsyncCommit(std::move(transaction), std::move(callback));
  }
  std::unique_ptr<metadata::WatchHandle> Watch(std::string prefix, Revision from,
                                               asio::any_io_executor executor,
                                               WatchCallback callback) override {
    return base_.Watch(std::move(prefix), from, std::move(executor), std::move(callback));
  }
  void AsyncGrantLease(std::chrono::seconds ttl, asio::any_io_executor executor,
                       std::function<void()> lost, LeaseCallback callback) override {
    base_.AsyncGrantLease(ttl, std::move(executor), std::move(lost), std::move(callback));
  }
  void AsyncRevokeLease(metadata::LeaseId lease, StatusCallback callback) override {
    base_.AsyncRevokeLease(lease, std::move(callback));
  }

 private:
  metadata::MetadataStore& base_;
};

/// One coordinator's way to the nodes: commands take a while, may get lost either way, arrive
/// twice.
class FakeNodeClient : public NodeClient {
 public:
  FakeNodeClient(Schedule& schedule, Nodes& nodes) : schedule_(schedule), nodes_(nodes) {}

  std::function<void()> before;  ///< each command
  bool cut = false;              ///< what is sent is lost
  bool mute = false;             ///< answers are lost
  bool twice = false;            ///< each arrives again, a second later
  std::set<uint64_t> told;

  void SetNode(const proto::Node& node) override { told.insert(node.id()); }
  void RemoveNode(NodeId node) override { told.erase(node.value); }

  asio::awaitable<Status> CreateReplica(NodeId node, proto::CreateReplicaRequest r) override {
    std::function<Status()> run = [this, node, r] { return nodes_.Create(node, r); };
    return Do(node, std::move(run));
  }
  asio::awaitable<Status> DropReplica(NodeId node, proto::DropReplicaRequest r) override {
    std::function<Status()> run = [this, node, r] { return nodes_.Drop(node, r); };
    return Do(node, std::move(run));
  }
  asio::awaitable<Status> TransferPrimary(NodeId node, proto::TransferPrimaryRequest r) override {
    std::function<Status()> run = [this, node, r] { return nodes_.Transfer(node, r); };
    return Do(node, std::move(run));
  }
  asio::awaitable<Status> ReplaceReplica(NodeId node, proto::ReplaceReplicaRequest r) override {
    std::function<Status()> run = [this, node, r] { return nodes_.Replace(node, r); };
    return Do(node, std::move(run));
  }
  asio::awaitable<Status> SetReplication(NodeId node, proto::SetReplicationRequest r) override {
    std::function<Status()> run = [this, node, r] { return nodes_.SetReplication(node, r); };
    return Do(node, std::move(run));
  }
  asio::awaitable<Status> SplitPartition(NodeId node, proto::SplitPartitionRequest r) override {
    std::function<Status()> run = [this, node, r] { return nodes_.Split(node, r); };
    return Do(node, std::move(run));
  }
  asio::awaitable<Status> MergePartitions(NodeId node, proto::MergePartitionsRequest r) override {
    std::function<Status()> run = [this, node, r] { return nodes_.Merge(node, r); };
    return Do(node, std::move(run));
  }
  asio::awaitable<Result<proto::GetReplicasResponse>> GetReplicas(
      NodeId, proto::GetReplicasRequest) override {
    co_return Unavailable("not in this world");
  }

 private:
  asio::awaitable<Status> Do(NodeId node, std::function<Status()> run) {
    if (before) before();
    const bool lost = cut;
    co_await Sleep(schedule_, milliseconds(5));
    if (lost || !nodes_.up(node.value) || !told.contains(node.value)) {
      co_return Unavailable("node " + node.ToString() + " does not answer");
    }
    const Status status = run();
    if (twice) {
      schedule_.At(milliseconds(1'000), [this, node, run] {
        if (nodes_.up(node.value)) (void)run();
      });
    }
    co_await Sleep(schedule_, milliseconds(5));
    if (mute || cut) co_return Unavailable("the answer was lost");
    co_return status;
  }

  Schedule& schedule_;
  Nodes& nodes_;
};

/// A candidate coordinator with its connection to everything.
struct Candidate {
  Candidate(Schedule& schedule, Nodes& nodes, std::shared_ptr<metadata::SimulatedCluster> cluster,
            const Options& options)
      : store(metadata::SimulatedStore::Connect(std::move(cluster))),
        counting(*store),
        client(schedule, nodes) {
    Environment environment;
    environment.store = &counting;
    environment.nodes = &client;
    environment.timers = &schedule;
    environment.clock = &schedule.clock;
    environment.registry = &registry;
    environment.executor = schedule.io.get_executor();
    coordinator = std::make_unique<Coordinator>(environment, options);
    coordinator->Start();
  }

  metrics::Registry registry;
  std::unique_ptr<metadata::SimulatedStore> store;
  CountingStore counting;
  FakeNodeClient client;
  std::unique_ptr<Coordinator> coordinator;
};

/// A cluster under virtual time, with one or more coordinators.
class World {
 public:
  explicit World(uint64_t seed = 1) {
    metadata::SimulatedFaults faults;
    faults.min_delay = faults.max_delay = milliseconds(2);
    cluster = metadata::SimulatedCluster::Create(
        [this](milliseconds delay, std::function<void()> run) {
          schedule.At(delay, std::move(run));
        },
        seed, faults);
    nodes = std::make_unique<Nodes>(schedule, *cluster);
    proto::Cluster record;
    record.set_id("test");
    record.set_wire_version(1);
    record.set_disk_version(1);
    nodes->Put(std::string(metadata::keys::kCluster), record.SerializeAsString());
    Act();
    Report();
  }
  ~World() {
    for (auto& candidate : candidates) Stop(*candidate);
    schedule.Run(milliseconds(20'000));
    candidates.clear();
    schedule.Run(milliseconds(20'000));
  }

  Candidate& Start(Options options = {}) {
    if (options.address.empty()) {
      options.address = "coordinator-" + std::to_string(candidates.size() + 1) + ":7000";
    }
    candidates.push_back(std::make_unique<Candidate>(schedule, *nodes, cluster, options));
    return *candidates.back();
  }
  void Stop(Candidate& candidate) {
    if (candidate.coordinator == nullptr) return;
    candidate.store->SetCut(false);
    bool stopped = false;
    auto done = [&stopped](std::exception_ptr error) {
      CHECK(!error);
      stopped = true;
    };
    asio::co_spawn(schedule.io, candidate.coordinator->AsyncStop(), std::move(done));
    CHECK(schedule.Run(milliseconds(60'000), [&] { return stopped; }));
    candidate.coordinator.reset();
  }
  std::shared_ptr<Leadership> Active() {
    for (auto& candidate : candidates) {
      if (candidate->coordinator == nullptr) continue;
      auto active = candidate->coordinator->Active();
      if (active.ok()) return *active;
    }
    return nullptr;
  }
  bool Run(milliseconds duration, const std::function<bool()>& until = {}) {
    return schedule.Run(duration, until);
  }
  /// Runs a coroutine of the active coordinator to its end.
  template <class T>
  T Await(asio::awaitable<T> call) {
    std::optional<T> result;
    constexpr auto keep = [](asio::awaitable<T> body,
                             std::optional<T>* to) -> asio::awaitable<void> {
      to->emplace(co_await std::move(body));
    };
    auto done = [](std::exception_ptr error) { CHECK(!error); };
    asio::co_spawn(schedule.io, keep(std::move(call), &result), std::move(done));
    CHECK(schedule.Run(milliseconds(60'000), [&] { return result.has_value(); }));
    return *std::move(result);
  }

  /// What must hold at any time.
  void Check() const {
    std::map<uint64_t, std::map<std::string, std::string>> ranges;
    for (const auto& [id, entry] : nodes->Partitions()) {
      const auto& config = entry.first;
      if (!recovered.contains(id.value)) {
        EXPECT_GE(config.in_sync_size(), static_cast<int>(config.min_in_sync()));
      }
      EXPECT_LE(config.in_sync_size(), static_cast<int>(config.replication()));
      EXPECT_TRUE(IsInSync(config, config.primary()));
      for (const auto& ref : config.learners()) {
        if (!nodes->up(ref.node()) || damaged.contains(ref.replica())) continue;
        const auto& disk = nodes->disks[ref.node()];
        const auto replica = disk.find(id.value);
        EXPECT_TRUE(replica != disk.end() && replica->second == ref.replica())
            << "a replica is named that is not on its disk";
      }
      ranges[config.table()][config.range_start()] = config.range_end();
    }
    for (const auto& [table, parts] : ranges) {
      std::string at;
      for (const auto& [start, end] : parts) {
        EXPECT_EQ(start, at) << "table " << table << " has a hole or an overlap";
        at = end;
      }
      EXPECT_EQ(at, "") << "table " << table << " lacks its end";
    }
    // A split stands aside for a repair, which makes two.
    std::set<std::pair<uint64_t, bool>> busy;
    for (const auto& job : nodes->Jobs()) {
      if (job.state() != proto::JOB_STATE_RUNNING) continue;
      const bool split = job.kind() == proto::JOB_KIND_SPLIT;
      EXPECT_TRUE(busy.emplace(job.partition(), split).second) << "two jobs have a partition";
    }
  }
  /// Every partition as it should be, nothing running, nothing left over on disks.
  bool Settled() const {
    if (nodes->running_jobs() > 0) return false;
    std::map<uint64_t, std::map<uint64_t, uint64_t>> named;
    for (const auto& [id, entry] : nodes->Partitions()) {
      const auto& config = entry.first;
      if (config.in_sync_size() != static_cast<int>(config.replication())) return false;
      if (config.learners_size() > 0) return false;
      for (const auto& ref : config.in_sync()) {
        if (!nodes->up(ref.node())) return false;
        named[ref.node()][id.value] = ref.replica();
      }
    }
    for (const auto& [node, disk] : nodes->disks) {
      if (nodes->up(node) && disk != named[node]) return false;
    }
    return true;
  }

  Schedule schedule;
  std::shared_ptr<metadata::SimulatedCluster> cluster;
  std::unique_ptr<Nodes> nodes;
  std::vector<std::unique_ptr<Candidate>> candidates;
  std::set<uint64_t> damaged;  ///< replicas that the test took from their disks
  /// Partitions that an operator may take below their minimum.
  std::set<uint64_t> recovered;
  milliseconds act_interval{100};
  std::set<uint64_t> silent;  ///< nodes that send no reports

 private:
  void Act() {
    nodes->Act();
    Check();
    schedule.At(act_interval, [this] { Act(); });
  }
  void Report() {
    if (const auto active = Active(); active != nullptr) {
      for (const auto& [id, node] : active->view().nodes()) {
        if (!nodes->up(id.value) || silent.contains(id.value)) continue;
        const auto report = nodes->Report(id.value, ++sequence_);
        EXPECT_TRUE(active->ReportLoad(report).ok());
      }
    }
    schedule.At(milliseconds(1'000), [this] { Report(); });
  }
  uint64_t sequence_ = 0;
};

/// Three zones, nodes 1 to `count` in turn.
inline void AddNodes(World& world, uint64_t count) {
  for (uint64_t id = 1; id <= count; ++id) {
    world.nodes->Add(id, "zone-" + std::to_string((id - 1) % 3));
  }
}

inline std::set<uint64_t> NodesOf(const proto::PartitionConfig& config) {
  std::set<uint64_t> nodes;
  for (const auto& ref : config.in_sync()) nodes.insert(ref.node());
  return nodes;
}

/// A table of one partition, with replicas on these of so many nodes, and a coordinator that
/// balances nothing. Returns the partition.
inline uint64_t StartWithOne(World& world, uint64_t nodes, const std::vector<uint64_t>& on,
                             Options options = Options()) {
  AddNodes(world, nodes);
  world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, static_cast<uint32_t>(on.size()));
  const uint64_t partition = world.nodes->MakePartition(1, on);
  options.balance = false;
  world.Start(options);
  world.Run(std::chrono::seconds(10));
  return partition;
}

}  // namespace onggi::coordinator
