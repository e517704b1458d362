#include "replication/metadata/wal_check.h"

#include <algorithm>
#include <array>

namespace onggi::metadata {
namespace {

constexpr size_t kBlock = 32 << 10;
constexpr size_t kHeader = 7;
constexpr uint8_t kLastType = 4;  // full, first, middle, last; 0 is space not written to

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    table[i] = crc;
  }
  return table;
}

uint32_t MaskedCrc32c(std::string_view data) {
  static constexpr std::array<uint32_t, 256> kTable = MakeTable();
  uint32_t crc = ~0u;
  for (const char c : data) crc = crc >> 8 ^ kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

struct Record {
  uint32_t crc = 0;
  size_t size = 0;
  uint8_t type = 0;
  /// Whether type and size are possible at this place.
  bool possible = false;
};

/// At least kHeader bytes of its block follow `at`.
Record Parse(std::string_view log, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(log[at + i]); };
  Record record;
  record.crc = byte(0) | uint32_t{byte(1)} << 8 | uint32_t{byte(2)} << 16 | uint32_t{byte(3)} << 24;
  record.size = byte(4) | size_t{byte(5)} << 8;
  record.type = byte(6);
  const size_t room = std::min(log.size(), at - at % kBlock + kBlock) - at - kHeader;
  record.possible = record.type >= 1 && record.type <= kLastType && record.size <= room;
  return record;
}

/// The next place that has room for a record's header in its block.
size_t SkipTrailer(size_t at) {
  return kBlock - at % kBlock < kHeader ? at - at % kBlock + kBlock : at;
}

}  // namespace

std::optional<uint64_t> FindWalDamage(std::string_view log) {
  size_t end = 0;
  while ((end = SkipTrailer(end)) + kHeader <= log.size()) {
    const Record record = Parse(log, end);
    if (!record.possible) break;
    end += kHeader + record.size;
  }
  for (size_t at = end + 1; (at = SkipTrailer(at)) + kHeader <= log.size(); ++at) {
    const Record record = Parse(log, at);
    if (record.possible && record.size > 0 &&
        MaskedCrc32c(log.substr(at + kHeader - 1, record.size + 1)) == record.crc) {
      return end;
    }
  }
  return std::nullopt;
}

}  // namespace onggi::metadata
