#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace onggi {

/// Appends `value` as a little-endian base-128 varint (1 to 10 bytes), as Protocol Buffers have it.
inline void AppendVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

/// Takes a varint from the front of `in`. False when it is cut short or longer than 64 bits.
inline bool ReadVarint(std::string_view* in, uint64_t* value) {
  uint64_t result = 0;
  for (size_t i = 0; i < in->size() && i < 10; ++i) {
    const auto byte = static_cast<uint8_t>((*in)[i]);
    if (i == 9 && byte > 1) return false;
    result |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      in->remove_prefix(i + 1);
      *value = result;
      return true;
    }
  }
  return false;
}

/// Appends a varint length and the bytes.
inline void AppendLengthPrefixed(std::string_view bytes, std::string* out) {
  AppendVarint(bytes.size(), out);
  out->append(bytes);
}

/// Takes a varint length and that many bytes from the front of `in`. False when it is cut short.
inline bool ReadLengthPrefixed(std::string_view* in, std::string_view* bytes) {
  uint64_t size;
  if (!ReadVarint(in, &size) || size > in->size()) return false;
  *bytes = in->substr(0, size);
  in->remove_prefix(size);
  return true;
}

}  // namespace onggi
