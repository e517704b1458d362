#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/group/mutation.h"

namespace onggi::simulation {

/// One run of the simulator, and what it found.
struct Report {
  bool failed = false;
  std::string name;   ///< "seed 17"
  std::string error;  ///< empty, or what went wrong; a process that died says so
};

/// What all good runs did together: a world too hostile to do anything in would find nothing.
struct Totals {
  uint64_t runs = 0;
  uint64_t writes = 0;
  uint64_t reads = 0;
  uint64_t reigns = 0;
  uint64_t splits = 0;
  uint64_t merges = 0;
  uint64_t jobs = 0;  ///< of coordinators
  uint64_t steps = 0;
};

struct RunOptions {
  uint64_t first = 1;
  uint64_t seeds = 2000;
  /// Seeds go on until so many seconds have passed, if that is longer.
  uint64_t seconds = 0;
  unsigned jobs = 2;
  group::Mutation mutation = group::Mutation::kNone;
  /// Only seeds of shipped partitions, from the first one on.
  bool shipped = false;
  /// Ends at the first failure.
  bool first_failure = false;
};

/// Runs seeds in processes of their own, `jobs` at a time, so that one that dies (a CHECK) is a
/// failure like any other. Failures come in order of seed, at most `kMaxFailures`.
std::vector<Report> RunSeeds(const RunOptions& options, Totals* totals);
inline constexpr size_t kMaxFailures = 10;

/// One seed, here and now, as it was drawn in that generation (Profile::Draw); 0: the latest.
/// `course`: what Cluster::course() says at the end.
std::string RunSeed(uint64_t seed, bool verbose, int generation = 0, uint64_t* course = nullptr);

/// What Cluster::course() says at the end of that seed, run in a process of its own; nullopt: it
/// died.
std::optional<uint64_t> CourseOf(uint64_t seed);

/// A run that is written down: a seed that found a fault once, or a course of events.
struct Scenario {
  std::string name;
  std::function<std::string()> run;
  /// The mistake that it is there to catch; kNone: any.
  group::Mutation mutation = group::Mutation::kNone;
};
const std::vector<Scenario>& Scenarios();
/// How the error begins of one that could not be played to its end.
inline constexpr std::string_view kAnotherWay = "the scenario goes another way";

/// Runs it in a process of its own, with a mistake built in or none.
Report RunScenario(const Scenario& scenario, group::Mutation mutation);

struct NamedMutation {
  group::Mutation mutation;
  const char* name;
  bool shipped = false;  ///< is in code that runs in such seeds alone
};
const std::vector<NamedMutation>& Mutations();

}  // namespace onggi::simulation
