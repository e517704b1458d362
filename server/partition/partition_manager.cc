#include "server/partition/partition_manager.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <charconv>
#include <filesystem>
#include <future>
#include <set>

#include "common/log.h"
#include "replication/metadata/keys.h"
#include "server/storage/data_directory.h"

namespace onggi::partition {

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

/// How long Find() waits for the map to catch up with the catalog: a table is ACTIVE in one
/// transaction with its partitions, but the two watches deliver on their own.
constexpr auto kMapWait = std::chrono::seconds(2);
constexpr auto kMapPoll = std::chrono::milliseconds(2);

Result<metadata::RangeResult> ReadPrefix(metadata::MetadataStore* store, std::string_view prefix) {
  std::promise<Result<metadata::RangeResult>> promise;
  store->AsyncRange(
      std::string(prefix), metadata::PrefixEnd(prefix), 0,
      [&promise](Result<metadata::RangeResult> result) { promise.set_value(std::move(result)); });
  return promise.get_future().get();
}

}  // namespace

PartitionManager::PartitionManager(const PartitionEnvironment& environment, IoPool* io,
                                   ManagerOptions options)
    : environment_(environment), io_(io), options_(options) {}

PartitionManager::~PartitionManager() = default;

IoPool::Executor PartitionManager::HomeOf(PartitionId partition) {
  return io_->executor(partition.value % io_->size());
}

Status PartitionManager::Start() {
  ASSIGN_OR_RETURN(const auto tables,
                   ReadPrefix(environment_.metadata, metadata::keys::kTablePrefix));
  ASSIGN_OR_RETURN(const auto partitions,
                   ReadPrefix(environment_.metadata, metadata::keys::kPartitionPrefix));
  ASSIGN_OR_RETURN(const auto next,
                   ReadPrefix(environment_.metadata, metadata::keys::NextPartition()));
  for (const auto& kv : tables.kvs) PutTable(kv);
  for (const auto& kv : partitions.kvs) PutPartition(kv);
  uint64_t next_partition = 1;
  if (!next.kvs.empty()) {
    next_partition = metadata::keys::ParseId(next.kvs[0].value).value_or(1);
  }
  RETURN_IF_ERROR(CheckDirectories(next_partition));
  // Both watches on one thread: a table's record is there before its partitions'.
  const auto executor = io_->executor(0);
  table_watch_ = environment_.metadata->Watch(
      std::string(metadata::keys::kTablePrefix), Revision(tables.revision.value + 1), executor,
      [this](const metadata::WatchBatch& batch) { OnTables(batch); });
  partition_watch_ = environment_.metadata->Watch(
      std::string(metadata::keys::kPartitionPrefix), Revision(partitions.revision.value + 1),
      executor, [this](const metadata::WatchBatch& batch) { OnPartitions(batch); });
  scope_.Spawn(io_->executor(0), Maintain());
  return Status::Ok();
}

/// Replicas that the map names and a process has led must be there; what the map once numbered and
/// does not name was dropped while nobody ran. A higher number belongs to another catalog (a
/// metadata directory was lost, or swapped): never deleted on that ground. What is inside the
/// directories is not looked at here: CheckReplicas() does that, before the metadata store is
/// opened for writing.
Status PartitionManager::CheckDirectories(uint64_t next_partition) {
  std::error_code error;
  fs::create_directories(environment_.partitions_directory, error);
  if (error) return IoError("create directory", environment_.partitions_directory, error.value());
  RETURN_IF_ERROR(storage::SyncDirectory(environment_.partitions_directory + "/.."));
  std::set<std::string> present;
  for (const auto& entry : fs::directory_iterator(environment_.partitions_directory, error)) {
    present.insert(entry.path().filename());
  }
  if (error) return IoError("read directory", environment_.partitions_directory, error.value());
  std::set<std::string> named;
  for (const auto& [id, table] : tables_) {
    for (const auto& [start, slot] : table.slots) {
      const std::string name = std::to_string(slot->config.partition());
      named.insert(name);
      if (slot->config.boot() == 0) continue;
      const std::string path = environment_.partitions_directory + "/" + name;
      if (!present.contains(name)) {
        return Corruption(path + ": missing: the catalog names a replica with data here");
      }
      for (const char* file : {"/REPLICA", "/store/CURRENT"}) {
        if (!fs::exists(path + file, error)) return Corruption(path + file + ": missing");
      }
    }
  }
  for (const std::string& name : present) {
    if (named.contains(name)) continue;
    uint64_t id = 0;  // of "<id>", or of "<id>.new", which a crash left half made
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), id);
    const std::string_view rest(parsed.ptr, name.data() + name.size());
    if (id > 0 && id < next_partition && (rest.empty() || rest == ".new")) {
      fs::remove_all(environment_.partitions_directory + "/" + name, error);
    } else {
      log::Warn("a directory that no table names is left alone", "directory",
                environment_.partitions_directory + "/" + name);
    }
  }
  for (const PartitionId partition : environment_.log->Partitions()) {
    if (named.contains(partition.ToString())) continue;
    if (partition.value < next_partition) RemoveLog(partition);
  }
  return Status::Ok();
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
  if (NodeId(config.primary().node()) != environment_.node) return;
  std::unique_lock lock(mutex_);
  std::shared_ptr<Slot>& slot = tables_[TableId(config.table())].slots[config.range_start()];
  if (slot == nullptr) slot = std::make_shared<Slot>();
  slot->config = std::move(config);
  slot->revision = kv.mod_revision;
}

