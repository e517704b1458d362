#include "replication/lease/node_leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace onggi::lease {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr NodeId kA{1};
constexpr NodeId kB{2};
constexpr NodeId kC{3};
constexpr group::Member kReplicaA{kA, ReplicaId(11)};
constexpr group::Member kReplicaB{kB, ReplicaId(12)};
constexpr group::Member kReplicaC{kC, ReplicaId(13)};
constexpr PartitionId kPartition{7};

BootTime At(int64_t ms) { return milliseconds(ms); }

std::shared_ptr<const group::Configuration> Config(uint64_t epoch, group::Member primary,
                                                   bool released = false) {
  auto configuration = std::make_shared<group::Configuration>();
  configuration->epoch = Epoch(epoch);
  configuration->primary = primary;
  configuration->in_sync = {kReplicaA, kReplicaB, kReplicaC};
  configuration->replication = 3;
  configuration->min_in_sync = 2;
  configuration->lease_released = released;
  return configuration;
}

group::LearnedPrimary Learned(group::Member previous, uint64_t previous_epoch,
                              std::shared_ptr<const group::Configuration> configuration,
                              bool skipped = false) {
  group::LearnedPrimary learned;
  learned.previous = previous;
  learned.previous_epoch = Epoch(previous_epoch);
  learned.revision = Revision(configuration->epoch.value + 100);
  learned.configuration = std::move(configuration);
  learned.skipped = skipped;
  return learned;
}

group::HoldLease Hold(uint64_t epoch, std::vector<group::LeaseMember> members) {
  group::HoldLease hold;
  hold.epoch = Epoch(epoch);
  hold.members = std::move(members);
  return hold;
}

/// One heartbeat and its acknowledgement, both without delay.
std::vector<NewerConfiguration> Exchange(NodeLeases* asker, BootTime asked, NodeLeases* peer,
                                         BootTime acknowledged) {
  const auto heartbeat = asker->OnSendHeartbeat(peer->self(), asked);
  EXPECT_TRUE(heartbeat.has_value());
  return asker->OnHeartbeatAck(peer->OnHeartbeat(*heartbeat, acknowledged));
}

