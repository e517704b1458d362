#pragma once

#include <memory>
#include <string>

#include "common/async_scope.h"
#include "common/proto/coordinator.grpc.pb.h"
#include "common/runtime.h"
#include "common/status.h"
#include "replication/metadata/metadata_store.h"
#include "server/grpc/admin_proxy.h"
#include "server/partition/partition_manager.h"

namespace onggi::grpc_api {

/// The coordinator's administration where there is no coordinator: `onggi dev`, one node that has
/// every replica. What can be seen is answered from the metadata store and the partitions; what
/// would change the shape of the cluster is refused with kConditionFailed, because there is nowhere
/// to move to.
class LocalAdminService final : public proto::CoordinatorService::CallbackService {
 public:
  /// Everything outlives it. Coroutines run on the threads of `io`.
  LocalAdminService(metadata::MetadataStore& metadata, partition::PartitionManager& partitions,
                    IoPool& io)
      : metadata_(metadata), partitions_(partitions), io_(io) {}
  ~LocalAdminService() override { Stop(); }

  /// Answers what is under way with kUnavailable. Not on an io thread.
  void Stop() { scope_.Stop(); }

  grpc::ServerUnaryReactor* ClusterStatus(grpc::CallbackServerContext* context,
                                          const proto::ClusterStatusRequest* request,
                                          proto::ClusterStatusResponse* response) override;
  grpc::ServerUnaryReactor* ListNodes(grpc::CallbackServerContext* context,
                                      const proto::ListNodesRequest* request,
                                      proto::ListNodesResponse* response) override;
  grpc::ServerUnaryReactor* ListPartitions(grpc::CallbackServerContext* context,
                                           const proto::ListPartitionsRequest* request,
                                           proto::ListPartitionsResponse* response) override;

  grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* context,
                                      const proto::DrainNodeRequest*,
                                      proto::DrainNodeResponse*) override {
    return Refuse(context);
  }
  grpc::ServerUnaryReactor* CancelDrain(grpc::CallbackServerContext* context,
                                        const proto::CancelDrainRequest*,
                                        proto::CancelDrainResponse*) override {
    return Refuse(context);
  }
  grpc::ServerUnaryReactor* RemoveNode(grpc::CallbackServerContext* context,
                                       const proto::RemoveNodeRequest*,
                                       proto::RemoveNodeResponse*) override {
    return Refuse(context);
  }
  grpc::ServerUnaryReactor* SplitPartition(grpc::CallbackServerContext* context,
                                           const proto::SplitRequest*,
                                           proto::JobResponse*) override {
    return Refuse(context);
  }
  grpc::ServerUnaryReactor* MovePartition(grpc::CallbackServerContext* context,
                                          const proto::MoveRequest*, proto::JobResponse*) override {
    return Refuse(context);
  }
  grpc::ServerUnaryReactor* MergePartitions(grpc::CallbackServerContext* context,
                                            const proto::MergeRequest*,
                                            proto::JobResponse*) override {
    return Refuse(context);
  }
  grpc::ServerUnaryReactor* TransferPartition(grpc::CallbackServerContext* context,
                                              const proto::TransferRequest*,
                                              proto::JobResponse*) override {
    return Refuse(context);
  }
  grpc::ServerUnaryReactor* RecoverPartition(grpc::CallbackServerContext* context,
                                             const proto::RecoverRequest*,
                                             proto::RecoverResponse*) override {
    return Refuse(context);
  }

 private:
  grpc::ServerUnaryReactor* Refuse(grpc::CallbackServerContext* context);
  boost::asio::awaitable<Status> FillStatus(proto::ClusterStatusResponse* response);
  boost::asio::awaitable<Status> FillNodes(proto::ListNodesResponse* response);
  boost::asio::awaitable<Status> FillPartitions(const proto::ListPartitionsRequest* request,
                                                proto::ListPartitionsResponse* response);

  metadata::MetadataStore& metadata_;
  partition::PartitionManager& partitions_;
  IoPool& io_;
  AsyncScope scope_;
};

/// Finds the coordinator in this process.
///
/// Made before the PublicServices that ask it; Stop() after their server has stopped.
class LocalCoordinator final : public CoordinatorFinder {
 public:
  /// Serves `service` within the process, on no port.
  explicit LocalCoordinator(grpc::Service* service);
  ~LocalCoordinator() override;

  /// Waits for calls under way.
  void Stop();

  std::string Active() override { return "this process"; }
  std::shared_ptr<grpc::Channel> Connect(const std::string& address) override;

 private:
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace onggi::grpc_api
