#include "server/storage_node.h"

#include <unistd.h>

#include <thread>

#include "common/log.h"
#include "common/uuid.h"
#include "server/await.h"
#include "server/dynamodb/item_operations.h"

namespace onggi {

namespace asio = boost::asio;

namespace {

/// At 500 MB/s, 25 MB are written between two looks: within the smallest reserve.
constexpr auto kDiskWatchInterval = std::chrono::milliseconds(50);

uint64_t DefaultMemory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_size = sysconf(_SC_PAGE_SIZE);
  return static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_size) / 4;
}

sigv4::SecretLookup MakeSecretLookup(const std::vector<std::string>& credentials) {
  if (credentials.empty()) return {};
  std::unordered_map<std::string, std::string> secrets;
  for (const std::string& pair : credentials) {
    const size_t colon = pair.find(':');
    secrets.emplace(pair.substr(0, colon), pair.substr(colon + 1));
  }
  return [secrets = std::move(secrets)](std::string_view key) -> std::optional<std::string> {
    const auto found = secrets.find(std::string(key));
    if (found == secrets.end()) return std::nullopt;
    return found->second;
  };
}

}  // namespace

StorageNode::StorageNode(const ServerOptions& options, metrics::Registry* registry)
    : options_(options), registry_(*registry) {
  do {
    environment_.boot = FastRandom();
  } while (environment_.boot == 0);
}

StorageNode::~StorageNode() = default;

Status StorageNode::LoadCertificate() {
  if (options_.aws_tls_cert.empty()) return Status::Ok();
  ASSIGN_OR_RETURN(aws_tls_, tls::CertificateFiles::Load(
                                 {options_.aws_tls_cert, options_.aws_tls_key}, tls::kHttp1));
  return Status::Ok();
}

Status StorageNode::OpenDirectory() {
  RaiseOpenFileLimit();
  ASSIGN_OR_RETURN(data_, storage::DataDirectory::Open(options_.data_dir));
  return Status::Ok();
}

Status StorageNode::OpenLog() {
  disk_ = std::make_unique<storage::DiskWatch>(options_.data_dir, options_.disk_reserve,
                                               kDiskWatchInterval);
  log::LogOptions log_options(data_->log_path());
  // Segments are made ahead of need: on a small disk they must not be what fills it.
  if (const auto space = storage::QueryDiskSpace(options_.data_dir); space.ok()) {
    log_options.segment_bytes = std::clamp(space->total_bytes / 64, MiB(4).value, MiB(64).value);
  }
  log_options.max_free_segments = 2;
  log_options.reserve_bytes = disk_->reserve_bytes() / 2;  // the watch refuses first, by request
  log_options.durability =
      options_.durability == "sync" ? log::Durability::kSync : log::Durability::kRelaxed;
  auto& sync_time = registry_.AddLatency("onggi_log_fsync_seconds", "Time of one log fdatasync");
  auto& write_time = registry_.AddLatency("onggi_log_write_seconds", "Time of one log write");
  auto& batch_entries = registry_.AddHistogram("onggi_log_batch_entries", "Entries per log write",
                                               metrics::CountBounds());
  auto& batch_bytes =
      registry_.AddHistogram("onggi_log_batch_bytes", "Bytes per log write", metrics::SizeBounds());
  log_options.on_batch = [&](const log::BatchObservation& batch) {
    write_time.Observe(batch.write_time);
    if (batch.sync_time.count() > 0) sync_time.Observe(batch.sync_time);
    batch_entries.Observe(batch.entries);
    batch_bytes.Observe(batch.bytes);
  };
  ASSIGN_OR_RETURN(log_, log::LogStore::Open(std::move(log_options)));
  return Status::Ok();
}

