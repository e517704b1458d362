#include "server/partition/shape.h"
#include "tests/unit/partition/cluster_fixture.h"

namespace onggi::partition {
namespace {

using Kind = WriteRequest::Kind;
using std::chrono::milliseconds;

/// Table 1 on three nodes, split into partitions 1 and 2, then made one again.
class Merge : public ClusterTest {
 protected:
  static constexpr int kItems = 40;

  void Open() {
    cluster_->Start(3);
    cluster_->CreateTable(1, {1, 2, 3});
    for (int i = 0; i < kItems; ++i) ASSERT_TRUE(Put(i, "v" + std::to_string(i)).ok());
    std::vector<std::string> keys;
    for (int i = 0; i < kItems; ++i) keys.push_back(KeyOf(i));
    std::sort(keys.begin(), keys.end());
    split_key_ = keys[kItems / 2];
    SplitAgain();
  }
  void SplitAgain(uint64_t child = 2) {
    ClusterNode& node = Primary(1);
    std::vector<group::Member> replicas;
    for (uint64_t id = 1; id <= 3; ++id) {
      replicas.push_back({NodeId(id), ReplicaId(100 * child + id)});
    }
    auto work = node.manager().SplitPartition(
        TableId(1), PartitionId(1), split_key_, PartitionId(child), std::move(replicas),
        std::chrono::steady_clock::now() + std::chrono::seconds(10));
    const Status split = Await(node.executor(), std::move(work));
    ASSERT_TRUE(split.ok()) << split.ToString();
    child_ = child;
    ASSERT_TRUE(Put(0, "v0").ok());
    for (int i = 0; i < kItems; ++i) ASSERT_EQ(Get(i), "v" + std::to_string(i)) << i;
  }
  ClusterNode& Primary(uint64_t partition) {
    return cluster_->node(cluster_->Known(1, partition)->configuration.primary.node);
  }
  Status AskMerge(milliseconds limit = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    Status status(Code::kUnavailable, "not asked");
    while (std::chrono::steady_clock::now() < deadline) {
      ClusterNode& node = Primary(1);
      if (node.running()) {
        auto work = node.manager().MergePartitions(
            TableId(1), PartitionId(1), PartitionId(child_),
            std::chrono::steady_clock::now() + std::chrono::seconds(3));
        status = Await(node.executor(), std::move(work));
        // (Under load a replica may be out of sync for a while.)
        const bool again = status.code() == Code::kUnavailable ||
                           status.code() == Code::kNotPrimary ||
                           status.code() == Code::kConditionFailed;
        if (!again) break;
        BringTogether();
      }
      std::this_thread::sleep_for(milliseconds(10));
    }
    return status;
  }
  /// Has the right one's primary moved to the left one's node, as a coordinator does first.
  void BringTogether() {
    const auto right = cluster_->Known(1, child_);
    if (!right.has_value()) return;
    const NodeId left = cluster_->Known(1, 1)->configuration.primary.node;
    if (right->configuration.primary.node == left) return;
    ClusterNode& node = cluster_->node(right->configuration.primary.node);
    for (const group::Member& member : right->configuration.in_sync) {
      if (member.node != left || !node.running()) continue;
      auto work = node.manager().TransferPrimary(
          PartitionId(child_), member, std::chrono::steady_clock::now() + std::chrono::seconds(2));
      (void)Await(node.executor(), std::move(work));
    }
  }
  static std::string KeyOf(int i) { return Node::Key("p" + std::to_string(i), "s"); }
  uint64_t PartitionOf(const std::string& key) {
    const auto child = cluster_->Known(1, child_);
    return child.has_value() && key >= child->configuration.range_start ? child_ : 1;
  }
  Status Put(int i, const std::string& value) {
    const auto write = Node::Make(
        Kind::kPut, Item({{"p", S("p" + std::to_string(i))}, {"s", S("s")}, {"v", S(value)}}));
    return Run(write).status;
  }
  WriteOutcome Run(const std::shared_ptr<TestWrite>& write) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    WriteOutcome outcome;
    do {
      ClusterNode& node = Primary(PartitionOf(write->key));
      outcome.status = Unavailable("down");
      if (node.running()) {
        const auto partition = node.Find(1, write->key);
        outcome.status = partition.status();
        if (partition.ok()) outcome = node.Write(*partition, write);
      }
      if (outcome.status.ok() ||
          (outcome.status.code() == Code::kUnknownOutcome && write->request.id.boot == 0)) {
        return outcome;
      }
      std::this_thread::sleep_for(milliseconds(5));
    } while (std::chrono::steady_clock::now() < deadline);
    return outcome;
  }
  std::string Get(int i) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    std::string answer;
    do {
      ClusterNode& node = Primary(PartitionOf(KeyOf(i)));
      if (node.running()) {
        answer = cluster_->ReadAt(node, 1, "p" + std::to_string(i), "s", true);
        if (!answer.starts_with("NotPrimary") && !answer.starts_with("Unavailable") &&
            !answer.starts_with("NotFound")) {
          return answer;
        }
      }
      std::this_thread::sleep_for(milliseconds(5));
    } while (std::chrono::steady_clock::now() < deadline);
    return answer;
  }
  void ExpectMerged() {
    EXPECT_FALSE(cluster_->Known(1, child_).has_value());
    EXPECT_EQ(cluster_->Configuration(1).range_end, "");
    for (int i = 0; i < kItems; ++i) {
      ASSERT_EQ(Get(i), "v" + std::to_string(i)) << i << "\n" << cluster_->Describe(1);
    }
    for (int i = 0; i < kItems; ++i) EXPECT_TRUE(Put(i, "v" + std::to_string(i)).ok()) << i;
    EXPECT_TRUE(Eventually([&] {
      const auto partition = Primary(1).Find(1);
      return partition.ok() && (*partition)->statistics().item_count == kItems &&
             !(*partition)->statistics().estimated;
    })) << (*Primary(1).Find(1))->statistics().item_count;
  }

