#include "replication/metadata/embedded_store.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <variant>

#include "common/rocksdb_log.h"
#include "replication/metadata/embedded_space.h"

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;

Status Closed() { return Unavailable("the metadata store is closed"); }

/// One watch: its executor runs batches in order; `ended` is read there.
struct WatchState {
  std::string prefix;
  Revision from;
  asio::any_io_executor executor;
  MetadataStore::WatchCallback callback;
  std::atomic<bool> ended{false};
};

class Handle : public WatchHandle {
 public:
  explicit Handle(std::shared_ptr<WatchState> state) : state_(std::move(state)) {}
  ~Handle() override { state_->ended = true; }

 private:
  const std::shared_ptr<WatchState> state_;
};

struct RangeRequest {
  std::string start;
  std::string end;
  size_t limit = 0;
  MetadataStore::RangeCallback callback;
};
struct CommitRequest {
  Transaction transaction;
  MetadataStore::TransactionCallback callback;
};
struct WatchRequest {
  std::shared_ptr<WatchState> state;
  Revision from;
};

/// What a lease's handle and the store share.
struct LeaseState {
  LeaseId id;
  asio::any_io_executor executor;
  std::function<void()> lost;
  std::atomic<bool> alive{true};
  std::atomic<bool> released{false};  ///< the handle is gone
};
struct GrantRequest {
  std::shared_ptr<LeaseState> state;
  MetadataStore::LeaseCallback callback;
};
struct RevokeRequest {
  LeaseId lease;
  MetadataStore::StatusCallback callback;  ///< empty: the handle is gone
};
using Request =
    std::variant<RangeRequest, CommitRequest, WatchRequest, GrantRequest, RevokeRequest>;

class Store;

/// How a lease's handle finds the store, for as long as that is open.
struct Link {
  std::mutex mutex;
  Store* store = nullptr;  // guarded by mutex
};

class Lease : public LeaseHandle {
 public:
  Lease(std::shared_ptr<LeaseState> state, std::shared_ptr<Link> link)
      : state_(std::move(state)), link_(std::move(link)) {}
  ~Lease() override;
  LeaseId id() const override { return state_->id; }
  bool alive() const override { return state_->alive; }

 private:
  const std::shared_ptr<LeaseState> state_;
  const std::shared_ptr<Link> link_;
};

class Store : public EmbeddedStore {
 public:
  explicit Store(EmbeddedOptions options) : options_(std::move(options)) { link_->store = this; }
  ~Store() override { Close(); }

  Status OpenDatabase();
  void Start() {
    thread_ = std::thread([this] { Run(); });
  }
  void Close() override;

  void AsyncRange(std::string start, std::string end, size_t limit,
                  RangeCallback callback) override {
    RangeRequest request;
    request.start = std::move(start);
    request.end = std::move(end);
    request.limit = limit;
    request.callback = std::move(callback);
    Submit(std::move(request));
  }

  void AsyncCommit(Transaction transaction, TransactionCallback callback) override {
    CommitRequest request;
    request.transaction = std::move(transaction);
    request.callback = std::move(callback);
    Submit(std::move(request));
  }

  std::unique_ptr<WatchHandle> Watch(std::string prefix, Revision from,
                                     asio::any_io_executor executor,
                                     WatchCallback callback) override {
    auto state = std::make_shared<WatchState>();
    state->prefix = std::move(prefix);
    state->from = from;
    state->executor = std::move(executor);
    state->callback = std::move(callback);
    WatchRequest request;
    request.state = state;
    request.from = from;
    Submit(std::move(request));
    return std::make_unique<Handle>(std::move(state));
  }

  void AsyncGrantLease(std::chrono::seconds ttl, asio::any_io_executor executor,
                       std::function<void()> lost, LeaseCallback callback) override {
    if (ttl < std::chrono::seconds(1)) {
      return callback(InvalidArgument("a lease of less than a second"));
    }
    GrantRequest request;
    request.state = std::make_shared<LeaseState>();
    request.state->executor = std::move(executor);
    request.state->lost = std::move(lost);
    request.callback = std::move(callback);
    Submit(std::move(request));
  }

  void AsyncRevokeLease(LeaseId lease, StatusCallback callback) override {
    RevokeRequest request;
    request.lease = lease;
    request.callback = std::move(callback);
    Submit(std::move(request));
  }

