#include "replication/replica/window.h"

#include <gtest/gtest.h>

namespace onggi::replica {
namespace {

LogPosition At(uint64_t epoch, uint64_t index) { return {Epoch(epoch), LogIndex(index)}; }

TEST(Payload, IsSharedWithoutACopyOnceSomebodyAsks) {
  Payload payload(std::string("some bytes that are long enough to be on the heap"));
  const char* const bytes = payload.view().data();
  const auto shared = payload.Share();
  EXPECT_EQ(shared->data(), bytes);
  EXPECT_EQ(payload.view().data(), bytes);
  EXPECT_EQ(payload.Share(), shared);
  EXPECT_EQ(Payload(shared).view(), payload.view());
  EXPECT_EQ(Payload().size(), 0u);
  EXPECT_EQ(Payload(std::shared_ptr<const std::string>()).view(), "");
}

TEST(Window, HoldsTheEndOfALog) {
  Window window;
  window.Reset(LogIndex(5));
  EXPECT_TRUE(window.empty());
  EXPECT_EQ(window.first(), LogIndex(5));
  for (uint64_t i = 5; i < 10; ++i) {
    window.Push(At(2, i), static_cast<uint8_t>(i), Payload(std::to_string(i)));
  }
  EXPECT_EQ(window.first(), LogIndex(5));
  EXPECT_EQ(window.next(), LogIndex(10));
  EXPECT_EQ(window.At(LogIndex(7)).payload.view(), "7");
  EXPECT_EQ(window.At(LogIndex(7)).type, 7);
  window.PopThrough(LogIndex(6));
  EXPECT_EQ(window.first(), LogIndex(7));
  EXPECT_EQ(window.At(LogIndex(7)).payload.view(), "7");
  window.DropSuffix(LogIndex(9));
  EXPECT_EQ(window.next(), LogIndex(9));
  window.Push(At(3, 9), 1, Payload(std::string("again")));
  EXPECT_EQ(window.At(LogIndex(9)).payload.view(), "again");
}

TEST(Window, CountsItsBytesBothWays) {
  Window window;
  const size_t empty = window.bytes();
  window.Push(At(1, 1), 0, Payload(std::string(1000, 'x')));
  window.Push(At(1, 2), 0, Payload(std::string(1000, 'x')));
  EXPECT_GE(window.bytes(), 2000u);
  window.PopThrough(LogIndex(1));
  window.DropSuffix(LogIndex(2));
  EXPECT_EQ(window.bytes(), empty);
}

TEST(Window, SuffixBeforeItsFirstEntryEmptiesIt) {
  Window window;
  window.Reset(LogIndex(10));
  window.Push(At(1, 10), 0, Payload());
  window.DropSuffix(LogIndex(4));  // entries before 10 were given up for memory
  EXPECT_TRUE(window.empty());
  EXPECT_EQ(window.next(), LogIndex(4));
}

}  // namespace
}  // namespace onggi::replica
