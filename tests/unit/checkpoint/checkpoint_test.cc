#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <random>

#include "common/proto/replication.grpc.pb.h"
#include "common/rpc/channel.h"
#include "common/rpc/server.h"
#include "replication/checkpoint/checkpoint_service.h"
#include "replication/checkpoint/files.h"
#include "replication/checkpoint/token_bucket.h"
#include "tests/unit/transport/certificates.h"

namespace onggi::checkpoint {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using Files = std::map<std::string, std::string>;

std::string RandomBytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (size_t i = 0; i + 8 <= size; i += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, 8);
  }
  return bytes;
}

void WriteFiles(const std::string& directory, const Files& files) {
  std::filesystem::create_directories(directory);
  for (const auto& [name, bytes] : files) {
    std::ofstream(directory + "/" + name, std::ios::binary) << bytes;
  }
}

Files ReadFiles(const std::string& directory) {
  Files files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::ifstream in(entry.path(), std::ios::binary);
    files[entry.path().filename()] =
        std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return files;
}

/// Installs by reading everything.
class TestReceiver final : public CheckpointReceiver {
 public:
  Status Accept(const CheckpointInfo&) override {
    if (accepting) accepting();
    std::scoped_lock lock(mutex_);
    return refusal;
  }
  void Install(CheckpointInfo info, std::function<void(Status)> done) override {
    {
      std::scoped_lock lock(mutex_);
      files = ReadFiles(info.directory);
      last = info;
      ++installed;
    }
    std::thread([done = std::move(done)] { done(Status::Ok()); }).detach();
  }

  std::function<void()> accepting;  ///< called as an offer is considered
  std::mutex mutex_;
  Status refusal;
  Files files;
  CheckpointInfo last;
  int installed = 0;
};

class TestNode {
 public:
  TestNode(uint64_t id, std::string directory, std::function<void(CheckpointOptions*)> change = {})
      : id_(id) {
    options_.cluster_id = "test";
    options_.self = NodeId(id);
    options_.metrics = &metrics_;
    options_.incoming_directory = directory + "/incoming-" + std::to_string(id);
    options_.reserve_bytes = 0;
    options_.chunk_bytes = 64 << 10;
    options_.sync_bytes = 256 << 10;
    options_.bytes_per_second = 0;
    if (change) change(&options_);
  }
  ~TestNode() { Stop(); }

  void Start() {
    auto made = CheckpointService::Make(options_, &receiver);
    CHECK_MSG(made.ok(), made.status().ToString());
    service_ = std::move(made).value();
    StartServer();
    service_->Start();
    if (!peers_.empty()) service_->SetPeers(peers_);
  }
  void StartServer() {
    rpc::ServerOptions server_options("127.0.0.1:" + std::to_string(port_), options_.tls);
    server_ = std::make_unique<rpc::RpcServer>(server_options);
    server_->AddService(service_->service());
    const Status status = server_->Start();
    CHECK_MSG(status.ok(), status.ToString());
    port_ = server_->port();
  }
  void StopServer() { server_ = nullptr; }
  void Stop() {
    if (service_ != nullptr) service_->Stop();
    server_ = nullptr;
    service_ = nullptr;
  }
  void SetPeers(std::map<NodeId, transport::Peer> peers) {
    peers_ = std::move(peers);
    service_->SetPeers(peers_);
  }

  NodeId id() const { return NodeId(id_); }
  transport::Peer peer(std::string name = "") const {
    return transport::Peer("127.0.0.1:" + std::to_string(port_), std::move(name));
  }
  CheckpointService& service() { return *service_; }
  const std::string& incoming() const { return options_.incoming_directory; }
  uint64_t SentBytes() {
    return metrics_.AddCounter("onggi_checkpoint_sent_bytes_total", "").Value();
  }
  uint64_t ReceivedBytes() {
    return metrics_.AddCounter("onggi_checkpoint_received_bytes_total", "").Value();
  }

  TestReceiver receiver;

 private:
  const uint64_t id_;
  CheckpointOptions options_;
  metrics::Registry metrics_;
  std::map<NodeId, transport::Peer> peers_;
  std::unique_ptr<CheckpointService> service_;
  std::unique_ptr<rpc::RpcServer> server_;
  int port_ = 0;
};

