#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"

namespace onggi::model {

/// A DynamoDB number: a decimal of up to 38 significant digits with a magnitude in
/// [1e-130, 9.9999999999999999999999999999999999999E+125], or zero.
///
/// Held in its order-preserving encoding (docs/formats.md), which is also how it is stored
/// and how it stands in keys: equal numbers have equal bytes, and memcmp of two encodings is the
/// order of the numbers. No encoding is a proper prefix of another. Source:
/// docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
class Number {
 public:
  /// Room for the longest encoding: sign, exponent, 19 pairs of digits, terminator.
  static constexpr size_t kMaxEncodedSize = 24;

  /// Zero.
  Number();

  /// Parses what a client sent: optional sign, digits, point, exponent. Errors are the service's
  /// exact messages (InvalidArgument): "The parameter cannot be converted to a numeric value: x"
  /// (without
  /// ": x" when the text is empty),
  /// "Attempting to store more than 38 significant digits in a Number",
  /// "Number overflow. Attempting to store a number with magnitude larger than supported range",
  /// "Number underflow. Attempting to store a number with magnitude smaller than supported range".
  static Result<Number> Parse(std::string_view text);

  /// Takes an encoding that this class made. Corruption when it is malformed.
  static Result<Number> FromEncoded(std::string_view encoded);

  static Number FromInt(int64_t value);

  std::string_view encoded() const { return {bytes_.data(), size_}; }

  /// The text as the service returns it: plain notation, no trailing zeros, no leading zeros.
  std::string ToString() const;
  void AppendTo(std::string* out) const;
  /// The same, straight from an encoding known to be valid.
  static void AppendText(std::string_view encoded, std::string* out);

  /// Exact sum and difference. Errors: the overflow, underflow and 38-digit messages above.
  static Result<Number> Add(const Number& a, const Number& b);
  static Result<Number> Subtract(const Number& a, const Number& b);

  /// Bytes that the service counts for it: about (significant digits / 2) + 1, one more when
  /// negative.
  static size_t BilledSize(std::string_view encoded);
  size_t BilledSize() const { return BilledSize(encoded()); }

  bool IsZero() const;
  bool IsNegative() const;
  Number Negated() const;

  /// Is this an encoding that this class would make?
  static bool IsValidEncoding(std::string_view encoded);

  bool operator==(const Number& other) const { return encoded() == other.encoded(); }
  auto operator<=>(const Number& other) const { return encoded() <=> other.encoded(); }

 private:
  /// The number digits[0].digits[1]... * 10^exponent: `count` digits as values 0..9, the first and
  /// the last not 0, all in range.
  static Number Pack(bool negative, int exponent, const char* digits, int count);

  std::array<char, kMaxEncodedSize> bytes_;
  uint8_t size_;
};

}  // namespace onggi::model
