#pragma once

#include <boost/asio/post.hpp>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "replication/group/record.h"
#include "replication/replica/configuration_store.h"
#include "tests/unit/partition/memory_network.h"
#include "tests/unit/partition/node_fixture.h"

/// Several nodes in one process: the real log, stores and partitions of each, one metadata store,
/// and a network in memory.
namespace onggi::partition {

class Cluster;

class ClusterNode {
 public:
  ClusterNode(Cluster* cluster, NodeId id, std::string directory)
      : cluster_(cluster), id_(id), directory_(std::move(directory)) {
    std::filesystem::create_directories(directory_);
    table_disk = std::make_shared<FaultTableDisk>();
    table_env_ = rocksdb::NewCompositeEnv(table_disk);
  }
  ~ClusterNode() { Stop(); }

  Status Start();
  /// In order, as a drained process ends.
  void Stop();
  /// As power is lost: nothing more reaches disk, network or metadata store.
  void Crash() {
    store_->cut = true;
    log_disk.frozen = true;
    table_disk->full = true;
    Stop();
    log_disk.frozen = false;
    table_disk->full = false;
  }
  bool running() const { return manager_ != nullptr; }
  void Wipe() { std::filesystem::remove_all(directory_); }

  NodeId id() const { return id_; }
  uint64_t boot() const { return environment_.boot; }
  PartitionManager& manager() { return *manager_; }
  CutStore& store() { return *store_; }
  log::LogStore& log() { return *log_; }
  lease::NodeLeases& leases() { return *environment_.leases; }
  MemoryCheckpoints& checkpoints() { return *checkpoints_; }
  IoPool& io() { return *io_; }
  BlockingPool& blocking() { return *blocking_; }
  /// Blocks that are read from now on come from the disk.
  void DropCache() { storage_->block_cache()->EraseUnRefEntries(); }
  IoPool::Executor executor() { return io_->executor(0); }
  std::string PartitionDirectory(uint64_t id) const {
    return directory_ + "/partitions/" + std::to_string(id);
  }

  Result<std::shared_ptr<Partition>> Find(uint64_t table, std::string_view key = "") {
    return Await(executor(), manager_->Find(TableId(table), key));
  }
  WriteOutcome Write(const std::shared_ptr<Partition>& partition,
                     std::shared_ptr<TestWrite> write) {
    std::vector<WriteTask> tasks(1);
    tasks[0].partition = partition;
    tasks[0].request = write->request;
    Await(executor(), Execute(std::span<WriteTask>(tasks)));
    return std::move(tasks[0].outcome);
  }

  FaultLogDisk log_disk;
  std::shared_ptr<FaultTableDisk> table_disk;
  std::atomic<bool> disk_low{false};
  std::chrono::milliseconds idle_close{0};
  std::chrono::milliseconds maintenance_interval{200};
  uint64_t log_limit_bytes = uint64_t{256} << 20;
  std::optional<uint64_t> merge_copy_limit_bytes;
  std::optional<std::chrono::milliseconds> resume_patience;

 private:
  Cluster* const cluster_;
  const NodeId id_;
  const std::string directory_;
  std::unique_ptr<rocksdb::Env> table_env_;
  std::unique_ptr<CutStore> store_;
  std::unique_ptr<IoPool> io_;
  std::unique_ptr<BlockingPool> blocking_;
  std::unique_ptr<storage::StorageEnvironment> storage_;
  std::unique_ptr<log::LogStore> log_;
  std::unique_ptr<replica::DiskConfigurationStore> configurations_;
  std::unique_ptr<MemoryTransport> transport_;
  std::unique_ptr<MemoryCheckpoints> checkpoints_;
  PartitionEnvironment environment_;
  std::unique_ptr<PartitionManager> manager_;
};

class Cluster {
 public:
  explicit Cluster(std::string directory) : directory_(std::move(directory)) {
    auto opened = metadata::EmbeddedStore::Open(metadata::EmbeddedOptions(directory_ + "/etcd"));
    CHECK_MSG(opened.ok(), opened.status().ToString());
    metadata_ = *std::move(opened);
  }
  ~Cluster() {
    for (auto& [id, node] : nodes_) node->Stop();
    nodes_.clear();
    metadata_->Close();
  }

