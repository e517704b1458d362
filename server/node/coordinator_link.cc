#include "server/node/coordinator_link.h"

#include "common/log.h"
#include "common/rpc/channel.h"
#include "replication/metadata/keys.h"

namespace onggi::node {

void CoordinatorLink::Start(metadata::MetadataStore& store, boost::asio::any_io_executor executor) {
  observer_ = std::make_unique<metadata::LeaderObserver>(
      store, std::move(executor), std::string(metadata::keys::kCoordinatorElection),
      [this](const std::optional<metadata::Leader>& leader) {
        std::lock_guard lock(mutex_);
        active_ = leader.has_value() ? leader->value : std::string();
      });
}

std::string CoordinatorLink::Active() {
  std::lock_guard lock(mutex_);
  return active_;
}

std::shared_ptr<grpc::Channel> CoordinatorLink::Connect(const std::string& address) {
  auto channel = rpc::MakeChannel(address, tls_);
  if (channel.ok()) return *std::move(channel);
  log::Warn("no channel to the coordinator", "address", address, "status", channel.status());
  return nullptr;
}

std::shared_ptr<proto::CoordinatorService::Stub> CoordinatorLink::Stub() {
  const std::string active = Active();
  std::lock_guard lock(mutex_);
  if (active.empty()) return nullptr;
  if (stub_ == nullptr || stub_address_ != active) {
    const auto channel = Connect(active);
    if (channel == nullptr) return nullptr;
    stub_ = proto::CoordinatorService::NewStub(channel);
    stub_address_ = active;
  }
  return stub_;
}

}  // namespace onggi::node