  void Submit(Request request);

 private:
  struct Pending {
    TransactionCallback callback;
    Result<TransactionResult> result;
  };

  static void Answer(Request& request, const Status& status);
  void Run();
  void Serve(std::deque<Request>* requests);
  void Serve(RangeRequest& request);
  void Serve(WatchRequest& request);
  void Serve(GrantRequest& request);
  void Serve(RevokeRequest& request);
  Result<TransactionResult> Evaluate(const Transaction& transaction);
  void Apply(const std::vector<Put>& puts, const std::vector<std::string>& deletes);
  void DeleteKeysOf(LeaseId lease, StatusCallback callback);
  Status Write();
  Status Recover();
  Status CheckSpace() const;
  void FinishCommits();
  void Fail(const Status& status);
  void Undo();
  void Deliver();
  static void Post(const std::shared_ptr<WatchState>& watch, WatchBatch batch);
  Status Load();

  const EmbeddedOptions options_;
  std::unique_ptr<rocksdb::DB> db_;
  std::thread thread_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Request> queue_;
  bool closed_ = false;

  // The store's thread's own. The space runs ahead of the disk by the commits in `commits_`, whose
  // undo is `undo_`; nobody is answered from it before the write.
  EmbeddedSpace space_;
  Revision revision_;
  rocksdb::WriteBatch batch_;
  std::deque<Pending> commits_;
  std::vector<std::pair<std::string, std::optional<EmbeddedValue>>> undo_;
  Revision revision_before_;
  Status broken_;        ///< why the last write failed; Recover comes before anything else
  bool failed_ = false;  ///< for good
  std::deque<WatchEvent> fresh_;
  std::deque<WatchEvent> history_;
  size_t history_bytes_ = 0;
  Revision compacted_;  ///< events through this revision are no longer kept
  std::vector<std::shared_ptr<WatchState>> watches_;
  std::map<LeaseId, std::shared_ptr<LeaseState>> leases_;
  std::set<LeaseId> ended_;  ///< their keys could not be deleted yet
  std::mt19937_64 random_{std::random_device{}()};

  const std::shared_ptr<Link> link_ = std::make_shared<Link>();
};

Lease::~Lease() {
  state_->released = true;
  state_->alive = false;
  RevokeRequest request;
  request.lease = state_->id;
  const std::lock_guard lock(link_->mutex);
  if (link_->store != nullptr) link_->store->Submit(std::move(request));
}

Status Store::OpenDatabase() {
  rocksdb::Options options = EmbeddedRocksOptions();
  options.create_if_missing = options_.create;
  options.info_log = std::make_shared<rocks::Log>(options_.directory);
  if (options_.env != nullptr) options.env = options_.env;
  if (options_.create) {  // or RocksDB complains that it cannot read it
    std::error_code error;
    std::filesystem::create_directories(options_.directory, error);
    if (error) return IoError("mkdir", options_.directory, error.value());
  }
  rocksdb::DB* db = nullptr;
  RETURN_IF_ERROR(
      FromRocks(rocksdb::DB::Open(options, options_.directory, &db), options_.directory));
  db_.reset(db);
  return Load();
}

Status Store::Load() {
  space_.clear();
  revision_ = Revision();
  ASSIGN_OR_RETURN(const bool formatted,
                   ReadSpace(db_.get(), options_.directory, &space_, &revision_));
  compacted_ = revision_;
  history_.clear();
  history_bytes_ = 0;
  // Leases end with the process that granted them.
  rocksdb::WriteBatch batch;
  if (!formatted) EncodeFormat(&batch);
  for (auto it = space_.begin(); it != space_.end();) {
    const LeaseId lease = it->second.lease;
    if (lease == LeaseId() || leases_.contains(lease)) {
      ++it;
      continue;
    }
    EncodeDelete(&batch, it->first);
    it = space_.erase(it);
  }
  if (batch.Count() == 0) return {};
  if (formatted) {
    revision_ = Revision(revision_.value + 1);
    compacted_ = revision_;
    EncodeRevision(&batch, revision_);
  }
  rocksdb::WriteOptions write;
  write.sync = true;
  return FromRocks(db_->Write(write, &batch), options_.directory);
}

