#include <filesystem>
#include <fstream>
#include <future>

#include "tests/unit/partition/cluster_fixture.h"

namespace onggi::partition {
namespace {

using Kind = WriteRequest::Kind;
using std::chrono::milliseconds;

using Replicated = ClusterTest;

TEST_F(Replicated, WritesReachAllReplicasAndAreReadAtAny) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  EXPECT_EQ(cluster_->Read(1, "a", "1"), "x");
  const auto configuration = cluster_->Configuration(1);
  EXPECT_EQ(configuration.in_sync.size(), 3u);
  EXPECT_EQ(configuration.primary.node, NodeId(1));
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(Eventually([&] {
      return cluster_->ReadAt(cluster_->node(id), 1, "a", "1", /*consistent=*/false) == "x";
    })) << id;
  }
  // A backup serves no strong read and says who does.
  EXPECT_THAT(cluster_->ReadAt(cluster_->node(2), 1, "a", "1", true),
              ::testing::StartsWith("NotPrimary"));
  EXPECT_EQ((*cluster_->node(2).Find(1))->primary_hint().node, NodeId(1));
}

TEST_F(Replicated, FiveReplicasAndOne) {
  cluster_->Start(5);
  cluster_->CreateTable(1, {1, 2, 3, 4, 5});
  cluster_->CreateTable(2, {3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  ASSERT_TRUE(cluster_->Put(2, "a", "1", "y").ok());
  EXPECT_EQ(cluster_->Read(1, "a", "1"), "x");
  EXPECT_EQ(cluster_->Read(2, "a", "1"), "y");
}

/// A new partition's primary asks for the other replicas until they are there.
TEST_F(Replicated, WhatIsAskedForAgainIsQueuedOnce) {
  cluster_->Start(3);
  ClusterNode& node = cluster_->node(2);
  HeldPool held(&node.blocking()), other(&cluster_->node(3).blocking());
  cluster_->CreateTable(1, {1, 2, 3});
  const size_t before = node.store().ranges;
  auto opened = std::async(std::launch::async, [&] { return cluster_->node(1).Find(1).status(); });
  ASSERT_TRUE(Eventually([&] { return node.blocking().queued() > 0; }));
  EXPECT_EQ(opened.wait_for(std::chrono::seconds(2)), std::future_status::timeout);
  EXPECT_LE(node.blocking().queued(), 2u);
  EXPECT_LE(node.store().ranges - before, 2u);
  held.Release();
  other.Release();
  (void)opened.get();
  EXPECT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
}

TEST_F(Replicated, TheLossOfAPrimaryIsSurvived) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(cluster_->Put(1, "a", std::to_string(i), "x").ok());
  }
  cluster_->node(1).Crash();
  const auto died = std::chrono::steady_clock::now();
  ASSERT_TRUE(cluster_->Put(1, "a", "after", "y").ok());
  const auto took = std::chrono::steady_clock::now() - died;
  EXPECT_LT(took, std::chrono::seconds(3));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(cluster_->Read(1, "a", std::to_string(i)), "x") << i;
  EXPECT_NE(cluster_->Configuration(1).primary.node, NodeId(1));
  // The dead one comes back, catches up and is in sync again.
  ASSERT_TRUE(cluster_->node(1).Start().ok());
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
  EXPECT_TRUE(Eventually(
      [&] { return cluster_->ReadAt(cluster_->node(1), 1, "a", "after", false) == "y"; }));
}

TEST_F(Replicated, TheLossOfABackupHoldsNothingUpForLong) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  cluster_->node(3).Crash();
  const auto died = std::chrono::steady_clock::now();
  ASSERT_TRUE(cluster_->Put(1, "a", "2", "y").ok());
  EXPECT_LT(std::chrono::steady_clock::now() - died, milliseconds(1000));
  EXPECT_TRUE(cluster_->AwaitInSync(1, 2));
}

TEST_F(Replicated, AllStopAndStartAgain) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster_->Put(1, "a", std::to_string(i), "x").ok());
  for (uint64_t id = 1; id <= 3; ++id)
    id == 2 ? cluster_->node(id).Stop() : cluster_->node(id).Crash();
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(cluster_->node(id).Start().ok());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(cluster_->Read(1, "a", std::to_string(i)), "x") << i;
  ASSERT_TRUE(cluster_->Put(1, "a", "20", "x").ok());
}

