#include "common/clock.h"

#include <array>
#include <cstdio>
#include <ctime>

namespace onggi {
namespace {

class SystemClock final : public Clock {
 public:
  SteadyTime Now() const override { return std::chrono::steady_clock::now(); }
  WallTime WallNow() const override { return std::chrono::system_clock::now(); }
};

std::tm ToUtc(WallTime time) {
  const time_t seconds = std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  return parts;
}

}  // namespace

Clock& Clock::System() {
  static SystemClock clock;
  return clock;
}

std::string FormatAmzDate(WallTime time) {
  const std::tm t = ToUtc(time);
  std::array<char, 64> text;
  const int n =
      std::snprintf(text.data(), text.size(), "%04d%02d%02dT%02d%02d%02dZ", t.tm_year + 1900,
                    t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
  return std::string(text.data(), static_cast<size_t>(n));
}

std::string FormatHttpDate(WallTime time) {
  constexpr std::array kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::tm t = ToUtc(time);
  std::array<char, 64> text;
  const int n = std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                              kDays[static_cast<size_t>(t.tm_wday)], t.tm_mday,
                              kMonths[static_cast<size_t>(t.tm_mon)], t.tm_year + 1900, t.tm_hour,
                              t.tm_min, t.tm_sec);
  return std::string(text.data(), static_cast<size_t>(n));
}

}  // namespace onggi
