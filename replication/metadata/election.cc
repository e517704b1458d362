#include "replication/metadata/election.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <map>
#include <utility>

#include "common/check.h"
#include "replication/metadata/keys.h"

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLastPause{2000};

/// Whether the same request may succeed later.
bool Passes(Code code) {
  return code == Code::kUnavailable || code == Code::kUnknownOutcome ||
         code == Code::kResourceExhausted || code == Code::kOutOfSpace;
}

/// The candidates of one election, as far as they are known here: a range, then a watch. Lives on
/// its executor; calls `changed` after each change.
class Candidates : public std::enable_shared_from_this<Candidates> {
 public:
  Candidates(MetadataStore& store, asio::any_io_executor executor, std::string prefix,
             std::function<void()> changed)
      : store_(store),
        executor_(std::move(executor)),
        prefix_(std::move(prefix)),
        changed_(std::move(changed)),
        timer_(executor_) {}

  void Start() { Read(); }
  void Stop() {
    stopped_ = true;
    watch_.reset();
    timer_.cancel();
    changed_ = nullptr;
  }

  /// False until the first read.
  bool known() const { return known_; }
  /// What is known is the state at this revision, at least.
  Revision revision() const { return revision_; }
  bool Contains(const std::string& key) const { return all_.contains(key); }

  std::optional<Leader> First() const {
    const auto first = std::ranges::min_element(
        all_, {}, [](const auto& candidate) { return candidate.second.revision; });
    if (first == all_.end()) return std::nullopt;
    return first->second;
  }

 private:
  void Read() {
    auto callback = [weak = weak_from_this(), executor = executor_](Result<RangeResult> result) {
      auto box = std::make_shared<Result<RangeResult>>(std::move(result));
      asio::post(executor, [weak, box] {
        const auto self = weak.lock();
        if (self != nullptr && !self->stopped_) self->OnRead(*box);
      });
    };
    store_.AsyncRange(prefix_, PrefixEnd(prefix_), 0, std::move(callback));
  }

  void OnRead(const Result<RangeResult>& result) {
    if (!result.ok()) {
      timer_.expires_after(pause_);
      pause_ = std::min(2 * pause_, kLastPause);
      timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
        const auto self = weak.lock();
        if (!error && self != nullptr && !self->stopped_) self->Read();
      });
      return;
    }
    pause_ = kFirstPause;
    all_.clear();
    for (const KeyValue& kv : result->kvs) Add(kv);
    revision_ = std::max(revision_, result->revision);
    known_ = true;
    watch_ = store_.Watch(prefix_, Revision(result->revision.value + 1), executor_,
                          [weak = weak_from_this()](const WatchBatch& batch) {
                            const auto self = weak.lock();
                            if (self != nullptr && !self->stopped_) self->OnBatch(batch);
                          });
    changed_();
  }

  void OnBatch(const WatchBatch& batch) {
    if (batch.compacted) return Read();
    for (const WatchEvent& event : batch.events) {
      all_.erase(event.kv.key);
      if (event.type == WatchEvent::Type::kPut) Add(event.kv);
    }
    revision_ = std::max(revision_, batch.revision);
    changed_();
  }

  void Add(const KeyValue& kv) {
    // A candidacy is written once. One that somebody has written over counts no longer, since its
    // fence does not hold.
    if (kv.create_revision != kv.mod_revision) return;
    Leader leader;
    leader.key = kv.key;
    leader.value = kv.value;
    leader.revision = kv.create_revision;
    all_.insert_or_assign(kv.key, std::move(leader));
  }

  MetadataStore& store_;
  const asio::any_io_executor executor_;
  const std::string prefix_;
  std::function<void()> changed_;
  asio::steady_timer timer_;
  milliseconds pause_ = kFirstPause;
  std::unique_ptr<WatchHandle> watch_;
  std::map<std::string, Leader> all_;
  Revision revision_;
  bool known_ = false;
  bool stopped_ = false;
};

