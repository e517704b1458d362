#pragma once

#include "common/async_scope.h"
#include "common/proto/coordinator.grpc.pb.h"
#include "coordinator/coordinator.h"

namespace onggi::coordinator {

/// The coordinator over gRPC (common/proto/coordinator.proto). Every coordinator serves it; those
/// that are not active answer who is.
///
/// Made by main, added to an RpcServer, Stop() after that server has stopped (or its calls would
/// wait) and before the coordinator does. Calls come on gRPC's threads and are answered on the
/// coordinator's executor. With TLS a node may report for itself only: its certificate must carry
/// the name that it registered.
class CoordinatorService final : public proto::CoordinatorService::CallbackService {
 public:
  /// `coordinator` outlives it.
  explicit CoordinatorService(Coordinator& coordinator) : coordinator_(coordinator) {}
  ~CoordinatorService() override { Stop(); }

  /// Answers what is under way with kUnavailable. Not on the coordinator's executor.
  void Stop() { scope_.Stop(); }

  grpc::ServerUnaryReactor* ReportLoad(grpc::CallbackServerContext* context,
                                       const proto::ReportLoadRequest* request,
                                       proto::ReportLoadResponse* response) override;
  grpc::ServerUnaryReactor* ClusterStatus(grpc::CallbackServerContext* context,
                                          const proto::ClusterStatusRequest* request,
                                          proto::ClusterStatusResponse* response) override;
  grpc::ServerUnaryReactor* ListNodes(grpc::CallbackServerContext* context,
                                      const proto::ListNodesRequest* request,
                                      proto::ListNodesResponse* response) override;
  grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* context,
                                      const proto::DrainNodeRequest* request,
                                      proto::DrainNodeResponse* response) override;
  grpc::ServerUnaryReactor* CancelDrain(grpc::CallbackServerContext* context,
                                        const proto::CancelDrainRequest* request,
                                        proto::CancelDrainResponse* response) override;
  grpc::ServerUnaryReactor* RemoveNode(grpc::CallbackServerContext* context,
                                       const proto::RemoveNodeRequest* request,
                                       proto::RemoveNodeResponse* response) override;
  grpc::ServerUnaryReactor* ListPartitions(grpc::CallbackServerContext* context,
                                           const proto::ListPartitionsRequest* request,
                                           proto::ListPartitionsResponse* response) override;
  grpc::ServerUnaryReactor* SplitPartition(grpc::CallbackServerContext* context,
                                           const proto::SplitRequest* request,
                                           proto::JobResponse* response) override;
  grpc::ServerUnaryReactor* MovePartition(grpc::CallbackServerContext* context,
                                          const proto::MoveRequest* request,
                                          proto::JobResponse* response) override;
  grpc::ServerUnaryReactor* MergePartitions(grpc::CallbackServerContext* context,
                                            const proto::MergeRequest* request,
                                            proto::JobResponse* response) override;
  grpc::ServerUnaryReactor* TransferPartition(grpc::CallbackServerContext* context,
                                              const proto::TransferRequest* request,
                                              proto::JobResponse* response) override;
  grpc::ServerUnaryReactor* RecoverPartition(grpc::CallbackServerContext* context,
                                             const proto::RecoverRequest* request,
                                             proto::RecoverResponse* response) override;

 private:
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                   boost::asio::awaitable<Status> call);

  Coordinator& coordinator_;
  AsyncScope scope_;
};

}  // namespace onggi::coordinator
