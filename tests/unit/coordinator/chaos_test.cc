#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>

#include "tests/unit/coordinator/world.h"

/// Coordinators in a world where everything fails: nodes go and come back, coordinators are cut off
/// and come back believing that they lead, transactions lose their answers or take effect late,
/// commands arrive twice. World::Check looks at the catalog all the time; at the end everything
/// heals and must come to rest. One seed again: --gtest_filter='*CoordinatorChaos*/<seed - 1>'.
namespace onggi::coordinator {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr uint64_t kNodes = 6;

std::string Text(const proto::PartitionConfig& config) {
  std::string text = "partition " + std::to_string(config.partition()) + " of " +
                     std::to_string(config.table()) + " [" + config.range_start() + ", " +
                     config.range_end() + ") led by " + std::to_string(config.primary().node()) +
                     ", in sync";
  for (const auto& ref : config.in_sync()) text += " " + std::to_string(ref.node());
  text += ", learners";
  for (const auto& ref : config.learners()) text += " " + std::to_string(ref.node());
  return text;
}

std::string Describe(World& world) {
  std::string text = "\n";
  for (const auto& [id, entry] : world.nodes->Partitions()) text += Text(entry.first) + "\n";
  for (uint64_t id = 1; id <= kNodes; ++id) {
    text += "node " + std::to_string(id) + " state " +
            std::to_string(world.nodes->Record(id).state()) + " has";
    for (const auto& [partition, replica] : world.nodes->disks[id]) {
      text += " " + std::to_string(partition) + "/" + std::to_string(replica);
    }
    text += "\n";
  }
  const auto active = world.Active();
  if (active == nullptr) return text + "nobody is active\n";
  const auto status = world.Await(active->ClusterStatus());
  if (!status.ok()) return text + status.status().ToString() + "\n";
  for (const auto& warning : status->warnings()) text += warning + "\n";
  return text;
}

class CoordinatorChaos : public ::testing::TestWithParam<uint64_t> {};

TEST_P(CoordinatorChaos, ComesToRestOnceTheWorldHeals) {
  const uint64_t seed = GetParam();
  std::mt19937_64 random(seed);
  const auto chance = [&](unsigned percent) { return random() % 100 < percent; };
  World world(seed);
  world.act_interval = milliseconds(250);
  for (uint64_t id = 1; id <= kNodes; ++id) {
    world.nodes->Add(id, "zone-" + std::to_string(id % 3));
  }
  world.nodes->MakeTable(1);
  world.nodes->MakePartition(1, {1, 2, 3}, "", "g");
  world.nodes->MakePartition(1, {2, 3, 4}, "g", "p");
  world.nodes->MakePartition(1, {3, 4, 5}, "p", "");
  Options options;
  options.dead_after = seconds(20);
  options.unnamed_grace = seconds(15);
  options.split_cooldown = seconds(5);
  options.split_sustain = seconds(5);
  options.merge_sustain = seconds(60);
  options.balance_cooldown = seconds(10);
  options.stall_timeout = seconds(120);
  for (int i = 0; i < 3; ++i) world.Start(options);
  world.Run(seconds(5));

  metadata::SimulatedFaults faults;
  faults.unavailable = static_cast<unsigned>(random() % 50);
  faults.unknown_done = static_cast<unsigned>(random() % 30);
  faults.unknown_lost = static_cast<unsigned>(random() % 30);
  faults.unknown_late = static_cast<unsigned>(random() % 30);
  faults.max_delay = milliseconds(1 + random() % 50);
  faults.min_delay = milliseconds(1);
  world.cluster->SetFaults(faults);

  uint64_t down = 0;
  uint64_t tables = 1;
  for (int step = 0; step < 60; ++step) {
    world.Run(seconds(1 + random() % 10));
    // One node at a time: with two of three replicas gone a partition can only wait.
    if (chance(30)) {
      if (down != 0) {
        world.nodes->SetUp(down, true);
        down = 0;
      } else if (world.Settled()) {
        down = 1 + random() % kNodes;
        world.nodes->SetUp(down, false);
      }
    }
    if (chance(20)) {
      Candidate& candidate = *world.candidates[random() % world.candidates.size()];
      const bool cut = chance(60);
      candidate.store->SetCut(cut);
      candidate.client.cut = cut && chance(50);
      candidate.client.mute = chance(20);
      candidate.client.twice = chance(30);
    }
    if (chance(20)) {
      const auto partitions = world.nodes->Partitions();
      const auto it =
          std::next(partitions.begin(), static_cast<ptrdiff_t>(random() % partitions.size()));
      Nodes::Load& load = world.nodes->loads[it->first.value];
      load = Nodes::Load();
      load.bytes = (random() % 12) << 30;
      if (chance(40) && partitions.size() < 12) {
        load.writes = 2'000;
        load.load_split_key = it->second.first.range_start() + "m";
        if (!it->second.first.range_end().empty() &&
            load.load_split_key >= it->second.first.range_end()) {
          load.load_split_key.clear();
        }
      }
    }
    const auto active = world.Active();
    if (active != nullptr && chance(10)) {
      proto::DrainNodeRequest drain;
      drain.set_node(1 + random() % kNodes);
      const auto began = world.Await(active->DrainNode(drain));
      proto::CancelDrainRequest cancel;
      cancel.set_node(drain.node());
      world.Run(seconds(random() % 40));
      const auto now = world.Active();
      if (now != nullptr) (void)world.Await(now->CancelDrain(cancel));
    }
    if (chance(5)) world.nodes->MakeTable(++tables, proto::TABLE_STATUS_CREATING, 3);
  }

  world.cluster->SetFaults(metadata::SimulatedFaults());
  if (down != 0) world.nodes->SetUp(down, true);
  for (auto& candidate : world.candidates) {
    candidate->store->SetCut(false);
    candidate->client.cut = candidate->client.mute = candidate->client.twice = false;
  }
  for (auto& [partition, load] : world.nodes->loads) load = Nodes::Load();
  // Elections pause in real time between tries, which virtual minutes do not wait for.
  const auto patience = std::chrono::steady_clock::now() + seconds(30);
  while (!world.Run(seconds(5), [&] { return world.Active() != nullptr; })) {
    ASSERT_LT(std::chrono::steady_clock::now(), patience);
    std::this_thread::sleep_for(milliseconds(20));
  }
  for (uint64_t id = 1; id <= kNodes; ++id) {
    // A node that drained to its end is empty, and stays so.
    if (world.nodes->Record(id).state() != proto::NODE_STATE_DRAINING) continue;
    proto::CancelDrainRequest cancel;
    cancel.set_node(id);
    (void)world.Await(world.Active()->CancelDrain(cancel));
  }
  EXPECT_TRUE(world.Run(
      minutes(60), [&] { return world.Settled() && world.nodes->Partitions().size() <= tables; }))
      << Describe(world) << "jobs running: " << world.nodes->running_jobs()
      << ", partitions: " << world.nodes->Partitions().size();
  // And it stays at rest.
  world.Run(minutes(5));
  EXPECT_TRUE(world.Run(minutes(5), [&] { return world.Settled(); }));
}

INSTANTIATE_TEST_SUITE_P(Seeds, CoordinatorChaos, ::testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace onggi::coordinator
