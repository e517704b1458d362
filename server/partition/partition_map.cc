#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <charconv>
#include <filesystem>
#include <future>

#include "common/log.h"
#include "replication/group/record.h"
#include "replication/metadata/keys.h"
#include "server/partition/partition_manager.h"
#include "server/partition/replica_files.h"
#include "server/storage/data_directory.h"

/// PartitionManager: the partition map, and the directories that it names.
namespace onggi::partition {

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

constexpr auto kResyncRetry = std::chrono::milliseconds(200);
/// Partitions that this node left are remembered against old messages: far more than any of those
/// may be late by.
constexpr size_t kMaxLeft = 4096;

Result<metadata::RangeResult> ReadPrefix(metadata::MetadataStore* store, std::string_view prefix) {
  std::promise<Result<metadata::RangeResult>> promise;
  store->AsyncRange(
      std::string(prefix), metadata::PrefixEnd(prefix), 0,
      [&promise](Result<metadata::RangeResult> result) { promise.set_value(std::move(result)); });
  return promise.get_future().get();
}

/// The replica of `node` that a configuration names; 0: none.
ReplicaId ReplicaOn(NodeId node, const proto::PartitionConfig& config) {
  for (const auto* members : {&config.in_sync(), &config.learners()}) {
    for (const proto::ReplicaRef& member : *members) {
      if (NodeId(member.node()) == node) return ReplicaId(member.replica());
    }
  }
  // A record of a lone replica may name its primary alone.
  if (NodeId(config.primary().node()) == node) return ReplicaId(config.primary().replica());
  return ReplicaId();
}

}  // namespace

Status PartitionManager::Start() {
  ASSIGN_OR_RETURN(const auto tables,
                   ReadPrefix(environment_.metadata, metadata::keys::kTablePrefix));
  ASSIGN_OR_RETURN(const auto partitions,
                   ReadPrefix(environment_.metadata, metadata::keys::kPartitionPrefix));
  ASSIGN_OR_RETURN(const auto next,
                   ReadPrefix(environment_.metadata, metadata::keys::NextPartition()));
  for (const auto& kv : tables.kvs) PutTable(kv);
  std::set<PartitionId> in_map;
  for (const auto& kv : partitions.kvs) {
    PutPartition(kv);
    if (const auto key = metadata::keys::ParsePartition(kv.key)) in_map.insert(key->partition);
  }
  uint64_t next_partition = 1;
  if (!next.kvs.empty()) {
    next_partition = metadata::keys::ParseId(next.kvs[0].value).value_or(1);
  }
  RETURN_IF_ERROR(CheckDirectories(next_partition, in_map));
  // Both watches on one thread: a table's record is there before its partitions'.
  WatchTables(Revision(tables.revision.value + 1));
  WatchPartitions(Revision(partitions.revision.value + 1));
  scope_.Spawn(io_->executor(0), Maintain());
  std::unique_lock lock(mutex_);
  started_ = true;
  return Status::Ok();
}

// Directories. ------------------------------------------------------------------------------------

/// Replicas that the map names and a process has led must be there; what the map once numbered and
/// does not have any more was dropped while nobody ran. A higher number belongs to another catalog
/// (a metadata directory was lost, or swapped): never deleted on that ground. What is inside the
/// directories is not looked at here: CheckReplicas() does that, before the metadata store is
/// opened for writing.
Status PartitionManager::CheckDirectories(uint64_t next_partition,
                                          const std::set<PartitionId>& in_map) {
  std::error_code error;
  const storage::Files& files = environment_.storage->files();
  const std::string& parent = environment_.partitions_directory;
  fs::create_directories(parent, error);
  if (error) return IoError("create directory", parent, error.value());
  RETURN_IF_ERROR(storage::SyncDirectory(parent + "/.."));
  fs::remove_all(parent + "/outgoing", error);
  if (!alone()) fs::create_directories(parent + "/outgoing", error);
  std::set<std::string> present;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    present.insert(entry.path().filename());
  }
  if (error) return IoError("read directory", parent, error.value());
  RETURN_IF_ERROR(CheckNamed(present));
  std::set<PartitionId> left_alone;
  for (const std::string& name : present) {
    if (name == "outgoing") continue;
    uint64_t id = 0;  // of "<id>", or of "<id>.new", which a crash left half made
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), id);
    const std::string_view rest(parsed.ptr, name.data() + name.size());
    if (rest.empty() && partitions_.contains(PartitionId(id))) continue;
    Result<bool> kept = rest.empty() && in_map.contains(PartitionId(id));
    if (rest.empty() && !*kept) kept = ChildOfUncut(PartitionId(id));
    if (kept.ok() && *kept) {
      // Others have the partition, and perhaps this replica is to join them; or a split is not
      // done.
      const auto replica = ReadReplicaFile(files, parent + "/" + name);
      if (replica.ok()) {
        unnamed_[PartitionId(id)] = *replica;
        continue;
      }
      if (replica.status().code() == Code::kIoError) kept = replica.status();
    }
    if (!kept.ok()) {
      log::Error("a replica cannot be looked at, and is left alone", "directory",
                 parent + "/" + name, "status", kept.status());
      left_alone.insert(PartitionId(id));
      continue;
    }
    if (id > 0 && id < next_partition && (rest.empty() || rest == ".new")) {
      fs::remove_all(parent + "/" + name, error);
    } else {
      log::Warn("a directory that no table names is left alone", "directory", parent + "/" + name);
    }
  }
  for (const PartitionId partition : environment_.log->Partitions()) {
    if (partitions_.contains(partition) || unnamed_.contains(partition)) continue;
    if (left_alone.contains(partition)) continue;
    if (partition.value < next_partition) RemoveLog(partition);
  }
  return Status::Ok();
}

