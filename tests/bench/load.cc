// A closed-loop HTTP load generator: each connection sends a request, waits for the whole answer
// and sends the next. One thread with epoll for any number of connections: the client must cost
// less than the server that it measures.
//
//   onggi_load --port 8000 --connections 32 --duration 10 --warmup 2 --target
//   DynamoDB_20120810.GetItem
//              --body '{"TableName":"t","Key":{"k":{"S":"key{K}"}}}' [--keys 100000] [--expect 200]
//
// {K} in the body becomes a random number below --keys, written with as many digits as --keys - 1
// has, so that requests keep their length; {N} becomes a number that never repeats, 12 digits long.
// Several --body options are sent in turn. Prints one line of JSON: requests a second and latency
// in microseconds, of the time behind the warm-up.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>

#include "common/check.h"
#include "common/runtime.h"
#include "common/uuid.h"

namespace {

using Time = std::chrono::steady_clock::time_point;

struct Settings {
  Settings() {}
  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  size_t connections = 32;
  size_t threads = 1;
  double duration = 10;
  double warmup = 1;
  std::string method = "POST";
  std::string path = "/";
  std::string target;
  std::vector<std::string> headers;
  std::vector<std::string> bodies;
  std::string body_file;
  uint64_t keys = 100'000;
  int expect = 200;
  size_t pipeline = 1;
  uint64_t requests = 0;
};

/// Counts of latencies in buckets of 1/64 of a power of two: errors stay below 1.6 percent.
class LatencyCounts {
 public:
  void Add(uint64_t ns) {
    ++counts_[Index(ns)];
    ++total_;
    max_ = std::max(max_, ns);
    sum_ += ns;
  }
  void Merge(const LatencyCounts& other) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
    max_ = std::max(max_, other.max_);
    sum_ += other.sum_;
  }
  uint64_t total() const { return total_; }
  double max_us() const { return static_cast<double>(max_) / 1e3; }
  double mean_us() const {
    return total_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(total_) / 1e3;
  }
  double QuantileUs(double q) const {
    const auto wanted = static_cast<uint64_t>(q * static_cast<double>(total_));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen > wanted) return static_cast<double>(Upper(i)) / 1e3;
    }
    return max_us();
  }

 private:
  static constexpr int kBits = 6;
  static size_t Index(uint64_t ns) {
    const int width = 64 - __builtin_clzll(ns | 1);
    if (width <= kBits) return ns;
    const int shift = width - kBits - 1;
    return (static_cast<size_t>(shift + 1) << kBits) + ((ns >> shift) & ((1U << kBits) - 1));
  }
  static uint64_t Upper(size_t index) {
    if (index < (2U << kBits)) return index;
    const size_t shift = (index >> kBits) - 1;
    const uint64_t low = (index & ((1U << kBits) - 1)) | (1U << kBits);
    return ((low + 1) << shift) - 1;
  }

  std::array<uint64_t, 64 << kBits> counts_{};
  uint64_t total_ = 0;
  uint64_t max_ = 0;
  uint64_t sum_ = 0;
};

/// A whole request with the places of its variable digits.
struct Template {
  std::string bytes;
  std::vector<size_t> random_at;
  std::vector<size_t> serial_at;
};

size_t Digits(uint64_t n) { return std::to_string(n).size(); }
constexpr size_t kSerialDigits = 12;

