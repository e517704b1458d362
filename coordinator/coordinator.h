#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <optional>
#include <string>

#include "common/async_scope.h"
#include "common/status.h"
#include "coordinator/coordinator_metrics.h"
#include "coordinator/leadership.h"
#include "coordinator/options.h"
#include "replication/metadata/election.h"

namespace onggi::coordinator {

/// One of the cluster's coordinators: a candidate for being the active one, and while it is, the
/// one that keeps the cluster in shape (Leadership).
///
/// Several run at once and one is active, by an election in the metadata store. All they know for
/// certain is there: when the active one dies, or is cut off, the next one goes on with every job
/// where it stood. Nothing of the data path depends on any of them.
///
/// Lifecycle: made by main (or the simulator), Start(), Stop() or AsyncStop(). All of it runs on
/// the environment's executor, where Active() must be called too.
class Coordinator {
 public:
  Coordinator(const Environment& environment, Options options);
  /// Stopped before, if it was started.
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  void Start();
  /// Resigns, so that another one follows at once. From a coroutine on the executor.
  boost::asio::awaitable<void> AsyncStop();
  /// The same from a thread that does not run the executor.
  void Stop();

  /// To ask something of. kNotPrimary, with the active one's "host:port" and nothing else as its
  /// message, when another one is active; kUnavailable when none is, as far as known.
  Result<std::shared_ptr<Leadership>> Active() const;

  const Options& options() const { return options_; }
  const Environment& environment() const { return environment_; }

 private:
  boost::asio::awaitable<void> Run();

  const Environment environment_;
  const Options options_;
  CoordinatorMetrics metrics_;
  std::unique_ptr<metadata::Election> election_;
  std::unique_ptr<metadata::LeaderObserver> observer_;
  std::optional<metadata::Leader> leader_;  ///< as the observer last saw
  std::shared_ptr<Leadership> leadership_;
  bool active_ = false;  ///< leadership_ has started
  AsyncScope scope_;
};

}  // namespace onggi::coordinator
