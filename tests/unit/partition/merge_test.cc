#include "server/partition/shape.h"
#include "tests/unit/partition/shape_fixture.h"

namespace onggi::partition {
namespace {

using std::chrono::milliseconds;

class Merge : public MergeTest {
 protected:
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
    EXPECT_TRUE(Eventually([&] { return HasAll(cluster_->node(id)); })) << id;
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
  late.start = MiddleKey();
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
  ExpectFilled();
  Fill();
  ASSERT_TRUE(node.Start().ok());
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
  ASSERT_TRUE(Eventually([&] { return cluster_->Known(1, 2)->configuration.in_sync.size() == 3; }));
  const Status merged = AskMerge(std::chrono::seconds(20));
  ASSERT_TRUE(merged.ok()) << merged.ToString();
  ExpectMerged();
}

/// Whoever waits for the other replicas waits for news, and does not ask over and over.
TEST_F(Merge, ThatHasToWaitDoesNotPoll) {
  Open();
  BringTogether();
  ClusterNode& node = Primary(1);
  ClusterNode& backup = cluster_->node(node.id() == NodeId(3) ? 2 : 3);
  for (const std::string& key : {std::string(), MiddleKey()}) {
    ASSERT_TRUE(backup.Find(1, key).ok());
  }
  HeldPool held(&backup.blocking());  // it cannot freeze its replica
  const size_t before = node.store().ranges;
  auto work =
      node.manager().MergePartitions(TableId(1), PartitionId(1), PartitionId(2),
                                     std::chrono::steady_clock::now() + std::chrono::seconds(1));
  EXPECT_EQ(Await(node.executor(), std::move(work)).code(), Code::kUnavailable);
  const size_t asked = node.store().ranges - before;
  EXPECT_GT(asked, 1u);
  EXPECT_LT(asked, 50u);
  held.Release();
  const Status merged = AskMerge();
  ASSERT_TRUE(merged.ok()) << merged.ToString() << cluster_->Describe(1);
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

/// It is copied while nobody can write.
TEST_F(Merge, OfWhatIsTooLargeIsRefusedAndNothingIsFrozen) {
  Open();
  for (uint64_t id = 1; id <= 3; ++id) {
    cluster_->node(id).Crash();
    cluster_->node(id).merge_copy_limit_bytes = 5'000;
  }
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(cluster_->node(id).Start().ok());
  const Status refused = AskMerge();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument) << refused.ToString();
  EXPECT_THAT(refused.message(), testing::HasSubstr("is too large to be merged"));
  EXPECT_EQ((*Primary(2).Find(1, MiddleKey()))->frozen_at(), LogIndex());
  ASSERT_TRUE(Put(0, "v0").ok());
  ExpectFilled();
  // As they say themselves, so that nobody asks for it.
  const auto statuses = Primary(2).manager().GetReplicas(TableId(1), PartitionId(2));
  ASSERT_EQ(statuses.size(), 1u);
  EXPECT_GT(statuses[0].merge_copy_bytes(), 30u * 256);
  EXPECT_LT(statuses[0].merge_copy_bytes(), 30u * 512);
}

TEST_F(Merge, RetriesAreAnsweredFromBothSidesRecords) {
  Open();
  std::vector<std::string> first;
  for (int i = 0; i < kItems; ++i) first.push_back(AddOnce(i));
  const Status merged = AskMerge();
  ASSERT_TRUE(merged.ok()) << merged.ToString();
  for (int i = 0; i < kItems; ++i) EXPECT_EQ(AddOnce(i), first[static_cast<size_t>(i)]) << i;
}

}  // namespace
}  // namespace onggi::partition
