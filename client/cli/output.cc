#include "client/cli/output.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "common/check.h"
#include "server/model/json.h"

namespace onggi::cli {
namespace {

bool IsNumeric(std::string_view cell) {
  return !cell.empty() && cell[0] >= '0' && cell[0] <= '9' &&
         cell.find_first_not_of("0123456789.%") == std::string_view::npos;
}

/// Characters, as a terminal counts most of them.
size_t Width(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

/// Names come from elsewhere, and must not move the cursor.
std::string Printable(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    shown.push_back(byte < 0x20 || byte == 0x7F ? '?' : c);
  }
  return shown;
}

}  // namespace

void TextTable::Add(std::vector<std::string> cells) {
  CHECK(cells.size() == headings_.size());
  for (std::string& cell : cells) cell = cell.empty() ? "-" : Printable(cell);
  rows_.push_back(std::move(cells));
}

std::string TextTable::ToString() const {
  std::vector<size_t> widths;
  std::vector<bool> right;
  for (size_t column = 0; column < headings_.size(); ++column) {
    size_t width = Width(headings_[column]);
    bool numeric = !rows_.empty();
    for (const auto& row : rows_) {
      width = std::max(width, Width(row[column]));
      numeric = numeric && (IsNumeric(row[column]) || row[column] == "-");
    }
    widths.push_back(width);
    right.push_back(numeric);
  }
  std::string out;
  const auto add_row = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (size_t column = 0; column < cells.size(); ++column) {
      const std::string padding(widths[column] - Width(cells[column]), ' ');
      if (column > 0) line += "  ";
      line += right[column] ? padding + cells[column] : cells[column] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  add_row(headings_);
  for (const auto& row : rows_) add_row(row);
  return out;
}

void JsonWriter::Next() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  if (!first_) out_->push_back(',');
  if (depth_ > 0) out_->append("\n").append(static_cast<size_t>(depth_) * 2, ' ');
  first_ = false;
}

JsonWriter& JsonWriter::Key(std::string_view name) {
  Next();
  model::WriteJsonString(name, out_);
  out_->append(": ");
  after_key_ = true;
  return *this;
}

void JsonWriter::Begin(char bracket) {
  Next();
  out_->push_back(bracket);
  ++depth_;
  first_ = true;
}

void JsonWriter::End(char bracket) {
  --depth_;
  if (!first_) out_->append("\n").append(static_cast<size_t>(depth_) * 2, ' ');
  out_->push_back(bracket);
  first_ = false;
  if (depth_ == 0) out_->push_back('\n');
}

void JsonWriter::String(std::string_view text) {
  Next();
  model::WriteJsonString(text, out_);
}

void JsonWriter::Raw(std::string_view text) {
  Next();
  out_->append(text);
}

void JsonWriter::Double(double value) {
  if (!std::isfinite(value)) return Raw("null");
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
  Raw(std::string_view(text, static_cast<size_t>(end - text)));
}

std::string ShowBytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KB", "MB", "GB", "TB", "PB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value,
                kUnits[unit]);
  return text;
}

std::string ShowRate(double per_second) {
  char text[32];
  std::snprintf(text, sizeof(text), per_second == 0 || per_second >= 1000 ? "%.0f" : "%.1f",
                per_second);
  return text;
}

std::string ShowAge(int64_t milliseconds) {
  if (milliseconds < 0) return "-";
  const int64_t seconds = milliseconds / 1000;
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min";
  if (seconds < 172'800) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86'400) + " d";
}

std::string ToHex(std::string_view bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    hex.push_back(kHex[byte >> 4]);
    hex.push_back(kHex[byte & 15]);
  }
  return hex;
}

std::string ShowKey(std::string_view key) {
  constexpr size_t kShown = 12;
  if (key.empty()) return "-";
  return ToHex(key.substr(0, kShown)) + (key.size() > kShown ? "..." : "");
}

bool FromHex(std::string_view hex, std::string* bytes) {
  if (hex.size() % 2 != 0) return false;
  bytes->clear();
  for (size_t i = 0; i < hex.size(); i += 2) {
    uint8_t byte = 0;
    const auto [end, error] = std::from_chars(hex.data() + i, hex.data() + i + 2, byte, 16);
    if (error != std::errc() || end != hex.data() + i + 2) return false;
    bytes->push_back(static_cast<char>(byte));
  }
  return true;
}

}  // namespace onggi::cli
