#include <rocksdb/write_batch.h>

#include <boost/asio/post.hpp>

#include "common/log.h"
#include "common/varint.h"
#include "replication/group/mutation.h"
#include "server/partition/evaluate.h"
#include "server/partition/execute.h"
#include "server/partition/partition.h"

/// The write path of Partition: inbox, evaluation, batches.
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

constexpr char kDiskFull[] = "the disk is full: writes are refused until space returns";
constexpr char kNotServed[] = "the partition is not served here now";

}  // namespace

void Partition::TaskList::Push(WriteTask* task) {
  task->next_ = nullptr;
  if (tail == nullptr) {
    head = task;
  } else {
    tail->next_ = task;
  }
  tail = task;
}

WriteTask* Partition::TaskList::Pop() {
  WriteTask* const task = head;
  head = task->next_;
  if (head == nullptr) tail = nullptr;
  task->next_ = nullptr;
  return task;
}

void Partition::Submit(WriteTask* task) {
  if (queued_.fetch_add(1, std::memory_order_relaxed) >= kMaxQueuedWrites) {
    queued_.fetch_sub(1, std::memory_order_relaxed);
    task->outcome.status = {Code::kResourceExhausted,
                            "too many writes are waiting for the partition"};
    Completions done;
    done.Finish(task->join_);
    return;
  }
  bool post;
  {
    std::lock_guard lock(inbox_mutex_);
    inbox_.Push(task);
    post = !drain_posted_;
    drain_posted_ = true;
  }
  if (post) asio::post(home_, [self = shared_from_this()] { self->Drain(); });
}

void Partition::Drain() {
  {
    std::lock_guard lock(inbox_mutex_);
    drain_posted_ = false;
    if (!inbox_.empty()) {
      if (waiting_.empty()) {
        waiting_ = inbox_;
      } else {
        waiting_.tail->next_ = inbox_.head;
        waiting_.tail = inbox_.tail;
      }
      inbox_ = {};
    }
  }
  if (const Status refusal = Refusal(); !refusal.ok()) {
    FailTasks(&waiting_, refusal);
    return;
  }
  while (!waiting_.empty()) {
    if (uncommitted_bytes_ + effects_.size() > kMaxUncommittedBytes) break;  // resumes on apply
    EvaluateTask(waiting_.Pop());
    if (effects_.size() + open_requests_.size() >= kMaxBatchBytes) CloseBatch();
  }
  if (in_flight_.size() < kMaxEntriesInFlight) CloseBatch();
}

/// Why nothing is admitted now.
Status Partition::Refusal() const {
  if (!serving_.load(std::memory_order_relaxed) || !freeze_.IsNone()) {
    return {Code::kNotPrimary, kNotServed};
  }
  if (replica_->apply_blocked() || environment_.disk_low->load(std::memory_order_relaxed)) {
    return {Code::kOutOfSpace, kDiskFull};
  }
  return Status::Ok();
}

Result<uint64_t> Partition::CollectionBytesNow(std::string_view prefix) const {
  if (const auto latch = collection_latches_.find(prefix); latch != collection_latches_.end()) {
    return latch->second.bytes;
  }
  return CollectionBytes(prefix);
}

