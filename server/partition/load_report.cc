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

}  // namespace onggi::partition
