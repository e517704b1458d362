#include "coordinator/store_probe.h"

#include <gtest/gtest.h>

#include "tests/unit/coordinator/world.h"

namespace onggi::coordinator {
namespace {

using std::chrono::seconds;

class StoreProbeTest : public ::testing::Test {
 protected:
  StoreProbeTest() {
    environment_.store = store_.get();
    environment_.timers = &world_.schedule;
    environment_.clock = &world_.schedule.clock;
    environment_.executor = world_.schedule.io.get_executor();
  }

  World world_;
  std::unique_ptr<metadata::SimulatedStore> store_ =
      metadata::SimulatedStore::Connect(world_.cluster);
  Environment environment_;
};

TEST_F(StoreProbeTest, ComplainsWhileTheStoreIsSilentAndNoLonger) {
  StoreProbe probe(environment_);
  EXPECT_TRUE(probe.Check().ok());
  world_.Run(seconds(60));
  EXPECT_TRUE(probe.Check().ok());

  store_->SetCut(true);
  world_.Run(seconds(3));
  EXPECT_TRUE(probe.Check().ok());  // a change of etcd's leader is no reason
  world_.Run(seconds(7));
  const Status silent = probe.Check();
  EXPECT_EQ(silent.code(), Code::kUnavailable);
  EXPECT_TRUE(silent.message().starts_with("the metadata store (etcd) has not answered for "))
      << silent.message();

  store_->SetCut(false);
  world_.Run(seconds(5));
  EXPECT_TRUE(probe.Check().ok());
}

TEST_F(StoreProbeTest, IsForgottenByTheStore) {
  auto probe = std::make_unique<StoreProbe>(environment_);
  world_.cluster->SetDown(true);
  world_.Run(seconds(10));
  probe.reset();
  world_.cluster->SetDown(false);
  world_.Run(seconds(10));
}

}  // namespace
}  // namespace onggi::coordinator
