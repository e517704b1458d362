#pragma once

#include <grpcpp/support/client_callback.h>

#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <mutex>

#include "client/core.h"

namespace onggi::client {

/// Keeps a client's PartitionMap by Cluster.WatchMap: one stream at a time, to any node, begun
/// again with a growing pause when it ends. A server without the service leaves the client without
/// a map.
///
/// Begin() on the client's thread; Stop() from the one that destroys the client, which it blocks
/// until the stream has ended. Destroyed when the client's thread has.
class MapWatch {
 public:
  explicit MapWatch(Client::Core& core);
  void Begin();
  void Stop();

 private:
  class Stream;

  void Ended(const grpc::Status& status, bool had_map);

  Client::Core& core_;
  boost::asio::steady_timer timer_;  ///< of the client's thread
  int failures_ = 0;                 ///< in a row; of the client's thread
  std::string last_;                 ///< node of the last stream; of the client's thread
  std::mutex mutex_;
  std::condition_variable ended_;
  Stream* stream_ = nullptr;  // guarded by mutex_
  bool stopping_ = false;     // guarded by mutex_
};

}  // namespace onggi::client
