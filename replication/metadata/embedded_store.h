#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "replication/metadata/metadata_store.h"

namespace rocksdb {
class Env;
}

namespace onggi::metadata {

struct EmbeddedOptions {
  EmbeddedOptions() {}
  explicit EmbeddedOptions(std::string directory_) : directory(std::move(directory_)) {}

  std::string directory;
  /// Whether Open() makes the store where there is none.
  bool create = true;
  /// Requests past this many in flight are refused with kResourceExhausted.
  size_t max_pending = 10'000;
  /// Past events kept for watches that start in the past: at most this many events and bytes.
  size_t max_history_events = 10'000;
  size_t max_history_bytes = 4u << 20;
  /// Transactions are refused with kOutOfSpace while the disk has less free space than this.
  uint64_t reserve_bytes = 16u << 20;
  /// Called, on the store's thread, when a write or its sync failed for another reason than a full
  /// disk: what is on the disk is not known. Empty: prints the status and ends the process
  /// (replication.md R10). Only tests set it; every later request is refused.
  std::function<void(const Status&)> on_fatal;
  /// nullptr: RocksDB's own.
  rocksdb::Env* env = nullptr;
};

/// The metadata store of a single process (`onggi dev`): a small RocksDB, each transaction synced
/// before it is answered, concurrent ones sharing a sync. The whole key space is also in memory: a
/// table takes a few hundred bytes.
///
/// Owner of its state: one thread of its own, made by Open and joined by Close. A write that the
/// full disk does not take leaves the outcome of the transactions in it unknown; later ones answer
/// kOutOfSpace (kUnavailable where that is not what keeps it) until a write goes through again.
class EmbeddedStore : public MetadataStore {
 public:
  /// Reads the whole key space of a store that no process has open, and changes nothing.
  /// kCorruption, naming the file, when it is damaged or of a newer format; kNotFound, naming what
  /// is missing, when there is no store or its creation was cut short before any transaction.
  /// Blocks.
  static Result<RangeResult> ReadAll(const std::string& directory);

  /// Opens or creates the directory. kCorruption, naming the file, when it is damaged or of a newer
  /// format; by then RocksDB may have written to it, so where a refused directory must stay as it
  /// is, ReadAll() goes first.
  static Result<std::unique_ptr<EmbeddedStore>> Open(EmbeddedOptions options);

  /// Answers what is pending, then stops. Further requests answer kUnavailable. Watches get no more
  /// events.
  virtual void Close() = 0;
};

}  // namespace onggi::metadata
