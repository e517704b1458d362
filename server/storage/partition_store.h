#pragma once

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>
#include <rocksdb/write_buffer_manager.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"
#include "server/storage/files.h"

namespace onggi::metrics {
class Registry;
}

namespace onggi::storage {

struct StorageOptions {
  /// For block cache, table indexes and write buffers together, in bytes.
  size_t memory_bytes = size_t{1} << 30;
  int background_threads = 2;
  /// What the stores stand on; nullptr: the operating system's. Outlives them.
  rocksdb::Env* env = nullptr;
};

/// What all the partitions' RocksDB instances of a node share: one cache, one write-buffer budget
/// (charged to the cache), one pool of compaction threads, one comparator of bytes.
///
/// Made before the first store, destroyed after the last. Thread-safe.
class StorageEnvironment {
 public:
  explicit StorageEnvironment(const StorageOptions& options);

  /// Options of one partition's instance.
  rocksdb::Options MakeOptions() const;
  /// Directories and small files where the stores are.
  const Files& files() const { return files_; }

  /// Cache, write buffers, compaction and stalls of all partitions together. The registry must not
  /// outlive this.
  void AddMetrics(metrics::Registry* registry) const;

  const std::shared_ptr<rocksdb::Cache>& block_cache() const { return cache_; }
  const std::shared_ptr<rocksdb::WriteBufferManager>& write_buffers() const {
    return write_buffers_;
  }

 private:
  StorageOptions options_;
  Files files_;
  std::shared_ptr<rocksdb::Cache> cache_;
  std::shared_ptr<rocksdb::WriteBufferManager> write_buffers_;
  std::shared_ptr<rocksdb::Statistics> statistics_;
};

/// A value and the block or buffer that holds it.
class PinnedValue {
 public:
  std::string_view view() const { return {slice_.data(), slice_.size()}; }

 private:
  friend class PartitionStore;
  rocksdb::PinnableSlice slice_;
};

/// A walk over [lower, upper) in either direction, on a snapshot.
class RangeIterator {
 public:
  bool Valid() const { return it_->Valid(); }
  void Next() { reverse_ ? it_->Prev() : it_->Next(); }
  std::string_view key() const { return {it_->key().data(), it_->key().size()}; }
  std::string_view value() const { return {it_->value().data(), it_->value().size()}; }
  Status status() const;

 private:
  friend class PartitionStore;
  std::string lower_, upper_;
  rocksdb::Slice lower_slice_, upper_slice_;
  bool reverse_ = false;
  std::unique_ptr<rocksdb::Iterator> it_;
};

/// The applied state of one replica of a partition: one RocksDB without its own write-ahead log.
///
/// The partition's log is the only write-ahead log: what a crash takes from the write buffers is
/// replayed from there. Every batch carries the applied index, in the single column family, so a
/// flushed file is always a consistent prefix of the log. Reads are thread-safe; Apply() has one
/// caller at a time. A background error (full disk) makes Apply() fail until Resume() succeeds;
/// reads go on.
class PartitionStore {
 public:
  struct Events {
    /// A write buffer reached the disk. Called on a RocksDB thread.
    std::function<void()> on_flushed;
    /// Background work failed. Called on a RocksDB thread.
    std::function<void(const Status&)> on_background_error;
  };

  /// Opens the store in `directory`, or makes it when `create`. Corruption names the file.
  static Result<std::unique_ptr<PartitionStore>> Open(const StorageEnvironment& environment,
                                                      const std::string& directory, bool create,
                                                      Events events);
  ~PartitionStore();

  Status Apply(rocksdb::WriteBatch* batch);

  /// The store as it was at one moment, for several reads that have to agree. The store outlives
  /// it.
  using View = std::shared_ptr<const rocksdb::Snapshot>;
  View TakeView() const;

  /// False: there is no such key. Reads from disk when the block is not cached. Without a view:
  /// as of now.
  Result<bool> Get(std::string_view key, PinnedValue* value, const View& view = nullptr) const;
  /// The same for what has reached the disk alone: what a crash would leave.
  Result<bool> GetPersisted(std::string_view key, std::string* value) const;

  std::unique_ptr<RangeIterator> NewIterator(std::string_view lower, std::string_view upper,
                                             bool reverse, bool fill_cache,
                                             const View& view = nullptr) const;

  /// The value of a key in a store that nobody has open. kNotFound: there is none.
  static Result<std::string> ReadKey(const StorageEnvironment& environment,
                                     const std::string& directory, std::string_view key);

  /// A consistent copy of the whole store in `directory`, which does not exist: hard links where
  /// the file system allows. Flushes first: it has all that was applied before the call.
  Status MakeCheckpoint(const std::string& directory) const;

  /// Removes the keys in [from, to). Durable as Apply() is.
  Status RemoveRange(std::string_view from, std::string_view to);

  /// Bytes that [from, to) takes, roughly.
  uint64_t ApproximateBytes(std::string_view from, std::string_view to) const;

  /// Bytes of the table files and write buffers.
  uint64_t SizeBytes() const;

  /// Writes the write buffers to disk. With wait=false it only starts; else Ok says that all that
  /// was applied before the call is on the disk.
  Status Flush(bool wait) const;
  /// Tries to leave the error state after the cause (a full disk) has gone. One at a time:
  /// kUnavailable.
  Status Resume();
  /// Has it been at that for longer than this? RocksDB 7.8.3 forgets a flush that was due when
  /// another failed, and then waits for it for ever: only opening the store again helps.
  bool ResumeHangs(std::chrono::milliseconds longest) const;
  /// Before the store is closed: whoever waits for background work (Resume(), Flush()) stops to,
  /// with an error, and there is no more of it.
  void Interrupt();

  /// Has background work failed, and Resume() not succeeded since? A flush would fail too.
  bool failed() const;

 private:
  class Listener;
  PartitionStore() = default;
  Status AwaitFlushed(uint64_t sequence, uint64_t failures) const;
  std::shared_ptr<Listener> listener_;
  std::unique_ptr<rocksdb::DB> db_;
  std::atomic<int64_t> resuming_since_{0};  ///< in ticks of the steady clock; 0: it is not
};

}  // namespace onggi::storage
