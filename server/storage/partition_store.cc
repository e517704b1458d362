#include "server/storage/partition_store.h"

#include <rocksdb/convenience.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/sst_file_manager.h>
#include <rocksdb/statistics.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "common/metrics.h"
#include "common/rocksdb_log.h"

namespace onggi::storage {
namespace {

rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }

Status FromRocks(const rocksdb::Status& status, std::string_view context) {
  if (status.ok()) return Status::Ok();
  std::string message(context);
  message += ": ";
  message += status.ToString();
  if (status.IsNoSpace()) return {Code::kOutOfSpace, std::move(message)};
  if (status.IsBusy() || status.IsShutdownInProgress()) return Unavailable(std::move(message));
  if (status.IsCorruption() || status.IsInvalidArgument() || status.IsNotSupported()) {
    return Corruption(std::move(message));
  }
  return {Code::kIoError, std::move(message)};
}

}  // namespace

StorageEnvironment::StorageEnvironment(const StorageOptions& options)
    : options_(options), files_(options.env) {
  // One budget: write buffers are charged to the cache, so data loaded by writes pushes out cached
  // blocks instead of coming on top of them.
  const int shard_bits = options.memory_bytes >= (size_t{1} << 30) ? 5 : 3;
  // The allocator's own share is not charged: measured at an eighth with 5 GB of 1 KB items.
  cache_ = rocksdb::NewLRUCache(options.memory_bytes - options.memory_bytes / 8, shard_bits,
                                /*strict_capacity_limit=*/false,
                                /*high_pri_pool_ratio=*/0.3);
  const size_t write_bytes = std::max<size_t>(options.memory_bytes / 4, size_t{16} << 20);
  write_buffers_ = std::make_shared<rocksdb::WriteBufferManager>(write_bytes, cache_);
  statistics_ = rocksdb::CreateDBStatistics();
  // Of its own counts; the timers would read the clock with every write for figures nobody asks.
  statistics_->set_stats_level(rocksdb::StatsLevel::kExceptHistogramOrTimers);
  rocksdb::Env* const env = options.env != nullptr ? options.env : rocksdb::Env::Default();
  env->SetBackgroundThreads(options.background_threads, rocksdb::Env::LOW);
  env->SetBackgroundThreads(std::max(1, options.background_threads / 2), rocksdb::Env::HIGH);
}

