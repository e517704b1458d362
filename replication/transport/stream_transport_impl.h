#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "replication/transport/peer_link.h"
#include "replication/transport/stream.h"
#include "replication/transport/stream_transport.h"

namespace onggi::transport {

/// StreamTransport's insides: stream_transport.cc has connections, heartbeats.cc its thread.
///
/// Locks in order: a link's `delivery`, a link's `mutex`, then links_mutex_ or mutex_. A stream is
/// closed with none of them held.
class StreamTransport::Impl final : public Stream::Events {
 public:
  using SteadyClock = PeerLink::SteadyClock;

  Impl(TransportOptions options, MessageHandler* handler);

  void AddTo(rpc::StreamServer* server);
  void Start();
  void Stop();
  bool Send(NodeId to, GroupMessage message, uint64_t boot);
  bool Connected(NodeId peer) const;
  uint64_t Boot(NodeId peer) const;
  void SetPeers(std::map<NodeId, Peer> peers);
  std::string LastError(NodeId peer) const;

  void OnFrame(const std::shared_ptr<Stream>& stream, std::string_view frame) override;
  void OnWritten(const std::shared_ptr<Stream>& stream) override;
  void OnEnded(const std::shared_ptr<Stream>& stream, const grpc::Status& status) override;

 private:
  /// Connections that have not said Hello; more are refused.
  static constexpr size_t kMaxPending = 256;
  static constexpr size_t kMaxSuperseded = 8;

  // stream_transport.cc
  std::shared_ptr<Stream> Accept(std::shared_ptr<rpc::MessageStream> wire, grpc::Status* refusal);
  PeerLink* Find(NodeId peer) const;
  std::vector<PeerLink*> Links() const;
  Hello MyHello(NodeId to) const;
  /// Ok, or why the stream's other end is not to be talked to.
  Status CheckHello(const Hello& hello, const Stream& stream, PeerLink* link);
  void OnHello(const std::shared_ptr<Stream>& stream, FrameContent content);
  void Refuse(const std::shared_ptr<Stream>& stream, PeerLink* link, const std::string& reason);
  void Deliver(PeerLink* link, const std::shared_ptr<Stream>& stream, FrameContent content);
  void TakeIn(PeerLink* link, FrameContent content, bool* flush);
  /// The stream is no longer the link's: tells the handler. `delivery` is held; the caller closes
  /// the stream that is returned once it is not.
  std::shared_ptr<Stream> Detach(PeerLink* link, const std::string& reason);
  void Lose(PeerLink* link, const std::shared_ptr<Stream>& stream, const std::string& reason);
  /// `mutex` is held.
  void DialLater(PeerLink* link);
  void Wake();

  // heartbeats.cc
  void Run();
  bool Healthy();
  void Attend(PeerLink* link, bool heartbeat_due, bool healthy);
  void QueueHeartbeat(PeerLink* link);
  void Dial(PeerLink* link);
  void ClosePending();
  SteadyClock::time_point NextAttention() const;

  const TransportOptions options_;
  const PeerLink::Bounds bounds_;
  MessageHandler* const handler_;
  const rpc::MessageStream::Options stream_options_;

  mutable std::shared_mutex links_mutex_;
  std::map<NodeId, std::unique_ptr<PeerLink>> links_;  // guarded by links_mutex_; only grows

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool started_ = false;                       // guarded by mutex_
  bool wake_ = false;                          // guarded by mutex_
  std::set<std::shared_ptr<Stream>> live_;     // guarded by mutex_: all that have not ended
  std::set<std::shared_ptr<Stream>> pending_;  // guarded by mutex_: accepted, no Hello yet
  std::atomic<bool> stopping_{false};
  std::atomic<bool> healthy_{true};
  std::thread thread_;
};

}  // namespace onggi::transport
