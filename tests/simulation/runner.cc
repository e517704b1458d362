#include "tests/simulation/runner.h"

#include <execinfo.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <new>

#include "common/check.h"
#include "common/log.h"
#include "tests/simulation/cluster.h"

namespace onggi::simulation {

namespace {

constexpr size_t kMaxJobs = 64;
constexpr size_t kErrorBytes = 8192;

/// What the processes of a run share.
struct Shared {
  struct Failure {
    uint64_t seed;
    char error[kErrorBytes];
  };
  std::atomic<uint64_t> next{0};
  std::atomic<uint64_t> failures{0};
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> runs{0};
  std::atomic<uint64_t> writes{0};
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> reigns{0};
  std::atomic<uint64_t> splits{0};
  std::atomic<uint64_t> merges{0};
  std::atomic<uint64_t> jobs{0};
  std::atomic<uint64_t> steps{0};
  std::atomic<uint64_t> current[kMaxJobs];
  std::atomic<uint64_t> before[kMaxJobs];  ///< seeds that the same process ran before that one
  Failure failed[kMaxFailures];
};

Shared* MakeShared() {
  void* memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return new (memory) Shared();
}

void Note(Shared* shared, uint64_t seed, const std::string& error) {
  const uint64_t place = shared->failures++;
  if (place >= kMaxFailures) return;
  shared->failed[place].seed = seed;
  std::strncpy(shared->failed[place].error, error.c_str(), kErrorBytes - 1);
}

/// Says where a process dies that nobody meant to, then lets it.
void OnDeadlySignal(int signal) {
  constexpr std::string_view kWhere = "the process dies here:\n";
  (void)!::write(STDERR_FILENO, kWhere.data(), kWhere.size());
  void* frames[64];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), STDERR_FILENO);
  ::raise(signal);  // by default from now on: SA_RESETHAND
}

/// A death may hang on what ran before in the same process: then no replay finds it again.
/// (Sanitizers say more.)
void SayWhereItDies() {
#ifndef ONGGI_SANITIZED
  void* frame;
  (void)::backtrace(&frame, 1);  // loads what it needs while that is still possible
  static char stack[1 << 16];    // the usual one may be what has run out
  const stack_t other{stack, 0, sizeof stack};
  CHECK(::sigaltstack(&other, nullptr) == 0);
  struct sigaction action = {};
  action.sa_handler = OnDeadlySignal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_ONSTACK | SA_NODEFER);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT})
    CHECK(::sigaction(signal, &action, nullptr) == 0);
#endif
}

void Quiet(group::Mutation mutation) {
  group::active_mutation = mutation;
  log::SetLevel(log::Level::kOff);
  if (mutation == group::Mutation::kNone) return SayWhereItDies();
  // It is meant to die: not on the terminal, and without a core.
  CHECK(std::freopen("/dev/null", "w", stderr) != nullptr);
}

/// The `place`th of the run.
uint64_t SeedAt(const RunOptions& options, uint64_t place) {
  if (!options.shipped) return options.first + place;
  const uint64_t share = Profile::kShippedShare;
  return (options.first + share - 1) / share * share + place * share;
}

/// One worker: takes seeds until there are none left.
void Work(const RunOptions& options, Shared* shared, size_t job,
          std::chrono::steady_clock::time_point until) {
  Quiet(options.mutation);
  uint64_t before = 0;
  for (;;) {
    if (shared->stop || shared->failures >= kMaxFailures) return;
    const uint64_t place = shared->next++;
    if (place >= options.seeds && std::chrono::steady_clock::now() >= until) return;
    const uint64_t seed = SeedAt(options, place);
    shared->current[job] = seed;
    shared->before[job] = before++;
    Cluster cluster(seed);
    const std::string error = cluster.Run();
    ++shared->runs;
    shared->writes += cluster.truth().acknowledged();
    shared->reads += cluster.truth().reads();
    shared->reigns += cluster.truth().reigns();
    shared->splits += cluster.truth().splits();
    shared->merges += cluster.truth().merges();
    shared->jobs += cluster.jobs();
    shared->steps += cluster.steps();
    if (error.empty()) continue;
    Note(shared, seed, error);
    if (options.first_failure) shared->stop = true;
  }
}