TEST(NodeLeases, ALeaseCountsFromTheSendingAndAPromiseFromTheAcknowledging) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(50'000));
  EXPECT_EQ(a.lease_until(kB), BootTime(0));
  const auto heartbeat = a.OnSendHeartbeat(kB, At(5'000));
  const HeartbeatAck ack = b.OnHeartbeat(*heartbeat, At(57'000));
  a.OnHeartbeatAck(ack);
  EXPECT_EQ(a.lease_until(kB), At(5'980));
  EXPECT_EQ(b.promised_until(kA), At(58'020));
  // One that comes late gives nothing more, and takes nothing away.
  a.OnHeartbeatAck(b.OnHeartbeat(*a.OnSendHeartbeat(kB, At(4'000)), At(57'500)));
  EXPECT_EQ(a.lease_until(kB), At(5'980));
  EXPECT_TRUE(a.Lease(kB)->Holds(22, At(5'979)));
  EXPECT_FALSE(a.Lease(kB)->Holds(22, At(5'980)));
}

TEST(NodeLeases, AcknowledgementsToAnotherProcessAreDropped) {
  NodeLeases before(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  const HeartbeatAck ack = b.OnHeartbeat(*before.OnSendHeartbeat(kB, At(5'000)), At(5'000));
  NodeLeases after(kA, 23, At(5'001));
  EXPECT_THAT(after.OnHeartbeatAck(ack), IsEmpty());
  EXPECT_EQ(after.lease_until(kB), BootTime(0));
}

TEST(NodeLeases, ALeaseOfAPeersEarlierProcessDoesNotCountForTheNext) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases before(kB, 22, At(0));
  Exchange(&a, At(5'000), &before, At(5'000));
  EXPECT_FALSE(a.Lease(kB)->Holds(23, At(5'100)));
  NodeLeases after(kB, 23, At(5'100));
  Exchange(&a, At(5'200), &after, At(5'200));
  EXPECT_TRUE(a.Lease(kB)->Holds(23, At(5'300)));
  EXPECT_FALSE(a.Lease(kB)->Holds(22, At(5'300)));
}

TEST(NodeLeases, ARestartedNodeIsBoundForOnePromise) {
  NodeLeases b(kB, 22, At(1'000));
  EXPECT_EQ(b.promised_until(kA), At(2'020));
  EXPECT_EQ(b.all_promises(), At(2'020));
  NodeLeases alone(kB, 22, At(1'000), /*restart_wait=*/false);
  EXPECT_EQ(alone.restart_until(), BootTime(0));
}

TEST(NodeLeases, AStalledNodeAsksForNothing) {
  NodeLeases a(kA, 21, At(0));
  a.Stall(true);
  EXPECT_EQ(a.OnSendHeartbeat(kB, At(1)), std::nullopt);
  a.Stall(false);
  EXPECT_NE(a.OnSendHeartbeat(kB, At(1)), std::nullopt);
}

TEST(NodeLeases, TellsOnceOfALeaseThatLapsed) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  EXPECT_THAT(a.TakeLapsed(At(100'000)), IsEmpty());  // never had one
  Exchange(&a, At(5'000), &b, At(5'000));
  EXPECT_THAT(a.TakeLapsed(At(5'979)), IsEmpty());
  EXPECT_THAT(a.TakeLapsed(At(5'980)), ElementsAre(kB));
  EXPECT_THAT(a.TakeLapsed(At(6'000)), IsEmpty());
  Exchange(&a, At(7'000), &b, At(7'000));
  EXPECT_THAT(a.TakeLapsed(At(8'000)), ElementsAre(kB));
}

// R5: what moved from under a primary is told before its lease grows, until it is confirmed.
// -------

TEST(PartitionLease, HoldsWhileEveryMembersLeaseDoes) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  NodeLeases c(kC, 23, At(0));
  const auto lease = a.Open(TableId(1), kPartition);
  EXPECT_FALSE(lease->Holds(At(1)));
  lease->Hold(Hold(4, {}));
  EXPECT_TRUE(lease->Holds(At(1)));  // alone
  lease->Hold(Hold(4, {{kB, 22}, {kC, 23}}));
  EXPECT_FALSE(lease->Holds(At(1)));
  Exchange(&a, At(5'000), &b, At(5'000));
  EXPECT_FALSE(lease->Holds(At(5'100)));
  Exchange(&a, At(5'050), &c, At(5'000));
  EXPECT_TRUE(lease->Holds(At(5'979)));
  EXPECT_FALSE(lease->Holds(At(5'980)));
  lease->Release();
  EXPECT_FALSE(lease->Holds(At(5'100)));
}

TEST(PartitionLease, AMemberThatHasNotAcknowledgedInTheReignGivesNone) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  Exchange(&a, At(5'000), &b, At(5'000));
  const auto lease = a.Open(TableId(1), kPartition);
  lease->Hold(Hold(4, {{kB, 0}}));
  EXPECT_FALSE(lease->Holds(At(5'100)));
}

TEST(PartitionLease, AnAcknowledgementWithANewerConfigurationFencesThatPartitionAlone) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  const auto moved = a.Open(TableId(1), kPartition);
  const auto other = a.Open(TableId(1), PartitionId(8));
  moved->Hold(Hold(4, {{kB, 22}}));
  other->Hold(Hold(4, {{kB, 22}}));
  const auto backup = b.Open(TableId(1), kPartition);
  backup->OnLearnedPrimary(Learned(kReplicaA, 4, Config(5, kReplicaC)), At(4'000));
  const auto newer = Exchange(&a, At(5'000), &b, At(5'000));
  ASSERT_THAT(newer, SizeIs(1));
  EXPECT_EQ(newer[0].partition, kPartition);
  EXPECT_EQ(newer[0].configuration->epoch, Epoch(5));
  EXPECT_EQ(newer[0].revision, Revision(105));
  EXPECT_FALSE(moved->Holds(At(5'100)));
  EXPECT_TRUE(other->Holds(At(5'100)));
  // The next heartbeat confirms it.
  EXPECT_THAT(Exchange(&a, At(5'200), &b, At(5'200)), IsEmpty());
  EXPECT_FALSE(moved->Holds(At(5'300)));
  // A later reign of its own is another epoch.
  moved->Hold(Hold(6, {{kB, 22}}));
  EXPECT_TRUE(moved->Holds(At(5'300)));
}

TEST(PartitionLease, WhatIsNotConfirmedIsSaidAgain) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  const auto backup = b.Open(TableId(1), kPartition);
  backup->OnLearnedPrimary(Learned(kReplicaA, 4, Config(5, kReplicaC)), At(4'000));
  const auto first = a.OnSendHeartbeat(kB, At(5'000));
  EXPECT_THAT(b.OnHeartbeat(*first, At(5'000)).newer, SizeIs(1));  // lost on the way
  EXPECT_THAT(Exchange(&a, At(5'200), &b, At(5'200)), SizeIs(1));
  EXPECT_THAT(Exchange(&a, At(5'400), &b, At(5'400)), IsEmpty());
  // What an earlier process of the peer confirmed says nothing to the next.
  backup->OnLearnedPrimary(Learned(kReplicaA, 6, Config(7, kReplicaC)), At(6'000));
  NodeLeases again(kA, 31, At(6'000));
  EXPECT_THAT(Exchange(&again, At(6'200), &b, At(6'200)), SizeIs(1));
}

TEST(PartitionLease, MoreThanOneAcknowledgementCarriesComesBeforeAnyLease) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  for (uint64_t i = 0; i <= kMaxNewerPerAck; ++i) {
    const auto backup = b.Open(TableId(1), PartitionId(100 + i));
    backup->OnLearnedPrimary(Learned(kReplicaA, 4, Config(5, kReplicaC)), At(4'000));
  }
  EXPECT_THAT(Exchange(&a, At(5'000), &b, At(5'000)), SizeIs(kMaxNewerPerAck));
  EXPECT_EQ(a.lease_until(kB), BootTime(0));
  EXPECT_THAT(Exchange(&a, At(5'200), &b, At(5'200)), SizeIs(1));
  EXPECT_EQ(a.lease_until(kB), At(6'180));
}

// R7, R6: promises. -------------------------------------------------------------------------------

TEST(PartitionLease, ATakeoverWaitsForThePromiseCountedWhenItLearned) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  Exchange(&a, At(5'000), &b, At(5'000));
  const auto lease = b.Open(TableId(1), kPartition);
  lease->OnLearnedPrimary(Learned(kReplicaA, 4, Config(5, kReplicaB)), At(5'500));
  EXPECT_EQ(lease->promises_until(), At(6'020));
  // What is promised afterwards excepts this partition.
  EXPECT_THAT(b.OnHeartbeat(*a.OnSendHeartbeat(kB, At(5'600)), At(5'600)).newer, SizeIs(1));
  EXPECT_EQ(lease->promises_until(), At(6'020));
}

TEST(PartitionLease, ASuccessionOfPrimariesIsWaitedForToItsBeginning) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  Exchange(&a, At(5'000), &b, At(5'000));
  const auto lease = b.Open(TableId(1), kPartition);
  // Learning of C binds as a heartbeat of its would.
  lease->OnLearnedPrimary(Learned(kReplicaA, 4, Config(5, kReplicaC)), At(5'500));
  EXPECT_EQ(b.promised_until(kC), At(6'520));
  lease->OnLearnedPrimary(Learned(kReplicaC, 5, Config(6, kReplicaB)), At(5'600));
  EXPECT_EQ(lease->promises_until(), At(6'520));
  // C gives its up; what A may still have, it cannot.
  group::PrimaryResigned resigned{kReplicaC, Epoch(5)};
  lease->OnResigned(resigned);
  EXPECT_EQ(lease->promises_until(), At(6'020));
}

TEST(PartitionLease, AGapInTheSuccessionCountsEveryPromise) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  NodeLeases c(kC, 23, At(0));
  Exchange(&a, At(5'000), &b, At(5'000));
  Exchange(&c, At(5'000), &b, At(5'400));
  const auto lease = b.Open(TableId(1), kPartition);
  lease->OnLearnedPrimary(Learned(kReplicaA, 4, Config(7, kReplicaB), /*skipped=*/true), At(5'500));
  EXPECT_EQ(lease->promises_until(), At(6'420));
}

TEST(PartitionLease, ATransferLeavesNothingToWaitFor) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  Exchange(&a, At(5'000), &b, At(5'000));
  const auto lease = b.Open(TableId(1), kPartition);
  lease->OnLearnedPrimary(Learned(kReplicaA, 4, Config(5, kReplicaB, /*released=*/true)),
                          At(5'500));
  EXPECT_LE(lease->promises_until(), At(5'500));
}

TEST(PartitionLease, CandidatesTakeTheirTurnsOnceThePromiseHasRunOut) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  NodeLeases c(kC, 23, At(0));
  Exchange(&a, At(5'000), &b, At(5'000));
  Exchange(&a, At(5'000), &c, At(5'000));
  const auto at_b = b.Open(TableId(1), kPartition);
  const auto at_c = c.Open(TableId(1), kPartition);
  const auto config = Config(4, kReplicaA);
  EXPECT_EQ(at_b->PromotionTime(*config, kReplicaB), At(6'020));
  EXPECT_EQ(at_c->PromotionTime(*config, kReplicaC), At(6'020) + kCandidateDelay);
  EXPECT_EQ(at_b->PromotionTime(*config, kReplicaA), std::nullopt);
  at_c->OnResigned({kReplicaA, Epoch(4)});
  EXPECT_LE(*at_c->PromotionTime(*config, kReplicaC), At(5'000));
  EXPECT_GT(*at_c->PromotionTime(*Config(5, kReplicaA), kReplicaC), At(6'000));
}

TEST(PartitionLease, ReadersOnOtherThreadsNeverSeeALeaseOfAFencedEpoch) {
  NodeLeases a(kA, 21, At(0));
  NodeLeases b(kB, 22, At(0));
  const auto lease = a.Open(TableId(1), kPartition);
  const auto backup = b.Open(TableId(1), kPartition);
  std::atomic<uint64_t> moment{
      0};  // even: epoch moment + 1 may be led here; odd: it has been fenced
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0};
  std::thread reader([&] {
    while (!stop) {
      const uint64_t before = moment;
      const bool holds = lease->Holds(At(static_cast<int64_t>(before) * 1'000'000));
      if (holds && before % 2 == 1 && moment == before) ++wrong;
    }
  });
  for (uint64_t i = 2; i < 2'000; i += 2) {
    const BootTime now = At(static_cast<int64_t>(i) * 1'000'000);
    moment = i;  // before the lease is held: a reader may see it from then on
    Exchange(&a, now, &b, now);
    lease->Hold(Hold(i + 1, {{kB, 22}}));
    EXPECT_TRUE(lease->Holds(now));
    backup->OnLearnedPrimary(Learned(kReplicaA, i + 1, Config(i + 2, kReplicaC)), now);
    Exchange(&a, now + At(1), &b, now);
    moment = i + 1;
  }
  stop = true;
  reader.join();
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace onggi::lease
