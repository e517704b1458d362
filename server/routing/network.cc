#include "server/routing/network.h"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"
#include "common/rpc/status.h"
#include "common/rpc/tls.h"
#include "common/uuid.h"

namespace onggi::routing {

namespace asio = boost::asio;

using proto::RoutingFrame;

namespace {

constexpr const char* kExchangeMethod = "/onggi.proto.RoutingService/Exchange";

}  // namespace

/// Our end of a stream, whoever called.
class Network::Wire final : public Connection, public rpc::MessageStream::Events {
 public:
  Wire(ConnectionEvents* events, const ConnectionLimits& limits, proto::RoutingHello hello,
       std::shared_ptr<rpc::MessageStream> stream, bool dialed)
      : Connection(events, limits, std::move(hello)), stream_(std::move(stream)), dialed_(dialed) {}

  bool dialed() const { return dialed_; }

  /// Of a dialed one.
  void Run() {
    stream_->Start(std::static_pointer_cast<Wire>(shared_from_this()));
    SayHello();
    Flush();
  }

  /// Whose certificate it is. From the first message on.
  bool IsNamed(const std::string& name) const { return rpc::IsNamed(stream_->peer_names(), name); }

  void OnMessage(std::string_view message) override {
    if (!incoming_.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
      Close(Corruption("a frame that cannot be read"));
      return;
    }
    OnFrame(&incoming_);
  }
  void OnWritten() override { Connection::OnWritten(); }
  void OnEnded(const grpc::Status& status) override {
    OnBroken();
    Connection::OnEnded(rpc::FromGrpc(status));
  }

 private:
  bool StartWrite(const RoutingFrame* frame) override {
    std::vector<rpc::MessagePiece> pieces(1);
    frame->SerializeToString(&pieces[0].bytes);
    return stream_->Write(std::move(pieces));
  }
  void CancelStream(const Status& reason) override { stream_->Abort(rpc::ToGrpc(reason)); }
  void RefuseStream(const Status& reason) override { stream_->End(rpc::ToGrpc(reason)); }
  bool CanRefuse() const override { return !dialed_; }

  const std::shared_ptr<rpc::MessageStream> stream_;
  const bool dialed_;
  RoutingFrame incoming_;
};

Network::Network(NetworkOptions options, asio::any_io_executor executor,
                 metrics::Registry* registry)
    : options_(std::move(options)), executor_(std::move(executor)) {
  if (registry == nullptr) return;
  dial_failures_ = &registry->AddCounter("onggi_routing_dial_failures_total",
                                         "Attempts to connect to a node that failed");
  registry->AddGaugeCallback("onggi_routing_connected_nodes",
                             "Nodes that requests can be forwarded to", {},
                             [this] { return static_cast<double>(Connections().size()); });
  registry->AddGaugeCallback("onggi_routing_queued_bytes",
                             "Forwarded requests that wait to be sent, in bytes", {}, [this] {
                               size_t bytes = 0;
                               for (const auto& c : Connections()) bytes += c->queued_bytes();
                               return static_cast<double>(bytes);
                             });
  registry->AddGaugeCallback("onggi_routing_calls", "Forwarded requests that have no answer yet",
                             {}, [this] {
                               size_t calls = 0;
                               for (const auto& c : Connections()) calls += c->calls();
                               return static_cast<double>(calls);
                             });
  registry->AddCounterCallback("onggi_routing_frames_total",
                               "Frames sent to other nodes, of requests and answers", {}, [this] {
                                 std::shared_lock lock(mutex_);
                                 uint64_t frames = frames_of_the_past_;
                                 for (const auto& connection : alive_)
                                   frames += connection->frames_sent();
                                 return static_cast<double>(frames);
                               });
}

Network::~Network() { Stop(); }

void Network::Start() { (void)scope_.Spawn(executor_, Run()); }

void Network::Stop() {
  std::vector<std::shared_ptr<Connection>> open;
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    open.assign(alive_.begin(), alive_.end());
  }
  for (const auto& connection : open) connection->Close(Unavailable("the node is stopping"));
  open.clear();
  {
    std::unique_lock lock(mutex_);
    all_closed_.wait(lock, [this] { return alive_.empty(); });
  }
  scope_.Stop();
}

