#include "client/cli/session.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>
#include <vector>

#include "common/check.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"

namespace onggi::cli {
namespace {

using std::chrono::milliseconds;
using Admin = proto::CoordinatorService::Stub;

/// What the kernel of a stopped process does: connections are made, and nobody says anything.
class StoppedProcess {
 public:
  StoppedProcess() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* any = reinterpret_cast<sockaddr*>(&address);
    CHECK(bind(socket_, any, size) == 0 && listen(socket_, 16) == 0);
    CHECK(getsockname(socket_, any, &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  ~StoppedProcess() { close(socket_); }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  const int socket_;
  uint16_t port_ = 0;
};

/// Answers with a status, or (`hangs`) not at all while it runs.
class FakeNode {
 public:
  explicit FakeNode(grpc::Status answer = grpc::Status::OK, bool hangs = false)
      : service_(std::move(answer), hangs), server_(rpc::ServerOptions()) {
    server_.AddService(&service_);
    CHECK(server_.Start().ok());
  }
  ~FakeNode() {
    service_.Release();
    server_.Stop(milliseconds(0));
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(server_.port()); }
  size_t asked() const { return service_.asked(); }

 private:
  class Service final : public proto::CoordinatorService::CallbackService {
   public:
    Service(grpc::Status answer, bool hangs) : answer_(std::move(answer)), hangs_(hangs) {}

    grpc::ServerUnaryReactor* ListNodes(grpc::CallbackServerContext* context,
                                        const proto::ListNodesRequest*,
                                        proto::ListNodesResponse*) override {
      return Answer(context);
    }
    grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* context,
                                        const proto::DrainNodeRequest*,
                                        proto::DrainNodeResponse*) override {
      return Answer(context);
    }
    grpc::ServerUnaryReactor* SplitPartition(grpc::CallbackServerContext* context,
                                             const proto::SplitRequest*,
                                             proto::JobResponse*) override {
      return Answer(context);
    }
    void Release() {
      std::scoped_lock lock(mutex_);
      for (grpc::ServerUnaryReactor* reactor : waiting_) reactor->Finish(grpc::Status::CANCELLED);
      waiting_.clear();
    }
    size_t asked() const {
      std::scoped_lock lock(mutex_);
      return asked_;
    }

   private:
    grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context) {
      std::scoped_lock lock(mutex_);
      ++asked_;
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      if (hangs_) {
        waiting_.push_back(reactor);
      } else {
        reactor->Finish(answer_);
      }
      return reactor;
    }
    const grpc::Status answer_;
    const bool hangs_;
    mutable std::mutex mutex_;
    size_t asked_ = 0;
    std::vector<grpc::ServerUnaryReactor*> waiting_;
  };

