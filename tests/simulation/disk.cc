#include "tests/simulation/disk.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace onggi::simulation {

uint64_t State::Hash() const {
  uint64_t hash = 14695981039346656037ull;
  const auto mix = [&](uint64_t word) {
    hash = (hash ^ word) * 1099511628211ull;
    hash ^= hash >> 29;
  };
  for (const auto& [key, value] : data) {
    if (!end.empty() && key >= end) break;  // the child's, until the key is cut
    for (const char c : key) mix(static_cast<unsigned char>(c));
    mix(value.version);
    mix(value.value);
  }
  mix(frozen.value);
  for (const char c : end) mix(static_cast<unsigned char>(c));
  return hash;
}

Epoch DiskLog::EpochAt(LogIndex index) const {
  if (index == before.index) return before.epoch;
  if (index < before.index || index > last()) return {};
  return entries[index.value - before.index.value - 1].epoch;
}

void DiskWriter::Queue(Operation operation) {
  CHECK(!crashed_);
  operation.queued = scheduler_->now();
  queue_.push_back(std::move(operation));
  if (!syncing_) Sync();
}

void DiskWriter::Sync() {
  syncing_ = true;
  const size_t batch = queue_.size();
  const uint64_t flushes = flushes_;
  Time at = scheduler_->now() + random_->Between(faults_->least, faults_->most);
  at = std::max(at, faults_->hung_until);
  // Weak: a crash may free the writer before.
  scheduler_->At(at, [this, batch, flushes, alive = std::weak_ptr<int>(alive_)] {
    if (alive.expired() || crashed_) return;
    if (scheduler_->now() < faults_->hung_until) {  // it has hung meanwhile
      Sync();
      return;
    }
    if (unwritable()) {
      failed_();
      return;
    }
    syncing_ = false;
    if (flushes == flushes_) Finish(batch);
    if (!queue_.empty() && !syncing_) Sync();
  });
}

void DiskWriter::Finish(size_t operations) {
  for (size_t i = 0; i < operations; ++i) {
    Operation operation = std::move(queue_.front());
    queue_.pop_front();
    if (!operation.lost) Do(operation, operation.entries.size());
    if (operation.done) {
      run_([done = std::move(operation.done), outcome = operation.outcome] { done(outcome); });
    }
    if (operation.listener == nullptr) continue;
    // One call for a run of appends of one partition.
    bool more = false;
    for (size_t next = 0; next + i + 1 < operations && !more; ++next) {
      if (queue_[next].partition != operation.partition) continue;
      if (queue_[next].type != Operation::Type::kAppend) break;
      more = true;
    }
    if (more) continue;
    const log::Entry& last = operation.entries.back();
    const LogPosition position{last.epoch, last.index};
    run_([listener = operation.listener, partition = operation.partition, position] {
      listener->OnDurable(partition, position, Status::Ok());
    });
  }
}

bool DiskWriter::Flush() {
  if (unwritable()) {
    failed_();
    return false;
  }
  ++flushes_;
  Finish(queue_.size());
  return true;
}

void DiskWriter::Crash() {
  crashed_ = true;
  if (!queue_.empty()) {
    const size_t whole = random_->Below(queue_.size() + 1);
    for (size_t i = 0; i < whole; ++i) {
      if (!queue_[i].lost) Do(queue_[i], queue_[i].entries.size());
    }
    if (whole < queue_.size() && queue_[whole].type == Operation::Type::kAppend) {
      Operation& torn = queue_[whole];
      Do(torn, random_->Below(torn.entries.size() + 1));
    }
  }
  queue_.clear();
}

std::optional<Time> DiskWriter::oldest() const {
  if (queue_.empty()) return std::nullopt;
  return queue_.front().queued;
}

void DiskWriter::Do(const Operation& operation, size_t entries) {
  switch (operation.type) {
    case Operation::Type::kAppend: {
      DiskLog& log = disk_->logs[operation.partition];
      for (size_t i = 0; i < entries; ++i) {
        const log::Entry& entry = operation.entries[i];
        if (log.entries.empty() && entry.index.value != log.before.index.value + 1)
          log.before = {Epoch(), LogIndex(entry.index.value - 1)};
        CHECK(entry.index.value == log.last().value + 1);
        log.entries.push_back(entry);
      }
      break;
    }
    case Operation::Type::kDrop: {
      DiskLog& log = disk_->logs[operation.partition];
      CHECK(operation.from > log.before.index);
      if (operation.from <= log.last())
        log.entries.resize(operation.from.value - log.before.index.value - 1);
      log.compared = std::min(log.compared, LogIndex(operation.from.value - 1));
      break;
    }
    case Operation::Type::kRemove: disk_->logs.erase(operation.partition); break;
    case Operation::Type::kConfiguration:
      disk_->configurations[operation.partition] = operation.known;
      break;
    case Operation::Type::kForget: disk_->configurations.erase(operation.partition); break;
  }
  changed_(operation.partition);
}

LogIndex DiskWriter::QueuedLast(PartitionId partition) const {
  const auto found = disk_->logs.find(partition);
  LogIndex last = found == disk_->logs.end() ? LogIndex() : found->second.last();
  for (const Operation& operation : queue_) {
    if (operation.partition != partition) continue;
    if (operation.type == Operation::Type::kAppend) last = operation.entries.back().index;
    if (operation.type == Operation::Type::kDrop) last = LogIndex(operation.from.value - 1);
    if (operation.type == Operation::Type::kRemove) last = LogIndex();
  }
  return last;
}

