#pragma once

#include <grpcpp/channel.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "common/rpc/tls.h"
#include "common/status.h"

namespace onggi::rpc {

struct ChannelOptions {
  ChannelOptions() {}
  /// The name that the server's certificate must carry; empty: the endpoint's host.
  std::string server_name;
  /// A ping after this long without anything received, also between calls; the connection is given
  /// up when nothing comes within keepalive_timeout.
  std::chrono::milliseconds keepalive_time{10'000};
  std::chrono::milliseconds keepalive_timeout{5'000};
  /// Between attempts to connect: doubles from min to max. Calls fail at once meanwhile.
  std::chrono::milliseconds min_reconnect{100};
  std::chrono::milliseconds max_reconnect{1'000};
  /// One attempt to connect.
  std::chrono::milliseconds connect_timeout{2'000};
  size_t max_receive_bytes = 64u << 20;
  size_t max_send_bytes = 64u << 20;
  /// Of an answer's headers and trailers; 0: gRPC's own bound, 8 KB.
  size_t max_metadata_bytes = 0;
  /// A connection of its own, not shared with other channels to the same endpoint.
  bool own_connection = false;
  /// "" or a policy for endpoints of several addresses, such as "round_robin".
  std::string balancing;
};

/// A channel to "host:port" (or any gRPC target, such as "ipv4:1.2.3.4:1,5.6.7.8:1"). Connects with
/// the first call. Proxies of the environment are not used. Errors: MakeChannelCredentials.
Result<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& endpoint,
                                                   const TlsOptions& tls,
                                                   const ChannelOptions& options = {});

/// The same with credentials made before: channels that come and go share one watch of the files.
std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& endpoint, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    const ChannelOptions& options = {});

/// The host of "host:port" or "[v6]:port".
std::string EndpointHost(std::string_view endpoint);

}  // namespace onggi::rpc
