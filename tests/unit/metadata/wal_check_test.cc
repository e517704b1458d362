#include "replication/metadata/wal_check.h"

#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace onggi::metadata {
namespace {

/// A log as RocksDB writes it: `records` values of `size` bytes.
std::string MakeLog(int records, size_t size) {
  const auto directory =
      std::filesystem::temp_directory_path() / ("onggi_wal_test." + std::to_string(::getpid()));
  std::filesystem::remove_all(directory);
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* db = nullptr;
  EXPECT_TRUE(rocksdb::DB::Open(options, directory.string(), &db).ok());
  for (int i = 0; i < records; ++i) {
    EXPECT_TRUE(
        db->Put({}, "key" + std::to_string(i), std::string(size, static_cast<char>('a' + i))).ok());
  }
  delete db;
  std::string content;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".log") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    content.assign(std::istreambuf_iterator<char>(file), {});
  }
  std::filesystem::remove_all(directory);
  return content;
}

TEST(FindWalDamage, AcceptsSoundAndTornLogs) {
  EXPECT_EQ(FindWalDamage(""), std::nullopt);
  for (const size_t size : {10, 1000, 50'000}) {
    const std::string log = MakeLog(20, size);
    ASSERT_GT(log.size(), 20 * size);
    EXPECT_EQ(FindWalDamage(log), std::nullopt);
    for (size_t cut = 0; cut < log.size(); cut += 1 + log.size() / 97) {
      EXPECT_EQ(FindWalDamage(log.substr(0, cut)), std::nullopt) << cut;
      EXPECT_EQ(FindWalDamage(log.substr(0, cut) + std::string(5000, '\0')), std::nullopt) << cut;
    }
  }
}

TEST(FindWalDamage, FindsALengthOrTypeThatLeadsNowhere) {
  const std::string log = MakeLog(20, 100);
  size_t at = 0;
  for (int i = 0; i < 19; ++i) {
    for (const size_t byte : {5, 6}) {  // the length's upper half, the type
      std::string damaged = log;
      damaged[at + byte] = '\x7f';
      EXPECT_EQ(FindWalDamage(damaged), at) << i;
    }
    at += 7 + static_cast<uint8_t>(log[at + 4]) + 256u * static_cast<uint8_t>(log[at + 5]);
  }
  // The last one may be a torn tail.
  std::string damaged = log;
  damaged[at + 5] = '\x7f';
  EXPECT_EQ(FindWalDamage(damaged), std::nullopt);
  EXPECT_EQ(FindWalDamage(std::string(300, '\0') + log.substr(300)), 0u);
}

}  // namespace
}  // namespace onggi::metadata
