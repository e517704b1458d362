#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/coordinator.h"
#include "tests/unit/coordinator/world.h"

/// The operator's way on when no in-sync replica of a partition lives (R4).
namespace onggi::coordinator {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

/// Nodes 1 to 3 with partition 1 of table 1; node 3 has fallen behind, and is a learner.
class Recovery : public ::testing::Test {
 protected:
  void SetUp() override {
    for (uint64_t id = 1; id <= 3; ++id) {
      world_.nodes->Add(id, "zone-" + std::to_string(id));
    }
    world_.nodes->MakeTable(1);
    partition_ = world_.nodes->MakePartition(1, {1, 2, 3});
    world_.nodes->loads[partition_].last_index = 57;
    Options options;
    options.balance = false;
    options.unnamed_grace = seconds(2);
    world_.Start(options);
    world_.Run(seconds(5));
    world_.nodes->SetUp(3, false);
    ASSERT_TRUE(world_.Run(seconds(5), [&] { return Config().learners_size() == 1; }));
  }

  /// The in-sync nodes go, and the learner's comes back.
  void LoseInSync() {
    world_.nodes->SetUp(1, false);
    world_.nodes->SetUp(2, false);
    world_.nodes->SetUp(3, true);
    world_.Run(seconds(5));
  }
  proto::PartitionConfig Config() const { return world_.nodes->Config(partition_); }
  Result<proto::RecoverResponse> Recover(uint64_t node, bool accept = true) {
    proto::RecoverRequest request;
    request.set_partition(partition_);
    request.set_node(node);
    request.set_accept_data_loss(accept);
    if (accept) world_.recovered.insert(partition_);
    return world_.Await(world_.Active()->Recover(request));
  }
  /// Why it is refused; nothing may change.
  std::string Refusal(uint64_t node) {
    const std::string before = Config().SerializeAsString();
    const auto answer = Recover(node);
    EXPECT_EQ(Config().SerializeAsString(), before);
    if (answer.ok()) return "it was done";
    EXPECT_EQ(answer.status().code(), Code::kConditionFailed);
    return answer.status().message();
  }

