#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/async_scope.h"
#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/status.h"
#include "onggi/v1/cluster.pb.h"
#include "replication/metadata/metadata_store.h"

namespace onggi::grpc_api {

/// The partition map as clients get it: tables, partitions and nodes of the metadata store, kept by
/// three watches.
///
/// Made by GrpcServer after the store, stopped before it. Watches run on `executor` (a strand or a
/// single thread); what they bring is under one lock, which readers hold while they copy what
/// changed. A table's part of the map is made once per change and shared by all readers. While the
/// store is unavailable the map stays as it was; a watch that fell too far behind reads its keys
/// again.
class MapFeed {
 public:
  /// Which tables a reader sees.
  struct Filter {
    Filter() {}
    std::string account = "default";
    std::set<std::string, std::less<>> names;  ///< empty: all of the account
  };

  MapFeed(metadata::MetadataStore& store, boost::asio::any_io_executor executor);
  ~MapFeed();
  MapFeed(const MapFeed&) = delete;
  MapFeed& operator=(const MapFeed&) = delete;

  /// Reads every key, then follows. Errors: the store's; kCorruption for a record that does not
  /// parse.
  boost::asio::awaitable<Status> Start();
  /// Ends the watches. Not on the executor's thread: blocks.
  void Stop();

  /// Grows with every change. Any thread.
  uint64_t position() const;

  /// What has changed for the reader since `since`, which an earlier call has returned (0: the
  /// complete map). A position too far back gives the complete map, too. Returns the position to
  /// ask from next. Any thread.
  uint64_t Collect(const Filter& filter, uint64_t since, v1::PartitionMap* out) const;

  /// Calls `listener` after changes, on the executor, with no lock held; it must not block. Any
  /// thread.
  uint64_t AddListener(std::function<void()> listener);
  /// When it returns the listener is not running and will not be called again. Not from within it.
  void RemoveListener(uint64_t id);

 private:
  struct Table {
    proto::Table record;
    bool known = false;  ///< its record has been seen; partitions may come first
    std::map<PartitionId, proto::PartitionConfig> partitions;
    uint64_t changed = 0;
    mutable std::shared_ptr<const v1::MapTable> made;  ///< null: to be made again
  };
  struct Node {
    v1::MapNode made;
    uint64_t changed = 0;
  };
  struct Removed {
    uint64_t position;
    bool is_node;
    uint64_t id;
    std::string account;  ///< of a table: who is told
  };

  boost::asio::awaitable<Status> Load(std::string prefix);
  boost::asio::awaitable<void> Reload(std::string prefix);
  void OnBatch(const std::string& prefix, const metadata::WatchBatch& batch);
  /// The next position, for a change about to be made.
  uint64_t Advance(Revision revision);
  void Put(const metadata::KeyValue& kv);
  void Erase(const std::string& key, Revision revision);
  void PutTable(TableId id, const metadata::KeyValue& kv);
  void PutNode(NodeId id, const metadata::KeyValue& kv);
  void Forget(Removed removed);
  void Tell();
  static const std::shared_ptr<const v1::MapTable>& Made(TableId id, const Table& table);
  static bool Shows(const Filter& filter, const Table& table);

  metadata::MetadataStore& store_;
  const boost::asio::any_io_executor executor_;
  AsyncScope scope_;
  std::map<std::string, std::unique_ptr<metadata::WatchHandle>> watches_;  // of executor_

  mutable std::mutex mutex_;
  uint64_t position_ = 1;
  uint64_t revision_ = 0;
  std::map<TableId, Table> tables_;
  std::map<NodeId, Node> nodes_;
  /// The latest removals, and up to where older ones have been forgotten.
  std::deque<Removed> removed_;
  uint64_t forgotten_ = 0;

  std::mutex listeners_mutex_;  ///< held while listeners run
  std::map<uint64_t, std::function<void()>> listeners_;
  uint64_t next_listener_ = 1;
};

}  // namespace onggi::grpc_api