TEST_F(Replicated, StrongReadsEndWithTheLease) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "old").ok());
  const auto old_primary = *cluster_->node(1).Find(1);
  // Nobody hears the primary, and it hears nobody; the metadata store neither.
  cluster_->node(1).store().cut = true;
  cluster_->network().Isolate(NodeId(1), true);
  const std::string key = Node::Key("a", "1");
  ASSERT_TRUE(Eventually([&] { return cluster_->Configuration(1).primary.node != NodeId(1); }));
  // While the new primary has not answered a write, the old may still serve; afterwards never.
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "new").ok());
  for (int i = 0; i < 100; ++i) {
    PinnedItem item;
    const Status status = old_primary->Get(key, true, &item);
    ASSERT_FALSE(status.ok()) << i;
    std::this_thread::sleep_for(milliseconds(5));
  }
  cluster_->node(1).store().cut = false;
  cluster_->network().Isolate(NodeId(1), false);
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
  EXPECT_TRUE(
      Eventually([&] { return cluster_->ReadAt(cluster_->node(1), 1, "a", "1", false) == "new"; }));
}

TEST_F(Replicated, UncommittedWritesOfADeposedPrimaryHaveAnUnknownOutcome) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  const auto partition = *cluster_->node(1).Find(1);
  cluster_->network().Isolate(NodeId(1), true);
  const auto write = Node::Make(Kind::kPut, Item({{"p", S("a")}, {"s", S("lost")}, {"v", S("y")}}));
  auto outcome =
      std::async(std::launch::async, [&] { return cluster_->node(1).Write(partition, write); });
  ASSERT_TRUE(Eventually([&] { return cluster_->Configuration(1).primary.node != NodeId(1); }));
  const Status elsewhere = cluster_->Put(1, "a", "2", "z");
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.ToString() << cluster_->Describe(1);
  cluster_->network().Isolate(NodeId(1), false);
  ASSERT_EQ(outcome.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(outcome.get().status.code(), Code::kUnknownOutcome);
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
  EXPECT_EQ(cluster_->Read(1, "a", "2"), "z");
}

TEST_F(Replicated, ALearnerIsBuiltFromACheckpointAndTheLogsTail) {
  cluster_->Start(4);
  cluster_->CreateTable(1, {1, 2, 3});
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(cluster_->Put(1, "a", std::to_string(i), "x").ok());
  // The log has been cut: only a checkpoint helps.
  ASSERT_TRUE((*cluster_->node(1).Find(1))->Flush().ok());
  ASSERT_TRUE(Eventually(
      [&] { return cluster_->node(1).log().FirstIndex(PartitionId(1)) > LogIndex(100); }));
  ASSERT_TRUE(
      cluster_->node(4).manager().CreateReplica(TableId(1), PartitionId(1), ReplicaId(77)).ok());
  ASSERT_TRUE(cluster_->Swap(1, [](group::Configuration* configuration) {
    configuration->learners.push_back({NodeId(4), ReplicaId(77)});
  }));
  cluster_->node(3).Crash();  // its place is free
  ASSERT_TRUE(cluster_->Put(1, "a", "during", "y").ok());
  EXPECT_TRUE(Eventually([&] {
    return cluster_->Configuration(1).InSync({NodeId(4), ReplicaId(77)});
  }));
  EXPECT_GE(cluster_->node(1).checkpoints().sent, 1);
  EXPECT_EQ(cluster_->ReadAt(cluster_->node(4), 1, "a", "150", false), "x");
  // It can lead.
  cluster_->node(2).Crash();
  ASSERT_TRUE(Await(cluster_->node(1).executor(),
                    cluster_->node(1).manager().TransferPrimary(
                        PartitionId(1), {NodeId(4), ReplicaId(77)},
                        std::chrono::steady_clock::now() + std::chrono::seconds(5)))
                  .ok());
  EXPECT_EQ(cluster_->Read(1, "a", "during"), "y");
  EXPECT_EQ(cluster_->Configuration(1).primary.node, NodeId(4));
  ASSERT_TRUE(cluster_->Put(1, "a", "later", "z").ok());
}

