// The etcd client against real servers: options, TLS, users, limits, and what it makes of errors.

#include "replication/metadata/etcd_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replication/metadata/etcd_status.h"
#include "tests/unit/metadata/store_backends.h"

namespace onggi::metadata {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Steady = std::chrono::steady_clock;

/// Requests, waited for; the test opens its stores itself.
class Waiter : public Backend {
 public:
  std::shared_ptr<MetadataStore> Connect(size_t) override { return nullptr; }
  void Compact() override {}
};

std::shared_ptr<EtcdStore> MustOpen(const EtcdOptions& options) {
  auto store = EtcdStore::Open(options);
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  return store.ok() ? std::shared_ptr<EtcdStore>(std::move(*store)) : nullptr;
}

TEST(EtcdStatus, OnlyWhatWasSurelyNotDoneIsAskedAgain) {
  using Kind = etcd::Failure::Kind;
  const auto kind = [](grpc::StatusCode code, const char* message) {
    return etcd::Classify(grpc::Status(code, message)).kind;
  };
  constexpr auto kGone = grpc::StatusCode::UNAVAILABLE;
  EXPECT_EQ(kind(kGone, "etcdserver: no leader"), Kind::kNotDone);
  EXPECT_EQ(kind(kGone, "failed to connect to all addresses; last error: x"), Kind::kNotDone);
  EXPECT_EQ(kind(grpc::StatusCode::RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
            Kind::kNotDone);
  EXPECT_EQ(kind(grpc::StatusCode::UNKNOWN, "raft proposal dropped"), Kind::kNotDone);
  EXPECT_EQ(kind(kGone, "etcdserver: request timed out"), Kind::kUnknown);
  EXPECT_EQ(kind(kGone, "etcdserver: request timed out, possibly due to previous leader failure"),
            Kind::kUnknown);
  EXPECT_EQ(kind(kGone, "etcdserver: leader changed"), Kind::kUnknown);
  EXPECT_EQ(kind(kGone, "etcdserver: server stopped"), Kind::kUnknown);
  EXPECT_EQ(kind(kGone, "Socket closed"), Kind::kUnknown);
  EXPECT_EQ(kind(kGone, "transport is closing"), Kind::kUnknown);
  EXPECT_EQ(kind(grpc::StatusCode::DEADLINE_EXCEEDED, "Deadline Exceeded"), Kind::kUnknown);
  EXPECT_EQ(kind(grpc::StatusCode::CANCELLED, "CANCELLED"), Kind::kUnknown);
  EXPECT_EQ(kind(grpc::StatusCode::UNAUTHENTICATED, "etcdserver: invalid auth token"),
            Kind::kToken);
  const auto code = [](grpc::StatusCode from, const char* message) {
    const etcd::Failure failure = etcd::Classify(grpc::Status(from, message));
    EXPECT_EQ(failure.kind, Kind::kFinal);
    return failure.status.code();
  };
  EXPECT_EQ(code(grpc::StatusCode::RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
            Code::kOutOfSpace);
  EXPECT_EQ(code(grpc::StatusCode::NOT_FOUND, "etcdserver: requested lease not found"),
            Code::kNotFound);
  EXPECT_EQ(code(grpc::StatusCode::INVALID_ARGUMENT, "etcdserver: request is too large"),
            Code::kInvalidArgument);
  EXPECT_EQ(code(grpc::StatusCode::PERMISSION_DENIED, "etcdserver: permission denied"),
            Code::kInvalidArgument);
}

TEST(EtcdStatus, ProgressIsBelievedOfVersionsThatTellTheTruth) {
  for (const char* version : {"3.4.25", "3.4.30", "3.5.8", "3.6.0", "3.10.1", "4.0.0", "3.5.21-rc"})
    EXPECT_TRUE(etcd::HasTrueProgress(version)) << version;
  for (const char* version : {"3.4.23", "3.4.24", "3.5.7", "3.3.99", "", "3.4", "x.y.z", "2.9.9"})
    EXPECT_FALSE(etcd::HasTrueProgress(version)) << version;
}

TEST(EtcdStoreTest, OptionsThatCannotBeMeantAreRefused) {
  const auto code = [](const std::vector<std::string>& endpoints, const std::string& ca = "") {
    EtcdOptions options;
    options.endpoints = endpoints;
    options.ca_file = ca;
    return EtcdStore::Open(options, milliseconds(100)).status().code();
  };
  EXPECT_EQ(code({}), Code::kInvalidArgument);
  EXPECT_EQ(code({"localhost"}), Code::kInvalidArgument);
  EXPECT_EQ(code({":2379"}), Code::kInvalidArgument);
  EXPECT_EQ(code({"localhost:2379/path"}), Code::kInvalidArgument);
  EXPECT_EQ(code({"http://localhost:1", "https://localhost:2"}), Code::kInvalidArgument);
  EXPECT_EQ(code({"localhost:1"}, "/nonexistent/ca.pem"), Code::kInvalidArgument);
  EXPECT_EQ(code({"localhost:1"}), Code::kUnavailable);
}

TEST(EtcdStoreTest, MembersThatDoNotAnswerCostLessThanASecond) {
  ONGGI_NEEDS_ETCD();
  // The kernel accepts connections to these; nobody ever says a word.
  std::vector<int> holes;
  EtcdOptions options = EtcdBackend::Cluster()->ClientOptions();
  options.key_prefix = "holes/";
  options.endpoints.resize(1);
  for (int i = 0; i < 2; ++i) {
    const int port = EtcdCluster::FreePort(&holes);
    ::listen(holes.back(), 8);
    options.endpoints.push_back("127.0.0.1:" + std::to_string(port));
  }
  MustOpen(options);  // the cluster has a leader by now
  Waiter waiter;
  for (int i = 0; i < 3; ++i) {  // the first member is chosen at random
    const auto start = Steady::now();
    const auto store = MustOpen(options);
    ASSERT_NE(store, nullptr);
    EXPECT_TRUE(waiter.Put(*store, "a", "1").ok());
    EXPECT_LT(Steady::now() - start, seconds(1));
  }
  for (const int fd : holes) ::close(fd);
}

TEST(EtcdStoreTest, ClustersWithDifferentPrefixesDoNotMeet) {
  ONGGI_NEEDS_ETCD();
  EtcdOptions options = EtcdBackend::Cluster()->ClientOptions();
  options.key_prefix = "one/";
  const auto one = MustOpen(options);
  options.key_prefix = "one0";
  const auto two = MustOpen(options);
  Waiter waiter;
  EXPECT_TRUE(waiter.Put(*one, "a", "1").ok());
  EXPECT_TRUE(waiter.Put(*two, "b", "2").ok());
  EXPECT_THAT(waiter.Show(*one), ElementsAre("a=1"));
  EXPECT_THAT(waiter.Show(*two), ElementsAre("b=2"));
}

TEST(EtcdStoreTest, ASlowWatchLeavesTheStreamAndLosesNothing) {
  ONGGI_NEEDS_ETCD();
  EtcdOptions options = EtcdBackend::Cluster()->ClientOptions();
  options.key_prefix = "slow/";
  options.max_watch_bytes = 2000;
  const auto store = MustOpen(options);
  Waiter waiter;
  boost::asio::io_context slow;
  std::vector<std::string> seen;
  const auto handle =
      store->Watch("", Revision(), slow.get_executor(), [&](const WatchBatch& batch) {
        for (const WatchEvent& event : batch.events) seen.push_back(event.kv.value);
      });
  waiter.RunFor(milliseconds(200));
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(waiter.Put(*store, "k" + std::to_string(i % 3), std::to_string(i)).ok());
  }
  ASSERT_TRUE(waiter.RunUntil([&] {
    slow.restart();
    slow.poll();
    return seen.size() >= 50;
  }));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], std::to_string(i));
}

