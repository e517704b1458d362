#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/status.h"
#include "replication/replica/environment.h"
#include "server/partition/write.h"

namespace onggi::partition {

using replica::BootTime;

/// The outcome of a write as a retry is answered from it: everything but the status, which is Ok.
void EncodeOutcome(const WriteOutcome& outcome, std::string* out);
Result<WriteOutcome> DecodeOutcome(std::string_view bytes);

/// Which writes with a request id have been applied lately (R12), so that a retry, perhaps on a new
/// primary, is answered and not applied again.
///
/// Replicated: each log entry with such writes puts one record into the meta space of the store,
/// ids and outcomes together, and deletes a few that have expired. Only a primary needs this table,
/// which it reads from the store when its reign begins; it holds ids alone, the outcomes stay in
/// the store. Ages are counted by the primary's own monotonic clock, from when it heard of a record
/// (at the latest when its reign began): calendars of nodes need not agree, and jump. Owned by the
/// partition's home.
class RequestTable {
 public:
  /// A retry comes within a request's deadline, which is shorter by far.
  static constexpr std::chrono::seconds kKept{60};
  /// More than these are forgotten oldest first, whatever their age. Less than the longest deadline
  /// (10 s) would be left of a partition that takes more than 26,000 such writes a second.
  static constexpr size_t kMaxRequests = 262'144;
  /// Expired records that an entry deletes at most.
  static constexpr size_t kMaxDeletes = 8;

  /// Collects the ids and outcomes of one log entry.
  class Record {
   public:
    bool empty() const { return outcomes_.empty(); }
    size_t size() const { return outcomes_.size(); }
    void Add(const RequestId& id, const WriteOutcome& outcome);
    /// The record's value; `now` is for people who read it.
    std::string Encode(WallTime now) const;

   private:
    std::string outcomes_;  ///< id, length-prefixed outcome, and so on
  };

  /// A record of the store.
  struct Where {
    LogIndex index;   ///< of the entry; 0 for one that was inherited from another partition
    std::string key;  ///< within the meta space
  };

  /// The record that `id` is in; null: none. Until the next change.
  const Where* Find(const RequestId& id) const;

  /// `id` is in the record of entry `index`, the newest.
  void Add(LogIndex index, const RequestId& id, BootTime now);
  /// The records of entries that never were.
  void DropSuffix(LogIndex from);
  void Clear();
  /// Takes a record of the store in: inherited ones first, the others in order of the index.
  Status Load(std::string_view key, std::string_view value, BootTime now);

  /// Likewise an inherited one, while there are newer ones; Ok if it is known.
  Status LoadOlder(std::string_view key, std::string_view value, BootTime now);

  /// Removes what has expired by `now`, and returns the keys of its records.
  std::vector<std::string> TakeExpired(BootTime now);

  size_t size() const { return entries_.size(); }

  /// Key within the meta space, of the record of an entry.
  static std::string KeyOf(LogIndex index);
  /// The key that a record of `partition` gets where its items go to another.
  static std::string InheritedKeyOf(PartitionId partition, std::string_view key);
  static constexpr std::string_view kKeyPrefix = "request";
  static constexpr std::string_view kInheritedPrefix = "inherited";

  /// The outcome of `id` in a record; kNotFound.
  static Result<WriteOutcome> FindOutcome(std::string_view value, const RequestId& id);

 private:
  struct Hash {
    size_t operator()(const RequestId& id) const {
      return std::hash<uint64_t>()(id.boot ^ (id.sequence * 0x9e3779b97f4a7c15u));
    }
  };
  struct Batch {
    Where where;
    BootTime since;
    std::vector<RequestId> ids;
  };
  static Result<std::shared_ptr<Batch>> Parse(std::string_view key, std::string_view value,
                                              BootTime now);
  void Forget(const Batch& batch);

  std::unordered_map<RequestId, std::shared_ptr<const Batch>, Hash> entries_;
  std::deque<std::shared_ptr<Batch>> batches_;  ///< by age
  std::unordered_set<std::string> inherited_;   ///< keys of those that are
};

}  // namespace onggi::partition
