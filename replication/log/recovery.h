#pragma once

#include <cstdint>
#include <unordered_map>

#include "replication/log/group_index.h"
#include "replication/log/log_store.h"
#include "replication/log/segment.h"
#include "replication/log/segment_keeper.h"

namespace onggi::log {

/// What a log's directory holds, checked.
struct Recovered {
  SegmentTable segments;  ///< live; the last is the one to write on. Empty: a new log
  std::unordered_map<PartitionId, GroupIndex> groups;
  SegmentKeeper::Initial keeper;
  uint64_t write_offset = 0;           ///< end of the last batch
  uint64_t last_sequence = 0;          ///< of the last batch; 0: none
  uint64_t last_check = 0;             ///< header check of the last batch
  std::vector<std::string> leftovers;  ///< unfinished files to remove
};

/// Reads and checks a log; changes nothing. Errors as LogStore::Open.
Result<Recovered> Recover(const LogOptions& options, FileSystem* file_system);

/// Enters a batch's record into the index. kCorruption when it contradicts what came before.
/// `offset` and `bytes` are the record's place in the segment's file.
Status ApplyRecord(const RecordView& record, uint64_t segment, uint64_t offset, uint64_t bytes,
                   std::unordered_map<PartitionId, GroupIndex>* groups, SegmentTable* segments);

}  // namespace onggi::log
