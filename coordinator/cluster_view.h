#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/proto/coordinator.pb.h"
#include "replication/metadata/metadata_store.h"

namespace onggi::coordinator {

/// A node as the catalog, its leased key and its reports show it.
struct NodeView {
  proto::Node record;
  Revision revision;
  bool alive = false;        ///< its leased key is there
  SteadyTime missing_since;  ///< not alive: since when, as far as this coordinator has seen
  SteadyTime alive_since;    ///< alive: likewise
  /// Alive, and has not reported for too long: its lease is kept, and yet it may be out of reach of
  /// everybody but the metadata store (a certificate of another authority, a firewall).
  bool silent = false;

  // From reports of the present boot.
  bool reported = false;
  uint64_t report_boot = 0;
  uint64_t report_sequence = 0;
  SteadyTime reported_at;
  uint64_t used_bytes = 0;
  uint64_t free_bytes = 0;
  double cpu_used = 0;
  double cpu_total = 0;
  bool disk_low = false;
  std::map<PartitionId, proto::ReplicaStatus> replicas;

  /// When it was last heard of.
  SteadyTime heard_at() const {
    return reported ? std::max(reported_at, alive_since) : alive_since;
  }
};

struct TableView {
  proto::Table record;
  Revision revision;
  std::map<std::string, PartitionId, std::less<>> partitions;  ///< by range start
};

struct PartitionView {
  proto::PartitionConfig config;
  Revision revision;
  SteadyTime first_seen;
};

struct JobView {
  proto::Job record;
  Revision revision;
  bool running() const { return record.state() == proto::JOB_STATE_RUNNING; }
};

/// The cluster as one coordinator knows it: what the metadata store held when it last heard of it,
/// and what nodes report. It may be behind; whatever is decided by it is carried out by
/// compare-and-swap.
///
/// Plain data with one owner (the coordinator's executor). Size: some hundred bytes per partition
/// and per replica's report.
class ClusterView {
 public:
  /// A key as it stands. An older revision than the known one changes nothing. False for a value
  /// that does not parse.
  bool Put(const metadata::KeyValue& kv, SteadyTime now);
  /// A key was deleted at `revision`.
  void Erase(std::string_view key, Revision revision, SteadyTime now);
  /// All keys of a prefix, as read at one time: what is not among them goes.
  void Replace(std::string_view prefix, const metadata::RangeResult& range, SteadyTime now);

  /// A node's report. False: out of order, or of another process than the catalog has; nothing
  /// changed. `want_full`: what came before it is not known here.
  bool Report(const proto::ReportLoadRequest& report, SteadyTime now, bool* want_full);
  /// Living nodes that have not been heard of for longer than `limit` are silent from now on, until
  /// they report.
  void NoticeSilence(SteadyTime now, std::chrono::milliseconds limit);
  /// When half of those that live, or more, were last silent: it was this coordinator then that was
  /// out of reach. Long ago: never.
  SteadyTime mostly_silent_at() const { return mostly_silent_at_; }

  const std::map<NodeId, NodeView>& nodes() const { return nodes_; }
  const std::map<TableId, TableView>& tables() const { return tables_; }
  const std::map<PartitionId, PartitionView>& partitions() const { return partitions_; }
  const std::map<uint64_t, JobView>& jobs() const { return jobs_; }
  const std::optional<proto::Cluster>& cluster() const { return cluster_; }

  const NodeView* Node(NodeId node) const;
  const TableView* Table(TableId table) const;
  /// What the partition has or, if that is more, what its table wants.
  uint32_t WantedReplicas(const proto::PartitionConfig& config) const;
  /// What to ask of a partition that has `now` replicas and is to have `wanted`. More come in
  /// steps: from one to five at once, two learners would have to catch up before either has a
  /// place.
  static uint32_t NextReplication(uint32_t now, uint32_t wanted) {
    return std::min(wanted, now + 2);
  }
  const PartitionView* Partition(PartitionId partition) const;
  const JobView* Job(uint64_t job) const;
  /// The running job that has this partition, as its subject or its other one; a repair rather than
  /// the split that stands aside for it.
  const JobView* JobOf(PartitionId partition) const;
  /// The one for which a job of this kind has to wait, if any.
  const JobView* JobBefore(PartitionId partition, proto::JobKind kind) const;
  /// Is a split to wait until its partition has been repaired? Too few of its members are left to
  /// commit anything. It is not given up: the Split may be in the log, and is finished under the
  /// numbers of its job alone.
  bool StandsAside(const proto::Job& split) const;

  /// What `node` last said of its replica of `partition`, if it is the replica named.
  const proto::ReplicaStatus* Status(const proto::ReplicaRef& ref, PartitionId partition) const;
  /// What the primary last said.
  const proto::ReplicaStatus* PrimaryStatus(const PartitionView& partition) const;
  /// Of the largest replica reported; 0 where nothing is known.
  uint64_t BytesOf(const PartitionView& partition) const;

  /// Nodes that say they have some replica of it, named by its configuration or not.
  std::vector<NodeId> NodesWithReplica(PartitionId partition) const;

  /// The catalog has it, and a process of it holds its lease.
  bool Alive(NodeId node) const;
  /// May be given replicas and primaries: alive, not silent, ACTIVE, disk not low.
  bool TakesReplicas(NodeId node) const;
  /// What stands there is lost or will not come back soon: the node is unknown, or DEAD, or gone
  /// after it was DECOMMISSIONED; or it says that it does not have this replica.
  bool Lost(const proto::ReplicaRef& ref, PartitionId partition) const;
  size_t LivingInSync(const PartitionView& partition) const;
  /// Its primary's node lives, and has not said that the replica there does not lead.
  bool Available(const PartitionView& partition) const;
  /// The partition whose range begins where this one's ends; null: none, or not known yet.
  const PartitionView* RightNeighbour(const PartitionView& partition) const;

 private:
  bool PutNode(const metadata::KeyValue& kv, NodeId id, SteadyTime now);
  bool PutTable(const metadata::KeyValue& kv, TableId id);
  bool PutPartition(const metadata::KeyValue& kv, SteadyTime now);
  void ErasePartition(PartitionId id);
  void NotBusy(PartitionId partition, uint64_t job);

  std::map<NodeId, NodeView> nodes_;
  SteadyTime mostly_silent_at_;
  std::map<NodeId, Revision> alive_;  ///< leased keys, also of nodes not known yet
  std::map<TableId, TableView> tables_;
  std::map<PartitionId, PartitionView> partitions_;
  std::map<uint64_t, JobView> jobs_;
  std::map<PartitionId, std::set<uint64_t>> busy_;  ///< running jobs by partition
  std::optional<proto::Cluster> cluster_;
  Revision cluster_revision_;
};

/// All replicas that a configuration names: in sync, then learners.
std::vector<proto::ReplicaRef> Members(const proto::PartitionConfig& config);
bool SameReplica(const proto::ReplicaRef& a, const proto::ReplicaRef& b);
bool IsInSync(const proto::PartitionConfig& config, const proto::ReplicaRef& ref);
bool IsLearner(const proto::PartitionConfig& config, const proto::ReplicaRef& ref);
/// Whether any replica on the node is a member.
bool HasMemberOn(const proto::PartitionConfig& config, NodeId node);

}  // namespace onggi::coordinator
