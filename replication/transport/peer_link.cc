#include "replication/transport/peer_link.h"

#include <boost/asio/post.hpp>

namespace onggi::transport {
namespace {

/// Messages of one frame at most, so that its decoding takes a bounded time too.
constexpr size_t kMaxFrameMessages = 4096;

}  // namespace

LinkMetrics::LinkMetrics(metrics::Registry* registry, NodeId peer)
    : sent_bytes(registry->AddCounter("onggi_transport_sent_bytes_total",
                                      "Bytes of frames sent to a peer node",
                                      {{"peer", peer.ToString()}})),
      sent_frames(registry->AddCounter("onggi_transport_sent_frames_total",
                                       "Frames sent to a peer node", {{"peer", peer.ToString()}})),
      sent_messages(registry->AddCounter("onggi_transport_sent_messages_total",
                                         "Replication messages sent to a peer node",
                                         {{"peer", peer.ToString()}})),
      received_bytes(registry->AddCounter("onggi_transport_received_bytes_total",
                                          "Bytes of frames received from a peer node",
                                          {{"peer", peer.ToString()}})),
      received_frames(registry->AddCounter("onggi_transport_received_frames_total",
                                           "Frames received from a peer node",
                                           {{"peer", peer.ToString()}})),
      received_messages(registry->AddCounter("onggi_transport_received_messages_total",
                                             "Replication messages received from a peer node",
                                             {{"peer", peer.ToString()}})),
      dropped(registry->AddCounter("onggi_transport_dropped_messages_total",
                                   "Messages to a peer node dropped: not connected, or over bound",
                                   {{"peer", peer.ToString()}})),
      connections(registry->AddCounter("onggi_transport_connections_total",
                                       "Connections made with a peer node",
                                       {{"peer", peer.ToString()}})),
      lost(registry->AddCounter("onggi_transport_lost_total", "Connections lost with a peer node",
                                {{"peer", peer.ToString()}})),
      connected(registry->AddGauge("onggi_transport_connected", "1 while a peer node is connected",
                                   {{"peer", peer.ToString()}})),
      queued_bytes(registry->AddGauge("onggi_transport_queued_bytes",
                                      "Bytes waiting to be sent to a peer node",
                                      {{"peer", peer.ToString()}})),
      round_trip(registry->AddLatency("onggi_transport_heartbeat_seconds",
                                      "From a heartbeat to its acknowledgement, by peer node",
                                      {{"peer", peer.ToString()}})) {}

bool PeerLink::Queue(GroupMessage message, uint64_t wanted_boot, const Bounds& bounds) {
  const size_t bytes = QueuedBytes(message);
  const bool append = std::holds_alternative<Append>(message.body);
  std::scoped_lock lock(mutex);
  // Acknowledgements are small, and their number is bounded by what the peer sends: they get as
  // much again, so that a full queue of Appends does not hold them back.
  if (stream == nullptr || (wanted_boot != 0 && wanted_boot != boot) ||
      (append ? bulk_bytes : urgent_bytes) + bytes > bounds.queued_bytes) {
    metrics.dropped.Add();
    return false;
  }
  (append ? bulk_bytes : urgent_bytes) += bytes;
  (append ? bulk : urgent).push_back(std::move(message));
  metrics.queued_bytes.Add(static_cast<int64_t>(bytes));
  return true;
}

void PeerLink::Flush(const Bounds& bounds) {
  while (WriteFrame(bounds)) {
  }
}

void PeerLink::FlushSoon(const IoPool::Executor& executor, const Bounds& bounds) {
  const std::thread::id self = std::this_thread::get_id();
  if (flusher_.exchange(self) == self) return;
  boost::asio::post(executor, [this, self, bounds] {
    std::thread::id due = self;
    flusher_.compare_exchange_strong(due, std::thread::id());
    Flush(bounds);
  });
}

/// Writes one frame, if none is being written and there is something to say. True: it has been
/// taken over already.
bool PeerLink::WriteFrame(const Bounds& bounds) {
  std::shared_ptr<Stream> to;
  std::optional<Hello> first;
  std::optional<lease::Heartbeat> beat;
  std::optional<lease::HeartbeatAck> beat_ack;
  std::vector<GroupMessage> messages;
  {
    std::scoped_lock lock(mutex);
    if (stream == nullptr || stream->writing) return false;
    if (!hello && !heartbeat && !ack && urgent.empty() && bulk.empty()) return false;
    to = stream;
    to->writing = true;
    first = std::exchange(hello, std::nullopt);
    beat = std::exchange(heartbeat, std::nullopt);
    beat_ack = std::exchange(ack, std::nullopt);
    size_t frame_bytes = 0;
    const auto take = [&](std::deque<GroupMessage>* queue, size_t* queue_bytes) {
      while (!queue->empty() && messages.size() < kMaxFrameMessages) {
        const size_t bytes = QueuedBytes(queue->front());
        if (!messages.empty() && frame_bytes + bytes > bounds.frame_bytes) return;
        frame_bytes += bytes;
        *queue_bytes -= bytes;
        messages.push_back(std::move(queue->front()));
        queue->pop_front();
      }
    };
    take(&urgent, &urgent_bytes);
    take(&bulk, &bulk_bytes);
    metrics.queued_bytes.Add(-static_cast<int64_t>(frame_bytes));
  }
  // Only one thread at a time comes here for a stream: `writing` is its turn.
  FrameWriter& writer = *to->writer;
  if (first) writer.Set(*first);
  if (beat) writer.Set(*beat);
  if (beat_ack) writer.Set(*beat_ack);
  for (const GroupMessage& message : messages) writer.Add(message);
  size_t size = 0;
  std::vector<FramePiece> pieces = writer.Finish(&size);
  metrics.sent_frames.Add();
  metrics.sent_messages.Add(messages.size());
  metrics.sent_bytes.Add(size);
  return to->Write(std::move(pieces)) && Written(to);
}

bool PeerLink::Written(const std::shared_ptr<Stream>& written) {
  std::scoped_lock lock(mutex);
  written->writing = false;
  return stream == written;
}

void PeerLink::DropQueues() {
  metrics.dropped.Add(urgent.size() + bulk.size());
  metrics.queued_bytes.Add(-static_cast<int64_t>(urgent_bytes + bulk_bytes));
  urgent.clear();
  bulk.clear();
  urgent_bytes = 0;
  bulk_bytes = 0;
  hello.reset();
  heartbeat.reset();
  ack.reset();
}

}  // namespace onggi::transport
