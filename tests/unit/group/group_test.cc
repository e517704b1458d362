#include "replication/group/group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/group/driver.h"

namespace onggi::group {
namespace {

using ::testing::ElementsAre;

// One replica. ------------------------------------------------------------------------------------

TEST(GroupOfOne, WinsANewEpochAndServesOnceItsFirstEntryIsApplied) {
  Driver d;
  Configuration before = Config(4, kA, {kA}, {}, Driver::kBoot - 1);
  before.lease_released = true;
  d.StartAs(kA, before, 10, {At(2, 1)}, 5);
  EXPECT_EQ(d.group.role(), Group::Role::kCandidate);
  const ProposeSwap* swap = d.Find<ProposeSwap>();
  ASSERT_NE(swap, nullptr);
  EXPECT_EQ(swap->expected, Revision(10));
  Configuration after = Config(5, kA, {kA}, {}, Driver::kBoot);
  after.lease_released = true;
  EXPECT_EQ(swap->configuration, after);
  SwapResult won;
  won.outcome = SwapResult::Outcome::kSucceeded;
  won.revision = Revision(11);
  d.Do(won);
  // The configuration is on disk before any entry of its epoch.
  EXPECT_NE(d.Find<PersistConfiguration>(), nullptr);
  EXPECT_EQ(d.Find<AppendToLog>(), nullptr);
  EXPECT_EQ(d.Find<WaitPromises>(), nullptr);
  d.Do(ConfigurationDurable{Epoch(5)});
  const AppendToLog* start = d.Find<AppendToLog>();
  ASSERT_NE(start, nullptr);
  EXPECT_EQ(start->source, AppendToLog::Source::kEpochStart);
  EXPECT_EQ(start->first, LogIndex(6));
  EXPECT_EQ(start->epoch, Epoch(5));
  EXPECT_FALSE(d.group.serving());
  d.Durable(5, 6);
  ASSERT_NE(d.Find<CommitAdvanced>(), nullptr);
  EXPECT_EQ(d.Find<CommitAdvanced>()->index, LogIndex(6));
  d.Do(Applied{LogIndex(5)});
  EXPECT_FALSE(d.group.serving());
  d.Do(Applied{LogIndex(6)});
  EXPECT_NE(d.Find<ReignBegan>(), nullptr);
  EXPECT_TRUE(d.group.serving());
  EXPECT_FALSE(d.group.NeedsTick());
}

TEST(GroupOfOne, CommitsWhatIsDurable) {
  Driver d;
  d.StartAs(kA, Config(1, kA, {kA}, {}, 0), 1);
  d.WinSwap(2);
  d.Durable(2, 1);
  d.Do(Applied{LogIndex(1)});
  d.Do(Propose{3});
  EXPECT_EQ(d.Find<AppendToLog>()->first, LogIndex(2));
  EXPECT_EQ(d.Find<AppendToLog>()->last, LogIndex(4));
  d.Do(Propose{1});
  EXPECT_EQ(d.Find<CommitAdvanced>(), nullptr);
  // One completion may stand for several appends.
  d.Durable(2, 5);
  EXPECT_EQ(d.Find<CommitAdvanced>()->index, LogIndex(5));
  EXPECT_EQ(d.actions.size(), 1u);
  d.Do(BaseAdvanced{At(2, 5)});
  d.Do(Propose{1});
  EXPECT_EQ(d.Find<AppendToLog>()->first, LogIndex(6));
  d.Do(Stop{});
  EXPECT_NE(d.Find<ReignEnded>(), nullptr);
}

TEST(GroupOfOne, AnUnknownSwapAtTheStartIsAskedAgainWithAHigherEpoch) {
  Driver d;
  d.StartAs(kA, Config(1, kA, {kA}, {}, 0), 1);
  d.Swap(SwapResult::Outcome::kUnknown);
  EXPECT_TRUE(d.group.NeedsTick());
  d.Do(Tick{Time(1000)});
  d.Do(Tick{Time(1300)});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.epoch, Epoch(3));
  // The first one had taken effect: the second is refused, and the key, read, is the first.
  d.Swap(SwapResult::Outcome::kRefused);
  ASSERT_NE(d.Find<ReadConfiguration>(), nullptr);
  ConfigurationSeen seen;
  seen.configuration = Config(2, kA, {kA}, {}, Driver::kBoot);
  seen.revision = Revision(2);
  d.Do(seen);
  EXPECT_EQ(d.group.role(), Group::Role::kPrimary);
  d.Do(ConfigurationDurable{Epoch(2)});
  EXPECT_EQ(d.Find<AppendToLog>()->epoch, Epoch(2));
}

// R7: an earlier life's swap, delayed, must not pass for this life's.
TEST(GroupOfOne, ARestartedReplicaTakesUpNoReignOfItsEarlierLife) {
  Driver d;
  d.StartAs(kA, Config(1, kA, {kA}, {}, 0), 1);
  d.Swap(SwapResult::Outcome::kRefused);
  ConfigurationSeen seen;
  seen.configuration = Config(2, kA, {kA}, {}, Driver::kBoot - 1);
  seen.revision = Revision(2);
  d.Do(seen);
  EXPECT_EQ(d.group.role(), Group::Role::kCandidate);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_GT(d.Find<ProposeSwap>()->configuration.epoch, Epoch(2));
  EXPECT_EQ(d.Find<ProposeSwap>()->expected, Revision(2));
}

// Three replicas: the primary. --------------------------------------------------------------------

TEST(GroupPrimary, CommitsOnlyWhatEveryInSyncMemberHasMatched) {
  Driver d;
  d.LeadThree();
  d.Do(Propose{1});
  EXPECT_EQ(d.SentTo(kB)->previous, At(2, 1));
  EXPECT_THAT(d.SentTo(kC)->runs, ElementsAre(At(2, 2)));
  d.Durable(2, 2);
  d.Acked(kB, 2);
  EXPECT_EQ(d.Find<CommitAdvanced>(), nullptr);
  d.Acked(kC, 1);
  EXPECT_EQ(d.Find<CommitAdvanced>(), nullptr);
  d.Acked(kC, 2);
  EXPECT_EQ(d.Find<CommitAdvanced>()->index, LogIndex(2));
  // The others learn of it without waiting for the next entry.
  EXPECT_EQ(d.SentTo(kB)->commit, LogIndex(2));
}

TEST(GroupPrimary, OwnDiskCountsLikeAnyOther) {
  Driver d;
  d.LeadThree();
  d.Do(Propose{1});
  d.Acked(kB, 2);
  d.Acked(kC, 2);
  EXPECT_EQ(d.Find<CommitAdvanced>(), nullptr);
  d.Durable(2, 2);
  EXPECT_EQ(d.Find<CommitAdvanced>()->index, LogIndex(2));
}

TEST(GroupPrimary, IgnoresAcknowledgementsOfAnotherEpoch) {
  Driver d;
  d.LeadThree();
  d.Do(Propose{1});
  d.Durable(2, 2);
  d.Acked(kB, 2, 1);
  d.Acked(kC, 2, 1);
  EXPECT_EQ(d.group.commit_index(), LogIndex(1));
}

// R7: its epoch-start entry commits what it cannot know to be committed, and it serves only then.
TEST(GroupPrimary, TakesOverOnlyAfterPromisesAndItsFirstEntryEverywhere) {
  Driver d;
  d.StartAs(kB, Config(4, kA, {kA, kB, kC}), 10, {At(3, 1), At(4, 3)}, 6);
  EXPECT_EQ(d.group.role(), Group::Role::kBackup);
  d.Do(Promote{});
  Configuration asked = Config(5, kB, {kB, kC}, {kA}, Driver::kBoot);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration, asked);
  SwapResult won;
  won.outcome = SwapResult::Outcome::kSucceeded;
  won.revision = Revision(11);
  d.Do(won);
  ASSERT_NE(d.Find<WaitPromises>(), nullptr);
  ASSERT_NE(d.Find<LearnedPrimary>(), nullptr);
  EXPECT_EQ(d.Find<LearnedPrimary>()->previous, kA);
  EXPECT_EQ(d.Find<LearnedPrimary>()->previous_epoch, Epoch(4));
  EXPECT_FALSE(d.Find<LearnedPrimary>()->skipped);
  d.Do(ConfigurationDurable{Epoch(5)});
  EXPECT_EQ(d.Find<AppendToLog>()->first, LogIndex(7));
  EXPECT_EQ(d.SentTo(kC)->previous, At(4, 6));
  EXPECT_NE(d.SentTo(kA), nullptr);  // a learner now
  d.Durable(5, 7);
  d.Acked(kC, 7);
  EXPECT_EQ(d.Find<CommitAdvanced>(), nullptr);
  d.Do(PromisesRunOut{Epoch(5)});
  EXPECT_EQ(d.Find<CommitAdvanced>()->index, LogIndex(7));
  EXPECT_FALSE(d.group.serving());
  d.Do(Applied{LogIndex(7)});
  EXPECT_TRUE(d.group.serving());
}

