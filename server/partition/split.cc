#include <rocksdb/write_batch.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "common/log.h"
#include "replication/group/mutation.h"
#include "replication/group/record.h"
#include "server/model/key.h"
#include "server/partition/partition.h"
#include "server/partition/replica_files.h"

/// Partition: becoming two (R13).
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

/// A child begins behind an entry that is in no log, so that an empty replica never passes for one
/// that has its data.
constexpr LogPosition kChildBegins{Epoch(1), LogIndex(1)};

rocksdb::Slice ToSlice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

/// Part `share` of figures.
PartitionStatistics Scale(const PartitionStatistics& whole, double share) {
  const auto part = [share](uint64_t value) {
    return std::min(value, static_cast<uint64_t>(static_cast<double>(value) * share));
  };
  PartitionStatistics scaled;
  scaled.estimated = true;
  scaled.item_count = part(whole.item_count);
  scaled.item_bytes = part(whole.item_bytes);
  for (const auto& index : whole.local_indexes) {
    scaled.local_indexes.push_back({part(index.entry_count), part(index.entry_bytes)});
  }
  return scaled;
}

/// Figures may have been guesses: nothing goes below 0.
PartitionStatistics Subtract(const PartitionStatistics& whole, const PartitionStatistics& part) {
  const auto less = [](uint64_t a, uint64_t b) { return a > b ? a - b : 0; };
  PartitionStatistics rest = whole;
  rest.estimated = true;
  rest.item_count = less(whole.item_count, part.item_count);
  rest.item_bytes = less(whole.item_bytes, part.item_bytes);
  for (size_t i = 0; i < rest.local_indexes.size() && i < part.local_indexes.size(); ++i) {
    auto& index = rest.local_indexes[i];
    index.entry_count = less(index.entry_count, part.local_indexes[i].entry_count);
    index.entry_bytes = less(index.entry_bytes, part.local_indexes[i].entry_bytes);
  }
  return rest;
}

}  // namespace

// The primary's part. -----------------------------------------------------------------------------

/// Proposes that what lies at or past `key` becomes `child`. From here on no write there is
/// admitted. Ok also when the same was proposed and every in-sync member has an id in it.
Status Partition::ProposeSplit(SplitRecord record) {
  if (!replica_->leading() || !serving_.load(std::memory_order_relaxed)) {
    return {Code::kNotPrimary, "the partition is not served here now"};
  }
  const group::Configuration& configuration = replica_->group().configuration();
  // The key has grown and Merged is not applied: it would forget a Split before it.
  const bool grown = absorb_.has_value() && configuration.range_end == absorb_->end;
  if (!freeze_.IsNone() || absorbing_ != LogIndex() || grant_ != Revision() || grown) {
    return Unavailable("a merge is under way");
  }
  const bool again = split_.has_value() && Uncut(*split_);
  if (again) {
    if (split_->child != record.child || split_->key != record.key) {
      return Unavailable("another split is under way");
    }
    const bool all = std::all_of(
        configuration.in_sync.begin(), configuration.in_sync.end(),
        [&](const group::Member& member) { return split_->child_replicas.contains(member); });
    if (all) return Status::Ok();
    // Members were replaced since: the same child, with replicas for those that lack one.
    record.child_replicas.insert(split_->child_replicas.begin(), split_->child_replicas.end());
    for (const auto& [member, replica] : split_->child_replicas) {
      record.child_replicas[member] = replica;
    }
  } else if (!admit_end_.empty()) {
    return admit_end_ == record.key ? Status::Ok() : Unavailable("another split is under way");
  } else {
    RETURN_IF_ERROR(CheckCut(record.key));  // once: from then on the range ends there
  }
  CloseBatch();
  if (!effects_.empty()) return Unavailable("a batch waits for the log");
  if (again) {
    record.left = evaluated_;
    record.right = split_->right;
  } else {
    record.right = Scale(evaluated_, ShareFrom(record.key));
    record.left = Subtract(evaluated_, record.right);
  }
  Entry entry;
  entry.after = record.left;
  const Status appended =
      replica_->Propose(static_cast<uint8_t>(EntryType::kSplit), record.Encode(), &entry.position);
  if (!appended.ok()) return appended;
  admit_end_ = record.key;
  evaluated_ = entry.after;
  if (!again) figures_from_ = entry.position.index;
  in_flight_.push_back(std::move(entry));
  return Status::Ok();
}