void Network::SetPeers(std::map<NodeId, Peer> peers) {
  std::vector<std::shared_ptr<Connection>> gone;
  {
    std::unique_lock lock(mutex_);
    for (auto it = links_.begin(); it != links_.end();) {
      const auto peer = peers.find(it->first);
      const bool stays = peer != peers.end() && peer->second == it->second.peer;
      if (!stays && it->second.connection != nullptr) gone.push_back(it->second.connection);
      it = stays ? std::next(it) : links_.erase(it);
    }
    for (auto& [node, peer] : peers) {
      if (node == options_.self) continue;
      links_.try_emplace(node).first->second.peer = std::move(peer);
    }
  }
  for (const auto& connection : gone) {
    connection->Close(Unavailable("the node has moved or left"));
  }
}

std::shared_ptr<Connection> Network::Find(NodeId node) const {
  std::shared_lock lock(mutex_);
  const auto link = links_.find(node);
  return link == links_.end() ? nullptr : link->second.connection;
}

bool Network::IsNear(NodeId node) const {
  std::shared_lock lock(mutex_);
  const auto link = links_.find(node);
  return link != links_.end() && link->second.peer.zone == options_.zone;
}

std::vector<std::shared_ptr<Connection>> Network::Connections() const {
  std::vector<std::shared_ptr<Connection>> connections;
  std::shared_lock lock(mutex_);
  for (const auto& [node, link] : links_) {
    if (link.connection != nullptr) connections.push_back(link.connection);
  }
  return connections;
}

asio::awaitable<void> Network::Run() {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (;;) {
    Tick();
    timer.expires_after(options_.tick);
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    co_await timer.async_wait(token);
    if (error || scope_.stopping()) co_return;
  }
}

void Network::Tick() {
  const SteadyTime now = std::chrono::steady_clock::now();
  std::vector<std::shared_ptr<Connection>> open;
  std::vector<NodeId> to_dial;
  {
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    open.assign(alive_.begin(), alive_.end());
    for (auto& [node, link] : links_) {
      if (node < options_.self || link.dialing || link.connection != nullptr) continue;
      if (now < link.next_dial) continue;
      link.dialing = true;
      to_dial.push_back(node);
    }
  }
  for (const auto& connection : open) connection->Tick(now);
  for (const NodeId node : to_dial) Dial(node);
}

void Network::Dial(NodeId node) {
  Peer peer;
  {
    std::shared_lock lock(mutex_);
    const auto link = links_.find(node);
    if (link == links_.end()) return;
    peer = link->second.peer;
  }
  rpc::MessageStream::Options options;
  options.tls = options_.tls;
  ConnectionEvents* const events = this;
  auto wire = std::make_shared<Wire>(
      events, options_.limits, HelloTo(node),
      rpc::MessageStream::Dial(options_.io->executor(node.value % options_.io->size()), options,
                               peer.endpoint, kExchangeMethod, peer.certificate_name),
      /*dialed=*/true);
  wire->set_peer(node);
  if (Register(wire)) wire->Run();
}

bool Network::Register(const std::shared_ptr<Connection>& connection) {
  std::unique_lock lock(mutex_);
  if (stopping_) return false;
  alive_.insert(connection);
  return true;
}

void Network::AddTo(rpc::StreamServer* server) {
  server->Add(kExchangeMethod,
              [this](const std::shared_ptr<rpc::MessageStream>& stream,
                     grpc::Status* refusal) -> std::shared_ptr<Wire> {
                ConnectionEvents* const events = this;
                auto wire =
                    std::make_shared<Wire>(events, options_.limits, HelloTo(NodeId()), stream,
                                           /*dialed=*/false);
                if (Register(wire)) return wire;
                *refusal = rpc::ToGrpc(Unavailable("the node is stopping"));
                return nullptr;
              });
}

proto::RoutingHello Network::HelloTo(NodeId peer) const {
  proto::RoutingHello hello;
  hello.set_cluster_id(options_.cluster_id);
  hello.set_node(options_.self.value);
  hello.set_boot(options_.boot);
  hello.set_to(peer.value);
  hello.mutable_wire_versions()->set_oldest(options_.oldest_version);
  hello.mutable_wire_versions()->set_newest(options_.newest_version);
  return hello;
}

