#include "client/map_watch.h"

#include "common/log.h"
#include "common/uuid.h"

namespace onggi::client {
namespace {

RetryPolicy WatchPolicy() {
  RetryPolicy policy;
  policy.base = std::chrono::milliseconds(200);
  policy.max = std::chrono::milliseconds(10'000);
  return policy;
}

}  // namespace

/// One stream; deletes itself when gRPC is done with it.
class MapWatch::Stream final : public grpc::ClientReadReactor<v1::PartitionMap> {
 public:
  Stream(MapWatch& watch, std::shared_ptr<Node> node) : watch_(watch), node_(std::move(node)) {}

  void Begin() {
    watch_.core_.Prepare(&context_);
    node_->stubs().cluster->async()->WatchMap(&context_, &request_, this);
    StartRead(&message_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    had_map_ = true;
    node_->MarkGood();
    watch_.core_.map().Apply(message_);
    StartRead(&message_);
  }

  void OnDone(const grpc::Status& status) override {
    MapWatch& watch = watch_;
    const bool had_map = had_map_;
    const grpc::Status why = status;
    delete this;  // its node goes before the client does
    watch.Ended(why, had_map);
  }

 private:
  MapWatch& watch_;
  const std::shared_ptr<Node> node_;
  grpc::ClientContext context_;
  v1::WatchMapRequest request_;
  v1::PartitionMap message_;
  bool had_map_ = false;
};

MapWatch::MapWatch(Client::Core& core) : core_(core), timer_(core.io()) {}

void MapWatch::Begin() {
  auto node = core_.PickAny(last_);
  last_ = node->address();
  auto* stream = new Stream(*this, std::move(node));
  {
    std::scoped_lock lock(mutex_);
    if (stopping_) {
      delete stream;
      return;
    }
    stream_ = stream;
  }
  stream->Begin();
}

void MapWatch::Ended(const grpc::Status& status, bool had_map) {
  std::scoped_lock lock(mutex_);
  stream_ = nullptr;
  ended_.notify_all();
  if (stopping_) return;
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    return log::Info("the server has no partition map: requests are not routed by the client");
  }
  log::Debug("the partition map's stream ended", "reason", status.error_message());
  boost::asio::post(core_.io(), [this, had_map] {
    failures_ = had_map ? 1 : failures_ + 1;
    const double random = static_cast<double>(FastRandom() >> 11) * 0x1.0p-53;
    timer_.expires_after(Backoff(WatchPolicy(), failures_, random));
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error) Begin();
    });
  });
}

void MapWatch::Stop() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  if (stream_ != nullptr) stream_->Cancel();
  ended_.wait(lock, [this] { return stream_ == nullptr; });
}

}  // namespace onggi::client
