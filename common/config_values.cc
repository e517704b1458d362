// Durations and byte sizes as text.

#include <array>
#include <charconv>
#include <cmath>

#include "common/config.h"

namespace onggi {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array<Unit, 8> kDurations = {{{"ns", 1},
                                             {"us", 1e3},
                                             {"ms", 1e6},
                                             {"s", 1e9},
                                             {"m", 60e9},
                                             {"min", 60e9},
                                             {"h", 3600e9},
                                             {"d", 86400e9}}};

bool Equal(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(a[i])) !=
        std::tolower(static_cast<unsigned char>(b[i]))) {
      return false;
    }
  }
  return true;
}

/// Takes a number without a sign from the front; nothing when there is none.
bool TakeNumber(std::string_view* text, double* number) {
  if (text->empty() ||
      !(std::isdigit(static_cast<unsigned char>(text->front())) != 0 || text->front() == '.')) {
    return false;
  }
  const char* begin = text->data();
  const auto [end, error] =
      std::from_chars(begin, begin + text->size(), *number, std::chars_format::fixed);
  if (error != std::errc()) return false;
  text->remove_prefix(static_cast<size_t>(end - begin));
  return true;
}

std::string_view TakeUnit(std::string_view* text) {
  size_t length = 0;
  while (length < text->size() && std::isalpha(static_cast<unsigned char>((*text)[length])) != 0) {
    ++length;
  }
  const std::string_view unit = text->substr(0, length);
  text->remove_prefix(length);
  return unit;
}

}  // namespace

Result<std::chrono::nanoseconds> ParseDuration(std::string_view text) {
  const Status bad =
      InvalidArgument("not a duration such as 250ms, 5s or 1h30m: '" + std::string(text) + "'");
  if (text == "0") return std::chrono::nanoseconds(0);
  double total = 0;
  std::string_view rest = text;
  do {
    double number = 0;
    if (!TakeNumber(&rest, &number)) return bad;
    const std::string_view unit = TakeUnit(&rest);
    const auto* found = std::find_if(kDurations.begin(), kDurations.end(),
                                     [&](const Unit& u) { return u.name == unit; });
    if (found == kDurations.end()) return bad;
    total += number * found->factor;
  } while (!rest.empty());
  // 200 years: well inside 64 bits of nanoseconds.
  if (!(total <= 200.0 * 365 * 86400e9)) return bad;
  return std::chrono::nanoseconds(std::llround(total));
}

std::string FormatDuration(std::chrono::nanoseconds duration) {
  const int64_t ns = duration.count();
  if (ns == 0) return "0s";
  constexpr std::array<std::pair<int64_t, std::string_view>, 7> kUnits = {
      {{86'400'000'000'000, "d"},
       {3'600'000'000'000, "h"},
       {60'000'000'000, "m"},
       {1'000'000'000, "s"},
       {1'000'000, "ms"},
       {1'000, "us"},
       {1, "ns"}}};
  for (const auto& [size, name] : kUnits) {
    if (ns % size == 0) return std::to_string(ns / size) + std::string(name);
  }
  return {};
}

Result<uint64_t> ParseByteSize(std::string_view text) {
  const Status bad =
      InvalidArgument("not a size such as 4096, 64KB or 1.5GB: '" + std::string(text) + "'");
  double number = 0;
  std::string_view rest = text;
  if (!TakeNumber(&rest, &number)) return bad;
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  constexpr std::array<std::pair<std::string_view, int>, 13> kUnits = {{{"", 0},
                                                                        {"B", 0},
                                                                        {"K", 10},
                                                                        {"KB", 10},
                                                                        {"KiB", 10},
                                                                        {"M", 20},
                                                                        {"MB", 20},
                                                                        {"MiB", 20},
                                                                        {"G", 30},
                                                                        {"GB", 30},
                                                                        {"GiB", 30},
                                                                        {"TB", 40},
                                                                        {"TiB", 40}}};
  for (const auto& [name, shift] : kUnits) {
    if (!Equal(rest, name)) continue;
    const double bytes = std::ldexp(number, shift);
    if (!(bytes < 9e18)) return bad;
    return static_cast<uint64_t>(bytes);
  }
  return bad;
}

std::string FormatByteSize(uint64_t bytes) {
  constexpr std::array<std::pair<int, std::string_view>, 4> kUnits = {
      {{40, "TB"}, {30, "GB"}, {20, "MB"}, {10, "KB"}}};
  if (bytes == 0) return "0";
  for (const auto& [shift, name] : kUnits) {
    if ((bytes & ((uint64_t{1} << shift) - 1)) == 0) {
      return std::to_string(bytes >> shift) + std::string(name);
    }
  }
  return std::to_string(bytes);
}

}  // namespace onggi
