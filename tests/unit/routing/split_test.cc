#include <thread>

#include "tests/unit/routing/cluster_fixture.h"

/// Partitions that are split and merged while they are read and written through another node.
namespace onggi::routing {
namespace {

using partition::WriteOutcome;
using std::chrono::milliseconds;

constexpr int kItems = 120;
constexpr int kWriters = 3;

class SplitUnderLoad : public testing::Test {
 protected:
  void SetUp() override {
    cluster_ = std::make_unique<Cluster>(2);
    record_ = cluster_->NewTable();
    // One partition, on node 2; everything is asked of node 1.
    metadata::Transaction transaction;
    transaction.puts.push_back(
        {metadata::keys::Table(TableId(record_.id())), record_.SerializeAsString()});
    const auto config = cluster_->NewPartition(record_.id(), 2, "", "");
    transaction.puts.push_back(Cluster::PutOf(config));
    transaction.puts.push_back({metadata::keys::NextPartition(), metadata::keys::FormatId(1000)});
    const auto result = cluster_->Commit(std::move(transaction));
    parent_ = config.partition();
    for (const size_t number : {1, 2}) {
      (*cluster_)[number].catalog().PutWatched(record_, result.revision);
      ASSERT_TRUE(Eventually(
          [&] { return (*cluster_)[number].routes().Find(TableId(record_.id()), "") != nullptr; }));
    }
    std::vector<std::shared_ptr<partition::TestWrite>> writes;
    for (int i = 0; i < kItems; ++i) {
      writes.push_back(Cluster::Put("p" + std::to_string(i % 12), "s" + std::to_string(1000 + i),
                                    {{"fill", S(std::string(3000, 'x'))}}));
      keys_.push_back(writes.back()->key);
    }
    std::sort(keys_.begin(), keys_.end());
    for (const WriteOutcome& outcome : asked().Write(record_.id(), writes)) {
      ASSERT_TRUE(outcome.status.ok()) << outcome.status.ToString();
    }
  }

  ClusterNode& asked() { return (*cluster_)[1]; }
  ClusterNode& leader() { return (*cluster_)[2]; }

