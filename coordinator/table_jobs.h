#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>

#include "common/async_scope.h"
#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/status.h"
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
/// Failure: an unavailable store is asked again after kRetryInterval; a lost compare reads the
/// record again.
class TableJobs {
 public:
  /// `store` must outlive it. Replicas are placed on `node` (`onggi dev`: the only one).
  TableJobs(metadata::MetadataStore& store, NodeId node, boost::asio::any_io_executor executor);
  ~TableJobs();
  TableJobs(const TableJobs&) = delete;
  TableJobs& operator=(const TableJobs&) = delete;

  /// Resumes what is unfinished, then follows. Resumes on the caller's executor.
  boost::asio::awaitable<Status> Start();
  /// Ends the watch and joins the jobs; they go on at the next Start. Not from `executor`'s thread.
  void Stop();

 private:
  void Consider(const metadata::KeyValue& kv);
  boost::asio::awaitable<void> Run(TableId table);
  /// One step of the table's job. kConditionFailed: read again; kNotFound: nothing left to do.
  boost::asio::awaitable<Status> Advance(TableId table);
  boost::asio::awaitable<Status> Create(metadata::KeyValue kv, proto::Table record);
  boost::asio::awaitable<Status> FinishUpdate(metadata::KeyValue kv, proto::Table record);
  boost::asio::awaitable<Status> Delete(metadata::KeyValue kv, proto::Table record);
  boost::asio::awaitable<Status> Commit(metadata::Transaction transaction);

  metadata::MetadataStore& store_;
  const NodeId node_;
  const boost::asio::any_io_executor executor_;
  AsyncScope scope_;
  std::unique_ptr<metadata::WatchHandle> watch_;  // of executor_
};

}  // namespace onggi::coordinator
