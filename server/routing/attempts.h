#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <string>

#include "common/metrics.h"
#include "common/uuid.h"
#include "server/routing/router.h"

/// When and how often the router tries again; private to it.
namespace onggi::routing {

/// The request came to a place that does not serve it, and nothing of it has been done there.
inline bool IsMisplaced(const Status& status) { return status.code() == Code::kNotPrimary; }

/// May a read with this outcome go better another time, or elsewhere?
inline bool MayRetryRead(const Status& status) {
  switch (status.code()) {
    case Code::kNotPrimary:
    case Code::kNotFound:  // the map may not know the partition yet
    case Code::kUnavailable:
    case Code::kUnknownOutcome:    // the connection was lost
    case Code::kDeadlineExceeded:  // of a replica; the request's own is looked at elsewhere
      return true;
    default: return false;
  }
}

/// Is it certain that a write with this outcome has done nothing, and may another try go better?
inline bool MayRetryWrite(const Status& status) {
  switch (status.code()) {
    case Code::kNotPrimary:
    case Code::kNotFound:
    case Code::kUnavailable: return true;
    default: return false;
  }
}

/// May a write with this outcome have been done, or be done yet?
inline bool IsUnknown(const Status& status) {
  return status.code() == Code::kUnknownOutcome || status.code() == Code::kDeadlineExceeded;
}

/// Was the write evaluated? Then, with its name, this says what became of every try of it: the
/// primary knows the ones that were done (R12). Any other answer is about its own try alone.
inline bool IsEvaluated(const Status& status) {
  return status.ok() || status.code() == Code::kConditionFailed ||
         status.code() == Code::kInvalidArgument ||
         (status.code() == Code::kResourceExhausted &&
          status.message().starts_with("Collection size exceeded"));
}

inline Revision RevisionOf(const RouteMap::RoutePtr& route) {
  return route == nullptr ? Revision() : route->revision;
}

/// A node that has nothing of a partition which the map gives it: one of the two is behind, and
/// that says nothing about the table. Where the table is gone, the map will say so.
inline void BlameTheNode(Revision route, Status* status) {
  if (status->code() == Code::kNotFound && route != Revision()) {
    *status =
        Unavailable("the node that holds the partition does not know it: " + status->message());
  }
}

struct Router::Attempts {
  explicit Attempts(SteadyTime deadline_) : deadline(deadline_) {}

  /// Doubles from 2 ms to 100 ms, each time half to one and a half of it.
  std::chrono::nanoseconds NextBackoff() {
    backoff = std::clamp(backoff * 2, kMinBackoff, kMaxBackoff);
    const auto nanoseconds = std::chrono::nanoseconds(backoff).count();
    return std::chrono::nanoseconds(
        nanoseconds / 2 + static_cast<int64_t>(FastRandom() % static_cast<uint64_t>(nanoseconds)));
  }

  static constexpr std::chrono::milliseconds kMinBackoff{2};
  static constexpr std::chrono::milliseconds kMaxBackoff{100};

  const SteadyTime deadline;
  /// Since when every try has found no partition; unset: the last try found one.
  std::optional<SteadyTime> missing_since;
  std::chrono::milliseconds backoff{0};
  int tries = 0;

  // What the last try went by: another one need not wait when it is no longer so.
  TableId table;
  std::string key;
  Revision revision;      ///< of the route to `key`; 0: there was none
  uint64_t connects = 0;  ///< Router::connects_

  void WentBy(TableId table_, std::string_view key_, Revision revision_) {
    table = table_;
    key = key_;
    revision = revision_;
  }
};

struct Router::Counters {
  explicit Counters(metrics::Registry* registry)
      : gets(Forwarded(registry, "get")),
        writes(Forwarded(registry, "write")),
        pages(Forwarded(registry, "page")),
        get_time(Time(registry, "get")),
        write_time(Time(registry, "write")),
        page_time(Time(registry, "page")),
        retries_misplaced(Retries(registry, "misplaced")),
        retries_unavailable(Retries(registry, "unavailable")),
        retries_unknown(Retries(registry, "unknown")),
        corrections(registry->AddCounter("onggi_routing_map_corrections_total",
                                         "Places of partitions learned from other nodes' answers")),
        unknown_outcomes(
            registry->AddCounter("onggi_routing_unknown_outcomes_total",
                                 "Writes of which nobody said in time whether they were done")) {}

  static metrics::Counter& Forwarded(metrics::Registry* registry, const char* kind) {
    return registry->AddCounter("onggi_routing_forwarded_total", "Requests sent to other nodes",
                                {{"kind", kind}});
  }
  static metrics::Histogram& Time(metrics::Registry* registry, const char* kind) {
    return registry->AddLatency("onggi_routing_forward_duration_seconds",
                                "From sending to other nodes to the last answer", {{"kind", kind}});
  }
  static metrics::Counter& Retries(metrics::Registry* registry, const char* reason) {
    return registry->AddCounter("onggi_routing_retries_total", "Further tries of requests",
                                {{"reason", reason}});
  }
  metrics::Counter& OfRetry(const Status& status) {
    if (IsMisplaced(status) || status.code() == Code::kNotFound) return retries_misplaced;
    return IsUnknown(status) ? retries_unknown : retries_unavailable;
  }

  metrics::Counter& gets;
  metrics::Counter& writes;
  metrics::Counter& pages;
  metrics::Histogram& get_time;
  metrics::Histogram& write_time;
  metrics::Histogram& page_time;
  metrics::Counter& retries_misplaced;
  metrics::Counter& retries_unavailable;
  metrics::Counter& retries_unknown;
  metrics::Counter& corrections;
  metrics::Counter& unknown_outcomes;
};

}  // namespace onggi::routing
