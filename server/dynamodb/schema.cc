#include "server/dynamodb/schema.h"

#include <array>
#include <cctype>
#include <cmath>
#include <regex>

#include "server/dynamodb/schema_internal.h"

namespace onggi::dynamodb {
namespace internal {

size_t Utf16Length(std::string_view utf8) {
  size_t length = 0;
  for (const char c : utf8) {
    const auto byte = static_cast<uint8_t>(c);
    length += (byte & 0xC0) != 0x80;  // one for each character
    length += byte >= 0xF0;           // and one more for those beyond the basic plane
  }
  return length;
}

namespace {

constexpr std::string_view kNamePattern = "[a-zA-Z0-9_.-]+";

// Longer text than any pattern's own limit is not given to std::regex, which recurses by length.
constexpr size_t kMaxMatchedText = 2048;

constexpr auto kNameCharacters = [] {
  std::array<bool, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = '0'; c <= '9'; ++c) table[static_cast<size_t>(c)] = true;
  table['_'] = table['.'] = table['-'] = true;
  return table;
}();

bool AllNameCharacters(std::string_view text) {
  for (const char c : text) {
    if (!kNameCharacters[static_cast<uint8_t>(c)]) return false;
  }
  return !text.empty();
}

}  // namespace

bool MatchesPattern(std::string_view pattern, std::string_view text) {
  if (pattern == kNamePattern) return AllNameCharacters(text);
  if (text.size() > kMaxMatchedText) return false;
  const std::regex regex(pattern.begin(), pattern.end());
  return std::regex_match(text.begin(), text.end(), regex);
}

bool LengthFits(const Shape& shape, size_t length) {
  const auto n = static_cast<int64_t>(length);
  return (shape.min == kNoBound || n >= shape.min) && (shape.max == kNoBound || n <= shape.max);
}

bool StringFits(const Shape& shape, std::string_view text) {
  if (!shape.constrained) return true;
  if (shape.min != kNoBound || shape.max != kNoBound) {
    // Bytes are at least units: counting is due only where that leaves a doubt.
    const auto bytes = static_cast<int64_t>(text.size());
    const bool surely_long_enough = shape.min == kNoBound || bytes >= shape.min * 3;
    const bool surely_short_enough = shape.max == kNoBound || bytes <= shape.max;
    if (!(surely_long_enough && surely_short_enough) && !LengthFits(shape, Utf16Length(text))) {
      return false;
    }
  }
  if (shape.enum_count > 0) {
    for (const std::string_view value : EnumOf(shape)) {
      if (value == text) return true;
    }
    return false;
  }
  return shape.pattern.empty() || MatchesPattern(shape.pattern, text);
}

bool NumberFits(const Shape& shape, simdjson::dom::element number) {
  if (shape.min == kNoBound && shape.max == kNoBound) return true;
  int64_t value = 0;
  uint64_t large = 0;
  double decimal = 0;
  if (!number.get(value)) {
    decimal = static_cast<double>(value);
  } else if (!number.get(large)) {
    decimal = static_cast<double>(large);
  } else if (number.get(decimal)) {
    return true;
  }
  // Bounds in the model are far below 2^53: a double tells them exactly.
  if (shape.kind != ShapeKind::kDouble) decimal = std::floor(decimal);
  return (shape.min == kNoBound || decimal >= static_cast<double>(shape.min)) &&
         (shape.max == kNoBound || decimal <= static_cast<double>(shape.max));
}

}  // namespace internal

namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr std::string_view kPackage = "com.amazonaws.dynamodb.v20120810.";
constexpr std::string_view kStructureNotExpected =
    "Start of structure or map found where not expected";
constexpr std::string_view kUnexpectedField = "Unexpected field type";
constexpr std::string_view kUnexpectedValue = "Unexpected value type in payload";
constexpr std::string_view kParameterizedType =
    "class sun.reflect.generics.reflectiveObjects.ParameterizedTypeImpl cannot be cast to class "
    "java.lang.Class (sun.reflect.generics.reflectiveObjects.ParameterizedTypeImpl and "
    "java.lang.Class are in module java.base of loader 'bootstrap')";

/// Where a value stands: the service words some errors differently inside a collection.
enum class Place : uint8_t { kField, kElement };

std::string JavaType(const Shape& shape) {
  switch (shape.kind) {
    case ShapeKind::kString: return "java.lang.String";
    case ShapeKind::kBoolean: return "java.lang.Boolean";
    case ShapeKind::kInteger: return "java.lang.Integer";
    case ShapeKind::kLong: return "java.lang.Long";
    case ShapeKind::kDouble: return "java.lang.Double";
    case ShapeKind::kTimestamp: return "java.util.Date";
    case ShapeKind::kBlob: return "java.nio.ByteBuffer";
    case ShapeKind::kList: return "java.util.List<" + JavaType(ShapeAt(shape.element)) + ">";
    case ShapeKind::kMap:
      return "java.util.Map<java.lang.String, " + JavaType(ShapeAt(shape.element)) + ">";
    case ShapeKind::kStructure: break;
  }
  return std::string(kPackage) + std::string(shape.name);
}

