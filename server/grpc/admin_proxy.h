#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "server/dynamodb/api.h"
#include "server/grpc/credentials.h"
#include "server/grpc/plan.h"
#include "server/grpc/raw_service.h"

namespace onggi::grpc_api {

/// Where the active coordinator is, as far as a node knows.
class CoordinatorFinder {
 public:
  virtual ~CoordinatorFinder() = default;
  /// Its "host:port"; empty: none is known at present. Thread-safe, returns at once.
  virtual std::string Active() = 0;
  /// A channel to a coordinator. Null: none can be made. Thread-safe.
  virtual std::shared_ptr<grpc::Channel> Connect(const std::string& address) = 0;
};

/// What operators ask of the coordinator, at any node: onggi.proto.CoordinatorService without what
/// only nodes may ask. A call is checked for credentials and passed on, message, deadline and
/// outcome unchanged, to the active coordinator; if that one is no longer the active one and says
/// who is, once more to that one. UNAVAILABLE: there is none at present.
class AdminProxy final : public RawService {
 public:
  /// Both outlive this.
  AdminProxy(dynamodb::Api& api, CoordinatorFinder& finder);
  ~AdminProxy() override;

 private:
  class Call;

  std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address);

  CoordinatorFinder& finder_;
  const Credentials credentials_;
  PlanTable plans_;
  const MessagePlan& error_plan_;
  std::mutex mutex_;
  std::string address_;                     // guarded by mutex_
  std::shared_ptr<grpc::Channel> channel_;  // guarded by mutex_; to address_
};

}  // namespace onggi::grpc_api
