#include "replication/metadata/simulated_store.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "common/check.h"

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

/// Past events kept; older ones are compacted.
constexpr size_t kMaxHistoryEvents = 100'000;

void RunOn(const asio::any_io_executor& executor, std::function<void()> run) {
  if (executor) {
    asio::post(executor, std::move(run));
  } else {
    run();
  }
}

struct Entry {
  std::string value;
  Revision create_revision;
  Revision mod_revision;
  LeaseId lease;
};

class Client;

struct WatchState {
  std::string prefix;
  Revision next;  ///< events from here on are yet to be delivered
  asio::any_io_executor executor;
  MetadataStore::WatchCallback callback;
  std::weak_ptr<Client> client;
  bool ended = false;
  bool scheduled = false;  ///< a delivery is on its way
  bool compacted = false;  ///< nothing more will come
};

class WatchEnd : public WatchHandle {
 public:
  explicit WatchEnd(std::shared_ptr<WatchState> state) : state_(std::move(state)) {}
  ~WatchEnd() override { state_->ended = true; }

 private:
  const std::shared_ptr<WatchState> state_;
};

class Cluster : public SimulatedCluster {
 public:
  Cluster(SimulatedScheduler scheduler, uint64_t seed, SimulatedFaults faults)
      : scheduler_(std::move(scheduler)), random_(seed), faults_(faults) {}

  void SetFaults(SimulatedFaults faults) override { faults_ = faults; }
  void SetDown(bool down) override;
  void Compact(Revision revision) override;
  RangeResult ReadNow(std::string start, std::string end) const override {
    return Read(start, end, 0);
  }
  Result<TransactionResult> CommitNow(const Transaction& transaction) override {
    return Evaluate(transaction);
  }

  RangeResult Read(const std::string& start, const std::string& end, size_t limit) const;
  Result<TransactionResult> Evaluate(const Transaction& transaction);
  LeaseId Grant(milliseconds ttl);
  bool Renew(LeaseId lease);
  void Revoke(LeaseId lease);
  void AddWatch(const std::shared_ptr<WatchState>& watch);
  void Pump(const std::shared_ptr<WatchState>& watch);

  void After(milliseconds delay, std::function<void()> run) { scheduler_(delay, std::move(run)); }
  /// One way of a message.
  milliseconds Delay() { return Draw(faults_.min_delay, faults_.max_delay); }
  milliseconds Draw(milliseconds least, milliseconds most);
  /// True with a chance of `per_thousand`.
  bool Chance(unsigned per_thousand) { return random_() % 1000 < per_thousand; }
  const SimulatedFaults& faults() const { return faults_; }
  bool down() const { return down_; }
  Revision revision() const { return revision_; }

 private:
  struct LeaseRecord {
    milliseconds ttl{};
    uint64_t renewals = 0;
  };

  std::shared_ptr<Cluster> Self() { return std::static_pointer_cast<Cluster>(shared_from_this()); }
  void Apply(const std::vector<Put>& puts, const std::vector<std::string>& deletes);
  void ScheduleExpiry(LeaseId lease);
  void Deliver(const std::shared_ptr<WatchState>& watch);

  const SimulatedScheduler scheduler_;
  std::mt19937_64 random_;
  SimulatedFaults faults_;
  bool down_ = false;
  std::map<std::string, Entry> space_;
  Revision revision_{1};
  std::deque<WatchEvent> history_;
  Revision compacted_;  ///< events through this revision are no longer kept
  std::vector<std::weak_ptr<WatchState>> watches_;
  std::map<LeaseId, LeaseRecord> leases_;
};

/// What the client object and messages on their way share.
class Client : public std::enable_shared_from_this<Client> {
 public:
  Client(std::shared_ptr<Cluster> cluster, size_t max_pending)
      : cluster_(std::move(cluster)), max_pending_(max_pending) {}

  enum class Kind : uint8_t { kRead, kWrite };
  using Fail = std::function<void(Status)>;
  using Reply = std::function<void()>;
  /// What the cluster does with a request; the result is the call that answers it.
  using Act = std::function<Reply(Cluster&)>;

  void Request(Kind kind, Act act, Fail fail);
  void SetCut(bool cut);
  void Close();
  void Crash();
  bool Reaches() const { return !cut_ && !crashed_ && !closed_; }
  bool gone() const { return crashed_ || closed_; }
  Cluster& cluster() { return *cluster_; }

  void AddWatch(std::shared_ptr<WatchState> watch);

