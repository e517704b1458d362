#include <algorithm>

#include "server/model/json.h"
#include "server/model/key.h"
#include "server/partition/partition.h"

/// Partition: its load as a coordinator and a person are told of it.
namespace onggi::partition {

namespace {

constexpr size_t kMaxKeyText = 256;
/// With fewer sampled keys than that, their median says nothing.
constexpr size_t kMinSamples = 64;
/// Smaller partitions are not cut for their size.
constexpr uint64_t kMinBytesToCut = uint64_t{64} << 10;
/// What lies in the range of a smaller one is not told from what lies in its files.
constexpr uint64_t kWorthLooking = uint64_t{1} << 20;
/// The search for the middle ends here, or where what is left is this part of the whole.
constexpr int kMaxSearchSteps = 64;
constexpr uint64_t kSearchPart = 16;

void AppendHex(std::string_view bytes, std::string* out) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const char byte : bytes) {
    out->push_back(kDigits[static_cast<unsigned char>(byte) >> 4]);
    out->push_back(kDigits[static_cast<unsigned char>(byte) & 15]);
  }
}

}  // namespace

/// Reads without being counted.
bool Partition::ReadItem(std::string_view key, storage::PinnedValue* value) const {
  std::string store_key(1, kItemSpace);
  store_key.append(key);
  const Result<bool> found = store().Get(store_key, value);
  return found.ok() && *found;
}

/// As a person writes it, from the item that is there; else its bytes.
std::string Partition::KeyText(std::string_view key) const {
  std::string text;
  storage::PinnedValue value;
  if (!ReadItem(key, &value)) {
    AppendHex(key, &text);
  } else {
    const model::ItemView item(value.view());
    text.push_back('{');
    const auto append = [&](const KeyAttribute& attribute) {
      if (text.size() > 1) text += ", ";
      model::WriteJsonString(attribute.name, &text);
      text += ": ";
      model::WriteValue(item.Find(attribute.name), &text);
    };
    append(schema_->partition_key);
    if (schema_->sort_key.has_value()) append(*schema_->sort_key);
    text.push_back('}');
  }
  if (text.size() > kMaxKeyText) {
    text.resize(kMaxKeyText - 3);
    while (!text.empty() && (text.back() & 0xC0) == 0x80) text.pop_back();
    if (!text.empty() && (text.back() & 0x80) != 0) text.pop_back();
    text += "...";
  }
  return text;
}

/// Where a partition may be cut at or before `key`: between item collections if there are local
/// indexes, whose entries follow their collection; else anywhere. Nullopt: not known.
std::optional<std::string> Partition::CutAt(std::string_view key) const {
  if (schema_->local_indexes.empty()) return std::string(key);
  storage::PinnedValue value;
  if (!ReadItem(key, &value)) return std::nullopt;
  std::string prefix;
  model::AppendCollectionPrefix(model::ItemView(value.view()).Find(schema_->partition_key.name),
                                &prefix);
  return prefix;
}

/// The key that halves the sampled load, inside the range and not its start; nullopt when there is
/// none: too few samples, or one key (or collection) has most of it.
std::optional<std::string> Partition::LoadSplitKey(const std::vector<std::string>& sorted) const {
  if (sorted.size() < kMinSamples) return std::nullopt;
  const Range* const range = range_.load(std::memory_order_acquire);
  // The cut nearest to the median that leaves at least a quarter on either side.
  const size_t middle = sorted.size() / 2;
  for (size_t away = 0; away <= sorted.size() / 4; ++away) {
    for (const size_t at : {middle + away, middle - away}) {
      if (at == 0 || at >= sorted.size() || sorted[at] == sorted[at - 1]) continue;
      const std::optional<std::string> cut = CutAt(sorted[at]);
      if (!cut.has_value() || *cut <= range->start || !range->Holds(*cut)) continue;
      const auto left = static_cast<size_t>(std::lower_bound(sorted.begin(), sorted.end(), *cut) -
                                            sorted.begin());
      if (left >= sorted.size() / 4 && left <= sorted.size() - sorted.size() / 4) return cut;
    }
  }
  return std::nullopt;
}