TEST(EtcdStoreTest, AWatchThatWasAwayAtACompactionSaysSo) {
  ONGGI_NEEDS_ETCD();
  EtcdOptions options = EtcdBackend::Cluster()->ClientOptions();
  options.key_prefix = "away/";
  options.max_watch_bytes = 1;  // away after the first batch, until its executor runs
  const auto store = MustOpen(options);
  Waiter waiter;
  boost::asio::io_context slow;
  std::vector<WatchBatch> seen;
  const auto handle = store->Watch("", Revision(), slow.get_executor(),
                                   [&](const WatchBatch& batch) { seen.push_back(batch); });
  waiter.RunFor(milliseconds(200));
  ASSERT_TRUE(waiter.Put(*store, "a", "1").ok());
  waiter.RunFor(milliseconds(200));
  // Deleted at the very revision of the compaction: etcd would forget it without a word.
  ASSERT_TRUE(waiter.Put(*store, "a", "2").ok());
  const auto deleted = waiter.Delete(*store, "a");
  ASSERT_TRUE(deleted.ok());
  ASSERT_TRUE(EtcdBackend::Cluster()->Control({"compact", deleted->revision.ToString()}));
  ASSERT_TRUE(waiter.RunUntil([&] {
    slow.restart();
    slow.poll();
    return !seen.empty() && seen.back().compacted;
  }));
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen.front().events.front().kv.value, "1");
  EXPECT_THAT(seen.back().events, IsEmpty());
}

