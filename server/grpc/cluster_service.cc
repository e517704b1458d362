#include "server/grpc/cluster_service.h"

#include "onggi/v1/item.pb.h"
#include "server/grpc/error.h"

namespace onggi::grpc_api {

/// One watcher. It writes what has changed since its last message whenever the last one has gone
/// out; deletes itself when gRPC is done with it.
class ClusterService::Stream final : public grpc::ServerWriteReactor<v1::PartitionMap> {
 public:
  Stream(ClusterService& service, MapFeed::Filter filter)
      : service_(service), filter_(std::move(filter)) {}

  void Begin() {
    listener_ = service_.feed_.AddListener([this] { Changed(); });
    Changed();
  }

  /// At most once: before Begin(), or from EndStreams().
  void End(grpc::Status status) {
    {
      std::scoped_lock lock(mutex_);
      if (ended_) return;
      ended_ = true;
      end_status_ = std::move(status);
      if (writing_) return;  // OnWriteDone finishes
    }
    Finish(end_status_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Close(grpc::Status::CANCELLED);
    bool more = false;
    {
      std::scoped_lock lock(mutex_);
      more = !ended_;
      if (more && service_.feed_.position() == position_) {
        writing_ = false;
        return;
      }
    }
    if (more) return Write();
    Finish(end_status_);
  }

  void OnCancel() override { End(grpc::Status::CANCELLED); }

  void OnDone() override {
    if (listener_ != 0) service_.feed_.RemoveListener(listener_);
    {
      std::scoped_lock lock(service_.mutex_);
      service_.streams_.erase(this);
    }
    delete this;
  }

 private:
  void Changed() {
    {
      std::scoped_lock lock(mutex_);
      if (writing_ || ended_) return;
      writing_ = true;
    }
    Write();
  }

  /// Only by who has just set writing_.
  void Write() {
    position_ = service_.feed_.Collect(filter_, position_, &message_);
    StartWrite(&message_);
  }

  /// The client is gone.
  void Close(grpc::Status status) {
    {
      std::scoped_lock lock(mutex_);
      writing_ = false;
      if (!ended_) end_status_ = std::move(status);
      ended_ = true;
    }
    Finish(end_status_);
  }

  ClusterService& service_;
  const MapFeed::Filter filter_;
  uint64_t listener_ = 0;
  v1::PartitionMap message_;
  uint64_t position_ = 0;
  std::mutex mutex_;
  bool writing_ = false;     // guarded by mutex_; true: message_ and position_ are the writer's
  bool ended_ = false;       // guarded by mutex_
  grpc::Status end_status_;  // set with ended_
};

ClusterService::ClusterService(dynamodb::Api& api, MapFeed& feed)
    : api_(api),
      feed_(feed),
      credentials_(api.options().secrets),
      error_plan_(plans_.Add(*v1::Error::descriptor())) {}

ClusterService::~ClusterService() = default;

grpc::Status ClusterService::Admit(const Metadata& metadata, MapFeed::Filter* filter) const {
  std::string access_key;
  if (const auto outcome = credentials_.Check(metadata, &access_key); !outcome.ok()) {
    return ToGrpc(outcome.error(), error_plan_, kDefaultErrorBytes);
  }
  filter->account = api_.ScopeFor(access_key, Find(metadata, "onggi-region"))->account;
  return {};
}

grpc::ServerUnaryReactor* ClusterService::GetMap(grpc::CallbackServerContext* context,
                                                 const v1::GetMapRequest* request,
                                                 v1::PartitionMap* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  MapFeed::Filter filter;
  const grpc::Status status = Admit(context->client_metadata(), &filter);
  if (status.ok()) {
    filter.names.insert(request->table_names().begin(), request->table_names().end());
    feed_.Collect(filter, 0, response);
  }
  reactor->Finish(status);
  return reactor;
}

grpc::ServerWriteReactor<v1::PartitionMap>* ClusterService::WatchMap(
    grpc::CallbackServerContext* context, const v1::WatchMapRequest* request) {
  MapFeed::Filter filter;
  grpc::Status status = Admit(context->client_metadata(), &filter);
  filter.names.insert(request->table_names().begin(), request->table_names().end());
  auto* stream = new Stream(*this, std::move(filter));
  if (status.ok()) {
    std::scoped_lock lock(mutex_);
    if (ending_) {
      status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is stopping");
    } else if (streams_.size() >= kMaxStreams) {
      status = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too many watchers of the map");
    } else {
      streams_.insert(stream);
    }
  }
  if (status.ok()) {
    stream->Begin();
  } else {
    stream->End(status);
  }
  return stream;
}

void ClusterService::EndStreams() {
  std::scoped_lock lock(mutex_);
  ending_ = true;
  // OnDone waits for the lock, so that none of them goes meanwhile.
  for (Stream* stream : streams_) {
    stream->End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is stopping"));
  }
}

}  // namespace onggi::grpc_api
