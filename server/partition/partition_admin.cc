#include <algorithm>
#include <boost/asio/post.hpp>
#include <set>
#include <tuple>

#include "common/log.h"
#include "replication/group/record.h"
#include "replication/metadata/keys.h"
#include "server/partition/news.h"
#include "server/partition/partition_manager.h"
#include "server/partition/replica_files.h"

/// PartitionManager: what coordinators and operators ask of a node.
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

/// A change is looked at again this soon without news of its partition: what it waits for may be
/// somebody else's (room in a queue, a key that another node has changed).
constexpr auto kLookAgain = std::chrono::milliseconds(100);
/// Hot keys that a report names, from this part of the load on.
constexpr size_t kMaxHotKeys = 5;
constexpr double kHotShare = 0.1;

/// Until there is more news of the partition than `seen`, or it is time to look again.
asio::awaitable<void> AwaitNews(Partition* partition, uint64_t seen, SteadyTime deadline) {
  const SteadyTime again = std::chrono::steady_clock::now() + kLookAgain;
  co_await partition->news().Wait(seen, std::min(again, deadline));
}

/// Partition::WriteAhead() on the pool. What it says does not matter: the change itself flushes
/// too.
asio::awaitable<void> WriteAhead(BlockingPool* pool, std::shared_ptr<Partition> partition,
                                 SteadyTime deadline) {
  auto done = std::make_shared<News>();
  const bool submitted = pool->TrySubmit([partition, done] {
    (void)partition->WriteAhead();
    done->Tell();
  });
  if (submitted) co_await done->Wait(0, deadline);
}

Status NotThePrimary() { return {Code::kNotPrimary, "the partition's primary is not here"}; }

}  // namespace

Status PartitionManager::CreateReplica(TableId, PartitionId partition, ReplicaId replica) {
  if (environment_.disk_low->load(std::memory_order_relaxed)) {
    return {Code::kOutOfSpace, "the disk is below its reserve"};
  }
  {
    // Asked again while it is being made: two at once would take each other's files away.
    std::unique_lock lock(mutex_);
    if (!making_.insert(partition).second) return Unavailable("the replica is being made");
  }
  const Status made = MakeReplica(partition, replica);
  std::unique_lock lock(mutex_);
  making_.erase(partition);
  RETURN_IF_ERROR(made);
  if (const auto slot = partitions_.find(partition); slot == partitions_.end()) {
    unnamed_[partition] = replica;
  } else if (slot->second->replica == replica && slot->second->config.epoch() == 0) {
    slot->second->lost = false;
  }
  return Status::Ok();
}

/// Empty and durable. Ok if it is there.
Status PartitionManager::MakeReplica(PartitionId partition, ReplicaId replica) {
  const std::string directory = DirectoryOf(partition);
  const Result<ReplicaId> there = ReadReplicaFile(environment_.storage->files(), directory);
  if (there.ok()) {
    if (*there == replica) return Status::Ok();
    return {Code::kAlreadyExists, "replica " + there->ToString() + " is there"};
  }
  if (there.status().code() != Code::kNotFound) return there.status();
  // What an earlier replica left in the log goes first, for good: after a crash the new one, which
  // has nothing, would stand beside entries that it cannot go on from, and count as lost.
  {
    std::lock_guard lock(logs_mutex_);
    RETURN_IF_ERROR(environment_.log->RemoveGroup(partition));
    logs_to_remove_.erase(partition);
  }
  RETURN_IF_ERROR(environment_.log->Flush());
  return MakeReplicaDirectory(*environment_.storage, environment_.partitions_directory, directory,
                              replica, /*lazily=*/false);
}

