#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/metrics.h"
#include "coordinator/coordinator.h"
#include "replication/metadata/keys.h"
#include "replication/metadata/simulated_store.h"

namespace onggi::coordinator {

namespace asio = boost::asio;
using std::chrono::milliseconds;

/// Virtual time: what is to happen when, on one thread.
class Schedule : public Timers {
 public:
  Handle After(milliseconds delay, std::function<void()> callback) override {
    auto handle = std::make_shared<int>(0);
    At(delay, [weak = std::weak_ptr<int>(handle), callback = std::move(callback)] {
      if (!weak.expired()) callback();
    });
    return handle;
  }
  void At(milliseconds delay, std::function<void()> run) {
    events_.push(Event{now_ + delay, ++sequence_, std::move(run)});
  }
  /// Lets everything happen up to `duration` from now, or until `until` says so.
  bool Run(milliseconds duration, const std::function<bool()>& until = {}) {
    const milliseconds end = now_ + duration;
    Settle();
    while (!events_.empty() && events_.top().at <= end) {
      if (until && until()) return true;
      Event event = events_.top();
      events_.pop();
      clock.Advance(event.at - now_);
      now_ = event.at;
      event.run();
      Settle();
    }
    if (until) return until();
    clock.Advance(end - now_);
    now_ = end;
    return true;
  }

  ManualClock clock;
  asio::io_context io{1};

 private:
  struct Event {
    milliseconds at;
    uint64_t sequence;
    std::function<void()> run;
    bool operator<(const Event& other) const {
      return std::pair(other.at, other.sequence) < std::pair(at, sequence);
    }
  };
  void Settle() {
    io.restart();
    io.poll();
  }
  milliseconds now_{0};
  uint64_t sequence_ = 0;
  std::priority_queue<Event> events_;
};

/// What the primaries and disks of a cluster do, without data: nodes hold replicas by number, and
/// once in a while each partition's primary changes its configuration as replication.md has it.
class Nodes {
 public:
  struct Load {
    uint64_t bytes = 0;
    double reads = 0;
    double writes = 0;
    std::string load_split_key;
    std::string size_split_key;
    double hot_share = 0;
    uint64_t last_index = 0;  ///< where replicas' logs end
    uint64_t merge_copy_bytes = 0;
  };

  Nodes(Schedule& schedule, metadata::SimulatedCluster& store)
      : schedule_(schedule), store_(store) {}

  // -- The world. --

  void Add(uint64_t id, std::string zone, uint64_t capacity = uint64_t{1} << 40) {
    proto::Node node;
    node.set_id(id);
    node.set_zone(std::move(zone));
    node.set_state(proto::NODE_STATE_ACTIVE);
    node.set_rpc_address("node-" + std::to_string(id) + ":7000");
    node.set_boot(id * 1000);
    node.set_capacity_bytes(capacity);
    Put(metadata::keys::Node(NodeId(id)), node.SerializeAsString());
    SetUp(id, true);
  }
  void SetUp(uint64_t id, bool up) {
    if (up) {
      up_.insert(id);
      Put(metadata::keys::Alive(NodeId(id)), metadata::keys::FormatId(id * 1000));
    } else {
      up_.erase(id);
      metadata::Transaction transaction;
      transaction.deletes.push_back(metadata::keys::Alive(NodeId(id)));
      CHECK(store_.CommitNow(transaction).ok());
    }
  }
  bool up(uint64_t id) const { return up_.contains(id); }
  proto::Node Record(uint64_t id) const {
    proto::Node node;
    const auto value = Read(metadata::keys::Node(NodeId(id)));
    CHECK(node.ParseFromString(value));
    return node;
  }

