#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "common/log.h"
#include "tests/simulation/cluster.h"
#include "tests/simulation/runner.h"

// simulation                 everything that ./x test runs: scenarios, seeds, mutations
// simulation --seeds N       that many seeds, from --first on, or for --seconds if that is longer
// simulation --seed N [-v]   one seed, with its course on stderr
// simulation --mutations     only: is every mistake of mutation.h caught?
// simulation --scenarios     only: the runs that are written down
// --shipped                  with --seeds: only such seeds as run the shipped partitions
// --mutation NAME            with that mistake built in (with --seed, --seeds)
// --json FILE                results for tests/run.py

namespace {

using onggi::group::Mutation;
using namespace onggi::simulation;

struct Result {
  std::string name;
  std::string error;
};

std::string program = "simulation";

void Print(const Result& result) {
  if (result.error.empty()) return;
  std::cout << "FAILED " << result.name << ": " << result.error << "\n";
  if (result.name.starts_with("seed "))
    std::cout << "  replay: " << program << " --seed " << result.name.substr(5) << " -v\n";
  std::cout << std::flush;
}

void Seeds(const RunOptions& options, std::vector<Result>* results) {
  const auto start = std::chrono::steady_clock::now();
  Totals totals;
  const std::vector<Report> failures = RunSeeds(options, &totals);
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  std::cout << totals.runs << " seeds from " << options.first << " on in "
            << static_cast<double>(took.count()) / 1000 << " s: " << totals.writes << " writes, "
            << totals.reads << " strong reads, " << totals.reigns << " reigns, " << totals.splits
            << " splits, " << totals.merges << " merges, " << totals.jobs << " jobs, "
            << totals.steps << " steps" << std::endl;
  for (const Report& failure : failures) results->push_back({failure.name, failure.error});
  std::string idle;
  if (failures.empty() && options.seeds >= 500 && !options.shipped &&
      (totals.writes < 20 * totals.runs || totals.reigns < 2 * totals.runs ||
       totals.splits * 20 < totals.runs || totals.merges * 100 < totals.runs ||
       totals.jobs * 20 < totals.runs))
    idle = "so little happened that the seeds say nothing";
  if (failures.empty()) results->push_back({"seeds", idle});
}

void WrittenDown(std::vector<Result>* results) {
  for (const Scenario& scenario : Scenarios()) {
    const Report report = RunScenario(scenario, Mutation::kNone);
    results->push_back({"scenario " + scenario.name, report.error});
  }
}

/// A seed is its run, whatever else the machine does: or no replay would find what the seed did.
void SameAgain(std::vector<Result>* results) {
  std::string error;
  for (uint64_t seed = 1; seed <= 4 * Profile::kShippedShare; ++seed) {
    if (seed > 4 && !Profile::IsShipped(seed)) continue;
    const auto first = CourseOf(seed);
    if (!first || first != CourseOf(seed))
      error += " seed " + std::to_string(seed) + " takes another course when it is run again;";
  }
  results->push_back({"the same seed, the same course", error});
}

/// Each mistake has to be found: by the scenario that is there for it, or by seeds.
void TestOfTheTests(const RunOptions& options, std::vector<Result>* results) {
  for (const NamedMutation& mutation : Mutations()) {
    std::string by;
    for (const Scenario& scenario : Scenarios()) {
      if (scenario.mutation != mutation.mutation) continue;
      const Report report = RunScenario(scenario, mutation.mutation);
      // The scenario for a mistake has to find it by itself, by a check: that the mistake makes it
      // go another way finds nothing.
      const bool found = report.failed && !report.error.starts_with(kAnotherWay);
      if (!found) by = "-";
      if (found && by.empty()) by = scenario.name + ": " + report.error;
    }
    if (by.empty()) {
      RunOptions with = options;
      with.mutation = mutation.mutation;
      with.seconds = 0;
      with.first_failure = true;
      with.shipped = mutation.shipped;
      if (with.shipped) with.seeds /= Profile::kShippedShare;
      Totals totals;
      const std::vector<Report> found = RunSeeds(with, &totals);
      if (!found.empty()) {
        by = found.front().name + " (" + std::to_string(totals.runs + 1) +
             " runs): " + found.front().error;
      }
    }
    const bool caught = !by.empty() && by != "-";
    std::cout << "  " << mutation.name << ": "
              << (caught ? by.substr(0, by.find('\n')) : "NOT CAUGHT") << std::endl;
    results->push_back(
        {std::string("mutation ") + mutation.name, caught ? "" : "nothing noticed this mistake"});
  }
}

bool WriteJson(const std::string& path, const std::vector<Result>& results) {
  std::ofstream out(path);
  const auto quoted = [](const std::string& text) {
    std::string result = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') result += '\\';
      if (c == '\n') {
        result += "\\n";
      } else if (static_cast<unsigned char>(c) >= 0x20) {
        result += c;
      }
    }
    return result + "\"";
  };
  out << "{\"results\": [";
  for (size_t i = 0; i < results.size(); ++i) {
    out << (i == 0 ? "" : ",") << "\n  {\"name\": " << quoted(results[i].name)
        << ", \"error\": " << quoted(results[i].error) << "}";
  }
  out << "\n]}\n";
  return out.good();
}