  void Split(uint64_t parent, uint64_t child, const std::string& key) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    Status status;
    do {
      std::vector<group::Member> replicas = {{NodeId(2), ReplicaId(child)}};
      status =
          Await(leader().io().NextExecutor(),
                leader().manager().SplitPartition(
                    TableId(record_.id()), PartitionId(parent), key, PartitionId(child),
                    std::move(replicas), std::chrono::steady_clock::now() + milliseconds(2000)));
    } while (!status.ok() && std::chrono::steady_clock::now() < deadline);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  std::unique_ptr<Cluster> cluster_;
  proto::Table record_;
  uint64_t parent_ = 0;
  std::vector<std::string> keys_;
};

TEST_F(SplitUnderLoad, NobodySeesIt) {
  const std::string table = R"("TableName":")" + record_.name() + R"(")";
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  std::array<int, kWriters> written{};
  for (int w = 0; w < kWriters; ++w) {
    threads.emplace_back([&, w] {
      while (!stop) {
        const WriteOutcome outcome =
            asked().WriteOne(record_.id(), Cluster::Add("p" + std::to_string(w * 4), "counter"));
        EXPECT_TRUE(outcome.status.ok()) << outcome.status.ToString();
        ++written[static_cast<size_t>(w)];
      }
    });
  }
  int scans = 0, queries = 0, batches = 0;
  threads.emplace_back([&] {
    // A key attribute may stand in a scan's filter.
    const std::string scan = "{" + table + R"(,"ConsistentRead":true,"Select":"COUNT",)" +
                             R"("FilterExpression":"fill > pk"})";
    while (!stop) {
      const std::string answer = asked().Call("Scan", scan);
      EXPECT_THAT(answer, testing::StartsWith(R"({"Count":120,)"));
      ++scans;
    }
  });
  threads.emplace_back([&] {
    while (!stop) {
      for (const bool forward : {true, false}) {
        const std::string query =
            "{" + table + R"(,"KeyConditionExpression":"pk = :p","ExpressionAttributeValues":)" +
            R"({":p":{"S":"p5"}},"ProjectionExpression":"sk","ConsistentRead":true,)" +
            R"("ScanIndexForward":)" + (forward ? "true" : "false") + "}";
        std::string expected;
        for (int i = 0; i < 10; ++i) {
          const int number = 1005 + 12 * (forward ? i : 9 - i);
          if (i > 0) expected += ",";
          expected += R"({"sk":{"S":"s)" + std::to_string(number) + R"("}})";
        }
        EXPECT_EQ(asked().Call("Query", query),
                  R"({"Items":[)" + expected + R"(],"Count":10,"ScannedCount":10})");
        ++queries;
      }
    }
  });
  threads.emplace_back([&] {
    std::string keys;
    for (int i = 0; i < 60; ++i) {
      if (i > 0) keys += ",";
      keys += R"({"pk":{"S":"p)" + std::to_string(i % 12) + R"("},"sk":{"S":"s)" +
              std::to_string(1000 + i) + R"("}})";
    }
    const std::string get = R"({"RequestItems":{")" + record_.name() + R"(":{"Keys":[)" + keys +
                            R"(],"ConsistentRead":true,"ProjectionExpression":"pk"}}})";
    const std::string put = R"({"RequestItems":{")" + record_.name() + R"(":[)" +
                            R"({"PutRequest":{"Item":{"pk":{"S":"p1"},"sk":{"S":"other"}}}},)" +
                            R"({"PutRequest":{"Item":{"pk":{"S":"p9"},"sk":{"S":"other"}}}}]}})";
    while (!stop) {
      const std::string answer = asked().Call("BatchGetItem", get);
      EXPECT_THAT(answer, testing::HasSubstr(R"("UnprocessedKeys":{})"));
      size_t found = 0;
      for (size_t at = 0; (at = answer.find(R"("pk")", at)) != std::string::npos; ++at) ++found;
      EXPECT_EQ(found, 60u);
      EXPECT_EQ(asked().Call("BatchWriteItem", put), R"({"UnprocessedItems":{}})");
      ++batches;
    }
  });

  // In halves, quarters, and inside an item collection; then together again.
  std::this_thread::sleep_for(milliseconds(100));
  Split(parent_, 101, keys_[60]);
  Split(parent_, 102, keys_[30]);
  Split(101, 103, keys_[95]);
  std::this_thread::sleep_for(milliseconds(100));
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(asked().routes().RoutesOf(TableId(record_.id())).size(), 4u);
  EXPECT_GT(scans, 0);
  EXPECT_GT(queries, 0);
  EXPECT_GT(batches, 0);
  for (int w = 0; w < kWriters; ++w) {
    const auto read = asked().Get(
        record_.id(), Cluster::KeyOf(Cluster::ItemOf("p" + std::to_string(w * 4), "counter")));
    ASSERT_TRUE(read.status.ok());
    EXPECT_EQ(model::ItemView(read.item).Find("n").AsNumber().ToString(),
              std::to_string(written[static_cast<size_t>(w)]));
  }
  // Guessed when it was divided, and then counted.
  const auto items = [&] {
    return Await(asked().io().NextExecutor(), asked().router().Figures(TableId(record_.id())))
        .item_count;
  };
  const auto expected = static_cast<uint64_t>(kItems + kWriters + 2);
  EXPECT_TRUE(Eventually([&] { return items() == expected; })) << items();
}

TEST_F(SplitUnderLoad, AStaleMapFindsTheChild) {
  asked().routes().Stop();
  Split(parent_, 101, keys_[60]);
  // The map still has one partition for everything.
  EXPECT_EQ(asked().routes().RoutesOf(TableId(record_.id())).size(), 1u);
  for (const size_t i : {0, 59, 60, 119}) {
    const auto read = asked().Get(record_.id(), keys_[i]);
    EXPECT_TRUE(read.status.ok()) << read.status.ToString();
    EXPECT_NE(read.item, "");
  }
  const std::string scan = R"({"TableName":")" + record_.name() + R"(","Select":"COUNT"})";
  EXPECT_EQ(asked().Call("Scan", scan), R"({"Count":120,"ScannedCount":120})");
  const std::string back = R"({"TableName":")" + record_.name() +
                           R"(","KeyConditionExpression":"pk = :p","ScanIndexForward":false,)" +
                           R"("Select":"COUNT","ExpressionAttributeValues":{":p":{"S":"p3"}}})";
  EXPECT_EQ(asked().Call("Query", back), R"({"Count":10,"ScannedCount":10})");
}

}  // namespace
}  // namespace onggi::routing
