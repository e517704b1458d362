#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "common/async_scope.h"
#include "common/metrics.h"
#include "common/rpc/server.h"
#include "common/rpc/stream.h"
#include "common/rpc/tls.h"
#include "common/status.h"
#include "replication/checkpoint/checkpoint_service.h"
#include "replication/metadata/etcd_store.h"
#include "replication/metadata/membership.h"
#include "replication/replica/configuration_store.h"
#include "replication/transport/stream_transport.h"
#include "server/cluster_options.h"
#include "server/grpc/public_services.h"
#include "server/node/checkpoint_sender.h"
#include "server/node/coordinator_link.h"
#include "server/node/load_reporter.h"
#include "server/node/node_service.h"
#include "server/node/peer_watch.h"
#include "server/node/relays.h"
#include "server/options.h"
#include "server/routing/network.h"
#include "server/routing/server.h"
#include "server/storage_node.h"

namespace onggi {

/// `onggi node`: a storage node of a cluster, which answers any request.
///
/// Start() and Stop() are called once each, by main's thread.
class NodeServer final {
 public:
  /// `stop_requested` is asked while Start() waits for etcd.
  NodeServer(ServerOptions options, ClusterOptions cluster, std::function<bool()> stop_requested);
  ~NodeServer();

  /// Opens the data directory, joins the cluster, listens. Waits for etcd for as long as it takes.
  /// A refusal of the cluster (another cluster's directory, a wrong version, ...) is an error that
  /// says why; the data directory is as it was.
  Status Start();
  /// Drains requests, flushes, closes.
  void Stop();

  uint16_t aws_port() const { return node_.aws_port(); }
  std::string_view aws_scheme() const { return node_.aws_scheme(); }
  uint16_t admin_port() const { return node_.admin_port(); }
  int grpc_port() const { return rpc_server_->port(); }
  NodeId id() const { return id_; }
  const std::string& cluster_id() const { return membership_.cluster.id(); }

 private:
  Status Join();
  Status CheckLivingMembers(NodeId self);
  Status StartReplication();
  Status StartRpc();
  Status Follow();
  void SetPeers(const node::PeerWatch::Nodes& nodes);
  proto::Node Describe() const;
  proto::ReportLoadRequest Load();

  const ServerOptions options_;
  const ClusterOptions cluster_;
  const std::function<bool()> stop_requested_;
  const rpc::TlsOptions tls_;
  rpc::MessageStream::Options stream_options_;  ///< of the streams with other nodes
  std::string advertise_;
  uint16_t rpc_port_ = 0;
  uint16_t peer_port_ = 0;
  metrics::Registry registry_;
  StorageNode node_;
  std::unique_ptr<metadata::EtcdStore> metadata_;
  metadata::Membership membership_;
  NodeId id_;
  node::MessageRelay messages_;
  node::CheckpointRelay incoming_;
  std::shared_ptr<lease::NodeLeases> leases_;
  std::unique_ptr<IoPool> peer_io_;
  std::unique_ptr<rpc::StreamServer> peer_server_;
  std::unique_ptr<replica::DiskConfigurationStore> configurations_;
  std::unique_ptr<transport::StreamTransport> transport_;
  std::unique_ptr<checkpoint::CheckpointService> checkpoints_;
  std::unique_ptr<node::CheckpointSender> checkpoint_sender_;
  std::unique_ptr<routing::Network> network_;
  std::unique_ptr<routing::Server> routed_;
  std::unique_ptr<node::CoordinatorLink> coordinator_;
  std::unique_ptr<node::NodeService> service_;
  std::unique_ptr<grpc_api::PublicServices> public_;
  std::unique_ptr<rpc::RpcServer> rpc_server_;
  std::unique_ptr<node::PeerWatch> peers_;
  std::unique_ptr<node::LoadReporter> reporter_;
  AsyncScope scope_;
  std::atomic<bool> joined_{false};
  bool stopped_ = false;
};

}  // namespace onggi
