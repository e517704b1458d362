#include <algorithm>
#include <future>
#include <thread>

#include "server/partition/shape.h"
#include "tests/unit/partition/shape_fixture.h"

namespace onggi::partition {
namespace {

using std::chrono::milliseconds;

class Split : public ShapeTest {
 protected:
  void Open(const std::function<void(proto::Table*)>& shape = {}) {
    OpenTable(shape);
    ASSERT_TRUE(cluster_->Put(1, "a", "0", "x").ok());
  }
  PartitionStatistics Figures(uint64_t partition) {
    ClusterNode& node = Primary(partition);
    auto found = Await(node.executor(), node.manager().FindPartition(PartitionId(partition)));
    return found.ok() ? (*found)->statistics() : PartitionStatistics();
  }
};

TEST_F(Split, RecordsSurviveTheirEncoding) {
  SplitRecord record;
  record.index = LogIndex(7);
  record.key = std::string("k\0ey", 4);
  record.child = PartitionId(9);
  record.child_replicas[{NodeId(1), ReplicaId(2)}] = ReplicaId(3);
  record.left.item_count = 5;
  record.right.item_bytes = 6;
  record.right.estimated = true;
  const auto decoded = DecodeRecord(EncodeRecord(record));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->index, record.index);
  EXPECT_EQ(decoded->key, record.key);
  EXPECT_EQ(decoded->child, record.child);
  EXPECT_EQ(decoded->child_replicas, record.child_replicas);
  EXPECT_EQ(decoded->left.item_count, 5u);
  EXPECT_FALSE(decoded->left.estimated);
  EXPECT_TRUE(decoded->right.estimated);
  EXPECT_FALSE(DecodeRecord("").ok());
  EXPECT_FALSE(SplitRecord::Decode(LogIndex(1), "\x02").ok());
  std::string cut = record.Encode();
  cut.pop_back();
  EXPECT_FALSE(SplitRecord::Decode(LogIndex(1), cut).ok());
}

TEST_F(Split, DividesItemsAndFigures) {
  Open();
  Fill();
  const std::string key = MiddleKey();
  const Status split = AskSplit(key);
  ASSERT_TRUE(split.ok()) << split.ToString() << cluster_->Describe(1);
  EXPECT_EQ(cluster_->Configuration(1).range_end, key);
  EXPECT_EQ(cluster_->Known(1, 2)->configuration.range_start, key);
  EXPECT_EQ(cluster_->Known(1, 2)->configuration.in_sync.size(), 3u);
  ExpectFilled();
  for (int i = 0; i < kItems; i += 3) EXPECT_TRUE(Put(i, "w").ok()) << i;
  for (int i = 0; i < kItems; i += 3) EXPECT_EQ(Get(i), "w") << i;
  // Counted exactly, in time, and nothing twice. (One item more: Open's.)
  EXPECT_TRUE(Eventually([&] {
    return !Figures(1).estimated && !Figures(2).estimated &&
           Figures(1).item_count + Figures(2).item_count == kItems + 1;
  })) << Figures(1).item_count
      << " " << Figures(2).item_count;
  // It was asked again: done already.
  EXPECT_TRUE(AskSplit(key).ok());
  // Backups have both.
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(Eventually([&] {
      return cluster_->ReadAt(cluster_->node(id), 1, "p0", "s", false) == "w" &&
             cluster_->ReadAt(cluster_->node(id), 1, "p1", "s", false) == "v1";
    })) << id;
  }
  // And over a restart of all.
  for (uint64_t id = 1; id <= 3; ++id) cluster_->node(id).Crash();
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(cluster_->node(id).Start().ok());
  for (int i = 0; i < kItems; ++i) {
    EXPECT_EQ(Get(i), i % 3 == 0 ? "w" : "v" + std::to_string(i)) << i;
  }
}

