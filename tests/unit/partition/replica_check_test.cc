#include "server/partition/replica_check.h"

#include <fstream>
#include <iterator>
#include <map>

#include "tests/unit/partition/node_fixture.h"

namespace onggi::partition {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// Path -> content of every file below.
std::map<std::string, std::string> Files(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.is_directory()) {
      files[entry.path()] = "directory";
      continue;
    }
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path()] = std::string(std::istreambuf_iterator<char>(file), {});
  }
  return files;
}

/// A stopped node: tables 1 to 20 with an item each, of which table 20 was never used.
class ReplicaCheck : public NodeTest {
 protected:
  void SetUp() override {
    Node node(directory_.path());
    ASSERT_TRUE(node.Start().ok());
    for (uint64_t table = 1; table <= 20; ++table) node.CreateTable(table);
    for (uint64_t table = 1; table < 20; ++table) {
      ASSERT_TRUE(node.Put(*node.Find(table), "a", "1", "x").status.ok());
    }
    node.Stop();
    auto read = metadata::EmbeddedStore::ReadAll(directory_.path() + "/metadata");
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    catalog_ = std::move(read->kvs);
  }

  std::string Partitions() const { return directory_.path() + "/partitions"; }
  Status Check() { return CheckReplicas(Partitions(), NodeId(1), catalog_); }
  /// The one file of partition 5 with such a name.
  std::string Victim(const std::string& part_of_name) {
    for (const auto& entry : fs::recursive_directory_iterator(Partitions() + "/5")) {
      const std::string name = entry.path().filename();
      if (name.find(part_of_name) != std::string::npos) return entry.path();
    }
    return "";
  }

  std::vector<metadata::KeyValue> catalog_;
};

TEST_F(ReplicaCheck, AcceptsWhatIsSoundAndChangesNothing) {
  fs::create_directories(Partitions() + "/99");                           // of nobody
  std::ofstream(Partitions() + "/5/store/999999.sst") << "half a table";  // of a killed flush
  const auto before = Files(Partitions());
  const Status status = Check();
  EXPECT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(Files(Partitions()), before);
  // Another node's replicas are not here.
  EXPECT_TRUE(CheckReplicas(directory_.path() + "/none", NodeId(2), catalog_).ok());
}

TEST_F(ReplicaCheck, NamesADamagedFileAndChangesNothing) {
  const auto sound = Files(Partitions());
  for (const std::string part : {"CURRENT", "MANIFEST-", ".sst", "REPLICA"}) {
    const std::string path = Victim(part);
    const std::string& content = sound.at(path);
    std::string flipped = content;
    // Of a table, only the end is looked at.
    flipped[part == ".sst" ? flipped.size() - 1 : flipped.size() / 2] ^= 0x55;
    const std::string cut = part == "MANIFEST-" ? "" : content.substr(0, content.size() / 2);
    for (const auto& damage :
         std::vector<std::optional<std::string>>{flipped, cut, "", std::nullopt}) {
      fs::remove(path);
      if (damage) std::ofstream(path, std::ios::binary) << *damage;
      const auto before = Files(Partitions());
      const Status status = Check();
      EXPECT_EQ(status.code(), Code::kCorruption) << path << ": " << status.ToString();
      EXPECT_THAT(status.message(), HasSubstr(path));
      EXPECT_EQ(Files(Partitions()), before) << path;
    }
    std::ofstream(path, std::ios::binary) << content;
  }
  EXPECT_TRUE(Check().ok());
}

TEST_F(ReplicaCheck, ReplicaThatWasLedMustBeThere) {
  fs::remove_all(Partitions() + "/5/store");
  EXPECT_THAT(Check().message(), HasSubstr(Partitions() + "/5/store/CURRENT: missing"));
  fs::remove_all(Partitions() + "/5");
  const Status status = Check();
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr(Partitions() + "/5: missing"));
}

TEST_F(ReplicaCheck, UnreadableRecordIsDamage) {
  for (auto& kv : catalog_) {
    if (!kv.key.starts_with(metadata::keys::kTablePrefix) &&
        !kv.key.starts_with(metadata::keys::kPartitionPrefix)) {
      continue;
    }
    const std::string value = std::exchange(kv.value, "\xff\xff");
    const Status status = Check();
    EXPECT_EQ(status.code(), Code::kCorruption);
    EXPECT_THAT(status.message(), HasSubstr(kv.key));
    kv.value = value;
  }
}

}  // namespace
}  // namespace onggi::partition
