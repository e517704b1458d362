#include "client/partition_map.h"

#include <gtest/gtest.h>

#include "client/value.h"
#include "server/model/attribute_value.h"
#include "server/model/key.h"

namespace onggi::client {
namespace {

v1::MapTable Table(uint64_t id, const std::string& name, const std::string& sort_type = "") {
  v1::MapTable table;
  table.set_id(id);
  table.set_name(name);
  table.mutable_partition_key()->set_name("pk");
  table.mutable_partition_key()->set_type("S");
  if (!sort_type.empty()) {
    table.mutable_sort_key()->set_name("sk");
    table.mutable_sort_key()->set_type(sort_type);
  }
  return table;
}

void AddPartition(v1::MapTable* table, uint64_t id, std::string from, std::string to,
                  uint64_t primary, std::vector<uint64_t> nodes) {
  v1::MapPartition& partition = *table->add_partitions();
  partition.set_id(id);
  partition.set_range_start(std::move(from));
  partition.set_range_end(std::move(to));
  partition.set_primary_node(primary);
  for (const uint64_t node : nodes) partition.add_nodes(node);
}

v1::PartitionMap Complete(std::vector<v1::MapTable> tables) {
  v1::PartitionMap map;
  map.set_complete(true);
  map.set_revision(5);
  for (uint64_t id : {1, 2, 3}) {
    v1::MapNode& node = *map.add_nodes();
    node.set_id(id);
    node.set_grpc_address("node" + std::to_string(id) + ":7000");
  }
  for (auto& table : tables) *map.add_tables() = std::move(table);
  return map;
}

TEST(EncodeKey, MakesTheKeyOfTheServer) {
  const Item key = MakeItem({{"pk", "a"}, {"sk", -3}, {"other", "x"}});
  const auto encoded = EncodeKey(Table(1, "t", "N"), key);
  ASSERT_TRUE(encoded.has_value());
  EXPECT_EQ(*encoded,
            model::EncodeKey(
                model::ValueView(model::AttributeValue::String("a").Encode()),
                model::ValueView(
                    model::AttributeValue::Of(model::Number::Parse("-3.0").value()).Encode())));
}

TEST(EncodeKey, RefusesWhatIsNoKey) {
  EXPECT_FALSE(EncodeKey(Table(1, "t"), MakeItem({{"sk", "a"}})));
  EXPECT_FALSE(EncodeKey(Table(1, "t"), MakeItem({{"pk", 1}})));
  EXPECT_FALSE(EncodeKey(Table(1, "t"), MakeItem({{"pk", ""}})));
  EXPECT_FALSE(EncodeKey(Table(1, "t", "N"), MakeItem({{"pk", "a"}})));
  EXPECT_FALSE(EncodeKey(Table(1, "t", "N"), MakeItem({{"pk", "a"}, {"sk", Number("x")}})));
  EXPECT_TRUE(EncodeKey(Table(1, "t", "B"), MakeItem({{"pk", "a"}, {"sk", Binary("x")}})));
}

TEST(PartitionMap, FindsThePartitionThatHoldsAKey) {
  const Item key = MakeItem({{"pk", "a"}});
  const std::string encoded = *EncodeKey(Table(1, "t"), key);
  v1::MapTable table = Table(1, "t");
  AddPartition(&table, 10, "", encoded, 1, {1, 2});
  AddPartition(&table, 11, encoded, "", 2, {2, 3});
  PartitionMap map;
  EXPECT_FALSE(map.known());
  EXPECT_FALSE(map.Find("t", key));
  map.Apply(Complete({table}));
  EXPECT_TRUE(map.known());
  EXPECT_EQ(map.revision(), 5);
  const auto place = map.Find("t", key);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->primary, 2u);
  EXPECT_EQ(place->nodes, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(map.Address(2), "node2:7000");
  EXPECT_FALSE(map.Find("other", key));
  EXPECT_FALSE(map.Find("t", MakeItem({{"pk", 1}})));
}

TEST(PartitionMap, HasNoPlaceForKeysInAGap) {
  const Item key = MakeItem({{"pk", "a"}});
  const std::string encoded = *EncodeKey(Table(1, "t"), key);
  v1::MapTable table = Table(1, "t");
  AddPartition(&table, 10, "", encoded, 1, {1});
  PartitionMap map;
  map.Apply(Complete({table}));
  EXPECT_FALSE(map.Find("t", key));
  v1::MapTable after = Table(1, "t");
  AddPartition(&after, 10, encoded + "x", "", 1, {1});
  map.Apply(Complete({after}));
  EXPECT_FALSE(map.Find("t", key));
}

TEST(PartitionMap, AppliesUpdates) {
  const Item key = MakeItem({{"pk", "a"}});
  v1::MapTable table = Table(1, "t");
  AddPartition(&table, 10, "", "", 1, {1});
  PartitionMap map;
  map.Apply(Complete({table, Table(2, "gone")}));

  // Made again under its name, with another id; removals come first.
  v1::PartitionMap update;
  update.set_revision(6);
  update.add_removed_tables(1);
  update.add_removed_tables(2);
  update.add_removed_nodes(3);
  v1::MapTable again = Table(7, "t");
  AddPartition(&again, 20, "", "", 2, {2});
  *update.add_tables() = again;
  map.Apply(update);
  EXPECT_EQ(map.Find("t", key)->primary, 2u);
  EXPECT_EQ(map.Address(3), "");
  EXPECT_EQ(map.Addresses().size(), 2u);

  v1::PartitionMap moved;
  moved.set_revision(7);
  v1::MapTable later = Table(7, "t");
  AddPartition(&later, 20, "", "", 1, {1});
  *moved.add_tables() = later;
  map.Apply(moved);
  EXPECT_EQ(map.Find("t", key)->primary, 1u);

  map.Apply(Complete({}));
  EXPECT_FALSE(map.Find("t", key));
}

}  // namespace
}  // namespace onggi::client
