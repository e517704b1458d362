#include "tests/simulation/process.h"

#include <algorithm>
#include <utility>

#include "replication/group/record.h"
#include "replication/metadata/keys.h"
#include "tests/simulation/cluster.h"
#include "tests/simulation/model_machine.h"
#include "tests/simulation/process_parts.h"

namespace onggi::simulation {

namespace {

constexpr TableId kTable{1};
/// A disk that takes longer than this for one write makes its node stop asking for leases (R10).
constexpr Time kStalled = milliseconds(500);
/// As PartitionManager, of one that has failed.
constexpr Time kReopen = milliseconds(300);
constexpr Time kFailing = seconds(5);  ///< and its node resigns for it while it is not open

/// Notes what is asked for: an answer that does not come does not mean that nothing happens.
class NotingStore final : public metadata::SimulatedStore {
 public:
  NotingStore(Cluster* cluster, NodeId node, std::unique_ptr<metadata::SimulatedStore> store)
      : cluster_(cluster), node_(node), store_(std::move(store)) {}

  void AsyncRange(std::string start, std::string end, size_t limit,
                  RangeCallback callback) override {
    store_->AsyncRange(std::move(start), std::move(end), limit, std::move(callback));
  }
  void AsyncCommit(metadata::Transaction transaction, TransactionCallback callback) override {
    for (const metadata::Put& put : transaction.puts) {
      const auto key = metadata::keys::ParsePartition(put.key);
      const auto record = group::ParseRecord(put.value);
      if (!key || !record.ok()) continue;
      for (const metadata::Compare& compare : transaction.compares) {
        if (compare.key == put.key && compare.mod_revision != Revision())
          cluster_->Asked(key->partition, compare.mod_revision, group::FromRecord(*record));
      }
    }
    const auto late = cluster_->late_if ? cluster_->late_if(node_, transaction) : std::nullopt;
    if (late) {
      cluster_->scheduler().After(*late, [cluster = cluster_, transaction] {
        (void)cluster->metadata().CommitNow(transaction);
      });
      cluster_->scheduler().After(
          milliseconds(5), [callback] { callback(Status(Code::kUnknownOutcome, "no answer")); });
      return;
    }
    store_->AsyncCommit(std::move(transaction), std::move(callback));
  }
  std::unique_ptr<metadata::WatchHandle> Watch(std::string prefix, Revision from,
                                               boost::asio::any_io_executor executor,
                                               WatchCallback callback) override {
    return store_->Watch(std::move(prefix), from, std::move(executor), std::move(callback));
  }
  void AsyncGrantLease(std::chrono::seconds ttl, boost::asio::any_io_executor executor,
                       std::function<void()> lost, LeaseCallback callback) override {
    store_->AsyncGrantLease(ttl, std::move(executor), std::move(lost), std::move(callback));
  }
  void AsyncRevokeLease(metadata::LeaseId lease, StatusCallback callback) override {
    store_->AsyncRevokeLease(lease, std::move(callback));
  }
  void SetCut(bool cut) override { store_->SetCut(cut); }
  void Crash() override { store_->Crash(); }

