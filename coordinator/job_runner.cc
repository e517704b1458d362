#include "coordinator/job_runner.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "coordinator/job_names.h"

namespace onggi::coordinator {

namespace asio = boost::asio;

JobRunner::JobRunner(FencedCatalog& catalog, NodeClient& nodes, Timers& timers, const Clock& clock,
                     const Options& options, EndCallback on_end, FailureCallback on_failure)
    : catalog_(catalog),
      view_(catalog.view()),
      nodes_(nodes),
      timers_(timers),
      clock_(clock),
      options_(options),
      on_end_(std::move(on_end)),
      on_failure_(std::move(on_failure)) {}

asio::awaitable<void> JobRunner::Run(uint64_t id) {
  std::chrono::milliseconds backoff = options_.min_backoff;
  for (;;) {
    const JobView* view = view_.Job(id);
    if (view == nullptr || !view->running()) break;
    const proto::Job job = view->record;
    StepResult next = co_await Step(job);
    std::chrono::milliseconds pause{0};
    if (next.ok()) {
      if (*next == Next::kEnded) break;
      if (*next == Next::kAgain) {
        backoff = options_.min_backoff;
        troubles_.erase(id);
      } else {
        pause = options_.poll;
      }
    } else if (next.status().code() == Code::kNotPrimary) {
      break;  // the leadership is over: the next leader goes on
    } else {
      // A compare lost to somebody else's change is the way things are.
      if (next.status().code() != Code::kConditionFailed) {
        Trouble& trouble = troubles_[id];
        ++trouble.attempts;
        trouble.error = next.status().ToString();
        on_failure_(job, next.status());
      }
      pause = backoff;
      backoff = std::min(backoff * 2, options_.max_backoff);
    }
    if (pause.count() > 0) co_await Sleep(timers_, pause);
  }
  troubles_.erase(id);
  const JobView* ended = view_.Job(id);
  if (ended != nullptr && !ended->running()) on_end_(ended->record);
}

asio::awaitable<JobRunner::StepResult> JobRunner::Step(proto::Job job) {
  switch (job.kind()) {
    case proto::JOB_KIND_ADD_REPLICA:
    case proto::JOB_KIND_REPLACE_REPLICA:
    case proto::JOB_KIND_MOVE_REPLICA: co_return co_await CopyReplica(std::move(job));
    case proto::JOB_KIND_TRANSFER_PRIMARY: co_return co_await TransferPrimary(std::move(job));
    case proto::JOB_KIND_REMOVE_REPLICA: co_return co_await RemoveReplica(std::move(job));
    case proto::JOB_KIND_SET_REPLICATION: co_return co_await SetReplication(std::move(job));
    case proto::JOB_KIND_SPLIT: co_return co_await Split(std::move(job));
    case proto::JOB_KIND_MERGE: co_return co_await Merge(std::move(job));
    default: co_return co_await Finish(std::move(job), "a kind of job that is not known here");
  }
}

/// `error` empty: done.
asio::awaitable<JobRunner::StepResult> JobRunner::Finish(proto::Job job, std::string error) {
  job.set_state(error.empty() ? proto::JOB_STATE_DONE : proto::JOB_STATE_FAILED);
  job.set_error(std::move(error));
  if (const auto it = troubles_.find(job.id()); it != troubles_.end()) {
    job.set_attempts(it->second.attempts);
  }
  metadata::Transaction transaction;
  const Status status = co_await catalog_.SaveJob(std::move(job), std::move(transaction));
  if (!status.ok()) co_return status;
  co_return Next::kEnded;
}

asio::awaitable<JobRunner::StepResult> JobRunner::SaveStep(proto::Job job,
                                                           metadata::Transaction also) {
  const Status status = co_await catalog_.SaveJob(std::move(job), std::move(also));
  if (!status.ok()) co_return status;
  co_return Next::kAgain;
}

bool JobRunner::Stalled(const proto::Job& job) const {
  return catalog_.WallMilliseconds() - job.updated_ms() > options_.stall_timeout.count();
}

}  // namespace onggi::coordinator
