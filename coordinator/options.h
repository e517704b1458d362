#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "common/limits.h"

namespace onggi::coordinator {

/// What a coordinator is told at its start. Sizes in bytes, loads in capacity units a second.
struct Options {
  Options() {}

  /// "host:port" of this coordinator's gRPC service, as others reach it: its name in the election.
  std::string address;
  /// How long after the active coordinator's death another one takes over, at most.
  std::chrono::seconds election_ttl{5};
  /// Between looks at the whole cluster.
  std::chrono::milliseconds tick{1'000};
  /// Asked of the nodes between two reports.
  std::chrono::milliseconds report_interval{2'000};
  /// A living node that has not reported for so many intervals is given nothing, and is declared
  /// dead after dead_after, if most others do report.
  int silent_after_reports = 5;
  /// A node that has been gone for this long is dead: its replicas are replaced.
  std::chrono::milliseconds dead_after{300'000};

  /// No version past these is put in force: the newest that this program knows.
  uint32_t newest_wire_version = UINT32_MAX;
  uint32_t newest_disk_version = UINT32_MAX;

  /// Replicas of tables that do not say how many: 1, 3 or 5; 0: 3 if there are as many nodes,
  /// else 1.
  uint32_t default_replication = 0;

  /// A partition larger than this is split.
  uint64_t split_bytes = uint64_t{10} << 30;
  /// And one that takes more than either for `split_sustain`.
  double split_read_units = 3'000;
  double split_write_units = 1'000;
  std::chrono::milliseconds split_sustain{60'000};
  /// A partition that was just made or split is left alone for this long.
  std::chrono::milliseconds split_cooldown{60'000};
  /// A key with this part of its partition's load is reported instead: no split would help.
  double single_key_share = 0.5;
  size_t max_partitions_per_table = 10'000;

  bool merge = true;
  /// Neighbours are merged that together are below these parts of the split limits...
  double merge_bytes_part = 0.25;
  double merge_load_part = 0.1;
  /// ... of which the right one has no more than this to copy (half of what nodes refuse): it takes
  /// no writes meanwhile...
  uint64_t merge_copy_bytes = kMergeCopyLimitBytes / 2;
  /// What nodes refuse: no replicas are brought together for it.
  uint64_t merge_copy_limit_bytes = kMergeCopyLimitBytes;
  /// ... and have been for this long, without a job.
  std::chrono::milliseconds merge_sustain{1'800'000};

  bool balance = true;
  /// Replicas move while the fullest node has this part more than the average.
  double balance_threshold = 0.1;
  /// A partition that moved for balance does not do so again for this long.
  std::chrono::milliseconds balance_cooldown{60'000};

  /// Jobs that run at once: in all, and copies of replicas to or from one node.
  size_t max_jobs = 32;
  size_t max_copies_per_node = 2;
  /// Transfers of primaries to or from one node.
  size_t max_transfers_per_node = 4;
  /// After a failed step: doubles from the first to the second.
  std::chrono::milliseconds min_backoff{200};
  std::chrono::milliseconds max_backoff{30'000};
  /// Between looks whether what a job waits for has happened.
  std::chrono::milliseconds poll{500};
  /// A replica that does not catch up for this long is given up, and another one tried.
  std::chrono::milliseconds stall_timeout{7'200'000};
  /// A replica that no configuration names is dropped when it has been so for this long.
  std::chrono::milliseconds unnamed_grace{10'000};
  /// Finished jobs that stay to be seen.
  size_t finished_jobs_kept = 50;
};

}  // namespace onggi::coordinator
