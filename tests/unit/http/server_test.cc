#include "common/http/server.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>
#include <vector>

#include "tests/unit/http/server_fixture.h"

/// What the server answers to whom: methods, bodies, keep-alive, pipelining, refusals.
namespace onggi::http {
namespace {

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
  std::jthread sender([&] { EXPECT_TRUE(client.Send(requests)); });
  for (int i = 0; i < 500; ++i) {
    const auto answer = client.Read();
    ASSERT_TRUE(answer) << i;
    if (i % 50 != 7 && i % 100 == 3) {
      EXPECT_EQ(answer->body.size(), 8U << 20);
    } else {
      EXPECT_EQ(answer->body, "POST n" + std::to_string(i));
    }
  }
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

}  // namespace
}  // namespace onggi::http