TEST(GroupPrimary, KeepsTheOldPrimaryInSyncWhereTheMinimumNeedsIt) {
  Driver d;
  d.StartAs(kB, Config(4, kA, {kA, kB}, {kC}), 10);
  d.Do(Promote{});
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kB));
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration.primary, kB);
}

TEST(GroupPrimary, RemovesASilentMemberAndWaitsForItUntilTheSwapIsAnswered) {
  Driver d;
  d.LeadThree();
  d.Acked(kB, 1);
  d.Acked(kC, 1);
  d.Do(Tick{Time(5000)});  // idle for long: nobody is late
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(Propose{1});
  d.Durable(2, 2);
  d.Acked(kB, 2);
  d.Do(Tick{Time(8000)});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(Tick{Time(8900)});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(Tick{Time(9000)});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration, Config(3, kA, {kA, kB}, {kC}, Driver::kBoot));
  EXPECT_EQ(d.Find<ProposeSwap>()->expected, Revision(11));
  EXPECT_EQ(d.group.commit_index(), LogIndex(1));
  d.WinSwap(12);
  // Matches of the old epoch do not count: B verifies again in the new one.
  EXPECT_EQ(d.group.commit_index(), LogIndex(1));
  EXPECT_EQ(d.SentTo(kB)->epoch, Epoch(3));
  d.Acked(kB, 2);
  EXPECT_EQ(d.group.commit_index(), LogIndex(2));
  EXPECT_TRUE(d.group.serving());
}

