#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/proto/replication.grpc.pb.h"
#include "replication/checkpoint/checkpoint_service.h"
#include "replication/checkpoint/files.h"
#include "replication/checkpoint/token_bucket.h"

namespace onggi::checkpoint {

/// CheckpointService's insides: checkpoint_service.cc has its life, sender.cc offers and reads
/// files, receiver.cc fetches and installs.
class CheckpointService::Impl {
 public:
  using Clock = std::chrono::steady_clock;

  Impl(CheckpointOptions options, CheckpointReceiver* receiver,
       std::shared_ptr<grpc::ChannelCredentials> credentials);

  grpc::Service* service() { return &service_; }
  void Start();
  void Stop();
  void SetPeers(std::map<NodeId, transport::Peer> peers);
  void Send(const group::Member& to, CheckpointSource source, std::function<void(Status)> done);
  Result<CheckpointInfo> FetchCheckpoint(NodeId from, uint64_t checkpoint,
                                         const CheckpointInfo& offer, const std::string& directory,
                                         std::shared_ptr<std::atomic<bool>> cancelled);
  void SetRate(uint64_t bytes_per_second);

 private:
  using RpcService = proto::replication::CheckpointService;
  using OfferBase = RpcService::WithCallbackMethod_Offer<RpcService::Service>;

  class Service final : public OfferBase {
   public:
    explicit Service(Impl* impl) : impl_(impl) {}
    grpc::ServerUnaryReactor* Offer(grpc::CallbackServerContext* context,
                                    const proto::replication::CheckpointOffer* offer,
                                    proto::replication::CheckpointOfferAnswer*) override {
      return impl_->OnOffer(context, *offer);
    }
    /// On a thread of gRPC's own for calls that block.
    grpc::Status Fetch(grpc::ServerContext* context,
                       const proto::replication::CheckpointFetch* request,
                       grpc::ServerWriter<proto::replication::CheckpointPart>* writer) override {
      return impl_->OnFetch(context, *request, writer);
    }

   private:
    Impl* const impl_;
  };

  /// A checkpoint that is to be sent. Its offer's call ends before it does.
  struct Outgoing {
    uint64_t id = 0;
    group::Member to;
    CheckpointSource source;
    std::vector<FileInfo> files;  ///< since `listed`; not changed after
    std::function<void(Status)> done;
    bool listed = false;
    bool offered = false;  ///< has one of the places of max_streams
    bool calling = false;  ///< an offer is under way
    Clock::time_point next_call;
    Clock::time_point heard;  ///< the receiver was last there
    std::chrono::milliseconds backoff{0};
    std::shared_ptr<grpc::ClientContext> context;
    int fetching = 0;  ///< streams that read the files
    Status refusal;    ///< not Ok: it is not to be sent at all
    std::optional<Status> result;
  };

  /// A checkpoint that is being, or is to be, received.
  struct Incoming {
    CheckpointInfo offer;
    uint64_t checkpoint = 0;
    std::vector<grpc::ServerUnaryReactor*> waiting;  ///< offers to be answered
    std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
    bool running = false;
  };
  using IncomingKey = std::pair<PartitionId, ReplicaId>;
  /// How one ended: an offer that is repeated hears it again.
  struct Outcome {
    NodeId from;
    uint64_t checkpoint = 0;
    Status status;
    Clock::time_point at;
  };

  // checkpoint_service.cc
  void Tidy();
  void RemoveAbandoned();
  std::shared_ptr<grpc::Channel> ChannelTo(NodeId peer);
  /// Ok when the call comes from the node that it names. `mutex_` is not held.
  Status CheckCaller(const std::string& cluster_id, NodeId caller, const grpc::AuthContext& auth);
  std::string DirectoryOf(const IncomingKey& key) const;

  // sender.cc
  void AttendOutgoing(const std::shared_ptr<Outgoing>& outgoing);
  void Call(const std::shared_ptr<Outgoing>& outgoing);
  void OnAnswer(const std::shared_ptr<Outgoing>& outgoing, const grpc::Status& status);
  void Finish(const std::shared_ptr<Outgoing>& outgoing, const Status& status);
  grpc::Status OnFetch(grpc::ServerContext* context,
                       const proto::replication::CheckpointFetch& request,
                       grpc::ServerWriter<proto::replication::CheckpointPart>* writer);
  Status SendFiles(grpc::ServerContext* context, const std::shared_ptr<Outgoing>& outgoing,
                   const proto::replication::CheckpointFetch& request,
                   grpc::ServerWriter<proto::replication::CheckpointPart>* writer);
  Status SendFile(const std::shared_ptr<Outgoing>& outgoing, uint32_t index, uint64_t offset,
                  const std::function<bool()>& give_up,
                  grpc::ServerWriter<proto::replication::CheckpointPart>* writer);

  // receiver.cc
  grpc::ServerUnaryReactor* OnOffer(grpc::CallbackServerContext* context,
                                    const proto::replication::CheckpointOffer& offer);
  void Receive();
  Status ReceiveOne(const IncomingKey& key, const std::shared_ptr<Incoming>& incoming);
  /// One stream. `made` counts the bytes that it brought.
  Status FetchOnce(NodeId from, uint64_t checkpoint, PartialDirectory* partial,
                   CheckpointInfo* info, const std::function<bool()>& give_up, uint64_t* made);
  Status TakeParts(grpc::ClientReader<proto::replication::CheckpointPart>* reader,
                   PartialDirectory* partial, CheckpointInfo* info,
                   const std::function<bool()>& give_up, std::atomic<int64_t>* progress_at,
                   uint64_t* made);
  Status TakeManifest(const proto::replication::CheckpointManifest& manifest,
                      PartialDirectory* partial, CheckpointInfo* info,
                      std::vector<FileInfo>* files);
  Status TakeChunk(const proto::replication::CheckpointChunk& chunk,
                   const std::vector<FileInfo>& files, PartialDirectory* partial);
  Status CheckSpace(uint64_t more) const;

  const CheckpointOptions options_;
  CheckpointReceiver* const receiver_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  Service service_{this};
  TokenBucket send_bucket_;
  TokenBucket receive_bucket_;

  metrics::Counter& sent_bytes_;
  metrics::Counter& received_bytes_;
  metrics::Gauge& sending_;
  metrics::Gauge& receiving_;
  metrics::Counter& sent_ok_;
  metrics::Counter& sent_failed_;
  metrics::Counter& received_ok_;
  metrics::Counter& received_failed_;

  std::mutex mutex_;
  std::condition_variable changed_;  ///< for the tidying thread
  std::condition_variable has_incoming_;
  std::condition_variable idle_;
  // All of the following are guarded by mutex_.
  bool started_ = false;
  bool stopping_ = false;
  std::map<NodeId, transport::Peer> peers_;
  std::map<NodeId, std::shared_ptr<grpc::Channel>> channels_;
  uint64_t next_id_;
  std::map<uint64_t, std::shared_ptr<Outgoing>> outgoing_;
  size_t offered_ = 0;
  int calls_ = 0;  ///< under way: offers of ours, and files read for others
  std::map<IncomingKey, std::shared_ptr<Incoming>> incoming_;
  std::deque<IncomingKey> queue_;
  std::map<IncomingKey, Outcome> outcomes_;
  /// To be cancelled by Stop, or when nothing has come since a Clock's count for too long.
  std::map<grpc::ClientContext*, const std::atomic<int64_t>*> fetches_;
  std::vector<std::thread> threads_;
};

}  // namespace onggi::checkpoint