/// Does the directory of a partition belong to a split that the key does not know yet, of a parent
/// that is here?
Result<bool> PartitionManager::ChildOfUncut(PartitionId partition) const {
  ASSIGN_OR_RETURN(const auto mark,
                   ParentMark::Read(environment_.storage->files(), DirectoryOf(partition)));
  if (!mark.has_value()) return false;
  const auto parent = partitions_.find(mark->parent);
  if (parent == partitions_.end()) return false;
  const proto::PartitionConfig& config = parent->second->config;
  return mark->key > config.range_start() &&
         (config.range_end().empty() || mark->key < config.range_end());
}

Status PartitionManager::CheckNamed(const std::set<std::string>& present) {
  const storage::Files& files = environment_.storage->files();
  for (const auto& [id, slot] : partitions_) {
    if (slot->config.boot() == 0) continue;
    const std::string path = DirectoryOf(id);
    Status status;
    if (!present.contains(id.ToString())) {
      status = Corruption(path + ": missing: the catalog names a replica with data here");
    } else if (!files.Exists(path + "/REPLICA")) {
      status = Corruption(path + "/REPLICA: missing");
    } else {
      const Result<std::string> store = StorePath(files, path);
      status = store.status();
      if (store.ok() && !files.Exists(*store + "/CURRENT")) {
        status = Corruption(*store + "/CURRENT: missing");
      }
      // What is here is another replica: the one that is named is gone.
      if (const auto replica = ReadReplicaFile(files, path);
          status.ok() && !alone() && replica.ok() && *replica != slot->replica) {
        status = Corruption(path + ": holds replica " + replica->ToString() +
                            ", the catalog names " + slot->replica.ToString());
      }
    }
    if (status.ok()) continue;
    if (alone()) return status;
    if (status.code() == Code::kIoError) {  // opening it asks again
      log::Error("a replica cannot be looked at", "partition", id, "status", status);
      continue;
    }
    log::Error("a replica is lost", "partition", id, "status", status);
    slot->lost = true;
  }
  return Status::Ok();
}

/// A full log refuses even this; Maintain() asks again, or the group would hold the log back.
void PartitionManager::RemoveLog(PartitionId partition) {
  if (environment_.configurations != nullptr) environment_.configurations->AsyncRemove(partition);
  std::lock_guard lock(logs_mutex_);
  if (!environment_.log->RemoveGroup(partition).ok()) logs_to_remove_.insert(partition);
}

/// With the lock held, so that MakeReplica() does not come between: what it has made since has its
/// own entries.
void PartitionManager::RemoveLeftLogs() {
  std::lock_guard lock(logs_mutex_);
  std::erase_if(logs_to_remove_, [&](PartitionId partition) {
    return environment_.log->RemoveGroup(partition).ok();
  });
}

/// Of this replica, or (0) of whichever is there: the next one's may stand in its place by then.
void PartitionManager::RemoveDirectory(PartitionId partition, ReplicaId replica) {
  const auto remove = [files = environment_.storage->files(), path = DirectoryOf(partition),
                       replica] {
    if (const Status removed = RemoveReplica(files, path, replica); !removed.ok()) {
      log::Warn("cannot remove a dropped partition's files", "status", removed);
    }
  };
  if (!environment_.blocking->TrySubmit(remove)) remove();
}

