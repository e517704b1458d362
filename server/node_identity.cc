#include "server/node_identity.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/uuid.h"
#include "server/storage/data_directory.h"

namespace onggi {

namespace fs = std::filesystem;

namespace {

constexpr char kMagic[] = "onggi-node";
constexpr int kVersion = 1;

std::string PathOf(const std::string& directory) { return directory + "/NODE"; }

}  // namespace

Result<metadata::NodeIdentity> LoadIdentity(const std::string& directory) {
  const std::string path = PathOf(directory);
  metadata::NodeIdentity identity;
  std::error_code error;
  if (!fs::exists(path, error)) {
    // A node joins before it keeps anything else: what is here was made by another role.
    for (const char* name : {"/partitions", "/metadata"}) {
      if (fs::exists(directory + name, error)) {
        return Corruption(path + ": missing beside " + directory + name +
                          ": a data directory of `onggi dev`, or damaged");
      }
    }
    identity.disk_id = NewUuid();
    RETURN_IF_ERROR(SaveIdentity(directory, identity));
    return identity;
  }
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  std::istringstream words(line);
  std::string magic;
  int version = 0;
  uint64_t node = 0;
  if (!(words >> magic >> version) || magic != kMagic) return Corruption(path + ": not Onggi's");
  if (version != kVersion) {
    return Corruption(path + ": of format " + std::to_string(version) +
                      ", which this program does not know");
  }
  if (!(words >> identity.disk_id >> identity.cluster_id >> node)) {
    return Corruption(path + ": does not say disk, cluster and node");
  }
  for (uint64_t boot = 0; words >> boot;) identity.boots.push_back(boot);
  if (!words.eof()) return Corruption(path + ": has something that is no number of a process");
  if (identity.cluster_id == "-") identity.cluster_id.clear();
  identity.node = NodeId(node);
  return identity;
}

Status SaveIdentity(const std::string& directory, const metadata::NodeIdentity& identity) {
  const std::string path = PathOf(directory);
  std::string line = std::string(kMagic) + " " + std::to_string(kVersion) + " " + identity.disk_id +
                     " " + (identity.cluster_id.empty() ? "-" : identity.cluster_id) + " " +
                     identity.node.ToString();
  for (const uint64_t boot : identity.boots) line += " " + std::to_string(boot);
  line += "\n";
  RETURN_IF_ERROR(storage::WriteFileSynced(path + ".new", line));
  std::error_code error;
  fs::rename(path + ".new", path, error);
  if (error) return IoError("rename", path, error.value());
  return storage::SyncDirectory(directory);
}

}  // namespace onggi
