#include <rocksdb/write_batch.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "common/log.h"
#include "common/varint.h"
#include "server/partition/partition.h"

/// Partition: becoming one with a neighbour (R14), and what changes of shape have in common.
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

/// A frozen partition whose merge does not come about goes on by itself.
constexpr auto kFrozenFor = std::chrono::seconds(15);
constexpr size_t kCopyBytes = size_t{1} << 20;
/// What a record costs besides its bytes, to be read and written one by one.
constexpr uint64_t kRecordBytes = 256;

rocksdb::Slice ToSlice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

PartitionStatistics Add(const PartitionStatistics& a, const PartitionStatistics& b) {
  PartitionStatistics sum = a;
  sum.item_count += b.item_count;
  sum.item_bytes += b.item_bytes;
  sum.local_indexes.resize(std::max(a.local_indexes.size(), b.local_indexes.size()));
  for (size_t i = 0; i < b.local_indexes.size(); ++i) {
    sum.local_indexes[i].entry_count += b.local_indexes[i].entry_count;
    sum.local_indexes[i].entry_bytes += b.local_indexes[i].entry_bytes;
  }
  sum.estimated = a.estimated || b.estimated;
  return sum;
}

}  // namespace

uint64_t Partition::MergeCopyBytes(const PartitionStatistics& figures) {
  uint64_t bytes = figures.item_bytes + figures.item_count * kRecordBytes;
  for (const PartitionStatistics::Index& index : figures.local_indexes) {
    bytes += index.entry_bytes + index.entry_count * kRecordBytes;
  }
  return bytes;
}

// Entries that change the shape. ------------------------------------------------------------------

bool Partition::AppliesAlone(uint8_t type) const {
  switch (static_cast<EntryType>(type)) {
    case EntryType::kSplit:
    case EntryType::kFreeze:
    case EntryType::kThaw:
    case EntryType::kAbsorb:
    case EntryType::kMerged: return true;
    case EntryType::kEpochStart:
    case EntryType::kWrites: return false;
  }
  return false;  // newer than this program: Apply() refuses it
}

Result<bool> Partition::ApplyAlone(const replica::CommittedEntry& entry) {
  rocksdb::WriteBatch batch;
  switch (static_cast<EntryType>(entry.type)) {
    case EntryType::kSplit: return ApplySplit(entry);
    case EntryType::kAbsorb: return ApplyAbsorb(entry);
    case EntryType::kFreeze: {
      std::string value;
      AppendVarint(entry.position.index.value, &value);
      batch.Put(MetaKey(kFrozenKey), value);
      RETURN_IF_ERROR(ApplyShape(entry.position, statistics(), &batch));
      return false;
    }
    case EntryType::kThaw:
      batch.Delete(MetaKey(kFrozenKey));
      RETURN_IF_ERROR(ApplyShape(entry.position, statistics(), &batch));
      return false;
    case EntryType::kMerged: {
      ASSIGN_OR_RETURN(const MergedEntry merged, MergedEntry::Decode(entry.payload));
      // Where the range began to differ from what the records say, they say nothing any more.
      batch.Delete(MetaKey(kAbsorbKey));
      batch.Delete(MetaKey(kSplitKey));
      RETURN_IF_ERROR(ApplyShape(entry.position, merged.after, &batch));
      return false;
    }
    default: return Internal("not an entry that changes the shape");
  }
}

/// Takes the store to `position` with what the batch says besides.
Status Partition::ApplyShape(LogPosition position, const PartitionStatistics& after,
                             rocksdb::WriteBatch* batch) {
  AppliedState state;
  state.epoch = position.epoch;
  state.index = position.index;
  state.statistics = after;
  std::string encoded;
  state.EncodeTo(&encoded);
  batch->Put(ToSlice(kAppliedKey), encoded);
  RETURN_IF_ERROR(store().Apply(batch));
  std::lock_guard lock(statistics_mutex_);
  statistics_ = after;
  return Status::Ok();
}

void Partition::OnAppliedAlone(const replica::CommittedEntry& entry) {
  applied_index_.store(entry.position.index.value, std::memory_order_relaxed);
  if (!in_flight_.empty() && in_flight_.front().position == entry.position) in_flight_.pop_front();
  switch (static_cast<EntryType>(entry.type)) {
    case EntryType::kSplit: OnSplitApplied(entry); break;
    case EntryType::kFreeze: OnFreezeApplied(entry.position.index); break;
    case EntryType::kThaw: OnThawApplied(); break;
    case EntryType::kAbsorb: OnAbsorbApplied(entry); break;
    case EntryType::kMerged: OnMergedApplied(entry); break;
    default: break;
  }
  if (trim_due_) TrimOutside();
}

