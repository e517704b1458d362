#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/partition/partition.h"
#include "server/partition/schema.h"
#include "server/storage/partition_store.h"
#include "tests/simulation/disk.h"
#include "tests/simulation/store_disk.h"

namespace onggi::simulation {

/// What the shipped partitions of a cluster stand on, and how the simulation's keys and versions
/// look as items. Outlives all of them.
///
/// The table has the keys "p" and "s" and a local index on "v". A key of the simulation is that of
/// the item with the sort key "a": "n" counts its writes (its version), "v" is the latest's value.
/// Beside it, in its collection, there may be one with the sort key "b".
class ShippedWorld {
 public:
  ShippedWorld();
  /// No store is open any more: whatever ends, how a partition ends, lets go of it.
  ~ShippedWorld();

  StoreDisks& disks() { return *disks_; }
  StoreEnv& env() { return env_; }
  storage::StorageEnvironment& storage() { return *storage_; }
  const std::shared_ptr<const partition::TableSchema>& schema() const { return schema_; }
  /// A process's, for ever: what is left of its partitions may look at it when it is gone.
  partition::PartitionEnvironment* NewEnvironment() { return &environments_.emplace_back(); }

  /// The key that stands for `name` here, and the other way round.
  static std::string KeyOf(const std::string& name);
  static std::string NameOf(std::string_view key);
  /// Where a partition may be cut before that key.
  static std::string CutBefore(std::string_view key);
  /// Attributes "p" and "s" alone; `sort`: "a" or "b".
  static std::string ItemKey(std::string_view key, std::string_view sort);
  /// Of an item with the sort key "a"; nullopt: of another.
  static std::optional<Version> VersionOf(const model::ItemView& item);

  /// What a store that nobody has open holds. Not on a disk that is cut off.
  Result<std::map<std::string, std::string>> Dump(const std::string& store);
  /// Do local index, collection sizes and figures say what the items say? Ok, or what does not.
  Status CheckDump(const std::map<std::string, std::string>& dump);

 private:
  const std::shared_ptr<StoreDisks> disks_ = std::make_shared<StoreDisks>();
  StoreEnv env_{disks_};
  std::unique_ptr<storage::StorageEnvironment> storage_;
  std::shared_ptr<const partition::TableSchema> schema_;
  std::deque<partition::PartitionEnvironment> environments_;
};

}  // namespace onggi::simulation
