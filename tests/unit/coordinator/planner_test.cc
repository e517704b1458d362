#include "coordinator/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "coordinator/placement.h"
#include "replication/metadata/keys.h"

namespace onggi::coordinator {
namespace {

namespace keys = metadata::keys;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

/// A view put together by hand.
class Cluster {
 public:
  void Node(uint64_t id, const std::string& zone, proto::NodeState state = proto::NODE_STATE_ACTIVE,
            bool alive = true) {
    State(id, zone, state);
    if (alive) {
      Put(keys::Alive(NodeId(id)), "");
    } else {
      view.Erase(keys::Alive(NodeId(id)), Revision(++revision_), now);
    }
  }
  /// Its record alone.
  void State(uint64_t id, const std::string& zone, proto::NodeState state) {
    proto::Node node;
    node.set_id(id);
    node.set_zone(zone);
    node.set_state(state);
    node.set_boot(id);
    node.set_capacity_bytes(uint64_t{1} << 40);
    Put(keys::Node(NodeId(id)), node.SerializeAsString());
  }
  void Table(uint64_t id) {
    proto::Table table;
    table.set_id(id);
    table.set_name("t");
    table.set_status(proto::TABLE_STATUS_ACTIVE);
    Put(keys::Table(TableId(id)), table.SerializeAsString());
  }
  /// In sync on these nodes, led by the first; the replica on node n is partition * 100 + n.
  void Partition(uint64_t id, const std::vector<uint64_t>& nodes, const std::string& start = "",
                 const std::string& end = "", const std::vector<uint64_t>& learners = {}) {
    proto::PartitionConfig config;
    config.set_partition(id);
    config.set_table(1);
    config.set_epoch(2);
    config.set_boot(1);
    config.set_range_start(start);
    config.set_range_end(end);
    for (const uint64_t node : nodes) *config.add_in_sync() = Ref(id, node);
    for (const uint64_t node : learners) *config.add_learners() = Ref(id, node);
    *config.mutable_primary() = config.in_sync(0);
    config.set_replication(3);
    config.set_min_in_sync(2);
    Put(keys::Partition(TableId(1), PartitionId(id)), config.SerializeAsString());
  }
  static proto::ReplicaRef Ref(uint64_t partition, uint64_t node) {
    proto::ReplicaRef ref;
    ref.set_node(node);
    ref.set_replica(partition * 100 + node);
    return ref;
  }
  struct Load {
    uint64_t bytes = 0;
    double reads = 0;
    double writes = 0;
    double hot_share = 0;
    uint64_t merge_copy_bytes = 0;
  };
  /// Every living node reports all that the map has on it.
  void Report() {
    for (const auto& [id, node] : view.nodes()) {
      if (!node.alive || mute.contains(id.value)) continue;
      proto::ReportLoadRequest report;
      report.set_node(id.value);
      report.set_boot(id.value);
      report.set_sequence(++sequence_);
      report.set_full(true);
      for (const auto& [partition_id, partition] : view.partitions()) {
        for (const auto& ref : Members(partition.config)) {
          if (ref.node() != id.value) continue;
          proto::ReplicaStatus* status = report.add_replicas();
          status->set_partition(partition_id.value);
          status->set_replica(ref.replica());
          const bool leads = SameReplica(ref, partition.config.primary());
          status->set_role(leads ? proto::REPLICA_ROLE_PRIMARY : proto::REPLICA_ROLE_BACKUP);
          const Load& load = loads[partition_id.value];
          status->set_bytes(load.bytes);
          status->set_merge_copy_bytes(load.merge_copy_bytes);
          if (!leads) continue;
          status->set_read_units(load.reads);
          status->set_write_units(load.writes);
          status->set_load_split_key(partition.config.range_start() + "l");
          status->set_size_split_key(partition.config.range_start() + "s");
          if (load.hot_share > 0) status->add_hot_keys()->set_share(load.hot_share);
        }
      }
      bool want_full = false;
      ASSERT_TRUE(view.Report(report, now, &want_full));
    }
  }
  /// Lets time pass, with reports and plans every second; the last plan.
  Plan Run(Planner& planner, milliseconds duration) {
    Plan plan;
    for (milliseconds passed{0}; passed < duration; passed += seconds(1)) {
      now += seconds(1);
      Report();
      view.NoticeSilence(now, seconds(10));
      plan = planner.Decide(view, now);
      if (!plan.jobs.empty()) break;
    }
    return plan;
  }
  void Put(std::string key, std::string value) {
    const metadata::KeyValue kv{std::move(key), std::move(value), Revision(1),
                                Revision(++revision_)};
    ASSERT_TRUE(view.Put(kv, now));
  }