int Usage() {
  std::cerr << "usage: simulation [--seeds N] [--first N] [--seconds N] [--jobs N] [--seed N [-v]] "
               "[--shipped] [--scenarios] [--mutations] "
               "[--mutation NAME] [--json FILE]\n";
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  program = argv[0];
  RunOptions options;
  options.jobs = std::max(1u, std::thread::hardware_concurrency());
  uint64_t seed = 0;
  bool verbose = false;
  bool only_seeds = false;
  bool only_scenarios = false;
  bool only_mutations = false;
  std::string json;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "-v") {
      verbose = true;
    } else if (flag == "--scenarios") {
      only_scenarios = true;
    } else if (flag == "--mutations") {
      only_mutations = true;
    } else if (flag == "--shipped") {
      options.shipped = true;
    } else if (i + 1 >= argc) {
      return Usage();
    } else if (flag == "--json") {
      json = argv[++i];
    } else if (flag == "--mutation") {
      const std::string name = argv[++i];
      for (const NamedMutation& mutation : Mutations())
        if (mutation.name == name) options.mutation = mutation.mutation;
      if (options.mutation == Mutation::kNone) return Usage();
    } else {
      const uint64_t number = std::strtoull(argv[++i], nullptr, 10);
      if (flag == "--seeds") {
        options.seeds = number;
        only_seeds = true;
      } else if (flag == "--first") {
        options.first = number;
      } else if (flag == "--seconds") {
        options.seconds = number;
      } else if (flag == "--jobs") {
        options.jobs = static_cast<unsigned>(number);
      } else if (flag == "--seed") {
        seed = number;
      } else {
        return Usage();
      }
    }
  }
  std::vector<Result> results;
  if (seed != 0) {
    onggi::group::active_mutation = options.mutation;
    if (!verbose) onggi::log::SetLevel(onggi::log::Level::kOff);
    uint64_t course = 0;
    results.push_back({"seed " + std::to_string(seed), RunSeed(seed, verbose, 0, &course)});
    std::cout << "course " << std::hex << course << std::dec << std::endl;
  } else {
    const bool all = !only_seeds && !only_scenarios && !only_mutations;
    if (all || only_scenarios) WrittenDown(&results);
    if (all || only_scenarios) SameAgain(&results);
    if (all || only_seeds) Seeds(options, &results);
    if (all || only_mutations) TestOfTheTests(options, &results);
  }
  size_t failed = 0;
  for (const Result& result : results) {
    Print(result);
    if (!result.error.empty()) ++failed;
  }
  std::cout << results.size() - failed << " passed, " << failed << " failed" << std::endl;
  if (!json.empty() && !WriteJson(json, results)) {
    std::cerr << "cannot write " << json << "\n";
    return 2;
  }
  return failed == 0 ? 0 : 1;
}