 private:
  struct Pending {
    Fail fail;
    bool cut = false;  ///< asked while cut off: it never left
    Kind kind = Kind::kRead;
  };

  void Arrive(uint64_t id, Kind kind, const Act& act);
  void SendReply(uint64_t id, Reply reply);
  void Fails(uint64_t id, Status status) {
    SendReply(id, [fail = pending_.at(id).fail, status = std::move(status)] { fail(status); });
  }

  const std::shared_ptr<Cluster> cluster_;
  const size_t max_pending_;
  bool cut_ = false;
  bool crashed_ = false;
  bool closed_ = false;
  uint64_t last_id_ = 0;
  std::map<uint64_t, Pending> pending_;
  std::vector<std::weak_ptr<WatchState>> watches_;
};

// The cluster.

milliseconds Cluster::Draw(milliseconds least, milliseconds most) {
  if (most <= least) return least;
  const auto span = static_cast<uint64_t>((most - least).count()) + 1;
  return least + milliseconds(static_cast<int64_t>(random_() % span));
}

RangeResult Cluster::Read(const std::string& start, const std::string& end, size_t limit) const {
  RangeResult result;
  result.revision = revision_;
  for (auto it = space_.lower_bound(start); it != space_.end(); ++it) {
    if (!end.empty() && it->first >= end) break;
    if (limit != 0 && result.kvs.size() == limit) {
      result.more = true;
      break;
    }
    const Entry& entry = it->second;
    result.kvs.push_back({it->first, entry.value, entry.create_revision, entry.mod_revision});
  }
  return result;
}

Result<TransactionResult> Cluster::Evaluate(const Transaction& transaction) {
  RETURN_IF_ERROR(CheckLimits(transaction));
  TransactionResult result;
  result.succeeded = true;
  for (const Compare& compare : transaction.compares) {
    const auto it = space_.find(compare.key);
    const Revision actual = it == space_.end() ? Revision() : it->second.mod_revision;
    result.succeeded = result.succeeded && actual == compare.mod_revision;
  }
  if (result.succeeded) {
    for (const Put& put : transaction.puts) {
      if (put.lease != LeaseId() && !leases_.contains(put.lease)) {
        return NotFound("the lease of metadata key " + put.key + " has ended");
      }
    }
    Apply(transaction.puts, transaction.deletes);
  } else {
    for (const Compare& compare : transaction.compares) {
      const auto it = space_.find(compare.key);
      if (it == space_.end()) continue;
      const Entry& entry = it->second;
      result.current.push_back(
          {compare.key, entry.value, entry.create_revision, entry.mod_revision});
    }
  }
  result.revision = revision_;
  return result;
}

void Cluster::Apply(const std::vector<Put>& puts, const std::vector<std::string>& deletes) {
  const Revision revision(revision_.value + 1);
  for (const Put& put : puts) {
    Entry& entry = space_[put.key];
    if (entry.create_revision == Revision()) entry.create_revision = revision;
    entry.mod_revision = revision;
    entry.value = put.value;
    entry.lease = put.lease;
    WatchEvent event;
    event.kv = {put.key, put.value, entry.create_revision, revision};
    history_.push_back(std::move(event));
    revision_ = revision;
  }
  for (const std::string& key : deletes) {
    if (space_.erase(key) == 0) continue;
    WatchEvent event;
    event.type = WatchEvent::Type::kDelete;
    event.kv.key = key;
    event.kv.mod_revision = revision;
    history_.push_back(std::move(event));
    revision_ = revision;
  }
  while (history_.size() > kMaxHistoryEvents) {
    compacted_ = history_.front().kv.mod_revision;
    history_.pop_front();
  }
  std::erase_if(watches_, [](const auto& weak) {
    const auto watch = weak.lock();
    return watch == nullptr || watch->ended || watch->compacted;
  });
  // By value: delivering may add watches.
  for (const auto& weak : std::vector(watches_)) {
    if (const auto watch = weak.lock()) Pump(watch);
  }
}

void Cluster::SetDown(bool down) {
  down_ = down;
  if (down) return;
  for (auto& [id, lease] : leases_) {
    ++lease.renewals;
    ScheduleExpiry(id);
  }
  for (const auto& weak : std::vector(watches_)) {
    if (const auto watch = weak.lock()) Pump(watch);
  }
}

void Cluster::Compact(Revision revision) {
  CHECK(revision <= revision_);
  if (revision.value == 0) return;
  compacted_ = std::max(compacted_, Revision(revision.value - 1));
  while (!history_.empty() && history_.front().kv.mod_revision <= compacted_) history_.pop_front();
}

