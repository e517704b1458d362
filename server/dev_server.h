#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "common/http/admin.h"
#include "common/http/server.h"
#include "common/metrics.h"
#include "common/runtime.h"
#include "common/status.h"
#include "coordinator/table_jobs.h"
#include "replication/log/log_store.h"
#include "replication/metadata/embedded_store.h"
#include "server/dynamodb/api.h"
#include "server/dynamodb/catalog.h"
#include "server/dynamodb/catalog_watcher.h"
#include "server/dynamodb/control_plane.h"
#include "server/options.h"
#include "server/partition/partition_manager.h"
#include "server/storage/data_directory.h"
#include "server/storage/disk_watch.h"
#include "server/storage/partition_store.h"

namespace onggi {

/// `onggi dev`: storage node, coordinator and API in one process, over the embedded metadata store.
///
/// Owns every part and knows their order: what is below in the member list stands on what is above.
/// Start() and Stop() are called once each, by main's thread.
class DevServer final : private dynamodb::TableStatistics {
 public:
  explicit DevServer(ServerOptions options);
  ~DevServer() override;

  /// Opens the data directory, recovers, listens. On failure nothing listens and the directory is
  /// as it was.
  Status Start();
  /// Drains requests, flushes, closes.
  void Stop();

  uint16_t aws_port() const { return aws_server_->port(); }
  uint16_t admin_port() const { return admin_server_->port(); }

 private:
  Status OpenStores();
  Status StartServices();
  Status Listen();
  void AddMetrics();
  Status RegisterNode();

  boost::asio::awaitable<dynamodb::TableFigures> Figures(TableId table) override;

  const ServerOptions options_;
  metrics::Registry registry_;
  std::unique_ptr<storage::DataDirectory> data_;
  std::unique_ptr<storage::DiskWatch> disk_;
  std::unique_ptr<IoPool> io_;
  std::unique_ptr<BlockingPool> blocking_;
  std::unique_ptr<storage::StorageEnvironment> storage_;
  std::unique_ptr<log::LogStore> log_;
  std::unique_ptr<metadata::EmbeddedStore> metadata_;
  partition::PartitionEnvironment environment_;
  std::unique_ptr<partition::PartitionManager> partitions_;
  std::unique_ptr<coordinator::TableJobs> jobs_;
  dynamodb::Catalog catalog_;
  std::unique_ptr<dynamodb::CatalogWatcher> catalog_watcher_;
  std::unique_ptr<dynamodb::ControlPlane> control_plane_;
  std::unique_ptr<dynamodb::Api> api_;
  std::unique_ptr<http::AdminHandler> admin_;
  std::unique_ptr<http::Server> aws_server_;
  std::unique_ptr<http::Server> admin_server_;
  bool stopped_ = false;
};

}  // namespace onggi
