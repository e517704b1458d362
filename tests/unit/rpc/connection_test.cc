#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_future.hpp>
#include <filesystem>
#include <thread>

#include "common/proto/replication.grpc.pb.h"
#include "common/rpc/call.h"
#include "common/rpc/channel.h"
#include "common/rpc/server.h"
#include "common/runtime.h"
#include "tests/unit/transport/certificates.h"

namespace onggi::rpc {
namespace {

using namespace std::chrono_literals;
using proto::replication::CheckpointOffer;
using proto::replication::CheckpointOfferAnswer;
using RpcService = proto::replication::CheckpointService;
using testing::HasSubstr;

/// Answers an Offer by its checkpoint number, from a coroutine: 0 is Ok, 1 an error, 2 never.
class TestService final : public RpcService::WithCallbackMethod_Offer<RpcService::Service> {
 public:
  grpc::ServerUnaryReactor* Offer(grpc::CallbackServerContext* context,
                                  const CheckpointOffer* offer, CheckpointOfferAnswer*) override {
    return Answer(context, scope, pool.executor(0), Run(offer->checkpoint()));
  }

  IoPool pool{1};
  AsyncScope scope;

 private:
  static boost::asio::awaitable<Status> Run(uint64_t what) {
    if (what == 1) co_return Status(Code::kNotPrimary, "node 7 is");
    if (what == 2) {
      boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, 1h);
      co_await timer.async_wait(boost::asio::use_awaitable);
    }
    co_return Status();
  }
};

class Connection : public testing::Test {
 protected:
  void Start(ServerOptions options = {}) {
    server_ = std::make_unique<RpcServer>(options);
    server_->AddService(&service_);
    const Status status = server_->Start();
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  void TearDown() override {
    service_.scope.Stop();
    if (server_ != nullptr) server_->Stop(0ms);
  }
  std::string endpoint() const { return "127.0.0.1:" + std::to_string(server_->port()); }

  Status Ask(uint64_t what, const TlsOptions& tls = {}, const ChannelOptions& options = {},
             std::chrono::milliseconds timeout = 5s) {
    auto channel = MakeChannel(endpoint(), tls, options);
    if (!channel.ok()) return channel.status();
    auto stub = RpcService::NewStub(*channel);
    CheckpointOffer offer;
    offer.set_checkpoint(what);
    constexpr auto ask = [](RpcService::Stub* to, CheckpointOffer request,
                            std::chrono::milliseconds patience) -> boost::asio::awaitable<Status> {
      auto answer = co_await Call(to->async(), &RpcService::Stub::async::Offer, request, patience);
      co_return answer.status();
    };
    IoPool pool(1);
    return boost::asio::co_spawn(pool.executor(0), ask(stub.get(), offer, timeout),
                                 boost::asio::use_future)
        .get();
  }

  TestService service_;
  std::unique_ptr<RpcServer> server_;
  TestDirectory directory_;
};

TEST_F(Connection, CallsAndAnswersAreCoroutines) {
  Start();
  EXPECT_EQ(Ask(0), Status::Ok());
  EXPECT_EQ(Ask(1), Status(Code::kNotPrimary, "node 7 is"));
  EXPECT_EQ(Ask(2, {}, {}, 50ms).code(), Code::kDeadlineExceeded);
}

TEST_F(Connection, AStoppingScopeAnswersWhatItCannot) {
  Start();
  std::thread stopper([this] {
    std::this_thread::sleep_for(100ms);
    service_.scope.Stop();
  });
  EXPECT_EQ(Ask(2), Unavailable("the server is stopping"));
  stopper.join();
  EXPECT_EQ(Ask(0), Unavailable("the server is stopping"));
}

TEST_F(Connection, ACancelledCoroutineCancelsItsCall) {
  Start();
  auto channel = MakeChannel(endpoint(), TlsOptions());
  ASSERT_TRUE(channel.ok());
  auto stub = RpcService::NewStub(*channel);
  CheckpointOffer offer;
  offer.set_checkpoint(2);
  IoPool pool(1);
  AsyncScope scope;
  std::atomic<bool> ended{false};
  constexpr auto ask = [](RpcService::Stub* to, CheckpointOffer request,
                          std::atomic<bool>* done) -> boost::asio::awaitable<void> {
    (void)co_await Call(to->async(), &RpcService::Stub::async::Offer, request, 1h);
    *done = true;
  };
  ASSERT_TRUE(scope.Spawn(pool.executor(0), ask(stub.get(), offer, &ended)));
  std::this_thread::sleep_for(50ms);
  EXPECT_FALSE(ended);
  scope.Stop();
}

TEST_F(Connection, ASecondServerOnAPortIsRefused) {
  Start();
  TestService service;
  RpcServer second(ServerOptions(endpoint(), TlsOptions()));
  second.AddService(&service);
  EXPECT_EQ(second.Start().code(), Code::kIoError);
}

TEST_F(Connection, FilesOfTlsAreLookedAtFirst) {
  const TestAuthority authority(directory_.path());
  const TlsOptions good = authority.Issue("a");
  const TlsOptions other = authority.Issue("b");
  EXPECT_TRUE(MakeServerCredentials(good).ok());
  const auto why = [](const TlsOptions& tls) {
    return MakeServerCredentials(tls).status().message();
  };
  EXPECT_THAT(why({good.ca_file, good.cert_file, other.key_file}), HasSubstr("is not the key of"));
  EXPECT_THAT(why({good.ca_file, good.cert_file, "/nowhere"}), HasSubstr("cannot read /nowhere"));
  EXPECT_THAT(why({good.key_file, good.cert_file, good.key_file}), HasSubstr("no PEM certificate"));
  EXPECT_THAT(why({good.ca_file, good.cert_file, ""}), HasSubstr("go together"));
  EXPECT_THAT(why({good.ca_file, "", ""}), HasSubstr("a server needs a certificate"));
}

TEST_F(Connection, BothSidesProveWhoTheyAre) {
  const TestAuthority authority(directory_.path());
  const TestAuthority foreign(directory_.path(), "foreign");
  const TlsOptions server = authority.Issue("server");
  Start(ServerOptions("127.0.0.1:0", server));
  ChannelOptions named;
  named.server_name = "server";
  EXPECT_EQ(Ask(0, authority.Issue("client"), named), Status::Ok());
  // No certificate, one of another authority, a server of another name, no TLS at all.
  EXPECT_EQ(Ask(0, TlsOptions(server.ca_file, "", ""), named).code(), Code::kUnavailable);
  TlsOptions stranger = foreign.Issue("client");
  stranger.ca_file = server.ca_file;
  EXPECT_EQ(Ask(0, stranger, named).code(), Code::kUnavailable);
  ChannelOptions other;
  other.server_name = "other";
  EXPECT_EQ(Ask(0, authority.Issue("client"), other).code(), Code::kUnavailable);
  EXPECT_EQ(Ask(0).code(), Code::kUnavailable);
}

TEST_F(Connection, RenewedCertificatesAreTakenUp) {
  const TestAuthority first(directory_.path(), "first");
  const TestAuthority second(directory_.path(), "second");
  TlsOptions server = first.Issue("server");
  const TlsOptions renewed = second.Issue("server");
  server.reload_interval = 1s;
  Start(ServerOptions("127.0.0.1:0", server));
  ChannelOptions options;
  options.server_name = "server";
  EXPECT_NE(Ask(0, second.Issue("client"), options), Status::Ok());
  const auto replace = [](const std::string& from, const std::string& to) {
    std::filesystem::copy_file(from, to + ".new");
    std::filesystem::rename(to + ".new", to);
  };
  replace(renewed.cert_file, server.cert_file);
  replace(renewed.key_file, server.key_file);
  replace(renewed.ca_file, server.ca_file);
  Status status;
  const TlsOptions client = second.Issue("client");
  for (int i = 0; i < 50; ++i) {
    status = Ask(0, client, options);
    if (status.ok()) break;
    std::this_thread::sleep_for(100ms);
  }
  EXPECT_EQ(status, Status::Ok());
}

}  // namespace
}  // namespace onggi::rpc
