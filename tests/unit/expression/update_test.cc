#include "server/expression/update.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/expression/expression_test_util.h"

namespace onggi::expression {
namespace {

constexpr char kItem[] = R"({
  "a":{"N":"1"}, "l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"}]}, "m":{"M":{"x":{"N":"1"}}},
  "s":{"S":"q"}, "ss":{"SS":["a","b"]}})";

constexpr char kKey[] = R"({"pk":{"S":"k"}})";

/// Applies `text` to `item` ("" for none): the new item, or the error.
struct Applied {
  std::string item;
  std::string updated_old;
  std::string updated_new;
  bool creates_nothing = false;
};

Applied Apply(std::string_view text, const std::string& item_json = kItem) {
  Placeholders placeholders = CommonPlaceholders();
  const Result<Update> update = ParseUpdate(text, &placeholders);
  if (!update.ok()) return {update.status().message(), {}, {}};
  const std::string item = item_json.empty() ? std::string() : Item(item_json);
  const std::string key = Item(kKey);
  Update::Output output;
  const Status status = update->Apply(item_json.empty() ? model::ItemView() : model::ItemView(item),
                                      model::ItemView(key), /*want_updated=*/true, &output);
  if (!status.ok()) return {status.message(), {}, {}};
  EXPECT_TRUE(model::ValidateItem(output.item).ok()) << text;
  return {Json(output.item), Json(output.updated_old), Json(output.updated_new),
          output.creates_nothing};
}

std::string Attribute(std::string_view text, std::string_view projection,
                      const std::string& item_json = kItem) {
  const std::string item = Apply(text, item_json).item;
  if (!item.starts_with("{")) return item;
  std::string out;
  const std::string encoded = Item(item);
  ParseProjection(projection, nullptr)->Project(model::ItemView(encoded), &out);
  return Json(out);
}

TEST(UpdateSet, PutsValuesAndPaths) {
  EXPECT_EQ(Attribute("SET a = :s", "a"), R"({"a":{"S":"x"}})");
  EXPECT_EQ(Attribute("SET q = l[1], r = m", "q, r"),
            R"({"q":{"N":"1"},"r":{"M":{"x":{"N":"1"}}}})");
  EXPECT_EQ(Attribute("SET a = (s)", "a"), R"({"a":{"S":"q"}})");
  EXPECT_EQ(Attribute("SET m.x = :v, m.y = :w", "m"),
            R"({"m":{"M":{"x":{"N":"1"},"y":{"N":"2"}}}})");
}

TEST(UpdateSet, AddsAndSubtracts) {
  EXPECT_EQ(Attribute("SET a = a + :w", "a"), R"({"a":{"N":"3"}})");
  EXPECT_EQ(Attribute("SET a=a-:w", "a"), R"({"a":{"N":"-1"}})");
  EXPECT_EQ(Attribute("SET a = (a + :v)", "a"), R"({"a":{"N":"2"}})");
  EXPECT_EQ(Attribute("SET a = (a) + (:v)", "a"), R"({"a":{"N":"2"}})");
  EXPECT_EQ(Attribute("SET a = a + a", "a"), R"({"a":{"N":"2"}})");
  EXPECT_EQ(Attribute("SET m.x = :w + m.x", "m.x"), R"({"m":{"M":{"x":{"N":"3"}}}})");
  EXPECT_EQ(Attribute("SET a = if_not_exists(b, :v) + if_not_exists(c, :w)", "a"),
            R"({"a":{"N":"3"}})");
}

TEST(UpdateSet, AppendsLists) {
  EXPECT_EQ(Attribute("SET l = list_append(l, :l)", "l"),
            R"({"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"},{"N":"7"}]}})");
  EXPECT_EQ(Attribute("SET l = list_append(:l, l)", "l"),
            R"({"l":{"L":[{"N":"7"},{"N":"0"},{"N":"1"},{"N":"2"}]}})");
  EXPECT_EQ(Attribute("SET q = list_append(if_not_exists(q, :none), :l)", "q"),
            R"({"q":{"L":[{"N":"7"}]}})");
}

TEST(UpdateSet, FallsBackWithIfNotExists) {
  EXPECT_EQ(Attribute("SET a = if_not_exists(a, :w)", "a"), R"({"a":{"N":"1"}})");
  EXPECT_EQ(Attribute("SET q = if_not_exists(q, :w)", "q"), R"({"q":{"N":"2"}})");
  EXPECT_EQ(Attribute("SET q = if_not_exists(m.z, if_not_exists(m.x, :w))", "q"),
            R"({"q":{"N":"1"}})");
}

