#include <rocksdb/write_batch.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "common/log.h"
#include "replication/group/mutation.h"
#include "server/partition/effects.h"
#include "server/partition/execute.h"
#include "server/partition/partition.h"
#include "server/partition/replica_files.h"

/// Partition as the state machine of its replica.
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

constexpr char kNotServed[] = "the partition is not served here now";
constexpr char kDiskFull[] = "the disk is full: writes are refused until space returns";
constexpr char kMoved[] = "the partition moved while the write was on its way";

}  // namespace

// Entries. ----------------------------------------------------------------------------------------

Status Partition::Apply(std::span<const replica::CommittedEntry> entries) {
  if (Status status = ApplyEntries(entries); !status.ok()) {
    // What gathers and what the byte bound holds back has not been asked of anyone.
    if (!open_.tasks.empty() || !effects_.empty()) AbandonBatch({Code::kOutOfSpace, kDiskFull});
    FailTasks(&waiting_, {Code::kOutOfSpace, kDiskFull});
    OnCommitBlocked(entries.back().position.index);
    return status;
  }
  TaskList retries;
  Completions done;
  size_t finished = 0;
  for (const replica::CommittedEntry& applied : entries) {
    if (in_flight_.empty() || in_flight_.front().position != applied.position) continue;
    Entry& entry = in_flight_.front();
    ReleaseLatches(entry);
    uncommitted_bytes_ -= entry.bytes;
    while (!entry.tasks.empty()) {
      done.Finish(entry.tasks.Pop()->join_);
      ++finished;
    }
    while (!entry.retries.empty()) retries.Push(entry.retries.Pop());
    in_flight_.pop_front();
  }
  queued_.fetch_sub(finished, std::memory_order_relaxed);
  done.Post();
  while (!retries.empty()) {
    WriteTask* const task = retries.Pop();
    const RequestTable::Where* const where = requests_.Find(task->request.id);
    AnswerFromRecord(task, where == nullptr ? std::string() : where->key);
  }
  return Status::Ok();
}

Status Partition::ApplyEntries(std::span<const replica::CommittedEntry> entries) {
  size_t bytes = 64;
  for (const replica::CommittedEntry& entry : entries) bytes += entry.payload.size();
  rocksdb::WriteBatch batch(bytes);
  AppliedState state;
  {
    std::lock_guard lock(statistics_mutex_);
    state.statistics = statistics_;
  }
  for (const replica::CommittedEntry& entry : entries) {
    state.epoch = entry.position.epoch;
    state.index = entry.position.index;
    switch (static_cast<EntryType>(entry.type)) {
      case EntryType::kEpochStart: break;
      case EntryType::kWrites:
        RETURN_IF_ERROR(ReplayEffects(entry.payload, &batch, &state.statistics));
        break;
      default:
        return Corruption("partition " + id_.ToString() + ": entry " +
                          entry.position.index.ToString() +
                          " is of a type newer than this program");
    }
  }
  std::string encoded;
  state.EncodeTo(&encoded);
  batch.Put(rocksdb::Slice(kAppliedKey.data(), kAppliedKey.size()), encoded);
  RETURN_IF_ERROR(store().Apply(&batch));
  applied_index_.store(state.index.value, std::memory_order_relaxed);
  std::lock_guard lock(statistics_mutex_);
  statistics_ = std::move(state.statistics);
  return Status::Ok();
}

/// Resuming flushes: not on an I/O thread.
Status Partition::Recover() { return store().Resume(); }

/// Committed, in the log, and not readable yet: it will be, after a retry or a restart.
void Partition::OnCommitBlocked(LogIndex commit) {
  const Status status = {Code::kUnknownOutcome,
                         "the write is in the log but could not be applied yet"};
  for (Entry& entry : in_flight_) {
    if (entry.position.index > commit) break;
    FailTasks(&entry.tasks, status);
    FailTasks(&entry.retries, status);
  }
}

void Partition::OnApplied() {
  Wake();
  if (absorb_.has_value() && reign_ != Epoch()) FinishMerge();
  // The next batch has gathered meanwhile; what the byte bound held back goes on.
  if (!waiting_.empty()) {
    Drain();
  } else {
    CloseBatch();
  }
}