// The map. ----------------------------------------------------------------------------------------

void PartitionManager::WatchTables(Revision from) {
  table_watch_ = environment_.metadata->Watch(
      std::string(metadata::keys::kTablePrefix), from, io_->executor(0),
      [this](const metadata::WatchBatch& batch) { OnTables(batch); });
}

void PartitionManager::WatchPartitions(Revision from) {
  partition_watch_ = environment_.metadata->Watch(
      std::string(metadata::keys::kPartitionPrefix), from, io_->executor(0),
      [this](const metadata::WatchBatch& batch) { OnPartitions(batch); });
}

/// A watch fell too far behind: reads everything and watches from there.
asio::awaitable<void> PartitionManager::Resync() {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (;;) {
    const auto tables =
        co_await environment_.metadata->RangePrefix(std::string(metadata::keys::kTablePrefix));
    const auto partitions =
        co_await environment_.metadata->RangePrefix(std::string(metadata::keys::kPartitionPrefix));
    if (scope_.stopping()) co_return;
    if (tables.ok() && partitions.ok()) {
      for (const auto& kv : tables->kvs) PutTable(kv);
      std::set<PartitionId> in_map;
      for (const auto& kv : partitions->kvs) {
        PutPartition(kv);
        if (const auto key = metadata::keys::ParsePartition(kv.key)) in_map.insert(key->partition);
      }
      std::vector<PartitionId> gone;
      {
        std::shared_lock lock(mutex_);
        for (const auto& [id, slot] : partitions_) {
          if (!in_map.contains(id) && slot->revision <= partitions->revision) gone.push_back(id);
        }
      }
      for (const PartitionId id : gone) DropPartition(id);
      WatchTables(Revision(tables->revision.value + 1));
      WatchPartitions(Revision(partitions->revision.value + 1));
      co_return;
    }
    timer.expires_after(kResyncRetry);
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    co_await timer.async_wait(token);
    if (error) co_return;
  }
}

void PartitionManager::OnTables(const metadata::WatchBatch& batch) {
  if (batch.compacted) {
    scope_.Spawn(io_->executor(0), Resync());
    return;
  }
  for (const auto& event : batch.events) {
    if (event.type == metadata::WatchEvent::Type::kPut) {
      PutTable(event.kv);
    } else if (const auto id = metadata::keys::ParseTable(event.kv.key)) {
      std::unique_lock lock(mutex_);
      const auto table = tables_.find(*id);
      // Its partitions' deletions are on the other watch; the last one to come removes the entry.
      if (table == tables_.end()) continue;
      table->second.deleted = true;
      if (table->second.slots.empty()) tables_.erase(table);
    }
  }
}

void PartitionManager::OnPartitions(const metadata::WatchBatch& batch) {
  if (batch.compacted) {
    scope_.Spawn(io_->executor(0), Resync());
    return;
  }
  for (const auto& event : batch.events) {
    if (event.type == metadata::WatchEvent::Type::kPut) {
      PutPartition(event.kv);
    } else if (const auto key = metadata::keys::ParsePartition(event.kv.key)) {
      {
        std::unique_lock lock(mutex_);
        if (partitions_.contains(key->partition)) Leave(key->partition, event.kv.mod_revision);
      }
      DropPartition(key->partition);
    }
  }
}

void PartitionManager::PutTable(const metadata::KeyValue& kv) {
  proto::Table record;
  CHECK_MSG(record.ParseFromString(kv.value), kv.key);
  std::unique_lock lock(mutex_);
  TableEntry& entry = tables_[TableId(record.id())];
  if (entry.schema == nullptr) entry.schema = TableSchema::FromRecord(record);
}

void PartitionManager::PutPartition(const metadata::KeyValue& kv) {
  proto::PartitionConfig config;
  CHECK_MSG(config.ParseFromString(kv.value), kv.key);
  Learn(std::move(config), kv.mod_revision);
}

