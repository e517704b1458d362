#include "common/rpc/steady_waits.h"

#include <absl/base/config.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>
#include <dlfcn.h>
#include <grpc/support/sync.h>
#include <grpc/support/time.h>

#if ABSL_LTS_RELEASE_VERSION < 20230802

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "common/check.h"
#include "common/runtime.h"

namespace {

using SteadyClock = std::chrono::steady_clock;

/// Longer than a process lives; the sum with a time is still a time.
constexpr std::chrono::nanoseconds kForever = std::chrono::hours(24 * 365);

/// Wakes those that wait on condition variables when their time is over.
class AlarmClock {
 public:
  /// Calls `wait`, which returns when the condition is signalled. `signal_all` does that, for all
  /// who wait on it, once `patience` is over. True: that is why `wait` has ended.
  template <class Wait>
  static bool Sleep(std::chrono::nanoseconds patience, void (*signal_all)(void*), void* condition,
                    const Wait& wait) {
    if (patience > kForever) {
      wait();
      return false;
    }
    Sleeper sleeper{signal_all, condition};
    AlarmClock& clock = Instance();
    const auto at =
        clock.Add(&sleeper, SteadyClock::now() + std::max(patience, std::chrono::nanoseconds(0)));
    wait();
    return clock.Remove(at, sleeper);
  }

 private:
  struct Sleeper {
    void (*signal_all)(void*);
    void* condition;
    bool rung = false;
  };
  using Sleepers = std::multimap<SteadyClock::time_point, Sleeper*>;

  /// It may ring just before its sleeper sleeps, so it goes on until that has got up.
  static constexpr auto kAgain = std::chrono::milliseconds(5);

  AlarmClock() {
    std::thread([this] {
      onggi::SetThreadName("grpc-alarm");
      Run();
    }).detach();
  }

  /// Never destroyed: gRPC's threads outlive main.
  static AlarmClock& Instance() {
    static auto* const clock = new AlarmClock;
    return *clock;
  }

  Sleepers::iterator Add(Sleeper* sleeper, SteadyClock::time_point deadline) {
    std::scoped_lock lock(mutex_);
    const auto at = sleepers_.emplace(deadline, sleeper);
    if (at == sleepers_.begin()) sooner_.notify_one();
    return at;
  }

  bool Remove(Sleepers::iterator at, const Sleeper& sleeper) {
    std::scoped_lock lock(mutex_);
    sleepers_.erase(at);
    return sleeper.rung;
  }

  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (sleepers_.empty()) {
        sooner_.wait(lock);
        continue;
      }
      const auto now = SteadyClock::now();
      const auto first = sleepers_.begin()->first;
      if (first > now) {
        sooner_.wait_until(lock, first);
        continue;
      }
      for (auto it = sleepers_.begin(); it != sleepers_.end() && it->first <= now; ++it) {
        it->second->rung = true;
        // All: a signal that this one got in the same moment is then nobody's loss.
        it->second->signal_all(it->second->condition);
      }
      sooner_.wait_for(lock, kAgain);
    }
  }

  std::mutex mutex_;  // taken while a sleeper's is held, never the other way round
  std::condition_variable sooner_;
  Sleepers sleepers_;  // by deadline; guarded by mutex_
};

}  // namespace

// In place of the libraries' own, for the shared libraries of this process too: the linker takes
// the program's definitions first. Between them, all of gRPC's waits with an end.

namespace absl {
ABSL_NAMESPACE_BEGIN

bool CondVar::WaitWithTimeout(Mutex* mu, Duration timeout) {
  constexpr auto kSignalAll = [](void* condition) {
    static_cast<CondVar*>(condition)->SignalAll();
  };
  return AlarmClock::Sleep(ToChronoNanoseconds(timeout), kSignalAll, this, [&] { Wait(mu); });
}

ABSL_NAMESPACE_END
}  // namespace absl

/// 0: signalled, or woken for no reason; 1: the deadline has passed.
extern "C" int gpr_cv_wait(gpr_cv* cv, gpr_mu* mu, gpr_timespec abs_deadline) {
  static const auto real =
      reinterpret_cast<int (*)(gpr_cv*, gpr_mu*, gpr_timespec)>(dlsym(RTLD_NEXT, "gpr_cv_wait"));
  CHECK(real != nullptr);
  const gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);
  const gpr_timespec deadline = gpr_convert_clock_type(abs_deadline, GPR_CLOCK_MONOTONIC);
  std::chrono::nanoseconds patience = std::chrono::nanoseconds::max();
  if (gpr_time_cmp(deadline, never) != 0) {
    // A double, since times infinitely far away do not fit into nanoseconds.
    const double left =
        gpr_timespec_to_micros(gpr_time_sub(deadline, gpr_now(GPR_CLOCK_MONOTONIC)));
    const double longest = std::chrono::duration<double, std::micro>(2 * kForever).count();
    patience = std::chrono::nanoseconds(
        static_cast<int64_t>(1000 * std::clamp(std::ceil(left), 0.0, longest)));
  }
  constexpr auto kSignalAll = [](void* condition) {
    gpr_cv_broadcast(static_cast<gpr_cv*>(condition));
  };
  const auto wait = [&] { real(cv, mu, never); };
  return static_cast<int>(AlarmClock::Sleep(patience, kSignalAll, cv, wait));
}

#endif

namespace onggi::rpc {

/// What calls it has this file, and so the functions above.
void KeepSteadyWaits() {}

}  // namespace onggi::rpc
