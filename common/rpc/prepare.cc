#include "common/rpc/prepare.h"

#include <grpc/support/log.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "common/log.h"
#include "common/rpc/steady_waits.h"

namespace onggi::rpc {
namespace {

/// Of each place in gRPC, since it tells what happened and why in two lines ("Corruption
/// detected.", and then that the peer wants a certificate). Never destroyed: gRPC's threads outlive
/// main.
log::RateLimit& LimitOf(std::string_view file, int line) {
  static std::mutex mutex;
  static auto* const limits = new std::map<std::pair<std::string_view, int>, log::RateLimit>;
  std::scoped_lock lock(mutex);
  return limits->try_emplace({file, line}, std::chrono::seconds(1)).first->second;
}

/// What gRPC has to say is about connections that others make too: never the same more than once a
/// second.
void Log(gpr_log_func_args* line) {
  std::string_view file(line->file);
  file.remove_prefix(std::min(file.size(), file.rfind('/') + 1));
  if (line->severity != GPR_LOG_SEVERITY_ERROR) {
    log::Debug("grpc", "file", file, "line", line->line, "message", line->message);
    return;
  }
  if (const uint64_t times = LimitOf(file, line->line).Allow()) {
    log::Warn("grpc", "file", file, "line", line->line, "message", line->message, "times", times);
  }
}

/// Never destroyed. A channel without credentials fails every call by itself, and like every other
/// it holds on to the threads from its first callback on.
std::shared_ptr<grpc::Channel>* KeepCallbackThreads() {
  auto* channel = new std::shared_ptr<grpc::Channel>(grpc::CreateChannel("", nullptr));
  grpc::GenericStub stub(*channel);
  grpc::ClientContext context;
  const grpc::Slice bytes("");
  const grpc::ByteBuffer request(&bytes, 1);
  grpc::ByteBuffer response;
  std::promise<void> failed;
  stub.UnaryCall(&context, "/none", grpc::StubOptions(), &request, &response,
                 [&failed](const grpc::Status&) { failed.set_value(); });
  failed.get_future().wait();
  return channel;
}

}  // namespace

void PrepareGrpc() {
  static const auto* const kept = [] {
    gpr_set_log_function(Log);
    KeepSteadyWaits();
    return KeepCallbackThreads();
  }();
  (void)kept;
}

}  // namespace onggi::rpc
