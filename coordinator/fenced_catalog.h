#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <string>

#include "common/clock.h"
#include "common/status.h"
#include "coordinator/cluster_view.h"
#include "replication/metadata/metadata_store.h"

namespace onggi::coordinator {

/// The writes of one leadership: every transaction holds only as long as it does, and what it
/// changed is in the view when it has been answered.
///
/// Lives with the leadership, on the coordinator's executor; store, view and clock outlive it.
class FencedCatalog {
 public:
  FencedCatalog(metadata::MetadataStore& store, ClusterView& view, const Clock& clock,
                metadata::Compare fence)
      : store_(store), view_(view), clock_(clock), fence_(std::move(fence)) {}

  /// kConditionFailed: a compare did not hold; the view has the compared keys as they stand.
  /// kNotPrimary: the leadership is over. kUnknownOutcome: it may have happened, or may still; the
  /// view has the keys as they stood after.
  boost::asio::awaitable<Status> Commit(metadata::Transaction transaction);

  /// Reads a key again into the view.
  boost::asio::awaitable<Status> Refresh(std::string key);

  /// Makes a job of a plan's: gives it its id, `to` and a split's child their ids, in one
  /// transaction that holds if the partition's configuration is still the view's.
  /// kConditionFailed: it is not, or another job has the partition by now.
  boost::asio::awaitable<Result<proto::Job>> CreateJob(proto::Job job);

  /// Writes a job's record over the one in the view, in one transaction with `also` (which may be
  /// empty). Errors as Commit.
  boost::asio::awaitable<Status> SaveJob(proto::Job job, metadata::Transaction also);

  /// Takes `count` numbers from next/<kind>: compare and put are added to the transaction, whose
  /// commit takes them. The first one is the answer.
  boost::asio::awaitable<Result<uint64_t>> TakeIds(std::string key, uint64_t count,
                                                   metadata::Transaction* transaction);

  ClusterView& view() { return view_; }
  int64_t WallMilliseconds() const;

 private:
  metadata::MetadataStore& store_;
  ClusterView& view_;
  const Clock& clock_;
  const metadata::Compare fence_;
  /// The revision of the jobs' counter up to which the view surely has every job.
  Revision jobs_known_at_;
};

}  // namespace onggi::coordinator