std::string_view ScalarTypeName(ShapeKind kind) {
  switch (kind) {
    case ShapeKind::kInteger: return "Integer";
    case ShapeKind::kLong: return "Long";
    case ShapeKind::kDouble: return "Double";
    case ShapeKind::kBoolean: return "Boolean";
    case ShapeKind::kTimestamp: return "Date";
    default: return "String";
  }
}

/// What the service's parser calls the value.
std::string_view TokenName(element value) {
  switch (value.type()) {
    case element_type::STRING: return "STRING_VALUE";
    case element_type::BOOL: return bool(value) ? "TRUE_VALUE" : "FALSE_VALUE";
    case element_type::DOUBLE: return "DECIMAL_VALUE";
    default: return "NUMBER_VALUE";
  }
}

bool IsBooleanWord(std::string_view text) {
  char lower[6] = {};
  if (text.size() > 5) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    lower[i] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[i])));
  }
  const std::string_view word(lower, text.size());
  return word == "true" || word == "false" || word == "1" || word == "0" || word == "yes" ||
         word == "no";
}

constexpr auto kBase64Values = [] {
  std::array<int8_t, 256> table{};
  table.fill(-1);
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < alphabet.size(); ++i) {
    table[static_cast<uint8_t>(alphabet[i])] = static_cast<int8_t>(i);
  }
  return table;
}();

/// Canonical base64 of a length that is a multiple of four?
bool IsBase64(std::string_view text) {
  if (text.empty()) return true;
  size_t padding = 0;
  while (padding < 2 && text[text.size() - 1 - padding] == '=') ++padding;
  const std::string_view digits = text.substr(0, text.size() - padding);
  for (const char c : digits) {
    if (kBase64Values[static_cast<uint8_t>(c)] < 0) return false;
  }
  // The bits that the padding drops are zero.
  const auto last = static_cast<uint8_t>(kBase64Values[static_cast<uint8_t>(digits.back())]);
  return padding == 0 || (last & (padding == 1 ? 0x3 : 0xF)) == 0;
}

constexpr size_t kNoMember = static_cast<size_t>(-1);

size_t FindMember(std::span<const Member> members, std::string_view name) {
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i].name.size() == name.size() && members[i].name == name) return i;
  }
  return kNoMember;
}

/// Checks types, and notes whether some constraint fails; the words for that are another walk's.
class TypeWalk {
 public:
  bool Structure(const Shape& shape, simdjson::dom::object object);

  /// Set when a call returned false.
  std::string& error() { return error_; }
  bool constraint_failed() const { return constraint_failed_; }

 private:
  bool Value(const Shape& shape, element value, Place place);
  bool Scalar(const Shape& shape, element value);
  bool Blob(const Shape& shape, element value);
  bool List(const Shape& shape, element value, Place place);
  bool Map(const Shape& shape, element value, Place place);

  bool Fail(std::string_view message) {
    error_ = message;
    return false;
  }
  void Expect(bool holds) { constraint_failed_ |= !holds; }

  std::string error_;
  bool constraint_failed_ = false;
};

bool TypeWalk::Structure(const Shape& shape, simdjson::dom::object object) {
  const std::span<const Member> members = MembersOf(shape);
  uint64_t seen = 0;
  for (const auto [name, value] : object) {
    if (value.is_null()) continue;
    const size_t i = FindMember(members, name);
    if (i == kNoMember) continue;
    seen |= uint64_t{1} << i;
    const Member& member = members[i];
    if (!Value(ShapeAt(member.shape), value, Place::kField)) return false;
  }
  if (shape.constrained) {
    for (size_t i = 0; i < members.size(); ++i) {
      Expect(!members[i].required || (seen >> i & 1) != 0);
    }
  }
  return true;
}

bool TypeWalk::Value(const Shape& shape, element value, Place place) {
  switch (shape.kind) {
    case ShapeKind::kStructure:
      if (value.is_object()) return Structure(shape, simdjson::dom::object(value));
      if (value.is_array()) return Fail("Unrecognized collection type class " + JavaType(shape));
      return Fail(place == Place::kField ? kUnexpectedField : kUnexpectedValue);
    case ShapeKind::kList: return List(shape, value, place);
    case ShapeKind::kMap: return Map(shape, value, place);
    case ShapeKind::kBlob: return Blob(shape, value);
    default: return Scalar(shape, value);
  }
}

