#include "server/model/json.h"

#include <algorithm>
#include <array>
#include <vector>

#include "server/model/encoding.h"

namespace onggi::model {
namespace {

using internal::AppendVarint;
using internal::BeginEntry;
using internal::MapEntry;
using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr char kEmptyValue[] =
    "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes";
constexpr char kSeveralTypes[] =
    "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the "
    "supported datatypes";
constexpr char kInvalid[] = "One or more parameter values were invalid: ";
constexpr char kEmptyName[] = "Empty attribute name";
constexpr char kLongName[] = "Attribute name is too large, must be less than 65536 bytes";

// Scratch that has grown beyond this is given back after the request that needed it.
constexpr size_t kMaxKeptScratch = 1 << 20;

std::string_view TokenName(element_type type) {
  switch (type) {
    case element_type::STRING: return "STRING_VALUE";
    case element_type::INT64:
    case element_type::UINT64: return "NUMBER_VALUE";
    case element_type::DOUBLE: return "DECIMAL_VALUE";
    default: return "";
  }
}

// The order in which the service looks at the types of a value that has several.
constexpr std::array<Type, 10> kTypesInOrder = {
    Type::kString,    Type::kNumber,    Type::kBinary,    Type::kBool, Type::kNull,
    Type::kBinarySet, Type::kNumberSet, Type::kStringSet, Type::kList, Type::kMap};

// Turns DynamoDB JSON into the stored form. Contents are written behind one another into `buffer_`;
// when a list or map is complete its directory is put before them, so that nothing is built as a
// tree. One per thread; its memory is reused from request to request. Recursion is bounded by
// kMaxNesting.
class Encoder {
 public:
  Status Value(element json, std::string* out) {
    Reset();
    if (AppendValue(json, kMaxNesting)) out->append(buffer_);
    return Finish();
  }

  Status Item(simdjson::dom::object json, std::string* out) {
    Reset();
    if (AppendEntries(json, kMaxNesting - 1)) {
      out->push_back(static_cast<char>(kItemFormat));
      internal::AppendMapPayload(buffer_, entries_, out);
    }
    return Finish();
  }

 private:
  void Reset() {
    buffer_.clear();
    entries_.clear();
    offsets_.clear();
    error_ = Status::Ok();
  }

  Status Finish() {
    if (buffer_.capacity() > kMaxKeptScratch) buffer_ = {};
    if (entries_.capacity() > kMaxKeptScratch / sizeof(MapEntry)) entries_ = {};
    if (offsets_.capacity() > kMaxKeptScratch / sizeof(uint32_t)) offsets_ = {};
    if (strings_.capacity() > kMaxKeptScratch / sizeof(std::string_view)) strings_ = {};
    if (numbers_.capacity() > kMaxKeptScratch / sizeof(Number)) numbers_ = {};
    if (binaries_.capacity() > kMaxKeptScratch) binaries_ = {};
    if (offsets_of_binaries_.capacity() > kMaxKeptScratch / sizeof(size_t)) {
      offsets_of_binaries_ = {};
    }
    return std::move(error_);
  }

  bool Fail(std::string message) {
    error_ = InvalidArgument(std::move(message));
    return false;
  }

  bool FailType(element json, std::string_view wanted) {
    switch (json.type()) {
      case element_type::OBJECT: return Fail("Start of structure or map found where not expected");
      case element_type::ARRAY:
        return Fail("Unrecognized collection type class java.lang." + std::string(wanted));
      case element_type::BOOL:
        return Fail((json.get_bool().value_unsafe() ? "TRUE_VALUE" : "FALSE_VALUE") +
                    (" cannot be converted to " + std::string(wanted)));
      default:
        return Fail(std::string(TokenName(json.type())) + " cannot be converted to " +
                    std::string(wanted));
    }
  }

  // `levels` is how many levels of lists and maps may still open.
  bool AppendValue(element json, int levels) {
    simdjson::dom::object object;
    if (json.get_object().get(object) != simdjson::SUCCESS) {
      return Fail(json.is_null() ? kEmptyValue : "Unexpected value type in payload");
    }
    auto field = object.begin();
    const auto end = object.end();
    if (!(field != end)) return Fail(kEmptyValue);
    const std::optional<Type> type = TypeFromName(field.key());
    const element content = field.value();
    ++field;
    if (!(field != end) && type.has_value() && !content.is_null()) {
      return AppendTyped(*type, content, levels);
    }
    return AppendIrregular(object, levels);
  }

  // A value with several keys, unknown keys (ignored) or nulls (as if absent).
  bool AppendIrregular(simdjson::dom::object object, int levels) {
    std::array<std::optional<element>, 11> contents;
    for (const auto field : object) {
      const std::optional<Type> type = TypeFromName(field.key);
      if (!type.has_value()) continue;
      auto& content = contents[static_cast<size_t>(*type)];
      content.reset();
      if (!field.value.is_null()) content = field.value;
    }
    int count = 0;
    const size_t start = buffer_.size();
    for (Type type : kTypesInOrder) {
      const auto& content = contents[static_cast<size_t>(type)];
      if (!content.has_value()) continue;
      if (++count > 1) buffer_.resize(start);
      if (!AppendTyped(type, *content, levels)) return false;
    }
    if (count == 0) return Fail(kEmptyValue);
    if (count > 1) return Fail(kSeveralTypes);
    return true;
  }

