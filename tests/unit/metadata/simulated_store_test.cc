#include "replication/metadata/simulated_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/metadata/store_backends.h"

namespace onggi::metadata {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AnyOf;
using ::testing::ElementsAre;

class SimulatedStoreTest : public ::testing::Test {
 protected:
  explicit SimulatedStoreTest(uint64_t seed = 1)
      : cluster_(SimulatedCluster::Create(time_.Scheduler(), seed)) {}

  /// The code of the answer, in `codes_`.
  void Put(MetadataStore& store, std::string key, std::string value) {
    Transaction transaction;
    transaction.puts.push_back({std::move(key), std::move(value), LeaseId()});
    store.AsyncCommit(std::move(transaction), [this](const Result<TransactionResult>& result) {
      codes_.push_back(result.status().code());
    });
  }
  std::vector<std::string> Now() const {
    std::vector<std::string> all;
    for (const KeyValue& kv : cluster_->ReadNow().kvs) all.push_back(kv.key + "=" + kv.value);
    return all;
  }

  VirtualTime time_;
  std::shared_ptr<SimulatedCluster> cluster_;
  std::vector<Code> codes_;
};

TEST_F(SimulatedStoreTest, UnknownOutcomesAreOfEveryKind) {
  const auto store = SimulatedStore::Connect(cluster_);
  SimulatedFaults faults;
  faults.unknown_done = 1000;
  cluster_->SetFaults(faults);
  Put(*store, "done", "1");
  time_.RunFor(seconds(1));
  faults.unknown_done = 0;
  faults.unknown_lost = 1000;
  cluster_->SetFaults(faults);
  Put(*store, "lost", "1");
  time_.RunFor(seconds(1));
  faults.unknown_lost = 0;
  faults.unknown_late = 1000;
  cluster_->SetFaults(faults);
  Put(*store, "late", "1");
  time_.RunFor(milliseconds(12));  // the answer is there, the effect may not be
  EXPECT_THAT(codes_,
              ElementsAre(Code::kUnknownOutcome, Code::kUnknownOutcome, Code::kUnknownOutcome));
  time_.RunFor(seconds(10));
  EXPECT_THAT(Now(), ElementsAre("done=1", "late=1"));
  faults.unknown_late = 0;
  faults.unavailable = 1000;
  cluster_->SetFaults(faults);
  Put(*store, "never", "1");
  time_.RunFor(seconds(1));
  EXPECT_EQ(codes_.back(), Code::kUnavailable);
  EXPECT_THAT(Now(), ElementsAre("done=1", "late=1"));
}

TEST_F(SimulatedStoreTest, ALateTransactionOutlivesItsAsker) {
  SimulatedFaults faults;
  faults.unknown_late = 1000;
  cluster_->SetFaults(faults);
  bool late = false;
  for (int i = 0; i < 20; ++i) {
    auto store = SimulatedStore::Connect(cluster_);
    Put(*store, "k" + std::to_string(i), "1");
    time_.RunFor(milliseconds(6));
    store->Crash();
    store.reset();
    late = late || Now().size() <= static_cast<size_t>(i);
  }
  EXPECT_TRUE(late);
  EXPECT_TRUE(codes_.size() < 20u);  // the dead are not answered
  time_.RunFor(seconds(10));
  EXPECT_EQ(Now().size(), 20u);
}

TEST_F(SimulatedStoreTest, ACutClientTimesOutAndCatchesUp) {
  const auto store = SimulatedStore::Connect(cluster_);
  const auto other = SimulatedStore::Connect(cluster_);
  std::vector<std::string> seen;
  const auto watch = store->Watch("", Revision(), {}, [&](const WatchBatch& batch) {
    for (const WatchEvent& event : batch.events) seen.push_back(event.kv.key);
  });
  // On its way when the cut comes: nobody knows.
  Put(*store, "a", "1");
  store->SetCut(true);
  Put(*store, "b", "1");
  Put(*other, "c", "1");
  time_.RunFor(SimulatedStore::kTimeout + milliseconds(1));
  EXPECT_THAT(codes_, ElementsAre(Code::kOk, Code::kUnknownOutcome, Code::kUnavailable));
  EXPECT_THAT(Now(), ElementsAre("c=1"));
  EXPECT_TRUE(seen.empty());
  store->SetCut(false);
  time_.RunFor(seconds(1));
  EXPECT_THAT(seen, ElementsAre("c"));
}

TEST_F(SimulatedStoreTest, LeasesOfTheDeadAndTheCutRunOut) {
  auto dead = SimulatedStore::Connect(cluster_);
  const auto cut = SimulatedStore::Connect(cluster_);
  const auto well = SimulatedStore::Connect(cluster_);
  std::vector<std::unique_ptr<LeaseHandle>> leases;
  std::vector<std::string> lost;
  for (auto* store : {dead.get(), cut.get(), well.get()}) {
    const std::string name = store == dead.get() ? "dead" : store == cut.get() ? "cut" : "well";
    store->AsyncGrantLease(
        seconds(2), {}, [&, name] { lost.push_back(name); },
        [&, store, name](Result<std::unique_ptr<LeaseHandle>> lease) {
          ASSERT_TRUE(lease.ok());
          Transaction transaction;
          transaction.puts.push_back({name, "", (*lease)->id()});
          store->AsyncCommit(std::move(transaction), [](const auto&) {});
          leases.push_back(std::move(*lease));
        });
  }
  time_.RunFor(seconds(10));
  EXPECT_THAT(Now(), ElementsAre("cut=", "dead=", "well="));
  dead->Crash();
  cut->SetCut(true);
  // The client knows before anybody else can see it.
  time_.RunFor(milliseconds(1200));
  EXPECT_EQ(Now().size(), 3u);
  while (Now().size() == 3) time_.Step();
  time_.RunFor(seconds(1));
  EXPECT_THAT(lost, ElementsAre("cut"));
  EXPECT_THAT(Now(), ElementsAre("well="));
  // While the cluster is down, nobody's lease ends for the others.
  cluster_->SetDown(true);
  time_.RunFor(seconds(20));
  EXPECT_THAT(Now(), ElementsAre("well="));
  EXPECT_THAT(lost, ElementsAre("cut", "well"));
  cluster_->SetDown(false);
  time_.RunFor(seconds(3));
  EXPECT_TRUE(Now().empty());
}

TEST_F(SimulatedStoreTest, ALeaseIsDoubtedBeforeItsKeysVanish) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    VirtualTime time;
    const auto cluster = SimulatedCluster::Create(time.Scheduler(), seed);
    const auto store = SimulatedStore::Connect(cluster);
    std::unique_ptr<LeaseHandle> lease;
    store->AsyncGrantLease(
        seconds(1), {}, [] {}, [&](auto granted) { lease = std::move(*granted); });
    time.RunFor(milliseconds(100 + seed * 37));
    ASSERT_NE(lease, nullptr);
    Transaction transaction;
    transaction.puts.push_back({"k", "", lease->id()});
    ASSERT_TRUE(cluster->CommitNow(transaction).ok());
    store->SetCut(true);
    while (!cluster->ReadNow().kvs.empty()) {
      ASSERT_TRUE(time.Step());
    }
    EXPECT_FALSE(lease->alive()) << "seed " << seed;
  }
}

