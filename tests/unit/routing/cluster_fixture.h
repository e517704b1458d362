#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <condition_variable>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/rpc/stream_server.h"
#include "common/runtime.h"
#include "replication/log/log_store.h"
#include "replication/metadata/embedded_store.h"
#include "replication/metadata/keys.h"
#include "server/dynamodb/catalog.h"
#include "server/dynamodb/item_operations.h"
#include "server/dynamodb/schema.h"
#include "server/model/attribute_value.h"
#include "server/model/key.h"
#include "server/partition/partition_manager.h"
#include "server/routing/network.h"
#include "server/routing/router.h"
#include "server/routing/server.h"
#include "tests/unit/partition/node_fixture.h"
#include "tests/unit/table_record.h"

/// Several nodes in one process, over real streams, with partitions of one replica each: what is
/// asked of one is served by any.
namespace onggi::routing {

using partition::Await;
using partition::Eventually;
using partition::FaultLogDisk;
using partition::Item;
using partition::N;
using partition::S;
using partition::TempDir;

/// What a node's server finds partitions by. Who looks for one key can be held up, as a slow disk
/// would.
class HeldDirectory final : public partition::Directory {
 public:
  explicit HeldDirectory(partition::Directory* directory) : directory_(directory) {}

  /// From now on whoever looks for `key` waits until Release().
  void Hold(std::string key) {
    std::scoped_lock lock(mutex_);
    key_ = std::move(key);
  }
  void Release() {
    std::scoped_lock lock(mutex_);
    key_.reset();
    released_.notify_all();
  }
  /// Those who wait now.
  int waiting() {
    std::scoped_lock lock(mutex_);
    return waiting_;
  }

  std::shared_ptr<partition::Partition> TryFind(TableId table, std::string_view key) override {
    {
      std::unique_lock lock(mutex_);
      if (key == key_) {
        ++waiting_;
        released_.wait(lock, [&] { return key != key_; });
        --waiting_;
      }
    }
    return directory_->TryFind(table, key);
  }
  boost::asio::awaitable<Result<std::shared_ptr<partition::Partition>>> Find(
      TableId table, std::string_view key) override {
    return directory_->Find(table, key);
  }

 private:
  partition::Directory* const directory_;
  std::mutex mutex_;
  std::condition_variable released_;
  std::optional<std::string> key_;  // guarded by mutex_
  int waiting_ = 0;                 // guarded by mutex_
};

/// One node, on everybody's metadata store. As in the shipped one, a thread of their own carries
/// the streams with other nodes.
class ClusterNode {
 public:
  ClusterNode(NodeId id, metadata::MetadataStore* metadata, uint64_t boot, RouterOptions options,
              ConnectionLimits limits)
      : id_(id), metadata_(metadata), boot_(boot), router_options_(options), limits_(limits) {}
  ~ClusterNode() { Stop(); }

  void Start() {
    io_ = std::make_unique<IoPool>(2);
    peer_io_ = std::make_unique<IoPool>(1, "peer");
    blocking_ = std::make_unique<BlockingPool>(2, 1000);
    storage::StorageOptions storage_options;
    storage_options.memory_bytes = size_t{64} << 20;
    storage_ = std::make_unique<storage::StorageEnvironment>(storage_options);
    log::LogOptions log_options(directory_.path() + "/log");
    log_options.file_system = &log_disk;
    log_options.durability = log::Durability::kSync;
    log_ = log::LogStore::Open(std::move(log_options)).value();
    environment_ = {};
    environment_.node = id_;
    environment_.storage = storage_.get();
    environment_.log = log_.get();
    environment_.metadata = metadata_;
    environment_.blocking = blocking_.get();
    environment_.disk_low = &disk_low_;
    environment_.boot = boot_;
    environment_.partitions_directory = directory_.path() + "/partitions";
    manager_ = std::make_unique<partition::PartitionManager>(environment_, io_.get(),
                                                             partition::ManagerOptions());
    const Status started = manager_->Start();
    CHECK_MSG(started.ok(), started.ToString());
    routes_ = std::make_unique<RouteMap>(*metadata_, io_->executor(0));
    CHECK(routes_->Start().ok());
    StartNetwork();
    router_options_.self = id_;
    router_options_.boot = boot_;
    router_ = std::make_unique<Router>(router_options_, manager_.get(), routes_.get(),
                                       network_.get(), &registry_);
    network_->Start();
    dynamodb::RegisterItemOperations(router_.get(), &operations_);
  }

