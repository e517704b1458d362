#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/ids.h"

/// The layout of the metadata store's key space. Values are the messages of
/// common/proto/catalog.proto except where noted. Ids are 16 hexadecimal digits, so that byte order
/// is numeric order.
namespace onggi::metadata::keys {

inline constexpr std::string_view kTablePrefix = "catalog/table/";
inline constexpr std::string_view kNamePrefix = "catalog/name/";
inline constexpr std::string_view kPartitionPrefix = "partition/";
inline constexpr std::string_view kNodePrefix = "node/";
inline constexpr std::string_view kAlivePrefix = "alive/";
inline constexpr std::string_view kJobPrefix = "job/";
inline constexpr std::string_view kNextPrefix = "next/";

/// proto::Cluster: what this cluster is.
inline constexpr std::string_view kCluster = "cluster";
/// Prefix of the coordinators' election; a candidate's value is its "host:port".
inline constexpr std::string_view kCoordinatorElection = "election/coordinator/";

/// catalog/table/<id>: proto::Table.
std::string Table(TableId table);
/// catalog/name/<account>/<name>: the table's id as FormatId writes it. `account` has no slash.
std::string Name(std::string_view account, std::string_view name);
/// Prefix of all names of an account, in the order in which ListTables gives them.
std::string NamesOf(std::string_view account);
/// partition/<table>/<partition>: proto::PartitionConfig. By table, so that a table's partitions
/// are one range.
std::string Partition(TableId table, PartitionId partition);
/// Prefix of the partitions of a table.
std::string PartitionsOf(TableId table);
/// node/<id>: proto::Node.
std::string Node(NodeId node);

/// alive/<node>: there, bound to a lease of the node's process, while that lives; the value is its
/// boot number as FormatId writes it.
std::string Alive(NodeId node);
/// job/<id>: proto::Job.
std::string Job(uint64_t job);

/// next/<kind>: the next free id of that kind as FormatId writes it; a missing key is 1. Taken by
/// compare-and-swap, in the same transaction that uses it where possible.
std::string NextTable();
std::string NextPartition();
std::string NextReplica();
std::string NextNode();
std::string NextJob();

/// 16 lower-case hexadecimal digits.
std::string FormatId(uint64_t id);
/// nullopt for anything that FormatId does not write.
std::optional<uint64_t> ParseId(std::string_view text);

/// The ids at the end of a key made by Table, Partition, Node, Alive or Job; nullopt for other
/// keys.
std::optional<TableId> ParseTable(std::string_view key);
struct PartitionKey {
  TableId table;
  PartitionId partition;
};
std::optional<PartitionKey> ParsePartition(std::string_view key);
std::optional<NodeId> ParseNode(std::string_view key);
std::optional<NodeId> ParseAlive(std::string_view key);
std::optional<uint64_t> ParseJob(std::string_view key);

}  // namespace onggi::metadata::keys
