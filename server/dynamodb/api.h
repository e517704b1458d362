#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/clock.h"
#include "common/http/server.h"
#include "common/metrics.h"
#include "common/sigv4.h"
#include "server/dynamodb/operation.h"

namespace onggi::dynamodb {

struct ApiOptions {
  ApiOptions() {}
  std::string region = "us-east-1";
  std::string account_id = "000000000000";
  /// Tables belong to the access key and region that signed the request, as some local emulators
  /// have it; otherwise all requests share one account.
  bool isolate_accounts = false;
  /// Secrets by access key. Empty: nothing is verified and no credentials are asked for.
  sigv4::SecretLookup secrets;
  /// A request's body after Content-Encoding is undone.
  size_t max_body = 16u << 20;
  /// How long an operation goes on trying to be served, from the request's arrival.
  std::chrono::milliseconds request_timeout{10'000};
  /// Answers of this size and more are compressed for clients that accept gzip.
  size_t min_gzip_body = 1024;
};

/// The DynamoDB wire protocol: x-amz-json-1.0 over HTTP POST /, told apart by X-Amz-Target.
///
/// Made by main after the operations; answers until the http::Server that it was given to has
/// stopped. Thread-safe: per-request state lives in the request's coroutine, parsers in per-thread
/// pools. Each answer carries x-amzn-RequestId and X-Amz-Crc32 (of the body as it goes out).
/// Sources: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html,
/// .../HowItWorks.API.html; behaviour on odd requests as the service shows it.
class Api final : public http::Handler {
 public:
  /// Everything given by reference must outlive it. `operations` is complete.
  Api(ApiOptions options, Catalog& catalog, OperationTable operations, metrics::Registry& registry,
      Clock& clock = Clock::System());
  ~Api() override;

  bool TryHandle(http::Request& request, http::Response& response) override;
  boost::asio::awaitable<void> Handle(http::Request& request, http::Response& response) override;
  void HandleError(http::ServerError error, const http::Request& request,
                   http::Response& response) override;

  // For another protocol in front of the same operations (server/grpc). Thread-safe.

  const OperationTable& operations() const { return operations_; }
  Catalog& catalog() { return catalog_; }
  const ApiOptions& options() const { return options_; }
  /// Whose tables a caller sees. Empty: nobody was named, or the server's own region.
  std::shared_ptr<const Scope> ScopeFor(std::string_view access_key, std::string_view region);

 private:
  struct Call;
  struct Meters;

  /// Answers what needs no operation (GET, OPTIONS, wrong methods and types): true = done.
  bool AnswerPlain(const http::Request& request, http::Response& response);
  /// From headers to validated input. Not ok: the error to answer.
  Outcome Begin(const http::Request& request, Call& call);
  Outcome ReadBody(const http::Request& request, Call& call);
  Outcome Authenticate(const http::Request& request, Call& call);
  std::shared_ptr<const Scope> ScopeOf(std::string_view access_key, std::string_view region);
  /// Writes body, status and headers, counts and logs.
  void Finish(const http::Request& request, Call& call, Outcome outcome, http::Response& response);
  void AddCommonHeaders(const http::Request& request, http::Response& response);
  const OperationTable::Entry* FindTarget(const http::Request& request) const;
  void Count(const http::Request& request, const Call& call, const Outcome& outcome,
             size_t bytes_out);

  const ApiOptions options_;
  Catalog& catalog_;
  const OperationTable operations_;
  metrics::Registry& registry_;
  std::unique_ptr<sigv4::Verifier> verifier_;  ///< null: nothing is verified
  const std::shared_ptr<const Scope> default_scope_;
  const std::string health_;

  std::shared_mutex scopes_mutex_;
  /// By "<access key>@<region>"; bounded, see ScopeOf.
  std::unordered_map<std::string, std::shared_ptr<const Scope>> scopes_;

  /// Made when an operation is first seen, so that an idle server holds none.
  std::unordered_map<const OperationModel*, std::unique_ptr<Meters>> meters_;
  std::unique_ptr<Meters> unknown_meters_;
};

/// What becomes of an error of sigv4 on the wire.
ErrorType ErrorTypeOf(sigv4::AuthError error);

}  // namespace onggi::dynamodb
