#include <rocksdb/write_batch.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/log.h"
#include "common/varint.h"
#include "server/partition/evaluate.h"
#include "server/partition/execute.h"
#include "server/partition/partition.h"

/// The write path of Partition: inbox, evaluation, batches, apply.
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

constexpr auto kApplyRetryInterval = std::chrono::milliseconds(200);
constexpr char kDiskFull[] = "the disk is full: writes are refused until space returns";

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
  Status refusal;
  if (!serving_.load(std::memory_order_relaxed)) {
    refusal = {Code::kNotPrimary, "the partition is not served here now"};
  } else if (apply_blocked_ || environment_.disk_low->load(std::memory_order_relaxed)) {
    refusal = {Code::kOutOfSpace, kDiskFull};
  }
  if (!refusal.ok()) {
    FailTasks(&waiting_, refusal);
    return;
  }
  while (!waiting_.empty()) {
    if (uncommitted_bytes_ + effects_.size() > kMaxUncommittedBytes) break;  // resumes on apply
    EvaluateTask(waiting_.Pop());
    if (effects_.size() >= kMaxBatchBytes) CloseBatch();
  }
  if (in_flight_.size() < kMaxEntriesInFlight) CloseBatch();
}

Result<uint64_t> Partition::CollectionBytesNow(std::string_view prefix) const {
  if (const auto latch = collection_latches_.find(prefix); latch != collection_latches_.end()) {
    return latch->second.bytes;
  }
  return CollectionBytes(prefix);
}

void Partition::EvaluateTask(WriteTask* task) {
  const WriteRequest& request = task->request;
  const LogIndex index(last_appended_.index.value + 1);

  // The newest version: uncommitted in a latch, or applied in the store.
  storage::PinnedValue stored;
  model::ItemView old_item;
  const auto latch = latches_.find(request.key);
  if (latch != latches_.end()) {
    if (!latch->second.item.empty()) old_item = model::ItemView(latch->second.item);
  } else {
    scratch_.assign(1, kItemSpace);
    scratch_.append(request.key);
    Result<bool> found = store_->Get(scratch_, &stored);
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
    TaskList failed;
    failed.Push(task);
    FailTasks(&failed, task->outcome.status);
    return;
  }

  Evaluation evaluation = Evaluate(*schema_, environment_.collection_limit_bytes, request, old_item,
                                   collection_bytes, &effects_, &evaluated_, &task->outcome);
  if (!evaluation.changes) {
    // An answer without an entry is a strong read (R5). What it saw in a latch is not committed
    // yet: it is answered with the entry that commits it.
    if (latch == latches_.end()) {
      queued_.fetch_sub(1, std::memory_order_relaxed);
      Completions done;
      done.Finish(task->join_);
      return;
    }
    const LogIndex seen = latch->second.index;
    if (seen == index) {
      open_.tasks.Push(task);
    } else {
      for (Entry& entry : in_flight_) {
        if (entry.position.index == seen) entry.tasks.Push(task);
      }
    }
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
    collection_latches_[prefix] = {task->outcome.collection_bytes, index};
    open_.collections.push_back(prefix);
  }
  if (latch != latches_.end()) {
    latch->second.item = std::move(evaluation.new_item);
    if (latch->second.index != index) {
      latch->second.index = index;
      open_.keys.push_back(latch->first);
    }
  } else {
    latches_.emplace(std::string(request.key), Latch{std::move(evaluation.new_item), index});
    open_.keys.emplace_back(request.key);
  }
  open_.tasks.Push(task);
}

void Partition::CloseBatch() {
  if (effects_.empty() || !group_.serving()) return;
  Entry entry = std::move(open_);
  open_ = Entry();
  entry.position = {group_.append_epoch(), LogIndex(last_appended_.index.value + 1)};
  entry.after = evaluated_;
  entry.payload = effects_.Finish(evaluated_);
  const log::EntryView view{entry.position.epoch, entry.position.index,
                            static_cast<uint8_t>(entry.type), entry.payload};
  const Status appended = environment_.log->Append(id_, std::span(&view, 1), shared_from_this());
  if (!appended.ok()) {
    open_ = std::move(entry);
    AbandonBatch(appended);
    return;
  }
  last_appended_ = entry.position;
  uncommitted_bytes_ += entry.payload.size();
  in_flight_.push_back(std::move(entry));
  Step(group::Propose{1});
}

/// The log refused the batch: nothing of it happened. Its latches fall back to what is in flight.
void Partition::AbandonBatch(const Status& status) {
  FailTasks(&open_.tasks, status);
  open_ = Entry();
  RebuildLatches();
}

/// Latches are what the payloads in flight say: after a refused batch they are read back from
/// there.
void Partition::RebuildLatches() {
  latches_.clear();
  collection_latches_.clear();
  {
    std::lock_guard lock(statistics_mutex_);
    evaluated_ = statistics_;
  }
  for (const Entry& entry : in_flight_) {
    if (entry.type != EntryType::kWrites) continue;
    evaluated_ = entry.after;
    const LogIndex index = entry.position.index;
    const Status status = ForEachEffect(
        entry.payload, nullptr, [&](std::string_view key, std::optional<std::string_view> value) {
          const std::string name(key.substr(1));
          if (key[0] == kItemSpace) {
            latches_[name] = {std::string(value.value_or("")), index};
          } else if (key[0] == kCollectionSpace) {
            uint64_t bytes = 0;
            std::string_view rest = value.value_or("");
            if (value.has_value()) CHECK(ReadVarint(&rest, &bytes));
            collection_latches_[name] = {bytes, index};
          }
        });
    CHECK(status.ok());
  }
}

