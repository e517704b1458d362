#include "replication/metadata/etcd_watch.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "common/log.h"
#include "replication/metadata/etcd_stream.h"

namespace onggi::metadata::etcd {

using etcdserverpb::WatchRequest;
using etcdserverpb::WatchResponse;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kFirstPause{20};
constexpr milliseconds kLastPause{1000};
constexpr milliseconds kNoEndpointPause{20};
constexpr milliseconds kRefusedPause{200};
/// A stream is asked for progress after so much silence, and left if it has said nothing at all.
constexpr milliseconds kQuiet{1000};
constexpr milliseconds kMute{3000};

Revision ToRevision(int64_t revision) { return Revision(static_cast<uint64_t>(revision)); }

}  // namespace

/// Asks its member besides which version of etcd it is.
class WatchHub::Stream final : public etcd::Stream<WatchRequest, WatchResponse> {
 public:
  Stream(WatchHub* hub, Client* client, Endpoint* endpoint)
      : etcd::Stream<WatchRequest, WatchResponse>(client, endpoint), hub_(hub) {}

  void Start() {
    Begin([this](auto* context, auto* queue, auto* tag) {
      return endpoint()->watch->AsyncWatch(context, queue, tag);
    });
    AddOperation();
    client()->Prepare(&version_context_);
    version_context_.set_deadline(Loop::Deadline(client()->options().request_timeout));
    version_reader_ =
        endpoint()->maintenance->AsyncStatus(&version_context_, {}, client()->loop().queue());
    version_reader_->Finish(&version_, &version_status_, &versioned_);
  }

  void Detach() override {
    etcd::Stream<WatchRequest, WatchResponse>::Detach();
    version_context_.TryCancel();
  }

  SteadyTime last_message() const { return last_message_; }
  bool mute() const { return mute_; }
  /// Whether the answer to a progress request can be believed.
  bool HasProgress() const {
    return version_known_ && member_ == version_.header().member_id() &&
           HasTrueProgress(version_.version());
  }

 private:
  void OnMessage(const WatchResponse& message) override {
    mute_ = false;
    last_message_ = Loop::Clock::now();
    member_ = message.header().member_id();
    client()->SawRevision(message.header());
    hub_->OnMessage(this, message);
  }
  void OnEnd(const grpc::Status& status) override { hub_->OnEnd(this, status); }

  void OnVersion(bool /*ok*/) {
    version_known_ = version_status_.ok();
    Release();
  }

  WatchHub* const hub_;
  bool mute_ = true;
  SteadyTime last_message_ = Loop::Clock::now();
  uint64_t member_ = 0;

  grpc::ClientContext version_context_;
  etcdserverpb::StatusResponse version_;
  grpc::Status version_status_;
  bool version_known_ = false;
  std::unique_ptr<grpc::ClientAsyncResponseReader<etcdserverpb::StatusResponse>> version_reader_;
  MemberTag<Stream, &Stream::OnVersion> versioned_{this};
};

WatchHub::WatchHub(Client* client, std::shared_ptr<Poster> poster)
    : client_(client), poster_(std::move(poster)) {
  client_->AddListener(this);
}

WatchHub::~WatchHub() = default;

void WatchHub::Add(std::shared_ptr<WatchState> watch) {
  if (closed_ || watch->ended) return;
  if (watches_.empty() && !opened_once_) Tick();
  watches_.insert(watch);
  client_->metrics().watches->Add(1);
  Create(watch);
  Open();
}

void WatchHub::Remove(const std::shared_ptr<WatchState>& watch) {
  if (watches_.erase(watch) == 0) return;
  client_->metrics().watches->Add(-1);
  Leave(watch);
}

void WatchHub::Resume(const std::shared_ptr<WatchState>& watch) {
  if (watches_.contains(watch) && watch->wire_id == 0) Create(watch);
}

void WatchHub::Open() {
  if (closed_ || opening_ || stream_ != nullptr || watches_.empty()) return;
  Endpoint* const endpoint = client_->Authenticated() ? client_->Pick(avoid_) : nullptr;
  if (endpoint == nullptr) {
    pause_ = std::max(pause_, kNoEndpointPause);
    return OpenLater();
  }
  if (std::exchange(opened_once_, true)) client_->metrics().resumed->Add();
  stream_ = std::make_shared<Stream>(this, client_, endpoint);
  stream_->Start();
  for (const auto& watch : watches_) Create(watch);
}

