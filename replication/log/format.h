#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/status.h"

/// Bytes of a log segment; docs/formats.md is the specification. All integers little-endian.
namespace onggi::log {

inline constexpr uint32_t kFormatVersion = 1;
/// The segment header takes a page of its own, so that no batch shares its blocks.
inline constexpr uint64_t kSegmentHeaderBytes = 4096;
inline constexpr uint64_t kBatchHeaderBytes = 64;
inline constexpr uint64_t kRecordHeaderBytes = 34;
inline constexpr uint64_t kBatchAlignment = 8;
inline constexpr uint64_t kBatchMagic = 0x31484354'42474e4fULL;  // "ONGBTCH1"

struct SegmentHeader {
  uint64_t log_id = 0;  ///< random, the same in all segments of one log; seeds all checksums
  uint64_t number = 0;  ///< of this life of the file; the first is 1
  uint64_t capacity = 0;
};

/// kSegmentHeaderBytes bytes.
std::string EncodeSegmentHeader(const SegmentHeader& header);
/// kCorruption naming `path`: no log segment, a newer version, or damaged.
Result<SegmentHeader> DecodeSegmentHeader(std::string_view bytes, const std::string& path);

struct BatchHeader {
  uint64_t segment = 0;   ///< number of the segment: tells batches of the file's earlier life
  uint64_t sequence = 0;  ///< 1, 2, ... through all segments
  uint64_t durable = 0;   ///< highest sequence known to be synced when this was written
  uint64_t previous = 0;  ///< `check` of batch sequence - 1: chains batches; 0 for the first
  uint32_t count = 0;     ///< records
  uint32_t length = 0;    ///< bytes of the records, without padding
  uint64_t checksum = 0;  ///< of the records
  uint64_t check = 0;     ///< of the header's first 56 bytes
};

/// Bytes a batch takes with header and padding.
constexpr uint64_t BatchBytes(uint64_t length) {
  return (kBatchHeaderBytes + length + kBatchAlignment - 1) / kBatchAlignment * kBatchAlignment;
}

uint64_t Checksum(std::string_view bytes, uint64_t log_id);
/// Writes kBatchHeaderBytes to `out` and sets header->check.
void EncodeBatchHeader(BatchHeader* header, uint64_t log_id, char* out);
/// nullopt unless the magic and the header's own check are right.
std::optional<BatchHeader> DecodeBatchHeader(const char* bytes, uint64_t log_id);

enum class RecordKind : uint8_t {
  kEntry = 1,
  kDropSuffix = 2,   ///< entries from `index` on are gone
  kRemoveGroup = 3,  ///< the partition is gone
};

struct RecordView {
  RecordKind kind = RecordKind::kEntry;
  uint8_t type = 0;
  PartitionId partition;
  LogIndex index;
  Epoch epoch;
  std::string_view payload;
};

/// Appends the record to `out`.
void EncodeRecord(const RecordView& record, std::string* out);

enum class RecordCheck : uint8_t {
  kSkip,    ///< the batch's checksum has been verified
  kVerify,  ///< verify the record's own
};
/// Takes a record off the front of `bytes`. nullopt when it does not parse or fails its check.
std::optional<RecordView> DecodeRecord(std::string_view* bytes, RecordCheck check);

}  // namespace onggi::log
