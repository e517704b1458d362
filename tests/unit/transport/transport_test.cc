#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <functional>
#include <mutex>

#include "common/proto/replication.grpc.pb.h"
#include "common/rpc/channel.h"
#include "common/rpc/stream_server.h"
#include "replication/transport/stream_transport.h"
#include "tests/unit/transport/certificates.h"

namespace onggi::transport {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// Writes down what it is told.
class Recorder final : public MessageHandler {
 public:
  void OnMessage(NodeId from, uint64_t boot, GroupMessage message) override {
    std::unique_lock lock(mutex_);
    EXPECT_EQ(connected_[from], boot);
    const bool append = std::holds_alternative<Append>(message.body);
    (append ? appends_ : others_).push_back(message.partition.value);
    changed_.notify_all();
    changed_.wait(lock, [&] { return !blocked_; });
  }
  void OnMessagesEnd(NodeId) override {
    std::scoped_lock lock(mutex_);
    ++frames_;
  }
  void OnNewerConfiguration(NodeId, lease::NewerConfiguration newer) override {
    std::scoped_lock lock(mutex_);
    newer_.push_back(newer.partition.value);
    changed_.notify_all();
  }
  void OnPeerConnected(NodeId peer, uint64_t boot) override {
    std::scoped_lock lock(mutex_);
    EXPECT_EQ(connected_[peer], 0u);
    connected_[peer] = boot;
    ++connections_;
    changed_.notify_all();
  }
  void OnPeerLost(NodeId peer) override {
    std::scoped_lock lock(mutex_);
    EXPECT_NE(connected_[peer], 0u);
    connected_[peer] = 0;
    ++losses_;
    lost_at_ = std::chrono::steady_clock::now();
    changed_.notify_all();
  }

  bool Wait(std::function<bool()> what, std::chrono::milliseconds patience = 10s) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, what);
  }
  bool WaitConnected(NodeId peer) {
    return Wait([&] { return connected_[peer] != 0; });
  }
  bool WaitLost() {
    return Wait([&] { return losses_ > 0; });
  }
  bool WaitAppends(size_t count) {
    return Wait([&] { return appends_.size() >= count; }, 30s);
  }
  void Block(bool blocked) {
    std::scoped_lock lock(mutex_);
    blocked_ = blocked;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool blocked_ = false;
  std::map<NodeId, uint64_t> connected_;
  std::vector<uint64_t> appends_;
  std::vector<uint64_t> others_;
  std::vector<uint64_t> newer_;
  int frames_ = 0;
  int connections_ = 0;
  int losses_ = 0;
  std::chrono::steady_clock::time_point lost_at_;
};

/// A node that has nothing but its transport.
class TestNode {
 public:
  explicit TestNode(uint64_t id, std::function<void(TransportOptions*)> change = {},
                    rpc::TlsOptions tls = {})
      : id_(id), tls_(std::move(tls)) {
    static std::atomic<uint64_t> next_boot{100};
    options_.cluster_id = "test";
    options_.self = NodeId(id);
    options_.boot = ++next_boot;
    options_.metrics = &metrics_;
    if (change) change(&options_);
    leases_ = std::make_unique<lease::NodeLeases>(options_.self, options_.boot, lease::Now());
    options_.leases = leases_.get();
  }
  ~TestNode() { Stop(); }

  void Start(int port = 0) {
    rpc::MessageStream::Options streams;
    if (!tls_.disabled()) {
      auto loaded = rpc::LoadCertificateFiles(tls_);
      CHECK_MSG(loaded.ok(), loaded.status().ToString());
      streams.tls = options_.tls = *std::move(loaded);
    }
    options_.io = &io_;
    transport_ = std::make_unique<StreamTransport>(options_, &recorder);
    server_ = std::make_unique<rpc::StreamServer>(&io_, streams);
    transport_->AddTo(server_.get());
    const Status status = server_->Start("127.0.0.1:" + std::to_string(port));
    CHECK_MSG(status.ok(), status.ToString());
    transport_->Start();
  }
  void Stop() {
    if (transport_ != nullptr) transport_->Stop();
    if (server_ != nullptr) server_->Stop();
    server_ = nullptr;
    transport_ = nullptr;
  }

  NodeId id() const { return NodeId(id_); }
  int port() const { return server_->port(); }
  Peer peer(std::string name = "") const {
    return Peer("127.0.0.1:" + std::to_string(port()), std::move(name));
  }
  uint64_t boot() const { return options_.boot; }
  StreamTransport& transport() { return *transport_; }
  lease::NodeLeases& leases() { return *leases_; }

