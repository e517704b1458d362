#pragma once

#include <string>

#include "common/status.h"

namespace onggi::storage {

/// Checks a partition's store that no process has open, and changes nothing in it: CURRENT and the
/// manifest are read whole (they carry checksums), every table file that the manifest names must be
/// there with the size that it says and end in a table's footer. Other files are leftovers of a
/// crash and do not matter. Blocks are not read: their checksums are verified when they are.
///
/// Errors: kCorruption or kIoError, naming the file. Takes about 0.3 ms of processor time.
/// Thread-safe.
Status CheckStore(const std::string& directory);

}  // namespace onggi::storage
