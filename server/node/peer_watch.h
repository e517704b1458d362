#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <map>
#include <memory>

#include "common/async_scope.h"
#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/status.h"
#include "replication/metadata/metadata_store.h"

namespace onggi::node {

/// Follows the registry of nodes.
///
/// Made and started by the role after its metadata store, stopped before it; runs on `executor` (a
/// strand or a single thread). While the store is unavailable the last picture holds; a watch that
/// fell too far behind reads the registry again.
class PeerWatch {
 public:
  using Nodes = std::map<NodeId, proto::Node>;
  /// Called with all nodes that may be members (every one that is not decommissioned), on
  /// `executor`, after each change.
  using Callback = std::function<void(const Nodes&)>;

  PeerWatch(metadata::MetadataStore& store, boost::asio::any_io_executor executor,
            Callback callback);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  /// Reads the registry, calls back, follows. Errors: the store's.
  boost::asio::awaitable<Status> Start();
  /// Not on the executor's thread: blocks.
  void Stop();

 private:
  boost::asio::awaitable<Status> Load();
  boost::asio::awaitable<void> LoadAgain();
  void OnBatch(const metadata::WatchBatch& batch);
  void Put(const metadata::KeyValue& kv);

  metadata::MetadataStore& store_;
  const boost::asio::any_io_executor executor_;
  const Callback callback_;
  AsyncScope scope_;
  Nodes nodes_;                                   // of executor_
  std::unique_ptr<metadata::WatchHandle> watch_;  // of executor_
};

}  // namespace onggi::node
