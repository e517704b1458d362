#include <algorithm>
#include <vector>

#include "common/crc32.h"
#include "server/dynamodb/input.h"
#include "server/dynamodb/schema_internal.h"

/// The words of failed constraints. Only runs for a request that is to be refused.
namespace onggi::dynamodb::internal {
namespace {

using simdjson::dom::element;

/// The service lists no more than this.
constexpr size_t kMaxErrors = 10;
/// Values are shown whole up to here: ten of them must not make an answer of the request's size
/// each.
constexpr size_t kMaxShownValue = 64 * 1024;

/// A value as Java prints it: lists [a, b], maps {k=v}, structures Name(member=value).
class JavaText {
 public:
  static std::string Of(const Shape& shape, element value) {
    JavaText text;
    text.Append(shape, value);
    if (text.out_.size() > kMaxShownValue) {
      // Cut between characters.
      size_t end = kMaxShownValue;
      while (end > 0 && (static_cast<uint8_t>(text.out_[end]) & 0xC0) == 0x80) --end;
      text.out_.resize(end);
      text.out_ += "...";
    }
    return std::move(text.out_);
  }

 private:
  void Append(const Shape& shape, element value) {
    if (out_.size() > kMaxShownValue) return;
    if (value.is_null()) {
      out_ += "null";
      return;
    }
    switch (shape.kind) {
      case ShapeKind::kStructure: AppendStructure(shape, value); break;
      case ShapeKind::kList: {
        out_ += '[';
        const char* separator = "";
        for (const element item : simdjson::dom::array(value)) {
          out_ += separator;
          separator = ", ";
          Append(ShapeAt(shape.element), item);
        }
        out_ += ']';
        break;
      }
      case ShapeKind::kMap: {
        out_ += '{';
        const char* separator = "";
        for (const auto [key, item] : simdjson::dom::object(value)) {
          out_ += separator;
          separator = ", ";
          out_.append(key).append("=");
          Append(ShapeAt(shape.element), item);
        }
        out_ += '}';
        break;
      }
      default: AppendScalar(shape, value);
    }
  }

  void AppendScalar(const Shape& shape, element value) {
    std::string_view text;
    bool truth = false;
    if (!value.get(text)) {
      if (shape.kind == ShapeKind::kBoolean) {
        out_ += Input::IsTrueWord(text) ? "true" : "false";
      } else {
        out_.append(text);
      }
    } else if (!value.get(truth)) {
      out_ += truth ? "true" : "false";
    } else if (shape.kind == ShapeKind::kDouble) {
      out_ += simdjson::minify(value);
    } else {
      out_ += std::to_string(Input::ToInt(value));
    }
  }

  void AppendStructure(const Shape& shape, element value) {
    if (shape.name == "AttributeValue") {
      // Java's default: class and hash code. Any eight digits will do; equal values have equal
      // ones.
      char hash[9];
      std::snprintf(hash, sizeof(hash), "%x", Crc32(simdjson::minify(value)));
      out_.append("com.amazonaws.dynamodb.v20120810.AttributeValue@").append(hash);
      return;
    }
    std::vector<const Member*> members;
    for (const Member& member : MembersOf(shape)) members.push_back(&member);
    std::ranges::sort(members, {}, &Member::model_position);
    out_.append(shape.name).append("(");
    const char* separator = "";
    const simdjson::dom::object object(value);
    for (const Member* member : members) {
      out_.append(separator).append(member->wire_name).append("=");
      separator = ", ";
      element inner;
      if (object.at_key(member->name).get(inner)) {
        out_ += "null";
      } else {
        Append(ShapeAt(member->shape), inner);
      }
    }
    out_ += ')';
  }

  std::string out_;
};

class ConstraintWalk {
 public:
  void Structure(const Shape& shape, simdjson::dom::object object, const std::string& path);
  /// The one message that stands alone, ahead of the list; empty when there is none.
  const std::string& alone() const { return alone_; }
  std::string Message() const;

 private:
  void Value(const Shape& shape, element value, const std::string& path, NameRule rule);
  void String(const Shape& shape, std::string_view text, const std::string& shown,
              const std::string& path, NameRule rule);
  void Length(const Shape& shape, size_t length, const Shape& shown_shape, element shown,
              const std::string& path);
  void List(const Shape& shape, element value, const std::string& path);
  void Map(const Shape& shape, element value, const std::string& path);
  void ControlNames(const Shape& shape, simdjson::dom::object object);

