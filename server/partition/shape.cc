#include "server/partition/shape.h"

#include <sstream>

#include "common/varint.h"
#include "server/partition/effects.h"

namespace onggi::partition {
namespace {

constexpr char kSplitVersion = 1;
constexpr char kAbsorbVersion = 1;
constexpr char kMergedVersion = 1;

}  // namespace

std::string SplitRecord::Encode() const {
  std::string payload(1, kSplitVersion);
  AppendLengthPrefixed(key, &payload);
  AppendVarint(child.value, &payload);
  AppendVarint(child_replicas.size(), &payload);
  for (const auto& [member, replica] : child_replicas) {
    AppendVarint(member.node.value, &payload);
    AppendVarint(member.replica.value, &payload);
    AppendVarint(replica.value, &payload);
  }
  AppendFigures(left, &payload);
  AppendFigures(right, &payload);
  return payload;
}

Result<SplitRecord> SplitRecord::Decode(LogIndex index, std::string_view payload) {
  if (payload.empty() || payload.front() != kSplitVersion) {
    return Corruption("Split entry: unknown version");
  }
  payload.remove_prefix(1);
  SplitRecord record;
  record.index = index;
  std::string_view key;
  uint64_t count;
  bool whole = ReadLengthPrefixed(&payload, &key) && ReadVarint(&payload, &record.child.value) &&
               ReadVarint(&payload, &count) && count <= payload.size();
  for (uint64_t i = 0; whole && i < count; ++i) {
    group::Member member;
    ReplicaId replica;
    whole = ReadVarint(&payload, &member.node.value) &&
            ReadVarint(&payload, &member.replica.value) && ReadVarint(&payload, &replica.value);
    record.child_replicas[member] = replica;
  }
  whole = whole && ReadFigures(&payload, &record.left) && ReadFigures(&payload, &record.right);
  if (!whole || !payload.empty()) return Corruption("Split entry: malformed");
  record.key = key;
  return record;
}

std::string EncodeRecord(const SplitRecord& record) {
  std::string value;
  AppendVarint(record.index.value, &value);
  return value += record.Encode();
}

Result<SplitRecord> DecodeRecord(std::string_view value) {
  LogIndex index;
  if (!ReadVarint(&value, &index.value)) return Corruption("record of a split: malformed");
  return SplitRecord::Decode(index, value);
}

std::string AbsorbRecord::Encode() const {
  std::string payload(1, kAbsorbVersion);
  AppendVarint(right.value, &payload);
  AppendVarint(freeze.value, &payload);
  AppendLengthPrefixed(start, &payload);
  AppendLengthPrefixed(end, &payload);
  AppendFigures(figures, &payload);
  return payload;
}

Result<AbsorbRecord> AbsorbRecord::Decode(LogIndex index, std::string_view payload) {
  if (payload.empty() || payload.front() != kAbsorbVersion) {
    return Corruption("Absorb entry: unknown version");
  }
  payload.remove_prefix(1);
  AbsorbRecord record;
  record.index = index;
  std::string_view start, end;
  if (!ReadVarint(&payload, &record.right.value) || !ReadVarint(&payload, &record.freeze.value) ||
      !ReadLengthPrefixed(&payload, &start) || !ReadLengthPrefixed(&payload, &end) ||
      !ReadFigures(&payload, &record.figures) || !payload.empty()) {
    return Corruption("Absorb entry: malformed");
  }
  record.start = start;
  record.end = end;
  return record;
}

std::string EncodeRecord(const AbsorbRecord& record) {
  std::string value;
  AppendVarint(record.index.value, &value);
  value.push_back(record.held ? 1 : 0);
  return value += record.Encode();
}

Result<AbsorbRecord> DecodeAbsorbRecord(std::string_view value) {
  LogIndex index;
  if (!ReadVarint(&value, &index.value) || value.empty()) {
    return Corruption("record of a merge: malformed");
  }
  const bool held = value.front() != 0;
  ASSIGN_OR_RETURN(AbsorbRecord record, AbsorbRecord::Decode(index, value.substr(1)));
  record.held = held;
  return record;
}

std::string MergedEntry::Encode() const {
  std::string payload(1, kMergedVersion);
  AppendVarint(absorb.value, &payload);
  AppendFigures(after, &payload);
  return payload;
}

Result<MergedEntry> MergedEntry::Decode(std::string_view payload) {
  if (payload.empty() || payload.front() != kMergedVersion) {
    return Corruption("Merged entry: unknown version");
  }
  payload.remove_prefix(1);
  MergedEntry entry;
  if (!ReadVarint(&payload, &entry.absorb.value) || !ReadFigures(&payload, &entry.after) ||
      !payload.empty()) {
    return Corruption("Merged entry: malformed");
  }
  return entry;
}

std::string ParentMark::Encode() const {
  std::string text = "onggi-parent 1 " + table.ToString() + " " + parent.ToString() + " ";
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const char byte : key) {
    text.push_back(kDigits[static_cast<unsigned char>(byte) >> 4]);
    text.push_back(kDigits[static_cast<unsigned char>(byte) & 15]);
  }
  return text + "\n";
}

Result<std::optional<ParentMark>> ParentMark::Read(const storage::Files& files,
                                                   const std::string& directory) {
  Result<std::string> content = files.Read(directory + "/PARENT");
  if (content.status().code() == Code::kNotFound) return std::optional<ParentMark>();
  if (!content.ok()) return content.status();
  std::istringstream file(*std::move(content));
  std::string magic, hex;
  uint64_t version = 0;
  ParentMark mark;
  if (!(file >> magic >> version >> mark.table.value >> mark.parent.value >> hex) ||
      magic != "onggi-parent" || version != 1 || hex.size() % 2 != 0) {
    return std::optional<ParentMark>();
  }
  for (size_t i = 0; i < hex.size(); i += 2) {
    mark.key.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return std::optional(mark);
}

}  // namespace onggi::partition
