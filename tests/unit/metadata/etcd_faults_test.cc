// The etcd client while members are killed, stopped and restarted under it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>

#include "tests/unit/metadata/store_backends.h"

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Steady = std::chrono::steady_clock;

/// A slow machine (or sanitizer) says so.
milliseconds Slack(milliseconds time) {
  const char* slack = std::getenv("ONGGI_TIMING_SLACK");
  return slack == nullptr ? time : time * std::max(1, std::atoi(slack));
}

class Waiter : public Backend {
 public:
  std::shared_ptr<MetadataStore> Connect(size_t) override { return nullptr; }
  void Compact() override {}
};

/// Counters that only go up by one, by compare-and-swap, each step with a record of its own: what
/// is lost, or done twice, shows.
class Load {
 public:
  Load(MetadataStore& store, asio::io_context& io, int chains) : store_(store), io_(io) {
    counts_.resize(static_cast<size_t>(chains));
    for (int i = 0; i < chains; ++i) asio::co_spawn(io_, Run(i), asio::detached);
    asio::co_spawn(io_, Ask(), asio::detached);
  }

  void Stop() { stopping_ = true; }
  bool stopped() const { return running_ == 0; }
  /// The longest time without any answered transaction since the last call.
  milliseconds TakeGap() {
    Note();
    return std::chrono::duration_cast<milliseconds>(std::exchange(gap_, Steady::duration(0)));
  }

  /// Against what the store says in the end.
  void Check(Waiter& waiter) {
    for (size_t i = 0; i < counts_.size(); ++i) {
      const std::string id = std::to_string(i);
      const auto counter = waiter.Range(store_, "counter/" + id, "counter/" + id + "0");
      ASSERT_TRUE(counter.ok());
      ASSERT_EQ(counter->kvs.size(), 1u);
      EXPECT_EQ(counter->kvs[0].value, std::to_string(counts_[i]));
      const auto records = waiter.Range(store_, "record/" + id + "/", "record/" + id + "0");
      ASSERT_TRUE(records.ok());
      EXPECT_EQ(records->kvs.size(), static_cast<size_t>(counts_[i]));
      EXPECT_GT(counts_[i], 10);
    }
  }

  const std::vector<int>& counts() const { return counts_; }
  int answered() const { return answered_; }

 private:
  void Answered() {
    ++answered_;
    Note();
  }
  void Note() {
    const auto now = Steady::now();
    gap_ = std::max(gap_, now - last_);
    last_ = now;
  }

  asio::awaitable<void> Pause(milliseconds pause) {
    asio::steady_timer timer(io_, pause);
    co_await timer.async_wait(asio::use_awaitable);
  }

  asio::awaitable<void> Run(int chain) {
    ++running_;
    const std::string id = std::to_string(chain);
    const std::string key = "counter/" + id;
    int& count = counts_[static_cast<size_t>(chain)];
    Revision revision;
    bool maybe = false;  // whether the step under way may have been done already
    while (!stopping_ || maybe) {
      Transaction step;
      step.compares.push_back(Compare::At(key, revision));
      step.puts.push_back({key, std::to_string(count + 1), LeaseId()});
      step.puts.push_back({"record/" + id + "/" + std::to_string(count + 1), "", LeaseId()});
      const Result<TransactionResult> result = co_await store_.Commit(std::move(step));
      if (!result.ok()) {
        if (result.status().code() == Code::kUnknownOutcome) {
          maybe = true;
        } else {
          EXPECT_EQ(result.status().code(), Code::kUnavailable) << result.status().ToString();
        }
        co_await Pause(milliseconds(10));
        continue;
      }
      Answered();
      if (!result->succeeded) {
        // Only a step of unknown outcome can have been done: once.
        EXPECT_TRUE(maybe) << key;
        EXPECT_EQ(result->current.size(), 1u);
        EXPECT_EQ(result->current[0].value, std::to_string(count + 1));
        revision = result->current[0].mod_revision;
      } else {
        revision = result->revision;
      }
      ++count;
      maybe = false;
      co_await Pause(milliseconds(2));
    }
    --running_;
  }

  /// New requests all the time: those that were under way when something broke are not the measure.
  asio::awaitable<void> Ask() {
    ++running_;
    while (!stopping_) {
      Transaction transaction;
      transaction.puts.push_back({"ask", "", LeaseId()});
      ++running_;  // until it is answered: what it captures is this
      store_.AsyncCommit(std::move(transaction), [this](const Result<TransactionResult>& result) {
        asio::post(io_, [this, ok = result.ok()] {
          if (ok) Answered();
          --running_;
        });
      });
      co_await Pause(milliseconds(20));
    }
    --running_;
  }