asio::awaitable<Status> PartitionManager::DropReplica(TableId table, PartitionId partition,
                                                      ReplicaId replica) {
  const std::string key = metadata::keys::Partition(table, partition);
  const Result<metadata::KeyValue> kv = co_await environment_.metadata->Get(key);
  if (kv.ok()) {
    const auto record = group::ParseRecord(kv->value);
    if (!record.ok()) co_return record.status();
    if (group::FromRecord(*record).Names({environment_.node, replica})) {
      co_return Status(Code::kConditionFailed, "the partition's key names the replica");
    }
  } else if (kv.status().code() != Code::kNotFound) {
    co_return kv.status();
  }
  bool ours = false;
  {
    std::unique_lock lock(mutex_);
    const auto slot = partitions_.find(partition);
    if (slot != partitions_.end()) {
      if (slot->second->replica != replica) co_return Status::Ok();
      ours = true;
    } else if (const auto unnamed = unnamed_.find(partition); unnamed != unnamed_.end()) {
      if (unnamed->second != replica) co_return Status::Ok();
      const Result<bool> awaited = ChildOfUncut(partition);
      if (!awaited.ok()) co_return awaited.status();
      if (*awaited) {
        co_return Status(Code::kConditionFailed, "the replica is a child's of a split under way");
      }
      unnamed_.erase(unnamed);
    } else {
      co_return Status::Ok();
    }
  }
  if (ours) {
    DropPartition(partition);
  } else {
    RemoveLog(partition);
    RemoveDirectory(partition);
  }
  co_return Status::Ok();
}

asio::awaitable<Status> PartitionManager::TransferPrimary(PartitionId partition, group::Member to,
                                                          SteadyTime deadline) {
  OpenResult opened = co_await FindPartition(partition);
  if (!opened.ok()) co_return opened.status();
  const std::shared_ptr<Partition> here = *opened;
  bool asked = false;
  for (;;) {
    const uint64_t seen = here->news().count();
    const auto known = here->configuration();
    if (known->configuration.primary == to) co_return Status::Ok();
    if (known->configuration.primary.node != environment_.node) co_return NotThePrimary();
    if (!known->configuration.InSync(to)) {
      co_return Status(Code::kConditionFailed, "the target is not in sync");
    }
    if (!asked && here->serving()) {
      asked = true;
      Deliver(here, [to](replica::Replica& replica) { replica.Ask(group::Transfer{to}); });
    }
    if (scope_.stopping() || std::chrono::steady_clock::now() >= deadline) break;
    co_await AwaitNews(here.get(), seen, deadline);
  }
  Deliver(here, [](replica::Replica& replica) { replica.Ask(group::CancelTransfer{}); });
  co_return Unavailable("the target did not catch up in time");
}

asio::awaitable<Status> PartitionManager::ReplaceReplica(PartitionId partition, group::Member out,
                                                         group::Member in, SteadyTime deadline) {
  OpenResult opened = co_await FindPartition(partition);
  if (!opened.ok()) co_return opened.status();
  const std::shared_ptr<Partition> here = *opened;
  bool asked = false;
  for (;;) {
    const uint64_t seen = here->news().count();
    const auto known = here->configuration();
    const group::Configuration& configuration = known->configuration;
    if (configuration.primary.node != environment_.node) co_return NotThePrimary();
    if (!configuration.Names(in)) co_return Status(Code::kConditionFailed, "no such member");
    const bool done =
        configuration.InSync(in) && (!configuration.InSync(out) || out == configuration.primary);
    if (done) co_return Status::Ok();
    if (!asked && here->serving()) {
      asked = true;
      group::Replace replace;
      replace.out = out;
      replace.in = in;
      Deliver(here, [replace](replica::Replica& replica) { replica.Ask(replace); });
    }
    if (scope_.stopping() || std::chrono::steady_clock::now() >= deadline) break;
    co_await AwaitNews(here.get(), seen, deadline);
  }
  co_return Unavailable("the new member has not caught up yet");
}