Template MakeTemplate(const Settings& settings, std::string body) {
  Template made;
  const size_t digits = Digits(settings.keys - 1);
  std::string filled;
  for (size_t i = 0; i < body.size(); ++i) {
    if (body.compare(i, 3, "{K}") == 0) {
      made.random_at.push_back(filled.size());
      filled.append(digits, '0');
      i += 2;
    } else if (body.compare(i, 3, "{N}") == 0) {
      made.serial_at.push_back(filled.size());
      filled.append(kSerialDigits, '0');
      i += 2;
    } else {
      filled.push_back(body[i]);
    }
  }
  std::string head = settings.method + " " + settings.path + " HTTP/1.1\r\nHost: " + settings.host +
                     ":" + std::to_string(settings.port) + "\r\n";
  if (!settings.target.empty()) {
    head += "X-Amz-Target: " + settings.target +
            "\r\nContent-Type: application/x-amz-json-1.0\r\n"
            "X-Amz-Date: 20240101T000000Z\r\n"
            "Authorization: AWS4-HMAC-SHA256 Credential=bench/20240101/us-east-1/dynamodb/"
            "aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature="
            "0000000000000000000000000000000000000000000000000000000000000000\r\n";
  }
  for (const std::string& header : settings.headers) head += header + "\r\n";
  if (settings.method != "GET" || !filled.empty()) {
    head += "Content-Length: " + std::to_string(filled.size()) + "\r\n";
  }
  head += "\r\n";
  for (size_t& at : made.random_at) at += head.size();
  for (size_t& at : made.serial_at) at += head.size();
  made.bytes = head + filled;
  return made;
}

void WriteDigits(char* at, size_t digits, uint64_t value) {
  for (size_t i = digits; i-- > 0; value /= 10) at[i] = static_cast<char>('0' + value % 10);
}

struct Client {
  int fd = -1;
  std::string out;
  size_t out_sent = 0;
  std::string in;
  size_t in_used = 0;  ///< bytes of `in` before the current answer
  size_t scanned = 0;
  size_t answer_bytes = 0;    ///< head and body, once the head is known
  std::vector<Time> sent_at;  ///< of requests without an answer, oldest first
  size_t next_body = 0;
  bool wants_write = false;
};

class Loop {
 public:
  Loop(const Settings& settings, const std::vector<Template>& templates, size_t connections,
       std::atomic<uint64_t>& serial)
      : settings_(settings), templates_(templates), serial_(serial), clients_(connections) {}

