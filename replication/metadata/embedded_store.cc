#include "replication/metadata/embedded_store.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <variant>

#include "common/rocksdb_files.h"
#include "replication/metadata/wal_check.h"

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;

constexpr uint32_t kFormatVersion = 1;
constexpr size_t kMaxOperations = 128;
constexpr size_t kMaxTransactionBytes = 1536u << 10;
// RocksDB keys: the store's own begin with '!', the user's with 'k'.
constexpr std::string_view kFormatKey = "!format";
constexpr std::string_view kRevisionKey = "!revision";
constexpr char kUserPrefix = 'k';
constexpr size_t kValueHeader = 2 * sizeof(uint64_t);

void PutU64(std::string* out, uint64_t value) {
  for (int i = 0; i < 8; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t GetU64(std::string_view bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

rocksdb::Slice Slice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

Status FromRocks(const rocksdb::Status& status, const std::string& directory) {
  if (status.ok()) return {};
  std::string message = directory + ": " + status.ToString();
  if (status.IsCorruption() || status.IsNotSupported()) return Corruption(std::move(message));
  if (status.IsNoSpace()) return {Code::kOutOfSpace, std::move(message)};
  return {Code::kIoError, std::move(message)};
}

Status Closed() { return Unavailable("the metadata store is closed"); }

struct Value {
  std::string value;
  Revision create_revision;
  Revision mod_revision;
};
using Space = std::map<std::string, Value, std::less<>>;

KeyValue ToKeyValue(const std::string& key, const Value& value) {
  return {key, value.value, value.create_revision, value.mod_revision};
}

rocksdb::Options MakeOptions() {
  rocksdb::Options options;
  options.write_buffer_size = 1u << 20;
  options.max_write_buffer_number = 2;
  options.max_background_jobs = 1;
  options.max_open_files = 32;
  options.max_log_file_size = 1u << 20;
  options.keep_log_file_num = 1;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.compression = rocksdb::kNoCompression;
  options.max_total_wal_size = 4u << 20;
  // A torn tail is a transaction that was never answered; anything else is damage.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;  // everything is in memory already
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

/// Reads everything. False: an empty database, in which even the format record is yet to be
/// written.
Result<bool> ReadSpace(rocksdb::DB* db, const std::string& directory, Space* space,
                       Revision* revision) {
  std::string format;
  rocksdb::ReadOptions read;
  const rocksdb::Status found = db->Get(read, Slice(kFormatKey), &format);
  std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(read));
  if (found.IsNotFound()) {
    it->SeekToFirst();
    if (it->Valid()) return Corruption(directory + ": a database, but not of metadata");
    RETURN_IF_ERROR(FromRocks(it->status(), directory));
    return false;
  }
  RETURN_IF_ERROR(FromRocks(found, directory));
  if (format.size() != sizeof(uint64_t)) {
    return Corruption(directory + ": the format record is damaged");
  }
  if (GetU64(format) > kFormatVersion) {
    return Corruption(directory + ": metadata format version " + std::to_string(GetU64(format)) +
                      " is newer than this program's " + std::to_string(kFormatVersion));
  }
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    const std::string_view key(it->key().data(), it->key().size());
    const std::string_view bytes(it->value().data(), it->value().size());
    if (key == kFormatKey) continue;
    if (key == kRevisionKey && bytes.size() == sizeof(uint64_t)) {
      *revision = Revision(GetU64(bytes));
      continue;
    }
    if (key.empty() || key[0] != kUserPrefix || bytes.size() < kValueHeader) {
      return Corruption(directory + ": an unreadable record");
    }
    Value value;
    value.create_revision = Revision(GetU64(bytes));
    value.mod_revision = Revision(GetU64(bytes.substr(8)));
    value.value = std::string(bytes.substr(kValueHeader));
    space->emplace_hint(space->end(), std::string(key.substr(1)), std::move(value));
  }
  RETURN_IF_ERROR(FromRocks(it->status(), directory));
  return true;
}

/// One watch: its executor runs batches in order; `ended` is read there.
struct WatchState {
  std::string prefix;
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
using Request = std::variant<RangeRequest, CommitRequest, WatchRequest>;

class Store : public EmbeddedStore {
 public:
  explicit Store(EmbeddedOptions options) : options_(std::move(options)) {}
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
    state->executor = std::move(executor);
    state->callback = std::move(callback);
    WatchRequest request;
    request.state = state;
    request.from = from;
    Submit(std::move(request));
    return std::make_unique<Handle>(std::move(state));
  }

 private:
  struct Pending {
    TransactionCallback callback;
    Result<TransactionResult> result;
  };

  void Submit(Request request);
  static void Answer(Request& request, const Status& status);
  void Run();
  void Serve(std::deque<Request>* requests);
  void Serve(RangeRequest& request);
  void Serve(WatchRequest& request);
  Result<TransactionResult> Evaluate(const Transaction& transaction);
  Status Write();
  Status Recover();
  Status CheckSpace() const;
  void FinishCommits();
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
  Space space_;
  Revision revision_;
  rocksdb::WriteBatch batch_;
  std::deque<Pending> commits_;
  std::vector<std::pair<std::string, std::optional<Value>>> undo_;
  Revision revision_before_;
  Status broken_;  ///< why the last write failed; Recover comes before anything else
  std::deque<WatchEvent> fresh_;
  std::deque<WatchEvent> history_;
  size_t history_bytes_ = 0;
  Revision compacted_;  ///< events through this revision are no longer kept
  std::vector<std::shared_ptr<WatchState>> watches_;
};

Status Store::OpenDatabase() {
  rocksdb::Options options = MakeOptions();
  options.create_if_missing = options_.create;
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
  if (formatted) return {};
  std::string version;
  PutU64(&version, kFormatVersion);
  rocksdb::WriteOptions write;
  write.sync = true;
  return FromRocks(db_->Put(write, Slice(kFormatKey), version), options_.directory);
}

void Store::Close() {
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
    const bool watch = std::holds_alternative<WatchRequest>(request);
    if (!closed_ && (watch || queue_.size() < options_.max_pending)) {
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
}

void Store::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) break;
    std::deque<Request> requests = std::exchange(queue_, {});
    lock.unlock();
    Serve(&requests);
    lock.lock();
  }
  lock.unlock();
  watches_.clear();
}

