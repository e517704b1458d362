#pragma once

#include <grpcpp/channel.h>

#include <boost/asio/any_io_executor.hpp>
#include <memory>
#include <mutex>
#include <string>

#include "common/proto/coordinator.grpc.pb.h"
#include "common/rpc/tls.h"
#include "replication/metadata/election.h"
#include "server/grpc/admin_proxy.h"

namespace onggi::node {

/// Knows the active coordinator, from the election's keys, and keeps the channel to it.
///
/// Made after the metadata store and destroyed before it, on `executor`'s terms (Election's);
/// everything else is thread-safe.
class CoordinatorLink final : public grpc_api::CoordinatorFinder {
 public:
  explicit CoordinatorLink(rpc::TlsOptions tls) : tls_(std::move(tls)) {}

  /// Begins to follow the election. On `executor`.
  void Start(metadata::MetadataStore& store, boost::asio::any_io_executor executor);
  /// On the executor.
  void Stop() { observer_.reset(); }

  std::string Active() override;
  std::shared_ptr<grpc::Channel> Connect(const std::string& address) override;

  /// A stub of the active one, shared; null while none is known.
  std::shared_ptr<proto::CoordinatorService::Stub> Stub();

 private:
  const rpc::TlsOptions tls_;
  std::unique_ptr<metadata::LeaderObserver> observer_;
  std::mutex mutex_;
  std::string active_;                                     // guarded by mutex_
  std::string stub_address_;                               // guarded by mutex_
  std::shared_ptr<proto::CoordinatorService::Stub> stub_;  // guarded by mutex_
};

}  // namespace onggi::node
