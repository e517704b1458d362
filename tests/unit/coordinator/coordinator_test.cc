#include "coordinator/coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/coordinator/world.h"

namespace onggi::coordinator {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

TEST(Coordinator, PlacesANewTablesReplicasInDifferentZones) {
  World world;
  AddNodes(world, 6);
  world.Start();
  for (uint64_t id = 1; id <= 12; ++id) world.nodes->MakeTable(id, proto::TABLE_STATUS_CREATING, 3);
  ASSERT_TRUE(world.Run(seconds(30), [&] { return world.nodes->Partitions().size() == 12; }));
  world.Run(seconds(30));
  std::map<uint64_t, int> primaries;
  std::map<uint64_t, int> replicas;
  for (const auto& [id, entry] : world.nodes->Partitions()) {
    const auto& config = entry.first;
    EXPECT_EQ(config.in_sync_size(), 3);
    EXPECT_EQ(config.min_in_sync(), 2u);
    std::set<std::string> zones;
    for (const auto& ref : config.in_sync()) {
      zones.insert(world.nodes->Record(ref.node()).zone());
      ++replicas[ref.node()];
    }
    EXPECT_EQ(zones.size(), 3u);
    ++primaries[config.primary().node()];
  }
  for (uint64_t node = 1; node <= 6; ++node) {
    EXPECT_EQ(replicas[node], 6) << node;
    EXPECT_EQ(primaries[node], 2) << node;
  }
}

TEST(Coordinator, ATableWaitsForEnoughNodes) {
  World world;
  AddNodes(world, 2);
  world.Start();
  world.nodes->MakeTable(1, proto::TABLE_STATUS_CREATING, 3);
  world.Run(seconds(20));
  EXPECT_TRUE(world.nodes->Partitions().empty());
  world.nodes->Add(3, "zone-2");
  EXPECT_TRUE(world.Run(seconds(10), [&] { return world.nodes->Partitions().size() == 1; }));
}

TEST(Coordinator, TheDefaultReplicationFollowsTheNumberOfNodes) {
  World world;
  AddNodes(world, 2);
  world.Start();
  world.nodes->MakeTable(1, proto::TABLE_STATUS_CREATING, 0);
  ASSERT_TRUE(world.Run(seconds(10), [&] { return world.nodes->Partitions().size() == 1; }));
  EXPECT_EQ(world.nodes->Config(1).replication(), 1u);
  world.nodes->Add(3, "zone-2");
  world.Run(seconds(2));
  world.nodes->MakeTable(2, proto::TABLE_STATUS_CREATING, 0);
  ASSERT_TRUE(world.Run(seconds(10), [&] { return world.nodes->Partitions().size() == 2; }));
  EXPECT_EQ(world.nodes->Config(2).replication(), 3u);
}

TEST(Coordinator, AnotherOneTakesOverAndSaysWhoIsActive) {
  World world;
  AddNodes(world, 3);
  Candidate& first = world.Start();
  world.Run(seconds(2));
  Candidate& second = world.Start();
  world.Run(seconds(2));
  ASSERT_TRUE(first.coordinator->Active().ok());
  EXPECT_EQ(second.coordinator->Active().status(), Status(Code::kNotPrimary, "coordinator-1:7000"));

  first.store->SetCut(true);
  ASSERT_TRUE(world.Run(seconds(20), [&] { return second.coordinator->Active().ok(); }));
  EXPECT_FALSE(first.coordinator->Active().ok()) << "two at once believe that they are active";
  first.store->SetCut(false);
  world.Run(seconds(30));
  world.nodes->MakeTable(1, proto::TABLE_STATUS_CREATING, 3);
  EXPECT_TRUE(world.Run(seconds(10), [&] { return world.nodes->Partitions().size() == 1; }));
}

TEST(Coordinator, ResigningHandsOverAtOnce) {
  World world;
  AddNodes(world, 3);
  Candidate& first = world.Start();
  world.Run(seconds(2));
  Candidate& second = world.Start();
  world.Run(seconds(2));
  world.Stop(first);
  EXPECT_TRUE(world.Run(seconds(1), [&] { return second.coordinator->Active().ok(); }));
}

TEST(Coordinator, ADeadNodesReplicasAreReplacedAfterTheGracePeriod) {
  World world;
  AddNodes(world, 4);
  world.nodes->MakeTable(1);
  const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3});
  world.Start();
  world.Run(seconds(10));
  world.nodes->SetUp(1, false);
  world.Run(minutes(4));
  EXPECT_EQ(world.nodes->Record(1).state(), proto::NODE_STATE_ACTIVE);
  EXPECT_EQ(world.nodes->running_jobs(), 0u);
  ASSERT_TRUE(world.Run(minutes(3), [&] { return world.Settled(); }));
  EXPECT_EQ(world.nodes->Record(1).state(), proto::NODE_STATE_DEAD);
  EXPECT_EQ(NodesOf(world.nodes->Config(p)), (std::set<uint64_t>{2, 3, 4}));

  // It comes back, is welcome, and what it had is gone.
  world.nodes->SetUp(1, true);
  EXPECT_TRUE(world.Run(minutes(3), [&] { return world.Settled(); }));
  EXPECT_EQ(world.nodes->Record(1).state(), proto::NODE_STATE_ACTIVE);
}

