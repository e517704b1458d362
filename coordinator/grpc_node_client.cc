#include "coordinator/grpc_node_client.h"

#include <utility>

#include "common/rpc/call.h"
#include "common/rpc/channel.h"

namespace onggi::coordinator {

namespace asio = boost::asio;

void GrpcNodeClient::SetNode(const proto::Node& node) {
  Peer& peer = peers_[NodeId(node.id())];
  if (peer.stub != nullptr && peer.address == node.rpc_address() &&
      peer.certificate_name == node.certificate_name()) {
    return;
  }
  peer.address = node.rpc_address();
  peer.certificate_name = node.certificate_name();
  peer.stub.reset();
  rpc::ChannelOptions options;
  options.server_name = node.certificate_name();
  auto channel = rpc::MakeChannel(peer.address, tls_, options);
  peer.broken = channel.status();
  if (channel.ok()) peer.stub = proto::NodeService::NewStub(*channel);
}

void GrpcNodeClient::RemoveNode(NodeId node) { peers_.erase(node); }

Result<std::shared_ptr<proto::NodeService::Stub>> GrpcNodeClient::StubOf(NodeId node) const {
  const auto it = peers_.find(node);
  if (it == peers_.end()) return Unavailable("node " + node.ToString() + " is not known");
  if (it->second.stub == nullptr) return Unavailable(it->second.broken.ToString());
  return it->second.stub;
}

asio::awaitable<Status> GrpcNodeClient::CreateReplica(NodeId node,
                                                      proto::CreateReplicaRequest request) {
  const auto stub = StubOf(node);
  if (!stub.ok()) co_return stub.status();
  const auto answer =
      co_await rpc::Call((*stub)->async(), &proto::NodeService::Stub::async::CreateReplica,
                         std::move(request), kShortTimeout);
  co_return answer.status();
}

asio::awaitable<Status> GrpcNodeClient::DropReplica(NodeId node,
                                                    proto::DropReplicaRequest request) {
  const auto stub = StubOf(node);
  if (!stub.ok()) co_return stub.status();
  const auto answer =
      co_await rpc::Call((*stub)->async(), &proto::NodeService::Stub::async::DropReplica,
                         std::move(request), kShortTimeout);
  co_return answer.status();
}

asio::awaitable<Status> GrpcNodeClient::TransferPrimary(NodeId node,
                                                        proto::TransferPrimaryRequest request) {
  const auto stub = StubOf(node);
  if (!stub.ok()) co_return stub.status();
  const auto answer =
      co_await rpc::Call((*stub)->async(), &proto::NodeService::Stub::async::TransferPrimary,
                         std::move(request), kShortTimeout);
  co_return answer.status();
}

asio::awaitable<Status> GrpcNodeClient::ReplaceReplica(NodeId node,
                                                       proto::ReplaceReplicaRequest request) {
  const auto stub = StubOf(node);
  if (!stub.ok()) co_return stub.status();
  const auto answer =
      co_await rpc::Call((*stub)->async(), &proto::NodeService::Stub::async::ReplaceReplica,
                         std::move(request), kShortTimeout);
  co_return answer.status();
}

asio::awaitable<Status> GrpcNodeClient::SetReplication(NodeId node,
                                                       proto::SetReplicationRequest request) {
  const auto stub = StubOf(node);
  if (!stub.ok()) co_return stub.status();
  const auto answer =
      co_await rpc::Call((*stub)->async(), &proto::NodeService::Stub::async::SetReplication,
                         std::move(request), kShortTimeout);
  co_return answer.status();
}

asio::awaitable<Status> GrpcNodeClient::SplitPartition(NodeId node,
                                                       proto::SplitPartitionRequest request) {
  const auto stub = StubOf(node);
  if (!stub.ok()) co_return stub.status();
  const auto answer =
      co_await rpc::Call((*stub)->async(), &proto::NodeService::Stub::async::SplitPartition,
                         std::move(request), kLongTimeout);
  co_return answer.status();
}

asio::awaitable<Status> GrpcNodeClient::MergePartitions(NodeId node,
                                                        proto::MergePartitionsRequest request) {
  const auto stub = StubOf(node);
  if (!stub.ok()) co_return stub.status();
  const auto answer =
      co_await rpc::Call((*stub)->async(), &proto::NodeService::Stub::async::MergePartitions,
                         std::move(request), kLongTimeout);
  co_return answer.status();
}

asio::awaitable<Result<proto::GetReplicasResponse>> GrpcNodeClient::GetReplicas(
    NodeId node, proto::GetReplicasRequest request) {
  const auto stub = StubOf(node);
  if (!stub.ok()) co_return stub.status();
  co_return co_await rpc::Call((*stub)->async(), &proto::NodeService::Stub::async::GetReplicas,
                               std::move(request), kShortTimeout);
}

}  // namespace onggi::coordinator
