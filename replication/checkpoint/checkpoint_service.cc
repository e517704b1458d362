#include "replication/checkpoint/checkpoint_service.h"

#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <random>
#include <set>

#include "common/check.h"
#include "common/log.h"
#include "common/rpc/channel.h"
#include "common/runtime.h"
#include "replication/checkpoint/service_impl.h"

namespace onggi::checkpoint {

Result<std::unique_ptr<CheckpointService>> CheckpointService::Make(CheckpointOptions options,
                                                                   CheckpointReceiver* receiver) {
  CHECK(options.metrics != nullptr && options.self.value != 0 && options.chunk_bytes > 0);
  ASSIGN_OR_RETURN(auto credentials, rpc::MakeChannelCredentials(options.tls));
  RETURN_IF_ERROR(MakeDirectory(options.incoming_directory));
  auto impl = std::make_unique<Impl>(std::move(options), receiver, std::move(credentials));
  return std::unique_ptr<CheckpointService>(new CheckpointService(std::move(impl)));
}

CheckpointService::CheckpointService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CheckpointService::~CheckpointService() { Stop(); }

grpc::Service* CheckpointService::service() { return impl_->service(); }
void CheckpointService::Start() { impl_->Start(); }
void CheckpointService::Stop() { impl_->Stop(); }
void CheckpointService::SetPeers(std::map<NodeId, transport::Peer> peers) {
  impl_->SetPeers(std::move(peers));
}
void CheckpointService::Send(const group::Member& to, CheckpointSource source,
                             std::function<void(Status)> done) {
  impl_->Send(to, std::move(source), std::move(done));
}
Result<CheckpointInfo> CheckpointService::FetchCheckpoint(NodeId from, uint64_t checkpoint,
                                                          const CheckpointInfo& offer,
                                                          const std::string& directory) {
  return impl_->FetchCheckpoint(from, checkpoint, offer, directory,
                                std::make_shared<std::atomic<bool>>(false));
}
void CheckpointService::SetRate(uint64_t bytes_per_second) { impl_->SetRate(bytes_per_second); }

CheckpointService::Impl::Impl(CheckpointOptions options, CheckpointReceiver* receiver,
                              std::shared_ptr<grpc::ChannelCredentials> credentials)
    : options_(std::move(options)),
      receiver_(receiver),
      credentials_(std::move(credentials)),
      send_bucket_(options_.bytes_per_second),
      receive_bucket_(options_.bytes_per_second),
      sent_bytes_(options_.metrics->AddCounter("onggi_checkpoint_sent_bytes_total",
                                               "Bytes of replicas copied to other nodes")),
      received_bytes_(options_.metrics->AddCounter("onggi_checkpoint_received_bytes_total",
                                                   "Bytes of replicas copied from other nodes")),
      sending_(options_.metrics->AddGauge("onggi_checkpoint_streams",
                                          "Replicas being copied now, by direction",
                                          {{"direction", "send"}})),
      receiving_(options_.metrics->AddGauge("onggi_checkpoint_streams",
                                            "Replicas being copied now, by direction",
                                            {{"direction", "receive"}})),
      sent_ok_(options_.metrics->AddCounter("onggi_checkpoint_transfers_total",
                                            "Replicas copied, by direction and outcome",
                                            {{"direction", "send"}, {"outcome", "ok"}})),
      sent_failed_(options_.metrics->AddCounter("onggi_checkpoint_transfers_total",
                                                "Replicas copied, by direction and outcome",
                                                {{"direction", "send"}, {"outcome", "error"}})),
      received_ok_(options_.metrics->AddCounter("onggi_checkpoint_transfers_total",
                                                "Replicas copied, by direction and outcome",
                                                {{"direction", "receive"}, {"outcome", "ok"}})),
      received_failed_(options_.metrics->AddCounter(
          "onggi_checkpoint_transfers_total", "Replicas copied, by direction and outcome",
          {{"direction", "receive"}, {"outcome", "error"}})),
      // Numbers of an earlier process must not name this one's checkpoints.
      next_id_(std::random_device()() | uint64_t{std::random_device()()} << 32) {}

void CheckpointService::Impl::Start() {
  std::scoped_lock lock(mutex_);
  CHECK(!started_ && !stopping_);
  started_ = true;
  threads_.emplace_back([this] { Tidy(); });
  for (size_t i = 0; i < options_.max_streams; ++i) {
    threads_.emplace_back([this, i] {
      SetThreadName("copy-" + std::to_string(i));
      Receive();
    });
  }
}

void CheckpointService::Impl::Stop() {
  std::vector<std::thread> threads;
  std::vector<std::shared_ptr<Outgoing>> outgoing;
  std::vector<grpc::ServerUnaryReactor*> waiting;
  {
    std::scoped_lock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    threads.swap(threads_);
    for (auto& [context, progress_at] : fetches_) context->TryCancel();
    for (auto& [id, one] : outgoing_) {
      if (one->context != nullptr) one->context->TryCancel();
      outgoing.push_back(one);
    }
    for (auto& [key, one] : incoming_) {
      *one->cancelled = true;
      waiting.insert(waiting.end(), one->waiting.begin(), one->waiting.end());
      one->waiting.clear();
    }
  }
  send_bucket_.Stop();
  receive_bucket_.Stop();
  changed_.notify_all();
  has_incoming_.notify_all();
  for (grpc::ServerUnaryReactor* reactor : waiting) {
    reactor->Finish({grpc::StatusCode::UNAVAILABLE, "the node is stopping"});
  }
  for (std::thread& thread : threads) thread.join();
  {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return calls_ == 0; });
  }
  for (const auto& one : outgoing) Finish(one, Unavailable("the node is stopping"));
}

