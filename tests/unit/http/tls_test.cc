#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <signal.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "common/http/server.h"
#include "common/tls/certificate_files.h"
#include "tests/unit/common/certificates.h"
#include "tests/unit/http/server_fixture.h"
#include "tests/unit/http/tls_client.h"

/// The server over TLS: what it does as without, and what is TLS's own.
namespace onggi::http {
namespace {

using ::testing::HasSubstr;

class HttpsServer : public HttpServer {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);  // of the clients, whose sockets OpenSSL writes to
    certificate_ = authority_.Issue("localhost");
  }

  void StartTls(size_t threads = 1) {
    tls::CertificatePaths paths(certificate_.cert_file, certificate_.key_file);
    paths.poll_interval = milliseconds(20);
    auto tls = tls::CertificateFiles::Load(paths, tls::kHttp1);
    ASSERT_TRUE(tls.ok()) << tls.status().ToString();
    options_.tls = *tls;
    StartServer(threads);
  }

  std::unique_ptr<TlsClient> Connect(const std::function<void(SSL*)>& prepare = {},
                                     int receive_buffer = 0) {
    return std::make_unique<TlsClient>(server_->port(), certificate_.ca_file, prepare,
                                       receive_buffer);
  }

  uint64_t Failures(const std::string& reason) {
    return Metric("onggi_http_tls_handshake_failures_total", {{"reason", reason}});
  }

  static void Shrink(int fd) {
    const int bytes = 4096;
    ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
  }

  /// Connections accepted from now on have little room for what is under way: they inherit it from
  /// the listening socket, which is one of this process.
  void ShrinkAccepted() {
    for (int fd = 0; fd < 1024; ++fd) {
      int listens = 0;
      socklen_t size = sizeof(listens);
      sockaddr_in address{};
      socklen_t address_size = sizeof(address);
      if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0 ||
          ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &address_size) != 0 ||
          ntohs(address.sin_port) != server_->port()) {
        continue;
      }
      return Shrink(fd);
    }
    FAIL() << "no socket listens";
  }

  /// The subject of the certificate that the server has shown.
  static std::string ShownTo(const TlsClient& client) {
    char text[256] = "none";
    X509* const shown = SSL_get1_peer_certificate(client.ssl());
    if (shown != nullptr) X509_NAME_oneline(X509_get_subject_name(shown), text, sizeof(text));
    X509_free(shown);
    return text;
  }

  TestDirectory directory_;
  PemAuthority authority_{directory_.path()};
  TestCertificate certificate_;
};

TEST_F(HttpsServer, AnswersAndKeepsTheConnection) {
  StartTls();
  const auto client = Connect();
  ASSERT_TRUE(client->handshaken()) << client->error();
  EXPECT_STREQ(SSL_get_version(client->ssl()), "TLSv1.3");
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client->Send(Post("/echo", "hello" + std::to_string(i))));
    const auto answer = client->Read();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->body, "POST hello" + std::to_string(i));
    EXPECT_FALSE(answer->headers.contains("connection"));
  }
  EXPECT_EQ(Metric("onggi_http_requests_total"), 3U);
  EXPECT_EQ(Metric("onggi_http_tls_handshakes_total"), 1U);
}

TEST_F(HttpsServer, SpeaksTls12WithForwardSecrecyOnly) {
  certificate_ = authority_.Issue("rsa", "rsa:2048");
  StartTls();
  const auto with = [&](const char* ciphers) {
    return Connect([&](SSL* ssl) {
      SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
      CHECK(SSL_set_cipher_list(ssl, ciphers) == 1);
    });
  };
  const auto client = with("DEFAULT");
  ASSERT_TRUE(client->handshaken()) << client->error();
  EXPECT_STREQ(SSL_get_version(client->ssl()), "TLSv1.2");
  client->Send(Post("/", "x"));
  EXPECT_EQ(client->Read()->body, "POST x");
  for (const char* weak : {"AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"}) {
    const auto refused = with(weak);
    EXPECT_FALSE(refused->handshaken()) << weak;
    EXPECT_THAT(refused->error(), HasSubstr("handshake failure"));
  }
}

TEST_F(HttpsServer, RefusesTls11) {
  StartTls();
  const auto client = Connect([](SSL* ssl) {
    SSL_set_security_level(ssl, 0);
    SSL_set_min_proto_version(ssl, TLS1_VERSION);
    SSL_set_max_proto_version(ssl, TLS1_1_VERSION);
  });
  EXPECT_FALSE(client->handshaken());
  EXPECT_THAT(client->error(), HasSubstr("protocol version"));
  EXPECT_TRUE(Eventually([&] { return Failures("error") == 1; }));
}

