#include "server/partition/replica_check.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "common/proto/catalog.pb.h"
#include "replication/metadata/keys.h"
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
  RETURN_IF_ERROR(CheckReplicaFile(replica.directory, replica.id));
  return storage::CheckStore(replica.directory + "/store");
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

Status CheckReplicaFile(const std::string& directory, ReplicaId replica) {
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
  if (id != replica.value) {
    return Corruption(path + ": holds replica " + std::to_string(id) + ", the catalog names " +
                      replica.ToString());
  }
  return Status::Ok();
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
