#include <utility>
#include <vector>

#include "tests/simulation/cluster.h"
#include "tests/simulation/shipped_world.h"

// Cluster: what breaks.

namespace onggi::simulation {

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
  switch (random_.Below(10)) {
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
