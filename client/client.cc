#include "client/client.h"

#include <boost/asio/steady_timer.hpp>
#include <thread>

#include "client/core.h"
#include "common/rpc/channel.h"
#include "common/uuid.h"

namespace onggi::client {
namespace {

using std::chrono::steady_clock;

// Begins a call of each method.
#define ONGGI_CLIENT_METHOD(service, method)                                                 \
  void Begin(Stubs& stubs, grpc::ClientContext* context, const v1::method##Request& request, \
             v1::method##Response* response, std::function<void(grpc::Status)> done) {       \
    v1::service::Stub& stub = *StubOf##service(stubs);                                       \
    stub.async()->method(context, &request, response, std::move(done));                      \
  }
v1::KeyValue::Stub* StubOfKeyValue(Stubs& stubs) { return stubs.key_value.get(); }
v1::Tables::Stub* StubOfTables(Stubs& stubs) { return stubs.tables.get(); }
ONGGI_CLIENT_METHODS(ONGGI_CLIENT_METHOD)
#undef ONGGI_CLIENT_METHOD

// Where requests on one item go; the others go anywhere.
template <class Request>
Route RouteOf(const Request& /*request*/) {
  return {};
}
template <>
Route RouteOf(const v1::GetItemRequest& request) {
  return {&request.table_name(), &request.key(), request.consistent_read()};
}
template <>
Route RouteOf(const v1::PutItemRequest& request) {
  return {&request.table_name(), &request.item(), true};
}
template <>
Route RouteOf(const v1::UpdateItemRequest& request) {
  return {&request.table_name(), &request.key(), true};
}
template <>
Route RouteOf(const v1::DeleteItemRequest& request) {
  return {&request.table_name(), &request.key(), true};
}

/// What a write answers depends on what it found, or what it does: twice is not once.
template <class Request>
bool DependsOnItem(const Request& request) {
  const auto values = request.return_values();
  return request.has_condition_expression() ||
         (values != v1::RETURN_VALUES_UNSPECIFIED && values != v1::RETURN_VALUES_NONE);
}
template <class Request>
bool NeedsId(const Request& /*request*/) {
  return false;
}
template <>
bool NeedsId(const v1::PutItemRequest& request) {
  return DependsOnItem(request);
}
template <>
bool NeedsId(const v1::DeleteItemRequest& request) {
  return DependsOnItem(request);
}
template <>
bool NeedsId(const v1::UpdateItemRequest& /*request*/) {
  return true;
}

template <class Request>
constexpr bool IsRead() {
  const std::string_view name = MethodOf<Request>::kName;
  return name.starts_with("Get") || name.starts_with("BatchGet") || name.starts_with("Query") ||
         name.starts_with("Scan") || name.starts_with("Describe") || name.starts_with("List");
}

double RandomFraction() { return static_cast<double>(FastRandom() >> 11) * 0x1.0p-53; }

}  // namespace

void CancelLatch::Cancel() {
  std::function<void()> cancel;
  {
    std::scoped_lock lock(mutex_);
    cancelled_ = true;
    cancel = cancel_;
  }
  if (cancel) cancel();
}

void CancelLatch::Arm(std::function<void()> cancel) {
  {
    std::scoped_lock lock(mutex_);
    cancel_ = cancel;
    if (!cancelled_) return;
  }
  cancel();
}

/// One call with all its tries. Kept alive by what is under way: a try, or a pause.
template <class Request>
class Client::Attempts final : public LiveCall,
                               public std::enable_shared_from_this<Client::Attempts<Request>> {
 public:
  using Response = ResponseOf<Request>;

  Attempts(Core& core, Request request, const CallOptions& options, Callback<Response> done)
      : membership_(core, this),
        core_(core),
        request_(std::move(request)),
        done_(std::move(done)),
        max_attempts_(
            std::max(1, options.max_attempts.value_or(core.options().retry.max_attempts))),
        deadline_(steady_clock::now() + options.timeout.value_or(core.options().timeout)),
        timer_(core.io()) {
    if (NeedsId(request_)) write_id_ = core_.NewWriteId();
  }

  void Start() {
    membership_.entered = core_.Enter(this->shared_from_this());
    if (!membership_.entered) {
      Error error;
      error.code = grpc::StatusCode::RESOURCE_EXHAUSTED;
      error.message = "too many calls are under way, or the client is being destroyed";
      return std::exchange(done_, nullptr)(std::move(error));
    }
    Try();
  }

  void Cancel() override {
    std::scoped_lock lock(mutex_);
    cancelled_ = true;
    if (context_ != nullptr) context_->TryCancel();
    // A pause ends on the client's thread.
    boost::asio::post(core_.io(), [self = this->shared_from_this()] { self->timer_.cancel(); });
  }

 private:
  void Try() {
    ++attempts_;
    node_ = core_.Pick(RouteOf(request_), node_ == nullptr ? std::string() : node_->address());
    auto context = std::make_shared<grpc::ClientContext>();
    core_.Prepare(context.get());
    if (!write_id_.empty()) context->AddMetadata("onggi-write-id", write_id_);
    const auto left = std::min<steady_clock::duration>(deadline_ - steady_clock::now(),
                                                       core_.options().attempt_timeout);
    context->set_deadline(std::chrono::system_clock::now() + left);
    response_.Clear();
    {
      std::scoped_lock lock(mutex_);
      context_ = context;
      if (cancelled_) context_->TryCancel();
    }
    Begin(node_->stubs(), context.get(), request_, &response_,
          [self = this->shared_from_this()](const grpc::Status& status) { self->Ended(status); });
  }

  void Ended(const grpc::Status& status) {
    if (status.ok()) {
      node_->MarkGood();
      core_.quota().Success(attempts_ > 1, timed_out_);
      return Finish(std::move(response_));
    }
    Error error = ErrorOf(status);
    error.attempts = attempts_;
    const auto& metadata = context_->GetServerInitialMetadata();
    if (const auto it = metadata.find("onggi-request-id"); it != metadata.end()) {
      error.request_id.assign(it->second.data(), it->second.size());
    }
    const bool unanswered = error.type.empty();
    if (unanswered && (error.code == grpc::StatusCode::UNAVAILABLE ||
                       error.code == grpc::StatusCode::DEADLINE_EXCEEDED)) {
      node_->MarkFailed();
    }
    error.unknown_outcome = !IsRead<Request>() && !NothingHappened(error);
    timed_out_ = error.code == grpc::StatusCode::DEADLINE_EXCEEDED;
    const auto pause = Backoff(core_.options().retry, attempts_, RandomFraction());
    const bool again = IsRetryable(error) && attempts_ < max_attempts_ &&
                       steady_clock::now() + pause < deadline_ && !cancelled() &&
                       core_.quota().Take(timed_out_);
    if (!again) return Finish(std::move(error));
    last_ = std::move(error);
    boost::asio::post(core_.io(), [self = this->shared_from_this(), pause] { self->Pause(pause); });
  }

  void Pause(std::chrono::nanoseconds pause) {
    timer_.expires_after(pause);
    if (cancelled()) timer_.cancel();
    timer_.async_wait([self = this->shared_from_this()](const boost::system::error_code&) {
      if (!self->cancelled()) return self->Try();
      self->last_.code = grpc::StatusCode::CANCELLED;
      self->Finish(std::move(self->last_));
    });
    if (cancelled()) timer_.cancel();
  }

  void Finish(Result<Response> result) { std::exchange(done_, nullptr)(std::move(result)); }

  bool cancelled() {
    std::scoped_lock lock(mutex_);
    return cancelled_;
  }

  /// The first member: the client waits until everything else of the call is gone.
  struct Membership {
    Membership(Core& core_, LiveCall* call_) : core(core_), call(call_) {}
    ~Membership() {
      if (entered) core.Leave(call);
    }
    Core& core;
    LiveCall* const call;
    bool entered = false;
  };
  Membership membership_;
  Core& core_;
  const Request request_;
  Callback<Response> done_;
  const int max_attempts_;
  const steady_clock::time_point deadline_;
  std::string write_id_;  ///< empty: none is needed
  boost::asio::steady_timer timer_;
  std::shared_ptr<Node> node_;
  Response response_;
  int attempts_ = 0;
  bool timed_out_ = false;
  Error last_;
  std::mutex mutex_;
  std::shared_ptr<grpc::ClientContext> context_;  // replaced under mutex_
  bool cancelled_ = false;                        // guarded by mutex_
};

Client::Client(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Client::~Client() { core_->Stop(); }

onggi::Result<std::unique_ptr<Client>> Client::Make(ClientOptions options) {
  if (options.endpoints.empty()) return InvalidArgument("no endpoints");
  if (!options.access_key.empty() && options.tls.disabled() && !options.credentials_in_plain_text) {
    return InvalidArgument("credentials would be sent without TLS");
  }
  ASSIGN_OR_RETURN(auto credentials, rpc::MakeChannelCredentials(options.tls));
  auto core = std::make_unique<Core>(std::move(options), std::move(credentials));
  return std::unique_ptr<Client>(new Client(std::move(core)));
}

template <class Request>
std::function<void()> Client::Call(Request request, CallOptions options,
                                   Callback<ResponseOf<Request>> done) {
  auto attempts =
      std::make_shared<Attempts<Request>>(*core_, std::move(request), options, std::move(done));
  attempts->Start();
  return [weak = std::weak_ptr<LiveCall>(attempts)] {
    if (const auto call = weak.lock()) call->Cancel();
  };
}

#define ONGGI_CLIENT_METHOD(service, method)                        \
  template std::function<void()> Client::Call<v1::method##Request>( \
      v1::method##Request, CallOptions, Client::Callback<v1::method##Response>);
ONGGI_CLIENT_METHODS(ONGGI_CLIENT_METHOD)
#undef ONGGI_CLIENT_METHOD

std::future<Result<v1::GetItemResponse>> Client::Get(std::string table, Item key, bool consistent) {
  v1::GetItemRequest request;
  request.set_table_name(std::move(table));
  *request.mutable_key() = std::move(key);
  if (consistent) request.set_consistent_read(true);
  return Call(std::move(request));
}

std::future<Result<v1::PutItemResponse>> Client::Put(std::string table, Item item) {
  v1::PutItemRequest request;
  request.set_table_name(std::move(table));
  *request.mutable_item() = std::move(item);
  return Call(std::move(request));
}

std::future<Result<v1::DeleteItemResponse>> Client::Delete(std::string table, Item key) {
  v1::DeleteItemRequest request;
  request.set_table_name(std::move(table));
  *request.mutable_key() = std::move(key);
  return Call(std::move(request));
}

bool Client::WaitForMap(std::chrono::milliseconds timeout) const {
  const auto until = steady_clock::now() + timeout;
  while (!core_->map().known()) {
    if (!core_->options().route || steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

std::string Client::PrimaryOf(const std::string& table, const Item& key) const {
  const auto place = core_->map().Find(table, key);
  return place ? core_->map().Address(place->primary) : std::string();
}

}  // namespace onggi::client
