#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace onggi::metadata {

/// Tells damage in a RocksDB write-ahead log from a tail that a crash has torn. RocksDB takes a
/// record whose length leads nowhere for a torn one wherever it stands, and drops what follows:
/// transactions that were answered. Nothing is ever written behind a torn tail, so a sound record
/// behind one is the proof of damage.
///
/// `log`: the file's content, in the format without recycling ("Write Ahead Log File Format" of
/// RocksDB's wiki: blocks of 32 KiB; records of a masked CRC-32C of type and payload, a 2-byte
/// length, a type and the payload). Returns the offset of the damage. Checksums of records before
/// it are not verified: RocksDB reports those itself.
std::optional<uint64_t> FindWalDamage(std::string_view log);

}  // namespace onggi::metadata
