#include "server/expression/codec.h"

#include <gtest/gtest.h>

#include "tests/unit/expression/expression_test_util.h"

namespace onggi::expression {
namespace {

const char* const kConditions[] = {
    "a = :v",
    "attribute_exists(a) AND NOT (b < :w OR c BETWEEN :v AND :w)",
    "a.b[3].c IN (:v, :w, :five) OR begins_with(#name, :he)",
    "contains(l, :v) AND attribute_type(a, :typeN) AND size(l) > :v",
    "attribute_not_exists(#dotted) OR a <> b",
};

const char* const kUpdates[] = {
    "SET a = :v, b = if_not_exists(b, :w) + :v, c.d[1] = list_append(:l, c.e)",
    "SET a = b - :v REMOVE c, d[2] ADD n :v DELETE s :ss",
    "REMOVE x",
};

std::string ConditionBytes(const char* text) {
  Placeholders placeholders = CommonPlaceholders();
  std::string bytes;
  EncodeCondition(ParseCondition(text, "ConditionExpression", &placeholders).value(), &bytes);
  return bytes;
}

std::string UpdateBytes(const char* text) {
  Placeholders placeholders = CommonPlaceholders();
  std::string bytes;
  EncodeUpdate(ParseUpdate(text, &placeholders).value(), &bytes);
  return bytes;
}

TEST(ExpressionCodec, OperationsKeepTheirNumbers) {
  // Nodes of two versions speak with each other.
  EXPECT_EQ(static_cast<int>(Op::kPath), 0);
  EXPECT_EQ(static_cast<int>(Op::kSize), 2);
  EXPECT_EQ(static_cast<int>(Op::kAnd), 3);
  EXPECT_EQ(static_cast<int>(Op::kContains), 18);
  EXPECT_EQ(static_cast<int>(Op::kListAppend), 22);
}

TEST(ExpressionCodec, ADecodedConditionDecidesAsTheOriginal) {
  const std::string items[] = {
      Item(R"({})"),
      Item(R"({"a":{"N":"1"},"b":{"N":"1"},"c":{"N":"1.5"}})"),
      Item(R"({"a":{"N":"7"},"l":{"L":[{"N":"1"},{"N":"2"}]}})"),
      Item(R"({"name":{"S":"hello"},"a":{"M":{"b":{"L":[]}}}})"),
      Item(R"({"a.b":{"S":""},"b":{"N":"3"}})"),
  };
  for (const char* text : kConditions) {
    Placeholders placeholders = CommonPlaceholders();
    const Condition original = ParseCondition(text, "ConditionExpression", &placeholders).value();
    const auto decoded = DecodeCondition(ConditionBytes(text));
    ASSERT_TRUE(decoded.ok()) << text;
    for (const std::string& item : items) {
      const model::ItemView view(item);
      EXPECT_EQ(decoded->Evaluate(view), original.Evaluate(view)) << text << " on " << Json(item);
    }
    std::string again;
    EncodeCondition(*decoded, &again);
    EXPECT_EQ(again, ConditionBytes(text));
  }
}

TEST(ExpressionCodec, ADecodedUpdateDoesAsTheOriginal) {
  const std::string key = Item(R"({"k":{"S":"x"}})");
  const std::string items[] = {
      key,
      Item(R"({"k":{"S":"x"},"a":{"N":"1"},"b":{"N":"4"},"c":{"M":{"d":{"L":[]},"e":{"L":[]}}}})"),
      Item(R"({"k":{"S":"x"},"b":{"N":"4"},"c":{"S":""},"d":{"L":[]},"s":{"SS":["b"]}})"),
  };
  for (const char* text : kUpdates) {
    Placeholders placeholders = CommonPlaceholders();
    const Update original = ParseUpdate(text, &placeholders).value();
    const auto decoded = DecodeUpdate(UpdateBytes(text));
    ASSERT_TRUE(decoded.ok()) << text;
    for (const std::string& item : items) {
      Update::Output expected, found;
      const Status a = original.Apply(model::ItemView(item), model::ItemView(key), true, &expected);
      const Status b = decoded->Apply(model::ItemView(item), model::ItemView(key), true, &found);
      EXPECT_EQ(a, b) << text;
      EXPECT_EQ(found.item, expected.item) << text;
      EXPECT_EQ(found.updated_old, expected.updated_old) << text;
      EXPECT_EQ(found.updated_new, expected.updated_new) << text;
    }
  }
}

TEST(ExpressionCodec, AnEmptyConditionIsTrue) {
  std::string bytes;
  EncodeCondition(Condition(), &bytes);
  EXPECT_TRUE(DecodeCondition(bytes)->Evaluate(model::ItemView()));
}

TEST(ExpressionCodec, RefusesWhatIsCutShortOrGoesOn) {
  for (const char* text : kConditions) {
    const std::string bytes = ConditionBytes(text);
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (i == 1) continue;  // the format alone is the empty condition
      EXPECT_EQ(DecodeCondition(bytes.substr(0, i)).status().code(), Code::kCorruption);
    }
    EXPECT_FALSE(DecodeCondition(bytes + "x").ok());
  }
  for (const char* text : kUpdates) {
    const std::string bytes = UpdateBytes(text);
    for (size_t i = 0; i < bytes.size(); ++i) {
      EXPECT_EQ(DecodeUpdate(bytes.substr(0, i)).status().code(), Code::kCorruption);
    }
  }
}

TEST(ExpressionCodec, AnyBytesAreRefusedOrCanBeEvaluated) {
  const std::string key = Item(R"({"k":{"S":"x"}})");
  const std::string item =
      Item(R"({"k":{"S":"x"},"a":{"N":"1"},"b":{"N":"4"},"c":{"M":{"d":{"L":[{"N":"1"}]}}}})");
  const auto try_all = [](std::string bytes, auto check) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      const char kept = bytes[i];
      for (int value = 0; value < 256; ++value) {
        bytes[i] = static_cast<char>(value);
        check(bytes);
      }
      bytes[i] = kept;
    }
  };
  for (const char* text : kConditions) {
    try_all(ConditionBytes(text), [&](const std::string& bytes) {
      const auto decoded = DecodeCondition(bytes);
      if (decoded.ok()) decoded->Evaluate(model::ItemView(item));
    });
  }
  for (const char* text : kUpdates) {
    try_all(UpdateBytes(text), [&](const std::string& bytes) {
      const auto decoded = DecodeUpdate(bytes);
      Update::Output output;
      if (decoded.ok()) {
        (void)decoded->Apply(model::ItemView(item), model::ItemView(key), true, &output);
      }
    });
  }
}

}  // namespace
}  // namespace onggi::expression
