// What every metadata store does alike: embedded, simulated, and etcd's own servers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "replication/metadata/election.h"
#include "tests/unit/metadata/store_backends.h"

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

enum class Kind { kEmbedded, kSimulated, kEtcd };

class ConformanceTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    switch (GetParam()) {
      case Kind::kEmbedded: backend_ = std::make_unique<EmbeddedBackend>(); break;
      case Kind::kSimulated: backend_ = std::make_unique<SimulatedBackend>(); break;
      case Kind::kEtcd:
        ONGGI_NEEDS_ETCD();
        backend_ = std::make_unique<EtcdBackend>();
        break;
    }
    store_ = backend_->Connect();
    ASSERT_NE(store_, nullptr);
  }
  void TearDown() override {
    store_.reset();
    if (backend_ != nullptr) {
      backend_->io().restart();
      backend_->io().poll();
    }
  }

  Result<TransactionResult> Commit(Transaction transaction) {
    return backend_->Commit(*store_, std::move(transaction));
  }
  Revision Put(std::string key, std::string value) {
    const auto result = backend_->Put(*store_, std::move(key), std::move(value));
    EXPECT_TRUE(result.ok()) << result.status().ToString();
    return result.ok() ? result->revision : Revision();
  }
  Revision Delete(std::string key) {
    const auto result = backend_->Delete(*store_, std::move(key));
    EXPECT_TRUE(result.ok()) << result.status().ToString();
    return result.ok() ? result->revision : Revision();
  }

  struct Seen {
    std::vector<WatchBatch> batches;
    std::unique_ptr<WatchHandle> handle;

    std::vector<std::string> Events() const {
      std::vector<std::string> all;
      for (const WatchBatch& batch : batches) {
        for (const WatchEvent& event : batch.events) {
          all.push_back(event.type == WatchEvent::Type::kPut ? event.kv.key + "=" + event.kv.value
                                                             : "-" + event.kv.key);
        }
      }
      return all;
    }
    bool compacted() const { return !batches.empty() && batches.back().compacted; }
  };
  std::shared_ptr<Seen> Watch(const std::string& prefix, Revision from) {
    auto seen = std::make_shared<Seen>();
    seen->handle = store_->Watch(
        prefix, from, backend_->io().get_executor(),
        [raw = seen.get()](const WatchBatch& batch) { raw->batches.push_back(batch); });
    return seen;
  }
  bool RunUntil(const std::function<bool()>& done) { return backend_->RunUntil(done); }

  std::unique_ptr<Backend> backend_;
  std::shared_ptr<MetadataStore> store_;
};

TEST_P(ConformanceTest, ComparesDecideWholeTransactions) {
  Transaction create;
  create.compares.push_back(Compare::Missing("a"));
  create.puts.push_back({"a", "1", LeaseId()});
  create.puts.push_back({"b", "1", LeaseId()});
  const auto created = Commit(create);
  ASSERT_TRUE(created.ok()) << created.status().ToString();
  EXPECT_TRUE(created->succeeded);

  // Nothing happens unless every compare holds; what stands is told, in the order of the compares.
  Transaction again;
  again.compares.push_back(Compare::At("b", created->revision));
  again.compares.push_back(Compare::Missing("none"));
  again.compares.push_back(Compare::Missing("a"));
  again.puts.push_back({"b", "2", LeaseId()});
  again.deletes.push_back("a");
  const auto refused = Commit(again);
  ASSERT_TRUE(refused.ok()) << refused.status().ToString();
  EXPECT_FALSE(refused->succeeded);
  EXPECT_EQ(refused->revision, created->revision);
  ASSERT_EQ(refused->current.size(), 2u);
  EXPECT_EQ(refused->current[0], (KeyValue{"b", "1", created->revision, created->revision}));
  EXPECT_EQ(refused->current[1].key, "a");

  Transaction swap;
  swap.compares.push_back(Compare::At("b", created->revision));
  swap.puts.push_back({"b", "2", LeaseId()});
  swap.deletes.push_back("a");
  swap.deletes.push_back("none");
  const auto swapped = Commit(swap);
  ASSERT_TRUE(swapped.ok());
  EXPECT_TRUE(swapped->succeeded);
  EXPECT_EQ(swapped->revision.value, created->revision.value + 1);
  const auto range = backend_->Range(*store_, "", "");
  ASSERT_TRUE(range.ok());
  EXPECT_THAT(range->kvs, ElementsAre(KeyValue{"b", "2", created->revision, swapped->revision}));
  EXPECT_EQ(range->revision, swapped->revision);
}