/// A run of random requests under faults, as text.
std::string Trace(uint64_t seed) {
  VirtualTime time;
  SimulatedFaults faults;
  faults.unavailable = 50;
  faults.unknown_done = faults.unknown_lost = faults.unknown_late = 50;
  const auto cluster = SimulatedCluster::Create(time.Scheduler(), seed, faults);
  std::string log;
  const auto note = [&](const std::string& what) {
    log += std::to_string(time.now().count()) + ":" + what + " ";
  };
  std::vector<std::unique_ptr<SimulatedStore>> stores;
  std::vector<std::unique_ptr<WatchHandle>> watches;
  for (int i = 0; i < 3; ++i) {
    stores.push_back(SimulatedStore::Connect(cluster));
    watches.push_back(
        stores.back()->Watch("k", Revision(), {}, [&note, i](const WatchBatch& batch) {
          note("w" + std::to_string(i) + "@" + batch.revision.ToString());
        }));
  }
  for (int i = 0; i < 300; ++i) {
    Transaction transaction;
    transaction.puts.push_back({"k" + std::to_string(i % 7), std::to_string(i), LeaseId()});
    stores[static_cast<size_t>(i) % 3]->AsyncCommit(
        std::move(transaction), [&note, i](const Result<TransactionResult>& result) {
          note(std::to_string(i) + std::string(CodeName(result.status().code())));
        });
    time.RunFor(milliseconds(2));
  }
  time.RunFor(seconds(20));
  return log;
}

TEST(SimulatedStore, TheSameSeedGivesTheSameRun) {
  EXPECT_EQ(Trace(1), Trace(1));
  EXPECT_NE(Trace(1), Trace(2));
}

}  // namespace
}  // namespace onggi::metadata
