#include "server/model/number.h"

#include <algorithm>
#include <cstring>

namespace onggi::model {
namespace {

// The encoding (docs/formats.md). Zero is one byte. Other numbers: sign byte, exponent byte,
// pairs of digits from the first significant one, terminator. Every byte after the sign of a
// negative number is complemented, which turns its order around.
constexpr uint8_t kNegativeSign = 0x7F;
constexpr uint8_t kZeroSign = 0x80;
constexpr uint8_t kPositiveSign = 0x81;
constexpr uint8_t kTerminator = 0x00;

// Exponents of the first significant digit.
constexpr int kMinExponent = -130;
constexpr int kMaxExponent = 125;
constexpr int kMaxDigits = 38;
constexpr int kMaxPairs = kMaxDigits / 2;

constexpr char kOverflow[] =
    "Number overflow. Attempting to store a number with magnitude larger than supported range";
constexpr char kUnderflow[] =
    "Number underflow. Attempting to store a number with magnitude smaller than supported range";
constexpr char kTooManyDigits[] = "Attempting to store more than 38 significant digits in a Number";
constexpr char kNotNumeric[] = "The parameter cannot be converted to a numeric value";

// A number other than zero taken apart: 0.d1d2d3... * 10^(exponent + 1), d1 != 0.
struct Decimal {
  bool negative;
  int exponent;
  int size;  // digits, the last of which is not 0
  std::array<char, kMaxDigits> digits;
};

uint8_t ByteAt(std::string_view encoded, size_t index, uint8_t complement) {
  return static_cast<uint8_t>(encoded[index]) ^ complement;
}

// Of an encoding known to be valid and not zero.
Decimal Unpack(std::string_view encoded) {
  Decimal decimal;
  decimal.negative = static_cast<uint8_t>(encoded[0]) == kNegativeSign;
  const uint8_t complement = decimal.negative ? 0xFF : 0;
  decimal.exponent = ByteAt(encoded, 1, complement) + kMinExponent;
  decimal.size = 0;
  for (size_t i = 2; i + 1 < encoded.size(); ++i) {
    const int pair = ByteAt(encoded, i, complement) - 1;
    decimal.digits[decimal.size++] = static_cast<char>(pair / 10);
    decimal.digits[decimal.size++] = static_cast<char>(pair % 10);
  }
  if (decimal.digits[decimal.size - 1] == 0) --decimal.size;
  return decimal;
}

Status CheckRange(int exponent, bool too_many_digits) {
  if (exponent > kMaxExponent) return InvalidArgument(kOverflow);
  if (exponent < kMinExponent) return InvalidArgument(kUnderflow);
  if (too_many_digits) return InvalidArgument(kTooManyDigits);
  return Status::Ok();
}

Status NotNumeric(std::string_view text) {
  std::string message = kNotNumeric;
  if (!text.empty()) message.append(": ").append(text);
  return InvalidArgument(std::move(message));
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Reads what follows 'e'. False when it is no integer or beyond 32 bits, as in Java's BigDecimal.
bool ParseExponent(std::string_view text, int64_t* exponent) {
  bool negative = false;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.empty()) return false;
  int64_t value = 0;
  for (char c : text) {
    if (!IsDigit(c)) return false;
    value = value * 10 + (c - '0');
    if (value > INT32_MAX) return false;
  }
  *exponent = negative ? -value : value;
  return true;
}

// The value of an integer of at most 18 digits: the numbers that counters are made of.
bool ToSmallInteger(std::string_view encoded, int64_t* value) {
  if (encoded.size() == 1) {
    *value = 0;
    return true;
  }
  const bool negative = static_cast<uint8_t>(encoded[0]) == kNegativeSign;
  const uint8_t complement = negative ? 0xFF : 0;
  const int exponent = ByteAt(encoded, 1, complement) + kMinExponent;
  const int pairs = static_cast<int>(encoded.size()) - 3;
  if (exponent < 0 || exponent > 17 || 2 * pairs > exponent + 2) return false;
  int64_t result = 0;
  for (int i = 0; i < pairs; ++i) result = result * 100 + ByteAt(encoded, 2 + i, complement) - 1;
  if (2 * pairs == exponent + 2) {
    if (result % 10 != 0) return false;
    result /= 10;
  }
  for (int i = 2 * pairs; i <= exponent; ++i) result *= 10;
  *value = negative ? -result : result;
  return true;
}

bool MagnitudeLess(const Decimal& a, const Decimal& b) {
  if (a.exponent != b.exponent) return a.exponent < b.exponent;
  const int common = std::min(a.size, b.size);
  const int order = std::memcmp(a.digits.data(), b.digits.data(), common);
  return order != 0 ? order < 0 : a.size < b.size;
}

}  // namespace

Number::Number() : bytes_{static_cast<char>(kZeroSign)}, size_(1) {}

Number Number::Pack(bool negative, int exponent, const char* digits, int count) {
  Number number;
  const uint8_t complement = negative ? 0xFF : 0;
  uint8_t size = 0;
  const auto put = [&](int byte) {
    number.bytes_[size++] = static_cast<char>(static_cast<uint8_t>(byte) ^ complement);
  };
  number.bytes_[size++] = static_cast<char>(negative ? kNegativeSign : kPositiveSign);
  put(exponent - kMinExponent);
  int i = 0;
  for (; i + 1 < count; i += 2) put(digits[i] * 10 + digits[i + 1] + 1);
  if (i < count) put(digits[i] * 10 + 1);
  put(kTerminator);
  number.size_ = size;
  return number;
}

Result<Number> Number::Parse(std::string_view text) {
  size_t at = 0;
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) ++at;