void WatchHub::OpenLater() {
  if (opening_ || closed_) return;
  opening_ = true;
  client_->loop().After(pause_, [this] {
    opening_ = false;
    Open();
  });
}

void WatchHub::Create(const std::shared_ptr<WatchState>& watch) {
  if (stream_ == nullptr || watch->paused || watch->ended) return;
  watch->wire_id = ++last_wire_id_;
  watch->created = false;
  watch->asked_progress = false;
  watch->held.clear();
  by_wire_id_.emplace(watch->wire_id, watch);
  WatchRequest request;
  etcdserverpb::WatchCreateRequest& create = *request.mutable_create_request();
  create.set_key(watch->key.empty() ? std::string(1, '\0') : watch->key);
  create.set_range_end(watch->end.empty() ? std::string(1, '\0') : watch->end);
  create.set_start_revision(static_cast<int64_t>(std::max<uint64_t>(watch->next.value, 2) - 1));
  create.set_progress_notify(true);
  create.set_fragment(true);
  create.set_watch_id(watch->wire_id);
  asked_.push_back(watch->wire_id);
  stream_->Write(std::move(request));
}

/// Takes the watch off the stream.
void WatchHub::Leave(const std::shared_ptr<WatchState>& watch) {
  watch->held.clear();
  if (watch->wire_id == 0) return;
  by_wire_id_.erase(watch->wire_id);
  if (stream_ != nullptr) {
    WatchRequest request;
    request.mutable_cancel_request()->set_watch_id(watch->wire_id);
    stream_->Write(std::move(request));
  }
  watch->wire_id = 0;
}

void WatchHub::OnMessage(Stream* stream, const WatchResponse& response) {
  if (response.watch_id() < 0 && !response.created() && !response.canceled()) {
    for (const auto& watch : watches_) {
      if (!std::exchange(watch->asked_progress, false) || !stream->HasProgress()) continue;
      OnProgress(watch, ToRevision(response.header().revision()));
    }
    return;
  }
  int64_t wire_id = response.watch_id();
  if (response.created()) {
    // Answers to creations come in their order. A refusal may not say whose it is.
    if (wire_id < 0 && !asked_.empty()) wire_id = asked_.front();
    while (!asked_.empty() && asked_.front() <= wire_id) asked_.pop_front();
  }
  const auto it = by_wire_id_.find(wire_id);
  if (it == by_wire_id_.end()) return;  // given up meanwhile
  const std::shared_ptr<WatchState> watch = it->second;
  if (response.canceled()) return OnCanceled(watch, response);
  if (response.created()) {
    watch->created = true;
    pause_ = milliseconds(0);
    avoid_ = nullptr;
    return;
  }
  if (response.events_size() > 0 || !watch->held.empty()) return OnEvents(watch, response);
  OnProgress(watch, ToRevision(response.header().revision()));
}

void WatchHub::OnProgress(const std::shared_ptr<WatchState>& watch, Revision revision) {
  if (revision < watch->next || !watch->held.empty()) return;
  watch->next = Revision(revision.value + 1);
  WatchBatch batch;
  batch.revision = revision;
  Deliver(watch, std::move(batch));
}

void WatchHub::OnEvents(const std::shared_ptr<WatchState>& watch, const WatchResponse& response) {
  const size_t prefix = client_->options().key_prefix.size();
  std::vector<WatchEvent> events = std::exchange(watch->held, {});
  for (const mvccpb::Event& from : response.events()) {
    const mvccpb::KeyValue& kv = from.kv();
    if (ToRevision(kv.mod_revision()) < watch->next || kv.key().size() < prefix) continue;
    WatchEvent event;
    event.kv.key = kv.key().substr(prefix);
    event.kv.mod_revision = ToRevision(kv.mod_revision());
    if (from.type() == mvccpb::Event::DELETE) {
      event.type = WatchEvent::Type::kDelete;
    } else {
      event.kv.value = kv.value();
      event.kv.create_revision = ToRevision(kv.create_revision());
    }
    events.push_back(std::move(event));
  }
  if (events.empty()) return;
  if (response.fragment()) {
    // The last revision may go on in the next fragment.
    const Revision last = events.back().kv.mod_revision;
    const auto cut = std::ranges::find_if(
        events, [last](const WatchEvent& event) { return event.kv.mod_revision == last; });
    watch->held.assign(std::make_move_iterator(cut), std::make_move_iterator(events.end()));
    events.erase(cut, events.end());
    if (events.empty()) return;
  }
  WatchBatch batch;
  batch.revision = events.back().kv.mod_revision;
  batch.events = std::move(events);
  watch->next = Revision(batch.revision.value + 1);
  Deliver(watch, std::move(batch));
}

