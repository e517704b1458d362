#include "server/partition/local_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/model/attribute_value.h"
#include "server/model/key.h"

namespace onggi::partition {
namespace {

using model::AttributeMap;
using model::AttributeValue;
using ::testing::HasSubstr;

AttributeValue S(std::string_view text) { return AttributeValue::String(text); }
AttributeValue N(int64_t number) { return AttributeValue::Of(model::Number::FromInt(number)); }

/// Keys p (S) and s (S); the index "i" on i (N).
std::shared_ptr<const TableSchema> Schema(const std::string& projection,
                                          const std::vector<std::string>& included = {},
                                          const std::string& type = "N") {
  proto::Table table;
  table.set_id(1);
  table.mutable_partition_key()->set_name("p");
  table.mutable_partition_key()->set_type("S");
  table.mutable_sort_key()->set_name("s");
  table.mutable_sort_key()->set_type("S");
  proto::LocalIndex* index = table.add_local_indexes();
  index->set_name("i");
  index->mutable_sort_key()->set_name("i");
  index->mutable_sort_key()->set_type(type);
  index->mutable_projection()->set_type(projection);
  for (const auto& name : included) index->mutable_projection()->add_non_key_attributes(name);
  return TableSchema::FromRecord(table);
}

LocalIndexEntry Entry(const TableSchema& schema, const AttributeMap& item) {
  const std::string encoded = model::EncodeItem(item);
  return MakeLocalIndexEntry(schema, schema.local_indexes[0], model::ItemView(encoded));
}

const AttributeMap kFull = {
    {"p", S("a")}, {"s", S("b")}, {"i", N(5)}, {"x", S("ex")}, {"y", S("why")}};

TEST(LocalIndexEntry, OfAllHoldsTheItem) {
  const auto schema = Schema("ALL");
  const LocalIndexEntry entry = Entry(*schema, kFull);
  ASSERT_TRUE(entry.exists);
  EXPECT_EQ(entry.value, model::EncodeItem(kFull));
  std::string key;
  const std::string p = S("a").Encode(), i = N(5).Encode(), s = S("b").Encode();
  model::AppendCollectionPrefix(model::ValueView(p), &key);
  model::AppendTerminated(model::ValueView(i), &key);
  model::AppendSortKey(model::ValueView(s), &key);
  EXPECT_EQ(entry.key, key);
  EXPECT_EQ(entry.billed_size, model::ItemView(entry.value).BilledSize());
}

TEST(LocalIndexEntry, OfKeysOnlyHoldsTheKeysOfTableAndIndex) {
  const auto schema = Schema("KEYS_ONLY");
  const LocalIndexEntry entry = Entry(*schema, kFull);
  EXPECT_EQ(entry.value, model::EncodeItem({{"p", S("a")}, {"s", S("b")}, {"i", N(5)}}));
  EXPECT_LT(entry.billed_size, Entry(*Schema("ALL"), kFull).billed_size);
}

TEST(LocalIndexEntry, OfIncludeHoldsWhatIsThereOfTheIncluded) {
  const auto schema = Schema("INCLUDE", {"y", "z", "p"});
  const LocalIndexEntry entry = Entry(*schema, kFull);
  EXPECT_EQ(entry.value,
            model::EncodeItem({{"p", S("a")}, {"s", S("b")}, {"i", N(5)}, {"y", S("why")}}));
}

TEST(LocalIndexEntry, IsSparse) {
  const auto schema = Schema("ALL");
  EXPECT_FALSE(Entry(*schema, {{"p", S("a")}, {"s", S("b")}}).exists);
  EXPECT_FALSE(MakeLocalIndexEntry(*schema, schema->local_indexes[0], model::ItemView()).exists);
}

TEST(LocalIndexEntry, OrdersByIndexKeyThenByTableKey) {
  const auto schema = Schema("ALL");
  const auto key = [&](int64_t i, std::string_view s) {
    return Entry(*schema, {{"p", S("a")}, {"s", S(s)}, {"i", N(i)}}).key;
  };
  EXPECT_LT(key(-10, "z"), key(-1, "a"));
  EXPECT_LT(key(-1, "z"), key(2, "a"));
  EXPECT_LT(key(2, "z"), key(10, "a"));
  EXPECT_LT(key(10, "a"), key(10, "b"));
}

TEST(IndexWriteUnits, CountWhatTheServiceWrites) {
  const auto schema = Schema("ALL");
  const auto sized = [&](int64_t i, size_t bytes) {
    return Entry(*schema,
                 {{"p", S("a")}, {"s", S("b")}, {"i", N(i)}, {"x", S(std::string(bytes, 'x'))}});
  };
  const LocalIndexEntry none, small = sized(1, 10), same = sized(1, 10), large = sized(1, 2000),
                              moved = sized(2, 10), moved_large = sized(2, 2000);
  EXPECT_EQ(IndexWriteUnits(none, none), 0u);
  EXPECT_EQ(IndexWriteUnits(none, small), 1u);
  EXPECT_EQ(IndexWriteUnits(small, none), 1u);
  EXPECT_EQ(IndexWriteUnits(none, large), 2u);
  EXPECT_EQ(IndexWriteUnits(small, same), 0u);
  EXPECT_EQ(IndexWriteUnits(small, large), 2u);
  EXPECT_EQ(IndexWriteUnits(large, small), 2u);
  EXPECT_EQ(IndexWriteUnits(small, moved), 2u);
  EXPECT_EQ(IndexWriteUnits(large, moved_large), 4u);
}

TEST(IndexWriteUnits, AreNoneWhenOnlyUnprojectedAttributesChange) {
  const auto schema = Schema("KEYS_ONLY");
  AttributeMap changed = kFull;
  changed["x"] = S("other");
  EXPECT_EQ(IndexWriteUnits(Entry(*schema, kFull), Entry(*schema, changed)), 0u);
}

Status Check(const TableSchema& schema, const AttributeValue& value) {
  const std::string item = model::EncodeItem({{"p", S("a")}, {"s", S("b")}, {"i", value}});
  return CheckIndexKeysAfterUpdate(schema, model::ItemView(item));
}

TEST(CheckIndexKeysAfterUpdate, RefusesWhatNoIndexCanHold) {
  const auto numbers = Schema("ALL");
  EXPECT_TRUE(Check(*numbers, N(4)).ok());
  EXPECT_THAT(Check(*numbers, S("4")).message(), HasSubstr("unsupported type"));
  const auto strings = Schema("ALL", {}, "S");
  EXPECT_TRUE(Check(*strings, S(std::string(1024, 'x'))).ok());
  EXPECT_THAT(Check(*strings, S("")).message(), HasSubstr("empty string value"));
  EXPECT_EQ(Check(*strings, S(std::string(1025, 'x'))).code(), Code::kInvalidArgument);
  EXPECT_THAT(Check(*strings, N(4)).message(), HasSubstr("unsupported type"));
}

}  // namespace
}  // namespace onggi::partition