  char digits[kMaxDigits];
  int count = 0;              // significant digits so far, without trailing zeros
  int64_t pending_zeros = 0;  // zeros after them: digits only if another digit follows
  bool too_many_digits = false;
  int64_t before_point = 0;  // digits before the point
  int64_t before_first = 0;  // digits before the first significant one
  int64_t seen = 0;          // digits in all
  bool point = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '.') {
      if (point) return NotNumeric(text);
      point = true;
      continue;
    }
    if (!IsDigit(c)) break;
    ++seen;
    if (!point) ++before_point;
    if (c == '0') {
      if (count > 0) ++pending_zeros;
      continue;
    }
    if (count == 0) before_first = seen - 1;
    if (count + pending_zeros + 1 > kMaxDigits) {
      too_many_digits = true;
      continue;
    }
    for (; pending_zeros > 0; --pending_zeros) digits[count++] = 0;
    digits[count++] = static_cast<char>(c - '0');
  }
  if (seen == 0) return NotNumeric(text);
  int64_t scale = 0;
  if (at < text.size()) {
    if (text[at] != 'e' && text[at] != 'E') return NotNumeric(text);
    if (!ParseExponent(text.substr(at + 1), &scale)) return NotNumeric(text);
  }
  if (count == 0) return Number();
  const int64_t exponent = before_point - 1 - before_first + scale;
  RETURN_IF_ERROR(CheckRange(static_cast<int>(std::clamp<int64_t>(exponent, -100000, 100000)),
                             too_many_digits));
  return Pack(negative, static_cast<int>(exponent), digits, count);
}

Result<Number> Number::FromEncoded(std::string_view encoded) {
  if (!IsValidEncoding(encoded)) return Corruption("malformed number");
  Number number;
  std::copy(encoded.begin(), encoded.end(), number.bytes_.begin());
  number.size_ = static_cast<uint8_t>(encoded.size());
  return number;
}

bool Number::IsValidEncoding(std::string_view encoded) {
  if (encoded.empty()) return false;
  const auto sign = static_cast<uint8_t>(encoded[0]);
  if (sign == kZeroSign) return encoded.size() == 1;
  if (sign != kPositiveSign && sign != kNegativeSign) return false;
  if (encoded.size() < 4 || encoded.size() > kMaxPairs + 3) return false;
  const uint8_t complement = sign == kNegativeSign ? 0xFF : 0;
  for (size_t i = 2; i + 1 < encoded.size(); ++i) {
    const uint8_t byte = ByteAt(encoded, i, complement);
    if (byte < 1 || byte > 100) return false;
  }
  // Canonical: a first digit that is not 0, a last pair that is not 00.
  return ByteAt(encoded, 2, complement) > 10 &&
         ByteAt(encoded, encoded.size() - 2, complement) != 1 &&
         ByteAt(encoded, encoded.size() - 1, complement) == kTerminator;
}

Number Number::FromInt(int64_t value) {
  if (value == 0) return {};
  uint64_t magnitude = value < 0 ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
  char digits[20];
  int at = sizeof(digits);
  for (; magnitude != 0; magnitude /= 10) digits[--at] = static_cast<char>(magnitude % 10);
  const int exponent = static_cast<int>(sizeof(digits)) - at - 1;
  int end = sizeof(digits);
  while (digits[end - 1] == 0) --end;
  return Pack(value < 0, exponent, digits + at, end - at);
}

std::string Number::ToString() const {
  std::string text;
  AppendTo(&text);
  return text;
}