Status StorageNode::StartThreads() {
  const size_t threads = options_.threads != 0
                             ? options_.threads
                             : std::max<size_t>(1, std::thread::hardware_concurrency());
  io_ = std::make_unique<IoPool>(threads);
  blocking_ = std::make_unique<BlockingPool>(4, /*max_queued=*/4096);
  storage::StorageOptions storage_options;
  storage_options.memory_bytes = options_.memory != 0 ? options_.memory.value : DefaultMemory();
  storage_ = std::make_unique<storage::StorageEnvironment>(storage_options);
  disk_->SetPromised([this] { return storage_->write_buffers()->memory_usage(); });
  return Status::Ok();
}

Status StorageNode::StartPartitions(metadata::MetadataStore& metadata, NodeId node,
                                    const ClusterParts* cluster) {
  environment_.node = node;
  environment_.storage = storage_.get();
  environment_.log = log_.get();
  environment_.metadata = &metadata;
  environment_.blocking = blocking_.get();
  environment_.disk_low = &disk_->low();
  environment_.partitions_directory = data_->partitions_path();
  environment_.collection_limit_bytes = options_.item_collection_limit;

  partition::ManagerOptions manager_options;
  manager_options.log_limit_bytes = options_.log_limit;
  if (cluster != nullptr) {
    environment_.transport = cluster->transport;
    environment_.leases = cluster->leases;
    environment_.configurations = cluster->configurations;
    environment_.checkpoints = cluster->checkpoints;
    manager_options.idle_close = cluster->idle_close;
  }
  partitions_ =
      std::make_unique<partition::PartitionManager>(environment_, io_.get(), manager_options);
  if (cluster != nullptr) cluster->before_start(*partitions_);
  RETURN_IF_ERROR(partitions_->Start());
  routes_ = std::make_unique<routing::RouteMap>(metadata, io_->executor(0));
  RETURN_IF_ERROR(routes_->Start());
  routing::RouterOptions router_options;
  router_options.self = node;
  router_options.boot = environment_.boot;
  routing::Network* const network = cluster == nullptr ? nullptr : cluster->network;
  router_ = std::make_unique<routing::Router>(router_options, partitions_.get(), routes_.get(),
                                              network, network == nullptr ? nullptr : &registry_);
  AddMetrics();
  return Status::Ok();
}

Status StorageNode::Listen(metadata::MetadataStore& metadata, std::function<Status()> ready) {
  const asio::any_io_executor first = io_->executor(0);
  catalog_watcher_ = std::make_unique<dynamodb::CatalogWatcher>(metadata, catalog_, first);
  RETURN_IF_ERROR(Await(first, catalog_watcher_->Start()));
  dynamodb::ControlPlaneOptions control_options;
  control_options.active_wait = std::chrono::seconds(2);
  control_options.replication = environment_.transport == nullptr ? 1 : 0;
  statistics_ = std::make_unique<dynamodb::RoutedStatistics>(router_.get());
  control_plane_ =
      std::make_unique<dynamodb::ControlPlane>(metadata, catalog_, *statistics_, control_options);
  dynamodb::OperationTable operations;
  dynamodb::RegisterControlOperations(*control_plane_, &operations);
  dynamodb::RegisterItemOperations(router_.get(), &operations);
  dynamodb::ApiOptions api_options;
  api_options.region = options_.region;
  api_options.account_id = options_.account_id;
  api_options.isolate_accounts = options_.isolate_accounts;
  api_options.secrets = MakeSecretLookup(options_.credentials);
  api_ = std::make_unique<dynamodb::Api>(std::move(api_options), catalog_, std::move(operations),
                                         registry_);

  http::ServerOptions http_options;
  http_options.bind = options_.bind;
  http_options.port = options_.aws_port;
  http_options.max_connections = options_.max_connections;
  http_options.idle_timeout = options_.idle_timeout;
  http_options.header_timeout = options_.header_timeout;
  http_options.body_timeout = options_.body_timeout;
  http_options.write_timeout = options_.write_timeout;
  http_options.tls = aws_tls_;
  aws_server_ = std::make_unique<http::Server>(*io_, *api_, http_options, &registry_);
  RETURN_IF_ERROR(aws_server_->Start());

  admin_ =
      std::make_unique<http::AdminHandler>(registry_, [this, ready = std::move(ready)]() -> Status {
        if (disk_->low().load(std::memory_order_relaxed)) {
          return {Code::kOutOfSpace, "the disk is below its reserve: writes are refused"};
        }
        return ready ? ready() : Status::Ok();
      });
  const auto admin_options = http::AdminServerOptions(options_.bind, options_.admin_port);
  admin_server_ = std::make_unique<http::Server>(*io_, *admin_, admin_options, &registry_);
  return admin_server_->Start();
}

