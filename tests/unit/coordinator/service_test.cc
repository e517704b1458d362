#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <filesystem>
#include <future>

#include "common/rpc/call.h"
#include "common/rpc/channel.h"
#include "common/rpc/server.h"
#include "common/runtime.h"
#include "coordinator/coordinator_service.h"
#include "coordinator/grpc_node_client.h"
#include "replication/metadata/embedded_store.h"
#include "replication/metadata/keys.h"

/// The coordinator over real gRPC, real time and a store on disk, with a node that answers.
namespace onggi::coordinator {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace keys = metadata::keys;
using std::chrono::milliseconds;

class AnsweringNode final : public proto::NodeService::CallbackService {
 public:
  std::atomic<int> dropped{0};
  grpc::ServerUnaryReactor* DropReplica(grpc::CallbackServerContext* context,
                                        const proto::DropReplicaRequest*,
                                        proto::DropReplicaResponse*) override {
    ++dropped;
    auto* reactor = context->DefaultReactor();
    reactor->Finish(rpc::ToGrpc(Status(Code::kConditionFailed, "the key names it")));
    return reactor;
  }
};

class ServiceTest : public ::testing::Test {
 protected:
  ServiceTest() {
    std::string pattern = (fs::temp_directory_path() / "onggi-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    auto opened =
        metadata::EmbeddedStore::Open(metadata::EmbeddedOptions(directory_ + "/metadata"));
    CHECK_MSG(opened.ok(), opened.status().ToString());
    store_ = *std::move(opened);
    environment_.store = store_.get();
    environment_.nodes = &nodes_;
    environment_.timers = &timers_;
    environment_.clock = &Clock::System();
    environment_.executor = io_.executor(0);
  }
  ~ServiceTest() override {
    for (auto& running : running_) {
      running->server.Stop(milliseconds(100));
      running->service.Stop();
      running->coordinator.Stop();
    }
    store_->Close();
    io_.Stop();
    running_.clear();
    store_.reset();
    fs::remove_all(directory_);
  }

  struct Running {
    Running(const Environment& environment, const Options& options)
        : coordinator(environment, options), service(coordinator), server([] {
            rpc::ServerOptions server_options;
            server_options.address = "127.0.0.1:0";
            return server_options;
          }()) {}
    Coordinator coordinator;
    CoordinatorService service;
    rpc::RpcServer server;
    std::unique_ptr<proto::CoordinatorService::Stub> stub;
  };

  Running& Start(const std::string& address, metrics::Registry* registry) {
    environment_.registry = registry;
    Options options;
    options.address = address;
    options.tick = milliseconds(50);
    running_.push_back(std::make_unique<Running>(environment_, options));
    Running& running = *running_.back();
    running.server.AddService(&running.service);
    const Status started = running.server.Start();
    CHECK_MSG(started.ok(), started.ToString());
    auto channel =
        rpc::MakeChannel("127.0.0.1:" + std::to_string(running.server.port()), rpc::TlsOptions());
    CHECK(channel.ok());
    running.stub = proto::CoordinatorService::NewStub(*channel);
    std::promise<void> begun;
    asio::post(io_.executor(0), [&] {
      running.coordinator.Start();
      begun.set_value();
    });
    begun.get_future().get();
    return running;
  }
  template <class T>
  T Await(asio::awaitable<T> call) {
    std::promise<T> result;
    constexpr auto keep = [](asio::awaitable<T> body,
                             std::promise<T>* to) -> asio::awaitable<void> {
      to->set_value(co_await std::move(body));
    };
    auto done = [](std::exception_ptr error) { CHECK(!error); };
    asio::co_spawn(io_.executor(0), keep(std::move(call), &result), std::move(done));
    return result.get_future().get();
  }
  Result<proto::ClusterStatusResponse> AskStatus(Running& running) {
    proto::ClusterStatusRequest request;
    return Await(rpc::Call(running.stub->async(),
                           &proto::CoordinatorService::Stub::async::ClusterStatus, request,
                           milliseconds(5'000)));
  }
  void PutNode(const proto::Node& node) {
    metadata::Transaction transaction;
    transaction.puts.push_back({keys::Node(NodeId(node.id())), node.SerializeAsString()});
    transaction.puts.push_back({keys::Alive(NodeId(node.id())), "x"});
    ASSERT_TRUE(Await(store_->Commit(std::move(transaction))).ok());
  }

  std::string directory_;
  IoPool io_{1};
  AsioTimers timers_{io_.executor(0)};
  GrpcNodeClient nodes_{rpc::TlsOptions()};
  std::unique_ptr<metadata::EmbeddedStore> store_;
  Environment environment_;
  metrics::Registry registry_;
  metrics::Registry second_registry_;
  std::vector<std::unique_ptr<Running>> running_;
};

TEST_F(ServiceTest, TheActiveOneAnswersAndOthersSayWhoItIs) {
  Running& first = Start("one:7000", &registry_);
  Result<proto::ClusterStatusResponse> status = AskStatus(first);
  for (int i = 0; i < 100 && !status.ok(); ++i) {
    EXPECT_EQ(status.status().code(), Code::kUnavailable);
    std::this_thread::sleep_for(milliseconds(50));
    status = AskStatus(first);
  }
  ASSERT_TRUE(status.ok()) << status.status().ToString();
  EXPECT_EQ(status->active_coordinator(), "one:7000");

  Running& second = Start("two:7000", &second_registry_);
  status = AskStatus(second);
  for (int i = 0; i < 100 && status.status().code() == Code::kUnavailable; ++i) {
    std::this_thread::sleep_for(milliseconds(50));
    status = AskStatus(second);
  }
  EXPECT_EQ(status.status(), Status(Code::kNotPrimary, "one:7000"));
}

TEST_F(ServiceTest, ReportsAreTakenAndMistakesHaveTheirMessages) {
  Running& only = Start("one:7000", &registry_);
  proto::Node node;
  node.set_id(1);
  node.set_zone("a");
  node.set_boot(5);
  node.set_state(proto::NODE_STATE_ACTIVE);
  node.set_rpc_address("127.0.0.1:1");
  PutNode(node);
  proto::ReportLoadRequest report;
  report.set_node(1);
  report.set_boot(5);
  const auto send = [&] {
    report.set_sequence(report.sequence() + 1);
    return Await(rpc::Call(only.stub->async(), &proto::CoordinatorService::Stub::async::ReportLoad,
                           report, milliseconds(5'000)));
  };
  auto answer = send();
  for (int i = 0; i < 100 && !answer.ok(); ++i) {
    std::this_thread::sleep_for(milliseconds(50));
    answer = send();
  }
  ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  EXPECT_TRUE(answer->want_full());
  report.set_full(true);
  answer = send();
  ASSERT_TRUE(answer.ok());
  EXPECT_FALSE(answer->want_full());
  report.set_node(9);
  EXPECT_EQ(send().status(), NotFound("the cluster has no node 9"));
  proto::DrainNodeRequest drain;
  drain.set_node(9);
  const auto drained =
      Await(rpc::Call(only.stub->async(), &proto::CoordinatorService::Stub::async::DrainNode, drain,
                      milliseconds(5'000)));
  EXPECT_EQ(drained.status(), NotFound("there is no node 9"));
}

TEST_F(ServiceTest, CommandsReachTheNodeWhereverItMoves) {
  AnsweringNode node;
  rpc::ServerOptions options;
  options.address = "127.0.0.1:0";
  rpc::RpcServer server(options);
  server.AddService(&node);
  ASSERT_TRUE(server.Start().ok());
  proto::DropReplicaRequest request;
  EXPECT_EQ(Await(nodes_.DropReplica(NodeId(1), request)).code(), Code::kUnavailable);
  proto::Node record;
  record.set_id(1);
  record.set_rpc_address("127.0.0.1:1");  // nobody listens there
  nodes_.SetNode(record);
  EXPECT_FALSE(Await(nodes_.DropReplica(NodeId(1), request)).ok());
  record.set_rpc_address("127.0.0.1:" + std::to_string(server.port()));
  nodes_.SetNode(record);
  EXPECT_EQ(Await(nodes_.DropReplica(NodeId(1), request)),
            Status(Code::kConditionFailed, "the key names it"));
  EXPECT_EQ(node.dropped, 1);
  nodes_.RemoveNode(NodeId(1));
  EXPECT_EQ(Await(nodes_.DropReplica(NodeId(1), request)).code(), Code::kUnavailable);
  server.Stop(milliseconds(100));
}

}  // namespace
}  // namespace onggi::coordinator
