#include <gtest/gtest.h>
#include <simdjson.h>

#include "server/model/json.h"
#include "tests/unit/model/random_values.h"

namespace onggi::model {
namespace {

using std::string_literals::operator""s;

bool ValueOk(const std::string& bytes) {
  const Status status = ValidateValue(bytes);
  EXPECT_TRUE(status.ok() || status.code() == Code::kCorruption);
  return status.ok();
}

TEST(Validate, RefusesFormatsThatItDoesNotKnow) {
  EXPECT_TRUE(ValidateItem("\x01\0"s).ok());
  EXPECT_EQ(ValidateItem("\x02\0"s).message(), "item has format 2, this program knows format 1");
  EXPECT_FALSE(ValidateItem("").ok());
  EXPECT_FALSE(ValidateItem("\x01").ok());
}

TEST(Validate, RefusesWhatTheEncoderWouldNotWrite) {
  EXPECT_TRUE(ValueOk("\x01"));
  EXPECT_FALSE(ValueOk(""));
  EXPECT_FALSE(ValueOk("\x01\x01"));  // null with a payload
  EXPECT_FALSE(ValueOk("\x02"));      // bool without one
  EXPECT_FALSE(ValueOk("\x02\x02"));  // neither false nor true
  EXPECT_FALSE(ValueOk("\x00"s));     // no such type
  EXPECT_FALSE(ValueOk("\x0B"));
  EXPECT_FALSE(ValueOk("\x04\xC3"));          // cut UTF-8
  EXPECT_FALSE(ValueOk("\x04\xED\xA0\x80"));  // a surrogate
  EXPECT_TRUE(ValueOk("\x05\xC3"));
  EXPECT_FALSE(ValueOk("\x06\x00"s));  // empty set
  EXPECT_TRUE(
      ValueOk("\x06\x02\x01"
              "a"
              "\x01"
              "b"));
  EXPECT_FALSE(
      ValueOk("\x06\x02\x01"
              "b"
              "\x01"
              "a"));  // order
  EXPECT_FALSE(
      ValueOk("\x06\x02\x01"
              "a"
              "\x01"
              "a"));  // duplicates
  EXPECT_FALSE(
      ValueOk("\x06\x01\x01"
              "ab"));  // rest
  EXPECT_FALSE(
      ValueOk("\x06\x01\x05"
              "a"));  // cut
  EXPECT_FALSE(
      ValueOk("\x06\x81\x00\x01"
              "a"s));  // varint longer than need be
  EXPECT_TRUE(ValueOk("\x09\x00"s));
  EXPECT_FALSE(ValueOk("\x09\x00\x01"s));
  EXPECT_TRUE(ValueOk("\x09\x01\x01\x00\x01"s));
  EXPECT_FALSE(ValueOk("\x09\x01\x02\x00\x00\x01"s));  // offsets wider than need be
  EXPECT_FALSE(ValueOk("\x09\x01\x03\x00\x00\x00\x01"s));
  EXPECT_FALSE(ValueOk("\x09\x02\x01\x00\x00\x01\x01"s));  // offsets do not grow
  EXPECT_FALSE(ValueOk("\x09\x02\x01\x00\x02\x01\x01"s));  // offset at the end
  EXPECT_FALSE(ValueOk("\x09\x01\x01\x01\x01\x01"s));      // a gap in front
  EXPECT_FALSE(ValueOk("\x09\xFF\xFF\xFF\xFF\x0F\x04"s));  // count beyond the bytes
  EXPECT_TRUE(
      ValueOk("\x0A\x01\x01\x00\x01"
              "a\x01"s));
  EXPECT_FALSE(ValueOk("\x0A\x01\x01\x00\x00\x01"s));  // empty name
  EXPECT_FALSE(
      ValueOk("\x0A\x01\x01\x00\x05"
              "a\x01"s));
  EXPECT_FALSE(
      ValueOk("\x0A\x02\x01\x00\x03\x01"
              "b\x01\x01"
              "a\x01"s));  // order
  EXPECT_FALSE(
      ValueOk("\x0A\x02\x01\x00\x03\x01"
              "a\x01\x01"
              "a\x01"s));
}

// What passes is canonical: written as JSON and read again it has the same bytes.
void ExpectRoundTrip(simdjson::dom::parser* parser, const std::string& item) {
  std::string json;
  WriteItem(ItemView(item), &json);
  std::string again;
  simdjson::dom::object object;
  ASSERT_EQ(parser->parse(json).get_object().get(object), simdjson::SUCCESS) << json;
  const Status status = ParseItem(object, &again);
  ASSERT_TRUE(status.ok()) << status.ToString();
  ASSERT_EQ(again, item);
  EXPECT_GE(ItemView(item).BilledSize(), 0u);
}

TEST(Validate, SurvivesMutatedEncodings) {
  RandomValues random;
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(random.seed()));
  simdjson::dom::parser parser;
  int accepted = 0;
  for (int i = 0; i < 400; ++i) {
    const std::string item = EncodeItem(random.Attributes(3));
    ASSERT_NO_FATAL_FAILURE(ExpectRoundTrip(&parser, item));
    for (int j = 0; j < 50; ++j) {
      std::string mutated = item;
      for (uint64_t k = 1 + random.Below(3); k > 0; --k) {
        const size_t at = random.Below(mutated.size());
        switch (random.Below(4)) {
          case 0: mutated[at] = static_cast<char>(random.Below(256)); break;
          case 1: mutated[at] = static_cast<char>(mutated[at] + (random.OneIn(2) ? 1 : -1)); break;
          case 2: mutated.erase(at, 1 + random.Below(4)); break;
          default: mutated.insert(at, random.Bytes(4));
        }
        if (mutated.empty()) mutated = "\x01";
      }
      // A heap copy of the exact size, so that a sanitizer sees a read past the end.
      const std::vector<char> exact(mutated.begin(), mutated.end());
      if (ValidateItem({exact.data(), exact.size()}).ok()) {
        ++accepted;
        ASSERT_NO_FATAL_FAILURE(ExpectRoundTrip(&parser, mutated));
      }
    }
    const std::vector<char> cut(item.begin(), item.end() - 1 - random.Below(item.size()));
    // A shorter item may be well-formed only when its last string or binary lost bytes.
    const Status status = ValidateItem({cut.data(), cut.size()});
    EXPECT_TRUE(status.ok() || status.code() == Code::kCorruption);
  }
  EXPECT_GT(accepted, 0);  // changed characters of strings
}

}  // namespace
}  // namespace onggi::model
