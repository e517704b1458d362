#include "server/cluster_options.h"

namespace onggi {

void ClusterOptions::AddTo(Role role, OptionTable* table) {
  table->Group("Cluster");
  table->Add("etcd", &etcd, "host:port of each etcd member");
  table->Add("etcd-prefix", &etcd_prefix, "Every key in etcd begins with it");
  table->Add("etcd-user", &etcd_user, "User name for etcd (empty: none)");
  table->Add("etcd-password", &etcd_password, "Its password; better as ONGGI_ETCD_PASSWORD");
  table->Add("etcd-ca", &etcd_ca, "PEM file: authorities of etcd's certificates");
  table->Add("etcd-cert", &etcd_cert, "PEM file: certificate to show to etcd");
  table->Add("etcd-key", &etcd_key, "PEM file: its key");
  table->Add("etcd-server-name", &etcd_server_name,
             "Name in etcd's certificates, where it is not the endpoint's host");
  table->Add("cluster-id", &cluster_id,
             "Refuse to join any other cluster (empty: join what is there, or begin one)");
  table->Add("advertise", &advertise, "Host by which others reach this process (empty: --bind)");

  table->Group("TLS");
  table->Add("tls-ca", &tls_ca, "PEM file: authorities of the cluster's certificates");
  table->Add("tls-cert", &tls_cert, "PEM file: this process's certificate");
  table->Add("tls-key", &tls_key, "PEM file: its key");
  table->Add("insecure", &insecure, "Run without TLS and without credentials");

  if (role == Role::kNode) {
    table->Group("Replicas");
    table->Add("peer-port", &peer_port,
               "Streams of other nodes: replication and forwarded requests (0: any free port)");
    table->Add("zone", &zone, "What fails together with this node: a rack, a room, a data center");
    table->Add("copy-rate", &copy_rate, "Bytes a second that copying replicas may take");
    table->Add("close-idle", &close_idle, "Close a partition that was not used for this long");
  } else {
    table->Group("Placement");
    table->Add("replication", &replication, "Replicas of each partition of a new table: 1, 3 or 5");
    table->Add("dead-after", &dead_after,
               "Replace the replicas of a node that was away for this long");
    table->Add("split-size", &split_size, "Split a partition that is larger");
    table->Add("split-read-units", &split_read_units,
               "Split a partition that serves more read units a second, sustained");
    table->Add("split-write-units", &split_write_units,
               "Split a partition that takes more write units a second, sustained");
    table->Add("split-after", &split_after,
               "What sustained means, and how long a new partition is left alone");
    table->Add("merge", &merge, "Merge cold neighbours");
    table->Add("merge-after", &merge_after, "Merge neighbours that were cold for this long");
    table->Add("balance", &balance, "Keep primaries and bytes balanced over the nodes");
  }

  table->Group("Testing");
  table->Add("oldest-wire-version", &oldest_wire_version,
             "Claim to speak this version between members at least (0: the program's)");
  table->Add("newest-wire-version", &newest_wire_version,
             "Claim to speak this version between members at most (0: the program's)");

  table->AddCheck([this, role]() -> Status {
    if (etcd.empty()) return InvalidArgument("--etcd: name at least one member, as host:port");
    if ((etcd_cert.empty()) != (etcd_key.empty())) {
      return InvalidArgument("--etcd-cert and --etcd-key go together");
    }
    const bool tls = !tls_ca.empty() || !tls_cert.empty() || !tls_key.empty();
    if (tls && (tls_ca.empty() || tls_cert.empty() || tls_key.empty())) {
      return InvalidArgument("--tls-ca, --tls-cert and --tls-key go together");
    }
    if (!tls && !insecure) {
      return InvalidArgument(
          "without --tls-ca, --tls-cert and --tls-key anyone could join: add --insecure to run so");
    }
    if (zone.empty()) return InvalidArgument("--zone: must not be empty");
    if ((oldest_wire_version == 0) != (newest_wire_version == 0) ||
        oldest_wire_version > newest_wire_version) {
      return InvalidArgument(
          "--oldest-wire-version and --newest-wire-version go together, in order");
    }
    if (role == Role::kCoordinator && replication != 1 && replication != 3 && replication != 5) {
      return InvalidArgument("--replication: 1, 3 or 5");
    }
    return Status::Ok();
  });
}

}  // namespace onggi
