#include "replication/log/group_index.h"

#include <algorithm>

#include "common/check.h"

namespace onggi::log {

Epoch GroupIndex::EpochAt(LogIndex index) const {
  if (index > last_ || index.value + 1 < first().value) return {};
  const auto after =
      std::upper_bound(epochs_.begin(), epochs_.end(), index,
                       [](LogIndex i, const LogPosition& run) { return i < run.index; });
  return after == epochs_.begin() ? Epoch() : std::prev(after)->epoch;
}

Status GroupIndex::Add(LogIndex first, LogIndex last, Epoch epoch, const Run& run,
                       SegmentTable* segments) {
  if (last <= truncated_) return {};  // truncated while it was being written
  const bool gap = first.value > last_.value + 1;
  if (gap) {
    // Only a partition that had truncated everything may leave a gap: what it had is not needed.
    PopRuns(runs_.size(), segments);
    epochs_.clear();
    truncated_ = LogIndex(first.value - 1);
    last_ = truncated_;
  }
  if (first.value != last_.value + 1 && last_ > truncated_)
    return Corruption("entry " + first.ToString() + " after entry " + last_.ToString());
  if (!epochs_.empty() && epoch < epochs_.back().epoch) {
    return Corruption("entry " + first.ToString() + " of epoch " + epoch.ToString() +
                      " after epoch " + epochs_.back().epoch.ToString());
  }
  if (epochs_.empty() || epochs_.back().epoch < epoch) epochs_.push_back({epoch, first});
  last_ = last;
  if (head_ < runs_.size()) {
    Run& previous = runs_.back();
    if (previous.segment == run.segment && previous.offset + previous.bytes == run.offset &&
        previous.bytes + run.bytes <= kMaxRunBytes) {
      previous.bytes += run.bytes;
      return {};
    }
  }
  if (runs_.capacity() == 0) runs_.reserve(4);
  runs_.push_back(run);
  ++segments->At(run.segment)->live_runs;
  return {};
}

void GroupIndex::Truncate(LogIndex up_to, SegmentTable* segments) {
  if (up_to <= truncated_) return;
  truncated_ = up_to;
  if (last_ <= up_to) {
    // Keep the epoch of the last entry that was there, if that is where the truncation ends.
    const bool exact = last_ == up_to && !epochs_.empty();
    const LogPosition last_run = exact ? epochs_.back() : LogPosition();
    PopRuns(runs_.size(), segments);
    last_ = up_to;
    epochs_.clear();
    epochs_.shrink_to_fit();
    if (exact) epochs_.push_back(last_run);
    return;
  }
  size_t keep = head_;
  while (RunLimit(keep).value <= up_to.value + 1) ++keep;
  PopRuns(keep, segments);
  while (epochs_.size() > 1 && epochs_[1].index <= up_to) epochs_.erase(epochs_.begin());
}

void GroupIndex::DropSuffix(LogIndex from, SegmentTable* segments) {
  if (from > last_) return;
  last_ = LogIndex(std::max(from.value - 1, truncated_.value));
  while (head_ < runs_.size() && runs_.back().first >= from) {
    --segments->At(runs_.back().segment)->live_runs;
    runs_.pop_back();
  }
  while (!epochs_.empty() && epochs_.back().index >= from) epochs_.pop_back();
}

void GroupIndex::Clear(SegmentTable* segments) {
  PopRuns(runs_.size(), segments);
  *this = GroupIndex();
}

size_t GroupIndex::FindRun(LogIndex from) const {
  const auto after =
      std::upper_bound(runs_.begin() + static_cast<ptrdiff_t>(head_), runs_.end(), from,
                       [](LogIndex i, const Run& run) { return i < run.first; });
  const auto place = static_cast<size_t>(after - runs_.begin());
  return place > head_ ? place - 1 : head_;
}

LogIndex GroupIndex::RunLimit(size_t place) const {
  return place + 1 < runs_.size() ? runs_[place + 1].first : LogIndex(last_.value + 1);
}

void GroupIndex::PopRuns(size_t keep_from, SegmentTable* segments) {
  for (; head_ < keep_from; ++head_) --segments->At(runs_[head_].segment)->live_runs;
  if (head_ == runs_.size()) {
    // An idle partition keeps nothing; a busy one keeps a little to append to.
    if (runs_.capacity() > 8) std::vector<Run>().swap(runs_);
    runs_.clear();
    head_ = 0;
  } else if (head_ > 64 && head_ > runs_.size() / 2) {
    runs_.erase(runs_.begin(), runs_.begin() + static_cast<ptrdiff_t>(head_));
    runs_.shrink_to_fit();
    head_ = 0;
  }
}

}  // namespace onggi::log