  bool full() const { return errors_.size() >= kMaxErrors; }
  void Add(const std::string& shown, const std::string& path, std::string_view constraint) {
    if (full()) return;
    errors_.push_back("Value " + shown + " at '" + path +
                      "' failed to satisfy constraint: " + std::string(constraint));
  }
  static std::string Quoted(std::string text) { return "'" + std::move(text) + "'"; }
  /// "[Member must have length less than or equal to 25, Member must have ...]"
  static std::string AllOf(const Shape& shape);
  static bool Fits(const Shape& shape, element value);

  std::vector<std::string> errors_;
  std::string alone_;
};

void ConstraintWalk::ControlNames(const Shape& shape, simdjson::dom::object object) {
  for (const Member& member : MembersOf(shape)) {
    if (member.name_rule != NameRule::kControl || !alone_.empty()) continue;
    element value;
    std::string_view text;
    if (object.at_key(member.name).get(value) || value.get(text)) {
      if (member.required) {
        alone_ = "The parameter '" + std::string(member.name) +
                 "' is required but was not present in the request";
      }
      continue;
    }
    const Shape& name = ShapeAt(member.shape);
    if (!LooksLikeArn(text) && !LengthFits(name, Utf16Length(text))) {
      alone_ = std::string(member.name) + " must be at least " + std::to_string(name.min) +
               " characters long and at most " + std::to_string(name.max) + " characters long";
    }
  }
}

void ConstraintWalk::Structure(const Shape& shape, simdjson::dom::object object,
                               const std::string& path) {
  if (path.empty()) {
    ControlNames(shape, object);
    if (!alone_.empty()) return;
  }
  for (const Member& member : MembersOf(shape)) {
    if (full()) return;
    std::string inner = path;
    if (!inner.empty()) inner += '.';
    inner += member.wire_name;
    element value;
    if (object.at_key(member.name).get(value) || value.is_null()) {
      if (member.required) Add("null", inner, "Member must not be null");
      continue;
    }
    Value(ShapeAt(member.shape), value, inner, member.name_rule);
  }
}

void ConstraintWalk::Value(const Shape& shape, element value, const std::string& path,
                           NameRule rule) {
  if (!shape.constrained || full() || value.is_null()) return;
  switch (shape.kind) {
    case ShapeKind::kStructure: Structure(shape, simdjson::dom::object(value), path); return;
    case ShapeKind::kList: List(shape, value, path); return;
    case ShapeKind::kMap: Map(shape, value, path); return;
    case ShapeKind::kString: {
      const std::string_view text(value);
      String(shape, text, Quoted(JavaText::Of(shape, value)), path, rule);
      return;
    }
    case ShapeKind::kInteger:
    case ShapeKind::kLong:
    case ShapeKind::kDouble: {
      const std::string shown = Quoted(JavaText::Of(shape, value));
      Shape one = shape;
      one.max = kNoBound;
      if (!NumberFits(one, value)) {
        Add(shown, path,
            "Member must have value greater than or equal to " + std::to_string(shape.min));
      }
      one.max = shape.max;
      one.min = kNoBound;
      if (!NumberFits(one, value)) {
        Add(shown, path,
            "Member must have value less than or equal to " + std::to_string(shape.max));
      }
      return;
    }
    default: return;
  }
}

void ConstraintWalk::String(const Shape& shape, std::string_view text, const std::string& shown,
                            const std::string& path, NameRule rule) {
  if (rule != NameRule::kNone && LooksLikeArn(text)) return;
  if (!shape.pattern.empty() && !MatchesPattern(shape.pattern, text)) {
    Add(shown, path,
        "Member must satisfy regular expression pattern: " + std::string(shape.pattern));
  }
  const auto length = static_cast<int64_t>(Utf16Length(text));
  if (shape.min != kNoBound && length < shape.min) {
    Add(shown, path,
        "Member must have length greater than or equal to " + std::to_string(shape.min));
  }
  if (shape.max != kNoBound && length > shape.max) {
    Add(shown, path, "Member must have length less than or equal to " + std::to_string(shape.max));
  }
  if (shape.enum_count > 0 && std::ranges::count(EnumOf(shape), text) == 0) {
    Add(shown, path, "Member must satisfy enum value set: [" + std::string(shape.enum_text) + "]");
  }
}

void ConstraintWalk::Length(const Shape& shape, size_t length, const Shape& shown_shape,
                            element shown, const std::string& path) {
  const auto n = static_cast<int64_t>(length);
  if (shape.min != kNoBound && n < shape.min) {
    Add(Quoted(JavaText::Of(shown_shape, shown)), path,
        "Member must have length greater than or equal to " + std::to_string(shape.min));
  }
  if (shape.max != kNoBound && n > shape.max) {
    Add(Quoted(JavaText::Of(shown_shape, shown)), path,
        "Member must have length less than or equal to " + std::to_string(shape.max));
  }
}

std::string ConstraintWalk::AllOf(const Shape& shape) {
  std::vector<std::string> parts;
  if (shape.max != kNoBound) {
    parts.push_back("Member must have length less than or equal to " + std::to_string(shape.max));
  }
  if (shape.min != kNoBound) {
    parts.push_back("Member must have length greater than or equal to " +
                    std::to_string(shape.min));
  }
  if (!shape.pattern.empty()) {
    parts.push_back("Member must satisfy regular expression pattern: " +
                    std::string(shape.pattern));
  }
  if (shape.enum_count > 0) {
    parts.push_back("Member must satisfy enum value set: [" + std::string(shape.enum_text) + "]");
  }
  std::string text = "[";
  for (size_t i = 0; i < parts.size(); ++i) text.append(i > 0 ? ", " : "").append(parts[i]);
  return text + "]";
}

bool ConstraintWalk::Fits(const Shape& shape, element value) {
  switch (shape.kind) {
    case ShapeKind::kString: return StringFits(shape, std::string_view(value));
    case ShapeKind::kList: return LengthFits(shape, simdjson::dom::array(value).size());
    case ShapeKind::kMap: return LengthFits(shape, simdjson::dom::object(value).size());
    case ShapeKind::kInteger:
    case ShapeKind::kLong:
    case ShapeKind::kDouble: return NumberFits(shape, value);
    default: return true;
  }
}

void ConstraintWalk::List(const Shape& shape, element value, const std::string& path) {
  const simdjson::dom::array array(value);
  Length(shape, array.size(), shape, value, path);
  const Shape& item_shape = ShapeAt(shape.element);
  if (!item_shape.constrained) return;
  size_t number = 0;
  for (const element item : array) {
    ++number;
    if (full()) return;
    if (item.is_null()) continue;
    if (item_shape.kind == ShapeKind::kStructure) {
      Value(item_shape, item, path + "." + std::to_string(number) + ".member", NameRule::kNone);
    } else if (!Fits(item_shape, item)) {
      Add(Quoted(JavaText::Of(shape, value)), path,
          "Member must satisfy constraint: " + AllOf(item_shape));
    }
  }
}

void ConstraintWalk::Map(const Shape& shape, element value, const std::string& path) {
  const simdjson::dom::object object(value);
  Length(shape, object.size(), shape, value, path);
  const Shape& key_shape = ShapeAt(shape.key);
  const Shape& item_shape = ShapeAt(shape.element);
  const bool names_tables = key_shape.name == "TableName";
  for (const auto [key, item] : object) {
    if (!StringFits(key_shape, key) && !(names_tables && LooksLikeArn(key))) {
      Add(Quoted(JavaText::Of(shape, value)), path,
          "Map keys must satisfy constraint: " + AllOf(key_shape));
    }
  }
  if (!item_shape.constrained) return;
  for (const auto [key, item] : object) {
    if (!item.is_null() && !Fits(item_shape, item)) {
      Add(Quoted(JavaText::Of(shape, value)), path,
          "Map value must satisfy constraint: " + AllOf(item_shape));
    }
  }
  for (const auto [key, item] : object) {
    if (full()) return;
    if (item.is_null()) continue;
    const std::string inner = path + "." + std::string(key) + ".member";
    if (item_shape.kind == ShapeKind::kStructure) {
      Value(item_shape, item, inner, NameRule::kNone);
    } else if (item_shape.kind == ShapeKind::kList) {
      // The list's own length has been told as the map's; what is left are its elements.
      const Shape& element_shape = ShapeAt(item_shape.element);
      size_t number = 0;
      for (const element one : simdjson::dom::array(item)) {
        ++number;
        Value(element_shape, one, inner + "." + std::to_string(number) + ".member",
              NameRule::kNone);
      }
    }
  }
}

std::string ConstraintWalk::Message() const {
  if (errors_.empty()) return {};
  std::string message = std::to_string(errors_.size());
  message += errors_.size() == 1 ? " validation error detected: " : " validation errors detected: ";
  for (size_t i = 0; i < errors_.size(); ++i) message.append(i > 0 ? "; " : "").append(errors_[i]);
  return message;
}

}  // namespace

std::string DescribeConstraintErrors(const Shape& shape, simdjson::dom::object input) {
  ConstraintWalk walk;
  walk.Structure(shape, input, {});
  if (!walk.alone().empty()) return walk.alone();
  return walk.Message();
}

}  // namespace onggi::dynamodb::internal
