#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include <map>
#include <optional>
#include <string>

#include "coordinator/coordinator_metrics.h"
#include "tests/unit/coordinator/world.h"

namespace onggi::coordinator {
namespace {

using std::chrono::seconds;

/// The values of a gauge by one of its labels.
std::map<std::string, double> Values(const metrics::Registry& registry, const std::string& name,
                                     const std::string& label) {
  std::map<std::string, double> values;
  for (const auto& family : registry.Collect()) {
    if (family.name != name) continue;
    for (const auto& metric : family.metric) {
      for (const auto& pair : metric.label) {
        if (pair.name == label) values[pair.value] = metric.gauge.value;
      }
    }
  }
  return values;
}

TEST(CoordinatorMetrics, ShowWhatEachNodeHas) {
  World world;
  for (uint64_t id = 1; id <= 3; ++id) world.nodes->Add(id, "zone-" + std::to_string(id));
  Candidate& candidate = world.Start();
  for (uint64_t id = 1; id <= 6; ++id) world.nodes->MakeTable(id, proto::TABLE_STATUS_CREATING, 3);
  ASSERT_TRUE(world.Run(seconds(30), [&] { return world.nodes->Partitions().size() == 6; }));
  world.Run(seconds(30));
  const std::map<std::string, double> six{{"1", 6}, {"2", 6}, {"3", 6}};
  EXPECT_EQ(Values(candidate.registry, "onggi_cluster_node_replicas", "node"), six);
  const std::map<std::string, double> two{{"1", 2}, {"2", 2}, {"3", 2}};
  EXPECT_EQ(Values(candidate.registry, "onggi_cluster_node_primaries", "node"), two);
  EXPECT_EQ(Values(candidate.registry, "onggi_cluster_node_primaries", "zone").size(), 3u);
  EXPECT_EQ(Values(candidate.registry, "onggi_cluster_partition_bytes", "partition").size(), 6u);
}

TEST(CoordinatorMetrics, ShowOnlySoManyPartitionsAndNoneOnceItLeadsNoLonger) {
  World world;
  for (uint64_t id = 1; id <= 3; ++id) world.nodes->Add(id, "zone-" + std::to_string(id));
  Candidate& candidate = world.Start();
  for (uint64_t id = 1; id <= 30; ++id) world.nodes->MakeTable(id, proto::TABLE_STATUS_CREATING, 3);
  ASSERT_TRUE(world.Run(seconds(60), [&] { return world.nodes->Partitions().size() == 30; }));
  world.Run(seconds(30));
  EXPECT_EQ(Values(candidate.registry, "onggi_cluster_partition_bytes", "partition").size(), 20u);
  candidate.store->SetCut(true);
  world.Run(seconds(60));
  EXPECT_TRUE(Values(candidate.registry, "onggi_cluster_partition_bytes", "partition").empty());
  EXPECT_TRUE(Values(candidate.registry, "onggi_cluster_node_replicas", "node").empty());
}

}  // namespace
}  // namespace onggi::coordinator