  void Put(std::string key, std::string value) {
    metadata::Transaction transaction;
    transaction.puts.push_back({std::move(key), std::move(value)});
    CHECK(store_.CommitNow(transaction).ok());
  }
  std::string Read(const std::string& key) const {
    const auto range = store_.ReadNow(key, key + '\0');
    return range.kvs.empty() ? std::string() : range.kvs.front().value;
  }
  std::map<PartitionId, std::pair<proto::PartitionConfig, Revision>> Partitions() const {
    std::map<PartitionId, std::pair<proto::PartitionConfig, Revision>> all;
    const std::string prefix(metadata::keys::kPartitionPrefix);
    for (const auto& kv : store_.ReadNow(prefix, metadata::PrefixEnd(prefix)).kvs) {
      proto::PartitionConfig config;
      CHECK(config.ParseFromString(kv.value));
      all[PartitionId(config.partition())] = {config, kv.mod_revision};
    }
    return all;
  }
  proto::PartitionConfig Config(uint64_t partition) const {
    const auto all = Partitions();
    const auto it = all.find(PartitionId(partition));
    return it == all.end() ? proto::PartitionConfig() : it->second.first;
  }
  std::vector<proto::Job> Jobs() const {
    std::vector<proto::Job> jobs;
    const std::string prefix(metadata::keys::kJobPrefix);
    for (const auto& kv : store_.ReadNow(prefix, metadata::PrefixEnd(prefix)).kvs) {
      CHECK(jobs.emplace_back().ParseFromString(kv.value));
    }
    return jobs;
  }
  size_t running_jobs() const {
    size_t count = 0;
    for (const auto& job : Jobs()) count += job.state() == proto::JOB_STATE_RUNNING ? 1 : 0;
    return count;
  }
  bool Swap(const proto::PartitionConfig& config, Revision revision) {
    metadata::Transaction transaction;
    const std::string key =
        metadata::keys::Partition(TableId(config.table()), PartitionId(config.partition()));
    transaction.compares.push_back(metadata::Compare::At(key, revision));
    transaction.puts.push_back({key, config.SerializeAsString()});
    const auto result = store_.CommitNow(transaction);
    CHECK(result.ok());
    return result->succeeded;
  }

  /// A partition with replicas on these nodes, led by the first for some time.
  uint64_t MakePartition(uint64_t table, std::vector<uint64_t> nodes, std::string start = "",
                         std::string end = "") {
    proto::PartitionConfig config;
    config.set_partition(++next_partition_);
    config.set_table(table);
    config.set_epoch(3);
    config.set_boot(7);
    config.set_range_start(std::move(start));
    config.set_range_end(std::move(end));
    for (const uint64_t node : nodes) {
      proto::ReplicaRef* ref = config.add_in_sync();
      ref->set_node(node);
      ref->set_replica(++next_replica_);
      disks[node][config.partition()] = ref->replica();
    }
    *config.mutable_primary() = config.in_sync(0);
    config.set_replication(static_cast<uint32_t>(nodes.size()));
    config.set_min_in_sync(static_cast<uint32_t>(nodes.size() / 2 + 1));
    Put(metadata::keys::Partition(TableId(table), PartitionId(config.partition())),
        config.SerializeAsString());
    Put(metadata::keys::NextPartition(), metadata::keys::FormatId(next_partition_ + 1));
    Put(metadata::keys::NextReplica(), metadata::keys::FormatId(next_replica_ + 1000));
    return config.partition();
  }
  void MakeTable(uint64_t id, proto::TableStatus status = proto::TABLE_STATUS_ACTIVE,
                 uint32_t replication = 3) {
    proto::Table table;
    table.set_id(id);
    table.set_account("default");
    table.set_name("table-" + std::to_string(id));
    table.set_status(status);
    table.set_replication(replication);
    Put(metadata::keys::Table(TableId(id)), table.SerializeAsString());
  }

