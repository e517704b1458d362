#include "client/error.h"

#include <algorithm>

#include "common/proto/error.pb.h"

namespace onggi::client {
namespace {

constexpr std::string_view kErrorUrl = "type.googleapis.com/onggi.v1.Error";

constexpr std::string_view kThrottlingTypes[] = {
    "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"};
constexpr std::string_view kRetryableTypes[] = {
    "InternalServerError", "ServiceUnavailableException", "TransactionInProgressException"};

}  // namespace

std::string Error::ToString() const {
  if (!type.empty()) return message.empty() ? type : type + ": " + message;
  return message.empty() ? "gRPC code " + std::to_string(code) : message;
}

Error ErrorOf(const grpc::Status& status) {
  Error error;
  error.code = status.error_code();
  error.message = status.error_message();
  proto::ErrorStatus details;
  if (status.error_details().empty() || !details.ParseFromString(status.error_details())) {
    return error;
  }
  for (const proto::ErrorDetail& detail : details.details()) {
    v1::Error known;
    if (detail.type_url() != kErrorUrl || !known.ParseFromString(detail.value())) continue;
    error.type = known.type();
    error.message = known.message();
    if (known.has_item()) error.item = std::move(*known.mutable_item());
    for (auto& reason : *known.mutable_cancellation_reasons()) {
      error.cancellation_reasons.push_back(std::move(reason));
    }
  }
  return error;
}

bool IsThrottling(const Error& error) {
  return std::ranges::find(kThrottlingTypes, error.type) != std::end(kThrottlingTypes);
}

bool IsRetryable(const Error& error) {
  if (!error.type.empty()) {
    return IsThrottling(error) ||
           std::ranges::find(kRetryableTypes, error.type) != std::end(kRetryableTypes);
  }
  switch (error.code) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:  // of one try
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::ABORTED: return true;
    default: return false;
  }
}

bool NothingHappened(const Error& error) {
  return !error.type.empty() && error.type != "InternalServerError" &&
         error.type != "ServiceUnavailableException";
}

}  // namespace onggi::client
