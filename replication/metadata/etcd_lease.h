#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>

#include "replication/metadata/etcd_client.h"

namespace onggi::metadata::etcd {

/// Time of the machine that goes on while it sleeps, as a lease does (CLOCK_BOOTTIME).
using BootTime = std::chrono::nanoseconds;
BootTime BootNow();

/// A lease that is kept alive: shared by its handle and the keeper.
struct LeaseState {
  LeaseId id;
  std::chrono::milliseconds ttl{};  ///< as granted
  boost::asio::any_io_executor executor;
  std::function<void()> lost;

  std::atomic<bool> ended{false};     ///< lost or revoked
  std::atomic<bool> released{false};  ///< the handle is gone
  /// It lives at least until then: the answered request that was sent last, and the time to live
  /// from there.
  std::atomic<BootTime> sure_until{BootTime(0)};

  // The loop's thread's.
  BootTime next_send{0};
  std::deque<BootTime> unanswered;  ///< when those were sent, on the present stream
};

/// Grants leases and keeps them alive over one gRPC stream, which moves when its member fails or
/// does not answer. Lives on the loop's thread.
class LeaseKeeper final : public EndpointListener {
 public:
  LeaseKeeper(Client* client, std::shared_ptr<Poster> poster);
  ~LeaseKeeper() override;

  void Grant(std::chrono::seconds ttl, boost::asio::any_io_executor executor,
             std::function<void()> lost, MetadataStore::LeaseCallback done);
  void Revoke(LeaseId id, MetadataStore::StatusCallback done);
  /// Its handle is gone.
  void Release(const std::shared_ptr<LeaseState>& lease);

  /// Revokes all leases; `done` when etcd has answered, or will not.
  void RevokeAll(std::function<void()> done);
  void Close();

  void OnEndpointLost(Endpoint* endpoint) override;

 private:
  class Stream;

  void OnGranted(const std::shared_ptr<LeaseState>& lease, BootTime asked,
                 const Result<etcdserverpb::LeaseGrantResponse>& result,
                 const MetadataStore::LeaseCallback& done);
  void AskRevoke(LeaseId id, MetadataStore::StatusCallback done);
  void Lose(std::shared_ptr<LeaseState> lease);
  void Open();
  void Detach();
  void Send(const std::shared_ptr<LeaseState>& lease);
  void OnMessage(const etcdserverpb::LeaseKeepAliveResponse& response);
  void OnEnd(Stream* stream, const grpc::Status& status);
  void Tick();

  Client* const client_;
  const std::shared_ptr<Poster> poster_;
  std::mt19937_64 random_{std::random_device{}()};
  std::map<LeaseId, std::shared_ptr<LeaseState>> leases_;
  std::shared_ptr<Stream> stream_;
  Endpoint* avoid_ = nullptr;
  SteadyTime open_at_{};  ///< no earlier
  std::chrono::milliseconds pause_{0};
  size_t revoking_ = 0;
  std::function<void()> all_revoked_;
  bool ticking_ = false;
  bool closed_ = false;
};

}  // namespace onggi::metadata::etcd