void Partition::OnDurable(PartitionId, LogPosition position, const Status& status) {
  {
    std::lock_guard lock(durable_mutex_);
    durable_ = position;
    durable_status_ = status;
    if (durable_posted_) return;
    durable_posted_ = true;
  }
  asio::post(home_, [self = shared_from_this()] { self->HandleDurable(); });
}

void Partition::HandleDurable() {
  LogPosition position;
  Status status;
  {
    std::lock_guard lock(durable_mutex_);
    position = durable_;
    status = durable_status_;
    durable_posted_ = false;
  }
  if (stopping_) {
    // Stop() did not wait any longer and has answered. What is durable will be replayed.
    return;
  }
  if (!status.ok()) {
    // The log is dead (R10); the process ends unless a test keeps it.
    EndReign();
    return;
  }
  Step(group::LogDurable{position});
}

void Partition::ApplyCommitted() {
  if (in_flight_.empty()) return;
  if (in_flight_.front().position.index.value != applied_.index.value + 1) {
    Wake();  // entries of an earlier process stand before these: Start() replays them
    return;
  }
  size_t count = 0;
  while (count < in_flight_.size() && in_flight_[count].position.index <= commit_index_) ++count;
  if (count == 0) return;
  if (!apply_blocked_) {
    if (const Status status = ApplyEntries(count); !status.ok()) BlockApply(status);
  }
  if (apply_blocked_) {
    // Committed, in the log, and not readable yet: it will be, after a retry or a restart.
    for (size_t i = 0; i < count; ++i) {
      FailTasks(&in_flight_[i].tasks,
                {Code::kUnknownOutcome, "the write is in the log but could not be applied yet"});
    }
    return;
  }
  Completions done;
  for (size_t i = 0; i < count; ++i) {
    Entry& entry = in_flight_.front();
    ReleaseLatches(entry);
    uncommitted_bytes_ -= entry.payload.size();
    size_t finished = 0;
    while (!entry.tasks.empty()) {
      done.Finish(entry.tasks.Pop()->join_);
      ++finished;
    }
    queued_.fetch_sub(finished, std::memory_order_relaxed);
    in_flight_.pop_front();
  }
  done.Post();
  Step(group::Applied{applied_.index});
  // The next batch has gathered meanwhile; what the byte bound held back goes on.
  if (!waiting_.empty()) {
    Drain();
  } else {
    CloseBatch();
  }
}

Status Partition::ApplyEntries(size_t count) {
  rocksdb::WriteBatch batch(uncommitted_bytes_ + 64);
  AppliedState state;
  {
    std::lock_guard lock(statistics_mutex_);
    state.statistics = statistics_;
  }
  for (size_t i = 0; i < count; ++i) {
    const Entry& entry = in_flight_[i];
    state.epoch = entry.position.epoch;
    state.index = entry.position.index;
    if (entry.type == EntryType::kWrites) {
      // These bytes are our own, made in this process.
      CHECK(ReplayEffects(entry.payload, &batch, &state.statistics).ok());
    }
  }
  std::string encoded;
  state.EncodeTo(&encoded);
  batch.Put(rocksdb::Slice(kAppliedKey.data(), kAppliedKey.size()), encoded);
  RETURN_IF_ERROR(store_->Apply(&batch));
  applied_ = {state.epoch, state.index};
  std::lock_guard lock(statistics_mutex_);
  statistics_ = std::move(state.statistics);
  return Status::Ok();
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

/// The store refuses: until it takes writes again, nobody is left waiting for it.
void Partition::BlockApply(const Status& status) {
  static log::RateLimit limit(std::chrono::seconds(10));
  if (const uint64_t times = limit.Allow()) {
    log::Error("cannot apply committed writes", "partition", id_, "times", times, "status", status);
  }
  apply_blocked_ = true;
  // What gathers and what the byte bound holds back has not been asked of anyone.
  effects_ = EffectWriter();
  AbandonBatch({Code::kOutOfSpace, kDiskFull});
  FailTasks(&waiting_, {Code::kOutOfSpace, kDiskFull});
  RetryApplyLater();
}

void Partition::RetryApplyLater() {
  auto timer = std::make_shared<asio::steady_timer>(home_, kApplyRetryInterval);
  timer->async_wait([self = shared_from_this(), timer](const boost::system::error_code& error) {
    if (error || self->stopping_) return;
    // Resuming flushes: not on an I/O thread.
    const bool submitted = self->environment_.blocking->TrySubmit([self] {
      asio::post(self->home_,
                 [self, resumed = self->store_->Resume()] { self->RetryApply(resumed); });
    });
    if (!submitted) self->RetryApplyLater();
  });
}

void Partition::RetryApply(const Status& resumed) {
  if (stopping_) return;
  if (!resumed.ok()) {
    RetryApplyLater();
    return;
  }
  apply_blocked_ = false;
  ApplyCommitted();
  if (apply_blocked_) return;
  log::Info("committed writes are applied again", "partition", id_);
  Drain();
}

}  // namespace onggi::partition
