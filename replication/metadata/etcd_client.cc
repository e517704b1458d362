#include "replication/metadata/etcd_client.h"

#include <algorithm>
#include <random>

#include "common/log.h"
#include "common/rpc/channel.h"
#include "common/rpc/tls.h"

namespace onggi::metadata::etcd {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds kTick{100};
constexpr milliseconds kTickWhileWaiting{10};
constexpr milliseconds kFirstPause{20};
constexpr milliseconds kLastPause{250};
constexpr milliseconds kFirstBlame{200};
constexpr milliseconds kLastBlame{3000};
constexpr milliseconds kAuthenticationPause{500};
/// For the answers of transactions that were proposed in the leader's last moments.
constexpr milliseconds kTermGrace{300};
constexpr milliseconds kExplainTimeout{300};
constexpr size_t kMaxEndpoints = 64;

Status Closed() { return Unavailable("the metadata store is closed"); }

}  // namespace

/// Asks a member for a sign of life: a read that it answers alone.
class Probe final : public Tag {
 public:
  Probe(Client* client, Endpoint* endpoint)
      : client_(client), endpoint_(endpoint), channel_(endpoint->channel) {
    etcdserverpb::RangeRequest request;
    request.set_key(client->options().key_prefix + "probe");
    request.set_serializable(true);
    request.set_count_only(true);
    client->Prepare(&context_);
    context_.set_deadline(Loop::Deadline(client->options().probe_timeout));
    reader_ = endpoint->kv->AsyncRange(&context_, request, client->loop().queue());
    reader_->Finish(&response_, &status_, this);
  }

  void Cancel() { context_.TryCancel(); }

  void Done(bool /*ok*/) override {
    const std::unique_ptr<Probe> self(this);
    client_->probes_.erase(this);
    endpoint_->probing = false;
    if (client_->closed_ || endpoint_->channel != channel_) return;
    if (status_.ok()) return client_->OnSuccess(endpoint_, response_.header());
    const Failure failure = Classify(status_);
    if (failure.answered) client_->Alive(endpoint_);
    if (status_.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      client_->Lose(endpoint_, "no sign of life");
    } else if (failure.leave) {
      client_->Blame(endpoint_, status_.error_message());
    }
  }

 private:
  Client* const client_;
  Endpoint* const endpoint_;
  const std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  etcdserverpb::RangeResponse response_;
  grpc::Status status_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<etcdserverpb::RangeResponse>> reader_;
};

Client::Client(const EtcdOptions& options, Loop* loop, Metrics* metrics)
    : options_(options), loop_(loop), metrics_(metrics), has_token_(options.user.empty()) {}

Client::~Client() = default;

Status Client::Init() {
  if (options_.endpoints.empty() || options_.endpoints.size() > kMaxEndpoints) {
    return InvalidArgument("etcd: between 1 and 64 endpoints are needed");
  }
  tls_ =
      !options_.ca_file.empty() || !options_.certificate_file.empty() || !options_.key_file.empty();
  std::vector<std::string> addresses;
  bool plain = false;
  for (const std::string& endpoint : options_.endpoints) {
    std::string address = endpoint;
    if (address.starts_with("https://")) {
      tls_ = true;
      address.erase(0, 8);
    } else if (address.starts_with("http://")) {
      plain = true;
      address.erase(0, 7);
    }
    while (address.ends_with('/')) address.pop_back();
    const size_t colon = address.rfind(':');
    if (colon == 0 || colon == std::string::npos || colon + 1 == address.size() ||
        address.find('/') != std::string::npos) {
      return InvalidArgument("etcd: endpoint " + endpoint + " is not host:port");
    }
    addresses.push_back(std::move(address));
  }
  if (tls_ && plain) return InvalidArgument("etcd: an http:// endpoint, and TLS, cannot both be");
  RETURN_IF_ERROR(MakeCredentials());
  for (std::string& address : addresses) {
    auto endpoint = std::make_unique<Endpoint>();
    endpoint->address = std::move(address);
    Connect(endpoint.get());
    endpoints_.push_back(std::move(endpoint));
  }
  // Any of them, so that many clients spread over the members.
  std::random_device random;
  current_ = endpoints_[random() % endpoints_.size()].get();
  return {};
}

