#include "tests/simulation/cluster.h"
#include "tests/simulation/runner.h"

namespace onggi::simulation {

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario> scenarios = {};
  return scenarios;
}

}  // namespace onggi::simulation
