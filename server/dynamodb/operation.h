#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "server/dynamodb/api_model.h"
#include "server/dynamodb/error.h"
#include "server/dynamodb/input.h"
#include "server/partition/write.h"

namespace onggi::dynamodb {

class Catalog;

/// Whose request it is: what tables are looked up under. One per account, made once and kept.
struct Scope {
  /// The account's name in the catalog: "default", or "<access key>@<region>" with
  /// --isolate-accounts.
  std::string account;
  std::string region;      ///< "us-east-1"
  std::string account_id;  ///< "000000000000", in ARNs
};

/// One request on its way. Owned by the Api's coroutine: it outlives the operation's run, and with
/// it the parser whose memory `input` and every view out of it point into, also across a
/// suspension.
struct CallContext {
  const Scope* scope = nullptr;
  Catalog* catalog = nullptr;
  std::string_view operation;   ///< "GetItem"
  std::string_view request_id;  ///< 52 characters
  std::string_view host;        ///< the Host header as sent; may be empty
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  /// The caller's own name of a single write: it is done once however often the call is repeated
  /// (partition::WriteRequest::id). Not named: the router names it where it may have to.
  partition::RequestId write_id;
};

/// One operation of the API. Made before the Api and used from every thread at once: no state of a
/// request lives in it.
///
/// The body is appended to `body` (empty at the call; "{}" when there is nothing to say). On an
/// error outcome whatever stands in `body` is thrown away. Input has passed ValidateInput().
class Operation {
 public:
  virtual ~Operation() = default;

  /// May TryRun() succeed at all? False saves the attempt: it costs a request's parse when it
  /// fails.
  virtual bool HasFastPath() const { return false; }

  /// The fast path: runs to the end without suspending, or returns nullopt having done nothing,
  /// whereupon Run() is called with the same arguments.
  virtual std::optional<Outcome> TryRun(CallContext& /*context*/, Input /*input*/,
                                        std::string* /*body*/) {
    return std::nullopt;
  }

  /// The whole operation. Resumes on the caller's executor. Throws nothing.
  virtual boost::asio::awaitable<Outcome> Run(CallContext& context, Input input,
                                              std::string* body) = 0;
};

/// An operation that never suspends, as a function: `Outcome Function(CallContext&, Input,
/// std::string*)`.
template <class Function>
class ImmediateOperation final : public Operation {
 public:
  explicit ImmediateOperation(Function function) : function_(std::move(function)) {}
  bool HasFastPath() const override { return true; }
  std::optional<Outcome> TryRun(CallContext& context, Input input, std::string* body) override {
    return function_(context, input, body);
  }
  boost::asio::awaitable<Outcome> Run(CallContext& context, Input input,
                                      std::string* body) override {
    co_return function_(context, input, body);
  }

 private:
  Function function_;
};

/// An operation as a coroutine function: `awaitable<Outcome> Function(CallContext&, Input,
/// std::string*)`.
template <class Function>
class AwaitedOperation final : public Operation {
 public:
  explicit AwaitedOperation(Function function) : function_(std::move(function)) {}
  boost::asio::awaitable<Outcome> Run(CallContext& context, Input input,
                                      std::string* body) override {
    return function_(context, input, body);
  }

 private:
  Function function_;
};

/// Operations by name. Filled once (RegisterControlOperations, RegisterItemOperations, ...), then
/// only read. What the API model knows but nobody registered answers a ValidationException that
/// names it as not supported; what the model does not know is an UnknownOperationException.
class OperationTable {
 public:
  struct Entry {
    const OperationModel* model = nullptr;
    std::unique_ptr<Operation> operation;  ///< null: not built
  };

  OperationTable();

  /// CHECKs that the API has an operation of this name and that it is not taken.
  void Add(std::string_view name, std::unique_ptr<Operation> operation);
  template <class Function>
  void AddImmediate(std::string_view name, Function function) {
    Add(name, std::make_unique<ImmediateOperation<Function>>(std::move(function)));
  }
  template <class Function>
  void AddAwaited(std::string_view name, Function function) {
    Add(name, std::make_unique<AwaitedOperation<Function>>(std::move(function)));
  }

  /// Null when the API has no such operation. Any thread, once filled.
  const Entry* Find(std::string_view name) const;
  /// Every operation of the API, for metrics. Position = IndexOf().
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace onggi::dynamodb