Status Client::MakeCredentials() {
  if (tls_ && options_.ca_file.empty() && options_.certificate_file.empty()) {
    credentials_ = grpc::SslCredentials(grpc::SslCredentialsOptions());  // the system's authorities
    return {};
  }
  const rpc::TlsOptions tls(options_.ca_file, options_.certificate_file, options_.key_file);
  ASSIGN_OR_RETURN(credentials_, rpc::MakeChannelCredentials(tls));
  return {};
}

std::shared_ptr<grpc::Channel> Client::MakeChannel(const std::string& address) const {
  rpc::ChannelOptions channel;
  channel.server_name = options_.server_name;
  // etcd hangs up on clients that ping more often than it likes; probes serve better.
  channel.keepalive_time = std::chrono::hours(2);
  channel.connect_timeout = milliseconds(1000);
  channel.own_connection = true;
  channel.max_receive_bytes = 512u << 20;
  channel.max_send_bytes = 8u << 20;
  return rpc::MakeChannel(address, credentials_, channel);
}

void Client::Connect(Endpoint* endpoint) {
  endpoint->channel = MakeChannel(endpoint->address);
  endpoint->kv = etcdserverpb::KV::NewStub(endpoint->channel);
  endpoint->watch = etcdserverpb::Watch::NewStub(endpoint->channel);
  endpoint->lease = etcdserverpb::Lease::NewStub(endpoint->channel);
  endpoint->auth = etcdserverpb::Auth::NewStub(endpoint->channel);
  endpoint->maintenance = etcdserverpb::Maintenance::NewStub(endpoint->channel);
  endpoint->channel->GetState(true);
}

void Client::Start() { Tick(); }

/// A channel keeps to itself why it does not connect; only a call that does not wait for it is
/// told.
std::string Client::Explain() const {
  std::string reasons;
  for (const auto& endpoint : endpoints_) {
    const auto stub = etcdserverpb::Maintenance::NewStub(MakeChannel(endpoint->address));
    grpc::ClientContext context;
    context.set_deadline(Loop::Deadline(kExplainTimeout));
    etcdserverpb::StatusResponse response;
    const grpc::Status status = stub->Status(&context, etcdserverpb::StatusRequest(), &response);
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE) continue;
    reasons += (reasons.empty() ? "" : "; ") + endpoint->address + ": " + status.error_message();
  }
  return reasons;
}

/// Keeps the connections up and looks after those who wait for one.
void Client::Tick() {
  if (closed_) return;
  const SteadyTime now = Loop::Clock::now();
  for (const auto& endpoint : endpoints_) {
    AbandonLost(endpoint.get());
    if (endpoint->channel->GetState(true) != GRPC_CHANNEL_READY || endpoint->probing) continue;
    const bool used = endpoint.get() == current_ || endpoint->streams > 0 ||
                      !endpoint->calls.empty() || endpoint->failures > 0;
    const milliseconds interval = used ? options_.probe_interval : 8 * options_.probe_interval;
    if (now - std::max(endpoint->last_answer, endpoint->last_probe) >= interval) {
      StartProbe(endpoint.get());
    }
  }
  ServeWaiting();
  const bool waiting = !disconnected_.empty();
  const milliseconds pause =
      waiting ? kTickWhileWaiting : std::min(kTick, options_.probe_interval / 2);
  loop_->After(std::max(pause, milliseconds(1)), [this] { Tick(); });
}

void Client::StartProbe(Endpoint* endpoint) {
  endpoint->probing = true;
  endpoint->last_probe = Loop::Clock::now();
  probes_.insert(new Probe(this, endpoint));  // it deletes itself
}