  MetadataStore& store_;
  asio::io_context& io_;
  std::vector<int> counts_;
  bool stopping_ = false;
  int running_ = 0;
  int answered_ = 0;
  Steady::time_point last_ = Steady::now();
  Steady::duration gap_{0};
};

class EtcdFaultsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ONGGI_NEEDS_ETCD();
    cluster_ = std::make_unique<EtcdCluster>();
    auto store = EtcdStore::Open(cluster_->ClientOptions());
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    store_ = std::move(*store);
  }
  void TearDown() override {
    store_.reset();
    waiter_.io().restart();
    waiter_.io().poll();
  }

  /// After time enough to notice that something is wrong.
  bool ServesAgain(const Load& load) {
    waiter_.RunFor(milliseconds(800));
    const int so_far = load.answered();
    return waiter_.RunUntil([&] { return load.answered() > so_far + 100; });
  }

  /// Whether member `i` becomes one of a majority again; the load goes on meanwhile.
  bool CaughtUp(size_t i) {
    auto caught_up = std::async(std::launch::async, [&] { return cluster_->AwaitCaughtUp(i); });
    waiter_.RunUntil([&] { return caught_up.wait_for(seconds(0)) == std::future_status::ready; });
    return caught_up.get();
  }

  Waiter waiter_;
  std::unique_ptr<EtcdCluster> cluster_;
  std::unique_ptr<EtcdStore> store_;
};

TEST_F(EtcdFaultsTest, AnyMemberMayDieOrStopUnderLoad) {
  std::map<std::string, std::vector<int>> watched;
  const auto handle = store_->Watch("counter/", Revision(1), waiter_.io().get_executor(),
                                    [&](const WatchBatch& batch) {
                                      EXPECT_FALSE(batch.compacted);
                                      for (const WatchEvent& event : batch.events) {
                                        watched[event.kv.key].push_back(std::stoi(event.kv.value));
                                      }
                                    });
  int lost = 0;
  auto lease = waiter_.Grant(*store_, seconds(5), [&] { ++lost; });
  ASSERT_TRUE(lease.ok());
  ASSERT_TRUE(waiter_.Put(*store_, "leased", "1", (*lease)->id()).ok());

  Load load(*store_, waiter_.io(), 8);
  waiter_.RunFor(milliseconds(500));
  load.TakeGap();
  for (size_t i = 0; i < cluster_->size(); ++i) {
    cluster_->Kill(i);
    ASSERT_TRUE(ServesAgain(load));
    const milliseconds gap = load.TakeGap();
    EXPECT_LT(gap, Slack(milliseconds(2000))) << "killed " << i;
    RecordProperty("gap_killed_" + std::to_string(i), static_cast<int>(gap.count()));
    cluster_->Start(i);
    ASSERT_TRUE(CaughtUp(i));
  }
  for (size_t i = 0; i < cluster_->size(); ++i) {
    cluster_->Freeze(i);
    ASSERT_TRUE(ServesAgain(load));
    const milliseconds gap = load.TakeGap();
    EXPECT_LT(gap, Slack(milliseconds(2000))) << "stopped " << i;
    RecordProperty("gap_stopped_" + std::to_string(i), static_cast<int>(gap.count()));
    cluster_->Thaw(i);
    ASSERT_TRUE(CaughtUp(i));
  }
  load.Stop();
  ASSERT_TRUE(waiter_.RunUntil([&] { return load.stopped(); }));
  load.Check(waiter_);
  EXPECT_EQ(lost, 0);
  EXPECT_TRUE((*lease)->alive());
  EXPECT_FALSE(waiter_.Show(*store_, "leased").empty());
  // Every step was seen once, in order.
  ASSERT_TRUE(waiter_.RunUntil([&] {
    for (size_t i = 0; i < load.counts().size(); ++i) {
      const auto& steps = watched["counter/" + std::to_string(i)];
      if (steps.empty() || steps.back() != load.counts()[i]) return false;
    }
    return true;
  }));
  for (const auto& [key, steps] : watched) {
    for (size_t i = 0; i < steps.size(); ++i) {
      ASSERT_EQ(steps[i], static_cast<int>(i) + 1) << key;
    }
  }
}

