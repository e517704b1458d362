#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "replication/metadata/metadata_store.h"

namespace onggi::metadata {

/// Runs a function `delay` of virtual time from now, on the simulation's only thread; functions of
/// one time in the order in which they were given, and never inside the call.
using SimulatedScheduler =
    std::function<void(std::chrono::milliseconds delay, std::function<void()> run)>;

/// How badly the simulated store behaves toward its clients. Chances are per thousand requests.
struct SimulatedFaults {
  SimulatedFaults() {}

  /// One way between client and store, drawn evenly for each message.
  std::chrono::milliseconds min_delay{1};
  std::chrono::milliseconds max_delay{5};
  /// A read or transaction answers kUnavailable and is not done.
  unsigned unavailable = 0;
  /// A transaction answers kUnknownOutcome: it took effect before the answer...
  unsigned unknown_done = 0;
  /// ... or it never will...
  unsigned unknown_lost = 0;
  /// ... or it is evaluated only up to max_late after the answer, whoever has crashed by then.
  unsigned unknown_late = 0;
  std::chrono::milliseconds max_late{5000};
};

/// The simulated cluster's store: the key space that all clients share. Deterministic: the same
/// seed and the same calls give the same run. Single-threaded; lives until its last client and its
/// last scheduled function are gone.
class SimulatedCluster : public std::enable_shared_from_this<SimulatedCluster> {
 public:
  static std::shared_ptr<SimulatedCluster> Create(SimulatedScheduler scheduler, uint64_t seed,
                                                  SimulatedFaults faults = {});
  virtual ~SimulatedCluster() = default;

  virtual void SetFaults(SimulatedFaults faults) = 0;
  /// While down, nothing is evaluated: as if every client were cut off. Leases do not expire
  /// meanwhile, and live on for their whole time afterwards, as with etcd's change of leaders.
  virtual void SetDown(bool down) = 0;
  /// Forgets the events before `revision`, which is not past the current one.
  virtual void Compact(Revision revision) = 0;

  /// For checks of the simulation: what stands now, without delay or fault.
  virtual RangeResult ReadNow(std::string start = "", std::string end = "") const = 0;
  /// Does `transaction` now, without delay or fault.
  virtual Result<TransactionResult> CommitNow(const Transaction& transaction) = 0;
};

/// One node's client of a SimulatedCluster. Single-threaded, as the simulation is.
///
/// A request and its answer each take a delay of their own, so requests of one client may overtake
/// each other, as on separate connections. Watches deliver in order. Callbacks run from the
/// scheduler; those with an executor are posted to it, or, if it is empty
/// (`boost::asio::any_io_executor()`), run from the scheduler too.
///
/// Destroying it is closing it (requests under way are answered: kUnavailable, transactions
/// kUnknownOutcome). A crash is Crash() first. Either way a request that is under way may still
/// take effect.
class SimulatedStore : public MetadataStore {
 public:
  /// Requests past `max_pending` in flight are refused with kResourceExhausted.
  static std::unique_ptr<SimulatedStore> Connect(std::shared_ptr<SimulatedCluster> cluster,
                                                 size_t max_pending = 10'000);

  /// Cuts the client from the store, or joins it again. While cut, messages either way are lost:
  /// requests answer after `timeout` of virtual time, kUnavailable if they were asked while cut
  /// (reads always), else kUnknownOutcome; watches are silent and then catch up; leases run out.
  virtual void SetCut(bool cut) = 0;

  /// The process is gone: no callback is called any more, watches end, leases are kept alive no
  /// longer. Only destruction may follow.
  virtual void Crash() = 0;

  static constexpr std::chrono::milliseconds kTimeout{3000};
};

}  // namespace onggi::metadata
