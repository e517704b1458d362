#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "replication/log/file_system.h"

namespace onggi::log {

enum class Durability : uint8_t {
  kSync,     ///< entries are complete once fdatasync has returned
  kRelaxed,  ///< entries are complete once written; fdatasync follows within `relaxed_interval`
};

/// An entry to append. The payload is copied before Append returns.
struct EntryView {
  Epoch epoch;
  LogIndex index;
  uint8_t type = 0;  ///< the partition's own; the log does not look at it
  std::string_view payload;
};

/// An entry read back.
struct Entry {
  Epoch epoch;
  LogIndex index;
  uint8_t type = 0;
  std::string payload;
};

/// Told when appended entries are durable (kRelaxed: written). Called on the log's writer thread,
/// in append order, once for a run of appends of one partition in a batch: be quick, post to your
/// own executor, do not call back into the store with anything that waits (Flush, Close).
class AppendListener {
 public:
  virtual ~AppendListener() = default;
  /// Everything of `partition` appended up to `position` is done. `status` is Ok, except
  /// kUnknownOutcome when a disk fault ended the log (the process normally ends at once, R10).
  virtual void OnDurable(PartitionId partition, LogPosition position, const Status& status) = 0;
};

/// One fdatasync (or, kRelaxed, one write) of a batch, for metrics. Called on the writer thread.
struct BatchObservation {
  std::chrono::nanoseconds write_time{0};
  std::chrono::nanoseconds sync_time{0};  ///< 0 when this batch was not synced by itself
  uint64_t entries = 0;
  uint64_t bytes = 0;  ///< on disk, with framing
};

struct LogOptions {
  LogOptions() {}
  explicit LogOptions(std::string directory_) : directory(std::move(directory_)) {}

  std::string directory;
  /// Size of a segment file. The first segments of a new log are smaller (see
  /// initial_segment_bytes).
  uint64_t segment_bytes = 64ull << 20;
  /// Size of the very first segment; each one after it is 4 times as large, up to segment_bytes, so
  /// that a small database stays small and starts at once.
  uint64_t initial_segment_bytes = 1ull << 20;
  /// Append refuses past this many bytes queued and not yet written.
  uint64_t max_queued_bytes = 64ull << 20;
  /// One write takes at most this much (or one append, if that is larger).
  uint64_t max_batch_bytes = 4ull << 20;
  /// Appends are refused while the disk has less free space than this (R10).
  uint64_t reserve_bytes = 64ull << 20;
  /// Recycled segments kept for reuse; more are deleted.
  size_t max_free_segments = 4;
  Durability durability = Durability::kSync;
  std::chrono::milliseconds relaxed_interval{100};
  /// How often free space is looked at, while there are appends or space is short.
  std::chrono::milliseconds space_check_interval{500};
  /// Called for each batch; may be empty.
  std::function<void(const BatchObservation&)> on_batch;
  /// Called once, on the writer thread, when a promised write or fdatasync failed. Empty: prints
  /// the status and ends the process. Only tests set it; the store is dead afterwards.
  std::function<void(const Status&)> on_fatal;
  /// nullptr: FileSystem::Posix().
  FileSystem* file_system = nullptr;
};

struct LogStats {
  uint64_t batches = 0;         ///< since Open
  uint64_t entries = 0;         ///< since Open
  uint64_t bytes_written = 0;   ///< since Open, with framing
  uint64_t syncs = 0;           ///< since Open
  uint64_t queued_bytes = 0;    ///< now
  uint64_t queued_appends = 0;  ///< now
  uint64_t live_bytes = 0;      ///< on disk, in segments that hold or may get entries
  uint64_t free_bytes = 0;      ///< on disk, in recycled segments
  uint64_t segments = 0;
  uint64_t groups = 0;
  bool out_of_space = false;
};

/// The node's write-ahead log: the entries of every partition on the node in one sequence of
/// segment files, so that one fdatasync commits what all partitions have queued. The format is in
/// docs/formats.md.
///
/// Made by the node before any partition, closed after the last. All functions are thread-safe.
/// One thread writes; another prepares segments (allocates, fills with zeros, recycles), because
/// fdatasync over blocks that are already on disk takes two thirds of the time.
///
/// Failure: a promised batch that cannot be written ends the process (replication.md R10); running
/// out of space is noticed ahead and refuses appends with kOutOfSpace until space returns.
/// Bounds: max_queued_bytes in memory; on disk, whoever calls Pinning() and flushes.
class LogStore {
 public:
  /// Opens or creates the log. Checks every batch; cuts a torn tail. kCorruption, with the file and
  /// offset and with nothing changed, for damage before the durable end, a missing segment, a
  /// foreign file or a newer format. Reads about 1 GB/s.
  static Result<std::unique_ptr<LogStore>> Open(LogOptions options);

