#include "replication/metadata/etcd_lease.h"

#include <time.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "common/log.h"
#include "replication/metadata/etcd_stream.h"

namespace onggi::metadata::etcd {

using etcdserverpb::LeaseKeepAliveRequest;
using etcdserverpb::LeaseKeepAliveResponse;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kTick{100};
constexpr milliseconds kFirstPause{50};
constexpr milliseconds kLastPause{1000};
/// A keep-alive without an answer for so long: the member cannot reach its leader.
constexpr milliseconds kNoAnswer{1000};
constexpr std::chrono::seconds kMaxTtl{24 * 3600};

class Handle final : public LeaseHandle {
 public:
  Handle(std::shared_ptr<LeaseState> lease, LeaseKeeper* keeper, std::shared_ptr<Poster> poster)
      : lease_(std::move(lease)), keeper_(keeper), poster_(std::move(poster)) {}
  ~Handle() override {
    lease_->released = true;
    poster_->Post([lease = lease_, keeper = keeper_] { keeper->Release(lease); });
  }
  LeaseId id() const override { return lease_->id; }
  bool alive() const override { return !lease_->ended && BootNow() < lease_->sure_until.load(); }

 private:
  const std::shared_ptr<LeaseState> lease_;
  LeaseKeeper* const keeper_;
  const std::shared_ptr<Poster> poster_;
};

}  // namespace

BootTime BootNow() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec) + BootTime(now.tv_nsec);
}

class LeaseKeeper::Stream final
    : public etcd::Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse> {
 public:
  Stream(LeaseKeeper* keeper, Client* client, Endpoint* endpoint)
      : etcd::Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse>(client, endpoint),
        keeper_(keeper) {}

  void Start() {
    Begin([this](auto* context, auto* queue, auto* tag) {
      return endpoint()->lease->AsyncLeaseKeepAlive(context, queue, tag);
    });
  }

 private:
  void OnMessage(const LeaseKeepAliveResponse& message) override { keeper_->OnMessage(message); }
  void OnEnd(const grpc::Status& status) override { keeper_->OnEnd(this, status); }

  LeaseKeeper* const keeper_;
};

LeaseKeeper::LeaseKeeper(Client* client, std::shared_ptr<Poster> poster)
    : client_(client), poster_(std::move(poster)) {
  client_->AddListener(this);
}

LeaseKeeper::~LeaseKeeper() = default;

void LeaseKeeper::Grant(std::chrono::seconds ttl, boost::asio::any_io_executor executor,
                        std::function<void()> lost, MetadataStore::LeaseCallback done) {
  if (ttl < std::chrono::seconds(1) || ttl > kMaxTtl) {
    return done(InvalidArgument("a lease of less than a second or more than a day"));
  }
  auto lease = std::make_shared<LeaseState>();
  // Chosen here, so that asking again grants no second one.
  while (lease->id == LeaseId()) lease->id = LeaseId(random_() >> 1);
  lease->ttl = ttl;
  lease->executor = std::move(executor);
  lease->lost = std::move(lost);
  etcdserverpb::LeaseGrantRequest request;
  request.set_ttl(ttl.count());
  request.set_id(static_cast<int64_t>(lease->id.value));
  const auto method = [](Endpoint& endpoint, grpc::ClientContext* context,
                         const etcdserverpb::LeaseGrantRequest& asked,
                         grpc::CompletionQueue* queue) {
    return endpoint.lease->AsyncLeaseGrant(context, asked, queue);
  };
  const auto finish = [this, lease, asked = BootNow(), done = std::move(done)](
                          const Result<etcdserverpb::LeaseGrantResponse>& result) {
    OnGranted(lease, asked, result, done);
  };
  client_->Ask<etcdserverpb::LeaseGrantRequest, etcdserverpb::LeaseGrantResponse>(
      Client::Kind::kRead, +method, std::move(request),
      Loop::Clock::now() + client_->options().request_timeout, finish);
}

void LeaseKeeper::OnGranted(const std::shared_ptr<LeaseState>& lease, BootTime asked,
                            const Result<etcdserverpb::LeaseGrantResponse>& result,
                            const MetadataStore::LeaseCallback& done) {
  if (result.ok()) {
    if (!result->error().empty()) return done(Unavailable("etcd: " + result->error()));
    lease->ttl = std::chrono::seconds(std::clamp<int64_t>(result->ttl(), 1, kMaxTtl.count()));
  } else if (result.status().code() != Code::kAlreadyExists) {
    return done(result.status());
  }  // else an earlier attempt granted it
  lease->sure_until = asked + lease->ttl;
  if (closed_ || BootNow() >= lease->sure_until.load()) {
    AskRevoke(lease->id, [](const Status&) {});
    return done(Unavailable("etcd: the lease was granted too late"));
  }
  lease->next_send = asked + lease->ttl / 3;
  leases_.emplace(lease->id, lease);
  client_->metrics().leases->Add(1);
  if (!std::exchange(ticking_, true)) Tick();
  done(std::unique_ptr<LeaseHandle>(new Handle(lease, this, poster_)));
}

void LeaseKeeper::AskRevoke(LeaseId id, MetadataStore::StatusCallback done) {
  etcdserverpb::LeaseRevokeRequest request;
  request.set_id(static_cast<int64_t>(id.value));
  const auto method = [](Endpoint& endpoint, grpc::ClientContext* context,
                         const etcdserverpb::LeaseRevokeRequest& asked,
                         grpc::CompletionQueue* queue) {
    return endpoint.lease->AsyncLeaseRevoke(context, asked, queue);
  };
  ++revoking_;
  const auto finish =
      [this, done = std::move(done)](const Result<etcdserverpb::LeaseRevokeResponse>& result) {
        --revoking_;
        const Status status = result.status();
        done(status.code() == Code::kNotFound ? Status() : status);
        if (revoking_ == 0 && all_revoked_) std::exchange(all_revoked_, nullptr)();
      };
  client_->Ask<etcdserverpb::LeaseRevokeRequest, etcdserverpb::LeaseRevokeResponse>(
      Client::Kind::kRead, +method, std::move(request),
      Loop::Clock::now() + client_->options().request_timeout, finish);
}

