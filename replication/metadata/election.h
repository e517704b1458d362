#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "replication/metadata/metadata_store.h"

namespace onggi::metadata {

/// Who leads an election.
struct Leader {
  std::string key;    ///< of its candidacy; never used again
  std::string value;  ///< what it gave as its name
  /// create_revision and mod_revision of `key`: grows from leader to leader.
  Revision revision;
  bool operator==(const Leader&) const = default;

  /// Holds as long as this leadership does: among the compares of a transaction, it keeps one who
  /// no longer leads from changing anything.
  Compare Fence() const { return Compare::At(key, revision); }
};

/// One candidate of an election: of all that campaign under a prefix, one leads at a time, the one
/// whose key is oldest. The candidate's key is bound to a lease, so that a leader that dies is
/// followed after `ttl`, and one that resigns at once. The recipe of etcd's concurrency package
/// (https://etcd.io/docs/v3.4/dev-guide/api_concurrency_reference_v3/).
///
/// Made and used on one executor (a strand or a single thread), which must outlive it. Keys under
/// `prefix` (which ends in a slash) are the election's alone. Fencing is by Leader::Fence: two
/// candidates may both believe for a moment that they lead, but only one of them can change what
/// is fenced.
///
///     Election election(store, executor, "election/coordinator/", name, seconds(5));
///     for (;;) {
///       Result<Leader> leader = co_await election.Campaign();   // waits, through any outage
///       ... spawn the work, fenced by leader->Fence() ...
///       co_await election.Lost();
///       ... stop it ...
///     }
class Election {
 public:
  /// `value`: what others see as the leader's name, such as its address.
  Election(MetadataStore& store, boost::asio::any_io_executor executor, std::string prefix,
           std::string value, std::chrono::seconds ttl);
  /// Resigns in the background. No Campaign or Lost may be waiting.
  ~Election();
  Election(const Election&) = delete;
  Election& operator=(const Election&) = delete;

  /// Joins if need be, and returns when this candidate leads. Errors of the store are tried again,
  /// with pauses, for ever; except kInvalidArgument, kCorruption and the like, which are returned.
  /// kUnavailable after Resign(). Cancellation by Asio ends the wait (it throws, as Asio does); the
  /// candidacy stays until Resign() or destruction. One at a time.
  boost::asio::awaitable<Result<Leader>> Campaign();

  /// Returns when this candidate no longer leads, or cannot be sure that it does; at once if it
  /// does not.
  boost::asio::awaitable<void> Lost();

  /// Whether it leads, and by whose leave. By the lease's clock: no longer from the moment on when
  /// another may.
  std::optional<Leader> leadership() const;

  /// Ends the candidacy; the next candidate follows at once. Waits for the store's answer. After
  /// an error the lease ends by itself, `ttl` later. Campaign() joins again.
  boost::asio::awaitable<Status> Resign();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

/// Tells who leads, without being a candidate. Made and destroyed on `executor`; ends with the
/// object.
class LeaderObserver {
 public:
  /// Calls `callback` on `executor` with every change, first with the state as found; nullopt while
  /// there is no leader.
  LeaderObserver(MetadataStore& store, boost::asio::any_io_executor executor, std::string prefix,
                 std::function<void(const std::optional<Leader>&)> callback);
  ~LeaderObserver();
  LeaderObserver(const LeaderObserver&) = delete;
  LeaderObserver& operator=(const LeaderObserver&) = delete;

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace onggi::metadata
