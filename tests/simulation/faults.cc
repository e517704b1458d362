#include <algorithm>
#include <utility>
#include <vector>

#include "tests/simulation/cluster.h"
#include "tests/simulation/shipped_world.h"

// Cluster: what breaks.

namespace onggi::simulation {

namespace {

/// A store that has failed is looked at once a second, and so begun anew this much later.
constexpr Time kAiling = seconds(4);

}  // namespace

void Cluster::CrashSomebody() {
  if (calm_) return;
  const NodeId id = nodes_[random_.Below(nodes_.size())]->id;
  if (world_ != nullptr && node(id).process != nullptr && random_.Chance(400)) {
    // In the middle of what it next does to its stores.
    world_->disks().CutAfter(id, 1 + random_.Below(80));
    return;
  }
  CrashNode(id);
  const Time down = random_.Chance(600) ? random_.Between(milliseconds(5), milliseconds(300))
                                        : random_.Between(milliseconds(300), seconds(4));
  scheduler_.After(down, [this, id] { StartNode(id); });
}

void Cluster::CrashEverybody() {
  if (calm_) return;
  Say("everybody crashes");
  for (const auto& node : nodes_) {
    CrashNode(node->id);
    scheduler_.After(random_.Between(milliseconds(5), milliseconds(800)),
                     [this, id = node->id] { StartNode(id); });
  }
}

void Cluster::PauseSomebody() {
  if (calm_) return;
  Pause(nodes_[random_.Below(nodes_.size())]->id, random_.Between(milliseconds(50), seconds(3)));
}

void Cluster::CutSomething() {
  if (calm_) return;
  const NodeId a = nodes_[random_.Below(nodes_.size())]->id;
  const NodeId b = nodes_[random_.Below(nodes_.size())]->id;
  if (profile_.thin_links && random_.Chance(400)) {
    ThinFor(a, b, random_.Between(milliseconds(300), seconds(5)));
    return;
  }
  const uint64_t kind = random_.Below(4);
  const auto cut = [this, a, b, kind](bool now) {
    if (calm_ && now) return;
    if (kind == 0) return Isolate(a, now);
    if (a == b) return;
    Say("from node " + a.ToString() + " to " + b.ToString() + (now ? " is cut" : " is joined"));
    Cut(a, b, now);
    if (kind != 1) Cut(b, a, now);
  };
  cut(true);
  scheduler_.After(random_.Between(milliseconds(100), seconds(4)), [cut] { cut(false); });
}

void Cluster::HangSomebody() {
  if (calm_) return;
  Node& here = *nodes_[random_.Below(nodes_.size())];
  if (random_.Chance(400)) {
    here.disk_faults.most = random_.Between(milliseconds(5), milliseconds(150));
    return;
  }
  Say("node " + here.id.ToString() + ": the disk hangs");
  here.disk_faults.hung_until = scheduler_.now() + random_.Between(milliseconds(100), seconds(3));
}

void Cluster::FillSomebody() {
  if (calm_) return;
  FillFor(nodes_[random_.Below(nodes_.size())]->id, random_.Between(milliseconds(50), seconds(4)));
}

void Cluster::FailSomebody() {
  if (calm_) return;
  FailFor(nodes_[random_.Below(nodes_.size())]->id, random_.Between(milliseconds(1), seconds(2)));
}

/// Mostly the watch that looks ahead has seen it before anything fails, and often nothing does.
void Cluster::FillFor(NodeId id, Time time) {
  DiskFaults& faults = node(id).disk_faults;
  const Time until = scheduler_.now() + time;
  const bool seen = random_.Chance(800);
  const bool all = !seen || random_.Chance(600);
  Say("node " + id.ToString() + ": the disk is " + (all ? "full" : "low") +
      (seen ? "" : ", unseen"));
  if (seen) faults.low_until = std::max(faults.low_until, until);
  if (all) faults.full_until = std::max(faults.full_until, until);
  SetDiskFaults(id, time);
}

void Cluster::FailFor(NodeId id, Time time) {
  DiskFaults& faults = node(id).disk_faults;
  const Time until = scheduler_.now() + time;
  const uint64_t kind = random_.Below(3);
  constexpr const char* kWhat[] = {"writing the log", "writing stores", "reading"};
  Say("node " + id.ToString() + ": the disk fails: " + kWhat[kind]);
  Time& what = kind == 0   ? faults.unwritable_until
               : kind == 1 ? faults.store_until
                           : faults.unreadable_until;
  what = std::max(what, until);
  SetDiskFaults(id, time);
}

void Cluster::SetDiskFaults(NodeId id, Time time) {
  DiskFaults& faults = node(id).disk_faults;
  faults.ailing_until = std::max(faults.ailing_until, scheduler_.now() + time + kAiling);
  ShowDiskFaults(id);
  scheduler_.After(time, [this, id] { ShowDiskFaults(id); });
}

void Cluster::ShowDiskFaults(NodeId id) {
  const Node& here = node(id);
  const DiskFaults& faults = here.disk_faults;
  const Time now = scheduler_.now();
  if (here.process != nullptr) here.process->SetDiskLow(now < faults.low_until);
  if (world_ == nullptr) return;
  StoreDisks::Faults stores;
  stores.full = now < faults.full_until;
  stores.unwritable = now < faults.unwritable_until || now < faults.store_until;
  stores.unreadable = now < faults.unreadable_until;
  world_->disks().SetFaults(id, stores);
}

void Cluster::DiskFailed(NodeId id) {
  scheduler_.After(Time(0), [this, id, boot = node(id).lives] {
    if (node(id).process == nullptr || node(id).lives != boot) return;
    Say("node " + id.ToString() + ": the log is not written");
    CrashFor(id, random_.Between(milliseconds(5), seconds(2)));
  });
}

void Cluster::CutMetadataSomewhere() {
  if (calm_) return;
  if (random_.Chance(150)) {
    Say("the metadata store is down");
    metadata_->SetDown(true);
    scheduler_.After(random_.Between(milliseconds(500), seconds(4)), [this] {
      Say("the metadata store is up");
      metadata_->SetDown(false);
    });
    return;
  }
  const NodeId id = nodes_[random_.Below(nodes_.size())]->id;
  CutMetadata(id, true);
  scheduler_.After(random_.Between(milliseconds(200), seconds(5)),
                   [this, id] { CutMetadata(id, false); });
}

void Cluster::CrashFor(NodeId id, Time down) {
  CrashNode(id);
  scheduler_.After(down, [this, id] { StartNode(id); });
}

void Cluster::IsolateFor(NodeId id, Time time) {
  Isolate(id, true);
  scheduler_.After(time, [this, id] { Isolate(id, false); });
}

void Cluster::CutMetadataFor(NodeId id, Time time) {
  CutMetadata(id, true);
  scheduler_.After(time, [this, id] { CutMetadata(id, false); });
}

/// Heartbeats alone come through, or nothing but them; to and from one node, or all (a == b).
void Cluster::ThinFor(NodeId a, NodeId b, Time time) {
  const bool heartbeats = random_.Chance(300);
  Say("node " + a.ToString() + " loses " + (heartbeats ? "heartbeats" : "all but heartbeats"));
  std::vector<std::pair<NodeId, NodeId>> links;
  for (const auto& other : nodes_) {
    if (other->id == a || (a != b && other->id != b)) continue;
    links.push_back({a, other->id});
    links.push_back({other->id, a});
  }
  for (const auto& link : links) thin_[link] = heartbeats;
  scheduler_.After(time, [this, links] {
    for (const auto& link : links) thin_.erase(link);
  });
}

void Cluster::Ambush(NodeId id, PartitionId partition) {
  if (calm_ || profile_.ambushes == 0 || !random_.Chance(profile_.ambushes)) return;
  const Time soon = random_.Chance(300) ? Time(0) : random_.Between(Time(0), milliseconds(25));
  scheduler_.After(soon, [this, id, partition] {
    if (!calm_) Spring(id, partition);
  });
}

/// What breaks is drawn with whom it befalls: the node itself, or another of the partition's.
void Cluster::Spring(NodeId id, PartitionId partition) {
  const auto key = Key(partition);
  std::vector<NodeId> concerned{id, id};
  if (key) {
    for (const auto* members : {&key->in_sync, &key->learners})
      for (const group::Member& member : *members) concerned.push_back(member.node);
  }
  const auto somebody = [&] { return concerned[random_.Below(concerned.size())]; };
  const NodeId victim = somebody();
  const bool disks = profile_.fulls != Time(0) || profile_.failures != Time(0);
  switch (random_.Below(disks ? 12 : 10)) {
    case 0: return CrashFor(victim, random_.Between(milliseconds(1), milliseconds(100)));
    case 1: return CrashFor(victim, random_.Between(milliseconds(100), seconds(4)));
    case 2: return Pause(victim, random_.Between(milliseconds(100), seconds(3)));
    case 3: return IsolateFor(victim, random_.Between(milliseconds(100), seconds(4)));
    case 4: return CutMetadataFor(victim, random_.Between(milliseconds(200), seconds(5)));
    case 5:
      Say("node " + victim.ToString() + ": the disk hangs");
      node(victim).disk_faults.hung_until =
          scheduler_.now() + random_.Between(milliseconds(50), seconds(2));
      return;
    case 6:  // whoever leads goes on without the store, and then without the others
      CutMetadataFor(id, random_.Between(seconds(1), seconds(5)));
      return IsolateFor(victim, random_.Between(milliseconds(500), seconds(4)));
    case 7:  // two in a row
      CrashFor(victim, random_.Between(milliseconds(1), seconds(2)));
      return CrashFor(somebody(), random_.Between(milliseconds(1), seconds(2)));
    case 8:  // it sleeps while the others go on, or start again
      CutMetadataFor(id, random_.Between(seconds(2), seconds(5)));
      Pause(id, random_.Between(seconds(1), seconds(3)));
      if (victim != id) CrashFor(victim, random_.Between(milliseconds(1), seconds(1)));
      if (profile_.thin_links) ThinFor(id, id, random_.Between(seconds(2), seconds(5)));
      return;
    case 10: return FillFor(victim, random_.Between(milliseconds(50), seconds(2)));
    case 11: return FailFor(victim, random_.Between(milliseconds(1), seconds(1)));
    default:
      if (profile_.thin_links)
        return ThinFor(victim, victim, random_.Between(seconds(1), seconds(4)));
      return CrashFor(id, random_.Between(milliseconds(1), milliseconds(10)));
  }
}

/// A disk is lost only where every partition is on another one too.
void Cluster::WipeSomebody() {
  if (calm_) return;
  Node& here = *nodes_[random_.Below(nodes_.size())];
  for (const PartitionId partition : Partitions()) {
    const auto key = Key(partition);
    size_t elsewhere = 0;
    bool involved = key->epoch == Epoch(0);
    for (const group::Member& member : key->in_sync) {
      const Node& other = node(member.node);
      const auto image = other.disk.images.find(partition);
      const bool whole =
          image != other.disk.images.end() && image->second.replica == member.replica;
      if (member.node == here.id) involved = true;
      if (member.node != here.id && whole) ++elsewhere;
    }
    if (involved && elsewhere == 0) return;
  }
  CrashNode(here.id);
  Say("node " + here.id.ToString() + " loses its disk");
  here.disk.Wipe();
  if (world_ != nullptr) world_->disks().Wipe(here.id);
  scheduler_.After(random_.Between(milliseconds(50), seconds(2)),
                   [this, id = here.id] { StartNode(id); });
}

}  // namespace onggi::simulation
