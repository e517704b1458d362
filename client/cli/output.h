#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// What commands print: tables for people, JSON for programs.
namespace onggi::cli {

/// Rows under headings, columns as wide as their widest cell. Numbers are set to the right.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> headings) : headings_(std::move(headings)) {}
  /// As many cells as there are headings.
  void Add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  /// With a newline after each row.
  std::string ToString() const;

 private:
  const std::vector<std::string> headings_;
  std::vector<std::vector<std::string>> rows_;
};

/// Appends JSON, indented by two, members in the order of the calls.
///
///     JsonWriter json(&out);
///     json.BeginObject();
///     json.Key("id").Int(7);
///     json.EndObject();
class JsonWriter {
 public:
  explicit JsonWriter(std::string* out) : out_(out) {}

  JsonWriter& Key(std::string_view name);
  void BeginObject() { Begin('{'); }
  void EndObject() { End('}'); }
  void BeginArray() { Begin('['); }
  void EndArray() { End(']'); }
  void String(std::string_view text);
  void Int(int64_t value) { Raw(std::to_string(value)); }
  void Uint(uint64_t value) { Raw(std::to_string(value)); }
  void Double(double value);
  void Bool(bool value) { Raw(value ? "true" : "false"); }

 private:
  void Begin(char bracket);
  void End(char bracket);
  void Raw(std::string_view text);
  /// Comma, newline and indentation before an element or key.
  void Next();

  std::string* const out_;
  int depth_ = 0;
  bool first_ = true;
  bool after_key_ = false;
};

/// "1.5 GB", "12 KB", "0 B".
std::string ShowBytes(uint64_t bytes);
/// "1234.5", "0".
std::string ShowRate(double per_second);
/// "3 s", "5 min", "2 h", "4 d".
std::string ShowAge(int64_t milliseconds);
/// Up to 12 bytes in hexadecimal and an ellipsis; "-" for none.
std::string ShowKey(std::string_view key);
std::string ToHex(std::string_view bytes);
/// False: not pairs of hexadecimal digits.
bool FromHex(std::string_view hex, std::string* bytes);

}  // namespace onggi::cli