  Service service_;
  rpc::RpcServer server_;
};

class SessionTest : public ::testing::Test {
 protected:
  std::unique_ptr<Session> Open(std::vector<std::string> endpoints,
                                milliseconds timeout = milliseconds(20'000)) {
    SessionOptions options;
    options.endpoint = std::move(endpoints);
    options.timeout = timeout;
    auto session = Session::Open(options);
    CHECK(session.ok());
    return *std::move(session);
  }
  static grpc::Status List(Session& session) {
    proto::ListNodesResponse response;
    return session.Admin(&Admin::ListNodes, proto::ListNodesRequest(), &response);
  }
  static grpc::Status Drain(Session& session) {
    proto::DrainNodeResponse response;
    return session.Admin(&Admin::DrainNode, proto::DrainNodeRequest(), &response);
  }
  static grpc::Status Split(Session& session) {
    proto::JobResponse response;
    return session.AdminOnce(&Admin::SplitPartition, proto::SplitRequest(), &response);
  }
  static std::string Complaint(const Session& session, const grpc::Status& status, Exit expected) {
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(session.Fail(status), expected);
    return ::testing::internal::GetCapturedStderr();
  }
};

TEST_F(SessionTest, AStoppedProcessIsLeftForTheNext) {
  const StoppedProcess stopped;
  FakeNode node;
  const auto session = Open({stopped.address(), node.address()});
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_TRUE(Split(*session).ok());
  EXPECT_TRUE(List(*session).ok());  // at once: the endpoint that has answered comes first
  EXPECT_LT(std::chrono::steady_clock::now() - begun, milliseconds(8'000));
  EXPECT_EQ(node.asked(), 2u);
}

TEST_F(SessionTest, NobodyIsThereSaysSoWithinTheTimeout) {
  const StoppedProcess one;
  const StoppedProcess other;
  const auto session = Open({one.address(), other.address()}, milliseconds(600));
  const auto begun = std::chrono::steady_clock::now();
  const grpc::Status status = List(*session);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, milliseconds(3'000));
  EXPECT_EQ(Complaint(*session, status, Exit::kUnreachable),
            "onggi: " + other.address() + " does not complete a connection\n" +  //
                "       (" + one.address() + ", " + other.address() +
                ") no answer within --timeout 600ms\n");
}

TEST_F(SessionTest, ANodeThatConnectsAndDoesNotAnswerIsLeftForTheNext) {
  FakeNode hangs(grpc::Status::OK, /*hangs=*/true);
  FakeNode node;
  const auto session = Open({hangs.address(), node.address()}, milliseconds(3'000));
  EXPECT_TRUE(List(*session).ok());
  const auto again = Open({hangs.address(), node.address()}, milliseconds(3'000));
  EXPECT_TRUE(Drain(*again).ok());  // a node that drains already is no other answer
  EXPECT_EQ(hangs.asked(), 2u);
  EXPECT_EQ(node.asked(), 2u);
}

TEST_F(SessionTest, AChangeThatMayHaveBeenMadeIsNotAskedForElsewhere) {
  FakeNode hangs(grpc::Status::OK, /*hangs=*/true);
  FakeNode node;
  const auto session = Open({hangs.address(), node.address()}, milliseconds(4'000));
  const auto begun = std::chrono::steady_clock::now();
  const grpc::Status status = Split(*session);
  EXPECT_GE(std::chrono::steady_clock::now() - begun,
            milliseconds(3'900));  // no share of it is kept
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(hangs.asked(), 1u);
  EXPECT_EQ(node.asked(), 0u);
  EXPECT_NE(Complaint(*session, status, Exit::kUnreachable).find("may have been done"),
            std::string::npos);
}

TEST_F(SessionTest, AChangeIsAskedForElsewhereWhereTheAnswerSaysThatItWasNotMade) {
  FakeNode lost({grpc::StatusCode::UNAVAILABLE, "Socket closed"});
  FakeNode none(rpc::ToGrpc(Unavailable("there is no active coordinator at present")));
  FakeNode node;
  const auto session = Open({none.address(), node.address()});
  EXPECT_TRUE(Split(*session).ok());
  EXPECT_EQ(node.asked(), 1u);
  const auto other = Open({lost.address(), node.address()});
  EXPECT_EQ(Split(*other).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(node.asked(), 1u);
}

TEST_F(SessionTest, ARefusalIsAnAnswer) {
  FakeNode refuses(rpc::ToGrpc(Status(Code::kConditionFailed, "drain node 1 first")));
  FakeNode node;
  const auto session = Open({refuses.address(), node.address()});
  const grpc::Status status = List(*session);
  EXPECT_EQ(Complaint(*session, status, Exit::kRefused), "onggi: drain node 1 first\n");
  EXPECT_EQ(node.asked(), 0u);
}

TEST_F(SessionTest, APortWhereNobodyListensIsPassedAtOnce) {
  std::string nobody;
  {
    const StoppedProcess gone;
    nobody = gone.address();
  }
  FakeNode node;
  const auto session = Open({nobody, node.address()}, milliseconds(60'000));
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_TRUE(Split(*session).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, milliseconds(5'000));
}

}  // namespace
}  // namespace onggi::cli
