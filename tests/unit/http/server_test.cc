#include "common/http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <latch>
#include <set>

#include "common/check.h"
#include "common/http/admin.h"
#include "common/metrics.h"
#include "tests/unit/http/test_client.h"

namespace onggi::http {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// What each path answers is at its `if`.
class TestHandler final : public Handler {
 public:
  bool TryHandle(Request& request, Response& response) override {
    if (request.path.starts_with("/async")) return false;
    if (request.path == "/throw") throw std::runtime_error("on purpose");
    if (request.path == "/big") {
      response.body.assign(8 << 20, 'b');
    } else if (request.path == "/thread") {
      response.body = std::to_string(request.io_index);
    } else if (request.path == "/close") {
      response.keep_alive = false;
    } else if (request.path == "/no-content") {
      response.status = 204;
    } else if (request.path == "/padding") {
      // Reads what it may read behind the body.
      const std::string copy(request.body.data(), request.body.size() + kBodyPadding);
      response.body = copy.size() == request.body.size() + kBodyPadding ? "ok" : "no";
    } else if (request.path == "/id") {
      response.body = request.request_id;
    } else {
      Echo(request, response);
    }
    return true;
  }

  boost::asio::awaitable<void> Handle(Request& request, Response& response) override {
    if (request.path == "/async-throw") throw std::runtime_error("on purpose");
    if (request.path == "/async-wait") {
      ++waiting;
      boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
      while (!release) {
        timer.expires_after(milliseconds(5));
        co_await timer.async_wait(boost::asio::use_awaitable);
      }
      --waiting;
    } else if (request.path == "/async-slow") {
      boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
      timer.expires_after(milliseconds(20));
      co_await timer.async_wait(boost::asio::use_awaitable);
    } else if (request.path == "/async-big") {
      response.body.assign(8 << 20, 'b');
      co_return;
    }
    Echo(request, response);
  }

  void HandleError(ServerError error, const Request& request, Response& response) override {
    response.content_type = "text/plain";
    response.body = "error " + std::to_string(static_cast<int>(error)) + " for " +
                    std::string(request.path) + " " + std::string(request.Get("x-mark"));
  }

  std::atomic<bool> release{false};
  std::atomic<int> waiting{0};

 private:
  static void Echo(const Request& request, Response& response) {
    response.content_type = "text/plain";
    response.AddHeader("X-Target", request.target);
    response.body.assign(request.method_name).append(" ").append(request.body);
  }
};

class HttpServer : public ::testing::Test {
 protected:
  void StartServer(size_t threads = 1) {
    options_.tick = milliseconds(10);
    pool_ = std::make_unique<IoPool>(threads);
    server_ = std::make_unique<Server>(*pool_, handler_, options_, &registry_);
    const Status status = server_->Start();
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  void TearDown() override {
    handler_.release = true;
    if (server_) server_->Stop(milliseconds(100));
    server_.reset();
    pool_.reset();
  }
  uint64_t Metric(const std::string& name, metrics::Labels labels = {}) {
    labels.emplace_back("endpoint", "aws");
    return registry_.AddCounter(name, "", labels).Value();
  }
  void WaitForConnections(size_t count) {
    const auto end = steady_clock::now() + std::chrono::seconds(20);
    while (server_->connections() != count && steady_clock::now() < end) {
      std::this_thread::sleep_for(milliseconds(2));
    }
    ASSERT_EQ(server_->connections(), count);
  }

  ServerOptions options_;
  TestHandler handler_;
  metrics::Registry registry_;
  std::unique_ptr<IoPool> pool_;
  std::unique_ptr<Server> server_;
};

TEST_F(HttpServer, AnswersAndKeepsTheConnection) {
  StartServer();
  TestClient client(server_->port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.Send(Post("/echo?a=1", "hello" + std::to_string(i))));
    const auto answer = client.Read();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->body, "POST hello" + std::to_string(i));
    EXPECT_EQ(answer->headers.at("content-type"), "text/plain");
    EXPECT_EQ(answer->headers.at("x-target"), "/echo?a=1");
    EXPECT_EQ(answer->headers.at("server"), "Server");
    EXPECT_EQ(answer->headers.at("date").size(), 29U);
    EXPECT_FALSE(answer->headers.contains("connection"));
  }
  EXPECT_EQ(Metric("onggi_http_requests_total"), 3U);
}

TEST_F(HttpServer, AnswersEveryMethod) {
  StartServer();
  TestClient client(server_->port());
  for (const std::string method : {"GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"}) {
    client.Send(method + " / HTTP/1.1\r\nHost: h\r\n\r\n");
    const auto answer = client.Read();
    ASSERT_TRUE(answer) << method;
    EXPECT_EQ(answer->body, method + " ");
  }
  client.Send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const auto head = client.Read(true);
  ASSERT_TRUE(head);
  EXPECT_EQ(head->headers.at("content-length"), "5");
  EXPECT_EQ(client.Read()->body, "GET ");
}