Status Partition::ProposeShape(EntryType type, std::string payload,
                               const PartitionStatistics& after) {
  CloseBatch();
  if (!effects_.empty()) return Unavailable("a batch waits for the log");
  Entry entry;
  entry.after = after;
  RETURN_IF_ERROR(
      replica_->Propose(static_cast<uint8_t>(type), std::move(payload), &entry.position));
  evaluated_ = entry.after;
  in_flight_.push_back(std::move(entry));
  return Status::Ok();
}

Status Partition::LoadShape() {
  RETURN_IF_ERROR(LoadSplit(&installed_split_));
  storage::PinnedValue value;
  installed_absorb_.reset();
  ASSIGN_OR_RETURN(bool found, store().Get(MetaKey(kAbsorbKey), &value));
  if (found) {
    ASSIGN_OR_RETURN(installed_absorb_, DecodeAbsorbRecord(value.view()));
    // Of a store that was written before Absorb removed it.
    if (installed_split_.has_value() && installed_split_->index < installed_absorb_->index) {
      installed_split_.reset();
    }
  }
  LogIndex frozen;
  ASSIGN_OR_RETURN(found, store().Get(MetaKey(kFrozenKey), &value));
  std::string_view bytes = value.view();
  if (found && !ReadVarint(&bytes, &frozen.value)) {
    return Corruption("record of a freeze: malformed");
  }
  frozen_at_.store(frozen.value, std::memory_order_release);
  return Status::Ok();
}

// The right neighbour. ----------------------------------------------------------------------------

/// Proposes Freeze; from here on no write is admitted. Ok as well when it was.
Status Partition::ProposeFreeze() {
  if (!replica_->leading() || !serving_.load(std::memory_order_relaxed)) {
    if (!freeze_.IsNone() && reign_ != Epoch()) return Status::Ok();
    return {Code::kNotPrimary, "the partition is not served here now"};
  }
  if (!freeze_.IsNone()) return Status::Ok();
  if (split_.has_value() && Uncut(*split_)) return Unavailable("a split is under way");
  if (!admit_end_.empty() || absorb_.has_value()) return Unavailable("a change is under way");
  if (const uint64_t bytes = MergeCopyBytes(evaluated_);
      bytes > environment_.merge_copy_limit_bytes) {
    return InvalidArgument("partition " + id_.ToString() + " is too large to be merged: " +
                           std::to_string(bytes >> 20) + " MB to copy, of at most " +
                           std::to_string(environment_.merge_copy_limit_bytes >> 20));
  }
  RETURN_IF_ERROR(ProposeShape(EntryType::kFreeze, std::string(), evaluated_));
  freeze_.proposed = true;
  ThawLater();
  return Status::Ok();
}

void Partition::OnFreezeApplied(LogIndex index) {
  frozen_at_.store(index.value, std::memory_order_release);
  if (reign_ == Epoch()) return;
  freeze_.proposed = true;
  asio::post(home_, [self = shared_from_this(), index] {
    if (!self->stopping_) self->replica_->Ask(group::Freeze{index});
  });
}

void Partition::OnFrozen(LogIndex index, Revision revision) {
  freeze_.granted = index;
  freeze_.revision = revision;
  Wake();
}

/// The merge has not come about in time, or another reign has begun: takes the grant back.
void Partition::AskThaw() {
  if (stopping_ || reign_ == Epoch() || freeze_.thawing) return;
  freeze_.thawing = true;
  freeze_.granted = LogIndex();
  asio::post(home_, [self = shared_from_this()] {
    if (!self->stopping_) self->replica_->Ask(group::Thaw{});
  });
}

void Partition::ThawLater() {
  place_.home->PostAfter(kFrozenFor, [weak = weak_from_this(), epoch = reign_] {
    const auto self = weak.lock();
    if (self != nullptr && self->reign_ == epoch && !self->freeze_.IsNone()) self->AskThaw();
  });
}

