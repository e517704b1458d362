#pragma once

#include <grpcpp/support/status.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/check.h"
#include "onggi/v1/item.pb.h"

namespace onggi::client {

/// Why a call failed, after all its tries.
struct Error {
  /// As the service names it, "ConditionalCheckFailedException"; empty when no server answered (the
  /// gRPC code then says what happened).
  std::string type;
  std::string message;
  grpc::StatusCode code = grpc::StatusCode::UNKNOWN;
  /// The item that did not meet the condition, if it was asked for.
  std::optional<v1::Item> item;
  std::vector<v1::CancellationReason> cancellation_reasons;
  std::string request_id;  ///< of the last try, in the server's log; may be empty
  int attempts = 0;
  /// A write may have happened all the same: the last try ended without an answer.
  bool unknown_outcome = false;

  bool Is(std::string_view name) const { return type == name; }
  /// "ValidationException: ...", for people.
  std::string ToString() const;
};

/// Reads the details that onggi.v1 servers send. `attempts` and `unknown_outcome` are the caller's.
Error ErrorOf(const grpc::Status& status);

/// May another try succeed where this one failed? As the SDKs' standard retry mode has it: errors
/// of the server and of the way there, and throttling.
bool IsRetryable(const Error& error);
bool IsThrottling(const Error& error);

/// The server answered, with an error that says that it did nothing.
bool NothingHappened(const Error& error);

/// A T, or the Error that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & {
    CHECK(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    CHECK(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    CHECK(ok());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  /// Only when not ok().
  const Error& error() const {
    CHECK(!ok());
    return std::get<1>(state_);
  }

 private:
  std::variant<T, Error> state_;
};

}  // namespace onggi::client