  bool AppendTyped(Type type, element json, int levels) {
    buffer_.push_back(static_cast<char>(type));
    switch (type) {
      case Type::kNull: return AppendNull(json);
      case Type::kBool: {
        bool value;
        if (!ReadBool(json, &value)) return false;
        buffer_.push_back(value ? 1 : 0);
        return true;
      }
      case Type::kNumber: {
        std::string_view text;
        if (!ReadString(json, &text)) return false;
        return AppendNumber(text);
      }
      case Type::kString: {
        std::string_view text;
        if (!ReadString(json, &text)) return false;
        buffer_.append(text);
        return true;
      }
      case Type::kBinary: return ReadBinary(json, &buffer_);
      case Type::kStringSet: return AppendStringSet(json);
      case Type::kNumberSet: return AppendNumberSet(json);
      case Type::kBinarySet: return AppendBinarySet(json);
      case Type::kList: return AppendList(json, levels);
      case Type::kMap: return AppendMap(json, levels);
    }
    return false;
  }

  bool ReadString(element json, std::string_view* text) {
    if (json.get_string().get(*text) == simdjson::SUCCESS) [[likely]]
      return true;
    return FailType(json, "String");
  }

  // The service's JSON reader also takes the words that mean true and false.
  bool ReadBool(element json, bool* value) {
    if (json.get_bool().get(*value) == simdjson::SUCCESS) [[likely]]
      return true;
    std::string_view text;
    if (json.get_string().get(text) != simdjson::SUCCESS) return FailType(json, "Boolean");
    std::string upper(text);
    for (char& c : upper) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    *value = upper == "TRUE" || upper == "1" || upper == "YES";
    if (*value || upper == "FALSE" || upper == "0" || upper == "NO") return true;
    return Fail("Unexpected token received from parser");
  }

  bool ReadBinary(element json, std::string* out) {
    std::string_view text;
    if (json.get_string().get(text) != simdjson::SUCCESS) {
      switch (json.type()) {
        case element_type::OBJECT:
          return Fail("Start of structure or map found where not expected");
        case element_type::ARRAY:
          return Fail("Unrecognized collection type class java.nio.ByteBuffer");
        default: return Fail("only base-64-encoded strings are convertible to bytes");
      }
    }
    if (DecodeBase64(text, out)) [[likely]]
      return true;
    if (text.size() % 4 != 0) {
      return Fail("Base64 encoded length is expected a multiple of 4 bytes but found: " +
                  std::to_string(text.size()));
    }
    return Fail("Invalid last non-pad Base64 character dectected");
  }

  bool AppendNull(element json) {
    bool value;
    if (!ReadBool(json, &value)) return false;
    if (value) return true;
    return Fail(std::string(kInvalid) + "Null attribute value types must have the value of true");
  }

  bool AppendNumber(std::string_view text) {
    const Result<Number> number = Number::Parse(text);
    if (!number.ok()) {
      error_ = number.status();
      return false;
    }
    buffer_.append(number.value().encoded());
    return true;
  }

  bool ReadArray(element json, simdjson::dom::array* array) {
    if (json.get_array().get(*array) == simdjson::SUCCESS) [[likely]]
      return true;
    return Fail(json.is_object() ? "Start of structure or map found where not expected"
                                 : "Unexpected field type");
  }

  bool AppendStringSet(element json) {
    simdjson::dom::array array;
    if (!ReadArray(json, &array)) return false;
    strings_.clear();
    for (const element member : array) {
      std::string_view text;
      if (member.is_null()) {
        return Fail(std::string(kInvalid) + "An string set may not have a null string as a member");
      }
      if (!ReadString(member, &text)) return false;
      strings_.push_back(text);
    }
    if (strings_.empty()) {
      return Fail(std::string(kInvalid) + "An string set  may not be empty");
    }
    if (AppendSorted()) return true;
    return Fail(std::string(kInvalid) + "Input collection " + JoinMembers(array) +
                " contains duplicates.");
  }

  bool AppendNumberSet(element json) {
    simdjson::dom::array array;
    if (!ReadArray(json, &array)) return false;
    numbers_.clear();
    for (const element member : array) {
      std::string_view text;
      if (!member.is_null() && !ReadString(member, &text)) return false;
      Result<Number> number = Number::Parse(text);
      if (!number.ok()) {
        error_ = std::move(number).status();
        return false;
      }
      numbers_.push_back(*number);
    }
    if (numbers_.empty()) {
      return Fail(std::string(kInvalid) + "An number set  may not be empty");
    }
    strings_.clear();
    for (const Number& number : numbers_) strings_.push_back(number.encoded());
    return AppendSorted() || Fail("Input collection contains duplicates");
  }