  World world_;
  uint64_t partition_ = 0;
};

TEST_F(Recovery, ALearnerBeginsAReignOfItsOwnAndTakesInOthers) {
  LoseInSync();
  const proto::PartitionConfig before = Config();
  const auto answer = Recover(3);
  ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  EXPECT_TRUE(answer->recovered());
  EXPECT_EQ(answer->before().SerializeAsString(), before.SerializeAsString());
  EXPECT_EQ(answer->replica().durable_index(), 57u);
  proto::PartitionConfig wanted = before;
  wanted.set_epoch(before.epoch() + 1);
  *wanted.mutable_primary() = before.learners(0);
  wanted.clear_in_sync();
  *wanted.add_in_sync() = before.learners(0);
  wanted.clear_learners();
  // Neither a process's own number, which would lead at once, nor that of a replica to be made.
  EXPECT_NE(before.boot(), 0u);
  EXPECT_EQ(answer->after().SerializeAsString(), wanted.SerializeAsString());
  EXPECT_EQ(Config().SerializeAsString(), wanted.SerializeAsString());
  EXPECT_LT(wanted.in_sync_size(), static_cast<int>(wanted.min_in_sync()));

  // Repair does the rest; what the old ones have goes when they come back.
  world_.nodes->Add(4, "zone-4");
  ASSERT_TRUE(world_.Run(minutes(2), [&] { return Config().in_sync_size() == 2; }));
  world_.nodes->SetUp(1, true);
  ASSERT_TRUE(world_.Run(minutes(10), [&] { return world_.Settled(); }));
  const proto::PartitionConfig whole = Config();
  EXPECT_EQ(whole.in_sync_size(), 3);
  for (const auto& ref : whole.in_sync()) {
    for (const auto& old : before.in_sync()) EXPECT_FALSE(SameReplica(ref, old));
  }
}

TEST_F(Recovery, WithoutAcceptanceItSaysWhatItWouldDo) {
  LoseInSync();
  const proto::PartitionConfig before = Config();
  const auto answer = Recover(3, /*accept=*/false);
  ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  EXPECT_FALSE(answer->recovered());
  EXPECT_EQ(answer->after().primary().node(), 3u);
  EXPECT_EQ(answer->replica().durable_index(), 57u);
  world_.Run(seconds(5));
  EXPECT_EQ(Config().SerializeAsString(), before.SerializeAsString());
}

TEST_F(Recovery, IsRefusedWhileAnInSyncReplicaLives) {
  const std::string live =
      " lives and has a replica in sync: nothing need be lost, and the partition recovers by "
      "itself";
  world_.nodes->SetUp(3, true);
  world_.silent.insert(3);  // so it stays a learner
  EXPECT_EQ(Refusal(3), "node 1" + live);
  world_.silent.clear();
  LoseInSync();
  world_.nodes->SetUp(2, true);
  world_.Run(seconds(1));
  EXPECT_EQ(Refusal(3), "node 2" + live);
  EXPECT_EQ(Refusal(2), "node 2" + live);
}

TEST_F(Recovery, ANodeThatComesBackAtTheLastMomentIsSeen) {
  LoseInSync();
  // Its lease is there before this coordinator's watch says so.
  bool back = false;
  world_.candidates.front()->counting.before = [&] {
    if (!std::exchange(back, true)) world_.nodes->SetUp(1, true);
  };
  const std::string before = Config().SerializeAsString();
  const auto answer = Recover(3);
  world_.candidates.front()->counting.before = {};
  ASSERT_TRUE(back);
  EXPECT_FALSE(answer.ok());
  EXPECT_THAT(answer.status().message(), ::testing::HasSubstr("node 1 lives"));
  EXPECT_EQ(Config().primary().node(), 1u);
}

TEST_F(Recovery, AnInSyncReplicaThatItsLivingNodeHasLostIsNoReasonToWait) {
  world_.nodes->broken.insert(Config().in_sync(0).replica());
  world_.nodes->broken.insert(Config().in_sync(1).replica());
  world_.damaged.insert(Config().in_sync(0).replica());
  world_.damaged.insert(Config().in_sync(1).replica());
  world_.Run(seconds(3));
  world_.nodes->SetUp(3, true);
  // Before the repair jobs get at it.
  ASSERT_TRUE(world_.Run(seconds(2), [&] {
    const auto* status = world_.Active()->view().Status(Config().learners(0), PartitionId(1));
    return world_.Active()->view().Alive(NodeId(3)) && status != nullptr;
  }));
  EXPECT_EQ(Refusal(1), "node 1 has lost its replica");
  EXPECT_TRUE(Recover(3).ok());
}

TEST_F(Recovery, NeedsALivingLearner) {
  world_.nodes->Add(4, "zone-4");
  world_.nodes->SetUp(4, false);
  world_.nodes->SetUp(1, false);
  world_.nodes->SetUp(2, false);
  world_.Run(seconds(5));
  EXPECT_EQ(Refusal(4), "node 4 has no replica of it");
  EXPECT_EQ(Refusal(3), "node 3 does not answer");
  EXPECT_EQ(Refusal(1), "node 1 does not answer");
  world_.nodes->broken.insert(Config().learners(0).replica());
  world_.nodes->SetUp(3, true);
  const proto::ReplicaRef learner = Config().learners(0);
  // Before repair makes another one there.
  ASSERT_TRUE(world_.Run(seconds(3), [&] {
    const ClusterView& view = world_.Active()->view();
    return view.Alive(NodeId(3)) && view.Lost(learner, PartitionId(partition_));
  }));
  EXPECT_EQ(Refusal(3), "node 3 has lost its replica");
  proto::RecoverRequest other;
  other.set_partition(99);
  other.set_node(3);
  EXPECT_EQ(world_.Await(world_.Active()->Recover(other)).status().code(), Code::kNotFound);
}

/// What a node's last process said says nothing of the present one.
TEST_F(Recovery, WaitsForTheNodesPresentProcessToReport) {
  world_.nodes->SetUp(1, false);
  world_.nodes->SetUp(2, false);
  world_.silent.insert(3);
  proto::Node node = world_.nodes->Record(3);
  node.set_boot(3001);
  world_.nodes->Put(metadata::keys::Node(NodeId(3)), node.SerializeAsString());
  world_.nodes->SetUp(3, true);
  world_.Run(seconds(3));
  EXPECT_EQ(Refusal(3), "node 3 has not said yet what it has: ask again");
}

/// It could not end, and would keep the partition from repair.
TEST_F(Recovery, EndsASplit) {
  Candidate& coordinator = *world_.candidates.front();
  coordinator.client.cut = true;
  proto::SplitRequest split;
  split.set_partition(partition_);
  split.set_split_key("m");
  const auto job = world_.Await(world_.Active()->Split(split));
  ASSERT_TRUE(job.ok()) << job.status().ToString();
  LoseInSync();
  ASSERT_EQ(world_.nodes->running_jobs(), 1u);
  ASSERT_TRUE(Recover(3).ok());
  coordinator.client.cut = false;
  ASSERT_TRUE(world_.Run(minutes(1), [&] { return world_.nodes->running_jobs() == 0; }));
  EXPECT_EQ(world_.nodes->Jobs().front().state(), proto::JOB_STATE_FAILED);
  world_.nodes->Add(4, "zone-4");
  EXPECT_TRUE(world_.Run(minutes(5), [&] { return Config().in_sync_size() == 2; }));
  EXPECT_EQ(world_.nodes->Config(job->job().other()).table(), 0u);
}

}  // namespace
}  // namespace onggi::coordinator
