#include "client/cli/output.h"

#include <gtest/gtest.h>

namespace onggi::cli {
namespace {

TEST(TextTable, AlignsColumns) {
  TextTable table({"NAME", "ITEMS", "STATE"});
  table.Add({"a", "5", "ok"});
  table.Add({"long name", "12345", ""});
  EXPECT_EQ(table.ToString(),
            "NAME       ITEMS  STATE\n"
            "a              5  ok\n"
            "long name  12345  -\n");
}

TEST(TextTable, CountsCharactersAndHidesControls) {
  TextTable table({"A", "B"});
  table.Add({"\xEC\x98\xB9\xEA\xB8\xB0", "x\x1B[2J"});
  EXPECT_EQ(table.ToString(), "A   B\n\xEC\x98\xB9\xEA\xB8\xB0  x?[2J\n");
}

TEST(JsonWriter, NestsAndEscapes) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject();
  json.Key("a").Int(-1);
  json.Key("b").BeginArray();
  json.String("x\"y");
  json.Bool(true);
  json.BeginObject();
  json.EndObject();
  json.EndArray();
  json.Key("c").Double(0.5);
  json.EndObject();
  EXPECT_EQ(out,
            "{\n  \"a\": -1,\n  \"b\": [\n    \"x\\\"y\",\n    true,\n    {}\n  ],\n"
            "  \"c\": 0.5\n}\n");
}

TEST(Show, WritesForPeople) {
  EXPECT_EQ(ShowBytes(0), "0 B");
  EXPECT_EQ(ShowBytes(1536), "1.5 KB");
  EXPECT_EQ(ShowBytes(uint64_t{10} << 30), "10.0 GB");
  EXPECT_EQ(ShowBytes(500u << 20), "500 MB");
  EXPECT_EQ(ShowRate(0), "0");
  EXPECT_EQ(ShowRate(12.34), "12.3");
  EXPECT_EQ(ShowAge(-1), "-");
  EXPECT_EQ(ShowAge(5000), "5 s");
  EXPECT_EQ(ShowAge(600'000), "10 min");
  EXPECT_EQ(ShowKey(""), "-");
  EXPECT_EQ(ShowKey("\x01\xFF"), "01ff");
}

TEST(Hex, ReadsBackWhatItWrites) {
  std::string bytes;
  EXPECT_TRUE(FromHex("00ff7a", &bytes));
  EXPECT_EQ(ToHex(bytes), "00ff7a");
  EXPECT_TRUE(FromHex("", &bytes));
  EXPECT_FALSE(FromHex("0", &bytes));
  EXPECT_FALSE(FromHex("zz", &bytes));
  EXPECT_FALSE(FromHex("+1", &bytes));
}

}  // namespace
}  // namespace onggi::cli