TEST(EtcdStoreTest, TlsNamesBothSides) {
  ONGGI_NEEDS_ETCD();
  EtcdCluster::Options cluster_options;
  cluster_options.members = 1;
  cluster_options.tls = true;
  EtcdCluster cluster(cluster_options);
  Waiter waiter;
  const auto store = MustOpen(cluster.ClientOptions());
  ASSERT_NE(store, nullptr);
  EXPECT_TRUE(waiter.Put(*store, "a", "1").ok());

  const auto code = [](const EtcdOptions& options) {
    return EtcdStore::Open(options, milliseconds(500)).status().code();
  };
  EtcdOptions other_authority = cluster.ClientOptions();
  other_authority.ca_file = cluster.File("other.pem");
  EXPECT_EQ(code(other_authority), Code::kUnavailable);
  EtcdOptions nobody = cluster.ClientOptions();
  nobody.certificate_file.clear();
  nobody.key_file.clear();
  EXPECT_EQ(code(nobody), Code::kUnavailable);
  EtcdOptions other_name = cluster.ClientOptions();
  other_name.server_name = "somewhere.example";
  EXPECT_EQ(code(other_name), Code::kUnavailable);
  EtcdOptions plain;
  plain.endpoints = cluster.ClientOptions().endpoints;
  EXPECT_EQ(code(plain), Code::kUnavailable);
}

