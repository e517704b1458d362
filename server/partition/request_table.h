#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/status.h"
#include "server/partition/write.h"

namespace onggi::partition {

/// The outcome of a write as a retry is answered from it: everything but the status, which is Ok.
void EncodeOutcome(const WriteOutcome& outcome, std::string* out);
Result<WriteOutcome> DecodeOutcome(std::string_view bytes);

/// Which writes with a request id have been applied lately (R12), so that a retry, perhaps on a new
/// primary, is answered and not applied again.
///
/// Replicated: each log entry with such writes puts one record into the meta space of the store,
/// ids and outcomes together, and deletes a few that have expired. Only a primary needs this table,
/// which it reads from the store when its reign begins; it holds ids alone, the outcomes stay in
/// the store. Owned by the partition's home.
class RequestTable {
 public:
  /// A retry comes within a request's deadline, which is shorter by far.
  static constexpr std::chrono::seconds kKept{60};
  /// More than these are forgotten oldest first, whatever their age.
  static constexpr size_t kMaxRequests = 262'144;
  /// Expired records that an entry deletes at most.
  static constexpr size_t kMaxDeletes = 8;

  /// Collects the ids and outcomes of one log entry.
  class Record {
   public:
    bool empty() const { return outcomes_.empty(); }
    size_t size() const { return outcomes_.size(); }
    void Add(const RequestId& id, const WriteOutcome& outcome);
    /// The record's value; `now` as the wall clock has it.
    std::string Encode(WallTime now) const;

   private:
    std::string outcomes_;  ///< id, length-prefixed outcome, and so on
  };

  /// The entry in whose record `id` is.
  std::optional<LogIndex> Find(const RequestId& id) const;

  /// `id` is in the record of `index`, the newest, made at `made`.
  void Add(LogIndex index, const RequestId& id, WallTime made);
  /// The record of an entry that never was.
  void DropSuffix(LogIndex from);
  void Clear();
  /// Takes a record of the store in, in order of the index.
  Status Load(LogIndex index, std::string_view value);

  /// Removes and returns what has expired by `now`.
  std::vector<LogIndex> TakeExpired(WallTime now);

  size_t size() const { return entries_.size(); }

  /// Key within the meta space, of the record of an entry.
  static std::string KeyOf(LogIndex index);
  static std::optional<LogIndex> IndexOf(std::string_view key);
  static constexpr std::string_view kKeyPrefix = "request";

  /// The outcome of `id` in a record; kNotFound.
  static Result<WriteOutcome> FindOutcome(std::string_view value, const RequestId& id);

 private:
  struct Hash {
    size_t operator()(const RequestId& id) const {
      return std::hash<uint64_t>()(id.boot ^ (id.sequence * 0x9e3779b97f4a7c15u));
    }
  };
  struct Batch {
    LogIndex index;
    WallTime made;
    std::vector<RequestId> ids;
  };
  std::unordered_map<RequestId, LogIndex, Hash> entries_;
  std::deque<Batch> batches_;  ///< by index
};

}  // namespace onggi::partition
