#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replication/group/group.h"
#include "tests/unit/group/driver.h"

// A configuration of one in-sync replica below its minimum, as an operator makes it when no in-sync
// replica lives (R4): the only way in which a partition can have fewer than its minimum.

namespace onggi::group {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Member kD{NodeId(4), ReplicaId(14)};
constexpr Member kE{NodeId(5), ReplicaId(15)};
constexpr Member kF{NodeId(6), ReplicaId(16)};

class Recovered : public ::testing::Test {
 protected:
  /// A is a learner of {B, C, ...} with 6 entries, which are not all of them; then it is all there
  /// is, in a configuration that still names the process that led last.
  void Begin(uint32_t replication) {
    Configuration before = Config(4, kB, {kB, kC}, {kA});
    before.replication = replication;
    before.min_in_sync = MinInSync(replication);
    if (replication == 5) before.in_sync.push_back(kF);
    d.StartAs(kA, before, 10, {At(3, 1)}, 6);
    d.Do(ConfigurationDurable{Epoch(4)});
    EXPECT_EQ(d.group.role(), Group::Role::kBackup);
    Configuration recovered = before;
    recovered.epoch = Epoch(5);
    recovered.primary = kA;
    recovered.in_sync = {kA};
    recovered.learners.clear();
    d.Do(ConfigurationSeen{recovered, Revision(11)});
    // It leads nothing that it has not asked for, and waits its promises out as any new primary.
    EXPECT_EQ(d.group.role(), Group::Role::kCandidate);
    ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
    Configuration wanted = recovered;
    wanted.epoch = Epoch(6);
    wanted.boot = Driver::kBoot;
    EXPECT_EQ(d.Find<ProposeSwap>()->configuration, wanted);
    EXPECT_EQ(d.Find<ProposeSwap>()->expected, Revision(11));
    SwapResult won;
    won.outcome = SwapResult::Outcome::kSucceeded;
    won.revision = Revision(12);
    d.Do(won);
    EXPECT_NE(d.Find<WaitPromises>(), nullptr);
    d.Do(ConfigurationDurable{Epoch(6)});
    d.Do(PromisesRunOut{Epoch(6)});
    d.Durable(6, 7);
    ExpectNothingCommitted();
  }
  void ExpectNothingCommitted() {
    EXPECT_EQ(d.group.commit_index(), LogIndex(0));
    EXPECT_FALSE(d.group.serving());
    EXPECT_EQ(d.Find<CommitAdvanced>(), nullptr);
  }
  /// A coordinator names a learner more.
  void Name(const Member& learner) {
    Configuration config = d.group.configuration();
    config.learners.push_back(learner);
    d.Do(ConfigurationSeen{config, Revision(d.group.revision().value + 1)});
    EXPECT_EQ(d.Find<ReignEnded>(), nullptr);
    d.Do(ConfigurationDurable{config.epoch});
    EXPECT_NE(d.SentTo(learner), nullptr);
  }
  void Win() { d.WinSwap(d.group.revision().value + 1); }

  Driver d;
};

TEST_F(Recovered, CommitsAndServesOnceALearnerHasMadeItWhole) {
  Begin(3);
  Name(kD);
  d.Acked(kD, 6);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr) << "before it has the reign's first entry";
  d.Acked(kD, 7);
  ExpectNothingCommitted();
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kD));
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.learners, IsEmpty());
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.min_in_sync, 2u);
  Win();
  ExpectNothingCommitted();  // acknowledgements of the new epoch only (R2)
  d.Acked(kD, 7);
  EXPECT_EQ(d.group.commit_index(), LogIndex(7));
  d.Do(Applied{LogIndex(7)});
  EXPECT_TRUE(d.group.serving());
  // Whole, it never has fewer again.
  d.Do(PeerLost{kD});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(Propose{1});
  d.Durable(7, 8);
  EXPECT_EQ(d.group.commit_index(), LogIndex(7));
}

TEST_F(Recovered, OfFiveGrowsOneByOne) {
  Begin(5);
  Name(kD);
  d.Acked(kD, 7);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kD));
  Win();
  d.Acked(kD, 7);
  ExpectNothingCommitted();
  Name(kE);
  d.Acked(kE, 7);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kD, kE));
  ExpectNothingCommitted();
  Win();
  d.Acked(kD, 7);
  ExpectNothingCommitted();
  d.Acked(kE, 7);
  EXPECT_EQ(d.group.commit_index(), LogIndex(7));
  d.Do(Applied{LogIndex(7)});
  EXPECT_TRUE(d.group.serving());
}

/// Nothing is committed, but what has grown does not shrink either.
TEST_F(Recovered, WhoIsLostOnTheWayGivesWayToALearnerOnly) {
  Begin(5);
  Name(kD);
  d.Acked(kD, 7);
  Win();
  d.Acked(kD, 7);
  d.Do(PeerLost{kD});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  Name(kE);
  d.Acked(kE, 7);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kE));
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.learners, ElementsAre(kD));
  Win();
  d.Acked(kE, 7);
  ExpectNothingCommitted();
}

/// The new primary is lost before it is whole: whoever was taken in leads, and keeps it named.
TEST_F(Recovered, WhoWasTakenInMayLeadBelowTheMinimum) {
  Configuration config = Config(7, kA, {kA, kD});
  config.replication = 5;
  config.min_in_sync = 3;
  d.StartAs(kD, config, 14, {At(3, 1), At(6, 7)}, 7);
  d.Do(ConfigurationDurable{Epoch(7)});
  d.Do(Promote{});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kD));
  d.WinSwap(15);
  d.Do(PromisesRunOut{Epoch(8)});
  d.Durable(8, 8);
  d.Acked(kA, 8);
  ExpectNothingCommitted();
}

/// What was in sync before learns of it from whoever knows, and is out.
TEST_F(Recovered, WhoWasInSyncGoesWhenItComesBack) {
  d.StartAs(kB, Config(4, kB, {kB, kC}, {kA}), 10, {At(3, 1), At(4, 7)}, 9);
  AckReceived told;
  told.message.kind = AckMessage::Kind::kRefused;
  told.message.from = kA;
  told.message.epoch = Epoch(5);
  Configuration recovered = Config(5, kA, {kA});
  recovered.replication = 3;
  recovered.min_in_sync = 2;
  told.message.configuration = std::make_shared<const Configuration>(recovered);
  told.message.revision = Revision(11);
  d.Do(told);
  EXPECT_NE(d.Find<Removed>(), nullptr);
  EXPECT_EQ(d.group.role(), Group::Role::kIdle);
}

}  // namespace
}  // namespace onggi::group
