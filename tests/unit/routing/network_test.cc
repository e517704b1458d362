#include "server/routing/network.h"

#include <gmock/gmock.h>

#include <condition_variable>
#include <thread>

#include "common/runtime.h"
#include "server/routing/wire.h"
#include "tests/unit/partition/node_fixture.h"

namespace onggi::routing {
namespace {

using partition::Await;
using partition::Eventually;
using std::chrono::milliseconds;

/// A node that is nothing but its connections.
class Station final : public RequestHandler {
 public:
  explicit Station(uint64_t id, const std::string& cluster = "cluster",
                   ConnectionLimits limits = ConnectionLimits()) {
    NetworkOptions options;
    options.self = NodeId(id);
    options.cluster_id = cluster;
    options.boot = id;
    options.limits = limits;
    options.tick = milliseconds(10);
    options.io = &io_;
    network_ = std::make_unique<Network>(options, io_.executor(0), &registry_);
    network_->SetHandler(this);
    network_->AddTo(&server_);
    CHECK(server_.Start("127.0.0.1:0").ok());
    network_->Start();
  }
  ~Station() override {
    network_->Stop();
    server_.Stop();
    io_.Stop();
  }

  Network& network() { return *network_; }
  Peer peer() const {
    Peer peer;
    peer.endpoint = "127.0.0.1:" + std::to_string(server_.port());
    return peer;
  }
  std::string Metrics() const { return registry_.TextExposition(); }

  void OnRequests(const std::shared_ptr<Connection>& from, proto::RoutingFrame* frame) override {
    while (blocked) std::this_thread::sleep_for(milliseconds(1));
    for (const proto::RoutedGet& request : frame->gets()) {
      ++requests;
      if (mute) continue;
      from->Add(100, [&](proto::RoutingFrame* out) {
        proto::RoutedGetResult* result = out->add_got();
        result->set_id(request.id());
        result->set_item(request.key());
      });
    }
    cancelled += frame->cancelled_size();
  }
  void OnClosed(const std::shared_ptr<Connection>&) override { ++closed; }

  /// A read of `key`, which answers with the key.
  Status Ask(uint64_t node, const std::string& key, milliseconds timeout = std::chrono::seconds(5),
             std::string* answer = nullptr) {
    return Await(io_.NextExecutor(), DoAsk(NodeId(node), key, timeout, answer));
  }

  std::atomic<bool> blocked{false};
  std::atomic<bool> mute{false};
  std::atomic<int> requests{0};
  std::atomic<int> cancelled{0};
  std::atomic<int> closed{0};

 private:
  boost::asio::awaitable<Status> DoAsk(NodeId node, std::string key, milliseconds timeout,
                                       std::string* answer) {
    const auto connection = network_->Find(node);
    if (connection == nullptr) co_return Unavailable("no connection");
    Gather gather(co_await boost::asio::this_coro::executor);
    const auto now = std::chrono::steady_clock::now();
    GetCall call;
    call.gather = &gather;
    call.key = key;
    call.deadline = now + timeout;
    gather.Add();
    connection->Start(&call, now);
    connection->Flush();
    co_await gather.Wait();
    if (answer != nullptr) *answer = call.result.item();
    co_return call.status;
  }

