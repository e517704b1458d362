#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/http/admin.h"
#include "common/http/server.h"
#include "common/metrics.h"
#include "common/runtime.h"
#include "common/status.h"
#include "common/tls/certificate_files.h"
#include "replication/log/log_store.h"
#include "replication/metadata/metadata_store.h"
#include "server/dynamodb/api.h"
#include "server/dynamodb/catalog.h"
#include "server/dynamodb/catalog_watcher.h"
#include "server/dynamodb/control_plane.h"
#include "server/dynamodb/item_operations.h"
#include "server/options.h"
#include "server/partition/partition_manager.h"
#include "server/routing/route_map.h"
#include "server/routing/router.h"
#include "server/storage/data_directory.h"
#include "server/storage/disk_watch.h"
#include "server/storage/partition_store.h"

namespace onggi {

/// What a node has besides, when there are others. All outlive StorageNode::StopThreads().
struct ClusterParts {
  ClusterParts() {}
  transport::Transport* transport = nullptr;
  std::shared_ptr<lease::NodeLeases> leases;
  replica::ConfigurationStore* configurations = nullptr;
  replica::CheckpointSender* checkpoints = nullptr;
  routing::Network* network = nullptr;
  std::chrono::milliseconds idle_close{0};
  /// The partitions are made, and about to start.
  std::function<void(partition::PartitionManager&)> before_start;
};

/// What `onggi dev` and `onggi node` have in common: one data directory, its log and partitions,
/// and the AWS-compatible endpoint in front of them. The metadata store, and who else there is,
/// come from the role.
///
/// Made by the role; its phases are called in the order in which they stand here, once each, by
/// main's thread, and the ending ones from whatever phase was reached. On a failed phase nothing
/// listens, and nothing has been written that the next start could not use.
class StorageNode final {
 public:
  /// `options` and `registry` outlive it.
  StorageNode(const ServerOptions& options, metrics::Registry* registry);
  ~StorageNode();
  StorageNode(const StorageNode&) = delete;
  StorageNode& operator=(const StorageNode&) = delete;

  /// Reads the certificate of the AWS endpoint, if it has one.
  Status LoadCertificate();
  /// Takes the data directory for this process.
  Status OpenDirectory();
  /// Opens the log, which checks itself, and starts to watch the disk.
  Status OpenLog();
  /// Starts the threads and the memory that partitions share.
  Status StartThreads();
  /// Follows the partition map of `metadata` as `node`; `cluster` is null when there are no others.
  Status StartPartitions(metadata::MetadataStore& metadata, NodeId node,
                         const ClusterParts* cluster = nullptr);
  /// Follows the catalog and listens: AWS endpoint, metrics and health. `ready` (may be empty) is
  /// asked by /readyz besides the disk.
  Status Listen(metadata::MetadataStore& metadata, std::function<Status()> ready);
  /// The directory is this program's from now on.
  Status Claim() { return data_->Claim(); }

  /// From the outside in. Nobody comes any more:
  void StopListening();
  /// Answers what runs, flushes.
  void StopPartitions();
  /// The log is closed and the threads end; everything that has sockets or timers on them is gone
  /// or stopped. What the role itself has on the threads it destroys in `before_threads_go`.
  void StopThreads(const std::function<void()>& before_threads_go);

  storage::DataDirectory& data() { return *data_; }
  IoPool& io() { return *io_; }
  BlockingPool& blocking() { return *blocking_; }
  log::LogStore& log() { return *log_; }
  storage::DiskWatch& disk() { return *disk_; }
  partition::PartitionManager& partitions() { return *partitions_; }
  routing::RouteMap& routes() { return *routes_; }
  routing::Router& router() { return *router_; }
  dynamodb::Api& api() { return *api_; }
  uint64_t boot() const { return environment_.boot; }
  uint16_t aws_port() const { return aws_server_->port(); }
  /// "http://" or "https://".
  std::string_view aws_scheme() const { return aws_tls_ == nullptr ? "http://" : "https://"; }
  uint16_t admin_port() const { return admin_server_->port(); }

 private:
  void AddMetrics();

  const ServerOptions& options_;
  metrics::Registry& registry_;
  std::shared_ptr<tls::CertificateFiles> aws_tls_;
  std::unique_ptr<storage::DataDirectory> data_;
  std::unique_ptr<storage::DiskWatch> disk_;
  std::unique_ptr<IoPool> io_;
  std::unique_ptr<BlockingPool> blocking_;
  std::unique_ptr<storage::StorageEnvironment> storage_;
  std::unique_ptr<log::LogStore> log_;
  partition::PartitionEnvironment environment_;
  std::unique_ptr<partition::PartitionManager> partitions_;
  std::unique_ptr<routing::RouteMap> routes_;
  std::unique_ptr<routing::Router> router_;
  std::unique_ptr<dynamodb::RoutedStatistics> statistics_;
  dynamodb::Catalog catalog_;
  std::unique_ptr<dynamodb::CatalogWatcher> catalog_watcher_;
  std::unique_ptr<dynamodb::ControlPlane> control_plane_;
  std::unique_ptr<dynamodb::Api> api_;
  std::unique_ptr<http::AdminHandler> admin_;
  std::unique_ptr<http::Server> aws_server_;
  std::unique_ptr<http::Server> admin_server_;
};

}  // namespace onggi
