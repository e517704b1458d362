#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/status.h"
#include "server/dynamodb/error.h"
#include "server/partition/schema.h"

namespace onggi::dynamodb {

/// A table as requests see it: the catalog's record and what follows from it. Immutable; a change of
/// the record makes another one.
struct Table {
  proto::Table record;
  std::shared_ptr<const partition::TableSchema> schema;
  std::string arn;  ///< "arn:aws:dynamodb:us-east-1:000000000000:table/Music"

  TableId id() const { return schema->id; }
  const std::string& name() const { return record.name(); }
  /// May items be read and written? ACTIVE and UPDATING tables; the others answer
  /// ResourceNotFoundException to item operations.
  bool Usable() const {
    return record.status() == proto::TABLE_STATUS_ACTIVE ||
           record.status() == proto::TABLE_STATUS_UPDATING;
  }
};

/// Every table's record, kept up to date from the metadata store's watch, in memory for the hot path.
///
/// Filled by CatalogWatcher (Put and Remove, one thread at a time); read from any thread. Sixteen
/// locks, each for the tables whose names hash to it: a reader holds one, shared, for one map lookup.
class Catalog {
 public:
  Catalog() = default;
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  /// The table, in whatever status; null: there is none. Hot path.
  std::shared_ptr<const Table> Find(std::string_view account, std::string_view name) const;

  /// Names greater than `after` (empty: from the start), in byte order, at most `limit`.
  std::vector<std::string> List(std::string_view account, std::string_view after,
                                size_t limit) const;

  /// How many tables the account has, in any status.
  size_t Count(std::string_view account) const;

  /// Takes a record, new or changed. A record whose account or name changed is CHECKed: they never do.
  void Put(const proto::Table& record, std::string_view account_id);
  /// Forgets the table with this account and name.
  void Remove(std::string_view account, std::string_view name);

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  struct Shard {
    mutable std::shared_mutex mutex;
    std::unordered_map<std::string, std::shared_ptr<const Table>, Hash, std::equal_to<>> tables;
  };
  static constexpr size_t kShards = 16;

  const Shard& ShardOf(std::string_view key) const {
    return shards_[Hash{}(key) % kShards];
  }

  std::array<Shard, kShards> shards_;
  mutable std::shared_mutex names_mutex_;
  std::map<std::string, std::map<std::string, bool>, std::less<>> names_;  ///< account -> names
};

/// Live figures of a table, over all of its partitions. Implemented over the partitions of the node.
struct TableFigures {
  uint64_t item_count = 0;
  uint64_t size_bytes = 0;  ///< items and local index entries, as the service bills them
  struct Index {
    uint64_t item_count = 0;
    uint64_t size_bytes = 0;
  };
  std::vector<Index> local_indexes;  ///< in the schema's order; may be shorter: the rest are 0
};

class TableStatistics {
 public:
  virtual ~TableStatistics() = default;
  /// Any thread; zeros for a table without partitions.
  virtual TableFigures Figures(TableId table) = 0;
};

/// "arn:aws:dynamodb:<region>:<account id>:table/<name>"
std::string MakeTableArn(std::string_view region, std::string_view account_id,
                         std::string_view name);

struct CallContext;

/// The usable table that an item operation names, by name or by ARN. Errors: the data plane's
/// ResourceNotFoundException, also for a table that is being created or deleted; a ValidationException
/// for an ARN of another region or account.
Outcome FindTableForData(const CallContext& context, std::string_view name_or_arn,
                         std::shared_ptr<const Table>* table);

/// The table that a control operation names, in any status. Error: the control plane's
/// ResourceNotFoundException, which names it.
Outcome FindTableForControl(const CallContext& context, std::string_view name_or_arn,
                            std::shared_ptr<const Table>* table);

}  // namespace onggi::dynamodb