TEST(EtcdStoreTest, TokensAreRenewed) {
  ONGGI_NEEDS_ETCD();
  EtcdCluster::Options cluster_options;
  cluster_options.members = 1;
  cluster_options.arguments = {"--auth-token-ttl=1"};
  EtcdCluster cluster(cluster_options);
  Waiter waiter;
  EtcdOptions options = cluster.ClientOptions();
  // A user where none is needed yet.
  options.user = "onggi";
  options.password = "secret";
  // Nothing but the requests below may keep a token in use.
  options.probe_interval = seconds(60);
  const auto early = MustOpen(options);
  ASSERT_NE(early, nullptr);
  EXPECT_TRUE(waiter.Put(*early, "a", "0").ok());

  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"user", "add", "root:boss"},
           {"user", "grant-role", "root", "root"},
           {"role", "add", "onggi"},
           {"role", "grant-permission", "onggi", "readwrite", "--prefix", "onggi/"},
           {"user", "add", "onggi:secret"},
           {"user", "grant-role", "onggi", "onggi"},
           {"auth", "enable"}}) {
    ASSERT_TRUE(cluster.Control(command)) << command[0] << " " << command[1];
  }
  const auto fresh = MustOpen(options);
  ASSERT_NE(fresh, nullptr);
  std::vector<std::string> seen;
  auto handle =
      fresh->Watch("w/", Revision(), waiter.io().get_executor(), [&](const WatchBatch& batch) {
        for (const auto& event : batch.events) seen.push_back(event.kv.value);
      });
  EXPECT_TRUE(waiter.Put(*fresh, "w/a", "1").ok());
  EXPECT_TRUE(waiter.Put(*early, "w/a", "2").ok());
  ASSERT_TRUE(waiter.RunUntil([&] { return seen.size() >= 2; }));
  waiter.RunFor(milliseconds(3500));
  EXPECT_TRUE(waiter.Put(*fresh, "w/a", "3").ok());
  EXPECT_TRUE(waiter.Put(*early, "w/a", "4").ok());
  // Tokens are gone with the server that gave them.
  cluster.Kill(0);
  cluster.Start(0);
  EXPECT_TRUE(waiter.RunUntil([&] { return waiter.Put(*fresh, "w/a", "5").ok(); }));
  EXPECT_TRUE(waiter.RunUntil([&] { return waiter.Put(*early, "w/a", "6").ok(); }));
  ASSERT_TRUE(waiter.RunUntil([&] { return !seen.empty() && seen.back() == "6"; }))
      << ::testing::PrintToString(seen);
  EXPECT_GE(seen.size(), 6u) << ::testing::PrintToString(
      seen);  // an unknown outcome may have been asked twice

  auto lease = waiter.Grant(*fresh, seconds(2));
  ASSERT_TRUE(lease.ok()) << lease.status().ToString();
  ASSERT_TRUE(waiter.Put(*fresh, "leased", "1", (*lease)->id()).ok());
  lease->reset();
  EXPECT_TRUE(waiter.RunUntil([&] { return waiter.Show(*fresh, "leased").empty(); }));

  options.password = "wrong";
  const Status refused = EtcdStore::Open(options, seconds(5)).status();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_THAT(refused.message(), HasSubstr("authentication failed"));
  options.password = "secret";
  options.key_prefix = "forbidden/";
  EXPECT_EQ(EtcdStore::Open(options, seconds(5)).status().code(), Code::kInvalidArgument);
  EtcdOptions nobody = cluster.ClientOptions();
  EXPECT_EQ(EtcdStore::Open(nobody, seconds(1)).status().code(), Code::kUnavailable);
}

TEST(EtcdStoreTest, AFullEtcdIsOutOfSpace) {
  ONGGI_NEEDS_ETCD();
  EtcdCluster::Options cluster_options;
  cluster_options.members = 1;
  cluster_options.arguments = {"--quota-backend-bytes=4000000"};
  EtcdCluster cluster(cluster_options);
  Waiter waiter;
  const auto store = MustOpen(cluster.ClientOptions());
  ASSERT_NE(store, nullptr);
  Status status;
  for (int i = 0; i < 20 && status.ok(); ++i) {
    status = waiter.Put(*store, "k", std::string(1'000'000, 'v')).status();
  }
  EXPECT_EQ(status.code(), Code::kOutOfSpace) << status.ToString();
  EXPECT_TRUE(waiter.Range(*store, "k", "l").ok());
  // An operator makes room.
  const auto now = waiter.Range(*store, "k", "l");
  EXPECT_TRUE(cluster.Control({"compact", now->revision.ToString()}));
  EXPECT_TRUE(cluster.Control({"defrag"}));
  EXPECT_TRUE(cluster.Control({"alarm", "disarm"}));
  EXPECT_TRUE(waiter.Put(*store, "k", "v").ok());
}

TEST(EtcdStoreTest, CountsWhatItDoes) {
  ONGGI_NEEDS_ETCD();
  metrics::Registry registry;
  EtcdOptions options = EtcdBackend::Cluster()->ClientOptions();
  options.key_prefix = "metrics/";
  options.registry = &registry;
  const auto store = MustOpen(options);
  Waiter waiter;
  ASSERT_TRUE(waiter.Put(*store, "a", "1").ok());
  ASSERT_TRUE(waiter.Range(*store, "", "").ok());
  const std::string text = registry.TextExposition();
  EXPECT_THAT(text,
              HasSubstr("onggi_metadata_requests_total{operation=\"commit\",outcome=\"ok\"} 1"));
  EXPECT_THAT(text,
              HasSubstr("onggi_metadata_requests_total{operation=\"range\",outcome=\"ok\"} 1"));
  EXPECT_THAT(text, HasSubstr("onggi_metadata_pending_requests 0"));
}

}  // namespace
}  // namespace onggi::metadata