void WatchHub::OnCanceled(const std::shared_ptr<WatchState>& watch, const WatchResponse& response) {
  by_wire_id_.erase(watch->wire_id);
  watch->wire_id = 0;
  if (response.compact_revision() != 0) {
    client_->metrics().compacted->Add();
    Remove(watch);
    WatchBatch batch;
    batch.revision = ToRevision(response.header().revision());
    batch.compacted = true;
    return Deliver(watch, std::move(batch));
  }
  static log::RateLimit limit(std::chrono::seconds(10));
  if (const uint64_t times = limit.Allow()) {
    log::Warn("etcd refused a watch", "key", watch->key, "error", response.cancel_reason(), "times",
              times);
  }
  if (client_->uses_token()) {
    // What etcd says for an expired token. The token is the stream's.
    client_->RenewToken();
    Detach();
    pause_ = std::clamp(2 * pause_, kRefusedPause, kLastPause);
    return OpenLater();
  }
  client_->loop().After(kLastPause, [this, watch] {
    if (!closed_ && watches_.contains(watch) && watch->wire_id == 0) Create(watch);
  });
}

void WatchHub::Deliver(const std::shared_ptr<WatchState>& watch, WatchBatch batch) {
  if (watch->ended) return;
  size_t bytes = sizeof(WatchBatch);
  for (const WatchEvent& event : batch.events) {
    bytes += sizeof(WatchEvent) + event.kv.key.size() + event.kv.value.size();
  }
  const size_t limit = client_->options().max_watch_bytes;
  if (watch->queued + bytes > limit && !batch.compacted) {
    // Before the batch is posted: running it is what resumes the watch.
    watch->paused = true;
    Leave(watch);
  }
  watch->queued += bytes;
  boost::asio::post(watch->executor,
                    [this, watch, bytes, limit, poster = poster_, batch = std::move(batch)] {
                      if (!watch->ended) watch->callback(batch);
                      const size_t left = watch->queued.fetch_sub(bytes) - bytes;
                      if (left <= limit / 2 && watch->paused.exchange(false)) {
                        poster->Post([this, watch] { Resume(watch); });
                      }
                    });
}

void WatchHub::Detach() {
  if (stream_ == nullptr) return;
  avoid_ = stream_->endpoint();
  std::exchange(stream_, nullptr)->Detach();
  by_wire_id_.clear();
  asked_.clear();
  for (const auto& watch : watches_) {
    watch->wire_id = 0;
    watch->held.clear();
    watch->asked_progress = false;
  }
}

void WatchHub::OnEnd(Stream* stream, const grpc::Status& status) {
  if (closed_) return;
  const Failure failure = Classify(status);
  log::Debug("etcd watch stream ended", "endpoint", stream->endpoint()->address, "error",
             status.error_message());
  if (failure.leave) client_->Blame(stream->endpoint(), status.error_message());
  client_->RenewToken(failure);
  Detach();
  OpenLater();
  pause_ = pause_.count() == 0 ? kFirstPause : std::min(2 * pause_, kLastPause);
}

void WatchHub::OnEndpointLost(Endpoint* endpoint) {
  if (closed_ || stream_ == nullptr || stream_->endpoint() != endpoint) return;
  Detach();
  Open();
}

void WatchHub::Tick() {
  if (closed_) return;
  const SteadyTime now = Loop::Clock::now();
  if (stream_ != nullptr && !by_wire_id_.empty() && now - stream_->last_message() >= kQuiet) {
    if (stream_->mute() && now - stream_->last_message() >= kMute) {
      client_->Blame(stream_->endpoint(), "a mute watch stream");
      Detach();
      Open();
    } else if (stream_->HasProgress()) {
      WatchRequest request;
      request.mutable_progress_request();
      stream_->Write(std::move(request));
      for (const auto& watch : watches_) watch->asked_progress = watch->created;
    }
  }
  client_->loop().After(kQuiet / 2, [this] { Tick(); });
}

void WatchHub::Close() {
  closed_ = true;
  Detach();
  client_->metrics().watches->Add(-static_cast<int64_t>(watches_.size()));
  watches_.clear();
}

}  // namespace onggi::metadata::etcd
