#pragma once

#include <grpc/support/time.h>
#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "common/async_scope.h"
#include "common/rpc/status.h"
#include "common/status.h"

namespace onggi::rpc {

/// Makes a unary call as a coroutine and resumes on the caller's executor.
///
///     auto answer = co_await rpc::Call(stub->async(), &proto::Node::Stub::async::Drop, request,
///     2s);
///
/// `async` is the generated stub's async(); it outlives the call. The request is copied. Cancelling
/// the coroutine cancels the call: it then ends with kUnavailable. kDeadlineExceeded after
/// `timeout`; other errors as FromGrpc.
template <class Async, class Interface, class Request, class Response>
boost::asio::awaitable<Result<Response>> Call(
    Async* async,
    void (Interface::*method)(grpc::ClientContext*, const Request*, Response*,
                              std::function<void(grpc::Status)>),
    Request request, std::chrono::milliseconds timeout) {
  struct State {
    grpc::ClientContext context;
    Request request;
    Response response;
    grpc::Status status;
  };
  auto state = std::make_shared<State>();
  state->request = std::move(request);
  // Not by the wall clock, which may be put right at any moment.
  state->context.set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                           gpr_time_from_millis(timeout.count(), GPR_TIMESPAN)));
  auto start = [async, method, state](auto handler) {
    auto slot = boost::asio::get_associated_cancellation_slot(handler);
    if (slot.is_connected()) {
      slot.assign([weak = std::weak_ptr<State>(state)](boost::asio::cancellation_type) {
        if (auto held = weak.lock()) held->context.TryCancel();
      });
    }
    // std::function wants a copyable callable; handlers are not.
    auto shared = std::make_shared<decltype(handler)>(std::move(handler));
    (async->*method)(&state->context, &state->request, &state->response,
                     [shared, state](grpc::Status status) {
                       state->status = std::move(status);
                       auto executor = boost::asio::get_associated_executor(*shared);
                       boost::asio::post(executor, [shared] { std::move (*shared)(); });
                     });
  };
  auto token = boost::asio::use_awaitable;
  co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void()>(start, token);
  if (!state->status.ok()) co_return FromGrpc(state->status);
  co_return std::move(state->response);
}

/// Answers a unary call with a coroutine: for services' callback methods.
///
///     grpc::ServerUnaryReactor* Drop(grpc::CallbackServerContext* context, const Request* request,
///                                    Response* response) override {
///       return rpc::Answer(context, scope_, executor_, DropReplica(request, response));
///     }
///
/// `coroutine` is an awaitable<Status>; request and response live until it has ended. A stopping
/// scope answers kUnavailable.
inline grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, AsyncScope& scope,
                                        boost::asio::any_io_executor executor,
                                        boost::asio::awaitable<Status> coroutine) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  // A coroutine that is cancelled before it ends must answer too, so Finish is a destructor's.
  struct Finisher {
    explicit Finisher(grpc::ServerUnaryReactor* to) : reactor(to) {}
    Finisher(Finisher&& other) noexcept
        : reactor(std::exchange(other.reactor, nullptr)), status(std::move(other.status)) {}
    ~Finisher() {
      if (reactor != nullptr) reactor->Finish(ToGrpc(status));
    }
    grpc::ServerUnaryReactor* reactor;
    Status status = Unavailable("the server is stopping");
  };
  constexpr auto run = [](Finisher finisher,
                          boost::asio::awaitable<Status> body) -> boost::asio::awaitable<void> {
    finisher.status = co_await std::move(body);
  };
  Finisher finisher(reactor);
  (void)scope.Spawn(std::move(executor), run(std::move(finisher), std::move(coroutine)));
  return reactor;
}

}  // namespace onggi::rpc