void PartitionManager::OnTables(const metadata::WatchBatch& batch) {
  CHECK(!batch.compacted);
  for (const auto& event : batch.events) {
    if (event.type == metadata::WatchEvent::Type::kPut) {
      PutTable(event.kv);
    } else if (const auto id = metadata::keys::ParseTable(event.kv.key)) {
      std::unique_lock lock(mutex_);
      const auto table = tables_.find(*id);
      // Its partitions' deletions are on the other watch; the last one to come removes the entry.
      if (table != tables_.end() && table->second.slots.empty()) tables_.erase(table);
    }
  }
}

void PartitionManager::OnPartitions(const metadata::WatchBatch& batch) {
  CHECK(!batch.compacted);
  for (const auto& event : batch.events) {
    if (event.type == metadata::WatchEvent::Type::kPut) {
      PutPartition(event.kv);
    } else if (const auto key = metadata::keys::ParsePartition(event.kv.key)) {
      DropPartition(key->table, key->partition);
    }
  }
}

void PartitionManager::DropPartition(TableId table, PartitionId partition) {
  std::shared_ptr<Slot> slot;
  std::shared_ptr<Partition> open, starting;
  bool opening = false;
  {
    std::unique_lock lock(mutex_);
    const auto entry = tables_.find(table);
    if (entry == tables_.end()) return;
    auto& slots = entry->second.slots;
    for (auto it = slots.begin(); it != slots.end(); ++it) {
      if (PartitionId(it->second->config.partition()) != partition) continue;
      slot = it->second;
      slots.erase(it);
      break;
    }
    if (slots.empty()) tables_.erase(entry);
    if (slot == nullptr) return;
    open = std::move(slot->partition);
    opening = slot->opening;
    starting = slot->starting;
    slot->dropped = true;  // RunOpen() does the rest if it is under way
  }
  if (open != nullptr) {
    scope_.Spawn(HomeOf(partition), StopPartition(open, /*dropped=*/true));
  } else if (!opening) {
    RemoveLog(partition);
    RemoveDirectory(partition);
  } else if (starting != nullptr) {
    asio::post(HomeOf(partition),
               [starting] { starting->GiveUpStart(NotFound("the table was deleted")); });
  }
}

/// Not cut short when the scope stops: what is in flight must be answered.
asio::awaitable<void> PartitionManager::StopPartition(std::shared_ptr<Partition> partition,
                                                      bool dropped) {
  const asio::disable_cancellation none;
  co_await asio::this_coro::reset_cancellation_state(none);
  if (dropped) partition->RemoveFilesOnClose();
  co_await partition->Stop(/*flush=*/!dropped);
  if (dropped) RemoveLog(partition->id());
}

/// A full log refuses even this; Maintain() asks again, or the group would hold the log back.
void PartitionManager::RemoveLog(PartitionId partition) {
  if (environment_.log->RemoveGroup(partition).ok()) return;
  std::unique_lock lock(mutex_);
  logs_to_remove_.push_back(partition);
}

void PartitionManager::RemoveDirectory(PartitionId partition) {
  const std::string path = environment_.partitions_directory + "/" + partition.ToString();
  auto remove = [path] {
    std::error_code error;
    fs::remove_all(path, error);
  };
  if (!environment_.blocking->TrySubmit(remove)) remove();
}

std::shared_ptr<PartitionManager::Slot> PartitionManager::FindSlot(
    TableId table, std::string_view key, std::shared_ptr<const TableSchema>* schema) {
  const auto entry = tables_.find(table);
  if (entry == tables_.end()) return nullptr;
  const auto& slots = entry->second.slots;
  auto it = slots.upper_bound(key);
  if (it == slots.begin()) return nullptr;
  --it;
  const std::string& end = it->second->config.range_end();
  if (!end.empty() && key >= end) return nullptr;
  if (schema != nullptr) *schema = entry->second.schema;
  return it->second;
}

