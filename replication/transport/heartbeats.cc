#include "common/log.h"
#include "common/rpc/channel.h"
#include "common/runtime.h"
#include "replication/transport/stream_transport_impl.h"

namespace onggi::transport {

void StreamTransport::Impl::Run() {
  SetThreadName("transport");
  SteadyClock::time_point next_heartbeat = SteadyClock::now();
  while (!stopping_) {
    const SteadyClock::time_point now = SteadyClock::now();
    const bool heartbeat_due = now >= next_heartbeat;
    if (heartbeat_due) {
      // From now, not from when it was due: after a pause there is no burst.
      next_heartbeat = now + lease::kHeartbeatInterval;
      healthy_ = Healthy();
      options_.leases->Stall(!healthy_);
    }
    for (PeerLink* link : Links()) Attend(link, heartbeat_due, healthy_);
    ClosePending();
    const SteadyClock::time_point next = std::min(next_heartbeat, NextAttention());
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, next, [this] { return wake_ || stopping_; });
    wake_ = false;
  }
}

bool StreamTransport::Impl::Healthy() {
  const bool healthy = !options_.healthy || options_.healthy();
  if (healthy != healthy_) {
    if (healthy) {
      log::Info("heartbeats go on: the disk answers again");
    } else {
      log::Error("heartbeats stop: the disk does not answer");
    }
  }
  return healthy;
}

void StreamTransport::Impl::Attend(PeerLink* link, bool heartbeat_due, bool healthy) {
  std::shared_ptr<Stream> stream;
  std::shared_ptr<Stream> late;
  std::string silent;
  bool dial = false;
  {
    std::scoped_lock lock(link->mutex);
    stream = link->stream;
    const SteadyClock::time_point now = SteadyClock::now();
    if (stream != nullptr) {
      const lease::BootTime boot_now = lease::Now();
      if (boot_now > link->heard_until) {
        silent = "no heartbeat for a lease's length";
      } else if (boot_now > link->leased_until) {
        silent = "its lease has lapsed";
      }
    } else if (link->dialing != nullptr) {
      if (now - link->dialing->begun_at > options_.hello_timeout) {
        late = link->dialing;
        link->error = "no answer";
      }
    } else {
      dial = link->wanted && healthy && options_.self < link->id && now >= link->next_dial;
    }
  }
  if (!silent.empty()) {
    Lose(link, stream, silent);
  } else if (stream != nullptr && heartbeat_due && healthy) {
    QueueHeartbeat(link);
    link->Flush(bounds_);
  }
  if (late != nullptr) late->Close({grpc::StatusCode::DEADLINE_EXCEEDED, "no answer"});
  if (dial) Dial(link);
}

void StreamTransport::Impl::QueueHeartbeat(PeerLink* link) {
  std::optional<lease::Heartbeat> heartbeat =
      options_.leases->OnSendHeartbeat(link->id, lease::Now());
  std::scoped_lock lock(link->mutex);
  if (heartbeat && link->stream != nullptr) link->heartbeat = std::move(heartbeat);
}

void StreamTransport::Impl::Dial(PeerLink* link) {
  std::string endpoint;
  std::string name;
  {
    std::scoped_lock lock(link->mutex);
    endpoint = link->config.endpoint;
    name = link->config.certificate_name;
  }
  const std::shared_ptr<Stream> stream =
      Stream::Dial(this, options_.io->executor(link->id.value % options_.io->size()),
                   stream_options_, endpoint, name, MyHello(link->id));
  {
    std::scoped_lock lock(link->mutex, mutex_);
    if (stopping_ || !link->wanted || link->config.endpoint != endpoint) return;
    link->dialing = stream;
    live_.insert(stream);
  }
  stream->Begin();
}

void StreamTransport::Impl::ClosePending() {
  std::vector<std::shared_ptr<Stream>> late;
  {
    std::scoped_lock lock(mutex_);
    const SteadyClock::time_point now = SteadyClock::now();
    for (const auto& stream : pending_) {
      if (now - stream->begun_at > options_.hello_timeout) late.push_back(stream);
    }
  }
  for (const auto& stream : late) {
    stream->Close({grpc::StatusCode::DEADLINE_EXCEEDED, "no Hello"});
  }
}

StreamTransport::Impl::SteadyClock::time_point StreamTransport::Impl::NextAttention() const {
  SteadyClock::time_point next = SteadyClock::time_point::max();
  for (PeerLink* link : Links()) {
    std::scoped_lock lock(link->mutex);
    const bool dials = link->wanted && options_.self < link->id && healthy_ &&
                       link->stream == nullptr && link->dialing == nullptr;
    if (dials) next = std::min(next, link->next_dial);
  }
  return next;
}

}  // namespace onggi::transport
