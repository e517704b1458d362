#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replication/group/group.h"
#include "tests/unit/group/driver.h"

// Who is in sync on demand (R9, R13), and splits and merges (R13, R14).

namespace onggi::group {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr Member kD{NodeId(4), ReplicaId(14)};

class Shape : public ::testing::Test {
 protected:
  void SetUp() override {
    d.LeadThree();
    Acked(kA, 0);
  }
  void Acked(Member from, uint64_t applied, uint64_t holds = 0, uint64_t index = 1) {
    if (from == kA) return;
    AckReceived event;
    event.message.from = from;
    event.message.boot = 40 + from.node.value;
    event.message.epoch = d.group.append_epoch();
    event.message.index = LogIndex(index);
    event.message.applied = LogIndex(applied);
    event.message.holds = LogIndex(holds);
    d.Do(event);
  }
  /// Entry 2, durable and applied here and matched elsewhere.
  void Entry() {
    d.Do(Propose{1});
    d.Durable(2, 2);
    Acked(kB, 1, 0, 2);
    Acked(kC, 1, 0, 2);
    d.Do(Applied{LogIndex(2)});
  }
  FinishSplit Split() {
    FinishSplit split;
    split.index = LogIndex(2);
    split.key = "m";
    split.child = PartitionId(9);
    split.child_replicas = {{kA, ReplicaId(91)}, {kB, ReplicaId(92)}, {kC, ReplicaId(93)}};
    return split;
  }
  Driver d;
};

TEST_F(Shape, ASplitIsAskedForOnceEveryMemberHoldsItsChild) {
  Entry();
  d.Do(Holds{LogIndex(2)});
  d.Do(Split());
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.SentTo(kB)->report_applied, LogIndex(2));
  Acked(kB, 2, 2, 2);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  Acked(kC, 2, 2, 2);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  const ProposeSwap& swap = *d.Find<ProposeSwap>();
  EXPECT_EQ(swap.configuration.range_end, "m");
  EXPECT_EQ(swap.configuration.epoch, Epoch(3));
  ASSERT_TRUE(swap.child.has_value());
  EXPECT_EQ(swap.child->partition, PartitionId(9));
  const Configuration& child = swap.child->configuration;
  EXPECT_EQ(child.epoch, Epoch(1));
  EXPECT_EQ(child.boot, 0u);
  EXPECT_EQ(child.range_start, "m");
  EXPECT_EQ(child.range_end, "");
  EXPECT_EQ(child.primary, (Member{kA.node, ReplicaId(91)}));
  EXPECT_THAT(child.in_sync,
              UnorderedElementsAre(Member{kA.node, ReplicaId(91)}, Member{kB.node, ReplicaId(92)},
                                   Member{kC.node, ReplicaId(93)}));
  EXPECT_EQ(child.replication, 3u);
  EXPECT_EQ(child.min_in_sync, 2u);
  // An unknown outcome is settled by asking for the same again.
  d.Swap(SwapResult::Outcome::kUnknown);
  d.Do(Tick{Time(1000)});
  d.Do(Tick{Time(1300)});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_TRUE(d.Find<ProposeSwap>()->child.has_value());
  d.WinSwap(12);
  EXPECT_EQ(d.group.configuration().range_end, "m");
  Acked(kB, 2, 2, 2);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  EXPECT_TRUE(d.group.serving());
}

TEST_F(Shape, ASplitLeavesOutWhoDoesNotHoldItsChildIfEnoughDo) {
  Entry();
  d.Do(Holds{LogIndex(2)});
  d.Do(Tick{Time(1000)});
  d.Do(Split());
  Acked(kC, 2, 2, 2);
  Acked(kB, 2, 0, 2);  // it came with a checkpoint
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  bool asked = false;
  for (int64_t now = 1000; now < 3000 && !asked; now += 100) {
    d.Do(Tick{Time(now)});
    asked = d.Find<ProposeSwap>() != nullptr;
    if (asked) break;
    Acked(kC, 2, 2, 2);
    Acked(kB, 2, 0, 2);
    asked = d.Find<ProposeSwap>() != nullptr;
  }
  ASSERT_TRUE(asked);
  EXPECT_THAT(d.Find<ProposeSwap>()->child->configuration.in_sync,
              ElementsAre(Member{kA.node, ReplicaId(91)}, Member{kC.node, ReplicaId(93)}));
}

