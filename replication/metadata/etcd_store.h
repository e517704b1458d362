#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/metrics.h"
#include "replication/metadata/metadata_store.h"

namespace onggi::metadata {

struct EtcdOptions {
  EtcdOptions() {}

  /// "host:port" of each member, with or without "http://" or "https://" in front. At least one;
  /// one of them must live for the store to open, later any that leads to a majority.
  std::vector<std::string> endpoints;
  /// Every key begins with this; it names the cluster where several share one etcd.
  std::string key_prefix = "onggi/";

  /// TLS if any of these is given, or an endpoint begins with "https://". PEM. `ca`: of the
  /// members' certificates, empty: the system's. `certificate` and `key`: this client's, both or
  /// none.
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
  /// The name that members' certificates must have, where it is not the endpoint's host.
  std::string server_name;

  /// Empty: no authentication (or by the client's certificate).
  std::string user;
  std::string password;

  /// A request (of a long range: each page) that has no answer by then ends: kUnavailable or
  /// kUnknownOutcome.
  std::chrono::milliseconds request_timeout{5000};
  /// A read that one member has not answered by then is asked of another, too.
  std::chrono::milliseconds attempt_timeout{700};
  /// The member in use is asked for a sign of life this often, and left if it gives none for
  /// `probe_timeout`.
  std::chrono::milliseconds probe_interval{250};
  std::chrono::milliseconds probe_timeout{500};

  /// Requests past this many, or with this many bytes of transactions, in flight are refused with
  /// kResourceExhausted.
  size_t max_pending = 10'000;
  size_t max_pending_bytes = 256u << 20;
  /// As many bytes of keys and values at most are read by one range; more: kResourceExhausted.
  size_t max_range_bytes = 512u << 20;
  /// Watch events that wait for a slow callback, per watch. Past that, the watch is taken off the
  /// stream until it has caught up; nothing is lost, but it may turn out compacted.
  size_t max_watch_bytes = 64u << 20;

  /// nullptr: no metrics. Must outlive the store.
  metrics::Registry* registry = nullptr;
};

/// The metadata store of a cluster: a client of etcd (3.4 or later) over etcd's own gRPC API
/// (https://etcd.io/docs/v3.4/dev-guide/api_reference_v3/).
///
/// A connection to every member is kept; requests, the watch stream and the lease stream go to one
/// of them until it fails: connection lost, no sign of life for probe_timeout, no leader. Then they
/// move to the next at once. Reads are asked again within request_timeout, transactions only where
/// it is sure that they were not done; otherwise kUnknownOutcome. Watches and leases go on where
/// they stopped.
///
/// Owner of its state: one thread of its own ("metadata"), made by Open and joined by Close;
/// callbacks without an executor run on it. gRPC has some threads besides.
class EtcdStore : public MetadataStore {
 public:
  /// Checks the options, reads the certificates, and waits until a member answers, for at most
  /// `connect_timeout`. kInvalidArgument (also for unreadable files, or a refused user or
  /// password), kUnavailable when no member answers or there is no majority. Blocks.
  static Result<std::unique_ptr<EtcdStore>> Open(
      EtcdOptions options,
      std::chrono::milliseconds connect_timeout = std::chrono::milliseconds(10'000));

  /// Revokes the leases, for 1 s at most, and answers what is pending: kUnavailable, or
  /// kUnknownOutcome for what was sent. Further requests answer kUnavailable. Watches get no more
  /// events. Handles may outlive it. Not to be called on the store's own thread.
  virtual void Close() = 0;
};

}  // namespace onggi::metadata
