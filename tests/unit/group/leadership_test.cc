#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replication/group/group.h"
#include "tests/unit/group/driver.h"

// How a reign is given away, given up and begun from nothing (R6 to R8, R11), and whose leases it
// needs (R5).

namespace onggi::group {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// Transfer (R8). ----------------------------------------------------------------------------------

/// An acknowledgement with the process it comes from.
void AckedBy(Driver* d, Member from, uint64_t boot, uint64_t index, uint64_t applied = 0,
             uint64_t holds = 0) {
  AckReceived event;
  event.message.from = from;
  event.message.boot = boot;
  event.message.epoch = d->group.append_epoch();
  event.message.index = LogIndex(index);
  event.message.applied = LogIndex(applied);
  event.message.holds = LogIndex(holds);
  d->Do(event);
}

TEST(GroupTransfer, WaitsForTheTargetAndSwapsOnceItsOwnLeaseIsGone) {
  Driver d;
  d.LeadThree();
  AckedBy(&d, kB, 41, 1);
  d.Do(Propose{1});
  d.Do(Transfer{kB});
  ASSERT_NE(d.Find<AdmissionChanged>(), nullptr);
  EXPECT_FALSE(d.Find<AdmissionChanged>()->serving);
  EXPECT_FALSE(d.group.serving());
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Durable(2, 2);
  AckedBy(&d, kB, 41, 2);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);  // C has not, so it is not committed
  AckedBy(&d, kC, 42, 2);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  Configuration wanted = Config(3, kB, {kA, kB, kC}, {}, 41);
  wanted.lease_released = true;
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration, wanted);
  // First the reign ends, then no read is served any more, then the swap is asked for.
  std::vector<size_t> order;
  for (size_t i = 0; i < d.actions.size(); ++i) {
    if (std::holds_alternative<ReignEnded>(d.actions[i])) order.push_back(1);
    if (std::holds_alternative<ReleaseLease>(d.actions[i])) order.push_back(2);
    if (std::holds_alternative<ProposeSwap>(d.actions[i])) order.push_back(3);
  }
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
  // The new primary learns of it at once.
  SwapResult won;
  won.outcome = SwapResult::Outcome::kSucceeded;
  won.revision = Revision(12);
  d.Do(won);
  EXPECT_EQ(d.group.role(), Group::Role::kBackup);
  ASSERT_NE(d.Find<SendAck>(), nullptr);
  EXPECT_EQ(d.Find<SendAck>()->to, kB);
  EXPECT_EQ(d.Find<SendAck>()->message.kind, AckMessage::Kind::kRefused);
  EXPECT_EQ(d.Find<SendAck>()->message.revision, Revision(12));
}

TEST(GroupTransfer, TheTargetLeadsWithoutASwapOrAWait) {
  Driver d;
  d.StartAs(kB, Config(2, kA, {kA, kB, kC}), 11, {At(2, 1)}, 3);
  Configuration given = Config(3, kB, {kA, kB, kC}, {}, Driver::kBoot);
  given.lease_released = true;
  AckReceived told;
  told.message.kind = AckMessage::Kind::kRefused;
  told.message.from = kA;
  told.message.epoch = Epoch(3);
  told.message.configuration = std::make_shared<const Configuration>(given);
  told.message.revision = Revision(12);
  d.Do(told);
  EXPECT_EQ(d.group.role(), Group::Role::kPrimary);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<WaitPromises>(), nullptr);
  d.Do(ConfigurationDurable{Epoch(3)});
  EXPECT_EQ(d.Find<AppendToLog>()->source, AppendToLog::Source::kEpochStart);
}

