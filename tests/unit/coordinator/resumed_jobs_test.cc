// Jobs whose coordinator goes at any of its requests, and which another one finishes.

#include <gtest/gtest.h>

#include "coordinator/coordinator.h"
#include "tests/unit/coordinator/world.h"

namespace onggi::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

/// What a run is to do, and how to see that it is done.
struct Scenario {
  std::string name;
  size_t nodes;
  std::function<void(World&)> prepare;
  std::function<bool(World&)> begin;  ///< once there is an active coordinator; false: ask again
  std::function<bool(World&)> done;
};

std::vector<Scenario> Scenarios() {
  const auto move = [](World& world) {
    proto::MoveRequest request;
    request.set_partition(1);
    request.set_from_node(1);
    return world.Await(world.Active()->Move(request)).ok();
  };
  const auto one = [](World& world) {
    world.nodes->MakeTable(1);
    world.nodes->MakePartition(1, {1, 2, 3});
  };
  return {
      {"create", 3, [](World&) {},
       [](World& world) {
         world.nodes->MakeTable(1, proto::TABLE_STATUS_CREATING, 3);
         return true;
       },
       [](World& world) { return world.nodes->Partitions().size() == 1; }},
      {"delete", 3, one,
       [](World& world) {
         world.nodes->MakeTable(1, proto::TABLE_STATUS_DELETING, 3);
         return true;
       },
       [](World& world) {
         return world.nodes->Partitions().empty() &&
                world.nodes->Read(metadata::keys::Table(TableId(1))).empty();
       }},
      {"move", 4, one, move,
       [](World& world) { return !NodesOf(world.nodes->Config(1)).contains(1); }},
      {"move a backup", 4,
       [](World& world) {
         world.nodes->MakeTable(1);
         world.nodes->MakePartition(1, {2, 1, 3});
       },
       move, [](World& world) { return !NodesOf(world.nodes->Config(1)).contains(1); }},
      {"replace", 4, one,
       [](World& world) {
         world.nodes->SetUp(1, false);
         return true;
       },
       [](World& world) { return !NodesOf(world.nodes->Config(1)).contains(1); }},
      {"drain", 4, one,
       [](World& world) {
         proto::DrainNodeRequest request;
         request.set_node(1);
         return world.Await(world.Active()->DrainNode(request)).ok();
       },
       [](World& world) {
         return world.nodes->Record(1).state() == proto::NODE_STATE_DECOMMISSIONED;
       }},
      {"from one replica to three", 3,
       [](World& world) {
         world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, 1);
         world.nodes->MakePartition(1, {2});
       },
       [](World& world) {
         world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, 3);
         return true;
       },
       [](World& world) { return world.nodes->Config(1).in_sync_size() == 3; }},
      {"from three replicas to one", 3, one,
       [](World& world) {
         world.nodes->MakeTable(1, proto::TABLE_STATUS_ACTIVE, 1);
         return true;
       },
       [](World& world) {
         const proto::PartitionConfig config = world.nodes->Config(1);
         return config.in_sync_size() == 1 && config.learners_size() == 0;
       }},
      {"split", 3, one,
       [](World& world) {
         proto::SplitRequest request;
         request.set_partition(1);
         request.set_split_key("m");
         return world.Await(world.Active()->Split(request)).ok();
       },
       [](World& world) { return world.nodes->Partitions().size() == 2; }},
      {"merge", 5,
       [](World& world) {
         world.nodes->MakeTable(1);
         world.nodes->MakePartition(1, {1, 2, 3}, "", "m");
         world.nodes->MakePartition(1, {4, 2, 5}, "m", "");
       },
       [](World& world) {
         proto::MergeRequest request;
         request.set_left(1);
         return world.Await(world.Active()->Merge(request)).ok();
       },
       [](World& world) { return world.nodes->Partitions().size() == 1; }},
  };
}

Options QuickOptions() {
  Options options;
  options.balance = false;
  options.merge = false;
  options.dead_after = seconds(20);
  options.unnamed_grace = seconds(10);
  return options;
}

enum class Fault { kNone, kBefore, kAfter, kTwice };

/// Runs a scenario; the first coordinator is cut off at its n-th request after the scenario began:
/// before the request leaves it, or between the request and its answer. Another one goes on while
/// the first still believes in itself; at the end the first comes back. Returns the requests made.
size_t RunScenario(const Scenario& scenario, Fault fault, size_t n) {
  SCOPED_TRACE(scenario.name + ", fault " + std::to_string(static_cast<int>(fault)) +
               " at request " + std::to_string(n));
  World world(n + 1);
  AddNodes(world, scenario.nodes);
  scenario.prepare(world);
  Candidate& first = world.Start(QuickOptions());
  EXPECT_TRUE(world.Run(seconds(10), [&] { return world.Active() != nullptr; }));
  Candidate& second = world.Start(QuickOptions());
  world.Run(seconds(3));
  size_t count = 0;
  const auto hook = [&] {
    if (++count != n || fault == Fault::kNone || fault == Fault::kTwice) return;
    const auto cut = [&first] {
      first.store->SetCut(true);
      first.client.cut = true;
    };
    if (fault == Fault::kBefore) {
      cut();
    } else {  // requests arrive after 2 ms at the store, 5 ms at a node; answers need as long again
      first.client.mute = true;
      world.schedule.At(milliseconds(3), [&first] { first.store->SetCut(true); });
      world.schedule.At(milliseconds(7), [&first] { first.client.cut = true; });
    }
  };
  first.counting.before = hook;
  first.client.before = hook;
  if (fault == Fault::kTwice) first.client.twice = second.client.twice = true;
  // An operator whose question was lost asks again.
  for (int i = 0; i < 20 && !scenario.begin(world); ++i) {
    world.Run(seconds(10));
    EXPECT_TRUE(world.Run(seconds(60), [&] { return world.Active() != nullptr; }));
    if (scenario.done(world) || world.nodes->running_jobs() > 0) break;
  }
  EXPECT_TRUE(world.Run(minutes(20), [&] { return scenario.done(world); }));
  EXPECT_TRUE(world.Run(minutes(20), [&] { return world.Settled(); }));
  first.counting.before = {};
  first.client.before = {};
  first.client.cut = first.client.mute = false;
  first.store->SetCut(false);
  world.Run(minutes(3));
  EXPECT_TRUE(scenario.done(world));
  EXPECT_TRUE(world.Run(minutes(5), [&] { return world.Settled(); }));
  return count;
}

class ResumedJob : public ::testing::TestWithParam<size_t> {};

TEST_P(ResumedJob, StoppedAtEveryRequest) {
  const Scenario scenario = Scenarios()[GetParam()];
  const size_t requests = std::min<size_t>(RunScenario(scenario, Fault::kNone, 0), 60);
  ASSERT_GT(requests, 0u);
  for (size_t n = 1; n <= requests && !HasFailure(); ++n) {
    RunScenario(scenario, Fault::kBefore, n);
    RunScenario(scenario, Fault::kAfter, n);
  }
}

TEST_P(ResumedJob, EveryCommandArrivesTwice) {
  RunScenario(Scenarios()[GetParam()], Fault::kTwice, 0);
}

INSTANTIATE_TEST_SUITE_P(All, ResumedJob, ::testing::Range<size_t>(0, Scenarios().size()),
                         [](const auto& param) {
                           std::string name = Scenarios()[param.param].name;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

}  // namespace
}  // namespace onggi::coordinator
