#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "common/proto/node.grpc.pb.h"
#include "common/rpc/tls.h"
#include "coordinator/node_client.h"

namespace onggi::coordinator {

/// Commands to nodes over gRPC, one channel for each node. Used on the coordinator's executor only.
class GrpcNodeClient final : public NodeClient {
 public:
  explicit GrpcNodeClient(rpc::TlsOptions tls) : tls_(std::move(tls)) {}

  void SetNode(const proto::Node& node) override;
  void RemoveNode(NodeId node) override;

  boost::asio::awaitable<Status> CreateReplica(NodeId node,
                                               proto::CreateReplicaRequest request) override;
  boost::asio::awaitable<Status> DropReplica(NodeId node,
                                             proto::DropReplicaRequest request) override;
  boost::asio::awaitable<Status> TransferPrimary(NodeId node,
                                                 proto::TransferPrimaryRequest request) override;
  boost::asio::awaitable<Status> ReplaceReplica(NodeId node,
                                                proto::ReplaceReplicaRequest request) override;
  boost::asio::awaitable<Status> SetReplication(NodeId node,
                                                proto::SetReplicationRequest request) override;
  boost::asio::awaitable<Status> SplitPartition(NodeId node,
                                                proto::SplitPartitionRequest request) override;
  boost::asio::awaitable<Status> MergePartitions(NodeId node,
                                                 proto::MergePartitionsRequest request) override;
  boost::asio::awaitable<Result<proto::GetReplicasResponse>> GetReplicas(
      NodeId node, proto::GetReplicasRequest request) override;

  /// Of commands that take a round trip or two, and of those that rewrite a partition.
  static constexpr std::chrono::milliseconds kShortTimeout{10'000};
  static constexpr std::chrono::milliseconds kLongTimeout{30'000};

 private:
  struct Peer {
    std::string address;
    std::string certificate_name;
    Status broken;  ///< why there is no stub
    std::shared_ptr<proto::NodeService::Stub> stub;
  };

  /// Calls in progress keep their stub when the node moves.
  Result<std::shared_ptr<proto::NodeService::Stub>> StubOf(NodeId node) const;

  const rpc::TlsOptions tls_;
  std::map<NodeId, Peer> peers_;
};

}  // namespace onggi::coordinator
