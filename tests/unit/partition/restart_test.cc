#include <fstream>
#include <thread>

#include "tests/unit/partition/node_fixture.h"

namespace onggi::partition {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Kind = WriteRequest::Kind;

class Restart : public NodeTest {
 protected:
  void SetUp() override { Open("a"); }
  void TearDown() override { node_.reset(); }

  std::string Home(const std::string& name) const { return directory_.path() + "/" + name; }
  void Open(const std::string& name, Node::Options options = Node::Options()) {
    node_.reset();
    fs::create_directories(Home(name));
    node_ = std::make_unique<Node>(Home(name), options);
    const Status started = node_->Start();
    ASSERT_TRUE(started.ok()) << started.ToString();
  }
  /// The machine loses power now and starts again in directory `to`.
  void Crash(const std::string& to, Node::Options options = Node::Options()) {
    node_->CopyTo(Home(to));
    Open(to, options);
  }
  std::shared_ptr<Partition> Find(uint64_t table) {
    auto found = node_->Find(table);
    CHECK_MSG(found.ok(), found.status().ToString());
    return *found;
  }
  Status FindError(uint64_t table) { return node_->Find(table).status(); }

  std::unique_ptr<Node> node_;
};

TEST_F(Restart, KeepsWhatWasWrittenThroughACrash) {
  node_->CreateTable(1);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(node_->Put(Find(1), "a", std::to_string(i), "x" + std::to_string(i)).status.ok());
  }
  Crash("b");
  const auto partition = Find(1);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(node_->Read(partition, "a", std::to_string(i)), "x" + std::to_string(i));
  }
  EXPECT_EQ(partition->statistics().item_count, 100u);
}

TEST_F(Restart, ReplaysBeyondTheFlushedState) {
  node_->CreateTable(1);
  ASSERT_TRUE(node_->Put(Find(1), "a", "1", "flushed").status.ok());
  ASSERT_TRUE(node_->Put(Find(1), "a", "2", "flushed").status.ok());
  ASSERT_TRUE(Find(1)->Flush().ok());
  ASSERT_TRUE(node_->Put(Find(1), "a", "2", "replayed").status.ok());
  ASSERT_TRUE(
      node_->WriteOne(Find(1), Node::Make(Kind::kDelete, Item({{"p", S("a")}, {"s", S("1")}})))
          .status.ok());
  Crash("b");
  EXPECT_EQ(node_->Read(Find(1), "a", "1"), "-");
  EXPECT_EQ(node_->Read(Find(1), "a", "2"), "replayed");
  EXPECT_EQ(Find(1)->statistics().item_count, 1u);
  // And again, with nothing new.
  Crash("c");
  EXPECT_EQ(node_->Read(Find(1), "a", "2"), "replayed");
  ASSERT_TRUE(node_->Put(Find(1), "a", "3", "new").status.ok());
  EXPECT_EQ(Find(1)->statistics().item_count, 2u);
}

TEST_F(Restart, EachProcessWinsAnEpochOfItsOwn) {
  node_->CreateTable(1);
  EXPECT_EQ(node_->Config(1).epoch(), 1u);
  EXPECT_EQ(node_->Config(1).boot(), 0u);
  Find(1);
  EXPECT_EQ(node_->Config(1).epoch(), 2u);
  const uint64_t boot = node_->Config(1).boot();
  EXPECT_NE(boot, 0u);
  Open("a");
  EXPECT_EQ(node_->Config(1).epoch(), 2u);  // opened when asked for
  Find(1);
  EXPECT_EQ(node_->Config(1).epoch(), 3u);
  EXPECT_NE(node_->Config(1).boot(), boot);
  Crash("b");
  Find(1);
  EXPECT_EQ(node_->Config(1).epoch(), 4u);
  EXPECT_EQ(node_->Config(1).primary().replica(), 7u);
}