  ClusterNode& Add(uint64_t id) {
    auto& node = nodes_[NodeId(id)];
    node = std::make_unique<ClusterNode>(this, NodeId(id), directory_ + "/" + std::to_string(id));
    const Status started = node->Start();
    CHECK_MSG(started.ok(), started.ToString());
    return *node;
  }
  void Start(uint64_t count) {
    for (uint64_t id = 1; id <= count; ++id) Add(id);
  }
  ClusterNode& node(uint64_t id) { return *nodes_.at(NodeId(id)); }
  ClusterNode& node(NodeId id) { return *nodes_.at(id); }
  const std::map<NodeId, std::unique_ptr<ClusterNode>>& nodes() { return nodes_; }
  MemoryNetwork& network() { return network_; }
  metadata::EmbeddedStore& metadata() { return *metadata_; }

  // Metadata. ------------------------------------------------------------------------------------

  metadata::TransactionResult Commit(metadata::Transaction transaction) {
    std::promise<Result<metadata::TransactionResult>> promise;
    metadata_->AsyncCommit(std::move(transaction),
                           [&](auto result) { promise.set_value(std::move(result)); });
    auto result = promise.get_future().get();
    CHECK_MSG(result.ok(), result.status().ToString());
    return *result;
  }
  static std::string KeyOfPartition(uint64_t table, uint64_t partition) {
    return metadata::keys::Partition(TableId(table), PartitionId(partition));
  }
  std::optional<KnownConfiguration> Known(uint64_t table, uint64_t partition) {
    const std::string key = KeyOfPartition(table, partition);
    std::promise<Result<metadata::RangeResult>> promise;
    metadata_->AsyncRange(key, key + '\0', 1,
                          [&](auto result) { promise.set_value(std::move(result)); });
    const auto result = promise.get_future().get();
    CHECK(result.ok());
    if (result->kvs.empty()) return std::nullopt;
    KnownConfiguration known;
    known.configuration = group::FromRecord(*group::ParseRecord(result->kvs[0].value));
    known.revision = result->kvs[0].mod_revision;
    return known;
  }
  group::Configuration Configuration(uint64_t table) { return Known(table, table)->configuration; }
  /// As a coordinator changes it: learners only. False: somebody else was first.
  bool Swap(uint64_t table, const std::function<void(group::Configuration*)>& change) {
    auto known = *Known(table, table);
    change(&known.configuration);
    metadata::Transaction transaction;
    const std::string key = KeyOfPartition(table, table);
    transaction.compares.push_back(metadata::Compare::At(key, known.revision));
    transaction.puts.push_back(
        {key, group::Encode(TableId(table), PartitionId(table), known.configuration)});
    return Commit(std::move(transaction)).succeeded;
  }
  /// A table with the string keys "p" and "s", one partition with the table's number, and a replica
  /// with the number 10 * node on each of `nodes`.
  void CreateTable(uint64_t id, const std::vector<uint64_t>& nodes,
                   const std::function<void(proto::Table*)>& shape = {}) {
    proto::Table table = Node::TableRecord(id);
    if (shape) shape(&table);
    group::Configuration configuration;
    for (const uint64_t node : nodes) {
      configuration.in_sync.push_back({NodeId(node), ReplicaId(10 * node)});
    }
    configuration.primary = configuration.in_sync[0];
    configuration.replication = static_cast<uint32_t>(nodes.size());
    configuration.min_in_sync = group::MinInSync(configuration.replication);
    metadata::Transaction transaction;
    transaction.puts.push_back({metadata::keys::Table(TableId(id)), table.SerializeAsString()});
    transaction.puts.push_back(
        {KeyOfPartition(id, id), group::Encode(TableId(id), PartitionId(id), configuration)});
    transaction.puts.push_back(
        {metadata::keys::NextPartition(), metadata::keys::FormatId(id + 1000)});
    Commit(std::move(transaction));
  }

