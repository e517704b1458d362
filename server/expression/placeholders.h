#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace onggi::expression {

/// ExpressionAttributeNames and ExpressionAttributeValues of one request, and which of them its
/// expressions used. Requests have few, so they are searched linearly. Not thread-safe; parsing marks
/// use. Whether a placeholder's key is well formed, and whether a value is valid, is checked by whoever
/// fills it (CheckNamePlaceholder and CheckValuePlaceholder give the service's words for the former).
class Placeholders {
 public:
  /// `placeholder` with its '#'.
  void AddName(std::string_view placeholder, std::string_view name);
  /// `placeholder` with its ':'; the value in its stored form (model::ValueView).
  void AddValue(std::string_view placeholder, std::string encoded_value);

  /// InvalidArgument when `placeholder` is not '#' (or ':') and one or more of [0-9A-Za-z_]:
  /// "ExpressionAttributeNames contains invalid key: Syntax error; key: \"x\"".
  static Status CheckNamePlaceholder(std::string_view placeholder);
  static Status CheckValuePlaceholder(std::string_view placeholder);

  /// After all expressions of the request have been parsed. InvalidArgument such as
  /// "Value provided in ExpressionAttributeNames unused in expressions: keys: {#a, #b}".
  Status CheckAllUsed() const;

  /// For parsers: the name or encoded value, marked as used; nullptr when there is none. Valid until
  /// the next Add.
  const std::string* UseName(std::string_view placeholder);
  const std::string* UseValue(std::string_view placeholder);

 private:
  struct Entry {
    std::string placeholder;
    std::string content;
    bool used = false;
  };
  static const std::string* Use(std::vector<Entry>* entries, std::string_view placeholder);
  static void AppendUnused(const std::vector<Entry>& entries, std::string* out);

  std::vector<Entry> names_;
  std::vector<Entry> values_;
};

}  // namespace onggi::expression
