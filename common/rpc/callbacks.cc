#include "common/rpc/callbacks.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <future>
#include <memory>

namespace onggi::rpc {

void KeepCallbackThreads() {
  // Never destroyed. A channel without credentials fails every call by itself, and like every
  // other it holds on to the threads from its first callback on.
  static const auto* const channel = [] {
    auto* made = new std::shared_ptr<grpc::Channel>(grpc::CreateChannel("", nullptr));
    grpc::GenericStub stub(*made);
    grpc::ClientContext context;
    const grpc::Slice bytes("");
    const grpc::ByteBuffer request(&bytes, 1);
    grpc::ByteBuffer response;
    std::promise<void> failed;
    stub.UnaryCall(&context, "/none", grpc::StubOptions(), &request, &response,
                   [&failed](const grpc::Status&) { failed.set_value(); });
    failed.get_future().wait();
    return made;
  }();
  (void)channel;
}

}  // namespace onggi::rpc
