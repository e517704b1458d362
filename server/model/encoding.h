#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

/// The pieces that the stored form of values is made of (docs/formats.md): varints and the
/// directories of offsets before the elements of lists and maps. For the files of server/model
/// only.
namespace onggi::model::internal {

/// LEB128, least significant group first.
inline void AppendVarint(uint32_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

inline size_t VarintSize(uint32_t value) {
  size_t size = 1;
  while (value >= 0x80) {
    value >>= 7;
    ++size;
  }
  return size;
}

inline char* StoreVarint(uint32_t value, char* to) {
  while (value >= 0x80) {
    *to++ = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  *to++ = static_cast<char>(value);
  return to;
}

/// Takes a varint from the front of `bytes`, which holds one.
inline uint32_t TakeVarint(std::string_view* bytes) {
  const auto* at = reinterpret_cast<const uint8_t*>(bytes->data());
  uint32_t value = *at & 0x7F;
  size_t size = 1;
  for (int shift = 7; (at[size - 1] & 0x80) != 0; shift += 7) {
    value |= static_cast<uint32_t>(at[size++] & 0x7F) << shift;
  }
  bytes->remove_prefix(size);
  return value;
}

/// The same for bytes that nobody has checked: false when the varint is cut off, does not fit 32
/// bits or is longer than it need be.
inline bool TakeVarintChecked(std::string_view* bytes, uint32_t* value) {
  uint64_t result = 0;
  for (size_t i = 0; i < 5 && i < bytes->size(); ++i) {
    const auto byte = static_cast<uint8_t>((*bytes)[i]);
    result |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if ((byte & 0x80) == 0) {
      if (result > UINT32_MAX || (i > 0 && byte == 0)) return false;
      *value = static_cast<uint32_t>(result);
      bytes->remove_prefix(i + 1);
      return true;
    }
  }
  return false;
}

/// Bytes of one offset of a directory whose last (greatest) offset is `last`: 1, 2 or 4.
inline uint8_t OffsetWidth(uint32_t last) { return last <= 0xFF ? 1 : last <= 0xFFFF ? 2 : 4; }

inline uint32_t LoadOffset(const char* table, uint8_t width, uint32_t index) {
  const auto* at = reinterpret_cast<const uint8_t*>(table) + static_cast<size_t>(index) * width;
  switch (width) {
    case 1: return at[0];
    case 2: return at[0] | static_cast<uint32_t>(at[1]) << 8;
    default:
      return at[0] | static_cast<uint32_t>(at[1]) << 8 | static_cast<uint32_t>(at[2]) << 16 |
             static_cast<uint32_t>(at[3]) << 24;
  }
}

inline char* StoreOffset(uint32_t offset, uint8_t width, char* to) {
  for (uint8_t i = 0; i < width; ++i) {
    *to++ = static_cast<char>(offset >> (8 * i));
  }
  return to;
}

/// Bytes of a directory: count, width and offsets. `last` is the offset of the last element.
inline size_t DirectorySize(uint32_t count, uint32_t last) {
  return VarintSize(count) + (count == 0 ? 0 : 1 + static_cast<size_t>(count) * OffsetWidth(last));
}

/// One attribute in a buffer of entries as they are stored: name size, name, value.
struct MapEntry {
  uint32_t offset;       ///< of the whole entry in the buffer
  uint32_t size;         ///< of the whole entry
  uint32_t name_offset;  ///< of the name in the buffer
  uint32_t name_size;

  std::string_view Name(const std::string& buffer) const {
    return {buffer.data() + name_offset, name_size};
  }
};

/// Appends an entry without its value to `buffer`; the caller appends the value and then sets
/// `size`.
MapEntry BeginEntry(std::string_view name, std::string* buffer);

/// Appends a map's payload made of `entries`, which it sorts; of entries with one name the later
/// one wins. `out` may be `&buffer`.
void AppendMapPayload(const std::string& buffer, std::span<MapEntry> entries, std::string* out);

/// Turns the values behind `start` in `buffer`, whose offsets from `start` are `offsets`, into a
/// list's payload, in place.
void WrapListPayload(size_t start, std::span<const uint32_t> offsets, std::string* buffer);

}  // namespace onggi::model::internal
