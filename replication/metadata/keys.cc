#include "replication/metadata/keys.h"

namespace onggi::metadata::keys {
namespace {

constexpr size_t kDigits = 16;

std::string Join(std::string_view prefix, uint64_t id) {
  return std::string(prefix) + FormatId(id);
}

template <class Id>
std::optional<Id> ParseAfter(std::string_view prefix, std::string_view key) {
  if (!key.starts_with(prefix)) return std::nullopt;
  const std::optional<uint64_t> id = ParseId(key.substr(prefix.size()));
  if (!id) return std::nullopt;
  return Id(*id);
}

}  // namespace

std::string Table(TableId table) { return Join(kTablePrefix, table.value); }

std::string Name(std::string_view account, std::string_view name) {
  return NamesOf(account) + std::string(name);
}

std::string NamesOf(std::string_view account) {
  return std::string(kNamePrefix) + std::string(account) + "/";
}

std::string Partition(TableId table, PartitionId partition) {
  return PartitionsOf(table) + FormatId(partition.value);
}

std::string PartitionsOf(TableId table) { return Join(kPartitionPrefix, table.value) + "/"; }

std::string Node(NodeId node) { return Join(kNodePrefix, node.value); }

std::string Alive(NodeId node) { return Join(kAlivePrefix, node.value); }
std::string Job(uint64_t job) { return Join(kJobPrefix, job); }

std::string NextTable() { return std::string(kNextPrefix) + "table"; }
std::string NextPartition() { return std::string(kNextPrefix) + "partition"; }
std::string NextReplica() { return std::string(kNextPrefix) + "replica"; }
std::string NextNode() { return std::string(kNextPrefix) + "node"; }
std::string NextJob() { return std::string(kNextPrefix) + "job"; }

std::string FormatId(uint64_t id) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text(kDigits, '0');
  for (size_t i = kDigits; i-- > 0; id >>= 4) text[i] = kHex[id & 15];
  return text;
}

std::optional<uint64_t> ParseId(std::string_view text) {
  if (text.size() != kDigits) return std::nullopt;
  uint64_t id = 0;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return std::nullopt;
    id = id << 4 | static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return id;
}

std::optional<TableId> ParseTable(std::string_view key) {
  return ParseAfter<TableId>(kTablePrefix, key);
}

std::optional<PartitionKey> ParsePartition(std::string_view key) {
  if (!key.starts_with(kPartitionPrefix)) return std::nullopt;
  key.remove_prefix(kPartitionPrefix.size());
  if (key.size() != 2 * kDigits + 1 || key[kDigits] != '/') return std::nullopt;
  const auto table = ParseId(key.substr(0, kDigits));
  const auto partition = ParseId(key.substr(kDigits + 1));
  if (!table || !partition) return std::nullopt;
  return PartitionKey{TableId(*table), PartitionId(*partition)};
}

std::optional<NodeId> ParseNode(std::string_view key) {
  return ParseAfter<NodeId>(kNodePrefix, key);
}

std::optional<NodeId> ParseAlive(std::string_view key) {
  return ParseAfter<NodeId>(kAlivePrefix, key);
}

std::optional<uint64_t> ParseJob(std::string_view key) {
  return ParseAfter<uint64_t>(kJobPrefix, key);
}

}  // namespace onggi::metadata::keys