bool TypeWalk::Scalar(const Shape& shape, element value) {
  if (value.is_object()) return Fail(kStructureNotExpected);
  if (value.is_array()) return Fail("Unrecognized collection type class " + JavaType(shape));
  switch (shape.kind) {
    case ShapeKind::kString: {
      std::string_view text;
      if (!value.get(text)) {
        Expect(internal::StringFits(shape, text));
        return true;
      }
      break;
    }
    case ShapeKind::kBoolean: {
      if (value.is_bool()) return true;
      std::string_view text;
      if (!value.get(text)) {
        return IsBooleanWord(text) ? true : Fail("Unexpected token received from parser");
      }
      break;
    }
    default:
      if (value.is_number()) {
        Expect(internal::NumberFits(shape, value));
        return true;
      }
      break;
  }
  std::string message(TokenName(value));
  message.append(" cannot be converted to ").append(ScalarTypeName(shape.kind));
  return Fail(message);
}

bool TypeWalk::Blob(const Shape& shape, element value) {
  if (value.is_object()) return Fail(kStructureNotExpected);
  if (value.is_array()) return Fail("Unrecognized collection type class " + JavaType(shape));
  std::string_view text;
  if (value.get(text)) return Fail("only base-64-encoded strings are convertible to bytes");
  if (text.size() % 4 != 0) {
    return Fail("Base64 encoded length is expected a multiple of 4 bytes but found: " +
                std::to_string(internal::Utf16Length(text)));
  }
  if (!IsBase64(text)) return Fail("Invalid last non-pad Base64 character dectected");
  return true;
}

bool TypeWalk::List(const Shape& shape, element value, Place place) {
  if (value.is_object()) return Fail(kStructureNotExpected);
  simdjson::dom::array array;
  if (value.get(array)) {
    return Fail(place == Place::kField ? kUnexpectedField : kParameterizedType);
  }
  const Shape& element_shape = ShapeAt(shape.element);
  size_t count = 0;
  for (const element item : array) {
    ++count;
    if (!item.is_null() && !Value(element_shape, item, Place::kElement)) return false;
  }
  Expect(internal::LengthFits(shape, count));
  return true;
}

bool TypeWalk::Map(const Shape& shape, element value, Place place) {
  if (value.is_array()) return Fail("Unrecognized collection type " + JavaType(shape));
  simdjson::dom::object object;
  if (value.get(object)) {
    return Fail(place == Place::kField ? kUnexpectedField : kParameterizedType);
  }
  const Shape& key_shape = ShapeAt(shape.key);
  const Shape& value_shape = ShapeAt(shape.element);
  const bool names_tables = key_shape.name == "TableName";
  size_t count = 0;
  for (const auto [key, item] : object) {
    ++count;
    Expect(internal::StringFits(key_shape, key) || (names_tables && internal::LooksLikeArn(key)));
    if (!item.is_null() && !Value(value_shape, item, Place::kElement)) return false;
  }
  Expect(internal::LengthFits(shape, count));
  return true;
}

}  // namespace

Outcome ValidateInput(const OperationModel& operation, simdjson::dom::object input) {
  const Shape& shape = ShapeAt(operation.input);
  TypeWalk walk;
  if (!walk.Structure(shape, input)) return SerializationError(std::move(walk.error()));
  if (!walk.constraint_failed()) return {};
  std::string message = internal::DescribeConstraintErrors(shape, input);
  // A table name in the form of an ARN fails the classical constraint and passes the second look.
  if (message.empty()) return {};
  return ValidationError(std::move(message));
}

bool IsValidTableName(std::string_view name) {
  return name.size() >= 3 && name.size() <= 255 &&
         internal::MatchesPattern(internal::kNamePattern, name);
}

bool ParseTableArn(std::string_view arn, TableArn* out) {
  constexpr std::string_view kPrefix = "arn:aws:dynamodb:";
  if (!arn.starts_with(kPrefix)) return false;
  arn.remove_prefix(kPrefix.size());
  const size_t region_end = arn.find(':');
  if (region_end == std::string_view::npos || region_end == 0) return false;
  const size_t account_end = arn.find(':', region_end + 1);
  if (account_end == std::string_view::npos || account_end == region_end + 1) return false;
  out->region = arn.substr(0, region_end);
  out->account = arn.substr(region_end + 1, account_end - region_end - 1);
  std::string_view resource = arn.substr(account_end + 1);
  constexpr std::string_view kTable = "table/";
  if (!resource.starts_with(kTable)) return false;
  resource.remove_prefix(kTable.size());
  const size_t slash = resource.find('/');
  out->table = resource.substr(0, slash);
  out->rest = slash == std::string_view::npos ? std::string_view{} : resource.substr(slash + 1);
  for (const char c : out->account) {
    if (c < '0' || c > '9') return false;
  }
  return IsValidTableName(out->table);
}

}  // namespace onggi::dynamodb
