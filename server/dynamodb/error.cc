#include "server/dynamodb/error.h"

#include "common/check.h"
#include "common/log.h"
#include "server/model/json.h"

namespace onggi::dynamodb {
namespace {

constexpr std::string_view kApi = "com.amazonaws.dynamodb.v20120810";
constexpr std::string_view kService = "com.amazon.coral.service";
constexpr std::string_view kValidate = "com.amazon.coral.validate";
constexpr std::string_view kAvailability = "com.amazon.coral.availability";

// In the order of ErrorType.
constexpr ErrorInfo kErrors[] = {
    {"ConditionalCheckFailedException", kApi, 400, "message"},
    {"ItemCollectionSizeLimitExceededException", kApi, 400, "message"},
    {"LimitExceededException", kApi, 400, "message"},
    {"ProvisionedThroughputExceededException", kApi, 400, "message"},
    {"RequestLimitExceeded", kApi, 400, "message"},
    {"ResourceInUseException", kApi, 400, "message"},
    {"ResourceNotFoundException", kApi, 400, "message"},
    {"TableInUseException", kApi, 400, "message"},
    {"TableNotFoundException", kApi, 400, "message"},
    {"TransactionCanceledException", kApi, 400, "Message"},
    {"TransactionConflictException", kApi, 400, "message"},
    {"TransactionInProgressException", kApi, 400, "Message"},
    {"IdempotentParameterMismatchException", kApi, 400, "Message"},
    {"InternalServerError", kApi, 500, "message"},
    {"ValidationException", kValidate, 400, "message"},
    {"SerializationException", kService, 400, "Message"},
    {"UnknownOperationException", kService, 400, "message"},
    {"AccessDeniedException", kService, 400, "Message"},
    {"MissingAuthenticationTokenException", kService, 400, "message"},
    {"IncompleteSignatureException", kService, 400, "message"},
    {"InvalidSignatureException", kService, 400, "message"},
    {"UnrecognizedClientException", kService, 400, "message"},
    {"ThrottlingException", kAvailability, 400, "message"},
    {"ServiceUnavailableException", kService, 503, "message"},
    {"RequestEntityTooLargeException", kService, 413, "message"},
};
static_assert(std::size(kErrors) == static_cast<size_t>(ErrorType::kCount_));

}  // namespace

const ErrorInfo& InfoOf(ErrorType type) {
  CHECK(type < ErrorType::kCount_);
  return kErrors[static_cast<size_t>(type)];
}

std::string RenderError(const ApiError& error) {
  const ErrorInfo& info = InfoOf(error.type);
  std::string body = "{\"__type\":\"";
  body.append(info.space).append("#").append(info.name).append("\"");
  if (!error.message.empty()) {
    body.append(",\"").append(info.message_key).append("\":");
    model::WriteJsonString(error.message, &body);
  }
  if (!error.extra.empty()) body.append(",").append(error.extra);
  body.push_back('}');
  return body;
}

ApiError NotSupported(std::string_view feature) {
  return ValidationError(std::string(feature) + " is not supported yet by this version of Onggi");
}

ApiError TableNotFoundForData() {
  return {ErrorType::kResourceNotFound, "Requested resource not found", {}};
}

ApiError TableNotFoundForControl(std::string_view table_name) {
  std::string message = "Requested resource not found: Table: ";
  message.append(table_name).append(" not found");
  return {ErrorType::kResourceNotFound, std::move(message), {}};
}

ApiError FromStatus(const Status& status) {
  CHECK(!status.ok());
  switch (status.code()) {
    case Code::kInvalidArgument: return ValidationError(status.message());
    case Code::kConditionFailed:
      return {ErrorType::kConditionalCheckFailed, "The conditional request failed", {}};
    case Code::kNotFound: return TableNotFoundForData();
    case Code::kResourceExhausted:
      if (status.message().starts_with("Collection size exceeded")) {
        return {ErrorType::kItemCollectionSizeLimitExceeded, status.message(), {}};
      }
      // Which bound it was is the operator's to know.
      if (static log::RateLimit limit(std::chrono::seconds(1));
          const uint64_t times = limit.Allow()) {
        log::Warn("requests are refused at a bound", "status", status, "times", times);
      }
      return {ErrorType::kThrottling, "Rate of requests exceeds the allowed throughput.", {}};
    case Code::kOutOfSpace:
      return {ErrorType::kInternalServerError,
              "The server is out of disk space: writes are refused until there is room again",
              {}};
    default:
      // Details of a fault are the operator's, in the log, not the client's.
      if (status.code() == Code::kCorruption || status.code() == Code::kIoError ||
          status.code() == Code::kInternal) {
        static log::RateLimit limit(std::chrono::seconds(1));
        if (const uint64_t times = limit.Allow()) {
          log::Error("a fault of the server", "status", status, "times", times);
        }
      } else {
        static log::RateLimit limit(std::chrono::seconds(1));
        if (const uint64_t times = limit.Allow()) {
          log::Warn("requests could not be served", "status", status, "times", times);
        }
      }
      return {ErrorType::kInternalServerError, "Internal server error", {}};
  }
}

}  // namespace onggi::dynamodb