asio::awaitable<Status> PartitionManager::SetReplication(PartitionId partition,
                                                         uint32_t replication,
                                                         SteadyTime deadline) {
  if (replication != 1 && replication != 3 && replication != 5) {
    co_return InvalidArgument("a partition has 1, 3 or 5 replicas, not " +
                              std::to_string(replication));
  }
  OpenResult opened = co_await FindPartition(partition);
  if (!opened.ok()) co_return opened.status();
  const std::shared_ptr<Partition> here = *opened;
  for (;;) {
    const uint64_t seen = here->news().count();
    const auto known = here->configuration();
    if (known->configuration.replication == replication) co_return Status::Ok();
    if (known->configuration.primary.node != environment_.node) co_return NotThePrimary();
    if (here->serving()) {  // again: a reign that has ended has forgotten it
      Deliver(here, [replication](replica::Replica& replica) {
        replica.Ask(group::SetReplication{replication});
      });
    }
    if (scope_.stopping() || std::chrono::steady_clock::now() >= deadline) break;
    co_await AwaitNews(here.get(), seen, deadline);
  }
  co_return Unavailable("too few replicas have caught up yet");
}

asio::awaitable<Status> PartitionManager::SplitPartition(TableId table, PartitionId partition,
                                                         std::string key, PartitionId child,
                                                         std::vector<group::Member> child_replicas,
                                                         SteadyTime deadline) {
  OpenResult opened = co_await FindPartition(partition);
  if (!opened.ok()) co_return opened.status();
  const std::shared_ptr<Partition> here = *opened;
  std::map<NodeId, ReplicaId> by_node;
  for (const group::Member& member : child_replicas) by_node[member.node] = member.replica;
  const std::string child_key = metadata::keys::Partition(table, child);
  co_await WriteAhead(environment_.blocking, here, deadline);
  for (;;) {
    const uint64_t seen = here->news().count();
    const auto known = here->configuration();
    const group::Configuration& configuration = known->configuration;
    if (configuration.range_end == key) {
      const auto made = co_await environment_.metadata->Get(child_key);
      if (made.ok()) co_return Status::Ok();
      if (made.status().code() != Code::kNotFound) co_return made.status();
      co_return InvalidArgument("the partition ends at the key");
    }
    if (configuration.primary.node != environment_.node) co_return NotThePrimary();
    SplitRecord record;
    record.key = key;
    record.child = child;
    for (const auto* members : {&configuration.in_sync, &configuration.learners}) {
      for (const group::Member& member : *members) {
        const auto replica = by_node.find(member.node);
        if (replica == by_node.end()) {
          co_return Status(Code::kConditionFailed,
                           "node " + member.node.ToString() + " has no replica of the child");
        }
        record.child_replicas[member] = replica->second;
      }
    }
    if (here->serving()) {
      std::function<Status(Partition&)> propose = [record](Partition& open) {
        return open.ProposeSplit(record);
      };
      const Status proposed = co_await OnHome(here, propose, deadline);
      const bool again =
          proposed.code() == Code::kUnavailable || proposed.code() == Code::kNotPrimary;
      // It may have come about between the two looks.
      const bool cut = here->configuration()->configuration.range_end == key;
      if (!proposed.ok() && !again && !cut) co_return proposed;
    }
    if (scope_.stopping() || std::chrono::steady_clock::now() >= deadline) break;
    co_await AwaitNews(here.get(), seen, deadline);
  }
  co_return Unavailable("the split is not done yet");
}

/// Runs `work`, which may outlive the caller, on the partition's home and gives back what it says.
/// kUnavailable: it has not been done by the deadline, and still may be.
asio::awaitable<Status> PartitionManager::OnHome(std::shared_ptr<Partition> partition,
                                                 std::function<Status(Partition&)> work,
                                                 SteadyTime deadline) {
  struct Asked {
    Status status;
    News done;
  };
  auto asked = std::make_shared<Asked>();
  asio::post(HomeOf(partition->id())->executor(), [partition, work, asked] {
    asked->status = partition->replica() == nullptr ? NotThePrimary() : work(*partition);
    asked->done.Tell();
  });
  co_await asked->done.Wait(0, deadline);
  co_return asked->done.count() > 0 ? asked->status
                                    : Unavailable("the partition's home has no time");
}