TEST(UpdateSet, SeesTheItemAsItWas) {
  EXPECT_EQ(Attribute("SET a = s, s = a", "a, s"), R"({"a":{"S":"q"},"s":{"N":"1"}})");
  EXPECT_EQ(Attribute("SET l[1] = l[0], l[0] = l[1]", "l"),
            R"({"l":{"L":[{"N":"1"},{"N":"0"},{"N":"2"}]}})");
  EXPECT_EQ(Attribute("SET q = l[2] REMOVE l[0]", "q"), R"({"q":{"N":"2"}})");
}

TEST(UpdateSet, AppendsBeyondTheEndOfAList) {
  EXPECT_EQ(Attribute("SET l[10] = :v", "l"),
            R"({"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"},{"N":"1"}]}})");
  EXPECT_EQ(Attribute("SET l[10] = :v, l[3] = :w", "l"),
            R"({"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"},{"N":"2"},{"N":"1"}]}})");
  EXPECT_EQ(Attribute("ADD l[7] :v", "l"),
            R"({"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"},{"N":"1"}]}})");
}

TEST(UpdateRemove, MeansTheItemAsItWas) {
  EXPECT_EQ(Attribute("REMOVE l[0], l[2]", "l"), R"({"l":{"L":[{"N":"1"}]}})");
  EXPECT_EQ(Attribute("REMOVE l[1], l[0], l[2]", "l"), R"({"l":{"L":[]}})");
  EXPECT_EQ(Attribute("REMOVE l[0], l[10]", "l"), R"({"l":{"L":[{"N":"1"},{"N":"2"}]}})");
  EXPECT_EQ(Attribute("SET l[5] = :s REMOVE l[0], l[3]", "l"),
            R"({"l":{"L":[{"N":"1"},{"N":"2"},{"S":"x"}]}})");
  EXPECT_EQ(Attribute("SET l[2] = :s REMOVE l[0]", "l"), R"({"l":{"L":[{"N":"1"},{"S":"x"}]}})");
}

TEST(UpdateRemove, TakesAttributesAway) {
  EXPECT_EQ(Apply("REMOVE a, l, m, ss").item, R"({"s":{"S":"q"}})");
  EXPECT_EQ(Attribute("REMOVE m.x", "m"), R"({"m":{"M":{}}})");
  EXPECT_EQ(Attribute("REMOVE q, m.q, l[9]", "l, m"),
            R"({"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"}]},"m":{"M":{"x":{"N":"1"}}}})");
}

TEST(UpdateAdd, CountsAndUnites) {
  EXPECT_EQ(Attribute("ADD a :w, q :w, m.z :v", "a, m, q"),
            R"({"a":{"N":"3"},"m":{"M":{"x":{"N":"1"},"z":{"N":"1"}}},"q":{"N":"2"}})");
  EXPECT_EQ(Attribute("ADD ss :ss, q :ss", "q, ss"),
            R"({"q":{"SS":["b","c"]},"ss":{"SS":["a","b","c"]}})");
}

TEST(UpdateDelete, TakesElementsAndThenTheSetAway) {
  EXPECT_EQ(Attribute("DELETE ss :ss", "ss"), R"({"ss":{"SS":["a"]}})");
  EXPECT_EQ(Attribute("DELETE ss :sab", "ss"), "{}");
  EXPECT_EQ(Attribute("DELETE q :ss", "q"), "{}");
  EXPECT_EQ(Attribute("DELETE m.s :sab, l[1] :sab", "l, m",
                      R"({"m":{"M":{"s":{"SS":["a"]}}},"l":{"L":[{"N":"1"},{"SS":["b"]}]}})"),
            R"({"l":{"L":[{"N":"1"}]},"m":{"M":{}}})");
}

TEST(Update, DoesAllSectionsInAnyOrder) {
  EXPECT_EQ(Apply("add a :v remove m Delete ss :ss sEt z = :v").item,
            R"({"a":{"N":"2"},"l":{"L":[{"N":"0"},{"N":"1"},{"N":"2"}]},"s":{"S":"q"},)"
            R"("ss":{"SS":["a"]},"z":{"N":"1"}})");
}

TEST(Update, StartsFromTheKeyWhenThereIsNoItem) {
  EXPECT_EQ(Apply("SET a = :v, b = pk", "").item,
            R"({"a":{"N":"1"},"b":{"S":"k"},"pk":{"S":"k"}})");
  EXPECT_EQ(Apply("ADD a :v", "").item, R"({"a":{"N":"1"},"pk":{"S":"k"}})");
  EXPECT_FALSE(Apply("SET a = :v REMOVE b", "").creates_nothing);
  EXPECT_TRUE(Apply("REMOVE b", "").creates_nothing);
  EXPECT_TRUE(Apply("DELETE b :ss", "").creates_nothing);
  EXPECT_FALSE(Apply("REMOVE b").creates_nothing);
}

