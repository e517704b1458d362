#include <future>

#include "tests/unit/partition/node_fixture.h"

namespace onggi::partition {
namespace {

using std::chrono::milliseconds;

/// A node whose queue of blocking work is full.
class Opening : public NodeTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(node_.Start().ok());
    node_.CreateTable(1);
    held_ = std::make_unique<HeldPool>(&node_.blocking());
    while (node_.blocking().TrySubmit([] {})) {
    }
  }
  Node node_{directory_.path()};
  std::unique_ptr<HeldPool> held_;
};

TEST_F(Opening, WaitsForAPlaceInAFullQueue) {
  auto found = std::async(std::launch::async, [&] { return node_.Find(1); });
  EXPECT_EQ(found.wait_for(milliseconds(200)), std::future_status::timeout);
  EXPECT_FALSE(node_.blocking().TrySubmit([] {}));  // the bound holds
  held_->Release();
  const auto partition = found.get();
  ASSERT_TRUE(partition.ok()) << partition.status().ToString();
  EXPECT_TRUE(node_.Put(*partition, "a", "1", "x").status.ok());
}

TEST_F(Opening, IsGivenUpWhenTheNodeStops) {
  auto found = std::async(std::launch::async, [&] { return node_.Find(1).status(); });
  EXPECT_EQ(found.wait_for(milliseconds(100)), std::future_status::timeout);
  auto stopped = std::async(std::launch::async, [&] { node_.manager().Stop(); });
  EXPECT_EQ(stopped.wait_for(std::chrono::seconds(5)), std::future_status::ready);
  EXPECT_EQ(found.get().code(), Code::kUnavailable);
  held_->Release();
  stopped.get();
}

}  // namespace
}  // namespace onggi::partition
