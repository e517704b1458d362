#include "replication/group/epoch_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace onggi::group {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

LogPosition At(uint64_t epoch, uint64_t index) { return {Epoch(epoch), LogIndex(index)}; }

TEST(EpochRuns, KnowsEachEntrysEpochThroughAppendDropAndAdvance) {
  EpochRuns runs;
  EXPECT_EQ(runs.last(), LogIndex(0));
  runs.Append(Epoch(1), LogIndex(3));
  runs.Append(Epoch(1), LogIndex(4));
  runs.Append(Epoch(4), LogIndex(6));
  EXPECT_EQ(runs.EpochAt(LogIndex(0)), Epoch(0));
  EXPECT_EQ(runs.EpochAt(LogIndex(4)), Epoch(1));
  EXPECT_EQ(runs.EpochAt(LogIndex(5)), Epoch(4));
  EXPECT_EQ(runs.EpochAt(LogIndex(7)), Epoch(0));
  EXPECT_THAT(runs.Between(LogIndex(1), LogIndex(6)), ElementsAre(At(1, 2), At(4, 5)));
  EXPECT_THAT(runs.Between(LogIndex(4), LogIndex(5)), ElementsAre(At(4, 5)));
  EXPECT_THAT(runs.Between(LogIndex(6), LogIndex(6)), IsEmpty());
  EXPECT_EQ(runs.RunStart(LogIndex(6)), LogIndex(5));
  runs.AdvanceBase(At(1, 2));
  EXPECT_EQ(runs.EpochAt(LogIndex(1)), Epoch(0));
  EXPECT_EQ(runs.EpochAt(LogIndex(2)), Epoch(1));
  EXPECT_EQ(runs.RunStart(LogIndex(4)), LogIndex(3));
  runs.DropSuffix(LogIndex(5));
  EXPECT_EQ(runs.LastPosition(), At(1, 4));
  runs.Append(Epoch(3), LogIndex(5));
  EXPECT_EQ(runs.LastPosition(), At(3, 5));
  runs.AdvanceBase(At(7, 9));
  EXPECT_EQ(runs.LastPosition(), At(7, 9));
  EXPECT_EQ(runs.EpochAt(LogIndex(5)), Epoch(0));
}

}  // namespace
}  // namespace onggi::group