  ClusterView view;
  SteadyTime now{std::chrono::hours(1)};
  std::map<uint64_t, Load> loads;
  std::set<uint64_t> mute;  ///< nodes whose leases are kept and whose reports do not arrive

 private:
  uint64_t revision_ = 1;
  uint64_t sequence_ = 0;
};

Cluster Three() {
  Cluster cluster;
  for (uint64_t id = 1; id <= 3; ++id) cluster.Node(id, "zone-" + std::to_string(id));
  cluster.Table(1);
  return cluster;
}

// -- Placement.
// ------------------------------------------------------------------------------------

TEST(Placement, SpreadsOverZonesFirstThenNodesWhateverTheCluster) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    Cluster cluster;
    const uint64_t nodes = 1 + random() % 12;
    const uint64_t zones = 1 + random() % 5;
    std::map<std::string, size_t> usable;
    size_t active = 0;
    for (uint64_t id = 1; id <= nodes; ++id) {
      const std::string zone = "zone-" + std::to_string(random() % zones);
      const bool ok = random() % 5 != 0;
      cluster.Node(id, zone,
                   ok || random() % 2 ? proto::NODE_STATE_ACTIVE : proto::NODE_STATE_DRAINING, ok);
      if (!cluster.view.TakesReplicas(NodeId(id))) continue;
      ++usable[zone];
      ++active;
    }
    Placement placement(cluster.view);
    ASSERT_EQ(placement.active_nodes(), active);
    std::map<NodeId, size_t> count;
    for (int table = 0; table < 30; ++table) {
      const size_t wanted = std::vector<size_t>{1, 3, 5}[random() % 3];
      const auto chosen = placement.PlaceNew(wanted);
      ASSERT_EQ(chosen.size(), std::min(wanted, active)) << "seed " << seed;
      const std::set<NodeId> distinct(chosen.begin(), chosen.end());
      ASSERT_EQ(distinct.size(), chosen.size()) << "seed " << seed;
      std::set<std::string> chosen_zones;
      for (const NodeId node : chosen) {
        ASSERT_TRUE(cluster.view.TakesReplicas(node)) << "seed " << seed;
        chosen_zones.insert(placement.Node(node)->zone);
        ++count[node];
      }
      ASSERT_EQ(chosen_zones.size(), std::min(chosen.size(), usable.size())) << "seed " << seed;
    }
  }
}

TEST(Placement, FillsEqualNodesEvenly) {
  Cluster cluster;
  for (uint64_t id = 1; id <= 9; ++id) cluster.Node(id, "zone-" + std::to_string(id % 3));
  Placement placement(cluster.view);
  for (int i = 0; i < 300; ++i) ASSERT_EQ(placement.PlaceNew(3).size(), 3u);
  for (const auto& [id, usage] : placement.nodes()) {
    EXPECT_EQ(usage.replicas, 100u) << id.value;
    EXPECT_NEAR(static_cast<double>(usage.primaries), 300.0 / 9, 2) << id.value;
  }
}

TEST(Placement, LeavesAloneWhatHasNoRoom) {
  Cluster cluster = Three();
  cluster.Node(4, "zone-4");
  proto::ReportLoadRequest report;
  report.set_node(4);
  report.set_boot(4);
  report.set_sequence(1);
  report.set_full(true);
  report.set_free_bytes(1000);
  bool want_full = false;
  ASSERT_TRUE(cluster.view.Report(report, cluster.now, &want_full));
  const std::vector<NodeId> kept{NodeId(1), NodeId(2), NodeId(3)};
  EXPECT_EQ(Placement(cluster.view).PlaceReplica(kept, {}, 800, 0), NodeId(4));
  EXPECT_EQ(Placement(cluster.view).PlaceReplica(kept, {}, 900, 0), std::nullopt);
  report.set_sequence(2);
  report.set_disk_low(true);
  ASSERT_TRUE(cluster.view.Report(report, cluster.now, &want_full));
  EXPECT_EQ(Placement(cluster.view).PlaceReplica(kept, {}, 0, 0), std::nullopt);
}

