#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "server/model/encoding.h"
#include "server/model/value.h"

namespace onggi::model {

class AttributeValue;

/// Attributes by name, in byte order: the order of the stored form.
using AttributeMap = std::map<std::string, AttributeValue, std::less<>>;
using AttributeList = std::vector<AttributeValue>;

/// A value taken apart so that it can be changed: what an UpdateExpression works on. Subtrees that
/// nobody touches stay encoded (`Encoded`), so an update of one attribute copies the others as
/// bytes.
class AttributeValue {
 public:
  /// A value still in its stored form.
  struct Encoded {
    std::string bytes;
  };

  AttributeValue() : AttributeValue(Null()) {}
  explicit AttributeValue(Encoded encoded) : state_(std::move(encoded)) {}
  explicit AttributeValue(ValueView view) : state_(Encoded{std::string(view.encoded())}) {}
  explicit AttributeValue(AttributeList list) : state_(std::move(list)) {}
  explicit AttributeValue(AttributeMap map) : state_(std::move(map)) {}

  static AttributeValue Null();
  static AttributeValue Bool(bool value);
  static AttributeValue Of(const Number& number);
  static AttributeValue String(std::string_view text);
  static AttributeValue Binary(std::string_view bytes);
  /// Sorts and removes duplicates. Elements are payloads (string or binary bytes, Number
  /// encodings); type is a set type. There is at least one element: the service has no empty sets.
  static AttributeValue Set(Type type, std::vector<std::string> elements);

  Type type() const;

  /// Levels of lists and maps, as ValueView::Nesting().
  int Nesting() const;

  /// The list or map inside, decoded one level if it was still encoded. CHECKs the type.
  AttributeList& MutableList();
  AttributeMap& MutableMap();

  /// Appends the stored form.
  void EncodeTo(std::string* out) const;
  std::string Encode() const;

 private:
  std::variant<Encoded, AttributeList, AttributeMap> state_;
};

/// One level of a map or item taken apart; every value stays encoded.
AttributeMap DecodeAttributes(const MapView& attributes);

/// The stored form of an item (format byte, directory, entries in order of name).
std::string EncodeItem(const AttributeMap& attributes);

/// Builds the stored form of a map or an item from (name, encoded value) pairs without a tree.
/// Add() in any order; Finish sorts. A later Add() of the same name replaces the earlier one.
class MapBuilder {
 public:
  void Clear();
  bool empty() const { return entries_.empty(); }
  void Add(std::string_view name, std::string_view encoded_value);
  /// Appends the map as a value (type byte and payload). Clear() before the next Add().
  void FinishValue(std::string* out);
  /// Appends the map as an item (format byte and payload). Clear() before the next Add().
  void FinishItem(std::string* out);

 private:
  std::string buffer_;  ///< entries as they are stored, in the order of Add()
  std::vector<internal::MapEntry> entries_;
};

}  // namespace onggi::model
