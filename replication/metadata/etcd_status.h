#pragma once

#include <grpcpp/support/status.h>

#include <cstdint>
#include <string_view>

#include "common/status.h"

namespace onggi::metadata::etcd {

/// What a failed call to a member means. etcd tells its errors apart by their text, which is part
/// of its API (api/v3rpc/rpctypes/error.go).
struct Failure {
  enum class Kind : uint8_t {
    kFinal,    ///< not done, and would fail again: `status` is the answer
    kNotDone,  ///< surely not done: may be asked again, of another member
    kUnknown,  ///< may have been done, or may still be
    kToken,    ///< not done, for want of a valid token
  };
  Kind kind = Kind::kUnknown;
  /// Whether the member, rather than the request, is to blame: ask another.
  bool leave = false;
  /// Whether the member itself has answered: it lives.
  bool answered = false;
  /// kFinal: kInvalidArgument, kOutOfSpace, kNotFound (lease), kAlreadyExists (lease),
  /// kConditionFailed (a past revision that is compacted, or a future one; or no authentication),
  /// kResourceExhausted (answer too large), kCorruption, kInternal. Else kUnavailable.
  Status status;
};

Failure Classify(const grpc::Status& status);

/// Whether a member of this version ("3.4.23") answers a progress request only when the watches
/// have had all events before it: not before 3.4.25 and 3.5.8 (etcd issue 15220).
bool HasTrueProgress(std::string_view version);

}  // namespace onggi::metadata::etcd
