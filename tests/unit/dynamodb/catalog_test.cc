#include "server/dynamodb/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>

#include "common/proto/catalog.pb.h"
#include "replication/metadata/keys.h"
#include "server/dynamodb/catalog_watcher.h"
#include "server/dynamodb/operation.h"
#include "tests/unit/dynamodb/memory_store.h"

namespace onggi::dynamodb {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

proto::Table Record(uint64_t id, const std::string& name,
                    proto::TableStatus status = proto::TABLE_STATUS_ACTIVE) {
  proto::Table record;
  record.set_id(id);
  record.set_account("default");
  record.set_region("us-east-1");
  record.set_name(name);
  record.set_status(status);
  record.mutable_partition_key()->set_name("a");
  record.mutable_partition_key()->set_type("S");
  return record;
}

TEST(Catalog, FindsTablesByAccountAndName) {
  Catalog catalog;
  catalog.PutWatched(Record(1, "abc"), Revision(1));
  const auto table = catalog.Find("default", "abc");
  ASSERT_NE(table, nullptr);
  EXPECT_EQ(table->id(), TableId(1));
  EXPECT_EQ(table->arn, "arn:aws:dynamodb:us-east-1:000000000000:table/abc");
  EXPECT_EQ(table->schema->partition_key.name, "a");
  EXPECT_EQ(catalog.Find("other", "abc"), nullptr);
  EXPECT_EQ(catalog.Find("default", "abcd"), nullptr);
}

TEST(Catalog, KeepsTheNewestRecord) {
  Catalog catalog;
  catalog.PutWatched(Record(1, "abc", proto::TABLE_STATUS_ACTIVE), Revision(5));
  catalog.PutWatched(Record(1, "abc", proto::TABLE_STATUS_CREATING), Revision(4));
  EXPECT_TRUE(catalog.Find("default", "abc")->Usable());
}

TEST(Catalog, DoesNotBringBackATableThatTheWatchHasRemoved) {
  Catalog catalog;
  catalog.PutWatched(Record(1, "abc"), Revision(5));
  catalog.RemoveWatched(TableId(1), Revision(7));
  catalog.SetWatched(Revision(7));
  catalog.PutCommitted(Record(1, "abc"), Revision(6));
  EXPECT_EQ(catalog.Find("default", "abc"), nullptr);
  catalog.PutCommitted(Record(2, "abc"), Revision(8));
  EXPECT_NE(catalog.Find("default", "abc"), nullptr);
}

TEST(Catalog, KeepsTheYoungerTableWhenTheElderOfItsNameGoes) {
  Catalog catalog;
  catalog.PutWatched(Record(1, "abc"), Revision(5));
  catalog.PutWatched(Record(2, "abc"), Revision(7));
  catalog.RemoveWatched(TableId(1), Revision(8));
  ASSERT_NE(catalog.Find("default", "abc"), nullptr);
  EXPECT_EQ(catalog.Find("default", "abc")->id(), TableId(2));
  EXPECT_THAT(catalog.List("default", "", 10), ElementsAre("abc"));
}

TEST(Catalog, ListsNamesInByteOrder) {
  Catalog catalog;
  uint64_t id = 0;
  for (const char* name : {"b", "a", "C", "d"}) {
    ++id;
    catalog.PutWatched(Record(id, name), Revision(id));
  }
  EXPECT_THAT(catalog.List("default", "", 10), ElementsAre("C", "a", "b", "d"));
  EXPECT_THAT(catalog.List("default", "a", 1), ElementsAre("b"));
  EXPECT_THAT(catalog.List("default", "d", 1), IsEmpty());
  EXPECT_THAT(catalog.List("nobody", "", 1), IsEmpty());
}

TEST(Catalog, ResetForgetsWhatIsGoneButNotWhatIsNewer) {
  Catalog catalog;
  catalog.PutWatched(Record(1, "old"), Revision(1));
  catalog.PutCommitted(Record(2, "new"), Revision(9));
  catalog.Reset({{Record(3, "other"), Revision(4)}}, Revision(5));
  EXPECT_EQ(catalog.Find("default", "old"), nullptr);
  EXPECT_NE(catalog.Find("default", "new"), nullptr);
  EXPECT_NE(catalog.Find("default", "other"), nullptr);
  EXPECT_EQ(catalog.size(), 2u);
}

class CatalogWatcherTest : public ::testing::Test {
 protected:
  void Put(const proto::Table& record) {
    store_.PutNow(metadata::keys::Table(TableId(record.id())), record.SerializeAsString());
  }
  Status Start() {
    Status status = Internal("not run");
    boost::asio::co_spawn(
        context_, [&]() -> boost::asio::awaitable<void> { status = co_await watcher_.Start(); },
        boost::asio::detached);
    Run();
    return status;
  }
  void Run() {
    context_.restart();
    context_.run_for(std::chrono::milliseconds(500));
  }
  // The watch is given up on its executor, which nobody runs once the test is over.
  void TearDown() override {
    std::thread runner([&] {
      context_.restart();
      const auto guard = boost::asio::make_work_guard(context_);
      context_.run_for(std::chrono::milliseconds(100));
    });
    watcher_.Stop();
    runner.join();
  }

  boost::asio::io_context context_{1};
  MemoryStore store_{context_};
  Catalog catalog_;
  CatalogWatcher watcher_{store_, catalog_, context_.get_executor()};
};

TEST_F(CatalogWatcherTest, ReadsWhatIsThereAndFollows) {
  Put(Record(1, "abc"));
  ASSERT_TRUE(Start().ok());
  EXPECT_NE(catalog_.Find("default", "abc"), nullptr);
  Put(Record(2, "def"));
  Run();
  EXPECT_NE(catalog_.Find("default", "def"), nullptr);
  store_.DeleteNow(metadata::keys::Table(TableId(1)));
  Run();
  EXPECT_EQ(catalog_.Find("default", "abc"), nullptr);
}

TEST_F(CatalogWatcherTest, ReadsAgainAfterFallingBehind) {
  Put(Record(1, "abc"));
  ASSERT_TRUE(Start().ok());
  store_.deliver = false;
  Put(Record(2, "def"));
  store_.DeleteNow(metadata::keys::Table(TableId(1)));
  store_.deliver = true;
  store_.fault = Unavailable("starting");
  store_.Compact();
  Run();
  EXPECT_NE(catalog_.Find("default", "abc"), nullptr);
  store_.fault = Status::Ok();
  Run();
  EXPECT_EQ(catalog_.Find("default", "abc"), nullptr);
  EXPECT_NE(catalog_.Find("default", "def"), nullptr);
  Put(Record(3, "ghi"));
  Run();
  EXPECT_NE(catalog_.Find("default", "ghi"), nullptr);
}

TEST_F(CatalogWatcherTest, RefusesToStartOnADamagedRecord) {
  store_.PutNow(metadata::keys::Table(TableId(1)), "\xFF\xFF");
  EXPECT_EQ(Start().code(), Code::kCorruption);
}

}  // namespace
}  // namespace onggi::dynamodb