void Partition::OnThawed() {
  if (reign_ == Epoch() || frozen_at() == LogIndex()) {
    freeze_ = Freezing();
    return;
  }
  const Status proposed = ProposeShape(EntryType::kThaw, std::string(), evaluated_);
  if (proposed.ok()) return;
  freeze_.thawing = false;
  ThawLater();
}

void Partition::OnThawApplied() {
  frozen_at_.store(0, std::memory_order_release);
  freeze_ = Freezing();
  Recount();  // what was counted meanwhile could not be said
}

// The left neighbour. -----------------------------------------------------------------------------

/// Proposes Absorb of the neighbour that `record` names. Ok as well when it was.
Status Partition::ProposeAbsorb(AbsorbRecord record, Revision grant) {
  if (!replica_->leading() || !serving_.load(std::memory_order_relaxed)) {
    return {Code::kNotPrimary, "the partition is not served here now"};
  }
  if (absorb_.has_value() && absorb_->right == record.right && absorb_->freeze == record.freeze) {
    // Refused once, and a Split proposed since: the key would grow past it, and Merged forget it.
    const bool kept = replica_->group().configuration().range_end == absorb_->start;
    if (kept && (!admit_end_.empty() || (split_.has_value() && Uncut(*split_)))) {
      return Unavailable("a split is under way");
    }
    grant_ = grant;
    FinishMerge();
    return Status::Ok();
  }
  if (absorbing_ == record.freeze) return Status::Ok();
  // Whoever asks may have looked before this very merge was done. Applied, the entry would remove
  // what lies past the neighbour's start: here, by now, this partition's own items.
  if (replica_->group().configuration().range_end != record.start || record.start.empty()) {
    return {Code::kConditionFailed, "the partitions are not neighbours"};
  }
  if (split_.has_value() && Uncut(*split_)) return Unavailable("a split is under way");
  if (!admit_end_.empty() || !freeze_.IsNone()) return Unavailable("a change is under way");
  const LogIndex freeze = record.freeze;
  RETURN_IF_ERROR(ProposeShape(EntryType::kAbsorb, record.Encode(), evaluated_));
  absorbing_ = freeze;
  proposed_absorb_ = in_flight_.back().position.index;
  grant_ = grant;
  return Status::Ok();
}

/// On a thread that may block. Copies the frozen neighbour's data behind this partition's range,
/// where nobody else removes anything until absorb_ says what it is (TrimOutside).
Result<bool> Partition::ApplyAbsorb(const replica::CommittedEntry& entry) {
  ASSIGN_OR_RETURN(AbsorbRecord record, AbsorbRecord::Decode(entry.position.index, entry.payload));
  // What an earlier one that came to nothing has left.
  for (const char space : Spaces()) {
    RETURN_IF_ERROR(TrimRange(StoreRange::Of(space, record.start, "")));
  }
  if (const auto right = place_.host->FindFrozen(record.right, record.freeze)) {
    const Status copied = CopyFrom(*right, record);
    record.held = copied.ok();
    if (!copied.ok()) {
      log::Error("a neighbour's data cannot be copied", "partition", id_, "right", record.right,
                 "status", copied);
    }
  }
  rocksdb::WriteBatch batch;
  batch.Put(MetaKey(kAbsorbKey), EncodeRecord(record));
  // A split before it has been cut: ProposeAbsorb() waits for that. Once the range has grown, its
  // record would read like one of a split that is still to be cut.
  batch.Delete(MetaKey(kSplitKey));
  RETURN_IF_ERROR(ApplyShape(entry.position, statistics(), &batch));
  RETURN_IF_ERROR(store().Flush(/*wait=*/true));
  installed_absorb_ = record;
  return record.held;
}

std::vector<char> Partition::Spaces() const {
  std::vector<char> spaces = {kItemSpace, kCollectionSpace};
  for (size_t i = 0; i < schema_->local_indexes.size(); ++i) {
    spaces.push_back(static_cast<char>(kLocalIndexSpace + static_cast<char>(i)));
  }
  return spaces;
}

