#include "replication/transport/stream_transport.h"

#include "common/check.h"
#include "common/log.h"
#include "common/rpc/channel.h"
#include "replication/transport/stream_transport_impl.h"

namespace onggi::transport {
namespace {

/// How long a peer may take to hear that this node stops.
constexpr std::chrono::milliseconds kStopPatience{200};

grpc::Status Refusal(const std::string& reason) {
  return {grpc::StatusCode::FAILED_PRECONDITION, reason};
}

}  // namespace

// StreamTransport
// -----------------------------------------------------------------------------------

StreamTransport::StreamTransport(TransportOptions options, MessageHandler* handler)
    : impl_(std::make_unique<Impl>(std::move(options), handler)) {}
StreamTransport::~StreamTransport() { Stop(); }

void StreamTransport::AddTo(rpc::StreamServer* server) { impl_->AddTo(server); }
void StreamTransport::Start() { impl_->Start(); }
void StreamTransport::Stop() { impl_->Stop(); }
bool StreamTransport::Send(NodeId to, GroupMessage message, uint64_t boot) {
  return impl_->Send(to, std::move(message), boot);
}
bool StreamTransport::Connected(NodeId peer) const { return impl_->Connected(peer); }
uint64_t StreamTransport::Boot(NodeId peer) const { return impl_->Boot(peer); }
void StreamTransport::SetPeers(std::map<NodeId, Peer> peers) { impl_->SetPeers(std::move(peers)); }
std::string StreamTransport::LastError(NodeId peer) const { return impl_->LastError(peer); }

// Lifecycle ---------------------------------------------------------------------------------------

namespace {

rpc::MessageStream::Options StreamOptions(const TransportOptions& options) {
  rpc::MessageStream::Options made;
  made.tls = options.tls;
  made.connect_timeout = options.hello_timeout;
  made.linger = kStopPatience;
  return made;
}

}  // namespace

StreamTransport::Impl::Impl(TransportOptions options, MessageHandler* handler)
    : options_(std::move(options)),
      bounds_{options_.max_queued_bytes, options_.max_frame_bytes},
      handler_(handler),
      stream_options_(StreamOptions(options_)) {
  CHECK(options_.self.value != 0 && options_.boot != 0);
  CHECK(options_.leases != nullptr && options_.metrics != nullptr && options_.io != nullptr);
}

void StreamTransport::Impl::AddTo(rpc::StreamServer* server) {
  server->Add(kExchangeMethod, [this](const std::shared_ptr<rpc::MessageStream>& wire,
                                      grpc::Status* refusal) { return Accept(wire, refusal); });
}

void StreamTransport::Impl::Start() {
  std::scoped_lock lock(mutex_);
  CHECK(!started_ && !stopping_);
  started_ = true;
  thread_ = std::thread([this] { Run(); });
}

void StreamTransport::Impl::Stop() {
  {
    std::scoped_lock lock(mutex_);
    if (stopping_.exchange(true)) return;
    wake_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (PeerLink* link : Links()) {
    // With `delivery` held once, no call of the handler is under way, and none begins.
    std::scoped_lock lock(link->delivery, link->mutex);
    link->stream = nullptr;
    link->DropQueues();
    link->metrics.connected.Set(0);
  }
  std::unique_lock lock(mutex_);
  const std::set<std::shared_ptr<Stream>> streams = live_;
  lock.unlock();
  // Whoever called is told why; gRPC has no such word for whoever answered.
  const grpc::Status why(grpc::StatusCode::UNAVAILABLE, "the node is stopping");
  for (const auto& stream : streams) stream->Close(why);
  lock.lock();
  changed_.wait(lock, [this] { return live_.empty(); });
}

void StreamTransport::Impl::Wake() {
  {
    std::scoped_lock lock(mutex_);
    wake_ = true;
  }
  changed_.notify_all();
}

// Peers -------------------------------------------------------------------------------------------

PeerLink* StreamTransport::Impl::Find(NodeId peer) const {
  std::shared_lock lock(links_mutex_);
  const auto it = links_.find(peer);
  return it == links_.end() ? nullptr : it->second.get();
}

std::vector<PeerLink*> StreamTransport::Impl::Links() const {
  std::shared_lock lock(links_mutex_);
  std::vector<PeerLink*> links;
  links.reserve(links_.size());
  for (const auto& [id, link] : links_) links.push_back(link.get());
  return links;
}

void StreamTransport::Impl::SetPeers(std::map<NodeId, Peer> peers) {
  peers.erase(options_.self);
  {
    std::unique_lock lock(links_mutex_);
    for (const auto& [id, peer] : peers) {
      std::unique_ptr<PeerLink>& link = links_[id];
      if (link == nullptr) link = std::make_unique<PeerLink>(id, options_.metrics);
    }
  }
  for (PeerLink* link : Links()) {
    const auto it = peers.find(link->id);
    const bool wanted = it != peers.end();
    std::shared_ptr<Stream> stream;
    std::shared_ptr<Stream> dialing;
    {
      std::scoped_lock lock(link->mutex);
      if (wanted == link->wanted && (!wanted || it->second == link->config)) continue;
      link->wanted = wanted;
      if (wanted) link->config = it->second;
      link->backoff = std::chrono::milliseconds(0);
      link->next_dial = SteadyClock::now();
      link->error.clear();
      stream = link->stream;
      dialing = link->dialing;
    }
    const std::string reason = wanted ? "the peer's address has changed" : "no longer a member";
    if (stream != nullptr) Lose(link, stream, reason);
    if (dialing != nullptr) dialing->Close({grpc::StatusCode::CANCELLED, reason});
  }
  Wake();
}

bool StreamTransport::Impl::Send(NodeId to, GroupMessage message, uint64_t boot) {
  PeerLink* link = Find(to);
  if (link == nullptr || !link->Queue(std::move(message), boot, bounds_)) return false;
  const size_t thread =
      options_.senders == nullptr ? IoPool::kNotAnIoThread : options_.senders->current();
  if (thread == IoPool::kNotAnIoThread) {
    link->Flush(bounds_);
  } else {
    link->FlushSoon(options_.senders->executor(thread), bounds_);
  }
  return true;
}

bool StreamTransport::Impl::Connected(NodeId peer) const { return Boot(peer) != 0; }

uint64_t StreamTransport::Impl::Boot(NodeId peer) const {
  PeerLink* link = Find(peer);
  if (link == nullptr) return 0;
  std::scoped_lock lock(link->mutex);
  return link->stream != nullptr ? link->boot : 0;
}

std::string StreamTransport::Impl::LastError(NodeId peer) const {
  PeerLink* link = Find(peer);
  if (link == nullptr) return "not a peer";
  std::scoped_lock lock(link->mutex);
  return link->stream != nullptr ? "" : link->error;
}

// Streams -----------------------------------------------------------------------------------------

std::shared_ptr<Stream> StreamTransport::Impl::Accept(std::shared_ptr<rpc::MessageStream> wire,
                                                      grpc::Status* refusal) {
  std::scoped_lock lock(mutex_);
  if (stopping_ || !started_) {
    *refusal = {grpc::StatusCode::UNAVAILABLE, "the node is not ready"};
    return nullptr;
  }
  if (pending_.size() >= kMaxPending) {
    *refusal = {grpc::StatusCode::UNAVAILABLE, "too many connections"};
    return nullptr;
  }
  std::shared_ptr<Stream> stream = Stream::Accept(this, std::move(wire), options_.self);
  pending_.insert(stream);
  live_.insert(stream);
  return stream;
}

Hello StreamTransport::Impl::MyHello(NodeId to) const {
  Hello hello;
  hello.cluster_id = options_.cluster_id;
  hello.node = options_.self;
  hello.boot = options_.boot;
  hello.min_version = options_.min_version;
  hello.max_version = options_.max_version;
  hello.to = to;
  hello.software_version = options_.software_version;
  return hello;
}

Status StreamTransport::Impl::CheckHello(const Hello& hello, const Stream& stream, PeerLink* link) {
  if (hello.cluster_id != options_.cluster_id) {
    return InvalidArgument("wrong cluster: this node belongs to \"" + options_.cluster_id +
                           "\", not to \"" + hello.cluster_id + "\"");
  }
  if (hello.to != options_.self) {
    return InvalidArgument("wrong node: this is node " + options_.self.ToString() + ", not node " +
                           hello.to.ToString());
  }
  if (hello.node == options_.self) {
    return InvalidArgument("two nodes have the id " + hello.node.ToString());
  }
  if (stream.dialed() && hello.node != stream.peer) {
    return InvalidArgument("wrong node: node " + hello.node.ToString() + " answers, not node " +
                           stream.peer.ToString());
  }
  if (hello.boot == 0) return InvalidArgument("no boot number");
  if (std::min(hello.max_version, options_.max_version) <
      std::max(hello.min_version, options_.min_version)) {
    return InvalidArgument("wire versions " + std::to_string(hello.min_version) + " to " +
                           std::to_string(hello.max_version) + " are not spoken here, but " +
                           std::to_string(options_.min_version) + " to " +
                           std::to_string(options_.max_version));
  }
  if (link == nullptr) {
    return Unavailable("node " + hello.node.ToString() + " is not a member known here");
  }
  std::string name;
  {
    std::scoped_lock lock(link->mutex);
    if (!link->wanted) {
      return Unavailable("node " + hello.node.ToString() + " is not a member known here");
    }
    for (const uint64_t boot : link->superseded) {
      if (boot == hello.boot) {
        return InvalidArgument("stale: node " + hello.node.ToString() +
                               " has been started again since");
      }
    }
    name = link->config.certificate_name.empty() ? rpc::EndpointHost(link->config.endpoint)
                                                 : link->config.certificate_name;
  }
  if (options_.tls != nullptr && !rpc::IsNamed(stream.peer_names(), name)) {
    return InvalidArgument("wrong certificate: it does not carry \"" + name +
                           "\", the name of node " + hello.node.ToString());
  }
  if (!healthy_) return Unavailable("this node's disk does not answer");
  return Status::Ok();
}

void StreamTransport::Impl::Refuse(const std::shared_ptr<Stream>& stream, PeerLink* link,
                                   const std::string& reason) {
  static log::RateLimit limit(std::chrono::seconds(5));
  if (const uint64_t times = limit.Allow()) {
    log::Warn("peer refused", "peer", stream->peer, "address", stream->peer_address(), "reason",
              reason, "times", times);
  }
  if (link != nullptr) {
    std::scoped_lock lock(link->mutex);
    link->error = reason;
  }
  if (stream->dialed()) {
    // The other side is to know why too: it ends the stream once it has read this. Its first frame,
    // the Hello, has been written, or it would not have answered.
    bool free = false;
    if (link != nullptr) {
      std::scoped_lock lock(link->mutex);
      free = !std::exchange(stream->writing, true);
    }
    if (free) {
      stream->writer->SetGoodbye(reason);
      size_t size = 0;
      (void)stream->Write(stream->writer->Finish(&size));
      return;
    }
  }
  stream->Close(Refusal(reason));
}

void StreamTransport::Impl::OnHello(const std::shared_ptr<Stream>& stream, FrameContent content) {
  const Hello hello = *std::exchange(content.hello, std::nullopt);
  PeerLink* link = Find(hello.node);
  if (!stream->dialed()) {
    stream->peer = hello.node;
    stream->reader->set_peer(hello.node);
  }
  const Status status = CheckHello(hello, *stream, link);
  if (!status.ok()) {
    Refuse(stream, link != nullptr ? link : Find(stream->peer), status.message());
    return;
  }
  std::shared_ptr<Stream> before;
  bool flush = false;
  {
    std::scoped_lock delivery(link->delivery);
    if (stopping_) return;
    before = Detach(link, "connected again");
    {
      std::scoped_lock lock(link->mutex);
      if (stream->dialed() && link->dialing != stream) return;  // given up meanwhile
      link->dialing = nullptr;
      link->stream = stream;
      stream->established = true;
      link->boot = hello.boot;
      if (link->last_boot != hello.boot && link->last_boot != 0) {
        link->superseded.push_back(link->last_boot);
        if (link->superseded.size() > kMaxSuperseded) link->superseded.pop_front();
      }
      link->last_boot = hello.boot;
      link->established_at = SteadyClock::now();
      const lease::BootTime now = lease::Now();
      link->heard_until = now + lease::kLease;
      link->leased_until = now + lease::kLease;
      link->error.clear();
      if (!stream->dialed()) link->hello = MyHello(hello.node);
      link->metrics.connections.Add();
      link->metrics.connected.Set(1);
    }
    if (!stream->dialed()) {
      std::scoped_lock lock(mutex_);
      pending_.erase(stream);
    }
    log::Info("peer connected", "peer", hello.node, "address", stream->peer_address(), "version",
              hello.software_version, "dialed", stream->dialed());
    handler_->OnPeerConnected(hello.node, hello.boot);
    QueueHeartbeat(link);
    TakeIn(link, std::move(content), &flush);
  }
  if (before != nullptr) before->Close({grpc::StatusCode::CANCELLED, "connected again"});
  link->Flush(bounds_);
}

void StreamTransport::Impl::OnFrame(const std::shared_ptr<Stream>& stream, std::string_view frame) {
  FrameContent content;
  const Status status = stream->reader->Read(frame, &content);
  PeerLink* link = stream->peer.value != 0 ? Find(stream->peer) : nullptr;
  if (!status.ok()) {
    log::Error("damaged frame", "peer", stream->peer, "address", stream->peer_address(), "status",
               status);
    stream->Close(Refusal(status.message()));
    return;
  }
  if (content.goodbye) {
    const std::string reason = "refused by the other side: " + *content.goodbye;
    if (stream->established) {
      Lose(link, stream, reason);
    } else {
      stream->Close(Refusal(reason));
    }
    return;
  }
  if (!stream->established) {
    if (content.hello) {
      OnHello(stream, std::move(content));
    } else {
      stream->Close(Refusal("a stream begins with a Hello"));
    }
    return;
  }
  link->metrics.received_frames.Add();
  link->metrics.received_bytes.Add(frame.size());
  link->metrics.received_messages.Add(content.messages.size());
  Deliver(link, stream, std::move(content));
}

void StreamTransport::Impl::Deliver(PeerLink* link, const std::shared_ptr<Stream>& stream,
                                    FrameContent content) {
  bool flush = false;
  {
    std::scoped_lock delivery(link->delivery);
    if (stopping_) return;
    {
      std::scoped_lock lock(link->mutex);
      if (link->stream != stream) return;
    }
    TakeIn(link, std::move(content), &flush);
  }
  if (flush) link->Flush(bounds_);
}

void StreamTransport::Impl::TakeIn(PeerLink* link, FrameContent content, bool* flush) {
  const lease::BootTime now = lease::Now();
  uint64_t boot;
  {
    std::scoped_lock lock(link->mutex);
    boot = link->boot;
  }
  // Acknowledgements first: what they except is fenced before anything else is believed (R5). The
  // stream belongs to one process of the peer: what names another is not its word.
  if (content.heartbeat_ack && content.heartbeat_ack->boot == boot) {
    lease::HeartbeatAck& ack = *content.heartbeat_ack;
    const bool complete = ack.complete;
    if (ack.to_boot == options_.boot) link->metrics.round_trip.Observe(now - ack.sent_at);
    for (lease::NewerConfiguration& newer : options_.leases->OnHeartbeatAck(ack)) {
      handler_->OnNewerConfiguration(link->id, std::move(newer));
    }
    if (ack.to_boot == options_.boot) {
      std::scoped_lock lock(link->mutex);
      link->leased_until =
          std::max(link->leased_until, ack.sent_at + lease::kLease - lease::kMargin);
    }
    if (!complete) {
      // It goes on with what is left as soon as this part is confirmed.
      QueueHeartbeat(link);
      *flush = true;
    }
  }
  if (content.heartbeat && content.heartbeat->boot == boot) {
    std::optional<lease::HeartbeatAck> ack;
    if (healthy_) ack = options_.leases->OnHeartbeat(*content.heartbeat, lease::Now());
    std::scoped_lock lock(link->mutex);
    link->heard_until = now + lease::kLease;
    if (ack && link->stream != nullptr) {
      link->ack = std::move(ack);
      *flush = true;
    }
  }
  if (content.messages.empty()) return;
  for (GroupMessage& message : content.messages) {
    handler_->OnMessage(link->id, boot, std::move(message));
  }
  handler_->OnMessagesEnd(link->id);
}

void StreamTransport::Impl::OnWritten(const std::shared_ptr<Stream>& stream) {
  PeerLink* link = Find(stream->peer);
  if (link != nullptr && link->Written(stream)) link->Flush(bounds_);
}

std::shared_ptr<Stream> StreamTransport::Impl::Detach(PeerLink* link, const std::string& reason) {
  std::shared_ptr<Stream> stream;
  {
    std::scoped_lock lock(link->mutex);
    stream = std::exchange(link->stream, nullptr);
    if (stream == nullptr) return nullptr;
    link->DropQueues();
    link->error = reason;
    link->metrics.connected.Set(0);
    link->metrics.lost.Add();
    DialLater(link);
  }
  log::Warn("peer lost", "peer", link->id, "reason", reason);
  handler_->OnPeerLost(link->id);
  return stream;
}

void StreamTransport::Impl::Lose(PeerLink* link, const std::shared_ptr<Stream>& stream,
                                 const std::string& reason) {
  std::shared_ptr<Stream> detached;
  {
    std::scoped_lock delivery(link->delivery);
    if (stopping_) return;
    {
      std::scoped_lock lock(link->mutex);
      if (link->stream != stream) return;
    }
    detached = Detach(link, reason);
  }
  if (detached != nullptr) detached->Close({grpc::StatusCode::CANCELLED, reason});
  Wake();
}

void StreamTransport::Impl::DialLater(PeerLink* link) {
  const SteadyClock::time_point now = SteadyClock::now();
  // A connection that lasted says that the peer is well: try again at once.
  if (link->established_at != SteadyClock::time_point() &&
      now - link->established_at > std::chrono::seconds(1)) {
    link->backoff = std::chrono::milliseconds(0);
  }
  link->established_at = SteadyClock::time_point();
  link->next_dial = now + link->backoff;
  link->backoff = std::clamp(link->backoff * 2, options_.min_backoff, options_.max_backoff);
}

void StreamTransport::Impl::OnEnded(const std::shared_ptr<Stream>& stream,
                                    const grpc::Status& status) {
  PeerLink* link = stream->peer.value != 0 ? Find(stream->peer) : nullptr;
  if (link != nullptr) {
    const std::string reason = status.ok() || status.error_message().empty()
                                   ? std::string("the connection was closed")
                                   : status.error_message();
    Lose(link, stream, reason);
    {
      std::scoped_lock lock(link->mutex);
      if (link->dialing == stream) {
        link->dialing = nullptr;
        // Our own reason to refuse says more than the end that it led to.
        if (link->error.empty() || status.error_code() == grpc::StatusCode::FAILED_PRECONDITION ||
            status.error_code() == grpc::StatusCode::UNAVAILABLE) {
          link->error = reason;
        }
        DialLater(link);
        static log::RateLimit limit(std::chrono::seconds(10));
        if (const uint64_t times = limit.Allow()) {
          log::Warn("peer not reached", "peer", link->id, "address", link->config.endpoint,
                    "reason", link->error, "times", times);
        }
      }
    }
    Wake();
  }
  std::scoped_lock lock(mutex_);
  pending_.erase(stream);
  live_.erase(stream);
  // Under the lock: Stop() may return, and this object end, as soon as it is released.
  changed_.notify_all();
}

}  // namespace onggi::transport
