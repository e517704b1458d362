#include "server/model/number.h"

#include <gtest/gtest.h>

#include <boost/multiprecision/cpp_int.hpp>

#include "tests/unit/model/random_values.h"

namespace onggi::model {
namespace {

using boost::multiprecision::cpp_int;

constexpr char kOverflow[] =
    "Number overflow. Attempting to store a number with magnitude larger than supported range";
constexpr char kUnderflow[] =
    "Number underflow. Attempting to store a number with magnitude smaller than supported range";
constexpr char kTooManyDigits[] = "Attempting to store more than 38 significant digits in a Number";

std::string Text(std::string_view text) {
  const Result<Number> number = Number::Parse(text);
  return number.ok() ? number->ToString() : "error: " + number.status().message();
}

std::string Error(std::string_view text) {
  const Result<Number> number = Number::Parse(text);
  if (number.ok()) return "no error";
  EXPECT_EQ(number.status().code(), Code::kInvalidArgument);
  return number.status().message();
}

std::string Repeat(char c, size_t count) { return std::string(count, c); }

TEST(Number, IsZeroByDefault) {
  EXPECT_EQ(Number().ToString(), "0");
  EXPECT_TRUE(Number().IsZero());
  EXPECT_FALSE(Number().IsNegative());
}

TEST(Number, WritesPlainNotationWithoutNeedlessZeros) {
  EXPECT_EQ(Text("0"), "0");
  EXPECT_EQ(Text("-0"), "0");
  EXPECT_EQ(Text("-0.000e7"), "0");
  EXPECT_EQ(Text("0e500"), "0");
  EXPECT_EQ(Text("+5"), "5");
  EXPECT_EQ(Text(".5"), "0.5");
  EXPECT_EQ(Text("5."), "5");
  EXPECT_EQ(Text("-.5e1"), "-5");
  EXPECT_EQ(Text("00012.300"), "12.3");
  EXPECT_EQ(Text("1e5"), "100000");
  EXPECT_EQ(Text("1E+05"), "100000");
  EXPECT_EQ(Text("1e-05"), "0.00001");
  EXPECT_EQ(Text("1e0000000000000000000000005"), "100000");
  EXPECT_EQ(Text("-1e-10"), "-0.0000000001");
  EXPECT_EQ(Text("1E+100"), "1" + Repeat('0', 100));
  EXPECT_EQ(Text("1E125"), "1" + Repeat('0', 125));
  EXPECT_EQ(Text("1E-130"), "0." + Repeat('0', 129) + "1");
  EXPECT_EQ(Text("1234567.89"), "1234567.89");
  EXPECT_EQ(Text("1" + Repeat('0', 125)), "1" + Repeat('0', 125));
  EXPECT_EQ(Text(Repeat('0', 400) + "1"), "1");
  EXPECT_EQ(Text("1." + Repeat('0', 50)), "1");
  EXPECT_EQ(Text("0." + Repeat('0', 129) + "1"), "0." + Repeat('0', 129) + "1");
}

TEST(Number, KeepsThirtyEightDigitsExactly) {
  const std::string digits = "12345678901234567890123456789012345678";
  EXPECT_EQ(Text(digits), digits);
  EXPECT_EQ(Text("-" + digits), "-" + digits);
  EXPECT_EQ(Text("0." + digits), "0." + digits);
  EXPECT_EQ(Text(digits + "e88"), digits + Repeat('0', 88));
  EXPECT_EQ(Text(digits + "e-167"), "0." + Repeat('0', 129) + digits);
  EXPECT_EQ(Text("-" + Repeat('9', 38) + "e-167"), "-0." + Repeat('0', 129) + Repeat('9', 38));
  EXPECT_EQ(Text(Repeat('1', 38) + "0"), Repeat('1', 38) + "0");
}

TEST(Number, RefusesMoreThanThirtyEightDigits) {
  EXPECT_EQ(Error(Repeat('1', 39)), kTooManyDigits);
  EXPECT_EQ(Error("1" + Repeat('0', 37) + "1"), kTooManyDigits);
  EXPECT_EQ(Error("1." + Repeat('0', 37) + "1"), kTooManyDigits);
  EXPECT_EQ(Error(Repeat('9', 126)), kTooManyDigits);
  EXPECT_EQ(Error("1" + Repeat('0', 60) + "1" + Repeat('0', 10)), kTooManyDigits);
}

TEST(Number, RefusesMagnitudesOutOfRange) {
  EXPECT_EQ(Error("1E126"), kOverflow);
  EXPECT_EQ(Error("-1E126"), kOverflow);
  EXPECT_EQ(Error(Repeat('9', 38) + "e89"), kOverflow);
  EXPECT_EQ(Error("1E2147483647"), kOverflow);
  EXPECT_EQ(Error(Repeat('1', 39) + "e200"), kOverflow);
  EXPECT_EQ(Error("1E-131"), kUnderflow);
  EXPECT_EQ(Error("-9.99E-131"), kUnderflow);
  EXPECT_EQ(Error("0." + Repeat('0', 200) + "1"), kUnderflow);
  EXPECT_EQ(Error("1E-2147483647"), kUnderflow);
  EXPECT_EQ(Text("9.99E125").substr(0, 4), "9990");
  EXPECT_EQ(Text("1.5E-130"), "0." + Repeat('0', 129) + "15");
}

TEST(Number, RefusesWhatIsNotANumber) {
  EXPECT_EQ(Error(""), "The parameter cannot be converted to a numeric value");
  for (const char* text : {" ",
                           " 1",
                           "1 ",
                           "\t1",
                           "1\n",
                           "-",
                           "+",
                           ".",
                           "-.",
                           "e5",
                           ".e5",
                           "1e",
                           "1e+",
                           "1e1.5",
                           "1.2.3",
                           "--1",
                           "+-1",
                           "1,000",
                           "1_0",
                           "0x1",
                           "NaN",
                           "Infinity",
                           "1d",
                           "1L",
                           "abc",
                           "\xD9\xA1",
                           "1e99999999999",
                           "0e99999999999"}) {
    EXPECT_EQ(Error(text),
              std::string("The parameter cannot be converted to a numeric value: ") + text);
  }
  EXPECT_EQ(Error(std::string_view("1\0", 2)),
            std::string("The parameter cannot be converted to a numeric value: 1") + '\0');
}

TEST(Number, MakesIntegers) {
  for (int64_t value : {int64_t{0}, int64_t{1}, int64_t{-1}, int64_t{10}, int64_t{-1200},
                        int64_t{123456789}, INT64_MAX, INT64_MIN}) {
    EXPECT_EQ(Number::FromInt(value).ToString(), std::to_string(value));
    EXPECT_EQ(Number::FromInt(value), Number::Parse(std::to_string(value)).value());
  }
}

TEST(Number, HasOneEncodingForEqualNumbers) {
  const Number hundred = Number::Parse("100").value();
  for (const char* text : {"1e2", "+100.000", "0.0001e6", "10.0E1", "000100"}) {
    EXPECT_EQ(Number::Parse(text).value(), hundred) << text;
  }
}

TEST(Number, FitsTheLongestEncoding) {
  const Number number = Number::Parse("-" + Repeat('9', 38)).value();
  EXPECT_LE(number.encoded().size(), Number::kMaxEncodedSize);
  EXPECT_EQ(number.encoded().size(), 22u);
  EXPECT_EQ(Number::FromInt(7).encoded().size(), 4u);
}

// The number times 10^170, exactly.
cpp_int Scaled(std::string_view plain) {
  bool negative = false;
  if (plain[0] == '-') {
    negative = true;
    plain.remove_prefix(1);
  }
  std::string digits;
  int scale = 170;
  bool fraction = false;
  for (char c : plain) {
    if (c == '.') {
      fraction = true;
      continue;
    }
    if (!digits.empty() || c != '0') digits += c;  // cpp_int reads a leading 0 as octal
    if (fraction) --scale;
  }
  cpp_int value = digits.empty() ? cpp_int(0) : cpp_int(digits);
  for (; scale > 0; --scale) value *= 10;
  return negative ? cpp_int(-value) : value;
}

// What the oracle expects of a result: its plain text, or the error.
std::string Expected(cpp_int scaled) {
  if (scaled == 0) return "0";
  const bool negative = scaled < 0;
  std::string digits = cpp_int(negative ? cpp_int(-scaled) : scaled).str();
  const int exponent = static_cast<int>(digits.size()) - 171;
  while (digits.back() == '0') digits.pop_back();
  if (exponent > 125) return std::string("error: ") + kOverflow;
  if (exponent < -130) return std::string("error: ") + kUnderflow;
  if (digits.size() > 38) return std::string("error: ") + kTooManyDigits;
  std::string text = negative ? "-" : "";
  if (exponent < 0) return text + "0." + Repeat('0', -exponent - 1) + digits;
  const size_t whole = exponent + 1;
  if (digits.size() <= whole) return text + digits + Repeat('0', whole - digits.size());
  return text + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string Outcome(const Result<Number>& number) {
  return number.ok() ? number->ToString() : "error: " + number.status().message();
}

std::string Sum(const char* a, const char* b) {
  return Outcome(Number::Add(Number::Parse(a).value(), Number::Parse(b).value()));
}

TEST(Number, AddsExactlyOrFails) {
  EXPECT_EQ(Sum("1", "1e-37"), "1." + Repeat('0', 36) + "1");
  EXPECT_EQ(Sum("1", "1e-38"), std::string("error: ") + kTooManyDigits);
  EXPECT_EQ(Sum("1", "-1e-38"), "0." + Repeat('9', 38));
  EXPECT_EQ(Sum("1e125", "1e-130"), std::string("error: ") + kTooManyDigits);
  EXPECT_EQ(Sum("9.9e125", "1e125"), std::string("error: ") + kOverflow);
  EXPECT_EQ(Sum("1.1e-130", "-1e-130"), std::string("error: ") + kUnderflow);
  EXPECT_EQ(Sum("99999999999999999999999999999999999999", "1"), "1" + Repeat('0', 38));
  EXPECT_EQ(Sum("-5", "5"), "0");
  EXPECT_EQ(Sum("999999999999999999", "999999999999999999"), "1999999999999999998");
  EXPECT_EQ(Sum("0", "-0.1"), "-0.1");
}

TEST(Number, AgreesWithBigIntegerArithmetic) {
  RandomValues random;
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(random.seed()));
  for (int i = 0; i < 20000; ++i) {
    const Number a = random.RandomNumber();
    Number b = random.RandomNumber();
    if (random.OneIn(20)) b = random.OneIn(2) ? a : a.Negated();
    if (random.OneIn(4)) b = Number::FromInt(static_cast<int64_t>(random.Below(2000)) - 1000);
    const cpp_int scaled_a = Scaled(a.ToString());
    const cpp_int scaled_b = Scaled(b.ToString());
    ASSERT_EQ(Outcome(Number::Add(a, b)), Expected(scaled_a + scaled_b))
        << a.ToString() << " + " << b.ToString();
    ASSERT_EQ(Outcome(Number::Subtract(a, b)), Expected(scaled_a - scaled_b))
        << a.ToString() << " - " << b.ToString();
    ASSERT_EQ(a < b, scaled_a < scaled_b) << a.ToString() << " < " << b.ToString();
    ASSERT_EQ(a == b, scaled_a == scaled_b);
    ASSERT_EQ(a.IsNegative(), scaled_a < 0);
    ASSERT_EQ(Number::Parse(a.ToString()).value(), a);
    ASSERT_EQ(Expected(scaled_a), a.ToString());
    ASSERT_EQ(Number::FromEncoded(a.encoded()).value(), a);
  }
}

TEST(Number, AgreesOnIntegersAroundTheFastPath) {
  RandomValues random;
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(random.seed()));
  for (int i = 0; i < 20000; ++i) {
    const int64_t a = static_cast<int64_t>(random.engine()()) >> random.Below(64);
    const int64_t b = static_cast<int64_t>(random.engine()()) >> random.Below(64);
    ASSERT_EQ(Outcome(Number::Add(Number::FromInt(a), Number::FromInt(b))),
              cpp_int(cpp_int(a) + b).str());
    ASSERT_EQ(Outcome(Number::Subtract(Number::FromInt(a), Number::FromInt(b))),
              cpp_int(cpp_int(a) - b).str());
  }
}

TEST(Number, RefusesMalformedEncodings) {
  const std::string good(Number::Parse("-12.5").value().encoded());
  EXPECT_TRUE(Number::FromEncoded(good).ok());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(Number::FromEncoded(good.substr(0, size)).status().code(), Code::kCorruption);
  }
  EXPECT_FALSE(Number::FromEncoded(good + '\xFF').ok());
  EXPECT_FALSE(Number::FromEncoded(std::string_view("\x81\x82\x0A\x00", 4)).ok());  // 0.9
  EXPECT_FALSE(
      Number::FromEncoded(std::string_view("\x81\x82\x0B\x01\x00", 5)).ok());  // trailing 00
  EXPECT_FALSE(Number::FromEncoded(std::string_view("\x81\x82\x65\x00", 4)).ok() &&
               Number::FromEncoded(std::string_view("\x81\x82\x66\x00", 4)).ok());
  EXPECT_FALSE(Number::FromEncoded(std::string_view("\x81\x82\x00", 3)).ok());
  EXPECT_FALSE(Number::FromEncoded("\x82").ok());
  EXPECT_FALSE(Number::FromEncoded(std::string("\x81\x82") + Repeat('\x20', 20) + '\0').ok());
}

size_t Billed(const char* text) { return Number::Parse(text).value().BilledSize(); }

TEST(Number, IsBilledByPairsOfDigits) {
  EXPECT_EQ(Billed("0"), 1u);
  EXPECT_EQ(Billed("1"), 2u);
  EXPECT_EQ(Billed("-1"), 3u);
  EXPECT_EQ(Billed("10"), 2u);   // one digit
  EXPECT_EQ(Billed("12"), 2u);   // one pair
  EXPECT_EQ(Billed("1.2"), 3u);  // two pairs: 01.20
  EXPECT_EQ(Billed("123"), 3u);
  EXPECT_EQ(Billed("1234"), 3u);
  EXPECT_EQ(Billed("123.4"), 4u);
  EXPECT_EQ(Billed("12345678901234567890123456789012345678"), 20u);
  EXPECT_EQ(Billed("-1.2345678901234567890123456789012345678"), 21u);
  EXPECT_EQ(Billed("0.1"), 2u);
  EXPECT_EQ(Billed("0.12"), 2u);
  EXPECT_EQ(Billed("0.012"), 3u);
}

}  // namespace
}  // namespace onggi::model
