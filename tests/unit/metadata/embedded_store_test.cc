#include "replication/metadata/embedded_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <map>
#include <optional>
#include <thread>

namespace onggi::metadata {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EmbeddedStoreTest : public ::testing::Test {
 protected:
  EmbeddedStoreTest() {
    directory_ = std::filesystem::temp_directory_path() /
                 ("onggi_metadata_test." + std::to_string(::getpid()));
    std::filesystem::remove_all(directory_);
    options_ = EmbeddedOptions((directory_ / "metadata").string());
    std::filesystem::create_directories(directory_);
    Open();
  }
  ~EmbeddedStoreTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Open() {
    store_.reset();
    Result<std::unique_ptr<EmbeddedStore>> store = EmbeddedStore::Open(options_);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    store_ = std::move(*store);
  }

  Result<TransactionResult> Commit(Transaction transaction) {
    std::promise<Result<TransactionResult>> promise;
    store_->AsyncCommit(std::move(transaction), [&](Result<TransactionResult> result) {
      promise.set_value(std::move(result));
    });
    return promise.get_future().get();
  }
  Result<TransactionResult> Put(std::string key, std::string value) {
    Transaction transaction;
    transaction.puts.push_back({std::move(key), std::move(value)});
    return Commit(std::move(transaction));
  }
  Result<RangeResult> Range(std::string start, std::string end, size_t limit = 0) {
    std::promise<Result<RangeResult>> promise;
    store_->AsyncRange(std::move(start), std::move(end), limit,
                       [&](Result<RangeResult> result) { promise.set_value(std::move(result)); });
    return promise.get_future().get();
  }
  static std::vector<std::string> Show(const RangeResult& range) {
    std::vector<std::string> all;
    for (const KeyValue& kv : range.kvs) {
      all.push_back(kv.key + "=" + kv.value + "@" + kv.create_revision.ToString() + "," +
                    kv.mod_revision.ToString());
    }
    return all;
  }

