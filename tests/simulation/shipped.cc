#include <algorithm>
#include <utility>

#include "replication/group/record.h"
#include "server/partition/effects.h"
#include "server/partition/request_table.h"
#include "tests/simulation/cluster.h"
#include "tests/simulation/partition_machine.h"
#include "tests/simulation/shipped_world.h"

// Cluster: clients of shipped partitions, and what their replicas are looked at for.

namespace onggi::simulation {

namespace {

/// A client that has heard nothing for so long asks again.
constexpr Time kPatience = milliseconds(900);
constexpr int kTries = 12;

}  // namespace

std::string Cluster::SomeCut() {
  if (world_ != nullptr) return ShippedWorld::CutBefore(keys_[random_.Below(keys_.size())]);
  std::string at = "k0";
  at[1] = static_cast<char>('0' + random_.Below(10));
  return at;
}

void Cluster::PowerLost(NodeId id) {
  scheduler_.After(Time(0), [this, id, lives = node(id).lives] {
    if (node(id).process == nullptr || node(id).lives != lives) return;
    Say("node " + id.ToString() + " loses power in the middle of something");
    CrashFor(id, calm_ ? Time(0) : random_.Between(milliseconds(1), seconds(1)));
  });
}

// Clients. ----------------------------------------------------------------------------------------

/// A write under one name, over all its tries.
struct Cluster::Retried {
  Request request;
  int tries = 0;
  uint64_t floor = 0;    ///< of a read that began with the latest try
  bool unknown = false;  ///< a try was answered so
  bool unheard = false;  ///< a try was not answered, and may still arrive
  bool done = false;
};

void Cluster::OneRetriedWrite(const std::string& key) {
  auto write = std::make_shared<Retried>();
  write->request.key = key;
  write->request.value = ++values_;
  const uint64_t kind = random_.Below(100);
  if (kind < 35) {
    write->request.kind = Request::Kind::kConditional;
    write->request.expected = truth_.Floor(key);
  } else if (kind < 50) {
    write->request.kind = kind < 43 ? Request::Kind::kPutBeside : Request::Kind::kDeleteBeside;
  }
  Try(write);
}

/// As a router does: wherever the partition may be, until there is an answer that says what became
/// of the write.
void Cluster::Try(const std::shared_ptr<Retried>& write) {
  if (write->done) return;
  if (++write->tries > kTries || calm_) {
    write->done = true;
    if (!write->unknown && !write->unheard) truth_.Refused(write->request.value);
    return;
  }
  std::shared_ptr<Process> process = nodes_[random_.Below(nodes_.size())]->process;
  // Most clients know who leads.
  for (const auto& node : nodes_) {
    if (node->process == nullptr || !random_.Chance(800)) continue;
    for (const auto& [partition, machine] : node->process->hosts()) {
      if (machine->Serves(write->request.key) && machine->replica().leading())
        process = node->process;
    }
  }
  if (process == nullptr) return TryLater(write);
  const int number = write->tries;
  write->floor = truth_.Floor(write->request.key);
  const bool counted = write->request.kind == Request::Kind::kUpdate ||
                       write->request.kind == Request::Kind::kConditional;
  const auto answer = [this, write, number, counted](Outcome outcome, uint64_t version,
                                                     uint64_t value) {
    // A late answer is one, if it says what became of the write.
    if (write->done || (number != write->tries && outcome != Outcome::kOk)) return;
    const Request& request = write->request;
    switch (outcome) {
      case Outcome::kOk:
        write->done = true;
        if (!counted) return;
        if (request.kind == Request::Kind::kConditional && version != request.expected + 1) {
          truth_.Fail("a write to version " + std::to_string(request.expected) + " of key " +
                      ShippedWorld::NameOf(request.key) + " made version " +
                      std::to_string(version));
        }
        truth_.Acknowledged(request.key, version, request.value);
        OneRead(request.key);
        return;
      case Outcome::kFailed:
        // Had an earlier try been applied, its outcome would be the answer.
        write->done = true;
        truth_.ReadAnswered(request.key, write->floor, version, value);
        if (!write->unheard) truth_.Refused(request.value);
        if (version == request.expected) {
          truth_.Fail("a condition on version " + std::to_string(version) + " of key " +
                      ShippedWorld::NameOf(request.key) + " failed");
        }
        return;
      case Outcome::kUnknown: write->unknown = true; [[fallthrough]];
      case Outcome::kRefused: TryLater(write);
    }
  };
  process->Run([raw = process.get(), write, answer] { raw->Write(write->request, answer); });
  scheduler_.After(kPatience, [this, write, number] {
    if (write->done || number != write->tries) return;
    write->unheard = true;
    Try(write);
  });
}

void Cluster::TryLater(const std::shared_ptr<Retried>& write) {
  scheduler_.After(random_.Between(milliseconds(1), milliseconds(100)),
                   [this, write, number = write->tries] {
                     if (number == write->tries) Try(write);
                   });
}

// What replicas have applied. ---------------------------------------------------------------------

void Cluster::Observe(Process* process, PartitionId partition, Machine* machine) {
  const LogPosition applied = machine->replica().applied();
  if (!Observe(process, partition, applied.index)) return;
  // Not after each: the walk is not free.
  if (applied.index.value % 4 != 0) return;
  auto* const shipped = dynamic_cast<PartitionMachine*>(machine);
  if (const auto held = shipped->Hold())
    truth_.Holds(partition, applied, held->start, held->end, held->hash);
}

bool Cluster::Observe(Process* process, PartitionId partition, LogIndex applied) {
  LogIndex& seen = process->seen_applied[partition];
  if (applied <= seen) return false;
  const auto found = process->disk().logs.find(partition);
  for (LogIndex index(seen.value + 1); index <= applied; ++index.value) {
    if (found == process->disk().logs.end() || index <= found->second.before.index ||
        index > found->second.last()) {
      // Of a checkpoint: whoever made it has applied them.
      if (truth_.Applied(partition, index) ||
          (index == LogIndex(1) && truth_.committed(partition) >= index))
        continue;
      truth_.Fail("partition " + partition.ToString() + ": node " + process->id().ToString() +
                  " has applied entry " + index.ToString() + ", which nobody has seen");
      return false;
    }
    const DiskLog& log = found->second;
    const log::Entry& entry = log.entries[index.value - log.before.index.value - 1];
    if (!truth_.Applies(partition, {entry.epoch, index}, entry.payload)) continue;
    if (static_cast<partition::EntryType>(entry.type) != partition::EntryType::kWrites) {
      if (entry.type != replica::kEpochStartEntry) {
        Say("partition " + partition.ToString() + ": node " + process->id().ToString() +
            " is the first to apply entry " + index.ToString() + ", of type " +
            std::to_string(entry.type));
        Ambush(process->id(), partition);
      }
      continue;
    }
    const auto wrote = [&](std::string_view key, std::optional<std::string_view> value) {
      if (key[0] != partition::kItemSpace || !value) return;
      const auto version = ShippedWorld::VersionOf(model::ItemView(*value));
      if (version) truth_.Wrote(std::string(key.substr(1)), version->version, version->value);
    };
    const Status effects = partition::ForEachEffect(entry.payload, nullptr, wrote);
    if (!effects.ok()) truth_.Fail("an entry that was applied: " + effects.ToString());
  }
  seen = applied;
  return true;
}

/// After healing: all in sync, and nobody writes. Their stores are the same, byte for byte, and say
/// the same in all that they say twice.
void Cluster::CompareContents() {
  RunFor(seconds(1));
  for (const PartitionId partition : Partitions()) {
    const auto key = Key(partition);
    std::optional<std::map<std::string, std::string>> first;
    for (const group::Member& member : key->in_sync) {
      Process* const process = ProcessOf(member.node);
      auto* const machine = dynamic_cast<PartitionMachine*>(process->Host(partition));
      const std::string who =
          "partition " + partition.ToString() + " on node " + member.node.ToString() + ": ";
      if (machine == nullptr) return truth_.Fail(who + "is not open" + Describe());
      Status flushed;
      process->Run([&] { flushed = machine->partition()->Flush(); });
      if (!flushed.ok()) return truth_.Fail(who + flushed.ToString());
      auto dump = world_->Dump(process->StoreOf(partition));
      if (!dump.ok()) return truth_.Fail(who + dump.status().ToString());
      // What a merge that came to nothing has put aside stays behind the range. Which records of
      // requests a neighbour or a parent had, and when, is not the log's to say.
      std::erase_if(*dump, [&](const auto& entry) {
        const std::string name = entry.first.substr(1);
        if (entry.first[0] != partition::kMetaSpace)
          return !InRange(name, key->range_start, key->range_end);
        return name.starts_with(partition::RequestTable::kInheritedPrefix) ||
               name == partition::kAbsorbKey;
      });
      if (const Status whole = world_->CheckDump(*dump); !whole.ok())
        return truth_.Fail(who + whole.ToString());
      if (!first) {
        first = *std::move(dump);
        continue;
      }
      if (*first == *dump) continue;
      std::string difference;
      for (const auto& [name, value] : *first) {
        const auto there = dump->find(name);
        if (there != dump->end() && there->second == value) continue;
        difference = (there == dump->end() ? "lacks " : "differs at ") + Printable(name);
      }
      if (difference.empty()) difference = "has more keys";
      return truth_.Fail(who + difference + " from the others'" + Describe());
    }
  }
}

}  // namespace onggi::simulation
