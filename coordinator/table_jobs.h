#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/async_scope.h"
#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/status.h"
#include "coordinator/timers.h"
#include "replication/metadata/metadata_store.h"

namespace onggi::coordinator {

/// Carries tables from the state that a request asked for to the one that it meant: CREATING gets
/// its partitions and becomes ACTIVE, UPDATING takes its pending record, DELETING goes with all it
/// had.
///
/// The catalog is the whole state of a job: each step is one transaction that compares the table's
/// record, so any coordinator may resume a job after a crash, and two at once do no harm. Follows
/// the catalog's watch; its state belongs to `executor` (a strand or a single thread).
///
/// Failure: an unavailable store is asked again, kMinRetry to kMaxRetry later; a lost compare reads
/// the record again; a table that cannot be placed waits in CREATING.
class TableJobs {
 public:
  /// Nodes for a new table's partition, the primary's first: 1, 3 or 5 of them, as its record asks.
  /// It may add compares to the transaction that takes them. kUnavailable: there are not enough
  /// now. Called on the executor.
  using Placer =
      std::function<Result<std::vector<NodeId>>(const proto::Table&, metadata::Transaction*)>;
  /// Commits; kConditionFailed where a compare did not hold; kNotPrimary where this coordinator is
  /// no longer to do anything.
  using Committer = std::function<boost::asio::awaitable<Status>(metadata::Transaction)>;

  /// One node, one replica, nobody else (`onggi dev`). `store` must outlive it.
  TableJobs(metadata::MetadataStore& store, NodeId node, boost::asio::any_io_executor executor);
  /// A cluster's. All that is passed by reference must outlive it.
  TableJobs(metadata::MetadataStore& store, Placer placer, Committer committer, Timers& timers,
            boost::asio::any_io_executor executor);
  ~TableJobs();
  TableJobs(const TableJobs&) = delete;
  TableJobs& operator=(const TableJobs&) = delete;

  /// Resumes what is unfinished, then follows. Resumes on the caller's executor.
  boost::asio::awaitable<Status> Start();
  /// Ends the watch and joins the jobs; they go on at the next Start. Not from `executor`'s thread.
  void Stop();
  /// The same, from a coroutine on `executor`.
  boost::asio::awaitable<void> AsyncStop();

 private:
  void Consider(const metadata::KeyValue& kv);
  void Follow(Revision from);
  void OnBatch(const metadata::WatchBatch& batch);
  boost::asio::awaitable<void> ReadAgain();
  boost::asio::awaitable<void> Run(TableId table);
  /// One step of the table's job. kConditionFailed: read again; kNotFound: nothing left to do.
  boost::asio::awaitable<Status> Advance(TableId table);
  boost::asio::awaitable<Status> Create(metadata::KeyValue kv, proto::Table record);
  boost::asio::awaitable<Status> FinishUpdate(metadata::KeyValue kv, proto::Table record);
  boost::asio::awaitable<Status> Delete(metadata::KeyValue kv, proto::Table record);
  boost::asio::awaitable<Status> Commit(metadata::Transaction transaction);

  metadata::MetadataStore& store_;
  const Placer placer_;
  const Committer committer_;
  const std::unique_ptr<AsioTimers> own_timers_;
  Timers& timers_;
  const boost::asio::any_io_executor executor_;
  AsyncScope scope_;
  // Of executor_.
  std::unique_ptr<metadata::WatchHandle> watch_;
  std::set<TableId> running_;  ///< a table has one job; a change meanwhile is seen at its end
  std::set<TableId> again_;
};

}  // namespace onggi::coordinator