TEST(Update, GivesTheTouchedPathsBeforeAndAfter) {
  Applied applied = Apply("SET m.x = :w, q = :v REMOVE a, s ADD ss :ss");
  EXPECT_EQ(applied.updated_old,
            R"({"a":{"N":"1"},"m":{"M":{"x":{"N":"1"}}},"s":{"S":"q"},"ss":{"SS":["a","b"]}})");
  EXPECT_EQ(applied.updated_new,
            R"({"m":{"M":{"x":{"N":"2"}}},"q":{"N":"1"},"ss":{"SS":["a","b","c"]}})");
  applied = Apply("SET l[1] = :s");
  EXPECT_EQ(applied.updated_old, R"({"l":{"L":[{"N":"1"}]}})");
  EXPECT_EQ(applied.updated_new, R"({"l":{"L":[{"S":"x"}]}})");
  applied = Apply("SET q = :v", "");
  EXPECT_EQ(applied.updated_old, "{}");
  EXPECT_EQ(applied.updated_new, R"({"q":{"N":"1"}})");
}

constexpr char kInvalidPath[] =
    "The document path provided in the update expression is invalid for update";
constexpr char kWrongType[] = "An operand in the update expression has an incorrect data type";
constexpr char kMissing[] =
    "The provided expression refers to an attribute that does not exist in the item";

TEST(Update, RefusesWhatDoesNotFitTheItem) {
  for (const char* text :
       {"SET q.r = :v", "SET a.r = :v", "SET l.r = :v", "SET m[0] = :v", "SET a[1] = :v",
        "SET l[0][1] = :v", "SET m.y.z = :v", "REMOVE q.y", "REMOVE a.q", "REMOVE m.q.r",
        "REMOVE l[0].x", "REMOVE l[5].x", "ADD q.r :v", "ADD m[0] :v", "DELETE q.r :ss"}) {
    EXPECT_EQ(Apply(text).item, kInvalidPath) << text;
  }
  for (const char* text :
       {"SET a = s + :v", "SET a = list_append(a, l)", "SET a = if_not_exists(b, :s) + :v",
        "SET a = s + zz", "ADD s :ss", "ADD ss :ns", "ADD ss :v", "DELETE ss :ns", "DELETE a :ss",
        "DELETE l :ss"}) {
    EXPECT_EQ(Apply(text).item, kWrongType) << text;
  }
  for (const char* text : {"SET a = q", "SET a = q + :v", "SET a = m.y", "SET a = zz + s",
                           "SET a = list_append(zz, l)", "SET a = if_not_exists(x, y)"}) {
    EXPECT_EQ(Apply(text).item, kMissing) << text;
  }
  EXPECT_EQ(Apply("REMOVE a.b", "").item, kInvalidPath);
  EXPECT_EQ(Apply("SET a = b", "").item, kMissing);
}

TEST(Update, RefusesNumbersThatDoNotFit) {
  const std::string item = R"({"a":{"N":"9e125"},"b":{"N":"1e-130"}})";
  EXPECT_EQ(Apply("SET a = a + a", item).item,
            "Number overflow. Attempting to store a number with magnitude larger than supported "
            "range");
  EXPECT_EQ(Apply("ADD a :v", item).item,
            "Attempting to store more than 38 significant digits in a Number");
}

TEST(Update, RefusesToNestTooDeep) {
  // m.x.x...: 31 levels below the item.
  std::string json = R"({"N":"1"})";
  for (int i = 0; i < 31; ++i) json = R"({"M":{"x":)" + json + "}}";
  const std::string item = R"({"m":)" + json + R"(,"e":{"M":{}}})";
  EXPECT_EQ(Attribute("SET q = m", "e", item), R"({"e":{"M":{}}})");
  EXPECT_EQ(Apply("SET e.x = m", item).item, "Nesting Levels have exceeded supported limits");
  EXPECT_EQ(Attribute("SET e.x = m.x", "s", item), "{}");
}