void Store::Close() {
  {
    const std::lock_guard lock(link_->mutex);
    link_->store = nullptr;
  }
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Store::Submit(Request request) {
  Status refused = Closed();
  {
    std::lock_guard lock(mutex_);
    const auto* revoke = std::get_if<RevokeRequest>(&request);
    const bool always =
        std::holds_alternative<WatchRequest>(request) || (revoke != nullptr && !revoke->callback);
    if (!closed_ && (always || queue_.size() < options_.max_pending)) {
      queue_.push_back(std::move(request));
      wake_.notify_one();
      return;
    }
    if (!closed_) refused = {Code::kResourceExhausted, "too many metadata requests in flight"};
  }
  Answer(request, refused);
}

void Store::Answer(Request& request, const Status& status) {
  if (auto* range = std::get_if<RangeRequest>(&request)) range->callback(status);
  if (auto* commit = std::get_if<CommitRequest>(&request)) commit->callback(status);
  if (auto* grant = std::get_if<GrantRequest>(&request)) grant->callback(status);
  if (auto* revoke = std::get_if<RevokeRequest>(&request)) {
    if (revoke->callback) revoke->callback(status);
  }
}

void Store::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto woken = [&] { return closed_ || !queue_.empty(); };
    if (ended_.empty()) {
      wake_.wait(lock, woken);
    } else {
      wake_.wait_for(lock, std::chrono::seconds(1), woken);
    }
    if (closed_ && queue_.empty()) break;
    std::deque<Request> requests = std::exchange(queue_, {});
    lock.unlock();
    Serve(&requests);
    lock.lock();
  }
  lock.unlock();
  watches_.clear();
  for (const auto& [id, lease] : leases_) lease->alive = false;
}

/// Serves what has come in: commits up to the next read share one synced write.
void Store::Serve(std::deque<Request>* requests) {
  for (const LeaseId lease : std::exchange(ended_, {})) DeleteKeysOf(lease, nullptr);
  for (Request& request : *requests) {
    if (auto* commit = std::get_if<CommitRequest>(&request)) {
      Result<TransactionResult> result = Evaluate(commit->transaction);
      commits_.push_back({std::move(commit->callback), std::move(result)});
      continue;
    }
    if (auto* revoke = std::get_if<RevokeRequest>(&request)) {
      Serve(*revoke);
      continue;
    }
    FinishCommits();
    if (auto* range = std::get_if<RangeRequest>(&request)) Serve(*range);
    if (auto* watch = std::get_if<WatchRequest>(&request)) Serve(*watch);
    if (auto* grant = std::get_if<GrantRequest>(&request)) Serve(*grant);
  }
  FinishCommits();
}

void Store::Serve(RangeRequest& request) {
  if (Status status = Recover(); !status.ok()) return request.callback(status);
  RangeResult result;
  result.revision = revision_;
  for (auto it = space_.lower_bound(request.start); it != space_.end(); ++it) {
    if (!request.end.empty() && it->first >= request.end) break;
    if (request.limit != 0 && result.kvs.size() == request.limit) {
      result.more = true;
      break;
    }
    result.kvs.push_back(ToKeyValue(it->first, it->second));
  }
  request.callback(std::move(result));
}

void Store::Serve(WatchRequest& request) {
  WatchState& watch = *request.state;
  WatchBatch batch;
  batch.revision = revision_;
  if (request.from != Revision() && request.from <= compacted_) {
    batch.compacted = true;
    return Post(request.state, std::move(batch));
  }
  if (request.from != Revision()) {
    for (const WatchEvent& event : history_) {
      if (event.kv.mod_revision >= request.from && event.kv.key.starts_with(watch.prefix))
        batch.events.push_back(event);
    }
    if (!batch.events.empty()) Post(request.state, std::move(batch));
  }
  watches_.push_back(std::move(request.state));
}

void Store::Serve(GrantRequest& request) {
  // As etcd's: at random, so that they are never used again.
  do request.state->id = LeaseId(random_() >> 1);
  while (request.state->id == LeaseId() || leases_.contains(request.state->id));
  leases_.emplace(request.state->id, request.state);
  request.callback(std::unique_ptr<LeaseHandle>(new Lease(request.state, link_)));
}