TEST_F(HttpsServer, ChoosesHttp11OrRefuses) {
  StartTls();
  const auto offering = [&](std::string protocols) {
    return Connect([&](SSL* ssl) {
      SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(protocols.data()),
                          static_cast<unsigned>(protocols.size()));
    });
  };
  const auto both = offering("\x02h2\x08http/1.1");
  ASSERT_TRUE(both->handshaken()) << both->error();
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(both->ssl(), &chosen, &size);
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(chosen), size), "http/1.1");
  const auto other = offering("\x02h2");
  EXPECT_FALSE(other->handshaken());
  EXPECT_THAT(other->error(), HasSubstr("no application protocol"));
}

TEST_F(HttpsServer, IsRefusedByClientsOfAnotherAuthority) {
  StartTls();
  const PemAuthority foreign(directory_.path(), "foreign");
  TlsClient client(server_->port(), foreign.Issue("x").ca_file);
  EXPECT_FALSE(client.handshaken());
  EXPECT_THAT(client.error(), HasSubstr("certificate verify failed"));
  EXPECT_TRUE(Eventually([&] { return Failures("error") == 1; }));
}

TEST_F(HttpsServer, AnswersPipelinedRequestsInOrder) {
  StartTls();
  const auto client = Connect();
  std::string requests;
  for (int i = 0; i < 200; ++i) {
    const std::string path = i % 50 == 7 ? "/async-slow" : i % 100 == 3 ? "/big" : "/";
    requests += Post(path, "n" + std::to_string(i));
  }
  ASSERT_LT(requests.size(), 64U << 10);  // the server takes it although nobody reads yet
  ASSERT_TRUE(client->Send(requests));
  for (int i = 0; i < 200; ++i) {
    const auto answer = client->Read();
    ASSERT_TRUE(answer) << i;
    if (i % 50 != 7 && i % 100 == 3) {
      EXPECT_EQ(answer->body.size(), 8U << 20);
    } else {
      EXPECT_EQ(answer->body, "POST n" + std::to_string(i));
    }
  }
}

TEST_F(HttpsServer, TakesRecordsOfOneByteAndManyAtATime) {
  StartTls();
  const auto client = Connect();
  // Corked, the records arrive together: what OpenSSL has read ahead must not be waited for.
  const auto cork = [&](int on) {
    ::setsockopt(client->fd(), IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
  };
  for (int round = 0; round < 3; ++round) {
    cork(1);
    for (int i = 0; i < 20; ++i) {
      for (const char c : Post("/", "n" + std::to_string(i))) {
        ASSERT_TRUE(client->Send(std::string_view(&c, 1)));
      }
    }
    cork(0);
    for (int i = 0; i < 20; ++i) {
      const auto answer = client->Read();
      ASSERT_TRUE(answer) << i;
      EXPECT_EQ(answer->body, "POST n" + std::to_string(i));
    }
  }
}

TEST_F(HttpsServer, TakesAndGivesBigBodies) {
  StartTls();
  const auto client = Connect();
  std::string body(8 << 20, '\0');
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>('a' + (i * 7 + i / 26) % 26);
  for (const char* path : {"/", "/async"}) {
    ASSERT_TRUE(client->Send(Post(path, body)));
    const auto answer = client->Read();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->body.substr(0, 5), "POST ");
    EXPECT_TRUE(answer->body.substr(5) == body);
  }
}