Status Partition::CopyFrom(const Partition& right, const AbsorbRecord& record) {
  rocksdb::WriteBatch batch;
  const auto copy = [&](const StoreRange& range, auto rename) -> Status {
    const auto it =
        right.store().NewIterator(range.from, range.to, /*reverse=*/false, /*fill_cache=*/false);
    for (; it->Valid(); it->Next()) {
      batch.Put(rename(it->key()), ToSlice(it->value()));
      if (batch.GetDataSize() < kCopyBytes) continue;
      RETURN_IF_ERROR(store().Apply(&batch));
      batch.Clear();
    }
    return it->status();
  };
  for (const char space : Spaces()) {
    RETURN_IF_ERROR(copy(StoreRange::Of(space, record.start, record.end),
                         [](std::string_view key) { return std::string(key); }));
  }
  for (const std::string_view prefix : {RequestTable::kKeyPrefix, RequestTable::kInheritedPrefix}) {
    RETURN_IF_ERROR(copy(StoreRange::OfMeta(prefix), [&](std::string_view key) {
      return MetaKey(RequestTable::InheritedKeyOf(record.right, key.substr(1)));
    }));
  }
  return store().Apply(&batch);
}

void Partition::OnAbsorbApplied(const replica::CommittedEntry& entry) {
  CHECK(installed_absorb_.has_value() && installed_absorb_->index == entry.position.index);
  absorb_ = std::move(installed_absorb_);
  installed_absorb_.reset();
  split_.reset();
  absorbing_ = LogIndex();
  SetRange(replica_->group().configuration());
  // Whoever is behind takes a checkpoint: the log alone would not bring it the data.
  asio::post(home_, [self = shared_from_this(), position = entry.position] {
    if (self->stopping_) return;
    self->replica_->OnFlushed(position, /*force=*/true);
    self->FinishMerge();
  });
}

/// On the primary, where Absorb is applied: the keys are to be changed, or have been.
void Partition::FinishMerge() {
  if (!absorb_.has_value() || reign_ == Epoch() || !replica_->leading()) return;
  const group::Configuration& configuration = replica_->group().configuration();
  if (configuration.range_end != absorb_->start) {
    if (configuration.range_end == absorb_->end) ProposeMerged();
    return;
  }
  // The grant is for one that is not applied yet: it says nothing of what an earlier one has put
  // aside, which the neighbour may have changed since.
  if (absorb_->index < proposed_absorb_) return;
  // Another reign's is void: asked for again, if at all.
  if (grant_ == Revision() || grant_ == asked_grant_) return;
  asked_grant_ = grant_;
  group::FinishMerge finish;
  finish.index = absorb_->index;
  finish.right = absorb_->right;
  finish.right_revision = grant_;
  finish.range_end = absorb_->end;
  replica_->Ask(finish);
}

/// Not from within a call of the replica.
void Partition::FinishMergeLater() {
  if (!absorb_.has_value()) return;
  asio::post(home_, [self = shared_from_this()] {
    if (!self->stopping_) self->FinishMerge();
  });
}

void Partition::ProposeMerged() {
  if (merged_proposed_) return;
  MergedEntry merged;
  merged.absorb = absorb_->index;
  merged.after = Add(evaluated_, absorb_->figures);
  const Status proposed = ProposeShape(EntryType::kMerged, merged.Encode(), merged.after);
  merged_proposed_ = proposed.ok();
  if (proposed.ok()) figures_from_ = in_flight_.back().position.index;
}

void Partition::OnMergedApplied(const replica::CommittedEntry& entry) {
  const Result<MergedEntry> merged = MergedEntry::Decode(entry.payload);
  CHECK(merged.ok());
  const bool held = absorb_.has_value() && absorb_->index == merged->absorb && absorb_->held;
  absorb_.reset();
  split_.reset();
  merged_proposed_ = false;
  grant_ = asked_grant_ = Revision();
  if (!held) {
    // The merge came about without this replica.
    asio::post(home_, [self = shared_from_this()] {
      if (!self->stopping_) self->replica_->Ask(group::Rebuild{});
    });
    return;
  }
  if (reign_ != Epoch()) {
    if (const Status loaded = LoadInherited(); !loaded.ok()) {
      log::Error("cannot read a neighbour's recent requests", "partition", id_, "status", loaded);
    }
  }
  SetRange(replica_->group().configuration());
  Recount();
}

void Partition::OnMergeRefused(PartitionId) {
  // The neighbour is frozen no more: what was put aside is dropped by the next Absorb.
  grant_ = asked_grant_ = Revision();
}

/// The merge is given up by whoever asked for it.
void Partition::CancelMerge() {
  grant_ = asked_grant_ = Revision();
  absorbing_ = LogIndex();
  if (reign_ != Epoch()) replica_->Ask(group::CancelMerge{});
}

}  // namespace onggi::partition