/// Serves what has come in: commits up to the next read share one synced write.
void Store::Serve(std::deque<Request>* requests) {
  for (Request& request : *requests) {
    if (auto* commit = std::get_if<CommitRequest>(&request)) {
      Result<TransactionResult> result = Evaluate(commit->transaction);
      commits_.push_back({std::move(commit->callback), std::move(result)});
      continue;
    }
    FinishCommits();
    if (auto* range = std::get_if<RangeRequest>(&request)) Serve(*range);
    if (auto* watch = std::get_if<WatchRequest>(&request)) Serve(*watch);
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

Result<TransactionResult> Store::Evaluate(const Transaction& transaction) {
  size_t bytes = 0;
  std::set<std::string_view> keys;
  for (const Put& put : transaction.puts) {
    bytes += put.key.size() + put.value.size();
    keys.insert(put.key);
  }
  keys.insert(transaction.deletes.begin(), transaction.deletes.end());
  const size_t operations = transaction.puts.size() + transaction.deletes.size();
  if (operations > kMaxOperations || transaction.compares.size() > kMaxOperations ||
      bytes > kMaxTransactionBytes)
    return InvalidArgument("a metadata transaction over the limit of size");
  if (keys.size() != operations || keys.contains(""))
    return InvalidArgument("a metadata transaction with an empty key, or one key twice");
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
  if (undo_.empty()) revision_before_ = revision_;
  const Revision revision(revision_.value + 1);
  bool changed = false;
  std::string bytes_out;
  for (const Put& put : transaction.puts) {
    const auto it = space_.find(put.key);
    undo_.emplace_back(put.key,
                       it == space_.end() ? std::nullopt : std::optional<Value>(it->second));
    Value value;
    value.value = put.value;
    value.create_revision = it == space_.end() ? revision : it->second.create_revision;
    value.mod_revision = revision;
    bytes_out.clear();
    PutU64(&bytes_out, value.create_revision.value);
    PutU64(&bytes_out, value.mod_revision.value);
    bytes_out += value.value;
    batch_.Put(kUserPrefix + put.key, bytes_out);
    fresh_.push_back({WatchEvent::Type::kPut, ToKeyValue(put.key, value)});
    space_.insert_or_assign(put.key, std::move(value));
    changed = true;
  }
  for (const std::string& key : transaction.deletes) {
    const auto it = space_.find(key);
    if (it == space_.end()) continue;
    undo_.emplace_back(key, std::move(it->second));
    space_.erase(it);
    batch_.Delete(kUserPrefix + key);
    WatchEvent event;
    event.type = WatchEvent::Type::kDelete;
    event.kv.key = key;
    event.kv.mod_revision = revision;
    fresh_.push_back(std::move(event));
    changed = true;
  }
  if (changed) revision_ = revision;
  result.revision = revision_;
  return result;
}

Status Store::Write() {
  if (batch_.Count() == 0) return {};
  std::string revision;
  PutU64(&revision, revision_.value);
  batch_.Put(Slice(kRevisionKey), revision);
  rocksdb::WriteOptions write;
  write.sync = true;
  return FromRocks(db_->Write(write, &batch_), options_.directory);
}

/// After a failed write: nothing is answered until RocksDB has left the log behind in which that
/// write may stand whole, lest it comes back after a crash; then the disk is the truth.
Status Store::Recover() {
  if (broken_.ok()) return {};
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

void Store::FinishCommits() {
  if (commits_.empty()) return;
  const bool writes = batch_.Count() > 0;
  Status status = writes ? CheckSpace() : Status();
  if (status.ok() && writes) {
    status = Write();
    if (!status.ok()) {
      broken_ = status;
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
    for (const WatchEvent& event : fresh_)
      if (event.kv.key.starts_with(watch->prefix)) batch.events.push_back(event);
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

Result<RangeResult> EmbeddedStore::ReadAll(const std::string& directory) {
  // RocksDB makes CURRENT, then the first write-ahead log, and keeps one of each from then on.
  const std::vector<std::string> logs = rocks::FilesEndingIn(directory, ".log");
  if (!rocks::FileExists(directory + "/CURRENT") && logs.empty() &&
      rocks::FilesEndingIn(directory, ".sst").empty()) {
    return NotFound(directory + "/CURRENT: missing");
  }
  RETURN_IF_ERROR(rocks::CheckManifest(directory).status());
  for (const std::string& name : logs) {
    const std::string path = directory + "/" + name;
    std::ifstream file(path, std::ios::binary);
    const std::string content(std::istreambuf_iterator<char>(file), {});  // a few megabytes at most
    if (const auto offset = FindWalDamage(content)) {
      return Corruption(path + ": damaged at offset " + std::to_string(*offset));
    }
  }
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(MakeOptions(), directory, &opened);
  const std::unique_ptr<rocksdb::DB> db(opened);
  if (!status.ok()) {
    // The manifest is whole, and a table's damage names the table.
    const std::string log = directory + "/" + (logs.empty() ? "*.log" : logs.back());
    std::string message = rocks::DescribeDamage(status, directory, log);
    if (status.IsIOError() && !status.IsPathNotFound()) {
      return Status(Code::kIoError, std::move(message));
    }
    return Corruption(std::move(message));
  }
  Space space;
  RangeResult result;
  ASSIGN_OR_RETURN(const bool formatted, ReadSpace(db.get(), directory, &space, &result.revision));
  if (!formatted) return NotFound(directory + ": the format record is missing");
  if (logs.empty()) return Corruption(directory + "/*.log: the write-ahead log is missing");
  result.kvs.reserve(space.size());
  for (const auto& [key, value] : space) result.kvs.push_back(ToKeyValue(key, value));
  return result;
}

}  // namespace onggi::metadata