  /// What living primaries would do now (R4, R6); call every 100 ms or so.
  void Act() {
    for (auto& [id, entry] : Partitions()) {
      auto& [config, revision] = entry;
      const auto lives = [&](const proto::ReplicaRef& ref) {
        const auto disk = disks.find(ref.node());
        if (!up(ref.node()) || disk == disks.end()) return false;
        const auto replica = disk->second.find(config.partition());
        return replica != disk->second.end() && replica->second == ref.replica() &&
               !broken.contains(ref.replica());
      };
      if (config.boot() == 0) {  // never led: the first makes the others, and leads
        if (!up(config.primary().node())) continue;
        for (const auto& ref : config.in_sync())
          disks[ref.node()][config.partition()] = ref.replica();
        config.set_boot(7);
        config.set_epoch(config.epoch() + 1);
        Swap(config, revision);
        continue;
      }
      if (!lives(config.primary())) {
        for (const auto& ref : config.in_sync()) {
          if (!lives(ref)) continue;
          *config.mutable_primary() = ref;
          config.set_epoch(config.epoch() + 1);
          Swap(config, revision);
          break;
        }
        continue;
      }
      proto::PartitionConfig wanted = config;
      const auto ready = [&]() -> int {
        for (int i = 0; i < wanted.learners_size(); ++i) {
          const auto& learner = wanted.learners(i);
          if (!lives(learner)) continue;
          const auto since = learning_.try_emplace(learner.replica(), schedule_.clock.Now()).first;
          if (schedule_.clock.Now() - since->second >= catch_up) return i;
        }
        return -1;
      };
      const auto admit = [&](int i) {
        *wanted.add_in_sync() = wanted.learners(i);
        wanted.mutable_learners()->DeleteSubrange(i, 1);
      };
      for (int i = wanted.in_sync_size() - 1; i >= 0; --i) {
        if (lives(wanted.in_sync(i))) continue;
        if (wanted.in_sync_size() <= static_cast<int>(wanted.min_in_sync())) {
          const int learner = ready();
          if (learner < 0) continue;
          admit(learner);
        }
        *wanted.add_learners() = wanted.in_sync(i);
        wanted.mutable_in_sync()->DeleteSubrange(i, 1);
      }
      while (wanted.in_sync_size() < static_cast<int>(wanted.replication())) {
        const int learner = ready();
        if (learner < 0) break;
        admit(learner);
      }
      if (wanted.in_sync_size() == config.in_sync_size() &&
          wanted.SerializeAsString() == config.SerializeAsString()) {
        continue;
      }
      wanted.set_epoch(config.epoch() + 1);
      Swap(wanted, revision);
    }
  }

  proto::ReportLoadRequest Report(uint64_t id, uint64_t sequence) const {
    proto::ReportLoadRequest report;
    report.set_node(id);
    report.set_boot(id * 1000);
    report.set_sequence(sequence);
    report.set_full(true);
    report.set_free_bytes(uint64_t{1} << 40);
    const auto partitions = Partitions();
    const auto disk = disks.find(id);
    std::set<uint64_t> seen;
    if (disk != disks.end()) {
      for (const auto& [partition, replica] : disk->second) {
        proto::ReplicaStatus* status = report.add_replicas();
        status->set_partition(partition);
        status->set_replica(replica);
        seen.insert(partition);
        const auto it = partitions.find(PartitionId(partition));
        proto::ReplicaRef ref;
        ref.set_node(id);
        ref.set_replica(replica);
        if (it == partitions.end() ||
            (!IsInSync(it->second.first, ref) && !IsLearner(it->second.first, ref))) {
          status->set_role(proto::REPLICA_ROLE_UNNAMED);
          continue;
        }
        const auto& config = it->second.first;
        status->set_table(config.table());
        const bool leads = SameReplica(config.primary(), ref);
        if (broken.contains(replica)) {
          status->set_role(proto::REPLICA_ROLE_LOST);
          continue;
        }
        status->set_role(!leads   ? proto::REPLICA_ROLE_BACKUP
                         : serves ? proto::REPLICA_ROLE_PRIMARY
                                  : proto::REPLICA_ROLE_CANDIDATE);
        const auto load = loads.find(partition);
        if (load == loads.end()) continue;
        status->set_bytes(load->second.bytes);
        status->set_durable_index(load->second.last_index);
        if (!leads) continue;
        status->set_read_units(load->second.reads);
        status->set_write_units(load->second.writes);
        status->set_merge_copy_bytes(load->second.merge_copy_bytes);
        status->set_load_split_key(load->second.load_split_key);
        status->set_size_split_key(load->second.size_split_key);
        if (load->second.hot_share > 0) {
          proto::HotKey* hot = status->add_hot_keys();
          hot->set_text("{\"pk\": {\"S\": \"hot\"}}");
          hot->set_share(load->second.hot_share);
        }
      }
    }
    for (const auto& [partition, entry] : partitions) {
      if (seen.contains(partition.value) || entry.first.boot() == 0) continue;
      for (const auto& ref : Members(entry.first)) {
        if (ref.node() != id) continue;
        proto::ReplicaStatus* status = report.add_replicas();
        status->set_partition(partition.value);
        status->set_replica(ref.replica());
        status->set_role(proto::REPLICA_ROLE_LOST);
      }
    }
    return report;
  }

  // -- Commands, by the contracts of node.proto, at once. --

