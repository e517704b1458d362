#include "common/rpc/stream.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/server_builder.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <thread>

#include "common/proto/replication.grpc.pb.h"
#include "common/rpc/channel.h"
#include "common/rpc/http2.h"
#include "common/rpc/server.h"
#include "common/rpc/stream_server.h"
#include "common/rpc/tls.h"
#include "tests/unit/transport/certificates.h"

namespace onggi::rpc {
namespace {

using namespace std::chrono_literals;
using proto::replication::Frame;
using proto::replication::ReplicationService;
using testing::HasSubstr;

constexpr const char* kMethod = "/onggi.proto.replication.ReplicationService/Exchange";

/// Writes down what one end of a stream is told, and writes.
class End final : public MessageStream::Events {
 public:
  void OnMessage(std::string_view message) override {
    std::unique_lock lock(mutex_);
    bytes_ += message.size();
    if (message.size() < 10'000) messages_.emplace_back(message);
    ++count_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !blocked_; });
  }
  void OnWritten() override {
    std::scoped_lock lock(mutex_);
    free_ = true;
    changed_.notify_all();
  }
  void OnEnded(const grpc::Status& status) override {
    std::scoped_lock lock(mutex_);
    EXPECT_FALSE(ended_);
    ended_ = status;
    changed_.notify_all();
  }

  /// Waits for its turn, and writes. False: not within `patience`.
  bool Write(const std::string& message, std::chrono::milliseconds patience = 10s) {
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait_for(lock, patience, [&] { return free_ || ended_; }) || ended_)
        return false;
      free_ = false;
    }
    std::vector<MessagePiece> pieces(1);
    pieces[0].bytes = message;
    if (!stream->Write(std::move(pieces))) return true;
    std::scoped_lock lock(mutex_);
    free_ = true;
    return true;
  }
  bool Wait(const std::function<bool()>& what, std::chrono::milliseconds patience = 10s) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, what);
  }
  bool WaitCount(size_t count) {
    return Wait([&] { return count_ >= count; });
  }
  grpc::Status WaitEnd(std::chrono::milliseconds patience = 10s) {
    if (Wait([&] { return ended_.has_value(); }, patience)) return *ended_;
    return {grpc::StatusCode::UNKNOWN, "has not ended"};
  }
  void Block(bool blocked) {
    std::scoped_lock lock(mutex_);
    blocked_ = blocked;
    changed_.notify_all();
  }
  std::vector<std::string> messages() {
    std::scoped_lock lock(mutex_);
    return messages_;
  }

  std::shared_ptr<MessageStream> stream;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> messages_;
  size_t count_ = 0, bytes_ = 0;
  bool free_ = true, blocked_ = false;
  std::optional<grpc::Status> ended_;
};

class MessageStreamTest : public testing::Test {
 protected:
  void Serve(MessageStream::Options options = {}) {
    server_ = std::make_unique<StreamServer>(&io_, options);
    server_->Add(kMethod,
                 [this](const std::shared_ptr<MessageStream>& stream,
                        grpc::Status* refusal) -> std::shared_ptr<End> {
                   if (refuse_) {
                     *refusal = {grpc::StatusCode::FAILED_PRECONDITION, "not you"};
                     return nullptr;
                   }
                   auto end = std::make_shared<End>();
                   end->stream = stream;
                   std::scoped_lock lock(mutex_);
                   answered_.push_back(end);
                   changed_.notify_all();
                   return end;
                 });
    const Status status = server_->Start("127.0.0.1:0");
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  std::shared_ptr<End> Dial(MessageStream::Options options = {}, const std::string& name = "",
                            const std::string& method = kMethod, int port = 0) {
    auto end = std::make_shared<End>();
    end->stream = MessageStream::Dial(
        io_.NextExecutor(), options,
        "127.0.0.1:" + std::to_string(port != 0 ? port : server_->port()), method, name);
    end->stream->Start(end);
    dialed_.push_back(end);
    return end;
  }
  std::shared_ptr<End> Answered(size_t number = 0) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, 10s, [&] { return answered_.size() > number; })) return nullptr;
    return answered_[number];
  }
  ~MessageStreamTest() override {
    for (const auto& end : dialed_) {
      end->stream->Abort({grpc::StatusCode::CANCELLED, "the test is over"});
      EXPECT_NE(end->WaitEnd().error_message(), "has not ended");
    }
    if (server_ != nullptr) server_->Stop();
    io_.Join();
    for (const auto& end : dialed_) end->stream = nullptr;
    for (const auto& end : answered_) end->stream = nullptr;
  }

  IoPool io_{2};
  std::unique_ptr<StreamServer> server_;
  std::atomic<bool> refuse_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<End>> answered_;
  std::vector<std::shared_ptr<End>> dialed_;
};