namespace {
Status Gone() { return {Code::kIoError, "the process is gone"}; }
Status Full() { return {Code::kOutOfSpace, "the disk is full"}; }
}  // namespace

// The log. ----------------------------------------------------------------------------------------

Status SimulatedLog::Append(PartitionId partition, std::span<const log::EntryView> entries,
                            std::shared_ptr<log::AppendListener> listener) {
  CHECK(!entries.empty());
  if (writer_->crashed()) return Gone();
  if (writer_->full()) return Full();
  const LogIndex last = writer_->QueuedLast(partition);
  CHECK(last == LogIndex() || entries.front().index.value == last.value + 1);
  DiskWriter::Operation operation;
  operation.partition = partition;
  for (const log::EntryView& entry : entries)
    operation.entries.push_back({entry.epoch, entry.index, entry.type, std::string(entry.payload)});
  operation.listener = std::move(listener);
  writer_->Queue(std::move(operation));
  return Status::Ok();
}

Result<std::vector<log::Entry>> SimulatedLog::Read(PartitionId partition, LogIndex from,
                                                   size_t max_bytes) const {
  if (writer_->unreadable()) return Status(Code::kIoError, "the disk does not give it back");
  std::vector<log::Entry> result;
  const auto found = writer_->disk().logs.find(partition);
  if (found == writer_->disk().logs.end()) return result;
  const DiskLog& log = found->second;
  if (from <= log.before.index) return NotFound("truncated");
  size_t bytes = 0;
  for (LogIndex index = from; index <= log.last(); ++index.value) {
    const log::Entry& entry = log.entries[index.value - log.before.index.value - 1];
    bytes += entry.payload.size() + 16;
    if (!result.empty() && bytes > max_bytes) break;
    result.push_back(entry);
  }
  return result;
}

LogIndex SimulatedLog::FirstIndex(PartitionId partition) const {
  const auto found = writer_->disk().logs.find(partition);
  if (found == writer_->disk().logs.end()) return LogIndex(1);
  return LogIndex(found->second.before.index.value + 1);
}

LogIndex SimulatedLog::LastIndex(PartitionId partition) const {
  const auto found = writer_->disk().logs.find(partition);
  return found == writer_->disk().logs.end() ? LogIndex() : found->second.last();
}

Epoch SimulatedLog::EpochAt(PartitionId partition, LogIndex index) const {
  const auto found = writer_->disk().logs.find(partition);
  return found == writer_->disk().logs.end() ? Epoch() : found->second.EpochAt(index);
}

void SimulatedLog::Truncate(PartitionId partition, LogIndex up_to) {
  if (writer_->crashed() || !cut_(partition, up_to)) return;
  DiskLog& log = writer_->disk().logs[partition];
  if (up_to <= log.before.index) return;
  if (up_to >= log.last()) {
    log.before = {log.EpochAt(up_to), up_to};
    log.entries.clear();
    return;
  }
  const Epoch epoch = log.EpochAt(up_to);
  log.entries.erase(
      log.entries.begin(),
      log.entries.begin() + static_cast<ptrdiff_t>(up_to.value - log.before.index.value));
  log.before = {epoch, up_to};
}

Status SimulatedLog::DropSuffix(PartitionId partition, LogIndex from) {
  if (writer_->crashed()) return Gone();
  if (writer_->full()) return Full();
  DiskWriter::Operation operation;
  operation.type = DiskWriter::Operation::Type::kDrop;
  operation.partition = partition;
  operation.from = from;
  writer_->Queue(std::move(operation));
  return Status::Ok();
}

Status SimulatedLog::RemoveGroup(PartitionId partition) {
  if (writer_->crashed()) return Gone();
  if (writer_->full()) return Full();
  DiskWriter::Operation operation;
  operation.type = DiskWriter::Operation::Type::kRemove;
  operation.partition = partition;
  writer_->Queue(std::move(operation));
  return Status::Ok();
}

Status SimulatedLog::Flush() {
  if (writer_->crashed()) return Gone();
  if (writer_->Flush()) return Status::Ok();
  return {Code::kUnknownOutcome, "the disk fails"};
}

// Configurations. ---------------------------------------------------------------------------------

std::optional<replica::ConfigurationStore::Known> SimulatedConfigurations::Find(
    PartitionId partition) const {
  const auto found = writer_->disk().configurations.find(partition);
  if (found == writer_->disk().configurations.end()) return std::nullopt;
  return found->second;
}

void SimulatedConfigurations::AsyncPut(PartitionId partition,
                                       const group::Configuration& configuration, Revision revision,
                                       std::function<void(Status)> done) {
  if (writer_->crashed()) return;
  DiskWriter::Operation operation;
  operation.type = DiskWriter::Operation::Type::kConfiguration;
  operation.partition = partition;
  operation.known = {configuration, revision};
  operation.done = std::move(done);
  if (writer_->full()) {
    operation.outcome = Status(Code::kUnknownOutcome, "the disk is full");
    operation.lost = !writer_->Perhaps();
  }
  writer_->Queue(std::move(operation));
}

void SimulatedConfigurations::AsyncRemove(PartitionId partition) {
  if (writer_->crashed()) return;
  DiskWriter::Operation operation;
  operation.type = DiskWriter::Operation::Type::kForget;
  operation.partition = partition;
  writer_->Queue(std::move(operation));
}

}  // namespace onggi::simulation
