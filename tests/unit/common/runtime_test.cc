#include "common/runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <latch>
#include <set>

#include "common/async_scope.h"
#include "common/clock.h"
#include "common/uuid.h"

namespace onggi {
namespace {

using std::chrono::milliseconds;

TEST(IoPool, RunsEachContextOnItsOwnNamedThread) {
  IoPool pool(3, "test-pool");
  std::latch done(3);
  std::array<std::string, 3> names;
  std::array<size_t, 3> indexes{};
  for (size_t i = 0; i < 3; ++i) {
    boost::asio::post(pool.executor(i), [&, i] {
      char name[16];
      pthread_getname_np(pthread_self(), name, sizeof(name));
      names[i] = name;
      indexes[i] = pool.current();
      done.count_down();
    });
  }
  done.wait();
  EXPECT_THAT(names, ::testing::ElementsAre("test-pool-0", "test-pool-1", "test-pool-2"));
  EXPECT_THAT(indexes, ::testing::ElementsAre(0, 1, 2));
  EXPECT_EQ(pool.current(), IoPool::kNotAnIoThread);
}

TEST(IoPool, JoinFinishesWhatIsQueued) {
  IoPool pool(2);
  std::atomic<int> ran{0};
  for (int i = 0; i < 100; ++i) boost::asio::post(pool.NextExecutor(), [&] { ++ran; });
  pool.Join();
  EXPECT_EQ(ran, 100);
}

TEST(BlockingPool, IsIdleOnceWhatTasksHoldIsGone) {
  BlockingPool pool(2, 100);
  std::atomic<int> gone = 0;
  struct Held {
    explicit Held(std::atomic<int>* count) : count_(count) {}
    ~Held() {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++*count_;
    }
    std::atomic<int>* const count_;
  };
  for (int round = 1; round <= 5; ++round) {
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE(pool.TrySubmit([held = std::make_shared<Held>(&gone)] {}));
    }
    pool.WaitIdle();
    EXPECT_EQ(gone, round * 10);
  }
}

TEST(BlockingPool, RunsTasksAndRefusesBeyondItsBound) {
  BlockingPool pool(1, 2);
  std::latch started(1);
  std::latch release(1);
  std::atomic<int> ran{0};
  ASSERT_TRUE(pool.TrySubmit([&] {
    started.count_down();
    release.wait();
    ++ran;
  }));
  started.wait();
  EXPECT_TRUE(pool.TrySubmit([&] { ++ran; }));
  EXPECT_TRUE(pool.TrySubmit([&] { ++ran; }));
  EXPECT_FALSE(pool.TrySubmit([&] { ++ran; }));
  EXPECT_EQ(pool.queued(), 2U);
  std::thread waiter([&] { EXPECT_TRUE(pool.Submit([&] { ++ran; })); });
  release.count_down();
  waiter.join();
  pool.Stop();
  EXPECT_EQ(ran, 4);
  EXPECT_FALSE(pool.TrySubmit([] {}));
  EXPECT_FALSE(pool.Submit([] {}));
}

boost::asio::awaitable<void> Sleep(milliseconds time, std::atomic<int>& ended) {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
  timer.expires_after(time);
  co_await timer.async_wait(boost::asio::use_awaitable);
  ++ended;
}

boost::asio::awaitable<void> SleepAndCount(std::atomic<int>& cancelled) {
  struct Guard {
    std::atomic<int>& count;
    ~Guard() { ++count; }
  } guard{cancelled};
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
  timer.expires_after(std::chrono::hours(1));
  co_await timer.async_wait(boost::asio::use_awaitable);
}

TEST(AsyncScope, StopCancelsAndJoinsEveryCoroutine) {
  IoPool pool(2);
  AsyncScope scope;
  std::atomic<int> ended{0};
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(scope.Spawn(pool.NextExecutor(), SleepAndCount(ended)));
  }
  scope.Stop();
  EXPECT_EQ(ended, 50);
  EXPECT_EQ(scope.size(), 0U);
  EXPECT_FALSE(scope.Spawn(pool.executor(0), SleepAndCount(ended)));
}

TEST(AsyncScope, ForgetsCoroutinesThatEnd) {
  IoPool pool(1);
  AsyncScope scope;
  std::atomic<int> ended{0};
  for (int i = 0; i < 10; ++i) scope.Spawn(pool.executor(0), Sleep(milliseconds(1), ended));
  while (scope.size() != 0) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(ended, 10);
  scope.Stop();
}

boost::asio::awaitable<void> JoinThen(AsyncScope& inner, std::atomic<int>& ended, int* seen) {
  co_await inner.AsyncJoin();
  *seen = ended;
}

TEST(AsyncScope, CanBeJoinedByACoroutine) {
  IoPool pool(2);
  AsyncScope inner;
  AsyncScope outer;
  std::atomic<int> ended{0};
  int seen = -1;
  for (int i = 0; i < 10; ++i) inner.Spawn(pool.executor(1), Sleep(milliseconds(20), ended));
  outer.Spawn(pool.executor(0), JoinThen(inner, ended, &seen));
  while (outer.size() != 0) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(seen, 10);
}

TEST(Ids, AreUniqueAndOfTheServicesForm) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(NewRequestId());
  EXPECT_EQ(ids.size(), 1000U);
  EXPECT_THAT(*ids.begin(), ::testing::MatchesRegex("[0-9A-V]+"));
  EXPECT_EQ(ids.begin()->size(), kRequestIdLength);
  const std::string uuid = NewUuid();
  ASSERT_EQ(uuid.size(), 36U);
  EXPECT_EQ(uuid[14], '4');
  EXPECT_NE(uuid, NewUuid());
}

TEST(Clock, FormatsTimes) {
  const WallTime time(std::chrono::seconds(1369353600));
  EXPECT_EQ(FormatAmzDate(time), "20130524T000000Z");
  EXPECT_EQ(FormatHttpDate(time), "Fri, 24 May 2013 00:00:00 GMT");
  ManualClock clock(time);
  clock.Advance(std::chrono::seconds(1));
  EXPECT_EQ(clock.WallSeconds(), 1369353601);
  EXPECT_LE(Clock::System().Now(), Clock::System().Now());
}

}  // namespace
}  // namespace onggi