TEST(GroupPrimary, NeverShrinksBelowTheMinimumButSwapsACaughtUpLearnerIn) {
  Driver d;
  d.LeadThree();
  d.Do(PeerLost{kC});
  d.WinSwap(12);  // {A, B}, learner C
  d.Acked(kB, 1);
  d.Do(PeerLost{kB});
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Do(PeerConnected{kC});
  d.Acked(kC, 1);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kC));
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.learners, ElementsAre(kB));
}

// R3: a learner is added only once it matches the commit index and the reign's first entry, and
// from the asking on its acknowledgements are waited for.
TEST(GroupPrimary, AddsALearnerOnlyOnceItMatchesTheReignsFirstEntry) {
  Driver d;
  d.StartAs(kA, Config(4, kA, {kA, kB}, {kC}), 10, {At(3, 1)}, 6);
  d.WinSwap(11);
  d.Do(PromisesRunOut{Epoch(5)});
  // Not even the commit index is past what the earlier reign committed.
  d.Acked(kC, 6);
  EXPECT_EQ(d.Find<ProposeSwap>(), nullptr);
  d.Acked(kC, 7);
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_THAT(d.Find<ProposeSwap>()->configuration.in_sync, ElementsAre(kA, kB, kC));
  d.Durable(5, 7);
  d.Acked(kB, 7);
  EXPECT_EQ(d.group.commit_index(), LogIndex(7));
  d.Do(Applied{LogIndex(7)});
  d.Do(Propose{1});
  d.Durable(5, 8);
  d.Acked(kB, 8);
  EXPECT_EQ(d.group.commit_index(), LogIndex(7));  // C might be in sync by now
  d.Acked(kC, 8);
  EXPECT_EQ(d.group.commit_index(), LogIndex(8));
}

// R3: with an unknown outcome both configurations hold until the key is seen at a higher revision;
// reading it unchanged settles nothing.
TEST(GroupPrimary, AnUnknownSwapIsSettledOnlyByAHigherRevision) {
  Driver d;
  d.LeadThree();
  d.Do(PeerLost{kC});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  d.Swap(SwapResult::Outcome::kUnknown);
  d.Do(Propose{1});
  d.Durable(2, 2);
  d.Acked(kB, 2);
  EXPECT_EQ(d.group.commit_index(), LogIndex(1));
  ConfigurationSeen same;
  same.configuration = d.group.configuration();
  same.revision = Revision(11);
  d.Do(same);
  EXPECT_EQ(d.group.commit_index(), LogIndex(1));
  d.Do(Tick{Time(1000)});
  d.Do(Tick{Time(1200)});
  ASSERT_NE(d.Find<ProposeSwap>(), nullptr);
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration, Config(4, kA, {kA, kB}, {kC}, Driver::kBoot));
  EXPECT_EQ(d.Find<ProposeSwap>()->expected, Revision(11));
  d.WinSwap(12);
  d.Acked(kB, 2);
  EXPECT_EQ(d.group.commit_index(), LogIndex(2));
}

