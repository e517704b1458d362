#include "server/storage/store_check.h"

#include <fcntl.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/table.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "common/rocksdb_files.h"

namespace onggi::storage {
namespace {

/// What RocksDB's block-based tables end in, least significant byte first.
constexpr uint64_t kTableMagic = 0x88e241b785f4cff7;

rocksdb::Options MakeOptions() {
  // One for all checks: it is empty but for an index block now and then.
  static const auto cache = rocksdb::NewLRUCache(1 << 20, /*num_shard_bits=*/0);
  rocksdb::Options options;
  options.paranoid_checks = true;
  options.max_open_files = 32;  // few: opening them all takes threads and time
  options.max_file_opening_threads = 1;
  options.table_cache_numshardbits = 0;
  options.skip_stats_update_on_db_open = true;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.write_buffer_size = 64 << 10;
  options.arena_block_size = 4 << 10;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.cache_index_and_filter_blocks = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

Status CheckFooter(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return IoError("open", path, errno);
  struct stat info {};
  unsigned char bytes[sizeof(kTableMagic)] = {};
  ssize_t size = -1;
  if (fstat(fd, &info) == 0) {
    size = info.st_size < static_cast<off_t>(sizeof(bytes))
               ? 0
               : pread(fd, bytes, sizeof(bytes), info.st_size - static_cast<off_t>(sizeof(bytes)));
  }
  const int error = errno;
  close(fd);
  if (size < 0) return IoError("read", path, error);
  uint64_t magic = 0;
  for (size_t i = sizeof(bytes); i-- > 0;) magic = magic << 8 | bytes[i];
  if (size == static_cast<ssize_t>(sizeof(bytes)) && magic == kTableMagic) return Status::Ok();
  return Corruption(path + ": damaged: it does not end in a table's footer");
}

}  // namespace

Status CheckStore(const std::string& directory) {
  ASSIGN_OR_RETURN(const std::string manifest, rocks::CheckManifest(directory));
  rocksdb::DB* opened = nullptr;
  // The only way to learn which files live: what a killed flush left half written is no damage.
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(MakeOptions(), directory, &opened);
  const std::unique_ptr<rocksdb::DB> db(opened);
  if (!status.ok()) {
    return Status(status.IsIOError() ? Code::kIoError : Code::kCorruption,
                  rocks::DescribeDamage(status, directory, manifest));
  }
  std::vector<rocksdb::LiveFileMetaData> files;
  db->GetLiveFilesMetaData(&files);
  for (const auto& file : files) RETURN_IF_ERROR(CheckFooter(directory + file.name));
  return Status::Ok();
}

}  // namespace onggi::storage
