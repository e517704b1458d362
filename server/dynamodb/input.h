#pragma once

#include <simdjson.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace onggi::dynamodb {

/// A structure of a request that has passed ValidateInput(): members by name, with the service's
/// lenient conversions ("true" for a boolean, 1.9 for the integer 1). A null member is an absent
/// one. Views live as long as the CallContext's parser.
class Input {
 public:
  /// All members absent.
  Input() = default;
  explicit Input(simdjson::dom::object object) : object_(object), present_(true) {}

  simdjson::dom::object object() const { return object_; }

  /// The member, when it is there and not null.
  std::optional<simdjson::dom::element> Find(std::string_view name) const {
    simdjson::dom::element element;
    if (!present_ || object_.at_key(name).get(element) || element.is_null()) return std::nullopt;
    return element;
  }
  bool Has(std::string_view name) const { return Find(name).has_value(); }

  std::optional<std::string_view> String(std::string_view name) const {
    std::string_view text;
    if (auto e = Find(name); e && !e->get(text)) return text;
    return std::nullopt;
  }
  std::string_view StringOr(std::string_view name, std::string_view otherwise) const {
    return String(name).value_or(otherwise);
  }

  std::optional<bool> Bool(std::string_view name) const {
    auto e = Find(name);
    if (!e) return std::nullopt;
    bool value = false;
    if (!e->get(value)) return value;
    std::string_view text;
    if (!e->get(text)) return IsTrueWord(text);
    return std::nullopt;
  }
  bool BoolOr(std::string_view name, bool otherwise) const {
    return Bool(name).value_or(otherwise);
  }

  std::optional<int64_t> Int(std::string_view name) const {
    auto e = Find(name);
    if (!e) return std::nullopt;
    return ToInt(*e);
  }

  std::optional<simdjson::dom::object> Object(std::string_view name) const {
    simdjson::dom::object value;
    if (auto e = Find(name); e && !e->get(value)) return value;
    return std::nullopt;
  }
  /// The same as a structure to look into.
  std::optional<Input> Structure(std::string_view name) const {
    if (auto o = Object(name)) return Input(*o);
    return std::nullopt;
  }
  std::optional<simdjson::dom::array> Array(std::string_view name) const {
    simdjson::dom::array value;
    if (auto e = Find(name); e && !e->get(value)) return value;
    return std::nullopt;
  }

  /// "true", "1" and "yes" in any case; the type walk has refused everything but these and their
  /// opposites.
  static bool IsTrueWord(std::string_view text) {
    return text.size() == 1 ? text[0] == '1' : text.size() == 4 ? true : text.size() == 3;
  }
  /// Integers as they are; decimals truncated; saturated at the ends of int64.
  static int64_t ToInt(simdjson::dom::element element) {
    int64_t value = 0;
    if (!element.get(value)) return value;
    uint64_t large = 0;
    if (!element.get(large)) return std::numeric_limits<int64_t>::max();
    double decimal = 0;
    if (element.get(decimal)) return 0;
    if (decimal >= 9.2e18) return std::numeric_limits<int64_t>::max();
    if (decimal <= -9.2e18) return std::numeric_limits<int64_t>::min();
    return static_cast<int64_t>(std::floor(decimal));
  }

 private:
  simdjson::dom::object object_;
  bool present_ = false;
};

}  // namespace onggi::dynamodb
