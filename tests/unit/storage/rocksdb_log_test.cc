#include "common/rocksdb_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "server/storage/partition_store.h"

namespace onggi::rocks {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::IsEmpty;

std::vector<std::string>& Lines() {
  static std::vector<std::string> lines;
  return lines;
}

class RocksdbLog : public ::testing::Test {
 protected:
  void SetUp() override {
    Lines().clear();
    log::SetSink([](std::string_view line) { Lines().emplace_back(line); });
  }
  void TearDown() override { log::SetSink(nullptr); }
};

TEST_F(RocksdbLog, TakesWarningsAndErrorsAndNothingElse) {
  const auto log = std::make_shared<Log>("/somewhere");
  rocksdb::Header(log, "Options.everything: %d", 1);
  rocksdb::Info(log.get(), "flush started");
  EXPECT_THAT(Lines(), IsEmpty());
  rocksdb::Warn(log.get(), "stalling %s\n", "writes");
  rocksdb::Error(log.get(), "no space: %s", std::string(5000, 'x').c_str());
  ASSERT_EQ(Lines().size(), 2U);
  EXPECT_THAT(Lines()[0],
              EndsWith("warn RocksDB directory=/somewhere says=\"stalling writes\" times=1"));
  EXPECT_LT(Lines()[1].size(), 1200U);
}

TEST_F(RocksdbLog, WritesOneLineASecondOfEachLevel) {
  const auto log = std::make_shared<Log>("/somewhere");
  for (int i = 0; i < 100; ++i) {
    rocksdb::Warn(log.get(), "again");
    rocksdb::Error(log.get(), "and again");
  }
  EXPECT_GE(Lines().size(), 2U);
  EXPECT_LE(Lines().size(), 4U);  // on a machine that paused for a second
}

// RocksDB's own log file ends the process when it cannot be written.
TEST_F(RocksdbLog, AStoreHasNoLogFileAndOpensInSilence) {
  std::string pattern = (fs::temp_directory_path() / "onggi-XXXXXX").string();
  const std::string root = mkdtemp(pattern.data());
  storage::StorageOptions options;
  options.memory_bytes = size_t{64} << 20;
  const storage::StorageEnvironment environment(options);
  for (const bool create : {true, false}) {
    const auto store = storage::PartitionStore::Open(environment, root + "/a/store", create, {});
    ASSERT_TRUE(store.ok()) << store.status().ToString();
  }
  for (const auto& entry : fs::directory_iterator(root + "/a/store")) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("LOG.")) << entry.path();
    EXPECT_NE(entry.path().filename(), "LOG");
  }
  EXPECT_THAT(Lines(), IsEmpty());
  fs::remove_all(root);
}

}  // namespace
}  // namespace onggi::rocks
