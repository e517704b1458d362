// What it costs to forward a request: two nodes in one process, over a real stream, asked for items
// of the one and of the other. Prints, for reads and writes, requests per second and CPU time per
// request of the whole process (both nodes), here and forwarded; their difference is the price.
//
//     onggi_routing_bench [concurrency] [seconds] [item bytes]

#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>

#include "tests/unit/routing/cluster_fixture.h"

namespace onggi::routing {
namespace {

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Load {
  ClusterNode* node = nullptr;
  uint64_t table = 0;
  std::vector<std::string> keys;   ///< encoded
  std::vector<std::string> items;  ///< stored form
  bool write = false;
  std::chrono::steady_clock::time_point end;
  std::atomic<uint64_t> done{0};
  std::atomic<uint64_t> failed{0};
};

boost::asio::awaitable<void> Client(Load* load, size_t number) {
  for (size_t i = number; std::chrono::steady_clock::now() < load->end; i += 7) {
    const size_t at = i % load->keys.size();
    Status status;
    if (load->write) {
      RoutedWrite write;
      write.table = TableId(load->table);
      write.request.key = load->keys[at];
      write.request.item = model::ItemView(load->items[at]);
      const std::span<RoutedWrite> span(&write, 1);
      co_await load->node->router().Write(span, SteadyTime::max());
      status = write.outcome.status;
    } else {
      RoutedRead read;
      read.table = TableId(load->table);
      read.key = load->keys[at];
      read.consistent = true;
      const std::span<RoutedRead> span(&read, 1);
      if (!load->node->router().TryGet(&read)) {
        co_await load->node->router().Get(span, SteadyTime::max());
      } else if (i % 64 == 0) {
        const auto executor = co_await boost::asio::this_coro::executor;
        co_await boost::asio::post(executor, boost::asio::use_awaitable);
      }
      status = read.status;
    }
    (status.ok() ? load->done : load->failed).fetch_add(1, std::memory_order_relaxed);
  }
}

struct Result {
  double per_second = 0;
  double cpu_us = 0;
};

Result Run(Load* load, size_t concurrency, double seconds) {
  load->done = 0;
  load->end = std::chrono::steady_clock::now() +
              std::chrono::microseconds(static_cast<int64_t>(seconds * 1e6));
  const auto start = std::chrono::steady_clock::now();
  const double cpu = CpuSeconds();
  AsyncScope scope;
  for (size_t i = 0; i < concurrency; ++i) {
    (void)scope.Spawn(load->node->io().NextExecutor(), Client(load, i));
  }
  while (scope.size() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  scope.Stop();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  Result result;
  const auto done = static_cast<double>(load->done.load());
  result.per_second = done / elapsed.count();
  result.cpu_us = (CpuSeconds() - cpu) * 1e6 / done;
  if (load->failed > 0) std::printf("%lu failed\n", load->failed.load());
  return result;
}

int Main(int argc, char** argv) {
  const size_t concurrency = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 64;
  const double seconds = argc > 2 ? std::strtod(argv[2], nullptr) : 3;
  const size_t item_bytes = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 1000;
  Cluster cluster(2);
  Load load;
  load.table = cluster.CreateEven(cluster.NewTable(), 8);
  std::printf("%zu at a time, items of %zu bytes\n", concurrency, item_bytes);
  std::printf("%-8s %-10s %12s %16s\n", "", "", "requests/s", "CPU us/request");
  for (const bool write : {true, false}) {
    for (const uint64_t holder : {1, 2}) {
      load.node = &cluster[1];
      load.write = write;
      load.keys.clear();
      load.items.clear();
      for (const std::string& pk : cluster.KeysOn(load.table, holder, 1000)) {
        load.items.push_back(Cluster::ItemOf(pk, "s", {{"fill", S(std::string(item_bytes, 'x'))}}));
        load.keys.push_back(Cluster::KeyOf(load.items.back()));
      }
      Run(&load, concurrency, 0.5);
      const auto before = cluster[1].network().Find(NodeId(2))->frames_sent();
      const Result result = Run(&load, concurrency, seconds);
      const auto frames = cluster[1].network().Find(NodeId(2))->frames_sent() - before;
      std::printf("%-8s %-10s %12.0f %16.2f", write ? "write" : "read",
                  holder == 1 ? "here" : "forwarded", result.per_second, result.cpu_us);
      if (frames > 100) {
        std::printf("   %.1f requests a frame",
                    static_cast<double>(load.done) / static_cast<double>(frames));
      }
      std::printf("\n");
    }
  }
  return 0;
}

}  // namespace
}  // namespace onggi::routing

int main(int argc, char** argv) { return onggi::routing::Main(argc, argv); }
