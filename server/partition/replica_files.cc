#include "server/partition/replica_files.h"

#include <sstream>
#include <vector>

namespace onggi::partition {

namespace {

constexpr char kDefaultStore[] = "store";

bool IsStoreName(const std::string& name) { return name.starts_with(kDefaultStore); }

}  // namespace

Status MakeReplicaDirectory(const storage::StorageEnvironment& storage, const std::string& parent,
                            const std::string& directory, ReplicaId replica, bool lazily) {
  const storage::Files& files = storage.files();
  if (files.Exists(directory)) return {Code::kAlreadyExists, directory + ": is there already"};
  const std::string fresh = directory + ".new";
  RETURN_IF_ERROR(files.Remove(fresh));
  RETURN_IF_ERROR(files.MakeDirectories(fresh));
  RETURN_IF_ERROR(
      files.WriteSynced(fresh + "/REPLICA", "onggi-replica 1 " + replica.ToString() + "\n"));
  if (!lazily) {
    const auto store = storage::PartitionStore::Open(storage, fresh + "/" + kDefaultStore,
                                                     /*create=*/true, {});
    RETURN_IF_ERROR(store.status());
  }
  RETURN_IF_ERROR(files.SyncDirectory(fresh));
  RETURN_IF_ERROR(files.Rename(fresh, directory));
  return files.SyncDirectory(parent);
}

Result<ReplicaId> ReadReplicaFile(const storage::Files& files, const std::string& directory) {
  if (!files.Exists(directory)) return NotFound(directory + ": missing");
  const std::string path = directory + "/REPLICA";
  Result<std::string> content = files.Read(path);
  if (!content.ok() && content.status().code() != Code::kNotFound) return content.status();
  std::istringstream file(content.ok() ? *std::move(content) : std::string());
  std::string magic;
  uint64_t version = 0, id = 0;
  if (!(file >> magic >> version >> id) || magic != "onggi-replica") {
    return Corruption(path + ": missing or not a replica's file");
  }
  if (version != 1) {
    return Corruption(path + ": format " + std::to_string(version) +
                      " is newer than this program's 1");
  }
  return ReplicaId(id);
}

Result<std::string> StorePath(const storage::Files& files, const std::string& directory) {
  const std::string pointer = directory + "/STORE";
  Result<std::string> content = files.Read(pointer);
  if (content.status().code() == Code::kNotFound) return directory + "/" + kDefaultStore;
  if (!content.ok()) return content.status();
  std::istringstream file(*std::move(content));
  std::string name;
  if (!(file >> name) || !IsStoreName(name) || name.find('/') != std::string::npos) {
    return Corruption(pointer + ": does not name a store");
  }
  return directory + "/" + name;
}

Result<std::string> InstallStore(const storage::Files& files, const std::string& directory,
                                 const std::string& checkpoint) {
  std::string name, path;
  for (uint64_t number = 1;; ++number) {
    name = std::string(kDefaultStore) + "-" + std::to_string(number);
    path = directory + "/" + name;
    if (!files.Exists(path)) break;
  }
  RETURN_IF_ERROR(files.Rename(checkpoint, path));
  RETURN_IF_ERROR(files.SyncDirectory(path));
  RETURN_IF_ERROR(files.SyncDirectory(directory));
  RETURN_IF_ERROR(files.WriteSynced(directory + "/STORE.new", name + "\n"));
  RETURN_IF_ERROR(files.Rename(directory + "/STORE.new", directory + "/STORE"));
  RETURN_IF_ERROR(files.SyncDirectory(directory));
  return path;
}

Status RemoveOldStores(const storage::Files& files, const std::string& directory) {
  ASSIGN_OR_RETURN(const std::string current, StorePath(files, directory));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files.ListDirectories(directory));
  for (const std::string& name : names) {
    const std::string path = directory + "/" + name;
    if (IsStoreName(name) && path != current) RETURN_IF_ERROR(files.Remove(path));
  }
  return Status::Ok();
}

Status RemoveReplica(const storage::Files& files, const std::string& directory, ReplicaId replica) {
  if (replica != ReplicaId()) {
    const Result<ReplicaId> there = ReadReplicaFile(files, directory);
    if (there.ok() && *there != replica) return Status::Ok();
  }
  return files.Remove(directory);
}

Result<AppliedState> ReadAppliedState(const storage::StorageEnvironment& storage,
                                      const std::string& store) {
  ASSIGN_OR_RETURN(const std::string value,
                   storage::PartitionStore::ReadKey(storage, store, kAppliedKey));
  return AppliedState::Decode(value);
}

}  // namespace onggi::partition