TEST_F(Shape, AChildOfTooFewIsNotMade) {
  Entry();
  d.Do(Holds{LogIndex(2)});
  d.Do(Split());
  for (int64_t now = 1000; now < 4000; now += 100) {
    d.Do(Tick{Time(now)});
    Acked(kC, 2, 0, 2);
    Acked(kB, 2, 0, 2);
    EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  }
}

// R14. --------------------------------------------------------------------------------------------

TEST_F(Shape, AGrantNeedsTheFreezeAppliedEverywhereAndDiesWithTheRevision) {
  Entry();
  d.Do(Freeze{LogIndex(2)});
  EXPECT_EQ(d.Find<Frozen>(), nullptr);
  Acked(kB, 2, 0, 2);
  EXPECT_EQ(d.Find<Frozen>(), nullptr);
  Acked(kC, 2, 0, 2);
  ASSERT_NE(d.Find<Frozen>(), nullptr);
  EXPECT_EQ(d.Find<Frozen>()->index, LogIndex(2));
  EXPECT_EQ(d.Find<Frozen>()->revision, Revision(11));
  // Another configuration of its own: granted anew.
  d.Do(PeerLost{kC});
  d.WinSwap(12);
  ASSERT_NE(d.Find<Frozen>(), nullptr);
  EXPECT_EQ(d.Find<Frozen>()->revision, Revision(12));
}

TEST_F(Shape, AGrantIsTakenBackByWinningAnEpochFirst) {
  Entry();
  d.Do(Freeze{LogIndex(2)});
  Acked(kB, 2, 0, 2);
  Acked(kC, 2, 0, 2);
  d.Do(Thaw{});
  EXPECT_EQ(d.Find<Thawed>(), nullptr);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.in_sync, d.group.configuration().in_sync);
  SwapResult won;
  won.outcome = SwapResult::Outcome::kSucceeded;
  won.revision = Revision(12);
  d.Do(won);
  EXPECT_NE(d.Find<Thawed>(), nullptr);
  d.Do(ConfigurationDurable{Epoch(3)});
  Acked(kB, 2, 0, 2);
  Acked(kC, 2, 0, 2);
  EXPECT_EQ(d.Find<Frozen>(), nullptr);
}

TEST_F(Shape, WithoutAGrantThereIsNothingToTakeBack) {
  Entry();
  d.Do(Thaw{});
  EXPECT_NE(d.Find<Thawed>(), nullptr);
  d.Do(Freeze{LogIndex(2)});
  d.Do(Thaw{});
  EXPECT_NE(d.Find<Thawed>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
}

class Merging : public Shape {
 protected:
  void SetUp() override {
    Configuration config = Config(1, kA, {kA, kB, kC}, {}, kAnotherBoot);
    config.range_end = "m";
    d.StartAs(kA, config, 10);
    d.WinSwap(11);
    d.Do(PromisesRunOut{Epoch(2)});
    d.Durable(2, 1);
    Acked(kB, 0);
    Acked(kC, 0);
    d.Do(Applied{LogIndex(1)});
    Entry();
    merge.index = LogIndex(2);
    merge.right = PartitionId(9);
    merge.right_revision = Revision(77);
    merge.range_end = "t";
  }
  FinishMerge merge;
};

TEST_F(Merging, IsAskedForOnceEveryMemberHoldsTheDataForGood) {
  d.Do(Holds{LogIndex(2)});
  d.Do(merge);
  Acked(kB, 2, 2, 2);
  Acked(kC, 2, 2, 2);
  // A member that joined now could get Absorb from the log.
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(BaseAdvanced{At(2, 2)});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.range_end, "t");
  ASSERT_TRUE(d.Find<ProposeSwap>()->right.has_value());
  EXPECT_EQ(d.Find<ProposeSwap>()->right->partition, PartitionId(9));
  EXPECT_EQ(d.Find<ProposeSwap>()->right->expected, Revision(77));
  d.WinSwap(12);
  EXPECT_EQ(d.group.configuration().range_end, "t");
  EXPECT_TRUE(d.group.serving());
}

