#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/model/json.h"

namespace onggi::dynamodb {

/// Appends one JSON object, member by member; Close() or the destructor ends it. Members are
/// written as they come; nothing is checked.
class ObjectWriter {
 public:
  explicit ObjectWriter(std::string* out) : out_(out) { out_->push_back('{'); }
  ~ObjectWriter() { Close(); }
  ObjectWriter(const ObjectWriter&) = delete;
  ObjectWriter& operator=(const ObjectWriter&) = delete;

  void Close() {
    if (open_) out_->push_back('}');
    open_ = false;
  }

  /// Begins a member whose value the caller appends.
  std::string* Key(std::string_view name) {
    if (!first_) out_->push_back(',');
    first_ = false;
    out_->push_back('"');
    out_->append(name).append("\":");
    return out_;
  }
  void String(std::string_view name, std::string_view value) {
    model::WriteJsonString(value, Key(name));
  }
  void Bool(std::string_view name, bool value) { Key(name)->append(value ? "true" : "false"); }
  void Int(std::string_view name, int64_t value) { AppendInt(value, Key(name)); }
  /// Seconds since the epoch with three decimals, as the service writes timestamps.
  void Time(std::string_view name, int64_t milliseconds) {
    std::string* out = Key(name);
    AppendInt(milliseconds / 1000, out);
    const int64_t rest = milliseconds % 1000;
    if (rest == 0) return;
    out->push_back('.');
    out->push_back(static_cast<char>('0' + rest / 100));
    out->push_back(static_cast<char>('0' + rest / 10 % 10));
    out->push_back(static_cast<char>('0' + rest % 10));
  }

 private:
  static void AppendInt(int64_t value, std::string* out) {
    char digits[24];
    const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
    out->append(digits, end);
  }

  std::string* out_;
  bool first_ = true;
  bool open_ = true;
};

/// Appends `[`, what `each(element, out)` appends for each element, separated by commas, and `]`.
template <class Range, class Each>
void WriteArray(const Range& range, std::string* out, Each each) {
  out->push_back('[');
  bool first = true;
  for (const auto& element : range) {
    if (!first) out->push_back(',');
    first = false;
    each(element, out);
  }
  out->push_back(']');
}

}  // namespace onggi::dynamodb