  // Requests, as a router sends them. ------------------------------------------------------------

  /// The node that leads a partition by the key, if it runs.
  ClusterNode* Primary(uint64_t table) {
    const auto found = nodes_.find(Configuration(table).primary.node);
    return found == nodes_.end() || !found->second->running() ? nullptr : found->second.get();
  }
  /// Tries until it is done or known to have failed, or for 10 s. With an id, it is retried
  /// whatever the answer.
  WriteOutcome Write(uint64_t table, const std::shared_ptr<TestWrite>& write,
                     std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    WriteOutcome outcome;
    do {
      ClusterNode* const node = Primary(table);
      Status status(Code::kUnavailable, "no primary runs");
      if (node != nullptr) {
        const auto partition = node->Find(table, write->request.key);
        status = partition.status();
        if (partition.ok()) {
          outcome = node->Write(*partition, write);
          status = outcome.status;
        }
      }
      const bool again = status.code() == Code::kNotPrimary ||
                         status.code() == Code::kUnavailable || status.code() == Code::kNotFound ||
                         status.code() == Code::kOutOfSpace ||
                         (status.code() == Code::kUnknownOutcome && write->request.id.boot != 0);
      outcome.status = status;
      if (!again) return outcome;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } while (std::chrono::steady_clock::now() < deadline);
    return outcome;
  }
  Status Put(uint64_t table, std::string_view p, std::string_view s, std::string_view value,
             std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    const auto write =
        Node::Make(WriteRequest::Kind::kPut, Item({{"p", S(p)}, {"s", S(s)}, {"v", S(value)}}));
    return Write(table, write, limit).status;
  }
  /// A strong read wherever the primary is: the value, "-" for no item, or the error.
  std::string Read(uint64_t table, std::string_view p, std::string_view s,
                   std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    std::string answer = "?";
    do {
      if (ClusterNode* const node = Primary(table)) {
        answer = ReadAt(*node, table, p, s, true);
        if (!answer.starts_with("NotPrimary") && !answer.starts_with("Unavailable")) return answer;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } while (std::chrono::steady_clock::now() < deadline);
    return answer;
  }
  std::string ReadAt(ClusterNode& node, uint64_t table, std::string_view p, std::string_view s,
                     bool consistent) {
    const std::string key = Node::Key(p, s);
    const auto partition = node.Find(table, key);
    if (!partition.ok()) return partition.status().ToString();
    PinnedItem item;
    const Status status = (*partition)->Get(key, consistent, &item);
    if (!status.ok()) return status.ToString();
    if (!item.found()) return "-";
    return std::string(item.item().Find("v").AsString());
  }
  /// Configuration and replicas, for a failure's message.
  std::string Describe(uint64_t table) {
    std::string text;
    const auto known = Known(table, table);
    if (!known.has_value()) return "no such key";
    const group::Configuration& configuration = known->configuration;
    text = "epoch " + configuration.epoch.ToString() + " primary " +
           configuration.primary.node.ToString() + " in sync";
    for (const auto& member : configuration.in_sync) text += " " + member.node.ToString();
    text += " learners";
    for (const auto& member : configuration.learners) text += " " + member.node.ToString();
    for (const auto& [id, node] : nodes_) {
      if (!node->running()) continue;
      for (const auto& status : node->manager().GetReplicas(TableId(table), PartitionId())) {
        text += "\nnode " + id.ToString() + ": role " + std::to_string(status.role()) + " epoch " +
                std::to_string(status.epoch()) + " durable " +
                std::to_string(status.durable_index()) + " commit " +
                std::to_string(status.commit_index()) + " applied " +
                std::to_string(status.applied_index());
      }
    }
    return text;
  }
  bool AwaitInSync(uint64_t table, size_t count) {
    return Eventually([&] { return Configuration(table).in_sync.size() == count; });
  }

 private:
  friend class ClusterNode;
  const std::string directory_;
  std::unique_ptr<metadata::EmbeddedStore> metadata_;
  MemoryNetwork network_;
  std::map<NodeId, std::unique_ptr<ClusterNode>> nodes_;
};

inline Status ClusterNode::Start() {
  std::filesystem::create_directories(directory_);
  log::LogOptions log_options(directory_ + "/log");
  log_options.file_system = &log_disk;
  log_options.reserve_bytes = 1 << 20;
  log_options.initial_segment_bytes = 1 << 20;
  log_options.segment_bytes = 1 << 20;
  log_options.space_check_interval = std::chrono::milliseconds(5);
  ASSIGN_OR_RETURN(log_, log::LogStore::Open(std::move(log_options)));
  ASSIGN_OR_RETURN(configurations_,
                   replica::DiskConfigurationStore::Open(directory_ + "/configurations"));
  store_ = std::make_unique<CutStore>(&cluster_->metadata());
  io_ = std::make_unique<IoPool>(1);
  blocking_ = std::make_unique<BlockingPool>(kBlockingThreads, 1000);
  storage::StorageOptions storage_options;
  storage_options.memory_bytes = size_t{64} << 20;
  storage_options.env = table_env_.get();
  storage_ = std::make_unique<storage::StorageEnvironment>(storage_options);
  environment_ = PartitionEnvironment();
  environment_.node = id_;
  environment_.storage = storage_.get();
  environment_.log = log_.get();
  environment_.metadata = store_.get();
  environment_.blocking = blocking_.get();
  environment_.disk_low = &disk_low;
  if (merge_copy_limit_bytes) environment_.merge_copy_limit_bytes = *merge_copy_limit_bytes;
  if (resume_patience) environment_.resume_patience = *resume_patience;
  environment_.partitions_directory = directory_ + "/partitions";
  environment_.boot = ++Node::boots;
  transport_ = std::make_unique<MemoryTransport>(&cluster_->network(), id_, environment_.boot);
  checkpoints_ = std::make_unique<MemoryCheckpoints>(
      id_, directory_ + "/incoming", [this](NodeId node) -> checkpoint::CheckpointReceiver* {
        const auto found = cluster_->nodes_.find(node);
        if (found == cluster_->nodes_.end() || !transport_->Connected(node)) return nullptr;
        return &found->second->manager();
      });
  environment_.transport = transport_.get();
  environment_.leases = std::make_shared<lease::NodeLeases>(id_, environment_.boot, lease::Now());
  environment_.configurations = configurations_.get();
  environment_.checkpoints = checkpoints_.get();
  ManagerOptions manager_options;
  manager_options.maintenance_interval = maintenance_interval;
  manager_options.idle_close = idle_close;
  manager_options.log_limit_bytes = log_limit_bytes;
  manager_ = std::make_unique<PartitionManager>(environment_, io_.get(), manager_options);
  RETURN_IF_ERROR(manager_->Start());
  cluster_->network().Attach(id_, environment_.boot, manager_.get(), environment_.leases);
  return Status::Ok();
}

inline void ClusterNode::Stop() {
  if (manager_ == nullptr) return;
  cluster_->network().Detach(id_);
  checkpoints_->Join();
  manager_->Stop();
  store_->Drain();
  configurations_->Close();
  log_->Close();
  io_->Stop();
  blocking_->WaitIdle();
  manager_.reset();
  io_.reset();
  blocking_->Stop();
  blocking_.reset();
  checkpoints_.reset();
  transport_.reset();
  storage_.reset();
  configurations_.reset();
  log_.reset();
  store_.reset();
  environment_ = PartitionEnvironment();
}

/// What `work` says on the home of the node's partitions.
template <class F>
auto OnHome(ClusterNode& node, F work) {
  auto task = std::make_shared<std::packaged_task<decltype(work())()>>(std::move(work));
  auto answer = task->get_future();
  boost::asio::post(node.executor(), [task] { (*task)(); });
  return answer.get();
}

class ClusterTest : public ::testing::Test {
 protected:
  void SetUp() override { cluster_ = std::make_unique<Cluster>(directory_.path()); }
  void TearDown() override { cluster_.reset(); }
  TempDir directory_;
  std::unique_ptr<Cluster> cluster_;
};

}  // namespace onggi::partition