void Store::Serve(RevokeRequest& request) {
  const auto it = leases_.find(request.lease);
  if (it == leases_.end()) {
    if (request.callback) {
      FinishCommits();
      request.callback(Status());
    }
    return;
  }
  const std::shared_ptr<LeaseState> lease = std::move(it->second);
  leases_.erase(it);
  if (lease->alive.exchange(false) && lease->lost) {
    asio::post(lease->executor, [lease] {
      if (!lease->released) lease->lost();
    });
  }
  DeleteKeysOf(request.lease, std::move(request.callback));
}

/// As a transaction of any size. What fails is tried again: nothing else would delete the keys.
void Store::DeleteKeysOf(LeaseId lease, StatusCallback callback) {
  Result<TransactionResult> result = TransactionResult();
  if (Status status = Recover(); !status.ok()) {
    result = status;
  } else {
    std::vector<std::string> deletes;
    for (const auto& [key, value] : space_) {
      if (value.lease == lease) deletes.push_back(key);
    }
    Apply({}, deletes);
  }
  const auto done = [this, lease,
                     callback = std::move(callback)](const Result<TransactionResult>& outcome) {
    if (!outcome.ok()) ended_.insert(lease);
    if (callback) callback(outcome.status());
  };
  commits_.push_back({done, std::move(result)});
}

Result<TransactionResult> Store::Evaluate(const Transaction& transaction) {
  RETURN_IF_ERROR(CheckLimits(transaction));
  RETURN_IF_ERROR(Recover());
  TransactionResult result;
  result.succeeded = true;
  for (const Compare& compare : transaction.compares) {
    const auto it = space_.find(compare.key);
    const Revision actual = it == space_.end() ? Revision() : it->second.mod_revision;
    result.succeeded = result.succeeded && actual == compare.mod_revision;
  }
  if (!result.succeeded) {
    for (const Compare& compare : transaction.compares) {
      if (const auto it = space_.find(compare.key); it != space_.end())
        result.current.push_back(ToKeyValue(it->first, it->second));
    }
    result.revision = revision_;
    return result;
  }
  for (const Put& put : transaction.puts) {
    if (put.lease != LeaseId() && !leases_.contains(put.lease)) {
      return NotFound("the lease of metadata key " + put.key + " has ended");
    }
  }
  Apply(transaction.puts, transaction.deletes);
  result.revision = revision_;
  return result;
}

/// At the next revision, which is taken only if anything changes.
void Store::Apply(const std::vector<Put>& puts, const std::vector<std::string>& deletes) {
  if (undo_.empty()) revision_before_ = revision_;
  const Revision revision(revision_.value + 1);
  for (const Put& put : puts) {
    const auto it = space_.find(put.key);
    undo_.emplace_back(
        put.key, it == space_.end() ? std::nullopt : std::optional<EmbeddedValue>(it->second));
    EmbeddedValue value;
    value.value = put.value;
    value.create_revision = it == space_.end() ? revision : it->second.create_revision;
    value.mod_revision = revision;
    value.lease = put.lease;
    EncodePut(&batch_, put.key, value);
    fresh_.push_back({WatchEvent::Type::kPut, ToKeyValue(put.key, value)});
    space_.insert_or_assign(put.key, std::move(value));
    revision_ = revision;
  }
  for (const std::string& key : deletes) {
    const auto it = space_.find(key);
    if (it == space_.end()) continue;
    undo_.emplace_back(key, std::move(it->second));
    space_.erase(it);
    EncodeDelete(&batch_, key);
    WatchEvent event;
    event.type = WatchEvent::Type::kDelete;
    event.kv.key = key;
    event.kv.mod_revision = revision;
    fresh_.push_back(std::move(event));
    revision_ = revision;
  }
}

Status Store::Write() {
  if (batch_.Count() == 0) return {};
  EncodeRevision(&batch_, revision_);
  rocksdb::WriteOptions write;
  write.sync = true;
  return FromRocks(db_->Write(write, &batch_), options_.directory);
}