void Client::OnSuccess(Endpoint* endpoint, const etcdserverpb::ResponseHeader& header) {
  Alive(endpoint);
  SawRevision(header);
  endpoint->failures = 0;
  if (header.raft_term() <= endpoint->term) return;
  endpoint->term = header.raft_term();
  endpoint->term_since = Loop::Clock::now();
}

/// A transaction on its way to a leader that died is lost, or was done and its answer is lost; the
/// member notices only after its own timeout of many seconds. A new term is the sign.
void Client::AbandonLost(Endpoint* endpoint) {
  if (Loop::Clock::now() - endpoint->term_since < kTermGrace) return;
  for (Call* call : endpoint->calls) {
    if (call->kind_ == Kind::kWrite && call->started_ < endpoint->term_since) {
      call->Cancel("its leader was replaced while it was on its way");
    }
  }
}

void Client::ServeWaiting() {
  const SteadyTime now = Loop::Clock::now();
  const bool connected = !disconnected_.empty() && Pick() != nullptr;
  std::vector<std::shared_ptr<Call>> ready;
  for (auto* waiting : {&disconnected_, &unauthenticated_}) {
    std::erase_if(*waiting, [&](const std::shared_ptr<Call>& call) {
      const bool go = call->deadline_ <= now || (connected && waiting == &disconnected_);
      if (go) ready.push_back(call);
      return go;
    });
  }
  for (const auto& call : ready) Try(call);
  if (!unauthenticated_.empty()) Authenticate();
}

bool Client::Ready(const Endpoint& endpoint) const {
  return endpoint.channel->GetState(false) == GRPC_CHANNEL_READY;
}

Endpoint* Client::Pick(const Endpoint* avoid) {
  const SteadyTime now = Loop::Clock::now();
  const auto usable = [&](const Endpoint& endpoint) {
    return endpoint.bad_until <= now && Ready(endpoint);
  };
  const bool keep = usable(*current_);
  if (keep && current_ != avoid) return current_;
  const size_t count = endpoints_.size();
  const auto position = std::ranges::find_if(
      endpoints_, [this](const auto& endpoint) { return endpoint.get() == current_; });
  const auto first = static_cast<size_t>(position - endpoints_.begin());
  Endpoint* chosen = nullptr;
  for (size_t i = 1; i < count && chosen == nullptr; ++i) {
    Endpoint* const next = endpoints_[(first + i) % count].get();
    if (next != avoid && usable(*next)) chosen = next;
  }
  if (chosen == nullptr && keep) return current_;
  if (chosen == nullptr) {
    // All are in disgrace: the one that was left longest ago.
    for (const auto& endpoint : endpoints_) {
      if (!Ready(*endpoint)) continue;
      if (chosen == nullptr || endpoint->bad_until < chosen->bad_until) chosen = endpoint.get();
    }
    return chosen;
  }
  if (!keep) {
    if (current_->last_answer != SteadyTime()) {  // else it never served
      log::Info("etcd member changed", "from", current_->address, "to", chosen->address);
      metrics_->switches->Add();
    }
    current_ = chosen;
  }
  return chosen;
}

void Client::Prepare(grpc::ClientContext* context) const {
  context->AddMetadata("hasleader", "true");
  if (!token_.empty()) context->AddMetadata("token", token_);
}

void Client::Blame(Endpoint* endpoint, const std::string& why) {
  const unsigned shift = std::min(endpoint->failures, 6u);
  ++endpoint->failures;
  endpoint->bad_until = Loop::Clock::now() + std::min(kFirstBlame * (1u << shift), kLastBlame);
  log::Debug("etcd member failed", "endpoint", endpoint->address, "error", why);
}

void Client::Lose(Endpoint* endpoint, const std::string& why) {
  static log::RateLimit limit(std::chrono::seconds(5));
  if (const uint64_t times = limit.Allow()) {
    log::Warn("etcd member given up", "endpoint", endpoint->address, "error", why, "times", times);
  }
  metrics_->lost_endpoints->Add();
  Blame(endpoint, why);
  // What is under way holds the old channel.
  Connect(endpoint);
  for (Call* call : endpoint->calls) call->Cancel("the member gave no sign of life");
  for (EndpointListener* listener : listeners_) listener->OnEndpointLost(endpoint);
}