  Recorder recorder;
  metrics::Registry metrics_;

 private:
  const uint64_t id_;
  const rpc::TlsOptions tls_;
  IoPool io_{1, "peer"};
  TransportOptions options_;
  std::unique_ptr<lease::NodeLeases> leases_;
  std::unique_ptr<StreamTransport> transport_;
  std::unique_ptr<rpc::StreamServer> server_;
};

void Introduce(TestNode& a, TestNode& b) {
  a.transport().SetPeers({{b.id(), b.peer()}, {a.id(), a.peer()}});
  b.transport().SetPeers({{a.id(), a.peer()}, {b.id(), b.peer()}});
}

void Connect(TestNode& a, TestNode& b) {
  Introduce(a, b);
  ASSERT_TRUE(a.recorder.WaitConnected(b.id()));
  ASSERT_TRUE(b.recorder.WaitConnected(a.id()));
}

std::string WaitError(TestNode& node, NodeId peer, const std::string& part) {
  std::string error;
  for (int i = 0; i < 400; ++i) {
    error = node.transport().LastError(peer);
    if (error.find(part) != std::string::npos) return error;
    std::this_thread::sleep_for(10ms);
  }
  return error;
}

GroupMessage Numbered(uint64_t number, size_t bytes = 100) {
  static const auto configuration = [] {
    auto made = std::make_shared<group::Configuration>();
    made->epoch = Epoch(1);
    return made;
  }();
  GroupMessage message;
  message.table = TableId(1);
  message.partition = PartitionId(number);
  Append append;
  append.message.epoch = Epoch(1);
  append.message.configuration = configuration;
  append.message.previous = {Epoch(1), LogIndex(5)};
  append.message.last = LogIndex(6);
  append.message.runs = {{Epoch(1), LogIndex(6)}};
  append.entries.resize(1);
  append.entries[0].payload = std::make_shared<const std::string>(bytes, 'p');
  message.body = std::move(append);
  return message;
}

GroupMessage NumberedAck(uint64_t number) {
  GroupMessage message;
  message.partition = PartitionId(number);
  message.body = group::AckMessage();
  return message;
}

TEST(Transport, ConnectsBothWaysAndCarriesMessagesInOrder) {
  TestNode a(1);
  TestNode b(2);
  a.Start();
  b.Start();
  Connect(a, b);
  EXPECT_EQ(a.transport().Boot(b.id()), b.boot());
  EXPECT_TRUE(b.transport().Connected(a.id()));
  std::vector<uint64_t> expected;
  for (uint64_t i = 1; i <= 2000; ++i) {
    expected.push_back(i);
    EXPECT_TRUE(a.transport().Send(b.id(), Numbered(i)));
    EXPECT_TRUE(b.transport().Send(a.id(), Numbered(i)));
  }
  ASSERT_TRUE(a.recorder.WaitAppends(2000));
  ASSERT_TRUE(b.recorder.WaitAppends(2000));
  EXPECT_EQ(a.recorder.appends_, expected);
  EXPECT_EQ(b.recorder.appends_, expected);
}

TEST(Transport, ThreeNodesConnectPairwise) {
  TestNode a(1), b(2), c(3);
  for (TestNode* node : {&a, &b, &c}) node->Start();
  for (TestNode* node : {&a, &b, &c}) {
    node->transport().SetPeers({{a.id(), a.peer()}, {b.id(), b.peer()}, {c.id(), c.peer()}});
  }
  for (TestNode* node : {&a, &b, &c}) {
    for (TestNode* other : {&a, &b, &c}) {
      if (node != other) EXPECT_TRUE(node->recorder.WaitConnected(other->id()));
    }
  }
  std::this_thread::sleep_for(50ms);
  for (TestNode* node : {&a, &b, &c}) EXPECT_EQ(node->recorder.connections_, 2);
}