/// A socket that listens and says nothing, as a stopped process's kernel does.
class Silent {
 public:
  Silent() : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    CHECK(::listen(socket_, 16) == 0);
    socklen_t size = sizeof address;
    CHECK(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = ntohs(address.sin_port);
  }
  ~Silent() { ::close(socket_); }
  int port = 0;

 private:
  const int socket_;
};

int Connect(int port) {
  const int connected = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  CHECK(::connect(connected, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return connected;
}

bool ClosedWithin(int socket, std::chrono::seconds patience) {
  timeval limit{patience.count(), 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  char bytes[4096];
  ssize_t n;
  while ((n = ::recv(socket, bytes, sizeof bytes, 0)) > 0) {
  }
  return n == 0 || errno == ECONNRESET;
}

TEST_F(MessageStreamTest, CarriesMessagesBothWaysInOrder) {
  Serve();
  const auto caller = Dial();
  ASSERT_TRUE(caller->Write("0"));
  const auto answerer = Answered();
  ASSERT_NE(answerer, nullptr);
  std::vector<std::string> sent = {"0"}, back;
  std::thread other([&] {
    for (int i = 0; i < 5000; ++i) {
      back.push_back("answer " + std::to_string(i));
      EXPECT_TRUE(answerer->Write(back.back()));
    }
  });
  for (int i = 1; i < 5000; ++i) {
    sent.push_back(std::to_string(i));
    EXPECT_TRUE(caller->Write(sent.back()));
  }
  other.join();
  ASSERT_TRUE(answerer->WaitCount(5000) && caller->WaitCount(5000));
  EXPECT_TRUE(answerer->messages() == sent);
  EXPECT_TRUE(caller->messages() == back);
}

TEST_F(MessageStreamTest, WhoDoesNotReadHoldsTheWriterUp) {
  Serve();
  const auto caller = Dial();
  ASSERT_TRUE(caller->Write("first"));
  const auto answerer = Answered();
  ASSERT_TRUE(answerer != nullptr && answerer->WaitCount(1));
  answerer->Block(true);
  const std::string large(4 << 20, 'x');
  size_t written = 0;
  while (written < 100 && caller->Write(large, 500ms)) ++written;
  EXPECT_LT(written, 20u);  // sockets' buffers and HTTP/2's window
  answerer->Block(false);
  EXPECT_TRUE(answerer->WaitCount(written + 1));
  EXPECT_TRUE(caller->Write("after"));
}

TEST_F(MessageStreamTest, TheAnswerersLastWordComesAfterWhatItWrote) {
  Serve();
  const auto caller = Dial();
  ASSERT_TRUE(caller->Write("hello"));
  const auto answerer = Answered();
  ASSERT_NE(answerer, nullptr);
  ASSERT_TRUE(answerer->Write(std::string(9'000, 'z')));
  answerer->stream->End({grpc::StatusCode::FAILED_PRECONDITION, "enough"});
  const grpc::Status status = caller->WaitEnd();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(), "enough");
  EXPECT_EQ(caller->messages(), std::vector<std::string>{std::string(9'000, 'z')});
  EXPECT_EQ(answerer->WaitEnd().error_message(), "enough");
}

TEST_F(MessageStreamTest, EndsAndAbortsAreHeardOnTheOtherSide) {
  Serve();
  const auto ending = Dial();
  ASSERT_TRUE(ending->Write("a"));
  ASSERT_NE(Answered(0), nullptr);
  ending->stream->End(grpc::Status::OK);
  EXPECT_TRUE(Answered(0)->WaitEnd().ok());
  const auto aborting = Dial();
  ASSERT_TRUE(aborting->Write("a"));
  ASSERT_NE(Answered(1), nullptr);
  aborting->stream->Abort({grpc::StatusCode::CANCELLED, "no more"});
  EXPECT_EQ(Answered(1)->WaitEnd().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(aborting->WaitEnd().error_message(), "no more");
  EXPECT_FALSE(aborting->Write("late"));
}

/// The other side says its last and is gone before what it sent before that is answered.
TEST_F(MessageStreamTest, WhatWasSaidLastIsHeardThoughNobodyTakesAnAnswer) {
  Serve();
  const int client = Connect(server_->port());
  const int yes = 1;
  ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  const auto session = Http2Session::Call(kMethod, "host:1", false, 1 << 20);
  const auto send = [&](std::string bytes) {
    ASSERT_TRUE(session->Produce(&bytes, 1 << 20));
    ASSERT_EQ(::send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  };
  const auto write = [&](const std::string& message) {
    session->Send({MessagePiece{message, nullptr}});
  };
  write("first");
  send("");
  const auto answerer = Answered();
  ASSERT_TRUE(answerer != nullptr && answerer->WaitCount(1));
  answerer->Block(true);
  write("blocks");
  send("");
  ASSERT_TRUE(answerer->WaitCount(2));
  // A ping, which is answered (RFC 9113, 6.7).
  send(std::string("\0\0\10\6\0\0\0\0\0", 9) + "12345678");
  write("last");
  send("");
  session->Cancel();
  send("");
  ::close(client);  // it has read nothing: the connection is reset
  answerer->Block(false);
  EXPECT_EQ(answerer->WaitEnd().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(answerer->messages(), (std::vector<std::string>{"first", "blocks", "last"}));
}

TEST_F(MessageStreamTest, ACallerHearsWhyItIsRefused) {
  Serve();
  refuse_ = true;
  const grpc::Status refused = Dial()->WaitEnd();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(refused.error_message(), "not you");
  const grpc::Status unknown = Dial({}, "", "/none.Such/Method")->WaitEnd();
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(unknown.error_message(), "no method /none.Such/Method is here");
}

TEST_F(MessageStreamTest, WhoCannotBeReachedIsGivenUpInTime) {
  MessageStream::Options options;
  options.connect_timeout = 300ms;
  Serve(options);
  int port;
  {
    const Silent gone;
    port = gone.port;
  }
  EXPECT_THAT(Dial({}, "", kMethod, port)->WaitEnd().error_message(),
              HasSubstr("Connection refused"));
  const int silent = Connect(server_->port());
  EXPECT_TRUE(ClosedWithin(silent, 5s));  // it has called nothing
  ::close(silent);
  // The server goes on.
  EXPECT_TRUE(Dial()->Write("hello"));
  ASSERT_NE(Answered(), nullptr);
  EXPECT_TRUE(Answered()->WaitCount(1));
}

TEST_F(MessageStreamTest, WhatIsNoHttp2IsClosed) {
  Serve();
  const int client = Connect(server_->port());
  const std::string request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  ASSERT_EQ(::send(client, request.data(), request.size(), 0),
            static_cast<ssize_t>(request.size()));
  EXPECT_TRUE(ClosedWithin(client, 5s));
  ::close(client);
}

TEST_F(MessageStreamTest, ConnectionsThatCallNothingAreBounded) {
  MessageStream::Options options;
  options.connect_timeout = 20s;
  Serve(options);
  std::vector<int> clients;
  for (int i = 0; i < 257; ++i) clients.push_back(Connect(server_->port()));
  EXPECT_TRUE(ClosedWithin(clients.back(), 5s));
  for (const int client : clients) ::close(client);
}

TEST_F(MessageStreamTest, AServerThatStopsEndsItsStreams) {
  Serve();
  const auto caller = Dial();
  ASSERT_TRUE(caller->Write("hello"));
  ASSERT_NE(Answered(), nullptr);
  server_->Stop();
  const grpc::Status status = caller->WaitEnd();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "the node is stopping");
}

// With gRPC's own library on the other side. ------------------------------------------------------

TEST_F(MessageStreamTest, AnswersAClientOfGrpc) {
  Serve();
  auto channel = MakeChannel("127.0.0.1:" + std::to_string(server_->port()), TlsOptions());
  ASSERT_TRUE(channel.ok());
  const auto stub = ReplicationService::NewStub(*channel);
  grpc::ClientContext context;
  const auto stream = stub->Exchange(&context);
  Frame frame;
  frame.set_head(std::string(100'000, 'h'));
  ASSERT_TRUE(stream->Write(frame));
  const auto answerer = Answered();
  ASSERT_TRUE(answerer != nullptr && answerer->WaitCount(1));
  Frame answer;
  answer.set_head("from us");
  ASSERT_TRUE(answerer->Write(answer.SerializeAsString()));
  Frame read;
  ASSERT_TRUE(stream->Read(&read));
  EXPECT_EQ(read.head(), "from us");
  answerer->stream->End({grpc::StatusCode::ABORTED, "50 % done"});
  EXPECT_FALSE(stream->Read(&read));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(status.error_message(), "50 % done");
}

TEST_F(MessageStreamTest, CallsAServerOfGrpc) {
  class Echo final : public ReplicationService::Service {
    grpc::Status Exchange(grpc::ServerContext*,
                          grpc::ServerReaderWriter<Frame, Frame>* stream) override {
      Frame frame;
      while (stream->Read(&frame)) stream->Write(frame);
      return {grpc::StatusCode::OUT_OF_RANGE, "that was all"};
    }
  } service;
  RpcServer server((ServerOptions()));
  server.AddService(&service);
  ASSERT_TRUE(server.Start().ok());
  const auto caller = Dial({}, "", kMethod, server.port());
  Frame frame;
  for (int i = 0; i < 100; ++i) {
    frame.set_head(std::string(static_cast<size_t>(i) * 90, 'e'));
    ASSERT_TRUE(caller->Write(frame.SerializeAsString()));
  }
  ASSERT_TRUE(caller->WaitCount(100));
  EXPECT_EQ(caller->messages().back(), frame.SerializeAsString());
  caller->stream->End(grpc::Status::OK);
  EXPECT_TRUE(caller->WaitEnd().ok());
  server.Stop(1s);
}

// TLS. --------------------------------------------------------------------------------------------

class MessageStreamTls : public MessageStreamTest {
 protected:
  static MessageStream::Options With(const TlsOptions& tls) {
    MessageStream::Options options;
    auto loaded = LoadCertificateFiles(tls);
    CHECK_MSG(loaded.ok(), loaded.status().ToString());
    options.tls = *std::move(loaded);
    return options;
  }
  /// Files of a node's own: authorities have one for all.
  TlsOptions Own(const TlsOptions& tls, const std::string& node) {
    const std::string path = directory_.path() + "/" + node + "/";
    std::filesystem::create_directory(path);
    TlsOptions own(path + "ca.crt", path + "tls.crt", path + "tls.key");
    own.reload_interval = 10ms;
    Copy(tls.ca_file, own.ca_file);
    Copy(tls.cert_file, own.cert_file);
    Copy(tls.key_file, own.key_file);
    return own;
  }
  static void Copy(const std::string& from, const std::string& to) {
    std::filesystem::copy_file(from, to + ".new");
    std::filesystem::rename(to + ".new", to);
  }
  /// Replaces the files `tls`, which `options` use, as an administrator does: the authorities (if
  /// they are others), then the pair. Returns when they have been taken.
  static void Replace(const TlsOptions& tls, const MessageStream::Options& options,
                      const TlsOptions& by, bool authorities) {
    const auto taken = [&, files = options.tls.get()](const std::function<void()>& replace) {
      const uint64_t before = files->generation();
      replace();
      for (int i = 0; i < 1000 && files->generation() == before; ++i) {
        std::this_thread::sleep_for(10ms);
      }
      ASSERT_EQ(files->generation(), before + 1);
    };
    if (authorities) taken([&] { Copy(by.ca_file, tls.ca_file); });
    taken([&] {
      Copy(by.cert_file, tls.cert_file);
      Copy(by.key_file, tls.key_file);
    });
  }
  TestDirectory directory_;
  TestAuthority authority_{directory_.path()};
};

TEST_F(MessageStreamTls, BothSidesProveWhoTheyAre) {
  Serve(With(authority_.Issue("node-b")));
  const auto caller = Dial(With(authority_.Issue("node-a")), "node-b");
  ASSERT_TRUE(caller->Write("secret"));
  const auto answerer = Answered();
  ASSERT_TRUE(answerer != nullptr && answerer->WaitCount(1));
  EXPECT_TRUE(IsNamed(answerer->stream->peer_names(), "NODE-A"));
  EXPECT_FALSE(IsNamed(answerer->stream->peer_names(), "node-b"));
  const std::string large(3 << 20, 's');
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(answerer->Write(large));
    ASSERT_TRUE(caller->Write(large));
  }
  EXPECT_TRUE(answerer->WaitCount(6) && caller->WaitCount(5));
}

TEST_F(MessageStreamTls, ACertificateOfAnotherNameOrAuthorityIsRefused) {
  Serve(With(authority_.Issue("node-b")));
  EXPECT_THAT(Dial(With(authority_.Issue("node-a")), "node-c")->WaitEnd().error_message(),
              HasSubstr("certificate verify failed"));
  const TestAuthority other(directory_.path(), "other");
  EXPECT_THAT(Dial(With(other.Issue("node-a")), "node-b")->WaitEnd().error_message(),
              HasSubstr("certificate verify failed"));
  // Trusts the server, but has a certificate of nobody whom it trusts.
  TlsOptions stranger = other.Issue("node-x");
  stranger.ca_file = directory_.path() + "/ca.crt";
  EXPECT_FALSE(Dial(With(stranger), "node-b")->WaitEnd().ok());
  EXPECT_FALSE(Dial({}, "node-b")->WaitEnd().ok());  // plain text
  std::scoped_lock lock(mutex_);
  EXPECT_TRUE(answered_.empty());
}

TEST_F(MessageStreamTls, AStreamOutlivesTheChangeOfTheAuthority) {
  const TlsOptions b = Own(authority_.Issue("node-b"), "b");
  const auto as_b = With(b);
  Serve(as_b);
  const TlsOptions a = authority_.Issue("node-a");
  const auto lasting = Dial(With(a), "node-b");
  ASSERT_TRUE(lasting->Write("before"));
  ASSERT_NE(Answered(0), nullptr);
  const auto answered = [&] {
    std::scoped_lock lock(mutex_);
    return answered_.size();
  };

  const TestAuthority other(directory_.path(), "other");
  Replace(b, as_b, other.Issue("node-b2"), true);
  const TlsOptions renewed = other.Issue("node-a2");
  const auto fresh = Dial(With(renewed), "node-b2");
  ASSERT_TRUE(fresh->Write("after"));
  ASSERT_TRUE(Answered(1) != nullptr && Answered(1)->WaitCount(1));
  EXPECT_TRUE(IsNamed(Answered(1)->stream->peer_names(), "node-a2"));

  // Of the old authority: it does not know the server's certificate, nor, where it does, the server
  // its.
  EXPECT_THAT(Dial(With(a), "node-b2")->WaitEnd().error_message(),
              HasSubstr("certificate verify failed"));
  const auto unknown = Dial(With({renewed.ca_file, a.cert_file, a.key_file}), "node-b2");
  unknown->Write("let me in");
  EXPECT_FALSE(unknown->WaitEnd().ok());
  EXPECT_EQ(answered(), 2u);

  const std::string large(1 << 20, 'l');
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(lasting->Write(large));
    ASSERT_TRUE(Answered(0)->Write(large));
  }
  EXPECT_TRUE(Answered(0)->WaitCount(6) && lasting->WaitCount(5));
}

TEST_F(MessageStreamTls, ACallerShowsItsRenewedCertificate) {
  Serve(With(authority_.Issue("node-b")));
  const TlsOptions a = Own(authority_.Issue("node-a"), "a");
  const auto as_a = With(a);
  const auto lasting = Dial(as_a, "node-b");
  ASSERT_TRUE(lasting->Write("before"));
  ASSERT_NE(Answered(0), nullptr);
  Replace(a, as_a, authority_.Issue("node-a2"), false);
  ASSERT_TRUE(Dial(as_a, "node-b")->Write("after"));
  ASSERT_NE(Answered(1), nullptr);
  EXPECT_TRUE(IsNamed(Answered(1)->stream->peer_names(), "node-a2"));
  // Whom it trusts is read again too.
  const TestAuthority other(directory_.path(), "other");
  Replace(a, as_a, other.Issue("node-a3"), true);
  EXPECT_THAT(Dial(as_a, "node-b")->WaitEnd().error_message(),
              HasSubstr("certificate verify failed"));
  ASSERT_TRUE(lasting->Write("still there"));
  EXPECT_TRUE(Answered(0)->WaitCount(2));
}

TEST_F(MessageStreamTls, FilesThatCannotServeAreNamed) {
  const TlsOptions good = authority_.Issue("node-a");
  const auto message = [](const TlsOptions& tls) {
    return LoadCertificateFiles(tls).status().message();
  };
  EXPECT_THAT(message({good.ca_file, "", ""}), HasSubstr("a server needs a certificate"));
  EXPECT_THAT(message({"", good.cert_file, good.key_file}), HasSubstr("needs their authorities"));
  EXPECT_THAT(message({good.ca_file, good.cert_file, "/none"}), HasSubstr("/none"));
  EXPECT_THAT(message({good.ca_file, good.cert_file, authority_.Issue("x").key_file}),
              HasSubstr("is not the key of"));
}

}  // namespace
}  // namespace onggi::rpc
