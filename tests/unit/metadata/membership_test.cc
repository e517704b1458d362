#include "replication/metadata/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <optional>

#include "replication/metadata/keys.h"
#include "replication/metadata/simulated_store.h"

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

class MembershipTest : public ::testing::Test {
 protected:
  MembershipTest() {
    cluster_ = SimulatedCluster::Create(
        [this](milliseconds delay, std::function<void()> run) {
          events_.emplace(now_ + delay, std::move(run));
        },
        1);
    store_ = SimulatedStore::Connect(cluster_);
  }
  ~MembershipTest() override {
    store_.reset();
    RunFor(milliseconds(60'000));
  }

  void RunFor(milliseconds duration) {
    const milliseconds end = now_ + duration;
    for (;;) {
      io_.restart();
      io_.poll();
      if (events_.empty() || events_.begin()->first > end) break;
      now_ = events_.begin()->first;
      auto run = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      run();
    }
    now_ = end;
  }
  template <class T>
  T Await(asio::awaitable<T> call) {
    std::optional<T> result;
    constexpr auto keep = [](asio::awaitable<T> body,
                             std::optional<T>* to) -> asio::awaitable<void> {
      to->emplace(co_await std::move(body));
    };
    auto done = [](std::exception_ptr error) { CHECK(!error); };
    asio::co_spawn(io_, keep(std::move(call), &result), std::move(done));
    for (int i = 0; i < 1000 && !result; ++i) RunFor(milliseconds(100));
    CHECK(result.has_value());
    return *std::move(result);
  }

  static NodeIdentity Fresh(std::string disk) {
    NodeIdentity identity;
    identity.disk_id = std::move(disk);
    return identity;
  }
  static NodeIdentity Known(const Membership& membership) {
    NodeIdentity identity;
    identity.cluster_id = membership.cluster.id();
    identity.node = NodeId(membership.node.id());
    identity.disk_id = membership.node.disk_id();
    return identity;
  }
  static proto::Node Description(const std::string& address, uint64_t boot = 1) {
    proto::Node node;
    node.set_zone("a");
    node.set_rpc_address(address);
    node.set_boot(boot);
    return node;
  }
  Result<Membership> Register(NodeIdentity identity, proto::Node description) {
    return Await(RegisterNode(*store_, std::move(identity), std::move(description), clock_));
  }
  void SetAlive(uint64_t node, bool alive) {
    Transaction transaction;
    if (alive) {
      transaction.puts.push_back({keys::Alive(NodeId(node)), "x"});
    } else {
      transaction.deletes.push_back(keys::Alive(NodeId(node)));
    }
    ASSERT_TRUE(cluster_->CommitNow(transaction).ok());
  }
  proto::Node Record(uint64_t node) const {
    const std::string key = keys::Node(NodeId(node));
    const RangeResult range = cluster_->ReadNow(key, key + '\0');
    proto::Node record;
    if (!range.kvs.empty()) CHECK(record.ParseFromString(range.kvs[0].value));
    return record;
  }
  void SetState(uint64_t node, proto::NodeState state) {
    proto::Node record = Record(node);
    record.set_state(state);
    Transaction transaction;
    transaction.puts.push_back({keys::Node(NodeId(node)), record.SerializeAsString()});
    ASSERT_TRUE(cluster_->CommitNow(transaction).ok());
  }

  asio::io_context io_;
  ManualClock clock_;
  std::multimap<milliseconds, std::function<void()>> events_;
  milliseconds now_{0};
  std::shared_ptr<SimulatedCluster> cluster_;
  std::unique_ptr<SimulatedStore> store_;
};

TEST_F(MembershipTest, TheFirstNodeFoundsTheClusterAndOthersGetNumbersInTurn) {
  const auto first = Register(Fresh("d1"), Description("a:1"));
  ASSERT_TRUE(first.ok()) << first.status().ToString();
  EXPECT_EQ(first->node.id(), 1u);
  EXPECT_EQ(first->node.state(), proto::NODE_STATE_ACTIVE);
  EXPECT_FALSE(first->cluster.id().empty());
  const auto second = Register(Fresh("d2"), Description("b:1"));
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->node.id(), 2u);
  EXPECT_EQ(second->cluster.id(), first->cluster.id());
}

TEST_F(MembershipTest, ANodeComesBackAsItself) {
  const auto first = Register(Fresh("d1"), Description("a:1", 1));
  ASSERT_TRUE(first.ok());
  const auto again = Register(Known(*first), Description("a:2", 2));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->node.id(), 1u);
  EXPECT_EQ(again->node.boot(), 2u);
  EXPECT_EQ(Record(1).rpc_address(), "a:2");
  EXPECT_EQ(again->node.joined_ms(), first->node.joined_ms());
}