rocksdb::Options StorageEnvironment::MakeOptions() const {
  rocksdb::Options options;
  if (options_.env != nullptr) options.env = options_.env;
  options.max_background_jobs = std::max(2, options_.background_threads);
  options.write_buffer_manager = write_buffers_;
  options.write_buffer_size =
      std::clamp<size_t>(options_.memory_bytes / 16, size_t{8} << 20, size_t{64} << 20);
  options.max_write_buffer_number = 3;
  // Small first blocks: a node holds thousands of partitions, most of them nearly empty.
  options.arena_block_size = 64 << 10;
  options.level_compaction_dynamic_level_bytes = true;
  options.target_file_size_base = 32 << 20;
  options.max_bytes_for_level_base = 256 << 20;
  options.compression = rocksdb::kLZ4Compression;
  options.bytes_per_sync = 1 << 20;
  options.max_open_files = 512;
  options.max_manifest_file_size = 4 << 20;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.allow_concurrent_memtable_write = false;  // one writer: the partition's strand
  options.enable_write_thread_adaptive_yield = false;
  options.avoid_flush_during_shutdown =
      true;  // the log replays it; Partition flushes on a clean stop
  options.paranoid_checks = true;
  options.statistics = statistics_;

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache_;
  table.block_size = 8 << 10;
  table.format_version = 5;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.whole_key_filtering = true;
  table.cache_index_and_filter_blocks = true;
  table.cache_index_and_filter_blocks_with_high_priority = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

void StorageEnvironment::AddMetrics(metrics::Registry* registry) const {
  const auto gauge = [registry](std::string name, std::string help, std::function<double()> read) {
    registry->AddGaugeCallback(std::move(name), std::move(help), {}, std::move(read));
  };
  gauge("onggi_storage_cache_bytes", "Block cache in use, write buffers included",
        [this] { return static_cast<double>(cache_->GetUsage()); });
  gauge("onggi_storage_cache_capacity_bytes", "Block cache capacity",
        [this] { return static_cast<double>(cache_->GetCapacity()); });
  gauge("onggi_storage_write_buffer_bytes", "Write buffers in use",
        [this] { return static_cast<double>(write_buffers_->memory_usage()); });
  struct Ticker {
    const char* name;
    const char* help;
    rocksdb::Tickers ticker;
  };
  static constexpr Ticker kTickers[] = {
      {"onggi_storage_cache_hits_total", "Blocks found in the cache", rocksdb::BLOCK_CACHE_HIT},
      {"onggi_storage_cache_misses_total", "Blocks read from disk", rocksdb::BLOCK_CACHE_MISS},
      {"onggi_storage_bloom_useful_total", "Files that a filter spared",
       rocksdb::BLOOM_FILTER_USEFUL},
      {"onggi_storage_flush_bytes_total", "Bytes flushed from write buffers",
       rocksdb::FLUSH_WRITE_BYTES},
      {"onggi_storage_compaction_read_bytes_total", "Bytes read by compaction",
       rocksdb::COMPACT_READ_BYTES},
      {"onggi_storage_compaction_write_bytes_total", "Bytes written by compaction",
       rocksdb::COMPACT_WRITE_BYTES},
      {"onggi_storage_stall_microseconds_total", "Time that writes were held back",
       rocksdb::STALL_MICROS},
  };
  for (const Ticker& ticker : kTickers) {
    registry->AddCounterCallback(ticker.name, ticker.help, {}, [this, which = ticker.ticker] {
      return static_cast<double>(statistics_->getTickerCount(which));
    });
  }
}

/// Forwards RocksDB's events until the store closes; a callback never outlives its partition.
class PartitionStore::Listener final : public rocksdb::EventListener {
 public:
  explicit Listener(Events events) : events_(std::move(events)) {}

  void OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo& info) override {
    {
      std::lock_guard lock(news_mutex_);
      news_.flushed = std::max<uint64_t>(news_.flushed, info.largest_seqno);
      ++news_.count;
      told_.notify_all();
    }
    std::lock_guard lock(mutex_);
    if (events_.on_flushed) events_.on_flushed();
  }

  void OnBackgroundError(rocksdb::BackgroundErrorReason, rocksdb::Status* status) override {
    const Status failure = FromRocks(*status, "background work");
    {
      std::lock_guard lock(news_mutex_);
      failed_.store(true);
      ++news_.failures;
      news_.failure = failure;
      ++news_.count;
      told_.notify_all();
    }
    std::lock_guard lock(mutex_);
    if (events_.on_background_error) events_.on_background_error(failure);
  }

  /// Not by itself: RocksDB's thread that polls for space may still be at it when it says that the
  /// recovery is over, and closing the database does not wait for it then (7.8.3; as described in
  /// facebook/rocksdb#11880): the process would end by an assertion. Whoever has the store resumes.
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }

  void OnErrorRecoveryEnd(const rocksdb::BackgroundErrorRecoveryInfo& info) override {
    if (info.new_bg_error.ok()) failed_.store(false);
  }

  bool failed() const { return failed_.load(); }
  /// Unless it has failed since, more often than `failures`.
  void SetHealthy(uint64_t failures) {
    std::lock_guard lock(news_mutex_);
    if (news_.failures == failures) failed_.store(false);
  }

  /// Whoever waits for background work stops to: it will not come.
  void Interrupt() {
    std::lock_guard lock(news_mutex_);
    ++news_.failures;
    news_.failure = Unavailable("the store is being closed");
    ++news_.count;
    told_.notify_all();
  }

  /// What has been heard of background work.
  struct News {
    uint64_t count = 0;     ///< of all news
    uint64_t flushed = 0;   ///< the highest sequence number that is known to have reached the disk
    uint64_t failures = 0;  ///< how often it has failed
    Status failure;         ///< at last
  };
  News news() const {
    std::lock_guard lock(news_mutex_);
    return news_;
  }
  /// Until there is more than `count` of it.
  void AwaitNews(uint64_t count) const {
    std::unique_lock lock(news_mutex_);
    told_.wait(lock, [&] { return news_.count > count; });
  }

  void Detach() {
    std::lock_guard lock(mutex_);
    events_ = {};
  }

 private:
  std::atomic<bool> failed_{false};
  mutable std::mutex news_mutex_;
  mutable std::condition_variable told_;
  News news_;         // guarded by news_mutex_
  std::mutex mutex_;  // guards events_
  Events events_;
};

