#pragma once

#include <memory>
#include <mutex>
#include <set>

#include "onggi/v1/cluster.grpc.pb.h"
#include "server/dynamodb/api.h"
#include "server/grpc/credentials.h"
#include "server/grpc/map_feed.h"
#include "server/grpc/plan.h"

namespace onggi::grpc_api {

/// onggi.v1.Cluster: the partition map, once or as a stream. Bound: kMaxStreams; more are refused
/// with RESOURCE_EXHAUSTED.
class ClusterService final : public v1::Cluster::CallbackService {
 public:
  static constexpr size_t kMaxStreams = 10'000;

  /// Both outlive this.
  ClusterService(dynamodb::Api& api, MapFeed& feed);
  ~ClusterService() override;

  grpc::ServerUnaryReactor* GetMap(grpc::CallbackServerContext* context,
                                   const v1::GetMapRequest* request,
                                   v1::PartitionMap* response) override;
  grpc::ServerWriteReactor<v1::PartitionMap>* WatchMap(grpc::CallbackServerContext* context,
                                                       const v1::WatchMapRequest* request) override;

  /// Ends every stream; new ones are refused. Before the server stops.
  void EndStreams();

 private:
  class Stream;

  /// Ok: `*filter` is what the caller may see of what it asks for.
  grpc::Status Admit(const Metadata& metadata, MapFeed::Filter* filter) const;

  dynamodb::Api& api_;
  MapFeed& feed_;
  const Credentials credentials_;
  PlanTable plans_;
  const MessagePlan& error_plan_;
  std::mutex mutex_;
  bool ending_ = false;        // guarded by mutex_
  std::set<Stream*> streams_;  // guarded by mutex_
};

}  // namespace onggi::grpc_api