void Partition::EvaluateTask(WriteTask* task) {
  const WriteRequest& request = task->request;
  if (!range_.load(std::memory_order_relaxed)->Holds(request.key) ||
      (!admit_end_.empty() && request.key >= admit_end_ &&
       !group::Mutated(group::Mutation::kAdmitPastSplit))) {
    task->outcome.status = {Code::kNotPrimary, "the partition does not hold the key"};
    FinishTask(task);
    return;
  }
  const bool named = request.id.boot != 0;
  if (named && AnswerRetry(task)) return;
  const LogIndex index = replica_->next_position().index;

  // The newest version: uncommitted in a latch, or applied in the store.
  storage::PinnedValue stored;
  model::ItemView old_item;
  const auto latch =
      group::Mutated(group::Mutation::kIgnoreLatch) ? latches_.end() : latches_.find(request.key);
  if (latch != latches_.end()) {
    if (!latch->second.item.empty()) old_item = model::ItemView(latch->second.item);
  } else {
    scratch_.assign(1, kItemSpace);
    scratch_.append(request.key);
    Result<bool> found = store().Get(scratch_, &stored);
    if (found.ok() && *found) old_item = model::ItemView(stored.view());
    if (!found.ok()) task->outcome.status = found.status();
  }
  uint64_t collection_bytes = 0;
  if (!schema_->local_indexes.empty() && task->outcome.status.ok()) {
    Result<uint64_t> bytes = CollectionBytesNow(CollectionPrefixOf(*schema_, request, &scratch_));
    if (bytes.ok()) {
      collection_bytes = *bytes;
    } else {
      task->outcome.status = bytes.status();
    }
  }
  if (!task->outcome.status.ok()) {
    FinishTask(task);
    return;
  }

  Evaluation evaluation = Evaluate(*schema_, environment_.collection_limit_bytes, request, old_item,
                                   collection_bytes, &effects_, &evaluated_, &task->outcome);
  // A write that fails its condition or changes nothing is load as well.
  const size_t billed = std::max(task->outcome.old_size, task->outcome.new_size);
  load_.OnWrite(request.key, std::max<double>(1, static_cast<double>((billed + 1023) / 1024)));
  if (!evaluation.changes) {
    // An answer without an entry is a strong read (R5). What it saw in a latch is not committed
    // yet: it is answered with the entry that commits it.
    if (latch == latches_.end()) {
      if (!ServesStrongReads()) {
        task->outcome = WriteOutcome();
        task->outcome.status = {Code::kNotPrimary, kNotServed};
      }
      FinishTask(task);
      return;
    }
    EntryOf(latch->second.index)->tasks.Push(task);
    return;
  }

  if (!schema_->local_indexes.empty()) {
    const std::string prefix(CollectionPrefixOf(*schema_, request, &scratch_));
    std::string value;
    AppendVarint(task->outcome.collection_bytes, &value);
    if (task->outcome.collection_bytes == 0) {
      effects_.Delete(kCollectionSpace, prefix);
    } else {
      effects_.Put(kCollectionSpace, prefix, value);
    }
    CollectionLatch& collection = collection_latches_[prefix];
    if (collection.index != index) {
      if (collection.index != LogIndex()) replaced_collections_.emplace_back(prefix, collection);
      open_.collections.push_back(prefix);
    }
    collection = {task->outcome.collection_bytes, index};
  }
  if (latch != latches_.end()) {
    if (latch->second.index != index) {
      replaced_latches_.emplace_back(latch->first, std::move(latch->second));
      open_.keys.push_back(latch->first);
    }
    latch->second = {std::move(evaluation.new_item), index};
  } else {
    latches_.emplace(std::string(request.key), Latch{std::move(evaluation.new_item), index});
    open_.keys.emplace_back(request.key);
  }
  if (named) {
    open_requests_.Add(request.id, task->outcome);
    requests_.Add(index, request.id, place_.home->Now());
  }
  open_.tasks.Push(task);
}

/// The entry, gathering or in flight, that has this index.
Partition::Entry* Partition::EntryOf(LogIndex index) {
  for (Entry& entry : in_flight_) {
    if (entry.position.index == index) return &entry;
  }
  CHECK(index == replica_->next_position().index);
  return &open_;
}

/// R12: a write that was applied, or is about to be, is not applied again. False: it is new.
bool Partition::AnswerRetry(WriteTask* task) {
  const RequestTable::Where* const where = requests_.Find(task->request.id);
  if (where == nullptr) return false;
  if (where->index > replica_->applied().index) {
    EntryOf(where->index)->retries.Push(task);
  } else {
    AnswerFromRecord(task, where->key);
  }
  return true;
}

