#include "coordinator/coordinator_service.h"

#include <utility>

#include "common/rpc/call.h"
#include "common/rpc/tls.h"

namespace onggi::coordinator {

namespace asio = boost::asio;

namespace {

/// Puts an answer where gRPC wants it.
template <class Response>
Status Give(Result<Response> result, Response* response) {
  if (!result.ok()) return std::move(result).status();
  *response = *std::move(result);
  return Status::Ok();
}

/// One of the active coordinator's coroutines, or whom to ask instead.
template <class Request, class Response>
asio::awaitable<Status> Ask(Coordinator& coordinator, const Request* request, Response* response,
                            asio::awaitable<Result<Response>> (Leadership::*method)(Request)) {
  Result<std::shared_ptr<Leadership>> active = coordinator.Active();
  if (!active.ok()) co_return std::move(active).status();
  const std::shared_ptr<Leadership> leadership = *active;
  Request copy = *request;
  Result<Response> result = co_await (leadership.get()->*method)(std::move(copy));
  co_return Give(std::move(result), response);
}

template <class Request>
asio::awaitable<Status> AskStatus(Coordinator& coordinator, const Request* request,
                                  asio::awaitable<Status> (Leadership::*method)(Request)) {
  Result<std::shared_ptr<Leadership>> active = coordinator.Active();
  if (!active.ok()) co_return std::move(active).status();
  const std::shared_ptr<Leadership> leadership = *active;
  Request copy = *request;
  co_return co_await (leadership.get()->*method)(std::move(copy));
}

/// With TLS, whether the caller is the node that it reports for.
Status CheckReporter(const grpc::CallbackServerContext& context, const ClusterView& view,
                     uint64_t id) {
  const auto auth = context.auth_context();
  if (auth == nullptr || !auth->IsPeerAuthenticated()) return Status::Ok();
  const NodeView* node = view.Node(NodeId(id));
  if (node == nullptr || node->record.certificate_name().empty() ||
      rpc::PeerIsNamed(*auth, node->record.certificate_name())) {
    return Status::Ok();
  }
  return InvalidArgument("the certificate is not that of node " + std::to_string(id) + ", " +
                         node->record.certificate_name());
}

asio::awaitable<Status> TakeReport(Coordinator& coordinator, grpc::CallbackServerContext* context,
                                   const proto::ReportLoadRequest* request,
                                   proto::ReportLoadResponse* response) {
  Result<std::shared_ptr<Leadership>> active = coordinator.Active();
  if (!active.ok()) co_return std::move(active).status();
  const Status reporter = CheckReporter(*context, (*active)->view(), request->node());
  if (!reporter.ok()) co_return reporter;
  co_return Give((*active)->ReportLoad(*request), response);
}

asio::awaitable<Status> GiveStatus(Coordinator& coordinator,
                                   proto::ClusterStatusResponse* response) {
  Result<std::shared_ptr<Leadership>> active = coordinator.Active();
  if (!active.ok()) co_return std::move(active).status();
  const std::shared_ptr<Leadership> leadership = *active;
  Result<proto::ClusterStatusResponse> status = co_await leadership->ClusterStatus();
  co_return Give(std::move(status), response);
}

asio::awaitable<Status> GiveNodes(Coordinator& coordinator, proto::ListNodesResponse* response) {
  Result<std::shared_ptr<Leadership>> active = coordinator.Active();
  if (!active.ok()) co_return std::move(active).status();
  *response = (*active)->ListNodes();
  co_return Status::Ok();
}

asio::awaitable<Status> GivePartitions(Coordinator& coordinator,
                                       const proto::ListPartitionsRequest* request,
                                       proto::ListPartitionsResponse* response) {
  Result<std::shared_ptr<Leadership>> active = coordinator.Active();
  if (!active.ok()) co_return std::move(active).status();
  co_return Give((*active)->ListPartitions(*request), response);
}

}  // namespace

grpc::ServerUnaryReactor* CoordinatorService::Answer(grpc::CallbackServerContext* context,
                                                     asio::awaitable<Status> call) {
  return rpc::Answer(context, scope_, coordinator_.environment().executor, std::move(call));
}

grpc::ServerUnaryReactor* CoordinatorService::ReportLoad(grpc::CallbackServerContext* context,
                                                         const proto::ReportLoadRequest* request,
                                                         proto::ReportLoadResponse* response) {
  return Answer(context, TakeReport(coordinator_, context, request, response));
}

grpc::ServerUnaryReactor* CoordinatorService::ClusterStatus(
    grpc::CallbackServerContext* context, const proto::ClusterStatusRequest*,
    proto::ClusterStatusResponse* response) {
  return Answer(context, GiveStatus(coordinator_, response));
}

grpc::ServerUnaryReactor* CoordinatorService::ListNodes(grpc::CallbackServerContext* context,
                                                        const proto::ListNodesRequest*,
                                                        proto::ListNodesResponse* response) {
  return Answer(context, GiveNodes(coordinator_, response));
}

grpc::ServerUnaryReactor* CoordinatorService::DrainNode(grpc::CallbackServerContext* context,
                                                        const proto::DrainNodeRequest* request,
                                                        proto::DrainNodeResponse* response) {
  return Answer(context, Ask(coordinator_, request, response, &Leadership::DrainNode));
}

grpc::ServerUnaryReactor* CoordinatorService::CancelDrain(grpc::CallbackServerContext* context,
                                                          const proto::CancelDrainRequest* request,
                                                          proto::CancelDrainResponse*) {
  return Answer(context, AskStatus(coordinator_, request, &Leadership::CancelDrain));
}

grpc::ServerUnaryReactor* CoordinatorService::RemoveNode(grpc::CallbackServerContext* context,
                                                         const proto::RemoveNodeRequest* request,
                                                         proto::RemoveNodeResponse*) {
  return Answer(context, AskStatus(coordinator_, request, &Leadership::RemoveNode));
}

grpc::ServerUnaryReactor* CoordinatorService::ListPartitions(
    grpc::CallbackServerContext* context, const proto::ListPartitionsRequest* request,
    proto::ListPartitionsResponse* response) {
  return Answer(context, GivePartitions(coordinator_, request, response));
}

grpc::ServerUnaryReactor* CoordinatorService::SplitPartition(grpc::CallbackServerContext* context,
                                                             const proto::SplitRequest* request,
                                                             proto::JobResponse* response) {
  return Answer(context, Ask(coordinator_, request, response, &Leadership::Split));
}

grpc::ServerUnaryReactor* CoordinatorService::MovePartition(grpc::CallbackServerContext* context,
                                                            const proto::MoveRequest* request,
                                                            proto::JobResponse* response) {
  return Answer(context, Ask(coordinator_, request, response, &Leadership::Move));
}

grpc::ServerUnaryReactor* CoordinatorService::MergePartitions(grpc::CallbackServerContext* context,
                                                              const proto::MergeRequest* request,
                                                              proto::JobResponse* response) {
  return Answer(context, Ask(coordinator_, request, response, &Leadership::Merge));
}

grpc::ServerUnaryReactor* CoordinatorService::TransferPartition(
    grpc::CallbackServerContext* context, const proto::TransferRequest* request,
    proto::JobResponse* response) {
  return Answer(context, Ask(coordinator_, request, response, &Leadership::Transfer));
}

grpc::ServerUnaryReactor* CoordinatorService::RecoverPartition(grpc::CallbackServerContext* context,
                                                               const proto::RecoverRequest* request,
                                                               proto::RecoverResponse* response) {
  return Answer(context, Ask(coordinator_, request, response, &Leadership::Recover));
}

}  // namespace onggi::coordinator