TEST_F(HttpServer, LeavesTheBodyOutWhereTheStatusHasNone) {
  StartServer();
  TestClient client(server_->port());
  client.Send("GET /no-content HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
  const auto answer = client.Read();
  EXPECT_EQ(answer->status, 204);
  EXPECT_FALSE(answer->headers.contains("content-length"));
  EXPECT_EQ(client.Read()->body, "GET ");
}

TEST_F(HttpServer, AnswersPipelinedRequestsInOrder) {
  StartServer();
  TestClient client(server_->port());
  std::string requests;
  for (int i = 0; i < 500; ++i) {
    // Slow ones between fast ones must not be overtaken, big ones must not be cut.
    const std::string path = i % 50 == 7 ? "/async-slow" : i % 100 == 3 ? "/big" : "/";
    requests += Post(path, "n" + std::to_string(i));
  }
  std::thread sender([&] { EXPECT_TRUE(client.Send(requests)); });
  for (int i = 0; i < 500; ++i) {
    const auto answer = client.Read();
    ASSERT_TRUE(answer) << i;
    if (i % 50 != 7 && i % 100 == 3) {
      EXPECT_EQ(answer->body.size(), 8U << 20);
    } else {
      EXPECT_EQ(answer->body, "POST n" + std::to_string(i));
    }
  }
  sender.join();
}

TEST_F(HttpServer, TakesRequestsByteByByte) {
  StartServer();
  TestClient client(server_->port());
  for (const char c : Post("/x", "body")) {
    ASSERT_TRUE(client.Send(std::string_view(&c, 1)));
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  EXPECT_EQ(client.Read()->body, "POST body");
}

TEST_F(HttpServer, TakesChunkedBodies) {
  StartServer();
  TestClient client(server_->port());
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  client.Send(head + "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n" +
              Post("/", "next"));
  EXPECT_EQ(client.Read()->body, "POST hello world");
  EXPECT_EQ(client.Read()->body, "POST next");

  std::string expected = "POST ";
  client.Send(head);
  for (int i = 0; i < 300; ++i) {
    const std::string chunk(static_cast<size_t>(1 + i * 7), static_cast<char>('a' + i % 26));
    char size[16];
    std::snprintf(size, sizeof(size), "%zx\r\n", chunk.size());
    client.Send(size + chunk + "\r\n");
    expected += chunk;
  }
  client.Send("0\r\n\r\n");
  EXPECT_EQ(client.Read()->body, expected);
}

TEST_F(HttpServer, TakesChunksByteByByte) {
  StartServer();
  TestClient client(server_->port());
  const std::string request =
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
  for (const char c : request) {
    ASSERT_TRUE(client.Send(std::string_view(&c, 1)));
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  EXPECT_EQ(client.Read()->body, "POST abcde");
}

TEST_F(HttpServer, SaysContinueToClientsThatWait) {
  StartServer();
  TestClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  EXPECT_EQ(client.Read()->status, 100);
  client.Send("body");
  EXPECT_EQ(client.Read()->body, "POST body");
  // One that does not wait needs no telling.
  client.Send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
  EXPECT_EQ(client.Read()->body, "POST body");
  client.Send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(client.Read()->status, 100);
  client.Send("4\r\nbody\r\n0\r\n\r\n");
  EXPECT_EQ(client.Read()->body, "POST body");
}

TEST_F(HttpServer, SpeaksHttp10) {
  StartServer();
  TestClient client(server_->port());
  client.Send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  auto answer = client.Read();
  EXPECT_EQ(answer->headers.at("connection"), "keep-alive");
  client.Send("GET / HTTP/1.0\r\n\r\n");
  answer = client.Read();
  EXPECT_EQ(answer->body, "GET ");
  EXPECT_EQ(answer->headers.at("connection"), "close");
  EXPECT_TRUE(client.WaitClosed());
}

TEST_F(HttpServer, ClosesWhenAskedTo) {
  StartServer();
  TestClient client(server_->port());
  client.Send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.Read()->headers.at("connection"), "close");
  EXPECT_TRUE(client.WaitClosed());
  TestClient other(server_->port());
  other.Send("GET /close HTTP/1.1\r\n\r\n");
  EXPECT_EQ(other.Read()->headers.at("connection"), "close");
  EXPECT_TRUE(other.WaitClosed());
}

TEST_F(HttpServer, AnswersAClientThatHasClosedItsSide) {
  StartServer();
  TestClient client(server_->port());
  client.Send(Post("/async-slow", "x"));
  client.ShutdownWrite();
  EXPECT_EQ(client.Read()->body, "POST x");
  EXPECT_TRUE(client.WaitClosed());
}

TEST_F(HttpServer, TakesBodiesUpToTheLimitAndRefusesLongerOnes) {
  options_.max_body = MiB(1);
  StartServer();
  {
    TestClient client(server_->port());
    const std::string body(1 << 20, 'x');
    client.Send(Post("/", body));
    EXPECT_EQ(client.Read()->body.size(), body.size() + 5);
    client.Send(Post("/padding", body));
    EXPECT_EQ(client.Read()->body, "ok");
  }
  {
    // The answer must reach a client that keeps sending before it reads.
    TestClient client(server_->port());
    EXPECT_TRUE(client.Send(Post("/mine", std::string((8 << 20) + 1, 'x'), "X-Mark: m\r\n")));
    const auto answer = client.Read();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 413);
    EXPECT_EQ(answer->body, "error 2 for /mine m");
    EXPECT_EQ(answer->headers.at("connection"), "close");
    EXPECT_TRUE(client.WaitClosed());
  }
  {
    TestClient client(server_->port());
    std::string request = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 9; ++i) request += "20000\r\n" + std::string(0x20000, 'x') + "\r\n";
    client.Send(request);
    EXPECT_EQ(client.Read()->status, 413);
  }
}

