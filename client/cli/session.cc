#include "client/cli/session.h"

#include <algorithm>
#include <cstdio>

#include "common/rpc/channel.h"
#include "common/rpc/status.h"

namespace onggi::cli {
namespace {

enum class Connection : uint8_t { kMade, kFailed, kSilent };

std::chrono::system_clock::time_point Now() { return std::chrono::system_clock::now(); }

/// Waits until `channel` is connected or has failed to, until `deadline` at most. A process that is
/// stopped is silent, although its kernel takes the connection: gRPC waits for its first frame.
Connection Connect(grpc::Channel& channel, std::chrono::system_clock::time_point deadline) {
  for (;;) {
    const grpc_connectivity_state state = channel.GetState(/*try_to_connect=*/true);
    if (state == GRPC_CHANNEL_READY) return Connection::kMade;
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      return Connection::kFailed;
    }
    if (!channel.WaitForStateChange(state, deadline)) return Connection::kSilent;
  }
}

}  // namespace

void SessionOptions::AddTo(OptionTable* table) {
  table->Group("Connection");
  table->Add("endpoint", &endpoint, "gRPC ports of nodes, host:port; the first that answers");
  table->Add("tls-ca", &tls_ca, "Certificate authorities, PEM (none: plain text)");
  table->Add("tls-cert", &tls_cert, "Certificate of this client, PEM");
  table->Add("tls-key", &tls_key, "Its key, PEM");
  table->Add("tls-server-name", &tls_server_name,
             "Name in the node's certificate (empty: the endpoint's host)");
  table->Add("access-key", &access_key, "Access key, where the nodes ask for credentials");
  table->Add("secret-key", &secret_key, "Its secret; better given as ONGGI_SECRET_KEY");
  table->Add("client-region", &region, "Whose tables, with --isolate-accounts");
  table->Add("timeout", &timeout, "Time for an answer");
  table->Group("Output");
  table->AddChoice("output", &output, {"table", "json"}, "For people or for programs");
  table->AddCheck([this]() -> Status {
    if (endpoint.empty()) return InvalidArgument("--endpoint: at least one");
    if (tls_cert.empty() != tls_key.empty()) {
      return InvalidArgument("--tls-cert and --tls-key go together");
    }
    if (timeout <= std::chrono::milliseconds(0)) return InvalidArgument("--timeout: more than 0");
    return Status::Ok();
  });
}

Result<std::unique_ptr<Session>> Session::Open(const SessionOptions& options) {
  const rpc::TlsOptions tls(options.tls_ca, options.tls_cert, options.tls_key);
  ASSIGN_OR_RETURN(auto credentials, rpc::MakeChannelCredentials(tls));
  std::unique_ptr<Session> session(new Session(options));
  rpc::ChannelOptions channel_options;
  channel_options.server_name = options.tls_server_name;
  for (const std::string& endpoint : options.endpoint) {
    session->channels_.push_back(rpc::MakeChannel(endpoint, credentials, channel_options));
  }
  return session;
}

grpc::Status Session::Call(const Attempt& attempt, const std::shared_ptr<grpc::Channel>& channel,
                           Deadline deadline) const {
  grpc::ClientContext context;
  context.set_deadline(deadline);
  if (!options_.access_key.empty()) {
    context.AddMetadata("authorization",
                        "Bearer " + options_.access_key + ":" + options_.secret_key);
  }
  if (!options_.region.empty()) context.AddMetadata("onggi-region", options_.region);
  return attempt(&context, channel);
}

grpc::Status Session::Try(Repeat repeat, const Attempt& attempt) {
  const Deadline end = Now() + options_.timeout;
  grpc::Status status;
  maybe_done_ = false;
  for (size_t tried = 0; tried < channels_.size(); ++tried) {
    const size_t at = (good_ + tried) % channels_.size();
    const size_t left = channels_.size() - tried;
    const auto share = [&] { return Now() + (end - Now()) / static_cast<int>(left); };
    const bool last = left == 1;
    const Deadline patience = last ? end : std::min(share(), Now() + kConnectPatience);
    const Connection connection = Connect(*channels_[at], patience);
    if (connection == Connection::kSilent) {
      // Nothing was sent: whatever was asked may be asked elsewhere.
      status = {grpc::StatusCode::DEADLINE_EXCEEDED,
                options_.endpoint[at] + " does not complete a connection"};
      continue;
    }
    // Where the connection has failed, the call fails at once, and says why. What may not be asked
    // elsewhere afterwards leaves no time for that.
    const bool only = repeat == Repeat::kNever && connection == Connection::kMade;
    status = Call(attempt, channels_[at], only ? end : share());
    const bool unanswered = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                            status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
    if (!unanswered) {
      good_ = at;
      return status;
    }
    if (only && rpc::MayHaveRun(status)) {
      maybe_done_ = true;
      return status;
    }
  }
  return status;
}

Exit Session::Fail(const grpc::Status& status) const {
  const client::Error error = client::ErrorOf(status);
  std::string endpoints;
  for (const std::string& endpoint : options_.endpoint) {
    endpoints += (endpoints.empty() ? "" : ", ") + endpoint;
  }
  std::string help;
  Exit exit = Exit::kRefused;
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      exit = Exit::kUnreachable;
      help = options_.tls_ca.empty()
                 ? "is a node running there (--endpoint), and does it want TLS (--tls-ca)?"
                 : "is a node running there (--endpoint), and is its certificate from --tls-ca?";
      break;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      exit = Exit::kUnreachable;
      help = "no answer within --timeout " + FormatDuration(options_.timeout);
      break;
    case grpc::StatusCode::UNAUTHENTICATED:
      help = "give --access-key and ONGGI_SECRET_KEY, one of the nodes' --credentials";
      break;
    case grpc::StatusCode::UNIMPLEMENTED:
      help = "the node there has no such command: is it another version, or no Onggi?";
      break;
    default: break;
  }
  std::fprintf(stderr, "onggi: %s\n", error.ToString().c_str());
  if (!help.empty()) std::fprintf(stderr, "       (%s) %s\n", endpoints.c_str(), help.c_str());
  if (maybe_done_) {
    std::fprintf(stderr, "       it may have been done all the same: look before asking again\n");
  }
  return exit;
}

}  // namespace onggi::cli
