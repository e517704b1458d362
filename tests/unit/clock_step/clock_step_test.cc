#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_future.hpp>
#include <chrono>
#include <future>
#include <thread>

#include "common/proto/replication.grpc.pb.h"
#include "common/rpc/call.h"
#include "common/rpc/channel.h"
#include "common/rpc/prepare.h"
#include "common/runtime.h"

namespace {

/// How far this process' wall clock is from the machine's, whose kernel goes on as before: what a
/// wait until a moment of the wall clock meets when the clock is put back by as much.
std::atomic<int64_t> step_seconds{0};

}  // namespace

/// Before the C library's, for the libraries of this process too.
extern "C" int clock_gettime(clockid_t clock, timespec* time) {
  const long result = syscall(SYS_clock_gettime, clock, time);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    time->tv_sec += step_seconds.load();
  }
  return static_cast<int>(result);
}

extern "C" int gettimeofday(timeval* time, void*) {
  timespec now{};
  const int result = clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return result;
}

namespace onggi::rpc {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using asio::ip::tcp;
using proto::replication::CheckpointOffer;
using RpcService = proto::replication::CheckpointService;

constexpr auto kPatience = 20s;

class ClockStep : public testing::Test {
 protected:
  void SetUp() override {
    step_seconds = 3600;
    const auto real = std::chrono::system_clock::from_time_t(syscall(SYS_time, nullptr));
    ASSERT_GT(std::chrono::system_clock::now() - real, 3000s) << "the clock is not moved";
  }
  void TearDown() override { step_seconds = 0; }

  std::future<Status> Ask(const std::shared_ptr<grpc::Channel>& channel,
                          std::chrono::milliseconds timeout) {
    constexpr auto ask = [](std::shared_ptr<grpc::Channel> to,
                            std::chrono::milliseconds patience) -> asio::awaitable<Status> {
      const auto stub = RpcService::NewStub(to);
      auto answer = co_await Call(stub->async(), &RpcService::Stub::async::Offer, CheckpointOffer(),
                                  patience);
      co_return answer.status();
    };
    return asio::co_spawn(pool_.executor(0), ask(channel, timeout), asio::use_future);
  }

  IoPool pool_{1};
};

TEST_F(ClockStep, CallsEndAtTheirDeadlines) {
  // Somebody who accepts connections and says nothing.
  asio::io_context io;
  tcp::acceptor silent(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  auto channel =
      MakeChannel("127.0.0.1:" + std::to_string(silent.local_endpoint().port()), TlsOptions());
  ASSERT_TRUE(channel.ok());
  // Also while it jumps back and forth.
  for (const int64_t step : {3600, 0, 3600, 0, -3600, 7200, -7200, 0, 60, 0}) {
    auto answer = Ask(*channel, 100ms);
    std::this_thread::sleep_for(20ms);
    step_seconds = step;
    ASSERT_EQ(answer.wait_for(kPatience), std::future_status::ready) << "it does not end";
    EXPECT_EQ(answer.get().code(), Code::kDeadlineExceeded);
  }
}

TEST_F(ClockStep, CompletionQueuesEndTheirWait) {
  PrepareGrpc();
  // The second waits for its turn, as the threads of a busy server do.
  auto waits = std::async(std::launch::async, [] {
    grpc::CompletionQueue queue;
    const auto next = [&queue](int milliseconds) {
      void* tag = nullptr;
      bool ok = false;
      const auto deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                         gpr_time_from_millis(milliseconds, GPR_TIMESPAN));
      return queue.AsyncNext(&tag, &ok, deadline);
    };
    auto first = std::async(std::launch::async, next, 300);
    for (const int64_t step : {0, 3600, 0, 7200}) {
      EXPECT_EQ(next(50), grpc::CompletionQueue::TIMEOUT);
      step_seconds = step;
    }
    EXPECT_EQ(first.get(), grpc::CompletionQueue::TIMEOUT);
    queue.Shutdown();
    EXPECT_EQ(next(50), grpc::CompletionQueue::SHUTDOWN);
  });
  ASSERT_EQ(waits.wait_for(kPatience), std::future_status::ready) << "it does not end";
}

/// gRPC has both kinds of wait: its older timers the one, its event engine the other.
TEST_F(ClockStep, AWaitOnAConditionEnds) {
  PrepareGrpc();
  auto waits = std::async(std::launch::async, [] {
    absl::Mutex mutex;
    absl::CondVar never;
    absl::MutexLock lock(&mutex);
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_TRUE(never.WaitWithTimeout(&mutex, absl::Milliseconds(50)));
    EXPECT_GE(std::chrono::steady_clock::now() - begun, 50ms);
    EXPECT_TRUE(never.WaitWithTimeout(&mutex, absl::ZeroDuration()));
    EXPECT_TRUE(never.WaitWithTimeout(&mutex, -absl::InfiniteDuration()));
  });
  EXPECT_EQ(waits.wait_for(kPatience), std::future_status::ready) << "it does not end";
}

TEST_F(ClockStep, ASignalEndsAWaitAndIsNoTimeout) {
  PrepareGrpc();
  absl::Mutex mutex;
  absl::CondVar news;
  bool told = false;
  auto waits = std::async(std::launch::async, [&] {
    absl::MutexLock lock(&mutex);
    bool over = false;
    while (!told && !over) over = news.WaitWithTimeout(&mutex, absl::Hours(1));
    EXPECT_FALSE(over);
    told = false;
    while (!told && !over) over = news.WaitWithTimeout(&mutex, absl::InfiniteDuration());
    EXPECT_FALSE(over);
  });
  for (int i = 0; i < 2; ++i) {
    std::this_thread::sleep_for(20ms);
    absl::MutexLock lock(&mutex);
    told = true;
    news.Signal();
  }
  EXPECT_EQ(waits.wait_for(kPatience), std::future_status::ready) << "it does not end";
}

/// Times out, is signalled, or both at once, with many waiters and short waits.
TEST_F(ClockStep, NoSignalIsLostAmongTimeouts) {
  PrepareGrpc();
  constexpr int kTasks = 20'000;
  absl::Mutex mutex;
  absl::CondVar more;
  int queued = 0, done = 0, timeouts = 0;
  bool closed = false;
  const auto work = [&](int micros) {
    absl::MutexLock lock(&mutex);
    while (!closed || queued > 0) {
      if (queued > 0) {
        --queued;
        ++done;
      } else if (micros == 0) {
        more.Wait(&mutex);
      } else {
        // Whose time is over does not look at the queue: a signal that it took with it is missed.
        while (more.WaitWithTimeout(&mutex, absl::Microseconds(micros)) && !closed) ++timeouts;
      }
    }
  };
  std::vector<std::future<void>> workers;
  for (const int micros : {0, 0, 50, 120, 1000, 5000}) {
    workers.push_back(std::async(std::launch::async, work, micros));
  }
  for (int i = 0; i < kTasks; ++i) {
    {
      absl::MutexLock lock(&mutex);
      ++queued;
      more.Signal();
    }
    if (i % 50 == 0) std::this_thread::sleep_for(200us);
  }
  {
    absl::MutexLock lock(&mutex);
    closed = true;
    more.SignalAll();
  }
  for (auto& worker : workers) {
    ASSERT_EQ(worker.wait_for(kPatience), std::future_status::ready) << "it does not end";
  }
  EXPECT_EQ(done, kTasks);
  EXPECT_GT(timeouts, 0);
}

}  // namespace
}  // namespace onggi::rpc
