#include "server/grpc/admin_proxy.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "common/proto/coordinator.grpc.pb.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "server/dynamodb/catalog.h"

namespace onggi::grpc_api {
namespace {

using grpc::StatusCode;
using ::testing::HasSubstr;

/// A coordinator that is active, or knows who is.
class FakeCoordinator final : public proto::CoordinatorService::CallbackService {
 public:
  FakeCoordinator() : server_(rpc::ServerOptions()) {
    server_.AddService(this);
    CHECK(server_.Start().ok());
  }
  ~FakeCoordinator() override { server_.Stop(std::chrono::milliseconds(0)); }

  std::string address() const { return "127.0.0.1:" + std::to_string(server_.port()); }

  grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* context,
                                      const proto::DrainNodeRequest* request,
                                      proto::DrainNodeResponse* response) override {
    ++asked;
    response->set_replicas(static_cast<uint32_t>(request->node()));
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (!active_elsewhere.empty()) {
      reactor->Finish(rpc::ToGrpc({Code::kNotPrimary, active_elsewhere}));
    } else {
      reactor->Finish(answer);
    }
    return reactor;
  }

  grpc::Status answer;
  std::string active_elsewhere;
  std::atomic<int> asked{0};

 private:
  rpc::RpcServer server_;
};

class FakeFinder final : public CoordinatorFinder {
 public:
  std::string Active() override { return active; }
  std::shared_ptr<grpc::Channel> Connect(const std::string& address) override {
    return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  }
  std::string active;
};

class AdminProxyTest : public ::testing::Test {
 protected:
  explicit AdminProxyTest(sigv4::SecretLookup secrets = {}) {
    dynamodb::ApiOptions options;
    options.secrets = std::move(secrets);
    api_ = std::make_unique<dynamodb::Api>(std::move(options), catalog_, dynamodb::OperationTable(),
                                           registry_);
    proxy_ = std::make_unique<AdminProxy>(*api_, finder_);
    server_.AddService(proxy_.get());
    CHECK(server_.Start().ok());
    stub_ = proto::CoordinatorService::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(server_.port()), grpc::InsecureChannelCredentials()));
  }
  ~AdminProxyTest() override { server_.Stop(std::chrono::milliseconds(0)); }

  grpc::Status Drain(uint64_t node, const std::string& authorization = "") {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    proto::DrainNodeRequest request;
    request.set_node(node);
    return stub_->DrainNode(&context, request, &response_);
  }

  metrics::Registry registry_;
  dynamodb::Catalog catalog_;
  std::unique_ptr<dynamodb::Api> api_;
  FakeFinder finder_;
  FakeCoordinator first_;
  FakeCoordinator second_;
  std::unique_ptr<AdminProxy> proxy_;
  rpc::RpcServer server_{rpc::ServerOptions()};
  std::unique_ptr<proto::CoordinatorService::Stub> stub_;
  proto::DrainNodeResponse response_;
};

TEST_F(AdminProxyTest, PassesCallsOnToTheActiveCoordinator) {
  finder_.active = first_.address();
  ASSERT_TRUE(Drain(7).ok());
  EXPECT_EQ(response_.replicas(), 7u);
  EXPECT_EQ(first_.asked, 1);
}

TEST_F(AdminProxyTest, PassesErrorsOnAsTheyAre) {
  finder_.active = first_.address();
  first_.answer = rpc::ToGrpc({Code::kConditionFailed, "table music could not be held"});
  const grpc::Status status = Drain(7);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(rpc::FromGrpc(status), Status(Code::kConditionFailed, "table music could not be held"));
}

TEST_F(AdminProxyTest, FollowsTheActiveCoordinatorOnce) {
  finder_.active = first_.address();
  first_.active_elsewhere = second_.address();
  ASSERT_TRUE(Drain(5).ok());
  EXPECT_EQ(response_.replicas(), 5u);
  EXPECT_EQ(second_.asked, 1);
  second_.active_elsewhere = first_.address();
  EXPECT_EQ(Drain(5).error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(second_.asked, 2);
}

TEST_F(AdminProxyTest, SaysWhenThereIsNone) {
  const grpc::Status none = Drain(7);
  EXPECT_EQ(none.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(none.error_message(), HasSubstr("no active coordinator"));
  EXPECT_FALSE(rpc::MayHaveRun(none));  // another node may be asked, whatever it is
  finder_.active = "127.0.0.1:1";
  EXPECT_EQ(Drain(7).error_code(), StatusCode::UNAVAILABLE);
}

/// As of a client that gives up between the headers and its message: a node must not end of it.
TEST_F(AdminProxyTest, RefusesACallWithoutAMessage) {
  finder_.active = first_.address();
  grpc::CompletionQueue queue;
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  grpc::GenericStub stub(grpc::CreateChannel("127.0.0.1:" + std::to_string(server_.port()),
                                             grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto call = stub.PrepareCall(&context, "/onggi.proto.CoordinatorService/DrainNode", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(next());
  call->WritesDone(nullptr);
  ASSERT_TRUE(next());
  grpc::Status status;
  call->Finish(&status, nullptr);
  ASSERT_TRUE(next());
  EXPECT_EQ(status.error_code(), StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "the call has no message");
  EXPECT_EQ(first_.asked, 0);
  // An empty message is one.
  EXPECT_TRUE(Drain(0).ok());
  queue.Shutdown();
}

TEST_F(AdminProxyTest, PassesNothingOnThatIsForNodes) {
  finder_.active = first_.address();
  grpc::ClientContext context;
  proto::ReportLoadResponse response;
  EXPECT_EQ(stub_->ReportLoad(&context, proto::ReportLoadRequest(), &response).error_code(),
            StatusCode::UNIMPLEMENTED);
}

class GuardedAdminProxyTest : public AdminProxyTest {
 protected:
  GuardedAdminProxyTest()
      : AdminProxyTest([](std::string_view key) -> std::optional<std::string> {
          if (key == "KEY") return "secret";
          return std::nullopt;
        }) {}
};

TEST_F(GuardedAdminProxyTest, AsksForCredentials) {
  finder_.active = first_.address();
  EXPECT_EQ(Drain(7).error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Drain(7, "Bearer KEY:wrong").error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(first_.asked, 0);
  EXPECT_TRUE(Drain(7, "Bearer KEY:secret").ok());
}

}  // namespace
}  // namespace onggi::grpc_api
