#include "server/storage/partition_store.h"

#include <gtest/gtest.h>
#include <rocksdb/env.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <thread>

#include "common/check.h"
#include "tests/unit/storage/fault_table_disk.h"

namespace onggi::storage {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

class PartitionStoreTest : public ::testing::Test {
 protected:
  PartitionStoreTest() {
    std::string pattern = (fs::temp_directory_path() / "onggi-XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    disk_ = std::make_shared<FaultTableDisk>();
    env_ = rocksdb::NewCompositeEnv(disk_);
    StorageOptions options;
    options.memory_bytes = size_t{64} << 20;
    options.env = env_.get();
    environment_ = std::make_unique<StorageEnvironment>(options);
    Open();
  }
  ~PartitionStoreTest() override {
    disk_->making.Open();
    store_.reset();
    environment_.reset();
    fs::remove_all(root_);
  }

  void Open() {
    store_.reset();
    auto opened = PartitionStore::Open(*environment_, root_ + "/store", /*create=*/true, {});
    CHECK_MSG(opened.ok(), opened.status().ToString());
    store_ = *std::move(opened);
  }
  Status Put(const std::string& key) {
    rocksdb::WriteBatch batch;
    batch.Put(key, "value");
    return store_->Apply(&batch);
  }
  bool Persisted(const std::string& key) {
    std::string value;
    const auto found = store_->GetPersisted(key, &value);
    return found.ok() && *found;
  }
  template <class F>
  bool Eventually(F condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return true;
  }
  /// A flush meets a full disk; then there is space again.
  void FillAndEmptyTheDisk() {
    ASSERT_TRUE(Put("before").ok());
    disk_->full = true;
    ASSERT_EQ(store_->Flush(/*wait=*/true).code(), Code::kOutOfSpace);
    ASSERT_TRUE(store_->failed());
    ASSERT_FALSE(Put("refused").ok());
    disk_->full = false;
    ASSERT_TRUE(Eventually([&] { return store_->Resume().ok(); }));
    ASSERT_FALSE(store_->failed());
    ASSERT_TRUE(Persisted("before"));
    ASSERT_TRUE(Put("after").ok());
  }

  std::string root_;
  std::shared_ptr<FaultTableDisk> disk_;
  std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<StorageEnvironment> environment_;
  std::unique_ptr<PartitionStore> store_;
};

TEST_F(PartitionStoreTest, AFlushIsDoneWhenItSaysSo) {
  ASSERT_TRUE(store_->Flush(/*wait=*/true).ok());  // of nothing
  ASSERT_TRUE(Put("a").ok());
  EXPECT_FALSE(Persisted("a"));
  ASSERT_TRUE(store_->Flush(/*wait=*/true).ok());
  EXPECT_TRUE(Persisted("a"));
  ASSERT_TRUE(store_->RemoveRange("a", "a").ok());  // counted, and nothing to be written
  ASSERT_TRUE(store_->Flush(/*wait=*/true).ok());
  Open();
  EXPECT_TRUE(Persisted("a"));
  ASSERT_TRUE(store_->Flush(/*wait=*/true).ok());
}

TEST_F(PartitionStoreTest, AFlushIsDoneWhenItSaysSoAfterTheDiskWasFull) {
  FillAndEmptyTheDisk();
  disk_->making.Close("/store/");
  auto flushed = std::async(std::launch::async, [&] { return store_->Flush(/*wait=*/true); });
  ASSERT_TRUE(Eventually([&] { return disk_->making.held(); }));
  EXPECT_EQ(flushed.wait_for(milliseconds(300)), std::future_status::timeout);
  EXPECT_FALSE(Persisted("after"));
  disk_->making.Open();
  const Status done = flushed.get();
  ASSERT_TRUE(done.ok()) << done.ToString();
  EXPECT_TRUE(Persisted("after"));
}

TEST_F(PartitionStoreTest, ACopyHasEverythingAfterTheDiskWasFull) {
  FillAndEmptyTheDisk();
  disk_->making.Close("/store/");
  auto copied =
      std::async(std::launch::async, [&] { return store_->MakeCheckpoint(root_ + "/copy"); });
  ASSERT_TRUE(Eventually([&] { return disk_->making.held(); }));
  EXPECT_EQ(copied.wait_for(milliseconds(300)), std::future_status::timeout);
  disk_->making.Open();
  const Status done = copied.get();
  ASSERT_TRUE(done.ok()) << done.ToString();
  const auto value = PartitionStore::ReadKey(*environment_, root_ + "/copy", "after");
  EXPECT_TRUE(value.ok()) << value.status().ToString();
}

TEST_F(PartitionStoreTest, AFlushThatFailsAgainSaysSo) {
  FillAndEmptyTheDisk();
  disk_->full = true;
  EXPECT_EQ(store_->Flush(/*wait=*/true).code(), Code::kOutOfSpace);
  EXPECT_FALSE(Persisted("after"));
  disk_->full = false;
  ASSERT_TRUE(Eventually([&] { return store_->Resume().ok(); }));
  ASSERT_TRUE(store_->Flush(/*wait=*/true).ok());
  EXPECT_TRUE(Persisted("after"));
}

/// Of which RocksDB itself makes one that never ends, when a flush was due as another failed.
TEST_F(PartitionStoreTest, WhatWaitsForAStoreEndsWhenItIsInterrupted) {
  ASSERT_TRUE(Put("before").ok());
  disk_->full = true;
  ASSERT_EQ(store_->Flush(/*wait=*/true).code(), Code::kOutOfSpace);
  disk_->full = false;
  disk_->making.Close("/store/");
  EXPECT_FALSE(store_->ResumeHangs(milliseconds(0)));
  auto resumed = std::async(std::launch::async, [&] { return store_->Resume(); });
  ASSERT_TRUE(Eventually([&] { return disk_->making.held(); }));
  EXPECT_TRUE(Eventually([&] { return store_->ResumeHangs(milliseconds(20)); }));
  EXPECT_FALSE(store_->ResumeHangs(std::chrono::hours(1)));
  EXPECT_EQ(store_->Resume().code(), Code::kUnavailable) << "one at a time";
  EXPECT_EQ(resumed.wait_for(milliseconds(100)), std::future_status::timeout);
  store_->Interrupt();
  EXPECT_EQ(resumed.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  disk_->making.Open();
  EXPECT_FALSE(resumed.get().ok());
  EXPECT_FALSE(store_->Flush(/*wait=*/true).ok());
  // Opened again, it is as good as new.
  Open();
  ASSERT_TRUE(Put("after").ok());
  ASSERT_TRUE(store_->Flush(/*wait=*/true).ok());
  EXPECT_TRUE(Persisted("after"));
}

TEST_F(PartitionStoreTest, AFlushEndsWhenItsStoreIsInterrupted) {
  FillAndEmptyTheDisk();
  disk_->making.Close("/store/");
  auto flushed = std::async(std::launch::async, [&] { return store_->Flush(/*wait=*/true); });
  ASSERT_TRUE(Eventually([&] { return disk_->making.held(); }));
  store_->Interrupt();
  EXPECT_EQ(flushed.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  disk_->making.Open();
  EXPECT_FALSE(flushed.get().ok());
}

}  // namespace
}  // namespace onggi::storage
