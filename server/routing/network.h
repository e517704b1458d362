#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/async_scope.h"
#include "common/ids.h"
#include "common/metrics.h"
#include "common/proto/routing.pb.h"
#include "common/rpc/stream_server.h"
#include "common/runtime.h"
#include "server/routing/connection.h"

namespace onggi::routing {

/// Wire versions that this program speaks; two that overlap can speak with each other.
inline constexpr uint32_t kOldestWireVersion = 1;
inline constexpr uint32_t kNewestWireVersion = 1;

/// Where another node is.
struct Peer {
  std::string endpoint;  ///< "host:port"
  std::string zone;
  std::string certificate_name;  ///< that its certificate must carry; empty: not looked at
  bool operator==(const Peer&) const = default;
};

struct NetworkOptions {
  NetworkOptions() {}
  NodeId self;
  std::string zone;
  std::string cluster_id;
  uint64_t boot = 0;                           ///< random for each process, never 0
  std::shared_ptr<tls::CertificateFiles> tls;  ///< null: plain text
  IoPool* io = nullptr;  ///< whose threads the dialed streams run on; outlives the network
  ConnectionLimits limits;
  /// What this node says it speaks; a peer without a version in common is refused.
  uint32_t oldest_version = kOldestWireVersion;
  uint32_t newest_version = kNewestWireVersion;
  std::chrono::milliseconds tick{25};
  /// Between two attempts to connect, doubling, with jitter.
  std::chrono::milliseconds min_redial{50};
  std::chrono::milliseconds max_redial{1'000};
};

/// Carries out what other nodes ask for.
class RequestHandler {
 public:
  virtual ~RequestHandler() = default;
  /// On the stream's thread. Answers go through Connection::Add. The frame may be taken apart.
  virtual void OnRequests(const std::shared_ptr<Connection>& from, proto::RoutingFrame* frame) = 0;
  /// Nobody waits for answers to the peer's requests any more.
  virtual void OnClosed(const std::shared_ptr<Connection>& from) = 0;
};

/// The connections of this node with its peers: one with each. Of two nodes the one with the lower
/// number dials, and goes on trying; a peer that is not connected costs a request nothing but the
/// look.
///
/// AddTo() the server that the peers dial; made before it, and stopped before it is stopped.
/// Thread-safe.
class Network final : private ConnectionEvents {
 public:
  /// `executor`: a single thread, for timers. `handler` may be set later, before the first peer.
  /// Metrics go to `registry`, if there is one.
  Network(NetworkOptions options, boost::asio::any_io_executor executor,
          metrics::Registry* registry);
  ~Network();

  void SetHandler(RequestHandler* handler) { handler_ = handler; }
  /// Has the server bring the calls of peers here.
  void AddTo(rpc::StreamServer* server);
  /// Starts its timer.
  void Start();
  /// Ends every connection, and waits until they are over. Not on the executor's thread.
  void Stop();

  /// All nodes but this one that may be talked to, as the node registry has them. Those that are no
  /// longer named are disconnected; a changed endpoint is dialed anew.
  void SetPeers(std::map<NodeId, Peer> peers);

  /// The connection with a node, introduced on both sides; null while there is none. Hot path.
  std::shared_ptr<Connection> Find(NodeId node) const;
  /// Is the node in our zone? False for an unknown one.
  bool IsNear(NodeId node) const;
  std::vector<std::shared_ptr<Connection>> Connections() const;

  /// Hears when a connection with a node has come about, on any thread. Set before Start().
  void SetConnectedListener(std::function<void(NodeId)> listener) {
    on_connected_ = std::move(listener);
  }

 private:
  class Wire;
  struct Link {
    Peer peer;
    std::shared_ptr<Connection> connection;  ///< introduced
    bool dialing = false;
    SteadyTime next_dial;
    std::chrono::milliseconds redial{0};
    Status last_error;
  };

  // ConnectionEvents.
  Status OnHello(const std::shared_ptr<Connection>& connection,
                 const proto::RoutingHello& hello) override;
  void OnReady(const std::shared_ptr<Connection>& connection) override;
  void OnRequests(const std::shared_ptr<Connection>& connection,
                  proto::RoutingFrame* frame) override;
  void OnClosed(const std::shared_ptr<Connection>& connection, const Status& reason) override;

  proto::RoutingHello HelloTo(NodeId peer) const;
  Status CheckHello(const Connection& connection, const proto::RoutingHello& hello) const;
  boost::asio::awaitable<void> Run();
  void Tick();
  void Dial(NodeId node);
  bool Register(const std::shared_ptr<Connection>& connection);

  const NetworkOptions options_;
  const boost::asio::any_io_executor executor_;
  RequestHandler* handler_ = nullptr;
  std::function<void(NodeId)> on_connected_;
  metrics::Counter* dial_failures_ = nullptr;

  mutable std::shared_mutex mutex_;
  std::unordered_map<NodeId, Link> links_;       // guarded by mutex_
  std::set<std::shared_ptr<Connection>> alive_;  // guarded by mutex_; not yet closed
  bool stopping_ = false;                        // guarded by mutex_
  std::condition_variable_any all_closed_;
  uint64_t frames_of_the_past_ = 0;  // guarded by mutex_; sent on connections that are closed

  AsyncScope scope_;
};

}  // namespace onggi::routing