void Number::AppendTo(std::string* out) const { AppendText(encoded(), out); }

void Number::AppendText(std::string_view encoded, std::string* out) {
  if (encoded.size() == 1) {
    out->push_back('0');
    return;
  }
  const Decimal decimal = Unpack(encoded);
  char text[192];  // the longest is "-0." with 129 zeros and 38 digits
  char* to = text;
  const auto put_digits = [&](int from, int until) {
    for (int i = from; i < until; ++i) *to++ = static_cast<char>('0' + decimal.digits[i]);
  };
  const auto put_zeros = [&](int count) {
    std::memset(to, '0', count);
    to += count;
  };
  if (decimal.negative) *to++ = '-';
  const int whole = decimal.exponent + 1;  // digits before the point
  if (whole >= decimal.size) {
    put_digits(0, decimal.size);
    put_zeros(whole - decimal.size);
  } else if (whole > 0) {
    put_digits(0, whole);
    *to++ = '.';
    put_digits(whole, decimal.size);
  } else {
    *to++ = '0';
    *to++ = '.';
    put_zeros(-whole);
    put_digits(0, decimal.size);
  }
  out->append(text, to - text);
}

Result<Number> Number::Add(const Number& a, const Number& b) {
  int64_t small_a;
  int64_t small_b;
  if (ToSmallInteger(a.encoded(), &small_a) && ToSmallInteger(b.encoded(), &small_b)) {
    return FromInt(small_a + small_b);
  }
  if (a.IsZero()) return b;
  if (b.IsZero()) return a;
  Decimal large = Unpack(a.encoded());
  Decimal small = Unpack(b.encoded());
  if (MagnitudeLess(large, small)) std::swap(large, small);

  // Column i has the weight 10^(top - i); one column in front takes the carry. Digits reach from
  // 10^126 down to 10^-167.
  const int top = large.exponent + 1;
  const int bottom = std::min(large.exponent - large.size, small.exponent - small.size) + 1;
  const int width = top - bottom + 1;
  int8_t columns[304];
  std::memset(columns, 0, width);
  for (int i = 0; i < large.size; ++i) columns[1 + i] = large.digits[i];
  const int shift = top - small.exponent;
  const int8_t sign = large.negative == small.negative ? 1 : -1;
  for (int i = 0; i < small.size; ++i) {
    columns[shift + i] = static_cast<int8_t>(columns[shift + i] + sign * small.digits[i]);
  }
  for (int i = width - 1; i > 0; --i) {
    if (columns[i] > 9) {
      columns[i] = static_cast<int8_t>(columns[i] - 10);
      ++columns[i - 1];
    } else if (columns[i] < 0) {
      columns[i] = static_cast<int8_t>(columns[i] + 10);
      --columns[i - 1];
    }
  }
  int first = 0;
  while (first < width && columns[first] == 0) ++first;
  if (first == width) return Number();
  int last = width - 1;
  while (columns[last] == 0) --last;
  const int count = last - first + 1;
  RETURN_IF_ERROR(CheckRange(top - first, count > kMaxDigits));
  return Pack(large.negative, top - first, reinterpret_cast<const char*>(columns) + first, count);
}

Result<Number> Number::Subtract(const Number& a, const Number& b) { return Add(a, b.Negated()); }

Number Number::Negated() const {
  Number result = *this;
  if (IsZero()) return result;
  result.bytes_[0] = static_cast<char>(IsNegative() ? kPositiveSign : kNegativeSign);
  for (int i = 1; i < size_; ++i) result.bytes_[i] = static_cast<char>(~result.bytes_[i]);
  return result;
}

size_t Number::BilledSize(std::string_view encoded) {
  if (encoded.size() == 1) return 1;
  const Decimal decimal = Unpack(encoded);
  // The service packs two decimal digits a byte, aligned to even powers of ten: an even number of
  // digits that starts at an even power takes one byte more. A negative number has an end mark,
  // except where all 20 bytes of digits are taken. (Measured with the consumed capacity of DynamoDB
  // Local.)
  const bool straddles = decimal.size % 2 == 0 && decimal.exponent % 2 == 0;
  const size_t size = 1 + (decimal.size + 1) / 2 + (straddles ? 1 : 0) + (decimal.negative ? 1 : 0);
  return std::min<size_t>(size, 21);
}

bool Number::IsZero() const { return static_cast<uint8_t>(bytes_[0]) == kZeroSign; }
bool Number::IsNegative() const { return static_cast<uint8_t>(bytes_[0]) == kNegativeSign; }

}  // namespace onggi::model