TEST(Coordinator, ANodeThatComesBackInTimeKeepsItsReplicas) {
  World world;
  AddNodes(world, 4);
  world.nodes->MakeTable(1);
  const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3});
  world.Start();
  world.Run(seconds(10));
  world.nodes->SetUp(1, false);
  world.Run(minutes(4));
  world.nodes->SetUp(1, true);
  ASSERT_TRUE(world.Run(minutes(2), [&] { return world.Settled(); }));
  EXPECT_EQ(NodesOf(world.nodes->Config(p)), (std::set<uint64_t>{1, 2, 3}));
  EXPECT_TRUE(world.nodes->Jobs().empty());
}

TEST(Coordinator, ALostReplicaIsMadeAgainOnItsNode) {
  World world;
  AddNodes(world, 3);
  world.nodes->MakeTable(1);
  const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3});
  world.Start();
  world.Run(seconds(10));
  const uint64_t replica = world.nodes->disks[2][p];
  world.damaged.insert(replica);
  world.nodes->disks[2].erase(p);
  ASSERT_TRUE(world.Run(minutes(2), [&] {
    return world.Settled() && NodesOf(world.nodes->Config(p)).contains(2) &&
           world.nodes->disks[2].contains(p);
  }));
  EXPECT_NE(world.nodes->disks[2][p], replica) << "the old replica must never come back";
}

TEST(Coordinator, ADamagedReplicaGivesWayToANewOneOnItsNode) {
  World world;
  AddNodes(world, 3);
  world.nodes->MakeTable(1);
  const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3});
  world.Start();
  world.Run(seconds(10));
  const uint64_t replica = world.nodes->disks[1][p];
  world.nodes->broken.insert(replica);
  ASSERT_TRUE(world.Run(minutes(2), [&] {
    return world.Settled() && world.nodes->disks[1].contains(p) &&
           world.nodes->disks[1][p] != replica;
  }));
  EXPECT_EQ(NodesOf(world.nodes->Config(p)), (std::set<uint64_t>{1, 2, 3}));
}

TEST(Coordinator, DrainsANodeToEmptyAndThenForgetsIt) {
  World world;
  AddNodes(world, 5);
  world.nodes->MakeTable(1);
  std::string at;
  for (int i = 0; i < 8; ++i) {
    const std::string end = i == 7 ? "" : std::string(1, static_cast<char>('a' + i));
    world.nodes->MakePartition(1, {1, 2, 3}, at, end);
    at = end;
  }
  Options options;
  options.merge = false;
  world.Start(options);
  world.Run(seconds(5));
  proto::DrainNodeRequest request;
  request.set_node(1);
  const auto drained = world.Await(world.Active()->DrainNode(request));
  ASSERT_TRUE(drained.ok()) << drained.status().ToString();
  EXPECT_EQ(drained->state(), proto::NODE_STATE_DRAINING);
  EXPECT_TRUE(world
                  .Await(world.Active()->RemoveNode([] {
                    proto::RemoveNodeRequest early;
                    early.set_node(1);
                    return early;
                  }()))
                  .code() == Code::kConditionFailed);
  ASSERT_TRUE(world.Run(minutes(10), [&] {
    return world.nodes->Record(1).state() == proto::NODE_STATE_DECOMMISSIONED;
  }));
  EXPECT_TRUE(world.Run(minutes(5), [&] { return world.Settled(); }));
  EXPECT_TRUE(world.nodes->disks[1].empty());
  proto::RemoveNodeRequest remove;
  remove.set_node(1);
  EXPECT_TRUE(world.Await(world.Active()->RemoveNode(remove)).ok());
  EXPECT_EQ(world.nodes->Read(metadata::keys::Node(NodeId(1))), "");
}

