#pragma once

#include <string>

#include "common/status.h"
#include "replication/metadata/membership.h"

namespace onggi {

/// What NODE in a node's data directory says: which cluster and node it is of. One line:
///
///     onggi-node 1 <disk id> <cluster id or -> <node id or 0> [<boot>...]
///
/// A directory without it has never joined; it is given a random disk id, durably.
/// kCorruption, with the file, for anything else than such a line.
Result<metadata::NodeIdentity> LoadIdentity(const std::string& directory);

/// Makes the membership durable, before anything is done in its name.
Status SaveIdentity(const std::string& directory, const metadata::NodeIdentity& identity);

}  // namespace onggi
