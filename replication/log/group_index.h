#pragma once

#include <cstdint>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "replication/log/segment.h"

namespace onggi::log {

/// Neighbouring records of one partition in one batch.
struct Run {
  LogIndex first;
  uint64_t segment = 0;
  uint32_t offset = 0;  ///< in the file
  uint32_t bytes = 0;
};

/// Where one partition's entries are. Costs about 150 bytes when there are none, 24 a run
/// otherwise. Guarded by the store's mutex; keeps the segments' live counts.
class GroupIndex {
 public:
  /// Longest run made by merging neighbours, so that a Read of little does not read much.
  static constexpr uint32_t kMaxRunBytes = 256u << 10;

  /// First entry still there; last + 1 when there is none.
  LogIndex first() const { return LogIndex(truncated_.value + 1); }
  LogIndex last() const { return last_; }
  bool empty() const { return last_ <= truncated_; }
  Epoch EpochAt(LogIndex index) const;

  /// Written entries [first, last] of one epoch. kCorruption (recovery only) when they do not
  /// follow.
  Status Add(LogIndex first, LogIndex last, Epoch epoch, const Run& run, SegmentTable* segments);
  void Truncate(LogIndex up_to, SegmentTable* segments);
  void DropSuffix(LogIndex from, SegmentTable* segments);
  void Clear(SegmentTable* segments);

  /// Runs that hold entries from `from` on, in order: [begin, end) of places for RunAt.
  size_t FindRun(LogIndex from) const;
  size_t run_count() const { return runs_.size(); }
  const Run& RunAt(size_t place) const { return runs_[place]; }
  /// One past the last index that the run at `place` still stands for.
  LogIndex RunLimit(size_t place) const;
  bool has_runs() const { return head_ < runs_.size(); }
  const Run& OldestRun() const { return runs_[head_]; }

  // What has been queued, ahead of what is written: checked by Append.
  LogIndex queued_last;
  Epoch queued_epoch;
  /// The next append may start anywhere after queued_last.
  bool any_next = true;

 private:
  void PopRuns(size_t keep_from, SegmentTable* segments);

  LogIndex truncated_;
  LogIndex last_;
  std::vector<Run> runs_;
  size_t head_ = 0;  ///< runs before it are truncated
  /// First position of each epoch; the first one may lie at or before truncated_.
  std::vector<LogPosition> epochs_;
};

}  // namespace onggi::log