void Partition::AnswerFromRecord(WriteTask* task, const std::string& key) {
  scratch_.assign(1, kMetaSpace);
  scratch_.append(key);
  storage::PinnedValue record;
  const Result<bool> found = store().Get(scratch_, &record);
  Result<WriteOutcome> outcome =
      found.ok() && *found ? RequestTable::FindOutcome(record.view(), task->request.id)
                           : Result<WriteOutcome>(Status(Code::kUnknownOutcome,
                                                         "the write's outcome is no longer known"));
  if (outcome.ok()) {
    task->outcome = *std::move(outcome);
  } else {
    task->outcome.status = {Code::kUnknownOutcome, outcome.status().message()};
  }
  FinishTask(task);
}

void Partition::FinishTask(WriteTask* task) {
  queued_.fetch_sub(1, std::memory_order_relaxed);
  Completions done;
  done.Finish(task->join_);
}

void Partition::CloseBatch() {
  if ((effects_.empty() && !recounted_) || !replica_->leading()) return;
  recounted_ = false;
  const LogIndex index = replica_->next_position().index;
  if (!open_requests_.empty()) {
    effects_.Put(kMetaSpace, RequestTable::KeyOf(index),
                 open_requests_.Encode(place_.home->WallNow()));
    for (const std::string& expired : requests_.TakeExpired(place_.home->Now())) {
      effects_.Delete(kMetaSpace, expired);
    }
    open_requests_ = RequestTable::Record();
  }
  Entry entry = std::move(open_);
  open_ = Entry();
  entry.after = evaluated_;
  std::string payload = effects_.Finish(evaluated_);
  entry.bytes = payload.size();
  const Status appended = replica_->Propose(static_cast<uint8_t>(EntryType::kWrites),
                                            std::move(payload), &entry.position);
  if (!appended.ok()) {
    open_ = std::move(entry);
    AbandonBatch(appended);
    return;
  }
  uncommitted_bytes_ += entry.bytes;
  in_flight_.push_back(std::move(entry));
  replaced_latches_.clear();
  replaced_collections_.clear();
}

/// The log refused the batch: nothing of it happened. Its latches fall back to what is in flight.
void Partition::AbandonBatch(const Status& status) {
  FailTasks(&open_.tasks, status);
  FailTasks(&open_.retries, status);
  RestoreLatches();
  open_ = Entry();
  effects_ = EffectWriter();
  open_requests_ = RequestTable::Record();
}

/// As they were before the batch that is given up, but for entries that have been applied since.
void Partition::RestoreLatches() {
  for (const std::string& key : open_.keys) latches_.erase(key);
  for (const std::string& key : open_.collections) collection_latches_.erase(key);
  const LogIndex applied(applied_index_.load(std::memory_order_relaxed));
  for (auto& [key, latch] : std::exchange(replaced_latches_, {})) {
    if (latch.index > applied) latches_.insert_or_assign(std::move(key), std::move(latch));
  }
  for (auto& [key, latch] : std::exchange(replaced_collections_, {})) {
    if (latch.index > applied) collection_latches_.insert_or_assign(std::move(key), latch);
  }
  LogIndex last = applied;
  if (in_flight_.empty()) {
    std::lock_guard lock(statistics_mutex_);
    evaluated_ = statistics_;
  } else {
    evaluated_ = in_flight_.back().after;
    last = in_flight_.back().position.index;
  }
  requests_.DropSuffix(LogIndex(last.value + 1));
}

void Partition::ReleaseLatches(const Entry& entry) {
  for (const std::string& key : entry.keys) {
    const auto latch = latches_.find(key);
    if (latch != latches_.end() && latch->second.index == entry.position.index) {
      latches_.erase(latch);
    }
  }
  for (const std::string& key : entry.collections) {
    const auto latch = collection_latches_.find(key);
    if (latch != collection_latches_.end() && latch->second.index == entry.position.index) {
      collection_latches_.erase(latch);
    }
  }
}

void Partition::FailTasks(TaskList* tasks, const Status& status) {
  Completions done;
  while (!tasks->empty()) {
    WriteTask* const task = tasks->Pop();
    task->outcome.status = status;
    queued_.fetch_sub(1, std::memory_order_relaxed);
    done.Finish(task->join_);
  }
}

}  // namespace onggi::partition