TEST_F(HttpServer, RefusesHeadersThatAreTooLong) {
  StartServer();
  {
    TestClient client(server_->port());
    client.Send("GET / HTTP/1.1\r\nX: " + std::string(60'000, 'x') + "\r\n\r\n");
    EXPECT_EQ(client.Read()->status, 200);
  }
  TestClient client(server_->port());
  client.Send("GET / HTTP/1.1\r\nX: " + std::string(70'000, 'x') + "\r\n\r\n");
  EXPECT_EQ(client.Read()->status, 431);
  EXPECT_TRUE(client.WaitClosed());
}

TEST_F(HttpServer, RefusesWhatIsNotHttp) {
  StartServer();
  const std::string cases[] = {
      "GET / HTTP/2.0\r\n\r\n",
      "GET /\r\n\r\n",
      "\x16\x03\x01\x02",  // a TLS hello
      "GET / HTTP/1.1\r\nNo colon\r\n\r\n",
      "GET / HTTP/1.1\nHost: h\n\r\n\r\n",
      "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
      "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
      "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
  };
  for (const std::string& bytes : cases) {
    TestClient client(server_->port());
    client.Send(bytes);
    const auto answer = client.Read();
    ASSERT_TRUE(answer) << bytes;
    EXPECT_EQ(answer->status, 400) << bytes;
    EXPECT_TRUE(client.WaitClosed()) << bytes;
  }
  TestClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n");
  EXPECT_EQ(client.Read()->status, 501);
}

TEST_F(HttpServer, ReportsHandlersThatThrow) {
  StartServer();
  for (const char* path : {"/throw", "/async-throw"}) {
    TestClient client(server_->port());
    client.Send(Post(path, ""));
    const auto answer = client.Read();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 500);
    EXPECT_TRUE(client.WaitClosed());
  }
}

TEST_F(HttpServer, GivesEveryRequestItsOwnId) {
  StartServer();
  TestClient client(server_->port());
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    client.Send("GET /id HTTP/1.1\r\n\r\n");
    const std::string id = client.Read()->body;
    EXPECT_EQ(id.size(), 52U);
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), 100U);
}

TEST_F(HttpServer, SpreadsConnectionsOverItsThreads) {
  StartServer(2);
  std::vector<TestClient> clients;
  std::map<std::string, int> by_thread;
  for (int i = 0; i < 32; ++i) {
    clients.emplace_back(server_->port());
    clients.back().Send("GET /thread HTTP/1.1\r\n\r\n");
    ++by_thread[clients.back().Read()->body];
  }
  EXPECT_EQ(by_thread["0"], 16);
  EXPECT_EQ(by_thread["1"], 16);
}

TEST_F(HttpServer, ClosesIdleConnections) {
  options_.idle_timeout = milliseconds(150);
  StartServer();
  TestClient fresh(server_->port());
  TestClient used(server_->port());
  used.Send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(used.Read()->status, 200);
  EXPECT_TRUE(fresh.WaitClosed(milliseconds(2000)));
  EXPECT_TRUE(used.WaitClosed(milliseconds(2000)));
  EXPECT_EQ(used.unread(), "");
  EXPECT_EQ(Metric("onggi_http_timeouts_total", {{"phase", "idle"}}), 2U);
}

TEST_F(HttpServer, KeepsBusyConnectionsBeyondTheIdleTimeout) {
  options_.idle_timeout = milliseconds(200);
  StartServer();
  TestClient client(server_->port());
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(milliseconds(60));
    client.Send("GET / HTTP/1.1\r\n\r\n");
    ASSERT_TRUE(client.Read()) << i;
  }
}