  void StartNetwork(int port = 0) {
    NetworkOptions options;
    options.self = id_;
    options.zone = "zone-" + id_.ToString();
    options.cluster_id = cluster_id;
    options.boot = boot_;
    options.limits = limits_;
    options.tick = std::chrono::milliseconds(10);
    options.io = peer_io_.get();
    network_ = std::make_unique<Network>(options, io_->executor(0), nullptr);
    directory_of_server_ = std::make_unique<HeldDirectory>(manager_.get());
    server_ = std::make_unique<Server>(id_, directory_of_server_.get(), routes_.get(), io_.get(),
                                       server_limits, nullptr);
    network_->SetHandler(server_.get());
    peers_ = std::make_unique<rpc::StreamServer>(peer_io_.get(), rpc::MessageStream::Options());
    network_->AddTo(peers_.get());
    const Status listening = peers_->Start("127.0.0.1:" + std::to_string(port));
    CHECK_MSG(listening.ok(), listening.ToString());
  }

  /// In the server's order.
  void Stop() {
    if (io_ == nullptr) return;
    if (router_ != nullptr) router_->Stop();
    network_->Stop();
    peers_->Stop();
    server_->Stop();
    manager_->Stop();
    routes_->Stop();
    router_.reset();
    log_->Close();
    io_->Stop();
    peer_io_->Stop();
    blocking_->WaitIdle();
    server_.reset();
    directory_of_server_.reset();
    peers_.reset();
    network_.reset();
    routes_.reset();
    manager_.reset();
    peer_io_.reset();
    io_.reset();
    blocking_->Stop();
    storage_.reset();
    log_.reset();
  }

  NodeId id() const { return id_; }
  std::string endpoint() const { return "127.0.0.1:" + std::to_string(peers_->port()); }
  Router& router() { return *router_; }
  RouteMap& routes() { return *routes_; }
  Network& network() { return *network_; }
  partition::PartitionManager& manager() { return *manager_; }
  HeldDirectory& served() { return *directory_of_server_; }
  IoPool& io() { return *io_; }
  dynamodb::Catalog& catalog() { return catalog_; }
  metrics::Registry& registry() { return registry_; }
  uint64_t Metric(const std::string& line) {
    const std::string text = "\n" + registry_.TextExposition();
    const size_t at = text.find("\n" + line + " ");
    return at == std::string::npos ? 0 : std::stoull(text.substr(at + line.size() + 2));
  }

  // Requests, from a thread that is none of the node's.

  struct Read {
    Status status;
    std::string item;  ///< stored form; empty: none
  };
  Read Get(uint64_t table, std::string key, bool consistent = true,
           std::chrono::milliseconds timeout = std::chrono::seconds(10)) {
    return Await(io_->NextExecutor(), DoGet(table, std::move(key), consistent, timeout));
  }
  /// Writes all at once; what the writes borrow lives until the answer.
  std::vector<partition::WriteOutcome> Write(
      uint64_t table, std::vector<std::shared_ptr<partition::TestWrite>> writes,
      std::chrono::milliseconds timeout = std::chrono::seconds(10)) {
    return Await(io_->NextExecutor(), DoWrite(table, std::move(writes), timeout));
  }
  partition::WriteOutcome WriteOne(uint64_t table, std::shared_ptr<partition::TestWrite> write,
                                   std::chrono::milliseconds timeout = std::chrono::seconds(10)) {
    return Write(table, {std::move(write)}, timeout)[0];
  }

