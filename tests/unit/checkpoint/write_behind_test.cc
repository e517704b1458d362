#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>
#include <vector>

#include "replication/checkpoint/files.h"
#include "tests/unit/common/certificates.h"

/// How a copy goes to the disk: what the system is asked to write before the file is synced.
namespace onggi::checkpoint {
namespace {

struct Range {
  uint64_t begin, end;
  unsigned flags;
};

std::mutex mutex;
std::vector<Range> asked;  // guarded by mutex

std::vector<Range> TakeAsked() {
  std::scoped_lock lock(mutex);
  return std::exchange(asked, {});
}

}  // namespace
}  // namespace onggi::checkpoint

/// In the place of the C library's: this program's calls come here.
extern "C" int sync_file_range(int file, off64_t offset, off64_t size, unsigned flags) {
  {
    std::scoped_lock lock(onggi::checkpoint::mutex);
    onggi::checkpoint::asked.push_back(
        {static_cast<uint64_t>(offset), static_cast<uint64_t>(offset + size), flags});
  }
  return static_cast<int>(::syscall(SYS_sync_file_range, file, offset, size, flags));
}

namespace onggi::checkpoint {
namespace {

constexpr uint64_t kMegabyte = 1 << 20;

class WriteBehind : public testing::Test {
 protected:
  void Begin(PartialDirectory* partial, uint64_t bytes) {
    FileInfo file;
    file.name = "000001.sst";
    file.bytes = bytes;
    ASSERT_TRUE(partial->Begin(file, 0).ok());
    (void)TakeAsked();
    begun_ = waited_ = 0;
  }
  /// Looks at what has been asked for since; `written`: so far.
  void Follow(uint64_t written) {
    for (const Range& range : TakeAsked()) {
      if (range.flags == SYNC_FILE_RANGE_WRITE) {
        EXPECT_EQ(range.begin, begun_);
        EXPECT_LE(range.end, written);
        begun_ = range.end;
      } else {
        EXPECT_EQ(range.flags, unsigned{SYNC_FILE_RANGE_WAIT_BEFORE});
        EXPECT_EQ(range.begin, waited_);
        EXPECT_LE(range.end, begun_);
        waited_ = range.end;
      }
    }
  }

  TestDirectory directory_;
  uint64_t begun_ = 0;   ///< on its way up to here
  uint64_t waited_ = 0;  ///< and there
};

TEST_F(WriteBehind, ACopyGoesToTheDiskInPiecesOfAMegabyte) {
  auto partial = PartialDirectory::Open(directory_.path() + "/copy");
  ASSERT_TRUE(partial.ok());
  Begin(&*partial, 16 * kMegabyte);
  const std::string chunk(256 << 10, 'x');  // as the sender cuts them
  for (uint64_t written = chunk.size(); written <= 16 * kMegabyte; written += chunk.size()) {
    ASSERT_TRUE(partial->Write(chunk).ok());
    Follow(written);
    ASSERT_LT(written - begun_, kMegabyte) << "gathers in memory";
    ASSERT_LE(begun_ - waited_, kMegabyte) << "stands in the disk's queue";
    // A sync makes all of it durable: the pieces begin anew behind it.
    if (written == 5 * kMegabyte + chunk.size()) {
      ASSERT_TRUE(partial->Sync().ok());
      begun_ = waited_ = written;
    }
  }
}

}  // namespace
}  // namespace onggi::checkpoint
