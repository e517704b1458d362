#include "replication/log/log_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <random>
#include <thread>

#include "replication/log/format.h"
#include "replication/log/segment.h"
#include "tests/unit/log/fake_disk.h"

namespace onggi::log {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kNoLimit = 1ull << 40;

class Recorder : public AppendListener {
 public:
  void OnDurable(PartitionId partition, LogPosition position, const Status& status) override {
    std::lock_guard lock(mutex_);
    calls_.push_back({partition, position, status});
    changed_.notify_all();
  }
  struct Call {
    PartitionId partition;
    LogPosition position;
    Status status;
  };
  std::vector<Call> calls() {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  LogIndex Last(PartitionId partition) {
    std::lock_guard lock(mutex_);
    LogIndex last;
    for (const Call& call : calls_)
      if (call.partition == partition && call.status.ok()) last = call.position.index;
    return last;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Call> calls_;
};

class LogStoreTest : public ::testing::Test {
 protected:
  LogStoreTest() {
    options_.directory = "/log";
    options_.file_system = &disk_;
    options_.segment_bytes = 64 << 10;
    options_.initial_segment_bytes = 64 << 10;
    options_.reserve_bytes = 0;
    options_.space_check_interval = std::chrono::milliseconds(5);
  }

  void Open() {
    Result<std::unique_ptr<LogStore>> log = LogStore::Open(options_);
    ASSERT_TRUE(log.ok()) << log.status().ToString();
    log_ = std::move(*log);
  }
  void Reopen() {
    log_.reset();
    Open();
  }
  // Without the seal that Close writes: what kill -9 leaves.
  void KillAndOpen() {
    Kill();
    Open();
  }
  void Kill() {
    const auto files = disk_.Snapshot();
    log_.reset();
    disk_.Restore(files);
  }

  Status Append(uint64_t partition, uint64_t index, std::string_view payload, uint64_t epoch = 1,
                std::shared_ptr<AppendListener> listener = nullptr) {
    EntryView entry;
    entry.epoch = Epoch(epoch);
    entry.index = LogIndex(index);
    entry.type = static_cast<uint8_t>(index);
    entry.payload = payload;
    return log_->Append(PartitionId(partition), std::span(&entry, 1), std::move(listener));
  }
  // Appends and waits, so that it is a batch of its own.
  void AppendAlone(uint64_t partition, uint64_t index, std::string_view payload,
                   uint64_t epoch = 1) {
    ASSERT_EQ(Append(partition, index, payload, epoch), Status());
    ASSERT_EQ(log_->Flush(), Status());
  }
  std::vector<std::string> Payloads(uint64_t partition, uint64_t from = 0) {
    const PartitionId id(partition);
    LogIndex next = from == 0 ? log_->FirstIndex(id) : LogIndex(from);
    std::vector<std::string> payloads;
    for (;;) {
      Result<std::vector<Entry>> entries = log_->Read(id, next, 64 << 10);
      EXPECT_TRUE(entries.ok()) << entries.status().ToString();
      if (!entries.ok() || entries->empty()) return payloads;
      for (const Entry& entry : *entries) {
        EXPECT_EQ(entry.index, next);
        EXPECT_EQ(entry.type, static_cast<uint8_t>(next.value));
        EXPECT_EQ(entry.epoch, log_->EpochAt(id, next));
        next = LogIndex(next.value + 1);
        payloads.push_back(entry.payload);
      }
    }
  }
  static std::string Path(uint64_t number) { return "/log/" + SegmentName(kLiveName, number); }
  Status OpenError() {
    log_.reset();
    return LogStore::Open(options_).status();
  }
  template <class F>
  void Eventually(F condition) {
    bool holds = condition();
    for (int i = 0; i < 2000 && !holds; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      holds = condition();
    }
    EXPECT_TRUE(holds);
  }

  FakeDisk disk_;
  LogOptions options_;
  std::unique_ptr<LogStore> log_;
};

TEST_F(LogStoreTest, ReadsBackWhatWasAppendedBeforeAndAfterReopening) {
  Open();
  AppendAlone(7, 1, "one");
  AppendAlone(9, 41, "other");
  AppendAlone(7, 2, "", 3);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(Payloads(7), ElementsAre("one", ""));
    EXPECT_THAT(Payloads(9), ElementsAre("other"));
    EXPECT_EQ(log_->FirstIndex(PartitionId(9)), LogIndex(41));
    EXPECT_EQ(log_->LastIndex(PartitionId(7)), LogIndex(2));
    EXPECT_EQ(log_->EpochAt(PartitionId(7), LogIndex(1)), Epoch(1));
    EXPECT_EQ(log_->EpochAt(PartitionId(7), LogIndex(2)), Epoch(3));
    EXPECT_EQ(log_->EpochAt(PartitionId(7), LogIndex(3)), Epoch(0));
    EXPECT_THAT(log_->Partitions(), UnorderedElementsAre(PartitionId(7), PartitionId(9)));
    EXPECT_EQ(log_->FirstIndex(PartitionId(1)), LogIndex(1));
    EXPECT_EQ(log_->LastIndex(PartitionId(1)), LogIndex(0));
    Reopen();
  }
  AppendAlone(7, 3, "three", 3);
  EXPECT_THAT(Payloads(7), ElementsAre("one", "", "three"));
}

TEST_F(LogStoreTest, TellsListenersOnlyOnceDurableAndOncePerRun) {
  std::mutex gate;
  Open();
  AppendAlone(1, 1, "first");
  auto listener = std::make_shared<Recorder>();
  {
    std::unique_lock hold(gate);
    disk_.set_on_sync([&](const std::string&) {
      std::lock_guard wait(gate);
      return Status();
    });
    ASSERT_EQ(Append(1, 2, "x", 1, listener), Status());
    Eventually([&] { return log_->Stats().queued_appends == 1; });
    // These wait for the sync under way and then share one.
    for (uint64_t i = 3; i <= 10; ++i) ASSERT_EQ(Append(1, i, "x", 1, listener), Status());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_THAT(listener->calls(), IsEmpty());
  }
  ASSERT_EQ(log_->Flush(), Status());
  EXPECT_EQ(listener->Last(PartitionId(1)), LogIndex(10));
  EXPECT_LE(listener->calls().size(), 3u);
  log_.reset();
}

TEST_F(LogStoreTest, ReadStopsAtTheByteLimitButGivesAtLeastOneEntry) {
  Open();
  for (uint64_t i = 1; i <= 20; ++i) AppendAlone(1, i, std::string(50, 'a'));
  EXPECT_EQ(log_->Read(PartitionId(1), LogIndex(1), 0)->size(), 1u);
  EXPECT_EQ(log_->Read(PartitionId(1), LogIndex(4), 175)->size(), 3u);
  EXPECT_EQ(log_->Read(PartitionId(1), LogIndex(4), kNoLimit)->size(), 17u);
  EXPECT_THAT(*log_->Read(PartitionId(1), LogIndex(21), 100), IsEmpty());
}

TEST_F(LogStoreTest, CutsATornTailAtEveryByte) {
  Open();
  AppendAlone(1, 1, "kept");
  AppendAlone(2, 1, "kept too");
  Kill();
  const auto before = disk_.Snapshot();
  Open();
  uint64_t batch_bytes = 0;
  disk_.set_on_write([&](const std::string&, uint64_t, size_t size) {
    if (batch_bytes == 0) batch_bytes = size;
    return Status();
  });
  AppendAlone(1, 2, "a payload that may be torn anywhere");
  disk_.set_on_write(nullptr);
  Kill();
  const auto after = disk_.Snapshot();
  ASSERT_GT(batch_bytes, kBatchHeaderBytes);
  const std::string& old_bytes = before.at(Path(1));
  const std::string& new_bytes = after.at(Path(1));
  size_t at = 0;
  while (old_bytes[at] == new_bytes[at]) ++at;
  // The last bytes are padding, which nothing depends on.
  const uint64_t significant = kBatchHeaderBytes + kRecordHeaderBytes + 35;
  for (uint64_t cut = 0; cut < significant; ++cut) {
    auto torn = before;
    torn[Path(1)].replace(at, cut, new_bytes, at, cut);
    disk_.Restore(torn);
    Open();
    EXPECT_THAT(Payloads(1), ElementsAre("kept")) << cut;
    EXPECT_THAT(Payloads(2), ElementsAre("kept too")) << cut;
    AppendAlone(1, 2, "again", 2);
    KillAndOpen();
    EXPECT_THAT(Payloads(1), ElementsAre("kept", "again")) << cut;
    log_.reset();
  }
}

TEST_F(LogStoreTest, RefusesDamageBeforeTheDurableEndAndChangesNothing) {
  Open();
  for (uint64_t i = 1; i <= 5; ++i) AppendAlone(1, i, "payload " + std::to_string(i));
  Kill();
  const auto good = disk_.Snapshot();
  const std::string& bytes = good.at(Path(1));
  const size_t end = bytes.rfind("payload 4");
  for (size_t at = kSegmentHeaderBytes; at < end; ++at) {
    auto damaged = good;
    if (bytes[at] == 0) continue;  // perhaps padding
    damaged[Path(1)][at] ^= 1;
    disk_.Restore(damaged);
    const Status status = OpenError();
    ASSERT_EQ(status.code(), Code::kCorruption) << at;
    ASSERT_THAT(status.message(), HasSubstr(Path(1) + ": damaged at offset"));
    ASSERT_EQ(disk_.Snapshot(), damaged);
  }
}

TEST_F(LogStoreTest, ACleanStopMakesDamageToTheLastEntryVisible) {
  Open();
  AppendAlone(1, 1, "only");
  log_.reset();
  std::string& bytes = disk_.Bytes(Path(1));
  bytes[bytes.rfind("only")] ^= 1;
  EXPECT_EQ(OpenError().code(), Code::kCorruption);
}

TEST_F(LogStoreTest, RefusesANewerFormatADamagedHeaderAndAMissingSegment) {
  Open();
  for (uint64_t i = 1; i <= 40; ++i) AppendAlone(1, i, std::string(5000, 'x'));
  Kill();
  const auto good = disk_.Snapshot();
  ASSERT_GE(disk_.CountNames("log-"), 3u);

  disk_.Bytes(Path(2))[8] = 2;
  Status status = OpenError();
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_EQ(status.message(), Path(2) + ": log format version 2 is newer than this program's 1");

  disk_.Restore(good);
  disk_.Bytes(Path(2))[20] ^= 1;
  EXPECT_THAT(OpenError().message(), HasSubstr(Path(2) + ": the segment header is damaged"));

  disk_.Restore(good);
  disk_.Bytes(Path(1)) = "something else";
  EXPECT_THAT(OpenError().message(), HasSubstr(Path(1) + ": not a log segment"));

  disk_.Restore(good);
  ASSERT_EQ(disk_.Remove(Path(2)), Status());
  EXPECT_EQ(OpenError().message(), Path(2) + ": is missing");

  disk_.Restore(good);
  disk_.Bytes(Path(2)).resize(9000);
  EXPECT_THAT(OpenError().message(), HasSubstr(Path(2) + ": has 9000 bytes instead of"));

  // A segment's first batch, of which the next segment is the proof.
  disk_.Restore(good);
  disk_.Bytes(Path(2))[kSegmentHeaderBytes + 20] ^= 1;
  EXPECT_THAT(OpenError().message(), HasSubstr("damaged at offset"));

  disk_.Restore(good);
  Open();
  EXPECT_EQ(Payloads(1).size(), 40u);
}

TEST_F(LogStoreTest, RecyclesSegmentsAndNeverReadsTheirFormerLife) {
  Open();
  const std::string payload(5000, 'p');
  std::vector<std::string> expected;
  for (uint64_t i = 1; i <= 400; ++i) {
    AppendAlone(1, i, payload + std::to_string(i));
    if (i % 20 == 0) log_->Truncate(PartitionId(1), LogIndex(i - 5));
    if (i % 57 == 0) {
      KillAndOpen();
      EXPECT_EQ(log_->LastIndex(PartitionId(1)), LogIndex(i));
    }
  }
  Eventually([&] { return disk_.CountNames("log-") <= 4; });
  EXPECT_LE(disk_.CountNames("free-"), options_.max_free_segments);
  EXPECT_LE(log_->Stats().segments, 3u);
  Reopen();
  for (uint64_t i = 396; i <= 400; ++i) expected.push_back(payload + std::to_string(i));
  EXPECT_EQ(Payloads(1, 396), expected);
}

TEST_F(LogStoreTest, SaysWhichPartitionsPinTheOldestSegments) {
  Open();
  AppendAlone(1, 1, "pins the first segment");
  for (uint64_t i = 1; i <= 50; ++i) AppendAlone(2, i, std::string(5000, 'x'));
  EXPECT_THAT(log_->Pinning(kNoLimit), IsEmpty());
  log_->Truncate(PartitionId(2), LogIndex(50));
  EXPECT_GE(log_->Stats().segments, 4u);
  EXPECT_THAT(log_->Pinning(128 << 10), ElementsAre(PartitionId(1)));
  log_->Truncate(PartitionId(1), LogIndex(1));
  EXPECT_EQ(log_->Stats().segments, 1u);
  EXPECT_THAT(log_->Pinning(0), IsEmpty());
}

TEST_F(LogStoreTest, TruncationIsKeptOutOfReadsAndMayRunAheadOfTheLog) {
  Open();
  for (uint64_t i = 1; i <= 10; ++i) AppendAlone(1, i, std::to_string(i), i);
  log_->Truncate(PartitionId(1), LogIndex(7));
  EXPECT_EQ(log_->FirstIndex(PartitionId(1)), LogIndex(8));
  EXPECT_EQ(log_->EpochAt(PartitionId(1), LogIndex(7)), Epoch(7));
  EXPECT_EQ(log_->EpochAt(PartitionId(1), LogIndex(6)), Epoch(0));
  EXPECT_EQ(log_->Read(PartitionId(1), LogIndex(7), 100).status().code(), Code::kNotFound);
  EXPECT_THAT(Payloads(1), ElementsAre("8", "9", "10"));
  log_->Truncate(PartitionId(1), LogIndex(100));
  EXPECT_EQ(log_->LastIndex(PartitionId(1)), LogIndex(100));
  AppendAlone(1, 101, "after", 11);
  EXPECT_THAT(Payloads(1), ElementsAre("after"));
  Reopen();
  EXPECT_EQ(log_->FirstIndex(PartitionId(1)), LogIndex(101));
  EXPECT_THAT(Payloads(1), ElementsAre("after"));
}

TEST_F(LogStoreTest, DropSuffixAndRemoveGroupSurviveReopening) {
  Open();
  for (uint64_t i = 1; i <= 6; ++i) ASSERT_EQ(Append(1, i, "old" + std::to_string(i)), Status());
  ASSERT_EQ(Append(2, 1, "gone"), Status());
  ASSERT_EQ(log_->DropSuffix(PartitionId(1), LogIndex(4)), Status());
  ASSERT_EQ(Append(1, 4, "new4", 2), Status());
  ASSERT_EQ(log_->RemoveGroup(PartitionId(2)), Status());
  ASSERT_EQ(Append(3, 1, "there"), Status());
  ASSERT_EQ(log_->RemoveGroup(PartitionId(3)), Status());
  ASSERT_EQ(Append(3, 9, "anew"), Status());
  ASSERT_EQ(log_->Flush(), Status());
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(Payloads(1), ElementsAre("old1", "old2", "old3", "new4"));
    EXPECT_THAT(Payloads(3), ElementsAre("anew"));
    EXPECT_THAT(log_->Partitions(), UnorderedElementsAre(PartitionId(1), PartitionId(3)));
    KillAndOpen();
  }
  ASSERT_EQ(log_->DropSuffix(PartitionId(1), LogIndex(1)), Status());
  AppendAlone(1, 1, "fresh", 3);
  KillAndOpen();
  EXPECT_THAT(Payloads(1), ElementsAre("fresh"));
}

TEST_F(LogStoreTest, AppendsOfSeveralEpochsAndLargerThanASegmentWork) {
  Open();
  const std::string large(300'000, 'L');
  std::vector<EntryView> entries(3);
  for (uint64_t i = 0; i < 3; ++i) {
    entries[i].epoch = Epoch(i / 2 + 1);
    entries[i].index = LogIndex(i + 1);
    entries[i].type = static_cast<uint8_t>(i + 1);
    entries[i].payload = large;
  }
  auto listener = std::make_shared<Recorder>();
  ASSERT_EQ(log_->Append(PartitionId(1), entries, listener), Status());
  ASSERT_EQ(log_->Flush(), Status());
  ASSERT_EQ(listener->calls().size(), 1u);
  EXPECT_EQ(listener->calls()[0].position, (LogPosition{Epoch(2), LogIndex(3)}));
  AppendAlone(1, 4, "small", 2);
  KillAndOpen();
  EXPECT_THAT(Payloads(1), ElementsAre(large, large, large, "small"));
  EXPECT_EQ(log_->EpochAt(PartitionId(1), LogIndex(2)), Epoch(1));
  EXPECT_EQ(log_->EpochAt(PartitionId(1), LogIndex(3)), Epoch(2));
}

TEST_F(LogStoreTest, RefusesAppendsWithoutSpaceAndRecoversWhenItReturns) {
  disk_.set_capacity(150 << 10);  // two segments
  Open();
  auto listener = std::make_shared<Recorder>();
  const std::string payload(3000, 'x');
  uint64_t index = 1;
  Status status;
  while ((status = Append(1, index, payload, 1, listener)).ok()) ++index;
  EXPECT_EQ(status.code(), Code::kOutOfSpace);
  // Everything that was accepted is kept.
  ASSERT_EQ(log_->Flush(), Status());
  EXPECT_EQ(listener->Last(PartitionId(1)), LogIndex(index - 1));
  EXPECT_GT(index, 35u);
  EXPECT_EQ(Payloads(1).size(), index - 1);
  disk_.set_capacity(1 << 20);
  Eventually([&] { return Append(1, index, payload, 1, listener).ok(); });
  ASSERT_EQ(log_->Flush(), Status());
  KillAndOpen();
  EXPECT_EQ(Payloads(1).size(), index);
}

TEST_F(LogStoreTest, RefusesAppendsBelowTheReserveOfFreeSpace) {
  options_.reserve_bytes = 1 << 20;
  disk_.set_capacity(4 << 20);
  Open();
  AppendAlone(1, 1, "x");
  disk_.set_capacity(1 << 20);
  uint64_t index = 2;
  Eventually([&] {
    const Status status = Append(1, index, "y");
    if (status.ok()) ++index;
    return status.code() == Code::kOutOfSpace;
  });
  EXPECT_TRUE(log_->Stats().out_of_space);
  EXPECT_THAT(Payloads(1).front(), "x");
  disk_.set_capacity(4 << 20);
  Eventually([&] { return Append(1, index, "z").ok(); });
}

TEST_F(LogStoreTest, RefusesPastTheQueueBound) {
  options_.max_queued_bytes = 10'000;
  Open();
  std::mutex gate;
  {
    std::unique_lock hold(gate);
    disk_.set_on_sync([&](const std::string&) {
      std::lock_guard wait(gate);
      return Status();
    });
    uint64_t index = 1;
    Status status;
    while ((status = Append(1, index, std::string(1000, 'x'))).ok()) ++index;
    EXPECT_EQ(status.code(), Code::kResourceExhausted);
    EXPECT_LE(index, 11u);
  }
  ASSERT_EQ(log_->Flush(), Status());
  EXPECT_EQ(log_->Stats().queued_bytes, 0u);
  log_.reset();
}

TEST_F(LogStoreTest, SaysWhenTheDiskHangs) {
  Open();
  constexpr auto kLimit = std::chrono::milliseconds(20);
  EXPECT_FALSE(log_->Stalled(kLimit));
  std::mutex gate;
  {
    std::unique_lock hold(gate);
    disk_.set_on_sync([&](const std::string&) {
      std::lock_guard wait(gate);
      return Status();
    });
    ASSERT_EQ(Append(1, 1, "x"), Status());
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!log_->Stalled(kLimit) && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_TRUE(log_->Stalled(kLimit));
    EXPECT_FALSE(log_->Stalled(std::chrono::minutes(1)));
  }
  ASSERT_EQ(log_->Flush(), Status());
  EXPECT_FALSE(log_->Stalled(kLimit));
  log_.reset();
}

TEST_F(LogStoreTest, AFailedWriteOrSyncOfAPromisedBatchIsFatal) {
  for (const bool sync : {false, true}) {
    disk_.Restore({});
    std::atomic<int> fatal = 0;
    options_.on_fatal = [&](const Status& status) {
      EXPECT_EQ(status.code(), Code::kIoError);
      ++fatal;
    };
    disk_.set_on_write(nullptr);
    disk_.set_on_sync(nullptr);
    Open();
    AppendAlone(1, 1, "good");
    std::atomic<bool> broken = true;
    if (sync) {
      disk_.set_on_sync([&](const std::string& path) {
        return broken && path.ends_with("01") ? IoError("fdatasync", path, EIO) : Status();
      });
    } else {
      disk_.set_on_write([&](const std::string& path, uint64_t, size_t) {
        return broken && path.ends_with("01") ? IoError("pwritev", path, EIO) : Status();
      });
    }
    auto listener = std::make_shared<Recorder>();
    ASSERT_EQ(Append(1, 2, "promised", 1, listener), Status());
    EXPECT_EQ(log_->Flush().code(), Code::kUnknownOutcome);
    EXPECT_EQ(Append(1, 3, "refused").code(), Code::kUnavailable);
    log_.reset();
    EXPECT_EQ(fatal, 1);
    ASSERT_EQ(listener->calls().size(), 1u);
    EXPECT_EQ(listener->calls()[0].status.code(), Code::kUnknownOutcome);
    broken = false;
    Open();
    EXPECT_EQ(Payloads(1).front(), "good");
    log_.reset();
  }
}

TEST_F(LogStoreTest, RelaxedDurabilityCompletesBeforeTheSyncWhichFollows) {
  options_.durability = Durability::kRelaxed;
  options_.relaxed_interval = std::chrono::milliseconds(20);
  Open();
  auto listener = std::make_shared<Recorder>();
  std::atomic<int> syncs = 0;
  disk_.set_on_sync([&](const std::string& path) {
    if (path.ends_with("01")) ++syncs;
    return Status();
  });
  for (uint64_t i = 1; i <= 5; ++i) {
    ASSERT_EQ(Append(1, i, "x", 1, listener), Status());
    Eventually([&] { return listener->Last(PartitionId(1)) == LogIndex(i); });
  }
  Eventually([&] { return syncs >= 1; });
  EXPECT_LE(syncs, 3);
  ASSERT_EQ(Append(1, 6, "x", 1, listener), Status());
  ASSERT_EQ(log_->Flush(), Status());
  disk_.Crash(0);
  EXPECT_EQ(log_->LastIndex(PartitionId(1)), LogIndex(6));
  log_.reset();
}

// A batch that lost a sector must not come back when the next life's batch, of which only that
// sector reaches the disk, has the same bytes in it.
TEST_F(LogStoreTest, ATornBatchIsNotCompletedByTheNextLife) {
  constexpr size_t kSector = 512;
  // The first batch's size puts the second one's header across two sectors, or in the next segment.
  struct Case {
    size_t first_bytes;
    uint64_t segment;
    std::vector<size_t> sectors;
  };
  for (const Case& c : {Case{382, 1, {4096, 4608, 6144}}, Case{60'000, 2, {4608, 6144}}}) {
    SCOPED_TRACE(c.segment);
    const std::string path = Path(c.segment);
    log_.reset();
    disk_.Restore({});
    Open();
    AppendAlone(1, 1, std::string(c.first_bytes, 'x'));
    const auto before = disk_.Snapshot();
    AppendAlone(1, 2, std::string(5'000, 'y'));
    Kill();
    const auto after = disk_.Snapshot();
    const std::string whole = after.at(path);
    for (const size_t sector : c.sectors) {
      SCOPED_TRACE(sector);
      disk_.Restore(after);
      std::string& bytes = disk_.Bytes(path);
      bytes.replace(sector, kSector,
                    before.contains(path) ? before.at(path).substr(sector, kSector)
                                          : std::string(kSector, '\0'));
      disk_.Settle();
      Open();
      EXPECT_EQ(log_->LastIndex(PartitionId(1)), LogIndex(1));
      disk_.Crash(0);
      Kill();
      disk_.Bytes(path).replace(sector, kSector, whole.substr(sector, kSector));
      disk_.Settle();
      Open();
      EXPECT_EQ(log_->LastIndex(PartitionId(1)), LogIndex(1));
      Kill();
    }
  }
}

// Power is lost with any unsynced sectors kept, again and again: what was synced stays, what comes
// back is a prefix of what was appended in this life, and nothing of another life shows.
TEST_F(LogStoreTest, SurvivesLossOfPowerInEitherMode) {
  // ONGGI_SEED=n runs that seed alone, ONGGI_SEEDS=n as many.
  const char* one = std::getenv("ONGGI_SEED");
  const char* many = std::getenv("ONGGI_SEEDS");
  const uint64_t first_seed = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  const uint64_t seeds = many != nullptr ? std::strtoull(many, nullptr, 10) : 30;
  for (uint64_t seed = first_seed; seed <= (one != nullptr ? first_seed : seeds); ++seed) {
    SCOPED_TRACE("replay: ONGGI_SEED=" + std::to_string(seed) +
                 " log_test --gtest_filter=*SurvivesLossOfPower*");
    std::mt19937_64 random(seed);
    disk_.Restore({});
    options_.durability = seed % 2 == 0 ? Durability::kSync : Durability::kRelaxed;
    options_.relaxed_interval = std::chrono::milliseconds(random() % 3);
    std::map<uint64_t, std::vector<std::string>> expected;  // partition -> payload of 1, 2, ...
    std::map<uint64_t, uint64_t> truncated;
    for (int life = 0; life < 12; ++life) {
      options_.on_fatal = [](const Status&) {};
      Open();
      auto listener = std::make_shared<Recorder>();
      std::map<uint64_t, uint64_t> safe;
      for (auto& [p, entries] : expected) safe[p] = entries.size();
      const int appends = static_cast<int>(random() % 60);
      for (int i = 0; i < appends; ++i) {
        const uint64_t p = random() % 4 + 1;
        std::vector<std::string>& entries = expected[p];
        const bool big = random() % 10 == 0;
        const std::string tag = "-" + std::to_string(life) + "-" + std::to_string(entries.size());
        entries.push_back(std::string(random() % (big ? 20'000 : 200), 'a') + tag);
        ASSERT_EQ(Append(p, entries.size(), entries.back()), Status());
        if (random() % 10 == 0) {
          ASSERT_EQ(log_->Flush(), Status());
          for (auto& [q, all] : expected) safe[q] = all.size();
        }
        if (random() % 25 == 0 && safe[p] > 0) {
          truncated[p] = safe[p];
          log_->Truncate(PartitionId(p), LogIndex(safe[p]));
        }
      }
      // The disk as it is now, with a part of the unsynced writes, while the log is still at work.
      disk_.set_on_sync([](const std::string& path) { return IoError("fdatasync", path, EIO); });
      const auto files = disk_.CrashAtRandom(&random);
      log_.reset();
      disk_.set_on_sync(nullptr);
      disk_.Restore(files);
      options_.on_fatal = nullptr;
      Open();
      for (auto& [p, entries] : expected) {
        const PartitionId id(p);
        const uint64_t last = log_->LastIndex(id).value;
        if (log_->FirstIndex(id).value > last && truncated[p] >= safe[p]) {
          entries.resize(std::max<uint64_t>(truncated[p], last));
          log_->Truncate(id, LogIndex(entries.size()));
          continue;
        }
        ASSERT_GE(last, safe[p]);
        ASSERT_LE(last, entries.size());
        entries.resize(last);
        const uint64_t first = std::max(log_->FirstIndex(id).value, truncated[p] + 1);
        ASSERT_LE(log_->FirstIndex(id).value, truncated[p] + 1);
        ASSERT_EQ(Payloads(p, first),
                  std::vector<std::string>(entries.begin() + static_cast<ptrdiff_t>(first) - 1,
                                           entries.end()));
      }
      Kill();
    }
  }
}

TEST_F(LogStoreTest, ConcurrentAppendersShareSyncsOnARealDisk) {
  const auto directory =
      std::filesystem::temp_directory_path() / ("onggi_log_test." + std::to_string(::getpid()));
  std::filesystem::remove_all(directory);
  LogOptions options(directory.string());
  options.initial_segment_bytes = 256 << 10;
  options.segment_bytes = 1 << 20;
  options.reserve_bytes = 0;
  std::atomic<uint64_t> observed = 0;
  options.on_batch = [&](const BatchObservation& batch) { observed += batch.entries; };
  options_ = options;
  Open();
  constexpr uint64_t kThreads = 8;
  constexpr uint64_t kEntries = 1500;
  auto listener = std::make_shared<Recorder>();
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t <= kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 1; i <= kEntries; ++i)
        ASSERT_EQ(
            Append(t, i, "thread " + std::to_string(t) + std::string(i % 300, '.'), 1, listener),
            Status());
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(log_->Flush(), Status());
  EXPECT_EQ(observed, kThreads * kEntries);
  EXPECT_LT(log_->Stats().syncs, kThreads * kEntries / 4);
  for (int life = 0; life < 2; ++life) {
    for (uint64_t t = 1; t <= kThreads; ++t) {
      EXPECT_EQ(listener->Last(PartitionId(t)), LogIndex(kEntries));
      ASSERT_EQ(Payloads(t).size(), kEntries);
    }
    Reopen();
  }
  log_.reset();  // before what its options refer to
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace onggi::log