TEST(Update, SharesNothingWithItsText) {
  Update moved;
  {
    std::string text = "SET #name = :hello, m.#0 = :v";
    Placeholders placeholders = CommonPlaceholders();
    Update update = ParseUpdate(text, &placeholders).value();
    moved = std::move(update);
    text.assign(text.size(), '!');
  }
  const std::string item = Item(kItem);
  Update::Output output;
  ASSERT_TRUE(moved.Apply(model::ItemView(item), {}, false, &output).ok());
  EXPECT_TRUE(output.updated_new.empty());
  EXPECT_EQ(model::ItemView(output.item).Find("name").AsString(), "hello");
}

TEST(Update, NamesTheAttributesItWritesAndReads) {
  Placeholders placeholders = CommonPlaceholders();
  const Update update =
      ParseUpdate("SET a = b, m.x = if_not_exists(c.d, :v) REMOVE e", &placeholders).value();
  std::vector<std::string> written;
  for (const AttributeUse& use : update.written_attributes()) written.emplace_back(use.name);
  EXPECT_THAT(written, ::testing::ElementsAre("a", "m", "e"));
  EXPECT_TRUE(update.written_attributes()[1].nested);
  EXPECT_EQ(update.attributes().size(), 5u);
}

struct Case {
  std::string text;
  std::string error;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.text.substr(0, 60); }

class UpdateError : public ::testing::TestWithParam<Case> {};

TEST_P(UpdateError, IsTheServicesMessage) {
  Placeholders placeholders = CommonPlaceholders();
  const Result<Update> update = ParseUpdate(GetParam().text, &placeholders);
  EXPECT_EQ(update.status().message(),
            GetParam().error.empty() ? "" : "Invalid UpdateExpression: " + GetParam().error)
      << GetParam().text;
}

std::string Syntax(std::string_view token, std::string_view near) {
  return "Syntax error; token: \"" + std::string(token) + "\", near: \"" + std::string(near) + "\"";
}

std::string Overlap(std::string_view one, std::string_view two) {
  return "Two document paths overlap with each other; must remove or rewrite one of these paths; "
         "path one: " +
         std::string(one) + ", path two: " + std::string(two);
}

INSTANTIATE_TEST_SUITE_P(
    Syntax, UpdateError,
    ::testing::Values(
        Case{"", "The expression can not be empty;"}, Case{"SET", Syntax("<EOF>", "SET")},
        Case{"foo", Syntax("foo", "foo")}, Case{"a x b", Syntax("a", "a x")},
        Case{"SET a", Syntax("<EOF>", "a")}, Case{"SET a = :v,", Syntax("<EOF>", ",")},
        Case{"SET a = :v b", Syntax("b", ":v b")},
        Case{"SET a = a + :v + :w", Syntax("+", ":v + :w")},
        Case{"SET a = (b + :v) - :w", Syntax("-", ") - :w")},
        Case{"SET a = if_not_exists(b, c + :v)", Syntax("+", "c + :v")},
        Case{"SET a = -:v", Syntax("-", "= -:v")}, Case{"SET :v = a", Syntax(":v", "SET :v =")},
        Case{"SET (a) = :v", Syntax("(", "SET (a")}, Case{"SET foo(a) = :v", Syntax("(", "foo(a")},
        Case{"SET a = :m.x", Syntax(".", ":m.x")}, Case{"SET set = :v", Syntax("set", "SET set =")},
        Case{"SET a = :v; SET b = :w", Syntax(";", ":v; SET")},
        Case{"SET l[-1] = :v", Syntax("-", "[-1")}, Case{"REMOVE a b", Syntax("b", "a b")},
        Case{"REMOVE :v", Syntax(":v", "REMOVE :v")}, Case{"ADD a b", Syntax("b", "a b")},
        Case{"ADD a = :v", Syntax("=", "a = :v")}, Case{"ADD a foo(b)", Syntax("foo", "a foo(")},
        Case{"DELETE ss", Syntax("<EOF>", "ss")},
        Case{"SET a = foo(b) REMOVE", Syntax("<EOF>", "REMOVE")}));

