#include "replication/metadata/etcd_status.h"

#include <array>
#include <charconv>
#include <string>

namespace onggi::metadata::etcd {
namespace {

using Kind = Failure::Kind;

struct Known {
  std::string_view text;  ///< that the message contains
  Kind kind;
  Code code;
  bool leave;
};

// What is not here, such as "request timed out", "leader changed" or "server stopped", leaves a
// proposal's fate open. "too many requests" and "no leader" are said before anything is proposed,
// "proposal dropped" instead of it.
constexpr std::array kKnown = {
    Known{"etcdserver: invalid auth token", Kind::kToken, Code::kUnavailable, false},
    Known{"etcdserver: user name is empty", Kind::kToken, Code::kUnavailable, false},
    Known{"revision of auth store is old", Kind::kToken, Code::kUnavailable, false},
    Known{"auth: revision in header is old", Kind::kToken, Code::kUnavailable, false},
    Known{"etcdserver: no leader", Kind::kNotDone, Code::kUnavailable, true},
    Known{"etcdserver: not capable", Kind::kNotDone, Code::kUnavailable, true},
    Known{"rpc not supported for learner", Kind::kNotDone, Code::kUnavailable, true},
    Known{"raft proposal dropped", Kind::kNotDone, Code::kUnavailable, true},
    Known{"etcdserver: too many requests", Kind::kNotDone, Code::kUnavailable, false},
    Known{"failed to connect to all addresses", Kind::kNotDone, Code::kUnavailable, true},
    Known{"database space exceeded", Kind::kFinal, Code::kOutOfSpace, false},
    Known{"requested lease not found", Kind::kFinal, Code::kNotFound, false},
    Known{"lease already exists", Kind::kFinal, Code::kAlreadyExists, false},
    Known{"too large lease TTL", Kind::kFinal, Code::kInvalidArgument, false},
    Known{"required revision has been compacted", Kind::kFinal, Code::kConditionFailed, false},
    Known{"required revision is a future revision", Kind::kFinal, Code::kConditionFailed, false},
    Known{"authentication is not enabled", Kind::kFinal, Code::kConditionFailed, false},
    Known{"authentication failed", Kind::kFinal, Code::kInvalidArgument, false},
    Known{"etcdserver: permission denied", Kind::kFinal, Code::kInvalidArgument, false},
    Known{"etcdserver: request is too large", Kind::kFinal, Code::kInvalidArgument, false},
    Known{"grpc: received message larger than max", Kind::kFinal, Code::kInvalidArgument, false},
    Known{"too many operations in txn", Kind::kFinal, Code::kInvalidArgument, false},
    Known{"duplicate key given in txn", Kind::kFinal, Code::kInvalidArgument, false},
    Known{"etcdserver: key is not provided", Kind::kFinal, Code::kInvalidArgument, false},
    Known{"etcdserver: corrupt cluster", Kind::kFinal, Code::kCorruption, true},
};

}  // namespace

Failure Classify(const grpc::Status& status) {
  const std::string& message = status.error_message();
  Failure failure;
  for (const Known& known : kKnown) {
    if (message.find(known.text) == std::string::npos) continue;
    failure.kind = known.kind;
    failure.leave = known.leave;
    failure.answered = !known.text.starts_with("failed to connect");
    failure.status = Status(known.code, "etcd: " + message);
    return failure;
  }
  failure.answered = message.starts_with("etcdserver: ") || message.starts_with("raft: ");
  failure.status = Unavailable("etcd: " + message + " (gRPC status " +
                               std::to_string(status.error_code()) + ")");
  switch (status.error_code()) {
    case grpc::StatusCode::UNIMPLEMENTED:
      failure.kind = Kind::kFinal;
      failure.status = Internal("etcd: " + message + ": no etcd of version 3 or later");
      break;
    case grpc::StatusCode::CANCELLED: break;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      // Our own gRPC's refusal of an answer: the request has been done.
      failure.status = Status(Code::kResourceExhausted, "etcd: " + message);
      failure.answered = true;
      break;
    default: failure.leave = !failure.answered;
  }
  return failure;
}

bool HasTrueProgress(std::string_view version) {
  std::array<unsigned, 3> parts{};
  const char* at = version.data();
  const char* const end = at + version.size();
  for (unsigned& part : parts) {
    const auto [next, error] = std::from_chars(at, end, part);
    if (error != std::errc()) return false;
    at = next;
    if (&part == &parts.back()) break;
    if (at == end || *at != '.') return false;
    ++at;
  }
  const auto [major, minor, patch] = parts;
  if (major != 3) return major > 3;
  if (minor == 4) return patch >= 25;
  if (minor == 5) return patch >= 8;
  return minor > 5;
}

}  // namespace onggi::metadata::etcd
