#include "server/partition/effects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/write_batch.h>

namespace onggi::partition {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

PartitionStatistics Figures() {
  PartitionStatistics statistics;
  statistics.item_count = 3;
  statistics.item_bytes = 1'000'000'007;
  statistics.local_indexes = {{1, 2}, {uint64_t{1} << 40, 5}};
  return statistics;
}

bool Same(const PartitionStatistics& a, const PartitionStatistics& b) {
  if (a.item_count != b.item_count || a.item_bytes != b.item_bytes ||
      a.local_indexes.size() != b.local_indexes.size()) {
    return false;
  }
  for (size_t i = 0; i < a.local_indexes.size(); ++i) {
    if (a.local_indexes[i].entry_count != b.local_indexes[i].entry_count ||
        a.local_indexes[i].entry_bytes != b.local_indexes[i].entry_bytes) {
      return false;
    }
  }
  return true;
}

TEST(AppliedState, ComesBackAsItWas) {
  AppliedState state;
  state.epoch = Epoch(9);
  state.index = LogIndex(1'234'567);
  state.statistics = Figures();
  std::string bytes;
  state.EncodeTo(&bytes);
  const Result<AppliedState> decoded = AppliedState::Decode(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->epoch, state.epoch);
  EXPECT_EQ(decoded->index, state.index);
  EXPECT_TRUE(Same(decoded->statistics, state.statistics));
}

TEST(AppliedState, RefusesEveryCutAndAnythingBehindIt) {
  AppliedState state;
  state.epoch = Epoch(9);
  state.index = LogIndex(300);
  state.statistics = Figures();
  std::string bytes;
  state.EncodeTo(&bytes);
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto decoded = AppliedState::Decode(std::string_view(bytes).substr(0, size));
    ASSERT_FALSE(decoded.ok()) << size;
    EXPECT_EQ(decoded.status().code(), Code::kCorruption);
  }
  EXPECT_FALSE(AppliedState::Decode(bytes + "x").ok());
}

TEST(AppliedState, RefusesANewerVersion) {
  AppliedState state;
  std::string bytes;
  state.EncodeTo(&bytes);
  bytes[0] = 3;
  EXPECT_THAT(AppliedState::Decode(bytes).status().message(), HasSubstr("version"));
}

TEST(AppliedState, RefusesMoreIndexesThanBytes) {
  // Version, epoch, index, items, bytes, and a count of indexes that would take terabytes.
  const std::string bytes("\x01\x01\x01\x01\x01\xff\xff\xff\xff\xff\x0f", 11);
  EXPECT_EQ(AppliedState::Decode(bytes).status().code(), Code::kCorruption);
}

std::string Payload() {
  EffectWriter writer;
  writer.Put(kItemSpace, "key", "value");
  writer.Delete(kItemSpace, std::string_view("\0gone", 5));
  writer.Put(kLocalIndexSpace, "", "");
  EXPECT_FALSE(writer.empty());
  std::string payload = writer.Finish(Figures());
  EXPECT_TRUE(writer.empty());
  return payload;
}

TEST(Effects, AreWalkedInOrderWithTheFiguresAfterThem) {
  std::vector<std::pair<std::string, std::optional<std::string>>> seen;
  PartitionStatistics statistics;
  const Status status = ForEachEffect(
      Payload(), &statistics, [&](std::string_view key, std::optional<std::string_view> value) {
        seen.emplace_back(key, value ? std::optional<std::string>(*value) : std::nullopt);
      });
  ASSERT_TRUE(status.ok());
  EXPECT_TRUE(Same(statistics, Figures()));
  using Effect = std::pair<std::string, std::optional<std::string>>;
  EXPECT_THAT(seen,
              ElementsAre(Effect("\x02key", "value"),
                          Effect(std::string("\x02\0gone", 6), std::nullopt), Effect("\x10", "")));
}

TEST(Effects, FillABatch) {
  rocksdb::WriteBatch batch;
  PartitionStatistics statistics;
  ASSERT_TRUE(ReplayEffects(Payload(), &batch, &statistics).ok());
  EXPECT_EQ(batch.Count(), 3u);
}

TEST(Effects, RefuseDamageWithoutReadingPastTheEnd) {
  const std::string good = Payload();
  const auto ignore = [](std::string_view, std::optional<std::string_view>) {};
  size_t refused = 0;
  for (size_t size = 0; size < good.size(); ++size) {
    // Own memory of exactly this size, so that a sanitizer sees a read past it.
    const std::string cut(good, 0, size);
    refused += !ForEachEffect(cut, nullptr, ignore).ok();
  }
  EXPECT_GT(refused, good.size() - 4);  // a cut between two effects is the log checksum's to find
  std::string newer = good;
  newer[0] = 3;
  EXPECT_EQ(ForEachEffect(newer, nullptr, ignore).code(), Code::kCorruption);
  // A put's value cannot be told from its key: whatever the bytes, it is an answer, not a crash.
  for (size_t at = 0; at < good.size(); ++at) {
    for (const char byte : {'\x00', '\x03', '\x7f', '\xff'}) {
      std::string damaged = good;
      damaged[at] = byte;
      PartitionStatistics statistics;
      (void)ForEachEffect(damaged, &statistics, ignore);
    }
  }
}

}  // namespace
}  // namespace onggi::partition