/// Of what lies in the range. After a split the files have the other half too, until compactions
/// come to it: whoever went by their size would split again and again.
uint64_t Partition::HeldBytes() const {
  const uint64_t files = store().SizeBytes();
  if (files < kWorthLooking) return files;
  const Range* const range = range_.load(std::memory_order_acquire);
  if (range->start.empty() && range->end.empty()) return files;
  uint64_t held = 0;
  for (const char space : Spaces()) {
    const StoreRange all = StoreRange::Of(space, range->start, range->end);
    held += store().ApproximateBytes(all.from, all.to);
  }
  return std::min(files, held);
}

/// The key that halves the bytes of the items, inside the range and not its start; nullopt when
/// there is none. Sought again when the size has changed by an eighth.
std::optional<std::string> Partition::SizeSplitKey() const {
  const Range* const range = range_.load(std::memory_order_acquire);
  const uint64_t bytes = store().SizeBytes();
  if (bytes < kMinBytesToCut) return std::nullopt;
  const uint64_t item_bytes = statistics().item_bytes;
  const auto near = [](uint64_t now, uint64_t then) {
    return now >= then - then / 8 && now <= then + then / 8;
  };
  std::lock_guard lock(middle_mutex_);
  const bool same =
      middle_.range == range && near(bytes, middle_.bytes) && near(item_bytes, middle_.item_bytes);
  if (!same) {
    const StoreRange all = StoreRange::Of(kItemSpace, range->start, range->end);
    std::optional<std::string> cut;
    if (const auto middle = MiddleOf(all.from, all.to)) cut = CutAt(middle->substr(1));
    if (cut.has_value() && (*cut <= range->start || !range->Holds(*cut))) cut.reset();
    middle_ = {range, bytes, item_bytes, std::move(cut)};
  }
  return middle_.key;
}

/// The first key of the store's [start, end) with about half of its bytes before it.
std::optional<std::string> Partition::MiddleOf(const std::string& start,
                                               const std::string& end) const {
  const auto seek = [&](const std::string& from, const std::string& to, bool reverse) {
    const auto it = store().NewIterator(from, to, reverse, /*fill_cache=*/false);
    return it->Valid() ? std::optional<std::string>(it->key()) : std::nullopt;
  };
  const auto before = [&](const std::string& key) { return store().ApproximateBytes(start, key); };
  const uint64_t half = before(end) / 2;
  if (half == 0) return std::nullopt;
  // The middle is in [low, high). Each step takes one byte behind what all keys there begin with.
  std::string low = start, high = end;
  for (int step = 0; step < kMaxSearchSteps; ++step) {
    const auto first = seek(low, high, /*reverse=*/false);
    const auto last = seek(low, high, /*reverse=*/true);
    if (!first.has_value() || !last.has_value() || *first >= *last) break;
    const size_t same = static_cast<size_t>(
        std::mismatch(first->begin(), first->end(), last->begin(), last->end()).first -
        first->begin());
    const auto byte_at = [same](const std::string& key) {
      return same < key.size() ? static_cast<unsigned char>(key[same]) : 0;
    };
    const auto cut_at = [&](int byte) { return last->substr(0, same) + static_cast<char>(byte); };
    // The greatest byte with no more than half before it.
    int from = byte_at(*first), to = byte_at(*last) + 1;
    while (to - from > 1) {
      const int byte = (from + to) / 2;
      (before(cut_at(byte)) <= half ? from : to) = byte;
    }
    const std::string next_low = std::max(low, cut_at(from));
    const std::string next_high = to > 0xFF ? high : std::min(high, cut_at(to));
    const bool narrower = next_low > low || next_high < high;
    low = next_low;
    high = next_high;
    if (!narrower || before(high) - std::min(before(high), before(low)) <= half / kSearchPart)
      break;
  }
  const uint64_t left = before(low), right = before(high);
  const bool nearer = half - std::min(half, left) <= right - std::min(right, half);
  auto middle = seek(nearer ? low : high, end, /*reverse=*/false);
  if (!nearer || !middle.has_value() || *middle != seek(start, end, false)) return middle;
  return seek(high, end, /*reverse=*/false);  // not the very first
}

}  // namespace onggi::partition
