#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/async_unary_call.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/proto/etcd.grpc.pb.h"
#include "replication/metadata/etcd_loop.h"
#include "replication/metadata/etcd_metrics.h"
#include "replication/metadata/etcd_status.h"
#include "replication/metadata/etcd_store.h"

namespace onggi::metadata::etcd {

using SteadyTime = Loop::Clock::time_point;

class Call;
class Probe;

/// One member, as this client sees it.
struct Endpoint {
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<etcdserverpb::KV::Stub> kv;
  std::unique_ptr<etcdserverpb::Watch::Stub> watch;
  std::unique_ptr<etcdserverpb::Lease::Stub> lease;
  std::unique_ptr<etcdserverpb::Auth::Stub> auth;
  std::unique_ptr<etcdserverpb::Maintenance::Stub> maintenance;

  std::set<Call*> calls;     ///< under way
  SteadyTime bad_until{};    ///< not used before, if another can be
  SteadyTime last_answer{};  ///< the last sign of life
  unsigned failures = 0;     ///< since the last success
  unsigned streams = 0;      ///< open
  bool probing = false;
  SteadyTime last_probe{};
  uint64_t term = 0;        ///< etcd's, as the member last said
  SteadyTime term_since{};  ///< when it was first seen to be so
};

/// Told when a member is given up; its streams must move. On the loop's thread.
class EndpointListener {
 public:
  virtual ~EndpointListener() = default;
  virtual void OnEndpointLost(Endpoint* endpoint) = 0;
};

/// Calls to whichever member serves: keeps a channel to each, chooses one, leaves it when it fails,
/// asks again where that is safe, and holds the authentication token.
///
/// Lives on the loop's thread (but for the constructor and Init). Close() before the loop's
/// Shutdown.
class Client {
 public:
  enum class Kind : uint8_t {
    kRead,   ///< may be done twice: asked again after any failure that may pass
    kWrite,  ///< asked again only if it was surely not done
  };

  Client(const EtcdOptions& options, Loop* loop, Metrics* metrics);
  ~Client();

  /// Checks the options and makes the channels. Before the loop starts.
  Status Init();
  void Start();
  /// What is the matter with the members: of each one that cannot be connected to, its address and
  /// what gRPC says of it. Blocks for kExplainTimeout each at most. After Init, on any thread.
  std::string Explain() const;

  /// Calls `method` of a member and answers with its response, or a Failure's status of kFinal;
  /// kUnavailable or kUnknownOutcome past `deadline`.
  template <class Request, class Response>
  using Method = std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> (*)(
      Endpoint&, grpc::ClientContext*, const Request&, grpc::CompletionQueue*);
  template <class Request, class Response>
  void Ask(Kind kind, Method<Request, Response> method, Request request, SteadyTime deadline,
           std::function<void(Result<Response>)> done);

  void Range(etcdserverpb::RangeRequest request, SteadyTime deadline,
             std::function<void(Result<etcdserverpb::RangeResponse>)> done);

  // For streams.

  /// The member to use now; nullptr when none is connected. Not `avoid`, if there is another.
  Endpoint* Pick(const Endpoint* avoid = nullptr);
  /// Adds what every request carries: token, and that the member must have a leader.
  void Prepare(grpc::ClientContext* context) const;
  /// Whether streams can start: there is a token, if one is needed. Asks for one if not.
  bool Authenticated();
  /// Whether a stream's failure is for want of a valid token; then a new one is asked for.
  bool RenewToken(const Failure& failure);
  void RenewToken();
  bool uses_token() const { return !options_.user.empty(); }
  /// The newest revision that any member has spoken of. Thread-safe.
  Revision newest() const { return Revision(newest_.load()); }
  void SawRevision(const etcdserverpb::ResponseHeader& header) {
    newest_ = std::max(newest_.load(), static_cast<uint64_t>(header.revision()));
  }
  /// A sign of life.
  void Alive(Endpoint* endpoint) { endpoint->last_answer = Loop::Clock::now(); }
  /// Not the first choice for a while.
  void Blame(Endpoint* endpoint, const std::string& why);
  void AddListener(EndpointListener* listener) { listeners_.push_back(listener); }

  /// Ends every call; what is asked from now on is answered kUnavailable.
  void Close();
  bool closed() const { return closed_; }

  Loop& loop() { return *loop_; }
  const EtcdOptions& options() const { return options_; }
  Metrics& metrics() { return *metrics_; }

 private:
  friend class Call;
  friend class Probe;

