#include "server/storage/disk_watch.h"

#include <gtest/gtest.h>

namespace onggi::storage {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

/// A file system whose free space the test sets.
struct FakeSpace {
  std::atomic<uint64_t> available{1000 * kMiB};
  std::atomic<uint64_t> total{2000 * kMiB};
  std::atomic<bool> fails{false};
  std::atomic<uint64_t> asked{0};

  DiskWatch::Query query() {
    return [this](const std::string& path) -> Result<DiskSpace> {
      EXPECT_EQ(path, "/disk");
      asked.fetch_add(1);
      if (fails) return Status(Code::kIoError, "injected");
      return DiskSpace{available, total};
    };
  }
  /// Returns when the watch has taken note of what is set now.
  void Seen() const {
    const uint64_t before = asked;
    while (asked < before + 3) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
};

TEST(DiskWatch, RefusesBelowTheReserveAndAcceptsAQuarterAboveIt) {
  FakeSpace space;
  DiskWatch watch("/disk", 100 * kMiB, std::chrono::milliseconds(1), space.query());
  EXPECT_FALSE(watch.low());
  space.available = 100 * kMiB;
  space.Seen();
  EXPECT_FALSE(watch.low());
  space.available = 100 * kMiB - 1;
  space.Seen();
  EXPECT_TRUE(watch.low());
  EXPECT_EQ(watch.available_bytes(), 100 * kMiB - 1);
  space.available = 125 * kMiB - 1;
  space.Seen();
  EXPECT_TRUE(watch.low());
  space.available = 125 * kMiB;
  space.Seen();
  EXPECT_FALSE(watch.low());
  space.available = 110 * kMiB;
  space.Seen();
  EXPECT_FALSE(watch.low());
}

TEST(DiskWatch, CountsWhatIsPromisedAsUsed) {
  FakeSpace space;
  space.available = 150 * kMiB;
  DiskWatch watch("/disk", 100 * kMiB, std::chrono::milliseconds(1), space.query());
  space.Seen();
  EXPECT_FALSE(watch.low());
  std::atomic<uint64_t> promised{51 * kMiB};
  watch.SetPromised([&] { return promised.load(); });
  space.Seen();
  EXPECT_TRUE(watch.low());
  promised = 0;
  space.Seen();
  EXPECT_FALSE(watch.low());
  watch.SetPromised(nullptr);
}

TEST(DiskWatch, KnowsBeforeTheFirstRequest) {
  FakeSpace space;
  space.available = kMiB;
  const DiskWatch watch("/disk", 100 * kMiB, std::chrono::hours(1), space.query());
  EXPECT_TRUE(watch.low());
}

TEST(DiskWatch, ReservesATwentiethWithinBounds) {
  const auto reserve = [](uint64_t total) {
    FakeSpace space;
    space.total = total;
    const DiskWatch watch("/disk", 0, std::chrono::hours(1), space.query());
    return watch.reserve_bytes();
  };
  EXPECT_EQ(reserve(100 * kMiB), 32 * kMiB);
  EXPECT_EQ(reserve(2000 * kMiB), 100 * kMiB);
  EXPECT_EQ(reserve(uint64_t{1} << 50), 1024 * kMiB);
}

TEST(DiskWatch, KeepsItsMindWhenTheQueryFails) {
  FakeSpace space;
  space.available = kMiB;
  DiskWatch watch("/disk", 100 * kMiB, std::chrono::milliseconds(1), space.query());
  EXPECT_TRUE(watch.low());
  space.fails = true;
  space.available = 1000 * kMiB;
  space.Seen();
  EXPECT_TRUE(watch.low());
  space.fails = false;
  space.Seen();
  EXPECT_FALSE(watch.low());
}

}  // namespace
}  // namespace onggi::storage
