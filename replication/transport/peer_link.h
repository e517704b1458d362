#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/metrics.h"
#include "common/runtime.h"
#include "replication/transport/stream.h"
#include "replication/transport/transport.h"

namespace onggi::transport {

/// What is counted of one peer; docs/operating.md says what each is.
struct LinkMetrics {
  LinkMetrics(metrics::Registry* registry, NodeId peer);

  metrics::Counter& sent_bytes;
  metrics::Counter& sent_frames;
  metrics::Counter& sent_messages;
  metrics::Counter& received_bytes;
  metrics::Counter& received_frames;
  metrics::Counter& received_messages;
  metrics::Counter& dropped;
  metrics::Counter& connections;
  metrics::Counter& lost;
  metrics::Gauge& connected;
  metrics::Gauge& queued_bytes;
  metrics::Histogram& round_trip;
};

/// What the transport has of one other node: its stream, when there is one, and what waits to be
/// sent over it. Made when the node is first named, and kept: pointers to it stay good.
///
/// Two locks, `delivery` before `mutex`: `delivery` is held while the handler is told anything of
/// this peer, so that it is told in order; `mutex` guards the rest, and is a leaf.
class PeerLink {
 public:
  using SteadyClock = std::chrono::steady_clock;

  PeerLink(NodeId peer, metrics::Registry* registry) : id(peer), metrics(registry, peer) {}
  PeerLink(const PeerLink&) = delete;
  PeerLink& operator=(const PeerLink&) = delete;

  /// What Send is bounded by.
  struct Bounds {
    size_t queued_bytes = 0;
    size_t frame_bytes = 0;
  };

  /// Queues; false: dropped and counted. The caller then Flush()es.
  bool Queue(GroupMessage message, uint64_t wanted_boot, const Bounds& bounds);
  /// Writes a frame of what is queued, unless one is being written. Any thread, no lock held.
  void Flush(const Bounds& bounds);
  /// The same, on the calling thread, which runs `executor`, once what it has ready to run has run.
  void FlushSoon(const IoPool::Executor& executor, const Bounds& bounds);
  /// A frame was taken over. Returns whether another may go.
  bool Written(const std::shared_ptr<Stream>& stream);
  /// Drops what is queued.
  void DropQueues();

  const NodeId id;
  const LinkMetrics metrics;

  std::mutex delivery;

  std::mutex mutex;
  // All of the following are guarded by `mutex`.
  Peer config;
  bool wanted = false;             ///< SetPeers names it
  std::shared_ptr<Stream> stream;  ///< established; writing `delivery` too
  uint64_t boot = 0;               ///< of the stream's other end
  SteadyClock::time_point established_at;
  /// Both sides' heartbeats keep the connection: the peer's, and its acknowledgements of ours.
  lease::BootTime heard_until{0};
  lease::BootTime leased_until{0};

  std::optional<Hello> hello;  ///< to be sent first, on an accepted stream
  std::optional<lease::Heartbeat> heartbeat;
  std::optional<lease::HeartbeatAck> ack;
  std::deque<GroupMessage> urgent;  ///< all but Appends
  std::deque<GroupMessage> bulk;    ///< Appends
  size_t urgent_bytes = 0;
  size_t bulk_bytes = 0;

  std::shared_ptr<Stream> dialing;
  SteadyClock::time_point next_dial;
  std::chrono::milliseconds backoff{0};
  uint64_t last_boot = 0;
  /// Processes of the node that have been followed by another.
  std::deque<uint64_t> superseded;
  std::string error;  ///< why there is no connection

 private:
  bool WriteFrame(const Bounds& bounds);

  /// The thread whose FlushSoon() is still to come; that of another does not hold up its own.
  std::atomic<std::thread::id> flusher_{};
};

}  // namespace onggi::transport