/// What the map, a message or a replica says of a partition, if it is news.
void PartitionManager::Learn(proto::PartitionConfig config, Revision revision) {
  const PartitionId id(config.partition());
  const ReplicaId here = ReplicaOn(environment_.node, config);
  std::shared_ptr<Partition> open;
  std::shared_ptr<Slot> left;
  {
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    const auto found = partitions_.find(id);
    if (found == partitions_.end()) {
      if (here == ReplicaId()) return;
      if (const auto left_at = left_.find(id); left_at != left_.end()) {
        if (revision <= left_at->second) return;
      }
      auto slot = std::make_shared<Slot>();
      slot->table = TableId(config.table());
      slot->id = id;
      slot->replica = here;
      slot->config = config;
      slot->revision = revision;
      unnamed_.erase(id);
      partitions_[id] = slot;
      tables_[slot->table].slots[slot->config.range_start()] = slot;
      return;
    }
    const std::shared_ptr<Slot> slot = found->second;
    if (revision <= slot->revision) return;
    if (here != slot->replica) {
      left = slot;  // this replica is named no more; perhaps a new one is, in its place
      Leave(id, Revision(revision.value - 1));
    } else {
      const std::string old_start = slot->config.range_start();
      slot->config = config;
      slot->revision = revision;
      if (old_start != slot->config.range_start()) PlaceSlot(slot, old_start);
      open = slot->partition != nullptr ? slot->partition : slot->starting;
    }
  }
  if (left != nullptr) {
    DropPartition(id);
    if (here != ReplicaId()) Learn(std::move(config), revision);
    return;
  }
  if (open == nullptr) return;
  Deliver(open, [configuration = group::FromRecord(config), revision](replica::Replica& replica) {
    replica.OnConfigurationSeen(configuration, revision);
  });
}

/// Under the lock: the slot's range begins elsewhere.
void PartitionManager::PlaceSlot(const std::shared_ptr<Slot>& slot, const std::string& old_start) {
  auto& slots = tables_[slot->table].slots;
  if (const auto old = slots.find(old_start); old != slots.end() && old->second == slot) {
    slots.erase(old);
  }
  slots[slot->config.range_start()] = slot;
}

/// Under the lock: out of the map.
std::shared_ptr<PartitionManager::Slot> PartitionManager::TakeSlot(PartitionId partition) {
  const auto found = partitions_.find(partition);
  if (found == partitions_.end()) return nullptr;
  const std::shared_ptr<Slot> slot = found->second;
  partitions_.erase(found);
  const auto entry = tables_.find(slot->table);
  if (entry == tables_.end()) return slot;
  auto& slots = entry->second.slots;
  if (const auto at = slots.find(slot->config.range_start());
      at != slots.end() && at->second == slot) {
    slots.erase(at);
  }
  return slot;
}

/// Under the lock: as of this revision the node has no replica of it.
void PartitionManager::Leave(PartitionId partition, Revision revision) {
  Revision& left_at = left_[partition];
  if (left_at == Revision()) left_in_order_.push_back(partition);
  left_at = std::max(left_at, revision);
  if (left_in_order_.size() > kMaxLeft) {
    left_.erase(left_in_order_.front());
    left_in_order_.pop_front();
  }
}

/// The key is gone, or does not name this node any more.
void PartitionManager::DropPartition(PartitionId partition) {
  std::shared_ptr<Slot> slot;
  {
    std::unique_lock lock(mutex_);
    slot = TakeSlot(partition);
    if (slot != nullptr) {
      // A table that was deleted goes with its last partition, whichever watch is first.
      const auto entry = tables_.find(slot->table);
      if (entry != tables_.end() && entry->second.slots.empty() &&
          (entry->second.deleted || alone())) {
        tables_.erase(entry);
      }
    } else if (unnamed_.erase(partition) == 0) {
      return;
    }
  }
  if (slot != nullptr) {
    DropSlot(slot);
  } else {
    RemoveLog(partition);
    RemoveDirectory(partition);
  }
}

/// One that is out of the map: stops it and removes its files.
void PartitionManager::DropSlot(const std::shared_ptr<Slot>& slot) {
  std::shared_ptr<Partition> open, starting;
  bool opening = false;
  {
    std::unique_lock lock(mutex_);
    open = std::move(slot->partition);
    slot->partition = nullptr;
    opening = slot->opening;
    starting = slot->starting;
    slot->dropped = true;  // RunOpen() does the rest if it is under way
  }
  if (open != nullptr) {
    scope_.Spawn(HomeOf(slot->id)->executor(), StopPartition(open, /*dropped=*/true));
  } else if (!opening) {
    RemoveLog(slot->id);
    RemoveDirectory(slot->id, slot->replica);
  } else if (starting != nullptr) {
    asio::post(HomeOf(slot->id)->executor(),
               [starting] { starting->GiveUpStart(NotFound("the table was deleted")); });
  }
}

}  // namespace onggi::partition
