#include "server/partition/news.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "tests/unit/partition/node_fixture.h"

namespace onggi::partition {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

SteadyTime In(milliseconds time) { return std::chrono::steady_clock::now() + time; }

class NewsTest : public ::testing::Test {
 protected:
  ~NewsTest() override { io_.Stop(); }
  void Wait(uint64_t count, SteadyTime deadline) {
    Await(io_.executor(0), news_.Wait(count, deadline));
  }
  News news_;
  IoPool io_{2};
};

TEST_F(NewsTest, WhatWasToldSinceIsNotWaitedFor) {
  const uint64_t seen = news_.count();
  news_.Tell();
  const SteadyTime begin = std::chrono::steady_clock::now();
  Wait(seen, In(seconds(20)));
  news_.Block(seen, In(seconds(20)));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(10));
}

TEST_F(NewsTest, WithoutNewsTheDeadlineEndsIt) {
  news_.Tell();
  const uint64_t seen = news_.count();
  SteadyTime deadline = In(milliseconds(30));
  Wait(seen, deadline);
  EXPECT_GE(std::chrono::steady_clock::now(), deadline);
  deadline = In(milliseconds(30));
  news_.Block(seen, deadline);
  EXPECT_GE(std::chrono::steady_clock::now(), deadline);
  EXPECT_EQ(news_.count(), seen);
}

TEST_F(NewsTest, EverybodyWhoWaitsIsTold) {
  auto thread = std::async(std::launch::async, [&] { news_.Block(0, In(seconds(20))); });
  std::vector<std::future<void>> coroutines;
  for (size_t i = 0; i < 4; ++i) {
    coroutines.push_back(std::async(std::launch::async, [&, i] {
      Await(io_.executor(i % 2), news_.Wait(0, In(seconds(20))));
    }));
  }
  std::this_thread::sleep_for(milliseconds(50));
  news_.Tell();
  EXPECT_EQ(thread.wait_for(seconds(10)), std::future_status::ready);
  for (auto& coroutine : coroutines) {
    EXPECT_EQ(coroutine.wait_for(seconds(10)), std::future_status::ready);
  }
}

/// Two that answer each other: one lost word, and they stand still.
TEST_F(NewsTest, NothingIsLostBetweenLookingAndWaiting) {
  constexpr uint64_t kRounds = 3000;
  News back;
  std::thread other([&] {
    for (uint64_t round = 0; round < kRounds; ++round) {
      while (news_.count() <= round) news_.Block(round, In(seconds(20)));
      back.Tell();
    }
  });
  const auto ask = [](News* news, News* answers, uint64_t rounds) -> boost::asio::awaitable<void> {
    for (uint64_t round = 0; round < rounds; ++round) {
      news->Tell();
      while (answers->count() <= round) co_await answers->Wait(round, In(seconds(20)));
    }
  };
  const SteadyTime begin = std::chrono::steady_clock::now();
  Await(io_.executor(1), ask(&news_, &back, kRounds));
  other.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(15));
}

}  // namespace
}  // namespace onggi::partition