/// May the partition be cut there?
Status Partition::CheckCut(std::string_view key) const {
  const Range* const range = range_.load(std::memory_order_relaxed);
  if (key <= range->start || !range->Holds(key)) {
    return InvalidArgument("the key is not inside the partition's range");
  }
  if (schema_->local_indexes.empty()) return Status::Ok();
  // Between item collections: the first item at or past it must not begin before it.
  const StoreRange behind = StoreRange::Of(kItemSpace, key, "");
  const auto it =
      store().NewIterator(behind.from, behind.to, /*reverse=*/false, /*fill_cache=*/true);
  RETURN_IF_ERROR(it->status());
  if (!it->Valid()) return Status::Ok();
  std::string prefix;
  const model::ItemView item(it->value());
  model::AppendCollectionPrefix(item.Find(schema_->partition_key.name), &prefix);
  if (prefix >= key) return Status::Ok();
  return InvalidArgument("with local indexes, a partition is cut between item collections");
}

double Partition::ShareFrom(std::string_view key) const {
  const Range* const range = range_.load(std::memory_order_relaxed);
  const auto bytes = [this](const StoreRange& part) {
    return static_cast<double>(store().ApproximateBytes(part.from, part.to));
  };
  const double left = bytes(StoreRange::Of(kItemSpace, range->start, key));
  const double right = bytes(StoreRange::Of(kItemSpace, key, range->end));
  return left + right > 0 ? right / (left + right) : 0.5;
}

/// Does the key not show the split yet?
bool Partition::Uncut(const SplitRecord& split) const {
  const group::Configuration& configuration = replica_->group().configuration();
  return split.key > configuration.range_start &&
         (configuration.range_end.empty() || split.key < configuration.range_end);
}

/// On the primary, where the latest Split is applied: the key is to be cut.
void Partition::FinishSplit() {
  if (!split_.has_value() || !Uncut(*split_) || !replica_->leading()) return;
  admit_end_ = split_->key;
  group::FinishSplit finish;
  finish.index = split_->index;
  finish.key = split_->key;
  finish.child = split_->child;
  finish.child_replicas = split_->child_replicas;
  asio::post(home_, [self = shared_from_this(), finish] {
    if (!self->stopping_) self->replica_->Ask(finish);
  });
}

// Applying. ---------------------------------------------------------------------------------------

Result<bool> Partition::ApplySplit(const replica::CommittedEntry& entry) {
  ASSIGN_OR_RETURN(const SplitRecord record,
                   SplitRecord::Decode(entry.position.index, entry.payload));
  // The child first: once the state has the Split, nobody makes it again.
  const Status made = MakeChild(record);
  if (!made.ok() && made.code() != Code::kNotFound) {
    log::Error("a split's child is not made here", "partition", id_, "child", record.child,
               "status", made);
  }
  rocksdb::WriteBatch batch;
  batch.Put(MetaKey(kSplitKey), EncodeRecord(record));
  RETURN_IF_ERROR(ApplyShape(entry.position, record.left, &batch));
  // Replayed, it could bring back a child that has been removed since.
  RETURN_IF_ERROR(store().Flush(/*wait=*/true));
  return made.ok();
}

/// On a thread that may block, while nothing is applied. kNotFound: the split names no child for
/// this replica.
Status Partition::MakeChild(const SplitRecord& record) {
  const auto mine = record.child_replicas.find({environment_.node, place_.replica});
  if (mine == record.child_replicas.end()) return NotFound("no replica of the child is due here");
  const std::string directory = environment_.partitions_directory + "/" + record.child.ToString();
  const storage::Files& files = environment_.storage->files();
  if (files.Exists(directory)) {
    ASSIGN_OR_RETURN(const ReplicaId there, ReadReplicaFile(files, directory));
    if (there == mine->second) return Status::Ok();  // an earlier life's, or an earlier Split's
    return {Code::kAlreadyExists, directory + ": is another replica"};
  }
  const std::string fresh = directory + ".new";
  RETURN_IF_ERROR(files.Remove(fresh));
  RETURN_IF_ERROR(files.MakeDirectories(fresh));
  RETURN_IF_ERROR(
      files.WriteSynced(fresh + "/REPLICA", "onggi-replica 1 " + mine->second.ToString() + "\n"));
  ParentMark mark;
  mark.table = schema_->id;
  mark.parent = id_;
  mark.key = record.key;
  RETURN_IF_ERROR(files.WriteSynced(fresh + "/PARENT", mark.Encode()));
  RETURN_IF_ERROR(store().MakeCheckpoint(fresh + "/store"));
  RETURN_IF_ERROR(BecomeChild(fresh + "/store", record));
  RETURN_IF_ERROR(files.SyncDirectory(fresh + "/store"));
  RETURN_IF_ERROR(files.SyncDirectory(fresh));
  RETURN_IF_ERROR(files.Rename(fresh, directory));
  RETURN_IF_ERROR(files.SyncDirectory(environment_.partitions_directory));
  if (place_.host != nullptr) place_.host->OnChildMade(record.child, mine->second);
  return Status::Ok();
}