  /// As the wire has it: the body, or an error's type and message.
  std::string Call(std::string_view operation, std::string_view request) {
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    CHECK_MSG(!parser.parse(simdjson::padded_string(request)).get(object), request);
    const dynamodb::OperationTable::Entry* entry = operations_.Find(operation);
    CHECK(entry != nullptr);
    std::string body;
    dynamodb::Outcome outcome = dynamodb::ValidateInput(*entry->model, object);
    if (outcome.ok()) {
      outcome = Await(io_->NextExecutor(), Run(*entry, dynamodb::Input(object), &body));
    }
    if (outcome.ok()) return body;
    std::string text(dynamodb::InfoOf(outcome.error().type).name);
    text.append(": ").append(outcome.error().message);
    if (!outcome.error().extra.empty()) text.append(" ").append(outcome.error().extra);
    return text;
  }

  std::string cluster_id = "cluster";
  ServerLimits server_limits;
  FaultLogDisk log_disk;

 private:
  boost::asio::awaitable<Read> DoGet(uint64_t table, std::string key, bool consistent,
                                     std::chrono::milliseconds timeout) {
    RoutedRead read;
    read.table = TableId(table);
    read.key = key;
    read.consistent = consistent;
    const std::span<RoutedRead> span(&read, 1);
    if (!router_->TryGet(&read)) {
      co_await router_->Get(span, std::chrono::steady_clock::now() + timeout);
    }
    Read result;
    result.status = read.status;
    if (read.status.ok() && read.item.found()) result.item = read.item.item().encoded();
    co_return result;
  }

  boost::asio::awaitable<std::vector<partition::WriteOutcome>> DoWrite(
      uint64_t table, std::vector<std::shared_ptr<partition::TestWrite>> writes,
      std::chrono::milliseconds timeout) {
    std::vector<RoutedWrite> routed(writes.size());
    for (size_t i = 0; i < writes.size(); ++i) {
      routed[i].table = TableId(table);
      routed[i].request = writes[i]->request;
    }
    const std::span<RoutedWrite> span(routed);
    co_await router_->Write(span, std::chrono::steady_clock::now() + timeout);
    std::vector<partition::WriteOutcome> outcomes;
    for (RoutedWrite& write : routed) outcomes.push_back(std::move(write.outcome));
    co_return outcomes;
  }

  boost::asio::awaitable<dynamodb::Outcome> Run(const dynamodb::OperationTable::Entry& entry,
                                                dynamodb::Input input, std::string* body) {
    dynamodb::CallContext context;
    context.scope = &scope_;
    context.catalog = &catalog_;
    context.operation = entry.model->name;
    std::optional<dynamodb::Outcome> outcome = entry.operation->TryRun(context, input, body);
    if (outcome) co_return std::move(*outcome);
    co_return co_await entry.operation->Run(context, input, body);
  }

  const NodeId id_;
  metadata::MetadataStore* const metadata_;
  const uint64_t boot_;
  RouterOptions router_options_;
  const ConnectionLimits limits_;
  TempDir directory_;
  metrics::Registry registry_;
  std::atomic<bool> disk_low_{false};
  std::unique_ptr<IoPool> io_;
  std::unique_ptr<IoPool> peer_io_;
  std::unique_ptr<BlockingPool> blocking_;
  std::unique_ptr<storage::StorageEnvironment> storage_;
  std::unique_ptr<log::LogStore> log_;
  partition::PartitionEnvironment environment_;
  std::unique_ptr<partition::PartitionManager> manager_;
  std::unique_ptr<RouteMap> routes_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<HeldDirectory> directory_of_server_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<rpc::StreamServer> peers_;
  std::unique_ptr<Router> router_;
  dynamodb::Catalog catalog_;
  dynamodb::Scope scope_{"default", "us-east-1", "000000000000"};
  dynamodb::OperationTable operations_;
};

/// Nodes 1 to `count`, introduced to each other.
class Cluster {
 public:
  explicit Cluster(size_t count, RouterOptions options = RouterOptions(),
                   ConnectionLimits limits = ConnectionLimits(),
                   ServerLimits server_limits = ServerLimits()) {
    metadata::EmbeddedOptions metadata_options(directory_.path() + "/metadata");
    metadata_ = metadata::EmbeddedStore::Open(std::move(metadata_options)).value();
    for (size_t i = 1; i <= count; ++i) {
      nodes_.push_back(
          std::make_unique<ClusterNode>(NodeId(i), metadata_.get(), 1000 + i, options, limits));
      nodes_.back()->server_limits = server_limits;
      nodes_.back()->Start();
    }
    Introduce();
    WaitConnected();
  }
  ~Cluster() {
    for (auto& node : nodes_) node->Stop();
    metadata_->Close();
  }

