#include "coordinator/fenced_catalog.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "replication/metadata/keys.h"

namespace onggi::coordinator {

namespace asio = boost::asio;
namespace keys = metadata::keys;

int64_t FencedCatalog::WallMilliseconds() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(clock_.WallNow().time_since_epoch())
      .count();
}

asio::awaitable<Status> FencedCatalog::Refresh(std::string key) {
  std::string end = key + '\0';
  Result<metadata::RangeResult> range = co_await store_.Range(key, std::move(end), 1);
  if (!range.ok()) co_return std::move(range).status();
  if (range->kvs.empty()) {
    view_.Erase(key, range->revision, clock_.Now());
  } else if (!view_.Put(range->kvs.front(), clock_.Now())) {
    co_return Corruption(key + ": does not parse");
  }
  co_return Status::Ok();
}

asio::awaitable<Status> FencedCatalog::Commit(metadata::Transaction transaction) {
  std::vector<std::string> compared;
  for (const auto& compare : transaction.compares) compared.push_back(compare.key);
  const std::vector<metadata::Put> puts = transaction.puts;
  transaction.compares.push_back(fence_);
  Result<metadata::TransactionResult> result = co_await store_.Commit(std::move(transaction));
  const SteadyTime now = clock_.Now();
  if (!result.ok()) {
    Status status = std::move(result).status();
    if (status.code() == Code::kUnknownOutcome) {
      for (std::string& key : compared) (void)co_await Refresh(std::move(key));
    }
    co_return status;
  }
  if (result->succeeded) {
    for (const auto& put : puts) {
      const metadata::KeyValue kv{put.key, put.value, result->revision, result->revision};
      (void)view_.Put(kv, now);
    }
    co_return Status::Ok();
  }
  const auto find = [&](const std::string& key) {
    return std::find_if(result->current.begin(), result->current.end(),
                        [&](const auto& kv) { return kv.key == key; });
  };
  const auto fence = find(fence_.key);
  if (fence == result->current.end() || fence->mod_revision != fence_.mod_revision) {
    co_return Status(Code::kNotPrimary, "this coordinator is no longer the active one");
  }
  for (const std::string& key : compared) {
    const auto kv = find(key);
    if (kv == result->current.end()) {
      view_.Erase(key, result->revision, now);
    } else {
      (void)view_.Put(*kv, now);
    }
  }
  co_return Status(Code::kConditionFailed, "the catalog changed");
}

asio::awaitable<Result<uint64_t>> FencedCatalog::TakeIds(std::string key, uint64_t count,
                                                         metadata::Transaction* transaction) {
  Result<metadata::KeyValue> kv = co_await store_.Get(key);
  uint64_t first = 1;
  Revision revision;
  if (kv.ok()) {
    const auto id = keys::ParseId(kv->value);
    if (!id) co_return Corruption(key + ": not an id");
    first = *id;
    revision = kv->mod_revision;
  } else if (kv.status().code() != Code::kNotFound) {
    co_return std::move(kv).status();
  }
  transaction->compares.push_back(metadata::Compare::At(key, revision));
  transaction->puts.push_back({std::move(key), keys::FormatId(first + count)});
  co_return first;
}

asio::awaitable<Result<proto::Job>> FencedCatalog::CreateJob(proto::Job job) {
  metadata::Transaction transaction;
  Result<uint64_t> id = co_await TakeIds(keys::NextJob(), 1, &transaction);
  if (!id.ok()) co_return std::move(id).status();
  const Revision counter = transaction.compares.back().mod_revision;
  if (counter != jobs_known_at_) {
    // Another creation is under way, or its answer was lost. What it made is read here, after the
    // counter; or it comes later, and then one of the two finds the counter changed.
    const std::string prefix(keys::kJobPrefix);
    Result<metadata::RangeResult> jobs = co_await store_.RangePrefix(prefix);
    if (!jobs.ok()) co_return std::move(jobs).status();
    view_.Replace(prefix, *jobs, clock_.Now());
    jobs_known_at_ = counter;
  }
  const PartitionId partition_id(job.partition());
  for (const uint64_t subject : {job.partition(), job.other()}) {
    if (subject == 0) continue;
    const JobView* other = view_.JobBefore(PartitionId(subject), job.kind());
    if (other != nullptr) {
      co_return Status(Code::kConditionFailed, "job " + std::to_string(other->record.id()) +
                                                   " has partition " + std::to_string(subject));
    }
    const PartitionView* partition = view_.Partition(PartitionId(subject));
    const TableId table(partition == nullptr ? job.table() : partition->config.table());
    transaction.compares.push_back(
        metadata::Compare::At(keys::Partition(table, PartitionId(subject)),
                              partition == nullptr ? Revision() : partition->revision));
  }
  job.set_id(*id);
  job.set_state(proto::JOB_STATE_RUNNING);
  job.set_created_ms(WallMilliseconds());
  job.set_updated_ms(job.created_ms());
  if (job.to().node() != 0 && job.to().replica() == 0) {
    Result<uint64_t> replica = co_await TakeIds(keys::NextReplica(), 1, &transaction);
    if (!replica.ok()) co_return std::move(replica).status();
    job.mutable_to()->set_replica(*replica);
  }
  if (job.kind() == proto::JOB_KIND_SPLIT) {
    const PartitionView* parent = view_.Partition(partition_id);
    if (parent == nullptr) co_return NotFound("the partition is gone");
    const std::vector<proto::ReplicaRef> members = Members(parent->config);
    Result<uint64_t> child = co_await TakeIds(keys::NextPartition(), 1, &transaction);
    if (!child.ok()) co_return std::move(child).status();
    Result<uint64_t> first = co_await TakeIds(keys::NextReplica(), members.size(), &transaction);
    if (!first.ok()) co_return std::move(first).status();
    job.set_other(*child);
    for (size_t i = 0; i < members.size(); ++i) {
      proto::ReplicaRef* ref = job.add_other_replicas();
      ref->set_node(members[i].node());
      ref->set_replica(*first + i);
    }
  }
  transaction.puts.push_back({keys::Job(*id), job.SerializeAsString()});
  const Status status = co_await Commit(std::move(transaction));
  if (!status.ok()) co_return status;
  if (const JobView* made = view_.Job(*id); made != nullptr) {
    // The counter was put in the same transaction.
    jobs_known_at_ = std::max(jobs_known_at_, made->revision);
  }
  co_return job;
}

asio::awaitable<Status> FencedCatalog::SaveJob(proto::Job job, metadata::Transaction also) {
  const JobView* known = view_.Job(job.id());
  if (known == nullptr) co_return NotFound("job " + std::to_string(job.id()) + " is gone");
  job.set_updated_ms(WallMilliseconds());
  const std::string key = keys::Job(job.id());
  also.compares.push_back(metadata::Compare::At(key, known->revision));
  also.puts.push_back({key, job.SerializeAsString()});
  co_return co_await Commit(std::move(also));
}

}  // namespace onggi::coordinator