TEST_F(Replicated, AWipedDiskIsALostReplicaAndRejoinsAsANewOne) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster_->Put(1, "a", std::to_string(i), "x").ok());
  cluster_->node(3).Crash();
  ASSERT_TRUE(cluster_->AwaitInSync(1, 2));
  cluster_->node(3).Wipe();
  ASSERT_TRUE(cluster_->node(3).Start().ok());
  // Under its old number it never comes back: as a learner it is named, and not there.
  ASSERT_TRUE(cluster_->Put(1, "a", "during", "y").ok());
  std::this_thread::sleep_for(milliseconds(500));
  EXPECT_EQ(cluster_->Configuration(1).in_sync.size(), 2u);
  const auto statuses = cluster_->node(3).manager().GetReplicas(TableId(1), PartitionId(1));
  ASSERT_EQ(statuses.size(), 1u);
  EXPECT_EQ(statuses[0].role(), proto::REPLICA_ROLE_LOST);
  // What a coordinator does about it.
  ASSERT_TRUE(Eventually([&] {
    return cluster_->Swap(1, [](group::Configuration* configuration) {
      std::erase(configuration->learners, group::Member{NodeId(3), ReplicaId(30)});
    });
  }));
  ASSERT_TRUE(Eventually([&] {
    return cluster_->node(3)
        .manager()
        .CreateReplica(TableId(1), PartitionId(1), ReplicaId(31))
        .ok();
  }));
  ASSERT_TRUE(Eventually([&] {
    return cluster_->Swap(1, [](group::Configuration* configuration) {
      configuration->learners.push_back({NodeId(3), ReplicaId(31)});
    });
  }));
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
  EXPECT_EQ(cluster_->ReadAt(cluster_->node(3), 1, "a", "during", false), "y");
  EXPECT_EQ(cluster_->ReadAt(cluster_->node(3), 1, "a", "7", false), "x");
}