  ClusterNode& operator[](size_t number) { return *nodes_[number - 1]; }
  metadata::MetadataStore& metadata() { return *metadata_; }

  void Introduce() {
    std::map<NodeId, Peer> peers;
    for (auto& node : nodes_) {
      peers[node->id()].endpoint = node->endpoint();
      peers[node->id()].zone = "zone-" + node->id().ToString();
    }
    for (auto& node : nodes_) node->network().SetPeers(peers);
  }
  /// The node talks to nobody until Introduce().
  void Isolate(size_t number) { nodes_[number - 1]->network().SetPeers({}); }
  void WaitConnected() {
    ASSERT_TRUE(Eventually([&] {
      for (auto& node : nodes_) {
        if (node->network().Connections().size() + 1 != nodes_.size()) return false;
      }
      return true;
    }));
  }

  /// A table with string keys "pk" and "sk" (`sort_type` empty: none).
  proto::Table NewTable(std::string_view sort_type = "S") {
    ++tables_;
    return TableRecord(tables_, "table" + std::to_string(tables_), "pk", "sk", sort_type);
  }

  proto::PartitionConfig NewPartition(uint64_t table, uint64_t node, const std::string& start,
                                      const std::string& end) {
    proto::PartitionConfig config;
    config.set_partition(++partitions_);
    config.set_table(table);
    // A part of the key space at epoch 1 would be a split's child, which is never empty.
    config.set_epoch(start.empty() && end.empty() ? 1 : 0);
    config.mutable_primary()->set_node(node);
    config.mutable_primary()->set_replica(partitions_);
    *config.add_in_sync() = config.primary();
    config.set_replication(1);
    config.set_min_in_sync(1);
    config.set_range_start(start);
    config.set_range_end(end);
    return config;
  }
  static metadata::Put PutOf(const proto::PartitionConfig& config) {
    return {metadata::keys::Partition(TableId(config.table()), PartitionId(config.partition())),
            config.SerializeAsString()};
  }

  /// Makes the table, its key space cut at `boundaries`, its partitions on the nodes in turn;
  /// returns its number. Every node's map knows it.
  uint64_t Create(const proto::Table& record, const std::vector<std::string>& boundaries) {
    metadata::Transaction transaction;
    transaction.puts.push_back(
        {metadata::keys::Table(TableId(record.id())), record.SerializeAsString()});
    std::string start;
    for (size_t i = 0; i <= boundaries.size(); ++i) {
      const std::string end = i < boundaries.size() ? boundaries[i] : "";
      transaction.puts.push_back(
          PutOf(NewPartition(record.id(), i % nodes_.size() + 1, start, end)));
      start = end;
    }
    transaction.puts.push_back(
        {metadata::keys::NextPartition(), metadata::keys::FormatId(partitions_ + 1)});
    const auto result = Commit(std::move(transaction));
    for (auto& node : nodes_) {
      node->catalog().PutWatched(record, result.revision);
      CHECK(Eventually([&] {
        return node->routes().RoutesOf(TableId(record.id())).size() == boundaries.size() + 1;
      }));
    }
    return record.id();
  }