void Client::Submit(std::shared_ptr<Call> call) {
  if (closed_) return call->Fail(Closed());
  calls_.insert(call);
  Try(call);
}

void Client::Try(const std::shared_ptr<Call>& call) {
  if (!calls_.contains(call)) return;  // answered, as when closing
  const SteadyTime now = Loop::Clock::now();
  if (now >= call->deadline_) {
    return Answer(call, call->last_.ok() ? Unavailable("etcd: no member answers") : call->last_);
  }
  if (call->needs_token_ && !has_token_) {
    unauthenticated_.push_back(call);
    return Authenticate();
  }
  Endpoint* const endpoint = Pick(call->avoid_);
  if (endpoint == nullptr) {
    disconnected_.push_back(call);
    return;
  }
  if (++call->attempts_ > 1) metrics_->retries->Add();
  auto left = std::chrono::ceil<milliseconds>(call->deadline_ - now);
  if (call->kind_ == Kind::kRead && endpoints_.size() > 1) {
    // Longer each time: it may be the answer that is slow to send.
    left = std::min(left, options_.attempt_timeout * (1u << std::min(call->attempts_ - 1, 4u)));
  }
  call->Reset();
  call->canceled_ = nullptr;
  call->context_ = std::make_unique<grpc::ClientContext>();
  call->context_->set_deadline(Loop::Deadline(left));
  if (call->needs_token_) {
    Prepare(call->context_.get());
  } else {
    call->context_->AddMetadata("hasleader", "true");
  }
  call->token_ = token_;
  call->started_ = now;
  call->endpoint_ = endpoint;
  endpoint->calls.insert(call.get());
  call->Issue(*endpoint, loop_->queue());
}

void Call::Done(bool /*ok*/) {
  const std::shared_ptr<Call> self = shared_from_this();
  Endpoint* const endpoint = std::exchange(endpoint_, nullptr);
  endpoint->calls.erase(this);
  if (!status_.ok()) {
    avoid_ = endpoint;
    return client_->OnFailure(self, status_);
  }
  client_->OnSuccess(endpoint, header());
  client_->calls_.erase(self);
  Succeed();
}

void Client::OnFailure(const std::shared_ptr<Call>& call, const grpc::Status& status) {
  Failure failure = Classify(status);
  Endpoint* const endpoint = call->avoid_;
  if (status.error_code() == grpc::StatusCode::CANCELLED && call->canceled_ != nullptr) {
    failure.status = Unavailable(std::string("etcd: no answer: ") + call->canceled_);
  }
  if (failure.answered) Alive(endpoint);
  // A member that gave other signs of life meanwhile is slow, or its leader is; that is no reason
  // for everybody to leave it.
  const bool slow = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED &&
                    endpoint->last_answer >= call->started_;
  if (failure.leave && !slow && !closed_) Blame(endpoint, status.error_message());
  call->last_ = failure.status;
  switch (failure.kind) {
    case Failure::Kind::kFinal: return Answer(call, failure.status);
    case Failure::Kind::kToken:
      if (call->token_ == token_) RenewToken();
      break;
    case Failure::Kind::kNotDone: break;
    case Failure::Kind::kUnknown:
      if (call->kind_ == Kind::kWrite) {
        return Answer(call, Status(Code::kUnknownOutcome, failure.status.message()));
      }
      if (failure.status.code() == Code::kResourceExhausted) return Answer(call, failure.status);
      break;
  }
  if (closed_) return Answer(call, Closed());
  TryLater(call);
}

