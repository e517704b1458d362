#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace onggi::log {

/// An open file of the log. Thread-safe for calls on disjoint ranges.
class File {
 public:
  virtual ~File() = default;

  /// Writes all pieces back to back at `offset`. A short write is an error: afterwards the range
  /// holds any mixture of old and new bytes.
  virtual Status Write(uint64_t offset, std::span<const std::string_view> pieces) = 0;

  /// Reads up to `size` bytes; fewer only at the end of the file.
  virtual Result<size_t> Read(uint64_t offset, char* data, size_t size) = 0;

  /// Makes written bytes (and the file's length) durable.
  virtual Status Sync() = 0;

  /// Reserves disk space for [0, size) and makes the file at least that long, so that later writes
  /// there cannot run out of space. kOutOfSpace when there is not enough.
  virtual Status Allocate(uint64_t size) = 0;

  virtual Result<uint64_t> Size() = 0;
};

/// What the log store needs of a disk, so that tests and the simulator can stand in for it.
/// Implementations are thread-safe.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual Status CreateDirectories(const std::string& path) = 0;
  /// Names (not paths) of the regular files in a directory, in no order.
  virtual Result<std::vector<std::string>> List(const std::string& directory) = 0;
  /// Opens for reading and writing. `create`: makes it, or empties one that exists.
  virtual Result<std::unique_ptr<File>> Open(const std::string& path, bool create) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  virtual Status Remove(const std::string& path) = 0;
  /// Makes creations, renames and removals in a directory durable.
  virtual Status SyncDirectory(const std::string& path) = 0;
  /// Bytes that an unprivileged writer may still use.
  virtual Result<uint64_t> FreeBytes(const std::string& path) = 0;

  /// The operating system's; lives for ever.
  static FileSystem* Posix();
};

}  // namespace onggi::log
