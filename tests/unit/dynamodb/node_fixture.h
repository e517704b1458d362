#pragma once

#include <gmock/gmock.h>
#include <simdjson.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/runtime.h"
#include "replication/log/log_store.h"
#include "replication/metadata/embedded_store.h"
#include "replication/metadata/keys.h"
#include "server/dynamodb/catalog.h"
#include "server/dynamodb/item_operations.h"
#include "server/dynamodb/schema.h"
#include "server/partition/partition_manager.h"
#include "server/routing/route_map.h"
#include "server/routing/router.h"
#include "server/storage/partition_store.h"
#include "tests/unit/table_record.h"

namespace onggi::dynamodb {

/// A storage node on a directory of its own, with the item operations on top and tables made
/// straight in the catalog: what the operations' tests talk to, in request and response bodies.
class Node {
 public:
  Node() {
    directory_ = std::filesystem::temp_directory_path() /
                 ("onggi-node-" + std::to_string(getpid()) + "-" + std::to_string(++count_));
    std::filesystem::create_directories(directory_);
    for (const char* part : {"log", "metadata", "partitions"}) {
      std::filesystem::create_directories(directory_ / part);
    }
    storage::StorageOptions storage_options;
    storage_options.memory_bytes = size_t{64} << 20;
    storage_ = std::make_unique<storage::StorageEnvironment>(storage_options);
    log::LogOptions log_options((directory_ / "log").string());
    log_options.durability = log::Durability::kRelaxed;
    log_ = log::LogStore::Open(std::move(log_options)).value();
    metadata::EmbeddedOptions metadata_options((directory_ / "metadata").string());
    metadata_ = metadata::EmbeddedStore::Open(std::move(metadata_options)).value();
    environment_.node = NodeId(1);
    environment_.storage = storage_.get();
    environment_.log = log_.get();
    environment_.metadata = metadata_.get();
    environment_.blocking = &blocking_;
    environment_.disk_low = &disk_low_;
    environment_.boot = 1;
    environment_.partitions_directory = (directory_ / "partitions").string();
    manager_ = std::make_unique<partition::PartitionManager>(environment_, &io_,
                                                             partition::ManagerOptions());
    CHECK(manager_->Start().ok());
    routes_ = std::make_unique<routing::RouteMap>(*metadata_, io_.executor(0));
    CHECK(routes_->Start().ok());
    routing::RouterOptions router_options;
    router_options.self = NodeId(1);
    router_ = std::make_unique<routing::Router>(router_options, manager_.get(), routes_.get(),
                                                nullptr, nullptr);
    RegisterItemOperations(router_.get(), &operations_);
  }

  ~Node() {
    router_->Stop();
    manager_->Stop();
    routes_->Stop();
    router_.reset();
    io_.Stop();
    routes_.reset();
    manager_.reset();
    log_->Close();
    metadata_->Close();
    std::error_code error;
    std::filesystem::remove_all(directory_, error);
  }

  /// An ACTIVE table pk (S), sk (`sort_type`; empty: none), cut into `partitions` even ranges of
  /// hashes.
  proto::Table NewTable(std::string_view sort_type) {
    ++tables_;
    return TableRecord(tables_, "table" + std::to_string(tables_), "pk", "sk", sort_type);
  }

  /// Makes the table with its key space cut at `boundaries`, and returns its name.
  std::string Create(const proto::Table& record, const std::vector<std::string>& boundaries = {}) {
    metadata::Transaction transaction;
    transaction.puts.push_back(
        {metadata::keys::Table(TableId(record.id())), record.SerializeAsString()});
    for (size_t i = 0; i <= boundaries.size(); ++i) {
      proto::PartitionConfig config;
      config.set_partition(++partitions_);
      config.set_table(record.id());
      // A part of the key space at epoch 1 would be a split's child, which is never empty.
      config.set_epoch(boundaries.empty() ? 1 : 0);
      config.mutable_primary()->set_node(1);
      config.mutable_primary()->set_replica(partitions_);
      *config.add_in_sync() = config.primary();
      config.set_replication(1);
      config.set_min_in_sync(1);
      if (i > 0) config.set_range_start(boundaries[i - 1]);
      if (i < boundaries.size()) config.set_range_end(boundaries[i]);
      transaction.puts.push_back(
          {metadata::keys::Partition(TableId(record.id()), PartitionId(config.partition())),
           config.SerializeAsString()});
    }
    auto committed = Await(metadata_->Commit(std::move(transaction)));
    CHECK(committed.ok() && committed->succeeded);
    catalog_.PutWatched(record, committed->revision);
    std::vector<std::string> starts = boundaries;
    starts.push_back("");
    for (const std::string& start : starts) WaitForPartition(TableId(record.id()), start);
    return record.name();
  }

