#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/metrics.h"
#include "common/status.h"
#include "replication/metadata/etcd_store.h"
#include "server/cluster_options.h"
#include "server/options.h"

/// What the roles of a cluster have in common at their start.
namespace onggi {

inline constexpr const char* kVersion = "0.1.0";

/// Connects to etcd. Waits for as long as it takes to find a majority, or until `stop_requested`:
/// kUnavailable then. Other errors as EtcdStore::Open.
Result<std::unique_ptr<metadata::EtcdStore>> OpenClusterStore(
    const ClusterOptions& options, metrics::Registry* registry,
    const std::function<bool()>& stop_requested);

/// The host by which others reach this process. kInvalidArgument when it would be every address.
Result<std::string> AdvertisedHost(const ClusterOptions& cluster, const ServerOptions& server);

/// "host:port", with brackets around an IPv6 address.
std::string HostAndPort(const std::string& host, uint16_t port);

/// `port`, or for 0 one that was free a moment ago: others must be told before it is listened on.
Result<uint16_t> ChoosePort(const std::string& bind, uint16_t port);

}  // namespace onggi