TEST(GroupPrimary, AsksForTheEpochAloneWhenTheReasonForAnUnknownSwapHasGone) {
  Driver d;
  d.LeadThree();
  d.Do(PeerLost{kC});
  d.Swap(SwapResult::Outcome::kUnknown);
  d.Do(PeerConnected{kC});
  d.Acked(kC, 1);
  d.Do(Tick{Time(1000)});
  d.Do(Tick{Time(1200)});
  EXPECT_EQ(d.Find<ProposeSwap>()->configuration, Config(4, kA, {kA, kB, kC}, {}, Driver::kBoot));
}

TEST(GroupPrimary, ARefusedSwapStopsCommitsUntilTheKeyIsRead) {
  Driver d;
  d.LeadThree();
  d.Do(Propose{1});
  d.Durable(2, 2);
  d.Do(PeerLost{kC});
  d.Swap(SwapResult::Outcome::kRefused);
  EXPECT_NE(d.Find<ReadConfiguration>(), nullptr);
  EXPECT_FALSE(d.group.serving());
  d.Acked(kB, 2);
  d.Acked(kC, 2);
  EXPECT_EQ(d.group.commit_index(), LogIndex(1));
  // The coordinator had only added a learner: the reign goes on.
  const Member other{NodeId(4), ReplicaId(14)};
  ConfigurationSeen seen;
  seen.configuration = Config(2, kA, {kA, kB, kC}, {other}, Driver::kBoot);
  seen.revision = Revision(12);
  d.Do(seen);
  d.Do(ConfigurationDurable{Epoch(2)});
  EXPECT_EQ(d.group.commit_index(), LogIndex(2));
  EXPECT_NE(d.SentTo(other), nullptr);
  EXPECT_TRUE(d.group.serving());
}

TEST(GroupPrimary, EndsItsReignOnLearningOfAnother) {
  Driver d;
  d.LeadThree();
  d.Do(Propose{1});
  AckReceived refused;
  refused.message.kind = AckMessage::Kind::kRefused;
  refused.message.from = kB;
  refused.message.epoch = Epoch(3);
  refused.message.configuration =
      std::make_shared<const Configuration>(Config(3, kB, {kB, kC}, {kA}));
  refused.message.revision = Revision(12);
  d.Do(refused);
  EXPECT_NE(d.Find<ReignEnded>(), nullptr);
  EXPECT_EQ(d.group.role(), Group::Role::kBackup);
  d.Acked(kB, 2, 2);
  d.Acked(kC, 2, 2);
  d.Durable(2, 2);
  EXPECT_EQ(d.group.commit_index(), LogIndex(1));
}

TEST(GroupPrimary, GoesBackToWhereAMembersLogEnds) {
  Driver d;
  d.StartAs(kA, Config(1, kA, {kA, kB, kC}), 10, {At(1, 1)}, 8);
  d.WinSwap(11);
  EXPECT_EQ(d.SentTo(kB)->previous, At(1, 8));
  AckReceived missing;
  missing.message.kind = AckMessage::Kind::kMissing;
  missing.message.from = kB;
  missing.message.epoch = Epoch(2);
  missing.message.index = LogIndex(4);
  d.Do(missing);
  EXPECT_EQ(d.SentTo(kB)->previous, At(1, 3));
  EXPECT_THAT(d.SentTo(kB)->runs, ElementsAre(At(1, 4), At(2, 9)));
  EXPECT_EQ(d.SentTo(kB)->last, LogIndex(9));
  // A lost message is sent again from what has matched.
  d.Acked(kB, 6);
  d.Do(Tick{Time(100)});
  d.Do(Tick{Time(400)});
  EXPECT_EQ(d.SentTo(kB)->previous, At(1, 6));
}

