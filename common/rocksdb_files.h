#pragma once

#include <rocksdb/db.h>
#include <rocksdb/sst_file_reader.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

/// Looking at a RocksDB directory without changing it: RocksDB's own errors often do not say which
/// file is damaged. Header only, for the folders that link RocksDB.
namespace onggi::rocks {

inline bool FileExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

/// Names CURRENT where it is missing or malformed, and the manifest that it names where that one is
/// missing or its checksums fail. Otherwise the manifest's path. Reads both files, changes nothing.
inline Result<std::string> CheckManifest(const std::string& directory) {
  const std::string current = directory + "/CURRENT";
  if (!FileExists(current)) return Corruption(current + ": missing");
  std::ifstream file(current, std::ios::binary);
  char buffer[64];
  file.read(buffer, sizeof(buffer));
  const std::string content(buffer, static_cast<size_t>(file.gcount()));
  constexpr std::string_view kPrefix = "MANIFEST-";
  const size_t digits = content.find_first_not_of("0123456789", kPrefix.size());
  if (!content.starts_with(kPrefix) || digits < kPrefix.size() + 6 ||
      digits + 1 != content.size() || content[digits] != '\n') {
    return Corruption(current + ": damaged: it does not name a manifest");
  }
  std::string manifest = directory + "/" + content.substr(0, digits);
  if (!FileExists(manifest)) return Corruption(manifest + ": missing, and CURRENT names it");
  std::vector<std::string> families;
  const rocksdb::Status read =
      rocksdb::DB::ListColumnFamilies(rocksdb::DBOptions(), directory, &families);
  if (read.ok()) return manifest;
  std::string message = manifest + ": damaged: " + read.ToString();
  if (read.IsIOError()) return Status(Code::kIoError, std::move(message));
  return Corruption(std::move(message));
}

/// The names of the directory's files that end in `suffix`, in no order.
inline std::vector<std::string> FilesEndingIn(const std::string& directory,
                                              std::string_view suffix) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    if (name.ends_with(suffix)) names.push_back(name);
  }
  return names;
}

/// `status`, of a read-only open that failed although CheckManifest() did not, with the damaged
/// table in front: RocksDB blames the manifest for what it finds in the tables. Where every table
/// can be opened, the file that the message names, or `otherwise`.
inline std::string DescribeDamage(const rocksdb::Status& status, const std::string& directory,
                                  const std::string& otherwise) {
  std::string message = status.ToString();
  std::vector<std::string> tables = FilesEndingIn(directory, ".sst");
  std::sort(tables.begin(), tables.end());
  // A table that is not there is looked for under its name of old.
  if (const size_t at = message.find(".ldb"); at != std::string::npos) {
    const size_t slash = message.rfind('/', at);
    const std::string table = message.substr(slash + 1, at - slash - 1) + ".sst";
    if (slash != std::string::npos && !std::binary_search(tables.begin(), tables.end(), table)) {
      return directory + "/" + table + ": missing: " + message;
    }
  }
  for (const std::string& table : tables) {
    rocksdb::SstFileReader reader{rocksdb::Options()};
    const rocksdb::Status read = reader.Open(directory + "/" + table);
    if (!read.ok()) return directory + "/" + table + ": damaged: " + read.ToString();
  }
  if (message.find(directory + "/") != std::string::npos) return message;
  return otherwise + ": " + message;
}

}  // namespace onggi::rocks