INSTANTIATE_TEST_SUITE_P(
    Meaning, UpdateError,
    ::testing::Values(
        Case{"SET a = ((a + :v))", "The expression has redundant parentheses;"},
        Case{"SET a = ((b)) + :v", "The expression has redundant parentheses;"},
        Case{"SET a = ((b)) REMOVE", "The expression has redundant parentheses;"},
        Case{"SET a = :v SET b = :v",
             "The \"SET\" section can only be used once in an update expression;"},
        Case{"REMOVE a ADD b :v REMOVE c",
             "The \"REMOVE\" section can only be used once in an update expression;"},
        Case{"ADD a :v ADD name :v",
             "Attribute name is a reserved keyword; reserved keyword: name"},
        Case{"SET a = foo(name)", "Invalid function name; function: foo"},
        Case{"SET name = foo(a)", "Attribute name is a reserved keyword; reserved keyword: name"},
        Case{"SET a = size(name)",
             "The function is not allowed in an update expression; function: size"},
        Case{"SET a = list_append(list_append(l, :l), :l)",
             "The function is not allowed to be used this way in an expression; function: "
             "list_append"},
        Case{"SET a = list_append(:l, :l) + :v",
             "The function is not allowed to be used this way in an expression; function: "
             "list_append"},
        Case{"SET l[99999999999] = :v",
             "List index is not within the allowable range; index: [99999999999]"},
        // Targets are bound before values, and the last action first.
        Case{"SET #u = :u",
             "An expression attribute name used in the document path is not defined; attribute "
             "name: #u"},
        Case{"SET #x = :v, #y = :v",
             "An expression attribute name used in the document path is not defined; attribute "
             "name: #y"},
        Case{"SET a = :x REMOVE b ADD c :y",
             "An expression attribute value used in expression is not defined; attribute value: "
             ":y"},
        Case{"SET a = :x + :y",
             "An expression attribute value used in expression is not defined; attribute value: "
             ":x"},
        Case{Repeat("p", 33, ".").insert(0, "REMOVE "),
             "The document path has too many nesting levels; nesting levels: 33"},
        Case{"REMOVE a, a", Overlap("[a]", "[a]")},
        Case{"SET a = :v REMOVE a", Overlap("[a]", "[a]")},
        Case{"SET a.b = :v REMOVE a", Overlap("[a, b]", "[a]")},
        Case{"SET a = :v, a.b = :w", Overlap("[a]", "[a, b]")},
        Case{"SET x[0] = :v, x[0].y = :w", Overlap("[x, [0]]", "[x, [0], y]")},
        Case{"SET #a = :v, a = :v", Overlap("[a]", "[a]")},
        Case{"SET #u = :v, a = :v, a = :v", Overlap("[a]", "[a]")},
        Case{"SET a[0] = :v REMOVE a.b",
             "Two document paths conflict with each other; must remove or rewrite one of these "
             "paths; path one: [a, [0]], path two: [a, b]"},
        Case{"SET a = list_append(l)",
             "Incorrect number of operands for operator or function; operator or function: "
             "list_append, number of operands: 1"},
        Case{"SET a = if_not_exists(a, a)",
             "The first operand must be distinct from the remaining operands for this operator or "
             "function; operator: if_not_exists, first operand: [a]"},
        Case{"SET a = if_not_exists(:v, :w)",
             "Operator or function requires a document path; operator or function: if_not_exists"},
        Case{"SET a = list_append(:v, l)",
             "Incorrect operand type for operator or function; operator or function: list_append, "
             "operand type: N"},
        Case{"SET a = :v + :s",
             "Incorrect operand type for operator or function; operator or function: +, operand "
             "type: S"},
        Case{"SET a = b - :ss",
             "Incorrect operand type for operator or function; operator or function: -, operand "
             "type: SS"},
        Case{"ADD a :s",
             "Incorrect operand type for operator or function; operator: ADD, operand type: "
             "STRING, typeSet: ALLOWED_FOR_ADD_OPERAND"},
        Case{"ADD a :t",
             "Incorrect operand type for operator or function; operator: ADD, operand type: "
             "BOOLEAN, typeSet: ALLOWED_FOR_ADD_OPERAND"},
        Case{"DELETE ss :v",
             "Incorrect operand type for operator or function; operator: DELETE, operand type: "
             "NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND"},
        Case{"SET " + Repeat("a", 1) + "=" + Repeat("if_not_exists(a,", 200) + ":v" +
                 Repeat(")", 200),
             ""}));

TEST(UpdateParser, CountsArithmeticAndFunctionsAsOperators) {
  std::string text = "SET a0 = b + :v";
  for (int i = 1; i < 300; ++i) text += ",a" + std::to_string(i) + "=b+:v";
  Placeholders placeholders = CommonPlaceholders();
  EXPECT_TRUE(ParseUpdate(text, &placeholders).ok());
  EXPECT_EQ(ParseUpdate(text + ",z=b+:v", &placeholders).status().message(),
            "Invalid UpdateExpression: The expression contains too many operators; operator "
            "count: 301");
}

TEST(UpdateParser, TakesManyActions) {
  std::string text = "REMOVE a0";
  for (int i = 1; i < 600; ++i) text += ",a" + std::to_string(i);
  EXPECT_EQ(Apply(text).item, Apply("REMOVE q").item);
}

}  // namespace
}  // namespace onggi::expression