TEST(Transport, CoalescesWhatWaits) {
  IoPool senders(2);
  TestNode a(1, [&](TransportOptions* options) { options->senders = &senders; });
  TestNode b(2);
  a.Start();
  b.Start();
  Connect(a, b);
  for (uint64_t i = 1; i <= 20'000; ++i) {
    boost::asio::post(senders.executor(i % 2),
                      [&, i] { EXPECT_TRUE(a.transport().Send(b.id(), Numbered(i))); });
  }
  ASSERT_TRUE(b.recorder.WaitAppends(20'000));
  EXPECT_LT(b.recorder.frames_, 10'000);
  // From a thread that is none of them.
  EXPECT_TRUE(a.transport().Send(b.id(), Numbered(20'001)));
  EXPECT_TRUE(b.recorder.WaitAppends(20'001));
  senders.Join();
}

TEST(Transport, AcknowledgementsOvertakeAppendsThatWait) {
  TestNode a(1), b(2);
  a.Start();
  b.Start();
  Connect(a, b);
  b.recorder.Block(true);
  constexpr uint64_t kAppends = 60;
  for (uint64_t i = 1; i <= kAppends; ++i) {
    ASSERT_TRUE(a.transport().Send(b.id(), Numbered(i, 1 << 20)));
  }
  ASSERT_TRUE(a.transport().Send(b.id(), NumberedAck(7)));
  b.recorder.Block(false);
  ASSERT_TRUE(b.recorder.Wait([&] { return !b.recorder.others_.empty(); }));
  {
    std::scoped_lock lock(b.recorder.mutex_);
    EXPECT_LT(b.recorder.appends_.size(), kAppends);
  }
  EXPECT_TRUE(b.recorder.WaitAppends(kAppends));
}

TEST(Transport, RefusesPastTheBoundAndGoesOnAfter) {
  TestNode a(1, [](TransportOptions* options) { options->max_queued_bytes = 8u << 20; });
  TestNode b(2);
  a.Start();
  b.Start();
  Connect(a, b);
  b.recorder.Block(true);
  uint64_t sent = 0;
  for (uint64_t i = 1; i <= 200; ++i) {
    if (!a.transport().Send(b.id(), Numbered(i, 1 << 20))) break;
    sent = i;
  }
  EXPECT_GE(sent, 7u);
  EXPECT_LT(sent, 100u);
  // Acknowledgements have a bound of their own.
  EXPECT_TRUE(a.transport().Send(b.id(), NumberedAck(1)));
  b.recorder.Block(false);
  EXPECT_TRUE(b.recorder.WaitAppends(sent));
  EXPECT_TRUE(a.transport().Send(b.id(), Numbered(1000, 1 << 20)));
  EXPECT_TRUE(b.recorder.WaitAppends(sent + 1));
}

TEST(Transport, SendsOnlyToTheProcessThatIsMeant) {
  TestNode a(1), b(2);
  a.Start();
  b.Start();
  EXPECT_FALSE(a.transport().Send(b.id(), Numbered(1)));
  Connect(a, b);
  EXPECT_FALSE(a.transport().Send(b.id(), Numbered(1), b.boot() + 1));
  EXPECT_TRUE(a.transport().Send(b.id(), Numbered(2), b.boot()));
  ASSERT_TRUE(b.recorder.WaitAppends(1));
  EXPECT_EQ(b.recorder.appends_, std::vector<uint64_t>{2});
}

TEST(Transport, ConnectsAgainWhenAPeerRestarts) {
  TestNode a(1);
  auto b = std::make_unique<TestNode>(2);
  a.Start();
  b->Start();
  Connect(a, *b);
  const int port = b->port();
  const uint64_t boot = b->boot();
  b = nullptr;
  ASSERT_TRUE(a.recorder.WaitLost());
  EXPECT_FALSE(a.transport().Send(NodeId(2), Numbered(1)));
  TestNode again(2);
  again.Start(port);
  const auto started = std::chrono::steady_clock::now();
  again.transport().SetPeers({{a.id(), a.peer()}});
  ASSERT_TRUE(a.recorder.WaitConnected(NodeId(2)));
  EXPECT_LT(std::chrono::steady_clock::now() - started, 3s);
  EXPECT_NE(a.transport().Boot(NodeId(2)), boot);
  EXPECT_TRUE(a.transport().Send(NodeId(2), Numbered(3)));
  EXPECT_TRUE(again.recorder.WaitAppends(1));
}

TEST(Transport, RefusesAProcessThatAnotherHasFollowed) {
  TestNode a(1), b(2);
  TestNode later(1);
  a.Start();
  b.Start();
  later.Start();
  Connect(a, b);
  later.transport().SetPeers({{b.id(), b.peer()}});
  ASSERT_TRUE(later.recorder.WaitConnected(b.id()));
  EXPECT_THAT(WaitError(a, b.id(), "stale"), HasSubstr("stale: node 1 has been started again"));
  EXPECT_EQ(b.transport().Boot(NodeId(1)), later.boot());
}

TEST(Transport, RefusesAnotherCluster) {
  TestNode a(1), b(2, [](TransportOptions* options) { options->cluster_id = "other"; });
  a.Start();
  b.Start();
  Introduce(a, b);
  EXPECT_THAT(WaitError(a, b.id(), "cluster"),
              HasSubstr("wrong cluster: this node belongs to \"other\", not to \"test\""));
}

TEST(Transport, RefusesAnotherNodeAtTheAddress) {
  TestNode a(1), b(2), c(3);
  for (TestNode* node : {&a, &b, &c}) node->Start();
  c.transport().SetPeers({{a.id(), a.peer()}});
  a.transport().SetPeers({{b.id(), c.peer()}});
  EXPECT_THAT(WaitError(a, b.id(), "wrong node"), HasSubstr("this is node 3, not node 2"));
}

TEST(Transport, RefusesWhoIsNoMemberUntilItIs) {
  TestNode a(1), b(2);
  a.Start();
  b.Start();
  a.transport().SetPeers({{b.id(), b.peer()}});
  EXPECT_THAT(WaitError(a, b.id(), "member"), HasSubstr("node 1 is not a member known here"));
  b.transport().SetPeers({{a.id(), a.peer()}});
  EXPECT_TRUE(a.recorder.WaitConnected(b.id()));
}

TEST(Transport, AdjacentVersionsRunTogetherAndOthersDoNot) {
  const auto versions = [](uint32_t min, uint32_t max) {
    return [min, max](TransportOptions* options) {
      options->min_version = min;
      options->max_version = max;
    };
  };
  TestNode a(1, versions(1, 2)), b(2, versions(2, 3)), c(3, versions(3, 4));
  for (TestNode* node : {&a, &b, &c}) node->Start();
  for (TestNode* node : {&a, &b, &c}) {
    node->transport().SetPeers({{a.id(), a.peer()}, {b.id(), b.peer()}, {c.id(), c.peer()}});
  }
  EXPECT_TRUE(a.recorder.WaitConnected(b.id()));
  EXPECT_TRUE(b.recorder.WaitConnected(c.id()));
  EXPECT_THAT(WaitError(a, c.id(), "version"),
              HasSubstr("wire versions 1 to 2 are not spoken here, but 3 to 4"));
}

TEST(Transport, HeartbeatsGiveLeases) {
  TestNode a(1), b(2);
  a.Start();
  b.Start();
  Connect(a, b);
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (!a.leases().Lease(b.id())->Holds(b.boot(), lease::Now()) ||
         !b.leases().Lease(a.id())->Holds(a.boot(), lease::Now())) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::sleep_for(5ms);
  }
  std::this_thread::sleep_for(1500ms);
  EXPECT_TRUE(a.leases().Lease(b.id())->Holds(b.boot(), lease::Now()));
  EXPECT_EQ(a.recorder.losses_, 0);
  EXPECT_EQ(b.recorder.losses_, 0);
}

TEST(Transport, ANodeWhoseDiskHangsIsLostWithinALease) {
  std::atomic<bool> healthy{true};
  TestNode a(1),
      b(2, [&](TransportOptions* options) { options->healthy = [&] { return healthy.load(); }; });
  a.Start();
  b.Start();
  Connect(a, b);
  std::this_thread::sleep_for(300ms);
  const auto hung = std::chrono::steady_clock::now();
  healthy = false;
  ASSERT_TRUE(a.recorder.WaitLost());
  EXPECT_LT(a.recorder.lost_at_ - hung, 1500ms);
  EXPECT_GT(a.recorder.lost_at_ - hung, 500ms);
  // Its last acknowledgement may have come after its last heartbeat, by less than an interval.
  std::this_thread::sleep_for(lease::kHeartbeatInterval);
  EXPECT_FALSE(a.leases().Lease(b.id())->Holds(b.boot(), lease::Now()));
  EXPECT_THAT(WaitError(a, b.id(), "disk"), HasSubstr("this node's disk does not answer"));
  healthy = true;
  EXPECT_TRUE(a.recorder.WaitConnected(b.id()));
}

TEST(Transport, APeerThatNeverAnswersIsDialedAgain) {
  // Accepts connections as a stopped process's kernel does, and says nothing.
  TestNode a(1), b(2);
  a.Start();
  b.Start();
  const int silent = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(silent, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(silent, 16), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(::getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size), 0);
  a.transport().SetPeers(
      {{b.id(), Peer("127.0.0.1:" + std::to_string(ntohs(address.sin_port)), "")}});
  EXPECT_NE(WaitError(a, b.id(), "n"), "");
  b.transport().SetPeers({{a.id(), a.peer()}});
  a.transport().SetPeers({{b.id(), b.peer()}});
  EXPECT_TRUE(a.recorder.WaitConnected(b.id()));
  ::close(silent);
}

TEST(Transport, ForgetsAPeerThatIsNoLongerNamed) {
  TestNode a(1), b(2);
  a.Start();
  b.Start();
  Connect(a, b);
  a.transport().SetPeers({});
  EXPECT_TRUE(a.recorder.WaitLost());
  EXPECT_TRUE(b.recorder.WaitLost());
  EXPECT_FALSE(a.transport().Connected(b.id()));
  Introduce(a, b);
  EXPECT_TRUE(a.recorder.WaitConnected(b.id()));
}

TEST(Transport, ClosesAStreamOfNonsense) {
  TestNode a(1);
  a.Start();
  auto channel = rpc::MakeChannel(a.peer().endpoint, rpc::TlsOptions());
  ASSERT_TRUE(channel.ok());
  auto stub = proto::replication::ReplicationService::NewStub(*channel);
  for (const std::string& head : {std::string("\xff\xff\xff", 3), std::string()}) {
    grpc::ClientContext context;
    auto stream = stub->Exchange(&context);
    proto::replication::Frame frame;
    frame.set_head(head);
    stream->Write(frame);
    proto::replication::Frame answer;
    EXPECT_FALSE(stream->Read(&answer));
    EXPECT_FALSE(stream->Finish().ok());
  }
}

TEST(Transport, StopsWhileMessagesFly) {
  for (int round = 0; round < 5; ++round) {
    TestNode a(1), b(2);
    a.Start();
    b.Start();
    Connect(a, b);
    std::atomic<bool> stop{false};
    std::thread sender([&] {
      while (!stop) {
        (void)a.transport().Send(b.id(), Numbered(1, 5000));
        (void)b.transport().Send(a.id(), NumberedAck(1));
      }
    });
    std::this_thread::sleep_for(30ms);
    a.transport().Stop();
    b.transport().Stop();
    stop = true;
    sender.join();
  }
}

class TransportTls : public testing::Test {
 protected:
  TestDirectory directory_;
  TestAuthority authority_{directory_.path()};
};

TEST_F(TransportTls, ConnectsNodesThatProveTheirNames) {
  TestNode a(1, {}, authority_.Issue("node-a"));
  TestNode b(2, {}, authority_.Issue("node-b"));
  a.Start();
  b.Start();
  a.transport().SetPeers({{b.id(), b.peer("node-b")}});
  b.transport().SetPeers({{a.id(), a.peer("node-a")}});
  EXPECT_TRUE(a.recorder.WaitConnected(b.id())) << a.transport().LastError(b.id());
  EXPECT_TRUE(a.transport().Send(b.id(), Numbered(1)));
  EXPECT_TRUE(b.recorder.WaitAppends(1));
}

TEST_F(TransportTls, RefusesACallerWithAnotherName) {
  TestNode a(1, {}, authority_.Issue("node-x"));
  TestNode b(2, {}, authority_.Issue("node-b"));
  a.Start();
  b.Start();
  a.transport().SetPeers({{b.id(), b.peer("node-b")}});
  b.transport().SetPeers({{a.id(), a.peer("node-a")}});
  EXPECT_THAT(WaitError(a, b.id(), "certificate"),
              HasSubstr("wrong certificate: it does not carry \"node-a\", the name of node 1"));
}

TEST_F(TransportTls, RefusesAnAnswererWithAnotherName) {
  TestNode a(1, {}, authority_.Issue("node-a"));
  TestNode b(2, {}, authority_.Issue("node-x"));
  a.Start();
  b.Start();
  a.transport().SetPeers({{b.id(), b.peer("node-b")}});
  b.transport().SetPeers({{a.id(), a.peer("node-a")}});
  EXPECT_NE(WaitError(a, b.id(), "e"), "");
  std::this_thread::sleep_for(300ms);
  EXPECT_FALSE(a.transport().Connected(b.id()));
  EXPECT_EQ(b.recorder.connections_, 0);
}

TEST_F(TransportTls, RefusesAnotherAuthority) {
  TestAuthority other(directory_.path(), "other");
  TestNode a(1, {}, other.Issue("node-a"));
  TestNode b(2, {}, authority_.Issue("node-b"));
  a.Start();
  b.Start();
  a.transport().SetPeers({{b.id(), b.peer("node-b")}});
  b.transport().SetPeers({{a.id(), a.peer("node-a")}});
  EXPECT_NE(WaitError(a, b.id(), "e"), "");
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(a.recorder.connections_ + b.recorder.connections_, 0);
}

}  // namespace
}  // namespace onggi::transport