TEST(Coordinator, RefusesADrainThatTheOthersCannotTake) {
  World world;
  AddNodes(world, 3);
  world.nodes->MakeTable(1);
  world.nodes->MakePartition(1, {1, 2, 3});
  world.Start();
  world.Run(seconds(5));
  proto::DrainNodeRequest request;
  request.set_node(1);
  const auto refused = world.Await(world.Active()->DrainNode(request));
  EXPECT_EQ(refused.status().code(), Code::kConditionFailed);
  EXPECT_EQ(refused.status().message(),
            "table table-1 has 3 replicas, and 2 nodes would remain to take them");
  request.set_force(true);
  EXPECT_TRUE(world.Await(world.Active()->DrainNode(request)).ok());
  proto::CancelDrainRequest cancel;
  cancel.set_node(1);
  EXPECT_TRUE(world.Await(world.Active()->CancelDrain(cancel)).ok());
  EXPECT_EQ(world.nodes->Record(1).state(), proto::NODE_STATE_ACTIVE);
}

TEST(Coordinator, BalancesReplicasAndPrimariesAndThenRests) {
  World world;
  AddNodes(world, 6);
  world.nodes->MakeTable(1);
  std::string at;
  for (int i = 0; i < 24; ++i) {
    const std::string end = i == 23 ? "" : std::string(1, static_cast<char>('a' + i));
    const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3}, at, end);
    world.nodes->loads[p].bytes = uint64_t{1} << 30;
    at = end;
  }
  Options options;
  options.merge = false;
  options.balance_cooldown = seconds(5);
  world.act_interval = seconds(1);
  world.Start(options);
  world.Run(minutes(10));
  std::map<uint64_t, int> primaries;
  std::map<uint64_t, int> replicas;
  for (const auto& [id, entry] : world.nodes->Partitions()) {
    ++primaries[entry.first.primary().node()];
    for (const auto& ref : entry.first.in_sync()) ++replicas[ref.node()];
  }
  for (uint64_t node = 1; node <= 6; ++node) {
    EXPECT_NEAR(replicas[node], 12, 1) << node;
    EXPECT_NEAR(primaries[node], 4, 1) << node;
  }
  const std::string next = world.nodes->Read(metadata::keys::NextJob());
  world.Run(minutes(5));
  EXPECT_EQ(world.nodes->Read(metadata::keys::NextJob()), next) << "it must come to rest";
  EXPECT_TRUE(world.Settled());
}

TEST(Coordinator, SplitsAPartitionThatHasGrownTooLarge) {
  World world;
  AddNodes(world, 3);
  world.nodes->MakeTable(1);
  const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3});
  world.Start();
  world.Run(minutes(2));
  EXPECT_TRUE(world.nodes->Jobs().empty());
  world.nodes->loads[p].bytes = uint64_t{11} << 30;
  world.nodes->loads[p].size_split_key = "m";
  ASSERT_TRUE(world.Run(minutes(2), [&] { return world.nodes->Partitions().size() == 2; }));
  EXPECT_EQ(world.nodes->Config(p).range_end(), "m");
}