  std::filesystem::path directory_;
  EmbeddedOptions options_;
  std::unique_ptr<EmbeddedStore> store_;
};

TEST_F(EmbeddedStoreTest, KeepsRevisionsThroughReopening) {
  EXPECT_EQ(Put("a/1", "x")->revision, Revision(1));
  EXPECT_EQ(Put("a/2", "y")->revision, Revision(2));
  EXPECT_EQ(Put("b", "z")->revision, Revision(3));
  EXPECT_EQ(Put("a/1", "xx")->revision, Revision(4));
  for (int i = 0; i < 2; ++i) {
    const Result<RangeResult> range = Range("a/", PrefixEnd("a/"));
    EXPECT_THAT(Show(*range), ElementsAre("a/1=xx@1,4", "a/2=y@2,2"));
    EXPECT_EQ(range->revision, Revision(4));
    EXPECT_FALSE(range->more);
    Open();
  }
  EXPECT_THAT(Show(*Range("", "", 2)), ElementsAre("a/1=xx@1,4", "a/2=y@2,2"));
  EXPECT_TRUE(Range("", "", 2)->more);
  EXPECT_EQ(Put("c", "")->revision, Revision(5));
}

TEST_F(EmbeddedStoreTest, TransactionsHappenWhollyOrNotAtAll) {
  Transaction create;
  create.compares.push_back(Compare::Missing("k"));
  create.puts.push_back({"k", "1"});
  create.puts.push_back({"other", "1"});
  EXPECT_TRUE(Commit(create)->succeeded);
  const Result<TransactionResult> again = Commit(create);
  EXPECT_FALSE(again->succeeded);
  EXPECT_EQ(again->revision, Revision(1));
  ASSERT_EQ(again->current.size(), 1u);
  EXPECT_EQ(again->current[0].mod_revision, Revision(1));

  Transaction swap;
  swap.compares.push_back(Compare::At("k", Revision(1)));
  swap.puts.push_back({"k", "2"});
  swap.deletes = {"other", "never there"};
  EXPECT_EQ(Commit(swap)->revision, Revision(2));
  EXPECT_FALSE(Commit(swap)->succeeded);
  EXPECT_THAT(Show(*Range("", "")), ElementsAre("k=2@1,2"));
  // A key that comes back is a new one.
  EXPECT_TRUE(Put("other", "3")->succeeded);
  EXPECT_THAT(Show(*Range("", "")), ElementsAre("k=2@1,2", "other=3@3,3"));
  // Nothing changed: no new revision.
  Transaction nothing;
  nothing.deletes = {"never there"};
  EXPECT_EQ(Commit(nothing)->revision, Revision(3));
}

TEST_F(EmbeddedStoreTest, RefusesTransactionsOverTheLimits) {
  Transaction twice;
  twice.puts = {{"k", "1"}, {"k", "2"}};
  EXPECT_EQ(Commit(twice).status().code(), Code::kInvalidArgument);
  Transaction both;
  both.puts = {{"k", "1"}};
  both.deletes = {"k"};
  EXPECT_EQ(Commit(both).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Put("k", std::string(2 << 20, 'x')).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Put("", "x").status().code(), Code::kInvalidArgument);
  EXPECT_THAT(Range("", "")->kvs, IsEmpty());
}

TEST_F(EmbeddedStoreTest, ConcurrentIncrementsByCompareAndSwapLoseNothing) {
  constexpr int kThreads = 8;
  constexpr int kEach = 25;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach;) {
        const Result<RangeResult> now = Range("n", PrefixEnd("n"));
        const bool missing = now->kvs.empty();
        Transaction swap;
        swap.compares.push_back(Compare::At("n", missing ? Revision() : now->kvs[0].mod_revision));
        swap.puts.push_back({"n", std::to_string(missing ? 1 : std::stoi(now->kvs[0].value) + 1)});
        if (Commit(swap)->succeeded) ++i;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Open();
  EXPECT_EQ(Range("n", "o")->kvs[0].value, std::to_string(kThreads * kEach));
}

TEST_F(EmbeddedStoreTest, WatchesDeliverEveryRevisionInOrder) {
  ASSERT_TRUE(Put("w/a", "1").ok());
  ASSERT_TRUE(Put("w/a", "2").ok());
  boost::asio::io_context context;
  std::vector<std::string> seen;
  Revision last;
  const auto record = [&](const WatchBatch& batch) {
    EXPECT_FALSE(batch.compacted);
    EXPECT_GT(batch.revision, last);
    last = batch.revision;
    for (const WatchEvent& event : batch.events) {
      seen.push_back((event.type == WatchEvent::Type::kPut ? "put " : "del ") + event.kv.key + "=" +
                     event.kv.value + "@" + event.kv.mod_revision.ToString());
    }
  };
  auto watch = store_->Watch("w/", Revision(2), context.get_executor(), record);
  ASSERT_TRUE(Put("w/b", "3").ok());
  ASSERT_TRUE(Put("x", "not watched").ok());
  Transaction both;
  both.puts = {{"w/c", "5"}};
  both.deletes = {"w/a"};
  ASSERT_TRUE(Commit(both).ok());
  context.run();
  EXPECT_THAT(seen, ElementsAre("put w/a=2@2", "put w/b=3@3", "put w/c=5@5", "del w/a=@5"));
  watch.reset();
  ASSERT_TRUE(Put("w/d", "6").ok());
  context.restart();
  context.run();
  EXPECT_EQ(seen.size(), 4u);
}

TEST_F(EmbeddedStoreTest, AWatchFromForgottenRevisionsSaysSo) {
  options_.max_history_events = 3;
  Open();
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(Put("k", std::to_string(i)).ok());
  boost::asio::io_context context;
  std::vector<bool> compacted;
  const auto record = [&](const WatchBatch& batch) { compacted.push_back(batch.compacted); };
  auto old = store_->Watch("k", Revision(3), context.get_executor(), record);
  auto recent = store_->Watch("k", Revision(4), context.get_executor(), record);
  ASSERT_TRUE(Range("", "").ok());
  context.run();
  EXPECT_THAT(compacted, ElementsAre(true, false));
  // What was before this life is forgotten too.
  Open();
  context.restart();
  compacted.clear();
  old = store_->Watch("k", Revision(6), context.get_executor(), record);
  recent = store_->Watch("k", Revision(7), context.get_executor(), record);
  ASSERT_TRUE(Put("k", "7").ok());
  context.run();
  EXPECT_THAT(compacted, ElementsAre(true, false));
}

TEST_F(EmbeddedStoreTest, CoroutinesResumeOnTheirOwnExecutor) {
  boost::asio::io_context context;
  bool done = false;
  const auto body = [&]() -> boost::asio::awaitable<void> {
    const std::thread::id here = std::this_thread::get_id();
    Transaction transaction;
    transaction.puts = {{"k/1", "v"}, {"k/2", "w"}};
    const Result<TransactionResult> committed = co_await store_->Commit(std::move(transaction));
    EXPECT_TRUE(committed.ok() && committed->succeeded);
    EXPECT_EQ(std::this_thread::get_id(), here);
    const Result<KeyValue> one = co_await store_->Get("k/1");
    EXPECT_EQ(one->value, "v");
    const Result<KeyValue> none = co_await store_->Get("k/3");
    EXPECT_EQ(none.status().code(), Code::kNotFound);
    const Result<RangeResult> range = co_await store_->RangePrefix("k/");
    EXPECT_EQ(range->kvs.size(), 2u);
    store_->Close();
    const Result<KeyValue> closed = co_await store_->Get("k/1");
    EXPECT_EQ(closed.status().code(), Code::kUnavailable);
    EXPECT_EQ(std::this_thread::get_id(), here);
    done = true;
  };
  boost::asio::co_spawn(context, body(), boost::asio::detached);
  context.run();
  EXPECT_TRUE(done);
}

TEST_F(EmbeddedStoreTest, ABoundOnRequestsInFlightRefuses) {
  options_.max_pending = 0;
  Open();
  EXPECT_EQ(Put("k", "v").status().code(), Code::kResourceExhausted);
}

TEST_F(EmbeddedStoreTest, RefusesTransactionsBelowTheReserveOfSpaceButReads) {
  ASSERT_TRUE(Put("k", "v").ok());
  options_.reserve_bytes = ~0ull;
  Open();
  EXPECT_EQ(Put("k", "w").status().code(), Code::kOutOfSpace);
  EXPECT_THAT(Show(*Range("", "")), ElementsAre("k=v@1,1"));
  EXPECT_EQ(Range("", "")->revision, Revision(1));
}

/// RocksDB's disk, of which no log can be synced while it is `full`, or `broken`.
class FaultLogDisk : public rocksdb::FileSystemWrapper {
 public:
  FaultLogDisk() : rocksdb::FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FaultLogDisk"; }
  std::atomic<bool> full{false};
  std::atomic<bool> broken{false};

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* context) override {
    std::unique_ptr<rocksdb::FSWritableFile> file;
    rocksdb::IOStatus status =
        rocksdb::FileSystemWrapper::NewWritableFile(name, options, &file, context);
    if (status.ok()) *result = std::make_unique<File>(this, name, std::move(file));
    return status;
  }

