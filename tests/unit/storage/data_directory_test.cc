#include "server/storage/data_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace onggi::storage {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class DataDirectoryTest : public ::testing::Test {
 protected:
  DataDirectoryTest() {
    std::string pattern = (fs::temp_directory_path() / "onggi-XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    path_ = root_ + "/data";
  }
  ~DataDirectoryTest() override { fs::remove_all(root_); }
  void Write(const std::string& name, std::string_view content) {
    fs::create_directories(path_);
    std::ofstream(path_ + "/" + name) << content;
  }
  std::string Read(const std::string& name) {
    std::ifstream file(path_ + "/" + name);
    std::stringstream content;
    content << file.rdbuf();
    return content.str();
  }
  std::set<std::string> Names() {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_)) names.insert(entry.path().filename());
    return names;
  }

  std::string root_, path_;
};

TEST_F(DataDirectoryTest, IsMadeAndOpenedAgain) {
  {
    const auto made = DataDirectory::Open(path_ + "/deeper");
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    EXPECT_TRUE((*made)->created());
  }
  path_ += "/deeper";
  EXPECT_EQ(Read("FORMAT"), "onggi-data 1\n");
  const auto opened = DataDirectory::Open(path_);
  ASSERT_TRUE(opened.ok());
  EXPECT_FALSE((*opened)->created());
  EXPECT_EQ((*opened)->log_path(), path_ + "/log");
}

TEST_F(DataDirectoryTest, SecondOpenSaysWhoHasIt) {
  auto first = DataDirectory::Open(path_);
  ASSERT_TRUE(first.ok());
  auto second = DataDirectory::Open(path_);
  EXPECT_EQ(second.status().code(), Code::kAlreadyExists);
  EXPECT_THAT(second.status().message(), HasSubstr("in use by another onggi server"));
  ASSERT_TRUE((*first)->Claim().ok());
  second = DataDirectory::Open(path_);
  EXPECT_EQ(second.status().code(), Code::kAlreadyExists);
  EXPECT_THAT(second.status().message(), HasSubstr("(process " + std::to_string(getpid()) + ")"));
  first->reset();
  EXPECT_TRUE(DataDirectory::Open(path_).ok());
}

TEST_F(DataDirectoryTest, ClaimReplacesALongerId) {
  Write("LOCK", "99999999999");
  Write("FORMAT", "onggi-data 1\n");
  const auto opened = DataDirectory::Open(path_);
  ASSERT_TRUE(opened.ok());
  ASSERT_TRUE((*opened)->Claim().ok());
  EXPECT_EQ(Read("LOCK"), std::to_string(getpid()));
}

TEST_F(DataDirectoryTest, NewerFormatIsRefusedByName) {
  Write("FORMAT", "onggi-data 2\n");
  const auto opened = DataDirectory::Open(path_);
  EXPECT_EQ(opened.status().code(), Code::kCorruption);
  EXPECT_THAT(opened.status().message(), HasSubstr(path_ + "/FORMAT"));
  EXPECT_THAT(opened.status().message(), HasSubstr("format 2, newer"));
  EXPECT_EQ(Names(), (std::set<std::string>{"FORMAT"}));
  EXPECT_EQ(Read("FORMAT"), "onggi-data 2\n");
}

TEST_F(DataDirectoryTest, MalformedFormatIsRefused) {
  for (const char* content :
       {"", "something else\n", "onggi-data x\n", "onggi-data 0\n", "onggi-data "}) {
    Write("FORMAT", content);
    EXPECT_EQ(DataDirectory::Open(path_).status().code(), Code::kCorruption) << content;
    EXPECT_EQ(Read("FORMAT"), content);
  }
}

TEST_F(DataDirectoryTest, ForeignDirectoryIsLeftUntouched) {
  Write("thesis.tex", "years of work");
  const auto opened = DataDirectory::Open(path_);
  EXPECT_EQ(opened.status().code(), Code::kCorruption);
  EXPECT_THAT(opened.status().message(), HasSubstr("not an Onggi data directory"));
  EXPECT_EQ(Names(), (std::set<std::string>{"thesis.tex"}));
}

TEST_F(DataDirectoryTest, LostFormatFileOfADataDirectoryIsRefused) {
  { ASSERT_TRUE(DataDirectory::Open(path_).ok()); }
  fs::create_directories(path_ + "/log");
  fs::remove(path_ + "/FORMAT");
  EXPECT_EQ(DataDirectory::Open(path_).status().code(), Code::kCorruption);
}

TEST_F(DataDirectoryTest, CrashWhileItIsMadeIsMendedByTheNextOpen) {
  Write("LOCK", "");
  Write("FORMAT.new", "ong");
  const auto opened = DataDirectory::Open(path_);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  EXPECT_TRUE((*opened)->created());
  EXPECT_EQ(Read("FORMAT"), "onggi-data 1\n");
  EXPECT_EQ(Names(), (std::set<std::string>{"FORMAT", "LOCK"}));
}

TEST_F(DataDirectoryTest, FileInItsPlaceIsRefused) {
  std::ofstream(path_) << "a file";
  EXPECT_EQ(DataDirectory::Open(path_).status().code(), Code::kIoError);
}

TEST_F(DataDirectoryTest, EmptyFileSystemIsNotForeign) {
  fs::create_directories(path_ + "/lost+found");
  EXPECT_TRUE(DataDirectory::Open(path_).ok());
}

TEST(DiskSpace, IsAskedOfTheOperatingSystem) {
  const auto space = QueryDiskSpace("/tmp");
  ASSERT_TRUE(space.ok());
  EXPECT_GT(space->total_bytes, space->available_bytes);
  EXPECT_EQ(QueryDiskSpace("/no such place").status().code(), Code::kIoError);
}

TEST_F(DataDirectoryTest, WriteFileSyncedReplacesWhatWasThere) {
  Write("x", "longer than that");
  ASSERT_TRUE(WriteFileSynced(path_ + "/x", "short").ok());
  EXPECT_EQ(Read("x"), "short");
  EXPECT_EQ(WriteFileSynced(path_ + "/no/x", "short").code(), Code::kIoError);
}

}  // namespace
}  // namespace onggi::storage