/// A full log does not take that a replica's entries go; that is tried again when it has space.
TEST_F(Replicated, WhatIsLeftOfADroppedReplicaIsNotTakenFromTheNextOne) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster_->Put(1, "a", std::to_string(i), "x").ok());
  ClusterNode& node = cluster_->Add(4);
  node.Stop();
  node.maintenance_interval = milliseconds(1'500);  // the next replica is there before
  ASSERT_TRUE(node.Start().ok());
  const auto create = [&](uint64_t replica) {
    return node.manager().CreateReplica(TableId(1), PartitionId(1), ReplicaId(replica)).ok();
  };
  const auto learn = [&](uint64_t replica) {
    return Eventually([&] { return create(replica); }) && Eventually([&] {
             return cluster_->Swap(1, [&](group::Configuration* configuration) {
               configuration->learners.push_back({NodeId(4), ReplicaId(replica)});
             });
           });
  };
  const auto last = [&] { return node.log().LastIndex(PartitionId(1)); };
  ASSERT_TRUE(learn(77));
  ASSERT_TRUE(Eventually([&] { return last() > LogIndex(20); }));
  node.log_disk.full = true;
  log::EntryView entry;
  entry.epoch = Epoch(1);
  entry.index = LogIndex(1);
  ASSERT_TRUE(Eventually([&] {  // another partition's, until it is refused
    const Status taken = node.log().Append(PartitionId(9), std::span(&entry, 1), nullptr);
    ++entry.index.value;
    return taken.code() == Code::kOutOfSpace;
  }));
  ASSERT_TRUE(Eventually([&] {
    return cluster_->Swap(
        1, [](group::Configuration* configuration) { configuration->learners.clear(); });
  }));
  ASSERT_TRUE(Eventually([&] { return !std::filesystem::exists(node.PartitionDirectory(1)); }));
  node.log_disk.full = false;
  ASSERT_TRUE(learn(78));
  ASSERT_TRUE(Eventually([&] { return last() > LogIndex(20); }));
  std::this_thread::sleep_for(milliseconds(1'600));
  EXPECT_GT(last(), LogIndex(20));
}

/// It may be needed: what a disk does not say now is no reason to remove it.
TEST_F(Replicated, AReplicaThatCannotBeLookedAtIsNotRemoved) {
  cluster_->Start(4);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  ClusterNode& node = cluster_->node(4);
  ASSERT_TRUE(node.manager().CreateReplica(TableId(1), PartitionId(1), ReplicaId(77)).ok());
  const std::string parent = node.PartitionDirectory(1) + "/PARENT";
  std::ofstream(parent) << ParentMark{TableId(1), PartitionId(1), "k"}.Encode();
  node.table_disk->unreadable = true;
  const auto drop = [&] {
    return Await(node.executor(),
                 node.manager().DropReplica(TableId(1), PartitionId(1), ReplicaId(77)));
  };
  EXPECT_EQ(drop().code(), Code::kIoError);
  node.Stop();
  ASSERT_TRUE(node.Start().ok());
  EXPECT_TRUE(std::filesystem::exists(node.PartitionDirectory(1) + "/REPLICA"));
  node.table_disk->unreadable = false;
  node.Stop();
  ASSERT_TRUE(node.Start().ok());
  const auto there = node.manager().GetReplicas(TableId(), PartitionId(1));
  ASSERT_EQ(there.size(), 1u);
  EXPECT_EQ(there[0].role(), proto::REPLICA_ROLE_UNNAMED);
  std::filesystem::remove(parent);
  EXPECT_TRUE(drop().ok());
  EXPECT_TRUE(Eventually([&] { return !std::filesystem::exists(node.PartitionDirectory(1)); }));
}

TEST_F(Replicated, AnOldMessageDoesNotBringBackAReplicaThatHasLeft) {
  cluster_->Start(4);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  PartitionManager& manager = cluster_->node(4).manager();
  const auto there = [&] { return manager.GetReplicas(TableId(1), PartitionId(1)); };
  const auto is_whole = [&] {
    const auto statuses = there();
    return statuses.size() == 1 && statuses[0].role() != proto::REPLICA_ROLE_UNNAMED &&
           statuses[0].role() != proto::REPLICA_ROLE_LOST;
  };
  const auto name = [&](uint64_t replica) {
    return Eventually([&] {
             return manager.CreateReplica(TableId(1), PartitionId(1), ReplicaId(replica)).ok();
           }) &&
           Eventually([&] {
             return cluster_->Swap(1, [&](group::Configuration* configuration) {
               configuration->learners.push_back({NodeId(4), ReplicaId(replica)});
             });
           });
  };
  ASSERT_TRUE(name(77));
  ASSERT_TRUE(Eventually(is_whole));
  const auto old = *cluster_->Known(1, 1);
  ASSERT_TRUE(Eventually([&] {
    return cluster_->Swap(
        1, [](group::Configuration* configuration) { configuration->learners.clear(); });
  }));
  ASSERT_TRUE(Eventually([&] { return there().empty(); }));
  lease::NewerConfiguration late;
  late.table = TableId(1);
  late.partition = PartitionId(1);
  late.configuration = std::make_shared<const group::Configuration>(old.configuration);
  late.revision = old.revision;
  manager.OnNewerConfiguration(NodeId(1), late);
  EXPECT_TRUE(there().empty());
  // The next one is nobody's leftover.
  ASSERT_TRUE(name(78));
  manager.OnNewerConfiguration(NodeId(1), late);
  EXPECT_TRUE(Eventually(is_whole));
  EXPECT_TRUE(std::filesystem::exists(cluster_->node(4).PartitionDirectory(1) + "/REPLICA"));
}

TEST_F(Replicated, ALostPrimaryGivesWay) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  // All stop, so that nobody takes over, and the primary's replica goes.
  for (uint64_t id = 1; id <= 3; ++id) cluster_->node(id).Stop();
  std::filesystem::remove_all(cluster_->node(1).PartitionDirectory(1));
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(cluster_->node(id).Start().ok());
  EXPECT_EQ(cluster_->Read(1, "a", "1"), "x");
  EXPECT_NE(cluster_->Configuration(1).primary.node, NodeId(1));
}

TEST_F(Replicated, ARetryIsAnsweredAndNotAppliedAgainAlsoByTheNextPrimary) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "n", "0").ok());
  const auto add =
      Node::Make(Kind::kUpdate, Item({{"p", S("a")}, {"s", S("count")}}), "ADD n :v", "", {N(1)});
  add->request.id = {7, 1};
  add->request.want_new = true;
  add->request.want_old = true;
  const WriteOutcome first = cluster_->Write(1, add);
  ASSERT_TRUE(first.status.ok());
  const WriteOutcome second = cluster_->Write(1, add);
  ASSERT_TRUE(second.status.ok());
  EXPECT_EQ(second.new_item, first.new_item);
  EXPECT_EQ(second.existed, first.existed);
  EXPECT_EQ(second.new_size, first.new_size);
  cluster_->node(1).Crash();
  const WriteOutcome third = cluster_->Write(1, add);
  ASSERT_TRUE(third.status.ok()) << third.status.ToString();
  EXPECT_EQ(third.new_item, first.new_item);
  EXPECT_NE(cluster_->Configuration(1).primary.node, NodeId(1));
  add->request.id = {7, 2};
  const WriteOutcome other = cluster_->Write(1, add);
  EXPECT_NE(other.new_item, first.new_item);
  EXPECT_EQ(other.old_item, first.new_item);
}

