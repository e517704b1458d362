#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "onggi/v1/item.pb.h"

/// Items and values without ceremony: builders of the messages of onggi/v1/item.proto, and readers.
///
///     client::Item song = client::MakeItem({{"Artist", "Björk"},
///                                           {"Year", 1995},
///                                           {"Tags", client::StringSet({"pop", "live"})},
///                                           {"Cover", client::Binary(jpeg)}});
///     std::string artist = client::StringOr(song, "Artist", "");
namespace onggi::client {

using Item = v1::Item;
using AttributeValue = v1::AttributeValue;

/// A value as C++ code writes it: text is S, integers and floating point are N, bool is BOOL and
/// nullptr is NULL; the other types have functions below.
class Value {
 public:
  Value(const char* text) { proto_.set_s(text); }                      // NOLINT
  Value(std::string text) { proto_.set_s(std::move(text)); }           // NOLINT
  Value(std::string_view text) { proto_.set_s(std::string(text)); }    // NOLINT
  Value(std::nullptr_t) { proto_.set_null(true); }                     // NOLINT
  Value(std::same_as<bool> auto value) { proto_.set_boolean(value); }  // NOLINT
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  Value(T value) {  // NOLINT
    proto_.set_n(std::to_string(value));
  }
  /// The shortest decimal that reads back as the same number. NaN and infinities become text that
  /// the service refuses.
  Value(double value);                                       // NOLINT
  Value(AttributeValue proto) : proto_(std::move(proto)) {}  // NOLINT

  const AttributeValue& proto() const& { return proto_; }
  AttributeValue&& proto() && { return std::move(proto_); }

 private:
  AttributeValue proto_;
};

/// A number beyond what int64 and double hold, as decimal text of up to 38 digits.
Value Number(std::string decimal);
Value Binary(std::string bytes);
Value StringSet(std::vector<std::string> values);
Value NumberSet(std::vector<std::string> decimals);
Value BinarySet(std::vector<std::string> values);
Value List(std::vector<Value> values);
Value Map(std::vector<std::pair<std::string, Value>> values);

/// Of two attributes with one name the later one holds.
Item MakeItem(std::vector<std::pair<std::string, Value>> attributes);

// Readers: null, or the given value, when the attribute is not there or of another type.

const AttributeValue* Find(const Item& item, std::string_view name);
std::string StringOr(const Item& item, std::string_view name, std::string otherwise);
/// Whole numbers that fit; 1.5 or 1e30 are the given value.
int64_t IntOr(const Item& item, std::string_view name, int64_t otherwise);
double DoubleOr(const Item& item, std::string_view name, double otherwise);
bool BoolOr(const Item& item, std::string_view name, bool otherwise);

}  // namespace onggi::client