 private:
  Cluster* const cluster_;
  const NodeId node_;
  const std::unique_ptr<metadata::SimulatedStore> store_;
};

}  // namespace

Process::Process(Cluster* cluster, Node* node, uint64_t boot)
    : cluster_(cluster), node_(node), boot_(boot) {}

Process::~Process() = default;

NodeId Process::id() const { return node_->id; }
Truth& Process::truth() { return cluster_->truth(); }
Disk& Process::disk() { return node_->disk; }

void Process::Start() {
  // They run what is done without regard to which life asked: Run() looks.
  const auto run = [weak = weak_from_this()](const std::function<void()>& what) {
    if (const auto process = weak.lock()) process->Post(what);
  };
  const auto changed = [this](PartitionId partition) { Changed(partition); };
  const auto failed = [cluster = cluster_, id = id()] { cluster->DiskFailed(id); };
  const auto writer = [&] {
    return std::make_shared<DiskWriter>(&cluster_->scheduler(), &cluster_->random(), &node_->disk,
                                        &node_->disk_faults, run, changed, failed);
  };
  log_writer_ = writer();
  configuration_writer_ = writer();
  log_ = std::make_shared<SimulatedLog>(log_writer_, [this](PartitionId partition, LogIndex up_to) {
    return OnTruncate(partition, up_to);
  });
  configurations_ = std::make_unique<SimulatedConfigurations>(configuration_writer_);
  if (ShippedWorld* world = cluster_->world()) shipped_ = std::make_unique<Shipped>(this, world);
  home_ = std::make_shared<Home>(this, shipped_ == nullptr ? nullptr : shipped_->io());
  link_ = std::make_unique<Link>(this);
  sender_ = std::make_unique<Sender>(this);
  leases_ = std::make_shared<lease::NodeLeases>(id(), boot_, Now());
  store_ = std::make_unique<NotingStore>(
      cluster_, id(), metadata::SimulatedStore::Connect(cluster_->shared_metadata()));
  store_->SetCut(node_->metadata_cut);
  if (shipped_ != nullptr) shipped_->Start(link_.get(), sender_.get());
  ReadMap();
  Heartbeats();
  FlushSome();
  ResignLost();
}

void Process::Crash() {
  alive_ = false;
  log_writer_->Crash();
  configuration_writer_->Crash();
  store_->Crash();
  paused_.clear();
  if (shipped_ != nullptr) shipped_->Crash();
  home_->Gone();
  if (shipped_ != nullptr) shipped_->disks().Crash(id(), &cluster_->random());
}

// Running. ----------------------------------------------------------------------------------------

lease::BootTime Process::Now() const {
  const double now = static_cast<double>(cluster_->scheduler().now().count());
  return node_->clock_offset + Time(static_cast<int64_t>(now * node_->clock_rate));
}

void Process::Run(const std::function<void()>& run) {
  if (!alive_) return;
  // It may have been cut off by what somebody did for it.
  if (shipped_ != nullptr && shipped_->disks().IsCut(id())) return cluster_->PowerLost(id());
  if (node_->paused(cluster_->scheduler().now())) {
    paused_.push_back(run);
    return;
  }
  const auto self = shared_from_this();
  run();
  if (alive_ && shipped_ != nullptr) shipped_->Settle();
  if (alive_) cluster_->AfterStep(this);
  if (alive_ && shipped_ != nullptr && shipped_->disks().IsCut(id())) cluster_->PowerLost(id());
}

void Process::Resume() {
  std::deque<std::function<void()>> waiting = std::exchange(paused_, {});
  for (std::function<void()>& run : waiting) Post(std::move(run));
}

void Process::After(Time delay, std::function<void()> run) {
  const Time real(static_cast<int64_t>(static_cast<double>(delay.count()) / node_->clock_rate));
  const Time late = cluster_->random().Between(Time(0), milliseconds(2));
  cluster_->scheduler().After(real + late, [weak = weak_from_this(), run = std::move(run)] {
    if (const auto process = weak.lock()) process->Run(run);
  });
}

void Process::Post(std::function<void()> run) {
  if (!alive_) return;
  const Time at =
      cluster_->scheduler().now() + cluster_->random().Between(Time(0), microseconds(50));
  last_post_ = std::max(last_post_, at);
  cluster_->scheduler().At(last_post_, [weak = weak_from_this(), run = std::move(run)] {
    if (const auto process = weak.lock()) process->Run(run);
  });
}

void Process::PostTo(PartitionId partition, ReplicaId replica, std::function<void()> run) {
  Post([this, partition, replica, run = std::move(run)] {
    const auto host = hosts_.find(partition);
    if (host != hosts_.end() && host->second->replica_id() == replica) run();
  });
}

// The network. ------------------------------------------------------------------------------------

void Process::Connect(NodeId peer, uint64_t boot) {
  Disconnect(peer);
  connections_[peer] = boot;
  Post([this, peer] {
    for (const auto& [partition, machine] : hosts_) machine->replica().OnPeerConnected(peer);
  });
}

void Process::Disconnect(NodeId peer) {
  if (connections_.erase(peer) == 0) return;
  Post([this, peer] {
    for (const auto& [partition, machine] : hosts_) machine->replica().OnPeerLost(peer);
  });
}

bool Process::ConnectedTo(NodeId peer, uint64_t boot) const {
  const auto found = connections_.find(peer);
  return found != connections_.end() && found->second == boot;
}

uint64_t Process::BootOf(NodeId peer) const {
  const auto found = connections_.find(peer);
  return found == connections_.end() ? 0 : found->second;
}

void Process::Send(NodeId to, Packet packet) {
  if (const auto* message = std::get_if<transport::GroupMessage>(&packet))
    cluster_->CheckSaid(this, *message);
  cluster_->Transmit(id(), boot_, to, std::move(packet));
}

void Process::Receive(NodeId from, uint64_t from_boot, Packet packet) {
  if (const auto* heartbeat = std::get_if<lease::Heartbeat>(&packet)) {
    Send(from, leases_->OnHeartbeat(*heartbeat, Now()));
    return;
  }
  if (const auto* ack = std::get_if<lease::HeartbeatAck>(&packet)) {
    for (lease::NewerConfiguration& newer : leases_->OnHeartbeatAck(*ack)) {
      Post([this, newer] {
        const auto host = hosts_.find(newer.partition);
        if (host != hosts_.end())
          host->second->replica().OnConfigurationSeen(*newer.configuration, newer.revision);
      });
    }
    return;
  }
  auto& message = std::get<transport::GroupMessage>(packet);
  // A stream ends with its process, and before the next one begins.
  if (BootOf(from) != 0 && BootOf(from) != from_boot) return;
  if (std::holds_alternative<group::CreateMessage>(message.body)) return OnCreate(from, message);
  const auto host = hosts_.find(message.partition);
  if (host == hosts_.end() || host->second->replica_id() != message.to) return;
  host->second->replica().OnMessage(std::move(message));
}

void Process::Heartbeats() {
  for (const auto& [peer, boot] : connections_) {
    if (auto heartbeat = leases_->OnSendHeartbeat(peer, Now())) Send(peer, *heartbeat);
  }
  for (const NodeId peer : leases_->TakeLapsed(Now())) {
    if (connections_.count(peer) == 0) continue;
    Disconnect(peer);
    Process* other = cluster_->ProcessOf(peer);
    if (other != nullptr && cluster_->Reaches(id(), peer)) other->Disconnect(id());
  }
  bool stalled = false;
  for (const auto& writer : {log_writer_, configuration_writer_}) {
    const auto oldest = writer->oldest();
    stalled = stalled || (oldest && cluster_->scheduler().now() - *oldest > kStalled);
  }
  leases_->Stall(stalled);
  After(lease::kHeartbeatInterval, [this] { Heartbeats(); });
}

// Replicas. ---------------------------------------------------------------------------------------

void Process::ReadMap() {
  const std::string prefix(metadata::keys::kPartitionPrefix);
  store_->AsyncRange(
      prefix, metadata::PrefixEnd(prefix), 0,
      [weak = weak_from_this(), prefix](const Result<metadata::RangeResult>& result) {
        const auto process = weak.lock();
        if (process == nullptr) return;
        process->Post([process = process.get(), prefix, result] {
          if (!result.ok()) {
            process->After(milliseconds(200), [process] { process->ReadMap(); });
            return;
          }
          process->watch_ = process->store_->Watch(
              prefix, Revision(result->revision.value + 1), boost::asio::any_io_executor(),
              [process](const metadata::WatchBatch& batch) {
                process->Post([process, batch] {
                  for (const metadata::WatchEvent& event : batch.events) {
                    const auto key = metadata::keys::ParsePartition(event.kv.key);
                    if (event.type == metadata::WatchEvent::Type::kDelete) {
                      process->OnMapDeleted(key->partition, event.kv.mod_revision);
                    } else {
                      process->OnMapEntry(key->partition,
                                          group::FromRecord(*group::ParseRecord(event.kv.value)),
                                          event.kv.mod_revision);
                    }
                  }
                });
              });
          for (const metadata::KeyValue& kv : result->kvs) {
            process->OnMapEntry(metadata::keys::ParsePartition(kv.key)->partition,
                                group::FromRecord(*group::ParseRecord(kv.value)), kv.mod_revision);
          }
        });
      });
}

void Process::OnMapEntry(PartitionId partition, const group::Configuration& configuration,
                         Revision revision) {
  auto& [known, known_revision] = map_[partition];
  if (revision >= known_revision)
    std::tie(known, known_revision) = std::tie(configuration, revision);
  cluster_->Seen(partition);
  // A partition that nobody has led begins on its primary's node. (A shipped one does so itself.)
  if (configuration.epoch == Epoch(0) && configuration.primary.node == id() &&
      disk().images.count(partition) == 0 && shipped_ == nullptr) {
    CreateReplica(partition, configuration.primary.replica);
  }
  if (const auto host = hosts_.find(partition); host != hosts_.end()) {
    host->second->replica().OnConfigurationSeen(configuration, revision);
  } else {
    Open(partition);
  }
}

void Process::OnMapDeleted(PartitionId partition, Revision revision) {
  cluster_->Deleted(partition);
  map_.erase(partition);
  if (shipped_ != nullptr && shipped_->Opens(partition)) return shipped_->Remove(partition);
  if (const auto host = hosts_.find(partition); host != hosts_.end())
    host->second->replica().OnKeyDeleted(revision);
}

bool Process::CreateReplica(PartitionId partition, ReplicaId replica) {
  if (disk().images.count(partition) != 0 || !DiskTakes()) return false;
  if (shipped_ != nullptr) {
    // As PartitionManager::MakeReplica: what an earlier replica left goes first.
    if (!log_->RemoveGroup(partition).ok() || !log_->Flush().ok()) return false;
    if (!shipped_->Create(partition, replica)) return false;
    Open(partition);
    return true;
  }
  disk().logs.erase(partition);
  disk().configurations.erase(partition);
  Image& image = disk().images[partition];
  image.replica = replica;
  image.made = cluster_->scheduler().now();
  Changed(partition);
  Open(partition);
  return true;
}

/// If the disk has the replica that the key names.
void Process::Open(PartitionId partition) {
  const auto known = map_.find(partition);
  const auto image = disk().images.find(partition);
  if (known == map_.end() || hosts_.count(partition) != 0) return;
  const auto& [configuration, revision] = known->second;
  const bool begins =
      shipped_ != nullptr && configuration.epoch == Epoch(0) && configuration.primary.node == id();
  if (image == disk().images.end()) {
    if (begins) shipped_->Open(partition, configuration.primary.replica, configuration, revision);
    return;
  }
  const group::Member self{id(), image->second.replica};
  if (!configuration.Names(self)) return;
  if (shipped_ != nullptr) return shipped_->Open(partition, self.replica, configuration, revision);
  if (!log_->Flush().ok()) return;  // as Partition::OpenStore
  auto machine = std::make_unique<ModelMachine>(this, partition, self.replica, image->second.state);
  replica::ReplicaOptions options;
  options.partition = partition;
  options.table = kTable;
  options.self = self;
  options.boot = boot_;
  options.home = home_;
  options.log = log_;
  options.metadata = store_.get();
  options.configurations = configurations_.get();
  options.transport = link_.get();
  options.leases = leases_;
  options.checkpoints = sender_.get();
  options.checkpoint_directory = "checkpoints";
  options.disk_low = &disk_low_;
  options.max_window_bytes = 4096;
  options.max_message_bytes = cluster_->profile().message_bytes;
  options.max_stream_bytes = 2048;
  auto opened = std::make_shared<replica::Replica>(options, machine.get());
  machine->Attach(opened);
  ModelMachine* raw = machine.get();
  hosts_[partition] = std::move(machine);
  seen_commits.erase(partition);
  const Status status = opened->Start(image->second.state.applied, configuration, revision);
  if (!status.ok()) {
    truth().Fail("node " + id().ToString() + ": " + status.ToString());
    return;
  }
  raw->Started();
}

void Process::Close(PartitionId partition) {
  const auto host = hosts_.find(partition);
  if (host == hosts_.end()) return;
  host->second->replica().Stop();
  graveyard_.push_back(std::move(host->second));
  hosts_.erase(host);
}

/// As PartitionManager::RemoveLog: a full log refuses even this, and is asked again, unless another
/// replica has come in its place.
void Process::RemoveLog(PartitionId partition) {
  if (log_->RemoveGroup(partition).ok()) return;
  After(milliseconds(100), [this, partition] {
    if (disk().images.count(partition) == 0) RemoveLog(partition);
  });
}

bool Process::MayFail(const Status& status) const {
  if (cluster_->scheduler().now() >= node_->disk_faults.ailing_until) return false;
  return status.code() == Code::kIoError || status.code() == Code::kOutOfSpace ||
         status.code() == Code::kUnknownOutcome;
}

bool Process::DiskTakes() const {
  const DiskFaults& faults = node_->disk_faults;
  const Time now = cluster_->scheduler().now();
  return now >= faults.full_until && now >= faults.unwritable_until && now >= faults.store_until;
}

void Process::ReopenLater(PartitionId partition, ReplicaId replica) {
  failed_[partition] = cluster_->scheduler().now();
  if (shipped_ != nullptr) return shipped_->ReopenLater(partition, replica);
  PostTo(partition, replica, [this, partition] {
    Close(partition);
    After(kReopen, [this, partition] { Open(partition); });
  });
}

void Process::RemoveLater(PartitionId partition, ReplicaId replica) {
  if (!DiskTakes()) {
    After(milliseconds(100), [this, partition, replica] { RemoveLater(partition, replica); });
    return;
  }
  PostTo(partition, replica, [this, partition] {
    Close(partition);
    disk().images.erase(partition);
    (void)log_->RemoveGroup(partition);
    (void)log_->Flush();
    configurations_->AsyncRemove(partition);
    configuration_writer_->Flush();
    Changed(partition);
    Open(partition);
  });
}

void Process::CollectGarbage() {
  std::vector<PartitionId> old;
  for (const auto& [partition, image] : disk().images) {
    if (cluster_->scheduler().now() - image.made >= seconds(6)) old.push_back(partition);
  }
  for (const PartitionId partition : old) DropReplica(partition);
}

/// node.proto DropReplica: of a replica that no key names, nor any split that is to be finished.
void Process::DropReplica(PartitionId partition) {
  const auto image = disk().images.find(partition);
  if (image == disk().images.end() || hosts_.count(partition) != 0) return;
  if (shipped_ != nullptr) {
    if (shipped_->Opens(partition) || shipped_->closing(partition)) return;
    // A node reads the key before it removes anything, and knows the map before it does anything.
    if (node_->metadata_cut || watch_ == nullptr || shipped_->ChildOfUncut(partition)) return;
  }
  for (const auto& [parent, other] : disk().images) {
    const auto host = hosts_.find(parent);
    const State& state =
        host == hosts_.end() || shipped_ != nullptr ? other.state : StateOf(parent);
    if (state.split && truth().operation(state.split->operation).child == partition) return;
  }
  const auto key = cluster_->Key(partition);
  if (key && key->Names({id(), image->second.replica})) return;
  if (!DiskTakes()) return;
  if (shipped_ != nullptr) {
    shipped_->RemoveFiles(partition);
  } else {
    disk().images.erase(image);
  }
  RemoveLog(partition);
  (void)log_->Flush();
  Changed(partition);
}

/// Only what the key, read after this process began, still calls new may be empty.
void Process::OnCreate(NodeId from, const transport::GroupMessage& message) {
  const auto& create = std::get<group::CreateMessage>(message.body);
  const PartitionId partition = message.partition;
  const group::Member member = create.to;
  const group::Member asker = create.from;
  const auto answer = [this, from, partition, member, asker] {
    transport::GroupMessage created;
    created.table = kTable;
    created.partition = partition;
    created.to = asker.replica;
    created.body = group::CreatedMessage{member};
    Send(from, std::move(created));
  };
  const auto image = disk().images.find(partition);
  if (image != disk().images.end()) {
    if (image->second.replica == member.replica) answer();
    return;
  }
  const std::string key = metadata::keys::Partition(kTable, partition);
  store_->AsyncRange(key, key + '\0', 1,
                     [weak = weak_from_this(), partition, member,
                      answer](const Result<metadata::RangeResult>& result) {
                       const auto process = weak.lock();
                       if (process == nullptr || !result.ok() || result->kvs.empty()) return;
                       const group::Configuration now =
                           group::FromRecord(*group::ParseRecord(result->kvs[0].value));
                       if (now.epoch != Epoch(0) || !now.Names(member)) return;
                       process->Post([process = process.get(), partition, member, answer] {
                         if (process->CreateReplica(partition, member.replica)) answer();
                       });
                     });
}

/// R11 for a replica that is named the primary and has gone with its disk: this node lives, so
/// nobody else would ever take over.
void Process::ResignLost() {
  for (const auto& [partition, known] : map_) {
    const group::Configuration& configuration = known.first;
    const group::Member primary = configuration.primary;
    if (primary.node != id() || configuration.epoch == Epoch(0)) continue;
    const auto image = disk().images.find(partition);
    const auto failed = failed_.find(partition);
    const bool opening = shipped_ != nullptr && shipped_->Opens(partition);
    const bool failing = failed != failed_.end() && hosts_.count(partition) == 0 && !opening &&
                         cluster_->scheduler().now() - failed->second < kFailing;
    if (!failing && image != disk().images.end() && image->second.replica == primary.replica)
      continue;
    for (const group::Member& member : configuration.in_sync) {
      if (member == primary || BootOf(member.node) == 0) continue;
      transport::GroupMessage message;
      message.table = kTable;
      message.partition = partition;
      message.to = member.replica;
      message.body = group::ResignMessage{primary, configuration.epoch};
      Send(member.node, std::move(message));
    }
  }
  After(milliseconds(300), [this] { ResignLost(); });
}

/// Each replica's state reaches the disk now and then, and its log is cut behind it.
void Process::FlushSome() {
  for (const auto& [partition, machine] : hosts_) {
    if (machine->removed() || !cluster_->random().Chance(300)) continue;
    if (node_->disk_faults.hung_until > cluster_->scheduler().now()) continue;
    // A shipped one tries, and finds out.
    if (shipped_ == nullptr && !DiskTakes()) continue;
    machine->Flush(cluster_->random().Chance(100));
  }
  CollectGarbage();
  After(milliseconds(300), [this] { FlushSome(); });
}

void Process::InstallCheckpoint(CheckpointDelivery delivery) {
  Run([this, delivery] {
    const auto host = hosts_.find(delivery.partition);
    if (host == hosts_.end() || host->second->replica_id() != delivery.to.replica) {
      delivery.done(NotFound("no such replica"));
      return;
    }
    std::string directory = "incoming/" + std::to_string(++incoming_);
    if (shipped_ != nullptr) {
      directory = shipped_->ReceiveFiles(delivery.files);
    } else {
      checkpoints_[directory] = delivery.state;
    }
    host->second->replica().InstallCheckpoint(delivery.epoch, delivery.position, directory,
                                              delivery.done);
  });
}

// Requests. ---------------------------------------------------------------------------------------

void Process::Write(const Request& request, Machine::Done done) {
  for (const auto& [partition, machine] : hosts_) {
    if (machine->Serves(request.key) && machine->replica().leading())
      return machine->Write(request, std::move(done));
  }
  done(Outcome::kRefused, 0, 0);
}

std::optional<Version> Process::StrongRead(const std::string& key) {
  for (const auto& [partition, machine] : hosts_) {
    if (auto read = machine->StrongRead(key)) {
      truth().Acts(partition, machine->replica().group().configuration().epoch, id(), boot_);
      return read;
    }
  }
  return std::nullopt;
}

Machine* Process::Host(PartitionId partition) {
  const auto host = hosts_.find(partition);
  return host == hosts_.end() ? nullptr : host->second.get();
}

// Splits and merges. ------------------------------------------------------------------------------

std::string Process::FirstEnd(PartitionId partition) { return cluster_->FirstEnd(partition); }

bool Process::FrozenAt(PartitionId right, LogIndex freeze) {
  Machine* machine = Host(right);
  return machine != nullptr && !machine->removed() && machine->frozen() == freeze;
}

const State& Process::StateOf(PartitionId partition) {
  return dynamic_cast<ModelMachine&>(*Host(partition)).state();
}

void Process::MakeChild(const Operation& split, ReplicaId parent, State state) {
  const auto id_here = split.child_replicas.find({id(), parent});
  if (id_here == split.child_replicas.end() || disk().images.count(split.child) != 0) return;
  cluster_->SetFirstEnd(split.child, split.end);
  truth().Commits(split.child, state.applied);
  disk().logs.erase(split.child);
  disk().configurations.erase(split.child);
  Image& image = disk().images[split.child];
  image.replica = id_here->second;
  image.state = std::move(state);
  image.made = cluster_->scheduler().now();
  Changed(split.child);
  Post([this, child = split.child] { Open(child); });
}

bool Process::OnTruncate(PartitionId partition, LogIndex up_to) {
  return shipped_ == nullptr || shipped_->MayCut(partition, up_to);
}

void Process::Changed(PartitionId partition) { cluster_->Touch(partition); }

void Process::Say(const std::string& what) {
  cluster_->Say("node " + id().ToString() + ", " + what);
}

void Process::Tempting(PartitionId partition) { cluster_->Ambush(id(), partition); }

}  // namespace onggi::simulation