Result<std::unique_ptr<PartitionStore>> PartitionStore::Open(const StorageEnvironment& environment,
                                                             const std::string& directory,
                                                             bool create, Events events) {
  auto store = std::unique_ptr<PartitionStore>(new PartitionStore());
  if (create) {  // or RocksDB complains that it cannot read it
    RETURN_IF_ERROR(environment.files().MakeDirectories(directory));
  }
  store->listener_ = std::make_shared<Listener>(std::move(events));
  rocksdb::Options options = environment.MakeOptions();
  options.create_if_missing = create;
  options.info_log = std::make_shared<rocks::Log>(directory);
  options.listeners.push_back(store->listener_);
  rocksdb::DB* db = nullptr;
  rocksdb::Status status = rocksdb::DB::Open(options, directory, &db);
  if (!status.ok()) return FromRocks(status, directory);
  store->db_.reset(db);
  return store;
}

PartitionStore::~PartitionStore() {
  if (listener_ != nullptr) listener_->Detach();
}

Status PartitionStore::Apply(rocksdb::WriteBatch* batch) {
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  return FromRocks(db_->Write(options, batch), "apply");
}

PartitionStore::View PartitionStore::TakeView() const {
  return {db_->GetSnapshot(),
          [this](const rocksdb::Snapshot* snapshot) { db_->ReleaseSnapshot(snapshot); }};
}

Result<bool> PartitionStore::Get(std::string_view key, PinnedValue* value, const View& view) const {
  rocksdb::ReadOptions options;
  options.snapshot = view.get();
  value->slice_.Reset();
  rocksdb::Status status =
      db_->Get(options, db_->DefaultColumnFamily(), ToSlice(key), &value->slice_);
  if (status.IsNotFound()) return false;
  if (!status.ok()) return FromRocks(status, "read");
  return true;
}

Result<bool> PartitionStore::GetPersisted(std::string_view key, std::string* value) const {
  rocksdb::ReadOptions options;
  options.read_tier = rocksdb::kPersistedTier;
  rocksdb::Status status = db_->Get(options, ToSlice(key), value);
  if (status.IsNotFound()) return false;
  if (!status.ok()) return FromRocks(status, "read");
  return true;
}

std::unique_ptr<RangeIterator> PartitionStore::NewIterator(std::string_view lower,
                                                           std::string_view upper, bool reverse,
                                                           bool fill_cache,
                                                           const View& view) const {
  auto range = std::make_unique<RangeIterator>();
  range->lower_ = lower;
  range->upper_ = upper;
  range->lower_slice_ = range->lower_;
  range->upper_slice_ = range->upper_;
  range->reverse_ = reverse;
  rocksdb::ReadOptions options;
  options.fill_cache = fill_cache;
  options.auto_prefix_mode = false;
  options.total_order_seek = true;
  options.snapshot = view.get();
  if (!range->lower_.empty()) options.iterate_lower_bound = &range->lower_slice_;
  if (!range->upper_.empty()) options.iterate_upper_bound = &range->upper_slice_;
  if (!fill_cache) options.readahead_size = 256 << 10;
  range->it_.reset(db_->NewIterator(options));
  if (reverse) {
    range->it_->SeekToLast();  // honours the upper bound
  } else {
    range->it_->SeekToFirst();  // honours the lower bound
  }
  return range;
}

Status RangeIterator::status() const { return FromRocks(it_->status(), "scan"); }

Result<std::string> PartitionStore::ReadKey(const StorageEnvironment& environment,
                                            const std::string& directory, std::string_view key) {
  rocksdb::DB* db = nullptr;
  RETURN_IF_ERROR(FromRocks(rocksdb::DB::OpenForReadOnly(environment.MakeOptions(), directory, &db),
                            directory));
  const std::unique_ptr<rocksdb::DB> owner(db);
  std::string value;
  const rocksdb::Status status = db->Get(rocksdb::ReadOptions(), ToSlice(key), &value);
  if (status.IsNotFound()) return NotFound(directory + ": has no such key");
  RETURN_IF_ERROR(FromRocks(status, directory));
  return value;
}

Status PartitionStore::MakeCheckpoint(const std::string& directory) const {
  RETURN_IF_ERROR(Flush(/*wait=*/true));  // its own is not waited for, see there
  rocksdb::Checkpoint* made = nullptr;
  RETURN_IF_ERROR(FromRocks(rocksdb::Checkpoint::Create(db_.get(), &made), "checkpoint"));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  return FromRocks(checkpoint->CreateCheckpoint(directory, /*log_size_for_flush=*/0), directory);
}