TEST(GroupTransfer, ToAProcessThatHasRestartedIsANewEpochsMatter) {
  Driver d;
  d.StartAs(kB, Config(2, kA, {kA, kB, kC}), 11, {At(2, 1)}, 3);
  Configuration given = Config(3, kB, {kA, kB, kC}, {}, Driver::kBoot - 1);
  given.lease_released = true;
  d.Do(ConfigurationSeen{given, Revision(12)});
  EXPECT_EQ(d.group.role(), Group::Role::kCandidate);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.epoch, Epoch(4));
  EXPECT_FALSE(d.Find<ProposeSwap>()->configuration.lease_released);
}

TEST(GroupTransfer, AfterAskingThisProcessNeverLeadsThatEpochAgain) {
  Driver d;
  d.LeadThree();
  AckedBy(&d, kB, 41, 1);
  AckedBy(&d, kC, 42, 1);
  d.Do(Transfer{kB});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  d.Swap(SwapResult::Outcome::kUnknown);
  d.Do(Tick{Time(1000)});
  d.Do(Tick{Time(1300)});
  // It wins another, as the one that settles whether the transfer happened.
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.primary, kA);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.epoch, Epoch(4));
  EXPECT_EQ(d.Find<ProposeSwap>()->expected, Revision(11));
  d.Swap(SwapResult::Outcome::kRefused);
  // A coordinator had changed a learner: still epoch 2, still named, and over.
  d.Do(ConfigurationSeen{Config(2, kA, {kA, kB, kC}, {{NodeId(4), ReplicaId(14)}}, Driver::kBoot),
                         Revision(12)});
  EXPECT_NE(d.group.role(), Group::Role::kPrimary);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.epoch, Epoch(5));
}

TEST(GroupTransfer, IsTakenBackWhileItWaits) {
  Driver d;
  d.LeadThree();
  d.Do(Propose{1});
  d.Do(Transfer{kB});
  EXPECT_FALSE(d.group.serving());
  d.Do(CancelTransfer{});
  EXPECT_TRUE(d.group.serving());
  EXPECT_TRUE(d.Find<AdmissionChanged>()->serving);
  // By itself, when the target is lost.
  d.Do(Transfer{kB});
  d.Do(PeerLost{kB});
  d.WinSwap(12);
  EXPECT_TRUE(d.group.serving());
  // And not at all to somebody who is not in sync.
  d.Do(Transfer{kB});
  EXPECT_TRUE(d.group.serving());
}

// Another's configurations. -----------------------------------------------------------------------

// R1: only what a primary proposed itself continues its reign.
TEST(GroupReign, AConfigurationOfOthersIsANewReignEvenWithTheSamePrimary) {
  Driver d;
  d.LeadThree();
  d.Do(Propose{1});
  // Another led between, and gave it back to this very process.
  Configuration back = Config(4, kA, {kA, kB, kC}, {}, Driver::kBoot);
  back.lease_released = true;
  d.Do(ConfigurationSeen{back, Revision(14)});
  EXPECT_NE(d.Find<ReignEnded>(), nullptr);
  EXPECT_EQ(d.group.role(), Group::Role::kPrimary);
  EXPECT_FALSE(d.group.serving());
  d.Do(ConfigurationDurable{Epoch(4)});
  ASSERT_NE(d.Find<AppendToLog>(), nullptr);
  EXPECT_EQ(d.Find<AppendToLog>()->source, AppendToLog::Source::kEpochStart);
}

TEST(GroupReign, GoesOnWhenACoordinatorHasChangedLearners) {
  Driver d;
  d.LeadThree();
  const Member other{NodeId(4), ReplicaId(14)};
  d.Do(ConfigurationSeen{Config(2, kA, {kA, kB, kC}, {other}, Driver::kBoot), Revision(12)});
  EXPECT_EQ(d.Find<ReignEnded>(), nullptr);
  EXPECT_TRUE(d.group.serving());
  d.Do(ConfigurationDurable{Epoch(2)});
  EXPECT_NE(d.SentTo(other), nullptr);
}

