#include "server/expression/projection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/expression/expression_test_util.h"

namespace onggi::expression {
namespace {

constexpr char kItem[] = R"({
  "pk":{"S":"k"}, "s":{"S":"hello"}, "n":{"N":"5"},
  "l":{"L":[{"N":"1"},{"S":"x"},{"L":[{"N":"9"}]}]},
  "m":{"M":{"x":{"N":"1"},"y":{"M":{"z":{"S":"q"}}}}}, "a.b":{"S":"dotted"}})";

/// The projected item, or the error.
std::string Projected(std::string_view text) {
  Placeholders placeholders = CommonPlaceholders();
  const Result<Projection> projection = ParseProjection(text, &placeholders);
  if (!projection.ok()) return projection.status().message();
  const std::string item = Item(kItem);
  std::string out;
  projection->Project(model::ItemView(item), &out);
  EXPECT_TRUE(model::ValidateItem(out).ok());
  return Json(out);
}

TEST(Projection, KeepsWhatItsPathsName) {
  EXPECT_EQ(Projected("s"), R"({"s":{"S":"hello"}})");
  EXPECT_EQ(Projected("s,n,q"), R"({"n":{"N":"5"},"s":{"S":"hello"}})");
  EXPECT_EQ(Projected("#dotted"), R"({"a.b":{"S":"dotted"}})");
  EXPECT_EQ(Projected("m.x"), R"({"m":{"M":{"x":{"N":"1"}}}})");
  EXPECT_EQ(Projected("m.y.z, l[1]"),
            R"({"l":{"L":[{"S":"x"}]},"m":{"M":{"y":{"M":{"z":{"S":"q"}}}}}})");
  EXPECT_EQ(Projected("m.y, l[0], m.x"),
            R"({"l":{"L":[{"N":"1"}]},"m":{"M":{"x":{"N":"1"},"y":{"M":{"z":{"S":"q"}}}}}})");
}

TEST(Projection, ClosesUpListsInTheirOrder) {
  EXPECT_EQ(Projected("l[2],l[0]"), R"({"l":{"L":[{"N":"1"},{"L":[{"N":"9"}]}]}})");
  EXPECT_EQ(Projected("l[2][0]"), R"({"l":{"L":[{"L":[{"N":"9"}]}]}})");
  EXPECT_EQ(Projected("l[2][1],l[0]"), R"({"l":{"L":[{"N":"1"}]}})");
  EXPECT_EQ(Projected("l[9]"), "{}");
}

TEST(Projection, LeavesOutWhatIsNotThere) {
  for (const char* text : {"q", "m.q", "m.y.q", "s.x", "l.x", "m[0]", "l[0].x", "l[2][1]"}) {
    EXPECT_EQ(Projected(text), "{}") << text;
  }
}

TEST(Projection, OfNoItemIsEmpty) {
  std::string out;
  ParseProjection("a, b.c", nullptr)->Project(model::ItemView(), &out);
  EXPECT_EQ(Json(out), "{}");
}

TEST(Projection, RefusesWithTheServicesMessages) {
  const std::pair<const char*, const char*> kCases[] = {
      {"", "The expression can not be empty;"},
      {"s,", "Syntax error; token: \"<EOF>\", near: \",\""},
      {"s n", "Syntax error; token: \"n\", near: \"s n\""},
      {",s", "Syntax error; token: \",\", near: \",s\""},
      {"(s)", "Syntax error; token: \"(\", near: \"(s\""},
      {"s()", "Syntax error; token: \"(\", near: \"s()\""},
      {"_id", "Syntax error; token: \"_\", near: \"_id\""},
      {":v", "Syntax error; token: \":v\", near: \":v\""},
      {"name,#u", "Attribute name is a reserved keyword; reserved keyword: name"},
      {"#u,name", "Attribute name is a reserved keyword; reserved keyword: name"},
      {"s,s,#u",
       "An expression attribute name used in the document path is not defined; attribute name: "
       "#u"},
      {"l[2147483648]", "List index is not within the allowable range; index: [2147483648]"},
      {"s,s",
       "Two document paths overlap with each other; must remove or rewrite one of these paths; "
       "path one: [s], path two: [s]"},
      {"m.x,m",
       "Two document paths overlap with each other; must remove or rewrite one of these paths; "
       "path one: [m, x], path two: [m]"},
      {"a, m.x[1].y, b, m.x[1]",
       "Two document paths overlap with each other; must remove or rewrite one of these paths; "
       "path one: [m, x, [1], y], path two: [m, x, [1]]"},
      {"m[0],m.x",
       "Two document paths conflict with each other; must remove or rewrite one of these paths; "
       "path one: [m, [0]], path two: [m, x]"},
  };
  for (const auto& [text, error] : kCases) {
    EXPECT_EQ(Projected(text), "Invalid ProjectionExpression: " + std::string(error));
  }
}

TEST(Projection, OfAttributesTakesNamesLiterally) {
  const Projection projection = Projection::OfAttributes({"a.b", "s", "name", "s"});
  const std::string item = Item(kItem);
  std::string out;
  projection.Project(model::ItemView(item), &out);
  EXPECT_EQ(Json(out), R"({"a.b":{"S":"dotted"},"s":{"S":"hello"}})");
  EXPECT_TRUE(projection.only_top_level());
  EXPECT_EQ(projection.attributes().size(), 3u);
}

TEST(Projection, TellsWhetherItGoesIntoAttributes) {
  Placeholders placeholders;
  EXPECT_TRUE(ParseProjection("a, b", &placeholders)->only_top_level());
  const Projection nested = ParseProjection("a, b.c, b.d", &placeholders).value();
  EXPECT_FALSE(nested.only_top_level());
  ASSERT_EQ(nested.attributes().size(), 2u);
  EXPECT_EQ(nested.attributes()[1].name, "b");
  EXPECT_TRUE(nested.attributes()[1].nested);
}

}  // namespace
}  // namespace onggi::expression
