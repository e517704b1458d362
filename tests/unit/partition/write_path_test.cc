#include <map>
#include <random>
#include <set>
#include <thread>

#include "server/partition/local_index.h"
#include "tests/unit/partition/node_fixture.h"

namespace onggi::partition {
namespace {

using model::AttributeMap;
using ::testing::Each;
using ::testing::HasSubstr;
using Kind = WriteRequest::Kind;

void ThreeIndexes(proto::Table* table) {
  AddLocalIndex(table, "all", "i", "N", "ALL");
  AddLocalIndex(table, "keys", "j", "S", "KEYS_ONLY");
  AddLocalIndex(table, "some", "j", "S", "INCLUDE", {"v", "w"});
}

class WritePath : public NodeTest {
 protected:
  void SetUp() override { Open(Node::Options()); }
  void Open(Node::Options options, const std::function<void(proto::Table*)>& shape = {}) {
    partition_.reset();
    node_.reset();
    std::filesystem::remove_all(directory_.path() + "/node");
    node_ = std::make_unique<Node>(directory_.path() + "/node", options);
    std::filesystem::create_directories(directory_.path() + "/node");
    ASSERT_TRUE(node_->Start().ok());
    proto::Table table = node_->TableRecord(1);
    if (shape) shape(&table);
    node_->CreateTable(table);
    auto found = node_->Find(1);
    ASSERT_TRUE(found.ok()) << found.status().ToString();
    partition_ = *found;
  }
  void TearDown() override {
    partition_.reset();
    node_.reset();
  }
  std::shared_ptr<TestWrite> Update(const AttributeMap& key, const std::string& update,
                                    const std::vector<model::AttributeValue>& values = {},
                                    const std::string& condition = "") {
    return Node::Make(Kind::kUpdate, Item(key), update, condition, values);
  }
  std::string Value(std::string_view p, std::string_view s) {
    return node_->Read(partition_, p, s);
  }
  /// Writes that nobody may lose sight of.
  void ExpectIdle() {
    EXPECT_TRUE(Eventually([&] { return partition_->queued_writes() == 0; }))
        << partition_->queued_writes();
  }

  static std::string Prefix(std::string_view p) {
    std::string prefix;
    const std::string value = S(p).Encode();
    model::AppendCollectionPrefix(model::ValueView(value), &prefix);
    return prefix;
  }
  std::map<std::string, std::string> Contents(KeySpace space) {
    std::map<std::string, std::string> contents;
    for (const bool reverse : {false, true}) {
      auto cursor = partition_->NewCursor(space, "", "", reverse, true, true);
      EXPECT_TRUE(cursor.ok());
      size_t count = 0;
      for (; (*cursor)->Valid(); (*cursor)->Next(), ++count) {
        contents[std::string((*cursor)->key())] = (*cursor)->item().encoded();
      }
      EXPECT_TRUE((*cursor)->status().ok());
      EXPECT_EQ(contents.size(), count);
    }
    return contents;
  }