TEST_F(Merging, DropsLearners) {
  d.Do(ConfigurationSeen{[] {
                           Configuration config = Config(2, kA, {kA, kB, kC}, {kD}, Driver::kBoot);
                           config.range_end = "m";
                           return config;
                         }(),
                         Revision(12)});
  d.Do(ConfigurationDurable{Epoch(2)});
  d.Do(BaseAdvanced{At(2, 2)});
  d.Do(Holds{LogIndex(2)});
  d.Do(merge);
  Acked(kB, 2, 2, 2);
  Acked(kC, 2, 2, 2);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.learners, IsEmpty());
}

TEST_F(Merging, AGrantTakenBackLeavesTheReignAlone) {
  d.Do(BaseAdvanced{At(2, 2)});
  d.Do(Holds{LogIndex(2)});
  d.Do(merge);
  Acked(kB, 2, 2, 2);
  Acked(kC, 2, 2, 2);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  d.Swap(SwapResult::Outcome::kOtherRefused);
  ASSERT_NE(d.Find<MergeRefused>(), nullptr);
  EXPECT_EQ(d.Find<MergeRefused>()->right, PartitionId(9));
  EXPECT_TRUE(d.group.serving());
  EXPECT_EQ(d.group.configuration().range_end, "m");
  d.Do(Propose{1});
  d.Durable(2, 3);
  Acked(kB, 2, 2, 3);
  Acked(kC, 2, 2, 3);
  EXPECT_EQ(d.group.commit_index(), LogIndex(3));
}

// Replicas on demand. -----------------------------------------------------------------------------

class Learner : public Shape {
 protected:
  void SetUp() override {
    Shape::SetUp();
    d.Do(ConfigurationSeen{Config(2, kA, {kA, kB, kC}, {kD}, Driver::kBoot), Revision(12)});
    d.Do(ConfigurationDurable{Epoch(2)});
  }
};

TEST_F(Learner, ReplacesAMemberInOneSwapOnceItHasCaughtUp) {
  d.Do(Replace{kC, kD});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  Acked(kD, 1);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kB, kD));
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.learners, ElementsAre(kC));
  d.WinSwap(13);
  // The one that was replaced is not taken back while it waits for its removal.
  d.Do(PeerLost{kB});
  d.Swap(SwapResult::Outcome::kRefused);
  EXPECT_EQ(d.Count<ProposeSwap>(), 0u);
  Acked(kC, 1);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
}

TEST_F(Learner, TheReplacedOneComesBackWhenItsReplacementIsLost) {
  d.Do(Replace{kC, kD});
  Acked(kD, 1);
  d.WinSwap(13);
  Acked(kB, 1);
  Acked(kC, 1);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(PeerLost{kD});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kB, kC));
}

TEST_F(Learner, TheReplacedOneComesBackWhereTheMinimumNeedsIt) {
  d.Do(Replace{kC, kD});
  Acked(kD, 1);
  d.WinSwap(13);
  d.Do(PeerLost{kB});
  d.WinSwap(14);
  EXPECT_THAT(d.group.configuration().in_sync, ElementsAre(kA, kD));
  Acked(kC, 1);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(PeerLost{kD});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kC));
}

TEST_F(Learner, AReplacementIsForgottenWhenNobodyAsksForItAgain) {
  d.Do(Replace{kC, kD});
  Acked(kD, 1);
  d.WinSwap(13);
  d.Do(PeerLost{kB});
  d.WinSwap(14);
  Acked(kD, 1);
  Acked(kC, 1);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(Tick{Time(1)});
  d.Do(Tick{Group::kReplaceFor - Time(1)});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(Tick{Group::kReplaceFor + Time(1)});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kD, kC));
}

TEST_F(Learner, NeverReplacesThePrimaryOrBySomebodyUnknown) {
  Acked(kD, 1);
  d.Do(Replace{kA, kD});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(Replace{kC, Member{NodeId(5), ReplicaId(15)}});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
}

