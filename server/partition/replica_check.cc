#include "server/partition/replica_check.h"

#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "common/proto/catalog.pb.h"
#include "replication/metadata/keys.h"
#include "server/partition/replica_files.h"
#include "server/storage/store_check.h"

namespace onggi::partition {

namespace fs = std::filesystem;

namespace {

/// A store's check is system calls and short computing: more threads than these only wait.
constexpr size_t kMaxThreads = 4;
constexpr size_t kReplicasPerThread = 8;

struct Replica {
  std::string directory;
  ReplicaId id;
};

Status CheckReplica(const Replica& replica) {
  std::error_code error;
  if (!fs::exists(replica.directory, error)) {
    if (error) return IoError("stat", replica.directory, error.value());
    return Corruption(replica.directory + ": missing: the catalog names a replica with data here");
  }
  const storage::Files files;
  RETURN_IF_ERROR(CheckReplicaFile(files, replica.directory, replica.id));
  ASSIGN_OR_RETURN(const std::string store, StorePath(files, replica.directory));
  return storage::CheckStore(store);
}

Result<std::vector<Replica>> ListReplicas(const std::string& partitions_directory, NodeId node,
                                          const std::vector<metadata::KeyValue>& catalog) {
  std::vector<Replica> replicas;
  for (const metadata::KeyValue& kv : catalog) {
    if (kv.key.starts_with(metadata::keys::kTablePrefix)) {
      proto::Table table;
      if (!table.ParseFromString(kv.value)) {
        return Corruption("the catalog's record " + kv.key + " cannot be read");
      }
    } else if (kv.key.starts_with(metadata::keys::kPartitionPrefix)) {
      proto::PartitionConfig config;
      if (!config.ParseFromString(kv.value)) {
        return Corruption("the catalog's record " + kv.key + " cannot be read");
      }
      if (NodeId(config.primary().node()) != node || config.boot() == 0) continue;
      replicas.push_back({partitions_directory + "/" + std::to_string(config.partition()),
                          ReplicaId(config.primary().replica())});
    }
  }
  return replicas;
}

}  // namespace

Status CheckReplicaFile(const storage::Files& files, const std::string& directory,
                        ReplicaId replica) {
  ASSIGN_OR_RETURN(const ReplicaId there, ReadReplicaFile(files, directory));
  if (there == replica) return Status::Ok();
  return Corruption(directory + "/REPLICA: holds replica " + there.ToString() +
                    ", the catalog names " + replica.ToString());
}

Status CheckReplicas(const std::string& partitions_directory, NodeId node,
                     const std::vector<metadata::KeyValue>& catalog) {
  ASSIGN_OR_RETURN(const std::vector<Replica> replicas,
                   ListReplicas(partitions_directory, node, catalog));
  std::atomic<size_t> next{0};
  std::mutex mutex;
  Status damage;  // guarded by mutex
  const auto work = [&] {
    for (size_t i = next++; i < replicas.size(); i = next++) {
      Status status = CheckReplica(replicas[i]);
      if (status.ok()) continue;
      std::lock_guard lock(mutex);
      damage = std::move(status);
      next = replicas.size();
    }
  };
  const size_t useful = std::min<size_t>(kMaxThreads, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  while (threads.size() + 1 < useful && threads.size() < replicas.size() / kReplicasPerThread) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) thread.join();
  return damage;
}

}  // namespace onggi::partition
