#include <algorithm>
#include <utility>
#include <vector>

#include "replication/group/record.h"
#include "replication/metadata/keys.h"
#include "tests/simulation/cluster.h"

// Cluster: what it looks at after every step. ARCHITECTURE.md ("The simulator") says which rule of
// replication.md each check is for.

namespace onggi::simulation {

namespace {
constexpr TableId kTable{1};
}

std::vector<PartitionId> Cluster::Partitions() {
  std::vector<PartitionId> result;
  const std::string prefix(metadata::keys::kPartitionPrefix);
  for (const metadata::KeyValue& kv : metadata_->ReadNow(prefix, metadata::PrefixEnd(prefix)).kvs)
    result.push_back(metadata::keys::ParsePartition(kv.key)->partition);
  return result;
}

std::optional<group::Configuration> Cluster::Key(PartitionId partition, Revision* revision) {
  const std::string key = metadata::keys::Partition(kTable, partition);
  const metadata::RangeResult read = metadata_->ReadNow(key, key + '\0');
  if (read.kvs.empty()) return std::nullopt;
  if (revision != nullptr) *revision = read.kvs[0].mod_revision;
  return group::FromRecord(*group::ParseRecord(read.kvs[0].value));
}

Machine* Cluster::Primary(PartitionId partition) {
  const auto key = Key(partition);
  if (!key) return nullptr;
  const Node& there = node(key->primary.node);
  if (there.process == nullptr || there.paused(scheduler_.now())) return nullptr;
  Machine* machine = there.process->Host(partition);
  if (machine == nullptr || !machine->replica().leading()) return nullptr;
  return machine;
}

void Cluster::Asked(PartitionId partition, Revision expected,
                    const group::Configuration& configuration) {
  if (verbose) {
    std::string text = "partition " + partition.ToString() + ": asked at revision " +
                       expected.ToString() + " for epoch " + configuration.epoch.ToString() +
                       " primary " + configuration.primary.node.ToString() + " boot " +
                       std::to_string(configuration.boot) + " in sync";
    for (const group::Member& member : configuration.in_sync)
      text += " " + member.node.ToString() + "/" + member.replica.ToString();
    Say(text);
  }
  swaps_[partition].push_back({expected, configuration});
  Touch(partition);
  Ambush(configuration.primary.node, partition);
}

/// After every step of a process: what its replicas take for committed, in which epoch they act,
/// and whether they would answer.
void Cluster::AfterStep(Process* process) {
  for (const auto& [partition, machine] : process->hosts()) {
    if (world_ != nullptr) Observe(process, partition, machine.get());
    const group::Group& group = machine->replica().group();
    if (group.role() == group::Group::Role::kPrimary) {
      const Epoch acting = group.append_epoch();
      Epoch& known = process->seen_epochs[partition];
      if (acting != Epoch() && acting != known)
        truth_.Acts(partition, acting, process->id(), process->boot());
      known = acting;
      CheckReaders(process, partition, machine.get());
    }
    const LogIndex commit = group.commit_index();
    const auto [seen, first] = process->seen_commits.try_emplace(partition, commit);
    if (seen->second >= commit) continue;
    for (LogIndex index(seen->second.value + 1); index <= commit; ++index.value) {
      const Epoch epoch = group.EpochAt(index);
      if (epoch != Epoch()) truth_.Commits(partition, {epoch, index});
    }
    seen->second = commit;
    Touch(partition);
  }
}

/// Leases exclude each other: whoever would answer a strong read now is the only one (R5, R7).
void Cluster::CheckReaders(Process* process, PartitionId partition, Machine* machine) {
  if (!machine->replica().ServesStrongReads()) return;
  for (const auto& other : nodes_) {
    if (other->process == nullptr || other->process.get() == process) continue;
    Machine* theirs = other->process->Host(partition);
    if (theirs == nullptr || !theirs->replica().ServesStrongReads()) continue;
    truth_.Fail("partition " + partition.ToString() + ": nodes " + process->id().ToString() +
                " and " + other->id.ToString() + " both serve strong reads" + Describe());
  }
}

/// R1: the epoch of a message, and what an acknowledgement vouches for, are on the sender's disk.
void Cluster::CheckSaid(Process* process, const transport::GroupMessage& message) {
  Epoch epoch;
  const auto* ack = std::get_if<group::AckMessage>(&message.body);
  if (ack != nullptr) {
    if (ack->kind == group::AckMessage::Kind::kRefused) return;
    epoch = ack->epoch;
  } else if (const auto* append = std::get_if<transport::Append>(&message.body)) {
    epoch = append->message.epoch;
  } else {
    return;
  }
  const Disk& disk = process->disk();
  const PartitionId partition = message.partition;
  const auto known = disk.configurations.find(partition);
  const auto fail = [&](const std::string& what) {
    truth_.Fail("partition " + partition.ToString() + ": node " + process->id().ToString() + what);
  };
  if (known == disk.configurations.end() || known->second.configuration.epoch < epoch)
    return fail(" speaks in epoch " + epoch.ToString() + ", which its disk does not have");
  if (ack == nullptr || ack->kind != group::AckMessage::Kind::kMatch) return;
  const auto image = disk.images.find(partition);
  if (image == disk.images.end()) return fail(" acknowledges for a replica that it has not");
  if (ack->index <= image->second.state.applied.index) return;
  const auto log = disk.logs.find(partition);
  Machine* machine = process->Host(partition);
  if (log == disk.logs.end() || log->second.last() < ack->index || machine == nullptr ||
      log->second.EpochAt(ack->index) != machine->replica().group().EpochAt(ack->index)) {
    fail(" acknowledges entry " + ack->index.ToString() + ", which its disk does not have");
  }
}

void Cluster::Check() {
  for (const PartitionId partition : std::exchange(touched_, {})) CheckPartition(partition);
}

/// Everything committed is on every disk that may lead next, whichever swap that is under way wins.
void Cluster::CheckPartition(PartitionId partition) {
  Revision revision;
  const auto key = Key(partition, &revision);
  std::vector<Swap>& swaps = swaps_[partition];
  if (!key) {
    swaps.clear();
    return;
  }
  if (key->epoch > Epoch(0)) {
    if (key->min_in_sync != group::MinInSync(key->replication) ||
        key->in_sync.size() < key->min_in_sync || !key->InSync(key->primary)) {
      truth_.Fail("partition " + partition.ToString() + " has " +
                  std::to_string(key->in_sync.size()) + " in sync of at least " +
                  std::to_string(key->min_in_sync));
    }
    for (const group::Member& member : key->in_sync) CheckMember(partition, member);
  }
  std::erase_if(swaps, [&](const Swap& swap) { return swap.expected < revision; });
  for (const Swap& swap : swaps) {
    if (swap.expected != revision) continue;
    for (const group::Member& member : swap.configuration.in_sync) CheckMember(partition, member);
  }
}

void Cluster::CheckMember(PartitionId partition, const group::Member& member) {
  Disk& disk = node(member.node).disk;
  const auto image = disk.images.find(partition);
  if (image == disk.images.end() || image->second.replica != member.replica) {
    if (disk.wipes == 0) {
      truth_.Fail("partition " + partition.ToString() + ": replica " + member.replica.ToString() +
                  " of node " + member.node.ToString() + " is in sync and not there");
    }
    return;
  }
  const LogIndex committed = truth_.committed(partition);
  const LogIndex applied = image->second.state.applied.index;
  if (applied >= committed) return;
  const auto fail = [&](LogIndex index) {
    truth_.Fail("partition " + partition.ToString() + ": entry " + index.ToString() +
                " is committed and not on node " + member.node.ToString() +
                ", which may lead next" + Describe());
  };
  const auto found = disk.logs.find(partition);
  if (found == disk.logs.end()) return fail(LogIndex(applied.value + 1));
  DiskLog& log = found->second;
  if (log.before.index > applied) return fail(LogIndex(applied.value + 1));
  LogIndex index(std::max({log.compared.value, applied.value, log.before.index.value}) + 1);
  for (; index <= committed; ++index.value) {
    if (log.EpochAt(index) != truth_.EpochAt(partition, index)) return fail(index);
    log.compared = index;
  }
}

}  // namespace onggi::simulation
