#pragma once

#include "common/async_scope.h"
#include "common/proto/node.grpc.pb.h"
#include "common/runtime.h"
#include "server/partition/partition_manager.h"

namespace onggi::node {

/// The node's side of common/proto/node.proto: what a coordinator asks is handed to the partitions.
/// With TLS, only callers that show a certificate of the cluster's authority are answered.
///
/// Made before the gRPC server, stopped after it and before the partitions. Thread-safe.
class NodeService final : public proto::NodeService::CallbackService {
 public:
  /// Everything given outlives it.
  NodeService(partition::PartitionManager& partitions, IoPool& io, BlockingPool& blocking,
              bool certificates)
      : partitions_(partitions), io_(io), blocking_(blocking), certificates_(certificates) {}

  /// Ends what is under way. Not on an I/O thread.
  void Stop() { scope_.Stop(); }

  grpc::ServerUnaryReactor* CreateReplica(grpc::CallbackServerContext* context,
                                          const proto::CreateReplicaRequest* request,
                                          proto::CreateReplicaResponse* response) override;
  grpc::ServerUnaryReactor* DropReplica(grpc::CallbackServerContext* context,
                                        const proto::DropReplicaRequest* request,
                                        proto::DropReplicaResponse* response) override;
  grpc::ServerUnaryReactor* TransferPrimary(grpc::CallbackServerContext* context,
                                            const proto::TransferPrimaryRequest* request,
                                            proto::TransferPrimaryResponse* response) override;
  grpc::ServerUnaryReactor* ReplaceReplica(grpc::CallbackServerContext* context,
                                           const proto::ReplaceReplicaRequest* request,
                                           proto::ReplaceReplicaResponse* response) override;
  grpc::ServerUnaryReactor* SetReplication(grpc::CallbackServerContext* context,
                                           const proto::SetReplicationRequest* request,
                                           proto::SetReplicationResponse* response) override;
  grpc::ServerUnaryReactor* SplitPartition(grpc::CallbackServerContext* context,
                                           const proto::SplitPartitionRequest* request,
                                           proto::SplitPartitionResponse* response) override;
  grpc::ServerUnaryReactor* MergePartitions(grpc::CallbackServerContext* context,
                                            const proto::MergePartitionsRequest* request,
                                            proto::MergePartitionsResponse* response) override;
  grpc::ServerUnaryReactor* GetReplicas(grpc::CallbackServerContext* context,
                                        const proto::GetReplicasRequest* request,
                                        proto::GetReplicasResponse* response) override;

 private:
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* context,
                                boost::asio::awaitable<Status> work);
  boost::asio::awaitable<Status> RunCreate(const proto::CreateReplicaRequest* request);
  boost::asio::awaitable<Status> RunGet(const proto::GetReplicasRequest* request,
                                        proto::GetReplicasResponse* response);

  partition::PartitionManager& partitions_;
  IoPool& io_;
  BlockingPool& blocking_;
  const bool certificates_;
  AsyncScope scope_;
};

}  // namespace onggi::node