TEST_F(EtcdFaultsTest, ARestartOfAllMembersIsSurvived) {
  std::vector<std::string> seen;
  const auto handle =
      store_->Watch("w/", Revision(), waiter_.io().get_executor(), [&](const WatchBatch& batch) {
        for (const auto& event : batch.events) seen.push_back(event.kv.value);
      });
  int lost = 0;
  auto lease = waiter_.Grant(*store_, seconds(10), [&] { ++lost; });
  ASSERT_TRUE(lease.ok());
  ASSERT_TRUE(waiter_.Put(*store_, "w/leased", "1", (*lease)->id()).ok());
  for (size_t i = 0; i < cluster_->size(); ++i) cluster_->Kill(i);
  Transaction transaction;
  transaction.puts.push_back({"w/b", "2", LeaseId()});
  const auto box = std::make_shared<Box<Result<TransactionResult>>>();
  store_->AsyncCommit(transaction, [box](Result<TransactionResult> r) { box->Put(std::move(r)); });
  waiter_.RunFor(milliseconds(300));
  for (size_t i = 0; i < cluster_->size(); ++i) cluster_->Start(i);
  // Asked while nobody was there, answered when somebody is: it was surely not done before.
  ASSERT_TRUE(waiter_.RunUntil([&] { return box->times() > 0; }));
  const auto result = box->Take();
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  ASSERT_TRUE(waiter_.RunUntil([&] { return seen.size() >= 2; }));
  EXPECT_EQ(seen, (std::vector<std::string>{"1", "2"}));
  waiter_.RunFor(milliseconds(1500));
  EXPECT_EQ(lost, 0);
  EXPECT_TRUE((*lease)->alive());
}

TEST_F(EtcdFaultsTest, WithoutAMajorityErrorsAreClearAndPass) {
  auto options = cluster_->ClientOptions();
  options.request_timeout = milliseconds(1200);
  auto opened = EtcdStore::Open(options);
  ASSERT_TRUE(opened.ok());
  const std::unique_ptr<EtcdStore> store = std::move(*opened);
  ASSERT_TRUE(waiter_.Put(*store, "a", "1").ok());
  int lost = 0;
  auto lease = waiter_.Grant(*store, seconds(2), [&] { ++lost; });
  ASSERT_TRUE(lease.ok());
  ASSERT_TRUE(waiter_.Put(*store, "leased", "1", (*lease)->id()).ok());
  cluster_->Kill(0);
  cluster_->Kill(1);
  const auto put = [&] {
    const auto start = Steady::now();
    const Status written = waiter_.Put(*store, "a", "2").status();
    EXPECT_THAT(written.code(), ::testing::AnyOf(Code::kUnavailable, Code::kUnknownOutcome));
    EXPECT_LT(Steady::now() - start, Slack(milliseconds(1700)));
    return written.code();
  };
  // In the end the last member says that it has no leader: surely not done.
  EXPECT_TRUE(waiter_.RunUntil([&] { return put() == Code::kUnavailable; }));
  EXPECT_EQ(waiter_.Range(*store, "", "").status().code(), Code::kUnavailable);
  // By its own clock the lease may have ended.
  EXPECT_TRUE(waiter_.RunUntil([&] { return lost == 1; }));
  EXPECT_FALSE((*lease)->alive());
  cluster_->Start(0);
  const auto start = Steady::now();
  EXPECT_TRUE(waiter_.RunUntil([&] { return waiter_.Put(*store, "a", "3").ok(); }));
  EXPECT_LT(Steady::now() - start, Slack(milliseconds(5000)));
  // What was lost is revoked.
  EXPECT_TRUE(waiter_.RunUntil([&] { return waiter_.Show(*store, "leased").empty(); }));
}

TEST_F(EtcdFaultsTest, AMemberCutOffFromTheOthersIsLeft) {
  // Stopping two members cuts the third from the majority; continuing one of them gives the
  // majority back without it being the one in use.
  ASSERT_TRUE(waiter_.Put(*store_, "a", "1").ok());
  std::vector<std::string> seen;
  const auto handle =
      store_->Watch("a", Revision(), waiter_.io().get_executor(), [&](const WatchBatch& batch) {
        for (const auto& event : batch.events) seen.push_back(event.kv.value);
      });
  waiter_.RunFor(milliseconds(200));
  cluster_->Freeze(0);
  cluster_->Freeze(1);
  waiter_.RunFor(milliseconds(1500));
  cluster_->Freeze(2);
  cluster_->Thaw(0);
  cluster_->Thaw(1);
  ASSERT_TRUE(waiter_.RunUntil([&] { return waiter_.Put(*store_, "a", "2").ok(); }));
  ASSERT_TRUE(waiter_.RunUntil([&] { return !seen.empty(); }));
  cluster_->Thaw(2);
}

}  // namespace
}  // namespace onggi::metadata
