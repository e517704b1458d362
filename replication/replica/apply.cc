#include <algorithm>
#include <utility>

#include "common/log.h"
#include "replication/replica/replica.h"

// Replica: what it does to the log, and what it applies.

namespace onggi::replica {

namespace {

constexpr auto kLogRetryInterval = std::chrono::milliseconds(100);
constexpr auto kApplyRetryInterval = std::chrono::milliseconds(200);
/// Entries applied at once: bounds the time that the home is away.
constexpr size_t kApplyBytes = size_t{4} << 20;
/// Entries read back at once for the same.
constexpr size_t kReadBytes = size_t{1} << 20;

}  // namespace

// The log. ----------------------------------------------------------------------------------------

void Replica::QueueLogOperation(LogOperation operation) {
  log_operation_bytes_ += operation.bytes;
  log_operations_.push_back(std::move(operation));
  RunLogOperations();
}

/// In order; none before the configuration that it stands under is durable (R1).
void Replica::RunLogOperations() {
  while (!log_operations_.empty() && !persisting_ && !stopped_ && !installing_) {
    const Status status = RunLogOperation(&log_operations_.front());
    if (!status.ok()) {
      if (log_retry_armed_) return;
      log_retry_armed_ = true;
      home_.PostAfter(kLogRetryInterval, [self = shared_from_this()] {
        self->log_retry_armed_ = false;
        self->RunLogOperations();
      });
      return;
    }
    log_operation_bytes_ -= log_operations_.front().bytes;
    log_operations_.pop_front();
  }
}

Status Replica::RunLogOperation(LogOperation* operation) {
  if (operation->drop_from != LogIndex()) return log_.DropSuffix(id_, operation->drop_from);
  std::vector<log::EntryView> views;
  views.reserve(operation->entries.size());
  for (const Window::Entry& entry : operation->entries) {
    views.push_back({entry.position.epoch, entry.position.index, entry.type, entry.payload.view()});
  }
  return log_.Append(id_, views, shared_from_this());
}

void Replica::OnDurable(PartitionId, LogPosition position, const Status& status) {
  {
    std::lock_guard lock(durable_mutex_);
    durable_ = position;
    durable_status_ = status;
    if (durable_posted_) return;
    durable_posted_ = true;
  }
  home_.Post(std::static_pointer_cast<Runnable>(shared_from_this()));
}

void Replica::Run() {
  LogPosition position;
  Status status;
  {
    std::lock_guard lock(durable_mutex_);
    position = durable_;
    status = durable_status_;
    durable_posted_ = false;
  }
  if (stopped_) return;  // what is durable will be applied by the next start
  if (!status.ok()) {
    Fatal(status);  // the log is dead (R10); the process ends unless a test keeps it
    return;
  }
  Step(group::LogDurable{position});
  TrimWindow();
}

/// Over its bound the window gives up payloads that the log can give back.
void Replica::TrimWindow() {
  if (window_.bytes() <= options_.max_window_bytes || window_.empty()) return;
  const LogIndex durable = group_.durable_index();
  while (window_.bytes() > options_.max_window_bytes && !window_.empty() &&
         window_.first() <= durable) {
    window_.PopThrough(window_.first());
  }
}

// Apply. ------------------------------------------------------------------------------------------

void Replica::ApplyCommitted() {
  while (applied_.index < commit_ && !apply_blocked_ && !installing_ && !alone_ && !stopped_) {
    if (LogIndex(applied_.index.value + 1) < window_.first()) {
      ReadToApply();
      return;
    }
    if (!ApplyBatch()) return;
  }
}

/// From the window.
bool Replica::ApplyBatch() {
  batch_.clear();
  size_t bytes = 0;
  for (LogIndex index(applied_.index.value + 1); index <= commit_ && index < window_.next();
       ++index.value) {
    const Window::Entry& entry = window_.At(index);
    if (machine_->AppliesAlone(entry.type)) {
      if (!batch_.empty()) break;
      StartAlone(entry.position, entry.type, std::string(entry.payload.view()));
      return false;
    }
    batch_.push_back({entry.position, entry.type, entry.payload.view()});
    bytes += entry.payload.size();
    if (bytes >= kApplyBytes) break;
  }
  CHECK(!batch_.empty());
  return ApplyEntries().ok();
}

/// What batch_ has.
Status Replica::ApplyEntries() {
  if (Status status = machine_->Apply(batch_); !status.ok()) {
    BlockApply(status);
    return status;
  }
  applied_ = batch_.back().position;
  window_.PopThrough(applied_.index);
  news_applied_ = true;
  Step(group::Applied{applied_.index});
  return Status::Ok();
}

void Replica::StartAlone(LogPosition position, uint8_t type, std::string payload) {
  struct Work {
    CommittedEntry entry;
    std::string payload;
    Result<bool> holds = false;
  };
  auto work = std::make_shared<Work>();
  work->payload = std::move(payload);
  work->entry = {position, type, work->payload};
  alone_ = true;
  const bool submitted = Block([this, work] { work->holds = machine_->ApplyAlone(work->entry); },
                               [this, work] { FinishAlone(work->entry, work->holds); });
  if (submitted) return;
  alone_ = false;
  BlockApply(Unavailable("the disk has too much work queued"));
}

void Replica::FinishAlone(const CommittedEntry& entry, const Result<bool>& holds) {
  alone_ = false;
  if (stopped_) return;
  if (!holds.ok()) {
    BlockApply(holds.status());
    return;
  }
  applied_ = entry.position;
  window_.PopThrough(applied_.index);
  machine_->OnAppliedAlone(entry);
  news_applied_ = true;
  Step(group::Applied{applied_.index});
  if (*holds) Step(group::Holds{entry.position.index});
  ApplyCommitted();
  Notify();
}

/// What this process did not see, or has given up for memory.
void Replica::ReadToApply() {
  if (reading_) return;
  reading_ = true;
  const LogIndex from(applied_.index.value + 1);
  auto read = std::make_shared<Result<std::vector<log::Entry>>>(std::vector<log::Entry>());
  const bool submitted = Block([this, from, read] { *read = log_.Read(id_, from, kReadBytes); },
                               [this, from, read] { OnReadToApply(from, std::move(*read)); });
  if (submitted) return;
  home_.PostAfter(kLogRetryInterval, [self = shared_from_this()] {
    self->reading_ = false;
    self->ApplyCommitted();
    self->Notify();
  });
}

void Replica::OnReadToApply(LogIndex from, Result<std::vector<log::Entry>> read) {
  reading_ = false;
  if (stopped_) return;
  if (installing_ || from.value != applied_.index.value + 1) {
    ApplyCommitted();  // a checkpoint has come between
    Notify();
    return;
  }
  if (!read.ok()) {
    Fatal(read.status());
    return;
  }
  if (read->empty()) {
    Fatal(Corruption("partition " + id_.ToString() + ": the log lacks entry " + from.ToString()));
    return;
  }
  batch_.clear();
  for (log::Entry& entry : *read) {
    if (entry.index > commit_) break;
    if (machine_->AppliesAlone(entry.type)) {
      if (batch_.empty() && !apply_blocked_) {
        StartAlone({entry.epoch, entry.index}, entry.type, std::move(entry.payload));
        return;
      }
      break;
    }
    batch_.push_back({{entry.epoch, entry.index}, entry.type, entry.payload});
  }
  if (!batch_.empty() && !apply_blocked_) (void)ApplyEntries();
  ApplyCommitted();
  Notify();
}

/// The state machine refuses (a full disk): it is asked again until it takes entries.
void Replica::BlockApply(const Status& status) {
  if (status.code() == Code::kCorruption) {
    Fatal(status);
    return;
  }
  static log::RateLimit limit(std::chrono::seconds(10));
  if (const uint64_t times = limit.Allow()) {
    log::Error("cannot apply committed writes", "partition", id_, "times", times, "status", status);
  }
  apply_blocked_ = true;
  RetryApplyLater();
}

void Replica::RetryApplyLater() {
  home_.PostAfter(kApplyRetryInterval, [self = shared_from_this()] {
    if (self->stopped_) return;
    auto recovered = std::make_shared<Status>();
    const bool submitted =
        self->Block([self, recovered] { *recovered = self->machine_->Recover(); },
                    [self, recovered] { self->RetryApply(*recovered); });
    if (!submitted) self->RetryApplyLater();
  });
}

void Replica::RetryApply(const Status& recovered) {
  if (stopped_) return;
  if (!recovered.ok()) {
    RetryApplyLater();
    return;
  }
  apply_blocked_ = false;
  ApplyCommitted();
  if (apply_blocked_ || stopped_) return;
  log::Info("committed writes are applied again", "partition", id_);
  news_applied_ = true;
  Notify();
}

}  // namespace onggi::replica
