#include "server/expression/condition.h"

#include <gtest/gtest.h>

#include "server/expression/reserved_words.h"
#include "tests/unit/expression/expression_test_util.h"

namespace onggi::expression {
namespace {

constexpr char kItem[] = R"({
  "pk":{"S":"k"}, "s":{"S":"hello"}, "n":{"N":"5"}, "b":{"B":"aGVsbG8="},
  "ss":{"SS":["a","b"]}, "ns":{"NS":["1","2"]}, "bs":{"BS":["YQ=="]},
  "l":{"L":[{"N":"1"},{"S":"x"},{"L":[{"N":"9"}]}]},
  "m":{"M":{"x":{"N":"1"},"y":{"M":{"z":{"S":"q"}}}}},
  "t":{"BOOL":true}, "f":{"BOOL":false}, "z":{"NULL":true}, "name":{"S":"hello"}})";

bool Holds(std::string_view text, bool with_item = true) {
  Placeholders placeholders = CommonPlaceholders();
  const Result<Condition> condition = ParseCondition(text, "ConditionExpression", &placeholders);
  EXPECT_TRUE(condition.ok()) << condition.status().message();
  if (!condition.ok()) return false;
  const std::string item = Item(kItem);
  return condition->Evaluate(with_item ? model::ItemView(item) : model::ItemView());
}

TEST(Condition, HoldsWhereTheServiceHasItHold) {
  for (const char* text :
       {"n = :five", "ss = :sab", "l[2] = :l9", "t = :t", "z = :z", "m.x = l[0]", "s = #name",
        // Values of different types are different, and a missing one is different from all.
        "n <> s", "q <> :v", "q <> r", "size(q) <> :v", "size(n) <> :v", "m.y <> :v", "q <> :z",
        "s > :he", "s >= :hello", "n > :w", "n <= :five", "m.x < n", "b > :bhe",
        "s BETWEEN :he AND :hello", "n BETWEEN :v AND :five", "n IN (:v, :five)", "ss IN (:sab)",
        "attribute_exists(m.y.z)", "attribute_exists(l[2][0])", "attribute_not_exists(m.y.q)",
        "attribute_not_exists(l[3])", "attribute_not_exists(s[0])", "attribute_not_exists(q)",
        "attribute_type(n, :typeN)", "attribute_type(:v, :typeN)",
        "attribute_type(size(s), :typeN)", "begins_with(s, :he)", "begins_with(s, :empty)",
        "begins_with(b, :bhe)", "begins_with(:hello, :he)", "contains(s, :ell)",
        "contains(s, :empty)", "contains(b, :bhe)", "contains(:sab, l[1]) OR contains(ns, :v)",
        "contains(bs, :b)", "contains(l, :v)", "contains(l, :l9)", "contains(l, l[0])",
        "contains(:hello, s)", "size(s) = n", "size(b) = :five", "size(ss) = :w", "size(l) > :w",
        "size(m) = :w", "size(:he) = :w", "size(m.y) = m.x", "size(s) BETWEEN :v AND :five",
        "NOT q = :v", "NOT n < s", "NOT NOT n = :five",
        // NOT binds tightest, then AND, then OR.
        "n = :five OR n = :v AND n = :w", "NOT n = :v AND n = :five", "NOT (n = :v AND n = :five)",
        "(n = :v OR n = :five) AND t = :t"}) {
    EXPECT_TRUE(Holds(text)) << text;
  }
}

TEST(Condition, FailsWhereTheServiceHasItFail) {
  for (const char* text : {"q = r",
                           "q = :v",
                           "q < :v",
                           "q > :v",
                           "size(q) = :v",
                           "size(n) = :v",
                           "size(t) = :v",
                           "n < s",
                           "n >= s",
                           "t <> :t",
                           "z <> :z",
                           "n = :v",
                           "ss = :ss",
                           "q BETWEEN :he AND :hello",
                           "n BETWEEN q AND :five",
                           "n IN (q)",
                           "q IN (:v)",
                           "q IN (r)",
                           "attribute_exists(m.y.z.w)",
                           "attribute_exists(l[3])",
                           "attribute_exists(s[0])",
                           "attribute_exists(m[0])",
                           "attribute_type(q, :typeN)",
                           "attribute_type(s, :typeN)",
                           "begins_with(s, :bhe)",
                           "begins_with(n, :he)",
                           "begins_with(q, :he)",
                           "begins_with(:he, q)",
                           "contains(s, :five)",
                           "contains(ss, :v)",
                           "contains(ss, :sab)",
                           "contains(m, :s)",
                           "contains(n, :five)",
                           "contains(q, :s)",
                           "contains(s, q)",
                           "contains(l[2], :l9)",
                           "size(s) = :hello",
                           "size(s) < :hello",
                           "n < :five",
                           "NOT n = :five",
                           "n = :v OR n = :w",
                           "n = :five AND n = :v",
                           "(n = :five OR t = :t) AND n = :v"}) {
    EXPECT_FALSE(Holds(text)) << text;
  }
}

TEST(Condition, TakesNoItemForOneWithoutAttributes) {
  EXPECT_TRUE(Holds("attribute_not_exists(pk)", false));
  EXPECT_FALSE(Holds("attribute_exists(pk)", false));
  EXPECT_TRUE(Holds("n <> :v", false));
  EXPECT_FALSE(Holds("n = :v", false));
}

TEST(Condition, OutlivesItsTextAndPlaceholders) {
  const std::string item = Item(kItem);
  Condition moved;
  {
    std::string text = "#name = :hello";
    Placeholders placeholders = CommonPlaceholders();
    Condition condition = ParseCondition(text, "ConditionExpression", &placeholders).value();
    moved = std::move(condition);
    text.assign(text.size(), '!');
  }
  EXPECT_TRUE(moved.Evaluate(model::ItemView(item)));
}

TEST(Condition, EvaluatesLongChains) {
  EXPECT_TRUE(Holds(Repeat("n=:five", 150, " AND ")));
  EXPECT_TRUE(Holds(Repeat("n=:v", 149, " OR ") + " OR n=:five"));
  EXPECT_TRUE(Holds(Repeat("NOT ", 298) + "n=:five"));
}

TEST(ReservedWords, AreFoundInAnyCase) {
  for (const char* word : {"name", "NAME", "Name", "abort", "zone", "SIZE", "timestamp", "a", "url",
                           "status", "user", "ttl", "LocalTimestamp", "specifictype"}) {
    EXPECT_EQ(IsReservedWord(word), std::string_view(word) != "a") << word;
  }
  for (const char* word : {"", "nam", "names_", "zzz", "_name", "name1", "id", "localtimestampx"}) {
    EXPECT_FALSE(IsReservedWord(word)) << word;
  }
}

}  // namespace
}  // namespace onggi::expression
