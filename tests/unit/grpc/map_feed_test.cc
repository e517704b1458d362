#include "server/grpc/map_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <thread>

#include "replication/metadata/keys.h"
#include "tests/unit/dynamodb/memory_store.h"

namespace onggi::grpc_api {
namespace {

namespace keys = metadata::keys;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class MapFeedTest : public ::testing::Test {
 protected:
  MapFeedTest() : store_(io_), feed_(store_, io_.get_executor()) {}

  ~MapFeedTest() override {
    // Stop waits for the executor.
    std::thread runner([this] {
      auto guard = boost::asio::make_work_guard(io_);
      io_.restart();
      io_.run();
    });
    feed_.Stop();
    io_.stop();
    runner.join();
  }

  void Start() {
    Status status = Internal("not done");
    boost::asio::co_spawn(io_, feed_.Start(), [&](std::exception_ptr, Status s) { status = s; });
    Run();
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  void Run() {
    io_.restart();
    io_.poll();
  }

  void PutTable(uint64_t id, const std::string& name, proto::TableStatus status,
                const std::string& account = "default") {
    proto::Table table;
    table.set_id(id);
    table.set_name(name);
    table.set_account(account);
    table.set_status(status);
    table.mutable_partition_key()->set_name("pk");
    table.mutable_partition_key()->set_type("S");
    Put(keys::Table(TableId(id)), table.SerializeAsString());
  }

  void PutPartition(uint64_t table, uint64_t id, const std::string& start, const std::string& end,
                    uint64_t epoch, uint64_t primary) {
    proto::PartitionConfig config;
    config.set_table(table);
    config.set_partition(id);
    config.set_range_start(start);
    config.set_range_end(end);
    config.set_epoch(epoch);
    config.mutable_primary()->set_node(primary);
    config.add_in_sync()->set_node(primary);
    config.add_in_sync()->set_node(9);
    config.add_learners()->set_node(10);
    Put(keys::Partition(TableId(table), PartitionId(id)), config.SerializeAsString());
  }

  void PutNode(uint64_t id, proto::NodeState state = proto::NODE_STATE_ACTIVE) {
    proto::Node node;
    node.set_id(id);
    node.set_zone("z");
    node.set_state(state);
    node.set_rpc_address("host" + std::to_string(id) + ":7000");
    Put(keys::Node(NodeId(id)), node.SerializeAsString());
  }

  void Put(std::string key, std::string value) {
    metadata::Transaction transaction;
    transaction.puts.push_back({std::move(key), std::move(value)});
    store_.AsyncCommit(std::move(transaction), [](auto) {});
    Run();
  }

  void Delete(std::string key) {
    metadata::Transaction transaction;
    transaction.deletes.push_back(std::move(key));
    store_.AsyncCommit(std::move(transaction), [](auto) {});
    Run();
  }

  /// What has changed since the last call; the complete map at the first.
  v1::PartitionMap Next(const MapFeed::Filter& filter = {}) {
    v1::PartitionMap map;
    position_ = feed_.Collect(filter, position_, &map);
    return map;
  }

  static std::vector<std::string> Names(const v1::PartitionMap& map) {
    std::vector<std::string> names;
    for (const auto& table : map.tables()) names.push_back(table.name());
    return names;
  }

  boost::asio::io_context io_;
  dynamodb::MemoryStore store_;
  MapFeed feed_;
  uint64_t position_ = 0;
};

TEST_F(MapFeedTest, GivesWhatWasThereAndThenWhatChanges) {
  PutTable(1, "music", proto::TABLE_STATUS_ACTIVE);
  PutPartition(1, 11, "m", "", 3, 2);
  PutPartition(1, 10, "", "m", 5, 1);
  PutNode(1);
  Start();
  v1::PartitionMap map = Next();
  EXPECT_TRUE(map.complete());
  ASSERT_EQ(map.tables_size(), 1);
  EXPECT_EQ(map.tables(0).partition_key().name(), "pk");
  EXPECT_FALSE(map.tables(0).has_sort_key());
  ASSERT_EQ(map.tables(0).partitions_size(), 2);
  const v1::MapPartition& first = map.tables(0).partitions(0);
  EXPECT_EQ(first.id(), 10u);
  EXPECT_EQ(first.range_end(), "m");
  EXPECT_EQ(first.epoch(), 5u);
  EXPECT_EQ(first.primary_node(), 1u);
  EXPECT_THAT(first.nodes(), ElementsAre(1, 9));  // a learner has not the data
  ASSERT_EQ(map.nodes_size(), 1);
  EXPECT_EQ(map.nodes(0).grpc_address(), "host1:7000");

  map = Next();
  EXPECT_FALSE(map.complete());
  EXPECT_EQ(map.tables_size() + map.nodes_size(), 0);

  PutPartition(1, 10, "", "m", 6, 9);
  map = Next();
  EXPECT_FALSE(map.complete());
  EXPECT_THAT(Names(map), ElementsAre("music"));
  EXPECT_EQ(map.tables(0).partitions(0).primary_node(), 9u);
  EXPECT_EQ(map.nodes_size(), 0);
}

TEST_F(MapFeedTest, ShowsTablesThatCanBeUsed) {
  Start();
  Next();
  PutPartition(1, 10, "", "", 1, 1);  // before its table's record
  PutTable(1, "music", proto::TABLE_STATUS_CREATING);
  EXPECT_THAT(Names(Next()), IsEmpty());
  PutTable(1, "music", proto::TABLE_STATUS_ACTIVE);
  EXPECT_THAT(Names(Next()), ElementsAre("music"));
  PutTable(1, "music", proto::TABLE_STATUS_UPDATING);
  EXPECT_THAT(Names(Next()), IsEmpty());  // nothing that a client would see
  PutTable(1, "music", proto::TABLE_STATUS_DELETING);
  EXPECT_THAT(Next().removed_tables(), ElementsAre(1));
  Delete(keys::Partition(TableId(1), PartitionId(10)));
  Delete(keys::Table(TableId(1)));
  PutTable(2, "music", proto::TABLE_STATUS_ACTIVE);
  const v1::PartitionMap again = Next();
  EXPECT_THAT(Names(again), ElementsAre("music"));
  EXPECT_EQ(again.tables(0).id(), 2u);
}

TEST_F(MapFeedTest, KeepsAccountsApart) {
  Start();
  PutTable(1, "music", proto::TABLE_STATUS_ACTIVE);
  PutTable(2, "music", proto::TABLE_STATUS_ACTIVE, "other");
  PutTable(3, "books", proto::TABLE_STATUS_ACTIVE);
  MapFeed::Filter filter;
  EXPECT_THAT(Names(Next(filter)), ElementsAre("music", "books"));
  position_ = 0;
  filter.names = {"books"};
  EXPECT_THAT(Names(Next(filter)), ElementsAre("books"));
  position_ = 0;
  filter.account = "other";
  filter.names = {};
  const v1::PartitionMap map = Next(filter);
  ASSERT_EQ(map.tables_size(), 1);
  EXPECT_EQ(map.tables(0).id(), 2u);
  Delete(keys::Table(TableId(1)));
  EXPECT_THAT(Next(filter).removed_tables(), IsEmpty());
}

TEST_F(MapFeedTest, NodesThatAreGoneHaveNoAddress) {
  PutNode(1);
  PutNode(2);
  Start();
  Next();
  PutNode(1, proto::NODE_STATE_DEAD);
  v1::PartitionMap map = Next();
  ASSERT_EQ(map.nodes_size(), 1);
  EXPECT_EQ(map.nodes(0).grpc_address(), "");
  PutNode(2, proto::NODE_STATE_DRAINING);  // still serves what it has
  EXPECT_EQ(Next().nodes_size(), 0);
  Delete(keys::Node(NodeId(2)));
  EXPECT_THAT(Next().removed_nodes(), ElementsAre(2));
}

TEST_F(MapFeedTest, WhoIsFarBehindGetsTheCompleteMap) {
  Start();
  Next();
  for (uint64_t id = 1; id <= 1500; ++id) {
    PutNode(id);
    Delete(keys::Node(NodeId(id)));
  }
  PutTable(1, "music", proto::TABLE_STATUS_ACTIVE);
  const v1::PartitionMap map = Next();
  EXPECT_TRUE(map.complete());
  EXPECT_EQ(map.removed_nodes_size(), 0);
  EXPECT_THAT(Names(map), ElementsAre("music"));
}

TEST_F(MapFeedTest, ReadsAgainWhenItFellBehind) {
  PutTable(1, "music", proto::TABLE_STATUS_ACTIVE);
  PutPartition(1, 10, "", "", 1, 1);
  PutTable(2, "books", proto::TABLE_STATUS_ACTIVE);
  PutPartition(2, 20, "", "", 1, 1);
  Start();
  Next();
  store_.deliver = false;
  Delete(keys::Partition(TableId(1), PartitionId(10)));
  Delete(keys::Table(TableId(1)));
  PutPartition(2, 20, "", "", 2, 5);
  PutTable(3, "films", proto::TABLE_STATUS_ACTIVE);
  store_.deliver = true;
  store_.Compact();
  Run();
  const v1::PartitionMap map = Next();
  EXPECT_FALSE(map.complete());
  EXPECT_THAT(map.removed_tables(), ElementsAre(1));
  EXPECT_THAT(Names(map), ElementsAre("books", "films"));
  EXPECT_EQ(map.tables(0).partitions(0).primary_node(), 5u);
  PutNode(1);
  EXPECT_EQ(Next().nodes_size(), 1);
}

TEST_F(MapFeedTest, TellsItsListeners) {
  Start();
  int told = 0;
  const uint64_t id = feed_.AddListener([&told] { ++told; });
  PutNode(1);
  EXPECT_EQ(told, 1);
  feed_.RemoveListener(id);
  PutNode(2);
  EXPECT_EQ(told, 1);
}

TEST_F(MapFeedTest, PassesOverRecordsThatDoNotParse) {
  Start();
  PutTable(1, "music", proto::TABLE_STATUS_ACTIVE);
  Put(keys::Table(TableId(1)), "\xFF");
  Put(keys::Partition(TableId(1), PartitionId(1)), "\xFF");
  Put(keys::Node(NodeId(1)), "\xFF");
  EXPECT_THAT(Names(Next()), ElementsAre("music"));
}

}  // namespace
}  // namespace onggi::grpc_api