  void Run(Time begin, Time end) {
    begin_ = begin;
    end_ = end;
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epoll_ >= 0);
    for (Client& client : clients_) {
      if (Connect(client)) SendRequests(client);
    }
    std::vector<epoll_event> events(256);
    for (;;) {
      const Time now = std::chrono::steady_clock::now();
      if (now >= end_ || (settings_.requests != 0 && finished_ >= settings_.requests)) break;
      const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 100);
      for (int i = 0; i < n; ++i) {
        Client& client = *static_cast<Client*>(events[static_cast<size_t>(i)].data.ptr);
        const uint32_t what = events[static_cast<size_t>(i)].events;
        if (what & EPOLLOUT) Flush(client);
        if (what & (EPOLLIN | EPOLLHUP | EPOLLERR)) OnReadable(client);
      }
    }
    for (Client& client : clients_) {
      if (client.fd >= 0) close(client.fd);
    }
    close(epoll_);
  }

  const LatencyCounts& latency() const { return latency_; }
  uint64_t errors() const { return errors_; }
  uint64_t wrong_status() const { return wrong_status_; }
  const std::string& sample() const { return sample_; }

 private:
  bool Connect(Client& client) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(settings_.port);
    CHECK(inet_pton(AF_INET, settings_.host.c_str(), &address.sin_addr) == 1);
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      ++errors_;
      close(fd);
      // A server that refuses everyone must not be hammered.
      CHECK_MSG(errors_ < 10'000, "cannot connect");
      return false;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    client.fd = fd;
    client.out.clear();
    client.out_sent = client.in_used = client.scanned = client.answer_bytes = 0;
    client.in.clear();
    client.sent_at.clear();
    client.wants_write = false;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &client;
    CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0);
    return true;
  }

  void Reconnect(Client& client) {
    ++errors_;
    close(client.fd);
    client.fd = -1;
    if (std::chrono::steady_clock::now() < end_ && Connect(client)) SendRequests(client);
  }

  void SendRequests(Client& client) {
    const Time now = std::chrono::steady_clock::now();
    while (client.sent_at.size() < settings_.pipeline) {
      const Template& request = templates_[client.next_body++ % templates_.size()];
      const size_t base = client.out.size();
      client.out += request.bytes;
      const size_t digits = Digits(settings_.keys - 1);
      if (!request.random_at.empty()) {
        const uint64_t key = onggi::FastRandom() % settings_.keys;
        for (const size_t at : request.random_at) WriteDigits(&client.out[base + at], digits, key);
      }
      if (!request.serial_at.empty()) {
        const uint64_t serial = serial_.fetch_add(1, std::memory_order_relaxed);
        for (const size_t at : request.serial_at) {
          WriteDigits(&client.out[base + at], kSerialDigits, serial);
        }
      }
      client.sent_at.push_back(now);
    }
    Flush(client);
  }

  void Flush(Client& client) {
    while (client.out_sent < client.out.size()) {
      const ssize_t n = send(client.fd, client.out.data() + client.out_sent,
                             client.out.size() - client.out_sent, MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EAGAIN) return WantWrite(client, true);
        return Reconnect(client);
      }
      client.out_sent += static_cast<size_t>(n);
    }
    client.out.clear();
    client.out_sent = 0;
    WantWrite(client, false);
  }

  void WantWrite(Client& client, bool wanted) {
    if (client.wants_write == wanted) return;
    client.wants_write = wanted;
    epoll_event event{};
    event.events = EPOLLIN | (wanted ? EPOLLOUT : 0U);
    event.data.ptr = &client;
    CHECK(epoll_ctl(epoll_, EPOLL_CTL_MOD, client.fd, &event) == 0);
  }

  void OnReadable(Client& client) {
    char bytes[64 << 10];
    const ssize_t n = recv(client.fd, bytes, sizeof(bytes), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return Reconnect(client);
    client.in.append(bytes, static_cast<size_t>(n));
    size_t answered = 0;
    while (answered < client.sent_at.size() && TakeAnswer(client)) {
      const Time now = std::chrono::steady_clock::now();
      const Time sent = client.sent_at[answered++];
      ++finished_;
      if (sent >= begin_ && now <= end_) {
        latency_.Add(static_cast<uint64_t>(std::chrono::nanoseconds(now - sent).count()));
      }
    }
    if (answered == 0) return;
    client.sent_at.erase(client.sent_at.begin(),
                         client.sent_at.begin() + static_cast<ptrdiff_t>(answered));
    if (client.in_used == client.in.size()) {
      client.in.clear();
      client.in_used = 0;
    }
    SendRequests(client);
  }

  /// True, and the answer is taken out, when all of it is there.
  bool TakeAnswer(Client& client) {
    const std::string_view rest = std::string_view(client.in).substr(client.in_used);
    if (client.answer_bytes == 0) {
      const size_t end = rest.find("\r\n\r\n", client.scanned);
      if (end == std::string_view::npos) {
        client.scanned = rest.size() < 3 ? 0 : rest.size() - 3;
        return false;
      }
      const std::string_view head = rest.substr(0, end + 2);
      CHECK_MSG(head.size() > 12, "not an HTTP answer");
      const int status = std::atoi(head.data() + 9);
      client.answer_bytes = end + 4 + ContentLength(head);
      if (status != settings_.expect) {
        ++wrong_status_;
        sample_.assign(rest.substr(0, 2000));
      }
    }
    if (rest.size() < client.answer_bytes) return false;
    client.in_used += client.answer_bytes;
    client.answer_bytes = client.scanned = 0;
    return true;
  }

  static size_t ContentLength(std::string_view head) {
    constexpr std::string_view kName = "\r\ncontent-length:";
    for (size_t at = 0; (at = head.find("\r\n", at)) != std::string_view::npos; at += 2) {
      if (head.size() - at > kName.size() &&
          strncasecmp(head.data() + at, kName.data(), kName.size()) == 0) {
        return std::strtoull(head.data() + at + kName.size(), nullptr, 10);
      }
    }
    return 0;
  }

  const Settings& settings_;
  const std::vector<Template>& templates_;
  std::atomic<uint64_t>& serial_;
  std::vector<Client> clients_;
  int epoll_ = -1;
  Time begin_;
  Time end_;
  LatencyCounts latency_;
  uint64_t finished_ = 0;
  uint64_t errors_ = 0;
  uint64_t wrong_status_ = 0;
  std::string sample_;
};

