#include "server/node_server.h"

#include <thread>

#include "common/log.h"
#include "server/await.h"
#include "server/cluster_store.h"
#include "server/member_check.h"
#include "server/node_identity.h"

namespace onggi {

namespace asio = boost::asio;

namespace {

constexpr auto kRetryInterval = std::chrono::milliseconds(500);
/// A disk that takes longer for one batch of the log makes the node lose its leases (R10).
constexpr auto kLogStall = std::chrono::milliseconds(2'000);
/// Members that are asked whether they accept this node, and how long one may take to say so.
constexpr size_t kMembersAsked = 4;
constexpr auto kMemberPatience = std::chrono::milliseconds(2'000);
constexpr int kRefusals = 3;

}  // namespace

NodeServer::NodeServer(ServerOptions options, ClusterOptions cluster,
                       std::function<bool()> stop_requested)
    : options_(std::move(options)),
      cluster_(std::move(cluster)),
      stop_requested_(std::move(stop_requested)),
      tls_(cluster_.tls_ca, cluster_.tls_cert, cluster_.tls_key),
      node_(options_, &registry_) {}

NodeServer::~NodeServer() { Stop(); }

Status NodeServer::Start() {
  if (options_.credentials.empty() && !cluster_.insecure) {
    return InvalidArgument(
        "without --credentials every request is accepted: add --insecure to run so");
  }
  if (options_.aws_tls_cert.empty() && !options_.aws_plain_http && !cluster_.insecure) {
    return InvalidArgument(
        "without --aws-tls-cert and --aws-tls-key anyone on the way reads what applications ask: "
        "add "
        "--aws-plain-http if something in front of the AWS endpoint has TLS, or --insecure");
  }
  ASSIGN_OR_RETURN(advertise_, AdvertisedHost(cluster_, options_));
  ASSIGN_OR_RETURN(rpc_port_, ChoosePort(options_.bind, options_.grpc_port));
  ASSIGN_OR_RETURN(peer_port_, ChoosePort(options_.bind, cluster_.peer_port));
  RETURN_IF_ERROR(node_.LoadCertificate());
  if (!tls_.disabled()) {
    ASSIGN_OR_RETURN(stream_options_.tls, rpc::LoadCertificateFiles(tls_));
  }
  RETURN_IF_ERROR(node_.OpenDirectory());
  RETURN_IF_ERROR(Join());
  RETURN_IF_ERROR(StartReplication());
  RETURN_IF_ERROR(node_.Listen(*metadata_, [this]() -> Status {
    return joined_ ? Status::Ok() : Unavailable("it is joining its cluster");
  }));
  RETURN_IF_ERROR(StartRpc());
  RETURN_IF_ERROR(Follow());
  joined_ = true;
  return node_.Claim();
}

/// Becomes a member: from here on the data directory belongs to this cluster.
Status NodeServer::Join() {
  ASSIGN_OR_RETURN(metadata::NodeIdentity identity, LoadIdentity(node_.data().path()));
  if (!cluster_.cluster_id.empty()) {
    if (!identity.cluster_id.empty() && identity.cluster_id != cluster_.cluster_id) {
      return InvalidArgument(node_.data().path() + ": of cluster " + identity.cluster_id +
                             ", not of --cluster-id " + cluster_.cluster_id);
    }
    identity.cluster_id = cluster_.cluster_id;
  }
  RETURN_IF_ERROR(node_.OpenLog());
  RETURN_IF_ERROR(node_.StartThreads());
  ASSIGN_OR_RETURN(metadata_, OpenClusterStore(cluster_, &registry_, stop_requested_));
  const asio::any_io_executor first = node_.io().executor(0);
  // Before it is done: whoever finds this process in the catalog finds it in the directory.
  identity.boots.push_back(node_.boot());
  if (identity.node != NodeId()) {
    RETURN_IF_ERROR(SaveIdentity(node_.data().path(), identity));
  }
  for (int refusals = 0;;) {
    auto cluster =
        Await(first, metadata::EnsureCluster(*metadata_, identity.cluster_id, Clock::System()));
    Status status = cluster.status();
    if (status.ok()) {
      status = CheckLivingMembers(identity.node);
      // Final when it is said again: a member that stops just then may look like one that refuses.
      if (status.code() == Code::kInvalidArgument && ++refusals < kRefusals) {
        status = Unavailable(status.message());
      }
    }
    if (status.ok()) {
      metadata::NodeIdentity joining = identity;
      auto joined =
          Await(first, metadata::RegisterNode(*metadata_, joining, Describe(), Clock::System()));
      if (joined.ok()) {
        membership_ = *std::move(joined);
        break;
      }
      status = joined.status();
    }
    // The store is asked again; a refusal of the cluster is final.
    if (status.code() != Code::kUnavailable && status.code() != Code::kUnknownOutcome &&
        status.code() != Code::kResourceExhausted) {
      return status.WithContext("the cluster refuses this node");
    }
    if (stop_requested_()) return Unavailable("stopped while it was joining");
    log::Warn("joining the cluster", "status", status);
    std::this_thread::sleep_for(kRetryInterval);
  }
  id_ = NodeId(membership_.node.id());
  identity.cluster_id = membership_.cluster.id();
  identity.node = id_;
  identity.disk_id = membership_.node.disk_id();
  identity.boots = {node_.boot()};
  log::Info("joined", "cluster", identity.cluster_id, "node", id_, "zone", cluster_.zone);
  return SaveIdentity(node_.data().path(), identity);
}

/// Before it registers: it would seem alive otherwise, and be given replicas.
Status NodeServer::CheckLivingMembers(NodeId self) {
  ASSIGN_OR_RETURN(std::vector<proto::Node> members,
                   Await(node_.io().executor(0), metadata::LivingMembers(*metadata_, self)));
  if (members.size() > kMembersAsked) members.resize(kMembersAsked);
  return CheckMembers(members, stream_options_.tls.get(), kMemberPatience);
}

proto::Node NodeServer::Describe() const {
  proto::Node node;
  node.set_zone(cluster_.zone);
  node.set_rpc_address(HostAndPort(advertise_, rpc_port_));
  node.set_peer_address(HostAndPort(advertise_, peer_port_));
  node.set_aws_address(HostAndPort(advertise_, options_.aws_port));
  node.set_admin_address(HostAndPort(advertise_, options_.admin_port));
  if (!tls_.disabled()) node.set_certificate_name(advertise_);
  node.set_software_version(kVersion);
  node.set_boot(node_.boot());
  if (cluster_.newest_wire_version != 0) {
    node.mutable_wire_versions()->set_oldest(cluster_.oldest_wire_version);
    node.mutable_wire_versions()->set_newest(cluster_.newest_wire_version);
  }
  if (const auto space = storage::QueryDiskSpace(options_.data_dir); space.ok()) {
    node.set_capacity_bytes(space->total_bytes);
  }
  return node;
}

Status NodeServer::StartReplication() {
  const std::string& path = node_.data().path();
  const std::string& cluster = membership_.cluster.id();
  leases_ = std::make_shared<lease::NodeLeases>(id_, node_.boot(), lease::Now());
  ASSIGN_OR_RETURN(configurations_,
                   replica::DiskConfigurationStore::Open(path + "/configurations"));

  peer_io_ = std::make_unique<IoPool>(1, "peer");
  peer_server_ = std::make_unique<rpc::StreamServer>(peer_io_.get(), stream_options_);

  transport::TransportOptions transport_options;
  transport_options.cluster_id = cluster;
  transport_options.self = id_;
  transport_options.boot = node_.boot();
  transport_options.software_version = kVersion;
  transport_options.tls = stream_options_.tls;
  transport_options.io = peer_io_.get();
  transport_options.senders = &node_.io();
  transport_options.leases = leases_.get();
  if (cluster_.newest_wire_version != 0) {
    transport_options.min_version = cluster_.oldest_wire_version;
    transport_options.max_version = cluster_.newest_wire_version;
  }
  transport_options.metrics = &registry_;
  transport_options.healthy = [this] { return !node_.log().Stalled(kLogStall); };
  transport_ = std::make_unique<transport::StreamTransport>(transport_options, &messages_);
  transport_->AddTo(peer_server_.get());

  checkpoint::CheckpointOptions checkpoint_options;
  checkpoint_options.cluster_id = cluster;
  checkpoint_options.self = id_;
  checkpoint_options.tls = tls_;
  checkpoint_options.metrics = &registry_;
  checkpoint_options.incoming_directory = path + "/incoming";
  checkpoint_options.bytes_per_second = cluster_.copy_rate;
  checkpoint_options.reserve_bytes = node_.disk().reserve_bytes();
  ASSIGN_OR_RETURN(checkpoints_,
                   checkpoint::CheckpointService::Make(checkpoint_options, &incoming_));
  checkpoint_sender_ = std::make_unique<node::CheckpointSender>(checkpoints_.get());

  routing::NetworkOptions network_options;
  network_options.self = id_;
  network_options.zone = cluster_.zone;
  network_options.cluster_id = cluster;
  network_options.boot = node_.boot();
  network_options.tls = stream_options_.tls;
  network_options.io = peer_io_.get();
  if (cluster_.newest_wire_version != 0) {
    network_options.oldest_version = cluster_.oldest_wire_version;
    network_options.newest_version = cluster_.newest_wire_version;
  }
  network_ =
      std::make_unique<routing::Network>(network_options, node_.io().executor(0), &registry_);
  network_->AddTo(peer_server_.get());

  ClusterParts parts;
  parts.transport = transport_.get();
  parts.leases = leases_;
  parts.configurations = configurations_.get();
  parts.checkpoints = checkpoint_sender_.get();
  parts.network = network_.get();
  parts.idle_close = cluster_.close_idle;
  parts.before_start = [this](partition::PartitionManager& partitions) {
    messages_.SetTarget(&partitions);
    incoming_.SetTarget(&partitions);
  };
  RETURN_IF_ERROR(node_.StartPartitions(*metadata_, id_, &parts));
  routed_ = std::make_unique<routing::Server>(id_, &node_.partitions(), &node_.routes(),
                                              &node_.io(), routing::ServerLimits(), &registry_);
  network_->SetHandler(routed_.get());
  return Status::Ok();
}

Status NodeServer::StartRpc() {
  const asio::any_io_executor first = node_.io().executor(0);
  coordinator_ = std::make_unique<node::CoordinatorLink>(tls_);
  RunOn(first, [&] { coordinator_->Start(*metadata_, first); });
  service_ = std::make_unique<node::NodeService>(node_.partitions(), node_.io(), node_.blocking(),
                                                 !tls_.disabled());
  public_ = std::make_unique<grpc_api::PublicServices>(node_.api(), node_.io(), *metadata_,
                                                       registry_, coordinator_.get());
  RETURN_IF_ERROR(Await(first, public_->Start()));

  rpc::ServerOptions options(HostAndPort(options_.bind, rpc_port_), tls_);
  // Clients of the public services may have none; the cluster's own services look for one.
  options.client_certificate = rpc::ClientCertificate::kOptional;
  options.reflection = true;
  options.health = true;
  rpc_server_ = std::make_unique<rpc::RpcServer>(std::move(options));
  rpc_server_->AddService(checkpoints_->service());
  rpc_server_->AddService(service_.get());
  public_->AddTo(rpc_server_.get());
  RETURN_IF_ERROR(rpc_server_->Start());
  RETURN_IF_ERROR(peer_server_->Start(HostAndPort(options_.bind, peer_port_)));
  checkpoints_->Start();
  transport_->Start();
  network_->Start();
  rpc_server_->SetServing(true);
  return Status::Ok();
}

/// Keeps up with who else there is, and is seen to live.
Status NodeServer::Follow() {
  const asio::any_io_executor first = node_.io().executor(0);
  peers_ = std::make_unique<node::PeerWatch>(
      *metadata_, first, [this](const node::PeerWatch::Nodes& nodes) { SetPeers(nodes); });
  RETURN_IF_ERROR(Await(first, peers_->Start()));
  scope_.Spawn(first, metadata::KeepAlive(*metadata_, id_, node_.boot(), metadata::kNodeLease));
  reporter_ = std::make_unique<node::LoadReporter>(id_, node_.boot(), coordinator_.get(), first,
                                                   [this] { return Load(); });
  reporter_->Start();
  return Status::Ok();
}

void NodeServer::SetPeers(const node::PeerWatch::Nodes& nodes) {
  std::map<NodeId, transport::Peer> replication;
  std::map<NodeId, transport::Peer> copies;
  std::map<NodeId, routing::Peer> routing;
  for (const auto& [id, record] : nodes) {
    if (id == id_) continue;
    replication.emplace(id, transport::Peer(record.peer_address(), record.certificate_name()));
    copies.emplace(id, transport::Peer(record.rpc_address(), record.certificate_name()));
    routing::Peer peer;
    peer.endpoint = record.peer_address();
    peer.zone = record.zone();
    peer.certificate_name = record.certificate_name();
    routing.emplace(id, std::move(peer));
  }
  transport_->SetPeers(std::move(replication));
  checkpoints_->SetPeers(std::move(copies));
  network_->SetPeers(std::move(routing));
}

proto::ReportLoadRequest NodeServer::Load() {
  proto::ReportLoadRequest report;
  for (proto::ReplicaStatus& replica : node_.partitions().GetReplicas(TableId(), PartitionId())) {
    report.set_used_bytes(report.used_bytes() + replica.bytes());
    *report.add_replicas() = std::move(replica);
  }
  report.set_free_bytes(node_.disk().available_bytes());
  report.set_disk_low(node_.disk().low().load(std::memory_order_relaxed));
  return report;
}

/// From the outside in: first nobody comes any more, then what runs ends, then what they stood on.
void NodeServer::Stop() {
  if (stopped_) return;
  stopped_ = true;
  joined_ = false;
  if (reporter_ != nullptr) reporter_->Stop();
  node_.StopListening();
  if (rpc_server_ != nullptr) {
    rpc_server_->SetServing(false);
    public_->EndStreams();
  }
  if (peers_ != nullptr) peers_->Stop();
  // Requests of other nodes come until here; then they go to whoever takes over.
  if (network_ != nullptr) network_->Stop();
  if (routed_ != nullptr) routed_->Stop();
  node_.StopPartitions();
  if (checkpoints_ != nullptr) checkpoints_->Stop();
  if (transport_ != nullptr) transport_->Stop();
  if (peer_server_ != nullptr) peer_server_->Stop();
  if (rpc_server_ != nullptr) rpc_server_->Stop(std::chrono::milliseconds(500));
  if (service_ != nullptr) service_->Stop();
  if (public_ != nullptr) public_->Stop();
  scope_.Stop();
  if (coordinator_ != nullptr) {
    RunOn(node_.io().executor(0), [this] { coordinator_->Stop(); });
  }
  if (configurations_ != nullptr) configurations_->Close();
  if (metadata_ != nullptr) metadata_->Close();
  node_.StopThreads([this] {
    reporter_.reset();
    peers_.reset();
    rpc_server_.reset();
    public_.reset();
    service_.reset();
    coordinator_.reset();
    routed_.reset();
    network_.reset();
    checkpoint_sender_.reset();
    checkpoints_.reset();
    transport_.reset();
    peer_server_.reset();
    peer_io_.reset();
    metadata_.reset();
  });
}

}  // namespace onggi
