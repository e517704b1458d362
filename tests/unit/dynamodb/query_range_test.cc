#include <gmock/gmock.h>

#include <algorithm>
#include <random>
#include <vector>

#include "server/dynamodb/key_range.h"
#include "server/model/attribute_value.h"
#include "server/model/key.h"

namespace onggi::dynamodb {
namespace {

using expression::KeyCondition;
using expression::KeyOperator;
using model::AttributeValue;
using model::Type;
using model::ValueView;

/// A table "pk", "sk" and an index on "ik", whose sort keys are of `type`.
partition::TableSchema SchemaOf(Type type) {
  partition::TableSchema schema;
  schema.partition_key = {"pk", Type::kString};
  schema.sort_key = partition::KeyAttribute{"sk", type};
  partition::LocalIndex index;
  index.name = "index";
  index.sort_key = {"ik", type};
  schema.local_indexes.push_back(index);
  return schema;
}

std::string Item(const std::string& pk, const std::string& sk, const std::string& ik) {
  model::MapBuilder builder;
  builder.Add("pk", AttributeValue::String(pk).Encode());
  builder.Add("sk", sk);
  builder.Add("ik", ik);
  std::string item;
  builder.FinishItem(&item);
  return item;
}

/// A sort key value out of few and awkward ones, so that equal, neighbouring and prefixing ones
/// meet.
std::string RandomSortKey(Type type, std::mt19937* random) {
  if (type == Type::kNumber) {
    const int value = static_cast<int>((*random)() % 40) - 20;
    return AttributeValue::Of(model::Number::FromInt(value * ((*random)() % 2 == 0 ? 1 : 1000)))
        .Encode();
  }
  static constexpr std::string_view kBytes(
      "\x00\x01\x02"
      "ab\xFE\xFF",
      7);
  std::string text;
  for (size_t size = 1 + (*random)() % 4; size > 0; --size) {
    text.push_back(kBytes[(*random)() % kBytes.size()]);
  }
  return AttributeValue::Binary(text).Encode();
}

bool Contains(const KeyRange& range, const std::string& key) {
  return key >= range.lower && (range.upper.empty() || key < range.upper);
}

KeyCondition RandomCondition(Type type, std::mt19937* random) {
  static constexpr KeyOperator kOperators[] = {KeyOperator::kNone,    KeyOperator::kEqual,
                                               KeyOperator::kLess,    KeyOperator::kLessEqual,
                                               KeyOperator::kGreater, KeyOperator::kGreaterEqual,
                                               KeyOperator::kBetween, KeyOperator::kBeginsWith};
  KeyCondition condition;
  condition.hash_value = AttributeValue::String("p").Encode();
  condition.range_operator = kOperators[(*random)() % (type == Type::kNumber ? 7 : 8)];
  condition.range_value = RandomSortKey(type, random);
  condition.range_upper = RandomSortKey(type, random);
  return condition;
}

TEST(QueryRange, HoldsExactlyTheItemsThatSatisfyTheCondition) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (const Type type : {Type::kBinary, Type::kNumber}) {
    const partition::TableSchema schema = SchemaOf(type);
    for (int round = 0; round < 20'000; ++round) {
      const KeyCondition condition = RandomCondition(type, &random);
      const std::string pk = random() % 8 == 0 ? "q" : "p";
      const std::string sk = RandomSortKey(type, &random), ik = RandomSortKey(type, &random);
      const std::string bytes = Item(pk, sk, ik);
      const model::ItemView item(bytes);
      for (const int index : {-1, 0}) {
        const ValueView sort_key(index < 0 ? sk : ik);
        const bool expected = pk == "p" && SatisfiesSortCondition(condition, sort_key);
        const KeyRange range = RangeOfQuery(index >= 0, condition);
        ASSERT_EQ(Contains(range, PositionOf(schema, index, item)), expected)
            << "operator " << static_cast<int>(condition.range_operator) << " index " << index
            << " value " << testing::PrintToString(condition.range_value) << " key "
            << testing::PrintToString(std::string(sort_key.encoded()));
      }
    }
  }
}

TEST(QueryRange, BeginsWithOfTheGreatestBytesEndsWithTheCollection) {
  KeyCondition condition;
  condition.hash_value = AttributeValue::String("p").Encode();
  condition.range_operator = KeyOperator::kBeginsWith;
  condition.range_value = AttributeValue::Binary("\xFF\xFF").Encode();
  const partition::TableSchema schema = SchemaOf(Type::kBinary);
  const std::string sort_key = AttributeValue::Binary("\xFF\xFF\xFF").Encode();
  const std::string bytes = Item("p", sort_key, sort_key);
  for (const int index : {-1, 0}) {
    const std::string key = PositionOf(schema, index, model::ItemView(bytes));
    EXPECT_TRUE(Contains(RangeOfQuery(index >= 0, condition), key));
  }
}

TEST(QueryRange, ContinuesBehindAKeyInBothDirections) {
  KeyRange range{"b", "y"};
  range.ContinueAfter("k", false);
  EXPECT_FALSE(Contains(range, "k"));
  EXPECT_TRUE(Contains(range, std::string("k\0", 2)));
  EXPECT_TRUE(Contains(range, "l"));
  range = {"b", "y"};
  range.ContinueAfter("k", true);
  EXPECT_FALSE(Contains(range, "k"));
  EXPECT_TRUE(Contains(range, "j"));
  range = {"b", "y"};
  range.ContinueAfter("a", true);
  EXPECT_TRUE(range.Empty());
  range = {"b", "y"};
  range.ContinueAfter("z", false);
  EXPECT_TRUE(range.Empty());
  range = {"b", "y"};
  range.ContinueAfter("a", false);
  EXPECT_EQ(range.lower, "b");
}

TEST(ScanRange, SegmentsCoverTheSpaceOnceAndEvenly) {
  for (const uint32_t total : {1u, 2u, 3u, 7u, 100u, 1'000'000u}) {
    const uint32_t step = std::max(1u, total / 1000);
    EXPECT_EQ(RangeOfSegment(0, total).lower, "");
    EXPECT_EQ(RangeOfSegment(total - 1, total).upper, "");
    for (uint32_t i = 0; i + 1 < total; i += step) {
      const KeyRange range = RangeOfSegment(i, total);
      ASSERT_EQ(range.upper, RangeOfSegment(i + 1, total).lower);
      ASSERT_FALSE(range.Empty());
    }
  }
  EXPECT_EQ(RangeOfSegment(1, 2).lower, std::string("\x80\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(RangeOfSegment(0, 4).upper, std::string("\x40\0\0\0\0\0\0\0", 8));
}

}  // namespace
}  // namespace onggi::dynamodb