std::string Died(int status) {
  if (WIFSIGNALED(status)) {
    return std::string("the process died: ") + ::strsignal(WTERMSIG(status));
  }
  return "the process ended with " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

std::string RunSeed(uint64_t seed, bool verbose, int generation, uint64_t* course) {
  Cluster cluster(seed, generation == 0 ? Profile::kGeneration : generation);
  cluster.verbose = verbose;
  std::string error = cluster.Run();
  if (course != nullptr) *course = cluster.course();
  return error;
}

std::vector<Report> RunSeeds(const RunOptions& options, Totals* totals) {
  Shared* shared = MakeShared();
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(options.seconds);
  const size_t jobs = std::clamp<size_t>(options.jobs, 1, kMaxJobs);
  std::map<pid_t, size_t> running;
  const auto start = [&](size_t job) {
    const pid_t child = ::fork();
    CHECK(child >= 0);
    if (child == 0) {
      Work(options, shared, job, until);
      ::_exit(0);
    }
    running[child] = job;
  };
  for (size_t job = 0; job < jobs; ++job) start(job);
  while (!running.empty()) {
    int status = 0;
    const pid_t child = ::waitpid(-1, &status, 0);
    const auto found = running.find(child);
    if (found == running.end()) continue;
    const size_t job = found->second;
    running.erase(found);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    Note(shared, shared->current[job],
         Died(status) + " (it had run " + std::to_string(shared->before[job]) + " seeds before)");
    if (options.first_failure) shared->stop = true;
    start(job);  // it goes on with the next seed, if there is one
  }
  std::vector<Report> reports;
  for (size_t i = 0; i < std::min<size_t>(shared->failures, kMaxFailures); ++i) {
    reports.push_back(
        {true, "seed " + std::to_string(shared->failed[i].seed), shared->failed[i].error});
  }
  if (totals != nullptr) {
    *totals = {shared->runs,   shared->writes, shared->reads, shared->reigns,
               shared->splits, shared->merges, shared->jobs,  shared->steps};
  }
  ::munmap(shared, sizeof(Shared));
  return reports;
}

Report RunScenario(const Scenario& scenario, group::Mutation mutation) {
  Shared* shared = MakeShared();
  const pid_t child = ::fork();
  CHECK(child >= 0);
  if (child == 0) {
    Quiet(mutation);
    const std::string error = scenario.run();
    if (!error.empty()) Note(shared, 0, error);
    ::_exit(0);
  }
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  Report report;
  report.name = scenario.name;
  if (shared->failures > 0) {
    report.error = shared->failed[0].error;
  } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    report.error = Died(status);
  }
  report.failed = !report.error.empty();
  ::munmap(shared, sizeof(Shared));
  return report;
}

std::optional<uint64_t> CourseOf(uint64_t seed) {
  Shared* shared = MakeShared();
  const pid_t child = ::fork();
  CHECK(child >= 0);
  if (child == 0) {
    Quiet(group::Mutation::kNone);
    uint64_t course = 0;
    (void)RunSeed(seed, /*verbose=*/false, 0, &course);
    shared->current[0] = course;
    ::_exit(0);
  }
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  std::optional<uint64_t> course;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) course = shared->current[0];
  ::munmap(shared, sizeof(Shared));
  return course;
}

const std::vector<NamedMutation>& Mutations() {
  using group::Mutation;
  static const std::vector<NamedMutation> mutations = {
      {Mutation::kCommitWithoutOne, "commit-without-one"},
      {Mutation::kAddBeforeMatch, "add-before-match"},
      {Mutation::kServeWithoutLease, "serve-without-lease"},
      {Mutation::kForgetPromises, "forget-promises"},
      {Mutation::kSkipEpochStart, "skip-epoch-start"},
      {Mutation::kAddAtCommit, "add-at-commit"},
      {Mutation::kAcknowledgeBeforeSync, "acknowledge-before-sync"},
      {Mutation::kAcknowledgeLast, "acknowledge-last"},
      {Mutation::kCommitWithoutClamp, "commit-without-clamp"},
      {Mutation::kSettleByReading, "settle-by-reading"},
      {Mutation::kResumeReign, "resume-reign"},
      {Mutation::kLeaseWithoutEpoch, "lease-without-epoch"},
      {Mutation::kLeaseOfAnotherProcess, "lease-of-another-process"},
      {Mutation::kServeAfterGivingUp, "serve-after-giving-up"},
      {Mutation::kShrinkBelowMinimum, "shrink-below-minimum"},
      {Mutation::kSplitBeforeHeld, "split-before-held"},
      {Mutation::kMergeBeforeHeld, "merge-before-held"},
      {Mutation::kThawWithoutEpoch, "thaw-without-epoch"},
      {Mutation::kForgetRequests, "forget-requests", /*shipped=*/true},
      {Mutation::kIgnoreLatch, "ignore-latch", /*shipped=*/true},
      {Mutation::kCutUnflushedLog, "cut-unflushed-log", /*shipped=*/true},
      {Mutation::kChildUnflushed, "child-unflushed", /*shipped=*/true},
      {Mutation::kAdmitPastSplit, "admit-past-split", /*shipped=*/true},
      {Mutation::kSkipOnRecovery, "skip-on-recovery", /*shipped=*/true},
  };
  return mutations;
}

}  // namespace onggi::simulation
