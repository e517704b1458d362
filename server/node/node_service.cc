#include "server/node/node_service.h"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/rpc/call.h"
#include "common/rpc/tls.h"

namespace onggi::node {

namespace asio = boost::asio;

namespace {

group::Member ToMember(const proto::ReplicaRef& ref) {
  return {NodeId(ref.node()), ReplicaId(ref.replica())};
}

/// When the caller will soon wait no longer, as this process counts time: it is told what has not
/// come about yet, not only that its time is over.
SteadyTime DeadlineOf(const grpc::CallbackServerContext& context) {
  constexpr auto kLongest = std::chrono::seconds(60);
  const auto now = std::chrono::system_clock::now();
  const auto left = std::clamp<std::chrono::system_clock::duration>(
      context.deadline() - now, std::chrono::milliseconds(0), kLongest);
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<std::chrono::milliseconds>(left - left / 10);
}

}  // namespace

grpc::ServerUnaryReactor* NodeService::Run(grpc::CallbackServerContext* context,
                                           asio::awaitable<Status> work) {
  if (certificates_ && rpc::PeerNames(*context->auth_context()).empty()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish({grpc::StatusCode::UNAUTHENTICATED, "a certificate of the cluster is needed"});
    return reactor;
  }
  return rpc::Answer(context, scope_, io_.NextExecutor(), std::move(work));
}

grpc::ServerUnaryReactor* NodeService::CreateReplica(grpc::CallbackServerContext* context,
                                                     const proto::CreateReplicaRequest* request,
                                                     proto::CreateReplicaResponse*) {
  return Run(context, RunCreate(request));
}

asio::awaitable<Status> NodeService::RunCreate(const proto::CreateReplicaRequest* request) {
  const auto executor = co_await asio::this_coro::executor;
  auto start = [this, request, executor](auto handler) {
    auto shared = std::make_shared<decltype(handler)>(std::move(handler));
    const bool queued = blocking_.TrySubmit([this, request, executor, shared] {
      Status status =
          partitions_.CreateReplica(TableId(request->table()), PartitionId(request->partition()),
                                    ReplicaId(request->replica()));
      asio::post(executor, [shared, status = std::move(status)]() mutable {
        std::move (*shared)(std::move(status));
      });
    });
    if (!queued) {
      asio::post(executor, [shared] {
        std::move (*shared)(Unavailable("the disk has too much work queued"));
      });
    }
  };
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(Status)>(
      start, asio::use_awaitable);
}

grpc::ServerUnaryReactor* NodeService::DropReplica(grpc::CallbackServerContext* context,
                                                   const proto::DropReplicaRequest* request,
                                                   proto::DropReplicaResponse*) {
  return Run(context,
             partitions_.DropReplica(TableId(request->table()), PartitionId(request->partition()),
                                     ReplicaId(request->replica())));
}

grpc::ServerUnaryReactor* NodeService::TransferPrimary(grpc::CallbackServerContext* context,
                                                       const proto::TransferPrimaryRequest* request,
                                                       proto::TransferPrimaryResponse*) {
  return Run(context, partitions_.TransferPrimary(PartitionId(request->partition()),
                                                  ToMember(request->to()), DeadlineOf(*context)));
}

grpc::ServerUnaryReactor* NodeService::ReplaceReplica(grpc::CallbackServerContext* context,
                                                      const proto::ReplaceReplicaRequest* request,
                                                      proto::ReplaceReplicaResponse*) {
  return Run(context,
             partitions_.ReplaceReplica(PartitionId(request->partition()), ToMember(request->out()),
                                        ToMember(request->in()), DeadlineOf(*context)));
}

grpc::ServerUnaryReactor* NodeService::SetReplication(grpc::CallbackServerContext* context,
                                                      const proto::SetReplicationRequest* request,
                                                      proto::SetReplicationResponse*) {
  return Run(context, partitions_.SetReplication(PartitionId(request->partition()),
                                                 request->replication(), DeadlineOf(*context)));
}

grpc::ServerUnaryReactor* NodeService::SplitPartition(grpc::CallbackServerContext* context,
                                                      const proto::SplitPartitionRequest* request,
                                                      proto::SplitPartitionResponse*) {
  std::vector<group::Member> children;
  for (const proto::ReplicaRef& ref : request->child_replicas()) children.push_back(ToMember(ref));
  return Run(context,
             partitions_.SplitPartition(
                 TableId(request->table()), PartitionId(request->partition()), request->split_key(),
                 PartitionId(request->child()), std::move(children), DeadlineOf(*context)));
}

grpc::ServerUnaryReactor* NodeService::MergePartitions(grpc::CallbackServerContext* context,
                                                       const proto::MergePartitionsRequest* request,
                                                       proto::MergePartitionsResponse*) {
  return Run(context,
             partitions_.MergePartitions(TableId(request->table()), PartitionId(request->left()),
                                         PartitionId(request->right()), DeadlineOf(*context)));
}

grpc::ServerUnaryReactor* NodeService::GetReplicas(grpc::CallbackServerContext* context,
                                                   const proto::GetReplicasRequest* request,
                                                   proto::GetReplicasResponse* response) {
  return Run(context, RunGet(request, response));
}

asio::awaitable<Status> NodeService::RunGet(const proto::GetReplicasRequest* request,
                                            proto::GetReplicasResponse* response) {
  for (proto::ReplicaStatus& replica :
       partitions_.GetReplicas(TableId(request->table()), PartitionId(request->partition()))) {
    *response->add_replicas() = std::move(replica);
  }
  co_return Status::Ok();
}

}  // namespace onggi::node