std::string ReadFile(const std::string& path) {
  FILE* file = std::fopen(path.c_str(), "re");
  CHECK_MSG(file != nullptr, path);
  std::string text;
  char bytes[65536];
  while (const size_t n = std::fread(bytes, 1, sizeof(bytes), file)) text.append(bytes, n);
  std::fclose(file);
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app("A closed-loop HTTP load generator");
  app.add_option("--host", settings.host, "A numeric IPv4 address");
  app.add_option("--port", settings.port);
  app.add_option("--connections", settings.connections);
  app.add_option("--threads", settings.threads);
  app.add_option("--duration", settings.duration, "Seconds measured");
  app.add_option("--warmup", settings.warmup, "Seconds before that");
  app.add_option("--method", settings.method);
  app.add_option("--path", settings.path);
  app.add_option("--target", settings.target, "X-Amz-Target");
  app.add_option("--header", settings.headers, "A further header; may be repeated");
  app.add_option("--body", settings.bodies, "May be repeated")->allow_extra_args(false);
  app.add_option("--body-file", settings.body_file, "One body, from a file");
  app.add_option("--keys", settings.keys, "{K} is below this");
  app.add_option("--expect", settings.expect, "Status of a good answer");
  app.add_option("--pipeline", settings.pipeline, "Requests in flight on each connection");
  app.add_option("--requests", settings.requests, "Stop each thread after this many; 0: no limit");
  CLI11_PARSE(app, argc, argv);
  if (!settings.body_file.empty()) settings.bodies.push_back(ReadFile(settings.body_file));
  if (settings.bodies.empty()) settings.bodies.emplace_back();
  settings.threads =
      std::clamp<size_t>(settings.threads, 1, std::max<size_t>(settings.connections, 1));
  CHECK(settings.keys > 0 && settings.pipeline > 0);

  onggi::RaiseOpenFileLimit();
  std::vector<Template> templates;
  for (const std::string& body : settings.bodies) templates.push_back(MakeTemplate(settings, body));

  const auto seconds = [](double s) {
    return std::chrono::duration_cast<Time::duration>(std::chrono::duration<double>(s));
  };
  std::atomic<uint64_t> serial{0};
  const Time begin = std::chrono::steady_clock::now() + seconds(settings.warmup);
  const Time end = begin + seconds(settings.duration);
  std::vector<std::unique_ptr<Loop>> loops;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < settings.threads; ++i) {
    const size_t share = settings.connections / settings.threads +
                         (i < settings.connections % settings.threads ? 1 : 0);
    loops.push_back(std::make_unique<Loop>(settings, templates, share, serial));
    threads.emplace_back([&, i] { loops[i]->Run(begin, end); });
  }
  for (std::thread& thread : threads) thread.join();
  const Time stopped = std::min(end, std::chrono::steady_clock::now());

  LatencyCounts latency;
  uint64_t errors = 0;
  uint64_t wrong_status = 0;
  std::string sample;
  for (const auto& loop : loops) {
    latency.Merge(loop->latency());
    errors += loop->errors();
    wrong_status += loop->wrong_status();
    if (!loop->sample().empty()) sample = loop->sample();
  }
  if (!sample.empty()) std::fprintf(stderr, "an unexpected answer:\n%s\n", sample.c_str());
  const double elapsed = std::max(std::chrono::duration<double>(stopped - begin).count(), 1e-9);
  std::printf(
      "{\"requests_per_second\": %.0f, \"requests\": %llu, \"mean_us\": %.1f, \"p50_us\": %.1f, "
      "\"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"errors\": %llu, "
      "\"wrong_status\": %llu, \"connections\": %zu}\n",
      static_cast<double>(latency.total()) / elapsed,
      static_cast<unsigned long long>(latency.total()), latency.mean_us(), latency.QuantileUs(0.5),
      latency.QuantileUs(0.9), latency.QuantileUs(0.99), latency.QuantileUs(0.999),
      latency.max_us(), static_cast<unsigned long long>(errors),
      static_cast<unsigned long long>(wrong_status), settings.connections);
  return errors == 0 && wrong_status == 0 ? 0 : 1;
}
