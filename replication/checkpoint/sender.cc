#include "common/log.h"
#include "common/rpc/channel.h"
#include "common/rpc/status.h"
#include "replication/checkpoint/service_impl.h"

// CheckpointService: offers checkpoints and reads their files for those who fetch.
namespace onggi::checkpoint {
namespace {

namespace wire = proto::replication;

constexpr size_t kMaxMetadata = 1 << 20;
/// A call that lasted this long has been seen to live by gRPC's pings.
constexpr std::chrono::seconds kProvenCall{20};

/// Whether the failure is the connection's, not the receiver's answer.
bool ConnectionFailed(const grpc::Status& status) {
  return status.error_details().empty() &&
         (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
          status.error_code() == grpc::StatusCode::CANCELLED ||
          status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
          status.error_code() == grpc::StatusCode::UNKNOWN ||
          status.error_code() == grpc::StatusCode::INTERNAL);
}

}  // namespace

void CheckpointService::Impl::Send(const group::Member& to, CheckpointSource source,
                                   std::function<void(Status)> done) {
  auto one = std::make_shared<Outgoing>();
  one->to = to;
  one->source = std::move(source);
  one->done = std::move(done);
  one->next_call = Clock::now();
  {
    std::scoped_lock lock(mutex_);
    if (started_ && !stopping_) {
      one->id = ++next_id_;
      // Refused by the tidying thread: not from within this call.
      if (outgoing_.size() >= options_.max_streams + options_.max_waiting) {
        one->refusal = {Code::kResourceExhausted, "too many copies wait to be sent"};
      } else if (one->source.metadata.size() > kMaxMetadata) {
        one->refusal = InvalidArgument("a checkpoint's metadata is too long");
      }
      outgoing_[one->id] = one;
      one = nullptr;
    }
  }
  if (one != nullptr) {
    one->done(Unavailable("the node is stopping"));
    return;
  }
  changed_.notify_all();
}

void CheckpointService::Impl::AttendOutgoing(const std::shared_ptr<Outgoing>& outgoing) {
  Status failure = outgoing->refusal;
  if (failure.ok() && !outgoing->listed) {
    Result<std::vector<FileInfo>> files = ListFiles(outgoing->source.directory);
    std::scoped_lock lock(mutex_);
    if (files.ok()) {
      outgoing->files = std::move(files).value();
      outgoing->listed = true;
    } else {
      failure = files.status();
    }
  }
  bool call = false;
  if (failure.ok()) {
    std::scoped_lock lock(mutex_);
    if (stopping_ || outgoing->result || outgoing->calling) return;
    if (!peers_.contains(outgoing->to.node)) {
      failure = Unavailable("node " + outgoing->to.node.ToString() + " is not a member known here");
    } else if (!outgoing->offered) {
      if (offered_ >= options_.max_streams) return;
      outgoing->offered = true;
      ++offered_;
      sending_.Set(static_cast<int64_t>(offered_));
      outgoing->heard = Clock::now();
    }
    if (failure.ok() && Clock::now() >= outgoing->next_call) {
      call = true;
      outgoing->calling = true;
      ++calls_;
    }
  }
  if (!failure.ok()) {
    Finish(outgoing, failure);
  } else if (call) {
    Call(outgoing);
  }
}

void CheckpointService::Impl::Call(const std::shared_ptr<Outgoing>& outgoing) {
  struct State {
    std::shared_ptr<grpc::ClientContext> context = std::make_shared<grpc::ClientContext>();
    std::unique_ptr<RpcService::Stub> stub;
    wire::CheckpointOffer offer;
    wire::CheckpointOfferAnswer answer;
    Clock::time_point begun = Clock::now();
  };
  auto state = std::make_shared<State>();
  const CheckpointSource& source = outgoing->source;
  state->offer.set_cluster_id(options_.cluster_id);
  state->offer.set_from_node(options_.self.value);
  state->offer.set_to_node(outgoing->to.node.value);
  state->offer.set_to_replica(outgoing->to.replica.value);
  state->offer.set_table(source.table.value);
  state->offer.set_partition(source.partition.value);
  state->offer.set_epoch(source.epoch.value);
  state->offer.set_checkpoint(outgoing->id);
  state->offer.set_position_epoch(source.position.epoch.value);
  state->offer.set_position_index(source.position.index.value);
  std::shared_ptr<grpc::Channel> channel = ChannelTo(outgoing->to.node);
  if (channel == nullptr) {
    OnAnswer(outgoing, {grpc::StatusCode::UNAVAILABLE, "not a member known here"});
    return;
  }
  state->stub = RpcService::NewStub(channel);
  {
    std::scoped_lock lock(mutex_);
    outgoing->context = state->context;
    if (stopping_) state->context->TryCancel();
  }
  state->stub->async()->Offer(state->context.get(), &state->offer, &state->answer,
                              [this, state, outgoing](const grpc::Status& status) {
                                if (Clock::now() - state->begun > kProvenCall) {
                                  std::scoped_lock lock(mutex_);
                                  outgoing->heard = Clock::now();
                                }
                                OnAnswer(outgoing, status);
                              });
}

void CheckpointService::Impl::OnAnswer(const std::shared_ptr<Outgoing>& outgoing,
                                       const grpc::Status& status) {
  bool again = false;
  {
    std::scoped_lock lock(mutex_);
    outgoing->calling = false;
    outgoing->context = nullptr;
    const Clock::time_point now = Clock::now();
    // A receiver that has gone, or is being started again, finds what it had when it is back.
    again =
        stopping_ || (ConnectionFailed(status) && now - outgoing->heard < options_.stall_timeout);
    outgoing->next_call = now + outgoing->backoff;
    outgoing->backoff =
        std::clamp(outgoing->backoff * 2, options_.min_backoff, options_.max_backoff);
  }
  // A stopping service finishes what is left itself.
  if (!again) Finish(outgoing, rpc::FromGrpc(status));
  std::scoped_lock lock(mutex_);
  --calls_;
  changed_.notify_all();
  idle_.notify_all();
}

void CheckpointService::Impl::Finish(const std::shared_ptr<Outgoing>& outgoing,
                                     const Status& status) {
  std::function<void(Status)> done;
  {
    std::scoped_lock lock(mutex_);
    if (outgoing->result) return;
    outgoing->result = status;
    outgoing_.erase(outgoing->id);
    if (outgoing->offered) {
      --offered_;
      sending_.Set(static_cast<int64_t>(offered_));
    }
    (status.ok() ? sent_ok_ : sent_failed_).Add();
    // The directory is its owner's again only when nobody reads it.
    if (outgoing->fetching == 0) done = std::move(outgoing->done);
  }
  changed_.notify_all();
  if (done) done(status);
}

// Files -------------------------------------------------------------------------------------------

grpc::Status CheckpointService::Impl::OnFetch(grpc::ServerContext* context,
                                              const wire::CheckpointFetch& request,
                                              grpc::ServerWriter<wire::CheckpointPart>* writer) {
  const NodeId caller(request.from_node());
  const Status checked = CheckCaller(request.cluster_id(), caller, *context->auth_context());
  if (!checked.ok()) return rpc::ToGrpc(checked);
  std::shared_ptr<Outgoing> outgoing;
  {
    std::scoped_lock lock(mutex_);
    const auto found = outgoing_.find(request.checkpoint());
    if (stopping_ || found == outgoing_.end() || !found->second->listed ||
        found->second->to != group::Member{caller, ReplicaId(request.replica())} ||
        found->second->source.partition != PartitionId(request.partition())) {
      return rpc::ToGrpc(NotFound("the checkpoint is no longer there"));
    }
    outgoing = found->second;
    ++outgoing->fetching;
    ++calls_;
  }
  const Status status = SendFiles(context, outgoing, request, writer);
  std::function<void(Status)> done;
  Status result;
  {
    std::scoped_lock lock(mutex_);
    if (--outgoing->fetching == 0 && outgoing->result) {
      done = std::move(outgoing->done);
      result = *outgoing->result;
    }
  }
  if (done) done(result);
  {
    std::scoped_lock lock(mutex_);
    --calls_;
    idle_.notify_all();
  }
  return rpc::ToGrpc(status);
}

Status CheckpointService::Impl::SendFiles(grpc::ServerContext* context,
                                          const std::shared_ptr<Outgoing>& outgoing,
                                          const wire::CheckpointFetch& request,
                                          grpc::ServerWriter<wire::CheckpointPart>* writer) {
  const auto give_up = [this, context, &outgoing] {
    if (context->IsCancelled()) return true;
    std::scoped_lock lock(mutex_);
    return stopping_ || outgoing->result.has_value();
  };
  std::map<std::string_view, const wire::CheckpointHave*> have;
  for (const wire::CheckpointHave& one : request.have()) have[one.name()] = &one;

  const CheckpointSource& source = outgoing->source;
  wire::CheckpointPart part;
  wire::CheckpointManifest* manifest = part.mutable_manifest();
  manifest->set_table(source.table.value);
  manifest->set_partition(source.partition.value);
  manifest->set_position_epoch(source.position.epoch.value);
  manifest->set_position_index(source.position.index.value);
  manifest->set_metadata(source.metadata);
  for (const FileInfo& file : outgoing->files) {
    wire::CheckpointFile* out = manifest->add_files();
    out->set_name(file.name);
    out->set_bytes(file.bytes);
    out->set_identity(file.identity);
  }
  if (!writer->Write(part)) return Unavailable("the receiver has gone");
  for (size_t i = 0; i < outgoing->files.size(); ++i) {
    const FileInfo& file = outgoing->files[i];
    const auto found = have.find(file.name);
    uint64_t offset = 0;
    if (found != have.end() && found->second->identity() == file.identity) {
      if (found->second->bytes() == file.bytes) continue;
      offset = std::min(found->second->bytes(), file.bytes);
    }
    RETURN_IF_ERROR(SendFile(outgoing, static_cast<uint32_t>(i), offset, give_up, writer));
  }
  part.Clear();
  part.mutable_end();
  if (!writer->Write(part)) return Unavailable("the receiver has gone");
  return Status::Ok();
}

Status CheckpointService::Impl::SendFile(const std::shared_ptr<Outgoing>& outgoing, uint32_t index,
                                         uint64_t offset, const std::function<bool()>& give_up,
                                         grpc::ServerWriter<wire::CheckpointPart>* writer) {
  const FileInfo& info = outgoing->files[index];
  const std::string path = outgoing->source.directory + "/" + info.name;
  ASSIGN_OR_RETURN(const File file, OpenToRead(path));
  Xxh3Stream hash;
  std::string bytes;
  wire::CheckpointPart part;
  // What the receiver has already counts for the whole file's hash.
  for (uint64_t at = 0; at < offset; at += bytes.size()) {
    if (give_up()) return Unavailable("given up");
    const auto size = static_cast<size_t>(std::min<uint64_t>(options_.chunk_bytes, offset - at));
    RETURN_IF_ERROR(ReadAt(file, path, at, size, &bytes));
    if (bytes.empty()) return Corruption("checkpoint: " + path + " has become shorter");
    hash.Update(bytes);
  }
  uint64_t at = offset;
  do {
    const auto size =
        static_cast<size_t>(std::min<uint64_t>(options_.chunk_bytes, info.bytes - at));
    if (!send_bucket_.Take(size, give_up)) return Unavailable("given up");
    wire::CheckpointChunk* chunk = part.mutable_chunk();
    RETURN_IF_ERROR(ReadAt(file, path, at, size, chunk->mutable_data()));
    if (chunk->data().size() != size) {
      return Corruption("checkpoint: " + path + " has become shorter");
    }
    hash.Update(chunk->data());
    chunk->set_file(index);
    chunk->set_offset(at);
    chunk->set_xxh3(Xxh3(chunk->data()));
    at += size;
    chunk->set_last(at == info.bytes);
    if (chunk->last()) chunk->set_file_xxh3(hash.Digest());
    if (!writer->Write(part)) return Unavailable("the receiver has gone");
    sent_bytes_.Add(size);
    std::scoped_lock lock(mutex_);
    outgoing->heard = Clock::now();
  } while (at < info.bytes);
  return Status::Ok();
}

}  // namespace onggi::checkpoint
