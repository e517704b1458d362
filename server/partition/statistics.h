#pragma once

#include <cstdint>
#include <vector>

namespace onggi::partition {

/// Live figures of one partition, as of its newest applied entry.
struct PartitionStatistics {
  uint64_t item_count = 0;
  uint64_t item_bytes = 0;  ///< billed sizes
  struct Index {
    uint64_t entry_count = 0;
    uint64_t entry_bytes = 0;
  };
  std::vector<Index> local_indexes;  ///< in the schema's order
  /// A split has divided what was counted together: until it is counted again, by guess.
  bool estimated = false;
};

}  // namespace onggi::partition