/// Makes a copy of this partition's store its child's. The parent's half goes when it is opened.
Status Partition::BecomeChild(const std::string& path, const SplitRecord& record) {
  ASSIGN_OR_RETURN(
      auto child, storage::PartitionStore::Open(*environment_.storage, path, /*create=*/false, {}));
  // A child without something of what was applied would have lost acknowledged writes: it does not
  // count as held. (Seen with copies made after the disk had been full: PartitionStore::Flush.)
  storage::PinnedValue there;
  ASSIGN_OR_RETURN(const bool found, child->Get(kAppliedKey, &there));
  if (!found) return Unavailable("the copy for the child has no applied state");
  ASSIGN_OR_RETURN(const AppliedState copied, AppliedState::Decode(there.view()));
  if (copied.index.value < applied_index_.load()) {
    return Unavailable("the copy for the child ends at entry " + copied.index.ToString() +
                       ", before what is applied");
  }
  rocksdb::WriteBatch batch;
  for (const std::string_view key : {kSplitKey, kAbsorbKey, kFrozenKey}) {
    batch.Delete(MetaKey(key));
  }
  const StoreRange requests = StoreRange::OfMeta(RequestTable::kKeyPrefix);
  const auto it = child->NewIterator(requests.from, requests.to, /*reverse=*/false,
                                     /*fill_cache=*/false);
  for (; it->Valid(); it->Next()) {
    const std::string_view key = it->key().substr(1);
    batch.Put(MetaKey(RequestTable::InheritedKeyOf(id_, key)), ToSlice(it->value()));
    batch.Delete(ToSlice(it->key()));
  }
  RETURN_IF_ERROR(it->status());
  AppliedState state;
  state.epoch = kChildBegins.epoch;
  state.index = kChildBegins.index;
  state.statistics = record.right;
  std::string encoded;
  state.EncodeTo(&encoded);
  batch.Put(ToSlice(kAppliedKey), encoded);
  RETURN_IF_ERROR(child->Apply(&batch));
  if (group::Mutated(group::Mutation::kChildUnflushed)) return Status::Ok();
  return child->Flush(/*wait=*/true);
}

void Partition::OnSplitApplied(const replica::CommittedEntry& entry) {
  Result<SplitRecord> record = SplitRecord::Decode(entry.position.index, entry.payload);
  CHECK(record.ok());
  // Who applies it late may know the key as it is by now: cut, it says nothing any more. Kept, it
  // would pass for another split that is under way when the key changes next.
  split_.reset();
  if (Uncut(*record)) split_ = *std::move(record);
  SetRange(replica_->group().configuration());
  FinishSplit();
}

/// The store's record of the latest split. On a thread that may block.
Status Partition::LoadSplit(std::optional<SplitRecord>* split) const {
  storage::PinnedValue value;
  ASSIGN_OR_RETURN(const bool found, store().Get(MetaKey(kSplitKey), &value));
  if (!found) return Status::Ok();
  ASSIGN_OR_RETURN(*split, DecodeRecord(value.view()));
  return Status::Ok();
}

/// Is this replica's child of `split` on this disk?
bool Partition::HoldsChild(const SplitRecord& split) const {
  const auto mine = split.child_replicas.find({environment_.node, place_.replica});
  if (mine == split.child_replicas.end()) return false;
  const auto there =
      ReadReplicaFile(environment_.storage->files(),
                      environment_.partitions_directory + "/" + split.child.ToString());
  return there.ok() && *there == mine->second;
}

// Afterwards. -------------------------------------------------------------------------------------

/// On the home, when the configuration says what is held: removes the rest. While a thread that may
/// block has the state, that thread alone knows what lies outside the range (a neighbour that is
/// being copied, a checkpoint's), and this is made up for when it is done. The home lends the state
/// itself: no removal can be under way then.
void Partition::TrimOutside() {
  trim_due_ = replica_->state_lent();
  if (trim_due_) return;
  const auto known = configuration();  // as SetRange has it: readers look there afterwards
  const Status trimmed = TrimForeign(known->configuration.range_start,
                                     known->configuration.range_end, absorb_.has_value());
  if (!trimmed.ok()) {
    // Nobody sees it; the next opening tries again.
    log::Warn("cannot remove what a split has given away", "partition", id_, "status", trimmed);
  }
}

/// Removes what lies outside the range, if there is anything: what a split has given away, or left
/// with the parent. Of those who have the state: the home, or whom it is lent to. `absorbed`: what
/// lies behind the range is a neighbour's, put aside.
Status Partition::TrimForeign(const std::string& start, const std::string& end, bool absorbed) {
  for (const char space : Spaces()) {
    if (!start.empty()) RETURN_IF_ERROR(TrimRange(StoreRange::Of(space, "", start)));
    if (!end.empty() && !absorbed) RETURN_IF_ERROR(TrimRange(StoreRange::Of(space, end, "")));
  }
  return Status::Ok();
}