  Status Create(NodeId node, const proto::CreateReplicaRequest& request) {
    auto& disk = disks[node.value];
    const auto it = disk.find(request.partition());
    if (it != disk.end() && it->second != request.replica()) {
      return {Code::kAlreadyExists, "another replica is there"};
    }
    disk[request.partition()] = request.replica();
    return Status::Ok();
  }
  Status Drop(NodeId node, const proto::DropReplicaRequest& request) {
    proto::ReplicaRef ref;
    ref.set_node(node.value);
    ref.set_replica(request.replica());
    const proto::PartitionConfig config = Config(request.partition());
    if (IsInSync(config, ref) || IsLearner(config, ref)) {
      return {Code::kConditionFailed, "the configuration names it"};
    }
    auto& disk = disks[node.value];
    const auto it = disk.find(request.partition());
    if (it == disk.end() || it->second != request.replica()) return NotFound("no such replica");
    disk.erase(it);
    return Status::Ok();
  }
  Status Transfer(NodeId node, const proto::TransferPrimaryRequest& request) {
    auto [config, revision] = At(request.partition());
    if (SameReplica(config.primary(), request.to())) return Status::Ok();
    if (config.primary().node() != node.value) return {Code::kNotPrimary, ""};
    if (!IsInSync(config, request.to())) return {Code::kConditionFailed, "not in sync"};
    *config.mutable_primary() = request.to();
    config.set_epoch(config.epoch() + 1);
    return Swap(config, revision) ? Status::Ok() : Unavailable("again");
  }
  Status Replace(NodeId node, const proto::ReplaceReplicaRequest& request) {
    auto [config, revision] = At(request.partition());
    if (config.primary().node() != node.value) return {Code::kNotPrimary, ""};
    if (!IsLearner(config, request.in()) && !IsInSync(config, request.in())) {
      return {Code::kConditionFailed, "no such member"};
    }
    if (IsInSync(config, request.in()) && !IsInSync(config, request.out())) return Status::Ok();
    // A primary does not replace itself, and goes on waiting.
    if (SameReplica(config.primary(), request.out())) return Unavailable("not caught up");
    if (IsLearner(config, request.in())) {
      const auto since = learning_.try_emplace(request.in().replica(), schedule_.clock.Now()).first;
      if (schedule_.clock.Now() - since->second < catch_up) return Unavailable("not caught up");
      *config.add_in_sync() = request.in();
      Remove(config.mutable_learners(), request.in());
    }
    if (IsInSync(config, request.out())) {
      *config.add_learners() = request.out();
      Remove(config.mutable_in_sync(), request.out());
    }
    config.set_epoch(config.epoch() + 1);
    return Swap(config, revision) ? Status::Ok() : Unavailable("again");
  }
  Status SetReplication(NodeId node, const proto::SetReplicationRequest& request) {
    // As rpc/status.h has it for a method that is not there.
    if (!changes_replication) return InvalidArgument("no such method is here");
    auto [config, revision] = At(request.partition());
    const uint32_t wanted = request.replication();
    if (config.replication() == wanted) return Status::Ok();
    if (config.primary().node() != node.value) return {Code::kNotPrimary, ""};
    if (!serves) return Unavailable("not done");
    std::vector<proto::ReplicaRef> ready;
    for (const auto& learner : config.learners()) {
      const auto since = learning_.try_emplace(learner.replica(), schedule_.clock.Now()).first;
      if (schedule_.clock.Now() - since->second >= catch_up) ready.push_back(learner);
    }
    // Never so that it could do without fewer than before.
    if (config.min_in_sync() + ready.size() < wanted / 2 + 1) return Unavailable("not caught up");
    for (const auto& learner : ready) {
      if (config.in_sync_size() >= static_cast<int>(wanted)) break;
      *config.add_in_sync() = learner;
      Remove(config.mutable_learners(), learner);
    }
    for (int i = config.in_sync_size() - 1; config.in_sync_size() > static_cast<int>(wanted); --i) {
      const proto::ReplicaRef out = config.in_sync(i);
      if (SameReplica(out, config.primary())) continue;
      *config.add_learners() = out;
      Remove(config.mutable_in_sync(), out);
    }
    config.set_replication(wanted);
    config.set_min_in_sync(wanted / 2 + 1);
    config.set_epoch(config.epoch() + 1);
    return Swap(config, revision) ? Status::Ok() : Unavailable("again");
  }
  Status Split(NodeId node, const proto::SplitPartitionRequest& request) {
    if (Config(request.child()).partition() != 0) return Status::Ok();
    if (!serves) return Unavailable("not done yet");
    auto [config, revision] = At(request.partition());
    if (config.primary().node() != node.value) return {Code::kNotPrimary, ""};
    const std::string& key = request.split_key();
    if (key <= config.range_start() || (!config.range_end().empty() && key >= config.range_end())) {
      return InvalidArgument("the key is not inside the range");
    }
    proto::PartitionConfig child = config;
    child.set_partition(request.child());
    child.set_range_start(key);
    child.clear_learners();
    for (auto& ref : *child.mutable_in_sync()) {
      uint64_t replica = 0;
      for (const auto& named : request.child_replicas())
        if (named.node() == ref.node()) replica = named.replica();
      if (replica == 0) return {Code::kConditionFailed, "a member has no number"};
      if (SameReplica(ref, config.primary())) child.mutable_primary()->set_replica(replica);
      ref.set_replica(replica);
      disks[ref.node()][request.child()] = replica;
    }
    config.set_range_end(key);
    metadata::Transaction transaction;
    const TableId table(config.table());
    const auto parent_key = metadata::keys::Partition(table, PartitionId(config.partition()));
    const auto child_key = metadata::keys::Partition(table, PartitionId(request.child()));
    transaction.compares.push_back(metadata::Compare::At(parent_key, revision));
    transaction.compares.push_back(metadata::Compare::Missing(child_key));
    transaction.puts.push_back({parent_key, config.SerializeAsString()});
    transaction.puts.push_back({child_key, child.SerializeAsString()});
    loads[request.child()] = loads[request.partition()] = Load();
    return store_.CommitNow(transaction)->succeeded ? Status::Ok() : Unavailable("again");
  }
  Status Merge(NodeId node, const proto::MergePartitionsRequest& request) {
    auto [left, left_revision] = At(request.left());
    auto [right, right_revision] = At(request.right());
    if (right.partition() == 0) return Status::Ok();
    if (!merges) return Unavailable("the merge is not done yet");
    if (left.primary().node() != node.value || right.primary().node() != node.value) {
      return {Code::kNotPrimary, ""};
    }
    if (left.range_end() != right.range_start()) return {Code::kConditionFailed, "no neighbours"};
    for (const auto& ref : right.in_sync()) {
      if (!HasMemberOn(left, NodeId(ref.node()))) return {Code::kConditionFailed, "not together"};
    }
    left.set_range_end(right.range_end());
    metadata::Transaction transaction;
    const TableId table(left.table());
    const auto left_key = metadata::keys::Partition(table, PartitionId(left.partition()));
    const auto right_key = metadata::keys::Partition(table, PartitionId(right.partition()));
    transaction.compares.push_back(metadata::Compare::At(left_key, left_revision));
    transaction.compares.push_back(metadata::Compare::At(right_key, right_revision));
    transaction.puts.push_back({left_key, left.SerializeAsString()});
    transaction.deletes.push_back(right_key);
    if (!store_.CommitNow(transaction)->succeeded) return Unavailable("again");
    for (const auto& ref : right.in_sync()) disks[ref.node()].erase(right.partition());
    return Status::Ok();
  }

  std::map<uint64_t, std::map<uint64_t, uint64_t>> disks;  ///< node: partition: replica
  std::set<uint64_t> broken;                               ///< replicas whose files are damaged
  std::map<uint64_t, Load> loads;                          ///< by partition
  milliseconds catch_up{3'000};
  bool merges = true;               ///< else they never come about
  bool serves = true;               ///< else primaries do not, and say so
  bool changes_replication = true;  ///< else they are of a version that cannot

 private:
  std::pair<proto::PartitionConfig, Revision> At(uint64_t partition) const {
    const auto all = Partitions();
    const auto it = all.find(PartitionId(partition));
    if (it == all.end()) return {};
    return it->second;
  }
  template <class Refs>
  static void Remove(Refs* refs, const proto::ReplicaRef& ref) {
    for (int i = refs->size() - 1; i >= 0; --i)
      if (SameReplica(refs->Get(i), ref)) refs->DeleteSubrange(i, 1);
  }

  Schedule& schedule_;
  metadata::SimulatedCluster& store_;
  std::set<uint64_t> up_;
  std::map<uint64_t, SteadyTime> learning_;
  uint64_t next_partition_ = 0;
  uint64_t next_replica_ = 0;
};

}  // namespace onggi::coordinator
