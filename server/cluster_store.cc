#include "server/cluster_store.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "common/log.h"

namespace onggi {

namespace asio = boost::asio;

Result<std::unique_ptr<metadata::EtcdStore>> OpenClusterStore(
    const ClusterOptions& options, metrics::Registry* registry,
    const std::function<bool()>& stop_requested) {
  constexpr auto kPatience = std::chrono::milliseconds(2'000);
  metadata::EtcdOptions etcd;
  etcd.endpoints = options.etcd;
  etcd.key_prefix = options.etcd_prefix;
  etcd.ca_file = options.etcd_ca;
  etcd.certificate_file = options.etcd_cert;
  etcd.key_file = options.etcd_key;
  etcd.server_name = options.etcd_server_name;
  etcd.user = options.etcd_user;
  etcd.password = options.etcd_password;
  etcd.registry = registry;
  for (;;) {
    auto store = metadata::EtcdStore::Open(etcd, kPatience);
    if (store.ok() || store.status().code() != Code::kUnavailable) return store;
    if (stop_requested()) return Unavailable("stopped while it was waiting for etcd");
    log::Warn("waiting for etcd", "status", store.status());
  }
}

Result<std::string> AdvertisedHost(const ClusterOptions& cluster, const ServerOptions& server) {
  if (!cluster.advertise.empty()) return cluster.advertise;
  if (server.bind == "0.0.0.0" || server.bind == "::") {
    return InvalidArgument("--advertise: name the host by which others reach this process, since " +
                           server.bind + " is every address");
  }
  return server.bind;
}

std::string HostAndPort(const std::string& host, uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<uint16_t> ChoosePort(const std::string& bind, uint16_t port) {
  if (port != 0) return port;
  asio::io_context context;
  boost::system::error_code error;
  const auto address = asio::ip::make_address(bind, error);
  if (error) return InvalidArgument("--bind: not an address: " + bind);
  asio::ip::tcp::acceptor acceptor(context);
  const asio::ip::tcp::endpoint endpoint(address, 0);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.bind(endpoint, error);
  if (error) return Status(Code::kIoError, "--bind " + bind + ": " + error.message());
  return acceptor.local_endpoint().port();
}

}  // namespace onggi
