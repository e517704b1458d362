#include "server/node/node_service.h"

#include "common/rpc/call.h"
#include "common/rpc/channel.h"
#include "common/rpc/server.h"
#include "tests/unit/partition/cluster_fixture.h"

namespace onggi::node {
namespace {

using partition::ClusterNode;
using std::chrono::milliseconds;

/// What a coordinator says to the first of three nodes.
class NodeServiceTest : public partition::ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    cluster_->Start(3);
    cluster_->CreateTable(1, {1, 2, 3});
    ASSERT_TRUE(cluster_->Put(1, "a", "1", "x").ok());
    ClusterNode& node = cluster_->node(1);
    service_ = std::make_unique<NodeService>(node.manager(), node.io(), node.blocking(),
                                             /*certificates=*/false);
    server_ = std::make_unique<rpc::RpcServer>(rpc::ServerOptions());
    server_->AddService(service_.get());
    ASSERT_TRUE(server_->Start().ok());
    auto channel =
        rpc::MakeChannel("127.0.0.1:" + std::to_string(server_->port()), rpc::TlsOptions());
    ASSERT_TRUE(channel.ok());
    stub_ = proto::NodeService::NewStub(*channel);
  }
  void TearDown() override {
    server_->Stop(milliseconds(100));
    service_->Stop();
    ClusterTest::TearDown();
  }

  std::unique_ptr<NodeService> service_;
  std::unique_ptr<rpc::RpcServer> server_;
  std::unique_ptr<proto::NodeService::Stub> stub_;
};

/// Not only that its time is over, which a coordinator knows by itself.
TEST_F(NodeServiceTest, WhoAsksHearsWhatHasNotComeAboutBeforeHisDeadline) {
  cluster_->network().SetDrop([](NodeId, NodeId to, const transport::GroupMessage&) {
    return to == NodeId(2);  // it does not catch up
  });
  proto::TransferPrimaryRequest request;
  request.set_table(1);
  request.set_partition(1);
  for (const auto& member : cluster_->Configuration(1).in_sync) {
    if (member.node != NodeId(2)) continue;
    request.mutable_to()->set_node(2);
    request.mutable_to()->set_replica(member.replica.value);
  }
  std::thread writer([&] { (void)cluster_->Put(1, "a", "2", "y"); });
  const auto answer =
      partition::Await(cluster_->node(1).executor(),
                       rpc::Call(stub_->async(), &proto::NodeService::Stub::async::TransferPrimary,
                                 request, milliseconds(600)));
  EXPECT_EQ(answer.status(), Unavailable("the target did not catch up in time"));
  cluster_->network().SetDrop({});
  writer.join();
}

TEST_F(NodeServiceTest, AnotherNumberOfReplicasIsAnsweredAsItComesAbout) {
  const auto ask = [&](uint32_t replication) {
    proto::SetReplicationRequest request;
    request.set_table(1);
    request.set_partition(1);
    request.set_replication(replication);
    const auto answer =
        partition::Await(cluster_->node(1).executor(),
                         rpc::Call(stub_->async(), &proto::NodeService::Stub::async::SetReplication,
                                   request, milliseconds(600)));
    return answer.status();
  };
  EXPECT_EQ(ask(4), InvalidArgument("a partition has 1, 3 or 5 replicas, not 4"));
  EXPECT_EQ(ask(5), Unavailable("too few replicas have caught up yet"));
  EXPECT_EQ(cluster_->Configuration(1).replication, 3u);
  EXPECT_TRUE(partition::Eventually([&] { return ask(1).ok(); }));
  EXPECT_EQ(cluster_->Configuration(1).replication, 1u);
}

}  // namespace
}  // namespace onggi::node
