#include "tests/simulation/truth.h"

#include <algorithm>

namespace onggi::simulation {

void Truth::Fail(const std::string& what) {
  if (error_.empty()) error_ = what;
}

void Truth::Acts(PartitionId partition, Epoch epoch, NodeId node, uint64_t boot) {
  const auto [it, first] =
      partitions_[partition].reigns.try_emplace(epoch, std::make_pair(node, boot));
  if (first) {
    ++reigns_;
    Happened(node.value * 1000 + epoch.value);
  }
  if (it->second != std::make_pair(node, boot)) {
    Fail("partition " + partition.ToString() + ": nodes " + it->second.first.ToString() + " and " +
         node.ToString() + " both act in epoch " + epoch.ToString());
  }
}

LogIndex Truth::committed(PartitionId partition) const {
  const auto it = partitions_.find(partition);
  return LogIndex(it == partitions_.end() ? 0 : it->second.entries.size());
}

Epoch Truth::EpochAt(PartitionId partition, LogIndex index) const {
  const auto it = partitions_.find(partition);
  if (it == partitions_.end() || index.value == 0 || index.value > it->second.entries.size())
    return {};
  return it->second.entries[index.value - 1].epoch;
}

void Truth::Commits(PartitionId partition, LogPosition position) {
  std::vector<Entry>& entries = partitions_[partition].entries;
  if (position.index.value > entries.size() + 1) {
    Fail("partition " + partition.ToString() + ": entry " + position.index.ToString() +
         " is committed before entry " + std::to_string(entries.size() + 1));
    return;
  }
  if (position.index.value == entries.size() + 1) {
    entries.push_back({position.epoch, std::nullopt, std::nullopt});
    return;
  }
  const Epoch before = entries[position.index.value - 1].epoch;
  if (before != position.epoch) {
    Fail("partition " + partition.ToString() + ": entry " + position.index.ToString() +
         " is committed in epoch " + before.ToString() + " and in epoch " +
         position.epoch.ToString());
  }
}

void Truth::Applies(PartitionId partition, LogPosition position, std::string_view payload,
                    uint64_t hash) {
  Commits(partition, position);
  if (!error_.empty()) return;
  Entry& entry = partitions_[partition].entries[position.index.value - 1];
  if (!entry.payload) entry.payload = std::string(payload);
  if (!entry.hash) entry.hash = hash;
  if (*entry.payload != payload) {
    Fail("partition " + partition.ToString() + ": replicas apply different entries at " +
         position.index.ToString());
  } else if (*entry.hash != hash) {
    Fail("partition " + partition.ToString() + ": replicas differ after entry " +
         position.index.ToString());
  }
}

bool Truth::Applies(PartitionId partition, LogPosition position, std::string_view payload) {
  Commits(partition, position);
  if (!error_.empty()) return false;
  Entry& entry = partitions_[partition].entries[position.index.value - 1];
  const bool first = !entry.payload.has_value();
  if (first) entry.payload = std::string(payload);
  if (*entry.payload != payload) {
    Fail("partition " + partition.ToString() + ": replicas apply different entries at " +
         position.index.ToString());
  }
  return first;
}

bool Truth::Applied(PartitionId partition, LogIndex index) const {
  const auto it = partitions_.find(partition);
  return it != partitions_.end() && index.value <= it->second.entries.size() &&
         it->second.entries[index.value - 1].payload.has_value();
}

void Truth::Holds(PartitionId partition, LogPosition position, const std::string& start,
                  const std::string& end, uint64_t hash) {
  const auto [it, first] =
      partitions_[partition].held.try_emplace({position.index, start, end}, hash);
  if (it->second != hash) {
    Fail("partition " + partition.ToString() + ": replicas differ after entry " +
         position.index.ToString());
  }
}

void Truth::Begins(PartitionId partition, LogPosition position, uint64_t hash) {
  Partition& known = partitions_[partition];
  if (position.index == LogIndex()) {
    if (!known.first_hash) known.first_hash = hash;
    if (*known.first_hash != hash)
      Fail("partition " + partition.ToString() + ": replicas begin with different states");
    return;
  }
  if (EpochAt(partition, position.index) != position.epoch) {
    Fail("partition " + partition.ToString() + ": a state at entry " + position.index.ToString() +
         " that was not committed");
    return;
  }
  std::optional<uint64_t>& here = known.entries[position.index.value - 1].hash;
  if (!here) here = hash;
  if (*here != hash) {
    Fail("partition " + partition.ToString() + ": a state differs from what it was at entry " +
         position.index.ToString());
  }
}

void Truth::Wrote(const std::string& key, uint64_t version, uint64_t value) {
  const auto [it, first] = written_.try_emplace({key, version}, value);
  if (it->second != value)
    Fail("key " + Printable(key) + " has two values of version " + std::to_string(version));
  if (!first) return;
  Happened(version * 31 + value);
  if (refused_.count(value) != 0)
    Fail("a write to key " + Printable(key) + " that was refused was committed");
  const auto [became, once] = became_.try_emplace(value, std::make_pair(key, version));
  if (!once) {
    Fail("a write to key " + Printable(key) + " was applied twice: as version " +
         std::to_string(became->second.second) + " and as version " + std::to_string(version));
  }
}

void Truth::Acknowledged(const std::string& key, uint64_t version, uint64_t value) {
  ++acknowledged_;
  Happened(value);
  const auto it = written_.find({key, version});
  if (it == written_.end() || it->second != value)
    Fail("a write to key " + Printable(key) + " was acknowledged and not committed");
  uint64_t& floor = floors_[key];
  floor = std::max(floor, version);
}

void Truth::Refused(uint64_t value) { refused_.insert(value); }

uint64_t Truth::Floor(const std::string& key) const {
  const auto it = floors_.find(key);
  return it == floors_.end() ? 0 : it->second;
}

void Truth::ReadAnswered(const std::string& key, uint64_t floor, uint64_t version, uint64_t value) {
  ++reads_;
  Happened(version);
  if (version < floor) {
    Fail("a strong read of key " + Printable(key) + " gave version " + std::to_string(version) +
         ", " + std::to_string(floor) + " had been answered before it began");
    return;
  }
  if (version != 0) {
    const auto it = written_.find({key, version});
    if (it == written_.end() || it->second != value)
      Fail("a strong read of key " + Printable(key) + " gave a value that was never committed");
  }
  uint64_t& latest = floors_[key];
  latest = std::max(latest, version);
}

}  // namespace onggi::simulation