TEST_P(ConformanceTest, TransactionsThatChangeNothingTakeNoRevision) {
  const Revision revision = Put("a", "1");
  EXPECT_EQ(Delete("none"), revision);
  const auto empty = Commit(Transaction());
  ASSERT_TRUE(empty.ok());
  EXPECT_TRUE(empty->succeeded);
  EXPECT_EQ(empty->revision, revision);
  Transaction only_compares;
  only_compares.compares.push_back(Compare::At("a", revision));
  const auto compared = Commit(only_compares);
  ASSERT_TRUE(compared.ok());
  EXPECT_TRUE(compared->succeeded);
  EXPECT_EQ(compared->revision, revision);
}

TEST_P(ConformanceTest, AKeyMadeAgainHasANewCreateRevision) {
  const Revision first = Put("a", "1");
  Delete("a");
  const Revision second = Put("a", "2");
  Put("a", "3");
  const auto range = backend_->Range(*store_, "a", "b");
  ASSERT_TRUE(range.ok());
  ASSERT_EQ(range->kvs.size(), 1u);
  EXPECT_GT(second, first);
  EXPECT_EQ(range->kvs[0].create_revision, second);
}

TEST_P(ConformanceTest, RangesAreOrderedBoundedAndLimited) {
  for (const char* key : {"b", "a", "d", "c", "\xff\xff"}) Put(key, "v");
  const auto keys = [&](const std::string& start, const std::string& end, size_t limit) {
    const auto range = backend_->Range(*store_, start, end, limit);
    std::string all;
    EXPECT_TRUE(range.ok());
    for (const KeyValue& kv : range->kvs) all += kv.key;
    return all + (range->more ? "+" : "");
  };
  EXPECT_EQ(keys("", "", 0), "abcd\xff\xff");
  EXPECT_EQ(keys("b", "d", 0), "bc");
  EXPECT_EQ(keys("b", "", 0), "bcd\xff\xff");
  EXPECT_EQ(keys("", "", 2), "ab+");
  EXPECT_EQ(keys(std::string("b\0", 2), "", 2), "cd+");
  EXPECT_EQ(keys("c", "e", 2), "cd");
  EXPECT_EQ(keys("x", "y", 0), "");
  EXPECT_EQ(keys("d", "b", 0), "");
}

TEST_P(ConformanceTest, ALongRangeIsOfOneRevision) {
  // Two keys far apart are always written together, while pages of the range are read.
  const std::string value(500, 'v');
  for (int i = 0; i < 20; ++i) {
    Transaction transaction;
    for (int j = 0; j < 100; ++j) {
      transaction.puts.push_back({"k" + std::to_string(1000 + i * 100 + j), value, LeaseId()});
    }
    ASSERT_TRUE(Commit(std::move(transaction)).ok());
  }
  const auto write = [&](int n) {
    Transaction transaction;
    transaction.puts.push_back({"a", std::to_string(n), LeaseId()});
    transaction.puts.push_back({"z", std::to_string(n), LeaseId()});
    return transaction;
  };
  ASSERT_TRUE(Commit(write(0)).ok());
  const auto stop = std::make_shared<bool>(false);
  const auto busy = std::make_shared<Box<int>>();
  std::function<void(int)> chain = [&, stop, busy](int n) {
    store_->AsyncCommit(write(n), [&, stop, busy, n](const Result<TransactionResult>& result) {
      EXPECT_TRUE(result.ok());
      if (*stop) return busy->Put(n);
      chain(n + 1);
    });
  };
  chain(1);
  for (int i = 0; i < 5; ++i) {
    const auto range = backend_->Range(*store_, "", "");
    ASSERT_TRUE(range.ok()) << range.status().ToString();
    ASSERT_EQ(range->kvs.size(), 2002u);
    EXPECT_EQ(range->kvs.front().value, range->kvs.back().value);
    EXPECT_FALSE(range->more);
    EXPECT_TRUE(std::ranges::is_sorted(range->kvs, {}, &KeyValue::key));
    for (const KeyValue& kv : range->kvs) EXPECT_LE(kv.mod_revision, range->revision);
  }
  *stop = true;
  EXPECT_TRUE(RunUntil([&] { return busy->times() > 0; }));
}