  std::string split_key_;
  uint64_t child_ = 2;
};

TEST_F(Merge, RecordsSurviveTheirEncoding) {
  AbsorbRecord record;
  record.index = LogIndex(5);
  record.right = PartitionId(6);
  record.freeze = LogIndex(7);
  record.start = "a";
  record.end = "b";
  record.figures.item_count = 8;
  record.held = true;
  const auto decoded = DecodeAbsorbRecord(EncodeRecord(record));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->index, record.index);
  EXPECT_EQ(decoded->right, record.right);
  EXPECT_EQ(decoded->freeze, record.freeze);
  EXPECT_EQ(decoded->start, "a");
  EXPECT_EQ(decoded->end, "b");
  EXPECT_EQ(decoded->figures.item_count, 8u);
  EXPECT_TRUE(decoded->held);
  MergedEntry merged;
  merged.absorb = LogIndex(9);
  merged.after.item_bytes = 10;
  const auto again = MergedEntry::Decode(merged.Encode());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->absorb, LogIndex(9));
  EXPECT_EQ(again->after.item_bytes, 10u);
  EXPECT_FALSE(MergedEntry::Decode("\x07").ok());
  EXPECT_FALSE(DecodeAbsorbRecord("").ok());
}

TEST_F(Merge, MakesOneOfTwo) {
  Open();
  const Status merged = AskMerge();
  ASSERT_TRUE(merged.ok()) << merged.ToString() << cluster_->Describe(1);
  ExpectMerged();
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(Eventually([&] {
      return !std::filesystem::exists(cluster_->node(id).PartitionDirectory(2));
    })) << id;
    EXPECT_TRUE(Eventually([&] {
      for (int i = 0; i < kItems; ++i) {
        const std::string value = cluster_->ReadAt(cluster_->node(id), 1, "p" + std::to_string(i),
                                                   "s", /*consistent=*/false);
        if (value != "v" + std::to_string(i)) return false;
      }
      return true;
    })) << id;
  }
  // Over a restart, and cut at the same place again.
  for (uint64_t id = 1; id <= 3; ++id) cluster_->node(id).Crash();
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(cluster_->node(id).Start().ok());
  ExpectMerged();
  SplitAgain(3);
  const Status again = AskMerge();
  ASSERT_TRUE(again.ok()) << again.ToString();
  ExpectMerged();
}