  std::unique_ptr<Node> node_;
  std::shared_ptr<Partition> partition_;
};

const AttributeMap kKey = {{"p", S("a")}, {"s", S("b")}};

TEST_F(WritePath, PutAnswersWithWhatWasThere) {
  const std::string first = Item({{"p", S("a")}, {"s", S("b")}, {"v", S("one")}});
  const std::string second = Item({{"p", S("a")}, {"s", S("b")}, {"v", S("other")}});
  auto put = Node::Make(Kind::kPut, first);
  put->request.want_old = put->request.want_new = true;
  WriteOutcome outcome = node_->WriteOne(partition_, put);
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_FALSE(outcome.existed);
  EXPECT_EQ(outcome.old_size, 0u);
  EXPECT_EQ(outcome.new_size, model::ItemView(first).BilledSize());
  EXPECT_EQ(outcome.old_item, "");
  EXPECT_EQ(outcome.new_item, first);

  put = Node::Make(Kind::kPut, second);
  put->request.want_old = true;
  outcome = node_->WriteOne(partition_, put);
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_TRUE(outcome.existed);
  EXPECT_EQ(outcome.old_size, model::ItemView(first).BilledSize());
  EXPECT_EQ(outcome.old_item, first);
  EXPECT_EQ(outcome.new_item, "");
  EXPECT_EQ(Value("a", "b"), "other");
}

TEST_F(WritePath, DeleteAnswersWithWhatWasThere) {
  const std::string item = Item({{"p", S("a")}, {"s", S("b")}, {"v", S("one")}});
  ASSERT_TRUE(node_->WriteOne(partition_, Node::Make(Kind::kPut, item)).status.ok());
  auto remove = Node::Make(Kind::kDelete, Item(kKey));
  remove->request.want_old = true;
  WriteOutcome outcome = node_->WriteOne(partition_, remove);
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_TRUE(outcome.existed);
  EXPECT_EQ(outcome.old_item, item);
  EXPECT_EQ(outcome.new_size, 0u);
  EXPECT_EQ(Value("a", "b"), "-");
  outcome = node_->WriteOne(partition_, remove);
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_FALSE(outcome.existed);
  EXPECT_EQ(outcome.old_item, "");
  EXPECT_EQ(partition_->statistics().item_count, 0u);
  EXPECT_EQ(partition_->statistics().item_bytes, 0u);
}

TEST_F(WritePath, UpdateMakesAndChangesAnItem) {
  auto update = Update(kKey, "SET v = :v", {S("one")});
  update->request.want_new = update->request.want_updated = true;
  WriteOutcome outcome = node_->WriteOne(partition_, update);
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_FALSE(outcome.existed);
  EXPECT_EQ(outcome.new_item, Item({{"p", S("a")}, {"s", S("b")}, {"v", S("one")}}));
  EXPECT_EQ(outcome.updated_new, Item({{"v", S("one")}}));
  update = Update(kKey, "SET v = :v", {S("two")});
  update->request.want_updated = true;
  outcome = node_->WriteOne(partition_, update);
  EXPECT_EQ(outcome.updated_old, Item({{"v", S("one")}}));
  EXPECT_EQ(outcome.updated_new, Item({{"v", S("two")}}));
  EXPECT_EQ(Value("a", "b"), "two");
}

TEST_F(WritePath, UpdateWithoutActionsMakesTheItem) {
  WriteOutcome outcome = node_->WriteOne(partition_, Update(kKey, ""));
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_EQ(partition_->statistics().item_count, 1u);
  PinnedItem item;
  ASSERT_TRUE(partition_->Get(Node::Key("a", "b"), true, &item).ok());
  ASSERT_TRUE(item.found());
  EXPECT_EQ(item.item().encoded(), Item(kKey));
}

// As the service does: what only takes away makes no item.
TEST_F(WritePath, UpdateThatOnlyRemovesMakesNoItem) {
  auto update = Update(kKey, "REMOVE v");
  update->request.want_new = true;
  const WriteOutcome outcome = node_->WriteOne(partition_, update);
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.new_size, 0u);
  EXPECT_EQ(outcome.new_item, "");
  EXPECT_EQ(Value("a", "b"), "-");
  EXPECT_EQ(partition_->statistics().item_count, 0u);
}

TEST_F(WritePath, FailedConditionChangesNothing) {
  ASSERT_TRUE(node_->Put(partition_, "a", "b", "one").status.ok());
  auto put = Node::Make(Kind::kPut, Item({{"p", S("a")}, {"s", S("b")}, {"v", S("two")}}), "",
                        "attribute_not_exists(p)");
  put->request.want_old = true;
  const WriteOutcome outcome = node_->WriteOne(partition_, put);
  EXPECT_EQ(outcome.status.code(), Code::kConditionFailed);
  EXPECT_EQ(outcome.status.message(), "The conditional request failed");
  EXPECT_EQ(outcome.old_item, Item({{"p", S("a")}, {"s", S("b")}, {"v", S("one")}}));
  EXPECT_EQ(Value("a", "b"), "one");
}

TEST_F(WritePath, UpdateOver400KilobytesIsRefused) {
  ASSERT_TRUE(node_->Put(partition_, "a", "b", std::string(300'000, 'x')).status.ok());
  const WriteOutcome outcome =
      node_->WriteOne(partition_, Update(kKey, "SET w = :v", {S(std::string(120'000, 'y'))}));
  EXPECT_EQ(outcome.status.code(), Code::kInvalidArgument);
  EXPECT_EQ(outcome.status.message(), "Item size to update has exceeded the maximum allowed size");
  EXPECT_EQ(partition_->statistics().item_count, 1u);
}

TEST_F(WritePath, HotKeyCountsExactlyFromManyThreads) {
  Node::Options options;
  options.threads = 4;
  Open(options);
  constexpr int kCallers = 32, kRounds = 50, kAtOnce = 4;
  const auto increment = Update(kKey, "ADD n :v", {N(1)});
  std::atomic<int> failed{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers / 4; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        std::vector<std::future<std::vector<WriteOutcome>>> all;
        for (int j = 0; j < 4; ++j) {
          const std::vector<std::shared_ptr<TestWrite>> writes(kAtOnce, increment);
          all.push_back(node_->Start(partition_, writes));
        }
        for (auto& one : all) {
          for (const WriteOutcome& outcome : one.get()) failed += !outcome.status.ok();
        }
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(failed, 0);
  PinnedItem item;
  ASSERT_TRUE(partition_->Get(Node::Key("a", "b"), true, &item).ok());
  EXPECT_EQ(item.item().Find("n").encoded(), N(kCallers * kRounds * kAtOnce).Encode());
  EXPECT_EQ(partition_->statistics().item_count, 1u);
  ExpectIdle();
}

TEST_F(WritePath, OneOfManyConditionalPutsWins) {
  for (int round = 0; round < 20; ++round) {
    const std::string s = std::to_string(round);
    std::vector<std::shared_ptr<TestWrite>> writes;
    for (int i = 0; i < 16; ++i) {
      writes.push_back(Node::Make(Kind::kPut,
                                  Item({{"p", S("a")}, {"s", S(s)}, {"v", S(std::to_string(i))}}),
                                  "", "attribute_not_exists(p)"));
    }
    int won = 0;
    std::string winner;
    const auto outcomes = node_->Write(partition_, writes);
    for (size_t i = 0; i < outcomes.size(); ++i) {
      if (outcomes[i].status.ok()) {
        ++won;
        winner = std::to_string(i);
      } else {
        EXPECT_EQ(outcomes[i].status.code(), Code::kConditionFailed);
      }
    }
    EXPECT_EQ(won, 1);
    EXPECT_EQ(Value("a", s), winner);
  }
}

TEST_F(WritePath, WritesThatChangeNothingMakeNoEntry) {
  ASSERT_TRUE(node_->Put(partition_, "a", "b", "one").status.ok());
  const LogIndex before = node_->log().LastIndex(partition_->id());
  ASSERT_TRUE(node_->Put(partition_, "a", "b", "one").status.ok());
  ASSERT_TRUE(
      node_->WriteOne(partition_, Node::Make(Kind::kDelete, Item({{"p", S("a")}, {"s", S("c")}})))
          .status.ok());
  ASSERT_TRUE(node_->WriteOne(partition_, Update(kKey, "REMOVE x")).status.ok());
  ASSERT_TRUE(node_->WriteOne(partition_, Update(kKey, "")).status.ok());
  EXPECT_EQ(node_
                ->WriteOne(partition_,
                           Node::Make(Kind::kDelete, Item(kKey), "", "attribute_not_exists(p)"))
                .status.code(),
            Code::kConditionFailed);
  EXPECT_EQ(node_->log().LastIndex(partition_->id()), before);
  ExpectIdle();
}

// What it saw is not committed: the answer must not come before the write that it tells of.
TEST_F(WritePath, AnswersFromAnUncommittedVersionWaitForIt) {
  node_->log_disk.hang = true;
  auto first = node_->Start(
      partition_, {Node::Make(Kind::kPut, Item({{"p", S("a")}, {"s", S("b")}, {"v", S("1")}}))});
  auto gathering = node_->Start(
      partition_, {Node::Make(Kind::kPut, Item({{"p", S("a")}, {"s", S("c")}, {"v", S("1")}}))});
  ASSERT_TRUE(Eventually([&] { return partition_->queued_writes() == 2; }));
  auto refused = node_->Start(
      partition_, {Node::Make(Kind::kDelete, Item(kKey), "", "attribute_not_exists(p)")});
  auto same = node_->Start(
      partition_, {Node::Make(Kind::kPut, Item({{"p", S("a")}, {"s", S("c")}, {"v", S("1")}}))});
  // A key that nobody writes is answered at once.
  EXPECT_TRUE(
      node_->WriteOne(partition_, Node::Make(Kind::kDelete, Item({{"p", S("z")}, {"s", S("z")}})))
          .status.ok());
  EXPECT_EQ(refused.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  EXPECT_EQ(same.wait_for(std::chrono::milliseconds(0)), std::future_status::timeout);
  EXPECT_EQ(Value("a", "b"), "-");  // nothing uncommitted is readable
  node_->log_disk.hang = false;
  EXPECT_TRUE(first.get()[0].status.ok());
  EXPECT_TRUE(gathering.get()[0].status.ok());
  EXPECT_EQ(refused.get()[0].status.code(), Code::kConditionFailed);
  EXPECT_TRUE(same.get()[0].status.ok());
  ExpectIdle();
}

TEST_F(WritePath, GathersWhatComesWhileTheDiskIsBusy) {
  const LogIndex before = node_->log().LastIndex(partition_->id());
  node_->log_disk.hang = true;
  std::vector<std::future<std::vector<WriteOutcome>>> all;
  for (int i = 0; i < 200; ++i) {
    all.push_back(node_->Start(
        partition_,
        {Node::Make(Kind::kPut,
                    Item({{"p", S("a")}, {"s", S(std::to_string(i))}, {"v", S("x")}}))}));
    // One by one, as requests come, so that each burst has one write.
    ASSERT_TRUE(
        Eventually([&] { return partition_->queued_writes() == static_cast<size_t>(i) + 1; }));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  node_->log_disk.hang = false;
  for (auto& one : all) EXPECT_TRUE(one.get()[0].status.ok());
  EXPECT_LE(node_->log().LastIndex(partition_->id()).value, before.value + 6);
  EXPECT_EQ(partition_->statistics().item_count, 200u);
  ExpectIdle();
}

TEST_F(WritePath, MoreThanTheUncommittedBoundWaitsAndFinishes) {
  node_->log_disk.hang = true;
  std::vector<std::shared_ptr<TestWrite>> writes;
  for (int i = 0; i < 120; ++i) {  // 48 MB
    writes.push_back(Node::Make(
        Kind::kPut,
        Item({{"p", S("a")}, {"s", S(std::to_string(i))}, {"v", S(std::string(400'000, 'x'))}})));
  }
  auto all = node_->Start(partition_, writes);
  EXPECT_EQ(all.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  node_->log_disk.hang = false;
  for (const WriteOutcome& outcome : all.get())
    EXPECT_TRUE(outcome.status.ok()) << outcome.status.ToString();
  EXPECT_EQ(partition_->statistics().item_count, 120u);
  ExpectIdle();
}

// -- Disks that fail.
// ------------------------------------------------------------------------------

TEST_F(WritePath, LowDiskRefusesWritesAndServesReads) {
  ASSERT_TRUE(node_->Put(partition_, "a", "b", "one").status.ok());
  node_->disk_low = true;
  EXPECT_EQ(node_->Put(partition_, "a", "b", "two").status.code(), Code::kOutOfSpace);
  EXPECT_EQ(Value("a", "b"), "one");
  node_->disk_low = false;
  EXPECT_TRUE(node_->Put(partition_, "a", "b", "two").status.ok());
  EXPECT_EQ(Value("a", "b"), "two");
  ExpectIdle();
}

TEST_F(WritePath, RefusedAppendsAreNotDoneAndLaterWritesWork) {
  ASSERT_TRUE(node_->WriteOne(partition_, Update(kKey, "ADD n :v", {N(1)})).status.ok());
  node_->FillLogDisk();
  for (int round = 0; round < 10; ++round) {
    const auto increment = Update(kKey, "ADD n :v", {N(100)});
    const auto other = Node::Make(Kind::kPut, Item({{"p", S("a")}, {"s", S("other")}}));
    for (const WriteOutcome& outcome : node_->Write(partition_, {increment, other, increment})) {
      EXPECT_EQ(outcome.status.code(), Code::kOutOfSpace) << outcome.status.ToString();
    }
  }
  PinnedItem item;
  ASSERT_TRUE(partition_->Get(Node::Key("a", "b"), true, &item).ok());
  EXPECT_EQ(item.item().Find("n").encoded(), N(1).Encode());
  node_->log_disk.full = false;
  const auto increment = Update(kKey, "ADD n :v", {N(1)});
  increment->request.want_new = true;
  WriteOutcome outcome;
  ASSERT_TRUE(Eventually([&] {
    outcome = node_->WriteOne(partition_, increment);
    return outcome.status.ok();
  }));
  EXPECT_EQ(outcome.new_item, Item({{"p", S("a")}, {"s", S("b")}, {"n", N(2)}}));
  EXPECT_EQ(partition_->statistics().item_count, 1u);
  EXPECT_EQ(partition_->statistics().item_bytes, model::ItemView(outcome.new_item).BilledSize());
  ExpectIdle();
}

// A batch refused behind others in flight: the latches fall back to what those say.
TEST_F(WritePath, BatchRefusedBehindOthersLeavesTheirVersions) {
  Node::Options options;
  options.log_queue_bytes = 500'000;
  Open(options, ThreeIndexes);
  const AttributeMap key = {{"p", S("a")}, {"s", S("b")}};
  node_->log_disk.hang = true;
  auto one =
      node_->Start(partition_, {Update(key, "SET i = :w, j = :x ADD n :v", {N(1), N(5), S("j")})});
  ASSERT_TRUE(Eventually([&] { return partition_->queued_writes() == 1; }));
  auto two = node_->Start(partition_, {Update(key, "ADD n :v", {N(1)})});
  ASSERT_TRUE(Eventually([&] { return partition_->queued_writes() == 2; }));
  // A batch over 1 MB closes although two are in flight, and is more than the log may queue.
  std::vector<std::shared_ptr<TestWrite>> writes(
      3, Update(key, "SET i = :w ADD n :v", {N(100), N(6)}));
  for (int i = 0; i < 3; ++i) {
    writes.push_back(Node::Make(
        Kind::kPut,
        Item({{"p", S("a")}, {"s", S(std::to_string(i))}, {"v", S(std::string(399'000, 'x'))}})));
  }
  for (const WriteOutcome& outcome : node_->Write(partition_, writes)) {
    EXPECT_EQ(outcome.status.code(), Code::kResourceExhausted) << outcome.status.ToString();
  }
  // Evaluated against the version in flight, in the next batch.
  const auto last = Update(key, "ADD n :v", {N(1)});
  last->request.want_new = true;
  auto three = node_->Start(partition_, {last});
  node_->log_disk.hang = false;
  EXPECT_TRUE(one.get()[0].status.ok());
  EXPECT_TRUE(two.get()[0].status.ok());
  const WriteOutcome outcome = three.get()[0];
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.ToString();
  const std::string expected =
      Item({{"p", S("a")}, {"s", S("b")}, {"n", N(3)}, {"i", N(5)}, {"j", S("j")}});
  EXPECT_EQ(outcome.new_item, expected);
  const PartitionStatistics statistics = partition_->statistics();
  EXPECT_EQ(statistics.item_count, 1u);
  EXPECT_EQ(statistics.item_bytes, model::ItemView(expected).BilledSize());
  EXPECT_EQ(statistics.local_indexes[0].entry_count, 1u);
  EXPECT_EQ(statistics.local_indexes[0].entry_bytes, model::ItemView(expected).BilledSize());
  EXPECT_EQ(*partition_->CollectionBytes(Prefix("a")), outcome.collection_bytes);
  ExpectIdle();
}

// What is in flight before it need not be writes.
TEST_F(WritePath, BatchRefusedBehindAChangeOfShapeIsGivenUp) {
  Node::Options options;
  options.log_queue_bytes = 500'000;
  options.threads = 1;
  Open(options);
  ASSERT_TRUE(node_->Put(partition_, "a", "b", "one").status.ok());
  node_->log_disk.hang = true;
  std::promise<Status> asked;
  boost::asio::post(node_->io().executor(0), [&] {
    SplitRecord record;
    record.key = "\xff\xff\xff";
    record.child = PartitionId(2);
    const group::Configuration& now = partition_->configuration()->configuration;
    for (const group::Member& member : now.in_sync) record.child_replicas[member] = ReplicaId(200);
    asked.set_value(partition_->ProposeSplit(record));
  });
  const Status split = asked.get_future().get();
  ASSERT_TRUE(split.ok()) << split.ToString();
  auto one = node_->Start(partition_, {Update(kKey, "SET v = :v", {S("two")})});
  ASSERT_TRUE(Eventually([&] { return partition_->queued_writes() == 1; }));
  std::vector<std::shared_ptr<TestWrite>> writes{Update(kKey, "SET v = :v", {S("three")})};
  for (int i = 0; i < 3; ++i) {
    writes.push_back(Node::Make(
        Kind::kPut,
        Item({{"p", S("a")}, {"s", S(std::to_string(i))}, {"v", S(std::string(399'000, 'x'))}})));
  }
  for (const WriteOutcome& outcome : node_->Write(partition_, writes)) {
    EXPECT_EQ(outcome.status.code(), Code::kResourceExhausted) << outcome.status.ToString();
  }
  const auto last = Update(kKey, "SET w = :v", {S("four")});
  last->request.want_new = true;
  auto two = node_->Start(partition_, {last});
  node_->log_disk.hang = false;
  EXPECT_TRUE(one.get()[0].status.ok());
  const WriteOutcome outcome = two.get()[0];
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.ToString();
  EXPECT_EQ(outcome.new_item,
            Item({{"p", S("a")}, {"s", S("b")}, {"v", S("two")}, {"w", S("four")}}));
  EXPECT_EQ(partition_->statistics().item_count, 1u);
}

/// A store whose background work has failed: no table file can be made.
void BreakStore(Node* node, const std::shared_ptr<Partition>& partition) {
  node->table_disk->full = true;
  EXPECT_FALSE(partition->Flush().ok());
}

TEST_F(WritePath, StoreThatCannotApplyAnswersEveryoneAndCatchesUp) {
  ASSERT_TRUE(node_->Put(partition_, "a", "b", "one").status.ok());
  node_->log_disk.hang = true;
  std::vector<std::future<std::vector<WriteOutcome>>> all;
  for (int i = 0; i < 20; ++i) {
    all.push_back(node_->Start(
        partition_,
        {Node::Make(Kind::kPut,
                    Item({{"p", S("a")}, {"s", S(std::to_string(i))}, {"v", S("x")}}))}));
    ASSERT_TRUE(
        Eventually([&] { return partition_->queued_writes() == static_cast<size_t>(i) + 1; }));
  }
  BreakStore(node_.get(), partition_);
  node_->log_disk.hang = false;
  size_t unknown = 0, refused = 0, done = 0;
  std::set<int> not_done;
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(all[static_cast<size_t>(i)].wait_for(std::chrono::seconds(5)),
              std::future_status::ready)
        << i;
    const Status status = all[static_cast<size_t>(i)].get()[0].status;
    unknown += status.code() == Code::kUnknownOutcome;
    done += status.ok();
    if (status.code() == Code::kOutOfSpace) not_done.insert(i);
  }
  refused = not_done.size();
  EXPECT_EQ(unknown + refused + done, 20u);
  ExpectIdle();
  EXPECT_GT(unknown, 0u);
  EXPECT_GT(refused, 0u);
  EXPECT_EQ(node_->Put(partition_, "a", "new", "x").status.code(), Code::kOutOfSpace);
  EXPECT_EQ(Value("a", "b"), "one");  // reads go on

  node_->table_disk->full = false;
  ASSERT_TRUE(Eventually([&] { return node_->Put(partition_, "a", "new", "x").status.ok(); }));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Value("a", std::to_string(i)), not_done.contains(i) ? "-" : "x") << i;
  }
  EXPECT_EQ(partition_->statistics().item_count, 22u - refused);
  ExpectIdle();
}

// -- Figures.
// --------------------------------------------------------------------------------------

TEST_F(WritePath, CollectionOverItsLimitIsRefused) {
  Node::Options options;
  options.collection_limit_bytes = 10'000;
  Open(options, ThreeIndexes);
  const std::string big(3'000, 'x');
  EXPECT_TRUE(node_->Put(partition_, {{"p", S("a")}, {"s", S("1")}, {"v", S(big)}}).status.ok());
  // Twice: the item and its entry in the index of all.
  const WriteOutcome second =
      node_->Put(partition_, {{"p", S("a")}, {"s", S("2")}, {"v", S(big)}, {"i", N(1)}});
  ASSERT_TRUE(second.status.ok());
  EXPECT_GT(second.collection_bytes, 9'000u);
  EXPECT_EQ(*partition_->CollectionBytes(Prefix("a")), second.collection_bytes);
  const WriteOutcome third = node_->Put(partition_, {{"p", S("a")}, {"s", S("3")}, {"v", S(big)}});
  EXPECT_EQ(third.status.code(), Code::kResourceExhausted);
  EXPECT_THAT(third.status.message(), ::testing::StartsWith("Collection size exceeded."));
  // Another collection, and what makes this one smaller, are free to go.
  EXPECT_TRUE(node_->Put(partition_, {{"p", S("b")}, {"s", S("3")}, {"v", S(big)}}).status.ok());
  EXPECT_TRUE(node_->Put(partition_, {{"p", S("a")}, {"s", S("2")}, {"v", S("small")}, {"i", N(1)}})
                  .status.ok());
  EXPECT_TRUE(node_->Put(partition_, {{"p", S("a")}, {"s", S("3")}, {"v", S(big)}}).status.ok());
}

// Model and partition side by side: items, index spaces, figures, collection sizes; through a crash
// and a clean restart.
TEST_F(WritePath, KeepsItemsIndexesAndFiguresTogether) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Open(Node::Options(), ThreeIndexes);
  const auto schema = TableSchema::FromRecord([&] {
    proto::Table table = node_->TableRecord(1);
    ThreeIndexes(&table);
    return table;
  }());
  std::map<std::pair<std::string, std::string>, AttributeMap> model;
  const auto pick = [&](int n) { return std::to_string(random() % static_cast<uint32_t>(n)); };
  const auto random_item = [&](const std::string& p, const std::string& s) {
    AttributeMap item = {{"p", S(p)}, {"s", S(s)}};
    if (random() % 3 != 0) item["i"] = N(static_cast<int64_t>(random() % 7) - 3);
    if (random() % 3 != 0) item["j"] = S(pick(4) + "j");
    if (random() % 2 == 0) item["v"] = S(std::string(random() % 2000, 'v'));
    if (random() % 2 == 0) item["w"] = N(static_cast<int64_t>(random() % 1000));
    return item;
  };
  const auto check = [&] {
    PartitionStatistics expected;
    expected.local_indexes.resize(3);
    std::map<std::string, std::string> items;
    std::vector<std::map<std::string, std::string>> entries(3);
    std::map<std::string, uint64_t> collections;
    for (const auto& [key, attributes] : model) {
      const std::string item = Item(attributes);
      const model::ItemView view(item);
      items[Node::KeyOf(item)] = item;
      ++expected.item_count;
      expected.item_bytes += view.BilledSize();
      uint64_t& collection = collections[key.first];
      collection += view.BilledSize();
      for (size_t i = 0; i < 3; ++i) {
        const LocalIndexEntry entry = MakeLocalIndexEntry(*schema, schema->local_indexes[i], view);
        if (!entry.exists) continue;
        entries[i][entry.key] = entry.value;
        ++expected.local_indexes[i].entry_count;
        expected.local_indexes[i].entry_bytes += entry.billed_size;
        collection += entry.billed_size;
      }
    }
    const PartitionStatistics actual = partition_->statistics();
    EXPECT_EQ(actual.item_count, expected.item_count);
    EXPECT_EQ(actual.item_bytes, expected.item_bytes);
    ASSERT_EQ(actual.local_indexes.size(), 3u);
    EXPECT_EQ(Contents(KeySpace::Items()), items);
    for (int i = 0; i < 3; ++i) {
      const auto at = static_cast<size_t>(i);
      EXPECT_EQ(actual.local_indexes[at].entry_count, expected.local_indexes[at].entry_count) << i;
      EXPECT_EQ(actual.local_indexes[at].entry_bytes, expected.local_indexes[at].entry_bytes) << i;
      EXPECT_EQ(Contents(KeySpace::LocalIndex(i)), entries[at]) << i;
    }
    for (int p = 0; p < 3; ++p) {
      const auto bytes = partition_->CollectionBytes(Prefix(std::to_string(p)));
      ASSERT_TRUE(bytes.ok());
      EXPECT_EQ(*bytes, collections[std::to_string(p)]) << p;
    }
  };
  std::string home = directory_.path() + "/node";
  for (int round = 0; round < 30; ++round) {
    std::vector<std::shared_ptr<TestWrite>> writes;
    for (int i = 0; i < 20; ++i) {
      const std::string p = pick(3), s = pick(12);
      const AttributeMap key = {{"p", S(p)}, {"s", S(s)}};
      switch (random() % 4) {
        case 0:
          model.erase({p, s});
          writes.push_back(Node::Make(Kind::kDelete, Item(key)));
          break;
        case 1: {
          const auto number = N(static_cast<int64_t>(random() % 5));
          auto [at, made] = model.try_emplace({p, s}, key);
          at->second["i"] = number;
          at->second.erase("j");
          writes.push_back(Update(key, "SET i = :v REMOVE j", {number}));
          break;
        }
        default:
          model[{p, s}] = random_item(p, s);
          writes.push_back(Node::Make(Kind::kPut, Item(model[{p, s}])));
      }
    }
    // Execute() promises no order within one call, but these all come from one thread to one inbox.
    for (const WriteOutcome& outcome : node_->Write(partition_, writes)) {
      ASSERT_TRUE(outcome.status.ok()) << outcome.status.ToString();
    }
    check();
    if (round == 10) ASSERT_TRUE(partition_->Flush().ok());
    if (round == 15 || round == 20) {  // a crash, then a clean stop
      std::string next = home;
      partition_.reset();
      if (round == 15) {
        next += "-copy";
        node_->CopyTo(next);
        home = next;
      }
      node_.reset();
      node_ = std::make_unique<Node>(next);
      ASSERT_TRUE(node_->Start().ok());
      auto found = node_->Find(1);
      ASSERT_TRUE(found.ok()) << found.status().ToString();
      partition_ = *found;
      check();
    }
  }
  ExpectIdle();
}

TEST_F(WritePath, SubmittingTooManyIsRefusedNotQueued) {
  node_->log_disk.hang = true;
  const auto write = Node::Make(Kind::kPut, Item({{"p", S("a")}, {"s", S("b")}}));
  auto all = node_->Start(partition_, std::vector<std::shared_ptr<TestWrite>>(70'000, write));
  ASSERT_TRUE(Eventually([&] { return partition_->queued_writes() >= 65'536; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  node_->log_disk.hang = false;
  size_t refused = 0;
  for (const WriteOutcome& outcome : all.get()) {
    refused += outcome.status.code() == Code::kResourceExhausted;
  }
  EXPECT_GT(refused, 0u);
  EXPECT_LE(refused, 70'000u - 65'536u);
  ExpectIdle();
}

}  // namespace
}  // namespace onggi::partition