LeaseId Cluster::Grant(milliseconds ttl) {
  LeaseId id;
  while (id == LeaseId() || leases_.contains(id)) id = LeaseId(random_() >> 1);
  leases_[id].ttl = ttl;
  ScheduleExpiry(id);
  return id;
}

bool Cluster::Renew(LeaseId lease) {
  const auto it = leases_.find(lease);
  if (it == leases_.end()) return false;
  ++it->second.renewals;
  ScheduleExpiry(lease);
  return true;
}

void Cluster::ScheduleExpiry(LeaseId lease) {
  const LeaseRecord& record = leases_.at(lease);
  const std::weak_ptr<Cluster> weak = Self();
  After(record.ttl, [weak, lease, renewals = record.renewals] {
    const auto self = weak.lock();
    if (self == nullptr || self->down_) return;
    const auto it = self->leases_.find(lease);
    if (it != self->leases_.end() && it->second.renewals == renewals) self->Revoke(lease);
  });
}

void Cluster::Revoke(LeaseId lease) {
  if (leases_.erase(lease) == 0) return;
  std::vector<std::string> keys;
  for (const auto& [key, entry] : space_) {
    if (entry.lease == lease) keys.push_back(key);
  }
  Apply({}, keys);
}

void Cluster::AddWatch(const std::shared_ptr<WatchState>& watch) {
  if (watch->next == Revision()) watch->next = Revision(revision_.value + 1);
  watches_.push_back(watch);
  Pump(watch);
}

/// Sees to it that what the watch has not had is on its way.
void Cluster::Pump(const std::shared_ptr<WatchState>& watch) {
  if (watch->scheduled || watch->ended || watch->compacted || watch->next > revision_) return;
  watch->scheduled = true;
  const std::weak_ptr<Cluster> weak = Self();
  After(Delay(), [weak, watch] {
    watch->scheduled = false;
    if (const auto self = weak.lock()) self->Deliver(watch);
  });
}

void Cluster::Deliver(const std::shared_ptr<WatchState>& watch) {
  const auto client = watch->client.lock();
  if (watch->ended || client == nullptr || client->gone() || down_ || !client->Reaches()) return;
  WatchBatch batch;
  batch.revision = revision_;
  if (watch->next <= compacted_) {
    batch.compacted = true;
  } else {
    // The history is in order of revisions.
    const auto from = std::lower_bound(
        history_.begin(), history_.end(), watch->next,
        [](const WatchEvent& event, Revision next) { return event.kv.mod_revision < next; });
    for (auto it = from; it != history_.end(); ++it) {
      if (it->kv.key.starts_with(watch->prefix)) batch.events.push_back(*it);
    }
    // As etcd's progress notifications, now and then.
    const bool progress = Chance(100);
    watch->next = Revision(revision_.value + 1);
    if (batch.events.empty() && !progress) return;
  }
  watch->compacted = batch.compacted;
  RunOn(watch->executor, [watch, batch = std::move(batch)] {
    if (!watch->ended) watch->callback(batch);
  });
}

// A client.

void Client::Request(Kind kind, Act act, Fail fail) {
  if (crashed_) return;
  if (closed_) return fail(Unavailable("the metadata store is closed"));
  if (pending_.size() >= max_pending_) {
    return fail({Code::kResourceExhausted, "too many metadata requests in flight"});
  }
  const uint64_t id = ++last_id_;
  Pending pending;
  pending.fail = std::move(fail);
  pending.cut = cut_;
  pending.kind = kind;
  pending_.emplace(id, std::move(pending));
  const std::weak_ptr<Client> weak = weak_from_this();
  cluster_->After(SimulatedStore::kTimeout, [weak, id] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    const auto it = self->pending_.find(id);
    if (it == self->pending_.end()) return;
    const Pending late = std::move(it->second);
    self->pending_.erase(it);
    const bool known = late.cut || late.kind == Kind::kRead;
    late.fail({known ? Code::kUnavailable : Code::kUnknownOutcome,
               "no answer from the metadata store in time"});
  });
  if (cut_) return;
  // Strong: what was sent arrives, whatever becomes of the sender.
  cluster_->After(cluster_->Delay(), [self = shared_from_this(), id, kind, act = std::move(act)] {
    self->Arrive(id, kind, act);
  });
}

