#include "replication/group/epoch_runs.h"

#include <algorithm>
#include <utility>

namespace onggi::group {
namespace {

bool IndexBefore(LogIndex index, const LogPosition& run) { return index < run.index; }

}  // namespace

EpochRuns::EpochRuns(LogPosition base, std::vector<LogPosition> runs, LogIndex last)
    : base_(base), runs_(std::move(runs)), last_(last) {
  CHECK(last >= base.index);
  CHECK(runs_.empty() == (last == base.index));
  CHECK(runs_.empty() || runs_.front().index.value == base.index.value + 1);
  CHECK(std::is_sorted(runs_.begin(), runs_.end()));
}

Epoch EpochRuns::EpochAt(LogIndex index) const {
  if (index == base_.index) return base_.epoch;
  if (index < base_.index || index > last_) return {};
  return std::prev(std::upper_bound(runs_.begin(), runs_.end(), index, IndexBefore))->epoch;
}

void EpochRuns::Append(Epoch epoch, LogIndex up_to) {
  CHECK(up_to > last_);
  CHECK(epoch >= EpochAt(last_));
  if (runs_.empty() || runs_.back().epoch < epoch)
    runs_.push_back({epoch, LogIndex(last_.value + 1)});
  last_ = up_to;
}

void EpochRuns::DropSuffix(LogIndex from) {
  CHECK(from > base_.index && from <= last_);
  last_ = LogIndex(from.value - 1);
  while (!runs_.empty() && runs_.back().index >= from) runs_.pop_back();
}

void EpochRuns::AdvanceBase(LogPosition base) {
  if (base.index <= base_.index) return;
  if (base.index >= last_) {
    runs_.clear();
    runs_.shrink_to_fit();
    base_ = base;
    last_ = base.index;
    return;
  }
  CHECK(EpochAt(base.index) == base.epoch);
  runs_ = Between(base.index, last_);
  base_ = base;
}

std::vector<LogPosition> EpochRuns::Between(LogIndex after, LogIndex up_to) const {
  std::vector<LogPosition> runs;
  if (after >= up_to) return runs;
  const LogIndex first(after.value + 1);
  CHECK(first > base_.index && up_to <= last_);
  auto run = std::prev(std::upper_bound(runs_.begin(), runs_.end(), first, IndexBefore));
  runs.push_back({run->epoch, first});
  for (++run; run != runs_.end() && run->index <= up_to; ++run) runs.push_back(*run);
  return runs;
}

LogIndex EpochRuns::RunStart(LogIndex index) const {
  if (index <= base_.index || runs_.empty()) return index;
  return std::prev(std::upper_bound(runs_.begin(), runs_.end(), index, IndexBefore))->index;
}

}  // namespace onggi::group
