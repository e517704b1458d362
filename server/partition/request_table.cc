#include "server/partition/request_table.h"

#include <algorithm>
#include <utility>

#include "common/varint.h"

namespace onggi::partition {
namespace {

constexpr char kRecordVersion = 1;
constexpr char kOutcomeVersion = 1;

void AppendId(const RequestId& id, std::string* out) {
  AppendVarint(id.boot, out);
  AppendVarint(id.sequence, out);
}

bool ReadId(std::string_view* in, RequestId* id) {
  return ReadVarint(in, &id->boot) && ReadVarint(in, &id->sequence);
}

void AppendBigEndian(uint64_t value, std::string* out) {
  for (int shift = 56; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

uint64_t ToMilliseconds(WallTime time) {
  const auto since =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  return since < 0 ? 0 : static_cast<uint64_t>(since);
}

/// The record's head: version and time.
bool ReadHead(std::string_view* in, uint64_t* made_ms) {
  if (in->empty() || in->front() != kRecordVersion) return false;
  in->remove_prefix(1);
  return ReadVarint(in, made_ms);
}

}  // namespace

void EncodeOutcome(const WriteOutcome& outcome, std::string* out) {
  out->push_back(kOutcomeVersion);
  out->push_back(outcome.existed ? 1 : 0);
  AppendVarint(outcome.old_size, out);
  AppendVarint(outcome.new_size, out);
  AppendVarint(outcome.collection_bytes, out);
  AppendLengthPrefixed(outcome.old_item, out);
  AppendLengthPrefixed(outcome.new_item, out);
  AppendLengthPrefixed(outcome.updated_old, out);
  AppendLengthPrefixed(outcome.updated_new, out);
  AppendVarint(outcome.index_write_units.size(), out);
  for (const uint32_t units : outcome.index_write_units) AppendVarint(units, out);
}

Result<WriteOutcome> DecodeOutcome(std::string_view bytes) {
  const Status malformed = Corruption("recorded outcome: malformed");
  if (bytes.size() < 2 || bytes[0] != kOutcomeVersion) {
    return Corruption("recorded outcome: unknown version");
  }
  WriteOutcome outcome;
  outcome.existed = bytes[1] != 0;
  bytes.remove_prefix(2);
  uint64_t old_size, new_size, units;
  std::string_view old_item, new_item, updated_old, updated_new;
  if (!ReadVarint(&bytes, &old_size) || !ReadVarint(&bytes, &new_size) ||
      !ReadVarint(&bytes, &outcome.collection_bytes) || !ReadLengthPrefixed(&bytes, &old_item) ||
      !ReadLengthPrefixed(&bytes, &new_item) || !ReadLengthPrefixed(&bytes, &updated_old) ||
      !ReadLengthPrefixed(&bytes, &updated_new) || !ReadVarint(&bytes, &units) ||
      units > bytes.size()) {
    return malformed;
  }
  outcome.old_size = old_size;
  outcome.new_size = new_size;
  outcome.old_item = old_item;
  outcome.new_item = new_item;
  outcome.updated_old = updated_old;
  outcome.updated_new = updated_new;
  for (uint64_t i = 0; i < units; ++i) {
    uint64_t one;
    if (!ReadVarint(&bytes, &one)) return malformed;
    outcome.index_write_units.push_back(static_cast<uint32_t>(one));
  }
  if (!bytes.empty()) return malformed;
  return outcome;
}

void RequestTable::Record::Add(const RequestId& id, const WriteOutcome& outcome) {
  AppendId(id, &outcomes_);
  std::string encoded;
  EncodeOutcome(outcome, &encoded);
  AppendLengthPrefixed(encoded, &outcomes_);
}

std::string RequestTable::Record::Encode(WallTime now) const {
  std::string value(1, kRecordVersion);
  AppendVarint(ToMilliseconds(now), &value);
  value += outcomes_;
  return value;
}

const RequestTable::Where* RequestTable::Find(const RequestId& id) const {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : &found->second->where;
}

void RequestTable::Add(LogIndex index, const RequestId& id, BootTime now) {
  if (batches_.empty() || batches_.back()->where.index != index) {
    batches_.push_back(std::make_shared<Batch>(Batch{{index, KeyOf(index)}, now, {}}));
  }
  batches_.back()->ids.push_back(id);
  entries_[id] = batches_.back();
}

/// The same id may have been recorded again: a retry after the first was forgotten.
void RequestTable::Forget(const Batch& batch) {
  inherited_.erase(batch.where.key);
  for (const RequestId& id : batch.ids) {
    const auto found = entries_.find(id);
    if (found != entries_.end() && found->second.get() == &batch) entries_.erase(found);
  }
}

void RequestTable::DropSuffix(LogIndex from) {
  while (!batches_.empty() && batches_.back()->where.index >= from) {
    Forget(*batches_.back());
    batches_.pop_back();
  }
}

void RequestTable::Clear() {
  entries_.clear();
  batches_.clear();
  inherited_.clear();
}

Result<std::shared_ptr<RequestTable::Batch>> RequestTable::Parse(std::string_view key,
                                                                 std::string_view value,
                                                                 BootTime now) {
  const Status malformed = Corruption("record of requests: malformed");
  auto batch = std::make_shared<Batch>();
  batch->where.key = key;
  if (key.starts_with(kKeyPrefix) && key.size() == kKeyPrefix.size() + 8) {
    for (const char byte : key.substr(kKeyPrefix.size())) {
      batch->where.index.value = batch->where.index.value << 8 | static_cast<unsigned char>(byte);
    }
  } else if (!key.starts_with(kInheritedPrefix)) {
    return malformed;
  }
  uint64_t made_ms;
  if (!ReadHead(&value, &made_ms)) return malformed;
  batch->since = now;
  while (!value.empty()) {
    RequestId id;
    std::string_view outcome;
    if (!ReadId(&value, &id) || !ReadLengthPrefixed(&value, &outcome)) return malformed;
    batch->ids.push_back(id);
  }
  return batch;
}

Status RequestTable::Load(std::string_view key, std::string_view value, BootTime now) {
  ASSIGN_OR_RETURN(std::shared_ptr<Batch> batch, Parse(key, value, now));
  for (const RequestId& id : batch->ids) entries_[id] = batch;
  if (key.starts_with(kInheritedPrefix)) inherited_.emplace(key);
  batches_.push_back(std::move(batch));
  return Status::Ok();
}

Status RequestTable::LoadOlder(std::string_view key, std::string_view value, BootTime now) {
  // Again and again with every merge: what is known costs no more than looking it up.
  if (inherited_.contains(std::string(key))) return Status::Ok();
  ASSIGN_OR_RETURN(std::shared_ptr<Batch> batch, Parse(key, value, now));
  for (const RequestId& id : batch->ids) entries_.try_emplace(id, batch);
  inherited_.emplace(key);
  batches_.push_front(std::move(batch));
  return Status::Ok();
}

std::vector<std::string> RequestTable::TakeExpired(BootTime now) {
  std::vector<std::string> expired;
  while (!batches_.empty() && expired.size() < kMaxDeletes) {
    const Batch& oldest = *batches_.front();
    if (oldest.since + kKept > now && entries_.size() <= kMaxRequests) break;
    Forget(oldest);
    expired.push_back(oldest.where.key);
    batches_.pop_front();
  }
  return expired;
}

std::string RequestTable::KeyOf(LogIndex index) {
  std::string key(kKeyPrefix);
  AppendBigEndian(index.value, &key);
  return key;
}

std::string RequestTable::InheritedKeyOf(PartitionId partition, std::string_view key) {
  std::string inherited(kInheritedPrefix);
  AppendBigEndian(partition.value, &inherited);
  return inherited.append(key);
}

Result<WriteOutcome> RequestTable::FindOutcome(std::string_view value, const RequestId& id) {
  uint64_t made_ms;
  if (!ReadHead(&value, &made_ms)) return Corruption("record of requests: malformed");
  while (!value.empty()) {
    RequestId here;
    std::string_view outcome;
    if (!ReadId(&value, &here) || !ReadLengthPrefixed(&value, &outcome)) {
      return Corruption("record of requests: malformed");
    }
    if (here == id) return DecodeOutcome(outcome);
  }
  return NotFound("no such request");
}

}  // namespace onggi::partition
