#include "server/grpc/error.h"

#include "common/proto/error.pb.h"
#include "onggi/v1/item.pb.h"
#include "server/dynamodb/parser_pool.h"
#include "server/grpc/transcoder.h"

namespace onggi::grpc_api {
namespace {

constexpr const char* kErrorUrl = "type.googleapis.com/onggi.v1.Error";

/// What stands beside type and message, as wire bytes of an onggi.v1.Error: they are appended to
/// it, which merges the two.
std::string ExtraOf(const dynamodb::ApiError& error, const MessagePlan& plan) {
  std::string wire;
  if (error.extra.empty()) return wire;
  const std::string json = "{" + error.extra + "}";
  dynamodb::ParserLease parser;
  simdjson::dom::element document;
  if (!parser->parse(json).get(document)) JsonToWire(plan, document, &wire);
  return wire;
}

/// At most `size` bytes, whole characters.
std::string Cut(std::string_view text, size_t size) {
  if (text.size() <= size) return std::string(text);
  while (size > 0 && (static_cast<uint8_t>(text[size]) & 0xC0) == 0x80) --size;
  return std::string(text.substr(0, size));
}

}  // namespace

grpc::StatusCode CodeOf(dynamodb::ErrorType type) {
  using dynamodb::ErrorType;
  switch (type) {
    case ErrorType::kValidation:
    case ErrorType::kSerialization: return grpc::StatusCode::INVALID_ARGUMENT;
    case ErrorType::kConditionalCheckFailed:
    case ErrorType::kResourceInUse:
    case ErrorType::kTableInUse:
    case ErrorType::kItemCollectionSizeLimitExceeded:
    case ErrorType::kIdempotentParameterMismatch: return grpc::StatusCode::FAILED_PRECONDITION;
    case ErrorType::kResourceNotFound:
    case ErrorType::kTableNotFound: return grpc::StatusCode::NOT_FOUND;
    case ErrorType::kThrottling:
    case ErrorType::kProvisionedThroughputExceeded:
    case ErrorType::kRequestLimitExceeded:
    case ErrorType::kLimitExceeded:
    case ErrorType::kRequestTooLarge: return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case ErrorType::kTransactionCanceled:
    case ErrorType::kTransactionConflict:
    case ErrorType::kTransactionInProgress: return grpc::StatusCode::ABORTED;
    case ErrorType::kMissingAuthenticationToken:
    case ErrorType::kIncompleteSignature:
    case ErrorType::kInvalidSignature:
    case ErrorType::kUnrecognizedClient: return grpc::StatusCode::UNAUTHENTICATED;
    case ErrorType::kAccessDenied: return grpc::StatusCode::PERMISSION_DENIED;
    case ErrorType::kUnknownOperation: return grpc::StatusCode::UNIMPLEMENTED;
    case ErrorType::kServiceUnavailable: return grpc::StatusCode::UNAVAILABLE;
    case ErrorType::kInternalServerError:
    case ErrorType::kCount_: break;
  }
  return grpc::StatusCode::INTERNAL;
}

grpc::Status ToGrpc(const dynamodb::ApiError& error, const MessagePlan& plan, size_t max_bytes) {
  const std::string_view name = dynamodb::InfoOf(error.type).name;
  // It travels twice, once with every byte beyond ASCII as three.
  constexpr size_t kMaxText = 512;
  std::string text(name);
  if (!error.message.empty()) text.append(": ").append(Cut(error.message, kMaxText));

  v1::Error detail;
  detail.set_type(std::string(name));
  detail.set_message(Cut(error.message, max_bytes * 3 / 4));
  std::string wire = detail.SerializeAsString();
  const std::string extra = ExtraOf(error, plan);
  if (wire.size() + extra.size() <= max_bytes) {
    wire.append(extra);
  } else if (!extra.empty()) {
    detail.set_items_omitted(true);
    wire = detail.SerializeAsString();
  }

  const grpc::StatusCode code = CodeOf(error.type);
  proto::ErrorStatus status;
  status.set_code(code);
  status.set_message(text);
  proto::ErrorDetail* any = status.add_details();
  any->set_type_url(kErrorUrl);
  any->set_value(std::move(wire));
  return {code, std::move(text), status.SerializeAsString()};
}

}  // namespace onggi::grpc_api