TEST_P(ConformanceTest, LimitsAreThoseOfEtcd) {
  const auto puts = [](size_t count, size_t size) {
    Transaction transaction;
    for (size_t i = 0; i < count; ++i) {
      transaction.puts.push_back({"k" + std::to_string(i), std::string(size, 'v'), LeaseId()});
    }
    return transaction;
  };
  EXPECT_TRUE(Commit(puts(128, 1)).ok());
  EXPECT_EQ(Commit(puts(129, 1)).status().code(), Code::kInvalidArgument);
  EXPECT_TRUE(Commit(puts(1, 1'500'000)).ok());
  EXPECT_TRUE(Commit(puts(100, 15'000)).ok());
  EXPECT_EQ(Commit(puts(1, 1'600'000)).status().code(), Code::kInvalidArgument);
  Transaction compares;
  for (int i = 0; i < 129; ++i) compares.compares.push_back(Compare::Missing(std::to_string(i)));
  EXPECT_EQ(Commit(compares).status().code(), Code::kInvalidArgument);
  Transaction twice = puts(1, 1);
  twice.deletes.push_back("k0");
  EXPECT_EQ(Commit(twice).status().code(), Code::kInvalidArgument);
  Transaction nameless;
  nameless.puts.push_back({"", "v", LeaseId()});
  EXPECT_EQ(Commit(nameless).status().code(), Code::kInvalidArgument);
  // A mebibyte and a half of values is read back.
  EXPECT_EQ(backend_->Range(*store_, "", "")->kvs.size(), 128u);
}

TEST_P(ConformanceTest, AWatchReplaysThenFollows) {
  const Revision first = Put("w/a", "1");
  Put("other", "1");
  Put("w/a", "2");
  auto seen = Watch("w/", first);
  auto later = Watch("w/", Revision());
  ASSERT_TRUE(RunUntil([&] { return seen->Events().size() >= 2; }));
  EXPECT_THAT(seen->Events(), ElementsAre("w/a=1", "w/a=2"));
  Delete("w/a");
  const Revision last = Put("w/b", "3");
  ASSERT_TRUE(RunUntil([&] { return seen->Events().size() >= 4 && later->Events().size() >= 2; }));
  EXPECT_THAT(seen->Events(), ElementsAre("w/a=1", "w/a=2", "-w/a", "w/b=3"));
  EXPECT_THAT(later->Events(), ElementsAre("-w/a", "w/b=3"));
  EXPECT_EQ(seen->batches.back().revision, last);
  EXPECT_EQ(seen->batches.back().events.back().kv.mod_revision, last);
  seen->handle.reset();
  Put("w/b", "4");
  backend_->RunFor(milliseconds(200));
  EXPECT_EQ(seen->Events().size(), 4u);
}

TEST_P(ConformanceTest, AWatchMayStartInTheFuture) {
  const Revision now = Put("a", "1");
  auto seen = Watch("", Revision(now.value + 2));
  backend_->RunFor(milliseconds(50));
  Put("a", "2");
  Put("a", "3");
  ASSERT_TRUE(RunUntil([&] { return !seen->Events().empty(); }));
  EXPECT_THAT(seen->Events(), ElementsAre("a=3"));
}

TEST_P(ConformanceTest, ARevisionIsNeverCutInTwo) {
  const Revision start = Put("a", "1");
  auto live = Watch("r/", start);
  constexpr size_t kEach = 100;
  // 1.4 MB a revision: past what etcd puts into one response.
  for (int i = 0; i < 4; ++i) {
    Transaction transaction;
    for (size_t j = 0; j < kEach; ++j) {
      transaction.puts.push_back({"r/" + std::to_string(j), std::string(14'000, 'v'), LeaseId()});
    }
    ASSERT_TRUE(Commit(std::move(transaction)).ok());
  }
  auto replay = Watch("r/", start);
  for (const auto& seen : {live, replay}) {
    ASSERT_TRUE(RunUntil([&] { return seen->Events().size() >= 4 * kEach; }));
    Revision last = start;
    for (const WatchBatch& batch : seen->batches) {
      std::map<Revision, size_t> events;
      for (const WatchEvent& event : batch.events) ++events[event.kv.mod_revision];
      for (const auto& [revision, count] : events) {
        EXPECT_EQ(count, kEach);
        EXPECT_GT(revision, last);
        last = revision;
        EXPECT_GE(batch.revision, revision);
      }
    }
  }
}

TEST_P(ConformanceTest, AWatchOfForgottenEventsSaysCompacted) {
  const Revision first = Put("w/a", "1");
  Put("w/a", "2");
  backend_->Compact();
  auto seen = Watch("w/", first);
  ASSERT_TRUE(RunUntil([&] { return seen->compacted(); }));
  EXPECT_THAT(seen->Events(), IsEmpty());
  Put("w/a", "3");
  backend_->RunFor(milliseconds(200));
  EXPECT_EQ(seen->batches.size(), 1u);
  const auto range = backend_->Range(*store_, "w/", "w0");
  ASSERT_TRUE(range.ok());
  auto again = Watch("w/", Revision(range->revision.value + 1));
  Put("w/a", "4");
  ASSERT_TRUE(RunUntil([&] { return !again->Events().empty(); }));
  EXPECT_THAT(again->Events(), ElementsAre("w/a=4"));
}

TEST_P(ConformanceTest, KeysEndWithTheirLease) {
  auto lease = backend_->Grant(*store_, seconds(1));
  ASSERT_TRUE(lease.ok()) << lease.status().ToString();
  EXPECT_TRUE((*lease)->alive());
  auto seen = Watch("l/", Revision());
  ASSERT_TRUE(backend_->Put(*store_, "l/bound", "1", (*lease)->id()).ok());
  ASSERT_TRUE(backend_->Put(*store_, "l/freed", "1", (*lease)->id()).ok());
  Put("l/freed", "2");
  Put("l/free", "1");
  // It is kept alive.
  backend_->RunFor(milliseconds(2500));
  EXPECT_THAT(backend_->Show(*store_, "l/"), ElementsAre("l/bound=1", "l/free=1", "l/freed=2"));
  EXPECT_TRUE((*lease)->alive());
  const LeaseId id = (*lease)->id();
  lease->reset();
  ASSERT_TRUE(RunUntil([&] { return seen->Events().size() >= 5; }));
  EXPECT_EQ(seen->Events().back(), "-l/bound");
  EXPECT_THAT(backend_->Show(*store_, "l/"), ElementsAre("l/free=1", "l/freed=2"));
  // And nothing can be bound to it any more; nothing else of the transaction happens either.
  Transaction late;
  late.puts.push_back({"l/late", "1", id});
  late.puts.push_back({"l/with", "1", LeaseId()});
  EXPECT_EQ(Commit(late).status().code(), Code::kNotFound);
  EXPECT_THAT(backend_->Show(*store_, "l/"), ElementsAre("l/free=1", "l/freed=2"));
  EXPECT_TRUE(backend_->Revoke(*store_, id).ok());
}

TEST_P(ConformanceTest, ALeaseRevokedByOthersIsLost) {
  int lost = 0;
  auto lease = backend_->Grant(*store_, seconds(2), [&] { ++lost; });
  ASSERT_TRUE(lease.ok());
  ASSERT_TRUE(backend_->Put(*store_, "l/a", "1", (*lease)->id()).ok());
  const auto other = backend_->Connect();
  ASSERT_TRUE(backend_->Revoke(*other, (*lease)->id()).ok());
  EXPECT_THAT(backend_->Show(*store_, "l/"), IsEmpty());
  ASSERT_TRUE(RunUntil([&] { return lost > 0; }));
  EXPECT_FALSE((*lease)->alive());
  lease->reset();
  backend_->RunFor(milliseconds(100));
  EXPECT_EQ(lost, 1);
  EXPECT_EQ(backend_->Grant(*store_, seconds(0)).status().code(), Code::kInvalidArgument);
}

TEST_P(ConformanceTest, RequestsPastTheBoundAreRefusedAndAllAnsweredOnce) {
  store_.reset();
  if (GetParam() == Kind::kEmbedded) backend_ = std::make_unique<EmbeddedBackend>();
  store_ = backend_->Connect(20);
  constexpr int kRequests = 5000;
  std::atomic<int> answered{0};
  std::atomic<int> refused{0};
  std::atomic<int> done{0};
  for (int i = 0; i < kRequests; ++i) {
    Transaction transaction;
    transaction.puts.push_back({"k" + std::to_string(i), "v", LeaseId()});
    store_->AsyncCommit(std::move(transaction), [&](const Result<TransactionResult>& result) {
      if (result.ok()) ++done;
      if (result.status().code() == Code::kResourceExhausted) ++refused;
      ++answered;
    });
  }
  ASSERT_TRUE(RunUntil([&] { return answered >= kRequests; }));
  EXPECT_GE(done, 20);
  EXPECT_GT(refused, 0);
  EXPECT_EQ(done + refused, kRequests);
  EXPECT_EQ(backend_->Range(*store_, "k", "l")->kvs.size(), static_cast<size_t>(done));
}

TEST_P(ConformanceTest, ClosingAnswersEverything) {
  std::atomic<int> answered{0};
  for (int i = 0; i < 200; ++i) {
    Transaction transaction;
    transaction.puts.push_back({"k" + std::to_string(i), "v", LeaseId()});
    store_->AsyncCommit(std::move(transaction), [&](const Result<TransactionResult>& result) {
      if (!result.ok()) {
        EXPECT_THAT(result.status().code(),
                    ::testing::AnyOf(Code::kUnavailable, Code::kUnknownOutcome));
      }
      ++answered;
    });
    store_->AsyncRange("", "", 0, [&](const Result<RangeResult>&) { ++answered; });
  }
  auto seen = Watch("", Revision(1));
  store_.reset();
  backend_.reset();  // the embedded store's owner
  EXPECT_EQ(answered, 400);
}

/// A candidate that campaigns until it is stopped, and counts.
class Candidate {
 public:
  Candidate(MetadataStore& store, asio::io_context& io, std::string name)
      : election_(store, io.get_executor(), "election/", std::move(name), seconds(2)), io_(io) {}

  void Campaign() {
    asio::co_spawn(
        io_,
        [this]() -> asio::awaitable<void> {
          ++running;
          Result<Leader> result = co_await election_.Campaign();
          if (result.ok()) {
            leader = *result;
            ++won;
            co_await election_.Lost();
            ++lost;
          }
          --running;
        },
        asio::detached);
  }
  void Resign() {
    asio::co_spawn(
        io_,
        [this]() -> asio::awaitable<void> {
          const Status status = co_await election_.Resign();
          EXPECT_TRUE(status.ok()) << status.ToString();
          ++resigned;
        },
        asio::detached);
  }
  bool Leads() const { return election_.leadership().has_value(); }

  std::optional<Leader> leader;
  int won = 0;
  int lost = 0;
  int resigned = 0;
  int running = 0;

 private:
  Election election_;
  asio::io_context& io_;
};

TEST_P(ConformanceTest, OneCandidateLeadsAndTheNextFollows) {
  const auto other = backend_->Connect();
  std::vector<std::string> leaders;
  LeaderObserver observer(*store_, backend_->io().get_executor(), "election/",
                          [&](const std::optional<Leader>& leader) {
                            leaders.push_back(leader ? leader->value : "nobody");
                          });
  ASSERT_TRUE(RunUntil([&] { return leaders.size() == 1; }));
  Candidate first(*store_, backend_->io(), "first");
  Candidate second(*other, backend_->io(), "second");
  first.Campaign();
  ASSERT_TRUE(RunUntil([&] { return first.won == 1; }));
  second.Campaign();
  backend_->RunFor(milliseconds(300));
  EXPECT_EQ(second.won, 0);
  EXPECT_TRUE(first.Leads());

  const auto act = [&](const Leader& leader, const std::string& value) {
    Transaction fenced;
    fenced.compares.push_back(leader.Fence());
    fenced.puts.push_back({"act", value, LeaseId()});
    return Commit(fenced);
  };
  EXPECT_TRUE(act(*first.leader, "first")->succeeded);
  first.Resign();
  ASSERT_TRUE(RunUntil([&] { return first.resigned == 1 && first.lost == 1 && second.won == 1; }));
  EXPECT_GT(second.leader->revision, first.leader->revision);
  EXPECT_FALSE(first.Leads());
  EXPECT_FALSE(act(*first.leader, "stale")->succeeded);
  EXPECT_TRUE(act(*second.leader, "second")->succeeded);

  // It may come again, behind the other; an operator may depose the leader by deleting its key.
  first.Campaign();
  backend_->RunFor(milliseconds(300));
  EXPECT_EQ(first.won, 1);
  Delete(second.leader->key);
  ASSERT_TRUE(RunUntil([&] { return second.lost == 1 && first.won == 2; }));
  ASSERT_TRUE(RunUntil([&] { return leaders.back() == "first" && leaders.size() >= 4; }));
  EXPECT_EQ(leaders.front(), "nobody");
  first.Resign();
  ASSERT_TRUE(RunUntil([&] { return first.resigned == 2; }));
  ASSERT_TRUE(RunUntil([&] { return leaders.back() == "nobody"; }));
  EXPECT_EQ(first.running + second.running, 0);
}

TEST_P(ConformanceTest, ALeaderWhoseLeaseIsRevokedIsFollowed) {
  const auto other = backend_->Connect();
  Candidate first(*store_, backend_->io(), "first");
  Candidate second(*other, backend_->io(), "second");
  first.Campaign();
  ASSERT_TRUE(RunUntil([&] { return first.won == 1; }));
  second.Campaign();
  backend_->RunFor(milliseconds(200));
  const std::string key = first.leader->key;
  const uint64_t lease = std::stoull(key.substr(key.rfind('/') + 1), nullptr, 16);
  ASSERT_TRUE(backend_->Revoke(*other, LeaseId(lease)).ok());
  ASSERT_TRUE(RunUntil([&] { return first.lost == 1 && second.won == 1; }));
  second.Resign();
  ASSERT_TRUE(RunUntil([&] { return second.resigned == 1; }));
}

std::string Name(const ::testing::TestParamInfo<Kind>& info) {
  switch (info.param) {
    case Kind::kEmbedded: return "Embedded";
    case Kind::kSimulated: return "Simulated";
    case Kind::kEtcd: return "Etcd";
  }
  return "";
}

INSTANTIATE_TEST_SUITE_P(Stores, ConformanceTest,
                         ::testing::Values(Kind::kEmbedded, Kind::kSimulated, Kind::kEtcd), Name);

}  // namespace
}  // namespace onggi::metadata