  Status MakeCredentials();
  void StartProbe(Endpoint* endpoint);
  void OnSuccess(Endpoint* endpoint, const etcdserverpb::ResponseHeader& header);
  void AbandonLost(Endpoint* endpoint);
  std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) const;
  void Connect(Endpoint* endpoint);
  void Tick();
  bool Ready(const Endpoint& endpoint) const;
  /// Gives the member up: its calls end, its streams move, its connection is made anew.
  void Lose(Endpoint* endpoint, const std::string& why);
  void Submit(std::shared_ptr<Call> call);
  void Try(const std::shared_ptr<Call>& call);
  void OnFailure(const std::shared_ptr<Call>& call, const grpc::Status& status);
  void TryLater(const std::shared_ptr<Call>& call);
  void Answer(const std::shared_ptr<Call>& call, Status status);
  void ServeWaiting();
  void Authenticate();
  void OnToken(Result<etcdserverpb::AuthenticateResponse> result);

  const EtcdOptions options_;
  Loop* const loop_;
  Metrics* const metrics_;
  bool tls_ = false;
  std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  Endpoint* current_ = nullptr;
  std::vector<EndpointListener*> listeners_;
  std::set<std::shared_ptr<Call>> calls_;            ///< not answered
  std::set<Probe*> probes_;                          ///< under way
  std::vector<std::shared_ptr<Call>> disconnected_;  ///< wait for a member
  std::vector<std::shared_ptr<Call>> unauthenticated_;
  std::string token_;
  bool has_token_ = false;  ///< or there is no need of one
  bool authenticating_ = false;
  SteadyTime next_authentication_{};
  std::atomic<uint64_t> newest_{0};  ///< written by the loop's thread
  bool closed_ = false;
};

/// One request, through all its attempts. See Client::Ask.
class Call : public Tag, public std::enable_shared_from_this<Call> {
 public:
  Call(Client* client, Client::Kind kind, SteadyTime deadline)
      : client_(client), kind_(kind), deadline_(deadline) {}

  void Done(bool ok) override;

 protected:
  friend class Client;

  void Cancel(const char* why) {
    canceled_ = why;
    context_->TryCancel();
  }

  /// Starts an attempt with a fresh context_.
  virtual void Issue(Endpoint& endpoint, grpc::CompletionQueue* queue) = 0;
  /// Drops what the last attempt left; it lives in the memory of that attempt's context.
  virtual void Reset() = 0;
  virtual const etcdserverpb::ResponseHeader& header() const = 0;
  virtual void Succeed() = 0;
  virtual void Fail(Status status) = 0;

  Client* const client_;
  const Client::Kind kind_;
  const SteadyTime deadline_;
  SteadyTime started_{};  ///< the attempt under way
  bool needs_token_ = true;
  Endpoint* endpoint_ = nullptr;  ///< of the attempt under way
  Endpoint* avoid_ = nullptr;     ///< failed last
  unsigned attempts_ = 0;
  std::chrono::milliseconds pause_{0};
  const char* canceled_ = nullptr;  ///< why the attempt was
  Status last_;                     ///< why the last attempt failed
  std::string token_;
  std::unique_ptr<grpc::ClientContext> context_;
  grpc::Status status_;
};

/// A request with the types of its messages: gives the answer, or the last try's error, to `done`.
template <class Request, class Response>
class TypedCall final : public Call {
 public:
  TypedCall(Client* client, Client::Kind kind, Client::Method<Request, Response> method,
            Request request, SteadyTime deadline, std::function<void(Result<Response>)> done)
      : Call(client, kind, deadline),
        method_(method),
        request_(std::move(request)),
        done_(std::move(done)) {}

 private:
  void Issue(Endpoint& endpoint, grpc::CompletionQueue* queue) override {
    response_.Clear();
    reader_ = method_(endpoint, context_.get(), request_, queue);
    reader_->Finish(&response_, &status_, this);
  }
  void Reset() override { reader_.reset(); }
  const etcdserverpb::ResponseHeader& header() const override { return response_.header(); }
  void Succeed() override { done_(std::move(response_)); }
  void Fail(Status status) override { done_(std::move(status)); }

  const Client::Method<Request, Response> method_;
  const Request request_;
  const std::function<void(Result<Response>)> done_;
  Response response_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader_;
};

template <class Request, class Response>
void Client::Ask(Kind kind, Method<Request, Response> method, Request request, SteadyTime deadline,
                 std::function<void(Result<Response>)> done) {
  Submit(std::make_shared<TypedCall<Request, Response>>(this, kind, method, std::move(request),
                                                        deadline, std::move(done)));
}

}  // namespace onggi::metadata::etcd
