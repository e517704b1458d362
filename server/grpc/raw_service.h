#pragma once

#include <grpcpp/impl/codegen/server_callback_handlers.h>
#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/support/byte_buffer.h>

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace onggi::grpc_api {

/// A gRPC service whose unary methods take and give whole messages as bytes: for what answers
/// without message objects (ApiService) or passes them on (AdminProxy). What generated classes do
/// with WithRawCallbackMethod_..., for a list of methods.
class RawService : public grpc::Service {
 protected:
  /// Adds "/<service>/<method>". `handler` runs on gRPC's threads and returns a reactor that
  /// finishes the call; request and response live until its OnDone. It is not asked for calls that
  /// end without a message, as those do whose client gives up early.
  using Handler = std::function<grpc::ServerUnaryReactor*(
      grpc::CallbackServerContext*, const grpc::ByteBuffer*, grpc::ByteBuffer*)>;
  void AddUnary(std::string_view service, std::string_view method, Handler handler) {
    const std::string& name =
        names_.emplace_back("/" + std::string(service) + "/" + std::string(method));
    AddMethod(new grpc::internal::RpcServiceMethod(name.c_str(),
                                                   grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
    auto with_message = [handler = std::move(handler)](grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
      if (request->Valid()) return handler(context, request, response);
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      reactor->Finish({grpc::StatusCode::INTERNAL, "the call has no message"});
      return reactor;
    };
    MarkMethodRawCallback(
        count_++, new grpc::internal::CallbackUnaryHandler<grpc::ByteBuffer, grpc::ByteBuffer>(
                      std::move(with_message)));
  }

 private:
  std::deque<std::string> names_;  ///< gRPC keeps pointers
  size_t count_ = 0;
};

/// The bytes of a buffer in one piece; `*storage` holds them if they were in several. Nothing when
/// the buffer is broken.
inline bool BytesOf(const grpc::ByteBuffer& buffer, grpc::Slice* storage, std::string_view* bytes) {
  if (!buffer.TrySingleSlice(storage).ok() && !buffer.DumpToSingleSlice(storage).ok()) return false;
  *bytes = {reinterpret_cast<const char*>(storage->begin()), storage->size()};
  return true;
}

}  // namespace onggi::grpc_api
