#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"

namespace onggi::storage {

/// A node's data directory: `FORMAT` says what it is, `LOCK` says who uses it.
///
///     FORMAT            "onggi-data <version>", one line
///     LOCK              held with flock(2) by the running server; its process id
///     log/              the log store's segments
///     metadata/         the embedded metadata store (`onggi dev`)
///     partitions/<id>/  one directory per replica
///
/// Open() changes nothing in a directory that it refuses. The lock goes with the process, however
/// it ends.
class DataDirectory {
 public:
  static constexpr uint32_t kFormatVersion = 1;

  /// Makes the directory where it is missing or empty. Errors: kAlreadyExists when another process
  /// has it (says which), kCorruption when it is not ours or of a newer format (says which file),
  /// kIoError.
  static Result<std::unique_ptr<DataDirectory>> Open(const std::string& path);
  ~DataDirectory();
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  /// Writes this process's id into LOCK for whoever comes second. Called when start-up has
  /// succeeded.
  Status Claim();

  const std::string& path() const { return path_; }
  bool created() const { return created_; }
  std::string log_path() const { return path_ + "/log"; }
  std::string metadata_path() const { return path_ + "/metadata"; }
  std::string partitions_path() const { return path_ + "/partitions"; }

 private:
  DataDirectory(std::string path, int lock_fd, bool created)
      : path_(std::move(path)), lock_fd_(lock_fd), created_(created) {}

  std::string path_;
  int lock_fd_;
  bool created_;
};

/// Bytes that an unprivileged writer may still write on the file system of `path`, and its size.
struct DiskSpace {
  uint64_t available_bytes = 0;
  uint64_t total_bytes = 0;
};
Result<DiskSpace> QueryDiskSpace(const std::string& path);

/// Writes a small file and fsyncs it; its name is durable after SyncDirectory() of its directory.
Status WriteFileSynced(const std::string& path, std::string_view content);

/// fsyncs a directory, so that names made or removed in it survive a crash.
Status SyncDirectory(const std::string& path);

}  // namespace onggi::storage