TEST(GroupReign, ARemovedReplicaSaysSo) {
  Driver d;
  d.StartAs(kC, Config(2, kA, {kA, kB}, {kC}), 10);
  d.Do(ConfigurationSeen{Config(2, kA, {kA, kB}), Revision(11)});
  EXPECT_NE(d.Find<Removed>(), nullptr);
  EXPECT_EQ(d.group.role(), Group::Role::kIdle);
}

TEST(GroupReign, ADeletedKeyEndsEverything) {
  Driver d;
  d.LeadThree();
  d.Do(KeyDeleted{Revision(12)});
  EXPECT_NE(d.Find<ReignEnded>(), nullptr);
  EXPECT_NE(d.Find<Removed>(), nullptr);
  EXPECT_NE(d.Find<ReleaseLease>(), nullptr);
  d.Do(Promote{});
  d.Do(Tick{Time(9000)});
  EXPECT_THAT(d.actions, IsEmpty());
  EXPECT_FALSE(d.group.NeedsTick());
}

// Leases (R5). ------------------------------------------------------------------------------------

TEST(GroupLease, NeedsEveryMemberThatMightBeInSync) {
  Driver d;
  d.LeadThree();
  AckedBy(&d, kB, 41, 1);
  AckedBy(&d, kC, 42, 1);
  ASSERT_NE(d.Find<HoldLease>(), nullptr);
  EXPECT_THAT(d.Find<HoldLease>()->members,
              UnorderedElementsAre(LeaseMember{kB.node, 41}, LeaseMember{kC.node, 42}));
  const Member other{NodeId(4), ReplicaId(14)};
  d.Do(PeerLost{kC});
  d.WinSwap(12);
  AckedBy(&d, kB, 41, 1);
  d.Do(ConfigurationSeen{Config(3, kA, {kA, kB}, {kC, other}, Driver::kBoot), Revision(13)});
  d.Do(ConfigurationDurable{Epoch(3)});
  AckedBy(&d, other, 44, 1);
  // Whoever may come in is needed from the asking on, before the swap leaves.
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  ASSERT_NE(d.Find<HoldLease>(), nullptr);
  EXPECT_LT(static_cast<const void*>(d.Find<HoldLease>()),
            static_cast<const void*>(d.Find<ProposeSwap>()));
  EXPECT_THAT(d.Find<HoldLease>()->members,
              UnorderedElementsAre(LeaseMember{kB.node, 41}, LeaseMember{other.node, 44}));
}

TEST(GroupLease, IsGivenBackWhileTheConfigurationIsInDoubt) {
  Driver d;
  d.LeadThree();
  d.Do(PeerLost{kC});
  d.Swap(SwapResult::Outcome::kRefused);
  EXPECT_NE(d.Find<ReleaseLease>(), nullptr);
  EXPECT_FALSE(d.Find<AdmissionChanged>()->serving);
}

TEST(GroupLease, LearningOfAPrimarySaysWhatWasKnownBefore) {
  Driver d;
  d.StartAs(kC, Config(2, kA, {kA, kB, kC}), 10);
  d.Do(ConfigurationSeen{Config(3, kB, {kB, kC}, {kA}), Revision(11)});
  ASSERT_NE(d.Find<LearnedPrimary>(), nullptr);
  EXPECT_EQ(d.Find<LearnedPrimary>()->previous, kA);
  EXPECT_EQ(d.Find<LearnedPrimary>()->previous_epoch, Epoch(2));
  EXPECT_FALSE(d.Find<LearnedPrimary>()->skipped);
  d.Do(ConfigurationSeen{Config(7, kA, {kA, kC}, {kB}), Revision(19)});
  ASSERT_NE(d.Find<LearnedPrimary>(), nullptr);
  EXPECT_TRUE(d.Find<LearnedPrimary>()->skipped);
}

// Resign (R11). -----------------------------------------------------------------------------------

