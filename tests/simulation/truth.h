#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "replication/group/configuration.h"

namespace onggi::simulation {

/// A part of the key space: [start, end), an empty end is the end of the space.
inline bool InRange(const std::string& key, const std::string& start, const std::string& end) {
  return key >= start && (end.empty() || key < end);
}

/// A key as a message has it: shipped partitions' keys begin with a hash.
inline std::string Printable(const std::string& key) {
  std::string text;
  for (const char c : key) {
    if (c > ' ' && c <= '~') text.push_back(c);
    if (c <= ' ' || c > '~') text.push_back('.');
  }
  return text;
}

/// What the replicas are to do with an entry. Entries carry its number; the operations themselves
/// are the simulation's, and never change.
struct Operation {
  enum class Type : uint8_t { kWrite, kSplit, kFreeze, kThaw, kAbsorb, kMerged };
  Type type = Type::kWrite;
  // kWrite
  std::string key;  ///< also kSplit: the child's first
  uint64_t version = 0;
  uint64_t value = 0;
  // kSplit
  PartitionId child;
  std::string end;  ///< of the range as it was; kAbsorb, kMerged: of the right neighbour's
  /// By the parent's replica: a node that has lost its disk since must not bring the child's back.
  std::map<group::Member, ReplicaId> child_replicas;
  // kAbsorb, kMerged
  PartitionId right;
  LogIndex freeze;    ///< the right neighbour's Freeze
  std::string start;  ///< of the right neighbour's range
};

/// What has happened, as somebody sees it who sees everything; says what must not have.
class Truth {
 public:
  /// Keeps the first failure.
  void Fail(const std::string& what);
  const std::string& error() const { return error_; }

  uint64_t Add(Operation operation) {
    operations_.push_back(std::move(operation));
    return operations_.size() - 1;
  }
  const Operation& operation(uint64_t id) const { return operations_.at(id); }

  /// A process acts as the primary: one in each epoch.
  void Acts(PartitionId partition, Epoch epoch, NodeId node, uint64_t boot);

  /// A replica takes the entry for committed. Every replica's entries are the same.
  void Commits(PartitionId partition, LogPosition position);
  LogIndex committed(PartitionId partition) const;
  Epoch EpochAt(PartitionId partition, LogIndex index) const;

  /// A replica has applied the entry, and what it then holds has this hash. `payload`: as it read
  /// it.
  void Applies(PartitionId partition, LogPosition position, std::string_view payload,
               uint64_t hash);
  /// The same of a shipped replica: true if it is the first to apply it.
  bool Applies(PartitionId partition, LogPosition position, std::string_view payload);
  bool Applied(PartitionId partition, LogIndex index) const;
  /// What it holds of a range when it has applied so much.
  void Holds(PartitionId partition, LogPosition position, const std::string& start,
             const std::string& end, uint64_t hash);
  /// A replica begins with a state, of a checkpoint or a split, at a position.
  void Begins(PartitionId partition, LogPosition position, uint64_t hash);

  /// A version of a key is part of the applied state.
  void Wrote(const std::string& key, uint64_t version, uint64_t value);

  // What clients were told.
  void Acknowledged(const std::string& key, uint64_t version, uint64_t value);
  void Refused(uint64_t value);
  /// Of a read that begins now: no older version may be its answer.
  uint64_t Floor(const std::string& key) const;
  void ReadAnswered(const std::string& key, uint64_t floor, uint64_t version, uint64_t value);

  uint64_t course() const { return course_; }
  uint64_t acknowledged() const { return acknowledged_; }
  uint64_t reads() const { return reads_; }
  uint64_t reigns() const { return reigns_; }
  /// Of which the key tells.
  uint64_t splits() const { return splits_; }
  uint64_t merges() const { return merges_; }
  void CountSplit() { ++splits_; }
  void CountMerge() { ++merges_; }

 private:
  struct Entry {
    Epoch epoch;
    std::optional<std::string> payload;
    std::optional<uint64_t> hash;
  };
  struct Partition {
    std::vector<Entry> entries;  ///< entry i at place i - 1
    std::optional<uint64_t> first_hash;
    std::map<Epoch, std::pair<NodeId, uint64_t>> reigns;
    std::map<std::tuple<LogIndex, std::string, std::string>, uint64_t> held;
  };

  void Happened(uint64_t what) {
    course_ = (course_ ^ what) * 1099511628211ull;
    course_ ^= course_ >> 29;
  }

  std::string error_;
  uint64_t course_ = 14695981039346656037ull;
  std::vector<Operation> operations_;
  std::map<PartitionId, Partition> partitions_;
  std::map<std::pair<std::string, uint64_t>, uint64_t> written_;
  /// What each value became: one version of one key.
  std::map<uint64_t, std::pair<std::string, uint64_t>> became_;
  std::map<std::string, uint64_t> floors_;
  std::set<uint64_t> refused_;
  uint64_t acknowledged_ = 0;
  uint64_t reads_ = 0;
  uint64_t reigns_ = 0;
  uint64_t splits_ = 0;
  uint64_t merges_ = 0;
};

}  // namespace onggi::simulation
