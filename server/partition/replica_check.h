#pragma once

#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "replication/metadata/metadata_store.h"
#include "server/storage/files.h"

namespace onggi::partition {

/// Whether `directory`'s REPLICA says that it holds `replica`. kCorruption names the file.
Status CheckReplicaFile(const storage::Files& files, const std::string& directory,
                        ReplicaId replica);

/// Checks a node's replicas against the catalog before anything is opened for writing, and changes
/// nothing: the records can be read, and each replica of `node` that a process has led has its
/// directory, its REPLICA file and a store that storage::CheckStore() accepts. A replica that none
/// has led may be half made.
///
/// `catalog`: the metadata store's whole key space. Errors: kCorruption or kIoError, naming the
/// file; of several, any one. Blocks; runs on up to four threads of its own.
Status CheckReplicas(const std::string& partitions_directory, NodeId node,
                     const std::vector<metadata::KeyValue>& catalog);

}  // namespace onggi::partition