// -- The view.
// -------------------------------------------------------------------------------------

TEST(ClusterView, AsksForAFullReportOfAProcessItDoesNotKnow) {
  Cluster cluster = Three();
  proto::ReportLoadRequest report;
  report.set_node(1);
  report.set_boot(1);
  report.set_sequence(5);
  bool want_full = false;
  EXPECT_TRUE(cluster.view.Report(report, cluster.now, &want_full));
  EXPECT_TRUE(want_full);
  report.set_full(true);
  EXPECT_TRUE(cluster.view.Report(report, cluster.now, &want_full));
  EXPECT_FALSE(want_full);
  // Out of order, and of a process that the catalog does not have (yet, or any more).
  report.set_sequence(4);
  EXPECT_FALSE(cluster.view.Report(report, cluster.now, &want_full));
  report.set_sequence(6);
  report.set_boot(2);
  EXPECT_FALSE(cluster.view.Report(report, cluster.now, &want_full));
  report.set_node(77);
  EXPECT_FALSE(cluster.view.Report(report, cluster.now, &want_full));
}

TEST(ClusterView, AnOlderRevisionChangesNothing) {
  Cluster cluster = Three();
  cluster.Partition(1, {1, 2, 3});
  const PartitionView before = *cluster.view.Partition(PartitionId(1));
  proto::PartitionConfig older = before.config;
  older.set_epoch(1);
  const std::string key = keys::Partition(TableId(1), PartitionId(1));
  EXPECT_TRUE(
      cluster.view.Put({key, older.SerializeAsString(), Revision(1), Revision(1)}, cluster.now));
  EXPECT_EQ(cluster.view.Partition(PartitionId(1))->config.epoch(), before.config.epoch());
  cluster.view.Erase(key, Revision(1), cluster.now);
  EXPECT_NE(cluster.view.Partition(PartitionId(1)), nullptr);
  EXPECT_FALSE(cluster.view.Put({key, "\xff\xff", Revision(1), Revision(99)}, cluster.now));
}

TEST(ClusterView, FollowsRangesThroughSplitAndMerge) {
  Cluster cluster = Three();
  cluster.Partition(1, {1, 2, 3}, "", "m");
  cluster.Partition(2, {1, 2, 3}, "m", "");
  const PartitionView* left = cluster.view.Partition(PartitionId(1));
  ASSERT_NE(cluster.view.RightNeighbour(*left), nullptr);
  EXPECT_EQ(cluster.view.RightNeighbour(*left)->config.partition(), 2u);
  cluster.Partition(1, {1, 2, 3}, "", "");
  cluster.view.Erase(keys::Partition(TableId(1), PartitionId(2)), Revision(1000), cluster.now);
  EXPECT_EQ(cluster.view.RightNeighbour(*cluster.view.Partition(PartitionId(1))), nullptr);
  EXPECT_EQ(cluster.view.Table(TableId(1))->partitions.size(), 1u);
}

// -- Plans.
// ----------------------------------------------------------------------------------------

TEST(Planner, ACalmClusterNeedsNothing) {
  Cluster cluster = Three();
  cluster.Partition(1, {1, 2, 3});
  Options options;
  Planner planner(options);
  const Plan plan = cluster.Run(planner, minutes(60));
  EXPECT_TRUE(plan.jobs.empty());
  EXPECT_TRUE(plan.node_states.empty());
  EXPECT_TRUE(plan.warnings.empty());
  EXPECT_EQ(plan.leaderless, 0u);
  EXPECT_EQ(plan.under_replicated, 0u);
}