// Each message behind a lost one is answered that something is missing.
TEST(GroupPrimary, SendsWhatIsMissingOnceHoweverManyMessagesFindItMissing) {
  Driver d;
  d.LeadThree();
  d.Do(Propose{1});
  const uint64_t round = d.SentTo(kB)->round;
  EXPECT_NE(round, 0u);
  d.Do(Propose{1});
  EXPECT_EQ(d.SentTo(kB)->round, round);
  d.Do(Propose{1});
  AckReceived missing;
  missing.message.kind = AckMessage::Kind::kMissing;
  missing.message.from = kB;
  missing.message.epoch = Epoch(2);
  missing.message.index = LogIndex(2);
  missing.message.round = round;
  d.Do(missing);
  ASSERT_NE(d.SentTo(kB), nullptr);
  EXPECT_EQ(d.SentTo(kB)->previous, At(2, 1));
  EXPECT_EQ(d.SentTo(kB)->last, LogIndex(4));
  const uint64_t again = d.SentTo(kB)->round;
  EXPECT_GT(again, round);
  d.Do(missing);
  EXPECT_EQ(d.SentTo(kB), nullptr);
  // Nor is what time makes it send a new round: the answers to it still count.
  d.Do(Tick{Time(100)});
  d.Do(Tick{Time(400)});
  ASSERT_NE(d.SentTo(kB), nullptr);
  EXPECT_EQ(d.SentTo(kB)->round, again);
  // That was lost as well: what comes behind it finds the same missing, and counts.
  missing.message.round = again;
  d.Do(missing);
  ASSERT_NE(d.SentTo(kB), nullptr);
  EXPECT_EQ(d.SentTo(kB)->previous, At(2, 1));
  // A member of a version that does not say always counts.
  missing.message.round = 0;
  d.Do(missing);
  EXPECT_NE(d.SentTo(kB), nullptr);
}

TEST(GroupPrimary, AsksForACheckpointWhereItsLogNoLongerReaches) {
  Driver d;
  d.LeadThree();
  d.Do(Propose{4});
  d.Durable(2, 5);
  d.Acked(kB, 5);
  d.Acked(kC, 5);
  d.Do(Applied{LogIndex(5)});
  d.Do(BaseAdvanced{At(2, 5)});
  const Member other{NodeId(4), ReplicaId(14)};
  ConfigurationSeen seen;
  seen.configuration = Config(2, kA, {kA, kB, kC}, {other}, Driver::kBoot);
  seen.revision = Revision(12);
  d.Do(seen);
  d.Do(ConfigurationDurable{Epoch(2)});
  AckReceived missing;
  missing.message.kind = AckMessage::Kind::kMissing;
  missing.message.from = other;
  missing.message.epoch = Epoch(2);
  missing.message.index = LogIndex(1);
  d.Do(missing);
  ASSERT_NE(d.Find<NeedsCheckpoint>(), nullptr);
  EXPECT_EQ(d.Find<NeedsCheckpoint>()->to, other);
  d.Do(CheckpointSent{other, At(2, 5)});
  EXPECT_EQ(d.SentTo(other)->previous, At(2, 5));
}

// Three replicas: a backup. -----------------------------------------------------------------------

TEST(GroupBackup, AcknowledgesOnceDurableAndAppliesOnlyWhatIsCommitted) {
  Driver d;
  const Configuration config = Config(2, kA, {kA, kB, kC});
  d.StartAs(kB, config, 10);
  d.Do(ConfigurationDurable{Epoch(2)});
  d.Append(kA, config, 10, At(0, 0), 3, {At(2, 1)}, 2);
  EXPECT_EQ(d.Find<AppendToLog>()->last, LogIndex(3));
  EXPECT_EQ(d.Find<SendAck>(), nullptr);
  EXPECT_EQ(d.Find<CommitAdvanced>(), nullptr);
  d.Durable(2, 3);
  EXPECT_EQ(d.Find<SendAck>()->message.index, LogIndex(3));
  EXPECT_EQ(d.Find<CommitAdvanced>()->index, LogIndex(2));
  // The same again is only answered.
  d.Append(kA, config, 10, At(0, 0), 3, {At(2, 1)}, 3);
  EXPECT_EQ(d.Find<AppendToLog>(), nullptr);
  EXPECT_EQ(d.Find<SendAck>()->message.index, LogIndex(3));
  EXPECT_EQ(d.Find<CommitAdvanced>()->index, LogIndex(3));
}