TEST_F(HttpsServer, AnswersKeyUpdates) {
  StartTls();
  const auto client = Connect();
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(SSL_key_update(client->ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
    ASSERT_EQ(SSL_do_handshake(client->ssl()), 1);
    if (i % 20 == 0) {
      ASSERT_TRUE(client->Send(Post("/", "x")));
      ASSERT_TRUE(client->Read()) << i;
    }
  }
  client->Send(Post("/", "after"));
  EXPECT_EQ(client->Read()->body, "POST after");
}

TEST_F(HttpsServer, WaitsForRoomToAnswerKeyUpdates) {
  StartTls();
  ShrinkAccepted();
  const auto client = Connect();
  Shrink(client->fd());
  // Each asks for an answer, and nobody reads those: at some time the server cannot go on reading.
  ::fcntl(client->fd(), F_SETFL, O_NONBLOCK);
  bool under_way = false;
  const auto update = [&] {
    if (!under_way) CHECK(SSL_key_update(client->ssl(), SSL_KEY_UPDATE_REQUESTED) == 1);
    under_way = SSL_do_handshake(client->ssl()) != 1;
    return !under_way;
  };
  int updates = 0;  // some thousands
  auto last = steady_clock::now();
  while (steady_clock::now() - last < milliseconds(300)) {
    if (update()) {
      ++updates;
      last = steady_clock::now();
    } else {
      std::this_thread::sleep_for(milliseconds(1));
    }
  }
  ASSERT_GT(updates, 100);
  // It waits for room: what it could read meanwhile does not wake it again and again.
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 10) << "spinning";
  ASSERT_EQ(server_->connections(), 1U);
  // The client's OpenSSL reads only when it has written what it had begun: that needs room.
  const int bytes = 1 << 20;
  ASSERT_EQ(::setsockopt(client->fd(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
  ASSERT_TRUE(Eventually([&] { return !under_way || update(); }));
  // From here on the answers are read, and a request behind all that is answered.
  const std::string request = Post("/", "after");
  bool sent = false;
  std::string answer;
  const auto end = steady_clock::now() + std::chrono::seconds(20);
  while (answer.find("POST after") == std::string::npos && steady_clock::now() < end) {
    char part[4096];
    const int n = SSL_read(client->ssl(), part, sizeof(part));
    if (n > 0) answer.append(part, static_cast<size_t>(n));
    if (!sent) {
      sent = SSL_write(client->ssl(), request.data(), static_cast<int>(request.size())) > 0;
    }
  }
  EXPECT_THAT(answer, HasSubstr("POST after"));
}

TEST_F(HttpsServer, SaysContinueToClientsThatWait) {
  StartTls();
  const auto client = Connect();
  client->Send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  EXPECT_EQ(client->Read()->status, 100);
  client->Send("body");
  EXPECT_EQ(client->Read()->body, "POST body");
}

TEST_F(HttpsServer, EndsInOrder) {
  options_.idle_timeout = milliseconds(300);
  StartTls();
  const auto closing = Connect();
  closing->Send("GET /close HTTP/1.1\r\n\r\n");
  EXPECT_EQ(closing->Read()->headers.at("connection"), "close");
  EXPECT_TRUE(closing->ClosedInOrder());
  const auto idle = Connect();
  EXPECT_TRUE(idle->ClosedInOrder());
  EXPECT_EQ(Metric("onggi_http_timeouts_total", {{"phase", "idle"}}), 1U);
  // A client that says that it has said everything is answered, and told the end.
  const auto half = Connect();
  half->Send(Post("/async-slow", "last"));
  SSL_shutdown(half->ssl());
  EXPECT_EQ(half->Read()->body, "POST last");
  EXPECT_TRUE(half->ClosedInOrder());
  // One that closes its side of the socket without such words likewise.
  const auto abrupt = Connect();
  abrupt->Send(Post("/async-slow", "last"));
  abrupt->ShutdownWrite();
  EXPECT_EQ(abrupt->Read()->body, "POST last");
  EXPECT_TRUE(abrupt->ClosedInOrder());
}

TEST_F(HttpsServer, ClosesHandshakesThatDoNotEnd) {
  options_.header_timeout = milliseconds(200);
  StartTls();
  TestClient silent(server_->port());
  TestClient half(server_->port());
  // A record of 512 bytes of which nine come.
  half.Send(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9));
  TestClient dripping(server_->port());
  const auto begin = steady_clock::now();
  dripping.Send(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));
  while (steady_clock::now() - begin < std::chrono::seconds(5) && dripping.Send("r")) {
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_TRUE(silent.WaitClosed());
  EXPECT_TRUE(half.WaitClosed());
  WaitForConnections(0);
  EXPECT_EQ(Failures("timeout"), 3U);
  // The deadline was the handshake's: who has done it may be silent for longer.
  const auto client = Connect();
  std::this_thread::sleep_for(milliseconds(500));
  client->Send(Post("/", "x"));
  EXPECT_TRUE(client->Read());
}

TEST_F(HttpsServer, TellsWhoSpeaksPlainHttp) {
  StartTls();
  TestClient client(server_->port());
  client.Send(Post("/", "x"));
  const auto answer = client.Read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 400);
  EXPECT_EQ(answer->body.substr(0, 7), "error 6");
  EXPECT_EQ(answer->headers.at("connection"), "close");
  EXPECT_TRUE(client.WaitClosed());
  EXPECT_EQ(Failures("plain_http"), 1U);
  EXPECT_EQ(Metric("onggi_http_requests_total"), 0U);
}

TEST_F(HttpsServer, ClosesOnNonsense) {
  StartTls();
  TestClient noise(server_->port());
  noise.Send(std::string(100'000, '\x01'));
  EXPECT_TRUE(noise.WaitClosed());
  EXPECT_EQ(Failures("error"), 1U);
  // Nonsense where a record should be, behind a handshake.
  const auto client = Connect();
  client->Send(Post("/", "x"));
  ASSERT_TRUE(client->Read());
  EXPECT_EQ(::send(client->fd(), "nonsense, nonsense", 18, MSG_NOSIGNAL), 18);
  EXPECT_FALSE(client->Read());
  WaitForConnections(0);
}

TEST_F(HttpsServer, CountsOnlyClientsThatBegan) {
  StartTls();
  { TestClient probe(server_->port()); }
  {
    TestClient reset(server_->port());
    reset.Reset();
  }
  TestClient began(server_->port());
  began.Send(std::string_view("\x16\x03\x01\x02", 4));
  WaitForConnections(1);
  began.Close();
  WaitForConnections(0);
  EXPECT_EQ(Failures("vanished"), 1U);
  EXPECT_EQ(Failures("error"), 0U);
}

TEST_F(HttpsServer, ClosesClientsThatStopReading) {
  options_.write_timeout = milliseconds(200);
  StartTls();
  for (const char* path : {"/big", "/async-big"}) {
    const auto client = Connect({}, 4096);
    client->Send(Post(path, "") + Post(path, "") + Post(path, ""));
    WaitForConnections(1);
    WaitForConnections(0);
  }
  EXPECT_EQ(Metric("onggi_http_timeouts_total", {{"phase", "write"}}), 2U);
}

TEST_F(HttpsServer, ClosesClientsThatDripTheirHeader) {
  options_.header_timeout = milliseconds(300);
  StartTls();
  const auto client = Connect();
  client->Send("GET / HTTP/1.1\r\nX: y\r\n");
  EXPECT_EQ(client->Read()->status, 408);
  EXPECT_TRUE(client->ClosedInOrder());
  EXPECT_EQ(Metric("onggi_http_timeouts_total", {{"phase", "read"}}), 1U);
}

TEST_F(HttpsServer, RefusesConnectionsBeyondItsLimit) {
  options_.max_connections = 2;
  StartTls();
  auto first = Connect();
  TestClient silent(server_->port());  // a handshake that has not begun counts
  WaitForConnections(2);
  const auto extra = Connect();
  EXPECT_FALSE(extra->handshaken());
  EXPECT_THAT(extra->error(), HasSubstr("alert internal error"));
  first.reset();
  WaitForConnections(1);
  EXPECT_TRUE(Connect()->handshaken());
  EXPECT_EQ(Metric("onggi_http_connections_refused_total"), 1U);
}

TEST_F(HttpsServer, TakesNewCertificatesWithoutARestart) {
  StartTls();
  const TestCertificate renewed = authority_.Issue("renewed");
  const auto old = Connect();
  EXPECT_EQ(ShownTo(*old), "/CN=localhost");
  const int64_t expires = options_.tls->expires();
  EXPECT_GT(expires, std::time(nullptr));
  EXPECT_LT(expires, std::time(nullptr) + 3 * 24 * 3600);
  const auto replace = [](const std::string& from, const std::string& to) {
    std::filesystem::copy_file(from, to + ".new");
    std::filesystem::rename(to + ".new", to);
  };
  replace(renewed.cert_file, certificate_.cert_file);
  replace(renewed.key_file, certificate_.key_file);
  EXPECT_TRUE(Eventually([&] { return ShownTo(*Connect()) == "/CN=renewed"; }));
  // Connections from before go on.
  old->Send(Post("/", "old"));
  EXPECT_EQ(old->Read()->body, "POST old");
}

TEST_F(HttpsServer, ShowsTheWholeChain) {
  // An authority whose certificate stands behind the leaf's in the same file.
  std::ofstream(certificate_.cert_file, std::ios::app)
      << std::ifstream(certificate_.ca_file).rdbuf();
  StartTls();
  const auto client = Connect();
  ASSERT_TRUE(client->handshaken()) << client->error();
  EXPECT_EQ(sk_X509_num(SSL_get_peer_cert_chain(client->ssl())), 2);
}

TEST_F(HttpsServer, StopsInTheMiddleOfHandshakes) {
  StartTls(2);
  TestClient silent(server_->port());
  TestClient half(server_->port());
  half.Send(std::string_view("\x16\x03\x01\x02", 4));
  const auto idle = Connect();
  WaitForConnections(3);
  const auto begin = steady_clock::now();
  server_->Stop(std::chrono::seconds(20));
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(10));
  EXPECT_TRUE(silent.WaitClosed());
  EXPECT_TRUE(half.WaitClosed());
  EXPECT_TRUE(idle->ClosedInOrder());
}

TEST_F(HttpsServer, StopsUnderLoad) {
  StartTls(2);
  std::atomic<bool> go{true};
  std::atomic<int> answers{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      while (go) {
        TlsClient client(server_->port());
        for (int i = 0; i < 20 && client.handshaken(); ++i) {
          if (!client.Send(Post(t % 2 == 0 ? "/" : "/async-slow", "x")) || !client.Read()) break;
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
