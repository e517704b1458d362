#pragma once

#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/server.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/rpc/tls.h"
#include "common/status.h"

namespace onggi::rpc {

struct ServerOptions {
  ServerOptions() {}
  ServerOptions(std::string address_, TlsOptions tls_)
      : address(std::move(address_)), tls(std::move(tls_)) {}

  std::string address = "127.0.0.1:0";  ///< "host:port"; port 0: any free one
  TlsOptions tls;
  ClientCertificate client_certificate = ClientCertificate::kRequired;
  size_t max_receive_bytes = 64u << 20;
  size_t max_send_bytes = 64u << 20;
  int max_concurrent_streams = 1000;  ///< per connection; more wait in the client
  /// All the server's buffers together; past it, new connections are refused and reading slows.
  size_t max_memory_bytes = 512u << 20;
  /// Pings of clients more frequent than this end their connection.
  std::chrono::milliseconds min_client_ping{5'000};
  std::chrono::milliseconds keepalive_time{10'000};
  std::chrono::milliseconds keepalive_timeout{5'000};
  bool reflection = false;  ///< grpc.reflection.v1alpha, for services of full (not lite) protos
  bool health = false;      ///< grpc.health.v1
};

/// A gRPC server on one address: its services run on gRPC's callback threads.
///
/// AddService, then Start, then Stop; each from one thread. Services outlive it.
class RpcServer {
 public:
  explicit RpcServer(ServerOptions options);
  /// Stop with no patience.
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  /// Before Start, for one service at least. `service` outlives this.
  void AddService(grpc::Service* service);

  /// Listens. kInvalidArgument for files of TLS, kIoError when the address cannot be bound.
  Status Start();

  /// The port bound; 0 before Start.
  int port() const { return port_; }

  /// What grpc.health.v1 answers (options.health), for all services. Thread-safe.
  void SetServing(bool serving);

  /// Refuses new calls, waits for those under way, cancels what is left after `patience`, and
  /// returns when every reactor is done. Long-lived streams should be ended by their service first.
  void Stop(std::chrono::milliseconds patience);

 private:
  const ServerOptions options_;
  std::vector<grpc::Service*> services_;
  std::mutex mutex_;
  std::unique_ptr<grpc::Server> server_;  // guarded by mutex_ after Start
  int port_ = 0;
};

}  // namespace onggi::rpc
