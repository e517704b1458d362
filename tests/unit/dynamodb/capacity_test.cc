#include "server/dynamodb/capacity.h"

#include <gmock/gmock.h>

#include "server/model/attribute_value.h"

namespace onggi::dynamodb {
namespace {

partition::TableSchema SchemaWithIndexes() {
  partition::TableSchema schema;
  schema.partition_key = {"pk", model::Type::kString};
  schema.sort_key = partition::KeyAttribute{"sk", model::Type::kNumber};
  for (const char* name : {"first", "second"}) {
    partition::LocalIndex index;
    index.name = name;
    index.sort_key = {std::string(name) + "_key", model::Type::kString};
    schema.local_indexes.push_back(index);
  }
  return schema;
}

std::string Text(HalfUnits units) {
  std::string text;
  AppendHalfUnits(units, &text);
  return text;
}

TEST(Capacity, ReadsRoundUpToFourKilobytes) {
  for (const auto& [bytes, units] : std::vector<std::pair<size_t, HalfUnits>>{
           {0, 1}, {1, 1}, {4096, 1}, {4097, 2}, {8192, 2}, {409'600, 100}}) {
    EXPECT_EQ(ReadHalfUnits(bytes, false), units) << bytes;
    EXPECT_EQ(ReadHalfUnits(bytes, true), 2 * units) << bytes;
  }
}

TEST(Capacity, WritesRoundUpToOneKilobyte) {
  for (const auto& [bytes, units] : std::vector<std::pair<size_t, HalfUnits>>{
           {0, 1}, {1, 1}, {1024, 1}, {1025, 2}, {409'600, 400}}) {
    EXPECT_EQ(WriteHalfUnits(bytes), 2 * units) << bytes;
  }
}

TEST(Capacity, UnitsAreWrittenWithOneDecimal) {
  EXPECT_EQ(Text(0), "0.0");
  EXPECT_EQ(Text(1), "0.5");
  EXPECT_EQ(Text(2), "1.0");
  EXPECT_EQ(Text(101), "50.5");
}

TEST(Capacity, AWriteCostsTheLargerOfBeforeAndAfterAndItsIndexes) {
  partition::WriteOutcome outcome;
  outcome.old_size = 3000;
  outcome.new_size = 10;
  outcome.index_write_units = {0, 2};
  ConsumedCapacity consumed;
  consumed.AddWrite(outcome);
  EXPECT_EQ(consumed.table, 6u);
  EXPECT_EQ(consumed.Total(), 10u);
}

TEST(Capacity, TotalHasNoBreakdown) {
  ConsumedCapacity consumed;
  consumed.table = 1;
  consumed.AddIndex(1, 3);
  std::string out;
  WriteConsumedCapacity(CapacityDetail::kTotal, "t", SchemaWithIndexes(), consumed, -1, &out);
  EXPECT_EQ(out, R"({"TableName":"t","CapacityUnits":2.0})");
}

TEST(Capacity, IndexesListsTheTableAndWhatWasTouched) {
  ConsumedCapacity consumed;
  consumed.table = 2;
  consumed.AddIndex(1, 3);
  std::string out;
  WriteConsumedCapacity(CapacityDetail::kIndexes, "t", SchemaWithIndexes(), consumed, -1, &out);
  EXPECT_EQ(out, R"({"TableName":"t","CapacityUnits":2.5,"Table":{"CapacityUnits":1.0},)"
                 R"("LocalSecondaryIndexes":{"second":{"CapacityUnits":1.5}}})");
}

TEST(Capacity, IndexesOfATableWithoutThemListsTheTableAlone) {
  partition::TableSchema schema;
  ConsumedCapacity consumed;
  consumed.table = 2;
  std::string out;
  WriteConsumedCapacity(CapacityDetail::kIndexes, "t", schema, consumed, -1, &out);
  EXPECT_EQ(out, R"({"TableName":"t","CapacityUnits":1.0,"Table":{"CapacityUnits":1.0}})");
}

TEST(Capacity, CollectionSizeIsARangeOfOneGigabyte) {
  model::MapBuilder builder;
  builder.Add("pk", model::AttributeValue::String("p").Encode());
  std::string item;
  builder.FinishItem(&item);
  std::string out;
  WriteItemCollectionMetrics(SchemaWithIndexes(), model::ItemView(item), uint64_t{5} << 29, &out);
  EXPECT_EQ(out, R"({"ItemCollectionKey":{"pk":{"S":"p"}},"SizeEstimateRangeGB":[2.0,3.0]})");
}

}  // namespace
}  // namespace onggi::dynamodb
