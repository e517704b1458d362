#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/error.h"
#include "common/config.h"
#include "common/proto/coordinator.grpc.pb.h"
#include "common/status.h"
#include "onggi/v1/tables.grpc.pb.h"

namespace onggi::cli {

/// What every command is told about where the cluster is.
struct SessionOptions {
  SessionOptions() {}
  std::vector<std::string> endpoint = {"127.0.0.1:7000"};
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_server_name;
  std::string access_key;
  std::string secret_key;
  std::string region;
  std::chrono::milliseconds timeout{10'000};
  std::string output = "table";

  bool json() const { return output == "json"; }
  /// This struct outlives the table.
  void AddTo(OptionTable* table);
};

/// How a command ends: also the program's exit code.
enum class Exit : int {
  kOk = 0,
  kRefused = 1,      ///< the cluster said no
  kUsage = 2,        ///< the command line is wrong
  kUnreachable = 3,  ///< nobody answered
};

/// The calls of one command, to the first endpoint that answers. Each waits for its answer.
///
/// The endpoints share --timeout: one that does not connect (a process that is stopped, a host that
/// drops what is sent to it) is left for the next after kConnectPatience, one that connects and
/// does not answer after its share of what remains. The last one has all of that.
class Session {
 public:
  /// kInvalidArgument: TLS files that cannot be read.
  static Result<std::unique_ptr<Session>> Open(const SessionOptions& options);

  /// Calls `method` of the coordinator's administration, which reads, or whose second call finds
  /// done what the first has done:
  /// `session.Admin(&proto::CoordinatorService::Stub::ListNodes, request, &response)`.
  template <class Request, class Response>
  grpc::Status Admin(grpc::Status (proto::CoordinatorService::Stub::*method)(grpc::ClientContext*,
                                                                             const Request&,
                                                                             Response*),
                     const Request& request, Response* response) {
    return Try(Repeat::kAnywhere, AdminCall(method, request, response));
  }
  /// The same for what must not be done twice: a second split of a partition cuts it again. Once an
  /// endpoint may have been told, no other one is.
  template <class Request, class Response>
  grpc::Status AdminOnce(grpc::Status (proto::CoordinatorService::Stub::*method)(
                             grpc::ClientContext*, const Request&, Response*),
                         const Request& request, Response* response) {
    return Try(Repeat::kNever, AdminCall(method, request, response));
  }
  template <class Request, class Response>
  grpc::Status Tables(grpc::Status (v1::Tables::Stub::*method)(grpc::ClientContext*, const Request&,
                                                               Response*),
                      const Request& request, Response* response) {
    return Try(Repeat::kAnywhere,
               [&](grpc::ClientContext* context, const std::shared_ptr<grpc::Channel>& channel) {
                 v1::Tables::Stub stub(channel);
                 return (stub.*method)(context, request, response);
               });
  }

  /// Prints a failed call's reason to stderr, with what may help, and returns the exit code.
  Exit Fail(const grpc::Status& status) const;

 private:
  using Attempt =
      std::function<grpc::Status(grpc::ClientContext*, const std::shared_ptr<grpc::Channel>&)>;
  using Deadline = std::chrono::system_clock::time_point;
  /// Whether a call of which it is not known if it was carried out may be sent to another endpoint.
  enum class Repeat : uint8_t { kAnywhere, kNever };

  /// A node that lives connects at once; a handshake on a busy machine takes part of a second.
  static constexpr std::chrono::milliseconds kConnectPatience{2'000};

  explicit Session(const SessionOptions& options) : options_(options) {}

  template <class Request, class Response>
  static Attempt AdminCall(grpc::Status (proto::CoordinatorService::Stub::*method)(
                               grpc::ClientContext*, const Request&, Response*),
                           const Request& request, Response* response) {
    return [method, &request, response](grpc::ClientContext* context,
                                        const std::shared_ptr<grpc::Channel>& channel) {
      proto::CoordinatorService::Stub stub(channel);
      return (stub.*method)(context, request, response);
    };
  }
  grpc::Status Try(Repeat repeat, const Attempt& attempt);
  grpc::Status Call(const Attempt& attempt, const std::shared_ptr<grpc::Channel>& channel,
                    Deadline deadline) const;

  const SessionOptions options_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  size_t good_ = 0;          ///< the endpoint that has answered
  bool maybe_done_ = false;  ///< the last call changes something, and its outcome is not known
};

}  // namespace onggi::cli
