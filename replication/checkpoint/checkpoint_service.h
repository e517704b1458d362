#pragma once

#include <grpcpp/impl/service_type.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/metrics.h"
#include "common/rpc/tls.h"
#include "common/status.h"
#include "replication/checkpoint/checkpoint.h"
#include "replication/transport/transport.h"

namespace onggi::checkpoint {

struct CheckpointOptions {
  CheckpointOptions() {}

  std::string cluster_id;
  NodeId self;
  rpc::TlsOptions tls;  ///< as transport::TransportOptions::tls
  metrics::Registry* metrics = nullptr;
  /// Checkpoints that arrive are put below it, one directory for each replica. Made if absent;
  /// everything in it is this service's.
  std::string incoming_directory;

  /// All streams of this node together, in each direction; 0: no limit. SetRate changes it.
  uint64_t bytes_per_second = 64ull << 20;
  /// Streams sent, and streams received, at a time; more wait (received) or are refused (sent).
  size_t max_streams = 2;
  /// Receivers that wait for their turn; more are refused.
  size_t max_waiting = 256;
  /// A file that would leave less than this free is not received.
  uint64_t reserve_bytes = 1ull << 30;
  size_t chunk_bytes = 256u << 10;
  /// A received file is synced, and its length noted for a resumption, each time it has grown by
  /// this much.
  uint64_t sync_bytes = 8ull << 20;
  /// Neither side waits longer than this for the other's next byte.
  std::chrono::milliseconds stall_timeout{60'000};
  /// How long an installation may take.
  std::chrono::milliseconds install_timeout{600'000};
  /// What was received in part and not asked for again goes after this.
  std::chrono::milliseconds abandon_after{600'000};
  std::chrono::milliseconds min_backoff{50};
  std::chrono::milliseconds max_backoff{2'000};
};

/// Sends and receives checkpoints: CheckpointService of proto/replication.proto.
///
/// The sender offers one (Send); the receiver fetches its files, as fast as the token buckets of
/// both nodes let it, checks each chunk and file by xxh3, syncs them, and installs them. A stream
/// that breaks goes on where it was; so does one whose receiver restarted, and one that is offered
/// again while sent files are the same.
///
/// Lifecycle: made; service() added to an RpcServer; Start(); Stop(), before the server's Stop();
/// destroyed after the server. Thread-safe. Threads: max_streams that receive, one that tidies up,
/// and gRPC's that read files for those who fetch.
class CheckpointService {
 public:
  /// kInvalidArgument for the files of TLS, kIoError when incoming_directory cannot be made.
  static Result<std::unique_ptr<CheckpointService>> Make(CheckpointOptions options,
                                                         CheckpointReceiver* receiver);
  ~CheckpointService();
  CheckpointService(const CheckpointService&) = delete;
  CheckpointService& operator=(const CheckpointService&) = delete;

  grpc::Service* service();
  void Start();
  /// Ends every transfer: `done` of each Send is called (kUnavailable). What was received in part
  /// stays for the next process.
  void Stop();

  /// The nodes, as transport::Transport::SetPeers. Those not named are neither sent to nor served.
  void SetPeers(std::map<NodeId, transport::Peer> peers);

  /// Offers `source` to `to` and calls `done` once it has been installed there, or with why not;
  /// never from within the call, on any thread. kInvalidArgument: a directory with anything but
  /// plain files. kResourceExhausted: max_streams are being sent (try again). kUnavailable: the
  /// node is not reachable, or too slow. Otherwise the receiver's own errors: CheckpointReceiver,
  /// and kOutOfSpace.
  void Send(const group::Member& to, CheckpointSource source, std::function<void(Status)> done);

  /// Fetches what `from` offers under `checkpoint` into `directory` (made or resumed) and returns
  /// once it is complete and durable. Blocks; errors as above. What Send's offer leads to; on its
  /// own for tests.
  Result<CheckpointInfo> FetchCheckpoint(NodeId from, uint64_t checkpoint,
                                         const CheckpointInfo& offer, const std::string& directory);

  /// Bytes per second, in each direction; 0: no limit. From the next chunk on.
  void SetRate(uint64_t bytes_per_second);

 private:
  class Impl;
  explicit CheckpointService(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace onggi::checkpoint
