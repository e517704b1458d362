#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "common/rpc/stream.h"
#include "common/runtime.h"

namespace onggi::rpc {

/// Listens for calls of MessageStream's kind (or of any gRPC client's) on one address.
///
/// Add, then Start, then Stop; each from one thread. Streams run on the pool's threads, in turn;
/// the pool outlives it. Bounds: kMaxConnections, of which kMaxWaiting have not called yet; more
/// are closed as they come.
class StreamServer {
 public:
  /// Takes a call on, on the stream's executor: returns whom its events are for. Null refuses it,
  /// with `refusal`.
  using Acceptor = std::function<std::shared_ptr<MessageStream::Events>(
      const std::shared_ptr<MessageStream>& stream, grpc::Status* refusal)>;

  StreamServer(IoPool* io, MessageStream::Options options);
  ~StreamServer();
  StreamServer(const StreamServer&) = delete;
  StreamServer& operator=(const StreamServer&) = delete;

  /// Calls of `method` ("/package.Service/Method") go to `acceptor`. Before Start().
  void Add(const std::string& method, Acceptor acceptor);

  /// Listens on "host:port" (port 0: any free one). kIoError when it cannot be bound.
  Status Start(const std::string& address);
  /// The port bound; 0 before Start().
  int port() const { return port_; }

  /// Refuses new calls, ends those that there are, and returns when the last has ended. Not on a
  /// thread of the pool.
  void Stop();

 private:
  static constexpr size_t kMaxConnections = 4096;
  static constexpr size_t kMaxWaiting = 256;

  /// Outlives the server where a handler still runs.
  struct Shared;

  const std::shared_ptr<Shared> shared_;
  int port_ = 0;
};

}  // namespace onggi::rpc