void Client::Arrive(uint64_t id, Kind kind, const Act& act) {
  if (cut_ || cluster_->down()) return;
  const SimulatedFaults& faults = cluster_->faults();
  const auto fails = [&](Code code, const char* why) {
    if (pending_.contains(id)) Fails(id, {code, why});
  };
  if (cluster_->Chance(faults.unavailable)) return fails(Code::kUnavailable, "simulated");
  if (kind == Kind::kWrite) {
    constexpr const char* kWhy = "simulated: the answer was lost";
    if (cluster_->Chance(faults.unknown_done)) {
      act(*cluster_);
      return fails(Code::kUnknownOutcome, kWhy);
    }
    if (cluster_->Chance(faults.unknown_lost)) return fails(Code::kUnknownOutcome, kWhy);
    if (cluster_->Chance(faults.unknown_late)) {
      const milliseconds late = cluster_->Draw(milliseconds(0), faults.max_late);
      // The cluster keeps itself alive through `this` client's copy.
      cluster_->After(cluster_->faults().max_delay + late, [cluster = cluster_, act] {
        if (!cluster->down()) act(*cluster);
      });
      return fails(Code::kUnknownOutcome, kWhy);
    }
  }
  SendReply(id, act(*cluster_));
}

void Client::SendReply(uint64_t id, Reply reply) {
  const std::weak_ptr<Client> weak = weak_from_this();
  cluster_->After(cluster_->Delay(), [weak, id, reply = std::move(reply)] {
    const auto self = weak.lock();
    if (self == nullptr || !self->Reaches() || self->pending_.erase(id) == 0) return;
    reply();
  });
}

void Client::AddWatch(std::shared_ptr<WatchState> watch) {
  watch->client = weak_from_this();
  std::erase_if(watches_, [](const auto& weak) { return weak.expired(); });
  watches_.push_back(watch);
  cluster_->AddWatch(watch);
}

void Client::SetCut(bool cut) {
  cut_ = cut;
  if (cut) return;
  for (const auto& weak : watches_) {
    if (const auto watch = weak.lock()) cluster_->Pump(watch);
  }
}

void Client::Close() {
  if (crashed_ || closed_) return;
  closed_ = true;
  for (const auto& [id, pending] : std::exchange(pending_, {})) {
    const bool known = pending.cut || pending.kind == Kind::kRead;
    pending.fail(
        {known ? Code::kUnavailable : Code::kUnknownOutcome, "the metadata store is closed"});
  }
}

void Client::Crash() {
  crashed_ = true;
  pending_.clear();
}

/// A lease as its client sees it.
struct LeaseState : std::enable_shared_from_this<LeaseState> {
  LeaseId id;
  milliseconds ttl{};
  std::weak_ptr<Client> client;
  asio::any_io_executor executor;
  std::function<void()> lost;
  bool alive = true;
  bool released = false;
  uint64_t sent = 0;   ///< the grant counts as the first
  uint64_t acked = 0;  ///< the newest of those sent that was answered

  bool Runs() const {
    const auto owner = client.lock();
    return alive && owner != nullptr && !owner->gone();
  }
  void Lose() {
    if (!alive) return;
    alive = false;
    if (lost) {
      RunOn(executor, [self = shared_from_this()] {
        if (!self->released) self->lost();
      });
    }
  }
  /// Called as a keep-alive (or the grant) is sent: the lease is sure for `ttl` from now on, if it
  /// is answered.
  void Sent(Cluster& cluster) {
    const uint64_t number = ++sent;
    cluster.After(ttl, [weak = weak_from_this(), number] {
      const auto self = weak.lock();
      if (self == nullptr || !self->Runs() || self->acked > number) return;
      if (self->acked == 0) {
        self->alive = false;  // not granted in time: nobody has the handle
      } else {
        self->Lose();
      }
    });
  }
  void KeepAlive();
};

void LeaseState::KeepAlive() {
  const auto owner = client.lock();
  if (owner == nullptr) return;
  owner->cluster().After(ttl / 3, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr || !self->Runs()) return;
    const auto sender = self->client.lock();
    Cluster& cluster = sender->cluster();
    self->Sent(cluster);
    const uint64_t number = self->sent;
    const auto act = [weak, number, id = self->id](Cluster& at) -> Client::Reply {
      const bool renewed = at.Renew(id);
      return [weak, number, renewed] {
        const auto lease = weak.lock();
        if (lease == nullptr) return;
        if (!renewed) return lease->Lose();
        lease->acked = std::max(lease->acked, number);
      };
    };
    sender->Request(Client::Kind::kRead, act, [](const Status&) {});
    self->KeepAlive();
  });
}

