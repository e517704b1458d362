#pragma once

#include <boost/asio/awaitable.hpp>

#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/proto/node.pb.h"
#include "common/status.h"

namespace onggi::coordinator {

/// Carries the coordinator's commands to nodes (common/proto/node.proto has their contracts and
/// errors). Implementations: gRPC (grpc_node_client.h), fakes, the simulator.
///
/// Called on the coordinator's executor only, and resumes on it. A command whose answer is lost
/// ends with kUnavailable or kDeadlineExceeded, and may have been carried out; it is given again.
class NodeClient {
 public:
  virtual ~NodeClient() = default;

  /// Tells where a node is reached; again with every change. Commands to a node never told of
  /// answer kUnavailable.
  virtual void SetNode(const proto::Node& node) = 0;
  virtual void RemoveNode(NodeId node) = 0;

  virtual boost::asio::awaitable<Status> CreateReplica(NodeId node,
                                                       proto::CreateReplicaRequest request) = 0;
  virtual boost::asio::awaitable<Status> DropReplica(NodeId node,
                                                     proto::DropReplicaRequest request) = 0;
  virtual boost::asio::awaitable<Status> TransferPrimary(NodeId node,
                                                         proto::TransferPrimaryRequest request) = 0;
  virtual boost::asio::awaitable<Status> ReplaceReplica(NodeId node,
                                                        proto::ReplaceReplicaRequest request) = 0;
  virtual boost::asio::awaitable<Status> SetReplication(NodeId node,
                                                        proto::SetReplicationRequest request) = 0;
  virtual boost::asio::awaitable<Status> SplitPartition(NodeId node,
                                                        proto::SplitPartitionRequest request) = 0;
  virtual boost::asio::awaitable<Status> MergePartitions(NodeId node,
                                                         proto::MergePartitionsRequest request) = 0;
  virtual boost::asio::awaitable<Result<proto::GetReplicasResponse>> GetReplicas(
      NodeId node, proto::GetReplicasRequest request) = 0;
};

}  // namespace onggi::coordinator