// Reigns. -----------------------------------------------------------------------------------------

void Partition::OnReignBegan(Epoch epoch) {
  if (const Status loaded = LoadRequests(); !loaded.ok()) {
    // Without it a retry would apply twice.
    log::Error("cannot read the recent requests", "partition", id_, "status", loaded);
    asio::post(home_, [self = shared_from_this(), loaded] {
      self->replica_->Stop();
      self->OnFatal(loaded);
    });
    return;
  }
  {
    std::lock_guard lock(statistics_mutex_);
    evaluated_ = statistics_;
  }
  reign_ = epoch;
  figures_from_ = LogIndex();
  admit_end_.clear();
  recounted_ = false;
  serving_.store(!stopping_, std::memory_order_release);
  FinishSplit();
  FinishMerge();
  if (frozen_at() != LogIndex()) {
    // Whoever froze it has to begin again: the grant was another reign's.
    freeze_.proposed = true;
    AskThaw();
  }
  Recount();
  Wake();
}

/// What a neighbour has brought.
Status Partition::LoadInherited() {
  const BootTime now = place_.home->Now();
  const StoreRange all = StoreRange::OfMeta(RequestTable::kInheritedPrefix);
  const auto it = store().NewIterator(all.from, all.to, /*reverse=*/false, /*fill_cache=*/false);
  for (; it->Valid(); it->Next()) {
    RETURN_IF_ERROR(requests_.LoadOlder(it->key().substr(1), it->value(), now));
  }
  return it->status();
}

/// Everything before the reign is applied: what the store says is all there is.
Status Partition::LoadRequests() {
  requests_.Clear();
  if (group::Mutated(group::Mutation::kForgetRequests)) return Status::Ok();
  const BootTime now = place_.home->Now();
  for (const std::string_view prefix : {RequestTable::kInheritedPrefix, RequestTable::kKeyPrefix}) {
    const StoreRange all = StoreRange::OfMeta(prefix);
    const auto it = store().NewIterator(all.from, all.to, /*reverse=*/false, /*fill_cache=*/false);
    for (; it->Valid(); it->Next()) {
      RETURN_IF_ERROR(requests_.Load(it->key().substr(1), it->value(), now));
    }
    RETURN_IF_ERROR(it->status());
  }
  return Status::Ok();
}

/// R12: what is appended may still be committed by whoever leads next; what is not was never asked.
void Partition::OnReignEnded() {
  serving_.store(false, std::memory_order_release);
  for (Entry& entry : in_flight_) {
    FailTasks(&entry.tasks, {Code::kUnknownOutcome, kMoved});
    FailTasks(&entry.retries, {Code::kUnknownOutcome, kMoved});
  }
  in_flight_.clear();
  uncommitted_bytes_ = 0;
  FailTasks(&open_.tasks, {Code::kNotPrimary, kNotServed});
  FailTasks(&open_.retries, {Code::kNotPrimary, kNotServed});
  open_ = Entry();
  effects_ = EffectWriter();
  open_requests_ = RequestTable::Record();
  latches_.clear();
  collection_latches_.clear();
  replaced_latches_.clear();
  replaced_collections_.clear();
  requests_.Clear();
  reign_ = Epoch();
  freeze_ = Freezing();
  absorbing_ = proposed_absorb_ = LogIndex();
  grant_ = asked_grant_ = Revision();
  merged_proposed_ = false;
  admit_end_.clear();
  recounted_ = false;
  FailTasks(&waiting_, {Code::kNotPrimary, kNotServed});
  Wake();
}

void Partition::OnAdmissionChanged(bool serving) {
  serving_.store(serving && !stopping_, std::memory_order_release);
  // What gathers can wait for the doubt to end, but not for another reign.
  if (!serving) FailTasks(&waiting_, {Code::kNotPrimary, kNotServed});
  if (serving) {  // what was not asked for while there was doubt
    FinishSplit();
    FinishMergeLater();
  }
  Wake();
}

/// They were proposed under another reign, whose end has answered their writes.
void Partition::OnSuffixDropped(LogIndex from) {
  CHECK(in_flight_.empty());
  if (unknown_until_.load() >= from.value) unknown_until_.store(from.value - 1);
}