/// Who asks for the next step may have looked before the merge was done: that step would remove
/// what the partition has got by it.
TEST_F(Merge, IsNotBegunAgainByAStepThatComesLate) {
  Open();
  const Status merged = AskMerge();
  ASSERT_TRUE(merged.ok()) << merged.ToString() << cluster_->Describe(1);
  ExpectMerged();
  const auto left = Primary(1).Find(1);
  ASSERT_TRUE(left.ok());
  const auto ask = [](std::shared_ptr<Partition> partition,
                      AbsorbRecord late) -> boost::asio::awaitable<Status> {
    co_return partition->ProposeAbsorb(std::move(late), Revision(1));
  };
  AbsorbRecord late;
  late.right = PartitionId(2);
  late.freeze = LogIndex(3);
  late.start = split_key_;
  const Status refused = Await(Primary(1).executor(), ask(*left, late));
  EXPECT_EQ(refused.code(), Code::kConditionFailed) << refused.ToString();
  ExpectMerged();
}

TEST_F(Merge, ThatDoesNotComeAboutIsGivenUp) {
  Open();
  BringTogether();
  // No key can be changed: the right one freezes, and nothing comes of it.
  ClusterNode& node = Primary(1);
  node.store().cut = true;
  auto work =
      node.manager().MergePartitions(TableId(1), PartitionId(1), PartitionId(2),
                                     std::chrono::steady_clock::now() + std::chrono::seconds(1));
  EXPECT_FALSE(Await(node.executor(), std::move(work)).ok());
  node.store().cut = false;
  node.Crash();
  // Whoever leads next goes on with both.
  for (int i = 0; i < kItems; ++i) EXPECT_EQ(Get(i), "v" + std::to_string(i)) << i;
  for (int i = 0; i < kItems; ++i) EXPECT_TRUE(Put(i, "v" + std::to_string(i)).ok()) << i;
  ASSERT_TRUE(node.Start().ok());
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
  ASSERT_TRUE(Eventually([&] { return cluster_->Known(1, 2)->configuration.in_sync.size() == 3; }));
  const Status merged = AskMerge(std::chrono::seconds(20));
  ASSERT_TRUE(merged.ok()) << merged.ToString();
  ExpectMerged();
}

TEST_F(Merge, IsRefusedForStrangers) {
  Open();
  cluster_->CreateTable(7, {1, 2, 3});
  ASSERT_TRUE(cluster_->Put(7, "a", "1", "x").ok());
  ClusterNode& node = Primary(1);
  auto work =
      node.manager().MergePartitions(TableId(7), PartitionId(1), PartitionId(7),
                                     std::chrono::steady_clock::now() + std::chrono::seconds(1));
  EXPECT_EQ(Await(node.executor(), std::move(work)).code(), Code::kConditionFailed);
}

TEST_F(Merge, RetriesAreAnsweredFromBothSidesRecords) {
  Open();
  std::vector<std::string> first;
  const auto add = [&](int i) {
    const auto write =
        Node::Make(Kind::kUpdate, Item({{"p", S("p" + std::to_string(i))}, {"s", S("s")}}),
                   "ADD n :v", "", {N(1)});
    write->request.id = {9, static_cast<uint64_t>(i) + 1};
    write->request.want_new = true;
    return write;
  };
  for (int i = 0; i < kItems; ++i) first.push_back(Run(add(i)).new_item);
  const Status merged = AskMerge();
  ASSERT_TRUE(merged.ok()) << merged.ToString();
  for (int i = 0; i < kItems; ++i) EXPECT_EQ(Run(add(i)).new_item, first[static_cast<size_t>(i)]);
}

}  // namespace
}  // namespace onggi::partition
