#include "server/model/encoding.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"

namespace onggi::model::internal {

MapEntry BeginEntry(std::string_view name, std::string* buffer) {
  MapEntry entry;
  entry.offset = static_cast<uint32_t>(buffer->size());
  AppendVarint(static_cast<uint32_t>(name.size()), buffer);
  entry.name_offset = static_cast<uint32_t>(buffer->size());
  entry.name_size = static_cast<uint32_t>(name.size());
  entry.size = 0;
  buffer->append(name);
  return entry;
}

namespace {

// Sorts by name and drops all but the last of the entries with one name. Returns how many are left.
size_t SortEntries(const std::string& buffer, std::span<MapEntry> entries) {
  const auto less = [&buffer](const MapEntry& a, const MapEntry& b) {
    const int order = a.Name(buffer).compare(b.Name(buffer));
    return order != 0 ? order < 0 : a.offset < b.offset;
  };
  if (!std::is_sorted(entries.begin(), entries.end(), less)) {
    std::sort(entries.begin(), entries.end(), less);
  }
  size_t kept = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i + 1 < entries.size() && entries[i].Name(buffer) == entries[i + 1].Name(buffer)) continue;
    entries[kept++] = entries[i];
  }
  return kept;
}

}  // namespace

void AppendMapPayload(const std::string& buffer, std::span<MapEntry> entries, std::string* out) {
  entries = entries.first(SortEntries(buffer, entries));
  const auto count = static_cast<uint32_t>(entries.size());
  uint64_t body = 0;
  for (const MapEntry& entry : entries) body += entry.size;
  CHECK(body <= UINT32_MAX);
  const auto last = count == 0 ? 0 : static_cast<uint32_t>(body - entries.back().size);
  const uint8_t width = OffsetWidth(last);
  const size_t start = out->size();
  out->resize(start + DirectorySize(count, last) + body);

  const char* from = buffer.data();  // after the resize: `out` may be the buffer itself
  char* to = StoreVarint(count, out->data() + start);
  if (count == 0) return;
  *to++ = static_cast<char>(width);
  uint32_t offset = 0;
  for (const MapEntry& entry : entries) {
    to = StoreOffset(offset, width, to);
    offset += entry.size;
  }
  for (const MapEntry& entry : entries) {
    std::memcpy(to, from + entry.offset, entry.size);
    to += entry.size;
  }
}

void WrapListPayload(size_t start, std::span<const uint32_t> offsets, std::string* buffer) {
  const size_t body = buffer->size() - start;
  CHECK(body <= UINT32_MAX);
  const auto count = static_cast<uint32_t>(offsets.size());
  const uint32_t last = count == 0 ? 0 : offsets.back();
  const uint8_t width = OffsetWidth(last);
  const size_t directory = DirectorySize(count, last);
  buffer->resize(start + directory + body);
  char* base = buffer->data() + start;
  std::memmove(base + directory, base, body);
  char* to = StoreVarint(count, base);
  if (count == 0) return;
  *to++ = static_cast<char>(width);
  for (uint32_t offset : offsets) to = StoreOffset(offset, width, to);
}

}  // namespace onggi::model::internal