asio::awaitable<Status> PartitionManager::MergePartitions(TableId table, PartitionId left,
                                                          PartitionId right, SteadyTime deadline) {
  const std::string right_key = metadata::keys::Partition(table, right);
  OpenResult left_opened = co_await FindPartition(left);
  if (!left_opened.ok()) co_return left_opened.status();
  const std::shared_ptr<Partition> here = *left_opened;
  co_await WriteAhead(environment_.blocking, here, deadline);
  Status status;
  while (!scope_.stopping() && std::chrono::steady_clock::now() < deadline) {
    MergeStep step;
    step.waits_for = here;
    step.seen = here->news().count();
    const auto kv = co_await environment_.metadata->Get(right_key);
    if (kv.status().code() == Code::kNotFound) co_return Status::Ok();  // both in one transaction
    status = kv.status();
    if (status.ok()) {
      status = co_await StepMerge(here, right, &step, deadline);
      const bool again =
          status.ok() || status.code() == Code::kUnavailable || status.code() == Code::kNotPrimary;
      if (!again) {
        // It may have come about between the two looks.
        const auto still = co_await environment_.metadata->Get(right_key);
        co_return still.status().code() == Code::kNotFound ? Status::Ok() : status;
      }
    }
    co_await AwaitNews(step.waits_for.get(), step.seen, deadline);
  }
  asio::post(HomeOf(left)->executor(), [here] {
    if (here->replica() != nullptr) here->CancelMerge();
  });
  if (status.code() == Code::kNotPrimary) co_return status;
  co_return Unavailable("the merge is not done yet");
}

/// Takes a merge one step on, whatever step it is at, and says in `step` whose news is next.
asio::awaitable<Status> PartitionManager::StepMerge(std::shared_ptr<Partition> left,
                                                    PartitionId right, MergeStep* step,
                                                    SteadyTime deadline) {
  OpenResult opened = co_await FindPartition(right);
  if (!opened.ok()) {
    co_return opened.status().code() == Code::kNotFound
        ? Status(Code::kConditionFailed, "the neighbour is not on this node")
        : opened.status();
  }
  const std::shared_ptr<Partition> there = *opened;
  const auto one = left->configuration(), other = there->configuration();
  const group::Configuration& a = one->configuration;
  const group::Configuration& b = other->configuration;
  if (a.primary.node != environment_.node || b.primary.node != environment_.node) {
    co_return NotThePrimary();
  }
  const auto nodes = [](const group::Configuration& configuration) {
    std::set<NodeId> in_sync;
    for (const group::Member& member : configuration.in_sync) in_sync.insert(member.node);
    return in_sync;
  };
  if (a.range_end != b.range_start || a.range_end.empty()) {
    co_return Status(Code::kConditionFailed, "the partitions are not neighbours");
  }
  if (nodes(a) != nodes(b)) {
    co_return Status(Code::kConditionFailed, "the in-sync replicas are not on the same nodes");
  }
  struct Frozen {
    AbsorbRecord record;
    Revision grant;
  };
  auto frozen = std::make_shared<Frozen>();
  frozen->record.right = right;
  frozen->record.start = b.range_start;
  frozen->record.end = b.range_end;
  const uint64_t seen = there->news().count();
  std::function<Status(Partition&)> freeze = [frozen](Partition& partition) {
    RETURN_IF_ERROR(partition.ProposeFreeze());
    std::tie(frozen->record.freeze, frozen->grant) = partition.grant();
    frozen->record.figures = partition.statistics();
    return Status::Ok();
  };
  const Status asked = co_await OnHome(there, freeze, deadline);
  if (!asked.ok()) co_return asked;
  if (frozen->grant == Revision()) {
    step->waits_for = there;
    step->seen = seen;
    co_return Status::Ok();
  }
  std::function<Status(Partition&)> absorb = [frozen](Partition& partition) {
    return partition.ProposeAbsorb(frozen->record, frozen->grant);
  };
  co_return co_await OnHome(left, absorb, deadline);
}

