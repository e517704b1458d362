#include "server/model/key.h"

#include <gtest/gtest.h>

#include "tests/unit/model/random_values.h"

namespace onggi::model {
namespace {

using std::string_literals::operator""s;

std::string Terminated(const std::string& value) {
  std::string key;
  AppendTerminated(ValueView(value), &key);
  return key;
}

std::string Sort(const std::string& value) {
  std::string key;
  AppendSortKey(ValueView(value), &key);
  return key;
}

int Sign(int order) { return order < 0 ? -1 : order > 0 ? 1 : 0; }

TEST(Key, EscapesZeroBytesAndTerminates) {
  EXPECT_EQ(Terminated(AttributeValue::String("a\0b"s).Encode()),
            "a\0\xFF"
            "b\0\1"s);
  EXPECT_EQ(Terminated(AttributeValue::Binary("\0\0"s).Encode()), "\0\xFF\0\xFF\0\1"s);
  EXPECT_EQ(Terminated(AttributeValue::String("").Encode()), "\0\1"s);
}

// Every kind of key value: sign of memcmp of its encodings is the order of the values.
TEST(Key, OrdersAsTheValuesDo) {
  RandomValues random;
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(random.seed()));
  for (int i = 0; i < 60000; ++i) {
    std::string a;
    std::string b;
    switch (i % 3) {
      case 0:
        a = AttributeValue::Of(random.RandomNumber()).Encode();
        b = AttributeValue::Of(random.RandomNumber()).Encode();
        break;
      case 1:
        a = AttributeValue::String(random.Utf8(6)).Encode();
        b = AttributeValue::String(random.Utf8(6)).Encode();
        break;
      default:
        a = AttributeValue::Binary(random.Bytes(5)).Encode();
        b = AttributeValue::Binary(random.Bytes(5)).Encode();
    }
    const int order = Sign(ValueView::Compare(ValueView(a), ValueView(b)));
    ASSERT_EQ(Sign(Sort(a).compare(Sort(b))), order);
    const std::string key_a = Terminated(a);
    const std::string key_b = Terminated(b);
    ASSERT_EQ(Sign(key_a.compare(key_b)), order);
    if (order != 0) {
      // Prefix-free, so what follows a terminated part never changes the order of the parts.
      ASSERT_FALSE(key_a.starts_with(key_b));
      ASSERT_FALSE(key_b.starts_with(key_a));
    }
  }
}

TEST(Key, PutsTheHashBeforeTheEscapedPartitionKey) {
  const std::string partition = AttributeValue::String("user\0one"s).Encode();
  const std::string sort = AttributeValue::Of(Number::FromInt(-5)).Encode();
  std::string prefix;
  AppendCollectionPrefix(ValueView(partition), &prefix);
  const uint64_t hash = HashPartitionKey(ValueView(partition));
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(static_cast<uint8_t>(prefix[i]), static_cast<uint8_t>(hash >> (56 - 8 * i)));
  }
  EXPECT_EQ(prefix.substr(8), Terminated(partition));
  EXPECT_EQ(EncodeKey(ValueView(partition), ValueView(sort)), prefix + Sort(sort));
  EXPECT_EQ(EncodeKey(ValueView(partition), ValueView()), prefix);
}

TEST(Key, HashesEqualNumbersAlike) {
  const std::string a = AttributeValue::Of(Number::Parse("1.0").value()).Encode();
  const std::string b = AttributeValue::Of(Number::Parse("100e-2").value()).Encode();
  EXPECT_EQ(EncodeKey(ValueView(a), {}), EncodeKey(ValueView(b), {}));
}

TEST(Key, HashStaysTheSameForever) {
  // XXH3-64 with seed 0 of "abc" and of nothing: where items live on disk depends on it.
  EXPECT_EQ(HashPartitionKey(ValueView(AttributeValue::String("abc").Encode())),
            0x78af5f94892f3950u);
  EXPECT_EQ(HashPartitionKey(ValueView(AttributeValue::String("").Encode())), 0x2d06800538d394c2u);
}

}  // namespace
}  // namespace onggi::model