TEST_F(Split, UnderLoadNothingFailsAndNothingIsLost) {
  Open();
  Fill();
  std::atomic<bool> stop{false};
  std::atomic<int> failures{0};
  std::vector<int> last(kItems, -1);
  std::vector<std::thread> writers;
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([&, writer] {
      for (int round = 0; !stop; ++round) {
        for (int i = writer; i < kItems && !stop; i += 4) {
          const RequestId id{uint64_t{50} + static_cast<uint64_t>(writer),
                             static_cast<uint64_t>(round * kItems + i + 1)};
          const Status status = Put(i, std::to_string(round), id);
          if (status.ok()) last[static_cast<size_t>(i)] = round;
          failures += !status.ok();
        }
      }
    });
  }
  std::this_thread::sleep_for(milliseconds(200));
  const Status split = AskSplit(MiddleKey());
  EXPECT_TRUE(split.ok()) << split.ToString();
  std::this_thread::sleep_for(milliseconds(500));
  stop = true;
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(failures, 0);
  for (int i = 0; i < kItems; ++i) {
    if (last[static_cast<size_t>(i)] >= 0) {
      EXPECT_EQ(Get(i), std::to_string(last[static_cast<size_t>(i)])) << i;
    }
  }
}

TEST_F(Split, IsFinishedByTheNextPrimary) {
  Open();
  Fill();
  // The primary can propose and apply, but not cut the key.
  Primary(1).store().cut = true;
  EXPECT_EQ(AskSplit(MiddleKey(), milliseconds(700)).code(), Code::kUnavailable);
  EXPECT_FALSE(cluster_->Known(1, 2).has_value());
  ClusterNode& old = Primary(1);
  old.Crash();
  const Status split = AskSplit(MiddleKey());
  ASSERT_TRUE(split.ok()) << split.ToString() << cluster_->Describe(1);
  ExpectFilled();
  ASSERT_TRUE(old.Start().ok());
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3));
}

/// Applied while the primary may not ask for the cut, as the key is not what it takes it for.
TEST_F(Split, ThatIsAppliedInDoubtIsAskedForAfterIt) {
  Open();
  Fill();
  const std::string key = MiddleKey();
  ClusterNode& node = Primary(1);
  const auto partition = node.Find(1);
  ASSERT_TRUE(partition.ok());
  const auto leading = [&] {
    return OnHome(node, [&] { return (*partition)->replica()->leading(); });
  };
  HeldPool held(&node.blocking());
  SplitRecord record;
  record.key = key;
  record.child = PartitionId(2);
  for (uint64_t id = 1; id <= 3; ++id) {
    record.child_replicas[{NodeId(id), ReplicaId(10 * id)}] = ReplicaId(200 + id);
  }
  const Status asked = OnHome(node, [&] { return (*partition)->ProposeSplit(record); });
  ASSERT_TRUE(asked.ok()) << asked.ToString();
  // Committed, and not applied yet.
  ASSERT_TRUE(Eventually(
      [&] { return OnHome(node, [&] { return (*partition)->replica()->state_lent(); }); }));
  // The key changes, unseen; what the primary asks of it next is refused.
  for (const auto& [id, other] : cluster_->nodes()) other->store().blind = true;
  ASSERT_TRUE(cluster_->Swap(1, [](group::Configuration* configuration) {
    configuration->learners.push_back({NodeId(8), ReplicaId(800)});
  }));
  OnHome(node, [&] {
    (*partition)->replica()->Ask(group::SetReplication{1});
    return true;
  });
  ASSERT_TRUE(Eventually([&] { return !leading(); }));
  const LogIndex before = OnHome(node, [&] { return (*partition)->replica()->applied().index; });
  held.Release();
  ASSERT_TRUE(Eventually([&] {
    return OnHome(node, [&] { return (*partition)->replica()->applied().index; }) > before;
  }));
  ASSERT_FALSE(leading());
  for (const auto& [id, other] : cluster_->nodes()) other->store().blind = false;
  ASSERT_TRUE(Eventually(leading));
  ASSERT_TRUE(Eventually([&] { return cluster_->Known(1, 2).has_value(); }))
      << cluster_->Describe(1);
  EXPECT_EQ(cluster_->Configuration(1).range_end, key);
  ExpectFilled();
}