Status Partition::TrimRange(const StoreRange& range) {
  const auto it =
      store().NewIterator(range.from, range.to, /*reverse=*/false, /*fill_cache=*/false);
  if (!it->Valid()) return it->status();
  return store().RemoveRange(range.from, range.to);
}

/// Counts what a split has divided by guess. On the home, as a reign begins and when the range has
/// changed.
void Partition::Recount() {
  if (reign_ == Epoch() || !evaluated_.estimated || !FiguresAreOfRange()) return;
  const Range range = *range_.load(std::memory_order_relaxed);
  const auto work = [self = shared_from_this(), epoch = reign_, range] {
    AppliedState base;
    const Result<PartitionStatistics> exact = self->Count(range, &base);
    if (!exact.ok()) {
      log::Warn("cannot count a partition", "partition", self->id_, "status", exact.status());
    }
    if (!exact.ok() || self->stopping_walks_) return;
    asio::post(self->home_, [self, epoch, range, base, exact = *exact] {
      const Range* const now = self->range_.load(std::memory_order_relaxed);
      const bool same = epoch == self->reign_ && now->start == range.start && now->end == range.end;
      if (same) self->TakeCount(base, exact);
    });
  };
  if (!place_.home->Block(work)) {
    log::Warn("too much is queued for the disk to count a partition", "partition", id_);
  }
}

/// Is evaluated_ of what the range is? Not while a change of shape is under way: whatever ends it
/// counts.
bool Partition::FiguresAreOfRange() const {
  return admit_end_.empty() && figures_from_.value <= applied_index_.load();
}

/// The figures of what lies in `range`, and the state as it was at that moment. On a thread that
/// may block; ends early, with anything, when the partition stops.
Result<PartitionStatistics> Partition::Count(const Range& range, AppliedState* base) const {
  // One moment for all of it: writes go on meanwhile.
  const storage::PartitionStore::View view = store().TakeView();
  storage::PinnedValue value;
  ASSIGN_OR_RETURN(const bool found, store().Get(kAppliedKey, &value, view));
  if (!found) return Corruption("there is no applied state");
  ASSIGN_OR_RETURN(*base, AppliedState::Decode(value.view()));
  base->statistics.local_indexes.resize(schema_->local_indexes.size());
  PartitionStatistics exact;
  exact.local_indexes.resize(schema_->local_indexes.size());
  const auto walk = [&](char space, uint64_t* entries, uint64_t* bytes) {
    const StoreRange held = StoreRange::Of(space, range.start, range.end);
    const auto it = store().NewIterator(held.from, held.to, /*reverse=*/false,
                                        /*fill_cache=*/false, view);
    for (; it->Valid() && !stopping_walks_; it->Next()) {
      ++*entries;
      *bytes += model::ItemView(it->value()).BilledSize();
    }
    return it->status();
  };
  RETURN_IF_ERROR(walk(kItemSpace, &exact.item_count, &exact.item_bytes));
  for (size_t i = 0; i < exact.local_indexes.size(); ++i) {
    auto& index = exact.local_indexes[i];
    RETURN_IF_ERROR(walk(static_cast<char>(kLocalIndexSpace + static_cast<char>(i)),
                         &index.entry_count, &index.entry_bytes));
  }
  return exact;
}

/// What was counted corrects what was guessed, whatever has been written since.
void Partition::TakeCount(const AppliedState& base, const PartitionStatistics& exact) {
  if (!serving_.load(std::memory_order_relaxed) || !evaluated_.estimated) return;
  if (!FiguresAreOfRange() || base.index < figures_from_) return;
  if (!freeze_.IsNone()) return;  // nothing may follow a Freeze; whoever takes it in counts
  const PartitionStatistics& guess = base.statistics;
  const auto correct = [](uint64_t* now, uint64_t guessed, uint64_t counted) {
    *now += counted - guessed;
  };
  correct(&evaluated_.item_count, guess.item_count, exact.item_count);
  correct(&evaluated_.item_bytes, guess.item_bytes, exact.item_bytes);
  for (size_t i = 0; i < evaluated_.local_indexes.size(); ++i) {
    auto& index = evaluated_.local_indexes[i];
    correct(&index.entry_count, guess.local_indexes[i].entry_count,
            exact.local_indexes[i].entry_count);
    correct(&index.entry_bytes, guess.local_indexes[i].entry_bytes,
            exact.local_indexes[i].entry_bytes);
  }
  evaluated_.estimated = false;
  recounted_ = true;
  if (in_flight_.size() < kMaxEntriesInFlight) CloseBatch();
}

}  // namespace onggi::partition
