#include "server/routing/route_map.h"

#include <gmock/gmock.h>

#include <future>

#include "common/runtime.h"
#include "replication/metadata/embedded_store.h"
#include "replication/metadata/keys.h"
#include "tests/unit/partition/node_fixture.h"

namespace onggi::routing {
namespace {

using partition::Eventually;

class RouteMapTest : public testing::Test {
 protected:
  void SetUp() override {
    store_ = metadata::EmbeddedStore::Open(metadata::EmbeddedOptions(directory_.path())).value();
    map_ = std::make_unique<RouteMap>(*store_, io_.executor(0));
    ASSERT_TRUE(map_->Start().ok());
  }
  void TearDown() override {
    if (map_ != nullptr) map_->Stop();
    store_->Close();
    io_.Stop();
  }

  static proto::PartitionConfig Config(uint64_t partition, const std::string& start,
                                       const std::string& end, uint64_t node = 1) {
    proto::PartitionConfig config;
    config.set_table(1);
    config.set_partition(partition);
    config.set_range_start(start);
    config.set_range_end(end);
    config.mutable_primary()->set_node(node);
    *config.add_in_sync() = config.primary();
    return config;
  }
  static std::string KeyOf(uint64_t partition) {
    return metadata::keys::Partition(TableId(1), PartitionId(partition));
  }
  /// Returns once the map has seen it.
  Revision Commit(const std::vector<proto::PartitionConfig>& puts,
                  const std::vector<uint64_t>& deletes = {}) {
    metadata::Transaction transaction;
    for (const auto& config : puts) {
      transaction.puts.push_back({KeyOf(config.partition()), config.SerializeAsString()});
    }
    for (const uint64_t partition : deletes) transaction.deletes.push_back(KeyOf(partition));
    // A second key, outside the prefix, would not be seen: the partition 999 marks the end.
    std::promise<Revision> promise;
    store_->AsyncCommit(std::move(transaction),
                        [&](auto result) { promise.set_value(result.value().revision); });
    const Revision revision = promise.get_future().get();
    EXPECT_TRUE(Eventually([&] {
      for (const auto& config : puts) {
        const auto route = map_->FindPartition(TableId(1), PartitionId(config.partition()));
        if (route == nullptr || route->revision < revision) return false;
      }
      for (const uint64_t partition : deletes) {
        if (map_->FindPartition(TableId(1), PartitionId(partition)) != nullptr) return false;
      }
      return true;
    }));
    return revision;
  }
  uint64_t At(const std::string& key) {
    const auto route = map_->Find(TableId(1), key);
    return route == nullptr ? 0 : route->partition().value;
  }
  uint64_t Below(const std::string& key) {
    const auto route = map_->FindBelow(TableId(1), key);
    return route == nullptr ? 0 : route->partition().value;
  }

  partition::TempDir directory_;
  IoPool io_{1};
  std::unique_ptr<metadata::EmbeddedStore> store_;
  std::unique_ptr<RouteMap> map_;
};

TEST_F(RouteMapTest, FindsByKeyAndFromAbove) {
  EXPECT_EQ(At("a"), 0u);
  Commit({Config(1, "", "h"), Config(2, "h", "p"), Config(3, "p", "")});
  EXPECT_EQ(At(""), 1u);
  EXPECT_EQ(At("g"), 1u);
  EXPECT_EQ(At("h"), 2u);
  EXPECT_EQ(At("z"), 3u);
  EXPECT_EQ(Below(""), 3u);
  EXPECT_EQ(Below("p"), 2u);
  EXPECT_EQ(Below("pa"), 3u);
  EXPECT_EQ(Below("h"), 1u);
  EXPECT_EQ(map_->RoutesOf(TableId(1)).size(), 3u);
  EXPECT_EQ(map_->size(), 3u);
}

TEST_F(RouteMapTest, FollowsSplitsMergesAndDrops) {
  Commit({Config(1, "", "")});
  Commit({Config(1, "", "m"), Config(2, "m", "")});
  EXPECT_EQ(At("a"), 1u);
  EXPECT_EQ(At("x"), 2u);
  Commit({Config(1, "", "")}, {2});
  EXPECT_EQ(At("x"), 1u);
  EXPECT_EQ(map_->size(), 1u);
  Commit({}, {1});
  EXPECT_EQ(At("x"), 0u);
}

TEST_F(RouteMapTest, LearnsAheadOfTheWatchAndNotFromBehind) {
  const Revision now = Commit({Config(1, "", "", 1)});
  EXPECT_FALSE(map_->Learn(Config(1, "", "", 2), now));  // known
  EXPECT_FALSE(map_->Learn(Config(9, "", "", 2), Revision(now.value - 1)));
  EXPECT_EQ(map_->Find(TableId(1), "x")->primary(), NodeId(1));
  EXPECT_TRUE(map_->Learn(Config(1, "", "", 2), Revision(now.value + 5)));
  EXPECT_EQ(map_->Find(TableId(1), "x")->primary(), NodeId(2));
  EXPECT_FALSE(map_->Learn(Config(1, "", "", 3), Revision(now.value + 4)));
  EXPECT_EQ(map_->Find(TableId(1), "x")->primary(), NodeId(2));
}

TEST_F(RouteMapTest, LearnsHalfOfASplit) {
  const Revision now = Commit({Config(1, "", "")});
  // The child first: the rest still goes to the parent.
  EXPECT_TRUE(map_->Learn(Config(2, "m", ""), Revision(now.value + 1)));
  EXPECT_EQ(At("a"), 1u);
  EXPECT_EQ(At("x"), 2u);
  EXPECT_TRUE(map_->Learn(Config(1, "", "m"), Revision(now.value + 1)));
  EXPECT_EQ(At("x"), 2u);
  // A merge: the right one is gone though nobody has said so.
  EXPECT_TRUE(map_->Learn(Config(1, "", ""), Revision(now.value + 2)));
  EXPECT_EQ(At("x"), 1u);
  EXPECT_EQ(map_->size(), 1u);
}

TEST_F(RouteMapTest, AParentAloneLeavesAGap) {
  const Revision now = Commit({Config(1, "", "")});
  EXPECT_TRUE(map_->Learn(Config(1, "", "m"), Revision(now.value + 1)));
  EXPECT_EQ(At("a"), 1u);
  EXPECT_EQ(At("x"), 0u);
  EXPECT_EQ(Below(""), 0u);
}

TEST_F(RouteMapTest, TellsItsListener) {
  map_->Stop();
  map_ = std::make_unique<RouteMap>(*store_, io_.executor(0));
  std::atomic<int> heard{0};
  map_->SetListener([&](const RouteMap::RoutePtr&) { ++heard; });
  ASSERT_TRUE(map_->Start().ok());
  const Revision now = Commit({Config(1, "", "")});
  // The map shows it before the listener is told.
  EXPECT_TRUE(Eventually([&] { return heard == 1; }));
  map_->Learn(Config(1, "", "", 2), Revision(now.value + 1));
  EXPECT_EQ(heard, 2);
}

}  // namespace
}  // namespace onggi::routing
