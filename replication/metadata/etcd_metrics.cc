#include "replication/metadata/etcd_metrics.h"

#include <string>

namespace onggi::metadata::etcd {
namespace {

constexpr std::array<const char*, kOperations> kNames = {"range", "commit", "grant_lease",
                                                         "revoke_lease"};
constexpr std::array<const char*, 4> kOutcomeNames = {"ok", "unavailable", "unknown", "refused"};

}  // namespace

Metrics::Metrics(metrics::Registry* registry) {
  metrics::Registry& to = registry != nullptr ? *registry : own_;
  for (size_t i = 0; i < kOperations; ++i) {
    for (size_t j = 0; j < kOutcomes; ++j) {
      requests_[i][j] = &to.AddCounter("onggi_metadata_requests_total",
                                       "Requests to the metadata store by operation and outcome",
                                       {{"operation", kNames[i]}, {"outcome", kOutcomeNames[j]}});
    }
    durations_[i] =
        &to.AddLatency("onggi_metadata_request_duration_seconds",
                       "Time of a request to the metadata store", {{"operation", kNames[i]}});
  }
  pending = &to.AddGauge("onggi_metadata_pending_requests", "Requests not yet answered");
  watches = &to.AddGauge("onggi_metadata_watches", "Open watches");
  leases = &to.AddGauge("onggi_metadata_leases", "Leases kept alive");
  retries = &to.AddCounter("onggi_metadata_retries_total", "Attempts beyond a request's first");
  lost_endpoints =
      &to.AddCounter("onggi_metadata_endpoint_failures_total", "etcd members given up");
  switches =
      &to.AddCounter("onggi_metadata_endpoint_switches_total", "Changes of the member in use");
  resumed = &to.AddCounter("onggi_metadata_watch_resumes_total", "Watch streams opened again");
  compacted =
      &to.AddCounter("onggi_metadata_watch_compactions_total", "Watches that had to start over");
  lost_leases = &to.AddCounter("onggi_metadata_lost_leases_total", "Leases lost");
  tokens = &to.AddCounter("onggi_metadata_authentications_total", "Tokens asked for");
}

void Metrics::Finished(Operation operation, const Status& status, std::chrono::nanoseconds time) {
  Outcome outcome = kRefused;
  if (status.ok()) outcome = kOk;
  if (status.code() == Code::kUnavailable) outcome = kUnavailable;
  if (status.code() == Code::kUnknownOutcome) outcome = kUnknown;
  const auto i = static_cast<size_t>(operation);
  requests_[i][outcome]->Add();
  durations_[i]->Observe(time);
}

}  // namespace onggi::metadata::etcd
