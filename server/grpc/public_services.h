#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <memory>

#include "common/metrics.h"
#include "common/rpc/server.h"
#include "common/runtime.h"
#include "common/status.h"
#include "replication/metadata/metadata_store.h"
#include "server/dynamodb/api.h"
#include "server/grpc/admin_proxy.h"
#include "server/grpc/api_service.h"
#include "server/grpc/cluster_service.h"
#include "server/grpc/map_feed.h"

namespace onggi::grpc_api {

/// Everything that a node's gRPC port serves to clients and operators: onggi.v1.KeyValue, Tables
/// and Cluster, and the coordinator's administration.
///
///     PublicServices services(api, io, metadata, registry, finder);
///     RETURN_IF_ERROR(Await(executor, services.Start()));
///     services.AddTo(&server);          // a rpc::RpcServer with reflection and health
///     RETURN_IF_ERROR(server.Start());
///     server.SetServing(true);
///     ...
///     server.SetServing(false);
///     services.EndStreams();
///     server.Stop(patience);
///     services.Stop();
class PublicServices {
 public:
  /// Everything given outlives this. `finder` null: no administration here.
  PublicServices(dynamodb::Api& api, IoPool& io, metadata::MetadataStore& metadata,
                 metrics::Registry& registry, CoordinatorFinder* finder);
  ~PublicServices();

  /// Reads the partition map. Errors: MapFeed::Start.
  boost::asio::awaitable<Status> Start() { return feed_.Start(); }
  void AddTo(rpc::RpcServer* server);
  /// Ends what would last until its client goes.
  void EndStreams() { cluster_.EndStreams(); }
  /// After the server has stopped. Not on an io thread.
  void Stop();

 private:
  MapFeed feed_;
  ApiService key_value_;
  ApiService tables_;
  ClusterService cluster_;
  std::unique_ptr<AdminProxy> admin_;
};

}  // namespace onggi::grpc_api
