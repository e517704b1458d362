// Tables that are given another number of replicas (replication.md, R13).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/coordinator.h"
#include "tests/unit/coordinator/world.h"

namespace onggi::coordinator {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

Options DeadAfter20s() {
  Options options;
  options.dead_after = seconds(20);
  return options;
}

/// R13, from one to five and back, whatever its tag says at the time.
TEST(Replication, ATableGetsAsManyReplicasAsItWantsByNow) {
  World world;
  AddNodes(world, 5);
  world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, 1);
  const uint64_t p = world.nodes->MakePartition(1, {2});
  const uint64_t q = world.nodes->MakePartition(1, {3});
  Options options;
  options.balance = false;
  options.merge = false;
  world.Start(options);
  world.Run(seconds(10));
  EXPECT_EQ(NodesOf(world.nodes->Config(p)), (std::set<uint64_t>{2}));
  for (const uint32_t wanted : {3u, 5u, 1u, 5u, 3u}) {
    SCOPED_TRACE(wanted);
    world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, wanted);
    const auto done = [&] {
      for (const uint64_t id : {p, q}) {
        const proto::PartitionConfig config = world.nodes->Config(id);
        if (config.replication() != wanted || config.min_in_sync() != wanted / 2 + 1) return false;
        if (config.in_sync_size() != static_cast<int>(wanted)) return false;
        if (config.learners_size() > 0) return false;
      }
      return true;
    };
    ASSERT_TRUE(world.Run(minutes(10), done))
        << world.nodes->Config(p).replication() << " " << world.nodes->Config(p).in_sync_size()
        << " " << world.nodes->Config(p).learners_size();
    // What is too many is gone from the disks too.
    const auto clean = [&] {
      size_t replicas = 0;
      for (const auto& [node, disk] : world.nodes->disks) replicas += disk.size();
      return replicas == 2 * wanted && world.Settled();
    };
    ASSERT_TRUE(world.Run(minutes(10), clean));
  }
}

/// Fewer, while a node is dead that nobody could take the place of.
TEST(Replication, ATableThatWantsFewerNeedsNoRepairFirst) {
  World world;
  const uint64_t p = StartWithOne(world, 5, {1, 2, 3, 4, 5}, DeadAfter20s());
  world.nodes->SetUp(2, false);
  world.Run(minutes(2));
  EXPECT_EQ(world.nodes->Config(p).replication(), 5u);
  world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, 3);
  ASSERT_TRUE(world.Run(minutes(5), [&] {
    const proto::PartitionConfig config = world.nodes->Config(p);
    return config.replication() == 3 && config.in_sync_size() == 3 && config.learners_size() == 0;
  }));
  EXPECT_FALSE(NodesOf(world.nodes->Config(p)).contains(2));
}

/// More than there are nodes for: said, and nothing else stands still for it.
TEST(Replication, ATableThatWantsMoreThanThereAreNodesStaysAsItIs) {
  for (const uint64_t nodes : {3, 4}) {
    SCOPED_TRACE(nodes);
    World world;
    AddNodes(world, nodes);
    world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, 5);
    const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3});
    Options options;
    options.balance = false;
    world.Start(options);
    world.Run(minutes(3));
    EXPECT_EQ(world.nodes->Config(p).replication(), 3u);
    EXPECT_EQ(world.nodes->Config(p).learners_size(), 0);
    const auto status = world.Await(world.Active()->ClusterStatus());
    ASSERT_TRUE(status.ok());
    EXPECT_EQ(status->jobs_size(), 0);
    ASSERT_EQ(status->warnings_size(), 1);
    EXPECT_THAT(status->warnings(0),
                ::testing::HasSubstr("wants 5 replicas, and there are too few"));
    for (uint64_t id = nodes + 1; id <= 5; ++id) {
      world.nodes->Add(id, "zone-" + std::to_string(id % 3));
    }
    EXPECT_TRUE(world.Run(minutes(10), [&] {
      return world.nodes->Config(p).replication() == 5 &&
             world.nodes->Config(p).in_sync_size() == 5;
    }));
  }
}

