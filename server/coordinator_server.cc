#include "server/coordinator_server.h"

#include <thread>

#include "common/log.h"
#include "replication/metadata/membership.h"
#include "server/await.h"
#include "server/cluster_store.h"

namespace onggi {

CoordinatorServer::CoordinatorServer(ServerOptions options, ClusterOptions cluster,
                                     std::function<bool()> stop_requested)
    : options_(std::move(options)),
      cluster_(std::move(cluster)),
      stop_requested_(std::move(stop_requested)),
      tls_(cluster_.tls_ca, cluster_.tls_cert, cluster_.tls_key) {}

CoordinatorServer::~CoordinatorServer() { Stop(); }

Status CoordinatorServer::Start() {
  RaiseOpenFileLimit();
  ASSIGN_OR_RETURN(const std::string host, AdvertisedHost(cluster_, options_));
  ASSIGN_OR_RETURN(const uint16_t port, ChoosePort(options_.bind, options_.grpc_port));
  io_ = std::make_unique<IoPool>(1);
  ASSIGN_OR_RETURN(metadata_, OpenClusterStore(cluster_, &registry_, stop_requested_));
  for (;;) {
    auto cluster = Await(io_->executor(0),
                         metadata::EnsureCluster(*metadata_, cluster_.cluster_id, Clock::System()));
    if (cluster.ok()) {
      const Status known =
          metadata::CheckInForce(*cluster, WireVersions(), metadata::SupportedDiskVersions());
      if (!known.ok()) return known.WithContext("the cluster refuses this coordinator");
      cluster_id_ = cluster->id();
      break;
    }
    const Code code = cluster.status().code();
    if (code != Code::kUnavailable && code != Code::kUnknownOutcome) return cluster.status();
    if (stop_requested_()) return Unavailable("stopped while it was waiting for etcd");
    log::Warn("reading the cluster's record", "status", cluster.status());
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  RETURN_IF_ERROR(StartCoordinator(HostAndPort(host, port)));
  return Listen(port);
}

proto::VersionRange CoordinatorServer::WireVersions() const {
  proto::VersionRange range = metadata::SupportedWireVersions();
  if (cluster_.newest_wire_version != 0) {
    range.set_oldest(cluster_.oldest_wire_version);
    range.set_newest(cluster_.newest_wire_version);
  }
  return range;
}

Status CoordinatorServer::StartCoordinator(const std::string& address) {
  nodes_ = std::make_unique<coordinator::GrpcNodeClient>(tls_);
  timers_ = std::make_unique<coordinator::AsioTimers>(io_->executor(0));
  coordinator::Environment environment;
  environment.store = metadata_.get();
  environment.nodes = nodes_.get();
  environment.timers = timers_.get();
  environment.clock = &Clock::System();
  environment.registry = &registry_;
  environment.executor = io_->executor(0);
  coordinator::Options options;
  options.address = address;
  options.default_replication = cluster_.replication;
  options.dead_after = cluster_.dead_after;
  options.split_bytes = cluster_.split_size;
  options.split_read_units = cluster_.split_read_units;
  options.split_write_units = cluster_.split_write_units;
  options.split_sustain = options.split_cooldown = cluster_.split_after;
  options.merge = cluster_.merge;
  options.merge_sustain = cluster_.merge_after;
  options.balance = cluster_.balance;
  options.newest_wire_version = WireVersions().newest();
  options.newest_disk_version = metadata::SupportedDiskVersions().newest();
  coordinator_ = std::make_unique<coordinator::Coordinator>(environment, options);
  // Everything of it belongs to its executor.
  RunOn(io_->executor(0), [this, &environment] {
    coordinator_->Start();
    probe_ = std::make_unique<coordinator::StoreProbe>(environment);
  });
  return Status::Ok();
}

Status CoordinatorServer::Listen(uint16_t port) {
  service_ = std::make_unique<coordinator::CoordinatorService>(*coordinator_);
  rpc::ServerOptions rpc_options(HostAndPort(options_.bind, port), tls_);
  rpc_options.health = true;
  rpc_server_ = std::make_unique<rpc::RpcServer>(std::move(rpc_options));
  rpc_server_->AddService(service_.get());
  RETURN_IF_ERROR(rpc_server_->Start());
  rpc_server_->SetServing(true);

  metrics::AddProcessMetrics(registry_);
  admin_ = std::make_unique<http::AdminHandler>(registry_, [this] { return probe_->Check(); });
  const auto admin_options = http::AdminServerOptions(options_.bind, options_.admin_port);
  admin_server_ = std::make_unique<http::Server>(*io_, *admin_, admin_options, &registry_);
  return admin_server_->Start();
}

void CoordinatorServer::Stop() {
  if (stopped_) return;
  stopped_ = true;
  if (rpc_server_ != nullptr) rpc_server_->SetServing(false);
  if (admin_server_ != nullptr) admin_server_->Stop();
  if (rpc_server_ != nullptr) rpc_server_->Stop(std::chrono::milliseconds(500));
  if (service_ != nullptr) service_->Stop();
  if (coordinator_ != nullptr) coordinator_->Stop();
  if (probe_ != nullptr) {
    RunOn(io_->executor(0), [this] { probe_.reset(); });
  }
  if (metadata_ != nullptr) metadata_->Close();
  if (io_ != nullptr) io_->Stop();
  admin_server_.reset();
  service_.reset();
  coordinator_.reset();
  nodes_.reset();
  metadata_.reset();
  io_.reset();
}

}  // namespace onggi
