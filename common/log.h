#pragma once

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "common/status.h"

/// Structured logs: a short constant message and key-value pairs, as `key=value` text or as JSON
/// lines, on stderr (or wherever SetSink says), written by spdlog on the caller's thread.
///
///     log::Info("partition opened", "table", name, "partition", id, "entries", replayed);
///     log::Warn("request failed", "request_id", request.request_id, "status", status);
///
/// Values: anything fmt formats, bool, enums with a number, Status, and types with ToString().
namespace onggi::log {

enum class Level : uint8_t { kDebug, kInfo, kWarn, kError, kOff };
enum class Format : uint8_t { kText, kJson };

/// Named apart from replication/log's LogOptions, which shares the namespace.
struct Options {
  Options() {}
  Level level = Level::kInfo;
  Format format = Format::kText;
  std::string file;  ///< empty: stderr; otherwise appended to
};

/// Sets up the process's log. Before it is called, info and above go to stderr as text.
Status Configure(const Options& options);
void SetLevel(Level level);
/// "debug", "info", "warn", "error" or "off".
Result<Level> ParseLevel(std::string_view text);
/// "text" or "json".
Result<Format> ParseFormat(std::string_view text);
void Flush();

/// For tests: lines go to `sink` instead (without the line end), until it is set to nullptr.
void SetSink(void (*sink)(std::string_view line));

namespace internal {

extern std::atomic<Level> level;

/// One line under construction.
class Line {
 public:
  Line(Level level, std::string_view message);
  void Text(std::string_view key, std::string_view value);
  void Number(std::string_view key, std::string_view digits);
  void Write();

 private:
  Level level_;
  Format format_;
  fmt::basic_memory_buffer<char, 512> buffer_;
};

template <class T>
void AddValue(Line& line, std::string_view key, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    line.Number(key, value ? "true" : "false");
  } else if constexpr (std::is_same_v<T, char>) {
    line.Text(key, std::string_view(&value, 1));
  } else if constexpr (std::is_arithmetic_v<T>) {
    line.Number(key, fmt::format("{}", value));
  } else if constexpr (std::is_enum_v<T>) {
    line.Number(key, fmt::format("{}", static_cast<int64_t>(value)));
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    line.Text(key, std::string_view(value));
  } else if constexpr (requires { value.ToString(); }) {
    line.Text(key, value.ToString());
  } else if constexpr (requires {
                         value.count();
                         typename T::period;
                       }) {
    // Durations in milliseconds: the key's name should end in _ms.
    line.Number(key,
                fmt::format("{:.3f}", std::chrono::duration<double, std::milli>(value).count()));
  } else {
    line.Text(key, fmt::format("{}", value));
  }
}

inline void AddAll(Line&) {}
template <class V, class... Rest>
void AddAll(Line& line, std::string_view key, const V& value, const Rest&... rest) {
  AddValue(line, key, value);
  AddAll(line, rest...);
}

}  // namespace internal

inline bool Enabled(Level level) {
  return level >= internal::level.load(std::memory_order_relaxed);
}

template <class... Pairs>
void Write(Level level, std::string_view message, const Pairs&... pairs) {
  static_assert(sizeof...(Pairs) % 2 == 0, "keys and values come in pairs");
  if (!Enabled(level)) return;
  internal::Line line(level, message);
  internal::AddAll(line, pairs...);
  line.Write();
}
template <class... Pairs>
void Debug(std::string_view message, const Pairs&... pairs) {
  Write(Level::kDebug, message, pairs...);
}
template <class... Pairs>
void Info(std::string_view message, const Pairs&... pairs) {
  Write(Level::kInfo, message, pairs...);
}
template <class... Pairs>
void Warn(std::string_view message, const Pairs&... pairs) {
  Write(Level::kWarn, message, pairs...);
}
template <class... Pairs>
void Error(std::string_view message, const Pairs&... pairs) {
  Write(Level::kError, message, pairs...);
}

/// Lets one event through per interval and counts the rest. Thread-safe; made static at the place
/// of the warning:
///
///     static log::RateLimit limit(std::chrono::seconds(10));
///     if (auto seen = limit.Allow()) log::Warn("accept failed", "times", seen, "error", text);
class RateLimit {
 public:
  explicit RateLimit(std::chrono::nanoseconds interval) : interval_(interval) {}
  /// 0 when the event is to be swallowed, otherwise how many there were since the last allowed one,
  /// this one included.
  uint64_t Allow(std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());

 private:
  const std::chrono::nanoseconds interval_;
  std::atomic<uint64_t> count_{0};
  std::atomic<int64_t> next_ns_{INT64_MIN};
};

}  // namespace onggi::log
