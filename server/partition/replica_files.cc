#include "server/partition/replica_files.h"

#include <filesystem>
#include <fstream>

#include "server/storage/data_directory.h"

namespace onggi::partition {

namespace fs = std::filesystem;

namespace {

constexpr char kDefaultStore[] = "store";

bool IsStoreName(const std::string& name) { return name.starts_with(kDefaultStore); }

}  // namespace

Status MakeReplicaDirectory(const storage::StorageEnvironment& storage, const std::string& parent,
                            const std::string& directory, ReplicaId replica, bool lazily) {
  std::error_code error;
  if (fs::exists(directory, error)) {
    return {Code::kAlreadyExists, directory + ": is there already"};
  }
  const std::string fresh = directory + ".new";
  fs::remove_all(fresh, error);
  fs::create_directories(fresh, error);
  if (error) return IoError("create directory", fresh, error.value());
  RETURN_IF_ERROR(
      storage::WriteFileSynced(fresh + "/REPLICA", "onggi-replica 1 " + replica.ToString() + "\n"));
  if (!lazily) {
    const auto store = storage::PartitionStore::Open(storage, fresh + "/" + kDefaultStore,
                                                     /*create=*/true, {});
    RETURN_IF_ERROR(store.status());
  }
  RETURN_IF_ERROR(storage::SyncDirectory(fresh));
  fs::rename(fresh, directory, error);
  if (error) return IoError("rename", directory, error.value());
  return storage::SyncDirectory(parent);
}

Result<ReplicaId> ReadReplicaFile(const std::string& directory) {
  std::error_code error;
  if (!fs::exists(directory, error)) return NotFound(directory + ": missing");
  const std::string path = directory + "/REPLICA";
  std::ifstream file(path);
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

Result<std::string> StorePath(const std::string& directory) {
  std::error_code error;
  const std::string pointer = directory + "/STORE";
  if (!fs::exists(pointer, error)) return directory + "/" + kDefaultStore;
  std::ifstream file(pointer);
  std::string name;
  if (!(file >> name) || !IsStoreName(name) || name.find('/') != std::string::npos) {
    return Corruption(pointer + ": does not name a store");
  }
  return directory + "/" + name;
}

Result<std::string> InstallStore(const std::string& directory, const std::string& checkpoint) {
  std::error_code error;
  std::string name, path;
  for (uint64_t number = 1;; ++number) {
    name = std::string(kDefaultStore) + "-" + std::to_string(number);
    path = directory + "/" + name;
    if (!fs::exists(path, error)) break;
  }
  fs::rename(checkpoint, path, error);
  if (error) return IoError("rename", path, error.value());
  RETURN_IF_ERROR(storage::SyncDirectory(path));
  RETURN_IF_ERROR(storage::SyncDirectory(directory));
  RETURN_IF_ERROR(storage::WriteFileSynced(directory + "/STORE.new", name + "\n"));
  fs::rename(directory + "/STORE.new", directory + "/STORE", error);
  if (error) return IoError("rename", directory + "/STORE", error.value());
  RETURN_IF_ERROR(storage::SyncDirectory(directory));
  return path;
}

Status RemoveOldStores(const std::string& directory) {
  ASSIGN_OR_RETURN(const std::string current, StorePath(directory));
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (!entry.is_directory() || !IsStoreName(entry.path().filename())) continue;
    if (entry.path() == current) continue;
    RETURN_IF_ERROR(RemoveReplicaDirectory(entry.path()));
  }
  if (error) return IoError("read directory", directory, error.value());
  return Status::Ok();
}

Status RemoveReplicaDirectory(const std::string& directory) {
  std::error_code error;
  fs::remove_all(directory, error);
  if (error) return IoError("remove", directory, error.value());
  return Status::Ok();
}

Status RemoveReplica(const std::string& directory, ReplicaId replica) {
  if (replica != ReplicaId()) {
    const Result<ReplicaId> there = ReadReplicaFile(directory);
    if (there.ok() && *there != replica) return Status::Ok();
  }
  return RemoveReplicaDirectory(directory);
}

Result<AppliedState> ReadAppliedState(const storage::StorageEnvironment& storage,
                                      const std::string& store) {
  ASSIGN_OR_RETURN(const std::string value,
                   storage::PartitionStore::ReadKey(storage, store, kAppliedKey));
  return AppliedState::Decode(value);
}

}  // namespace onggi::partition
