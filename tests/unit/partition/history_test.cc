#include <algorithm>
#include <random>
#include <thread>

#include "tests/unit/partition/cluster_fixture.h"

/// Nodes crash, links break and the metadata store is cut off, at random, under concurrent writers;
/// no acknowledged write may be lost, none applied twice, and no strong read may go back.
namespace onggi::partition {
namespace {

using Kind = WriteRequest::Kind;
using std::chrono::milliseconds;

/// One counter per writer: only its writer adds to it, so its history is a line.
struct Counter {
  int64_t acknowledged = 0;
  int64_t tried = 0;
};

class History : public ClusterTest {
 protected:
  int64_t ReadCounter(uint64_t table, const std::string& key) {
    const std::string encoded = Node::Key("counter", key);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::chrono::steady_clock::now() < deadline) {
      if (ClusterNode* const node = cluster_->Primary(table)) {
        if (const auto partition = node->Find(table, encoded); partition.ok()) {
          PinnedItem item;
          if ((*partition)->Get(encoded, true, &item).ok()) {
            return item.found() ? Value(item.item()) : 0;
          }
        }
      }
      std::this_thread::sleep_for(milliseconds(5));
    }
    return -1;
  }
  static int64_t Value(const model::ItemView& item) {
    return std::stoll(item.Find("n").AsNumber().ToString());
  }
};

TEST_F(History, NothingAcknowledgedIsLostAndNothingAppliedTwice) {
  const char* const given = std::getenv("ONGGI_SEED");
  const uint64_t seed = given != nullptr ? std::stoull(given) : std::random_device()();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  cluster_->Start(3);
  cluster_->CreateTable(1, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());

  constexpr int kWriters = 4;
  std::vector<Counter> counters(kWriters);
  std::atomic<bool> stop{false};
  // Nodes come and go only while no writer is inside one; writers, who are many, let them.
  std::shared_mutex nodes;
  std::atomic<bool> wanted{false};
  const auto change = [&](const std::function<void()>& what) {
    wanted = true;
    std::unique_lock lock(nodes);
    wanted = false;
    what();
  };
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      Counter& counter = counters[static_cast<size_t>(writer)];
      const std::string key = std::to_string(writer);
      for (uint64_t number = 1; !stop; ++number) {
        const auto add = Node::Make(Kind::kUpdate, Item({{"p", S("counter")}, {"s", S(key)}}),
                                    "ADD n :v", "", {N(1)});
        add->request.id = {uint64_t{100} + static_cast<uint64_t>(writer), number};
        add->request.want_new = true;
        ++counter.tried;
        // The same request until it is answered, over all failures.
        for (;;) {
          WriteOutcome outcome;
          {
            while (wanted) std::this_thread::sleep_for(milliseconds(1));
            std::shared_lock lock(nodes);
            outcome = cluster_->Write(1, add, milliseconds(300));
          }
          if (outcome.status.ok()) {
            ++counter.acknowledged;
            EXPECT_EQ(Value(model::ItemView(outcome.new_item)), counter.acknowledged) << key;
            break;
          }
          if (stop) return;
          std::this_thread::sleep_for(milliseconds(5));
        }
      }
    });
  }
  const auto pick = [&](uint64_t below) { return random() % below; };
  const int rounds = given != nullptr || std::getenv("ONGGI_LONG") != nullptr ? 40 : 8;
  for (int round = 0; round < rounds; ++round) {
    const uint64_t victim = pick(3) + 1;
    ClusterNode& node = cluster_->node(victim);
    switch (pick(5)) {
      case 0:
      case 1:
        change([&] { node.Crash(); });
        std::this_thread::sleep_for(milliseconds(pick(2000)));
        change([&] { EXPECT_TRUE(node.Start().ok()); });
        break;
      case 2:
        cluster_->network().Isolate(NodeId(victim), true);
        std::this_thread::sleep_for(milliseconds(pick(2000)));
        cluster_->network().Isolate(NodeId(victim), false);
        break;
      case 3: {
        const NodeId other(victim % 3 + 1);
        cluster_->network().SetSilent(NodeId(victim), other, true);
        std::this_thread::sleep_for(milliseconds(pick(2000)));
        cluster_->network().SetSilent(NodeId(victim), other, false);
        break;
      }
      case 4:
        (pick(2) == 0 ? node.store().cut : node.store().lose_answers) = true;
        std::this_thread::sleep_for(milliseconds(pick(1500)));
        node.store().cut = node.store().lose_answers = false;
        break;
    }
    std::this_thread::sleep_for(milliseconds(pick(500)));
  }
  // Healed, it goes on soon, and everybody is in sync again.
  ASSERT_TRUE(cluster_->Put(1, "a", "2", "x", std::chrono::seconds(15)).ok())
      << cluster_->Describe(1);
  stop = true;
  for (std::thread& thread : writers) thread.join();
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3)) << cluster_->Describe(1);
  for (int writer = 0; writer < kWriters; ++writer) {
    const Counter& counter = counters[static_cast<size_t>(writer)];
    const int64_t value = ReadCounter(1, std::to_string(writer));
    EXPECT_GE(value, counter.acknowledged) << writer;
    EXPECT_LE(value, counter.tried) << writer;
    EXPECT_GT(counter.acknowledged, 0);
  }
  // All replicas hold the same.
  const std::string expected = std::to_string(ReadCounter(1, "0"));
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(Eventually([&] {
      const auto partition = cluster_->node(id).Find(1);
      PinnedItem item;
      return partition.ok() && (*partition)->Get(Node::Key("counter", "0"), false, &item).ok() &&
             item.found() && std::to_string(Value(item.item())) == expected;
    })) << id;
  }
}

}  // namespace
}  // namespace onggi::partition
