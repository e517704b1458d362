#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "common/config.h"

namespace onggi {

/// What the roles of a cluster (`node`, `coordinator`) are told besides ServerOptions: who they
/// are, where etcd is, and how they prove themselves.
struct ClusterOptions {
  ClusterOptions() {}

  std::vector<std::string> etcd;  ///< "host:port"
  std::string etcd_prefix = "onggi/";
  std::string etcd_user;
  std::string etcd_password;
  std::string etcd_ca;
  std::string etcd_cert;
  std::string etcd_key;
  std::string etcd_server_name;

  /// Refuses to start in any other cluster than this; empty: whichever it finds, or makes.
  std::string cluster_id;
  /// What others reach this process by; empty: --bind, which must not be 0.0.0.0 then.
  std::string advertise;
  std::string zone = "default";
  /// Of a node: where other nodes call its streams. Clients have no business there.
  uint16_t peer_port = 7001;

  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  bool insecure = false;

  /// Of what replicas are copied with, all streams together.
  Bytes copy_rate = MiB(64);
  /// Versions of the messages between members that this process says it speaks; 0: the program's
  /// own. For tests of upgrades, with one program in the place of two.
  uint32_t oldest_wire_version = 0;
  uint32_t newest_wire_version = 0;
  /// Partitions that nobody has used for this long are closed.
  std::chrono::milliseconds close_idle{600'000};

  // Of the coordinator.
  uint32_t replication = 3;
  std::chrono::milliseconds dead_after{300'000};
  Bytes split_size = GiB(10);
  double split_read_units = 3000;
  double split_write_units = 1000;
  /// How long the load must last for a split, and how long a partition is left alone afterwards.
  std::chrono::milliseconds split_after{60'000};
  bool merge = true;
  /// How long neighbours must have been cold.
  std::chrono::milliseconds merge_after{1'800'000};
  bool balance = true;

  enum class Role : uint8_t { kNode, kCoordinator };
  /// Adds what `role` has to the table; this struct must outlive it.
  void AddTo(Role role, OptionTable* table);
};

}  // namespace onggi
