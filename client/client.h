#pragma once

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/error.h"
#include "client/methods.h"
#include "client/retry.h"
#include "client/value.h"
#include "common/rpc/tls.h"
#include "common/status.h"

namespace onggi::client {

struct ClientOptions {
  ClientOptions() {}
  /// "host:port" of nodes' gRPC ports: any of them, to begin with.
  std::vector<std::string> endpoints = {"127.0.0.1:7000"};
  /// Authority of the servers' certificates, and our own where they ask for one; disabled: plain
  /// text.
  rpc::TlsOptions tls;
  /// The name that the endpoints' certificates carry; empty: their host. Nodes of the map say their
  /// own.
  std::string server_name;
  /// Sent with every call, where the servers have --credentials. Not sent without TLS unless
  /// `credentials_in_plain_text`: whoever listens could use them.
  std::string access_key;
  std::string secret_key;
  bool credentials_in_plain_text = false;
  /// With --isolate-accounts: whose region's tables; empty: the server's.
  std::string region;

  /// A call with all its tries and pauses.
  std::chrono::milliseconds timeout{10'000};
  /// One try; a call has time left for another when the first one gets no answer.
  std::chrono::milliseconds attempt_timeout{4'000};
  RetryPolicy retry;
  /// Follow the partition map and go straight to the nodes that lead. Otherwise the endpoints are
  /// asked in turn, and pass requests on.
  bool route = true;
  /// Ask for gzip of answers of 1 KB and more.
  bool compress = false;
  /// To each node. One takes some ten thousand calls a second.
  size_t connections_per_node = 1;
  /// Calls under way at once; more fail with RESOURCE_EXHAUSTED.
  size_t max_calls = 10'000;
};

struct CallOptions {
  CallOptions() {}
  std::optional<std::chrono::milliseconds> timeout;  ///< instead of the client's
  std::optional<int> max_attempts;
};

/// Cancels a call that is about to begin, or has begun. Thread-safe.
class CancelLatch {
 public:
  void Cancel();
  void Arm(std::function<void()> cancel);

 private:
  std::mutex mutex_;
  bool cancelled_ = false;
  std::function<void()> cancel_;
};

/// A client of a cluster (or of `onggi dev`): typed calls over gRPC that go straight to the primary
/// of the item's partition, and are tried again as the SDKs do it.
///
///     auto client = client::Client::Make(options);            // Result<unique_ptr<Client>>
///     v1::GetItemRequest get;
///     get.set_table_name("Music");
///     *get.mutable_key() = client::MakeItem({{"Artist", "Björk"}});
///     client::Result<v1::GetItemResponse> got = (*client)->Call(get).get();          // a future
///     client::Result<v1::GetItemResponse> got = co_await (*client)->AsyncCall(get);  // a
///     coroutine
///
/// Requests are those of onggi/v1/key_value.proto and tables.proto.
///
/// Retries: up to RetryPolicy::max_attempts tries within the timeout, at another node if one did
/// not answer, with random exponential pauses, while the RetryQuota lasts. A write that is not
/// idempotent (UpdateItem, and writes with a condition or with old values asked for) carries one id
/// over all its tries, by which the partition applies it once and answers later tries with the
/// first outcome. Other writes are tried again as they are: twice the same put is the same as once.
///
/// Thread-safe. Owns one thread, for pauses and the map. Connections are made as they are needed,
/// and tried again in the background. Destroying the client cancels what is under way and waits for
/// it.
class Client {
 public:
  template <class Response>
  using Callback = std::function<void(Result<Response>)>;

  /// Nothing is connected yet. kInvalidArgument: no endpoints, TLS files that cannot be read,
  /// credentials without TLS.
  static onggi::Result<std::unique_ptr<Client>> Make(ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Begins a call. `done` is called once, on a thread of the client or of gRPC: it must not block,
  /// and must not destroy the client. Returns what cancels the call (any thread, also after its
  /// end): it then ends with the code CANCELLED.
  template <class Request>
  std::function<void()> Call(Request request, CallOptions options,
                             Callback<ResponseOf<Request>> done);

  template <class Request>
  std::future<Result<ResponseOf<Request>>> Call(Request request, CallOptions options = {}) {
    auto promise = std::make_shared<std::promise<Result<ResponseOf<Request>>>>();
    auto future = promise->get_future();
    Call(std::move(request), options, Callback<ResponseOf<Request>>([promise](auto result) {
           promise->set_value(std::move(result));
         }));
    return future;
  }

  /// Resumes on the caller's executor. Cancelling the coroutine cancels the call.
  template <class Request>
  boost::asio::awaitable<Result<ResponseOf<Request>>> AsyncCall(Request request,
                                                                CallOptions options = {});

  // For what is asked most. `consistent`: sees every write that was answered before.

  std::future<Result<v1::GetItemResponse>> Get(std::string table, Item key,
                                               bool consistent = false);
  std::future<Result<v1::PutItemResponse>> Put(std::string table, Item item);
  std::future<Result<v1::DeleteItemResponse>> Delete(std::string table, Item key);

  /// Waits until the partition map has arrived. False: not within `timeout`, or it is not followed.
  bool WaitForMap(std::chrono::milliseconds timeout) const;
  /// "host:port" of the node that leads the item with this key, as far as is known; empty: unknown.
  std::string PrimaryOf(const std::string& table, const Item& key) const;

  class Core;  ///< internal: core.h

 private:
  template <class Request>
  class Attempts;

  explicit Client(std::unique_ptr<Core> core);

  const std::unique_ptr<Core> core_;
};

template <class Request>
boost::asio::awaitable<Result<ResponseOf<Request>>> Client::AsyncCall(Request request,
                                                                      CallOptions options) {
  struct State {
    Request request;
    CallOptions options;
    std::optional<Result<ResponseOf<Request>>> result;
  };
  auto state = std::make_shared<State>();
  state->request = std::move(request);
  state->options = options;
  auto start = [this, state](auto handler) {
    // Before the call begins: afterwards the coroutine may already be at something else.
    auto stop = std::make_shared<CancelLatch>();
    auto slot = boost::asio::get_associated_cancellation_slot(handler);
    if (slot.is_connected()) {
      slot.assign([stop](boost::asio::cancellation_type) { stop->Cancel(); });
    }
    // std::function wants a copyable callable; handlers are not.
    auto shared = std::make_shared<decltype(handler)>(std::move(handler));
    stop->Arm(Call(std::move(state->request), state->options,
                   Callback<ResponseOf<Request>>([shared, state](auto result) {
                     state->result = std::move(result);
                     auto executor = boost::asio::get_associated_executor(*shared);
                     boost::asio::post(executor, [shared] { std::move (*shared)(); });
                   })));
  };
  auto token = boost::asio::use_awaitable;
  co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void()>(start, token);
  co_return std::move(*state->result);
}

#define ONGGI_CLIENT_METHOD(service, method)                               \
  extern template std::function<void()> Client::Call<v1::method##Request>( \
      v1::method##Request, CallOptions, Client::Callback<v1::method##Response>);
ONGGI_CLIENT_METHODS(ONGGI_CLIENT_METHOD)
#undef ONGGI_CLIENT_METHOD

}  // namespace onggi::client