void LeaseKeeper::Revoke(LeaseId id, MetadataStore::StatusCallback done) {
  if (const auto it = leases_.find(id); it != leases_.end()) Lose(it->second);
  AskRevoke(id, std::move(done));
}

void LeaseKeeper::Release(const std::shared_ptr<LeaseState>& lease) {
  lease->ended = true;
  if (leases_.erase(lease->id) == 0) return;  // lost before
  client_->metrics().leases->Add(-1);
  AskRevoke(lease->id, [](const Status&) {});
}

// By value: it may be the last reference but for the one in the map.
void LeaseKeeper::Lose(std::shared_ptr<LeaseState> lease) {
  lease->ended = true;
  if (leases_.erase(lease->id) > 0) client_->metrics().leases->Add(-1);
  client_->metrics().lost_leases->Add();
  if (!lease->lost || lease->released) return;
  boost::asio::post(lease->executor, [lease] {
    if (!lease->released) lease->lost();
  });
}

void LeaseKeeper::RevokeAll(std::function<void()> done) {
  for (const auto& [id, lease] : std::exchange(leases_, {})) {
    lease->ended = true;
    client_->metrics().leases->Add(-1);
    AskRevoke(id, [](const Status&) {});
  }
  if (revoking_ == 0) return done();
  all_revoked_ = std::move(done);
}

void LeaseKeeper::Open() {
  if (closed_ || stream_ != nullptr || Loop::Clock::now() < open_at_) return;
  Endpoint* const endpoint = client_->Authenticated() ? client_->Pick(avoid_) : nullptr;
  if (endpoint == nullptr) return;  // Tick comes again
  stream_ = std::make_shared<Stream>(this, client_, endpoint);
  stream_->Start();
  for (const auto& [id, lease] : leases_) Send(lease);
}

void LeaseKeeper::Detach() {
  if (stream_ == nullptr) return;
  avoid_ = stream_->endpoint();
  std::exchange(stream_, nullptr)->Detach();
  for (const auto& [id, lease] : leases_) lease->unanswered.clear();
}

void LeaseKeeper::Send(const std::shared_ptr<LeaseState>& lease) {
  const BootTime now = BootNow();
  lease->unanswered.push_back(now);
  lease->next_send = now + lease->ttl / 3;
  LeaseKeepAliveRequest request;
  request.set_id(static_cast<int64_t>(lease->id.value));
  stream_->Write(request);
}

void LeaseKeeper::OnMessage(const LeaseKeepAliveResponse& response) {
  const auto it = leases_.find(LeaseId(static_cast<uint64_t>(response.id())));
  if (it == leases_.end()) return;
  const std::shared_ptr<LeaseState> lease = it->second;
  if (response.ttl() <= 0) {
    log::Warn("etcd lease has ended", "lease", lease->id);
    return Lose(lease);
  }
  pause_ = milliseconds(0);
  avoid_ = nullptr;
  if (lease->unanswered.empty()) return;
  // Answers come in the order of requests.
  const BootTime sent = lease->unanswered.front();
  lease->unanswered.pop_front();
  lease->sure_until =
      std::max(lease->sure_until.load(),
               sent + std::chrono::seconds(std::min<int64_t>(response.ttl(), kMaxTtl.count())));
}

void LeaseKeeper::OnEnd(Stream* stream, const grpc::Status& status) {
  if (closed_) return;
  const Failure failure = Classify(status);
  log::Debug("etcd lease stream ended", "endpoint", stream->endpoint()->address, "error",
             status.error_message());
  if (failure.leave) client_->Blame(stream->endpoint(), status.error_message());
  client_->RenewToken(failure);
  Detach();
  open_at_ = Loop::Clock::now() + pause_;
  pause_ = pause_.count() == 0 ? kFirstPause : std::min(2 * pause_, kLastPause);
  Open();
}

void LeaseKeeper::OnEndpointLost(Endpoint* endpoint) {
  if (closed_ || stream_ == nullptr || stream_->endpoint() != endpoint) return;
  Detach();
  if (!leases_.empty()) Open();
}

void LeaseKeeper::Tick() {
  if (closed_) return;
  const BootTime now = BootNow();
  bool stuck = false;
  for (const auto& [id, lease] : std::map(leases_)) {
    if (now >= lease->sure_until.load()) {
      log::Warn("etcd lease was not renewed in time", "lease", id);
      // It may live on there; its keys should not.
      AskRevoke(id, [](const Status&) {});
      Lose(lease);
      continue;
    }
    stuck = stuck || (!lease->unanswered.empty() && now - lease->unanswered.front() >= kNoAnswer);
  }
  if (stuck) Detach();
  if (leases_.empty()) {
    Detach();
    ticking_ = false;
    return;
  }
  Open();
  if (stream_ != nullptr) {
    for (const auto& [id, lease] : leases_) {
      if (now >= lease->next_send) Send(lease);
    }
  }
  client_->loop().After(kTick, [this] { Tick(); });
}

void LeaseKeeper::Close() {
  closed_ = true;
  Detach();
  for (const auto& [id, lease] : leases_) lease->ended = true;
  leases_.clear();
}

}  // namespace onggi::metadata::etcd