/// What is lost meanwhile has to be replaced first, and that takes the partition.
TEST(Coordinator, ASplitThatCannotBeDoneGivesWayToARepair) {
  World world;
  Options options;
  options.dead_after = seconds(60);
  options.max_jobs = 1;  // of which the one that waits is none
  const uint64_t p = StartWithOne(world, 4, {1, 2, 3}, options);
  world.nodes->SetUp(4, false);
  world.nodes->SetUp(3, false);
  ASSERT_TRUE(world.Run(seconds(30), [&] { return world.nodes->Config(p).in_sync_size() == 2; }));
  world.nodes->serves = false;
  proto::SplitRequest split;
  split.set_partition(p);
  split.set_split_key("m");
  const auto begun = world.Await(world.Active()->Split(split));
  ASSERT_TRUE(begun.ok());
  world.Run(seconds(1));
  world.nodes->SetUp(2, false);
  world.nodes->SetUp(4, true);
  EXPECT_TRUE(world.Run(minutes(10), [&] { return NodesOf(world.nodes->Config(p)).contains(4); }));
  EXPECT_EQ(world.nodes->Partitions().size(), 1u);
  world.nodes->serves = true;
  for (const uint64_t id : {2, 3}) world.nodes->SetUp(id, true);
  EXPECT_TRUE(world.Run(minutes(10), [&] { return world.Settled(); }));
  EXPECT_EQ(world.nodes->Partitions().size(), 2u);
  // What may be in the log is finished under the numbers of its job alone.
  EXPECT_TRUE(world.nodes->Partitions().contains(PartitionId(begun->job().other())));
}

TEST(Coordinator, ASingleHotKeyIsReportedByNameAndNotSplit) {
  World world;
  AddNodes(world, 3);
  world.nodes->MakeTable(1);
  const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3});
  Candidate& only = world.Start();
  auto& load = world.nodes->loads[p];
  load.writes = 2'000;
  load.load_split_key = "m";
  load.hot_share = 0.9;
  world.Run(minutes(10));
  EXPECT_EQ(world.nodes->Partitions().size(), 1u);
  proto::ListPartitionsRequest request;
  request.set_hot(true);
  const auto hot = world.Active()->ListPartitions(request);
  ASSERT_TRUE(hot.ok());
  ASSERT_EQ(hot->partitions_size(), 1);
  EXPECT_TRUE(hot->partitions(0).single_hot_key());
  EXPECT_EQ(hot->partitions(0).hot_keys(0).text(), "{\"pk\": {\"S\": \"hot\"}}");
  EXPECT_THAT(
      only.registry.TextExposition(),
      ::testing::HasSubstr(
          "onggi_cluster_hot_key_load_percent{key=\"{\\\"pk\\\": {\\\"S\\\": \\\"hot\\\"}}\""));
  // Others take their part: now a split helps.
  load.hot_share = 0.2;
  EXPECT_TRUE(world.Run(minutes(3), [&] { return world.nodes->Partitions().size() == 2; }));
  EXPECT_THAT(only.registry.TextExposition(),
              ::testing::Not(::testing::HasSubstr("onggi_cluster_hot_key_load_percent{")));
}

TEST(Coordinator, MergesColdNeighboursAndBringsTheirReplicasTogether) {
  World world;
  AddNodes(world, 5);
  world.nodes->MakeTable(1);
  const uint64_t left = world.nodes->MakePartition(1, {1, 2, 3}, "", "m");
  const uint64_t right = world.nodes->MakePartition(1, {4, 2, 3}, "m", "");
  Options options;
  options.balance = false;
  world.Start(options);
  world.Run(minutes(25));
  EXPECT_EQ(world.nodes->Partitions().size(), 2u) << "cold, but not for long enough";
  ASSERT_TRUE(world.Run(minutes(15), [&] { return world.nodes->Partitions().size() == 1; }));
  EXPECT_EQ(world.nodes->Config(left).range_end(), "");
  EXPECT_EQ(world.nodes->Config(right).partition(), 0u);
  EXPECT_TRUE(world.Run(minutes(5), [&] { return world.Settled(); }));
}

TEST(Coordinator, BringsNoReplicasTogetherForAMergeThatNodesWouldRefuse) {
  World world;
  AddNodes(world, 5);
  world.nodes->MakeTable(1);
  const uint64_t left = world.nodes->MakePartition(1, {1, 2, 3}, "", "m");
  const uint64_t right = world.nodes->MakePartition(1, {4, 2, 3}, "m", "");
  world.nodes->loads[right].merge_copy_bytes = (uint64_t{128} << 20) + 1;
  Options options;
  options.balance = false;
  world.Start(options);
  world.Run(seconds(30));
  const auto merge = [&] {
    proto::MergeRequest request;
    request.set_left(left);
    request.set_right(right);
    const auto asked = world.Await(world.Active()->Merge(request));
    ASSERT_TRUE(asked.ok()) << asked.status().ToString();
    ASSERT_TRUE(world.Run(minutes(5), [&] { return world.Settled(); }));
  };
  merge();
  EXPECT_EQ(NodesOf(world.nodes->Config(right)), (std::set<uint64_t>{2, 3, 4}));
  const auto status = world.Await(world.Active()->ClusterStatus());
  ASSERT_TRUE(status.ok());
  ASSERT_EQ(status->jobs_size(), 1);
  EXPECT_EQ(status->jobs(0).error(), "partition " + std::to_string(right) +
                                         " is too large to be merged: 128 MB to copy, of at most "
                                         "128");
  // Not known, as of a closed partition: its node says so.
  world.nodes->loads[right].merge_copy_bytes = UINT64_MAX;
  world.Run(seconds(30));
  merge();
  EXPECT_EQ(world.nodes->Partitions().size(), 1u);
}

