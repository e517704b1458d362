#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <thread>
#include <vector>

#include "common/check.h"
#include "common/http/server.h"
#include "tests/unit/http/server_fixture.h"

/// What the server bears: slow, silent and vanishing clients, too many of them, and being stopped.
namespace onggi::http {
namespace {

TEST_F(HttpServer, ClosesIdleConnections) {
  options_.idle_timeout = milliseconds(150);
  StartServer();
  TestClient fresh(server_->port());
  TestClient used(server_->port());
  used.Send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(used.Read()->status, 200);
  EXPECT_TRUE(fresh.WaitClosed());
  EXPECT_TRUE(used.WaitClosed());
  EXPECT_EQ(used.unread(), "");
  EXPECT_EQ(Metric("onggi_http_timeouts_total", {{"phase", "idle"}}), 2U);
}

TEST_F(HttpServer, KeepsBusyConnectionsBeyondTheIdleTimeout) {
  options_.idle_timeout = milliseconds(1000);
  StartServer();
  TestClient client(server_->port());
  for (int i = 0; i < 12; ++i) {
    std::this_thread::sleep_for(milliseconds(100));
    client.Send("GET / HTTP/1.1\r\n\r\n");
    ASSERT_TRUE(client.Read()) << i;
  }
}

/// How long a client drips where it should be cut off after 200 ms: these tests run on machines
/// that do other things as well.
constexpr milliseconds kDrip(5000);

TEST_F(HttpServer, ClosesClientsThatDripTheirHeader) {
  options_.header_timeout = milliseconds(200);
  StartServer();
  TestClient client(server_->port());
  const auto begin = steady_clock::now();
  client.Send("GET / HTTP/1.1\r\n");
  while (steady_clock::now() - begin < kDrip && client.Send("X: y\r\n")) {
    std::this_thread::sleep_for(milliseconds(20));
    char byte;
    if (::recv(client.fd(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0) break;
  }
  EXPECT_LT(steady_clock::now() - begin, kDrip);
  EXPECT_EQ(client.Read()->status, 408);
  EXPECT_EQ(Metric("onggi_http_timeouts_total", {{"phase", "read"}}), 1U);
}

TEST_F(HttpServer, ClosesClientsThatDripTheirBody) {
  options_.body_timeout = milliseconds(200);
  StartServer();
  TestClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n");
  const auto begin = steady_clock::now();
  for (int i = 0; i < 99 && steady_clock::now() - begin < kDrip; ++i) {
    client.Send("x");
    std::this_thread::sleep_for(milliseconds(20));
    char byte;
    if (::recv(client.fd(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0) break;
  }
  EXPECT_LT(steady_clock::now() - begin, kDrip);
  EXPECT_EQ(client.Read()->status, 408);
}

TEST_F(HttpServer, ClosesClientsThatStopReading) {
  options_.write_timeout = milliseconds(200);
  StartServer();
  for (const char* path : {"/big", "/async-big"}) {
    TestClient client(server_->port(), 4096);
    client.Send(Post(path, "") + Post(path, "") + Post(path, ""));
    WaitForConnections(1);
    WaitForConnections(0);
  }
  EXPECT_EQ(Metric("onggi_http_timeouts_total", {{"phase", "write"}}), 2U);
}

TEST_F(HttpServer, WaitsForClientsThatReadSlowly) {
  options_.write_timeout = milliseconds(1000);
  StartServer();
  TestClient client(server_->port(), 4096);
  client.Send(Post("/big", ""));
  const auto begin = steady_clock::now();
  size_t total = 0;
  std::vector<char> bytes(64 << 10);
  while (total < (8U << 20)) {
    const ssize_t n = ::recv(client.fd(), bytes.data(), bytes.size(), 0);
    ASSERT_GT(n, 0) << total;
    total += static_cast<size_t>(n);
    if (steady_clock::now() - begin < milliseconds(2500)) {
      std::this_thread::sleep_for(milliseconds(10));
    }
  }
  EXPECT_GT(steady_clock::now() - begin, 2 * options_.write_timeout);
}

TEST_F(HttpServer, SurvivesClientsThatVanish) {
  StartServer(2);
  for (int i = 0; i < 50; ++i) {
    TestClient partial(server_->port());
    partial.Send("POST / HTTP/1.1\r\nContent-Le");
    TestClient half_body(server_->port());
    half_body.Send("POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nxx");
    TestClient before_answer(server_->port());
    before_answer.Send(Post("/async-slow", "x"));
    TestClient in_answer(server_->port(), 4096);
    in_answer.Send(Post("/big", "x"));
    char byte;
    EXPECT_EQ(::recv(in_answer.fd(), &byte, 1, 0), 1);
    if (i % 2 == 0) {
      partial.Reset();
      half_body.Reset();
      before_answer.Reset();
      in_answer.Reset();
    }
  }
  WaitForConnections(0);
  TestClient client(server_->port());
  client.Send(Post("/", "alive"));
  EXPECT_EQ(client.Read()->body, "POST alive");
}

TEST_F(HttpServer, RefusesConnectionsBeyondItsLimit) {
  options_.max_connections = 4;
  StartServer();
  std::vector<TestClient> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back(server_->port());
    clients.back().Send("GET / HTTP/1.1\r\n\r\n");
    EXPECT_EQ(clients.back().Read()->status, 200);
  }
  TestClient extra(server_->port());
  extra.Send("GET / HTTP/1.1\r\n\r\n");
  const auto answer = extra.Read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 503);
  EXPECT_TRUE(extra.WaitClosed());
  clients.pop_back();
  WaitForConnections(3);
  TestClient next(server_->port());
  next.Send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(next.Read()->status, 200);
}

TEST_F(HttpServer, BoundsTheMemoryOfAllBodiesTogether) {
  options_.max_buffered = MiB(2);
  StartServer();
  TestClient hog(server_->port());
  hog.Send("POST / HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n" + std::string(1'200'000, 'x'));
  ASSERT_TRUE(Eventually([&] { return Metric("onggi_http_received_bytes_total") > 1'200'000; }));
  TestClient second(server_->port());
  second.Send(Post("/", std::string(1'500'000, 'y')));
  const auto answer = second.Read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 503);
  TestClient small(server_->port());
  small.Send(Post("/", "small"));
  EXPECT_EQ(small.Read()->body, "POST small");
  hog.Reset();
  second.Close();
  WaitForConnections(1);
  TestClient third(server_->port());
  third.Send(Post("/", std::string(1'000'000, 'y')));
  EXPECT_EQ(third.Read()->status, 200);
}

TEST_F(HttpServer, SurvivesRunningOutOfFiles) {
  StartServer();
  std::vector<TestClient> clients;
  for (int i = 0; i < 8; ++i) clients.emplace_back(0);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(clients.back().fd()) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  for (TestClient& client : clients) {
    EXPECT_TRUE(client.Connect(server_->port()));  // into the backlog
    client.Send("GET / HTTP/1.1\r\n\r\n");
  }
  const auto cpu = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec * 1'000'000 + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_sec * 1'000'000 + usage.ru_stime.tv_usec;
  };
  const auto begin = steady_clock::now();
  const auto before_us = cpu();
  std::this_thread::sleep_for(milliseconds(400));
  const auto used_us = cpu() - before_us;
  const auto slept = std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_LT(used_us, slept.count() * 500) << "spinning";
  EXPECT_GT(Metric("onggi_http_accept_errors_total"), 0U);
  // One in 50 ms.
  EXPECT_LT(Metric("onggi_http_accept_errors_total"), static_cast<uint64_t>(slept.count() / 20));
  for (TestClient& client : clients) EXPECT_EQ(client.Read()->status, 200);
}

/// A child process that opens connections, makes one request on each and holds them until told: the
/// limit on open files may be too low for both ends in one process.
class ClientProcess {
 public:
  explicit ClientProcess(size_t connections) {
    CHECK(::pipe(to_child_) == 0 && ::pipe(from_child_) == 0);
    child_ = ::fork();
    CHECK(child_ >= 0);
    if (child_ == 0) {
      ::close(to_child_[1]);  // or its end would never be seen
      uint16_t port = 0;
      if (::read(to_child_[0], &port, sizeof(port)) != sizeof(port)) ::_exit(1);
      std::vector<TestClient> clients;
      clients.reserve(connections);
      uint32_t answered = 0;
      for (size_t i = 0; i < connections; ++i) {
        clients.emplace_back(port);
        clients.back().Send("GET / HTTP/1.1\r\n\r\n");
        if (clients.back().Read()) ++answered;
      }
      if (::write(from_child_[1], &answered, sizeof(answered)) != sizeof(answered)) ::_exit(1);
      char byte;
      [[maybe_unused]] const ssize_t n = ::read(to_child_[0], &byte, 1);
      ::_exit(0);
    }
  }
  ~ClientProcess() {
    ::close(to_child_[1]);
    ::waitpid(child_, nullptr, 0);
    for (const int fd : {to_child_[0], from_child_[0], from_child_[1]}) ::close(fd);
  }
  /// How many were answered.
  uint32_t Run(uint16_t port) {
    uint32_t answered = 0;
    if (::write(to_child_[1], &port, sizeof(port)) != sizeof(port)) return 0;
    if (::read(from_child_[0], &answered, sizeof(answered)) != sizeof(answered)) return 0;
    return answered;
  }

