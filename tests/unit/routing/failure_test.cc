#include <thread>

#include "tests/unit/routing/cluster_fixture.h"

/// What goes wrong between nodes, and what a client sees of it.
namespace onggi::routing {
namespace {

using partition::WriteOutcome;
using Kind = partition::WriteRequest::Kind;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// Two nodes and a table whose second half is on the second.
class Failure : public testing::Test {
 protected:
  void Begin(RouterOptions options = RouterOptions(), ConnectionLimits limits = ConnectionLimits(),
             ServerLimits server_limits = ServerLimits()) {
    cluster_ = std::make_unique<Cluster>(2, options, limits, server_limits);
    record_ = cluster_->NewTable();
    table_ = cluster_->CreateEven(record_, 2);
    keys_ = cluster_->KeysOn(table_, 2, 16);
  }
  void TearDown() override {
    if (cluster_ != nullptr) node(2).log_disk.hang = false;
  }
  ClusterNode& node(size_t number) { return (*cluster_)[number]; }
  std::string Key(size_t i) const { return Cluster::KeyOf(Cluster::ItemOf(keys_[i], "s")); }
  /// Opens the partition, so that the first write does not wait for that.
  void Touch() {
    ASSERT_TRUE(node(1).WriteOne(table_, Cluster::Put("warm", "s")).status.ok());
    ASSERT_TRUE(node(1).Get(table_, Key(0)).status.ok());
  }
  std::future<WriteOutcome> Start(std::shared_ptr<partition::TestWrite> write,
                                  milliseconds timeout = std::chrono::seconds(10)) {
    return std::async(std::launch::async, [this, write = std::move(write), timeout] {
      return node(1).WriteOne(table_, write, timeout);
    });
  }
  int64_t Counter(size_t i) {
    const auto read = node(2).Get(table_, Key(i));
    CHECK_MSG(read.status.ok(), read.status.ToString());
    if (read.item.empty()) return 0;
    return std::stoll(model::ItemView(read.item).Find("n").AsNumber().ToString());
  }