TEST_F(MembershipTest, ALostAnswerDoesNotMakeTwoNodesOfOneDisk) {
  ASSERT_TRUE(Register(Fresh("d1"), Description("a:1")).ok());
  const auto again = Register(Fresh("d1"), Description("a:1"));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->node.id(), 1u);
}

TEST_F(MembershipTest, RefusesADirectoryOfAnotherCluster) {
  const auto first = Register(Fresh("d1"), Description("a:1"));
  ASSERT_TRUE(first.ok());
  NodeIdentity stranger = Known(*first);
  stranger.cluster_id = "another";
  const auto refused = Register(stranger, Description("a:1"));
  EXPECT_EQ(refused.status().code(), Code::kConditionFailed);
  EXPECT_EQ(refused.status().message(),
            "the metadata store is of cluster " + first->cluster.id() + ", not of another");
}

TEST_F(MembershipTest, AMemberOfAClusterDoesNotFoundAnother) {
  NodeIdentity member = Fresh("d1");
  member.cluster_id = "c";
  member.node = NodeId(4);
  EXPECT_EQ(
      Register(member, Description("a:1")).status(),
      Status(Code::kConditionFailed, "the metadata store is empty, and this belongs to cluster c"));
}

TEST_F(MembershipTest, RefusesACopiedOrOldDirectory) {
  const auto first = Register(Fresh("d1"), Description("a:1"));
  ASSERT_TRUE(first.ok());
  NodeIdentity copy = Known(*first);
  copy.disk_id = "d9";
  EXPECT_EQ(Register(copy, Description("a:1")).status().message(),
            "this data directory is not the one that node 1 joined with: disk id d9, the catalog "
            "has d1");
}

TEST_F(MembershipTest, RefusesACopyWhileTheNodeLives) {
  const auto first = Register(Fresh("d1"), Description("a:1", 1));
  ASSERT_TRUE(first.ok());
  SetAlive(1, true);
  const auto copy = Register(Known(*first), Description("b:1", 2));
  EXPECT_EQ(copy.status().code(), Code::kConditionFailed);
  EXPECT_THAT(copy.status().message(),
              ::testing::HasSubstr("node 1 is alive at a:1: this is a copy"));
  EXPECT_TRUE(Register(Known(*first), Description("a:1", 3)).ok());  // it restarts
  SetAlive(1, false);
  EXPECT_TRUE(Register(Known(*first), Description("b:1", 4)).ok());  // it has moved
}

TEST_F(MembershipTest, RefusesADirectoryThatWasCopiedBeforeTheNodeLastRan) {
  const auto first = Register(Fresh("d1"), Description("a:1", 1));
  ASSERT_TRUE(first.ok());
  NodeIdentity then = Known(*first);
  then.boots = {1};
  NodeIdentity now = then;
  now.boots = {1, 2};
  ASSERT_TRUE(Register(now, Description("a:1", 2)).ok());
  now.boots = {1, 2, 3};  // its process ended before it knew that it was registered
  ASSERT_TRUE(Register(now, Description("a:1", 3)).ok());
  then.boots.push_back(4);
  const auto old = Register(then, Description("a:1", 4));
  EXPECT_EQ(old.status().code(), Code::kConditionFailed);
  EXPECT_THAT(old.status().message(),
              ::testing::HasSubstr("has run since this data directory was copied"));
}

TEST_F(MembershipTest, RefusesWhoWasDecommissionedOrRemoved) {
  const auto first = Register(Fresh("d1"), Description("a:1"));
  ASSERT_TRUE(first.ok());
  SetState(1, proto::NODE_STATE_DECOMMISSIONED);
  EXPECT_EQ(Register(Known(*first), Description("a:1")).status().message(),
            "node 1 was decommissioned: start with a new data directory");
  Transaction remove;
  remove.deletes.push_back(keys::Node(NodeId(1)));
  ASSERT_TRUE(cluster_->CommitNow(remove).ok());
  EXPECT_EQ(Register(Known(*first), Description("a:1")).status().code(), Code::kConditionFailed);
  // Its number is not given away again.
  const auto next = Register(Fresh("d2"), Description("a:1"));
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->node.id(), 2u);
}

