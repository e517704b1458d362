#include "replication/metadata/embedded_space.h"

#include <rocksdb/table.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "common/rocksdb_files.h"
#include "replication/metadata/embedded_store.h"
#include "replication/metadata/wal_check.h"

namespace onggi::metadata {
namespace {

constexpr uint32_t kFormatVersion = 1;
// RocksDB keys: the store's own begin with '!', the user's with 'k', the lease of a user's with
// 'l'.
constexpr std::string_view kFormatKey = "!format";
constexpr std::string_view kRevisionKey = "!revision";
constexpr char kUserPrefix = 'k';
constexpr char kLeasePrefix = 'l';
constexpr size_t kValueHeader = 2 * sizeof(uint64_t);

void PutU64(std::string* out, uint64_t value) {
  for (int i = 0; i < 8; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t GetU64(std::string_view bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

rocksdb::Slice Slice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

}  // namespace

Status FromRocks(const rocksdb::Status& status, const std::string& directory) {
  if (status.ok()) return {};
  std::string message = directory + ": " + status.ToString();
  if (status.IsCorruption() || status.IsNotSupported()) return Corruption(std::move(message));
  if (status.IsNoSpace()) return {Code::kOutOfSpace, std::move(message)};
  if (status.IsBusy() || status.IsShutdownInProgress()) return Unavailable(std::move(message));
  return {Code::kIoError, std::move(message)};
}

KeyValue ToKeyValue(const std::string& key, const EmbeddedValue& value) {
  return {key, value.value, value.create_revision, value.mod_revision};
}

rocksdb::Options EmbeddedRocksOptions() {
  rocksdb::Options options;
  options.write_buffer_size = 1u << 20;
  options.max_write_buffer_number = 2;
  options.max_background_jobs = 1;
  options.max_open_files = 32;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.compression = rocksdb::kNoCompression;
  options.max_total_wal_size = 4u << 20;
  // A torn tail is a transaction that was never answered; anything else is damage.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;  // everything is in memory already
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

Result<bool> ReadSpace(rocksdb::DB* db, const std::string& directory, EmbeddedSpace* space,
                       Revision* revision) {
  std::string format;
  rocksdb::ReadOptions read;
  const rocksdb::Status found = db->Get(read, Slice(kFormatKey), &format);
  std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(read));
  if (found.IsNotFound()) {
    it->SeekToFirst();
    if (it->Valid()) return Corruption(directory + ": a database, but not of metadata");
    RETURN_IF_ERROR(FromRocks(it->status(), directory));
    return false;
  }
  RETURN_IF_ERROR(FromRocks(found, directory));
  if (format.size() != sizeof(uint64_t)) {
    return Corruption(directory + ": the format record is damaged");
  }
  if (GetU64(format) > kFormatVersion) {
    return Corruption(directory + ": metadata format version " + std::to_string(GetU64(format)) +
                      " is newer than this program's " + std::to_string(kFormatVersion));
  }
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    const std::string_view key(it->key().data(), it->key().size());
    const std::string_view bytes(it->value().data(), it->value().size());
    if (key == kFormatKey) continue;
    if (key == kRevisionKey && bytes.size() == sizeof(uint64_t)) {
      *revision = Revision(GetU64(bytes));
      continue;
    }
    if (key.starts_with(kLeasePrefix) && bytes.size() == sizeof(uint64_t)) {
      const auto leased = space->find(key.substr(1));  // 'k' sorts before 'l'
      if (leased == space->end()) return Corruption(directory + ": a lease of no key");
      leased->second.lease = LeaseId(GetU64(bytes));
      continue;
    }
    if (key.empty() || key[0] != kUserPrefix || bytes.size() < kValueHeader) {
      return Corruption(directory + ": an unreadable record");
    }
    EmbeddedValue value;
    value.create_revision = Revision(GetU64(bytes));
    value.mod_revision = Revision(GetU64(bytes.substr(8)));
    value.value = std::string(bytes.substr(kValueHeader));
    space->emplace_hint(space->end(), std::string(key.substr(1)), std::move(value));
  }
  RETURN_IF_ERROR(FromRocks(it->status(), directory));
  return true;
}

void EncodeFormat(rocksdb::WriteBatch* batch) {
  std::string version;
  PutU64(&version, kFormatVersion);
  batch->Put(Slice(kFormatKey), version);
}

void EncodeRevision(rocksdb::WriteBatch* batch, Revision revision) {
  std::string bytes;
  PutU64(&bytes, revision.value);
  batch->Put(Slice(kRevisionKey), bytes);
}

void EncodePut(rocksdb::WriteBatch* batch, const std::string& key, const EmbeddedValue& value) {
  std::string bytes;
  PutU64(&bytes, value.create_revision.value);
  PutU64(&bytes, value.mod_revision.value);
  bytes += value.value;
  batch->Put(kUserPrefix + key, bytes);
  if (value.lease == LeaseId()) {
    batch->Delete(kLeasePrefix + key);
    return;
  }
  bytes.clear();
  PutU64(&bytes, value.lease.value);
  batch->Put(kLeasePrefix + key, bytes);
}

void EncodeDelete(rocksdb::WriteBatch* batch, const std::string& key) {
  batch->Delete(kUserPrefix + key);
  batch->Delete(kLeasePrefix + key);
}

Result<RangeResult> EmbeddedStore::ReadAll(const std::string& directory) {
  // RocksDB makes CURRENT, then the first write-ahead log, and keeps one of each from then on.
  const std::vector<std::string> logs = rocks::FilesEndingIn(directory, ".log");
  if (!rocks::FileExists(directory + "/CURRENT") && logs.empty() &&
      rocks::FilesEndingIn(directory, ".sst").empty()) {
    return NotFound(directory + "/CURRENT: missing");
  }
  RETURN_IF_ERROR(rocks::CheckManifest(directory).status());
  for (const std::string& name : logs) {
    const std::string path = directory + "/" + name;
    std::ifstream file(path, std::ios::binary);
    const std::string content(std::istreambuf_iterator<char>(file), {});  // a few megabytes at most
    if (const auto offset = FindWalDamage(content)) {
      return Corruption(path + ": damaged at offset " + std::to_string(*offset));
    }
  }
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::OpenForReadOnly(EmbeddedRocksOptions(), directory, &opened);
  const std::unique_ptr<rocksdb::DB> db(opened);
  if (!status.ok()) {
    // The manifest is whole, and a table's damage names the table.
    const std::string log = directory + "/" + (logs.empty() ? "*.log" : logs.back());
    std::string message = rocks::DescribeDamage(status, directory, log);
    if (status.IsIOError() && !status.IsPathNotFound()) {
      return Status(Code::kIoError, std::move(message));
    }
    return Corruption(std::move(message));
  }
  EmbeddedSpace space;
  RangeResult result;
  ASSIGN_OR_RETURN(const bool formatted, ReadSpace(db.get(), directory, &space, &result.revision));
  if (!formatted) return NotFound(directory + ": the format record is missing");
  if (logs.empty()) return Corruption(directory + "/*.log: the write-ahead log is missing");
  result.kvs.reserve(space.size());
  for (const auto& [key, value] : space) {
    // Leases end with the process.
    if (value.lease == LeaseId()) result.kvs.push_back(ToKeyValue(key, value));
  }
  return result;
}

}  // namespace onggi::metadata
