#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "tests/simulation/cluster.h"

int main(int argc, char** argv) {
  using namespace onggi::simulation;
  const uint64_t first = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const uint64_t last = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : first;
  const bool verbose = argc > 3;
  uint64_t failed = 0, acks = 0, reads = 0, reigns = 0, steps = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    std::cerr << "seed " << seed << "\n";
    Cluster cluster(seed);
    cluster.verbose = verbose;
    const std::string error = cluster.Run();
    acks += cluster.truth().acknowledged();
    reads += cluster.truth().reads();
    reigns += cluster.truth().reigns();
    steps += cluster.steps();
    if (!error.empty()) {
      ++failed;
      std::cout << "seed " << seed << ": " << error << std::endl;
    }
  }
  std::cout << failed << " failed; " << acks << " writes, " << reads << " reads, " << reigns
            << " reigns, " << steps << " steps\n";
  return failed == 0 ? 0 : 1;
}
