#pragma once

#include <google/protobuf/descriptor.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "common/async_scope.h"
#include "common/metrics.h"
#include "common/runtime.h"
#include "server/dynamodb/api.h"
#include "server/grpc/credentials.h"
#include "server/grpc/plan.h"
#include "server/grpc/raw_service.h"

namespace onggi::grpc_api {

struct ApiServiceOptions {
  ApiServiceOptions() {}
  /// The JSON that a request stands for; the HTTP API's limit of a body.
  size_t max_json = 16u << 20;
  /// Answers of this size and more are compressed for clients that ask for it.
  size_t min_compressed = 1024;
  /// Calls under way at once; more are answered with ThrottlingException.
  size_t max_calls = 20'000;
};

/// A service of onggi.v1 whose methods are operations of the API by the same name: KeyValue and
/// Tables.
///
/// A call is what Api makes of an HTTP request: credentials, then the body (here a message, put
/// into JSON by WireToJson) checked against the API model, then the operation. Reads run on the
/// gRPC thread that brought them; what has to wait runs as a coroutine on an io thread. Made by
/// GrpcServer; the RpcServer that it was added to stops before Stop().
class ApiService final : public RawService {
 public:
  /// `service` names operations that the API model has. Everything given by reference outlives
  /// this.
  ApiService(const google::protobuf::ServiceDescriptor& service, dynamodb::Api& api, IoPool& io,
             metrics::Registry& registry, ApiServiceOptions options = {});
  ~ApiService() override;

  /// Waits for coroutines; every call has ended before. Not on an io thread.
  void Stop() { scope_.Stop(); }

 private:
  struct Method;
  class Call;

  dynamodb::Api& api_;
  IoPool& io_;
  const ApiServiceOptions options_;
  const Credentials credentials_;
  PlanTable plans_;
  const MessagePlan& error_plan_;
  std::vector<std::unique_ptr<Method>> methods_;
  std::atomic<size_t> calls_{0};
  AsyncScope scope_;
};

}  // namespace onggi::grpc_api