/// Who has applied a split when the key showed it already leads the next one: what was cut must not
/// pass for what is being cut, or the key's next change would end the refusal of writes past it.
TEST_F(Split, ThatIsAppliedLateSaysNothingOfTheNext) {
  Open();
  Fill();
  ClusterNode& late = cluster_->node(3);
  {
    HeldPool held(&late.blocking());
    const Status split = AskSplit(MiddleKey());
    ASSERT_TRUE(split.ok()) << split.ToString() << cluster_->Describe(1);
    const Revision cut = cluster_->Known(1, 1)->revision;
    const auto partition = late.Find(1);
    ASSERT_TRUE(partition.ok());
    ASSERT_TRUE(Eventually([&] { return (*partition)->configuration()->revision >= cut; }));
    ASSERT_TRUE(OnHome(late, [&] { return (*partition)->replica()->state_lent(); }));
  }
  ASSERT_TRUE(Eventually([&] {
    auto work = Primary(1).manager().TransferPrimary(
        PartitionId(1), {NodeId(3), ReplicaId(30)},
        std::chrono::steady_clock::now() + std::chrono::seconds(2));
    (void)Await(Primary(1).executor(), std::move(work));
    return &Primary(1) == &late;
  }));
  ASSERT_TRUE(Put(0, "v0").ok());
  const auto partition = late.Find(1);
  ASSERT_TRUE(partition.ok());
  ASSERT_TRUE(Eventually([&] { return (*partition)->serving(); }));

  std::vector<std::string> keys;
  for (int i = 0; i < kItems; ++i) keys.push_back(KeyOf(i));
  std::sort(keys.begin(), keys.end());
  SplitRecord record;
  record.key = keys[kItems / 4];
  record.child = PartitionId(3);
  for (const group::Member& member : cluster_->Configuration(1).in_sync) {
    record.child_replicas[member] = ReplicaId(300 + member.node.value);
  }
  HeldPool held(&late.blocking());
  const Status asked = OnHome(late, [&] { return (*partition)->ProposeSplit(record); });
  ASSERT_TRUE(asked.ok()) << asked.ToString();
  ASSERT_TRUE(Eventually(
      [&] { return OnHome(late, [&] { return (*partition)->replica()->state_lent(); }); }));
  ASSERT_TRUE(cluster_->Swap(1, [](group::Configuration* configuration) {
    configuration->learners.push_back({NodeId(8), ReplicaId(800)});
  }));
  const Revision changed = cluster_->Known(1, 1)->revision;
  ASSERT_TRUE(Eventually([&] { return (*partition)->configuration()->revision >= changed; }));
  int past = 0;
  while (KeyOf(past) < record.key || KeyOf(past) >= MiddleKey()) ++past;
  const auto write = Node::Make(
      Kind::kPut, Item({{"p", S("p" + std::to_string(past))}, {"s", S("s")}, {"v", S("w")}}));
  auto written = std::async(std::launch::async, [&] { return late.Write(*partition, write); });
  EXPECT_EQ(written.wait_for(std::chrono::seconds(2)), std::future_status::ready);
  held.Release();
  EXPECT_EQ(written.get().status.code(), Code::kNotPrimary);
  ASSERT_TRUE(Eventually([&] { return cluster_->Known(1, 3).has_value(); }))
      << cluster_->Describe(1);
  EXPECT_EQ(cluster_->Configuration(1).range_end, record.key);
  EXPECT_TRUE(Eventually([&] { return !Figures(1).estimated; }));
  EXPECT_EQ(Figures(1).item_count,
            static_cast<uint64_t>(kItems / 4 + (Node::Key("a", "0") < record.key)));
}

