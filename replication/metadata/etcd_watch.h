#pragma once

#include <grpcpp/support/async_stream.h>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "replication/metadata/etcd_client.h"

namespace onggi::metadata::etcd {

/// One watch: shared by its handle, the hub and batches on their way to the executor.
struct WatchState {
  // Constant.
  std::string key;  ///< with the cluster's prefix
  std::string end;
  boost::asio::any_io_executor executor;
  MetadataStore::WatchCallback callback;

  std::atomic<bool> ended{false};   ///< the handle is gone
  std::atomic<size_t> queued{0};    ///< bytes of events that the executor has not run
  std::atomic<bool> paused{false};  ///< off the stream until there are fewer

  // The loop's thread's.
  Revision next;         ///< events from here on are yet to be delivered
  int64_t wire_id = 0;   ///< on the present stream; 0: not on it
  bool created = false;  ///< etcd has said so
  bool asked_progress = false;
  /// Events of a revision of which more may come in the next fragment.
  std::vector<WatchEvent> held;
};

/// All watches of a client, on one gRPC stream. When it breaks, or its member is given up, another
/// is opened and each watch goes on behind the last revision that it has delivered.
///
/// Each watch is asked for from one revision before the one that is wanted: etcd forgets deletions
/// at the very revision of a compaction, and yet accepts watches from there (etcd issue 18089).
///
/// Lives on the loop's thread, but for what WatchState says.
class WatchHub final : public EndpointListener {
 public:
  WatchHub(Client* client, std::shared_ptr<Poster> poster);
  ~WatchHub() override;

  void Add(std::shared_ptr<WatchState> watch);
  void Remove(const std::shared_ptr<WatchState>& watch);
  /// The executor has caught up with a paused watch.
  void Resume(const std::shared_ptr<WatchState>& watch);
  void Close();

  void OnEndpointLost(Endpoint* endpoint) override;

 private:
  class Stream;

  void Open();
  void OpenLater();
  void OnMessage(Stream* stream, const etcdserverpb::WatchResponse& response);
  void OnEvents(const std::shared_ptr<WatchState>& watch,
                const etcdserverpb::WatchResponse& response);
  void OnCanceled(const std::shared_ptr<WatchState>& watch,
                  const etcdserverpb::WatchResponse& response);
  void OnProgress(const std::shared_ptr<WatchState>& watch, Revision revision);
  void OnEnd(Stream* stream, const grpc::Status& status);
  /// Leaves the stream to itself; every watch is off it.
  void Detach();
  void Create(const std::shared_ptr<WatchState>& watch);
  void Leave(const std::shared_ptr<WatchState>& watch);
  void Deliver(const std::shared_ptr<WatchState>& watch, WatchBatch batch);
  void Tick();

  Client* const client_;
  std::set<std::shared_ptr<WatchState>> watches_;
  std::map<int64_t, std::shared_ptr<WatchState>> by_wire_id_;
  int64_t last_wire_id_ = 0;
  std::deque<int64_t> asked_;  ///< creations without an answer, in order
  std::shared_ptr<Stream> stream_;
  Endpoint* avoid_ = nullptr;
  std::chrono::milliseconds pause_{0};
  bool opening_ = false;  ///< a timer will
  bool opened_once_ = false;
  bool closed_ = false;
  const std::shared_ptr<Poster> poster_;
};

}  // namespace onggi::metadata::etcd