/// With fewer, a node that drains is rid of what it had, whether that led, was in sync or learnt.
TEST(Replication, ATableThatWantsFewerLetsANodeDrain) {
  for (const uint32_t wanted : {1u, 3u}) {
    for (const uint64_t drained : {1, 2, 5}) {
      SCOPED_TRACE(std::to_string(wanted) + " replicas, node " + std::to_string(drained));
      World world;
      const uint64_t p = StartWithOne(world, 5, {1, 2, 3, 4, 5});
      proto::DrainNodeRequest drain;
      drain.set_node(drained);
      EXPECT_FALSE(world.Await(world.Active()->DrainNode(drain)).ok()) << "where would it go?";
      drain.set_force(true);
      ASSERT_TRUE(world.Await(world.Active()->DrainNode(drain)).ok());
      world.Run(minutes(2));
      world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, wanted);
      EXPECT_TRUE(world.Run(minutes(10), [&] {
        const proto::PartitionConfig config = world.nodes->Config(p);
        return config.replication() == wanted &&
               config.in_sync_size() == static_cast<int>(wanted) && config.learners_size() == 0;
      }));
      EXPECT_TRUE(world.Run(minutes(5), [&] {
        return world.nodes->Record(drained).state() == proto::NODE_STATE_DECOMMISSIONED;
      }));
    }
  }
}

/// It does not serve: first what brings it back.
TEST(Replication, ATableThatWantsFewerIsRepairedWhereItDoesNotServe) {
  World world;
  const uint64_t p = StartWithOne(world, 4, {1, 2, 3}, DeadAfter20s());
  world.nodes->serves = false;  // what is asked of its primary waits
  world.nodes->SetUp(3, false);
  world.Run(seconds(10));
  world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, 1);
  EXPECT_TRUE(world.Run(minutes(5), [&] { return NodesOf(world.nodes->Config(p)).contains(4); }));
  world.nodes->serves = true;
  EXPECT_TRUE(world.Run(minutes(5), [&] { return world.nodes->Config(p).replication() == 1; }));
}

/// Nor is there a node that could repair it: its primary may do without, and serves again.
TEST(Replication, ATableThatWantsFewerGetsThemWhereNothingCanBeRepaired) {
  World world;
  const uint64_t p = StartWithOne(world, 3, {1, 2, 3}, DeadAfter20s());
  world.nodes->SetUp(3, false);
  ASSERT_TRUE(world.Run(seconds(30), [&] { return world.nodes->Config(p).in_sync_size() == 2; }));
  world.nodes->SetUp(2, false);
  world.Run(minutes(2));
  world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, 1);
  EXPECT_TRUE(world.Run(minutes(5), [&] {
    return world.nodes->Config(p).replication() == 1 &&
           NodesOf(world.nodes->Config(p)) == std::set<uint64_t>{1};
  }));
}

/// A primary of an earlier version cannot be asked. The job says so and ends: others have their
/// turn.
TEST(Replication, ATableWaitsForItsPrimarysNodeToBeUpgraded) {
  for (const auto& [now, wanted] : {std::pair(1u, 3u), std::pair(3u, 1u)}) {
    SCOPED_TRACE(wanted);
    World world;
    const uint64_t p = StartWithOne(
        world, 4, now == 1 ? std::vector<uint64_t>{1} : std::vector<uint64_t>{1, 2, 3});
    world.nodes->changes_replication = false;
    world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, wanted);
    world.Run(minutes(2));
    EXPECT_EQ(world.nodes->Config(p).replication(), now);
    EXPECT_TRUE(world.Run(minutes(10), [&] { return world.nodes->running_jobs() == 0; }));
    if (now == 3) {
      proto::MoveRequest move;
      move.set_partition(p);
      move.set_from_node(1);
      move.set_to_node(4);
      for (int i = 0; i < 60 && !world.Await(world.Active()->Move(move)).ok(); ++i) {
        world.Run(seconds(10));
      }
      EXPECT_TRUE(
          world.Run(minutes(10), [&] { return NodesOf(world.nodes->Config(p)).contains(4); }));
    }
    world.nodes->changes_replication = true;
    EXPECT_TRUE(world.Run(minutes(30), [&] {
      const proto::PartitionConfig config = world.nodes->Config(p);
      return config.replication() == wanted && config.in_sync_size() == static_cast<int>(wanted);
    }));
  }
}

}  // namespace
}  // namespace onggi::coordinator
