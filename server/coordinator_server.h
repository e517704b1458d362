#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/http/admin.h"
#include "common/http/server.h"
#include "common/metrics.h"
#include "common/rpc/server.h"
#include "common/rpc/tls.h"
#include "common/runtime.h"
#include "common/status.h"
#include "coordinator/coordinator.h"
#include "coordinator/coordinator_service.h"
#include "coordinator/grpc_node_client.h"
#include "coordinator/store_probe.h"
#include "coordinator/timers.h"
#include "replication/metadata/etcd_store.h"
#include "server/cluster_options.h"
#include "server/options.h"

namespace onggi {

/// `onggi coordinator`: one of a cluster's coordinators.
///
/// Start() and Stop() are called once each, by main's thread. It keeps nothing on disk.
class CoordinatorServer final {
 public:
  /// `stop_requested` is asked while Start() waits for etcd.
  CoordinatorServer(ServerOptions options, ClusterOptions cluster,
                    std::function<bool()> stop_requested);
  ~CoordinatorServer();

  Status Start();
  /// Resigns, so that another one follows at once, and closes.
  void Stop();

  int grpc_port() const { return rpc_server_->port(); }
  uint16_t admin_port() const { return admin_server_->port(); }
  const std::string& cluster_id() const { return cluster_id_; }

 private:
  /// The program's, or what a test's flags say.
  proto::VersionRange WireVersions() const;
  Status StartCoordinator(const std::string& address);
  Status Listen(uint16_t port);

  const ServerOptions options_;
  const ClusterOptions cluster_;
  const std::function<bool()> stop_requested_;
  const rpc::TlsOptions tls_;
  std::string cluster_id_;
  metrics::Registry registry_;
  std::unique_ptr<IoPool> io_;
  std::unique_ptr<metadata::EtcdStore> metadata_;
  std::unique_ptr<coordinator::GrpcNodeClient> nodes_;
  std::unique_ptr<coordinator::AsioTimers> timers_;
  std::unique_ptr<coordinator::Coordinator> coordinator_;
  std::unique_ptr<coordinator::StoreProbe> probe_;
  std::unique_ptr<coordinator::CoordinatorService> service_;
  std::unique_ptr<rpc::RpcServer> rpc_server_;
  std::unique_ptr<http::AdminHandler> admin_;
  std::unique_ptr<http::Server> admin_server_;
  bool stopped_ = false;
};

}  // namespace onggi