void Client::TryLater(const std::shared_ptr<Call>& call) {
  // At once where another member may know better, then ever slower.
  const milliseconds pause =
      endpoints_.size() == 1 ? std::max(call->pause_, kFirstPause) : call->pause_;
  call->pause_ = call->pause_.count() == 0 ? kFirstPause : std::min(2 * call->pause_, kLastPause);
  if (pause.count() == 0) return Try(call);
  const auto left = std::chrono::ceil<milliseconds>(call->deadline_ - Loop::Clock::now());
  loop_->After(std::clamp(left, milliseconds(0), pause), [this, call] { Try(call); });
}

void Client::Answer(const std::shared_ptr<Call>& call, Status status) {
  if (calls_.erase(call) > 0) call->Fail(std::move(status));
}

bool Client::Authenticated() {
  if (!has_token_) Authenticate();
  return has_token_;
}

bool Client::RenewToken(const Failure& failure) {
  if (failure.kind != Failure::Kind::kToken) return false;
  RenewToken();
  return true;
}

void Client::RenewToken() {
  if (!uses_token()) return;
  has_token_ = false;
  token_.clear();
  Authenticate();
}

void Client::Authenticate() {
  if (authenticating_ || closed_ || Loop::Clock::now() < next_authentication_) return;
  authenticating_ = true;
  metrics_->tokens->Add();
  etcdserverpb::AuthenticateRequest request;
  request.set_name(options_.user);
  request.set_password(options_.password);
  using Typed = TypedCall<etcdserverpb::AuthenticateRequest, etcdserverpb::AuthenticateResponse>;
  const auto method = [](Endpoint& endpoint, grpc::ClientContext* context,
                         const etcdserverpb::AuthenticateRequest& asked,
                         grpc::CompletionQueue* queue) {
    return endpoint.auth->AsyncAuthenticate(context, asked, queue);
  };
  // A token that is not used does no harm: it may be asked for again.
  auto call = std::make_shared<Typed>(
      this, Kind::kRead, +method, std::move(request), Loop::Clock::now() + options_.request_timeout,
      [this](Result<etcdserverpb::AuthenticateResponse> result) { OnToken(std::move(result)); });
  call->needs_token_ = false;
  Submit(std::move(call));
}

void Client::OnToken(Result<etcdserverpb::AuthenticateResponse> result) {
  authenticating_ = false;
  // Not more often, whatever comes: checking a password is costly on purpose.
  next_authentication_ = Loop::Clock::now() + kAuthenticationPause;
  if (closed_) return;
  Status refused;
  if (result.ok()) {
    token_ = result->token();
    has_token_ = true;
  } else if (result.status().code() == Code::kConditionFailed) {
    has_token_ = true;  // etcd wants none
  } else if (result.status().code() != Code::kUnavailable) {
    refused = result.status();
    log::Error("etcd refuses the user", "user", options_.user, "error", refused);
  } else {
    return;  // Tick goes on
  }
  for (const auto& call : std::exchange(unauthenticated_, {})) {
    if (refused.ok()) {
      Try(call);
    } else {
      Answer(call, refused);
    }
  }
}

void Client::Range(etcdserverpb::RangeRequest request, SteadyTime deadline,
                   std::function<void(Result<etcdserverpb::RangeResponse>)> done) {
  const auto method = [](Endpoint& endpoint, grpc::ClientContext* context,
                         const etcdserverpb::RangeRequest& asked, grpc::CompletionQueue* queue) {
    return endpoint.kv->AsyncRange(context, asked, queue);
  };
  Ask<etcdserverpb::RangeRequest, etcdserverpb::RangeResponse>(
      Kind::kRead, +method, std::move(request), deadline, std::move(done));
}

void Client::Close() {
  closed_ = true;
  for (Probe* probe : probes_) probe->Cancel();
  disconnected_.clear();
  unauthenticated_.clear();
  for (const auto& call : std::set(calls_)) {
    if (call->endpoint_ != nullptr) {
      call->Cancel("the metadata store was closed");  // Done answers
    } else {
      Answer(call, Closed());
    }
  }
}

}  // namespace onggi::metadata::etcd