// Of a replica that is opened again in a process that lives.
TEST(GroupBackup, AsksWhatIsCommittedOfWhatItHas) {
  Driver d;
  d.StartAs(kB, Config(2, kA, {kA, kB, kC}), 10, {At(2, 1)}, 3);
  EXPECT_EQ(d.Find<SendAck>(), nullptr);  // not before the configuration is durable
  d.Do(ConfigurationDurable{Epoch(2)});
  ASSERT_NE(d.Find<SendAck>(), nullptr);
  EXPECT_EQ(d.Find<SendAck>()->to, kA);
  EXPECT_EQ(d.Find<SendAck>()->message.kind, AckMessage::Kind::kMissing);
  EXPECT_EQ(d.Find<SendAck>()->message.index, LogIndex(4));
  EXPECT_EQ(d.Find<SendAck>()->message.round, 0u);
  d.Do(ConfigurationDurable{Epoch(2)});
  EXPECT_EQ(d.Find<SendAck>(), nullptr);
  // One with nothing to apply has nothing to ask.
  Driver applied;
  applied.StartAs(kB, Config(2, kA, {kA, kB, kC}), 10);
  applied.Do(ConfigurationDurable{Epoch(2)});
  EXPECT_EQ(applied.Find<SendAck>(), nullptr);
}

TEST(GroupPrimary, TellsAMemberThatBeginsWhatIsCommitted) {
  Driver d;
  d.LeadThree();
  d.Acked(kB, 1);  // of the Append that says so: nothing is under way
  AckReceived begun;
  begun.message.kind = AckMessage::Kind::kMissing;
  begun.message.from = kB;
  begun.message.epoch = Epoch(2);
  begun.message.index = LogIndex(2);
  d.Do(begun);
  ASSERT_NE(d.SentTo(kB), nullptr);
  EXPECT_EQ(d.SentTo(kB)->previous, At(2, 1));
  EXPECT_EQ(d.SentTo(kB)->last, LogIndex(1));
  EXPECT_EQ(d.SentTo(kB)->commit, LogIndex(1));
  EXPECT_EQ(d.SentTo(kC), nullptr);
}

// R1: match is what this Append verified, not the last entry; R2: nor does commit go past it.
TEST(GroupBackup, AMatchAndTheCommitIndexNeverReachPastWhatWasVerified) {
  Driver d;
  d.StartAs(kB, Config(2, kA, {kA, kB, kC}), 10, {At(2, 1)}, 9);
  const Configuration next = Config(3, kC, {kB, kC}, {kA});
  d.Append(kC, next, 11, At(2, 4), 4, {}, 9);
  EXPECT_EQ(d.Find<SendAck>(), nullptr);  // not before the configuration is durable
  d.Do(ConfigurationDurable{Epoch(3)});
  EXPECT_EQ(d.Find<SendAck>()->message.index, LogIndex(4));
  EXPECT_EQ(d.Find<SendAck>()->message.epoch, Epoch(3));
  d.Append(kC, next, 11, At(2, 4), 4, {}, 9);
  EXPECT_EQ(d.group.commit_index(), LogIndex(4));
  EXPECT_EQ(d.group.last_index(), LogIndex(9));  // not shortened: nothing differs
}

TEST(GroupBackup, DropsItsLogOnlyFromTheFirstEntryThatDiffers) {
  Driver d;
  d.StartAs(kB, Config(3, kA, {kA, kB, kC}), 10, {At(2, 1), At(3, 4)}, 6);
  const Configuration next = Config(4, kC, {kB, kC}, {kA});
  // C's log: epoch 2 up to 4, then epoch 4.
  d.Append(kC, next, 11, At(2, 4), 5, {At(4, 5)}, 0);
  ASSERT_NE(d.Find<PersistConfiguration>(), nullptr);
  EXPECT_EQ(d.Find<AppendToLog>(), nullptr);
  d.Do(ConfigurationDurable{Epoch(4)});
  d.Append(kC, next, 11, At(2, 4), 5, {At(4, 5)}, 0, /*round=*/3);
  ASSERT_NE(d.Find<SendAck>(), nullptr);
  EXPECT_EQ(d.Find<SendAck>()->message.kind, AckMessage::Kind::kMissing);
  EXPECT_EQ(d.Find<SendAck>()->message.index, LogIndex(4));
  EXPECT_EQ(d.Find<SendAck>()->message.round, 3u);
  d.Append(kC, next, 11, At(2, 1), 5, {At(2, 2), At(4, 5)}, 0);
  EXPECT_EQ(d.Find<DropSuffix>()->from, LogIndex(4));
  EXPECT_EQ(d.Find<AppendToLog>()->first, LogIndex(4));
  EXPECT_EQ(d.Find<AppendToLog>()->last, LogIndex(5));
  EXPECT_EQ(d.Find<SendAck>()->message.index, LogIndex(3));  // the part that is durable already
  d.Durable(4, 5);
  EXPECT_EQ(d.Find<SendAck>()->message.index, LogIndex(5));
}