TEST(Planner, DeclaresANodeDeadOnlyAfterTheGracePeriod) {
  Cluster cluster = Three();
  cluster.Partition(1, {1, 2, 3});
  Options options;
  Planner planner(options);
  cluster.view.Erase(keys::Alive(NodeId(1)), Revision(1000), cluster.now);
  cluster.now += options.dead_after - seconds(1);
  Plan plan = planner.Decide(cluster.view, cluster.now);
  EXPECT_TRUE(plan.node_states.empty());
  EXPECT_EQ(plan.leaderless, 1u);
  EXPECT_EQ(plan.under_replicated, 1u);
  EXPECT_THAT(plan.warnings, ::testing::Contains("node 1 does not answer"));
  cluster.now += seconds(1);
  plan = planner.Decide(cluster.view, cluster.now);
  ASSERT_EQ(plan.node_states.size(), 1u);
  EXPECT_EQ(plan.node_states[0], std::pair(NodeId(1), proto::NODE_STATE_DEAD));
}

/// As one with a certificate of another authority is: alive by the metadata store, and nobody else
/// can reach it.
TEST(Planner, ANodeThatNobodyHearsIsGivenNothingAndDeclaredDead) {
  Cluster cluster = Three();
  cluster.Node(4, "zone-4");
  cluster.Node(5, "zone-5");
  cluster.mute = {4};
  cluster.loads[1].bytes = 1;
  cluster.Partition(1, {1, 2, 3});
  Options options;
  Planner planner(options);
  const std::vector<NodeId> kept{NodeId(1), NodeId(2), NodeId(3)};
  const std::vector<NodeId> but_4{NodeId(5)};
  (void)cluster.Run(planner, seconds(9));
  EXPECT_EQ(Placement(cluster.view).PlaceReplica(kept, but_4, 0, 0), NodeId(4)) << "it may be new";
  Plan plan = cluster.Run(planner, seconds(3));
  EXPECT_EQ(Placement(cluster.view).PlaceReplica(kept, but_4, 0, 0), std::nullopt);
  EXPECT_THAT(plan.warnings, ::testing::Contains(::testing::HasSubstr("node 4 is registered and")));
  EXPECT_TRUE(plan.node_states.empty());
  plan = cluster.Run(planner, options.dead_after);
  EXPECT_THAT(plan.node_states,
              ::testing::ElementsAre(std::pair(NodeId(4), proto::NODE_STATE_DEAD)));
  // It is heard after all.
  cluster.State(4, "zone-4", proto::NODE_STATE_DEAD);
  EXPECT_TRUE(cluster.Run(planner, seconds(20)).node_states.empty());
  cluster.mute.clear();
  plan = cluster.Run(planner, seconds(1));
  EXPECT_THAT(plan.node_states,
              ::testing::ElementsAre(std::pair(NodeId(4), proto::NODE_STATE_ACTIVE)));
  // Who hears nobody is out of reach itself.
  cluster.State(4, "zone-4", proto::NODE_STATE_ACTIVE);
  cluster.mute = {1, 2, 3};
  EXPECT_TRUE(cluster.Run(planner, options.dead_after + minutes(1)).node_states.empty());
}

TEST(Planner, ReplacesADeadMemberAndTakesOutADeadLearner) {
  Cluster cluster = Three();
  cluster.Node(4, "zone-1");
  cluster.Node(5, "zone-5");
  cluster.Partition(1, {2, 3}, "", "m", {1});
  cluster.Partition(2, {2, 3, 4}, "m", "", {1});
  cluster.Node(1, "zone-1", proto::NODE_STATE_DEAD, false);
  Options options;
  Planner planner(options);
  const Plan plan = planner.Decide(cluster.view, cluster.now);
  ASSERT_EQ(plan.jobs.size(), 2u);
  EXPECT_EQ(plan.jobs[0].kind(), proto::JOB_KIND_REPLACE_REPLICA);
  EXPECT_EQ(plan.jobs[0].from().node(), 1u);
  EXPECT_EQ(plan.jobs[0].to().node(), 5u) << "both zones are free, and node 5 has nothing yet";
  EXPECT_EQ(plan.jobs[0].reason(), "node 1 is dead");
  EXPECT_EQ(plan.jobs[1].kind(), proto::JOB_KIND_REMOVE_REPLICA);
  EXPECT_EQ(plan.jobs[1].from().node(), 1u);
}

