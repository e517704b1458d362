#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "replication/metadata/metadata_store.h"

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
};

/// The metadata store of a single process (`onggi dev`): a small RocksDB, each transaction synced
/// before it is answered, concurrent ones sharing a sync. The whole key space is also in memory: a
/// table takes a few hundred bytes.
///
/// Owner of its state: one thread of its own, made by Open and joined by Close. A failed write
/// leaves the outcome of the transactions in it unknown; later ones answer kUnavailable
/// (kOutOfSpace if that was the cause) until a write goes through again.
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
