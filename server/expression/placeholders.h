#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace onggi::expression {

/// ExpressionAttributeNames and ExpressionAttributeValues of one request, and which of them its
/// expressions used. Not thread-safe: parsing marks use. Whether a placeholder's key is well
/// formed, and whether a value is valid, is checked by whoever fills it (CheckNamePlaceholder and
/// CheckValuePlaceholder give the service's words for the former).
class Placeholders {
 public:
  /// `placeholder` with its '#'.
  void AddName(std::string_view placeholder, std::string_view name);
  /// `placeholder` with its ':'; the value in its stored form (model::ValueView).
  void AddValue(std::string_view placeholder, std::string encoded_value);

  /// InvalidArgument when `placeholder` has more than 255 bytes, or is not '#' (or ':') and one or
  /// more of [0-9A-Za-z_]:
  /// "ExpressionAttributeNames contains invalid key: Syntax error; key: \"x\"".
  static Status CheckNamePlaceholder(std::string_view placeholder);
  static Status CheckValuePlaceholder(std::string_view placeholder);

  /// After all expressions of the request have been parsed. InvalidArgument such as
  /// "Value provided in ExpressionAttributeNames unused in expressions: keys: {#a, #b}".
  Status CheckAllUsed() const;

  /// For parsers: the name or encoded value, marked as used; nullptr when there is none. Valid
  /// until the next Add.
  const std::string* UseName(std::string_view placeholder);
  const std::string* UseValue(std::string_view placeholder);

 private:
  struct Entry {
    std::string placeholder;
    std::string content;
    bool used = false;
  };
  struct Entries {
    std::vector<Entry> list;
    /// Indexes of `list` by placeholder, stable; made when a search finds many entries.
    std::vector<uint32_t> sorted;

    void Add(std::string_view placeholder, std::string content);
    const std::string* Use(std::string_view placeholder);
    void AppendUnused(std::string* out) const;
  };

  Entries names_;
  Entries values_;
};

}  // namespace onggi::expression
