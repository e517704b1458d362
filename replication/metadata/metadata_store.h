#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "common/text.h"

namespace onggi::metadata {

/// A key as it stands at some revision (etcd's mvccpb.KeyValue).
struct KeyValue {
  std::string key;
  std::string value;
  Revision create_revision;  ///< when the key last came into being
  Revision mod_revision;     ///< when its value was last written
  bool operator==(const KeyValue&) const = default;
};

/// A condition of a transaction on one key.
struct Compare {
  std::string key;
  /// The key's mod_revision must be this; 0: the key must not exist.
  Revision mod_revision;

  static Compare Missing(std::string key) { return {std::move(key), Revision()}; }
  static Compare At(std::string key, Revision revision) { return {std::move(key), revision}; }
};

/// Names a lease; 0 is none. Never used again.
using LeaseId = StrongId<struct LeaseIdTag>;

struct Put {
  std::string key;
  std::string value;
  /// The key is deleted when this lease ends, unless it has been put again without it by then. 0:
  /// the key stays, also if it was bound to a lease before.
  LeaseId lease{};
};

/// If all `compares` hold, all `puts` and `deletes` happen, at one new revision; else nothing.
/// A key may appear once among the puts and deletes. At most 128 operations and 1.5 MB, as etcd.
struct Transaction {
  Transaction() {}
  std::vector<Compare> compares;
  std::vector<Put> puts;
  /// Deleting a key that does not exist is no error.
  std::vector<std::string> deletes;
};

struct TransactionResult {
  /// Whether the compares held.
  bool succeeded = false;
  /// The store's revision after (succeeded), or at the time of, the transaction. It is the
  /// mod_revision of every key put.
  Revision revision;
  /// Not succeeded: the compared keys that exist, as they stand, in the order of `compares`.
  std::vector<KeyValue> current;
};

struct RangeResult {
  std::vector<KeyValue> kvs;  ///< ordered by key
  /// The store's revision: watch from the next one to miss nothing.
  Revision revision;
  /// There were more than `limit`: go on from the last key with a zero byte appended.
  bool more = false;
};

struct WatchEvent {
  enum class Type : uint8_t { kPut, kDelete };
  Type type = Type::kPut;
  /// Deleted: key and mod_revision (of the deletion) only.
  KeyValue kv;
};

/// Events of one or more whole revisions, oldest first. A revision is never cut in two. Without
/// events: only `revision` has advanced.
struct WatchBatch {
  std::vector<WatchEvent> events;
  /// All events through this revision have been delivered.
  Revision revision;
  /// Events from the asked revision on are no longer kept. The watch has ended: read the range
  /// again and watch from there. `events` is empty.
  bool compacted = false;
};

/// Ends the watch when destroyed: no call of its handler begins after the destructor returns, if
/// that runs on the watch's executor (a strand or a single thread); else one may still be under
/// way.
class WatchHandle {
 public:
  virtual ~WatchHandle() = default;
};

/// A lease that the store keeps alive for as long as this exists. Destroying it revokes the lease,
/// which deletes its keys, in the background; if the store cannot be reached, the lease ends by
/// itself when its time to live has passed.
class LeaseHandle {
 public:
  virtual ~LeaseHandle() = default;
  /// For Put::lease.
  virtual LeaseId id() const = 0;
  /// False from the moment on when the lease may have ended, which is before any other client can
  /// see its keys deleted (but for clock rates), or when it was revoked. Never true again.
  /// Thread-safe.
  virtual bool alive() const = 0;
};

/// The store of the catalog and of every partition's configuration, in etcd's terms: a versioned
/// key space with compare-and-swap transactions, watches and leases
/// (https://etcd.io/docs/v3.4/learning/api/). Implementations: etcd (clusters), embedded (`onggi
/// dev`), simulated. Elections: election.h, over this interface.
///
/// All functions are thread-safe and return at once. A callback is called exactly once, on a thread
/// of the store, with no lock held, and must not block it; a request that is refused at once (over
/// the bound, or the store is closed) is answered inside the call. Closing answers what is pending.
/// Reads are linearizable: they see every transaction that was answered before they were asked.
///
/// Errors: kUnavailable (not done; ask again), kUnknownOutcome (a transaction may have taken
/// effect, or may still: see replication.md R3), kResourceExhausted (over the bound of requests in
/// flight; not done), kInvalidArgument (over the limits above), kNotFound (a Put names a lease that
/// has ended; not done), kOutOfSpace, kCorruption.
class MetadataStore {
 public:
  using RangeCallback = std::function<void(Result<RangeResult>)>;
  using TransactionCallback = std::function<void(Result<TransactionResult>)>;
  using WatchCallback = std::function<void(const WatchBatch&)>;
  using LeaseCallback = std::function<void(Result<std::unique_ptr<LeaseHandle>>)>;
  using StatusCallback = std::function<void(Status)>;

  virtual ~MetadataStore() = default;

  /// The keys in [start, end), at most `limit` (0: all). An empty `end` is the end of the key
  /// space.
  virtual void AsyncRange(std::string start, std::string end, size_t limit,
                          RangeCallback callback) = 0;

  virtual void AsyncCommit(Transaction transaction, TransactionCallback callback) = 0;

  /// Calls `callback` on `executor` (use a strand, or a single-threaded context: batches are posted
  /// in revision order) with the events of keys that begin with `prefix`, from `from` on
  /// (Revision 0: from now on; nothing that is asked after the call is missed, and something of
  /// just before may be seen). Ends with the handle, or after `compacted`.
  virtual std::unique_ptr<WatchHandle> Watch(std::string prefix, Revision from,
                                             boost::asio::any_io_executor executor,
                                             WatchCallback callback) = 0;

  /// Grants a lease and keeps it alive until the handle is destroyed or the store is closed. `ttl`
  /// (1 s at least): how long it lives on without its client; the store may make it longer, and
  /// etcd does not go below about twice its election timeout. `lost` is called once, on `executor`,
  /// if the lease ends, or may have ended, in any other way; never after the handle was destroyed
  /// on that executor. Then grant a new one, and put its keys again.
  virtual void AsyncGrantLease(std::chrono::seconds ttl, boost::asio::any_io_executor executor,
                               std::function<void()> lost, LeaseCallback callback) = 0;

  /// Ends a lease and deletes its keys, also one of another client. Ok if it had ended already.
  virtual void AsyncRevokeLease(LeaseId lease, StatusCallback callback) = 0;

  // The same for coroutines, resumed on the caller's executor.

  boost::asio::awaitable<Result<RangeResult>> Range(std::string start, std::string end,
                                                    size_t limit = 0);
  /// All keys that begin with `prefix`.
  boost::asio::awaitable<Result<RangeResult>> RangePrefix(std::string prefix);
  /// One key; kNotFound without it.
  boost::asio::awaitable<Result<KeyValue>> Get(std::string key);
  boost::asio::awaitable<Result<TransactionResult>> Commit(Transaction transaction);
  /// `lost` is called on the coroutine's executor.
  boost::asio::awaitable<Result<std::unique_ptr<LeaseHandle>>> GrantLease(
      std::chrono::seconds ttl, std::function<void()> lost);
  boost::asio::awaitable<Status> RevokeLease(LeaseId lease);
};

/// kInvalidArgument, with what is wrong, unless the transaction is within the limits above.
Status CheckLimits(const Transaction& transaction);

/// An empty end is that of the key space.
using onggi::PrefixEnd;

}  // namespace onggi::metadata