TEST(GroupResign, APrimaryThatIsStuckWithoutTheStoreGivesUp) {
  Driver d;
  d.LeadThree();
  d.Do(Tick{Time(1000)});
  d.Do(PeerLost{kC});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  const Epoch asked = d.Find<ProposeSwap>()->configuration.epoch;
  d.Swap(SwapResult::Outcome::kUnknown);
  bool resigned = false;
  int64_t now = 1050;
  for (; now < 5000 && !resigned; now += 50) {
    d.Do(Tick{Time(now)});
    if (d.Find<ProposeSwap>() != nullptr) d.Swap(SwapResult::Outcome::kUnknown);
    resigned = d.group.role() == Group::Role::kBackup;
  }
  ASSERT_TRUE(resigned);
  EXPECT_FALSE(d.group.serving());
  // All members hear of the highest epoch that was asked for, again and again.
  d.Do(Tick{Time(now + 200)});
  ASSERT_EQ(d.Count<SendResign>(), 2u);
  EXPECT_GT(d.Find<SendResign>()->message.epoch, asked);
  const Epoch dead = d.Find<SendResign>()->message.epoch;
  // What it had asked for takes effect after all: it is not acted upon.
  Configuration late = Config(dead.value, kA, {kA, kB}, {kC}, Driver::kBoot);
  d.Do(ConfigurationSeen{late, Revision(12)});
  EXPECT_NE(d.group.role(), Group::Role::kPrimary);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_GT(d.Find<ProposeSwap>()->configuration.epoch, dead);
}

TEST(GroupResign, OnDemandAndItsPeersHearOfIt) {
  Driver d;
  d.LeadThree();
  d.Do(Resign{});
  EXPECT_NE(d.Find<ReignEnded>(), nullptr);
  EXPECT_EQ(d.Count<SendResign>(), 2u);
  Driver peer;
  peer.StartAs(kB, Config(2, kA, {kA, kB, kC}), 11);
  peer.Do(ResignReceived{d.Find<SendResign>()->message});
  ASSERT_NE(peer.Find<PrimaryResigned>(), nullptr);
  EXPECT_EQ(peer.Find<PrimaryResigned>()->primary, kA);
  EXPECT_EQ(peer.Find<PrimaryResigned>()->epoch, Epoch(2));
}

// A new partition. --------------------------------------------------------------------------------

Configuration Unborn() {
  Configuration config = Config(0, kA, {kA, kB, kC}, {}, 0);
  return config;
}

TEST(GroupCreation, MakesTheOthersFirstAndThenWinsTheFirstEpoch) {
  Driver d;
  d.StartAs(kA, Unborn(), 5);
  EXPECT_EQ(d.Count<SendCreate>(), 2u);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(ReplicaCreated{kC});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(ReplicaCreated{kB});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.epoch, Epoch(1));
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kB, kC));
  // Nobody has ever given or had a lease.
  EXPECT_TRUE(d.Find<ProposeSwap>()->configuration.lease_released);
  SwapResult won;
  won.outcome = SwapResult::Outcome::kSucceeded;
  won.revision = Revision(6);
  d.Do(won);
  EXPECT_EQ(d.Find<WaitPromises>(), nullptr);
}

TEST(GroupCreation, GoesOnWithTheMinimumAfterAWhile) {
  Driver d;
  d.StartAs(kA, Unborn(), 5);
  d.Do(Tick{Time(0)});
  d.Do(ReplicaCreated{kC});
  bool asked = false;
  for (int64_t now = 100; now <= 1500 && !asked; now += 100) {
    d.Do(Tick{Time(now)});
    asked = d.Find<ProposeSwap>() != nullptr;
  }
  ASSERT_TRUE(asked);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kC));
  // One that is not there is not named: it would count as lost.
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.learners, IsEmpty());
}

TEST(GroupCreation, NeverWithFewer) {
  Driver d;
  d.StartAs(kA, Unborn(), 5);
  for (int64_t now = 0; now <= 5000; now += 100) {
    d.Do(Tick{Time(now)});
    EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  }
  EXPECT_TRUE(d.group.NeedsTick());
}

}  // namespace
}  // namespace onggi::group
