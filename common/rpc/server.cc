#include "common/rpc/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>

#include "common/rpc/prepare.h"

namespace onggi::rpc {
namespace {

/// The reflection library adds itself to every server of a process that links it: this takes it
/// away again.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins,
                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; });
  }
};

}  // namespace

RpcServer::RpcServer(ServerOptions options) : options_(std::move(options)) {}

RpcServer::~RpcServer() { Stop(std::chrono::milliseconds(0)); }

void RpcServer::AddService(grpc::Service* service) {
  CHECK(server_ == nullptr);
  services_.push_back(service);
}

Status RpcServer::Start() {
  CHECK(server_ == nullptr);
  ASSIGN_OR_RETURN(auto credentials,
                   MakeServerCredentials(options_.tls, options_.client_certificate));
  PrepareGrpc();
  const auto milliseconds = [](std::chrono::milliseconds value) {
    return static_cast<int>(value.count());
  };
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options_.address, credentials, &port_);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options_.max_receive_bytes));
  builder.SetMaxSendMessageSize(static_cast<int>(options_.max_send_bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options_.max_concurrent_streams);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, milliseconds(options_.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             milliseconds(options_.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             milliseconds(options_.min_client_ping));
  // Two servers on one port would share its connections at random: the second must fail.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  grpc::ResourceQuota quota("onggi");
  quota.Resize(options_.max_memory_bytes);
  builder.SetResourceQuota(quota);
  for (grpc::Service* service : services_) builder.RegisterService(service);
  if (options_.reflection) {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  } else {
    builder.SetOption(std::make_unique<WithoutReflection>());
  }
  std::unique_ptr<grpc::Server> server;
  {
    // Health is a switch of the process that builders read.
    static std::mutex building;
    std::scoped_lock lock(building);
    grpc::EnableDefaultHealthCheckService(options_.health);
    server = builder.BuildAndStart();
  }
  if (server == nullptr || port_ == 0) {
    port_ = 0;
    return {Code::kIoError, "cannot listen on " + options_.address};
  }
  std::scoped_lock lock(mutex_);
  server_ = std::move(server);
  return Status::Ok();
}

void RpcServer::SetServing(bool serving) {
  std::scoped_lock lock(mutex_);
  if (server_ == nullptr) return;
  if (auto* health = server_->GetHealthCheckService()) health->SetServingStatus(serving);
}

void RpcServer::Stop(std::chrono::milliseconds patience) {
  std::unique_ptr<grpc::Server> server;
  {
    std::scoped_lock lock(mutex_);
    server = std::move(server_);
  }
  if (server == nullptr) return;
  server->Shutdown(std::chrono::system_clock::now() + patience);
  server->Wait();
}

}  // namespace onggi::rpc
