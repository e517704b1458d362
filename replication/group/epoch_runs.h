#pragma once

#include <vector>

#include "common/check.h"
#include "common/ids.h"

namespace onggi::group {

/// The epochs of a log's entries, without the entries: each run's first position, and the base, an
/// entry (or the empty log's 0) before the first. A few words for a log of any length.
class EpochRuns {
 public:
  EpochRuns() = default;
  /// `runs` ascend in index and epoch; the first starts at base.index + 1.
  EpochRuns(LogPosition base, std::vector<LogPosition> runs, LogIndex last);

  LogPosition base() const { return base_; }
  LogIndex last() const { return last_; }
  LogPosition LastPosition() const { return {EpochAt(last_), last_}; }

  /// The epoch of an entry in [base, last]; 0 outside.
  Epoch EpochAt(LogIndex index) const;

  /// Adds the entries (last, up_to] of one epoch, no lower than the last's.
  void Append(Epoch epoch, LogIndex up_to);
  /// Forgets the entries from `from` on; from > base.
  void DropSuffix(LogIndex from);
  /// Forgets the entries up to `base`, which is in the log or past its end.
  void AdvanceBase(LogPosition base);

  /// Runs covering (after, up_to], the first cut to start at after + 1.
  std::vector<LogPosition> Between(LogIndex after, LogIndex up_to) const;
  /// First index of the run that `index` lies in.
  LogIndex RunStart(LogIndex index) const;

 private:
  LogPosition base_;
  std::vector<LogPosition> runs_;
  LogIndex last_;
};

}  // namespace onggi::group
