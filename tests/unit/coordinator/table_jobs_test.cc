#include "coordinator/table_jobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <filesystem>
#include <future>
#include <mutex>

#include "common/runtime.h"
#include "replication/metadata/embedded_store.h"
#include "replication/metadata/keys.h"

namespace onggi::coordinator {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace keys = metadata::keys;

/// The embedded store, behind a veil that can lose requests and run something before a commit.
class TestStore : public metadata::MetadataStore {
 public:
  explicit TestStore(metadata::MetadataStore* base) : base_(base) {}

  std::atomic<bool> unavailable{false};
  std::atomic<int> commits{0};
  /// Called once, with the next transaction that has puts or deletes, before it is passed on.
  void BeforeNextCommit(std::function<void()> act) {
    std::lock_guard lock(mutex_);
    before_ = std::move(act);
  }

  void AsyncRange(std::string start, std::string end, size_t limit,
                  RangeCallback callback) override {
    base_->AsyncRange(std::move(start), std::move(end), limit, std::move(callback));
  }
  void AsyncCommit(metadata::Transaction transaction, TransactionCallback callback) override {
    ++commits;
    std::function<void()> act;
    {
      std::lock_guard lock(mutex_);
      act = std::exchange(before_, nullptr);
    }
    if (act) act();
    if (unavailable) {
      base_->AsyncRange("", "", 1, [callback](auto) { callback(Unavailable("injected")); });
      return;
    }
    base_->AsyncCommit(std::move(transaction), std::move(callback));
  }
  std::unique_ptr<metadata::WatchHandle> Watch(std::string prefix, Revision from,
                                               asio::any_io_executor executor,
                                               WatchCallback callback) override {
    return base_->Watch(std::move(prefix), from, std::move(executor), std::move(callback));
  }
  void AsyncGrantLease(std::chrono::seconds ttl, asio::any_io_executor executor,
                       std::function<void()> lost, LeaseCallback callback) override {
    base_->AsyncGrantLease(ttl, std::move(executor), std::move(lost), std::move(callback));
  }
  void AsyncRevokeLease(metadata::LeaseId lease, StatusCallback callback) override {
    base_->AsyncRevokeLease(lease, std::move(callback));
  }