class Lease : public LeaseHandle {
 public:
  explicit Lease(std::shared_ptr<LeaseState> state) : state_(std::move(state)) {}
  ~Lease() override {
    state_->released = true;
    state_->alive = false;
    const auto client = state_->client.lock();
    if (client == nullptr || client->gone()) return;
    const auto act = [id = state_->id](Cluster& cluster) -> Client::Reply {
      cluster.Revoke(id);
      return [] {};
    };
    client->Request(Client::Kind::kRead, act, [](const Status&) {});
  }
  LeaseId id() const override { return state_->id; }
  bool alive() const override { return state_->Runs(); }

 private:
  const std::shared_ptr<LeaseState> state_;
};

class Store : public SimulatedStore {
 public:
  explicit Store(std::shared_ptr<Client> client) : client_(std::move(client)) {}
  ~Store() override { client_->Close(); }

  void AsyncRange(std::string start, std::string end, size_t limit,
                  RangeCallback callback) override {
    const auto act = [start = std::move(start), end = std::move(end), limit,
                      callback](Cluster& cluster) -> Client::Reply {
      return [result = cluster.Read(start, end, limit), callback] { callback(result); };
    };
    client_->Request(Client::Kind::kRead, act, [callback](Status status) { callback(status); });
  }

  void AsyncCommit(Transaction transaction, TransactionCallback callback) override {
    const auto fail = [callback](Status status) { callback(std::move(status)); };
    const auto act = [transaction = std::move(transaction),
                      callback](Cluster& cluster) -> Client::Reply {
      return [result = cluster.Evaluate(transaction), callback] { callback(result); };
    };
    client_->Request(Client::Kind::kWrite, act, fail);
  }

  std::unique_ptr<WatchHandle> Watch(std::string prefix, Revision from,
                                     asio::any_io_executor executor,
                                     WatchCallback callback) override {
    auto watch = std::make_shared<WatchState>();
    watch->prefix = std::move(prefix);
    watch->next = from;
    watch->executor = std::move(executor);
    watch->callback = std::move(callback);
    client_->AddWatch(watch);
    return std::make_unique<WatchEnd>(std::move(watch));
  }

  void AsyncGrantLease(std::chrono::seconds ttl, asio::any_io_executor executor,
                       std::function<void()> lost, LeaseCallback callback) override {
    if (ttl < std::chrono::seconds(1)) {
      return callback(InvalidArgument("a lease of less than a second"));
    }
    auto lease = std::make_shared<LeaseState>();
    lease->ttl = ttl;
    lease->client = client_;
    lease->executor = std::move(executor);
    lease->lost = std::move(lost);
    lease->Sent(client_->cluster());
    const auto act = [lease, callback](Cluster& cluster) -> Client::Reply {
      lease->id = cluster.Grant(lease->ttl);
      return [lease, callback] {
        if (!lease->alive) return callback(Unavailable("the lease was granted too late"));
        lease->acked = std::max<uint64_t>(lease->acked, 1);
        auto handle = std::make_unique<Lease>(lease);
        lease->KeepAlive();
        callback(std::unique_ptr<LeaseHandle>(std::move(handle)));
      };
    };
    // A grant whose answer is lost ends by itself: it may be asked again.
    client_->Request(Client::Kind::kRead, act, [callback](Status status) { callback(status); });
  }

  void AsyncRevokeLease(LeaseId lease, StatusCallback callback) override {
    const auto act = [lease, callback](Cluster& cluster) -> Client::Reply {
      cluster.Revoke(lease);
      return [callback] { callback(Status()); };
    };
    client_->Request(Client::Kind::kRead, act, callback);
  }

  void SetCut(bool cut) override { client_->SetCut(cut); }
  void Crash() override { client_->Crash(); }

 private:
  const std::shared_ptr<Client> client_;
};

}  // namespace

std::shared_ptr<SimulatedCluster> SimulatedCluster::Create(SimulatedScheduler scheduler,
                                                           uint64_t seed, SimulatedFaults faults) {
  return std::make_shared<Cluster>(std::move(scheduler), seed, faults);
}

std::unique_ptr<SimulatedStore> SimulatedStore::Connect(std::shared_ptr<SimulatedCluster> cluster,
                                                        size_t max_pending) {
  auto impl = std::static_pointer_cast<Cluster>(std::move(cluster));
  return std::make_unique<Store>(std::make_shared<Client>(std::move(impl), max_pending));
}

}  // namespace onggi::metadata