TEST_F(Restart, StopFlushesAndCutsTheLog) {
  node_->CreateTable(1);
  ASSERT_TRUE(node_->Put(Find(1), "a", "1", "x").status.ok());
  Open("a");
  // Before anything is opened: the log has nothing left that the store lacks.
  const auto partition = Find(1);
  EXPECT_EQ(node_->Read(partition, "a", "1"), "x");
  EXPECT_EQ(partition->statistics().item_count, 1u);
  ASSERT_TRUE(node_->Put(partition, "a", "2", "y").status.ok());
  EXPECT_EQ(partition->statistics().item_count, 2u);
}

TEST_F(Restart, FlushCutsTheLogEvenWhenNothingIsLeftToFlush) {
  node_->CreateTable(1);
  const auto partition = Find(1);
  ASSERT_TRUE(node_->Put(partition, "a", "1", "x").status.ok());
  ASSERT_TRUE(partition->Flush().ok());
  // The replica cuts it, on its home.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  const auto cut = [&] {
    return node_->log().FirstIndex(partition->id()) > node_->log().LastIndex(partition->id());
  };
  while (!cut() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(cut());
  ASSERT_TRUE(partition->Flush().ok());
}

TEST_F(Restart, SmallLogLimitFlushesThePartitionsThatPinIt) {
  Node::Options options;
  options.log_limit_bytes = 3 << 20;
  options.log_segment_bytes = 1 << 20;
  Open("small", options);
  node_->CreateTable(1);
  node_->CreateTable(2);
  ASSERT_TRUE(node_->Put(Find(2), "a", "1", "old").status.ok());  // holds the first segment
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(node_
                    ->Put(Find(1), "a", std::to_string(i % 4),
                          std::string(200'000, static_cast<char>('a' + i % 20)))
                    .status.ok());
  }
  EXPECT_TRUE(Eventually([&] { return node_->log().Stats().live_bytes <= uint64_t{3} << 20; }))
      << node_->log().Stats().live_bytes;
  EXPECT_EQ(node_->Read(Find(2), "a", "1"), "old");
  // The same for a partition that nobody has asked for since the start.
  Crash("small2", options);
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(node_
                    ->Put(Find(1), "a", std::to_string(i % 4),
                          std::string(200'000, static_cast<char>('b' + i % 20)))
                    .status.ok());
  }
  EXPECT_TRUE(Eventually([&] { return node_->log().Stats().live_bytes <= uint64_t{3} << 20; }));
  EXPECT_EQ(node_->Read(Find(2), "a", "1"), "old");
}

// -- Directories.
// ----------------------------------------------------------------------------------

TEST_F(Restart, LostReplicaIsNamedNotMadeAnew) {
  node_->CreateTable(1);
  ASSERT_TRUE(node_->Put(Find(1), "a", "1", "x").status.ok());
  node_.reset();
  fs::rename(Home("a") + "/partitions/1", Home("away"));
  {
    Node node(Home("a"));
    const Status started = node.Start();
    EXPECT_EQ(started.code(), Code::kCorruption);
    EXPECT_THAT(started.message(), HasSubstr("/partitions/1"));
    EXPECT_FALSE(fs::exists(Home("a") + "/partitions/1"));
  }
  fs::rename(Home("away"), Home("a") + "/partitions/1");
  Open("a");
  EXPECT_EQ(node_->Read(Find(1), "a", "1"), "x");
}

TEST_F(Restart, LostStoreIsNamed) {
  node_->CreateTable(1);
  Find(1);
  node_.reset();
  fs::remove_all(Home("a") + "/partitions/1/store");
  Node node(Home("a"));
  const Status started = node.Start();
  EXPECT_EQ(started.code(), Code::kCorruption);
  EXPECT_THAT(started.message(), HasSubstr("/partitions/1/store"));
}

TEST_F(Restart, WrongReplicaFileIsRefused) {
  node_->CreateTable(1);
  Find(1);
  for (const auto& [content, said] :
       std::vector<std::pair<std::string, std::string>>{{"onggi-replica 1 8\n", "replica 8"},
                                                        {"onggi-replica 2 7\n", "format 2"},
                                                        {"", "not a replica's file"}}) {
    Open("a");
    std::ofstream(node_->PartitionDirectory(1) + "/REPLICA") << content;
    const Status status = FindError(1);
    EXPECT_EQ(status.code(), Code::kCorruption) << status.ToString();
    EXPECT_THAT(status.message(), HasSubstr(said));
    EXPECT_THAT(status.message(), HasSubstr("/partitions/1/REPLICA"));
  }
  // Mended, it opens without a restart.
  std::ofstream(node_->PartitionDirectory(1) + "/REPLICA") << "onggi-replica 1 7\n";
  EXPECT_TRUE(Eventually([&] { return node_->Find(1).ok(); }));
}

TEST_F(Restart, CrashWhileAReplicaIsMadeLeavesNothingInTheWay) {
  node_->CreateTable(1);
  fs::create_directories(node_->PartitionDirectory(1) + ".new");
  std::ofstream(node_->PartitionDirectory(1) + ".new/REPLICA") << "onggi-rep";
  ASSERT_TRUE(node_->Put(Find(1), "a", "1", "x").status.ok());
  EXPECT_FALSE(fs::exists(node_->PartitionDirectory(1) + ".new"));
}

TEST_F(Restart, DirectoriesOfAnotherCatalogAreLeftAlone) {
  node_->CreateTable(1);
  Find(1);
  node_.reset();
  fs::create_directories(Home("a") + "/partitions/99/store");
  Open("a");
  EXPECT_TRUE(fs::exists(Home("a") + "/partitions/99/store"));
}

// A metadata directory that was lost reads as an empty catalog.
TEST_F(Restart, EmptyCatalogDeletesNothing) {
  node_->CreateTable(1);
  ASSERT_TRUE(node_->Put(Find(1), "a", "1", "x").status.ok());
  node_.reset();
  fs::remove_all(Home("a") + "/metadata");
  Open("a");
  EXPECT_TRUE(fs::exists(Home("a") + "/partitions/1/store/CURRENT"));
}

// -- Dropping.
// -------------------------------------------------------------------------------------

bool HasLog(Node& node, uint64_t id) {
  for (const PartitionId partition : node.log().Partitions()) {
    if (partition.value == id) return true;
  }
  return false;
}

TEST_F(Restart, DroppedTableGoesWithDirectoryAndLog) {
  node_->CreateTable(1);
  node_->CreateTable(2);
  ASSERT_TRUE(node_->Put(Find(1), "a", "1", "x").status.ok());
  ASSERT_TRUE(node_->Put(Find(2), "a", "1", "x").status.ok());
  ASSERT_TRUE(HasLog(*node_, 1));
  node_->DropTable(1);
  EXPECT_TRUE(Eventually([&] { return !fs::exists(node_->PartitionDirectory(1)); }));
  EXPECT_TRUE(Eventually([&] { return !HasLog(*node_, 1); }));
  EXPECT_TRUE(HasLog(*node_, 2));
  EXPECT_EQ(FindError(1).code(), Code::kNotFound);
  EXPECT_EQ(node_->manager().open_partitions(), 1u);
  Crash("b");
  EXPECT_FALSE(HasLog(*node_, 1));
  EXPECT_EQ(node_->Read(Find(2), "a", "1"), "x");
}

TEST_F(Restart, DroppedTableGoesWhileItIsClosed) {
  node_->CreateTable(1);
  ASSERT_TRUE(node_->Put(Find(1), "a", "1", "x").status.ok());
  Crash("b");
  ASSERT_TRUE(fs::exists(node_->PartitionDirectory(1)));
  ASSERT_TRUE(HasLog(*node_, 1));
  node_->DropTable(1);
  EXPECT_TRUE(Eventually([&] { return !fs::exists(node_->PartitionDirectory(1)); }));
  EXPECT_TRUE(Eventually([&] { return !HasLog(*node_, 1); }));
}

// The catalog's transaction was the last thing that happened before the crash; it was the only
// table.
TEST_F(Restart, DroppedTableGoesAtTheNextStart) {
  node_->CreateTable(1);
  ASSERT_TRUE(node_->Put(Find(1), "a", "1", "x").status.ok());
  node_->CopyTo(Home("b"));
  node_.reset();
  {
    auto opened = metadata::EmbeddedStore::Open(metadata::EmbeddedOptions(Home("b") + "/metadata"));
    ASSERT_TRUE(opened.ok());
    metadata::Transaction transaction;
    transaction.deletes.push_back(metadata::keys::Table(TableId(1)));
    transaction.deletes.push_back(Node::PartitionKey(TableId(1)));
    std::promise<bool> done;
    (*opened)->AsyncCommit(std::move(transaction),
                           [&](auto result) { done.set_value(result.ok()); });
    ASSERT_TRUE(done.get_future().get());
    (*opened)->Close();
  }
  Open("b");
  EXPECT_FALSE(fs::exists(node_->PartitionDirectory(1)));
  EXPECT_TRUE(Eventually([&] { return !HasLog(*node_, 1); }));
}

TEST_F(Restart, DroppedWhileOpening) {
  for (int round = 0; round < 8; ++round) {
    const auto id = static_cast<uint64_t>(round) + 10;
    node_->CreateTable(id);
    auto finding = std::async(std::launch::async, [&] { return node_->Find(id); });
    if (round % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(round));
    node_->DropTable(id);
    ASSERT_EQ(finding.wait_for(std::chrono::seconds(8)), std::future_status::ready) << round;
    const auto found = finding.get();
    if (!found.ok()) EXPECT_EQ(found.status().code(), Code::kNotFound) << found.status().ToString();
  }
  for (int round = 0; round < 8; ++round) {
    const auto id = static_cast<uint64_t>(round) + 10;
    EXPECT_TRUE(Eventually([&] { return !fs::exists(node_->PartitionDirectory(id)); })) << id;
    EXPECT_TRUE(Eventually([&] { return !HasLog(*node_, id); })) << id;
  }
  EXPECT_EQ(node_->manager().open_partitions(), 0u);
}

// The take-over is on its way to a disk that does not answer.
TEST_F(Restart, DroppedWhileTheTakeoverWaits) {
  node_->CreateTable(1);
  node_->log_disk.hang = true;
  auto finding = std::async(std::launch::async, [&] { return node_->Find(1); });
  ASSERT_TRUE(Eventually([&] { return node_->Config(1).epoch() == 2; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  node_->DropTable(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  node_->log_disk.hang = false;
  ASSERT_EQ(finding.wait_for(std::chrono::seconds(5)), std::future_status::ready);
  EXPECT_EQ(finding.get().status().code(), Code::kNotFound);
  EXPECT_TRUE(Eventually([&] { return !fs::exists(node_->PartitionDirectory(1)); }));
}

TEST_F(Restart, LogThatRefusesTheRemovalIsAskedAgain) {
  node_->CreateTable(1);
  ASSERT_TRUE(node_->Put(Find(1), "a", "1", "x").status.ok());
  node_->FillLogDisk();
  node_->DropTable(1);
  EXPECT_TRUE(Eventually([&] { return !fs::exists(node_->PartitionDirectory(1)); }));
  EXPECT_TRUE(HasLog(*node_, 1));
  node_->log_disk.full = false;
  EXPECT_TRUE(Eventually([&] { return !HasLog(*node_, 1); }));
}

TEST_F(Restart, WritesToADroppedTableAreAllAnswered) {
  for (int round = 0; round < 5; ++round) {
    const auto id = static_cast<uint64_t>(round) + 1;
    node_->CreateTable(id);
    auto partition = Find(id);
    std::vector<std::future<std::vector<WriteOutcome>>> all;
    for (int i = 0; i < 200; ++i) {
      all.push_back(node_->Start(
          partition, {Node::Make(Kind::kPut, Item({{"p", S("a")}, {"s", S(std::to_string(i))}}))}));
      if (i == 100) node_->DropTable(id);
    }
    for (auto& one : all) {
      ASSERT_EQ(one.wait_for(std::chrono::seconds(10)), std::future_status::ready);
      const Status status = one.get()[0].status;
      EXPECT_TRUE(status.ok() || status.code() == Code::kNotPrimary) << status.ToString();
    }
    EXPECT_EQ(partition->queued_writes(), 0u);
  }
}

// -- Finding.
// --------------------------------------------------------------------------------------

TEST_F(Restart, FindWaitsForTheMap) {
  auto finding = std::async(std::launch::async, [&] { return node_->Find(1); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(finding.wait_for(std::chrono::milliseconds(0)), std::future_status::timeout);
  node_->CreateTable(1);
  const auto found = finding.get();
  ASSERT_TRUE(found.ok()) << found.status().ToString();
  EXPECT_EQ(node_->manager().TryFind(TableId(1), ""), *found);
}

TEST_F(Restart, FindOfAnUnknownTableGivesUp) {
  EXPECT_EQ(node_->manager().TryFind(TableId(5), ""), nullptr);
  EXPECT_EQ(FindError(5).code(), Code::kNotFound);
}

TEST_F(Restart, ConcurrentFindsOpenOnce) {
  node_->CreateTable(1);
  std::vector<std::future<Result<std::shared_ptr<Partition>>>> all;
  for (int i = 0; i < 32; ++i) {
    all.push_back(std::async(std::launch::async, [this, i] {
      auto executor = node_->io().executor(static_cast<size_t>(i) % node_->io().size());
      return Await<Result<std::shared_ptr<Partition>>>(executor,
                                                       node_->manager().Find(TableId(1), "x"));
    }));
  }
  std::set<Partition*> seen;
  for (auto& one : all) {
    auto found = one.get();
    ASSERT_TRUE(found.ok());
    seen.insert(found->get());
  }
  EXPECT_EQ(seen.size(), 1u);
  EXPECT_EQ(node_->Config(1).epoch(), 2u);
  EXPECT_EQ(node_->manager().open_partitions(), 1u);
}

// -- Stopping.
// -------------------------------------------------------------------------------------

TEST_F(Restart, StopAnswersEveryWrite) {
  for (int round = 0; round < 5; ++round) {
    const auto id = static_cast<uint64_t>(round) + 1;
    node_->CreateTable(id);
    auto partition = Find(id);
    std::vector<std::future<std::vector<WriteOutcome>>> all;
    std::atomic<int> started{0};
    std::thread writer([&] {
      for (int i = 0; i < 500; ++i) {
        all.push_back(node_->Start(
            partition,
            {Node::Make(Kind::kPut,
                        Item({{"p", S("a")}, {"s", S(std::to_string(i))}, {"v", S("x")}}))}));
        ++started;
      }
    });
    ASSERT_TRUE(Eventually([&] { return started >= 100; }));
    node_->manager().Stop();
    writer.join();
    std::vector<int> done;
    for (size_t i = 0; i < all.size(); ++i) {
      ASSERT_EQ(all[i].wait_for(std::chrono::seconds(10)), std::future_status::ready) << i;
      const Status status = all[i].get()[0].status;
      if (status.ok()) {
        done.push_back(static_cast<int>(i));
      } else {
        EXPECT_EQ(status.code(), Code::kNotPrimary) << status.ToString();
      }
    }
    EXPECT_EQ(partition->queued_writes(), 0u);
    // What is open goes on reading, any applied state; it promises nothing.
    if (!done.empty()) EXPECT_EQ(node_->Read(partition, "a", std::to_string(done[0]), false), "x");
    EXPECT_THAT(node_->Read(partition, "a", "0", true), HasSubstr("NotPrimary"));
    EXPECT_EQ(partition->NewCursor(KeySpace::Items(), "", "", false, true, true).status().code(),
              Code::kNotPrimary);
    EXPECT_EQ(node_->Find(id).status().code(), Code::kUnavailable);
    partition.reset();
    Open("a");
    for (const int i : done) EXPECT_EQ(node_->Read(Find(id), "a", std::to_string(i)), "x") << i;
  }
}

TEST_F(Restart, StopWhilePartitionsOpen) {
  for (int round = 0; round < 6; ++round) {
    std::vector<std::future<Status>> all;
    for (uint64_t i = 1; i <= 8; ++i) {
      const uint64_t id = static_cast<uint64_t>(round) * 8 + i;
      node_->CreateTable(id);
      all.push_back(
          std::async(std::launch::async, [this, id] { return node_->Find(id).status(); }));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(round * 4));
    node_->manager().Stop();
    for (auto& one : all) {
      ASSERT_EQ(one.wait_for(std::chrono::seconds(10)), std::future_status::ready);
      const Status status = one.get();
      EXPECT_TRUE(status.ok() || status.code() == Code::kUnavailable) << status.ToString();
    }
    EXPECT_EQ(node_->manager().open_partitions(), 0u);
    Open("a");
  }
}

// A take-over that cannot end (its entry is not durable) must not keep the process.
TEST_F(Restart, StopDoesNotWaitForATakeoverThatHangs) {
  node_->CreateTable(1);
  node_->FillLogDisk();
  auto finding = std::async(std::launch::async, [&] { return node_->Find(1).status(); });
  ASSERT_TRUE(Eventually([&] { return node_->Config(1).epoch() == 2; }));
  const auto before = std::chrono::steady_clock::now();
  node_->manager().Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(5));
  ASSERT_EQ(finding.wait_for(std::chrono::seconds(5)), std::future_status::ready);
  EXPECT_EQ(finding.get().code(), Code::kUnavailable);
  node_->log_disk.full = false;
  Open("a");
  EXPECT_TRUE(Eventually([&] { return node_->Put(Find(1), "a", "1", "x").status.ok(); }));
}

TEST_F(Restart, TakeoverWaitsForTheFullLog) {
  node_->CreateTable(1);
  node_->FillLogDisk();
  auto finding = std::async(std::launch::async, [&] { return node_->Find(1).status(); });
  ASSERT_TRUE(Eventually([&] { return node_->Config(1).epoch() == 2; }));
  EXPECT_EQ(finding.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  node_->log_disk.full = false;
  EXPECT_TRUE(finding.get().ok());
  EXPECT_TRUE(Eventually([&] { return node_->Put(Find(1), "a", "1", "x").status.ok(); }));
}

TEST_F(Restart, StopWithAStoreThatCannotApply) {
  node_->CreateTable(1);
  auto partition = Find(1);
  ASSERT_TRUE(node_->Put(partition, "a", "1", "one").status.ok());
  node_->log_disk.hang = true;
  auto pending = node_->Start(
      partition, {Node::Make(Kind::kPut, Item({{"p", S("a")}, {"s", S("1")}, {"v", S("two")}}))});
  ASSERT_TRUE(Eventually([&] { return partition->queued_writes() == 1; }));
  node_->table_disk->full = true;
  EXPECT_FALSE(partition->Flush().ok());
  node_->log_disk.hang = false;
  const Status status = pending.get()[0].status;
  ASSERT_EQ(status.code(), Code::kUnknownOutcome) << status.ToString();
  partition.reset();
  const auto before = std::chrono::steady_clock::now();
  node_->manager().Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(5));
  Open("a");                                         // with space again
  EXPECT_EQ(node_->Read(Find(1), "a", "1"), "two");  // it was in the log
}

TEST_F(Restart, CursorsOutliveTheirTable) {
  node_->CreateTable(1);
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(node_->Put(Find(1), "a", std::to_string(i), "x").status.ok());
  auto cursor = Find(1)->NewCursor(KeySpace::Items(), "", "", false, true, false);
  ASSERT_TRUE(cursor.ok());
  node_->DropTable(1);
  ASSERT_TRUE(Eventually([&] { return !HasLog(*node_, 1); }));
  int count = 0;
  for (; (*cursor)->Valid(); (*cursor)->Next()) ++count;
  EXPECT_EQ(count, 100);
  EXPECT_TRUE((*cursor)->status().ok());
  cursor->reset();
  EXPECT_TRUE(Eventually([&] { return !fs::exists(node_->PartitionDirectory(1)); }));
}

TEST_F(Restart, CursorSeesItsSnapshotAlone) {
  node_->CreateTable(1);
  const auto partition = Find(1);
  ASSERT_TRUE(node_->Put(partition, "a", "1", "x").status.ok());
  auto cursor = partition->NewCursor(KeySpace::Items(), "", "", true, true, true);
  ASSERT_TRUE(node_->Put(partition, "a", "2", "x").status.ok());
  int count = 0;
  for (; (*cursor)->Valid(); (*cursor)->Next()) ++count;
  EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace onggi::partition