TEST_F(HttpServer, ClosesClientsThatDripTheirHeader) {
  options_.header_timeout = milliseconds(200);
  StartServer();
  TestClient client(server_->port());
  const auto begin = steady_clock::now();
  client.Send("GET / HTTP/1.1\r\n");
  while (steady_clock::now() - begin < milliseconds(1500) && client.Send("X: y\r\n")) {
    std::this_thread::sleep_for(milliseconds(20));
    char byte;
    if (::recv(client.fd(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0) break;
  }
  EXPECT_LT(steady_clock::now() - begin, milliseconds(1000));
  EXPECT_EQ(client.Read()->status, 408);
  EXPECT_EQ(Metric("onggi_http_timeouts_total", {{"phase", "read"}}), 1U);
}

TEST_F(HttpServer, ClosesClientsThatDripTheirBody) {
  options_.body_timeout = milliseconds(200);
  StartServer();
  TestClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n");
  const auto begin = steady_clock::now();
  for (int i = 0; i < 60; ++i) {
    client.Send("x");
    std::this_thread::sleep_for(milliseconds(20));
    char byte;
    if (::recv(client.fd(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0) break;
  }
  EXPECT_LT(steady_clock::now() - begin, milliseconds(1000));
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
  options_.write_timeout = milliseconds(300);
  StartServer();
  TestClient client(server_->port(), 4096);
  client.Send(Post("/big", ""));
  size_t total = 0;
  std::vector<char> bytes(64 << 10);
  while (total < (8U << 20)) {
    const ssize_t n = ::recv(client.fd(), bytes.data(), bytes.size(), 0);
    ASSERT_GT(n, 0) << total;
    total += static_cast<size_t>(n);
    if (total < (1U << 20)) std::this_thread::sleep_for(milliseconds(2));
  }
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
  std::this_thread::sleep_for(milliseconds(100));
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
  const auto before_us = cpu();
  std::this_thread::sleep_for(milliseconds(400));
  const auto used_us = cpu() - before_us;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_LT(used_us, 200'000) << "spinning";
  EXPECT_GT(Metric("onggi_http_accept_errors_total"), 0U);
  EXPECT_LT(Metric("onggi_http_accept_errors_total"), 20U);
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
  TestClient idle(server_->port());
  TestClient busy(server_->port());
  busy.Send(Post("/async-wait", "kept"));
  while (handler_.waiting == 0) std::this_thread::sleep_for(milliseconds(1));
  std::thread stopper([&] { server_->Stop(milliseconds(5000)); });
  EXPECT_TRUE(idle.WaitClosed());
  EXPECT_FALSE(TestClient(server_->port()).connected());
  handler_.release = true;
  const auto answer = busy.Read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->body, "POST kept");
  EXPECT_EQ(answer->headers.at("connection"), "close");
  busy.Close();
  stopper.join();
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
  EXPECT_LT(steady_clock::now() - begin, milliseconds(1500));
  EXPECT_EQ(server_->connections(), 0U);
}

TEST_F(HttpServer, WaitsForHandlersEvenPastTheDrain) {
  StartServer();
  TestClient client(server_->port());
  client.Send(Post("/async-wait", "x"));
  while (handler_.waiting == 0) std::this_thread::sleep_for(milliseconds(1));
  std::atomic<bool> stopped{false};
  std::thread stopper([&] {
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

TEST(AdminServer, ServesMetricsAndHealth) {
  metrics::Registry registry;
  registry.AddCounter("onggi_test_total", "A test.").Add(3);
  Status ready = Unavailable("replaying");
  AdminHandler handler(registry, [&] { return ready; });
  handler.AddPage("/debug/x", [](const Request& request, Response& response) {
    response.body = "x " + std::string(request.query);
  });
  IoPool pool(1);
  Server server(pool, handler, ServerOptions());
  ASSERT_TRUE(server.Start().ok());
  TestClient client(server.port());
  const auto get = [&](const std::string& path) {
    client.Send("GET " + path + " HTTP/1.1\r\n\r\n");
    return *client.Read();
  };
  EXPECT_THAT(get("/metrics").body, ::testing::HasSubstr("onggi_test_total 3"));
  EXPECT_EQ(get("/healthz").status, 200);
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_EQ(get("/readyz").body, "Unavailable: replaying\n");
  ready = Status::Ok();
  EXPECT_EQ(get("/readyz").status, 200);
  EXPECT_EQ(get("/nothing").status, 404);
  EXPECT_EQ(get("/debug/x?q").body, "x q");
  client.Send(Post("/metrics", ""));
  EXPECT_EQ(client.Read()->status, 405);
}

}  // namespace
}  // namespace onggi::http