std::shared_ptr<Partition> PartitionManager::TryFind(TableId table, std::string_view key) {
  std::shared_lock lock(mutex_);
  const std::shared_ptr<Slot> slot = FindSlot(table, key, nullptr);
  return slot == nullptr ? nullptr : slot->partition;
}

asio::awaitable<Result<std::shared_ptr<Partition>>> PartitionManager::Find(TableId table,
                                                                           std::string_view key) {
  const auto deadline = std::chrono::steady_clock::now() + kMapWait;
  for (;;) {
    std::shared_ptr<Slot> slot;
    std::shared_ptr<const TableSchema> schema;
    {
      std::shared_lock lock(mutex_);
      if (stopping_) co_return Unavailable("the server is stopping");
      slot = FindSlot(table, key, &schema);
      if (slot != nullptr && slot->partition != nullptr) co_return slot->partition;
    }
    if (slot != nullptr && schema != nullptr) co_return co_await OpenSlot(slot, schema);
    if (std::chrono::steady_clock::now() >= deadline) {
      co_return NotFound("no partition holds the key");
    }
    asio::steady_timer timer(co_await asio::this_coro::executor, kMapPoll);
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    co_await timer.async_wait(token);
  }
}

asio::awaitable<Result<std::vector<std::shared_ptr<Partition>>>> PartitionManager::PartitionsOf(
    TableId table) {
  std::vector<std::shared_ptr<Partition>> partitions;
  std::vector<std::shared_ptr<Slot>> slots;
  std::shared_ptr<const TableSchema> schema;
  {
    std::shared_lock lock(mutex_);
    const auto entry = tables_.find(table);
    if (entry == tables_.end() || entry->second.schema == nullptr) co_return partitions;
    schema = entry->second.schema;
    for (const auto& [start, slot] : entry->second.slots) slots.push_back(slot);
  }
  for (const auto& slot : slots) {
    Result<std::shared_ptr<Partition>> opened = co_await OpenSlot(slot, schema);
    if (!opened.ok()) co_return std::move(opened).status();
    partitions.push_back(*std::move(opened));
  }
  co_return partitions;
}

asio::awaitable<PartitionManager::OpenResult> PartitionManager::OpenSlot(
    std::shared_ptr<Slot> slot, std::shared_ptr<const TableSchema> schema) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto initiate = [this, &slot, &schema, &executor](auto handler) {
    using Handler = decltype(handler);
    auto shared = std::make_shared<Handler>(std::move(handler));
    OpenCallback answer = [shared, executor](OpenResult result) {
      asio::post(executor, [shared, result = std::move(result)]() mutable {
        std::move (*shared)(std::move(result));
      });
    };
    Status refusal;
    std::shared_ptr<Partition> open;
    bool start = false;
    PartitionId id;
    {
      std::unique_lock lock(mutex_);
      id = PartitionId(slot->config.partition());
      if (stopping_) {
        refusal = Unavailable("the server is stopping");
      } else if (slot->dropped) {
        refusal = NotFound("the table was deleted");
      } else if (slot->partition != nullptr) {
        open = slot->partition;
      } else {
        slot->waiters.push_back(answer);
        start = !slot->opening;
        slot->opening = true;
      }
    }
    if (!refusal.ok()) {
      answer(refusal);
    } else if (open != nullptr) {
      answer(open);
    } else if (start) {
      const IoPool::Executor home = HomeOf(id);
      if (!scope_.Spawn(home, RunOpen(slot, schema, home))) {
        std::vector<OpenCallback> waiters;
        {
          std::unique_lock lock(mutex_);
          slot->opening = false;
          waiters.swap(slot->waiters);
        }
        for (const auto& waiter : waiters) waiter(Unavailable("the server is stopping"));
      }
    }
  };
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(OpenResult)>(
      initiate, asio::use_awaitable);
}

asio::awaitable<void> PartitionManager::RunOpen(std::shared_ptr<Slot> slot,
                                                std::shared_ptr<const TableSchema> schema,
                                                IoPool::Executor home) {
  // Runs to its end whatever stops around it: its waiters must be answered, its partition stopped.
  const asio::disable_cancellation none;
  co_await asio::this_coro::reset_cancellation_state(none);
  std::shared_ptr<Partition> partition;
  bool start;
  {
    std::unique_lock lock(mutex_);
    partition = std::make_shared<Partition>(environment_, home, std::move(schema), slot->config,
                                            slot->revision);
    start = !stopping_ && !slot->dropped;
    if (start) slot->starting = partition;
  }
  Status started;
  if (start) started = co_await partition->Start();
  std::vector<OpenCallback> waiters;
  bool dropped, stopping;
  {
    std::unique_lock lock(mutex_);
    slot->opening = false;
    slot->starting = nullptr;
    dropped = slot->dropped;
    stopping = stopping_;
    if (started.ok() && !dropped && !stopping) slot->partition = partition;
    waiters.swap(slot->waiters);
  }
  if (dropped) {
    co_await StopPartition(partition, /*dropped=*/true);
    started = NotFound("the table was deleted");
  } else if (stopping) {
    co_await StopPartition(partition, /*dropped=*/false);
    started = Unavailable("the server is stopping");
  } else if (!started.ok()) {
    log::Error("cannot open a partition", "partition", partition->id(), "status", started);
  }
  for (const auto& waiter : waiters) {
    if (started.ok()) {
      waiter(partition);
    } else {
      waiter(started);
    }
  }
}