  /// Status and body as the wire would have them: an error's body is its message alone behind its
  /// type.
  std::string Call(std::string_view operation, std::string_view request) {
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    CHECK_MSG(!parser.parse(simdjson::padded_string(request)).get(object), request);
    const OperationTable::Entry* entry = operations_.Find(operation);
    CHECK(entry != nullptr);
    std::string body;
    Outcome outcome = ValidateInput(*entry->model, object);
    if (outcome.ok()) outcome = Await(Run(*entry, Input(object), &body));
    if (outcome.ok()) return body;
    const ApiError& error = outcome.error();
    std::string text(InfoOf(error.type).name);
    text.append(": ").append(error.message);
    if (!error.extra.empty()) text.append(" ").append(error.extra);
    return text;
  }

  std::atomic<bool>& disk_low() { return disk_low_; }
  partition::PartitionManager& manager() { return *manager_; }

 private:
  boost::asio::awaitable<Outcome> Run(const OperationTable::Entry& entry, Input input,
                                      std::string* body) {
    CallContext context;
    context.scope = &scope_;
    context.catalog = &catalog_;
    context.operation = entry.model->name;
    std::optional<Outcome> outcome = entry.operation->TryRun(context, input, body);
    if (outcome) co_return std::move(*outcome);
    co_return co_await entry.operation->Run(context, input, body);
  }

  template <class T>
  static boost::asio::awaitable<void> Fulfil(boost::asio::awaitable<T> coroutine,
                                             std::promise<T>* promise) {
    promise->set_value(co_await std::move(coroutine));
  }

  template <class T>
  T Await(boost::asio::awaitable<T> coroutine) {
    std::promise<T> promise;
    boost::asio::co_spawn(io_.executor(0), Fulfil(std::move(coroutine), &promise),
                          [&promise](std::exception_ptr error) {
                            if (error) promise.set_exception(error);
                          });
    return promise.get_future().get();
  }

  /// The manager follows the metadata store's watch, a little behind.
  void WaitForPartition(TableId table, const std::string& key) {
    for (int i = 0; i < 1000; ++i) {
      if (Await(manager_->Find(table, key)).ok()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    CHECK_MSG(false, "the partition did not open");
  }

  static inline int count_ = 0;
  std::filesystem::path directory_;
  IoPool io_{2};
  BlockingPool blocking_{2, 100};
  std::atomic<bool> disk_low_{false};
  std::unique_ptr<storage::StorageEnvironment> storage_;
  std::unique_ptr<log::LogStore> log_;
  std::unique_ptr<metadata::EmbeddedStore> metadata_;
  partition::PartitionEnvironment environment_;
  std::unique_ptr<partition::PartitionManager> manager_;
  std::unique_ptr<routing::RouteMap> routes_;
  std::unique_ptr<routing::Router> router_;
  Catalog catalog_;
  Scope scope_{"default", "us-east-1", "000000000000"};
  OperationTable operations_;
  uint64_t tables_ = 0;
  uint64_t partitions_ = 0;
};

/// One node for all tests of a suite; each test makes the tables that it needs.
class NodeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { node_ = std::make_unique<Node>(); }
  static void TearDownTestSuite() { node_.reset(); }

  /// Call() with $T in the request standing for the table.
  std::string Call(std::string_view operation, std::string_view request) {
    std::string text(request);
    for (size_t at; (at = text.find("$T")) != std::string::npos;) text.replace(at, 2, table_);
    return node_->Call(operation, text);
  }

  /// An item {pk, sk, rest}; `sk` and `rest` as JSON.
  void Put(std::string_view pk, std::string_view sk, std::string_view rest = "") {
    std::string request = R"({"TableName":"$T","Item":{"pk":{"S":")";
    request.append(pk).append("\"}");
    if (!sk.empty()) request.append(",\"sk\":").append(sk);
    if (!rest.empty()) request.append(",").append(rest);
    ASSERT_EQ(Call("PutItem", request.append("}}")), "{}");
  }

  static inline std::unique_ptr<Node> node_;
  std::string table_;
};

}  // namespace onggi::dynamodb
