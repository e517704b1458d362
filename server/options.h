#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "common/config.h"

namespace onggi {

/// What a server is told: each a flag, a key of onggi.yaml and an ONGGI_* variable. Of a cluster's
/// roles there is more in ClusterOptions.
struct ServerOptions {
  ServerOptions() {}

  std::string data_dir = "./data";
  std::string bind = "127.0.0.1";
  uint16_t aws_port = 8000;
  std::string aws_tls_cert;  ///< with aws_tls_key: the AWS endpoint speaks TLS
  std::string aws_tls_key;
  bool aws_plain_http = false;  ///< of a node: it may do without
  uint16_t gateway_port = 8080;
  uint16_t grpc_port = 7000;
  uint16_t admin_port = 9464;
  std::string region = "us-east-1";
  std::string account_id = "000000000000";
  bool isolate_accounts = false;
  /// "ACCESSKEY:secret"; none: every request is accepted.
  std::vector<std::string> credentials;

  Bytes memory{0};       ///< 0: a quarter of the machine
  uint32_t threads = 0;  ///< 0: one per core
  std::string durability = "sync";
  Bytes disk_reserve{0};
  Bytes log_limit = MiB(256);
  Bytes item_collection_limit = GiB(10);
  uint32_t max_connections = 0;
  std::chrono::milliseconds idle_timeout{60'000};
  std::chrono::milliseconds header_timeout{10'000};
  std::chrono::milliseconds body_timeout{15'000};
  std::chrono::milliseconds write_timeout{30'000};

  std::string log_level = "info";
  std::string log_format = "text";
  std::string log_file;

  enum class Role : uint8_t { kDev, kNode, kCoordinator, kHealth };
  /// Adds the options that `role` has to the table; this struct must outlive it.
  void AddTo(Role role, OptionTable* table);

 private:
  Status Check() const;
};

}  // namespace onggi
