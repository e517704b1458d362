#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/env.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/proto/catalog.pb.h"
#include "replication/log/log_store.h"
#include "replication/metadata/embedded_store.h"
#include "replication/metadata/keys.h"
#include "server/expression/expression.h"
#include "server/model/attribute_value.h"
#include "server/model/key.h"
#include "server/partition/partition_manager.h"
#include "tests/unit/storage/fault_table_disk.h"
#include "tests/unit/table_record.h"

/// A node without its API: the real log, metadata store and partitions in a directory of their own.
namespace onggi::partition {

/// A directory that goes with the object.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "onggi-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Runs a coroutine on `executor` to its end, for a thread that runs none.
inline void Await(boost::asio::any_io_executor executor, boost::asio::awaitable<void> coroutine) {
  std::promise<void> promise;
  auto done = [&promise](std::exception_ptr error) {
    if (error) {
      promise.set_exception(error);
    } else {
      promise.set_value();
    }
  };
  boost::asio::co_spawn(executor, std::move(coroutine), std::move(done));
  promise.get_future().get();
}
template <class T>
boost::asio::awaitable<void> Keep(boost::asio::awaitable<T> coroutine, std::optional<T>* value) {
  value->emplace(co_await std::move(coroutine));
}
template <class T>
T Await(boost::asio::any_io_executor executor, boost::asio::awaitable<T> coroutine) {
  std::optional<T> value;  // a Result has no default
  Await(std::move(executor), Keep(std::move(coroutine), &value));
  return *std::move(value);
}

/// Waits until `condition` holds; false after 10 s.
template <class F>
bool Eventually(F condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// The log's disk, which can refuse to grow and hold back fsyncs.
class FaultLogDisk : public log::FileSystem {
 public:
  std::atomic<bool> full{false};
  /// While set, Sync() does not return.
  std::atomic<bool> hang{false};
  /// Once set, nothing reaches the disk, and nobody is told: the machine has lost power.
  std::atomic<bool> frozen{false};

  Status CreateDirectories(const std::string& path) override {
    return base_->CreateDirectories(path);
  }
  Result<std::vector<std::string>> List(const std::string& path) override {
    return base_->List(path);
  }
  Result<std::unique_ptr<log::File>> Open(const std::string& path, bool create) override {
    ASSIGN_OR_RETURN(auto file, base_->Open(path, create));
    return std::unique_ptr<log::File>(std::make_unique<FaultFile>(this, std::move(file)));
  }
  Status Rename(const std::string& from, const std::string& to) override {
    if (frozen) return Status::Ok();
    return base_->Rename(from, to);
  }
  Status Remove(const std::string& path) override {
    if (frozen) return Status::Ok();
    return base_->Remove(path);
  }
  Status SyncDirectory(const std::string& path) override { return base_->SyncDirectory(path); }
  Result<uint64_t> FreeBytes(const std::string& path) override {
    if (full) return uint64_t{0};
    return base_->FreeBytes(path);
  }

 private:
  class FaultFile : public log::File {
   public:
    FaultFile(FaultLogDisk* disk, std::unique_ptr<log::File> base)
        : disk_(disk), base_(std::move(base)) {}
    Status Write(uint64_t offset, std::span<const std::string_view> pieces) override {
      if (disk_->frozen) return Status::Ok();
      return base_->Write(offset, pieces);
    }
    Result<size_t> Read(uint64_t offset, char* data, size_t size) override {
      return base_->Read(offset, data, size);
    }
    Status Sync() override {
      while (disk_->hang) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return base_->Sync();
    }
    Status Allocate(uint64_t size) override {
      if (disk_->full) return {Code::kOutOfSpace, "injected"};
      return base_->Allocate(size);
    }
    Result<uint64_t> Size() override { return base_->Size(); }

   private:
    FaultLogDisk* const disk_;
    const std::unique_ptr<log::File> base_;
  };

  log::FileSystem* const base_ = log::FileSystem::Posix();
};

using storage::FaultTableDisk;
using storage::Gate;

/// Of a node's pool for blocking work.
inline constexpr size_t kBlockingThreads = 2;

/// Keeps a node's pool for blocking work from beginning anything, until Release().
class HeldPool {
 public:
  explicit HeldPool(BlockingPool* pool) {
    auto held = std::make_shared<std::atomic<size_t>>(0);
    const std::shared_future<void> released(release_.get_future());
    for (size_t i = 0; i < kBlockingThreads; ++i) {
      CHECK(pool->TrySubmit([held, released] {
        ++*held;
        released.wait();
      }));
    }
    CHECK(Eventually([&] { return *held == kBlockingThreads; }));
  }
  ~HeldPool() { Release(); }
  HeldPool(const HeldPool&) = delete;
  HeldPool& operator=(const HeldPool&) = delete;
  void Release() {
    if (!std::exchange(released_, true)) release_.set_value();
  }

 private:
  std::promise<void> release_;
  bool released_ = false;
};

inline model::AttributeValue S(std::string_view text) {
  return model::AttributeValue::String(text);
}
inline model::AttributeValue N(int64_t number) {
  return model::AttributeValue::Of(model::Number::FromInt(number));
}
inline std::string Item(const model::AttributeMap& attributes) {
  return model::EncodeItem(attributes);
}

/// A request and all that it borrows.
struct TestWrite {
  WriteRequest request;
  std::string key;
  std::string item;
  std::optional<expression::Condition> condition;
  std::optional<expression::Update> update;
};

class Node {
 public:
  struct Options {
    Options() {}
    size_t threads = 2;
    uint64_t collection_limit_bytes = uint64_t{10} << 30;
    uint64_t log_limit_bytes = uint64_t{256} << 20;
    uint64_t log_segment_bytes = uint64_t{4} << 20;
    uint64_t log_queue_bytes = uint64_t{64} << 20;
    std::chrono::milliseconds maintenance_interval{50};
  };

  explicit Node(const std::string& directory, Options options = Options())
      : directory_(directory), options_(options) {
    table_disk = std::make_shared<FaultTableDisk>();
    table_env_ = rocksdb::NewCompositeEnv(table_disk);
  }
  ~Node() { Stop(); }

  Status Start() {
    log::LogOptions log_options(directory_ + "/log");
    log_options.file_system = &log_disk;
    log_options.reserve_bytes = 1 << 20;
    log_options.initial_segment_bytes = std::min<uint64_t>(options_.log_segment_bytes, 1 << 20);
    log_options.segment_bytes = options_.log_segment_bytes;
    log_options.max_queued_bytes = options_.log_queue_bytes;
    log_options.space_check_interval = std::chrono::milliseconds(5);
    ASSIGN_OR_RETURN(log_, log::LogStore::Open(std::move(log_options)));
    metadata::EmbeddedOptions metadata_options(directory_ + "/metadata");
    ASSIGN_OR_RETURN(metadata_, metadata::EmbeddedStore::Open(std::move(metadata_options)));
    io_ = std::make_unique<IoPool>(options_.threads);
    blocking_ = std::make_unique<BlockingPool>(kBlockingThreads, 1000);
    storage::StorageOptions storage_options;
    storage_options.memory_bytes = size_t{64} << 20;
    storage_options.env = table_env_.get();
    storage_ = std::make_unique<storage::StorageEnvironment>(storage_options);
    environment_.node = NodeId(1);
    environment_.storage = storage_.get();
    environment_.log = log_.get();
    environment_.metadata = metadata_.get();
    environment_.blocking = blocking_.get();
    environment_.disk_low = &disk_low;
    environment_.partitions_directory = directory_ + "/partitions";
    environment_.boot = ++boots;
    environment_.collection_limit_bytes = options_.collection_limit_bytes;
    ManagerOptions manager_options;
    manager_options.log_limit_bytes = options_.log_limit_bytes;
    manager_options.maintenance_interval = options_.maintenance_interval;
    manager_ = std::make_unique<PartitionManager>(environment_, io_.get(), manager_options);
    return manager_->Start();
  }

  /// In the server's order.
  void Stop() {
    if (manager_ != nullptr) manager_->Stop();
    if (metadata_ != nullptr) metadata_->Close();
    if (log_ != nullptr) log_->Close();
    if (io_ != nullptr) io_->Stop();
    if (blocking_ != nullptr) blocking_->WaitIdle();
    manager_.reset();
    metadata_.reset();
    io_.reset();
    if (blocking_ != nullptr) blocking_->Stop();
    blocking_.reset();
    storage_.reset();
    log_.reset();
  }

  /// What a power cut now would leave, given that nothing is under way: a copy of the directory.
  void CopyTo(const std::string& directory) {
    ASSERT_TRUE(log_->Flush().ok());
    std::error_code error;
    do {  // again, when the log has removed a file meanwhile
      std::filesystem::remove_all(directory, error);
      std::filesystem::copy(directory_, directory, std::filesystem::copy_options::recursive, error);
    } while (error);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
      if (entry.path().filename() == "LOCK") std::filesystem::resize_file(entry.path(), 0);
    }
  }

  /// Returns when the log refuses appends.
  void FillLogDisk() {
    log_disk.full = true;
    // Space is looked at while there are appends.
    log::EntryView entry;
    entry.epoch = Epoch(1);
    ASSERT_TRUE(Eventually([&] {
      ++entry.index.value;
      return !log_->Append(PartitionId(1'000'000), std::span(&entry, 1), nullptr).ok();
    }));
  }

  metadata::TransactionResult Commit(metadata::Transaction transaction) {
    auto result = Await(io_->executor(0), metadata_->Commit(std::move(transaction)));
    CHECK_MSG(result.ok(), result.status().ToString());
    return *result;
  }

  /// A table with the string keys "p" and "s" and one partition with the table's number; replica 7.
  static proto::Table TableRecord(uint64_t id) {
    return onggi::TableRecord(id, "t" + std::to_string(id), "p", "s");
  }
  void CreateTable(const proto::Table& table) {
    const TableId id(table.id());
    proto::PartitionConfig config;
    config.set_partition(id.value);
    config.set_table(id.value);
    config.set_epoch(1);
    config.mutable_primary()->set_node(1);
    config.mutable_primary()->set_replica(7);
    *config.add_in_sync() = config.primary();
    config.set_replication(1);
    config.set_min_in_sync(1);
    metadata::Transaction transaction;
    transaction.puts.push_back({metadata::keys::Table(id), table.SerializeAsString()});
    transaction.puts.push_back({PartitionKey(id), config.SerializeAsString()});
    transaction.puts.push_back(
        {metadata::keys::NextPartition(), metadata::keys::FormatId(id.value + 1)});
    Commit(std::move(transaction));
  }
  void CreateTable(uint64_t id) { CreateTable(TableRecord(id)); }
  void DropTable(uint64_t id) {
    metadata::Transaction transaction;
    transaction.deletes.push_back(metadata::keys::Table(TableId(id)));
    transaction.deletes.push_back(PartitionKey(TableId(id)));
    Commit(std::move(transaction));
  }
  static std::string PartitionKey(TableId table) {
    return metadata::keys::Partition(table, PartitionId(table.value));
  }
  proto::PartitionConfig Config(uint64_t table) {
    auto kv = Await(io_->executor(0), metadata_->Get(PartitionKey(TableId(table))));
    proto::PartitionConfig config;
    if (kv.ok()) CHECK(config.ParseFromString(kv->value));
    return config;
  }
  std::string PartitionDirectory(uint64_t id) const {
    return directory_ + "/partitions/" + std::to_string(id);
  }

  Result<std::shared_ptr<Partition>> Find(uint64_t table) {
    return Await(io_->executor(0), manager_->Find(TableId(table), ""));
  }

  // Writes. --------------------------------------------------------------------------------------

  static std::string KeyOf(const std::string& item) {
    const model::ItemView view(item);
    return model::EncodeKey(view.Find("p"), view.Find("s"));
  }
  static std::string Key(std::string_view p, std::string_view s) {
    return KeyOf(Item({{"p", S(p)}, {"s", S(s)}}));
  }
  /// `expression`s may use :v, :w and :x with the values given, in this order.
  static std::shared_ptr<TestWrite> Make(WriteRequest::Kind kind, std::string item,
                                         const std::string& update = "",
                                         const std::string& condition = "",
                                         const std::vector<model::AttributeValue>& values = {}) {
    auto write = std::make_shared<TestWrite>();
    write->item = std::move(item);
    write->key = KeyOf(write->item);
    expression::Placeholders placeholders;
    const char* const names[] = {":v", ":w", ":x"};
    for (size_t i = 0; i < values.size(); ++i) placeholders.AddValue(names[i], values[i].Encode());
    write->request.kind = kind;
    write->request.key = write->key;
    write->request.item = model::ItemView(write->item);
    if (!update.empty()) {
      auto parsed = expression::ParseUpdate(update, &placeholders);
      CHECK_MSG(parsed.ok(), parsed.status().ToString());
      write->update.emplace(*std::move(parsed));
      write->request.update = &*write->update;
    }
    if (!condition.empty()) {
      auto parsed = expression::ParseCondition(condition, "ConditionExpression", &placeholders);
      CHECK_MSG(parsed.ok(), parsed.status().ToString());
      write->condition.emplace(*std::move(parsed));
      write->request.condition = &*write->condition;
    }
    return write;
  }

  /// All of them at once.
  std::vector<WriteOutcome> Write(std::shared_ptr<Partition> partition,
                                  const std::vector<std::shared_ptr<TestWrite>>& writes) {
    return Start(std::move(partition), writes).get();
  }
  std::future<std::vector<WriteOutcome>> Start(
      std::shared_ptr<Partition> partition, const std::vector<std::shared_ptr<TestWrite>>& writes) {
    auto promise = std::make_shared<std::promise<std::vector<WriteOutcome>>>();
    auto future = promise->get_future();
    auto done = [promise](std::exception_ptr error, std::vector<WriteOutcome> outcomes) {
      if (error) {
        promise->set_exception(error);
      } else {
        promise->set_value(std::move(outcomes));
      }
    };
    boost::asio::co_spawn(io_->NextExecutor(), WriteAll(std::move(partition), writes),
                          std::move(done));
    return future;
  }
  WriteOutcome WriteOne(const std::shared_ptr<Partition>& partition,
                        std::shared_ptr<TestWrite> write) {
    return Write(partition, {std::move(write)})[0];
  }
  WriteOutcome Put(const std::shared_ptr<Partition>& partition, const model::AttributeMap& item) {
    return WriteOne(partition, Make(WriteRequest::Kind::kPut, Item(item)));
  }
  /// Puts {p, s, v: value}.
  WriteOutcome Put(const std::shared_ptr<Partition>& partition, std::string_view p,
                   std::string_view s, std::string_view value) {
    return Put(partition, {{"p", S(p)}, {"s", S(s)}, {"v", S(value)}});
  }
  /// The value that the other Put stored; "-" without an item.
  std::string Read(const std::shared_ptr<Partition>& partition, std::string_view p,
                   std::string_view s, bool consistent = true) {
    PinnedItem item;
    const Status status = partition->Get(Key(p, s), consistent, &item);
    if (!status.ok()) return status.ToString();
    if (!item.found()) return "-";
    return std::string(item.item().Find("v").AsString());
  }

  // Parts. ---------------------------------------------------------------------------------------

  PartitionManager& manager() { return *manager_; }
  log::LogStore& log() { return *log_; }
  IoPool& io() { return *io_; }
  BlockingPool& blocking() { return *blocking_; }
  metadata::EmbeddedStore& metadata() { return *metadata_; }

  FaultLogDisk log_disk;
  std::shared_ptr<FaultTableDisk> table_disk;
  std::atomic<bool> disk_low{false};
  static inline std::atomic<uint64_t> boots{100};

 private:
  static boost::asio::awaitable<std::vector<WriteOutcome>> WriteAll(
      std::shared_ptr<Partition> partition, std::vector<std::shared_ptr<TestWrite>> writes) {
    std::vector<WriteTask> tasks(writes.size());
    for (size_t i = 0; i < writes.size(); ++i) {
      tasks[i].partition = partition;
      tasks[i].request = writes[i]->request;
    }
    const std::span<WriteTask> all(tasks);
    co_await Execute(all);
    std::vector<WriteOutcome> outcomes;
    for (WriteTask& task : tasks) outcomes.push_back(std::move(task.outcome));
    co_return outcomes;
  }

  const std::string directory_;
  const Options options_;
  std::unique_ptr<rocksdb::Env> table_env_;
  std::unique_ptr<IoPool> io_;
  std::unique_ptr<BlockingPool> blocking_;
  std::unique_ptr<storage::StorageEnvironment> storage_;
  std::unique_ptr<log::LogStore> log_;
  std::unique_ptr<metadata::EmbeddedStore> metadata_;
  PartitionEnvironment environment_;
  std::unique_ptr<PartitionManager> manager_;
};

class NodeTest : public ::testing::Test {
 protected:
  TempDir directory_;
};

}  // namespace onggi::partition