Status Network::CheckHello(const Connection& connection, const proto::RoutingHello& hello) const {
  const NodeId node(hello.node());
  if (hello.cluster_id() != options_.cluster_id) {
    return {Code::kInvalidArgument, "node " + node.ToString() + " belongs to cluster " +
                                        hello.cluster_id() + ", this one to " +
                                        options_.cluster_id};
  }
  if (hello.to() != 0 && NodeId(hello.to()) != options_.self) {
    return {Code::kInvalidArgument, "node " + std::to_string(hello.to()) +
                                        " was meant, this is node " + options_.self.ToString()};
  }
  if (hello.wire_versions().oldest() > options_.newest_version ||
      hello.wire_versions().newest() < options_.oldest_version) {
    return {Code::kInvalidArgument, "node " + node.ToString() + " speaks other wire versions"};
  }
  if (connection.peer() != NodeId() && connection.peer() != node) {
    return {Code::kInvalidArgument, "node " + connection.peer().ToString() + " was called, node " +
                                        node.ToString() + " answered"};
  }
  return Status::Ok();
}

Status Network::OnHello(const std::shared_ptr<Connection>& connection,
                        const proto::RoutingHello& hello) {
  RETURN_IF_ERROR(CheckHello(*connection, hello));
  const NodeId node(hello.node());
  std::shared_ptr<Connection> replaced;
  {
    std::unique_lock lock(mutex_);
    if (stopping_) return Unavailable("the node is stopping");
    const auto found = links_.find(node);
    if (found == links_.end()) {
      return Unavailable("node " + node.ToString() + " is not known here (yet)");
    }
    Link& link = found->second;
    if (options_.tls != nullptr && !link.peer.certificate_name.empty() &&
        !static_cast<const Wire&>(*connection).IsNamed(link.peer.certificate_name)) {
      return {Code::kInvalidArgument, "the certificate is not that of node " + node.ToString()};
    }
    connection->set_peer(node);
    replaced = std::move(link.connection);
    link.connection = connection;
    link.dialing = false;
    link.redial = std::chrono::milliseconds(0);
    link.last_error = Status::Ok();
  }
  if (replaced != nullptr) replaced->Close(Unavailable("a newer connection has taken its place"));
  return Status::Ok();
}

void Network::OnReady(const std::shared_ptr<Connection>& connection) {
  if (on_connected_) on_connected_(connection->peer());
}

void Network::OnRequests(const std::shared_ptr<Connection>& connection, RoutingFrame* frame) {
  if (handler_ != nullptr) handler_->OnRequests(connection, frame);
}

void Network::OnClosed(const std::shared_ptr<Connection>& connection, const Status& reason) {
  const bool dialed = static_cast<const Wire&>(*connection).dialed();
  if (handler_ != nullptr) handler_->OnClosed(connection);
  bool tell = false, was_connected = false;
  {
    std::unique_lock lock(mutex_);
    const auto found = links_.find(connection->peer());
    if (found != links_.end()) {
      Link& link = found->second;
      was_connected = link.connection == connection;
      if (was_connected) link.connection = nullptr;
      if (dialed && (was_connected || link.connection == nullptr)) {
        link.dialing = false;
        link.redial = std::clamp(link.redial * 2, options_.min_redial, options_.max_redial);
        const auto jitter =
            link.redial.count() / 2 +
            static_cast<int64_t>(FastRandom() % static_cast<uint64_t>(link.redial.count() + 1));
        link.next_dial = std::chrono::steady_clock::now() +
                         std::chrono::milliseconds(was_connected ? 0 : jitter);
        tell = !stopping_ && (was_connected || link.last_error != reason);
        link.last_error = reason;
      } else {
        tell = was_connected && !stopping_;
      }
    }
    if (dialed && !was_connected && !stopping_ && dial_failures_ != nullptr) dial_failures_->Add();
  }
  if (tell) {
    log::Warn(was_connected ? "a connection with a node has ended" : "cannot connect to a node",
              "node", connection->peer(), "reason", reason);
  }
  std::unique_lock lock(mutex_);
  frames_of_the_past_ += connection->frames_sent();
  alive_.erase(connection);
  if (alive_.empty()) all_closed_.notify_all();
}

}  // namespace onggi::routing
