#include "server/storage/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace onggi::storage {
namespace {

class FilesTest : public ::testing::Test {
 protected:
  FilesTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "onggi-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~FilesTest() override { std::filesystem::remove_all(path_); }

  std::string path_;
  const Files files_;
};

TEST_F(FilesTest, WritesAndReadsWholeFiles) {
  const std::string file = path_ + "/x";
  EXPECT_EQ(files_.Read(file).status().code(), Code::kNotFound);
  const std::string large(100'000, 'y');
  ASSERT_TRUE(files_.WriteSynced(file, large).ok());
  EXPECT_EQ(*files_.Read(file), large);
  ASSERT_TRUE(files_.WriteSynced(file, "short").ok());
  EXPECT_EQ(*files_.Read(file), "short");
  ASSERT_TRUE(files_.SyncDirectory(path_).ok());
  EXPECT_EQ(files_.WriteSynced(path_ + "/no/x", "short").code(), Code::kIoError);
  EXPECT_EQ(files_.SyncDirectory(path_ + "/no").code(), Code::kIoError);
}

TEST_F(FilesTest, MakesAndListsDirectories) {
  ASSERT_TRUE(files_.MakeDirectories(path_ + "/a/b/c").ok());
  ASSERT_TRUE(files_.MakeDirectories(path_ + "/a/b").ok());
  ASSERT_TRUE(files_.WriteSynced(path_ + "/a/file", "").ok());
  ASSERT_TRUE(files_.MakeDirectories(path_ + "/a/d/").ok());
  EXPECT_THAT(*files_.ListDirectories(path_ + "/a"), ::testing::UnorderedElementsAre("b", "d"));
  EXPECT_FALSE(files_.MakeDirectories(path_ + "/a/file/x").ok());
  EXPECT_FALSE(files_.ListDirectories(path_ + "/no").ok());
}

TEST_F(FilesTest, RenamesInPlaceOfAFile) {
  ASSERT_TRUE(files_.WriteSynced(path_ + "/old", "1").ok());
  ASSERT_TRUE(files_.WriteSynced(path_ + "/new", "2").ok());
  ASSERT_TRUE(files_.Rename(path_ + "/new", path_ + "/old").ok());
  EXPECT_EQ(*files_.Read(path_ + "/old"), "2");
  EXPECT_FALSE(files_.Exists(path_ + "/new"));
  EXPECT_EQ(files_.Rename(path_ + "/new", path_ + "/x").code(), Code::kIoError);
}

TEST_F(FilesTest, RemovesADirectoryWithAllThatIsInIt) {
  ASSERT_TRUE(files_.MakeDirectories(path_ + "/a/b").ok());
  ASSERT_TRUE(files_.WriteSynced(path_ + "/a/b/x", "1").ok());
  ASSERT_TRUE(files_.WriteSynced(path_ + "/a/y", "2").ok());
  ASSERT_TRUE(files_.Remove(path_ + "/a").ok());
  EXPECT_FALSE(files_.Exists(path_ + "/a"));
  EXPECT_TRUE(files_.Remove(path_ + "/a").ok());
}

}  // namespace
}  // namespace onggi::storage
