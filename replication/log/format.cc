#include "replication/log/format.h"

#include <xxhash.h>

#include <bit>
#include <cstring>

namespace onggi::log {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::string_view kSegmentMagic = "OnggiLog";
constexpr size_t kSegmentFields = 40;  // magic, version, header bytes, log id, number, capacity
constexpr size_t kBatchFields = 56;

template <class T>
void Store(char* out, T value) {
  std::memcpy(out, &value, sizeof(value));
}

template <class T>
T Load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// Of the header without the check itself, and the payload; 32 bits suffice beside the batch's 64.
uint32_t RecordCheckOf(const char* header, std::string_view payload) {
  const uint64_t head = XXH3_64bits(header, kRecordHeaderBytes - sizeof(uint32_t));
  return static_cast<uint32_t>(XXH3_64bits_withSeed(payload.data(), payload.size(), head));
}

}  // namespace

std::string EncodeSegmentHeader(const SegmentHeader& header) {
  std::string out(kSegmentHeaderBytes, '\0');
  std::memcpy(out.data(), kSegmentMagic.data(), kSegmentMagic.size());
  Store<uint32_t>(&out[8], kFormatVersion);
  Store<uint32_t>(&out[12], kSegmentHeaderBytes);
  Store<uint64_t>(&out[16], header.log_id);
  Store<uint64_t>(&out[24], header.number);
  Store<uint64_t>(&out[32], header.capacity);
  Store<uint64_t>(&out[kSegmentFields], XXH3_64bits(out.data(), kSegmentFields));
  return out;
}

Result<SegmentHeader> DecodeSegmentHeader(std::string_view bytes, const std::string& path) {
  if (bytes.size() < kSegmentHeaderBytes || bytes.substr(0, 8) != kSegmentMagic)
    return Corruption(path + ": not a log segment, or its header is damaged");
  const uint32_t version = Load<uint32_t>(&bytes[8]);
  // Before the checksum: only the magic and the version keep their place in every version.
  if (version > kFormatVersion) {
    return Corruption(path + ": log format version " + std::to_string(version) +
                      " is newer than this program's " + std::to_string(kFormatVersion));
  }
  if (Load<uint64_t>(&bytes[kSegmentFields]) != XXH3_64bits(bytes.data(), kSegmentFields))
    return Corruption(path + ": the segment header is damaged (checksum)");
  SegmentHeader header;
  header.log_id = Load<uint64_t>(&bytes[16]);
  header.number = Load<uint64_t>(&bytes[24]);
  header.capacity = Load<uint64_t>(&bytes[32]);
  return header;
}

uint64_t Checksum(std::string_view bytes, uint64_t log_id) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), log_id);
}

void EncodeBatchHeader(BatchHeader* header, uint64_t log_id, char* out) {
  Store<uint64_t>(out, kBatchMagic);
  Store<uint64_t>(out + 8, header->segment);
  Store<uint64_t>(out + 16, header->sequence);
  Store<uint64_t>(out + 24, header->durable);
  Store<uint64_t>(out + 32, header->previous);
  Store<uint32_t>(out + 40, header->count);
  Store<uint32_t>(out + 44, header->length);
  Store<uint64_t>(out + 48, header->checksum);
  header->check = Checksum({out, kBatchFields}, log_id);
  Store<uint64_t>(out + kBatchFields, header->check);
}

std::optional<BatchHeader> DecodeBatchHeader(const char* bytes, uint64_t log_id) {
  if (Load<uint64_t>(bytes) != kBatchMagic) return std::nullopt;
  BatchHeader header;
  header.check = Load<uint64_t>(bytes + kBatchFields);
  if (header.check != Checksum({bytes, kBatchFields}, log_id)) return std::nullopt;
  header.segment = Load<uint64_t>(bytes + 8);
  header.sequence = Load<uint64_t>(bytes + 16);
  header.durable = Load<uint64_t>(bytes + 24);
  header.previous = Load<uint64_t>(bytes + 32);
  header.count = Load<uint32_t>(bytes + 40);
  header.length = Load<uint32_t>(bytes + 44);
  header.checksum = Load<uint64_t>(bytes + 48);
  return header;
}

void EncodeRecord(const RecordView& record, std::string* out) {
  char header[kRecordHeaderBytes];
  Store<uint64_t>(header, record.partition.value);
  Store<uint64_t>(header + 8, record.index.value);
  Store<uint64_t>(header + 16, record.epoch.value);
  Store<uint32_t>(header + 24, static_cast<uint32_t>(record.payload.size()));
  header[28] = static_cast<char>(record.kind);
  header[29] = static_cast<char>(record.type);
  Store<uint32_t>(header + 30, RecordCheckOf(header, record.payload));
  out->append(header, kRecordHeaderBytes);
  out->append(record.payload);
}

std::optional<RecordView> DecodeRecord(std::string_view* bytes, RecordCheck check) {
  if (bytes->size() < kRecordHeaderBytes) return std::nullopt;
  const char* header = bytes->data();
  const uint32_t length = Load<uint32_t>(header + 24);
  if (bytes->size() - kRecordHeaderBytes < length) return std::nullopt;
  RecordView record;
  record.partition = PartitionId(Load<uint64_t>(header));
  record.index = LogIndex(Load<uint64_t>(header + 8));
  record.epoch = Epoch(Load<uint64_t>(header + 16));
  record.kind = static_cast<RecordKind>(header[28]);
  record.type = static_cast<uint8_t>(header[29]);
  record.payload = bytes->substr(kRecordHeaderBytes, length);
  if (check == RecordCheck::kVerify &&
      Load<uint32_t>(header + 30) != RecordCheckOf(header, record.payload))
    return std::nullopt;
  if (record.kind < RecordKind::kEntry || record.kind > RecordKind::kRemoveGroup)
    return std::nullopt;
  bytes->remove_prefix(kRecordHeaderBytes + length);
  return record;
}

}  // namespace onggi::log