TEST(Planner, CopiesOnlySoManyAtOnceToANode) {
  Cluster cluster = Three();
  cluster.Node(4, "zone-4");
  for (uint64_t p = 1; p <= 10; ++p) {
    cluster.Partition(p, {2, 3}, p == 1 ? "" : std::string(1, static_cast<char>('a' + p)),
                      p == 10 ? "" : std::string(1, static_cast<char>('b' + p)), {1});
  }
  cluster.Node(1, "zone-1", proto::NODE_STATE_DEAD, false);
  Options options;
  Planner planner(options);
  EXPECT_EQ(planner.Decide(cluster.view, cluster.now).jobs.size(), options.max_copies_per_node);
}

TEST(Planner, APartitionWhoseJobFailedIsLeftAloneForAWhile) {
  Cluster cluster = Three();
  cluster.Node(4, "zone-4");
  cluster.Partition(1, {2, 3}, "", "", {1});
  cluster.Node(1, "zone-1", proto::NODE_STATE_DEAD, false);
  Options options;
  Planner planner(options);
  planner.OnFailed(PartitionId(1), cluster.now);
  EXPECT_TRUE(planner.Decide(cluster.view, cluster.now).jobs.empty());
  cluster.now += options.max_backoff;
  EXPECT_EQ(planner.Decide(cluster.view, cluster.now).jobs.size(), 1u);
}

TEST(Planner, SplitsWhatIsHotForLongEnoughOnly) {
  Cluster cluster = Three();
  cluster.Partition(1, {1, 2, 3});
  Options options;
  Planner planner(options);
  cluster.Run(planner, options.split_cooldown);
  cluster.loads[1].writes = 1'100;
  EXPECT_TRUE(cluster.Run(planner, options.split_sustain - seconds(5)).jobs.empty());
  cluster.loads[1].writes = 900;  // a pause begins it anew
  EXPECT_TRUE(cluster.Run(planner, seconds(2)).jobs.empty());
  cluster.loads[1].writes = 1'100;
  EXPECT_TRUE(cluster.Run(planner, options.split_sustain - seconds(5)).jobs.empty());
  const Plan plan = cluster.Run(planner, seconds(10));
  ASSERT_EQ(plan.jobs.size(), 1u);
  EXPECT_EQ(plan.jobs[0].kind(), proto::JOB_KIND_SPLIT);
  EXPECT_EQ(plan.jobs[0].split_key(), "l");
  EXPECT_EQ(plan.jobs[0].reason(), "load");
}

