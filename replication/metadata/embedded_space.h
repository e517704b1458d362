#pragma once

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "replication/metadata/metadata_store.h"

/// The embedded store's keys in memory, and their form in RocksDB (docs/formats.md, "The metadata
/// store").
namespace onggi::metadata {

struct EmbeddedValue {
  std::string value;
  Revision create_revision;
  Revision mod_revision;
  LeaseId lease;  ///< 0: none
};
using EmbeddedSpace = std::map<std::string, EmbeddedValue, std::less<>>;

KeyValue ToKeyValue(const std::string& key, const EmbeddedValue& value);

rocksdb::Options EmbeddedRocksOptions();

/// kCorruption, kOutOfSpace or kIoError, naming the directory.
Status FromRocks(const rocksdb::Status& status, const std::string& directory);

/// Reads everything. False: an empty database, in which even the format record is yet to be
/// written.
Result<bool> ReadSpace(rocksdb::DB* db, const std::string& directory, EmbeddedSpace* space,
                       Revision* revision);

/// What the records in a batch say. A key's record and its lease's are always written together.
void EncodeFormat(rocksdb::WriteBatch* batch);
void EncodeRevision(rocksdb::WriteBatch* batch, Revision revision);
void EncodePut(rocksdb::WriteBatch* batch, const std::string& key, const EmbeddedValue& value);
void EncodeDelete(rocksdb::WriteBatch* batch, const std::string& key);

}  // namespace onggi::metadata
