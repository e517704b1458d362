#include "server/expression/condition_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/expression/expression_test_util.h"

namespace onggi::expression {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// "" or what stands behind "Invalid ConditionExpression: ".
std::string Error(std::string_view text) {
  Placeholders placeholders = CommonPlaceholders();
  const Result<Condition> condition = ParseCondition(text, "ConditionExpression", &placeholders);
  if (condition.ok()) return {};
  EXPECT_EQ(condition.status().code(), Code::kInvalidArgument);
  constexpr std::string_view kPrefix = "Invalid ConditionExpression: ";
  EXPECT_TRUE(condition.status().message().starts_with(kPrefix)) << condition.status().message();
  return condition.status().message().substr(kPrefix.size());
}

struct Case {
  std::string text;
  std::string error;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.text.substr(0, 60); }

class ConditionError : public ::testing::TestWithParam<Case> {};

TEST_P(ConditionError, IsTheServicesMessage) {
  EXPECT_EQ(Error(GetParam().text), GetParam().error) << GetParam().text;
}

std::string Syntax(std::string_view token, std::string_view near) {
  return "Syntax error; token: \"" + std::string(token) + "\", near: \"" + std::string(near) + "\"";
}

INSTANTIATE_TEST_SUITE_P(
    Syntax, ConditionError,
    ::testing::Values(
        Case{"", "The expression can not be empty;"}, Case{" ", Syntax("<EOF>", " ")},
        Case{"a", Syntax("<EOF>", "a")}, Case{"a  ", Syntax("<EOF>", "a  ")},
        Case{"a =", Syntax("<EOF>", "=")}, Case{"  a  =", Syntax("<EOF>", "=")},
        Case{" = :v", Syntax("=", " = :v")}, Case{"a x b", Syntax("x", "a x b")},
        Case{"a = :v b", Syntax("b", ":v b")}, Case{"a = :v b c d", Syntax("b", ":v b c")},
        Case{"a = :v  x  y", Syntax("x", ":v  x  y")}, Case{"a = :v AND", Syntax("<EOF>", "AND")},
        Case{"a = :v OR OR b = :v", Syntax("OR", "OR OR b")}, Case{"a & b", Syntax("&", "a & b")},
        Case{"a = 5", Syntax("5", "= 5")}, Case{"a =   5   ", Syntax("5", "=   5   ")},
        Case{"a = \"x\"", Syntax("\"", "= \"x")}, Case{"a = :v)", Syntax(")", ":v)")},
        Case{"(a = :v", Syntax("<EOF>", ":v")}, Case{"(a)", Syntax("<EOF>", ")")},
        Case{"((a))", Syntax("<EOF>", ")")}, Case{"(a) AND b = :v", Syntax("AND", ") AND b")},
        Case{"(a AND b)", Syntax("AND", "a AND b")}, Case{"(a = :v) = :v", Syntax("=", ") = :v")},
        Case{"a[:v] = :v", Syntax(":v", "[:v]")}, Case{"a[-1] = :v", Syntax("-", "[-1")},
        Case{"a[01] = :v", Syntax("1", "01]")}, Case{"a[1.5] = :v", Syntax(".", "1.5")},
        Case{"a[]", Syntax("]", "[]")}, Case{"a. = :v", Syntax("=", ". = :v")},
        Case{"a.0 = :v", Syntax("0", ".0 =")}, Case{"_a = :v", Syntax("_", "_a")},
        Case{"1a = :v", Syntax("1", "1a")}, Case{"a-b = :v", Syntax("-", "a-b")},
        Case{"# = :v", Syntax("#", "# =")}, Case{"a = :", Syntax(":", "= :")},
        Case{"a IN ()", Syntax(")", "()")}, Case{"a IN :v", Syntax(":v", "IN :v")},
        Case{"a IN (:v,)", Syntax(")", ",)")}, Case{"a NOT IN (:v)", Syntax("NOT", "a NOT IN")},
        Case{"a BETWEEN :v", Syntax("<EOF>", ":v")},
        Case{"a BETWEEN :v OR :w", Syntax("OR", ":v OR :w")},
        Case{"a = :v = :w", Syntax("=", ":v = :w")}, Case{"a==:v", Syntax("=", "==:v")},
        Case{"a != :v", Syntax("!", "a !=")}, Case{"a < > :v", Syntax(">", "< > :v")},
        Case{"NOT", Syntax("<EOF>", "NOT")}, Case{"and = :v", Syntax("and", "and =")},
        Case{"a.in = :v", Syntax("in", ".in =")}, Case{"set = :v", Syntax("set", "set =")},
        Case{"foo()", Syntax(")", "()")}, Case{"foo(a,)", Syntax(")", ",)")},
        Case{"a.size(b) = :v", Syntax("(", "size(b")}, Case{"#u(a)", Syntax("(", "#u(a")},
        Case{"ünï = :v", Syntax("ü", "ün")}, Case{"a\x0b= :v", Syntax("\x0b", "a\x0b=")},
        Case{"a = :v + :w", Syntax("+", ":v + :w")}, Case{"foo(b) AND c", Syntax("<EOF>", "c")}));

INSTANTIATE_TEST_SUITE_P(
    Structure, ConditionError,
    ::testing::Values(
        Case{"((a = :v))", "The expression has redundant parentheses;"},
        Case{"((a)) = (:v)", "The expression has redundant parentheses;"},
        Case{"NOT ((a = :v))", "The expression has redundant parentheses;"},
        Case{"begins_with(((a)), :s)", "The expression has redundant parentheses;"},
        Case{"foo(a) AND ((b = :v))", "The expression has redundant parentheses;"},
        Case{"((a = :v)) AND b", "The expression has redundant parentheses;"},
        Case{"foo(a)", "Invalid function name; function: foo"},
        Case{"SIZE(a) = :v", "Invalid function name; function: SIZE"},
        Case{"foo(name)", "Invalid function name; function: foo"},
        Case{"name = foo(a)", "Attribute name is a reserved keyword; reserved keyword: name"},
        Case{"a.Name = :v", "Attribute name is a reserved keyword; reserved keyword: Name"},
        Case{"if_not_exists(a, b)",
             "The function is not allowed in a condition expression; function: if_not_exists"},
        Case{"a = list_append(b, c)",
             "The function is not allowed in a condition expression; function: list_append"},
        Case{"size(a)",
             "The function is not allowed to be used this way in an expression; function: size"},
        Case{"NOT size(a)",
             "The function is not allowed to be used this way in an expression; function: size"},
        Case{"attribute_exists(name) = :v",
             "The function is not allowed to be used this way in an expression; function: "
             "attribute_exists"},
        Case{"contains(a, attribute_exists(b))",
             "The function is not allowed to be used this way in an expression; function: "
             "attribute_exists"},
        Case{"a[2147483648] = :v",
             "List index is not within the allowable range; index: [2147483648]"},
        Case{"a[99999999999] = :v AND foo(b)",
             "List index is not within the allowable range; index: [99999999999]"},
        Case{"#u = :v AND foo(b)", "Invalid function name; function: foo"}));

INSTANTIATE_TEST_SUITE_P(
    Binding, ConditionError,
    ::testing::Values(
        Case{"#u = :v",
             "An expression attribute name used in the document path is not defined; attribute "
             "name: #u"},
        Case{"a.:v = :v",
             "An expression attribute name used in the document path is not defined; attribute "
             "name: :v"},
        Case{"a = :u",
             "An expression attribute value used in expression is not defined; attribute value: "
             ":u"},
        Case{":u = #u",
             "An expression attribute value used in expression is not defined; attribute value: "
             ":u"},
        Case{"attribute_exists(a, b)",
             "Incorrect number of operands for operator or function; operator or function: "
             "attribute_exists, number of operands: 2"},
        Case{"size(a, b) = :v",
             "Incorrect number of operands for operator or function; operator or function: size, "
             "number of operands: 2"},
        Case{"attribute_exists(:v)",
             "Operator or function requires a document path; operator or function: "
             "attribute_exists"},
        Case{"attribute_not_exists(size(a))",
             "Operator or function requires a document path; operator or function: "
             "attribute_not_exists"},
        Case{"begins_with(a, :v)",
             "Incorrect operand type for operator or function; operator or function: "
             "begins_with, operand type: N"},
        Case{"begins_with(a, size(b))",
             "Incorrect operand type for operator or function; operator or function: "
             "begins_with, operand type: N"},
        Case{"begins_with(:t, a)",
             "Incorrect operand type for operator or function; operator or function: "
             "begins_with, operand type: BOOL"},
        Case{"size(size(a)) = :v",
             "Incorrect operand type for operator or function; operator or function: size, "
             "operand type: N"},
        Case{"size(:z) = :v",
             "Incorrect operand type for operator or function; operator or function: size, "
             "operand type: NULL"},
        Case{"attribute_type(a, :v)",
             "Incorrect operand type for operator or function; operator or function: "
             "attribute_type, operand type: N"},
        Case{"attribute_type(a, b)",
             "Incorrect operand type for operator or function; operator or function: "
             "attribute_type, operand type: {NS,SS,L,BS,N,M,B,BOOL,NULL,S}"},
        Case{"attribute_type(a, :s)",
             "Invalid attribute type name found; type: x, valid types: "
             "{B,NULL,SS,BOOL,L,BS,N,NS,S,M}"},
        Case{"a < :t",
             "Incorrect operand type for operator or function; operator or function: <, operand "
             "type: BOOL"},
        Case{"a >= :ss",
             "Incorrect operand type for operator or function; operator or function: >=, operand "
             "type: SS"},
        Case{"a BETWEEN b AND :t",
             "Incorrect operand type for operator or function; operator or function: BETWEEN, "
             "operand type: BOOL"},
        Case{"a BETWEEN :w AND :v",
             "The BETWEEN operator requires upper bound to be greater than or equal to lower "
             "bound; lower bound operand: AttributeValue: {N:2}, upper bound operand: "
             "AttributeValue: {N:1}"},
        Case{"a BETWEEN :v AND :s",
             "The BETWEEN operator requires same data type for lower and upper bounds; lower "
             "bound operand: AttributeValue: {N:1}, upper bound operand: AttributeValue: {S:x}"},
        Case{"a = a",
             "The first operand must be distinct from the remaining operands for this operator or "
             "function; operator: =, first operand: [a]"},
        Case{"#a = a",
             "The first operand must be distinct from the remaining operands for this operator or "
             "function; operator: =, first operand: [a]"},
        Case{"a[0].b < a[0].b",
             "The first operand must be distinct from the remaining operands for this operator or "
             "function; operator: <, first operand: [a, [0], b]"},
        Case{"a IN (:v, a)",
             "The first operand must be distinct from the remaining operands for this operator or "
             "function; operator: IN, first operand: [a]"},
        Case{"a BETWEEN :v AND a",
             "The first operand must be distinct from the remaining operands for this operator or "
             "function; operator: BETWEEN, first operand: [a]"},
        Case{"contains(a, a)",
             "The first operand must be distinct from the remaining operands for this operator or "
             "function; operator: contains, first operand: [a]"},
        Case{"a < :t AND b = :u",
             "Incorrect operand type for operator or function; operator or function: <, operand "
             "type: BOOL"}));

INSTANTIATE_TEST_SUITE_P(
    Limits, ConditionError,
    ::testing::Values(
        Case{"a = :v" + Repeat(" ", 4090), ""},
        Case{"a = :v" + Repeat(" ", 4091),
             "Expression size has exceeded the maximum allowed size; expression size: 4097"},
        // Counted in UTF-16 code units, not in bytes.
        Case{"a = \"" + Repeat("é", 4092),
             "Expression size has exceeded the maximum allowed size; expression size: 4097"},
        Case{"a = \"" + Repeat("é", 4091), Syntax("\"", "= \"é")},
        Case{Repeat("p", 32, ".") + " = :v", ""},
        Case{Repeat("p", 33, ".") + " = :v",
             "The document path has too many nesting levels; nesting levels: 33"},
        Case{"p" + Repeat("[0]", 32) + " = :v",
             "The document path has too many nesting levels; nesting levels: 33"},
        Case{Repeat("NOT ", 299) + "a = :v", ""},
        Case{Repeat("NOT ", 300) + "a = :v",
             "The expression contains too many operators; operator count: 301"},
        Case{Repeat("a=:v", 150, " AND "), ""},
        Case{Repeat("a=:v", 151, " AND "),
             "The expression contains too many operators; operator count: 301"},
        Case{Repeat("size(a)>:v", 101, " AND "),
             "The expression contains too many operators; operator count: 301"},
        Case{"a IN (" + Repeat(":v", 100, ",") + ")", ""},
        Case{"a IN (" + Repeat(":v", 101, ",") + ")",
             "The IN operator is provided with too many operands; number of operands: 101"},
        // Hostile nesting ends in an error, not in a stack overflow.
        Case{Repeat("(", 2000) + "a = :v" + Repeat(")", 2000),
             "The expression has redundant parentheses;"},
        Case{Repeat("f(", 1300) + "a" + Repeat(")", 1300), "Invalid function name; function: f"},
        Case{Repeat("NOT ", 1000) + "a = :v",
             "The expression contains too many operators; operator count: 301"},
        Case{"NOT (" + Repeat("NOT (", 298) + "a = :v" + Repeat(")", 299), ""}));

TEST(ConditionParser, AcceptsWhatTheServiceAccepts) {
  for (const char* text : {"a = :v",
                           "a=:v",
                           "a\n=\t:v",
                           "(a) = :v",
                           "((a) = (:v))",
                           "a IN ((:v), (b))",
                           "size(a) = :v",
                           "(size(a)) = :v",
                           "(attribute_exists(a))",
                           "attribute_exists ( a )",
                           "begins_with((a), (:s))",
                           "((a = :v) AND (b = :w)) OR c = :v",
                           "a = :v aNd b = :w oR nOt c = :v",
                           ":v = :v",
                           ":v = a",
                           ":v BETWEEN a AND b",
                           "a[0][1].c = :v",
                           "a . b [ 0 ] = :v",
                           "a_b__1 = :v",
                           "A1 = :v",
                           "#name = :v",
                           "a.#name[2147483647] = :v",
                           "contains(:l, a)",
                           "size(:s) = :v",
                           "a BETWEEN :v AND :w AND b = :v",
                           "size(a) = size(a)",
                           "#0 = :v"}) {
    EXPECT_EQ(Error(text), "") << text;
  }
}

TEST(ConditionParser, NamesItsParameterInErrors) {
  EXPECT_EQ(ParseCondition("a", "FilterExpression", nullptr).status().message(),
            "Invalid FilterExpression: Syntax error; token: \"<EOF>\", near: \"a\"");
}

TEST(ConditionParser, WorksWithoutPlaceholders) {
  EXPECT_TRUE(ParseCondition("a = b", "ConditionExpression", nullptr).ok());
  EXPECT_FALSE(ParseCondition("#a = b", "ConditionExpression", nullptr).ok());
  EXPECT_FALSE(ParseCondition("a = :b", "ConditionExpression", nullptr).ok());
}

TEST(ConditionParser, ReportsTopLevelAttributesOnce) {
  Placeholders placeholders = CommonPlaceholders();
  const Condition condition =
      ParseCondition("#name = :v AND (b.c[0] = :w OR size(b) > :v) AND #dotted = d", "X",
                     &placeholders)
          .value();
  const Condition moved = condition;
  std::vector<std::string> names;
  std::vector<std::string> nested;
  for (const AttributeUse& use : moved.attributes()) {
    names.emplace_back(use.name);
    if (use.nested) nested.emplace_back(use.name);
  }
  EXPECT_THAT(names, ElementsAre("name", "b", "a.b", "d"));
  EXPECT_THAT(nested, ElementsAre("b"));
}

TEST(Placeholders, TellsWhatWasNotUsed) {
  Placeholders placeholders;
  placeholders.AddName("#a", "a");
  placeholders.AddName("#b", "b");
  placeholders.AddName("#c", "c");
  placeholders.AddValue(":v", Value(R"({"N":"1"})"));
  placeholders.AddValue(":w", Value(R"({"N":"1"})"));
  ASSERT_TRUE(ParseCondition("#b = :v", "ConditionExpression", &placeholders).ok());
  EXPECT_EQ(placeholders.CheckAllUsed().message(),
            "Value provided in ExpressionAttributeNames unused in expressions: keys: {#a, #c}");
  ASSERT_TRUE(ParseProjection("#a, #c", &placeholders).ok());
  EXPECT_EQ(placeholders.CheckAllUsed().message(),
            "Value provided in ExpressionAttributeValues unused in expressions: keys: {:w}");
  ASSERT_TRUE(ParseUpdate("SET x = :w", &placeholders).ok());
  EXPECT_TRUE(placeholders.CheckAllUsed().ok());
}

TEST(Placeholders, FindsOneAmongVeryMany) {
  Placeholders placeholders;
  for (int i = 0; i < 5000; ++i) {
    placeholders.AddName("#n" + std::to_string(i), "name" + std::to_string(i));
  }
  for (const int i : {0, 17, 4999}) {
    const std::string* name = placeholders.UseName("#n" + std::to_string(i));
    ASSERT_NE(name, nullptr);
    EXPECT_EQ(*name, "name" + std::to_string(i));
  }
  EXPECT_EQ(placeholders.UseName("#n"), nullptr);
  EXPECT_EQ(placeholders.UseName("#n5000"), nullptr);
}

TEST(Placeholders, ChecksTheFormOfKeys) {
  EXPECT_TRUE(Placeholders::CheckNamePlaceholder("#a_0").ok());
  EXPECT_TRUE(Placeholders::CheckValuePlaceholder(":0").ok());
  EXPECT_EQ(Placeholders::CheckNamePlaceholder("a").message(),
            "ExpressionAttributeNames contains invalid key: Syntax error; key: \"a\"");
  EXPECT_EQ(Placeholders::CheckNamePlaceholder("#").message(),
            "ExpressionAttributeNames contains invalid key: Syntax error; key: \"#\"");
  EXPECT_TRUE(Placeholders::CheckNamePlaceholder("#" + std::string(254, 'a')).ok());
  EXPECT_EQ(Placeholders::CheckNamePlaceholder("#-" + std::string(254, 'a')).message(),
            "ExpressionAttributeNames contains invalid key: The expression attribute map contains "
            "a key that is too long; size of key: 256");
  EXPECT_EQ(Placeholders::CheckValuePlaceholder(":a-b").message(),
            "ExpressionAttributeValues contains invalid key: Syntax error; key: \":a-b\"");
}

}  // namespace
}  // namespace onggi::expression