TEST_F(Learner, FewerReplicasBecomeLearnersAtOnce) {
  d.Do(SetReplication{1});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  const Configuration& wanted = d.Find<ProposeSwap>()->configuration;
  EXPECT_EQ(wanted.replication, 1u);
  EXPECT_EQ(wanted.min_in_sync, 1u);
  EXPECT_THAT(wanted.in_sync, ElementsAre(kA));
  EXPECT_THAT(wanted.learners, UnorderedElementsAre(kB, kC, kD));
}

// From three to five it takes a learner that is ready: or the partition, which can do without one
// now, could do without none.
TEST_F(Learner, MoreReplicasAreNotHadForLessSafety) {
  d.Do(SetReplication{5});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  Acked(kD, 1);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  const Configuration& wanted = d.Find<ProposeSwap>()->configuration;
  EXPECT_EQ(wanted.replication, 5u);
  EXPECT_EQ(wanted.min_in_sync, 3u);
  EXPECT_THAT(wanted.in_sync, ElementsAre(kA, kB, kC, kD));
}

// R13: raised only in a swap that meets the new minimum.
TEST(GroupReplication, IsRaisedOnlyWhenTheNewMinimumIsMet) {
  Driver d;
  Configuration one = Config(1, kA, {kA}, {kB, kC}, kAnotherBoot);
  one.replication = one.min_in_sync = 1;
  d.StartAs(kA, one, 10);
  d.WinSwap(11);
  d.Do(PromisesRunOut{Epoch(2)});
  d.Durable(2, 1);
  d.Do(Applied{LogIndex(1)});
  d.Do(SetReplication{3});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  AckReceived ack;
  ack.message.from = kB;
  ack.message.boot = 42;
  ack.message.epoch = d.group.append_epoch();
  ack.message.index = LogIndex(1);
  d.Do(ack);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.replication, 3u);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.min_in_sync, 2u);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kB));
}

TEST(GroupRebuild, AReplicaThatCannotGoOnIsTakenOutAndGivenACheckpoint) {
  Driver backup;
  const Configuration config = Config(2, kA, {kA, kB, kC});
  backup.StartAs(kB, config, 10);
  backup.Do(ConfigurationDurable{Epoch(2)});
  backup.Do(Rebuild{});
  backup.Append(kA, config, 10, At(0, 0), 1, {At(2, 1)}, 0);
  ASSERT_NE(backup.Find<SendAck>(), nullptr);
  EXPECT_EQ(backup.Find<SendAck>()->message.kind, AckMessage::Kind::kRebuild);
  EXPECT_EQ(backup.Find<AppendToLog>(), nullptr);
  backup.Do(Promote{});
  EXPECT_EQ(backup.Find<ProposeSwap>(), nullptr);

  Driver d;
  d.LeadThree();
  AckReceived event;
  event.message.kind = AckMessage::Kind::kRebuild;
  event.message.from = kB;
  event.message.epoch = Epoch(2);
  d.Do(event);
  EXPECT_EQ(d.Find<NeedsCheckpoint>(), nullptr);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kC));
  d.WinSwap(12);
  ASSERT_NE(d.Find<NeedsCheckpoint>(), nullptr);
  EXPECT_EQ(d.Find<NeedsCheckpoint>()->to, kB);
}

// A checkpoint would take away what lies behind it.
TEST(GroupBackup, KnowsWhichCheckpointsBringNothing) {
  Driver d;
  d.StartAs(kB, Config(3, kA, {kA, kB, kC}), 10, {At(2, 1), At(3, 5)}, 8);
  EXPECT_TRUE(d.group.Has(At(2, 4)));
  EXPECT_TRUE(d.group.Has(At(3, 8)));
  EXPECT_FALSE(d.group.Has(At(3, 9)));
  EXPECT_FALSE(d.group.Has(At(3, 4)));
  d.Do(Rebuild{});
  EXPECT_FALSE(d.group.Has(At(2, 4)));
}

}  // namespace
}  // namespace onggi::group
