#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/metrics.h"
#include "coordinator/cluster_view.h"
#include "coordinator/planner.h"

namespace onggi::coordinator {

/// What a coordinator shows in /metrics (docs/operating.md). Figures of the cluster are those of
/// the active one; the others show 0. Called on the coordinator's executor.
class CoordinatorMetrics {
 public:
  explicit CoordinatorMetrics(metrics::Registry& registry);
  ~CoordinatorMetrics();
  CoordinatorMetrics(const CoordinatorMetrics&) = delete;
  CoordinatorMetrics& operator=(const CoordinatorMetrics&) = delete;

  void SetActive(bool active);
  void OnReport() { reports_.Add(); }
  void OnJobEnded(const proto::Job& job);
  void OnFailure(const proto::Job& job);
  void Update(const ClusterView& view, const Plan& plan, int64_t wall_ms);

 private:
  void Clear();
  void SetNodes(const ClusterView& view);
  void SetBusyPartitions(const ClusterView& view);
  void SetHotKeys(const std::vector<HotKeyReport>& hot_keys);
  void RemoveMissing(std::vector<metrics::Labels>* old, std::vector<metrics::Labels> now);

  static constexpr size_t kMaxHotKeys = 20;
  static constexpr size_t kMaxBusyPartitions = 20;

  metrics::Registry& registry_;
  metrics::Gauge& active_;
  metrics::Counter& elections_;
  metrics::Counter& reports_;
  metrics::Gauge& tables_;
  metrics::Gauge& partitions_;
  metrics::Gauge& under_replicated_;
  metrics::Gauge& leaderless_;
  metrics::Gauge& bytes_;
  metrics::Gauge& warnings_;
  metrics::Gauge& hot_partitions_;
  metrics::Gauge& lag_;
  std::map<std::string, metrics::Gauge*> nodes_;  ///< by state
  std::map<proto::JobKind, metrics::Gauge*> running_;
  std::map<proto::JobKind, metrics::Gauge*> oldest_;
  std::map<proto::JobKind, std::array<metrics::Counter*, 2>> ended_;  ///< done, failed
  std::map<proto::JobKind, metrics::Counter*> failures_;
  // Labels of the series that come and go with what they are about.
  std::vector<metrics::Labels> node_series_;
  std::vector<metrics::Labels> partition_series_;
  std::vector<metrics::Labels> hot_keys_;
};

}  // namespace onggi::coordinator
