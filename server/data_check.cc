#include "server/data_check.h"

#include <filesystem>

#include "replication/metadata/embedded_store.h"
#include "server/partition/replica_check.h"

namespace onggi {
namespace {

Result<bool> Exists(const std::string& path) {
  std::error_code error;
  const bool exists = std::filesystem::exists(path, error);
  if (error) return IoError("stat", path, error.value());
  return exists;
}

}  // namespace

Result<bool> CheckData(const storage::DataDirectory& data, NodeId node) {
  // Made after the log and the metadata store: where it is, they were.
  ASSIGN_OR_RETURN(const bool complete, Exists(data.partitions_path()));
  ASSIGN_OR_RETURN(const bool has_log, Exists(data.log_path()));
  if (complete && !has_log) {
    return Corruption(data.log_path() + ": missing beside " + data.partitions_path());
  }
  const auto catalog = metadata::EmbeddedStore::ReadAll(data.metadata_path());
  if (catalog.status().code() == Code::kNotFound) {
    if (!complete) return false;
    // Taken for a new store it would say "no tables", and their files would be leftovers.
    return Corruption(catalog.status().message() + ", beside " + data.partitions_path());
  }
  if (!catalog.ok()) return catalog.status();
  RETURN_IF_ERROR(partition::CheckReplicas(data.partitions_path(), node, catalog->kvs));
  return true;
}

}  // namespace onggi
