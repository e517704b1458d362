#include <set>

#include "common/log.h"
#include "common/rpc/status.h"
#include "replication/checkpoint/service_impl.h"

// CheckpointService: fetches what is offered, and has it installed.
namespace onggi::checkpoint {
namespace {

namespace wire = proto::replication;

/// Attempts at a file that arrives damaged.
constexpr int kMaxDamaged = 3;
constexpr int kMaxFiles = 100'000;

CheckpointInfo FromOffer(const wire::CheckpointOffer& offer) {
  CheckpointInfo info;
  info.from = NodeId(offer.from_node());
  info.to = {NodeId(offer.to_node()), ReplicaId(offer.to_replica())};
  info.table = TableId(offer.table());
  info.partition = PartitionId(offer.partition());
  info.epoch = Epoch(offer.epoch());
  info.position = {Epoch(offer.position_epoch()), LogIndex(offer.position_index())};
  return info;
}

/// Of a receiver's `done`, which may come late, or after its caller has stopped to wait.
struct Installation {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Status> status;  // guarded by mutex
};

}  // namespace

grpc::ServerUnaryReactor* CheckpointService::Impl::OnOffer(grpc::CallbackServerContext* context,
                                                           const wire::CheckpointOffer& offer) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const CheckpointInfo info = FromOffer(offer);
  Status status = CheckCaller(offer.cluster_id(), info.from, *context->auth_context());
  if (status.code() == Code::kUnavailable) {
    // This node is not ready, or does not know the sender yet. Without our code: it asks again.
    reactor->Finish({grpc::StatusCode::UNAVAILABLE, status.message()});
    return reactor;
  }
  if (status.ok() && info.to.node != options_.self) {
    status = InvalidArgument("wrong node: this is node " + options_.self.ToString());
  }
  const IncomingKey key{info.partition, info.to.replica};
  if (status.ok()) {
    std::scoped_lock lock(mutex_);
    if (stopping_) {  // nobody would answer what waits
      reactor->Finish({grpc::StatusCode::UNAVAILABLE, "the node is stopping"});
      return reactor;
    }
    const auto ended = outcomes_.find(key);
    if (ended != outcomes_.end() && ended->second.from == info.from &&
        ended->second.checkpoint == offer.checkpoint()) {
      reactor->Finish(rpc::ToGrpc(ended->second.status));
      return reactor;
    }
    const auto found = incoming_.find(key);
    if (found != incoming_.end() && found->second->offer.from == info.from &&
        found->second->checkpoint == offer.checkpoint()) {
      found->second->waiting.push_back(reactor);
      return reactor;
    }
  }
  if (status.ok()) status = receiver_->Accept(info);
  if (!status.ok()) {
    reactor->Finish(rpc::ToGrpc(status));
    return reactor;
  }
  grpc::Status refusal;
  {
    std::scoped_lock lock(mutex_);
    const auto found = incoming_.find(key);
    if (stopping_) {
      refusal = {grpc::StatusCode::UNAVAILABLE, "the node is stopping"};
    } else if (found != incoming_.end() && found->second->offer.epoch > info.epoch) {
      refusal = rpc::ToGrpc({Code::kConditionFailed, "a later primary is sending a checkpoint"});
    } else if (found != incoming_.end()) {
      // The earlier one gives way. Without our code: the sender asks again, and finds it gone.
      *found->second->cancelled = true;
      refusal = {grpc::StatusCode::UNAVAILABLE, "an earlier copy is being given up"};
    } else if (queue_.size() >= options_.max_waiting) {
      refusal = rpc::ToGrpc({Code::kResourceExhausted, "too many copies wait to be received"});
    } else {
      auto incoming = std::make_shared<Incoming>();
      incoming->offer = info;
      incoming->checkpoint = offer.checkpoint();
      incoming->waiting.push_back(reactor);
      incoming_[key] = std::move(incoming);
      queue_.push_back(key);
      has_incoming_.notify_one();
      return reactor;
    }
  }
  reactor->Finish(refusal);
  return reactor;
}

