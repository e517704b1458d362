#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace rocksdb {
class Env;
class FileSystem;
}  // namespace rocksdb

namespace onggi::storage {

/// What a replica's directory needs besides RocksDB: names, and small files.
///
/// Over the same file system as RocksDB's, so that who puts that in memory (tests/simulation) has
/// both there and can lose both in a crash. Thread-safe; copies are the same. Everything blocks on
/// the disk. Errors: kOutOfSpace, kIoError, naming the file.
class Files {
 public:
  /// `env`: RocksDB's; nullptr: the operating system's.
  explicit Files(rocksdb::Env* env = nullptr);

  /// True also while the disk does not say: what is done with it next has the error.
  bool Exists(const std::string& path) const;
  /// With its parents; Ok where it is there.
  Status MakeDirectories(const std::string& path) const;
  /// With all that is in it; Ok where there is nothing.
  Status Remove(const std::string& path) const;
  /// In place of a file that has the name. Durable after SyncDirectory().
  Status Rename(const std::string& from, const std::string& to) const;
  /// Names of the directories in a directory.
  Result<std::vector<std::string>> ListDirectories(const std::string& path) const;
  /// kNotFound: no such file.
  Result<std::string> Read(const std::string& path) const;
  /// Writes a whole file and fsyncs it; its name is durable after SyncDirectory().
  Status WriteSynced(const std::string& path, std::string_view content) const;
  /// fsyncs a directory, so that names made or removed in it survive a crash.
  Status SyncDirectory(const std::string& path) const;

 private:
  std::shared_ptr<rocksdb::FileSystem> system_;
};

}  // namespace onggi::storage
