#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <charconv>
#include <utility>

#include "server/partition/replica_files.h"
#include "server/partition/shape.h"
#include "tests/simulation/cluster.h"
#include "tests/simulation/process_parts.h"

// Process: shipped partitions, and their home.

namespace onggi::simulation {

namespace asio = boost::asio;

namespace {

constexpr auto kReopen = milliseconds(5);
constexpr auto kReopenFailed = milliseconds(300);  // as PartitionManager

asio::awaitable<void> Stop(std::shared_ptr<partition::Partition> partition) {
  co_await partition->Stop(/*flush=*/false);
}

}  // namespace

// Home. -------------------------------------------------------------------------------------------

partition::NodeHome::Executor Process::Home::executor() const {
  CHECK(io_ != nullptr);
  return io_->get_executor();
}

WallTime Process::Home::WallNow() const {
  // Nodes' calendars differ by hours: nothing may depend on what they say.
  const Time now = process_ == nullptr ? Time(0)
                                       : process_->cluster_->scheduler().now() +
                                             process_->node_->clock_offset % std::chrono::hours(4);
  return WallTime(seconds(1'700'000'000) + std::chrono::duration_cast<milliseconds>(now));
}

lease::BootTime Process::Home::Now() const {
  if (process_ == nullptr) return lease::BootTime(0);
  return process_->Now() + (dying_ ? std::chrono::hours(1) : std::chrono::hours(0));
}

/// What is to be scheduled in the task's place.
std::function<void()> Process::Home::Keep(std::function<void()> task) {
  if (io_ == nullptr) return task;
  const uint64_t id = ++last_kept_;
  kept_[id] = std::move(task);
  return [weak = weak_from_this(), id] {
    const auto home = weak.lock();
    if (home == nullptr) return;
    const auto kept = home->kept_.find(id);
    if (kept == home->kept_.end()) return;
    const std::function<void()> run = std::move(kept->second);
    home->kept_.erase(kept);
    run();
  };
}

void Process::Home::Post(std::function<void()> task) {
  if (process_ == nullptr) return;
  if (dying_) return asio::post(*io_, std::move(task));
  process_->Post(Keep(std::move(task)));
}

void Process::Home::Post(std::shared_ptr<replica::Runnable> target) {
  Post([target] { target->Run(); });
}

void Process::Home::PostAfter(std::chrono::milliseconds delay, std::function<void()> task) {
  if (process_ == nullptr) return;
  if (dying_) return asio::post(*io_, std::move(task));
  process_->After(delay, Keep(std::move(task)));
}

bool Process::Home::Block(std::function<void()> work) {
  if (process_ == nullptr) return false;
  if (dying_) {
    asio::post(*io_, std::move(work));
    return true;
  }
  if (process_->shipped_ != nullptr && process_->shipped_->Foreign()) {
    process_->shipped_->AddForeign(std::move(work));
    return true;
  }
  Cluster& cluster = *process_->cluster_;
  const DiskFaults& faults = process_->node_->disk_faults;
  const Time at =
      std::max(cluster.scheduler().now() + cluster.random().Between(faults.least, faults.most),
               faults.hung_until);
  cluster.scheduler().At(at, [weak = process_->weak_from_this(), work = Keep(std::move(work))] {
    if (const auto process = weak.lock()) process->Run(work);
  });
  return true;
}

void Process::Home::Die() {
  dying_ = true;
  for (auto& [id, task] : std::exchange(kept_, {})) asio::post(*io_, std::move(task));
}

// Shipped. ----------------------------------------------------------------------------------------

Process::Shipped::Shipped(Process* process, ShippedWorld* world)
    : process_(process),
      world_(world),
      root_(world->disks().Begin(process->id())),
      io_(process->cluster_->executors().Make()),
      environment_(world->NewEnvironment()) {}

Process::Shipped::~Shipped() = default;

void Process::Shipped::Start(transport::Transport* link, replica::CheckpointSender* sender) {
  environment_->node = process_->id();
  environment_->storage = &world_->storage();
  environment_->metadata = process_->store_.get();
  environment_->disk_low = &process_->disk_low_;
  environment_->partitions_directory = root_ + "/partitions";
  environment_->boot = process_->boot_;
  environment_->transport = link;
  environment_->leases = process_->leases_;
  environment_->configurations = process_->configurations_.get();
  environment_->checkpoints = sender;
  // As a node starts: what a crash left half made goes.
  const storage::Files& files = world_->storage().files();
  const std::string& parent = environment_->partitions_directory;
  CHECK(files.MakeDirectories(parent).ok() && files.SyncDirectory(root_).ok());
  const auto beside = files.ListDirectories(root_);
  const auto replicas = files.ListDirectories(parent);
  CHECK(beside.ok() && replicas.ok());
  for (const std::string& name : *beside) {
    if (name != "partitions") CHECK(files.Remove(root_ + "/" + name).ok());
  }
  for (const std::string& name : *replicas) {
    if (name == "outgoing" || name.ends_with(".new")) CHECK(files.Remove(parent + "/" + name).ok());
  }
  CHECK(files.MakeDirectories(parent + "/outgoing").ok());
  LookAtDisk();
}

/// Nothing reaches the disk any more, and nobody hears what the partitions say as they go.
void Process::Shipped::Crash() {
  disks().Cut(process_->id());
  std::vector<std::shared_ptr<partition::Partition>> open;
  for (const auto& [id, machine] : opening_) open.push_back(machine->partition());
  for (const auto& machine : removed_) open.push_back(machine->partition());
  for (const auto& [id, machine] : process_->hosts_)
    open.push_back(dynamic_cast<PartitionMachine&>(*machine).partition());
  for (const auto& partition : open) {
    partition->GiveUpStart(Unavailable("the process is gone"));
    if (partition->replica() != nullptr) partition->replica()->Stop();
  }
  process_->home_->Die();
  open.clear();
  Poll();
}

void Process::Shipped::AddForeign(std::function<void()> work) {
  std::lock_guard lock(mutex_);
  foreign_.push_back(std::move(work));
}

void Process::Shipped::Poll() {
  for (;;) {
    world_->env().Settle();
    std::vector<std::function<void()>> foreign;
    {
      std::lock_guard lock(mutex_);
      foreign.swap(foreign_);
    }
    for (auto& work : foreign) (void)process_->home_->Block(std::move(work));
    io_->restart();
    if (io_->poll() == 0 && foreign.empty()) return;
  }
}

void Process::Shipped::Settle() {
  Poll();
  Host();
  LookAtDisk();
}

// Replicas. ---------------------------------------------------------------------------------------

std::string Process::Shipped::DirectoryOf(PartitionId partition) const {
  return environment_->partitions_directory + "/" + partition.ToString();
}

std::string Process::Shipped::StoreOf(PartitionId partition) const {
  const auto path = partition::StorePath(world_->storage().files(), DirectoryOf(partition));
  return path.ok() ? *path : std::string();
}

PartitionMachine* Process::Shipped::Find(PartitionId partition) const {
  if (const auto found = opening_.find(partition); found != opening_.end())
    return found->second.get();
  return dynamic_cast<PartitionMachine*>(process_->Host(partition));
}

bool Process::Shipped::closing(PartitionId partition) const {
  const auto closed = closed_.find(partition);
  return closed != closed_.end() && closed->second->count() == 0 && Find(partition) == nullptr;
}

bool Process::Shipped::Create(PartitionId partition, ReplicaId replica) {
  if (closing(partition)) return false;
  // Of what a crash has left half removed, as of a lost replica that is named no more.
  const storage::Files& files = world_->storage().files();
  if (!partition::ReadReplicaFile(files, DirectoryOf(partition)).ok())
    (void)partition::RemoveReplica(files, DirectoryOf(partition), ReplicaId());
  const Status made = partition::MakeReplicaDirectory(
      world_->storage(), environment_->partitions_directory, DirectoryOf(partition), replica,
      /*lazily=*/false);
  if (!made.ok()) return false;
  LookAtDisk();
  return true;
}

void Process::Shipped::Open(PartitionId partition, ReplicaId replica,
                            const group::Configuration& configuration, Revision revision) {
  if (Find(partition) != nullptr) return;
  if (closing(partition)) {
    process_->After(kReopen, [process = process_, partition] { process->Open(partition); });
    return;
  }
  partition::PartitionPlace place;
  place.home = process_->home_;
  place.log = process_->log_;
  place.host = this;
  place.replica = replica;
  place.closed = std::make_shared<partition::News>();
  closed_[partition] = place.closed;
  auto machine =
      std::make_unique<PartitionMachine>(process_, *environment_, std::move(place),
                                         world_->schema(), partition, configuration, revision);
  PartitionMachine* const raw = machine.get();
  opening_[partition] = std::move(machine);
  raw->Start(io_);
}

/// Those that have got their replica are hosted from now on.
void Process::Shipped::Host() {
  for (auto it = opening_.begin(); it != opening_.end();) {
    if (!it->second->HasReplica()) {
      ++it;
      continue;
    }
    const PartitionId partition = it->first;
    PartitionMachine* const machine = it->second.get();
    process_->seen_commits.erase(partition);
    const auto position = machine->partition()->PersistedPosition();
    // From the first entry on: the process before may have died between applying the last of them
    // and being looked at.
    process_->seen_applied[partition] = LogIndex();
    const auto image = process_->disk().images.find(partition);
    if (position.ok() && image != process_->disk().images.end() &&
        position->index < image->second.state.applied.index) {
      process_->truth().Fail("node " + process_->id().ToString() + " partition " +
                             partition.ToString() + ": the store ends at entry " +
                             position->index.ToString() + " and had reached " +
                             image->second.state.applied.index.ToString());
    }
    process_->hosts_[partition] = std::move(it->second);
    it = opening_.erase(it);
    const auto known = process_->map_.find(partition);
    if (known != process_->map_.end()) {
      process_->PostTo(
          partition, machine->replica_id(),
          [machine, configuration = known->second.first, revision = known->second.second] {
            machine->replica().OnConfigurationSeen(configuration, revision);
          });
    }
  }
}

void Process::Shipped::OnStarted(PartitionId partition, ReplicaId replica, const Status& status) {
  PartitionMachine* const machine = Find(partition);
  if (status.ok() || machine == nullptr || machine->replica_id() != replica) return;
  if (disks().IsCut(process_->id()) || machine->removed()) return;
  if (process_->MayFail(status)) {
    process_->failed_[partition] = process_->cluster_->scheduler().now();
    process_->Post([this, partition, replica] {
      const auto opening = opening_.find(partition);
      if (opening == opening_.end() || opening->second->replica_id() != replica) return;
      opening_.erase(opening);
      process_->After(kReopenFailed, [process = process_, partition] { process->Open(partition); });
    });
    return;
  }
  process_->truth().Fail("node " + process_->id().ToString() + " cannot open partition " +
                         partition.ToString() + ": " + status.ToString());
}

std::unique_ptr<PartitionMachine> Process::Shipped::Take(PartitionId partition) {
  std::unique_ptr<PartitionMachine> machine;
  if (const auto found = opening_.find(partition); found != opening_.end()) {
    machine = std::move(found->second);
    opening_.erase(found);
  } else if (const auto host = process_->hosts_.find(partition); host != process_->hosts_.end()) {
    machine.reset(dynamic_cast<PartitionMachine*>(host->second.release()));
    process_->hosts_.erase(host);
  }
  return machine;
}

void Process::Shipped::ReopenLater(PartitionId partition, ReplicaId replica) {
  process_->Post([this, partition, replica] {
    const PartitionMachine* const there = Find(partition);
    if (there == nullptr || there->replica_id() != replica || there->removed()) return;
    removed_.push_back(Take(partition));
    PartitionMachine* const raw = removed_.back().get();
    asio::co_spawn(*io_, Stop(raw->partition()),
                   [this, process = process_, raw, partition](std::exception_ptr failed) {
                     CHECK(failed == nullptr);
                     if (!process->alive()) return;
                     std::erase_if(removed_, [raw](const auto& one) { return one.get() == raw; });
                     process->After(kReopenFailed,
                                    [process, partition] { process->Open(partition); });
                   });
  });
}

void Process::Shipped::Remove(PartitionId partition) {
  const bool opens = Opens(partition);
  std::unique_ptr<PartitionMachine> machine = Take(partition);
  if (machine == nullptr) return;
  if (opens) machine->partition()->GiveUpStart(NotFound("the partition is gone"));
  machine->SetRemoved();
  machine->partition()->RemoveFilesOnClose();
  PartitionMachine* const raw = machine.get();
  removed_.push_back(std::move(machine));
  asio::co_spawn(*io_, Stop(raw->partition()),
                 [this, process = process_, raw, partition](std::exception_ptr failed) {
                   CHECK(failed == nullptr);
                   if (!process->alive()) return;
                   process->RemoveLog(partition);
                   process->configurations_->AsyncRemove(partition);
                   // The files go with the last reference.
                   std::erase_if(removed_, [raw](const auto& one) { return one.get() == raw; });
                   process->After(kReopen, [process, partition] { process->Open(partition); });
                 });
}

void Process::Shipped::RemoveFiles(PartitionId partition) {
  (void)world_->storage().files().Remove(DirectoryOf(partition));
  LookAtDisk();
}

/// As PartitionManager::ChildOfUncut: of a split that the key does not show yet.
bool Process::Shipped::ChildOfUncut(PartitionId partition) const {
  const auto mark = partition::ParentMark::Read(world_->storage().files(), DirectoryOf(partition));
  if (!mark.ok()) return true;  // asked again
  if (!mark->has_value()) return false;
  const auto parent = process_->map_.find((*mark)->parent);
  if (parent == process_->map_.end()) return false;
  const group::Configuration& configuration = parent->second.first;
  const auto image = process_->disk().images.find((*mark)->parent);
  if (image == process_->disk().images.end()) return false;
  return configuration.Names({process_->id(), image->second.replica}) &&
         (*mark)->key > configuration.range_start &&
         (configuration.range_end.empty() || (*mark)->key < configuration.range_end);
}

std::string Process::Shipped::ReceiveFiles(const StoreDisks::Tree& files) {
  const std::string directory = root_ + "/incoming-" + std::to_string(++received_);
  disks().Put(directory, files);
  return directory;
}

// The disk. ---------------------------------------------------------------------------------------

/// Which replicas there are, and what a crash would leave of them.
void Process::Shipped::LookAtDisk() {
  const uint64_t changes = disks().changes(process_->id());
  if (changes == changes_ || disks().IsCut(process_->id())) return;
  if (disks().unreadable(process_->id())) return;  // another time
  changes_ = changes;
  const storage::Files& files = world_->storage().files();
  const auto names = files.ListDirectories(environment_->partitions_directory);
  if (!names.ok()) return;
  std::map<PartitionId, ReplicaId> present;
  for (const std::string& name : *names) {
    uint64_t id = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), id);
    if (parsed.ptr != name.data() + name.size()) continue;
    const auto replica = partition::ReadReplicaFile(files, DirectoryOf(PartitionId(id)));
    if (replica.ok()) present[PartitionId(id)] = *replica;
  }
  auto& images = process_->disk().images;
  for (auto it = images.begin(); it != images.end();) {
    const auto found = present.find(it->first);
    if (found != present.end() && found->second == it->second.replica) {
      ++it;
      continue;
    }
    process_->Changed(it->first);
    it = images.erase(it);
  }
  for (const auto& [partition, replica] : present) {
    const auto [image, appeared] = images.try_emplace(partition);
    LogPosition& durable = image->second.state.applied;
    if (appeared) {
      image->second.replica = replica;
      image->second.made = process_->cluster_->scheduler().now();
      const auto state = Find(partition) != nullptr
                             ? Result<partition::AppliedState>(NotFound("open"))
                             : partition::ReadAppliedState(world_->storage(), StoreOf(partition));
      if (state.ok()) durable = {state->epoch, state->index};
      // A child begins behind an entry that is in no log.
      if (durable.index == LogIndex(1) && process_->truth().committed(partition) == LogIndex()) {
        process_->truth().Commits(partition, durable);
      }
      process_->Changed(partition);
    }
    PartitionMachine* const machine = Find(partition);
    if (machine == nullptr || machine->replica_id() != replica) continue;
    const auto position = machine->partition()->PersistedPosition();
    if (!position.ok() || *position == durable) continue;
    if (position->index < durable.index) {
      process_->truth().Fail("node " + process_->id().ToString() + " partition " +
                             partition.ToString() + ": the store on disk goes back");
    }
    durable = *position;
    process_->Changed(partition);
  }
}

bool Process::Shipped::MayCut(PartitionId partition, LogIndex up_to) {
  if (disks().IsCut(process_->id())) return false;
  PartitionMachine* const machine = Find(partition);
  if (machine == nullptr) return true;
  // While the log still has it: what was applied here, and what the process before had applied when
  // it died, before anybody looked.
  process_->Observe(partition);
  LookAtDisk();
  const auto position = machine->partition()->PersistedPosition();
  if (position.ok()) process_->cluster_->Observe(process_, partition, position->index);
  if (!position.ok() || position->index >= up_to) return true;
  process_->truth().Fail("node " + process_->id().ToString() + " partition " +
                         partition.ToString() + ": the log is cut up to entry " + up_to.ToString() +
                         ", the store on disk ends at " + position->index.ToString());
  return true;
}

// partition::PartitionHost. -----------------------------------------------------------------------

/// The map as it is known here is no older than what the replicas know.
void Process::Shipped::OnConfiguration(TableId, PartitionId partition,
                                       const partition::KnownConfiguration& known) {
  const auto found = process_->map_.find(partition);
  if (found == process_->map_.end() || known.revision <= found->second.second) return;
  found->second = {known.configuration, known.revision};
}

void Process::Shipped::OnReplicaRemoved(TableId, PartitionId partition) {
  if (!process_->alive()) return;
  PartitionMachine* const machine = Find(partition);
  if (machine == nullptr) return;
  machine->SetRemoved();
  // Not from within a call of the replica.
  process_->Post([this, partition, replica = machine->replica_id()] {
    PartitionMachine* const there = Find(partition);
    if (there != nullptr && there->replica_id() == replica) Remove(partition);
  });
}

void Process::Shipped::OnReplicaFailed(TableId, PartitionId partition, const Status& status) {
  if (!process_->alive() || disks().IsCut(process_->id())) return;
  if (process_->MayFail(status)) {
    if (const PartitionMachine* const machine = Find(partition))
      ReopenLater(partition, machine->replica_id());
    return;
  }
  process_->truth().Fail("node " + process_->id().ToString() + " partition " +
                         partition.ToString() + ": " + status.ToString());
}

void Process::Shipped::OnChildMade(PartitionId child, ReplicaId) {
  process_->cluster_->Ambush(process_->id(), child);
  process_->Post([process = process_, child] { process->Open(child); });
}

std::shared_ptr<const partition::Partition> Process::Shipped::FindFrozen(PartitionId partition,
                                                                         LogIndex freeze) {
  const auto* const machine = dynamic_cast<PartitionMachine*>(process_->Host(partition));
  if (machine == nullptr || machine->removed() || machine->frozen() != freeze) return nullptr;
  return machine->partition();
}

// Process. ----------------------------------------------------------------------------------------

void Process::OnStarted(PartitionId partition, ReplicaId replica, const Status& status) {
  shipped_->OnStarted(partition, replica, status);
}

std::string Process::StoreOf(PartitionId partition) const { return shipped_->StoreOf(partition); }

void Process::Observe(PartitionId partition) {
  if (Machine* machine = Host(partition)) cluster_->Observe(this, partition, machine);
}

}  // namespace onggi::simulation
