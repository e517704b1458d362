// Appends and acknowledgements between two transports in one process, over loopback: how many a
// second, at what CPU for both sides together, and how long one takes.
//
//     onggi_transport_bench [seconds] [payload bytes] [window] [appends per second, 0: no limit]
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "replication/transport/stream_transport.h"

namespace onggi::transport {
namespace {

using Clock = std::chrono::steady_clock;

class Node : public MessageHandler {
 public:
  explicit Node(uint64_t id) : id_(id), leases_(id_, id * 1000, lease::Now()) {
    TransportOptions options;
    options.cluster_id = "bench";
    options.self = id_;
    options.boot = id * 1000;
    options.leases = &leases_;
    options.metrics = &metrics_;
    options.io = &io_;
    transport = std::make_unique<StreamTransport>(options, this);
    transport->AddTo(&server_);
    CHECK(server_.Start("127.0.0.1:0").ok());
    transport->Start();
  }
  ~Node() override {
    transport->Stop();
    server_.Stop();
  }

  void OnPeerConnected(NodeId, uint64_t) override { connected = true; }
  void OnPeerLost(NodeId) override { std::fprintf(stderr, "peer lost\n"); }
  void OnNewerConfiguration(NodeId, lease::NewerConfiguration) override {}
  void OnMessagesEnd(NodeId) override { frames.fetch_add(1, std::memory_order_relaxed); }

  Peer peer() const { return Peer("127.0.0.1:" + std::to_string(server_.port()), ""); }

  std::unique_ptr<StreamTransport> transport;
  std::atomic<bool> connected{false};
  std::atomic<uint64_t> frames{0};

 private:
  const NodeId id_;
  lease::NodeLeases leases_;
  metrics::Registry metrics_;
  IoPool io_{1, "peer"};
  rpc::StreamServer server_{&io_, rpc::MessageStream::Options()};
};

/// Acknowledges every Append.
class Backup final : public Node {
 public:
  using Node::Node;
  void OnMessage(NodeId from, uint64_t, GroupMessage message) override {
    const auto& append = std::get<Append>(message.body);
    GroupMessage answer;
    answer.table = message.table;
    answer.partition = message.partition;
    group::AckMessage ack;
    ack.epoch = append.message.epoch;
    ack.index = append.message.last;
    answer.body = ack;
    if (!transport->Send(from, std::move(answer))) std::fprintf(stderr, "ack dropped\n");
  }
};

class Primary final : public Node {
 public:
  using Node::Node;
  void OnMessage(NodeId, uint64_t, GroupMessage message) override {
    const uint64_t index = std::get<group::AckMessage>(message.body).index.value;
    const auto now = Clock::now();
    std::scoped_lock lock(mutex);
    if (sent_at.size() > index && index % 16 == 0) latencies.push_back(now - sent_at[index]);
    ++acknowledged;
    changed.notify_one();
  }
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t acknowledged = 0;
  std::vector<Clock::time_point> sent_at;
  std::vector<std::chrono::nanoseconds> latencies;
};

double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int Main(int argc, char** argv) {
  const auto argument = [&](int i, uint64_t otherwise) {
    return argc > i ? std::strtoull(argv[i], nullptr, 10) : otherwise;
  };
  const uint64_t seconds = argument(1, 5);
  const uint64_t bytes = argument(2, 200);
  const uint64_t window = argument(3, 256);
  const uint64_t rate = argument(4, 0);

  Primary primary(1);
  Backup backup(2);
  primary.transport->SetPeers({{NodeId(2), backup.peer()}});
  backup.transport->SetPeers({{NodeId(1), primary.peer()}});
  while (!primary.connected || !backup.connected) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  auto configuration = std::make_shared<group::Configuration>();
  configuration->epoch = Epoch(7);
  configuration->in_sync.resize(3);
  const auto payload = std::make_shared<const std::string>(bytes, 'p');

  const double cpu_before = CpuSeconds();
  const auto begun = Clock::now();
  const auto end = begun + std::chrono::seconds(seconds);
  uint64_t sent = 0;
  primary.sent_at.push_back(begun);
  while (Clock::now() < end) {
    uint64_t burst = 1;
    {
      std::unique_lock lock(primary.mutex);
      primary.changed.wait(lock, [&] { return sent - primary.acknowledged < window; });
      burst = std::min<uint64_t>(window - (sent - primary.acknowledged), 64);
      if (rate != 0) {
        const auto due =
            static_cast<uint64_t>(std::chrono::duration<double>(Clock::now() - begun).count() *
                                  static_cast<double>(rate));
        burst = std::min(burst, due > sent ? due - sent : 0);
      }
      for (uint64_t i = 0; i < burst; ++i) primary.sent_at.push_back(Clock::now());
    }
    if (burst == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      continue;
    }
    for (uint64_t i = 0; i < burst; ++i) {
      ++sent;
      GroupMessage message;
      message.table = TableId(1);
      message.partition = PartitionId(sent % 64);
      Append append;
      append.message.epoch = Epoch(7);
      append.message.configuration = configuration;
      append.message.previous = {Epoch(7), LogIndex(sent - 1)};
      append.message.last = LogIndex(sent);
      append.message.runs = {{Epoch(7), LogIndex(sent)}};
      append.entries.resize(1);
      append.entries[0].payload = payload;
      message.body = std::move(append);
      CHECK(primary.transport->Send(NodeId(2), std::move(message)));
    }
  }
  {
    std::unique_lock lock(primary.mutex);
    primary.changed.wait(lock, [&] { return primary.acknowledged == sent; });
  }
  const double took = std::chrono::duration<double>(Clock::now() - begun).count();
  const double cpu = CpuSeconds() - cpu_before;
  std::sort(primary.latencies.begin(), primary.latencies.end());
  const auto percentile = [&](double p) {
    if (primary.latencies.empty()) return 0.0;
    const auto at = static_cast<size_t>(p * static_cast<double>(primary.latencies.size() - 1));
    return std::chrono::duration<double, std::micro>(primary.latencies[at]).count();
  };
  std::printf(
      "%.0f appends/s of %lu bytes acknowledged, %.1f us of CPU each for both sides, %.0f %% of a "
      "core; %.1f appends and %.1f acknowledgements a frame; p50 %.0f us, p99 %.0f us\n",
      static_cast<double>(sent) / took, bytes, cpu / static_cast<double>(sent) * 1e6,
      cpu / took * 100, static_cast<double>(sent) / static_cast<double>(backup.frames.load()),
      static_cast<double>(sent) / static_cast<double>(primary.frames.load()), percentile(0.5),
      percentile(0.99));
  return 0;
}

}  // namespace
}  // namespace onggi::transport

int main(int argc, char** argv) { return onggi::transport::Main(argc, argv); }