  bool AppendBinarySet(element json) {
    simdjson::dom::array array;
    if (!ReadArray(json, &array)) return false;
    binaries_.clear();
    offsets_of_binaries_.clear();
    for (const element member : array) {
      if (member.is_null()) return Fail("The supplied Item contains a null AttributeValue");
      offsets_of_binaries_.push_back(binaries_.size());
      if (!ReadBinary(member, &binaries_)) return false;
    }
    if (offsets_of_binaries_.empty()) {
      return Fail(std::string(kInvalid) + "Binary sets should not be empty");
    }
    offsets_of_binaries_.push_back(binaries_.size());
    strings_.clear();
    for (size_t i = 0; i + 1 < offsets_of_binaries_.size(); ++i) {
      strings_.emplace_back(binaries_.data() + offsets_of_binaries_[i],
                            offsets_of_binaries_[i + 1] - offsets_of_binaries_[i]);
    }
    if (AppendSorted()) return true;
    return Fail(std::string(kInvalid) + "Input collection " + JoinMembers(array) +
                "of type BS contains duplicates.");
  }

  // Appends `strings_` as a set; false when two are the same.
  bool AppendSorted() {
    std::sort(strings_.begin(), strings_.end());
    if (std::adjacent_find(strings_.begin(), strings_.end()) != strings_.end()) return false;
    AppendVarint(static_cast<uint32_t>(strings_.size()), &buffer_);
    for (std::string_view member : strings_) {
      AppendVarint(static_cast<uint32_t>(member.size()), &buffer_);
      buffer_.append(member);
    }
    return true;
  }

  // "[a, b, a]": the members as they were sent.
  static std::string JoinMembers(simdjson::dom::array array) {
    std::string text = "[";
    for (const element member : array) {
      if (text.size() > 1) text += ", ";
      std::string_view member_text;
      if (member.get_string().get(member_text) == simdjson::SUCCESS) text += member_text;
    }
    text += ']';
    return text;
  }

  bool FailNesting() { return Fail(kNestingError); }

  bool AppendList(element json, int levels) {
    simdjson::dom::array array;
    if (!ReadArray(json, &array)) return false;
    if (levels == 0) return FailNesting();
    const size_t start = buffer_.size();
    const size_t first = offsets_.size();
    for (const element member : array) {
      offsets_.push_back(static_cast<uint32_t>(buffer_.size() - start));
      if (!AppendValue(member, levels - 1)) return false;
    }
    internal::WrapListPayload(start, std::span(offsets_).subspan(first), &buffer_);
    offsets_.resize(first);
    return true;
  }

  bool AppendMap(element json, int levels) {
    simdjson::dom::object object;
    if (json.get_object().get(object) != simdjson::SUCCESS) {
      return Fail(json.is_array() ? "Unrecognized collection type java.util.Map<java.lang.String, "
                                    "com.amazonaws.dynamodb.v20120810.AttributeValue>"
                                  : "Unexpected field type");
    }
    if (levels == 0) return FailNesting();
    const size_t start = buffer_.size();
    const size_t first = entries_.size();
    if (!AppendEntries(object, levels - 1)) return false;
    const size_t end = buffer_.size();
    internal::AppendMapPayload(buffer_, std::span(entries_).subspan(first), &buffer_);
    buffer_.erase(start, end - start);
    entries_.resize(first);
    return true;
  }

  bool AppendEntries(simdjson::dom::object object, int levels) {
    for (const auto field : object) {
      if (field.key.empty()) return Fail(kEmptyName);
      if (field.key.size() > kMaxAttributeNameSize) return Fail(kLongName);
      MapEntry entry = BeginEntry(field.key, &buffer_);
      if (!AppendValue(field.value, levels)) return false;
      entry.size = static_cast<uint32_t>(buffer_.size()) - entry.offset;
      entries_.push_back(entry);
    }
    return true;
  }

  std::string buffer_;
  std::vector<MapEntry> entries_;          // of the maps that are open, outermost first
  std::vector<uint32_t> offsets_;          // of the lists that are open, outermost first
  std::vector<std::string_view> strings_;  // members of the set being read
  std::vector<Number> numbers_;
  std::string binaries_;
  std::vector<size_t> offsets_of_binaries_;
  Status error_;
};

Encoder& ThreadEncoder() {
  static thread_local Encoder encoder;
  return encoder;
}

}  // namespace

Status ParseValue(simdjson::dom::element json, std::string* out) {
  return ThreadEncoder().Value(json, out);
}

Status CheckAttributeName(std::string_view name) {
  if (name.empty()) return InvalidArgument(kEmptyName);
  if (name.size() > kMaxAttributeNameSize) return InvalidArgument(kLongName);
  return Status::Ok();
}

Status ParseItem(simdjson::dom::object json, std::string* out) {
  return ThreadEncoder().Item(json, out);
}

}  // namespace onggi::model
