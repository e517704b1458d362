#include "server/options.h"

namespace onggi {

void ServerOptions::AddTo(Role role, OptionTable* table) {
  const bool stores = role == Role::kDev || role == Role::kNode;
  if (stores) {
    table->Group("Data");
    table->Add("data-dir", &data_dir, "Where everything is kept; made when missing");
    table->AddChoice("durability", &durability, {"sync", "relaxed"},
                     "sync: acknowledge after fsync; relaxed: fsync every 100 ms");
    table->Add("disk-reserve", &disk_reserve,
               "Refuse writes below this much free disk (0: 5 % of the disk, 32MB to 1GB)");
    table->Add("log-limit", &log_limit, "Write-ahead log on disk before partitions are flushed");
    table->Add("item-collection-limit", &item_collection_limit,
               "Largest item collection of a table with local secondary indexes");
  }

  table->Group("Network");
  table->Add("bind", &bind, "Address to listen on");
  table->Add("admin-port", &admin_port, "Metrics and health (0: any free port)");
  if (role == Role::kHealth) return;
  table->Add("grpc-port", &grpc_port, "gRPC services (0: any free port)");
  if (stores) {
    table->Add("aws-port", &aws_port, "AWS-compatible endpoint (0: any free port)");
    table->Add("aws-tls-cert", &aws_tls_cert, "PEM file: certificate chain of the AWS endpoint");
    table->Add("aws-tls-key", &aws_tls_key, "PEM file: its key");
    if (role == Role::kNode)
      table->Add("aws-plain-http", &aws_plain_http,
                 "AWS endpoint without TLS: what stands in front of it has TLS");
    table->Add("gateway-port", &gateway_port,
               "HTTP gateway; nothing listens on it in this version");
    table->Add("max-connections", &max_connections,
               "Open connections (0: as many as open files allow)");
    table->Add("idle-timeout", &idle_timeout, "Close a connection that sent nothing for this long");
    table->Add("header-timeout", &header_timeout, "Time for a request's header to arrive");
    table->Add("body-timeout", &body_timeout, "Time for a request's body, beside 16 KB a second");
    table->Add("write-timeout", &write_timeout, "Time without progress of a client's reading");

    table->Group("Accounts");
    table->Add("region", &region, "Region named in ARNs");
    table->Add("account-id", &account_id, "Account named in ARNs");
    if (role == Role::kDev)
      table->Add("isolate-accounts", &isolate_accounts,
                 "Separate tables by the access key and region of each request");
    table->Add(
        "credentials", &credentials,
        "ACCESSKEY:SECRET pairs to verify signatures with (none: every request is accepted)");

    table->Group("Resources");
    table->Add("memory", &memory, "Caches and write buffers (0: a quarter of the machine)");
    table->Add("threads", &threads, "I/O threads (0: one per core)");
  }
  table->Group("Logging");
  table->AddChoice("log-level", &log_level, {"debug", "info", "warn", "error", "off"},
                   "Least level to log");
  table->AddChoice("log-format", &log_format, {"text", "json"}, "key=value lines or JSON lines");
  table->Add("log-file", &log_file, "File to append the log to (empty: stderr)");

  table->AddCheck([this] { return Check(); });
}

Status ServerOptions::Check() const {
  for (const std::string& pair : credentials) {
    const size_t colon = pair.find(':');
    if (colon == 0 || colon == std::string::npos || colon + 1 == pair.size()) {
      return InvalidArgument("--credentials: each is ACCESSKEY:SECRET");
    }
  }
  if (aws_tls_cert.empty() != aws_tls_key.empty()) {
    return InvalidArgument("--aws-tls-cert and --aws-tls-key go together");
  }
  if (aws_plain_http && !aws_tls_cert.empty()) {
    return InvalidArgument("--aws-plain-http contradicts --aws-tls-cert and --aws-tls-key");
  }
  if (memory.value != 0 && memory.value < MiB(16).value) {
    return InvalidArgument("--memory: at least 16MB");
  }
  if (log_limit.value < MiB(16).value) return InvalidArgument("--log-limit: at least 16MB");
  if (threads > 256) return InvalidArgument("--threads: at most 256");
  if (region.empty()) return InvalidArgument("--region: must not be empty");
  if (account_id.size() != 12 || account_id.find_first_not_of("0123456789") != std::string::npos) {
    return InvalidArgument("--account-id: 12 digits");
  }
  return Status::Ok();
}

}  // namespace onggi
