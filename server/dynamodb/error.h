#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"

/// Errors as the service words them on the wire: {"__type":"<namespace>#<name>","message":"..."}.
/// Sources: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html and
/// the error shapes of the public API model; letter case of "message" as the service answers it.
namespace onggi::dynamodb {

enum class ErrorType : uint8_t {
  // com.amazonaws.dynamodb.v20120810
  kConditionalCheckFailed,
  kItemCollectionSizeLimitExceeded,
  kLimitExceeded,
  kProvisionedThroughputExceeded,
  kRequestLimitExceeded,
  kResourceInUse,
  kResourceNotFound,
  kTableInUse,
  kTableNotFound,
  kTransactionCanceled,
  kTransactionConflict,
  kTransactionInProgress,
  kIdempotentParameterMismatch,
  kInternalServerError,
  // com.amazon.coral.validate
  kValidation,
  // com.amazon.coral.service
  kSerialization,
  kUnknownOperation,
  kAccessDenied,
  kMissingAuthenticationToken,
  kIncompleteSignature,
  kInvalidSignature,
  kUnrecognizedClient,
  // com.amazon.coral.availability
  kThrottling,
  // com.amazon.coral.service, 503
  kServiceUnavailable,
  kRequestTooLarge,  ///< 413, answered without a body
  kCount_,           ///< not an error: the number of them
};

struct ErrorInfo {
  std::string_view name;         ///< "ResourceNotFoundException"
  std::string_view space;        ///< "com.amazonaws.dynamodb.v20120810"
  int http_status;               ///< 400, 500 or 503
  std::string_view message_key;  ///< "message" or "Message"
};

/// The one table of errors.
const ErrorInfo& InfoOf(ErrorType type);

/// An error to be answered. Cheap to move; made only on the unhappy path.
struct ApiError {
  ErrorType type = ErrorType::kInternalServerError;
  /// Empty: the answer has no message member, as the service does for some types.
  std::string message;
  /// Further members of the body, rendered: `"Item":{...}` or `"CancellationReasons":[...]`; no
  /// comma first.
  std::string extra;
};

/// The body: {"__type":"...","message":"...",<extra>}
std::string RenderError(const ApiError& error);

/// Success, or the ApiError to answer. One pointer; null is success.
class [[nodiscard]] Outcome {
 public:
  Outcome() = default;
  Outcome(ApiError error) : error_(std::make_unique<ApiError>(std::move(error))) {}  // NOLINT

  bool ok() const { return error_ == nullptr; }
  const ApiError& error() const { return *error_; }
  ApiError& error() { return *error_; }

 private:
  std::unique_ptr<ApiError> error_;
};

inline ApiError ValidationError(std::string message) {
  return {ErrorType::kValidation, std::move(message), {}};
}
inline ApiError SerializationError(std::string message) {
  return {ErrorType::kSerialization, std::move(message), {}};
}

/// "... is not supported yet by this version of Onggi": what exists in the API but is not built.
/// `feature` begins the sentence, such as "GlobalSecondaryIndexes".
ApiError NotSupported(std::string_view feature);

/// "Requested resource not found" of the item operations.
ApiError TableNotFoundForData();
/// "Requested resource not found: Table: x not found" of the control operations.
ApiError TableNotFoundForControl(std::string_view table_name);

/// What a Status of a lower module becomes on the wire when the operation knows no better:
/// kInvalidArgument -> ValidationException with its message; kConditionFailed ->
/// ConditionalCheckFailedException "The conditional request failed"; kNotFound -> data-plane
/// ResourceNotFoundException; kResourceExhausted -> ItemCollectionSizeLimitExceededException when
/// its message begins "Collection size exceeded", else ThrottlingException; kNotPrimary,
/// kUnavailable -> InternalServerError (500, which SDKs retry); kOutOfSpace -> InternalServerError
/// that says so; kDeadlineExceeded, kUnknownOutcome and the rest -> InternalServerError.
ApiError FromStatus(const Status& status);

}  // namespace onggi::dynamodb