TEST_F(Replicated, ARetryWaitsForTheFirstTry) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  const auto partition = *cluster_->node(1).Find(1);
  std::atomic<bool> hold{true};
  cluster_->network().SetDrop([&](NodeId, NodeId to, const transport::GroupMessage& message) {
    return hold && to != NodeId(1) && std::holds_alternative<transport::Append>(message.body);
  });
  const auto add =
      Node::Make(Kind::kUpdate, Item({{"p", S("a")}, {"s", S("count")}}), "ADD n :v", "", {N(1)});
  add->request.id = {7, 1};
  add->request.want_new = true;
  std::vector<std::future<WriteOutcome>> tries;
  for (int i = 0; i < 3; ++i) {
    tries.push_back(
        std::async(std::launch::async, [&] { return cluster_->node(1).Write(partition, add); }));
  }
  std::this_thread::sleep_for(milliseconds(100));
  hold = false;
  std::vector<std::string> items;
  for (auto& one : tries) {
    const WriteOutcome outcome = one.get();
    EXPECT_TRUE(outcome.status.ok()) << outcome.status.ToString();
    items.push_back(outcome.new_item);
  }
  EXPECT_EQ(items[0], items[1]);
  EXPECT_EQ(items[0], items[2]);
  cluster_->network().SetDrop({});
}

TEST_F(Replicated, ABackupWithoutSpaceLeavesTheSetAndComesBack) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  cluster_->node(3).log_disk.full = true;
  cluster_->node(3).disk_low = true;
  ASSERT_TRUE(cluster_->Put(1, "a", "2", "y").ok());
  EXPECT_TRUE(cluster_->AwaitInSync(1, 2));
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(cluster_->Put(1, "b", std::to_string(i), "z").ok());
  cluster_->node(3).log_disk.full = false;
  cluster_->node(3).disk_low = false;
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
  EXPECT_EQ(cluster_->ReadAt(cluster_->node(3), 1, "b", "49", false), "z");
}

TEST_F(Replicated, APrimaryWhoseStoreCannotApplyAnswersAndGoesOn) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  // A backup that cannot apply goes on acknowledging.
  cluster_->node(2).table_disk->full = true;
  const auto backup = *cluster_->node(2).Find(1);
  (void)backup->Flush();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster_->Put(1, "b", std::to_string(i), "z").ok());
  cluster_->node(2).table_disk->full = false;
  EXPECT_TRUE(
      Eventually([&] { return cluster_->ReadAt(cluster_->node(2), 1, "b", "19", false) == "z"; }));
}

TEST_F(Replicated, ALearnerIsTakenInAfterARestartThoughNobodyAsks) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  cluster_->node(3).Crash();
  ASSERT_TRUE(cluster_->Put(1, "a", "2", "y").ok());
  ASSERT_TRUE(cluster_->AwaitInSync(1, 2));
  for (const uint64_t id : {1, 2}) cluster_->node(id).Crash();
  for (const uint64_t id : {1, 2, 3}) ASSERT_TRUE(cluster_->node(id).Start().ok());
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
}

