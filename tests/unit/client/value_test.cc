#include "client/value.h"

#include <gtest/gtest.h>

namespace onggi::client {
namespace {

TEST(Value, TakesTheTypeOfWhatItIsMadeFrom) {
  const Item item = MakeItem({{"text", "a"},
                              {"string", std::string("b")},
                              {"int", -7},
                              {"large", uint64_t{18446744073709551615u}},
                              {"double", 0.1},
                              {"bool", true},
                              {"null", nullptr},
                              {"number", Number("1E+100")},
                              {"binary", Binary(std::string("\0x", 2))},
                              {"strings", StringSet({"a", "b"})},
                              {"numbers", NumberSet({"1"})},
                              {"binaries", BinarySet({"x"})},
                              {"list", List({1, "two", List({})})},
                              {"map", Map({{"k", 1}})}});
  EXPECT_EQ(Find(item, "text")->s(), "a");
  EXPECT_EQ(Find(item, "string")->s(), "b");
  EXPECT_EQ(Find(item, "int")->n(), "-7");
  EXPECT_EQ(Find(item, "large")->n(), "18446744073709551615");
  EXPECT_EQ(Find(item, "double")->n(), "0.1");
  EXPECT_TRUE(Find(item, "bool")->boolean());
  EXPECT_TRUE(Find(item, "null")->null());
  EXPECT_EQ(Find(item, "number")->n(), "1E+100");
  EXPECT_EQ(Find(item, "binary")->b().size(), 2u);
  EXPECT_EQ(Find(item, "strings")->ss().values_size(), 2);
  EXPECT_EQ(Find(item, "numbers")->ns().values(0), "1");
  EXPECT_EQ(Find(item, "binaries")->bs().values(0), "x");
  EXPECT_EQ(Find(item, "list")->l().values(1).s(), "two");
  EXPECT_TRUE(Find(item, "list")->l().values(2).has_l());
  EXPECT_EQ(Find(item, "map")->m().values().at("k").n(), "1");
}

TEST(Value, LaterAttributesReplaceEarlierOnes) {
  EXPECT_EQ(IntOr(MakeItem({{"a", 1}, {"a", 2}}), "a", 0), 2);
}

TEST(Value, ReadersGiveTheDefaultForOtherTypes) {
  const Item item = MakeItem({{"s", "x"}, {"n", Number("1.5")}, {"i", 42}, {"b", false}});
  EXPECT_EQ(StringOr(item, "s", "-"), "x");
  EXPECT_EQ(StringOr(item, "n", "-"), "-");
  EXPECT_EQ(StringOr(item, "absent", "-"), "-");
  EXPECT_EQ(IntOr(item, "i", -1), 42);
  EXPECT_EQ(IntOr(item, "n", -1), -1);
  EXPECT_EQ(DoubleOr(item, "n", -1), 1.5);
  EXPECT_EQ(DoubleOr(item, "s", -1), -1);
  EXPECT_FALSE(BoolOr(item, "b", true));
  EXPECT_TRUE(BoolOr(item, "s", true));
  EXPECT_EQ(Find(item, "absent"), nullptr);
}

}  // namespace
}  // namespace onggi::client