class Checkpoint : public testing::Test {
 protected:
  void Connect(TestNode& a, TestNode& b) {
    a.Start();
    b.Start();
    a.SetPeers({{a.id(), a.peer()}, {b.id(), b.peer()}});
    b.SetPeers({{a.id(), a.peer()}, {b.id(), b.peer()}});
  }
  CheckpointSource Source(uint64_t partition = 5) {
    CheckpointSource source;
    source.table = TableId(3);
    source.partition = PartitionId(partition);
    source.epoch = Epoch(7);
    source.position = {Epoch(6), LogIndex(1234)};
    source.metadata = "opaque";
    source.directory = directory_.path() + "/source";
    return source;
  }
  std::future<Status> Send(TestNode& from, TestNode& to, const CheckpointSource& source) {
    auto promise = std::make_shared<std::promise<Status>>();
    from.service().Send({to.id(), ReplicaId(9)}, source,
                        [promise](Status status) { promise->set_value(std::move(status)); });
    return promise->get_future();
  }
  static Status Get(std::future<Status> future) {
    if (future.wait_for(30s) != std::future_status::ready) return Internal("no answer");
    return future.get();
  }
  Files SomeFiles(size_t bytes = 3 << 20) {
    return {{"CURRENT", "MANIFEST-000004\n"},
            {"empty", ""},
            {"000012.sst", RandomBytes(bytes, 1)},
            {"000013.sst", RandomBytes(100'000, 2)}};
  }

  TestDirectory directory_;
};

TEST_F(Checkpoint, ArrivesWholeAndIsInstalled) {
  TestNode a(1, directory_.path()), b(2, directory_.path());
  Connect(a, b);
  WriteFiles(Source().directory, SomeFiles());
  EXPECT_EQ(Get(Send(a, b, Source())), Status::Ok());
  EXPECT_TRUE(b.receiver.files == SomeFiles());
  EXPECT_EQ(b.receiver.last.from, a.id());
  EXPECT_EQ(b.receiver.last.to, (group::Member{b.id(), ReplicaId(9)}));
  EXPECT_EQ(b.receiver.last.table, TableId(3));
  EXPECT_EQ(b.receiver.last.partition, PartitionId(5));
  EXPECT_EQ(b.receiver.last.epoch, Epoch(7));
  EXPECT_EQ(b.receiver.last.position, (LogPosition{Epoch(6), LogIndex(1234)}));
  EXPECT_EQ(b.receiver.last.metadata, "opaque");
  EXPECT_TRUE(std::filesystem::is_empty(b.incoming()));
  EXPECT_TRUE(ReadFiles(Source().directory) == SomeFiles());
}

TEST_F(Checkpoint, GoesBothWaysAtOnceAndManyWait) {
  TestNode a(1, directory_.path()), b(2, directory_.path());
  Connect(a, b);
  WriteFiles(Source().directory, SomeFiles(1 << 20));
  std::vector<std::future<Status>> sends;
  for (uint64_t p = 1; p <= 10; ++p) {
    sends.push_back(Send(a, b, Source(p)));
    sends.push_back(Send(b, a, Source(p)));
  }
  for (auto& send : sends) EXPECT_EQ(Get(std::move(send)), Status::Ok());
  EXPECT_EQ(a.receiver.installed, 10);
  EXPECT_EQ(b.receiver.installed, 10);
}

TEST_F(Checkpoint, GoesOnWhereTheConnectionBroke) {
  const auto slow = [](CheckpointOptions* options) { options->bytes_per_second = 4 << 20; };
  TestNode a(1, directory_.path(), slow), b(2, directory_.path());
  Connect(a, b);
  WriteFiles(Source().directory, SomeFiles(4 << 20));
  auto sent = Send(a, b, Source());
  while (b.ReceivedBytes() < (2 << 20)) std::this_thread::sleep_for(5ms);
  a.StopServer();
  std::this_thread::sleep_for(100ms);
  a.StartServer();
  EXPECT_EQ(Get(std::move(sent)), Status::Ok());
  EXPECT_TRUE(b.receiver.files == SomeFiles(4 << 20));
  // What was on its way when it broke is sent twice, and no more.
  EXPECT_LT(b.ReceivedBytes(), (4u << 20) + 200'000);
}

TEST_F(Checkpoint, GoesOnAfterTheReceiverHasRestarted) {
  const auto slow = [](CheckpointOptions* options) { options->bytes_per_second = 4 << 20; };
  TestNode a(1, directory_.path(), slow), b(2, directory_.path());
  Connect(a, b);
  WriteFiles(Source().directory, SomeFiles(4 << 20));
  auto sent = Send(a, b, Source());
  while (b.ReceivedBytes() < (2 << 20)) std::this_thread::sleep_for(5ms);
  b.Stop();
  const uint64_t before = b.ReceivedBytes();
  b.Start();
  EXPECT_EQ(Get(std::move(sent)), Status::Ok());
  EXPECT_TRUE(b.receiver.files == SomeFiles(4 << 20));
  EXPECT_EQ(b.receiver.installed, 1);
  EXPECT_GE(before, 2u << 20);
  EXPECT_LT(b.ReceivedBytes(), (4u << 20) + 800'000);
}

TEST_F(Checkpoint, KeepsFilesThatALaterCheckpointHasToo) {
  TestNode a(1, directory_.path()), b(2, directory_.path());
  Connect(a, b);
  WriteFiles(Source().directory, SomeFiles());
  const std::string copy = directory_.path() + "/copy";
  std::filesystem::create_directories(copy);
  // A receiver that has got a file of an earlier checkpoint, and one that is no longer in it.
  {
    auto partial = PartialDirectory::Open(b.incoming() + "/5-9");
    ASSERT_TRUE(partial.ok());
    const auto listed = ListFiles(Source().directory);
    for (const FileInfo& file : *listed) {
      if (file.name != "000012.sst") continue;
      ASSERT_TRUE(partial->Begin(file, 0).ok());
      ASSERT_TRUE(partial->Write(SomeFiles()["000012.sst"]).ok());
      ASSERT_TRUE(partial->Finish(Xxh3(SomeFiles()["000012.sst"])).ok());
    }
    FileInfo gone;
    gone.name = "000001.sst";
    gone.bytes = 3;
    ASSERT_TRUE(partial->Begin(gone, 0).ok());
    ASSERT_TRUE(partial->Write("abc").ok());
    ASSERT_TRUE(partial->Finish(Xxh3("abc")).ok());
  }
  for (const auto& [name, bytes] : SomeFiles()) {
    std::filesystem::create_hard_link(Source().directory + "/" + name, copy + "/" + name);
  }
  CheckpointSource later = Source();
  later.directory = copy;
  later.position.index = LogIndex(2000);
  EXPECT_EQ(Get(Send(a, b, later)), Status::Ok());
  EXPECT_TRUE(b.receiver.files == SomeFiles());
  EXPECT_LT(b.ReceivedBytes(), 200'000u);
}

TEST_F(Checkpoint, RespectsTheRateAndItsChange) {
  TestNode a(1, directory_.path(), [](CheckpointOptions* o) { o->bytes_per_second = 1 << 20; });
  TestNode b(2, directory_.path());
  Connect(a, b);
  WriteFiles(Source().directory, {{"a.sst", RandomBytes(1 << 20, 1)}});
  const auto begun = std::chrono::steady_clock::now();
  auto sent = Send(a, b, Source());
  std::this_thread::sleep_for(500ms);
  EXPECT_LT(a.SentBytes(), 800'000u);
  EXPECT_GT(a.SentBytes(), 200'000u);
  a.service().SetRate(0);
  EXPECT_EQ(Get(std::move(sent)), Status::Ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 950ms);
}

TEST_F(Checkpoint, IsRefusedWhereTheDiskHasNoRoom) {
  TestNode a(1, directory_.path());
  TestNode b(2, directory_.path(), [](CheckpointOptions* o) { o->reserve_bytes = 1ull << 60; });
  Connect(a, b);
  WriteFiles(Source().directory, SomeFiles());
  const Status status = Get(Send(a, b, Source()));
  EXPECT_EQ(status.code(), Code::kOutOfSpace);
  EXPECT_THAT(status.message(), HasSubstr("the disk of node 2 has no space for a copy"));
  EXPECT_TRUE(std::filesystem::is_empty(b.incoming()));
}

TEST_F(Checkpoint, TellsTheSenderWhyItIsNotWanted) {
  TestNode a(1, directory_.path()), b(2, directory_.path());
  Connect(a, b);
  WriteFiles(Source().directory, SomeFiles());
  b.receiver.refusal = {Code::kConditionFailed, "no such replica here"};
  EXPECT_EQ(Get(Send(a, b, Source())), b.receiver.refusal);
  CheckpointSource nested = Source();
  nested.directory = directory_.path();
  EXPECT_EQ(Get(Send(a, b, nested)).code(), Code::kInvalidArgument);
}

TEST_F(Checkpoint, GivesUpOnANodeThatDoesNotAnswer) {
  TestNode a(1, directory_.path(), [](CheckpointOptions* o) { o->stall_timeout = 300ms; });
  TestNode b(2, directory_.path());
  Connect(a, b);
  b.StopServer();
  WriteFiles(Source().directory, SomeFiles());
  EXPECT_EQ(Get(Send(a, b, Source())).code(), Code::kUnavailable);
  a.SetPeers({});
  EXPECT_THAT(Get(Send(a, b, Source())).message(), HasSubstr("not a member known here"));
}

TEST_F(Checkpoint, StopAnswersWhatIsUnderWay) {
  TestNode a(1, directory_.path(), [](CheckpointOptions* o) { o->bytes_per_second = 100'000; });
  TestNode b(2, directory_.path());
  Connect(a, b);
  WriteFiles(Source().directory, SomeFiles());
  auto sent = Send(a, b, Source());
  std::this_thread::sleep_for(100ms);
  a.Stop();
  EXPECT_EQ(Get(std::move(sent)).code(), Code::kUnavailable);
}

/// Its server goes on for a while, and waits for the calls that it has.
TEST_F(Checkpoint, AnOfferThatComesDuringAStopIsAnswered) {
  TestNode a(1, directory_.path()), b(2, directory_.path());
  Connect(a, b);
  const auto channel = rpc::MakeChannel(b.peer().endpoint, rpc::TlsOptions());
  ASSERT_TRUE(channel.ok());
  const auto stub = proto::replication::CheckpointService::NewStub(*channel);
  const auto offer = [&] {
    proto::replication::CheckpointOffer request;
    request.set_cluster_id("test");
    request.set_from_node(1);
    request.set_to_node(2);
    request.set_to_replica(9);
    request.set_partition(5);
    proto::replication::CheckpointOfferAnswer answer;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + 5s);
    return stub->Offer(&context, request, &answer).error_message();
  };
  b.receiver.accepting = [&] { b.service().Stop(); };  // between the look at it and its place
  EXPECT_EQ(offer(), "the node is stopping");
  b.receiver.accepting = nullptr;
  EXPECT_EQ(offer(), "the node is not ready");
}

TEST_F(Checkpoint, AbandonedCopiesAreRemoved) {
  TestNode b(2, directory_.path(), [](CheckpointOptions* o) { o->abandon_after = 1s; });
  WriteFiles(b.incoming() + "/7-8", {{"x", "y"}});
  b.Start();
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (!std::filesystem::is_empty(b.incoming())) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::sleep_for(50ms);
  }
}

TEST_F(Checkpoint, TravelsOverTls) {
  TestAuthority authority(directory_.path());
  TestNode a(1, directory_.path(), [&](auto* o) { o->tls = authority.Issue("node-a"); });
  TestNode b(2, directory_.path(), [&](auto* o) { o->tls = authority.Issue("node-b"); });
  a.Start();
  b.Start();
  a.SetPeers({{b.id(), b.peer("node-b")}});
  b.SetPeers({{a.id(), a.peer("node-a")}});
  WriteFiles(Source().directory, SomeFiles());
  EXPECT_EQ(Get(Send(a, b, Source())), Status::Ok());
  b.SetPeers({{a.id(), a.peer("node-c")}});
  EXPECT_THAT(Get(Send(a, b, Source(6))).message(), HasSubstr("wrong certificate"));
}

/// A sender that says what a test tells it to.
class FakeSender final : public proto::replication::CheckpointService::Service {
 public:
  grpc::Status Fetch(grpc::ServerContext*, const proto::replication::CheckpointFetch*,
                     grpc::ServerWriter<proto::replication::CheckpointPart>* writer) override {
    ++fetches;
    proto::replication::CheckpointPart part;
    auto* manifest = part.mutable_manifest();
    manifest->set_table(3);
    manifest->set_partition(5);
    auto* file = manifest->add_files();
    file->set_name(name);
    file->set_bytes(3);
    writer->Write(part);
    auto* chunk = part.mutable_chunk();
    chunk->set_data("abc");
    chunk->set_xxh3(Xxh3(chunk_of));
    chunk->set_last(true);
    chunk->set_file_xxh3(Xxh3(file_of));
    writer->Write(part);
    part.mutable_end();
    writer->Write(part);
    return grpc::Status::OK;
  }
  std::string name = "a.sst";
  std::string chunk_of = "abc";
  std::string file_of = "abc";
  std::atomic<int> fetches{0};
};

class CheckpointOfFake : public Checkpoint {
 protected:
  void SetUp() override {
    server_.AddService(&sender_);
    ASSERT_TRUE(server_.Start().ok());
    node_.Start();
    node_.SetPeers({{NodeId(1), {"127.0.0.1:" + std::to_string(server_.port()), ""}}});
  }
  Result<CheckpointInfo> Fetch() {
    CheckpointInfo offer;
    offer.table = TableId(3);
    offer.partition = PartitionId(5);
    return node_.service().FetchCheckpoint(NodeId(1), 1, offer, directory_.path() + "/target");
  }
  FakeSender sender_;
  rpc::RpcServer server_{rpc::ServerOptions()};
  TestNode node_{2, directory_.path()};
};

TEST_F(CheckpointOfFake, GoodFilesAreTaken) {
  const auto info = Fetch();
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(ReadFiles(info->directory), (Files{{"a.sst", "abc"}}));
  EXPECT_EQ(info->bytes, 3u);
}

TEST_F(CheckpointOfFake, DamagedChunksAreRefused) {
  sender_.chunk_of = "abd";
  const auto info = Fetch();
  EXPECT_EQ(info.status().code(), Code::kCorruption);
  EXPECT_THAT(info.status().message(), HasSubstr("a chunk is damaged"));
  EXPECT_EQ(sender_.fetches, 3);
}

TEST_F(CheckpointOfFake, DamagedFilesAreRefused) {
  sender_.file_of = "abd";
  EXPECT_THAT(Fetch().status().message(), HasSubstr("a.sst did not arrive as it was sent"));
}

TEST_F(CheckpointOfFake, NamesLeadNowhereElse) {
  for (const char* name : {"../a", ".received", "", "a/b"}) {
    sender_.name = name;
    EXPECT_THAT(Fetch().status().message(), HasSubstr("not a name of a file")) << name;
  }
}

TEST(PartialDirectory, TakesUpWhatWasSynced) {
  TestDirectory directory;
  const std::string path = directory.path() + "/p";
  FileInfo file;
  file.name = "a b.sst";
  file.bytes = 6;
  file.identity = 77;
  {
    auto partial = PartialDirectory::Open(path);
    ASSERT_TRUE(partial->Begin(file, 0).ok());
    ASSERT_TRUE(partial->Write("abc").ok());
    ASSERT_TRUE(partial->Sync().ok());
    ASSERT_TRUE(partial->Write("d").ok());
  }
  std::ofstream(path + "/foreign") << "x";
  std::ofstream(path + "/.received", std::ios::app) << "0123456789abcdef 9 9 9 foreign";
  {
    auto partial = PartialDirectory::Open(path);
    ASSERT_EQ(partial->progress().size(), 1u);
    const auto& progress = partial->progress().at("a b.sst");
    EXPECT_EQ(progress.file, file);
    EXPECT_EQ(progress.durable, 3u);
    ASSERT_TRUE(partial->Begin(file, 3).ok());
    ASSERT_TRUE(partial->Write("def").ok());
    ASSERT_TRUE(partial->Finish(Xxh3("abcdef")).ok());
    ASSERT_TRUE(partial->Complete().ok());
  }
  EXPECT_EQ(ReadFiles(path), (Files{{"a b.sst", "abcdef"}}));
}

TEST(PartialDirectory, ANoteOfADroppedFileVouchesForNoOther) {
  TestDirectory directory;
  FileInfo file;
  file.name = "a";
  file.bytes = 3;
  file.identity = 1;
  {
    auto partial = PartialDirectory::Open(directory.path());
    ASSERT_TRUE(partial->Begin(file, 0).ok());
    ASSERT_TRUE(partial->Write("abc").ok());
    ASSERT_TRUE(partial->Finish(Xxh3("abc")).ok());
    ASSERT_TRUE(partial->Keep({}).ok());
    FileInfo other = file;
    other.identity = 2;
    ASSERT_TRUE(partial->Begin(other, 0).ok());
    ASSERT_TRUE(partial->Write("xyz").ok());
  }
  auto partial = PartialDirectory::Open(directory.path());
  EXPECT_TRUE(partial->progress().empty());
}

TEST(TokenBucket, PacesAndStops) {
  TokenBucket bucket(1'000'000);
  const auto never = [] { return false; };
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(bucket.Take(20'000, never));
  const auto took = std::chrono::steady_clock::now() - begun;
  EXPECT_GT(took, 150ms);
  EXPECT_LT(took, 600ms);
  EXPECT_FALSE(bucket.Take(100'000'000, [] { return true; }));
  std::thread stopper([&] {
    std::this_thread::sleep_for(20ms);
    bucket.Stop();
  });
  EXPECT_FALSE(bucket.Take(100'000'000, never));
  stopper.join();
}

}  // namespace
}  // namespace onggi::checkpoint
