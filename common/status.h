#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "common/check.h"

namespace onggi {

/// What went wrong, as far as a caller in another module needs to tell. The message says the rest.
enum class Code : uint8_t {
  kOk,
  kInvalidArgument,    ///< the request is wrong; the message is meant for its author
  kNotFound,           ///< the named thing does not exist
  kAlreadyExists,      ///< the named thing exists
  kConditionFailed,    ///< a condition, or a compare of a swap, did not hold
  kNotPrimary,         ///< this replica may not serve the request now
  kUnavailable,        ///< try again: closing, overloaded or taking over
  kResourceExhausted,  ///< a bound was reached: queue bytes, collection size
  kOutOfSpace,         ///< the disk is below its reserve; reads go on
  kUnknownOutcome,     ///< the write may or may not have happened
  kCorruption,         ///< bytes on disk are damaged, or of a format newer than this program
  kIoError,            ///< the operating system refused
  kDeadlineExceeded,
  kInternal,
};

/// The code's name, such as "InvalidArgument".
std::string_view CodeName(Code code);

/// Success, or a code with a message. Cheap when ok: no allocation.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return {}; }

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  /// "Code: message", for logs.
  std::string ToString() const;

  /// The same code with `context: ` before the message. Ok stays Ok.
  Status WithContext(std::string_view context) const;

  bool operator==(const Status&) const = default;

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

inline Status InvalidArgument(std::string message) {
  return {Code::kInvalidArgument, std::move(message)};
}
inline Status NotFound(std::string message) { return {Code::kNotFound, std::move(message)}; }
inline Status Corruption(std::string message) { return {Code::kCorruption, std::move(message)}; }
inline Status Internal(std::string message) { return {Code::kInternal, std::move(message)}; }
inline Status Unavailable(std::string message) { return {Code::kUnavailable, std::move(message)}; }

/// An IoError that says which file, which call and what errno meant.
Status IoError(std::string_view call, std::string_view path, int error_number);

/// A T, or the Status (never Ok) that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(Status status) : state_(std::in_place_index<0>, std::move(status)) {  // NOLINT
    CHECK(!std::get<0>(state_).ok());
  }
  Result(T value) : state_(std::in_place_index<1>, std::move(value)) {}  // NOLINT

  bool ok() const { return state_.index() == 1; }
  Status status() const& { return ok() ? Status() : std::get<0>(state_); }
  Status status() && { return ok() ? Status() : std::move(std::get<0>(state_)); }

  T& value() & {
    CHECK(ok());
    return *std::get_if<1>(&state_);
  }
  const T& value() const& {
    CHECK(ok());
    return *std::get_if<1>(&state_);
  }
  T&& value() && {
    CHECK(ok());
    return std::move(*std::get_if<1>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<Status, T> state_;
};

#define ONGGI_CONCAT_INNER(a, b) a##b
#define ONGGI_CONCAT(a, b) ONGGI_CONCAT_INNER(a, b)

/// Returns from the enclosing function when `expression` is not ok.
#define RETURN_IF_ERROR(expression)                                         \
  do {                                                                      \
    if (::onggi::Status status_ = (expression); !status_.ok()) [[unlikely]] \
      return status_;                                                       \
  } while (false)

/// `ASSIGN_OR_RETURN(auto x, F())`: x = the value of F(), or returns F()'s Status.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_INNER(ONGGI_CONCAT(result_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_INNER(result, declaration, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) [[unlikely]]                                \
    return std::move(result).status();                          \
  declaration = std::move(result).value()

}  // namespace onggi
