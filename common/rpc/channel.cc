#include "common/rpc/channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include "common/rpc/prepare.h"

namespace onggi::rpc {

Result<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& endpoint,
                                                   const TlsOptions& tls,
                                                   const ChannelOptions& options) {
  ASSIGN_OR_RETURN(auto credentials, MakeChannelCredentials(tls));
  return MakeChannel(endpoint, credentials, options);
}

std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& endpoint, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    const ChannelOptions& options) {
  PrepareGrpc();
  grpc::ChannelArguments arguments;
  const auto milliseconds = [](std::chrono::milliseconds value) {
    return static_cast<int>(value.count());
  };
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, milliseconds(options.keepalive_time));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, milliseconds(options.keepalive_timeout));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, milliseconds(options.min_reconnect));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, milliseconds(options.max_reconnect));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, milliseconds(options.connect_timeout));
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(static_cast<int>(options.max_receive_bytes));
  arguments.SetMaxSendMessageSize(static_cast<int>(options.max_send_bytes));
  if (options.max_metadata_bytes != 0) {
    arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, static_cast<int>(options.max_metadata_bytes));
  }
  if (options.own_connection) arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (!options.balancing.empty()) arguments.SetLoadBalancingPolicyName(options.balancing);
  if (!options.server_name.empty()) {
    // Ignored by plain text.
    arguments.SetSslTargetNameOverride(options.server_name);
  }
  return grpc::CreateCustomChannel(endpoint, credentials, arguments);
}

std::string EndpointHost(std::string_view endpoint) {
  if (endpoint.starts_with('[')) {
    const size_t end = endpoint.find(']');
    return std::string(endpoint.substr(1, end == std::string_view::npos ? end : end - 1));
  }
  return std::string(endpoint.substr(0, endpoint.rfind(':')));
}

}  // namespace onggi::rpc