void Partition::OnConfiguration(std::shared_ptr<const group::Configuration> configuration,
                                Revision revision) {
  SetRange(*configuration);
  auto known = std::make_shared<KnownConfiguration>();
  known->configuration = *configuration;
  known->revision = revision;
  {
    std::lock_guard lock(configuration_mutex_);
    configuration_ = known;
  }
  if (split_.has_value() && !Uncut(*split_)) {
    admit_end_.clear();
    split_.reset();  // done; a merge may take the range past it again
    Recount();
  }
  if (absorb_.has_value() && configuration->range_end != absorb_->start) FinishMergeLater();
  TrimOutside();
  const group::Member self{environment_.node, place_.replica};
  readable_.store(configuration->InSync(self), std::memory_order_relaxed);
  if (place_.host != nullptr) place_.host->OnConfiguration(schema_->id, id_, *known);
  Wake();
}

void Partition::OnRemoved() {
  readable_.store(false, std::memory_order_relaxed);
  GiveUpStart(NotFound("the partition has left this node"));
  if (place_.host != nullptr) place_.host->OnReplicaRemoved(schema_->id, id_);
}

void Partition::OnFatal(const Status& status) {
  serving_.store(false, std::memory_order_release);
  GiveUpStart(status);
  if (place_.host != nullptr && !stopping_) {
    place_.host->OnReplicaFailed(schema_->id, id_, status);
  }
}

// Checkpoints. ------------------------------------------------------------------------------------

Result<LogPosition> Partition::MakeCheckpoint(const std::string& directory) {
  RETURN_IF_ERROR(environment_.storage->files().Remove(directory));
  RETURN_IF_ERROR(store().MakeCheckpoint(directory));
  // What the copy holds, not what this store holds by now.
  ASSIGN_OR_RETURN(const AppliedState state, ReadAppliedState(*environment_.storage, directory));
  return LogPosition{state.epoch, state.index};
}

void Partition::DropCheckpoint(const std::string& directory) {
  if (const Status removed = environment_.storage->files().Remove(directory); !removed.ok()) {
    log::Warn("cannot remove a checkpoint", "partition", id_, "status", removed);
  }
}

Result<LogPosition> Partition::InstallCheckpoint(const std::string& directory) {
  ASSIGN_OR_RETURN(const std::string path,
                   InstallStore(environment_.storage->files(), Directory(), directory));
  ASSIGN_OR_RETURN(auto opened, storage::PartitionStore::Open(*environment_.storage, path,
                                                              /*create=*/false, StoreEvents()));
  storage::PinnedValue value;
  ASSIGN_OR_RETURN(const bool found, opened->Get(kAppliedKey, &value));
  if (!found) return Corruption(path + ": has no applied state");
  ASSIGN_OR_RETURN(AppliedState state, AppliedState::Decode(value.view()));
  UseStore(std::move(opened));
  const auto known = configuration();
  installed_split_.reset();
  RETURN_IF_ERROR(LoadShape());
  RETURN_IF_ERROR(TrimForeign(known->configuration.range_start, known->configuration.range_end,
                              installed_absorb_.has_value()));
  // Named by a split that is not done, it makes its child from here.
  installed_holds_ = installed_split_.has_value() &&
                     known->configuration.range_end != installed_split_->key &&
                     MakeChild(*installed_split_).ok();
  applied_index_.store(state.index.value, std::memory_order_relaxed);
  state.statistics.local_indexes.resize(schema_->local_indexes.size());
  std::lock_guard lock(statistics_mutex_);
  statistics_ = state.statistics;
  return LogPosition{state.epoch, state.index};
}

std::optional<LogIndex> Partition::OnInstalled() {
  split_ = std::move(installed_split_);
  installed_split_.reset();
  absorb_ = std::move(installed_absorb_);
  installed_absorb_.reset();
  if (split_.has_value() && !Uncut(*split_)) split_.reset();
  SetRange(replica_->group().configuration());
  if (trim_due_) TrimOutside();
  if (installed_holds_ && split_.has_value()) return split_->index;
  if (absorb_.has_value() && absorb_->held) return absorb_->index;
  return std::nullopt;
}

}  // namespace onggi::partition
