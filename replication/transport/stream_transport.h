#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/metrics.h"
#include "common/rpc/stream_server.h"
#include "common/rpc/tls.h"
#include "common/runtime.h"
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
  /// Of the connections that this node dials; null: plain text, and no names are checked.
  std::shared_ptr<tls::CertificateFiles> tls;
  IoPool* io = nullptr;  ///< whose threads the dialed streams run on; outlives the transport
  /// Messages that one of these threads sends are written once what is ready to run on it has run:
  /// they share a frame. Null: each is written as it is sent. Runs nothing more when the transport
  /// is destroyed.
  IoPool* senders = nullptr;
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

/// The Transport between real nodes: one gRPC stream with each peer (rpc::MessageStream), called by
/// the node with the lower id and answered by the StreamServer of the other.
///
/// Messages that arrive while a frame is being written go together into the next one; heartbeats,
/// their acknowledgements and those of Appends go before Appends. Every 200 ms each side sends a
/// heartbeat, which NodeLeases makes and answers; a peer from which neither heartbeats nor
/// acknowledgements come for a lease's length is lost, whatever TCP thinks of the connection.
///
/// Lifecycle: made; AddTo() a StreamServer, which may start before Start(); Start(); then Stop(),
/// before the server's Stop(); destroyed after the server. The handler is called from Start() until
/// Stop() has returned.
///
/// Owner of its state: locks, one per peer. Threads: one of its own for heartbeats and dialing, and
/// those of the streams. Bounds: max_queued_bytes twice and one frame for each peer; 256
/// connections that have not said Hello.
class StreamTransport final : public Transport {
 public:
  StreamTransport(TransportOptions options, MessageHandler* handler);
  ~StreamTransport() override;
  StreamTransport(const StreamTransport&) = delete;
  StreamTransport& operator=(const StreamTransport&) = delete;

  /// Has the server bring the calls of peers here.
  void AddTo(rpc::StreamServer* server);

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
  const std::unique_ptr<Impl> impl_;
};

}  // namespace onggi::transport