TEST_F(MembershipTest, AWipedDiskIsANewNodeAndTheOldOneIsDead) {
  ASSERT_TRUE(Register(Fresh("d1"), Description("a:1")).ok());
  SetAlive(1, true);
  const auto early = Register(Fresh("d2"), Description("a:1"));
  EXPECT_EQ(early.status().code(), Code::kConditionFailed);
  EXPECT_TRUE(early.status().message().starts_with("node 1 at a:1 is alive"));
  SetAlive(1, false);
  const auto wiped = Register(Fresh("d2"), Description("a:1"));
  ASSERT_TRUE(wiped.ok());
  EXPECT_EQ(wiped->node.id(), 2u);
  EXPECT_EQ(Record(1).state(), proto::NODE_STATE_DEAD);
}

TEST_F(MembershipTest, TheDeadAreWelcomeWithTheirOwnDiskAndTheDrainingGoOnDraining) {
  const auto first = Register(Fresh("d1"), Description("a:1"));
  ASSERT_TRUE(first.ok());
  SetState(1, proto::NODE_STATE_DEAD);
  ASSERT_TRUE(Register(Known(*first), Description("a:1")).ok());
  EXPECT_EQ(Record(1).state(), proto::NODE_STATE_ACTIVE);
  SetState(1, proto::NODE_STATE_DRAINING);
  ASSERT_TRUE(Register(Known(*first), Description("a:1")).ok());
  EXPECT_EQ(Record(1).state(), proto::NODE_STATE_DRAINING);
}

TEST_F(MembershipTest, RefusesVersionsThatDoNotMeet) {
  const auto first = Register(Fresh("d1"), Description("a:1"));
  ASSERT_TRUE(first.ok());
  proto::Node newer = Description("b:1");
  newer.mutable_wire_versions()->set_oldest(2);
  newer.mutable_wire_versions()->set_newest(3);
  EXPECT_EQ(Register(Fresh("d2"), newer).status().message(),
            "the cluster speaks version 1, this program 2 to 3");
  proto::Node disk = Description("b:1");
  disk.mutable_disk_versions()->set_oldest(2);
  disk.mutable_disk_versions()->set_newest(2);
  EXPECT_EQ(Register(Fresh("d2"), disk).status().message(),
            "the cluster's format on disk is version 1, this program knows 2");
  proto::Node adjacent = Description("b:1");
  adjacent.mutable_wire_versions()->set_oldest(1);
  adjacent.mutable_wire_versions()->set_newest(2);
  EXPECT_TRUE(Register(Fresh("d2"), adjacent).ok());
}

TEST_F(MembershipTest, ManyJoinAtOnceAndEachGetsItsOwnNumber) {
  SimulatedFaults faults;
  faults.unknown_done = 100;
  faults.unknown_lost = 100;
  cluster_->SetFaults(faults);
  std::vector<std::optional<Result<Membership>>> results(8);
  constexpr auto keep = [](asio::awaitable<Result<Membership>> body,
                           std::optional<Result<Membership>>* to) -> asio::awaitable<void> {
    to->emplace(co_await std::move(body));
  };
  for (size_t i = 0; i < results.size(); ++i) {
    auto done = [](std::exception_ptr error) { CHECK(!error); };
    asio::co_spawn(io_,
                   keep(RegisterNode(*store_, Fresh("d" + std::to_string(i)),
                                     Description("n" + std::to_string(i) + ":1"), clock_),
                        &results[i]),
                   std::move(done));
  }
  RunFor(milliseconds(60'000));
  std::set<uint64_t> ids;
  std::set<std::string> clusters;
  for (const auto& result : results) {
    ASSERT_TRUE(result.has_value());
    ASSERT_TRUE(result->ok()) << result->status().ToString();
    ids.insert((*result)->node.id());
    clusters.insert((*result)->cluster.id());
  }
  EXPECT_EQ(ids.size(), results.size());
  EXPECT_EQ(clusters.size(), 1u);
}

}  // namespace
}  // namespace onggi::metadata