/// RocksDB has been seen to say of a store whose disk had been full that it was copied, when it was
/// in part. A child made of that would have lost what was acknowledged.
TEST_F(Split, AfterAFullDiskTheChildHasWhatWasAcknowledged) {
  // One flush that is held must not hold those of the other nodes.
  rocksdb::Env::Default()->SetBackgroundThreads(4, rocksdb::Env::HIGH);
  Open();
  Fill();
  ClusterNode& node = Primary(1);
  const auto partition = node.Find(1);
  ASSERT_TRUE(partition.ok());
  node.table_disk->full = true;
  ASSERT_FALSE((*partition)->WriteAhead().ok());
  node.table_disk->full = false;
  for (int i = 0; i < kItems; ++i) ASSERT_TRUE(Put(i, "w", {7, static_cast<uint64_t>(i) + 1}).ok());
  node.table_disk->making.Close("/partitions/1/");
  auto split = std::async(std::launch::async, [&] { return AskSplit(MiddleKey()); });
  ASSERT_TRUE(Eventually([&] { return node.table_disk->making.held(); }));
  // Who does not wait for what is held is soon done.
  std::this_thread::sleep_for(milliseconds(500));
  node.table_disk->making.Open();
  const Status done = split.get();
  ASSERT_TRUE(done.ok()) << done.ToString() << cluster_->Describe(1);
  for (int i = 0; i < kItems; ++i) EXPECT_EQ(Get(i), "w") << i;
}

TEST_F(Split, RetriesOfBothSidesAreAnsweredFromTheParentsRecords) {
  Open();
  Fill();
  std::vector<std::string> first;
  for (int i = 0; i < kItems; ++i) first.push_back(AddOnce(i));
  const Status split = AskSplit(MiddleKey());
  ASSERT_TRUE(split.ok()) << split.ToString() << cluster_->Describe(1);
  for (int i = 0; i < kItems; ++i) EXPECT_EQ(AddOnce(i), first[static_cast<size_t>(i)]) << i;
}

TEST_F(Split, IsRefusedWhereItCannotBe) {
  Open([](proto::Table* table) { AddLocalIndex(table, "i", "v", "S", "ALL"); });
  Fill();
  EXPECT_EQ(AskSplit("").code(), Code::kInvalidArgument);
  // With a local index, not inside a collection.
  EXPECT_EQ(AskSplit(MiddleKey()).code(), Code::kInvalidArgument);
  std::string prefix;
  const std::string value = S("p7").Encode();
  model::AppendCollectionPrefix(model::ValueView(value), &prefix);
  const Status split = AskSplit(prefix);
  EXPECT_TRUE(split.ok()) << split.ToString();
  EXPECT_TRUE(Eventually([&] {
    return !Figures(1).estimated && !Figures(2).estimated &&
           Figures(1).local_indexes[0].entry_count + Figures(2).local_indexes[0].entry_count ==
               kItems + 1;
  }));
  // A key of the child is not the parent's to cut.
  EXPECT_EQ(AskSplit(prefix + "z").code(), Code::kInvalidArgument);
}

TEST_F(Split, AReplicaThatWasAwayComesBackToBoth) {
  Open();
  Fill();
  cluster_->node(3).Crash();
  ASSERT_TRUE(cluster_->AwaitInSync(1, 2));
  const Status split = AskSplit(MiddleKey());
  ASSERT_TRUE(split.ok()) << split.ToString();
  EXPECT_EQ(cluster_->Known(1, 2)->configuration.in_sync.size(), 2u);
  ASSERT_TRUE(cluster_->node(3).Start().ok());
  EXPECT_TRUE(cluster_->AwaitInSync(1, 3)) << cluster_->Describe(1);
  ExpectFilled();
}

}  // namespace
}  // namespace onggi::partition