 private:
  int to_child_[2];
  int from_child_[2];
  pid_t child_ = -1;
};

TEST_F(HttpServer, HoldsTenThousandIdleConnectionsCheaply) {
  constexpr size_t kClients = 10'000;
  options_.reserved_files = 64;
  ASSERT_GE(RaiseOpenFileLimit(), kClients + 200) << "raise the hard limit on open files";
  ClientProcess clients(kClients);  // before any thread of ours starts
  StartServer(2);
  const size_t heap_before = mallinfo2().uordblks + mallinfo2().hblkhd;
  ASSERT_EQ(clients.Run(server_->port()), kClients);
  ASSERT_EQ(server_->connections(), kClients);
  const size_t heap = mallinfo2().uordblks + mallinfo2().hblkhd - heap_before;
  EXPECT_LT(heap / kClients, 4096U);
  RecordProperty("heap_bytes_each", static_cast<int>(heap / kClients));

  // They must not slow down those that work.
  TestClient client(server_->port());
  const auto begin = steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    client.Send("GET / HTTP/1.1\r\n\r\n");
    ASSERT_TRUE(client.Read());
  }
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(5));
  const auto stop_begin = steady_clock::now();
  server_->Stop();
  EXPECT_LT(steady_clock::now() - stop_begin, std::chrono::seconds(5));
  EXPECT_EQ(server_->connections(), 0U);
}