  IoPool io_{2};
  metrics::Registry registry_;
  std::unique_ptr<Network> network_;
  rpc::StreamServer server_{&io_, rpc::MessageStream::Options()};
};

void Introduce(Station* a, uint64_t a_id, Station* b, uint64_t b_id) {
  a->network().SetPeers({{NodeId(b_id), b->peer()}});
  b->network().SetPeers({{NodeId(a_id), a->peer()}});
}

bool Connected(Station* a, uint64_t b_id) {
  return Eventually([&] { return a->network().Find(NodeId(b_id)) != nullptr; });
}

TEST(RoutingNetwork, OneStreamCarriesRequestsOfBothSides) {
  Station one(1), two(2);
  Introduce(&one, 1, &two, 2);
  ASSERT_TRUE(Connected(&one, 2) && Connected(&two, 1));
  std::string answer;
  EXPECT_TRUE(one.Ask(2, "there", std::chrono::seconds(5), &answer).ok());
  EXPECT_EQ(answer, "there");
  EXPECT_TRUE(two.Ask(1, "back", std::chrono::seconds(5), &answer).ok());
  EXPECT_EQ(answer, "back");
}

TEST(RoutingNetwork, AnotherClusterIsRefused) {
  Station one(1, "cluster"), two(2, "other");
  Introduce(&one, 1, &two, 2);
  EXPECT_TRUE(Eventually([&] {
    return one.Metrics().find("onggi_routing_dial_failures_total 2") != std::string::npos;
  }));
  EXPECT_EQ(one.network().Find(NodeId(2)), nullptr);
  EXPECT_EQ(two.network().Find(NodeId(1)), nullptr);
}

TEST(RoutingNetwork, AnAddressThatIsNowAnotherNodesIsRefused) {
  Station one(1), three(3);
  one.network().SetPeers({{NodeId(2), three.peer()}});
  three.network().SetPeers({{NodeId(1), one.peer()}});
  EXPECT_TRUE(Eventually([&] {
    return one.Metrics().find("onggi_routing_dial_failures_total 2") != std::string::npos;
  }));
  EXPECT_EQ(one.network().Find(NodeId(2)), nullptr);
  EXPECT_EQ(three.network().Find(NodeId(1)), nullptr);
}

TEST(RoutingNetwork, AStrangerIsLetInOnceTheRegistryKnowsIt) {
  Station one(1), two(2);
  one.network().SetPeers({{NodeId(2), two.peer()}});
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(one.network().Find(NodeId(2)), nullptr);
  two.network().SetPeers({{NodeId(1), one.peer()}});
  EXPECT_TRUE(Connected(&one, 2));
}

TEST(RoutingNetwork, ARestartedPeerIsFoundAgain) {
  Station one(1);
  auto two = std::make_unique<Station>(2);
  Introduce(&one, 1, two.get(), 2);
  ASSERT_TRUE(Connected(&one, 2));
  two.reset();
  EXPECT_TRUE(Eventually([&] { return one.network().Find(NodeId(2)) == nullptr; }));
  EXPECT_EQ(one.Ask(2, "x").code(), Code::kUnavailable);
  two = std::make_unique<Station>(2);
  Introduce(&one, 1, two.get(), 2);
  EXPECT_TRUE(Connected(&one, 2));
  EXPECT_TRUE(one.Ask(2, "x").ok());
}

TEST(RoutingNetwork, APeerThatDiesLeavesCallsUnknown) {
  Station one(1);
  auto two = std::make_unique<Station>(2);
  Introduce(&one, 1, two.get(), 2);
  ASSERT_TRUE(Connected(&one, 2));
  two->mute = true;
  auto asked = std::async(std::launch::async, [&] { return one.Ask(2, "x"); });
  ASSERT_TRUE(Eventually([&] { return two->requests == 1; }));
  two.reset();
  EXPECT_EQ(asked.get().code(), Code::kUnknownOutcome);
}

TEST(RoutingNetwork, ADeadlineEndsTheCallAndTellsThePeer) {
  Station one(1), two(2);
  Introduce(&one, 1, &two, 2);
  ASSERT_TRUE(Connected(&one, 2));
  two.mute = true;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(one.Ask(2, "x", milliseconds(100)).code(), Code::kDeadlineExceeded);
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(500));
  EXPECT_TRUE(Eventually([&] { return two.cancelled == 1; }));
  // The cancellation was no answer: no bound on those has moved.
  EXPECT_TRUE(one.network().Find(NodeId(2))->accepts());
}

TEST(RoutingNetwork, APingLeavesTheBoundOnAnswersAlone) {
  ConnectionLimits limits;
  limits.silence = milliseconds(50);
  Station one(1, "cluster", limits), two(2, "cluster", limits);
  Introduce(&one, 1, &two, 2);
  ASSERT_TRUE(Connected(&one, 2));
  ASSERT_TRUE(Connected(&two, 1));
  two.mute = true;  // it reads and says nothing: pinged, and heard to live
  EXPECT_EQ(one.Ask(2, "x", milliseconds(500)).code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(one.network().Find(NodeId(2))->accepts());
  EXPECT_TRUE(two.network().Find(NodeId(1))->accepts());
  two.mute = false;
  EXPECT_TRUE(one.Ask(2, "y").ok());
  EXPECT_TRUE(two.Ask(1, "z").ok());
}

TEST(RoutingNetwork, ASilentPeerIsGivenUp) {
  ConnectionLimits limits;
  limits.silence = milliseconds(100);
  Station one(1, "cluster", limits), two(2, "cluster", limits);
  Introduce(&one, 1, &two, 2);
  ASSERT_TRUE(Connected(&one, 2));
  two.blocked = true;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(one.Ask(2, "x", std::chrono::seconds(20)).code(), Code::kUnknownOutcome);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  two.blocked = false;
  EXPECT_TRUE(Connected(&one, 2));
  EXPECT_TRUE(Eventually([&] { return one.Ask(2, "y", std::chrono::seconds(5)).ok(); }));
}

TEST(RoutingNetwork, WhatIsAbandonedIsFinishedOnce) {
  Station one(1), two(2);
  Introduce(&one, 1, &two, 2);
  ASSERT_TRUE(Connected(&one, 2));
  two.blocked = true;
  auto asked = std::async(std::launch::async, [&] { return one.Ask(2, "x"); });
  const auto connection = one.network().Find(NodeId(2));
  ASSERT_TRUE(Eventually([&] { return connection->calls() == 1; }));
  connection->Abandon([](const PendingCall&) { return true; },
                      Status(Code::kUnknownOutcome, "moved"));
  EXPECT_EQ(asked.get().message(), "moved");
  two.blocked = false;  // its answer comes now, and finds nobody
  EXPECT_TRUE(one.Ask(2, "y").ok());
}

}  // namespace
}  // namespace onggi::routing
