#pragma once

#include <grpcpp/impl/service_type.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/metrics.h"
#include "common/rpc/tls.h"
#include "common/status.h"
#include "replication/lease/node_leases.h"
#include "replication/transport/frame.h"
#include "replication/transport/transport.h"

namespace onggi::transport {

struct TransportOptions {
  TransportOptions() {}

  std::string cluster_id;
  NodeId self;
  uint64_t boot = 0;  ///< of this process, never 0
  std::string software_version;
  /// Of the connections that this node dials, and whether names in certificates are checked. The
  /// server that carries service() has its own.
  rpc::TlsOptions tls;
  lease::NodeLeases* leases = nullptr;  ///< outlives the transport
  metrics::Registry* metrics = nullptr;
  /// Asked with each heartbeat, on a transport thread: false (an fsync hangs, R10) stops heartbeats
  /// and acknowledgements, so that the peers take this node for lost. Empty: always true.
  std::function<bool()> healthy;

  uint32_t min_version = kMinWireVersion;
  uint32_t max_version = kMaxWireVersion;
  /// Messages to one peer that wait, Appends; as much again for everything else.
  size_t max_queued_bytes = 64u << 20;
  /// A frame takes more messages until it has this much.
  size_t max_frame_bytes = 1u << 20;
  std::chrono::milliseconds min_backoff{20};
  std::chrono::milliseconds max_backoff{500};
  /// From dialing, or accepting, to the other's Hello.
  std::chrono::milliseconds hello_timeout{1'000};
};

/// The Transport between real nodes: one gRPC stream with each peer, called by the node with the
/// lower id and answered by service() of the other.
///
/// Messages that arrive while a frame is being written go together into the next one; heartbeats,
/// their acknowledgements and those of Appends go before Appends. Every 200 ms each side sends a
/// heartbeat, which NodeLeases makes and answers; a peer from which neither heartbeats nor
/// acknowledgements come for a lease's length is lost, whatever TCP thinks of the connection.
///
/// Lifecycle: made; service() added to an RpcServer, which may start before Start(); Start(); then
/// Stop(), before the server's Stop(); destroyed after the server. The handler is called from
/// Start() until Stop() has returned.
///
/// Owner of its state: locks, one per peer. Threads: one of its own for heartbeats and dialing, and
/// gRPC's. Bounds: max_queued_bytes twice and one frame for each peer; 256 connections that have
/// not said Hello.
class GrpcTransport final : public Transport {
 public:
  /// kInvalidArgument for the files of TLS.
  static Result<std::unique_ptr<GrpcTransport>> Make(TransportOptions options,
                                                     MessageHandler* handler);
  ~GrpcTransport() override;
  GrpcTransport(const GrpcTransport&) = delete;
  GrpcTransport& operator=(const GrpcTransport&) = delete;

  /// ReplicationService.
  grpc::Service* service();

  void Start();
  /// Closes every connection and joins; the handler is told nothing more. Not from a handler.
  void Stop();

  bool Send(NodeId to, GroupMessage message, uint64_t boot = 0) override;
  bool Connected(NodeId peer) const override;
  uint64_t Boot(NodeId peer) const override;
  void SetPeers(std::map<NodeId, Peer> peers) override;

  /// Why there is no connection with the peer; empty while there is one, or nobody tried.
  std::string LastError(NodeId peer) const;

 private:
  class Impl;
  explicit GrpcTransport(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace onggi::transport
