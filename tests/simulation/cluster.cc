#include "tests/simulation/cluster.h"

#include <algorithm>
#include <iostream>
#include <utility>

#include "replication/group/record.h"
#include "replication/metadata/keys.h"
#include "tests/simulation/coordinators.h"
#include "tests/simulation/jobs.h"
#include "tests/simulation/shipped_world.h"

namespace onggi::simulation {

namespace {

constexpr TableId kTable{1};
constexpr Time kDialInterval = milliseconds(120);
/// What replication.md allows between the last fault and the next accepted write.
constexpr Time kRecovery = seconds(5);
/// And until every partition has as many replicas in sync as it is to have.
constexpr Time kRepair = seconds(20);
/// The same where disks were lost and coordinators have to make replicas anew: a partition that has
/// too few whole ones waits for them.
constexpr Time kCoordinatorsRecovery = seconds(20);
constexpr Time kCoordinatorsRepair = seconds(60);  // with their patience, and jobs to be given up
constexpr Time kFrozenRecovery = seconds(20);
constexpr Time kStray = seconds(4);

}  // namespace

Profile Profile::Draw(Random* random, int generation) {
  const auto often = [&](uint64_t per_thousand, Time least, Time most) {
    return random->Chance(per_thousand) ? random->Between(least, most) : Time(0);
  };
  Profile profile;
  const uint64_t size = random->Below(10);
  profile.nodes = size < 6 ? 3 : size < 8 ? 4 : 5;
  profile.replication = random->Chance(100) ? 1 : 3;
  if (profile.nodes == 5 && random->Chance(500)) profile.replication = 5;
  profile.partitions = 1 + random->Below(2);
  profile.chaos = random->Between(seconds(6), seconds(14));
  if (random->Chance(500)) profile.drop = random->Below(120);
  if (random->Chance(400)) profile.duplicate = random->Below(100);
  if (random->Chance(400)) profile.most_delay = random->Between(milliseconds(3), milliseconds(60));
  if (random->Chance(60)) profile.most_delay = random->Between(milliseconds(60), milliseconds(600));
  profile.crashes = often(700, milliseconds(700), seconds(5));
  profile.pauses = often(500, milliseconds(700), seconds(5));
  profile.cuts = often(600, milliseconds(700), seconds(4));
  profile.hangs = often(300, seconds(1), seconds(5));
  profile.metadata_cuts = often(300, seconds(1), seconds(5));
  profile.wipes = often(200, seconds(3), seconds(9));
  profile.everybody_down = often(150, seconds(3), seconds(9));
  profile.transfers = often(400, milliseconds(400), seconds(4));
  profile.moves = often(300, seconds(1), seconds(4));
  profile.replications = often(100, seconds(2), seconds(5));
  profile.splits = often(350, seconds(1), seconds(4));
  profile.merges = profile.splits != Time(0) ? often(600, seconds(1), seconds(3)) : Time(0);
  profile.metadata.min_delay = milliseconds(1);
  profile.metadata.max_delay = milliseconds(1 + random->Below(30));
  if (random->Chance(500)) {
    profile.metadata.unavailable = static_cast<unsigned>(random->Below(100));
    profile.metadata.unknown_done = static_cast<unsigned>(random->Below(150));
    profile.metadata.unknown_lost = static_cast<unsigned>(random->Below(100));
    profile.metadata.unknown_late = static_cast<unsigned>(random->Below(150));
  }
  profile.between_requests = random->Between(milliseconds(3), milliseconds(40));
  if (generation < 2) return profile;
  if (random->Chance(600)) profile.ambushes = 1 + random->Below(300);
  if (random->Chance(250)) profile.strays = 1 + random->Below(30);
  profile.thin_links = random->Chance(400);
  if (generation < 3) return profile;
  if (random->Chance(120)) profile.coordinators = 1 + random->Below(3);
  if (random->Chance(500)) profile.message_bytes = 4 + random->Below(100);
  if (generation < 5) return profile;
  profile.fulls = often(350, seconds(1), seconds(5));
  profile.failures = often(300, seconds(1), seconds(5));
  return profile;
}

Cluster::Cluster(uint64_t seed, int generation) : Cluster(seed, Profile()) {
  profile_ = Profile::Draw(&random_, generation);
  if (generation < 4 || !Profile::IsShipped(seed)) return;
  profile_.shipped = true;
  if (generation < 5) profile_.coordinators = 0;
  // There are fewer of them: more of what is shipped code here alone.
  if (profile_.splits == Time(0) && random_.Chance(700))
    profile_.splits = random_.Between(milliseconds(700), seconds(3));
  if (profile_.merges == Time(0) && profile_.splits != Time(0) && random_.Chance(700))
    profile_.merges = random_.Between(milliseconds(700), seconds(2));
}

Cluster::Cluster(uint64_t seed, Profile profile)
    : seed_(seed), random_(seed), profile_(std::move(profile)) {}

Cluster::~Cluster() {
  coordinators_.reset();  // they stop in virtual time
  for (const auto& node : nodes_) {
    if (node->process != nullptr) node->process->Crash();
  }
}

void Cluster::Say(const std::string& what) {
  if (!verbose) return;
  std::cerr << std::chrono::duration_cast<milliseconds>(scheduler_.now()).count() << " ms: " << what
            << "\n";
}

// The course of a run. ----------------------------------------------------------------------------

void Cluster::Begin() {
  metadata_ = metadata::SimulatedCluster::Create(
      [this](milliseconds delay, std::function<void()> run) {
        scheduler_.After(delay, std::move(run));
      },
      seed_, profile_.metadata);
  for (size_t i = 0; i < profile_.nodes; ++i) {
    auto node = std::make_unique<Node>();
    node->id = NodeId(i + 1);
    // Rates that differ by up to 1 % either way, and sometimes exactly so.
    const int64_t rate = random_.Chance(300) ? (random_.Chance(500) ? 10'000 : -10'000)
                                             : static_cast<int64_t>(random_.Below(20'001)) - 10'000;
    node->clock_rate = 1.0 + static_cast<double>(rate) / 1e6;
    node->clock_offset = random_.Between(seconds(1), seconds(100'000));
    nodes_.push_back(std::move(node));
  }
  if (profile_.shipped) world_ = std::make_unique<ShippedWorld>();
  for (int i = 0; i < 12; ++i) {
    std::string key = "k0";
    key[1] = static_cast<char>('0' + i * 10 / 12);
    key += static_cast<char>('a' + i % 3);
    keys_.push_back(world_ == nullptr ? key : ShippedWorld::KeyOf(key));
  }
  std::sort(keys_.begin(), keys_.end());
  MakePartitions();
  for (const auto& node : nodes_) StartNode(node->id);
  Dial();
  if (profile_.between_requests != Time(0)) Client();
  jobs_ = std::make_unique<Jobs>(this);
  if (profile_.coordinators != 0) {
    coordinators_ = std::make_unique<Coordinators>(this, profile_.coordinators);
    Every(seconds(2), &Cluster::DisturbCoordinators);
  }
  Every(milliseconds(250), &Cluster::Repair);
  Every(profile_.crashes, &Cluster::CrashSomebody);
  Every(profile_.pauses, &Cluster::PauseSomebody);
  Every(profile_.cuts, &Cluster::CutSomething);
  Every(profile_.hangs, &Cluster::HangSomebody);
  Every(profile_.fulls, &Cluster::FillSomebody);
  Every(profile_.failures, &Cluster::FailSomebody);
  Every(profile_.metadata_cuts, &Cluster::CutMetadataSomewhere);
  Every(profile_.wipes, &Cluster::WipeSomebody);
  Every(profile_.everybody_down, &Cluster::CrashEverybody);
  Every(profile_.transfers, &Cluster::Transfer);
  Every(profile_.moves, &Cluster::Move);
  Every(profile_.replications, &Cluster::ChangeReplication);
  Every(profile_.splits, &Cluster::Split);
  Every(profile_.merges, &Cluster::Merge);
}

uint64_t Cluster::jobs() const {
  const std::string prefix(metadata::keys::kJobPrefix);
  return metadata_->ReadNow(prefix, metadata::PrefixEnd(prefix)).kvs.size();
}

void Cluster::Repair() {
  if (coordinators_ == nullptr) jobs_->Repair();
}
void Cluster::DisturbCoordinators() {
  if (!calm_) coordinators_->Disturb();
}
void Cluster::Transfer() {
  if (!quiet_) jobs_->Transfer();
}
void Cluster::Move() {
  if (!quiet_ && coordinators_ == nullptr) jobs_->Move();
}
void Cluster::ChangeReplication() {
  if (quiet_) return;
  if (coordinators_ != nullptr) return coordinators_->ChangeReplication();
  jobs_->ChangeReplication();
}
void Cluster::Split() {
  if (quiet_) return;
  if (coordinators_ != nullptr) return coordinators_->ChangeLoad();
  jobs_->Split();
}
void Cluster::Merge() {
  if (quiet_) return;
  if (coordinators_ != nullptr) return coordinators_->ChangeLoad();
  jobs_->Merge();
}

std::string Cluster::Run() {
  Begin();
  RunFor(profile_.chaos);
  return Finish();
}

bool Cluster::RunFor(Time time, const std::function<bool()>& until) {
  const Time end = scheduler_.now() + time;
  while (truth_.error().empty()) {
    if (until && until()) return true;
    ++steps_;
    const bool more = scheduler_.RunOne(end);
    if (coordinators_ != nullptr) coordinators_->Step();
    if (!touched_.empty()) Check();
    if (!more) return until ? until() : true;
  }
  return false;
}

std::string Cluster::Finish() {
  if (truth_.error().empty()) Heal();
  return truth_.error();
}

/// `what` now and again, `mean` apart.
void Cluster::Every(Time mean, void (Cluster::*what)()) {
  if (mean == Time(0)) return;
  scheduler_.After(random_.Between(mean / 2, mean * 3 / 2), [this, mean, what] {
    (this->*what)();
    Every(mean, what);
  });
}

void Cluster::MakePartitions() {
  std::string start;
  for (size_t i = 0; i < profile_.partitions; ++i) {
    const PartitionId partition = NextPartition();
    group::Configuration configuration;
    configuration.replication = profile_.replication;
    configuration.min_in_sync = group::MinInSync(profile_.replication);
    for (uint32_t r = 0; r < profile_.replication; ++r) {
      const NodeId node((i + r) % profile_.nodes + 1);
      configuration.in_sync.push_back({node, NextReplica()});
    }
    configuration.primary = configuration.in_sync.front();
    configuration.range_start = start;
    if (i + 1 < profile_.partitions) {
      configuration.range_end =
          world_ != nullptr
              ? ShippedWorld::CutBefore(keys_[keys_.size() * (i + 1) / profile_.partitions])
              : std::string("k") + static_cast<char>('0' + 10 * (i + 1) / profile_.partitions);
    }
    start = configuration.range_end;
    SetFirstEnd(partition, configuration.range_end);
    metadata::Transaction transaction;
    transaction.puts.push_back({metadata::keys::Partition(kTable, partition),
                                group::Encode(kTable, partition, configuration)});
    CHECK(metadata_->CommitNow(transaction).ok());
  }
}

/// Without further faults every range accepts writes again, and nothing is missing.
void Cluster::Heal() {
  Say("healing");
  calm_ = true;
  quiet_ = true;
  jobs_->Quiet();
  if (coordinators_ != nullptr) coordinators_->Quiet();
  cuts_.clear();
  thin_.clear();
  drop_if = {};
  late_if = {};
  profile_.drop = profile_.duplicate = profile_.strays = profile_.ambushes = 0;
  profile_.least_delay = microseconds(100);
  profile_.most_delay = milliseconds(2);
  profile_.metadata = metadata::SimulatedFaults();
  metadata_->SetFaults(profile_.metadata);
  metadata_->SetDown(false);
  for (const auto& node : nodes_) {
    const Time ailing = node->disk_faults.ailing_until;
    node->disk_faults = DiskFaults();
    node->disk_faults.ailing_until = ailing;
    ShowDiskFaults(node->id);
    if (world_ != nullptr) world_->disks().CutAfter(node->id, 0);
    CutMetadata(node->id, false);
    if (node->paused(scheduler_.now())) {
      node->paused_until = scheduler_.now();
      if (node->process != nullptr) node->process->Resume();
    }
    if (node->process == nullptr) StartNode(node->id);
  }
  const Time healed = scheduler_.now();
  std::map<std::string, bool> written;
  for (const std::string& key : keys_) written[key] = false;
  const auto waiting = std::make_shared<int>();
  const std::function<void()> ask = [&] {
    for (auto& [key, done] : written) {
      if (done) continue;
      for (const auto& node : nodes_) {
        const uint64_t value = ++values_;
        // It may be answered when nobody waits for it any more.
        const auto answer = [this, key = key, value, &done = done, waits = std::weak_ptr(waiting)](
                                Outcome outcome, uint64_t version, uint64_t) {
          if (outcome == Outcome::kRefused) truth_.Refused(value);
          if (outcome != Outcome::kOk) return;
          truth_.Acknowledged(key, version, value);
          if (!waits.expired()) done = true;
        };
        Request request;
        request.key = key;
        request.value = value;
        if (node->process != nullptr) node->process->Write(request, answer);
      }
    }
  };
  const auto all = [&] {
    return std::all_of(written.begin(), written.end(),
                       [](const auto& entry) { return entry.second; });
  };
  const bool wiped = std::any_of(nodes_.begin(), nodes_.end(),
                                 [](const auto& node) { return node->disk.wipes > 0; });
  Time recovery = coordinators_ != nullptr && wiped ? kCoordinatorsRecovery : kRecovery;
  // A shipped partition that was frozen for a merge thaws by itself, but not soon.
  if (profile_.shipped && profile_.merges != Time(0)) recovery = kFrozenRecovery;
  while (truth_.error().empty() && !all() && scheduler_.now() < healed + recovery) {
    ask();
    RunFor(milliseconds(50), all);
  }
  if (!truth_.error().empty()) return;
  if (!all()) {
    std::string missing;
    for (const auto& [key, done] : written) {
      if (!done) missing += " " + Printable(key);
    }
    truth_.Fail("no write goes through within " + std::to_string(recovery / seconds(1)) +
                " s of healing:" + missing + Describe());
    return;
  }
  // Everybody catches up, and what was written can be read.
  RunFor(seconds(3));
  std::set<std::string> unread(keys_.begin(), keys_.end());
  const auto read = [&] {
    std::erase_if(unread, [&](const std::string& key) {
      for (const auto& node : nodes_) {
        const uint64_t floor = truth_.Floor(key);
        const auto version = node->process->StrongRead(key);
        if (!version) continue;
        truth_.ReadAnswered(key, floor, version->version, version->value);
        return true;
      }
      return false;
    });
    return unread.empty();
  };
  const Time since = scheduler_.now();
  while (truth_.error().empty() && !read() && scheduler_.now() < since + kRecovery)
    RunFor(milliseconds(50));
  if (!unread.empty())
    truth_.Fail("no strong read of key " + Printable(*unread.begin()) + " after healing" +
                Describe());
  const Time repair = coordinators_ == nullptr ? kRepair : kCoordinatorsRepair;
  while (truth_.error().empty() && !Whole() && scheduler_.now() < healed + repair)
    RunFor(milliseconds(250));
  if (!Whole()) {
    truth_.Fail("still not all replicas in sync " + std::to_string(repair / seconds(1)) +
                " s after healing" + Describe());
  }
  if (truth_.error().empty() && world_ != nullptr) CompareContents();
}

/// Has every partition the replicas that it is to have, as far as there are nodes?
bool Cluster::Whole() {
  for (const PartitionId partition : Partitions()) {
    const auto key = Key(partition);
    if (key->in_sync.size() != std::min<size_t>(key->replication, nodes_.size())) return false;
    if (coordinators_ != nullptr && key->replication != coordinators_->replication()) return false;
  }
  return true;
}

std::string Cluster::Describe() {
  std::string text;
  if (coordinators_ != nullptr) text = coordinators_->Describe();
  for (const PartitionId partition : Partitions()) {
    Revision revision;
    const auto key = Key(partition, &revision);
    text += "\n  partition " + partition.ToString() + " [" + Printable(key->range_start) + ", " +
            Printable(key->range_end) + ") epoch " + key->epoch.ToString() + " revision " +
            revision.ToString() + " primary " + key->primary.node.ToString() + " in sync";
    for (const group::Member& member : key->in_sync)
      text += " " + member.node.ToString() + "/" + member.replica.ToString();
    text += " learners";
    for (const group::Member& member : key->learners)
      text += " " + member.node.ToString() + "/" + member.replica.ToString();
    for (const auto& node : nodes_) {
      Machine* machine = node->process == nullptr ? nullptr : node->process->Host(partition);
      if (machine == nullptr) continue;
      const group::Group& group = machine->replica().group();
      text += "\n    node " + node->id.ToString() + " replica " + machine->replica_id().ToString() +
              ": " + group.Describe() + (machine->replica().ServesStrongReads() ? " leased" : "") +
              machine->Describe();
    }
  }
  return text;
}

// Nodes and network. ------------------------------------------------------------------------------

Process* Cluster::ProcessOf(NodeId id) { return node(id).process.get(); }

void Cluster::StartNode(NodeId id) {
  Node& here = node(id);
  if (here.process != nullptr) return;
  Say("node " + id.ToString() + " starts");
  here.process = std::make_shared<Process>(this, &here, id.value * 1000 + ++here.lives);
  ShowDiskFaults(id);
  here.process->Start();
  if (coordinators_ != nullptr) coordinators_->Started(here);
}

void Cluster::CrashNode(NodeId id) {
  Node& here = node(id);
  if (here.process == nullptr) return;
  Say("node " + id.ToString() + " crashes");
  here.process->Crash();
  here.process.reset();
  here.paused_until = Time(0);
  if (coordinators_ != nullptr) coordinators_->Crashed(here);
  for (const auto& other : nodes_) {
    if (other->process == nullptr || !Reaches(id, other->id)) continue;
    // A connection of a dead process is reset.
    other->process->After(random_.Between(Time(0), milliseconds(30)),
                          [other = other.get(), id, boot = other->process->BootOf(id)] {
                            if (boot != 0 && other->process->ConnectedTo(id, boot))
                              other->process->Disconnect(id);
                          });
  }
}

void Cluster::Pause(NodeId id, Time time) {
  Node& here = node(id);
  if (here.process == nullptr) return;
  Say("node " + id.ToString() + " is paused for " + std::to_string(time.count() / 1'000'000) +
      " ms");
  const Time until = scheduler_.now() + time;
  here.paused_until = std::max(here.paused_until, until);
  scheduler_.At(until, [this, &here] {
    if (here.process != nullptr && !here.paused(scheduler_.now())) here.process->Resume();
  });
}

void Cluster::Unpause(NodeId id) {
  Node& here = node(id);
  here.paused_until = Time(0);
  if (here.process != nullptr) here.process->Resume();
}

void Cluster::Cut(NodeId from, NodeId to, bool cut) {
  if (cut) {
    cuts_.insert({from, to});
  } else {
    cuts_.erase({from, to});
  }
}

void Cluster::Isolate(NodeId id, bool cut) {
  Say("node " + id.ToString() + (cut ? " is isolated" : " is joined again"));
  for (const auto& other : nodes_) {
    if (other->id == id) continue;
    Cut(id, other->id, cut);
    Cut(other->id, id, cut);
  }
}

void Cluster::CutMetadata(NodeId id, bool cut) {
  Node& here = node(id);
  if (here.metadata_cut != cut)
    Say("node " + id.ToString() + (cut ? " loses" : " finds") + " the metadata store");
  here.metadata_cut = cut;
  if (here.process != nullptr) here.process->store().SetCut(cut);
}

void Cluster::Transmit(NodeId from, uint64_t boot, NodeId to, Packet packet) {
  if (!Reaches(from, to) || random_.Chance(profile_.drop)) return;
  if (drop_if && drop_if(from, to, packet)) return;
  if (const auto thin = thin_.find({from, to}); thin != thin_.end()) {
    if (std::holds_alternative<transport::GroupMessage>(packet) != thin->second) return;
  }
  const int copies = random_.Chance(profile_.duplicate) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    Time delay = random_.Between(profile_.least_delay, profile_.most_delay);
    if (profile_.strays != 0 && random_.Chance(profile_.strays))
      delay += random_.Between(Time(0), kStray);
    scheduler_.After(delay, [this, from, boot, to, packet] {
      const std::shared_ptr<Process> target = node(to).process;
      if (target == nullptr || !Reaches(from, to)) return;
      target->Run([raw = target.get(), from, boot, packet] { raw->Receive(from, boot, packet); });
    });
  }
}

/// Connects what can be connected and is not.
void Cluster::Dial() {
  const Time now = scheduler_.now();
  for (const auto& a : nodes_) {
    for (const auto& b : nodes_) {
      if (b->id <= a->id || a->process == nullptr || b->process == nullptr) continue;
      if (a->paused(now) || b->paused(now)) continue;
      if (!Reaches(a->id, b->id) || !Reaches(b->id, a->id)) continue;
      if (a->process->ConnectedTo(b->id, b->process->boot()) &&
          b->process->ConnectedTo(a->id, a->process->boot()))
        continue;
      a->process->Connect(b->id, b->process->boot());
      b->process->Connect(a->id, a->process->boot());
    }
  }
  scheduler_.After(kDialInterval, [this] { Dial(); });
}

// Clients. ----------------------------------------------------------------------------------------

void Cluster::Client() {
  if (!calm_) {
    const std::string key = keys_[random_.Below(keys_.size())];
    const bool write = random_.Chance(500);
    if (write && world_ != nullptr) {
      OneRetriedWrite(key);
    } else if (write) {
      OneWrite(0, key);
    } else {
      OneRead(key);
    }
  }
  scheduler_.After(random_.Between(Time(0), profile_.between_requests * 2), [this] { Client(); });
}

/// A write that is refused is tried at other nodes; a client that has to wait is satisfied late or
/// never.
void Cluster::OneWrite(int attempt, const std::string& key) {
  const std::shared_ptr<Process> process = nodes_[random_.Below(nodes_.size())]->process;
  if (process == nullptr) return;
  const uint64_t value = ++values_;
  const auto answer = [this, key, value, attempt](Outcome outcome, uint64_t version, uint64_t) {
    if (outcome == Outcome::kRefused) {
      truth_.Refused(value);
      if (attempt < 4) {
        scheduler_.After(random_.Between(Time(0), milliseconds(5)),
                         [this, key, attempt] { OneWrite(attempt + 1, key); });
      }
    } else if (outcome == Outcome::kOk) {
      // It counts once the answer has left the node.
      truth_.Acknowledged(key, version, value);
      OneRead(key);  // now, whoever thinks that it leads
    }
  };
  process->Run([raw = process.get(), key, value, answer] {
    raw->Write(Request{Request::Kind::kUpdate, key, value, 0}, answer);
  });
}

bool Cluster::Write(NodeId id, const std::string& key) {
  const uint64_t value = ++values_;
  auto proposed = std::make_shared<bool>(true);
  const auto answer = [this, key, value, proposed](Outcome outcome, uint64_t version, uint64_t) {
    if (outcome == Outcome::kRefused) {
      truth_.Refused(value);
      *proposed = false;
    } else if (outcome == Outcome::kOk) {
      truth_.Acknowledged(key, version, value);
      OneRead(key);
    }
  };
  const std::shared_ptr<Process> process = node(id).process;
  if (process == nullptr) return false;
  process->Run([raw = process.get(), key, value, answer] {
    raw->Write(Request{Request::Kind::kUpdate, key, value, 0}, answer);
  });
  return *proposed;
}

/// Everybody is asked: whoever thinks that it may answer must be right.
void Cluster::OneRead(const std::string& key) {
  const uint64_t floor = truth_.Floor(key);
  for (const auto& node : nodes_) {
    if (node->process == nullptr) continue;
    scheduler_.After(random_.Between(Time(0), milliseconds(3)),
                     [this, key, floor, weak = std::weak_ptr<Process>(node->process)] {
                       const auto process = weak.lock();
                       if (process == nullptr) return;
                       process->Run([this, key, floor, raw = process.get()] {
                         if (const auto version = raw->StrongRead(key))
                           truth_.ReadAnswered(key, floor, version->version, version->value);
                       });
                     });
  }
}

}  // namespace onggi::simulation