 private:
  class File : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(FaultLogDisk* disk, const std::string& name, std::unique_ptr<rocksdb::FSWritableFile> file)
        : rocksdb::FSWritableFileOwnerWrapper(std::move(file)),
          disk_(disk),
          log_(name.ends_with(".log")) {}
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* context) override {
      if (log_ && disk_->full) return rocksdb::IOStatus::NoSpace("injected");
      if (log_ && disk_->broken) return rocksdb::IOStatus::IOError("injected");
      return rocksdb::FSWritableFileOwnerWrapper::Sync(options, context);
    }

   private:
    FaultLogDisk* const disk_;
    const bool log_;
  };
};

TEST_F(EmbeddedStoreTest, AFullDiskLeavesTheOutcomeUnknownAndIsOvercome) {
  const auto disk = std::make_shared<FaultLogDisk>();
  const std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(disk);
  options_.env = env.get();
  options_.on_fatal = [](const Status& status) { FAIL() << status.ToString(); };
  Open();
  ASSERT_TRUE(Put("k", "v").ok());
  disk->full = true;
  EXPECT_EQ(Put("k", "w").status().code(), Code::kUnknownOutcome);
  disk->full = false;
  Result<TransactionResult> put = Put("l", "x");
  for (int i = 0; i < 1000 && !put.ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    put = Put("l", "x");
  }
  ASSERT_TRUE(put.ok()) << put.status().ToString();
  const std::vector<std::string> before = Show(*Range("", ""));
  Open();
  EXPECT_EQ(Show(*Range("", "")), before);
  store_.reset();
}