void StorageNode::AddMetrics() {
  metrics::AddProcessMetrics(registry_);
  const auto gauge = [this](std::string name, std::string help, auto read) {
    registry_.AddGaugeCallback(std::move(name), std::move(help), {}, read);
  };
  const auto counter = [this](std::string name, std::string help, auto read) {
    registry_.AddCounterCallback(std::move(name), std::move(help), {}, read);
  };
  const auto number = [](auto value) { return static_cast<double>(value); };

  gauge("onggi_log_queued_bytes", "Log bytes not yet written",
        [=, this] { return number(log_->Stats().queued_bytes); });
  gauge("onggi_log_queued_appends", "Appends not yet written",
        [=, this] { return number(log_->Stats().queued_appends); });
  gauge("onggi_log_live_bytes", "Log on disk that may be needed",
        [=, this] { return number(log_->Stats().live_bytes); });
  counter("onggi_log_written_bytes_total", "Log bytes written, with framing",
          [=, this] { return number(log_->Stats().bytes_written); });
  gauge("onggi_log_relaxed", "1 when --durability=relaxed: a power cut may lose 100 ms of writes",
        [this] { return options_.durability == "sync" ? 0.0 : 1.0; });
  gauge("onggi_partitions_open", "Partitions open on this node",
        [=, this] { return number(partitions_->open_partitions()); });
  gauge("onggi_partition_queued_writes", "Writes admitted and not yet answered",
        [=, this] { return number(partitions_->queued_writes()); });
  gauge("onggi_blocking_queue_depth", "Disk tasks waiting for a thread",
        [=, this] { return number(blocking_->queued()); });
  gauge("onggi_disk_available_bytes", "Free space of the data directory's file system",
        [=, this] { return number(disk_->available_bytes()); });
  gauge("onggi_disk_reserve_bytes", "Free space below which writes are refused",
        [=, this] { return number(disk_->reserve_bytes()); });
  storage_->AddMetrics(&registry_);
}

void StorageNode::StopListening() {
  if (aws_server_ != nullptr) aws_server_->Stop();
  if (admin_server_ != nullptr) admin_server_->Stop();
}

void StorageNode::StopPartitions() {
  if (catalog_watcher_ != nullptr) catalog_watcher_->Stop();
  if (router_ != nullptr) router_->Stop();
  if (partitions_ != nullptr) partitions_->Stop();
  if (routes_ != nullptr) routes_->Stop();
  router_.reset();
}

void StorageNode::StopThreads(const std::function<void()>& before_threads_go) {
  if (log_ != nullptr) log_->Close();
  if (io_ != nullptr) io_->Stop();
  if (blocking_ != nullptr) blocking_->WaitIdle();
  // What is still queued on the I/O threads (a timer, news of the log) refers to partitions: it
  // goes while the partitions' environment is there, and after everything that has sockets or
  // timers there.
  admin_server_.reset();
  aws_server_.reset();
  api_.reset();
  control_plane_.reset();
  catalog_watcher_.reset();
  partitions_.reset();
  before_threads_go();
  io_.reset();
  // Closes the stores that the last references handed to it.
  if (blocking_ != nullptr) blocking_->Stop();
  if (disk_ != nullptr) disk_->SetPromised(nullptr);
}

}  // namespace onggi