  /// A table cut in even ranges of hashes, `pieces` of them.
  uint64_t CreateEven(const proto::Table& record, size_t pieces) {
    std::vector<std::string> boundaries;
    for (size_t i = 1; i < pieces; ++i) {
      const uint64_t hash = UINT64_MAX / pieces * i;
      std::string boundary;
      for (int shift = 56; shift >= 0; shift -= 8) {
        boundary.push_back(static_cast<char>(hash >> shift));
      }
      boundaries.push_back(std::move(boundary));
    }
    return Create(record, boundaries);
  }

  metadata::TransactionResult Commit(metadata::Transaction transaction) {
    std::promise<Result<metadata::TransactionResult>> promise;
    metadata_->AsyncCommit(std::move(transaction),
                           [&](auto result) { promise.set_value(std::move(result)); });
    auto result = promise.get_future().get();
    CHECK_MSG(result.ok() && result->succeeded, result.status().ToString());
    return *result;
  }

  static std::string ItemOf(const std::string& pk, const std::string& sk,
                            model::AttributeMap more = {}) {
    more["pk"] = S(pk);
    if (!sk.empty()) more["sk"] = S(sk);
    return Item(more);
  }
  static std::string KeyOf(const std::string& item) {
    const model::ItemView view(item);
    return model::EncodeKey(view.Find("pk"), view.Find("sk"));
  }
  /// Expressions may use :v, :w and :x with the values given, in this order.
  static std::shared_ptr<partition::TestWrite> Make(
      partition::WriteRequest::Kind kind, std::string item, const std::string& update = "",
      const std::string& condition = "", const std::vector<model::AttributeValue>& values = {}) {
    auto write = std::make_shared<partition::TestWrite>();
    write->item = std::move(item);
    write->key = KeyOf(write->item);
    write->request.kind = kind;
    write->request.key = write->key;
    write->request.item = model::ItemView(write->item);
    expression::Placeholders placeholders;
    const char* const names[] = {":v", ":w", ":x"};
    for (size_t i = 0; i < values.size(); ++i) placeholders.AddValue(names[i], values[i].Encode());
    if (!update.empty()) {
      write->update.emplace(expression::ParseUpdate(update, &placeholders).value());
      write->request.update = &*write->update;
    }
    if (!condition.empty()) {
      write->condition.emplace(
          expression::ParseCondition(condition, "ConditionExpression", &placeholders).value());
      write->request.condition = &*write->condition;
    }
    return write;
  }
  static std::shared_ptr<partition::TestWrite> Put(const std::string& pk, const std::string& sk,
                                                   model::AttributeMap more = {}) {
    return Make(partition::WriteRequest::Kind::kPut, ItemOf(pk, sk, std::move(more)));
  }
  static std::shared_ptr<partition::TestWrite> Add(const std::string& pk, const std::string& sk) {
    return Make(partition::WriteRequest::Kind::kUpdate, ItemOf(pk, sk), "ADD n :v", "", {N(1)});
  }

  /// Keys of items whose partitions `node` leads.
  std::vector<std::string> KeysOn(uint64_t table, uint64_t node, size_t count) {
    std::vector<std::string> keys;
    for (int i = 0; keys.size() < count; ++i) {
      std::string pk = "p" + std::to_string(i);
      const auto route = nodes_[0]->routes().Find(TableId(table), KeyOf(ItemOf(pk, "s")));
      if (route != nullptr && route->primary() == NodeId(node)) keys.push_back(std::move(pk));
    }
    return keys;
  }

 private:
  TempDir directory_;
  std::unique_ptr<metadata::EmbeddedStore> metadata_;
  std::vector<std::unique_ptr<ClusterNode>> nodes_;
  uint64_t tables_ = 0;
  uint64_t partitions_ = 0;
};

}  // namespace onggi::routing
