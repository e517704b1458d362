#include "tests/simulation/coordinators.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "replication/group/record.h"
#include "replication/metadata/keys.h"

namespace onggi::simulation {

namespace asio = boost::asio;

namespace {

constexpr TableId kTable{1};
constexpr Time kReportInterval = milliseconds(500);
/// How long a node's liveness key outlives it.
constexpr Time kAliveFor = milliseconds(1'500);
/// How long a command may take on its node.
constexpr Time kCommand = seconds(3);
constexpr Time kPause = milliseconds(25);
/// Neither splits nor merges.
constexpr double kEven = 500;

group::Member ToMember(const proto::ReplicaRef& ref) {
  return {NodeId(ref.node()), ReplicaId(ref.replica())};
}

}  // namespace

class Coordinators::SimulatedTimers final : public coordinator::Timers {
 public:
  explicit SimulatedTimers(Scheduler* scheduler) : scheduler_(scheduler) {}
  Handle After(milliseconds delay, std::function<void()> callback) override {
    auto handle = std::make_shared<int>(0);
    scheduler_->After(delay, [weak = std::weak_ptr<int>(handle), callback = std::move(callback)] {
      if (!weak.expired()) callback();
    });
    return handle;
  }

 private:
  Scheduler* const scheduler_;
};

class Coordinators::SimulatedClock final : public Clock {
 public:
  explicit SimulatedClock(const Scheduler* scheduler) : scheduler_(scheduler) {}
  SteadyTime Now() const override {
    return SteadyTime(std::chrono::hours(1)) +
           std::chrono::duration_cast<SteadyTime::duration>(scheduler_->now());
  }
  WallTime WallNow() const override {
    return WallTime(seconds(1'700'000'000)) +
           std::chrono::duration_cast<WallTime::duration>(scheduler_->now());
  }

 private:
  const Scheduler* const scheduler_;
};

/// Carries out commands by the contracts of common/proto/node.proto.
class Coordinators::Client final : public coordinator::NodeClient {
 public:
  Client(Cluster* cluster, coordinator::Timers* timers) : cluster_(cluster), timers_(timers) {}

  bool cut = false;   ///< what is sent is lost
  bool mute = false;  ///< answers are lost

  void SetNode(const proto::Node& node) override { told_.insert(node.id()); }
  void RemoveNode(NodeId node) override { told_.erase(node.value); }

  asio::awaitable<Status> CreateReplica(NodeId node, proto::CreateReplicaRequest r) override {
    Look look = [r](Process* process) -> std::optional<Status> {
      const PartitionId partition(r.partition());
      const auto& images = process->disk().images;
      if (const auto found = images.find(partition); found != images.end()) {
        if (found->second.replica.value == r.replica()) return Status::Ok();
        return Status(Code::kAlreadyExists, "another replica is there");
      }
      process->CreateReplica(partition, ReplicaId(r.replica()));
      return Status::Ok();
    };
    return Do(node, std::move(look));
  }

  asio::awaitable<Status> DropReplica(NodeId node, proto::DropReplicaRequest r) override {
    Look look = [this, node, r](Process* process) -> std::optional<Status> {
      const PartitionId partition(r.partition());
      const ReplicaId replica(r.replica());
      const auto there = [&] {
        const auto found = process->disk().images.find(partition);
        return found != process->disk().images.end() && found->second.replica == replica;
      };
      const auto key = cluster_->Key(partition);
      if (key && key->Names({node, replica}))
        return Status(Code::kConditionFailed, "the configuration names it");
      if (!there()) return Status::Ok();
      process->DropReplica(partition);
      // It may still have to hear that nobody names it.
      if (there()) return std::nullopt;
      return Status::Ok();
    };
    return Do(node, std::move(look));
  }

  asio::awaitable<Status> TransferPrimary(NodeId node, proto::TransferPrimaryRequest r) override {
    Look look = [this, node, r, asked = false](Process* process) mutable -> std::optional<Status> {
      const PartitionId partition(r.partition());
      const group::Member to = ToMember(r.to());
      const auto key = cluster_->Key(partition);
      if (!key) return NotFound("no such partition");
      if (key->primary == to) return Status::Ok();
      if (!key->InSync(to)) return Status(Code::kConditionFailed, "not in sync");
      if (key->primary.node != node) return Status(Code::kNotPrimary, "");
      Machine* machine = process->Host(partition);
      if (machine == nullptr || !machine->replica().leading() || asked) return std::nullopt;
      asked = true;
      machine->replica().Ask(group::Transfer{to});
      process->After(kCommand,
                     [self = machine->shared_replica()] { self->Ask(group::CancelTransfer{}); });
      return std::nullopt;
    };
    return Do(node, std::move(look));
  }

  asio::awaitable<Status> ReplaceReplica(NodeId node, proto::ReplaceReplicaRequest r) override {
    Look look = [this, node, r, asked = false](Process* process) mutable -> std::optional<Status> {
      const PartitionId partition(r.partition());
      const group::Member out = ToMember(r.out());
      const group::Member in = ToMember(r.in());
      const auto key = cluster_->Key(partition);
      if (!key) return NotFound("no such partition");
      if (key->primary.node != node) return Status(Code::kNotPrimary, "");
      if (!key->Names(in)) return Status(Code::kConditionFailed, "no such member");
      if (key->InSync(in) && (!key->InSync(out) || out == key->primary)) return Status::Ok();
      Machine* machine = process->Host(partition);
      if (machine == nullptr || !machine->replica().leading() || asked) return std::nullopt;
      asked = true;
      machine->replica().Ask(group::Replace{out, in});
      return std::nullopt;
    };
    return Do(node, std::move(look));
  }

  asio::awaitable<Status> SetReplication(NodeId node, proto::SetReplicationRequest r) override {
    Look look = [this, node, r](Process* process) -> std::optional<Status> {
      const PartitionId partition(r.partition());
      const auto key = cluster_->Key(partition);
      if (!key) return NotFound("no such partition");
      if (key->replication == r.replication()) return Status::Ok();
      if (key->primary.node != node) return Status(Code::kNotPrimary, "");
      Machine* machine = process->Host(partition);
      if (machine == nullptr || !machine->replica().leading()) return std::nullopt;
      machine->replica().Ask(group::SetReplication{r.replication()});
      return std::nullopt;
    };
    return Do(node, std::move(look));
  }

  asio::awaitable<Status> SplitPartition(NodeId node, proto::SplitPartitionRequest r) override {
    Look look = [this, node, r](Process* process) -> std::optional<Status> {
      const PartitionId partition(r.partition());
      const PartitionId child(r.child());
      const auto key = cluster_->Key(partition);
      if (!key) return NotFound("no such partition");
      if (key->range_end == r.split_key()) {
        if (cluster_->Key(child)) return Status::Ok();
        return InvalidArgument("the partition ends at the key");
      }
      if (key->primary.node != node) return Status(Code::kNotPrimary, "");
      if (!InRange(r.split_key(), key->range_start, key->range_end) ||
          r.split_key() == key->range_start) {
        return InvalidArgument("the key is not inside the range");
      }
      std::map<NodeId, ReplicaId> replicas;
      for (const proto::ReplicaRef& ref : r.child_replicas())
        replicas[NodeId(ref.node())] = ReplicaId(ref.replica());
      for (const auto* members : {&key->in_sync, &key->learners}) {
        for (const group::Member& member : *members) {
          if (replicas.count(member.node) == 0)
            return Status(Code::kConditionFailed, "a node has no replica of the child");
        }
      }
      Machine* machine = process->Host(partition);
      if (machine == nullptr || !machine->replica().leading()) return std::nullopt;
      if (const auto split = machine->cutting()) {
        const bool named = std::all_of(
            key->in_sync.begin(), key->in_sync.end(),
            [&](const auto& member) { return split->child_replicas.count(member) != 0; });
        if (named) return std::nullopt;
      }
      machine->Split(r.split_key(), child, std::move(replicas));
      return std::nullopt;
    };
    return Do(node, std::move(look));
  }

  asio::awaitable<Status> MergePartitions(NodeId node, proto::MergePartitionsRequest r) override {
    Look look = [this, node, r,
                 absorbed = false](Process* process) mutable -> std::optional<Status> {
      const auto left_key = cluster_->Key(PartitionId(r.left()));
      const auto right_key = cluster_->Key(PartitionId(r.right()));
      if (!left_key) return NotFound("no such partition");
      if (!right_key) return Status::Ok();
      if (left_key->primary.node != node || right_key->primary.node != node)
        return Status(Code::kNotPrimary, "");
      if (left_key->range_end != right_key->range_start)
        return Status(Code::kConditionFailed, "no neighbours");
      for (const group::Member& member : left_key->in_sync) {
        const auto together = [&](const auto& other) { return other.node == member.node; };
        if (std::none_of(right_key->in_sync.begin(), right_key->in_sync.end(), together))
          return Status(Code::kConditionFailed, "not together");
      }
      Machine* left = process->Host(PartitionId(r.left()));
      Machine* right = process->Host(PartitionId(r.right()));
      if (left == nullptr || right == nullptr || !left->replica().leading() ||
          !right->replica().leading() || absorbed) {
        return std::nullopt;
      }
      if (!right->grant()) {
        right->Freeze();
        return std::nullopt;
      }
      absorbed = true;
      left->Absorb(PartitionId(r.right()), *right_key, right->grant()->freeze,
                   right->grant()->revision);
      return std::nullopt;
    };
    return Do(node, std::move(look));
  }

  asio::awaitable<Result<proto::GetReplicasResponse>> GetReplicas(
      NodeId, proto::GetReplicasRequest) override {
    co_return Unavailable("not in this world");
  }

 private:
  /// What the node does, as often as it takes; nullopt: not done yet.
  using Look = std::function<std::optional<Status>(Process*)>;

  milliseconds Way() const {
    return milliseconds(1 + static_cast<int64_t>(cluster_->random().Below(20)));
  }

  asio::awaitable<Status> Do(NodeId node, Look look) {
    const bool lost = cut;
    co_await coordinator::Sleep(*timers_, Way());
    Process* process = cluster_->ProcessOf(node);
    if (lost || process == nullptr || told_.count(node.value) == 0)
      co_return Unavailable("the node does not answer");
    const uint64_t boot = process->boot();
    const Time end = cluster_->scheduler().now() + kCommand;
    while (cluster_->scheduler().now() < end) {
      process = cluster_->ProcessOf(node);
      if (process == nullptr || process->boot() != boot) co_return Unavailable("the node has gone");
      std::optional<Status> status;
      if (!cluster_->node(node).paused(cluster_->scheduler().now()))
        process->Run([&] { status = look(process); });
      if (status) {
        co_await coordinator::Sleep(*timers_, Way());
        if (mute || cut) co_return Unavailable("the answer was lost");
        co_return *status;
      }
      co_await coordinator::Sleep(*timers_, std::chrono::duration_cast<milliseconds>(kPause));
    }
    co_return Unavailable("not done yet");
  }

  Cluster* const cluster_;
  coordinator::Timers* const timers_;
  std::set<uint64_t> told_;
};

/// The election's own pauses after an error are of real time; here its requests are repeated in
/// virtual time instead, as it would repeat them itself.
class Coordinators::PatientStore final : public metadata::MetadataStore {
 public:
  PatientStore(Scheduler* scheduler, metadata::MetadataStore* store)
      : scheduler_(scheduler), store_(store) {}

  void AsyncRange(std::string start, std::string end, size_t limit,
                  RangeCallback callback) override {
    if (!OfElection(start)) {
      store_->AsyncRange(std::move(start), std::move(end), limit, std::move(callback));
      return;
    }
    std::function<void()> again = [this, start, end, limit, callback] {
      AsyncRange(start, end, limit, callback);
    };
    store_->AsyncRange(start, end, limit, Retry<metadata::RangeResult>(callback, again));
  }
  void AsyncCommit(metadata::Transaction transaction, TransactionCallback callback) override {
    const bool joins = transaction.puts.size() == 1 && OfElection(transaction.puts[0].key);
    if (!joins) {
      store_->AsyncCommit(std::move(transaction), std::move(callback));
      return;
    }
    std::function<void()> again = [this, transaction, callback] {
      AsyncCommit(transaction, callback);
    };
    store_->AsyncCommit(transaction, Retry<metadata::TransactionResult>(callback, again));
  }
  std::unique_ptr<metadata::WatchHandle> Watch(std::string prefix, Revision from,
                                               asio::any_io_executor executor,
                                               WatchCallback callback) override {
    return store_->Watch(std::move(prefix), from, std::move(executor), std::move(callback));
  }
  void AsyncGrantLease(std::chrono::seconds ttl, asio::any_io_executor executor,
                       std::function<void()> lost, LeaseCallback callback) override {
    std::function<void()> again = [this, ttl, executor, lost, callback] {
      AsyncGrantLease(ttl, executor, lost, callback);
    };
    store_->AsyncGrantLease(
        ttl, executor, lost,
        Retry<std::unique_ptr<metadata::LeaseHandle>>(std::move(callback), std::move(again)));
  }
  void AsyncRevokeLease(metadata::LeaseId lease, StatusCallback callback) override {
    store_->AsyncRevokeLease(lease, std::move(callback));
  }
  /// No more: what is asked from here on is answered.
  void Hurry() { hurry_ = true; }

 private:
  static bool OfElection(const std::string& key) {
    return key.starts_with(metadata::keys::kCoordinatorElection);
  }
  template <class T>
  std::function<void(Result<T>)> Retry(std::function<void(Result<T>)> callback,
                                       std::function<void()> again) {
    return [this, callback = std::move(callback), again = std::move(again),
            weak = std::weak_ptr<int>(alive_)](Result<T> result) {
      const Code code = result.ok() ? Code::kOk : result.status().code();
      const bool passes = code == Code::kUnavailable || code == Code::kUnknownOutcome;
      if (weak.expired() || !passes || hurry_) return callback(std::move(result));
      scheduler_->After(milliseconds(100), [again, weak] {
        if (!weak.expired()) again();
      });
    };
  }

  Scheduler* const scheduler_;
  metadata::MetadataStore* const store_;
  bool hurry_ = false;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

struct Coordinators::Candidate {
  Candidate(Cluster* cluster, coordinator::Timers* timers, const Clock* clock, asio::io_context* io,
            const coordinator::Options& options)
      : store(metadata::SimulatedStore::Connect(cluster->shared_metadata())),
        patient(&cluster->scheduler(), store.get()),
        client(cluster, timers) {
    coordinator::Environment environment;
    environment.store = &patient;
    environment.nodes = &client;
    environment.timers = timers;
    environment.clock = clock;
    environment.registry = &registry;
    environment.executor = io->get_executor();
    coordinator = std::make_unique<coordinator::Coordinator>(environment, options);
    coordinator->Start();
  }

  metrics::Registry registry;
  std::unique_ptr<metadata::SimulatedStore> store;
  PatientStore patient;
  Client client;
  std::unique_ptr<coordinator::Coordinator> coordinator;
};

Coordinators::Coordinators(Cluster* cluster, size_t candidates)
    : cluster_(cluster),
      io_(cluster->executors().Make()),
      timers_(std::make_unique<SimulatedTimers>(&cluster->scheduler())),
      clock_(std::make_unique<SimulatedClock>(&cluster->scheduler())) {
  proto::Cluster record;
  record.set_id("simulation");
  record.set_wire_version(1);
  record.set_disk_version(1);
  Put(std::string(metadata::keys::kCluster), record.SerializeAsString());
  PutTable(cluster->profile().replication);
  Put(metadata::keys::NextPartition(), metadata::keys::FormatId(1000));
  Put(metadata::keys::NextReplica(), metadata::keys::FormatId(1000));
  for (const auto& node : cluster_->nodes()) Started(*node);
  coordinator::Options options;
  options.election_ttl = seconds(2);
  options.tick = milliseconds(300);
  options.dead_after = seconds(3);
  options.split_sustain = seconds(1);
  options.split_cooldown = seconds(1);
  options.merge_sustain = seconds(1);
  options.balance_cooldown = seconds(1);
  options.max_backoff = seconds(1);
  options.poll = milliseconds(200);
  options.stall_timeout = seconds(5);
  options.unnamed_grace = seconds(2);
  for (size_t i = 0; i < candidates; ++i) {
    options.address = "coordinator-" + std::to_string(i + 1) + ":7000";
    candidates_.push_back(
        std::make_unique<Candidate>(cluster_, timers_.get(), clock_.get(), io_, options));
  }
  Report();
}

Coordinators::~Coordinators() {
  alive_.reset();
  Scheduler& scheduler = cluster_->scheduler();
  for (const auto& candidate : candidates_) {
    candidate->store->SetCut(false);
    candidate->patient.Hurry();
    bool stopped = false;
    auto done = [&stopped](std::exception_ptr error) {
      CHECK(!error);
      stopped = true;
    };
    asio::co_spawn(*io_, candidate->coordinator->AsyncStop(), std::move(done));
    Step();
    const Time end = scheduler.now() + seconds(60);
    while (!stopped && scheduler.RunOne(end)) Step();
    CHECK(stopped);
  }
}

void Coordinators::Put(std::string key, std::string value) {
  metadata::Transaction transaction;
  transaction.puts.push_back({std::move(key), std::move(value)});
  CHECK(cluster_->metadata().CommitNow(transaction).ok());
}

void Coordinators::Started(const Node& here) {
  if (here.process == nullptr) return;
  proto::Node node;
  node.set_id(here.id.value);
  node.set_zone("zone-" + std::to_string(here.id.value % 3));
  node.set_state(proto::NODE_STATE_ACTIVE);
  node.set_rpc_address("node-" + here.id.ToString() + ":7000");
  node.set_boot(here.process->boot());
  node.set_capacity_bytes(uint64_t{1} << 40);
  Put(metadata::keys::Node(here.id), node.SerializeAsString());
  Put(metadata::keys::Alive(here.id), metadata::keys::FormatId(here.process->boot()));
}

void Coordinators::Crashed(const Node& here) {
  const uint64_t lives = here.lives;
  cluster_->scheduler().After(kAliveFor, [this, &here, lives, weak = std::weak_ptr<int>(alive_)] {
    if (weak.expired() || here.process != nullptr || here.lives != lives) return;
    metadata::Transaction transaction;
    transaction.deletes.push_back(metadata::keys::Alive(here.id));
    CHECK(cluster_->metadata().CommitNow(transaction).ok());
  });
}

void Coordinators::Disturb() {
  Random& random = cluster_->random();
  Candidate& candidate = *candidates_[random.Below(candidates_.size())];
  const bool cut = random.Chance(500);
  cluster_->Say("a coordinator is " + std::string(cut ? "cut off" : "joined"));
  candidate.store->SetCut(cut);
  // One that is cut off from the store may still have the nodes' ear.
  candidate.client.cut = cut && random.Chance(400);
  candidate.client.mute = random.Chance(200);
}

void Coordinators::PutTable(uint32_t replication) {
  replication_ = replication;
  proto::Table table;
  table.set_id(kTable.value);
  table.set_account("default");
  table.set_name("simulated");
  table.set_status(proto::TABLE_STATUS_ACTIVE);
  table.set_replication(replication);
  Put(metadata::keys::Table(kTable), table.SerializeAsString());
}

void Coordinators::ChangeReplication() {
  std::vector<uint32_t> choices{1, 3};
  if (cluster_->nodes().size() >= 5) choices.push_back(5);
  PutTable(choices[cluster_->random().Below(choices.size())]);
}

void Coordinators::ChangeLoad() {
  const std::vector<PartitionId> all = cluster_->Partitions();
  if (all.empty() || quiet_) return;
  Random& random = cluster_->random();
  const PartitionId partition = all[random.Below(all.size())];
  Load& load = loads_[partition];
  load = Load();
  if (random.Chance(500) || all.size() >= 6) return;  // cold: merged, if its neighbour is too
  load.units = 2'000;
  const auto key = cluster_->Key(partition);
  std::string at = "k0";
  at[1] = static_cast<char>('0' + random.Below(10));
  if (key && at > key->range_start && InRange(at, key->range_start, key->range_end))
    load.split_key = at;
}

void Coordinators::Quiet() {
  quiet_ = true;
  loads_.clear();
  for (const auto& candidate : candidates_) {
    candidate->store->SetCut(false);
    candidate->client.cut = candidate->client.mute = false;
  }
}

std::string Coordinators::Describe() const {
  std::string text;
  for (const auto& candidate : candidates_) {
    const auto active = candidate->coordinator->Active();
    text += "\n  " + candidate->coordinator->options().address + ": " +
            (active.ok() ? "active" : active.status().ToString());
    if (!active.ok()) continue;
    for (const auto& [id, node] : (*active)->view().nodes()) {
      text += "; node " + id.ToString() + " state " + std::to_string(node.record.state()) +
              (node.alive ? "" : " gone");
    }
  }
  const std::string prefix(metadata::keys::kJobPrefix);
  for (const auto& kv : cluster_->metadata().ReadNow(prefix, metadata::PrefixEnd(prefix)).kvs) {
    proto::Job job;
    if (!job.ParseFromString(kv.value) || job.state() != proto::JOB_STATE_RUNNING) continue;
    text += "\n  job " + std::to_string(job.id()) + " kind " + std::to_string(job.kind()) +
            " partition " + std::to_string(job.partition()) + " step " +
            std::to_string(job.step()) + " from " + std::to_string(job.from().node()) + "/" +
            std::to_string(job.from().replica()) + " to " + std::to_string(job.to().node()) + "/" +
            std::to_string(job.to().replica()) + " " + job.error();
  }
  return text;
}

// What nodes report. ------------------------------------------------------------------------------

void Coordinators::Report() {
  for (const auto& candidate : candidates_) {
    const auto active = candidate->coordinator->Active();
    if (!active.ok()) continue;
    for (const auto& node : cluster_->nodes()) {
      if (node->process == nullptr || node->paused(cluster_->scheduler().now())) continue;
      (void)(*active)->ReportLoad(ReportOf(*node));
    }
  }
  cluster_->scheduler().After(kReportInterval, [this, weak = std::weak_ptr<int>(alive_)] {
    if (!weak.expired()) Report();
  });
}

proto::ReportLoadRequest Coordinators::ReportOf(const Node& node) {
  proto::ReportLoadRequest report;
  report.set_node(node.id.value);
  report.set_boot(node.process->boot());
  report.set_sequence(++sequence_);
  report.set_full(true);
  report.set_free_bytes(uint64_t{1} << 40);
  std::set<PartitionId> seen;
  for (const auto& [partition, image] : node.disk.images) {
    const group::Member self{node.id, image.replica};
    const auto key = cluster_->Key(partition);
    proto::ReplicaStatus* status = report.add_replicas();
    status->set_partition(partition.value);
    status->set_replica(image.replica.value);
    seen.insert(partition);
    if (!key || !key->Names(self)) {
      status->set_role(proto::REPLICA_ROLE_UNNAMED);
      continue;
    }
    status->set_table(kTable.value);
    const bool leads = key->primary == self;
    status->set_role(leads ? proto::REPLICA_ROLE_PRIMARY : proto::REPLICA_ROLE_BACKUP);
    status->set_bytes(uint64_t{1} << 20);
    if (!leads) continue;
    const auto load = loads_.find(partition);
    status->set_write_units(load == loads_.end() ? kEven : load->second.units);
    if (load != loads_.end()) status->set_load_split_key(load->second.split_key);
  }
  for (const PartitionId partition : cluster_->Partitions()) {
    const auto key = cluster_->Key(partition);
    if (key->epoch == Epoch(0)) continue;
    for (const auto* members : {&key->in_sync, &key->learners}) {
      for (const group::Member& member : *members) {
        const auto image = node.disk.images.find(partition);
        if (member.node != node.id ||
            (image != node.disk.images.end() && image->second.replica == member.replica)) {
          continue;
        }
        proto::ReplicaStatus* status = report.add_replicas();
        status->set_table(kTable.value);
        status->set_partition(partition.value);
        status->set_replica(member.replica.value);
        status->set_role(proto::REPLICA_ROLE_LOST);
      }
    }
  }
  return report;
}

}  // namespace onggi::simulation