TEST(Coordinator, ASilentNodeIsReplacedAndTakenBackWhenItIsHeard) {
  World world;
  AddNodes(world, 4);
  world.nodes->MakeTable(1);
  const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3});
  Options options;
  options.balance = false;
  world.Start(options);
  world.Run(seconds(30));
  const auto state = [&](uint64_t id) {
    const auto status = world.Await(world.Active()->ClusterStatus());
    for (const auto& node : status->nodes()) {
      if (node.node().id() == id) return node.node().state();
    }
    return proto::NODE_STATE_UNSPECIFIED;
  };
  world.silent = {3};
  world.Run(options.dead_after - seconds(20));
  EXPECT_EQ(state(3), proto::NODE_STATE_ACTIVE);
  ASSERT_TRUE(world.Run(minutes(3), [&] { return NodesOf(world.nodes->Config(p)).contains(4); }));
  EXPECT_EQ(state(3), proto::NODE_STATE_DEAD);
  EXPECT_TRUE(world.Run(minutes(3), [&] { return !NodesOf(world.nodes->Config(p)).contains(3); }));
  world.silent = {};
  world.Run(seconds(20));
  EXPECT_EQ(state(3), proto::NODE_STATE_ACTIVE);
  // A coordinator that heard nobody for long, and hears them again one by one.
  world.silent = {1, 2, 3, 4};
  world.Run(options.dead_after + minutes(1));
  for (const uint64_t id : {1, 2, 3, 4}) {
    world.silent.erase(id);
    world.Run(seconds(8));
  }
  for (const uint64_t id : {1, 2, 3, 4}) EXPECT_EQ(state(id), proto::NODE_STATE_ACTIVE) << id;
  EXPECT_EQ(NodesOf(world.nodes->Config(p)), (std::set<uint64_t>{1, 2, 4}));
}

/// Each try takes writes from a partition for some seconds: not for ever.
TEST(Coordinator, GivesUpAMergeThatDoesNotComeAbout) {
  World world;
  AddNodes(world, 3);
  world.nodes->MakeTable(1);
  world.nodes->MakePartition(1, {1, 2, 3}, "", "m");
  world.nodes->MakePartition(1, {1, 2, 3}, "m", "");
  world.nodes->merges = false;
  Options options;
  options.balance = false;
  world.Start(options);
  world.Run(minutes(40));
  const auto status = world.Await(world.Active()->ClusterStatus());
  ASSERT_TRUE(status.ok());
  ASSERT_EQ(status->jobs_size(), 1);
  EXPECT_EQ(status->jobs(0).state(), proto::JOB_STATE_FAILED);
  EXPECT_EQ(status->jobs(0).attempts(), 8u);
  EXPECT_THAT(status->jobs(0).error(), ::testing::HasSubstr("the merge is not done yet"));
  // It is tried again when they have been cold for as long again.
  world.nodes->merges = true;
  EXPECT_TRUE(world.Run(minutes(40), [&] { return world.nodes->Partitions().size() == 1; }));
}