asio::awaitable<void> Pause(milliseconds pause) {
  asio::steady_timer timer(co_await asio::this_coro::executor, pause);
  co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace

struct Election::State : std::enable_shared_from_this<State> {
  State(MetadataStore& s, asio::any_io_executor e, std::string p, std::string v,
        std::chrono::seconds t)
      : store(s),
        executor(std::move(e)),
        prefix(std::move(p)),
        value(std::move(v)),
        ttl(t),
        changed(executor) {
    changed.expires_at(asio::steady_timer::time_point::max());
  }

  asio::awaitable<Status> Join(uint64_t term);
  void Check();
  /// The candidacy is over, whoever ended it.
  void Drop() {
    lease.reset();
    key.clear();
    revision = Revision();
    leads = false;
    Notify();
  }
  void Notify() { changed.cancel(); }
  bool Leads() const { return leads && lease != nullptr && lease->alive(); }

  /// Until Notify. Throws when the caller is cancelled.
  asio::awaitable<void> Wait() {
    auto token = asio::as_tuple(asio::use_awaitable);
    co_await changed.async_wait(token);
    const auto cancellation = co_await asio::this_coro::cancellation_state;
    if (cancellation.cancelled() != asio::cancellation_type::none) {
      throw boost::system::system_error(asio::error::operation_aborted);
    }
  }

  MetadataStore& store;
  const asio::any_io_executor executor;
  const std::string prefix;
  const std::string value;
  const std::chrono::seconds ttl;
  asio::steady_timer changed;  ///< cancelled at every change
  std::shared_ptr<Candidates> candidates;
  std::unique_ptr<LeaseHandle> lease;
  std::string key;
  Revision revision;  ///< of the key; 0: not known to be there
  bool leads = false;
  uint64_t leases = 0;  ///< asked for
  uint64_t resigned = 0;
};

/// What the candidates' state means for this one.
void Election::State::Check() {
  if (revision != Revision() && candidates->known() && candidates->revision() >= revision) {
    if (!candidates->Contains(key)) return Drop();  // somebody has deleted or overwritten it
    leads = candidates->First()->key == key;
  }
  Notify();
}

/// One attempt to have a key in the race. Ok: done, or not worth another thought.
asio::awaitable<Status> Election::State::Join(uint64_t term) {
  const auto self = shared_from_this();
  if (lease != nullptr && !lease->alive()) Drop();
  if (lease == nullptr) {
    const std::weak_ptr<State> weak = self;
    std::function<void()> lost = [weak, serial = ++leases] {
      const auto state = weak.lock();
      if (state != nullptr && state->leases == serial) state->Drop();
    };
    Result<std::unique_ptr<LeaseHandle>> granted = co_await store.GrantLease(ttl, std::move(lost));
    if (!granted.ok()) co_return granted.status();
    if (resigned != term) co_return Status();
    lease = std::move(*granted);
    key = prefix + keys::FormatId(lease->id().value);
  }
  Transaction transaction;
  transaction.compares.push_back(Compare::Missing(key));
  metadata::Put put;
  put.key = key;
  put.value = value;
  put.lease = lease->id();
  transaction.puts.push_back(std::move(put));
  const std::string asked = key;
  Result<TransactionResult> result = co_await store.Commit(std::move(transaction));
  if (resigned != term || key != asked) co_return Status();
  if (!result.ok()) {
    if (result.status().code() != Code::kNotFound) co_return result.status();
    Drop();  // the lease has ended
    co_return Unavailable(result.status().message());
  }
  if (!result->succeeded && result->current.empty()) co_return Internal("a compare without a key");
  // Not succeeded: an earlier attempt did, whose answer was lost. Nobody else uses this key.
  revision = result->succeeded ? result->revision : result->current.front().mod_revision;
  Check();
  co_return Status();
}

Election::Election(MetadataStore& store, asio::any_io_executor executor, std::string prefix,
                   std::string value, std::chrono::seconds ttl)
    : state_(std::make_shared<State>(store, executor, prefix, std::move(value), ttl)) {
  CHECK(prefix.ends_with('/'));
  const std::weak_ptr<State> weak = state_;
  state_->candidates =
      std::make_shared<Candidates>(store, std::move(executor), std::move(prefix), [weak] {
        if (const auto state = weak.lock()) state->Check();
      });
  state_->candidates->Start();
}

Election::~Election() {
  ++state_->resigned;
  state_->candidates->Stop();
  state_->Drop();
}

asio::awaitable<Result<Leader>> Election::Campaign() {
  const auto state = state_;
  const uint64_t term = state->resigned;
  milliseconds pause = kFirstPause;
  while (!state->Leads()) {
    if (state->revision == Revision() || state->lease == nullptr || !state->lease->alive()) {
      const Status status = co_await state->Join(term);
      if (!status.ok()) {
        if (!Passes(status.code())) co_return status;
        co_await Pause(pause);
        pause = std::min(2 * pause, kLastPause);
      } else {
        pause = kFirstPause;
      }
    } else {
      co_await state->Wait();
    }
    if (state->resigned != term) co_return Unavailable("resigned from the election");
  }
  Leader leader;
  leader.key = state->key;
  leader.value = state->value;
  leader.revision = state->revision;
  co_return leader;
}

asio::awaitable<void> Election::Lost() {
  const auto state = state_;
  while (state->Leads()) co_await state->Wait();
}

std::optional<Leader> Election::leadership() const {
  if (!state_->Leads()) return std::nullopt;
  Leader leader;
  leader.key = state_->key;
  leader.value = state_->value;
  leader.revision = state_->revision;
  return leader;
}

asio::awaitable<Status> Election::Resign() {
  const auto state = state_;
  ++state->resigned;
  const std::unique_ptr<LeaseHandle> lease = std::move(state->lease);
  state->Drop();
  if (lease == nullptr) co_return Status();
  co_return co_await state->store.RevokeLease(lease->id());
}

struct LeaderObserver::State : std::enable_shared_from_this<State> {
  std::function<void(const std::optional<Leader>&)> callback;
  std::shared_ptr<Candidates> candidates;
  std::optional<Leader> last;
  bool told = false;

  void Check() {
    std::optional<Leader> leader = candidates->First();
    if (told && leader == last) return;
    told = true;
    last = std::move(leader);
    callback(last);
  }
};

LeaderObserver::LeaderObserver(MetadataStore& store, asio::any_io_executor executor,
                               std::string prefix,
                               std::function<void(const std::optional<Leader>&)> callback)
    : state_(std::make_shared<State>()) {
  CHECK(prefix.ends_with('/'));
  state_->callback = std::move(callback);
  const std::weak_ptr<State> weak = state_;
  state_->candidates =
      std::make_shared<Candidates>(store, std::move(executor), std::move(prefix), [weak] {
        if (const auto state = weak.lock()) state->Check();
      });
  state_->candidates->Start();
}

LeaderObserver::~LeaderObserver() { state_->candidates->Stop(); }

}  // namespace onggi::metadata
