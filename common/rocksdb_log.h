#pragma once

#include <rocksdb/env.h>

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/log.h"

namespace onggi::rocks {

/// RocksDB's warnings and errors as lines of the process's log, one a second and level, with the
/// directory that they are about. Header only, for the folders that link RocksDB; thread-safe.
///
/// Every database that is opened for writing needs it: without it RocksDB writes a file LOG, and
/// Debian's build, which has its assertions, ends the process at the second line that a full disk
/// refuses (version 7.8: `sync_without_flush_called_`). It also spares a file and several hundred
/// lines about options at every opening.
class Log final : public rocksdb::Logger {
 public:
  explicit Log(std::string directory)
      : Logger(rocksdb::InfoLogLevel::WARN_LEVEL), directory_(std::move(directory)) {}

  using rocksdb::Logger::Logv;
  void Logv(rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    // Headers, which have the highest level, are RocksDB's options and statistics.
    if (level < GetInfoLogLevel() || level >= rocksdb::InfoLogLevel::HEADER_LEVEL) return;
    const bool warning = level == rocksdb::InfoLogLevel::WARN_LEVEL;
    const uint64_t times = (warning ? warnings_ : errors_).Allow();
    if (times == 0) return;
    char text[1024];
    const int length = std::vsnprintf(text, sizeof(text), format, arguments);
    if (length < 0) return;
    std::string_view message(text, std::min(static_cast<size_t>(length), sizeof(text) - 1));
    while (message.ends_with('\n') || message.ends_with(' ')) message.remove_suffix(1);
    log::Write(warning ? log::Level::kWarn : log::Level::kError, "RocksDB", "directory", directory_,
               "says", message, "times", times);
  }
  void LogHeader(const char*, va_list) override {}

 private:
  const std::string directory_;
  log::RateLimit warnings_{std::chrono::seconds(1)};
  log::RateLimit errors_{std::chrono::seconds(1)};
};

}  // namespace onggi::rocks