TEST(Coordinator, AnswersOperators) {
  World world;
  AddNodes(world, 4);
  world.nodes->MakeTable(1);
  const uint64_t p = world.nodes->MakePartition(1, {1, 2, 3});
  Options options;
  options.balance = false;
  world.Start(options);
  world.Run(seconds(5));
  proto::MoveRequest move;
  move.set_partition(p);
  move.set_from_node(1);
  const auto job = world.Await(world.Active()->Move(move));
  ASSERT_TRUE(job.ok()) << job.status().ToString();
  EXPECT_EQ(job->job().to().node(), 4u);
  EXPECT_EQ(job->job().reason(), "operator");
  // The same question has the same answer; another one is refused while it lasts.
  const auto again = world.Await(world.Active()->Move(move));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->job().id(), job->job().id());
  proto::SplitRequest split;
  split.set_partition(p);
  split.set_split_key("m");
  EXPECT_EQ(world.Await(world.Active()->Split(split)).status().code(), Code::kConditionFailed);
  auto status = world.Await(world.Active()->ClusterStatus());
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->active_coordinator(), "coordinator-1:7000");
  EXPECT_EQ(status->nodes_size(), 4);
  ASSERT_EQ(status->jobs_size(), 1);
  EXPECT_EQ(status->jobs(0).state(), proto::JOB_STATE_RUNNING);
  ASSERT_TRUE(world.Run(minutes(2), [&] { return world.Settled(); }));
  EXPECT_EQ(NodesOf(world.nodes->Config(p)), (std::set<uint64_t>{2, 3, 4}));
  EXPECT_EQ(world.Await(world.Active()->Move(move)).status().message(),
            "node 1 has no replica of it");
  split.set_split_key("");
  EXPECT_EQ(world.Await(world.Active()->Split(split)).status().message(),
            "its primary knows of no key to split it at");
}

TEST(Coordinator, PutsAVersionInForceOnceEveryMemberKnowsIt) {
  World world;
  AddNodes(world, 2);
  const auto upgrade = [&](uint64_t id) {
    proto::Node node = world.nodes->Record(id);
    node.mutable_wire_versions()->set_oldest(1);
    node.mutable_wire_versions()->set_newest(2);
    node.mutable_disk_versions()->set_newest(3);
    world.nodes->Put(metadata::keys::Node(NodeId(id)), node.SerializeAsString());
  };
  const auto in_force = [&] {
    proto::Cluster cluster;
    CHECK(cluster.ParseFromString(world.nodes->Read(std::string(metadata::keys::kCluster))));
    return std::pair(cluster.wire_version(), cluster.disk_version());
  };
  world.Start();
  upgrade(1);
  world.Run(seconds(20));
  EXPECT_EQ(in_force(), std::pair(1u, 1u));
  upgrade(2);
  EXPECT_TRUE(world.Run(seconds(20), [&] { return in_force() == std::pair(2u, 3u); }));
}

TEST(Coordinator, PutsNoVersionInForceThatItDoesNotKnowItself) {
  World world;
  AddNodes(world, 2);
  for (const uint64_t id : {1, 2}) {
    proto::Node node = world.nodes->Record(id);
    node.mutable_wire_versions()->set_newest(3);
    node.mutable_disk_versions()->set_newest(3);
    world.nodes->Put(metadata::keys::Node(NodeId(id)), node.SerializeAsString());
  }
  Options options;
  options.newest_wire_version = 2;
  options.newest_disk_version = 1;
  world.Start(options);
  world.Run(seconds(20));
  proto::Cluster cluster;
  CHECK(cluster.ParseFromString(world.nodes->Read(std::string(metadata::keys::kCluster))));
  EXPECT_EQ(std::pair(cluster.wire_version(), cluster.disk_version()), std::pair(2u, 1u));
}

TEST(Coordinator, LeavesTheLeadToOneThatKnowsWhatIsInForce) {
  World world;
  AddNodes(world, 2);
  Options old;
  old.newest_wire_version = 1;
  Candidate& upgraded = world.Start();
  ASSERT_TRUE(world.Run(seconds(20), [&] { return world.Active() != nullptr; }));
  world.Start(old);  // stands by meanwhile
  world.Run(seconds(5));
  proto::Cluster cluster;
  const std::string key(metadata::keys::kCluster);
  CHECK(cluster.ParseFromString(world.nodes->Read(key)));
  cluster.set_wire_version(2);
  world.nodes->Put(key, cluster.SerializeAsString());
  world.Stop(upgraded);
  world.Run(minutes(1));
  EXPECT_EQ(world.Active(), nullptr);
  world.Start();
  EXPECT_TRUE(world.Run(seconds(10), [&] { return world.Active() != nullptr; }));
}

}  // namespace
}  // namespace onggi::coordinator