TEST(GroupBackup, ACompletionOfADroppedAppendMakesNothingDurable) {
  Driver d;
  const Configuration first = Config(2, kA, {kA, kB, kC});
  d.StartAs(kB, first, 10);
  d.Do(ConfigurationDurable{Epoch(2)});
  d.Append(kA, first, 10, At(0, 0), 3, {At(2, 1)}, 0);
  const Configuration next = Config(3, kC, {kB, kC}, {kA});
  d.Append(kC, next, 11, At(0, 0), 2, {At(2, 1), At(3, 2)}, 0);
  EXPECT_EQ(d.Find<DropSuffix>()->from, LogIndex(2));
  d.Do(ConfigurationDurable{Epoch(3)});
  d.Durable(2, 3);
  EXPECT_EQ(d.group.durable_index(), LogIndex(1));
  d.Durable(3, 2);
  EXPECT_EQ(d.group.durable_index(), LogIndex(2));
  EXPECT_EQ(d.Find<SendAck>()->message.index, LogIndex(2));
}

TEST(GroupBackup, RefusesLowerEpochsWithWhatItKnows) {
  Driver d;
  d.StartAs(kB, Config(5, kC, {kB, kC}, {kA}), 12);
  d.Append(kA, Config(4, kA, {kA, kB, kC}), 11, At(0, 0), 0, {}, 0);
  EXPECT_TRUE(d.actions.empty());  // what it knows is not on its disk yet
  d.Do(ConfigurationDurable{Epoch(5)});
  d.Append(kA, Config(4, kA, {kA, kB, kC}), 11, At(0, 0), 0, {}, 0);
  const AckMessage& refusal = d.Find<SendAck>()->message;
  EXPECT_EQ(refusal.kind, AckMessage::Kind::kRefused);
  EXPECT_EQ(refusal.epoch, Epoch(5));
  EXPECT_EQ(refusal.configuration->primary, kC);
}

TEST(GroupBackup, CarriesOnFromACheckpoint) {
  Driver d;
  const Configuration config = Config(2, kA, {kA, kB}, {kC});
  d.StartAs(kC, config, 10);
  d.Do(ConfigurationDurable{Epoch(2)});
  d.Append(kA, config, 10, At(1, 40), 41, {At(2, 41)}, 40);
  EXPECT_EQ(d.Find<SendAck>()->message.index, LogIndex(1));
  d.Do(CheckpointInstalled{At(1, 40)});
  EXPECT_EQ(d.group.commit_index(), LogIndex(40));
  d.Append(kA, config, 10, At(1, 40), 41, {At(2, 41)}, 40);
  EXPECT_EQ(d.Find<AppendToLog>()->first, LogIndex(41));
}

TEST(SplitAppend, KeepsTheRunsOfBothHalvesRight) {
  AppendMessage message;
  message.previous = At(1, 3);
  message.runs = {At(1, 4), At(2, 6), At(5, 9)};
  message.last = LogIndex(12);
  const AppendMessage rest = SplitAppend(&message, LogIndex(7));
  EXPECT_THAT(message.runs, ElementsAre(At(1, 4), At(2, 6)));
  EXPECT_EQ(message.last, LogIndex(7));
  EXPECT_EQ(rest.previous, At(2, 7));
  EXPECT_THAT(rest.runs, ElementsAre(At(2, 8), At(5, 9)));
  EXPECT_EQ(rest.last, LogIndex(12));
  AppendMessage again = rest;
  EXPECT_THAT(SplitAppend(&again, LogIndex(8)).runs, ElementsAre(At(5, 9)));
  AppendMessage none = rest;
  EXPECT_THAT(SplitAppend(&none, LogIndex(7)).previous, At(2, 7));
  EXPECT_TRUE(none.runs.empty());
}

}  // namespace
}  // namespace onggi::group
