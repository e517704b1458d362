#pragma once

#include <memory>

#include "common/metrics.h"
#include "common/rpc/server.h"
#include "common/status.h"
#include "coordinator/table_jobs.h"
#include "replication/metadata/embedded_store.h"
#include "server/grpc/local_admin.h"
#include "server/grpc/public_services.h"
#include "server/options.h"
#include "server/storage_node.h"

namespace onggi {

/// `onggi dev`: storage node, coordinator and API in one process, over the embedded metadata store.
///
/// Start() and Stop() are called once each, by main's thread.
class DevServer final {
 public:
  explicit DevServer(ServerOptions options);
  ~DevServer();

  /// Opens the data directory, recovers, listens. On failure nothing listens and the directory is
  /// as it was.
  Status Start();
  /// Drains requests, flushes, closes.
  void Stop();

  uint16_t aws_port() const { return node_.aws_port(); }
  std::string_view aws_scheme() const { return node_.aws_scheme(); }
  uint16_t admin_port() const { return node_.admin_port(); }
  int grpc_port() const { return rpc_server_->port(); }

 private:
  Status OpenStores();
  Status RegisterNode();
  Status StartRpc();

  const ServerOptions options_;
  metrics::Registry registry_;
  StorageNode node_;
  std::unique_ptr<metadata::EmbeddedStore> metadata_;
  std::unique_ptr<coordinator::TableJobs> jobs_;
  std::unique_ptr<grpc_api::LocalAdminService> admin_;
  std::unique_ptr<grpc_api::LocalCoordinator> local_coordinator_;
  std::unique_ptr<grpc_api::PublicServices> public_;
  std::unique_ptr<rpc::RpcServer> rpc_server_;
  bool stopped_ = false;
};

}  // namespace onggi