/// R10: what is on the disk is not known, and RocksDB would not write to it again.
TEST_F(EmbeddedStoreTest, AFailedSyncEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto disk = std::make_shared<FaultLogDisk>();
  const std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(disk);
  options_.env = env.get();
  std::atomic<int> ended{0};
  options_.on_fatal = [&](const Status& status) {
    EXPECT_EQ(status.code(), Code::kIoError) << status.ToString();
    ++ended;
  };
  Open();
  ASSERT_TRUE(Put("k", "v").ok());
  disk->broken = true;
  EXPECT_EQ(Put("k", "w").status().code(), Code::kUnknownOutcome);
  EXPECT_EQ(ended, 1);
  disk->broken = false;
  EXPECT_EQ(Put("l", "x").status().code(), Code::kUnavailable);
  EXPECT_EQ(Range("", "").status().code(), Code::kUnavailable);
  EXPECT_EQ(ended, 1);
  store_.reset();
  options_.on_fatal = nullptr;
  EXPECT_DEATH(
      {
        Open();
        disk->broken = true;
        (void)Put("k", "w");
      },
      "the metadata cannot be written: .*injected");
  disk->broken = false;
  Open();
  EXPECT_TRUE(Put("l", "x").ok());
  store_.reset();
}

TEST_F(EmbeddedStoreTest, RefusesANewerFormatAForeignDatabaseAndDamage) {
  store_->Close();
  store_.reset();
  const auto overwrite = [&](const std::string& directory, const std::string& key,
                             const std::string& value) {
    rocksdb::Options options;
    options.create_if_missing = true;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(options, directory, &db).ok());
    ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), key, value).ok());
    delete db;
  };
  overwrite(options_.directory, "!format", std::string("\x02\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(EmbeddedStore::ReadAll(options_.directory).status().message(),
            options_.directory + ": metadata format version 2 is newer than this program's 1");
  Status status = EmbeddedStore::Open(options_).status();
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_EQ(status.message(),
            options_.directory + ": metadata format version 2 is newer than this program's 1");
  EmbeddedOptions foreign((directory_ / "foreign").string());
  overwrite(foreign.directory, "something", "else");
  EXPECT_EQ(EmbeddedStore::ReadAll(foreign.directory).status().code(), Code::kCorruption);
  EXPECT_EQ(EmbeddedStore::Open(foreign).status().code(), Code::kCorruption);

  EmbeddedOptions damaged((directory_ / "damaged").string());
  overwrite(damaged.directory, "!format", std::string("\x01\0\0\0\0\0\0\0", 8));
  std::ofstream(damaged.directory + "/CURRENT") << "nonsense\n";
  status = EmbeddedStore::Open(damaged).status();
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr(damaged.directory));
}

/// Path -> content of every file below.
std::map<std::string, std::string> Files(const std::filesystem::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_directory()) {
      files[entry.path()] = "directory";
      continue;
    }
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path()] = std::string(std::istreambuf_iterator<char>(file), {});
  }
  return files;
}

