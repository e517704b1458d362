#include "common/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>

#include "common/clock.h"

namespace onggi::log {

namespace internal {

std::atomic<Level> level{Level::kInfo};

}  // namespace internal

namespace {

std::atomic<Format> format{Format::kText};
std::atomic<void (*)(std::string_view)> test_sink{nullptr};

/// The logger is never destroyed: threads may log while the process ends.
struct Target {
  Target() {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    Set(std::move(sink));
  }
  void Set(spdlog::sink_ptr sink) {
    auto made = std::make_shared<spdlog::logger>("onggi", std::move(sink));
    made->set_pattern("%v");
    made->set_level(spdlog::level::trace);
    made->flush_on(spdlog::level::info);
    std::scoped_lock lock(mutex);
    logger = std::move(made);
  }
  std::shared_ptr<spdlog::logger> Get() {
    std::scoped_lock lock(mutex);
    return logger;
  }
  std::mutex mutex;
  std::shared_ptr<spdlog::logger> logger;  // guarded by mutex
};

Target& TheTarget() {
  static auto* target = new Target;
  return *target;
}

std::string_view LevelName(Level value) {
  switch (value) {
    case Level::kDebug: return "debug";
    case Level::kInfo: return "info";
    case Level::kWarn: return "warn";
    case Level::kError: return "error";
    case Level::kOff: break;
  }
  return "off";
}

spdlog::level::level_enum ToSpdlog(Level value) {
  switch (value) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarn: return spdlog::level::warn;
    default: return spdlog::level::err;
  }
}

/// Escapes as JSON does; text format uses the same form inside its quotes, so that no value can
/// forge a line.
template <class Buffer>
void AppendEscaped(Buffer& out, std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"': out.append(std::string_view("\\\"")); break;
      case '\\': out.append(std::string_view("\\\\")); break;
      case '\n': out.append(std::string_view("\\n")); break;
      case '\r': out.append(std::string_view("\\r")); break;
      case '\t': out.append(std::string_view("\\t")); break;
      default:
        if (byte < 0x20 || byte == 0x7f) {
          out.append(std::string_view("\\u00"));
          out.push_back(kHex[byte >> 4]);
          out.push_back(kHex[byte & 15]);
        } else {
          out.push_back(c);
        }
    }
  }
}

bool NeedsQuotes(std::string_view text) {
  if (text.empty()) return true;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7f || c == '"' || c == '=' || c == '\\') return true;
  }
  return false;
}

/// "2013-05-24T00:00:00.000Z"
void AppendTime(fmt::basic_memory_buffer<char, 512>& out) {
  const auto now = std::chrono::system_clock::now();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  const time_t seconds = ms.count() / 1000;
  std::tm t{};
  gmtime_r(&seconds, &t);
  fmt::format_to(std::back_inserter(out), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                 t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec,
                 ms.count() % 1000);
}

}  // namespace

namespace internal {

Line::Line(Level line_level, std::string_view message)
    : level_(line_level), format_(format.load(std::memory_order_relaxed)) {
  if (format_ == Format::kJson) {
    buffer_.append(std::string_view("{\"time\":\""));
    AppendTime(buffer_);
    buffer_.append(std::string_view("\",\"level\":\""));
    buffer_.append(LevelName(level_));
    buffer_.append(std::string_view("\",\"message\":\""));
    AppendEscaped(buffer_, message);
    buffer_.push_back('"');
  } else {
    AppendTime(buffer_);
    buffer_.push_back(' ');
    buffer_.append(LevelName(level_));
    buffer_.push_back(' ');
    AppendEscaped(buffer_, message);
  }
}

void Line::Text(std::string_view key, std::string_view value) {
  if (format_ == Format::kJson) {
    buffer_.append(std::string_view(",\""));
    AppendEscaped(buffer_, key);
    buffer_.append(std::string_view("\":\""));
    AppendEscaped(buffer_, value);
    buffer_.push_back('"');
    return;
  }
  buffer_.push_back(' ');
  buffer_.append(key);
  buffer_.push_back('=');
  if (!NeedsQuotes(value)) {
    buffer_.append(value);
    return;
  }
  buffer_.push_back('"');
  AppendEscaped(buffer_, value);
  buffer_.push_back('"');
}

void Line::Number(std::string_view key, std::string_view digits) {
  // JSON has no infinities.
  const bool quoted =
      format_ == Format::kJson && (digits.ends_with("inf") || digits.ends_with("nan"));
  if (quoted) return Text(key, digits);
  if (format_ == Format::kJson) {
    buffer_.append(std::string_view(",\""));
    AppendEscaped(buffer_, key);
    buffer_.append(std::string_view("\":"));
  } else {
    buffer_.push_back(' ');
    buffer_.append(key);
    buffer_.push_back('=');
  }
  buffer_.append(digits);
}

void Line::Write() {
  if (format_ == Format::kJson) buffer_.push_back('}');
  const std::string_view line(buffer_.data(), buffer_.size());
  if (auto* sink = test_sink.load()) {
    sink(line);
    return;
  }
  TheTarget().Get()->log(ToSpdlog(level_), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace internal

Status Configure(const Options& options) {
  internal::level.store(options.level);
  format.store(options.format);
  try {
    if (options.file.empty()) {
      TheTarget().Set(std::make_shared<spdlog::sinks::stderr_sink_mt>());
    } else {
      TheTarget().Set(std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file, false));
    }
  } catch (const spdlog::spdlog_ex& e) {
    return {Code::kIoError, e.what()};
  }
  return Status::Ok();
}

void SetLevel(Level value) { internal::level.store(value); }

Result<Level> ParseLevel(std::string_view text) {
  for (const Level value :
       {Level::kDebug, Level::kInfo, Level::kWarn, Level::kError, Level::kOff}) {
    if (text == LevelName(value)) return value;
  }
  return InvalidArgument("not a log level (debug, info, warn, error, off): " + std::string(text));
}

Result<Format> ParseFormat(std::string_view text) {
  if (text == "text") return Format::kText;
  if (text == "json") return Format::kJson;
  return InvalidArgument("not a log format (text, json): " + std::string(text));
}

void Flush() { TheTarget().Get()->flush(); }

void SetSink(void (*sink)(std::string_view line)) { test_sink.store(sink); }

uint64_t RateLimit::Allow(std::chrono::steady_clock::time_point now) {
  count_.fetch_add(1, std::memory_order_relaxed);
  const int64_t now_ns = now.time_since_epoch() / std::chrono::nanoseconds(1);
  int64_t next = next_ns_.load(std::memory_order_relaxed);
  if (now_ns < next) return 0;
  if (!next_ns_.compare_exchange_strong(next, now_ns + interval_.count())) return 0;
  return count_.exchange(0, std::memory_order_relaxed);
}

}  // namespace onggi::log