  /// Close().
  ~LogStore();
  LogStore(const LogStore&) = delete;
  LogStore& operator=(const LogStore&) = delete;

  /// Makes everything queued durable and stops. Appends are refused (kUnavailable) from now on.
  void Close();

  /// Queues entries, whose indices must follow each other and this partition's last queued entry
  /// (any first index for a partition without entries) and whose epochs must not fall: CHECKed.
  /// The listener may be null. Never waits for the disk. Errors, with nothing queued:
  /// kResourceExhausted (max_queued_bytes), kOutOfSpace, kUnavailable (closed), kInvalidArgument
  /// (an append larger than 1 GB). Once this has returned Ok, space for the entries is set aside.
  Status Append(PartitionId partition, std::span<const EntryView> entries,
                std::shared_ptr<AppendListener> listener);

  /// Written entries from `from` on, in order, at least one if there is one and then while their
  /// payloads stay below max_bytes. Empty when `from` is past the end. kNotFound when `from` is
  /// before first_index (truncated). kCorruption if the disk gives back other bytes than it took.
  /// Reads files: not on an I/O thread.
  Result<std::vector<Entry>> Read(PartitionId partition, LogIndex from, size_t max_bytes) const;

  /// First and last written entry that the log still has. last < first: none. {1, 0} for an unknown
  /// partition.
  LogIndex FirstIndex(PartitionId partition) const;
  LogIndex LastIndex(PartitionId partition) const;
  /// The epoch of an entry in [first - 1, last]; 0 when not known.
  Epoch EpochAt(PartitionId partition, LogIndex index) const;
  /// Every partition that has entries, in no order.
  std::vector<PartitionId> Partitions() const;

  /// Entries at or below `up_to` are in the partition's flushed state and no longer needed. May be
  /// past the last entry: the next append then starts at any index above it. Not durable by itself:
  /// after a restart the entries may be back, and the partition truncates again.
  void Truncate(PartitionId partition, LogIndex up_to);

  /// Forgets the entries from `from` on (R1: a receiver's divergent suffix), durable no later than
  /// any entry appended after it. Errors as Append.
  Status DropSuffix(PartitionId partition, LogIndex from);

  /// Forgets the partition, durable no later than any entry appended after it. Errors as Append.
  Status RemoveGroup(PartitionId partition);

  /// Waits until everything queued so far is durable (kRelaxed: synced) and its listeners have been
  /// called. kUnknownOutcome after a disk fault.
  Status Flush();

  /// The partitions to flush and Truncate so that live segments take at most `max_bytes`: those
  /// whose oldest entries lie in the segments that would have to go. Empty while within the bound.
  /// Cheap then.
  std::vector<PartitionId> Pinning(uint64_t max_bytes) const;

  LogStats Stats() const;

  /// Has the disk kept the writer thread waiting for longer than `limit`? A node whose log hangs
  /// must not go on as if it lived (replication.md R10).
  bool Stalled(std::chrono::milliseconds limit) const;

 private:
  class Impl;
  explicit LogStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace onggi::log