/// Flushes the partitions that keep the log from shrinking, opening those that nobody has asked for
/// since the start.
asio::awaitable<void> PartitionManager::Maintain() {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  bool disk_was_low = false;
  for (;;) {
    timer.expires_after(options_.maintenance_interval);
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    co_await timer.async_wait(token);
    if (error || scope_.stopping()) co_return;
    std::vector<PartitionId> logs_to_remove;
    {
      std::unique_lock lock(mutex_);
      logs_to_remove.swap(logs_to_remove_);
    }
    for (const PartitionId id : logs_to_remove) RemoveLog(id);
    for (const PartitionId id : environment_.log->Pinning(options_.log_limit_bytes)) {
      std::shared_ptr<Slot> found;
      std::shared_ptr<const TableSchema> schema;
      {
        std::shared_lock lock(mutex_);
        for (const auto& [table, entry] : tables_) {
          for (const auto& [start, slot] : entry.slots) {
            if (PartitionId(slot->config.partition()) != id) continue;
            found = slot;
            schema = entry.schema;
          }
        }
      }
      if (found == nullptr || schema == nullptr) continue;
      OpenResult partition = co_await OpenSlot(found, schema);
      if (partition.ok()) FlushLater(*std::move(partition));
    }
    // Full write buffers count as used space: on the disk they take less, and the log behind them
    // goes.
    const bool disk_low = environment_.disk_low->load(std::memory_order_relaxed);
    if (disk_low && !disk_was_low) {
      std::shared_lock lock(mutex_);
      for (const auto& [table, entry] : tables_) {
        for (const auto& [start, slot] : entry.slots) {
          if (slot->partition != nullptr) FlushLater(slot->partition);
        }
      }
    }
    disk_was_low = disk_low;
  }
}

void PartitionManager::FlushLater(std::shared_ptr<Partition> partition) {
  (void)environment_.blocking->TrySubmit([partition = std::move(partition)] {
    if (const Status status = partition->Flush(); !status.ok()) {
      log::Warn("cannot flush a partition", "partition", partition->id(), "status", status);
    }
  });
}

void PartitionManager::Stop() {
  std::vector<std::shared_ptr<Partition>> open;
  {
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    for (auto& [id, table] : tables_) {
      for (auto& [start, slot] : table.slots) {
        if (slot->partition != nullptr) open.push_back(std::move(slot->partition));
        if (slot->starting == nullptr) continue;
        asio::post(HomeOf(slot->starting->id()), [starting = slot->starting] {
          starting->GiveUpStart(Unavailable("the server is stopping"));
        });
      }
    }
  }
  // The watches end on their own executor.
  std::promise<void> unwatched;
  asio::post(io_->executor(0), [this, &unwatched] {
    table_watch_.reset();
    partition_watch_.reset();
    unwatched.set_value();
  });
  unwatched.get_future().get();
  scope_.Stop();
  AsyncScope stops;
  for (auto& partition : open) {
    stops.Spawn(HomeOf(partition->id()), StopPartition(partition, /*dropped=*/false));
  }
  std::promise<void> joined;
  asio::co_spawn(
      io_->context(0), [&stops]() -> asio::awaitable<void> { co_await stops.AsyncJoin(); },
      [&joined](std::exception_ptr) { joined.set_value(); });
  joined.get_future().get();
  std::unique_lock lock(mutex_);
  tables_.clear();
}

size_t PartitionManager::open_partitions() const {
  std::shared_lock lock(mutex_);
  size_t count = 0;
  for (const auto& [id, table] : tables_) {
    for (const auto& [start, slot] : table.slots) count += slot->partition != nullptr;
  }
  return count;
}

size_t PartitionManager::queued_writes() const {
  std::shared_lock lock(mutex_);
  size_t count = 0;
  for (const auto& [id, table] : tables_) {
    for (const auto& [start, slot] : table.slots) {
      if (slot->partition != nullptr) count += slot->partition->queued_writes();
    }
  }
  return count;
}

}  // namespace onggi::partition
