#include "server/partition/effects.h"

#include <rocksdb/write_batch.h>

#include "common/text.h"
#include "common/varint.h"

namespace onggi::partition {
namespace {

/// By whether the figures are counted or estimated.
constexpr char kExactVersion = 1;
constexpr char kEstimatedVersion = 2;
constexpr char kPut = 1;
constexpr char kDelete = 2;

char VersionOf(const PartitionStatistics& statistics) {
  return statistics.estimated ? kEstimatedVersion : kExactVersion;
}

/// Takes the version; false when it is unknown.
bool ReadVersion(std::string_view* in, bool* estimated) {
  if (in->empty() || (in->front() != kExactVersion && in->front() != kEstimatedVersion)) {
    return false;
  }
  *estimated = in->front() == kEstimatedVersion;
  in->remove_prefix(1);
  return true;
}

void AppendStatistics(const PartitionStatistics& statistics, std::string* out) {
  AppendVarint(statistics.item_count, out);
  AppendVarint(statistics.item_bytes, out);
  AppendVarint(statistics.local_indexes.size(), out);
  for (const auto& index : statistics.local_indexes) {
    AppendVarint(index.entry_count, out);
    AppendVarint(index.entry_bytes, out);
  }
}

bool ReadStatistics(std::string_view* in, PartitionStatistics* statistics) {
  uint64_t indexes;
  if (!ReadVarint(in, &statistics->item_count) || !ReadVarint(in, &statistics->item_bytes) ||
      !ReadVarint(in, &indexes) || indexes > in->size()) {
    return false;
  }
  statistics->local_indexes.resize(indexes);
  for (auto& index : statistics->local_indexes) {
    if (!ReadVarint(in, &index.entry_count) || !ReadVarint(in, &index.entry_bytes)) return false;
  }
  return true;
}

}  // namespace

StoreRange StoreRange::Of(char space, std::string_view start, std::string_view end) {
  const std::string first(1, space);
  return {first + std::string(start), end.empty() ? PrefixEnd(first) : first + std::string(end)};
}

StoreRange StoreRange::OfMeta(std::string_view name) {
  std::string from = MetaKey(name);
  std::string to = PrefixEnd(from);
  return {std::move(from), std::move(to)};
}

void AppendFigures(const PartitionStatistics& statistics, std::string* out) {
  out->push_back(VersionOf(statistics));
  AppendStatistics(statistics, out);
}

bool ReadFigures(std::string_view* in, PartitionStatistics* statistics) {
  return ReadVersion(in, &statistics->estimated) && ReadStatistics(in, statistics);
}

void AppliedState::EncodeTo(std::string* out) const {
  out->push_back(VersionOf(statistics));
  AppendVarint(epoch.value, out);
  AppendVarint(index.value, out);
  AppendStatistics(statistics, out);
}

Result<AppliedState> AppliedState::Decode(std::string_view bytes) {
  AppliedState state;
  bool estimated;
  if (!ReadVersion(&bytes, &estimated)) return Corruption("applied state: unknown version");
  if (!ReadVarint(&bytes, &state.epoch.value) || !ReadVarint(&bytes, &state.index.value) ||
      !ReadStatistics(&bytes, &state.statistics) || !bytes.empty()) {
    return Corruption("applied state: malformed");
  }
  state.statistics.estimated = estimated;
  return state;
}

void EffectWriter::Put(char space, std::string_view key, std::string_view value) {
  operations_.push_back(kPut);
  AppendVarint(key.size() + 1, &operations_);
  operations_.push_back(space);
  operations_.append(key);
  AppendLengthPrefixed(value, &operations_);
}

void EffectWriter::Delete(char space, std::string_view key) {
  operations_.push_back(kDelete);
  AppendVarint(key.size() + 1, &operations_);
  operations_.push_back(space);
  operations_.append(key);
}

std::string EffectWriter::Finish(const PartitionStatistics& after) {
  std::string payload;
  payload.reserve(operations_.size() + 64);
  payload.push_back(VersionOf(after));
  AppendStatistics(after, &payload);
  payload.append(operations_);
  operations_.clear();
  return payload;
}

namespace {

template <class Visit>
Status Walk(std::string_view payload, PartitionStatistics* statistics, const Visit& visit) {
  bool estimated;
  if (!ReadVersion(&payload, &estimated)) {
    return Corruption("log entry: effects of an unknown version");
  }
  PartitionStatistics ignored;
  if (statistics == nullptr) statistics = &ignored;
  if (!ReadStatistics(&payload, statistics)) return Corruption("log entry: malformed figures");
  statistics->estimated = estimated;
  while (!payload.empty()) {
    const char operation = payload[0];
    payload.remove_prefix(1);
    std::string_view key, value;
    if (!ReadLengthPrefixed(&payload, &key) || key.empty()) {
      return Corruption("log entry: malformed key");
    }
    if (operation == kPut) {
      if (!ReadLengthPrefixed(&payload, &value)) return Corruption("log entry: malformed value");
      visit(key, std::optional(value));
    } else if (operation == kDelete) {
      visit(key, std::optional<std::string_view>());
    } else {
      return Corruption("log entry: unknown effect");
    }
  }
  return Status::Ok();
}

}  // namespace

Status ForEachEffect(
    std::string_view payload, PartitionStatistics* statistics,
    const std::function<void(std::string_view, std::optional<std::string_view>)>& visit) {
  return Walk(payload, statistics, visit);
}

Status ReplayEffects(std::string_view payload, rocksdb::WriteBatch* batch,
                     PartitionStatistics* statistics) {
  return Walk(payload, statistics,
              [batch](std::string_view key, std::optional<std::string_view> value) {
                const rocksdb::Slice slice(key.data(), key.size());
                if (value.has_value()) {
                  batch->Put(slice, {value->data(), value->size()});
                } else {
                  batch->Delete(slice);
                }
              });
}

}  // namespace onggi::partition