void CheckpointService::Impl::Receive() {
  std::unique_lock lock(mutex_);
  while (true) {
    has_incoming_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const IncomingKey key = queue_.front();
    queue_.pop_front();
    const std::shared_ptr<Incoming> incoming = incoming_.at(key);
    lock.unlock();
    receiving_.Add(1);
    const Status status =
        *incoming->cancelled ? Unavailable("given up") : ReceiveOne(key, incoming);
    receiving_.Add(-1);
    (status.ok() ? received_ok_ : received_failed_).Add();
    if (!status.ok()) {
      log::Warn("copy not received", "partition", key.first, "replica", key.second, "from",
                incoming->offer.from, "status", status);
    }
    lock.lock();
    incoming_.erase(key);
    if (status.ok()) {
      outcomes_[key] = {incoming->offer.from, incoming->checkpoint, status, Clock::now()};
    }
    std::vector<grpc::ServerUnaryReactor*> waiting = std::exchange(incoming->waiting, {});
    lock.unlock();
    for (grpc::ServerUnaryReactor* reactor : waiting) reactor->Finish(rpc::ToGrpc(status));
    lock.lock();
  }
}

Status CheckpointService::Impl::ReceiveOne(const IncomingKey& key,
                                           const std::shared_ptr<Incoming>& incoming) {
  const std::string directory = DirectoryOf(key);
  const Clock::time_point begun = Clock::now();
  ASSIGN_OR_RETURN(CheckpointInfo info,
                   FetchCheckpoint(incoming->offer.from, incoming->checkpoint, incoming->offer,
                                   directory, incoming->cancelled));
  log::Info("copy received", "partition", info.partition, "replica", info.to.replica, "from",
            info.from, "bytes", info.bytes, "took_ms", Clock::now() - begun);
  auto installation = std::make_shared<Installation>();
  receiver_->Install(std::move(info), [installation](const Status& status) {
    std::scoped_lock lock(installation->mutex);
    installation->status = status;
    installation->changed.notify_all();
  });
  std::unique_lock lock(installation->mutex);
  const Clock::time_point deadline = Clock::now() + options_.install_timeout;
  while (!installation->status && Clock::now() < deadline) {
    installation->changed.wait_for(lock, std::chrono::milliseconds(100));
    if (*incoming->cancelled && !installation->status) {
      // The directory stays for who still works on it, and is removed when it is old.
      return Unavailable("given up while it was being installed");
    }
  }
  if (!installation->status) {
    return {Code::kDeadlineExceeded, "the checkpoint was not installed in time"};
  }
  RemoveDirectory(directory);
  return *installation->status;
}

