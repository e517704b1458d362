#pragma once

#include "common/ids.h"
#include "common/status.h"
#include "server/storage/data_directory.h"

namespace onggi {

/// Checks what is in an existing, locked data directory, the log aside (LogStore::Open does that),
/// and changes nothing: the metadata store whole, then the replicas that it names. To be called
/// before anything in there is opened for writing.
///
/// True: there is a metadata store. False: the directory's first start did not come to making one.
/// Errors: kCorruption or kIoError, naming the file. Blocks.
Result<bool> CheckData(const storage::DataDirectory& data, NodeId node);

}  // namespace onggi
