#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"
#include "replication/group/record.h"
#include "replication/metadata/keys.h"
#include "server/partition/partition_manager.h"
#include "server/partition/replica_files.h"

/// PartitionManager: what coordinators and operators ask of a node.
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

constexpr auto kPoll = std::chrono::milliseconds(5);
/// Hot keys that a report names, from this part of the load on.
constexpr size_t kMaxHotKeys = 5;
constexpr double kHotShare = 0.1;

asio::awaitable<void> Pause() {
  asio::steady_timer timer(co_await asio::this_coro::executor, kPoll);
  boost::system::error_code error;
  auto token = asio::redirect_error(asio::use_awaitable, error);
  co_await timer.async_wait(token);
}

Status NotThePrimary() { return {Code::kNotPrimary, "the partition's primary is not here"}; }

}  // namespace

Status PartitionManager::CreateReplica(TableId, PartitionId partition, ReplicaId replica) {
  if (environment_.disk_low->load(std::memory_order_relaxed)) {
    return {Code::kOutOfSpace, "the disk is below its reserve"};
  }
  const std::string directory = DirectoryOf(partition);
  const Result<ReplicaId> there = ReadReplicaFile(directory);
  if (there.ok()) {
    if (*there == replica) return Status::Ok();
    return {Code::kAlreadyExists, "replica " + there->ToString() + " is there"};
  }
  if (there.status().code() != Code::kNotFound) return there.status();
  RETURN_IF_ERROR(MakeReplicaDirectory(*environment_.storage, environment_.partitions_directory,
                                       directory, replica, /*lazily=*/false));
  std::unique_lock lock(mutex_);
  if (const auto slot = partitions_.find(partition); slot == partitions_.end()) {
    unnamed_[partition] = replica;
  } else if (slot->second->replica == replica && slot->second->config.epoch() == 0) {
    slot->second->lost = false;
  }
  return Status::Ok();
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
    if (std::chrono::steady_clock::now() >= deadline) break;
    co_await Pause();
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
    if (std::chrono::steady_clock::now() >= deadline) break;
    co_await Pause();
  }
  co_return Unavailable("the new member has not caught up yet");
}

std::vector<proto::ReplicaStatus> PartitionManager::GetReplicas(TableId table,
                                                                PartitionId partition) const {
  std::vector<proto::ReplicaStatus> statuses;
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
    if (slot->partition != nullptr) slot->partition->Describe(&status);
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
  status->set_bytes(store().SizeBytes());
  status->set_applied_index(applied_index_.load(std::memory_order_relaxed));
  if (replica_ != nullptr) {
    status->set_durable_index(replica_->durable_index());
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
}

}  // namespace onggi::partition