Result<CheckpointInfo> CheckpointService::Impl::FetchCheckpoint(
    NodeId from, uint64_t checkpoint, const CheckpointInfo& offer, const std::string& directory,
    std::shared_ptr<std::atomic<bool>> cancelled) {
  const auto give_up = [this, &cancelled] {
    if (*cancelled) return true;
    std::scoped_lock lock(mutex_);
    return stopping_;
  };
  ASSIGN_OR_RETURN(PartialDirectory partial, PartialDirectory::Open(directory));
  std::chrono::milliseconds backoff = options_.min_backoff;
  Clock::time_point progress = Clock::now();
  int damaged = 0;
  while (true) {
    CheckpointInfo info = offer;
    info.directory = directory;
    uint64_t made = 0;
    Status status = FetchOnce(from, checkpoint, &partial, &info, give_up, &made);
    if (status.ok()) {
      RETURN_IF_ERROR(partial.Complete());
      return info;
    }
    const Status suspended = partial.Suspend();
    if (status.code() == Code::kUnavailable && !suspended.ok()) status = suspended;
    if (status.code() == Code::kOutOfSpace) {
      // What it holds is what is lacking.
      RemoveDirectory(directory);
      return status;
    }
    if (give_up()) return Unavailable("the copy was given up");
    const bool damage = status.code() == Code::kCorruption && ++damaged < kMaxDamaged;
    if (status.code() != Code::kUnavailable && !damage) return status;
    if (made > 0) {
      progress = Clock::now();
      backoff = options_.min_backoff;
    }
    if (Clock::now() - progress > options_.stall_timeout) {
      return status.WithContext("the copy makes no progress");
    }
    log::Info("copy interrupted, going on", "partition", offer.partition, "from", from, "status",
              status);
    const Clock::time_point until = Clock::now() + backoff;
    while (Clock::now() < until && !give_up()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    backoff = std::min(backoff * 2, options_.max_backoff);
  }
}

Status CheckpointService::Impl::FetchOnce(NodeId from, uint64_t checkpoint,
                                          PartialDirectory* partial, CheckpointInfo* info,
                                          const std::function<bool()>& give_up, uint64_t* made) {
  wire::CheckpointFetch request;
  request.set_cluster_id(options_.cluster_id);
  request.set_from_node(options_.self.value);
  request.set_replica(info->to.replica.value);
  request.set_partition(info->partition.value);
  request.set_checkpoint(checkpoint);
  for (const auto& [name, progress] : partial->progress()) {
    wire::CheckpointHave* have = request.add_have();
    have->set_name(name);
    have->set_identity(progress.file.identity);
    have->set_bytes(progress.durable);
  }
  const std::shared_ptr<grpc::Channel> channel = ChannelTo(from);
  if (channel == nullptr)
    return NotFound("node " + from.ToString() + " is not a member known here");
  const std::unique_ptr<RpcService::Stub> stub = RpcService::NewStub(channel);
  grpc::ClientContext context;
  std::atomic<int64_t> progress_at{Clock::now().time_since_epoch().count()};
  {
    std::scoped_lock lock(mutex_);
    if (stopping_) return Unavailable("the node is stopping");
    fetches_[&context] = &progress_at;
  }
  changed_.notify_all();  // the tidying thread watches it
  auto reader = stub->Fetch(&context, request);
  const Status taken = TakeParts(reader.get(), partial, info, give_up, &progress_at, made);
  if (!taken.ok()) context.TryCancel();
  wire::CheckpointPart rest;
  while (reader->Read(&rest)) {
  }
  const grpc::Status finished = reader->Finish();
  {
    std::scoped_lock lock(mutex_);
    fetches_.erase(&context);
  }
  // What this side found wrong says more than the cancellation that it led to.
  if (taken.ok() || (taken.code() == Code::kUnavailable && !finished.ok() &&
                     finished.error_code() != grpc::StatusCode::CANCELLED)) {
    Status status = rpc::FromGrpc(finished);
    // Of a connection that breaks, gRPC has several words.
    if (!status.ok() && finished.error_details().empty()) {
      status = Unavailable(finished.error_message());
    }
    return status;
  }
  return taken;
}

Status CheckpointService::Impl::TakeParts(grpc::ClientReader<wire::CheckpointPart>* reader,
                                          PartialDirectory* partial, CheckpointInfo* info,
                                          const std::function<bool()>& give_up,
                                          std::atomic<int64_t>* progress_at, uint64_t* made) {
  std::vector<FileInfo> files;
  bool begun = false;
  wire::CheckpointPart part;
  while (!give_up() && reader->Read(&part)) {
    *progress_at = Clock::now().time_since_epoch().count();
    switch (part.part_case()) {
      case wire::CheckpointPart::kManifest:
        if (begun) return Corruption("checkpoint: two manifests");
        RETURN_IF_ERROR(TakeManifest(part.manifest(), partial, info, &files));
        begun = true;
        break;
      case wire::CheckpointPart::kChunk: {
        if (!begun) return Corruption("checkpoint: no manifest");
        const size_t size = part.chunk().data().size();
        RETURN_IF_ERROR(TakeChunk(part.chunk(), files, partial));
        *made += size;
        received_bytes_.Add(size);
        // Slow to read is slow to be sent: gRPC's flow control does the rest.
        if (!receive_bucket_.Take(size, give_up)) return Unavailable("given up");
        break;
      }
      case wire::CheckpointPart::kEnd:
        for (const FileInfo& file : files) {
          const auto found = partial->progress().find(file.name);
          if (found == partial->progress().end() || found->second.file != file ||
              found->second.durable != file.bytes) {
            return Corruption("checkpoint: " + file.name + " has not arrived");
          }
        }
        return begun ? Status::Ok() : Corruption("checkpoint: no manifest");
      case wire::CheckpointPart::PART_NOT_SET: break;  // of a later version
    }
  }
  return Unavailable("the stream has ended");
}

Status CheckpointService::Impl::TakeManifest(const wire::CheckpointManifest& manifest,
                                             PartialDirectory* partial, CheckpointInfo* info,
                                             std::vector<FileInfo>* files) {
  const LogPosition position{Epoch(manifest.position_epoch()), LogIndex(manifest.position_index())};
  if (PartitionId(manifest.partition()) != info->partition ||
      TableId(manifest.table()) != info->table || position != info->position) {
    return Corruption("checkpoint: not what was offered");
  }
  if (manifest.files_size() > kMaxFiles) return Corruption("checkpoint: too many files");
  info->metadata = manifest.metadata();
  info->bytes = 0;
  uint64_t more = 0;
  std::set<std::string_view> names;
  for (const wire::CheckpointFile& in : manifest.files()) {
    if (!ValidFileName(in.name()) || !names.insert(in.name()).second) {
      return Corruption("checkpoint: not a name of a file");
    }
    FileInfo file;
    file.name = in.name();
    file.bytes = in.bytes();
    file.identity = in.identity();
    info->bytes += file.bytes;
    more += file.bytes;
    const auto found = partial->progress().find(file.name);
    if (found != partial->progress().end() && found->second.file == file) {
      more -= std::min(found->second.durable, file.bytes);
    }
    files->push_back(std::move(file));
  }
  RETURN_IF_ERROR(partial->Keep(*files));
  return CheckSpace(more);
}

Status CheckpointService::Impl::TakeChunk(const wire::CheckpointChunk& chunk,
                                          const std::vector<FileInfo>& files,
                                          PartialDirectory* partial) {
  if (chunk.file() >= files.size()) return Corruption("checkpoint: no such file");
  if (Xxh3(chunk.data()) != chunk.xxh3()) return Corruption("checkpoint: a chunk is damaged");
  const FileInfo& file = files[chunk.file()];
  if (partial->current() == nullptr) {
    RETURN_IF_ERROR(partial->Begin(file, chunk.offset()));
  } else if (*partial->current() != file) {
    return Corruption("checkpoint: a file ends before its end");
  }
  if (chunk.offset() != partial->written() ||
      chunk.data().size() > file.bytes - partial->written()) {
    return Corruption("checkpoint: a chunk is out of place");
  }
  RETURN_IF_ERROR(partial->Write(chunk.data()));
  if (chunk.last()) return partial->Finish(chunk.file_xxh3());
  if (partial->unsynced() >= options_.sync_bytes) {
    RETURN_IF_ERROR(partial->Sync());
    return CheckSpace(0);
  }
  return Status::Ok();
}

Status CheckpointService::Impl::CheckSpace(uint64_t more) const {
  ASSIGN_OR_RETURN(const uint64_t free, FreeBytes(options_.incoming_directory));
  if (free >= options_.reserve_bytes && free - options_.reserve_bytes >= more) return Status::Ok();
  return {Code::kOutOfSpace, "the disk of node " + options_.self.ToString() +
                                 " has no space for a copy: " + std::to_string(more) +
                                 " bytes to come, " + std::to_string(free) + " free, " +
                                 std::to_string(options_.reserve_bytes) + " in reserve"};
}

}  // namespace onggi::checkpoint