TEST_F(HttpServer, FinishesRequestsInHandBeforeItStops) {
  StartServer(2);
  TestClient busy(server_->port());
  busy.Send(Post("/async-wait", "kept"));
  while (handler_.waiting == 0) std::this_thread::sleep_for(milliseconds(1));
  // Idle ones on both threads, which hear of the end one after the other.
  std::vector<TestClient> idle;
  for (int i = 0; i < 3; ++i) idle.emplace_back(server_->port());
  WaitForConnections(4);
  std::jthread stopper([&] { server_->Stop(milliseconds(5000)); });
  for (TestClient& client : idle) EXPECT_TRUE(client.WaitClosed());
  EXPECT_FALSE(TestClient(server_->port()).connected());
  handler_.release = true;
  const auto answer = busy.Read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->body, "POST kept");
  EXPECT_EQ(answer->headers.at("connection"), "close");
  busy.Close();
}

TEST_F(HttpServer, CutsSlowClientsWhenTheDrainIsOver) {
  StartServer();
  TestClient half(server_->port());
  half.Send("POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nx");
  TestClient unread(server_->port(), 4096);
  unread.Send(Post("/big", ""));
  WaitForConnections(2);
  std::this_thread::sleep_for(milliseconds(50));
  const auto begin = steady_clock::now();
  server_->Stop(milliseconds(100));
  EXPECT_LT(steady_clock::now() - begin, milliseconds(4000));
  EXPECT_EQ(server_->connections(), 0U);
}

TEST_F(HttpServer, WaitsForHandlersEvenPastTheDrain) {
  StartServer();
  TestClient client(server_->port());
  client.Send(Post("/async-wait", "x"));
  while (handler_.waiting == 0) std::this_thread::sleep_for(milliseconds(1));
  std::atomic<bool> stopped{false};
  std::jthread stopper([&] {
    server_->Stop(milliseconds(10));
    stopped = true;
  });
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_FALSE(stopped);
  handler_.release = true;
  stopper.join();
  EXPECT_EQ(handler_.waiting, 0);
}

TEST_F(HttpServer, SaysWhoTookTheAddress) {
  StartServer();
  ServerOptions options;
  options.port = server_->port();
  Server second(*pool_, handler_, options);
  const Status status = second.Start();
  EXPECT_EQ(status.code(), Code::kIoError);
  EXPECT_THAT(status.message(), ::testing::HasSubstr("Address already in use"));
  options.bind = "no address";
  Server third(*pool_, handler_, options);
  EXPECT_EQ(third.Start().code(), Code::kInvalidArgument);
}

TEST_F(HttpServer, StopsUnderLoad) {
  StartServer(2);
  std::atomic<bool> go{true};
  std::vector<std::thread> threads;
  std::atomic<int> answers{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      while (go) {
        TestClient client(server_->port());
        if (!client.connected()) continue;
        for (int i = 0; i < 20; ++i) {
          if (!client.Send(Post(t % 2 == 0 ? "/" : "/async-slow", "x"))) break;
          if (!client.Read()) break;
          ++answers;
        }
      }
    });
  }
  while (answers < 200) std::this_thread::sleep_for(milliseconds(1));
  server_->Stop(milliseconds(2000));
  EXPECT_EQ(server_->connections(), 0U);
  go = false;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace onggi::http