TEST(Planner, DoesNotSplitWhatIsNotWholeOrForASingleKey) {
  Cluster cluster = Three();
  cluster.Partition(1, {1, 2}, "", "m", {3});
  cluster.Partition(2, {1, 2, 3}, "m", "");
  cluster.loads[1] = {uint64_t{20} << 30, 0, 0, 0};
  cluster.loads[2] = {0, 9'000, 0, 0.6};
  Options options;
  options.balance = false;
  Planner planner(options);
  const Plan plan = cluster.Run(planner, minutes(10));
  EXPECT_TRUE(plan.jobs.empty());
  ASSERT_EQ(plan.hot_keys.size(), 1u);
  EXPECT_EQ(plan.hot_keys[0].partition, PartitionId(2));
  EXPECT_TRUE(planner.SingleHotKey(PartitionId(2)));
  EXPECT_FALSE(planner.SingleHotKey(PartitionId(1)));
}

TEST(Planner, OldReportsSplitNothing) {
  Cluster cluster = Three();
  cluster.Partition(1, {1, 2, 3});
  cluster.loads[1].writes = 5'000;
  cluster.Report();
  Options options;
  Planner planner(options);
  for (int i = 0; i < 300; ++i) {
    cluster.now += seconds(1);
    EXPECT_TRUE(planner.Decide(cluster.view, cluster.now).jobs.empty());
  }
}

TEST(Planner, MergesOnlyWhatIsColdSmallAndHasBeenForLong) {
  const auto first_job = [](const std::function<void(Cluster&)>& prepare, milliseconds duration) {
    Cluster cluster = Three();
    cluster.Partition(1, {1, 2, 3}, "", "m");
    cluster.Partition(2, {1, 2, 3}, "m", "");
    prepare(cluster);
    Options options;
    options.balance = false;
    Planner planner(options);
    const Plan plan = cluster.Run(planner, duration);
    return plan.jobs.empty() ? proto::JOB_KIND_UNSPECIFIED : plan.jobs[0].kind();
  };
  const auto nothing = [](Cluster&) {};
  EXPECT_EQ(first_job(nothing, minutes(29)), proto::JOB_KIND_UNSPECIFIED);
  EXPECT_EQ(first_job(nothing, minutes(31)), proto::JOB_KIND_MERGE);
  const auto warm = [](Cluster& cluster) { cluster.loads[2].reads = 400; };
  EXPECT_EQ(first_job(warm, minutes(120)), proto::JOB_KIND_UNSPECIFIED);
  const auto big = [](Cluster& cluster) { cluster.loads[1].bytes = uint64_t{3} << 30; };
  EXPECT_EQ(first_job(big, minutes(120)), proto::JOB_KIND_UNSPECIFIED);
  // Only the right one is copied.
  const auto much = [](uint64_t partition) {
    return [partition](Cluster& cluster) {
      cluster.loads[partition].merge_copy_bytes = (uint64_t{64} << 20) + 1;
    };
  };
  EXPECT_EQ(first_job(much(1), minutes(31)), proto::JOB_KIND_MERGE);
  EXPECT_EQ(first_job(much(2), minutes(120)), proto::JOB_KIND_UNSPECIFIED);
  const auto degraded = [](Cluster& cluster) { cluster.Partition(2, {1, 2}, "m", "", {3}); };
  EXPECT_EQ(first_job(degraded, minutes(120)), proto::JOB_KIND_UNSPECIFIED);
}

TEST(Planner, MovesAReplicaOutOfASharedZone) {
  Cluster cluster;
  cluster.Node(1, "a");
  cluster.Node(2, "a");
  cluster.Node(3, "b");
  cluster.Table(1);
  cluster.Partition(1, {1, 2, 3});
  Options options;
  Planner planner(options);
  EXPECT_TRUE(cluster.Run(planner, minutes(5)).jobs.empty()) << "there is no better place";
  cluster.Node(4, "c");
  const Plan plan = cluster.Run(planner, minutes(5));
  ASSERT_EQ(plan.jobs.size(), 1u);
  EXPECT_EQ(plan.jobs[0].kind(), proto::JOB_KIND_MOVE_REPLICA);
  EXPECT_EQ(plan.jobs[0].to().node(), 4u);
  EXPECT_EQ(plan.jobs[0].reason(), "zones");
}

TEST(Planner, KeepsItsHandsOffWhileSomethingIsBeingRepaired) {
  Cluster cluster;
  for (uint64_t id = 1; id <= 4; ++id) cluster.Node(id, "zone-" + std::to_string(id));
  cluster.Table(1);
  for (uint64_t p = 1; p <= 6; ++p) {
    cluster.Partition(p, {1, 2, 3}, p == 1 ? "" : std::string(1, static_cast<char>('a' + p)),
                      p == 6 ? "" : std::string(1, static_cast<char>('b' + p)));
  }
  cluster.Partition(6, {2, 3}, "g", "", {1});
  Options options;
  options.merge = false;
  Planner planner(options);
  cluster.Report();
  // A member of partition 6 is lost: nothing is moved or transferred for balance meanwhile.
  proto::ReportLoadRequest report;
  report.set_node(1);
  report.set_boot(1);
  report.set_sequence(100);
  proto::ReplicaStatus* lost = report.add_replicas();
  lost->set_partition(6);
  lost->set_replica(601);
  lost->set_role(proto::REPLICA_ROLE_LOST);
  bool want_full = false;
  ASSERT_TRUE(cluster.view.Report(report, cluster.now, &want_full));
  const Plan plan = planner.Decide(cluster.view, cluster.now);
  ASSERT_EQ(plan.jobs.size(), 1u);
  EXPECT_EQ(plan.jobs[0].kind(), proto::JOB_KIND_REPLACE_REPLICA);
  EXPECT_EQ(plan.jobs[0].to().node(), 1u) << "it is made again where it was";

  // In sync still: the primary is about to take it out, and then it is made again.
  cluster.Partition(6, {1, 2, 3}, "g", "");
  EXPECT_TRUE(planner.Decide(cluster.view, cluster.now).jobs.empty());
}

}  // namespace
}  // namespace onggi::coordinator