void CheckpointService::Impl::SetPeers(std::map<NodeId, transport::Peer> peers) {
  {
    std::scoped_lock lock(mutex_);
    for (auto it = channels_.begin(); it != channels_.end();) {
      const auto peer = peers.find(it->first);
      const auto before = peers_.find(it->first);
      const bool same =
          peer != peers.end() && before != peers_.end() && peer->second == before->second;
      it = same ? std::next(it) : channels_.erase(it);
    }
    peers_ = std::move(peers);
  }
  changed_.notify_all();
}

void CheckpointService::Impl::SetRate(uint64_t bytes_per_second) {
  send_bucket_.SetRate(bytes_per_second);
  receive_bucket_.SetRate(bytes_per_second);
}

std::shared_ptr<grpc::Channel> CheckpointService::Impl::ChannelTo(NodeId peer) {
  std::scoped_lock lock(mutex_);
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return nullptr;
  std::shared_ptr<grpc::Channel>& channel = channels_[peer];
  if (channel == nullptr) {
    rpc::ChannelOptions channel_options;
    channel_options.server_name = found->second.certificate_name;
    // Bulk data beside the messages of the transport, not before them in one socket's buffer.
    channel_options.own_connection = true;
    channel = rpc::MakeChannel(found->second.endpoint, credentials_, channel_options);
  }
  return channel;
}

Status CheckpointService::Impl::CheckCaller(const std::string& cluster_id, NodeId caller,
                                            const grpc::AuthContext& auth) {
  if (cluster_id != options_.cluster_id) return InvalidArgument("checkpoint: wrong cluster");
  std::string name;
  {
    std::scoped_lock lock(mutex_);
    if (stopping_ || !started_) return Unavailable("the node is not ready");
    const auto found = peers_.find(caller);
    if (found == peers_.end()) {
      return Unavailable("node " + caller.ToString() + " is not a member known here");
    }
    name = found->second.certificate_name.empty() ? rpc::EndpointHost(found->second.endpoint)
                                                  : found->second.certificate_name;
  }
  if (!options_.tls.disabled() && !rpc::PeerIsNamed(auth, name)) {
    return InvalidArgument("wrong certificate: it does not carry \"" + name + "\"");
  }
  return Status::Ok();
}

std::string CheckpointService::Impl::DirectoryOf(const IncomingKey& key) const {
  return options_.incoming_directory + "/" + key.first.ToString() + "-" + key.second.ToString();
}

void CheckpointService::Impl::Tidy() {
  SetThreadName("copy-tidy");
  Clock::time_point next_sweep = Clock::now();
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    std::vector<std::shared_ptr<Outgoing>> outgoing;
    for (const auto& [id, one] : outgoing_) outgoing.push_back(one);
    lock.unlock();
    for (const auto& one : outgoing) AttendOutgoing(one);
    if (Clock::now() >= next_sweep) {
      RemoveAbandoned();
      next_sweep = Clock::now() + std::max<std::chrono::milliseconds>(
                                      options_.abandon_after / 10, std::chrono::milliseconds(100));
    }
    lock.lock();
    Clock::time_point next = next_sweep;
    if (!fetches_.empty()) next = std::min(next, Clock::now() + options_.stall_timeout / 10);
    for (const auto& [context, progress_at] : fetches_) {
      const Clock::time_point at{Clock::duration(progress_at->load())};
      if (Clock::now() - at > options_.stall_timeout) context->TryCancel();
    }
    for (const auto& [id, one] : outgoing_) {
      if (!one->calling && (one->offered || offered_ < options_.max_streams)) {
        next = std::min(next, one->next_call);
      }
    }
    if (!stopping_) changed_.wait_until(lock, next);
  }
}

void CheckpointService::Impl::RemoveAbandoned() {
  std::set<std::string> active;
  {
    std::scoped_lock lock(mutex_);
    for (const auto& [key, one] : incoming_) active.insert(DirectoryOf(key));
    std::erase_if(outcomes_, [&](const auto& entry) {
      return Clock::now() - entry.second.at > options_.abandon_after;
    });
  }
  const std::string gone = options_.incoming_directory + "/gone";
  RemoveDirectory(gone);  // a crash may have left it
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(options_.incoming_directory, error)) {
    const std::string path = entry.path().string();
    if (active.contains(path)) continue;
    // What was last written in it says when it was last of use.
    int64_t newest = 0;
    struct stat stat {};
    if (::lstat(path.c_str(), &stat) == 0) newest = stat.st_mtim.tv_sec;
    std::error_code ignored;
    for (const auto& file : std::filesystem::directory_iterator(path, ignored)) {
      if (::lstat(file.path().c_str(), &stat) == 0) {
        newest = std::max<int64_t>(newest, stat.st_mtim.tv_sec);
      }
    }
    const auto age =
        std::chrono::system_clock::now().time_since_epoch() - std::chrono::seconds(newest);
    if (age < options_.abandon_after) continue;
    {
      // An offer may have come meanwhile: it takes its key before it touches the directory.
      std::scoped_lock lock(mutex_);
      bool taken = false;
      for (const auto& [key, one] : incoming_) taken = taken || DirectoryOf(key) == path;
      if (taken || std::rename(path.c_str(), gone.c_str()) != 0) continue;
    }
    log::Info("abandoned copy removed", "directory", path);
    RemoveDirectory(gone);
  }
}

}  // namespace onggi::checkpoint