TEST_F(EmbeddedStoreTest, ReadAllReadsEverythingAndChangesNothing) {
  for (int life = 0; life < 3; ++life) {
    for (int i = 0; i < 50; ++i) {
      ASSERT_TRUE(Put("k/" + std::to_string(i), std::to_string(life)).ok());
    }
    Transaction transaction;
    transaction.deletes = {"k/7"};
    ASSERT_TRUE(Commit(transaction).ok());
    const auto expected = Range("", "");
    store_.reset();  // the first time all is in the write-ahead log, then some in tables
    const auto before = Files(directory_);
    const auto read = EmbeddedStore::ReadAll(options_.directory);
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_EQ(read->kvs, expected->kvs);
    EXPECT_EQ(read->revision, expected->revision);
    EXPECT_FALSE(read->more);
    EXPECT_EQ(Files(directory_), before);
    Open();
  }
}

TEST_F(EmbeddedStoreTest, ReadAllNamesWhatIsDamagedAndChangesNothing) {
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(Put("k/" + std::to_string(i), "some value").ok());
  Open();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(Put("k/" + std::to_string(i), "another").ok());
  store_.reset();
  const auto sound = Files(directory_);
  const auto restore = [&] {
    std::filesystem::remove_all(options_.directory);
    std::filesystem::create_directories(options_.directory);
    for (const auto& [path, content] : sound) {
      if (content != "directory") std::ofstream(path, std::ios::binary) << content;
    }
  };
  int tried = 0;
  for (const auto& [path, content] : sound) {
    const std::string name = std::filesystem::path(path).filename();
    if (content.empty() || content == "directory" || name.starts_with("LOG") ||
        name.starts_with("OPTIONS") || name == "IDENTITY") {
      continue;
    }
    std::string flipped = content;
    flipped[flipped.size() / 2] ^= 0x55;
    for (const auto& damage : std::vector<std::optional<std::string>>{flipped, "", std::nullopt}) {
      if (name.ends_with(".log") && damage == "") continue;  // a torn tail
      restore();
      std::filesystem::remove(path);
      if (damage) std::ofstream(path, std::ios::binary) << *damage;
      const auto before = Files(directory_);
      const Status status = EmbeddedStore::ReadAll(options_.directory).status();
      EXPECT_EQ(status.code(), Code::kCorruption) << path << ": " << status.ToString();
      EXPECT_THAT(status.message(), HasSubstr(damage || !name.ends_with(".log") ? path : ".log"));
      EXPECT_EQ(Files(directory_), before) << path;
      ++tried;
    }
  }
  EXPECT_GE(tried, 3 * 4 - 1);  // CURRENT, MANIFEST, a table, a log
  restore();
  EXPECT_TRUE(EmbeddedStore::ReadAll(options_.directory).ok());
}

TEST_F(EmbeddedStoreTest, ReadAllTellsNoStoreFromADamagedOne) {
  const std::string none = (directory_ / "none").string();
  EXPECT_EQ(EmbeddedStore::ReadAll(none).status().code(), Code::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(none));
  std::filesystem::create_directories(none);
  EXPECT_EQ(EmbeddedStore::ReadAll(none).status().code(), Code::kNotFound);
  std::ofstream(none + "/MANIFEST-000001") << "";
  const Status cut_short = EmbeddedStore::ReadAll(none).status();
  EXPECT_EQ(cut_short.code(), Code::kNotFound);
  EXPECT_EQ(cut_short.message(), none + "/CURRENT: missing");
  // Made, but not written to.
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* db = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(options, none, &db).ok());
  delete db;
  EXPECT_EQ(EmbeddedStore::ReadAll(none).status().code(), Code::kNotFound);
  // The others are of no use to it.
  store_.reset();
  std::filesystem::remove(options_.directory + "/CURRENT");
  EXPECT_EQ(EmbeddedStore::ReadAll(options_.directory).status().code(), Code::kCorruption);
}

TEST_F(EmbeddedStoreTest, OpenMakesNoStoreUnasked) {
  EmbeddedOptions options((directory_ / "none").string());
  options.create = false;
  EXPECT_FALSE(EmbeddedStore::Open(options).ok());
}

}  // namespace
}  // namespace onggi::metadata