  std::unique_ptr<Cluster> cluster_;
  proto::Table record_;
  uint64_t table_ = 0;
  std::vector<std::string> keys_;
};

TEST_F(Failure, AStaleMapIsCorrectedByTheAnswer) {
  Begin();
  node(1).routes().Stop();
  const auto before = node(1).routes().Find(TableId(table_), Key(0));
  ASSERT_EQ(before->primary(), NodeId(2));
  // The empty half moves to node 1, as another partition.
  const proto::PartitionConfig moved =
      cluster_->NewPartition(table_, 1, std::string(before->start()), std::string(before->end()));
  metadata::Transaction transaction;
  transaction.deletes.push_back(metadata::keys::Partition(before->table(), before->partition()));
  transaction.puts.push_back(Cluster::PutOf(moved));
  cluster_->Commit(std::move(transaction));
  ASSERT_TRUE(Eventually(
      [&] { return node(2).routes().Find(TableId(table_), Key(0))->primary() == NodeId(1); }));

  const WriteOutcome outcome = node(1).WriteOne(table_, Cluster::Put(keys_[0], "s"));
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.ToString();
  EXPECT_EQ(node(1).routes().Find(TableId(table_), Key(0))->primary(), NodeId(1));
  EXPECT_GT(node(1).Metric("onggi_routing_map_corrections_total"), 0u);
  EXPECT_NE(node(2).Get(table_, Key(0)).item, "");
}

TEST_F(Failure, RequestsWaitForANodeThatComesBack) {
  Begin();
  Touch();
  cluster_->Isolate(1);
  auto write = Start(Cluster::Add(keys_[0], "s"));
  auto read = std::async(std::launch::async, [&] { return node(1).Get(table_, Key(1)); });
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_EQ(write.wait_for(milliseconds(0)), std::future_status::timeout);
  cluster_->Introduce();
  const WriteOutcome outcome = write.get();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.ToString();
  EXPECT_TRUE(read.get().status.ok());
  EXPECT_EQ(Counter(0), 1);
}

/// The request has waited for longer than a missing partition is waited for when its partition is
/// missed for the first time: that says nothing yet about the table.
TEST_F(Failure, AMissingPartitionIsWaitedForFromWhenItIsMissed) {
  RouterOptions options;
  options.map_wait = milliseconds(200);
  Begin(options);
  Touch();
  cluster_->Isolate(1);
  auto read = std::async(std::launch::async, [&] { return node(1).Get(table_, Key(1)); });
  std::this_thread::sleep_for(milliseconds(400));
  const auto partition = node(1).routes().Find(TableId(table_), Key(1))->partition();
  metadata::Transaction remove;
  remove.deletes.push_back(metadata::keys::Partition(TableId(table_), partition));
  const auto removed = steady_clock::now();
  cluster_->Commit(std::move(remove));
  EXPECT_EQ(read.get().status.code(), Code::kNotFound);
  EXPECT_GE(steady_clock::now() - removed, options.map_wait);
}

/// The map says where the partition is, and that node does not know it, for longer than a missing
/// partition is waited for: an application must not be told that there is no such table.
TEST_F(Failure, ANodeThatKnowsLessThanTheMapSaysNothingAboutTheTable) {
  RouterOptions options;
  options.map_wait = milliseconds(50);
  Begin(options);
  Touch();
  node(2).routes().Stop();
  const proto::Table record = cluster_->NewTable();
  const proto::PartitionConfig partition = cluster_->NewPartition(record.id(), 2, "", "");
  metadata::Transaction transaction;
  transaction.puts.push_back(
      {metadata::keys::Table(TableId(record.id())), record.SerializeAsString()});
  transaction.puts.push_back(Cluster::PutOf(partition));
  cluster_->Commit(std::move(transaction));
  ASSERT_TRUE(
      Eventually([&] { return node(1).routes().Find(TableId(record.id()), Key(0)) != nullptr; }));
  const auto start = steady_clock::now();
  const auto read = node(1).Get(record.id(), Key(0), true, milliseconds(300));
  EXPECT_EQ(read.status.code(), Code::kUnavailable) << read.status.ToString();
  EXPECT_GE(steady_clock::now() - start, milliseconds(290));
  const auto write = node(1).WriteOne(record.id(), Cluster::Put(keys_[0], "s"), milliseconds(300));
  EXPECT_EQ(write.status.code(), Code::kUnavailable) << write.status.ToString();
}

TEST_F(Failure, ANodeThatStaysAwayCostsTheDeadlineAndNoMore) {
  Begin();
  Touch();
  cluster_->Isolate(1);
  const auto start = steady_clock::now();
  const WriteOutcome outcome =
      node(1).WriteOne(table_, Cluster::Add(keys_[0], "s"), milliseconds(300));
  const auto read = node(1).Get(table_, Key(0), true, milliseconds(300));
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_EQ(outcome.status.code(), Code::kUnavailable);  // certainly not done
  EXPECT_EQ(read.status.code(), Code::kUnavailable);
  // What is here goes on.
  EXPECT_TRUE(
      node(1).WriteOne(table_, Cluster::Put(cluster_->KeysOn(table_, 1, 1)[0], "s")).status.ok());
}

TEST_F(Failure, AWriteWhoseAnswerIsLostIsAppliedOnce) {
  Begin();
  Touch();
  node(2).log_disk.hang = true;
  auto write = Start(Cluster::Add(keys_[0], "s"));
  ASSERT_TRUE(Eventually([&] { return node(2).manager().queued_writes() == 1; }));
  cluster_->Isolate(1);
  std::this_thread::sleep_for(milliseconds(50));
  cluster_->Introduce();
  // The second try has arrived beside the first.
  ASSERT_TRUE(Eventually([&] { return node(2).manager().queued_writes() == 2; }));
  node(2).log_disk.hang = false;
  const WriteOutcome outcome = write.get();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.ToString();
  EXPECT_EQ(Counter(0), 1);
}

TEST_F(Failure, ManyLostAnswersAreAppliedOnceEach) {
  Begin();
  Touch();
  std::atomic<bool> stop{false};
  std::thread cutter([&] {
    while (!stop) {
      std::this_thread::sleep_for(milliseconds(40));
      cluster_->Isolate(1);
      std::this_thread::sleep_for(milliseconds(5));
      cluster_->Introduce();
    }
  });
  std::vector<std::thread> writers;
  std::atomic<int> done{0};
  for (size_t i = 0; i < 4; ++i) {
    writers.emplace_back([&, i] {
      for (int k = 0; k < 60; ++k) {
        const WriteOutcome outcome = node(1).WriteOne(table_, Cluster::Add(keys_[i], "s"));
        EXPECT_TRUE(outcome.status.ok()) << outcome.status.ToString();
        if (outcome.status.ok()) ++done;
      }
    });
  }
  for (auto& writer : writers) writer.join();
  stop = true;
  cutter.join();
  int64_t sum = 0;
  for (size_t i = 0; i < 4; ++i) sum += Counter(i);
  EXPECT_EQ(sum, done.load());
}

TEST_F(Failure, AConditionDoesNotFailOnItsOwnFirstTry) {
  Begin();
  Touch();
  node(2).log_disk.hang = true;
  auto write = Start(
      Cluster::Make(Kind::kPut, Cluster::ItemOf(keys_[0], "s"), "", "attribute_not_exists(pk)"));
  ASSERT_TRUE(Eventually([&] { return node(2).manager().queued_writes() == 1; }));
  cluster_->Isolate(1);
  node(2).log_disk.hang = false;
  ASSERT_TRUE(Eventually([&] { return node(2).manager().queued_writes() == 0; }));
  cluster_->Introduce();
  const WriteOutcome outcome = write.get();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.ToString();
}

TEST_F(Failure, AtTheDeadlineTheOutcomeIsUnknown) {
  Begin();
  Touch();
  node(2).log_disk.hang = true;
  const auto start = steady_clock::now();
  const WriteOutcome outcome =
      node(1).WriteOne(table_, Cluster::Add(keys_[0], "s"), milliseconds(300));
  EXPECT_EQ(outcome.status.code(), Code::kUnknownOutcome) << outcome.status.ToString();
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_EQ(node(1).Metric("onggi_routing_unknown_outcomes_total"), 1u);
}

TEST_F(Failure, ASlowDiskIsNoSilentPeer) {
  ConnectionLimits limits;
  limits.silence = milliseconds(100);
  Begin(RouterOptions(), limits);
  Touch();
  const auto connection = node(1).network().Find(NodeId(2));
  node(2).log_disk.hang = true;
  auto write = Start(Cluster::Add(keys_[0], "s"));
  std::this_thread::sleep_for(milliseconds(600));
  node(2).log_disk.hang = false;
  EXPECT_TRUE(write.get().status.ok());
  EXPECT_EQ(node(1).network().Find(NodeId(2)), connection);
}

/// Else it would hold up the heartbeats too, which the same thread carries.
TEST_F(Failure, AReadThatWaitsForTheDiskHoldsNoStreamUp) {
  Begin();
  Touch();
  const auto connection = node(1).network().Find(NodeId(2));
  node(2).served().Hold(Key(0));
  auto slow = std::async(std::launch::async, [&] { return node(1).Get(table_, Key(0)); });
  ASSERT_TRUE(Eventually([&] { return node(2).served().waiting() == 1; }));
  // Of the two threads that read, the other one does: every second read at least is its.
  const auto another = [&] { return node(1).Get(table_, Key(1), true, milliseconds(500)).status; };
  const Status first = another();
  EXPECT_TRUE(first.ok() || another().ok());
  EXPECT_EQ(node(1).network().Find(NodeId(2)), connection);
  EXPECT_EQ(node(2).served().waiting(), 1);
  node(2).served().Release();
  EXPECT_TRUE(slow.get().status.ok());
}

TEST_F(Failure, TooManyCallsAreRefused) {
  ConnectionLimits limits;
  limits.max_calls = 4;
  Begin(RouterOptions(), limits);
  Touch();
  node(2).log_disk.hang = true;
  std::vector<std::shared_ptr<partition::TestWrite>> writes;
  for (size_t i = 0; i < 10; ++i) writes.push_back(Cluster::Add(keys_[i], "s"));
  std::thread release([&] {
    std::this_thread::sleep_for(milliseconds(200));
    node(2).log_disk.hang = false;
  });
  int refused = 0;
  for (const WriteOutcome& outcome : node(1).Write(table_, writes)) {
    if (outcome.status.code() == Code::kResourceExhausted) ++refused;
  }
  release.join();
  EXPECT_EQ(refused, 6);
}

TEST_F(Failure, ANodeTakesOnOnlySoMuch) {
  ServerLimits limits;
  limits.max_bytes = 300'000;
  Begin(RouterOptions(), ConnectionLimits(), limits);
  Touch();
  node(2).log_disk.hang = true;
  std::vector<std::shared_ptr<partition::TestWrite>> writes;
  for (size_t i = 0; i < 10; ++i) {
    writes.push_back(Cluster::Put(keys_[i], "s", {{"big", S(std::string(100'000, 'x'))}}));
  }
  std::thread release([&] {
    std::this_thread::sleep_for(milliseconds(200));
    node(2).log_disk.hang = false;
  });
  int refused = 0;
  for (const WriteOutcome& outcome : node(1).Write(table_, writes)) {
    if (outcome.status.code() == Code::kResourceExhausted) ++refused;
  }
  release.join();
  EXPECT_EQ(refused, 8);
  // What was reserved is given back just behind the answer.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  Status last = node(1).WriteOne(table_, writes[9]).status;
  while (last.code() == Code::kResourceExhausted && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(1));
    last = node(1).WriteOne(table_, writes[9]).status;
  }
  EXPECT_TRUE(last.ok()) << last.ToString();
}

TEST_F(Failure, StoppingEndsTheWait) {
  Begin();
  Touch();
  cluster_->Isolate(1);
  auto write = Start(Cluster::Add(keys_[0], "s"));
  std::this_thread::sleep_for(milliseconds(50));
  node(1).router().Stop();
  ASSERT_EQ(write.wait_for(std::chrono::seconds(2)), std::future_status::ready);
  EXPECT_EQ(write.get().status.code(), Code::kUnavailable);
}

TEST_F(Failure, ABatchAnswersWhatCouldBeDone) {
  Begin();
  Touch();
  // What is here is open already: the bound below is for answers, not for making a partition.
  for (const std::string& pk : cluster_->KeysOn(table_, 1, 3)) {
    ASSERT_TRUE(node(1).WriteOne(table_, Cluster::Put(pk, "before")).status.ok());
  }
  cluster_->Isolate(1);
  std::vector<std::shared_ptr<partition::TestWrite>> writes;
  for (const std::string& pk : cluster_->KeysOn(table_, 1, 3)) {
    writes.push_back(Cluster::Put(pk, "s"));
  }
  writes.push_back(Cluster::Put(keys_[0], "s"));
  const auto outcomes = node(1).Write(table_, writes, milliseconds(200));
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(outcomes[i].status.ok());
  EXPECT_EQ(outcomes[3].status.code(), Code::kUnavailable);
}

TEST_F(Failure, APageIsReadWholeOrNotAtAll) {
  Begin();
  std::vector<std::shared_ptr<partition::TestWrite>> writes;
  for (int i = 0; i < 200; ++i) {
    writes.push_back(
        Cluster::Put("p" + std::to_string(i), "s", {{"fill", S(std::string(2000, 'x'))}}));
  }
  for (const WriteOutcome& outcome : node(1).Write(table_, writes))
    ASSERT_TRUE(outcome.status.ok());
  std::atomic<bool> stop{false};
  std::thread cutter([&] {
    while (!stop) {
      std::this_thread::sleep_for(milliseconds(15));
      cluster_->Isolate(1);
      cluster_->Introduce();
    }
  });
  const std::string scan = R"({"TableName":")" + record_.name() + R"(","Select":"COUNT"})";
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(node(1).Call("Scan", scan), R"({"Count":200,"ScannedCount":200})");
  }
  stop = true;
  cutter.join();
}

}  // namespace
}  // namespace onggi::routing
