#pragma once

#include <string>

#include "common/ids.h"
#include "common/status.h"
#include "server/partition/effects.h"
#include "server/storage/files.h"
#include "server/storage/partition_store.h"

/// The directory of a replica: partitions/<partition id>/.
///
///     REPLICA    which replica this is ("onggi-replica 1 <id>")
///     STORE      name of the directory with the applied state; absent: "store"
///     store...   RocksDB; those that STORE does not name are left over
///
/// All functions block on the disk.
namespace onggi::partition {

/// Makes a replica's directory, whole or not at all, durably: with an empty store, or, `lazily`,
/// with none, for a replica that is opened (and its store made) before anybody counts on it.
/// kAlreadyExists: there is one.
Status MakeReplicaDirectory(const storage::StorageEnvironment& storage, const std::string& parent,
                            const std::string& directory, ReplicaId replica, bool lazily);

/// Which replica it is. kNotFound: no such directory. kCorruption names the file.
Result<ReplicaId> ReadReplicaFile(const storage::Files& files, const std::string& directory);

/// Path of the store in a replica's directory.
Result<std::string> StorePath(const storage::Files& files, const std::string& directory);

/// Makes `checkpoint`, a directory on the same file system, the store of a replica, durably and
/// whole or not at all. The old one stays until RemoveOldStores(). Returns the new one's path.
Result<std::string> InstallStore(const storage::Files& files, const std::string& directory,
                                 const std::string& checkpoint);

/// Removes the stores that STORE does not name; none may be open.
Status RemoveOldStores(const storage::Files& files, const std::string& directory);

/// Removes a replica's directory with all that is in it, unless it is another replica's by now;
/// `replica` 0: whosever it is. Ok where there is none.
Status RemoveReplica(const storage::Files& files, const std::string& directory, ReplicaId replica);

/// The applied state of a store that nobody has open. kNotFound: nothing was ever applied.
Result<AppliedState> ReadAppliedState(const storage::StorageEnvironment& storage,
                                      const std::string& store);

}  // namespace onggi::partition