/// What is not flushed keeps the log from being cut.
TEST_F(Replicated, AStoreWhoseDiskWasFullIsWholeAgainThoughNobodyWrites) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  ClusterNode& node = cluster_->node(2);
  const auto backup = *node.Find(1);
  EXPECT_TRUE(Eventually([&] { return cluster_->ReadAt(node, 1, "a", "1", false) == "x"; }));
  const LogIndex applied = backup->replica()->applied().index;
  node.table_disk->full = true;
  EXPECT_FALSE(backup->Flush().ok());
  node.table_disk->full = false;
  EXPECT_TRUE(Eventually([&] {
    const auto persisted = backup->PersistedPosition();
    return persisted.ok() && persisted->index >= applied;
  }));
}

/// From which RocksDB does not come back by itself.
TEST_F(Replicated, AStoreWhoseDiskHasFailedIsOpenedAgain) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  for (const uint64_t id : {2, 1}) {
    SCOPED_TRACE(id);
    ClusterNode& node = cluster_->node(id);
    std::weak_ptr<Partition> partition;
    {
      const auto failed = *node.Find(1);
      partition = failed;
      node.table_disk->broken = true;
      EXPECT_EQ(failed->Flush().code(), Code::kIoError);
    }
    EXPECT_TRUE(Eventually([&] { return partition.expired(); }));
    // Others lead where it did: it cannot be opened for now.
    const std::string value = "y" + std::to_string(id);
    ASSERT_TRUE(Eventually([&] { return cluster_->Put(1, "a", "2", value).ok(); }));
    EXPECT_NE(cluster_->Configuration(1).primary.node, node.id());
    node.table_disk->broken = false;
    EXPECT_TRUE(Eventually([&] { return cluster_->ReadAt(node, 1, "a", "2", false) == value; }));
    EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
    const auto again = node.Find(1);
    ASSERT_TRUE(again.ok());
    EXPECT_TRUE((*again)->Flush().ok());
    EXPECT_EQ(cluster_->Read(1, "a", "1"), "x");
  }
}

/// A store whose disk was full and that does not come back from it.
class AStoreThatHangs : public Replicated {
 protected:
  void MakeItHang(std::optional<milliseconds> patience = std::nullopt) {
    for (uint64_t id = 1; id <= 3; ++id) cluster_->Add(id);
    node().Stop();
    node().resume_patience = patience;
    ASSERT_TRUE(node().Start().ok());
    cluster_->CreateTable(1, {1, 2, 3});
    ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
    const auto backup = *node().Find(1);
    partition_ = backup;
    EXPECT_TRUE(Eventually([&] { return cluster_->ReadAt(node(), 1, "a", "1", false) == "x"; }));
    node().table_disk->full = true;
    EXPECT_FALSE(backup->Flush().ok());
    node().table_disk->making.Close("/partitions/");
    node().table_disk->full = false;
    EXPECT_TRUE(Eventually([&] { return node().table_disk->making.held(); }));
  }
  void TearDown() override {
    node().table_disk->making.Open();
    Replicated::TearDown();
  }
  ClusterNode& node() { return cluster_->node(2); }
  bool Gone() {
    return Eventually([&] { return partition_.expired(); });
  }

  std::weak_ptr<Partition> partition_;
};

TEST_F(AStoreThatHangs, IsOpenedAgain) {
  MakeItHang(milliseconds(100));
  EXPECT_TRUE(Gone());
  node().table_disk->making.Open();
  EXPECT_TRUE(Eventually([&] { return cluster_->ReadAt(node(), 1, "a", "1", false) == "x"; }));
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
  ASSERT_TRUE(cluster_->Put(1, "a", "2", "y").ok());
  const auto again = *node().Find(1);
  EXPECT_TRUE(Eventually([&] { return cluster_->ReadAt(node(), 1, "a", "2", false) == "y"; }));
  EXPECT_TRUE(again->Flush().ok());
}

TEST_F(AStoreThatHangs, HoldsNoStopUp) {
  MakeItHang();
  auto stopped = std::async(std::launch::async, [&] { node().Stop(); });
  EXPECT_TRUE(Gone());
  node().table_disk->making.Open();
  stopped.get();
  ASSERT_TRUE(node().Start().ok());
  EXPECT_TRUE(Eventually([&] { return cluster_->ReadAt(node(), 1, "a", "1", false) == "x"; }));
}

