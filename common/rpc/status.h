#pragma once

#include <grpcpp/support/status.h>

#include "common/status.h"

namespace onggi::rpc {

/// The Status as a call's outcome. The gRPC code is the nearest one; our own travels beside it (a
/// google.rpc.ErrorInfo of domain "onggi" in grpc-status-details-bin), so that FromGrpc gives back
/// an equal Status.
grpc::Status ToGrpc(const Status& status);

/// The outcome of a call as a Status. Without our detail (another server, or gRPC itself) the code
/// is the nearest of ours: UNAVAILABLE and ABORTED are kUnavailable, CANCELLED is kUnavailable,
/// UNAUTHENTICATED and PERMISSION_DENIED are kInvalidArgument, UNIMPLEMENTED is kInvalidArgument.
///
/// kUnavailable from gRPC itself does not say that the server has not seen the request: a caller
/// that must not repeat it asks MayHaveRun.
Status FromGrpc(const grpc::Status& status);

/// Whether the server may have carried out a call with this outcome: false only when it answered
/// with an error of ours that says otherwise (anything but kUnknownOutcome, kDeadlineExceeded and
/// kInternal). gRPC's own failures give true.
bool MayHaveRun(const grpc::Status& status);

}  // namespace onggi::rpc