Status PartitionStore::RemoveRange(std::string_view from, std::string_view to) {
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  RETURN_IF_ERROR(FromRocks(
      db_->DeleteRange(options, db_->DefaultColumnFamily(), ToSlice(from), ToSlice(to)), "remove"));
  // Files that have nothing else go at once, the rest with compactions.
  const rocksdb::Slice first = ToSlice(from), last = ToSlice(to);
  return FromRocks(rocksdb::DeleteFilesInRange(db_.get(), db_->DefaultColumnFamily(), &first, &last,
                                               /*include_end=*/false),
                   "remove files");
}

uint64_t PartitionStore::ApproximateBytes(std::string_view from, std::string_view to) const {
  const rocksdb::Range range(ToSlice(from), ToSlice(to));
  uint64_t bytes = 0;
  rocksdb::SizeApproximationOptions options;
  options.include_memtables = true;
  options.include_files = true;
  const rocksdb::Status status =
      db_->GetApproximateSizes(options, db_->DefaultColumnFamily(), &range, 1, &bytes);
  return status.ok() ? bytes : 0;
}

uint64_t PartitionStore::SizeBytes() const {
  uint64_t tables = 0, buffers = 0;
  db_->GetIntProperty(rocksdb::DB::Properties::kTotalSstFilesSize, &tables);
  db_->GetIntProperty(rocksdb::DB::Properties::kCurSizeAllMemTables, &buffers);
  return tables + buffers;
}

// RocksDB's own waiting is not enough. An error in the background that stops writes (a disk that is
// full while a buffer is flushed) sets ErrorHandler::is_db_stopped_, and in 7.8.3 neither Resume()
// nor the recovery that polls for space takes that back (ClearBGError(); only the retry of other
// errors does). DBImpl::WaitForFlushMemTables(), which Flush() and checkpoints rely on, returns at
// once with the error of such a database, which after Resume() is none: from then on and until the
// store is opened again, every Flush() says Ok as soon as it has begun, and a checkpoint has what
// was on the disk by chance. Without a write-ahead log, what it lacks would be lost.
Status PartitionStore::Flush(bool wait) const {
  const uint64_t sequence = db_->GetLatestSequenceNumber();
  const uint64_t failures = listener_->news().failures;
  rocksdb::FlushOptions options;
  options.wait = wait;
  options.allow_write_stall = true;
  RETURN_IF_ERROR(FromRocks(db_->Flush(options), "flush"));
  return wait ? AwaitFlushed(sequence, failures) : Status::Ok();
}

/// Until everything up to `sequence`, of which a flush has begun, is on the disk, or background
/// work has failed more often than `failures`.
Status PartitionStore::AwaitFlushed(uint64_t sequence, uint64_t failures) const {
  for (;;) {
    const Listener::News news = listener_->news();
    // Flush() has made what was written before it immutable.
    uint64_t waiting = 0;
    if (!db_->GetIntProperty(rocksdb::DB::Properties::kNumImmutableMemTable, &waiting)) {
      return {Code::kIoError, "flush: RocksDB does not say what is on the disk"};
    }
    if (waiting == 0 || news.flushed >= sequence) return Status::Ok();
    if (news.failures > failures) return news.failure;
    listener_->AwaitNews(news.count);
  }
}

Status PartitionStore::Resume() {
  const uint64_t failures = listener_->news().failures;
  const int64_t none = 0;
  int64_t expected = none;
  const int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
  if (!resuming_since_.compare_exchange_strong(expected, now)) {
    return Unavailable("resume: it is being tried");
  }
  const rocksdb::Status resumed = db_->Resume();
  resuming_since_.store(none);
  RETURN_IF_ERROR(FromRocks(resumed, "resume"));
  listener_->SetHealthy(failures);
  return Status::Ok();
}

bool PartitionStore::ResumeHangs(std::chrono::milliseconds longest) const {
  const std::chrono::steady_clock::duration since(resuming_since_.load());
  return since.count() != 0 &&
         std::chrono::steady_clock::now().time_since_epoch() - since > longest;
}

void PartitionStore::Interrupt() {
  rocksdb::CancelAllBackgroundWork(db_.get(), /*wait=*/false);
  listener_->Interrupt();
}

bool PartitionStore::failed() const { return listener_->failed(); }

}  // namespace onggi::storage