TEST_F(Replicated, IdlePartitionsCloseAndOpenAgain) {
  for (uint64_t id = 1; id <= 3; ++id) cluster_->Add(id).Stop();
  for (uint64_t id = 1; id <= 3; ++id) {
    cluster_->node(id).idle_close = milliseconds(300);
    ASSERT_TRUE(cluster_->node(id).Start().ok());
  }
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(Eventually([&] { return cluster_->node(id).manager().open_partitions() == 0; }));
  }
  // They say what they had; a process that has not had them open does not know.
  const auto to_copy = [this] {
    return cluster_->node(1).manager().GetReplicas(TableId(1), PartitionId(1))[0];
  };
  EXPECT_TRUE(Eventually([&] { return to_copy().items() == 1; }));
  EXPECT_GT(to_copy().merge_copy_bytes(), 256u);
  EXPECT_LT(to_copy().merge_copy_bytes(), 512u);
  cluster_->node(1).Crash();
  ASSERT_TRUE(cluster_->node(1).Start().ok());
  const proto::ReplicaStatus after = to_copy();
  EXPECT_EQ(after.role() == proto::REPLICA_ROLE_CLOSED, after.merge_copy_bytes() > 512);
  EXPECT_EQ(cluster_->Read(1, "a", "1"), "x");
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "y").ok());
  // Closed ones are taken over too.
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(Eventually([&] { return cluster_->node(id).manager().open_partitions() == 0; }));
  }
  const NodeId primary = cluster_->Configuration(1).primary.node;
  cluster_->node(primary).Crash();
  EXPECT_TRUE(Eventually([&] { return cluster_->Configuration(1).primary.node != primary; }));
  EXPECT_EQ(cluster_->Read(1, "a", "1"), "y");
}

TEST_F(Replicated, ATableIsMadeThoughANodeIsDown) {
  cluster_->Start(3);
  cluster_->node(3).Stop();
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  EXPECT_EQ(cluster_->Configuration(1).in_sync.size(), 2u);
}

TEST_F(Replicated, TransferPausesWritesOnly) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  std::atomic<bool> stop{false};
  std::atomic<int> failures{0}, writes{0};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) {
      failures += !cluster_->Put(1, "w", std::to_string(i), "x").ok();
      ++writes;
    }
  });
  for (const uint64_t to : {2, 3, 1, 2}) {
    const NodeId from = cluster_->Configuration(1).primary.node;
    const Status moved = Await(cluster_->node(from).executor(),
                               cluster_->node(from).manager().TransferPrimary(
                                   PartitionId(1), {NodeId(to), ReplicaId(10 * to)},
                                   std::chrono::steady_clock::now() + std::chrono::seconds(5)));
    EXPECT_TRUE(moved.ok()) << moved.ToString();
    EXPECT_EQ(cluster_->Configuration(1).primary.node, NodeId(to));
    EXPECT_EQ(cluster_->Read(1, "a", "1"), "x");
    const int before = writes;
    EXPECT_TRUE(Eventually([&] { return writes > before + 3; }));
  }
  stop = true;
  writer.join();
  EXPECT_EQ(failures, 0);
}

TEST_F(Replicated, DroppedTablesLeaveNothingBehind) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  metadata::Transaction transaction;
  transaction.deletes.push_back(metadata::keys::Table(TableId(1)));
  transaction.deletes.push_back(Cluster::KeyOfPartition(1, 1));
  cluster_->Commit(std::move(transaction));
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(Eventually([&] {
      return !std::filesystem::exists(cluster_->node(id).PartitionDirectory(1)) &&
             cluster_->node(id).log().Partitions().empty();
    })) << id;
  }
}

TEST_F(Replicated, AReplicaThatIsTakenOutOfThePartitionGoes) {
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
  cluster_->network().Isolate(NodeId(3), true);
  ASSERT_TRUE(cluster_->Put(1, "a", "2", "x").ok());
  ASSERT_TRUE(cluster_->AwaitInSync(1, 2));
  ASSERT_TRUE(Eventually([&] {
    return cluster_->Swap(
        1, [](group::Configuration* configuration) { configuration->learners.clear(); });
  }));
  cluster_->network().Isolate(NodeId(3), false);
  EXPECT_TRUE(Eventually(
      [&] { return !std::filesystem::exists(cluster_->node(3).PartitionDirectory(1)); }));
  EXPECT_FALSE(cluster_->node(3).Find(1).ok());
}

}  // namespace
}  // namespace onggi::partition