 private:
  metadata::MetadataStore* const base_;
  std::mutex mutex_;
  std::function<void()> before_;  // guarded by mutex_
};

class TableJobsTest : public ::testing::Test {
 protected:
  TableJobsTest() {
    std::string pattern = (fs::temp_directory_path() / "onggi-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    auto opened =
        metadata::EmbeddedStore::Open(metadata::EmbeddedOptions(directory_ + "/metadata"));
    CHECK_MSG(opened.ok(), opened.status().ToString());
    base_ = *std::move(opened);
    store_ = std::make_unique<TestStore>(base_.get());
    io_ = std::make_unique<IoPool>(1);
  }
  ~TableJobsTest() override {
    StopJobs();
    base_->Close();
    io_->Stop();
    base_.reset();
    fs::remove_all(directory_);
  }

  void StartJobs() {
    jobs_ = std::make_unique<TableJobs>(*store_, NodeId(3), io_->executor(0));
    std::promise<Status> started;
    auto done = [&](std::exception_ptr error, Status status) {
      CHECK(!error);
      started.set_value(std::move(status));
    };
    asio::co_spawn(io_->executor(0), jobs_->Start(), std::move(done));
    const Status status = started.get_future().get();
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  void StopJobs() {
    if (jobs_ != nullptr) jobs_->Stop();
    jobs_.reset();
  }

  metadata::TransactionResult Commit(metadata::Transaction transaction) {
    std::promise<metadata::TransactionResult> done;
    base_->AsyncCommit(std::move(transaction), [&](auto result) {
      CHECK_MSG(result.ok(), result.status().ToString());
      done.set_value(*result);
    });
    return done.get_future().get();
  }
  metadata::RangeResult Range(std::string_view prefix) {
    std::promise<metadata::RangeResult> done;
    base_->AsyncRange(std::string(prefix), metadata::PrefixEnd(prefix), 0, [&](auto result) {
      CHECK(result.ok());
      done.set_value(*result);
    });
    return done.get_future().get();
  }
  static proto::Table Record(uint64_t id, proto::TableStatus status) {
    proto::Table table;
    table.set_id(id);
    table.set_account("default");
    table.set_name("t" + std::to_string(id));
    table.set_status(status);
    return table;
  }
  Revision Put(const proto::Table& table) {
    metadata::Transaction transaction;
    transaction.puts.push_back({keys::Table(TableId(table.id())), table.SerializeAsString()});
    transaction.puts.push_back(
        {keys::Name(table.account(), table.name()), keys::FormatId(table.id())});
    return Commit(std::move(transaction)).revision;
  }
  std::optional<proto::Table> Get(uint64_t id, Revision* revision = nullptr) {
    const auto result = Range(keys::Table(TableId(id)));
    if (result.kvs.empty()) return std::nullopt;
    proto::Table table;
    CHECK(table.ParseFromString(result.kvs[0].value));
    if (revision != nullptr) *revision = result.kvs[0].mod_revision;
    return table;
  }
  bool WaitForStatus(uint64_t id, proto::TableStatus status) {
    return Eventually([&] {
      const auto table = Get(id);
      return table.has_value() && table->status() == status;
    });
  }
  template <class F>
  static bool Eventually(F condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  std::string directory_;
  std::unique_ptr<metadata::EmbeddedStore> base_;
  std::unique_ptr<TestStore> store_;
  std::unique_ptr<IoPool> io_;
  std::unique_ptr<TableJobs> jobs_;
};

TEST_F(TableJobsTest, CreatingTableBecomesActiveTogetherWithItsPartition) {
  StartJobs();
  Put(Record(5, proto::TABLE_STATUS_CREATING));
  ASSERT_TRUE(WaitForStatus(5, proto::TABLE_STATUS_ACTIVE));
  Revision active;
  Get(5, &active);
  const auto partitions = Range(keys::PartitionsOf(TableId(5)));
  ASSERT_EQ(partitions.kvs.size(), 1u);
  EXPECT_EQ(partitions.kvs[0].mod_revision, active);  // one transaction
  proto::PartitionConfig config;
  ASSERT_TRUE(config.ParseFromString(partitions.kvs[0].value));
  EXPECT_EQ(partitions.kvs[0].key, keys::Partition(TableId(5), PartitionId(config.partition())));
  EXPECT_EQ(config.table(), 5u);
  EXPECT_EQ(config.epoch(), 1u);
  EXPECT_EQ(config.boot(), 0u);  // nobody has led it: its replica may be made empty
  EXPECT_EQ(config.primary().node(), 3u);
  ASSERT_EQ(config.in_sync_size(), 1);
  EXPECT_EQ(config.in_sync(0).replica(), config.primary().replica());
  EXPECT_EQ(config.replication(), 1u);
  EXPECT_EQ(config.min_in_sync(), 1u);
  EXPECT_EQ(config.range_start(), "");
  EXPECT_EQ(config.range_end(), "");
}

TEST_F(TableJobsTest, IdsAreNeverGivenTwice) {
  StartJobs();
  for (uint64_t id = 1; id <= 20; ++id) Put(Record(id, proto::TABLE_STATUS_CREATING));
  std::set<uint64_t> partitions, replicas;
  for (uint64_t id = 1; id <= 20; ++id) ASSERT_TRUE(WaitForStatus(id, proto::TABLE_STATUS_ACTIVE));
  for (const auto& kv : Range(keys::kPartitionPrefix).kvs) {
    proto::PartitionConfig config;
    ASSERT_TRUE(config.ParseFromString(kv.value));
    partitions.insert(config.partition());
    replicas.insert(config.primary().replica());
  }
  EXPECT_EQ(partitions.size(), 20u);
  EXPECT_EQ(replicas.size(), 20u);
  // A dropped table's number is not used again.
  const uint64_t highest = *partitions.rbegin();
  proto::Table dropped = *Get(20);
  dropped.set_status(proto::TABLE_STATUS_DELETING);
  Put(dropped);
  ASSERT_TRUE(Eventually([&] { return !Get(20).has_value(); }));
  Put(Record(21, proto::TABLE_STATUS_CREATING));
  ASSERT_TRUE(WaitForStatus(21, proto::TABLE_STATUS_ACTIVE));
  const auto made = Range(keys::PartitionsOf(TableId(21)));
  ASSERT_EQ(made.kvs.size(), 1u);
  EXPECT_GT(keys::ParsePartition(made.kvs[0].key)->partition.value, highest);
}

TEST_F(TableJobsTest, UnfinishedJobsAreResumedAtStart) {
  Put(Record(1, proto::TABLE_STATUS_CREATING));
  Put(Record(2, proto::TABLE_STATUS_DELETING));
  Put(Record(3, proto::TABLE_STATUS_UPDATING));
  Put(Record(4, proto::TABLE_STATUS_ACTIVE));
  const Revision untouched = Range(keys::Table(TableId(4))).kvs[0].mod_revision;
  StartJobs();
  EXPECT_TRUE(WaitForStatus(1, proto::TABLE_STATUS_ACTIVE));
  EXPECT_TRUE(Eventually([&] { return !Get(2).has_value(); }));
  EXPECT_TRUE(WaitForStatus(3, proto::TABLE_STATUS_ACTIVE));
  EXPECT_EQ(Range(keys::Table(TableId(4))).kvs[0].mod_revision, untouched);
  EXPECT_EQ(Range(keys::PartitionsOf(TableId(1))).kvs.size(), 1u);
}

TEST_F(TableJobsTest, StoppedInTheMiddleAnotherFinishes) {
  store_->unavailable = true;
  StartJobs();
  Put(Record(1, proto::TABLE_STATUS_CREATING));
  ASSERT_TRUE(Eventually([&] { return store_->commits > 0; }));
  StopJobs();
  EXPECT_EQ(Get(1)->status(), proto::TABLE_STATUS_CREATING);
  store_->unavailable = false;
  StartJobs();
  EXPECT_TRUE(WaitForStatus(1, proto::TABLE_STATUS_ACTIVE));
  EXPECT_EQ(Range(keys::PartitionsOf(TableId(1))).kvs.size(), 1u);
}

TEST_F(TableJobsTest, UnavailableStoreIsAskedAgain) {
  store_->unavailable = true;
  StartJobs();
  Put(Record(1, proto::TABLE_STATUS_CREATING));
  ASSERT_TRUE(Eventually([&] { return store_->commits >= 2; }));
  store_->unavailable = false;
  EXPECT_TRUE(WaitForStatus(1, proto::TABLE_STATUS_ACTIVE));
}

TEST_F(TableJobsTest, TwoAtOnceDoNoHarm) {
  StartJobs();
  TableJobs other(*store_, NodeId(3), io_->executor(0));
  std::promise<Status> started;
  auto done = [&](std::exception_ptr, Status status) { started.set_value(std::move(status)); };
  asio::co_spawn(io_->executor(0), other.Start(), std::move(done));
  ASSERT_TRUE(started.get_future().get().ok());
  for (uint64_t id = 1; id <= 10; ++id) Put(Record(id, proto::TABLE_STATUS_CREATING));
  for (uint64_t id = 1; id <= 10; ++id) ASSERT_TRUE(WaitForStatus(id, proto::TABLE_STATUS_ACTIVE));
  EXPECT_EQ(Range(keys::kPartitionPrefix).kvs.size(), 10u);
  other.Stop();
}

TEST_F(TableJobsTest, DeletingTakesEveryKeyOfTheTable) {
  StartJobs();
  Put(Record(1, proto::TABLE_STATUS_CREATING));
  Put(Record(2, proto::TABLE_STATUS_CREATING));
  ASSERT_TRUE(WaitForStatus(1, proto::TABLE_STATUS_ACTIVE));
  ASSERT_TRUE(WaitForStatus(2, proto::TABLE_STATUS_ACTIVE));
  proto::Table table = *Get(1);
  table.set_status(proto::TABLE_STATUS_DELETING);
  Put(table);
  ASSERT_TRUE(Eventually([&] { return !Get(1).has_value(); }));
  EXPECT_TRUE(Range(keys::PartitionsOf(TableId(1))).kvs.empty());
  EXPECT_TRUE(Range(keys::Name("default", "t1")).kvs.empty());
  EXPECT_EQ(Range(keys::PartitionsOf(TableId(2))).kvs.size(), 1u);
  EXPECT_EQ(Range(keys::Name("default", "t2")).kvs.size(), 1u);
}

TEST_F(TableJobsTest, UpdatingTakesThePendingRecord) {
  proto::Table next = Record(1, proto::TABLE_STATUS_UPDATING);
  next.set_billing_mode("PAY_PER_REQUEST");
  next.set_deletion_protection(true);
  proto::Table table = Record(1, proto::TABLE_STATUS_UPDATING);
  table.set_billing_mode("PROVISIONED");
  table.set_pending(next.SerializeAsString());
  StartJobs();
  Put(table);
  ASSERT_TRUE(WaitForStatus(1, proto::TABLE_STATUS_ACTIVE));
  EXPECT_EQ(Get(1)->billing_mode(), "PAY_PER_REQUEST");
  EXPECT_TRUE(Get(1)->deletion_protection());
  EXPECT_EQ(Get(1)->pending(), "");
  EXPECT_EQ(Get(1)->name(), "t1");
}

// The record turns while a step is on its way: the step must not undo that.
TEST_F(TableJobsTest, DeletionThatOvertakesTheCreationWins) {
  store_->BeforeNextCommit([&] {
    proto::Table table = Record(1, proto::TABLE_STATUS_DELETING);
    Put(table);
  });
  StartJobs();
  Put(Record(1, proto::TABLE_STATUS_CREATING));
  ASSERT_TRUE(Eventually([&] { return !Get(1).has_value(); }));
  EXPECT_TRUE(Range(keys::kPartitionPrefix).kvs.empty());
  EXPECT_TRUE(Range(keys::kNamePrefix).kvs.empty());
}

TEST_F(TableJobsTest, DeletionThatOvertakesAnUpdateWins) {
  proto::Table table = Record(1, proto::TABLE_STATUS_UPDATING);
  table.set_pending(Record(1, proto::TABLE_STATUS_ACTIVE).SerializeAsString());
  store_->BeforeNextCommit([&] { Put(Record(1, proto::TABLE_STATUS_DELETING)); });
  StartJobs();
  Put(table);
  EXPECT_TRUE(Eventually([&] { return !Get(1).has_value(); }));
}

TEST_F(TableJobsTest, DamagedRecordIsNotAskedForEver) {
  proto::Table table = Record(1, proto::TABLE_STATUS_UPDATING);
  table.set_pending("\xff\xff\xff not a table");
  StartJobs();
  Put(table);
  metadata::Transaction transaction;
  transaction.puts.push_back({keys::Table(TableId(2)), "\xff\xff\xff"});
  Commit(std::move(transaction));
  Put(Record(3, proto::TABLE_STATUS_CREATING));
  EXPECT_TRUE(WaitForStatus(3, proto::TABLE_STATUS_ACTIVE));
  EXPECT_EQ(Get(1)->status(), proto::TABLE_STATUS_UPDATING);
}

}  // namespace
}  // namespace onggi::coordinator