std::vector<proto::ReplicaStatus> PartitionManager::GetReplicas(TableId table,
                                                                PartitionId partition) const {
  std::vector<proto::ReplicaStatus> statuses;
  std::vector<std::shared_ptr<Partition>> open;  // described without the lock: that may read files
  std::shared_lock lock(mutex_);
  for (const auto& [id, slot] : partitions_) {
    if (table != TableId() && slot->table != table) continue;
    if (partition != PartitionId() && id != partition) continue;
    proto::ReplicaStatus status;
    status.set_table(slot->table.value);
    status.set_partition(id.value);
    status.set_replica(slot->replica.value);
    status.set_epoch(slot->config.epoch());
    status.set_role(slot->lost ? proto::REPLICA_ROLE_LOST : proto::REPLICA_ROLE_CLOSED);
    // Of what was never open nobody knows how much it would be: it is not merged.
    status.set_merge_copy_bytes(UINT64_MAX);
    if (slot->figures) {
      status.set_items(slot->figures->items());
      status.set_bytes(slot->figures->bytes());
      status.set_merge_copy_bytes(slot->figures->merge_copy_bytes());
    }
    open.push_back(slot->partition);
    statuses.push_back(std::move(status));
  }
  for (const auto& [id, replica] : unnamed_) {
    if (table != TableId() || (partition != PartitionId() && id != partition)) continue;
    proto::ReplicaStatus status;
    status.set_partition(id.value);
    status.set_replica(replica.value);
    status.set_role(proto::REPLICA_ROLE_UNNAMED);
    statuses.push_back(std::move(status));
  }
  lock.unlock();
  for (size_t i = 0; i < open.size(); ++i) {
    if (open[i] != nullptr) {
      open[i]->Describe(&statuses[i]);
      continue;
    }
    const PartitionId id(statuses[i].partition());
    const LogIndex last = log_->LastIndex(id);
    statuses[i].set_durable_index(last.value);
    statuses[i].set_durable_epoch(log_->EpochAt(id, last).value);
  }
  return statuses;
}

/// Any thread.
void Partition::Describe(proto::ReplicaStatus* status) const {
  const auto known = configuration();
  const group::Member self{environment_.node, place_.replica};
  status->set_epoch(known->configuration.epoch.value);
  const bool primary = known->configuration.primary == self;
  status->set_role(serving()                          ? proto::REPLICA_ROLE_PRIMARY
                   : primary                          ? proto::REPLICA_ROLE_CANDIDATE
                   : known->configuration.Names(self) ? proto::REPLICA_ROLE_BACKUP
                                                      : proto::REPLICA_ROLE_UNNAMED);
  const PartitionStatistics figures = statistics();
  status->set_items(figures.item_count);
  status->set_bytes(HeldBytes());
  status->set_merge_copy_bytes(MergeCopyBytes(figures));
  status->set_applied_index(applied_index_.load(std::memory_order_relaxed));
  if (replica_ != nullptr) {
    const LogIndex durable(replica_->durable_index());
    status->set_durable_index(durable.value);
    status->set_durable_epoch(place_.log->EpochAt(id_, durable).value);
    status->set_commit_index(replica_->commit_index());
    status->set_lag_entries(replica_->lag());
  }
  const LoadMeter::Rates rates = load_.rates();
  status->set_read_units(rates.read_units);
  status->set_write_units(rates.write_units);
  if (!serving()) return;
  const std::vector<std::string> keys = load_.SampledKeys();
  for (const LoadMeter::HotKey& hot : LoadMeter::HotKeys(keys, kHotShare)) {
    if (static_cast<size_t>(status->hot_keys_size()) == kMaxHotKeys) break;
    proto::HotKey* const out = status->add_hot_keys();
    out->set_key(hot.key);
    out->set_text(KeyText(hot.key));
    out->set_share(hot.share);
    out->set_read_units(hot.share * rates.read_units);
    out->set_write_units(hot.share * rates.write_units);
  }
  if (const auto split = LoadSplitKey(keys)) status->set_load_split_key(*split);
  if (const auto split = SizeSplitKey()) status->set_size_split_key(*split);
}

}  // namespace onggi::partition
