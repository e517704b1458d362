#include "server/model/json.h"

#include <gtest/gtest.h>

#include "tests/unit/model/random_values.h"

namespace onggi::model {
namespace {

using std::string_literals::operator""s;

// The stored form of a JSON value, or "error: " and the message.
std::string Parse(std::string_view json) {
  simdjson::dom::parser parser;
  simdjson::dom::element element;
  if (parser.parse(json.data(), json.size()).get(element) != simdjson::SUCCESS) return "not JSON";
  std::string bytes;
  const Status status = ParseValue(element, &bytes);
  if (status.ok()) {
    EXPECT_TRUE(ValidateValue(bytes).ok()) << json;
    return bytes;
  }
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(bytes, "");
  return "error: " + status.message();
}

std::string Write(const std::string& bytes) {
  if (bytes.starts_with("error: ") || bytes == "not JSON") return bytes;
  std::string json;
  WriteValue(ValueView(bytes), &json);
  return json;
}

// What comes back of a value that is stored.
std::string Echo(std::string_view json) { return Write(Parse(json)); }

std::string ParseItemText(std::string_view json) {
  simdjson::dom::parser parser;
  std::string bytes;
  const Status status =
      ParseItem(parser.parse(json.data(), json.size()).get_object().value(), &bytes);
  if (!status.ok()) return "error: " + status.message();
  EXPECT_TRUE(ValidateItem(bytes).ok()) << json;
  return bytes;
}

std::string EchoItem(std::string_view json) {
  const std::string bytes = ParseItemText(json);
  if (bytes.starts_with("error: ")) return bytes;
  std::string text;
  WriteItem(ItemView(bytes), &text);
  return text;
}

constexpr char kEmpty[] =
    "error: Supplied AttributeValue is empty, must contain exactly one of the supported datatypes";
constexpr char kSeveral[] =
    "error: Supplied AttributeValue has more than one datatypes set, must contain exactly one of "
    "the "
    "supported datatypes";
constexpr char kInvalid[] = "error: One or more parameter values were invalid: ";

TEST(Json, EchoesEveryType) {
  for (const char* json :
       {R"({"S":"text"})", R"({"S":""})", R"({"N":"-1.5"})", R"({"B":"AAEC"})", R"({"B":""})",
        R"({"BOOL":true})", R"({"BOOL":false})", R"({"NULL":true})", R"({"SS":["a","b"]})",
        R"({"SS":[""]})", R"({"BS":["","YQ=="]})", R"({"NS":["-1","0","1","10"]})", R"({"L":[]})",
        R"({"M":{}})", R"({"L":[{"S":"a"},{"L":[{"N":"1"}]},{"M":{"k":{"NULL":true}}}]})",
        R"({"M":{"a":{"S":"b"},"c":{"M":{"d":{"L":[{"M":{}}]}}}}})"}) {
    EXPECT_EQ(Echo(json), json);
  }
}

TEST(Json, StoresOneFormOfEqualValues) {
  EXPECT_EQ(Parse(R"({"N":"100"})"), Parse(R"({"N":"+1.00e2"})"));
  EXPECT_EQ(Parse(R"({"SS":["b","a"]})"), Parse(R"({"SS":["a","b"]})"));
  EXPECT_EQ(Parse(R"({"NS":["10","2","-3"]})"), Parse(R"({"NS":["-3.0","1e1","2"]})"));
  EXPECT_EQ(Parse(R"({"BS":["Yg==","YQ=="]})"), Parse(R"({"BS":["YQ==","Yg=="]})"));
  EXPECT_EQ(Parse(R"({"M":{"b":{"S":"1"},"a":{"S":"2"}}})"),
            Parse(R"({"M":{"a":{"S":"2"},"b":{"S":"1"}}})"));
  EXPECT_NE(Parse(R"({"L":[{"S":"1"},{"S":"2"}]})"), Parse(R"({"L":[{"S":"2"},{"S":"1"}]})"));
}

TEST(Json, WantsExactlyOneType) {
  EXPECT_EQ(Echo("{}"), kEmpty);
  EXPECT_EQ(Echo(R"({"X":"a"})"), kEmpty);
  EXPECT_EQ(Echo(R"({"S":null})"), kEmpty);
  EXPECT_EQ(Echo(R"({"L":[{}]})"), kEmpty);
  EXPECT_EQ(Echo(R"({"M":{"a":{"M":{"b":{}}}}})"), kEmpty);
  EXPECT_EQ(Echo(R"({"S":"a","N":"1"})"), kSeveral);
  EXPECT_EQ(Echo(R"({"L":[{"S":"a","M":{"x":{"L":[]}}}]})"), kSeveral);
  EXPECT_EQ(Echo(R"({"S":"a","N":null})"), R"({"S":"a"})");
  EXPECT_EQ(Echo(R"({"X":"a","S":"b"})"), R"({"S":"b"})");
  EXPECT_EQ(Echo(R"({"S":"a","S":"b"})"), R"({"S":"b"})");
}

TEST(Json, ChecksTheContentsOfEveryTypeBeforeTheirNumber) {
  EXPECT_EQ(Echo(R"({"S":"a","N":"x"})"),
            "error: The parameter cannot be converted to a numeric value: x");
  EXPECT_EQ(Echo(R"({"SS":[],"S":"a"})"), kInvalid + "An string set  may not be empty"s);
}

TEST(Json, RefusesBadContentsInTheWordsOfTheService) {
  EXPECT_EQ(Echo(R"({"N":""})"), "error: The parameter cannot be converted to a numeric value");
  EXPECT_EQ(Echo(R"({"N":" 1"})"),
            "error: The parameter cannot be converted to a numeric value:  1");
  EXPECT_EQ(Echo(R"({"NULL":false})"),
            kInvalid + "Null attribute value types must have the value of true"s);
  EXPECT_EQ(Echo(R"({"SS":[]})"), kInvalid + "An string set  may not be empty"s);
  EXPECT_EQ(Echo(R"({"NS":[]})"), kInvalid + "An number set  may not be empty"s);
  EXPECT_EQ(Echo(R"({"BS":[]})"), kInvalid + "Binary sets should not be empty"s);
  EXPECT_EQ(Echo(R"({"SS":["b","a","b"]})"),
            kInvalid + "Input collection [b, a, b] contains duplicates."s);
  EXPECT_EQ(Echo(R"({"NS":["1","2","1.0"]})"), "error: Input collection contains duplicates");
  EXPECT_EQ(Echo(R"({"NS":["1","1","x"]})"),
            "error: The parameter cannot be converted to a numeric value: x");
  EXPECT_EQ(Echo(R"({"BS":["YQ==","YQ=="]})"),
            kInvalid + "Input collection [YQ==, YQ==]of type BS contains duplicates."s);
  EXPECT_EQ(Echo(R"({"SS":[null]})"),
            kInvalid + "An string set may not have a null string as a member"s);
  EXPECT_EQ(Echo(R"({"M":{"":{"S":"a"}}})"), "error: Empty attribute name");
  EXPECT_EQ(Echo(R"({"M":{")" + std::string(65536, 'a') + R"(":{"S":"a"}}})"),
            "error: Attribute name is too large, must be less than 65536 bytes");
  EXPECT_EQ(Parse(R"({"M":{")" + std::string(65535, 'a') + R"(":{"S":"a"}}})").substr(0, 1),
            "\x0A");
}

TEST(Json, RefusesOtherShapesWithoutHarm) {
  for (const char* json : {"null",
                           "1",
                           "[]",
                           "\"S\"",
                           "true",
                           R"({"S":5})",
                           R"({"S":{}})",
                           R"({"S":[]})",
                           R"({"S":true})",
                           R"({"N":1})",
                           R"({"N":1.5})",
                           R"({"B":5})",
                           R"({"B":[]})",
                           R"({"B":{}})",
                           R"({"BOOL":1})",
                           R"({"BOOL":"maybe"})",
                           R"({"BOOL":{}})",
                           R"({"NULL":[]})",
                           R"({"SS":"a"})",
                           R"({"SS":{}})",
                           R"({"SS":[1]})",
                           R"({"NS":[1]})",
                           R"({"BS":[1]})",
                           R"({"BS":[null]})",
                           R"({"NS":[null]})",
                           R"({"L":{}})",
                           R"({"L":"a"})",
                           R"({"L":[null]})",
                           R"({"L":[1]})",
                           R"({"M":[]})",
                           R"({"M":"a"})",
                           R"({"M":{"a":null}})",
                           R"({"M":{"a":"b"}})",
                           R"({"B":"YQ"})",
                           R"({"B":"YR=="})",
                           R"({"B":"Y==="})",
                           R"({"B":"===="})",
                           R"({"B":"YQ=a"})",
                           R"({"B":"Y Q="})",
                           R"({"B":"YQ==YQ=="})",
                           R"({"B":"_-=="})"}) {
    EXPECT_TRUE(Echo(json).starts_with("error: ")) << json << " -> " << Echo(json);
  }
}

TEST(Json, TakesTheWordsForBooleans) {
  EXPECT_EQ(Echo(R"({"BOOL":"yes"})"), R"({"BOOL":true})");
  EXPECT_EQ(Echo(R"({"BOOL":"False"})"), R"({"BOOL":false})");
  EXPECT_EQ(Echo(R"({"NULL":"1"})"), R"({"NULL":true})");
}

std::string Nested(int levels, bool maps) {
  std::string json = R"({"S":"a"})";
  for (int i = 0; i < levels; ++i) {
    json = maps ? R"({"M":{"a":)" + json + "}}" : R"({"L":[)" + json + "]}";
  }
  return json;
}

TEST(Json, BoundsNestingAsTheServiceDoes) {
  const std::string error =
      "error: Nesting Levels have exceeded supported limits: Attributes in the item have nested "
      "levels "
      "beyond supported limit";
  for (bool maps : {false, true}) {
    EXPECT_EQ(Echo(Nested(32, maps)), Nested(32, maps));
    EXPECT_EQ(Echo(Nested(33, maps)), error);
    EXPECT_EQ(Echo(Nested(150, maps)), error);
    const std::string item = R"({"v":)" + Nested(31, maps) + "}";
    EXPECT_EQ(EchoItem(item), item);
    EXPECT_EQ(EchoItem(R"({"v":)" + Nested(32, maps) + "}"), error);
  }
}

TEST(Json, ReadsItems) {
  EXPECT_EQ(EchoItem("{}"), "{}");
  EXPECT_EQ(EchoItem(R"({"b":{"S":"x"},"a":{"N":"01"}})"), R"({"a":{"N":"1"},"b":{"S":"x"}})");
  EXPECT_EQ(EchoItem(R"({"b":{"S":"x"},"a":{"S":"1"},"b":{"S":"y"}})"),
            R"({"a":{"S":"1"},"b":{"S":"y"}})");
  EXPECT_EQ(EchoItem(R"({"":{"S":"x"}})"), "error: Empty attribute name");
  EXPECT_EQ(EchoItem(R"({"a":{"S":"x"},"b":{}})"), kEmpty);
}

TEST(Json, AppendsBehindWhatIsThere) {
  simdjson::dom::parser parser;
  std::string out = "before";
  ASSERT_TRUE(ParseValue(parser.parse(std::string(R"({"S":"a"})")).value(), &out).ok());
  EXPECT_EQ(out,
            "before\x04"
            "a");
  ASSERT_TRUE(ParseItem(parser.parse(std::string("{}")).get_object().value(), &out).ok());
  EXPECT_EQ(out,
            "before\x04"
            "a\x01\0"s);
}

TEST(Json, LeavesNothingBehindAfterAnError) {
  EXPECT_EQ(Echo(R"({"L":[{"M":{"a":{"L":[{"S":"x"},{}]}}}]})"), kEmpty);
  EXPECT_EQ(Echo(R"({"L":[{"M":{"a":{"S":"x"}}}]})"), R"({"L":[{"M":{"a":{"S":"x"}}}]})");
}

TEST(Json, EscapesStrings) {
  std::string json;
  WriteJsonString("\0\x01\b\t\n\f\r\x1f \"\\/\x7f\xC3\xA9\xF0\x9F\x8D\xB6"s, &json);
  EXPECT_EQ(json, "\"\\u0000\\u0001\\b\\t\\n\\f\\r\\u001f \\\"\\\\/\x7f\xC3\xA9\xF0\x9F\x8D\xB6\"");
  // An escape at every place of the words that are scanned at once.
  for (size_t size = 0; size < 40; ++size) {
    for (size_t at = 0; at < size; ++at) {
      std::string text(size, 'x');
      text[at] = '"';
      std::string written;
      WriteJsonString(text, &written);
      std::string expected = "\"" + text + "\"";
      expected.insert(1 + at, "\\");
      ASSERT_EQ(written, expected);
    }
  }
}

TEST(Json, KeepsEveryStringThatJsonCanSay) {
  RandomValues random;
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(random.seed()));
  for (int i = 0; i < 2000; ++i) {
    const std::string bytes = AttributeValue::String(random.Utf8(60)).Encode();
    ASSERT_EQ(Parse(Write(bytes)), bytes);
  }
}

TEST(Json, RefusesLoneSurrogates) {
  for (const char* json : {R"({"S":"\ud800"})", R"({"S":"\udc00"})", R"({"S":"\ud800a"})",
                           R"({"S":"\ud800\ud800"})"}) {
    const std::string result = Parse(json);
    EXPECT_TRUE(result == "not JSON" || result.starts_with("error: ")) << json;
  }
  EXPECT_EQ(Parse(R"({"S":"\ud83c\udf76"})"), "\x04\xF0\x9F\x8D\xB6");
}

TEST(Base64, WritesAndReadsEveryLength) {
  RandomValues random;
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(random.seed()));
  std::string text;
  AppendBase64("\xFB\xFF\xFE", &text);
  EXPECT_EQ(text, "+//+");
  for (int i = 0; i < 3000; ++i) {
    const std::string bytes = random.Bytes(50);
    std::string encoded = "x";
    AppendBase64(bytes, &encoded);
    ASSERT_EQ(encoded.size(), 1 + (bytes.size() + 2) / 3 * 4);
    std::string decoded = "y";
    ASSERT_TRUE(DecodeBase64(std::string_view(encoded).substr(1), &decoded));
    ASSERT_EQ(decoded, "y" + bytes);
  }
}

TEST(Base64, TakesOnlyTheCanonicalForm) {
  for (const char* text : {"Y", "YQ", "YQ=", "YR==", "YWJ=", "YWK=", "====", "Y===", "YQ=a",
                           "=YQ=", "YQ==YQ==", "YQ\n=", "Y-_=", "YQ= "}) {
    std::string out = "kept";
    EXPECT_FALSE(DecodeBase64(text, &out)) << text;
    EXPECT_EQ(out, "kept");
  }
  std::string out;
  EXPECT_TRUE(DecodeBase64("YWI=", &out));
  EXPECT_EQ(out, "ab");
}

TEST(Json, RoundTripsRandomItems) {
  RandomValues random;
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(random.seed()));
  for (int i = 0; i < 1000; ++i) {
    const std::string item = EncodeItem(random.Attributes(4));
    std::string json;
    WriteItem(ItemView(item), &json);
    ASSERT_EQ(ParseItemText(json), item) << json;
  }
}

}  // namespace
}  // namespace onggi::model
