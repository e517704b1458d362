#include "server/partition/shape.h"
#include "tests/unit/partition/shape_fixture.h"

/// What happens on a backup at the moments of a merge at which it matters. The steps are driven one
/// by one, and held where the next thing is to come in between.
namespace onggi::partition {
namespace {

class MergeOrder : public MergeTest {
 protected:
  static constexpr uint64_t kBackup = 3;

  void TearDown() override {
    reading().Open();
    making().Open();
    MergeTest::TearDown();
  }

  void OpenTogether() {
    Open();
    // Node 1 leads both.
    ASSERT_EQ(cluster_->Configuration(1).primary.node, NodeId(1));
    ASSERT_TRUE(Eventually([&] {
      BringTogether();
      return cluster_->Known(1, child_)->configuration.primary.node == NodeId(1);
    }));
    for (uint64_t id = 1; id <= 3; ++id) {
      for (const std::string& key : {std::string(), MiddleKey()}) {
        ASSERT_TRUE(cluster_->node(id).Find(1, key).ok());
      }
    }
  }

  std::shared_ptr<Partition> At(uint64_t node, const std::string& key) {
    auto found = cluster_->node(node).Find(1, key);
    CHECK_MSG(found.ok(), found.status().ToString());
    return *found;
  }
  std::shared_ptr<Partition> Left(uint64_t node) { return At(node, ""); }
  std::shared_ptr<Partition> Right(uint64_t node) { return At(node, MiddleKey()); }

  /// R14's first step: the right one is frozen everywhere.
  void Freeze() {
    const auto right = Right(1);
    ASSERT_TRUE(OnHome(cluster_->node(1), [&] { return right->ProposeFreeze(); }).ok());
    ASSERT_TRUE(Eventually([&] {
      grant_ = OnHome(cluster_->node(1), [&] { return right->grant(); });
      return grant_.second != Revision();
    }));
    for (uint64_t id = 1; id <= 3; ++id) {
      const auto replica = Right(id);
      ASSERT_TRUE(Eventually([&] { return replica->frozen_at() == grant_.first; })) << id;
    }
  }
  /// The second: the left one is to put the right one's data aside.
  void Absorb() {
    const auto left = Left(1), right = Right(1);
    AbsorbRecord record;
    record.right = PartitionId(child_);
    record.freeze = grant_.first;
    record.start = MiddleKey();
    record.figures = right->statistics();
    const Status asked =
        OnHome(cluster_->node(1), [&] { return left->ProposeAbsorb(record, grant_.second); });
    ASSERT_TRUE(asked.ok()) << asked.ToString();
  }
  void AwaitMerge() {
    ASSERT_TRUE(Eventually([&] { return !cluster_->Known(1, child_).has_value(); }))
        << cluster_->Describe(1);
    ExpectMerged();
  }

  /// Changes the key of partition 1 and returns once the backup's home has been told, or is being
  /// told: a learner on a node that does not exist.
  void ChangeConfiguration(const std::function<bool()>& being_told = [] { return false; }) {
    const auto left = Left(kBackup);
    ASSERT_TRUE(cluster_->Swap(1, [&](group::Configuration* configuration) {
      configuration->learners.push_back({NodeId(8), ReplicaId(800)});
    }));
    const Revision changed = cluster_->Known(1, 1)->revision;
    ASSERT_TRUE(
        Eventually([&] { return being_told() || left->configuration()->revision >= changed; }));
    auto passed = std::make_shared<std::promise<void>>();
    auto future = passed->get_future();
    boost::asio::post(cluster_->node(kBackup).executor(), [passed] { passed->set_value(); });
    ASSERT_TRUE(Eventually([&] {
      return being_told() || future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    }));
  }

  /// What a split has given away and a full disk has kept from being removed: lies behind the
  /// range, in a table file, and says nothing.
  void LeaveBehind() {
    const auto left = Left(kBackup);
    EffectWriter effects;
    for (int i = 0; i < 8; ++i) {
      effects.Put(kItemSpace, MiddleKey() + std::to_string(i),
                  Item({{"v", S(std::string(10'000, 'x'))}}));
    }
    const std::string payload = effects.Finish(left->statistics());
    const Status applied = OnHome(cluster_->node(kBackup), [&] {
      replica::CommittedEntry entry;
      entry.position = left->replica()->applied();
      entry.type = static_cast<uint8_t>(EntryType::kWrites);
      entry.payload = payload;
      return static_cast<replica::StateMachine&>(*left).Apply(std::span(&entry, 1));
    });
    ASSERT_TRUE(applied.ok()) << applied.ToString();
    ASSERT_TRUE(left->WriteAhead().ok());
  }

  void AwaitLent(const std::shared_ptr<Partition>& partition) {
    ASSERT_TRUE(Eventually([&] {
      return OnHome(cluster_->node(kBackup), [&] { return partition->replica()->state_lent(); });
    }));
  }
  Gate& reading() { return cluster_->node(kBackup).table_disk->reading; }
  Gate& making() { return cluster_->node(kBackup).table_disk->making; }

  std::pair<LogIndex, Revision> grant_;
};

TEST_F(MergeOrder, AConfigurationThatComesWhileTheNeighbourIsCopiedTakesNothingOfIt) {
  OpenTogether();
  Freeze();
  making().Close("/partitions/1/");  // the copy is there, and is being made durable
  Absorb();
  ASSERT_TRUE(Eventually([&] { return making().held(); }));
  ChangeConfiguration();
  making().Open();
  AwaitMerge();
  EXPECT_TRUE(Eventually([&] { return HasAll(cluster_->node(kBackup)); }));
}

/// A removal that has looked before the copy, and would remove after it.
TEST_F(MergeOrder, NoRemovalIsUnderWayWhenTheCopyBegins) {
  OpenTogether();
  Freeze();
  LeaveBehind();
  HeldPool held(&cluster_->node(kBackup).blocking());
  Absorb();
  AwaitLent(Left(kBackup));  // the copy is asked for, and has not begun
  cluster_->node(kBackup).DropCache();
  reading().Close("/partitions/1/");
  ChangeConfiguration([&] { return reading().held(); });
  if (!reading().held()) reading().Open();
  held.Release();
  cluster_->node(kBackup).blocking().WaitIdle();  // copied
  reading().Open();
  AwaitMerge();
  EXPECT_TRUE(Eventually([&] { return HasAll(cluster_->node(kBackup)); }));
}

/// What could not be removed when the configuration came is, when the state is the home's again.
TEST_F(MergeOrder, ARemovalThatWasPutOffIsMadeUpFor) {
  OpenTogether();
  LeaveBehind();
  HeldPool held(&cluster_->node(kBackup).blocking());
  ASSERT_TRUE(
      OnHome(cluster_->node(1), [&, left = Left(1)] { return left->ProposeFreeze(); }).ok());
  AwaitLent(Left(kBackup));
  ChangeConfiguration();
  held.Release();
  ASSERT_TRUE(Eventually([&] { return Left(kBackup)->frozen_at() != LogIndex(); }));
  ClusterNode& node = cluster_->node(kBackup);
  node.Stop();
  const storage::StorageEnvironment storage{storage::StorageOptions()};
  const auto store = storage::PartitionStore::Open(storage, node.PartitionDirectory(1) + "/store",
                                                   /*create=*/false, {});
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  const std::string end(1, kItemSpace + 1);
  EXPECT_TRUE((*store)->NewIterator(std::string(1, kItemSpace), end, false, false)->Valid());
  EXPECT_FALSE((*store)->NewIterator(kItemSpace + MiddleKey(), end, false, false)->Valid());
}

}  // namespace
}  // namespace onggi::partition
