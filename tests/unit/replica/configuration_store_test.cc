#include "replication/replica/configuration_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>

namespace onggi::replica {
namespace {

class ConfigurationStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "onggi-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::unique_ptr<DiskConfigurationStore> Open() {
    auto opened = DiskConfigurationStore::Open(directory_ + "/configurations");
    CHECK_MSG(opened.ok(), opened.status().ToString());
    return *std::move(opened);
  }
  static Status Put(DiskConfigurationStore& store, uint64_t partition, uint64_t epoch,
                    uint64_t revision) {
    group::Configuration configuration;
    configuration.epoch = Epoch(epoch);
    configuration.primary = {NodeId(1), ReplicaId(2)};
    configuration.in_sync = {configuration.primary, {NodeId(3), ReplicaId(4)}};
    configuration.range_start = std::string("a\0b", 3);
    std::promise<Status> done;
    store.AsyncPut(PartitionId(partition), configuration, Revision(revision),
                   [&](const Status& status) { done.set_value(status); });
    return done.get_future().get();
  }
  std::string directory_;
};

TEST_F(ConfigurationStoreTest, KeepsTheNewestOverRestarts) {
  auto store = Open();
  EXPECT_FALSE(store->Find(PartitionId(1)).has_value());
  ASSERT_TRUE(Put(*store, 1, 5, 50).ok());
  ASSERT_TRUE(Put(*store, 2, 6, 60).ok());
  ASSERT_TRUE(Put(*store, 1, 7, 70).ok());
  store.reset();
  store = Open();
  const auto known = store->Find(PartitionId(1));
  ASSERT_TRUE(known.has_value());
  EXPECT_EQ(known->revision, Revision(70));
  EXPECT_EQ(known->configuration.epoch, Epoch(7));
  EXPECT_EQ(known->configuration.in_sync.size(), 2u);
  EXPECT_EQ(known->configuration.range_start, std::string("a\0b", 3));
  EXPECT_EQ(store->Find(PartitionId(2))->revision, Revision(60));
}

TEST_F(ConfigurationStoreTest, ForgetsWhatIsRemoved) {
  auto store = Open();
  ASSERT_TRUE(Put(*store, 1, 5, 50).ok());
  store->AsyncRemove(PartitionId(1));
  EXPECT_FALSE(store->Find(PartitionId(1)).has_value());
  ASSERT_TRUE(Put(*store, 2, 5, 50).ok());  // behind it
  store.reset();
  EXPECT_FALSE(Open()->Find(PartitionId(1)).has_value());
}

TEST_F(ConfigurationStoreTest, AnswersWhatComesAfterItsClose) {
  auto store = Open();
  store->Close();
  EXPECT_FALSE(Put(*store, 1, 5, 50).ok());
}

}  // namespace
}  // namespace onggi::replica
