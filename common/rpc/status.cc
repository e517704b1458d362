#include "common/rpc/status.h"

#include <array>
#include <optional>

#include "common/proto/error.pb.h"

namespace onggi::rpc {
namespace {

constexpr const char* kDomain = "onggi";
constexpr const char* kErrorInfoUrl = "type.googleapis.com/google.rpc.ErrorInfo";

constexpr std::array kCodes = {
    Code::kInvalidArgument, Code::kNotFound,    Code::kAlreadyExists,     Code::kConditionFailed,
    Code::kNotPrimary,      Code::kUnavailable, Code::kResourceExhausted, Code::kOutOfSpace,
    Code::kUnknownOutcome,  Code::kCorruption,  Code::kIoError,           Code::kDeadlineExceeded,
    Code::kInternal,
};

grpc::StatusCode GrpcCode(Code code) {
  switch (code) {
    case Code::kOk: return grpc::StatusCode::OK;
    case Code::kInvalidArgument: return grpc::StatusCode::INVALID_ARGUMENT;
    case Code::kNotFound: return grpc::StatusCode::NOT_FOUND;
    case Code::kAlreadyExists: return grpc::StatusCode::ALREADY_EXISTS;
    case Code::kConditionFailed:
    case Code::kNotPrimary: return grpc::StatusCode::FAILED_PRECONDITION;
    case Code::kUnavailable: return grpc::StatusCode::UNAVAILABLE;
    case Code::kResourceExhausted:
    case Code::kOutOfSpace: return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case Code::kUnknownOutcome: return grpc::StatusCode::UNKNOWN;
    case Code::kCorruption: return grpc::StatusCode::DATA_LOSS;
    case Code::kDeadlineExceeded: return grpc::StatusCode::DEADLINE_EXCEEDED;
    case Code::kIoError:
    case Code::kInternal: return grpc::StatusCode::INTERNAL;
  }
  return grpc::StatusCode::UNKNOWN;
}

Code NearestCode(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK: return Code::kOk;
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNIMPLEMENTED:
    case grpc::StatusCode::OUT_OF_RANGE: return Code::kInvalidArgument;
    case grpc::StatusCode::NOT_FOUND: return Code::kNotFound;
    case grpc::StatusCode::ALREADY_EXISTS: return Code::kAlreadyExists;
    case grpc::StatusCode::FAILED_PRECONDITION: return Code::kConditionFailed;
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::CANCELLED: return Code::kUnavailable;
    case grpc::StatusCode::RESOURCE_EXHAUSTED: return Code::kResourceExhausted;
    case grpc::StatusCode::DEADLINE_EXCEEDED: return Code::kDeadlineExceeded;
    case grpc::StatusCode::DATA_LOSS: return Code::kCorruption;
    default: return Code::kInternal;
  }
}

/// Our code in the details; nothing when the outcome is not from a server of ours.
std::optional<Code> DetailedCode(const grpc::Status& status) {
  proto::ErrorStatus error;
  if (status.error_details().empty() || !error.ParseFromString(status.error_details())) return {};
  for (const proto::ErrorDetail& detail : error.details()) {
    proto::ErrorInfo info;
    if (detail.type_url() != kErrorInfoUrl || !info.ParseFromString(detail.value()) ||
        info.domain() != kDomain) {
      continue;
    }
    for (const Code code : kCodes) {
      if (info.reason() == CodeName(code)) return code;
    }
  }
  return {};
}

}  // namespace

grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  proto::ErrorInfo info;
  info.set_reason(std::string(CodeName(status.code())));
  info.set_domain(kDomain);
  proto::ErrorStatus error;
  error.set_code(GrpcCode(status.code()));
  error.set_message(status.message());
  proto::ErrorDetail* detail = error.add_details();
  detail->set_type_url(kErrorInfoUrl);
  detail->set_value(info.SerializeAsString());
  return {GrpcCode(status.code()), status.message(), error.SerializeAsString()};
}

Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return Status::Ok();
  return {DetailedCode(status).value_or(NearestCode(status.error_code())), status.error_message()};
}

bool MayHaveRun(const grpc::Status& status) {
  const std::optional<Code> code = DetailedCode(status);
  if (!code) return true;
  return *code == Code::kUnknownOutcome || *code == Code::kDeadlineExceeded ||
         *code == Code::kInternal;
}

}  // namespace onggi::rpc
