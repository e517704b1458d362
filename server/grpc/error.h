#pragma once

#include <grpcpp/support/status.h>

#include <cstddef>
#include <string_view>

#include "server/dynamodb/error.h"
#include "server/grpc/plan.h"

namespace onggi::grpc_api {

/// Bytes of details that every client takes, and the most that one may ask for
/// ("onggi-max-error-bytes").
inline constexpr size_t kDefaultErrorBytes = 3072;
inline constexpr size_t kMaxErrorBytes = 1u << 20;

/// The gRPC code of an error of the API: the table in onggi/v1/key_value.proto.
grpc::StatusCode CodeOf(dynamodb::ErrorType type);

/// The error as a call's outcome: its code, "Type: message" for people, and a google.rpc.Status
/// with an onggi.v1.Error in the details. `plan` is that of onggi.v1.Error. Items that would make
/// the details longer than `max_bytes` are left out.
grpc::Status ToGrpc(const dynamodb::ApiError& error, const MessagePlan& plan, size_t max_bytes);

}  // namespace onggi::grpc_api
