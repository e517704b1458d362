#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/status.h"
#include "server/dynamodb/error.h"
#include "server/partition/schema.h"

namespace onggi::dynamodb {

/// A table as requests see it: the catalog's record and what follows from it. Immutable; a change
/// of the record makes another one.
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

/// Every table's record, kept up to date from the metadata store's watch, in memory for the hot
/// path.
///
/// Made by main; filled by CatalogWatcher, and ahead of it by the control operations of this
/// process, so that they read their own writes; read from any thread. Sixteen locks, each for the
/// tables whose names hash to it: a reader of Find() holds one, shared, for one lookup. What writes
/// go by (ids, revisions, names in order) is under a lock of its own.
class Catalog {
 public:
  /// `account_id` stands in ARNs.
  explicit Catalog(std::string account_id = "000000000000") : account_id_(std::move(account_id)) {}
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  /// The table, in whatever status; null: there is none. Hot path.
  std::shared_ptr<const Table> Find(std::string_view account, std::string_view name) const;

  /// Names greater than `after` (empty: from the start), in byte order, at most `limit`.
  std::vector<std::string> List(std::string_view account, std::string_view after,
                                size_t limit) const;

  /// How many tables there are, of all accounts.
  size_t size() const;

  /// A record as the watch delivers it, written at `revision`.
  void PutWatched(const proto::Table& record, Revision revision);
  void RemoveWatched(TableId id, Revision revision);
  /// The watch has delivered everything through `revision`.
  void SetWatched(Revision revision);
  /// Replaces everything by these records: the store as of `revision`.
  void Reset(const std::vector<std::pair<proto::Table, Revision>>& records, Revision revision);

  /// A record that this process has just committed at `revision`. Nothing happens where the watch
  /// was faster.
  void PutCommitted(const proto::Table& record, Revision revision);

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  struct Shard {
    mutable std::shared_mutex mutex;
    /// By "<account>/<name>".
    std::unordered_map<std::string, std::shared_ptr<const Table>, Hash, std::equal_to<>> tables;
  };
  static constexpr size_t kShards = 16;

  struct Known {
    std::string account;
    std::string name;
    Revision revision;
  };

  void PutLocked(const proto::Table& record, Revision revision);
  void RemoveLocked(std::unordered_map<TableId, Known>::iterator it);
  Shard& ShardOf(std::string_view key) { return shards_[Hash{}(key) % kShards]; }
  const Shard& ShardOf(std::string_view key) const { return shards_[Hash{}(key) % kShards]; }

  const std::string account_id_;
  std::array<Shard, kShards> shards_;

  mutable std::shared_mutex mutex_;
  std::unordered_map<TableId, Known> known_;                         // guarded by mutex_
  std::map<std::string, std::set<std::string>, std::less<>> names_;  // guarded by mutex_
  Revision watched_;                                                 // guarded by mutex_
};

/// Live figures of a table, over all of its partitions.
struct TableFigures {
  uint64_t item_count = 0;
  uint64_t size_bytes = 0;  ///< items and local index entries, as the service bills them
  struct Index {
    uint64_t item_count = 0;
    uint64_t size_bytes = 0;
  };
  std::vector<Index> local_indexes;  ///< in the schema's order; may be shorter: the rest are 0
};

/// Where TableFigures come from: the partitions of the node. Thread-safe.
class TableStatistics {
 public:
  virtual ~TableStatistics() = default;
  /// Zeros for a table without partitions. May open a partition that nobody has used since the
  /// start: resumes on the caller's executor.
  virtual boost::asio::awaitable<TableFigures> Figures(TableId table) = 0;
};

/// "arn:aws:dynamodb:<region>:<account id>:table/<name>"
std::string MakeTableArn(std::string_view region, std::string_view account_id,
                         std::string_view name);

struct CallContext;

/// The usable table that an item operation names, by name or by ARN. Errors: the data plane's
/// ResourceNotFoundException, also for a table that is being created or deleted; a
/// ValidationException for an ARN of another region or account.
Outcome FindTableForData(const CallContext& context, std::string_view name_or_arn,
                         std::shared_ptr<const Table>* table);

/// The table that a control operation names, in any status. Error: the control plane's
/// ResourceNotFoundException, which names it.
Outcome FindTableForControl(const CallContext& context, std::string_view name_or_arn,
                            std::shared_ptr<const Table>* table);

}  // namespace onggi::dynamodb