/// After a failed write: nothing is answered until RocksDB has left the log behind in which that
/// write may stand whole, lest it comes back after a crash; then the disk is the truth.
Status Store::Recover() {
  if (broken_.ok()) return {};
  if (failed_) return Unavailable(broken_.message());
  Status status = FromRocks(db_->Resume(), options_.directory);
  if (status.ok()) status = Load();
  if (status.ok()) {
    broken_ = Status();
    // Watchers may have missed what that write did.
    for (const auto& watch : std::exchange(watches_, {})) {
      WatchBatch batch;
      batch.revision = revision_;
      batch.compacted = true;
      Post(watch, std::move(batch));
    }
    return {};
  }
  if (status.code() == Code::kIoError || status.code() == Code::kCorruption) Fail(status);
  return status.code() == Code::kOutOfSpace ? status : Unavailable(status.message());
}

/// Whether there is room for a write, so that a full disk is noticed before anything is promised.
Status Store::CheckSpace() const {
  struct statvfs info {};
  if (::statvfs(options_.directory.c_str(), &info) != 0)
    return IoError("statvfs", options_.directory, errno);
  if (static_cast<uint64_t>(info.f_bavail) * info.f_frsize >= options_.reserve_bytes) return {};
  return {Code::kOutOfSpace, options_.directory + ": the disk is below its reserve of free space"};
}

void Store::Fail(const Status& status) {
  failed_ = true;
  if (options_.on_fatal) {
    options_.on_fatal(status);
    return;
  }
  std::fprintf(stderr, "onggi: the metadata cannot be written: %s\n", status.ToString().c_str());
  std::fflush(stderr);
  std::abort();
}

void Store::FinishCommits() {
  if (commits_.empty()) return;
  const bool writes = batch_.Count() > 0;
  Status status = writes ? CheckSpace() : Status();
  if (status.ok() && writes) {
    status = Write();
    if (!status.ok()) {
      broken_ = status;
      if (status.code() == Code::kIoError || status.code() == Code::kCorruption) Fail(status);
      status = {Code::kUnknownOutcome, status.message()};
    }
  }
  batch_.Clear();
  if (status.ok()) {
    Deliver();
  } else {
    Undo();
  }
  undo_.clear();
  std::deque<Pending> commits = std::exchange(commits_, {});
  for (Pending& pending : commits) {
    // Every result may rest on a commit before it in the same write.
    if (!status.ok() && pending.result.ok()) pending.result = status;
    pending.callback(std::move(pending.result));
  }
}

void Store::Undo() {
  for (auto it = undo_.rbegin(); it != undo_.rend(); ++it) {
    if (it->second) {
      space_.insert_or_assign(it->first, std::move(*it->second));
    } else {
      space_.erase(it->first);
    }
  }
  if (!undo_.empty()) revision_ = revision_before_;
  fresh_.clear();
}

/// Gives the written events to the watches, and keeps them for later ones.
void Store::Deliver() {
  if (fresh_.empty()) return;
  std::erase_if(watches_, [](const auto& watch) { return watch->ended.load(); });
  for (const auto& watch : watches_) {
    WatchBatch batch;
    batch.revision = revision_;
    for (const WatchEvent& event : fresh_) {
      if (event.kv.mod_revision >= watch->from && event.kv.key.starts_with(watch->prefix))
        batch.events.push_back(event);
    }
    if (!batch.events.empty()) Post(watch, std::move(batch));
  }
  for (WatchEvent& event : fresh_) {
    history_bytes_ += event.kv.key.size() + event.kv.value.size();
    history_.push_back(std::move(event));
  }
  fresh_.clear();
  while (history_.size() > options_.max_history_events ||
         history_bytes_ > options_.max_history_bytes) {
    const KeyValue& oldest = history_.front().kv;
    compacted_ = oldest.mod_revision;
    history_bytes_ -= oldest.key.size() + oldest.value.size();
    history_.pop_front();
  }
}

void Store::Post(const std::shared_ptr<WatchState>& watch, WatchBatch batch) {
  asio::post(watch->executor, [watch, batch = std::move(batch)] {
    if (!watch->ended) watch->callback(batch);
  });
}

}  // namespace

Result<std::unique_ptr<EmbeddedStore>> EmbeddedStore::Open(EmbeddedOptions options) {
  auto store = std::make_unique<Store>(std::move(options));
  RETURN_IF_ERROR(store->OpenDatabase());
  store->Start();
  return std::unique_ptr<EmbeddedStore>(std::move(store));
}

}  // namespace onggi::metadata
