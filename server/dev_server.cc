#include "server/dev_server.h"

#include <filesystem>
#include <future>
#include <thread>

#include "replication/metadata/keys.h"
#include "server/await.h"
#include "server/cluster_store.h"
#include "server/data_check.h"

namespace onggi {

namespace {

/// `onggi dev` has one node, always this one.
constexpr NodeId kDevNode(1);
/// For gRPC calls under way to end; then they are cancelled.
constexpr std::chrono::seconds kRpcPatience{5};

}  // namespace

DevServer::DevServer(ServerOptions options)
    : options_(std::move(options)), node_(options_, &registry_) {}

DevServer::~DevServer() { Stop(); }

Status DevServer::Start() {
  RETURN_IF_ERROR(OpenStores());
  RETURN_IF_ERROR(node_.StartThreads());
  RETURN_IF_ERROR(RegisterNode());
  RETURN_IF_ERROR(node_.StartPartitions(*metadata_, kDevNode));
  const boost::asio::any_io_executor first = node_.io().executor(0);
  jobs_ = std::make_unique<coordinator::TableJobs>(*metadata_, kDevNode, first);
  RETURN_IF_ERROR(Await(first, jobs_->Start()));
  RETURN_IF_ERROR(node_.Listen(*metadata_, {}));
  RETURN_IF_ERROR(StartRpc());
  return node_.Claim();
}

Status DevServer::StartRpc() {
  admin_ =
      std::make_unique<grpc_api::LocalAdminService>(*metadata_, node_.partitions(), node_.io());
  local_coordinator_ = std::make_unique<grpc_api::LocalCoordinator>(admin_.get());
  public_ = std::make_unique<grpc_api::PublicServices>(node_.api(), node_.io(), *metadata_,
                                                       registry_, local_coordinator_.get());
  RETURN_IF_ERROR(Await(boost::asio::any_io_executor(node_.io().executor(0)), public_->Start()));
  rpc::ServerOptions rpc_options(HostAndPort(options_.bind, options_.grpc_port), rpc::TlsOptions());
  rpc_options.reflection = true;
  rpc_options.health = true;
  rpc_server_ = std::make_unique<rpc::RpcServer>(std::move(rpc_options));
  public_->AddTo(rpc_server_.get());
  RETURN_IF_ERROR(rpc_server_->Start());
  rpc_server_->SetServing(true);
  return Status::Ok();
}

Status DevServer::OpenStores() {
  RETURN_IF_ERROR(node_.LoadCertificate());
  RETURN_IF_ERROR(node_.OpenDirectory());
  storage::DataDirectory& data = node_.data();
  std::error_code error;
  if (std::filesystem::exists(data.path() + "/NODE", error)) {
    return InvalidArgument(data.path() + ": the data directory of a cluster's node");
  }
  // Nothing is opened for writing before all that is there has been found whole.
  bool has_metadata = false;
  if (!data.created()) {
    ASSIGN_OR_RETURN(has_metadata, CheckData(data, kDevNode));
  }
  const auto open_metadata = [this, &data, has_metadata]() -> Status {
    metadata::EmbeddedOptions metadata_options(data.metadata_path());
    metadata_options.create = !has_metadata;
    ASSIGN_OR_RETURN(metadata_, metadata::EmbeddedStore::Open(std::move(metadata_options)));
    return Status::Ok();
  };
  // A new directory's two stores are made side by side, for the time to the first answer. Otherwise
  // the log, which checks itself as it opens, comes first: where it is damaged nothing may change.
  Status metadata_status;
  std::thread metadata_opener;
  if (data.created()) metadata_opener = std::thread([&] { metadata_status = open_metadata(); });
  const Status log_status = node_.OpenLog();
  if (metadata_opener.joinable()) metadata_opener.join();
  RETURN_IF_ERROR(log_status);
  if (!data.created()) metadata_status = open_metadata();
  RETURN_IF_ERROR(metadata_status);
  return storage::SyncDirectory(data.path());  // the names of both
}

Status DevServer::RegisterNode() {
  proto::Node node;
  node.set_id(kDevNode.value);
  node.set_zone("local");
  metadata::Transaction transaction;
  const std::string key = metadata::keys::Node(kDevNode);
  transaction.compares.push_back(metadata::Compare::Missing(key));
  transaction.puts.push_back({key, node.SerializeAsString()});
  std::promise<Status> done;
  metadata_->AsyncCommit(std::move(transaction), [&done](auto result) {
    done.set_value(result.ok() ? Status::Ok() : result.status());  // there already: as well
  });
  return done.get_future().get();
}

/// From the outside in: first nobody comes any more, then what runs ends, then what they stood on.
void DevServer::Stop() {
  if (stopped_) return;
  stopped_ = true;
  node_.StopListening();
  if (rpc_server_ != nullptr) {
    rpc_server_->SetServing(false);
    public_->EndStreams();
    rpc_server_->Stop(kRpcPatience);
  }
  if (public_ != nullptr) public_->Stop();
  if (local_coordinator_ != nullptr) local_coordinator_->Stop();
  if (admin_ != nullptr) admin_->Stop();
  if (jobs_ != nullptr) jobs_->Stop();
  node_.StopPartitions();
  if (metadata_ != nullptr) metadata_->Close();
  node_.StopThreads([this] {
    rpc_server_.reset();
    public_.reset();
    local_coordinator_.reset();
    admin_.reset();
    jobs_.reset();
    metadata_.reset();
  });
}

}  // namespace onggi
