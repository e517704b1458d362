#include "replication/transport/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace onggi::transport {
namespace {

using group::Configuration;
using testing::HasSubstr;

constexpr NodeId kSelf{2};
constexpr NodeId kPeer{1};

std::shared_ptr<const Configuration> SomeConfiguration(uint64_t epoch) {
  Configuration configuration;
  configuration.epoch = Epoch(epoch);
  configuration.primary = {kPeer, ReplicaId(11)};
  configuration.in_sync = {{kPeer, ReplicaId(11)}, {kSelf, ReplicaId(12)}};
  configuration.learners = {{NodeId(3), ReplicaId(13)}};
  configuration.range_start = std::string("a\0b", 3);
  configuration.range_end = "z";
  configuration.replication = 3;
  configuration.min_in_sync = 2;
  configuration.lease_released = true;
  configuration.boot = 77;
  return std::make_shared<const Configuration>(configuration);
}

Payload Bytes(std::string bytes) { return std::make_shared<const std::string>(std::move(bytes)); }

GroupMessage SomeAppend(PartitionId partition, std::shared_ptr<const Configuration> configuration,
                        std::vector<Entry> entries, uint64_t previous = 10) {
  GroupMessage message;
  message.table = TableId(4);
  message.partition = partition;
  message.to = ReplicaId(12);
  Append append;
  append.message.from = {kPeer, ReplicaId(11)};
  append.message.epoch = configuration->epoch;
  append.message.revision = Revision(99);
  append.message.previous = {Epoch(3), LogIndex(previous)};
  append.message.last = LogIndex(previous + entries.size());
  if (!entries.empty()) append.message.runs = {{configuration->epoch, LogIndex(previous + 1)}};
  append.message.commit = LogIndex(9);
  append.message.report_applied = LogIndex(8);
  append.message.round = 6;
  append.message.configuration = std::move(configuration);
  append.entries = std::move(entries);
  message.body = std::move(append);
  return message;
}

std::string Join(std::vector<FramePiece> pieces, size_t size) {
  std::string frame;
  for (const FramePiece& piece : pieces) {
    frame += piece.payload != nullptr ? *piece.payload : piece.bytes;
  }
  EXPECT_EQ(frame.size(), size);
  return frame;
}

std::string Finish(FrameWriter* writer) {
  size_t size = 0;
  std::vector<FramePiece> pieces = writer->Finish(&size);
  return Join(std::move(pieces), size);
}

FrameContent Read(FrameReader* reader, const std::string& frame) {
  FrameContent content;
  const Status status = reader->Read(frame, &content);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return content;
}

TEST(Frame, CarriesEveryFieldOfAnAppend) {
  FrameWriter writer;
  FrameReader reader(kSelf, kPeer);
  const std::string large(100'000, 'L');
  writer.Add(SomeAppend(PartitionId(5), SomeConfiguration(7),
                        {{1, Bytes("small")}, {2, Bytes(large)}, {3, nullptr}, {4, Bytes("end")}}));
  const FrameContent content = Read(&reader, Finish(&writer));
  ASSERT_EQ(content.messages.size(), 1u);
  const GroupMessage& message = content.messages[0];
  EXPECT_EQ(message.table, TableId(4));
  EXPECT_EQ(message.partition, PartitionId(5));
  EXPECT_EQ(message.to, ReplicaId(12));
  const auto& append = std::get<Append>(message.body);
  EXPECT_EQ(append.message.from, (group::Member{kPeer, ReplicaId(11)}));
  EXPECT_EQ(append.message.epoch, Epoch(7));
  EXPECT_EQ(*append.message.configuration, *SomeConfiguration(7));
  EXPECT_EQ(append.message.revision, Revision(99));
  EXPECT_EQ(append.message.previous, (LogPosition{Epoch(3), LogIndex(10)}));
  EXPECT_EQ(append.message.last, LogIndex(14));
  EXPECT_EQ(append.message.runs, (std::vector<LogPosition>{{Epoch(7), LogIndex(11)}}));
  EXPECT_EQ(append.message.commit, LogIndex(9));
  EXPECT_EQ(append.message.report_applied, LogIndex(8));
  EXPECT_EQ(append.message.round, 6u);
  ASSERT_EQ(append.entries.size(), 4u);
  EXPECT_EQ(*append.entries[0].payload, "small");
  EXPECT_EQ(*append.entries[1].payload, large);
  EXPECT_EQ(append.entries[2].payload, nullptr);
  EXPECT_EQ(*append.entries[3].payload, "end");
  for (int i = 0; i < 4; ++i) EXPECT_EQ(append.entries[static_cast<size_t>(i)].type, i + 1);
}

TEST(Frame, SharesLargePayloadsInsteadOfCopying) {
  FrameWriter writer;
  const Payload large = Bytes(std::string(50'000, 'x'));
  writer.Add(SomeAppend(PartitionId(5), SomeConfiguration(7), {{1, large}}));
  size_t size = 0;
  const auto pieces = writer.Finish(&size);
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[1].payload.get(), large.get());
}

TEST(Frame, CarriesEveryOtherMessage) {
  FrameWriter writer;
  FrameReader reader(kSelf, kPeer);
  const group::Member from{kPeer, ReplicaId(11)};
  GroupMessage message;
  message.table = TableId(1);
  message.partition = PartitionId(2);
  message.to = ReplicaId(12);
  for (const auto kind : {group::AckMessage::Kind::kMatch, group::AckMessage::Kind::kMissing,
                          group::AckMessage::Kind::kRefused, group::AckMessage::Kind::kRebuild}) {
    group::AckMessage ack;
    ack.kind = kind;
    ack.from = from;
    ack.boot = 5;
    ack.epoch = Epoch(6);
    ack.index = LogIndex(7);
    ack.applied = LogIndex(4);
    ack.holds = LogIndex(3);
    ack.round = 2;
    if (kind == group::AckMessage::Kind::kRefused) {
      ack.configuration = SomeConfiguration(9);
      ack.revision = Revision(8);
    }
    message.body = ack;
    writer.Add(message);
  }
  group::ResignMessage resign;
  resign.from = from;
  resign.epoch = Epoch(3);
  message.body = resign;
  writer.Add(message);
  group::CreateMessage create;
  create.from = from;
  create.to = {kSelf, ReplicaId(12)};
  create.configuration = SomeConfiguration(0);
  create.revision = Revision(31);
  message.body = create;
  writer.Add(message);
  group::CreatedMessage created;
  created.from = from;
  message.body = created;
  writer.Add(message);

  const FrameContent content = Read(&reader, Finish(&writer));
  ASSERT_EQ(content.messages.size(), 7u);
  for (size_t i = 0; i < 4; ++i) {
    const auto& ack = std::get<group::AckMessage>(content.messages[i].body);
    EXPECT_EQ(static_cast<size_t>(ack.kind), i);
    EXPECT_EQ(ack.from, from);
    EXPECT_EQ(ack.boot, 5u);
    EXPECT_EQ(ack.epoch, Epoch(6));
    EXPECT_EQ(ack.index, LogIndex(7));
    EXPECT_EQ(ack.applied, LogIndex(4));
    EXPECT_EQ(ack.holds, LogIndex(3));
    EXPECT_EQ(ack.round, 2u);
  }
  const auto& refused = std::get<group::AckMessage>(content.messages[2].body);
  EXPECT_EQ(*refused.configuration, *SomeConfiguration(9));
  EXPECT_EQ(refused.revision, Revision(8));
  EXPECT_EQ(std::get<group::ResignMessage>(content.messages[4].body).epoch, Epoch(3));
  const auto& made = std::get<group::CreateMessage>(content.messages[5].body);
  EXPECT_EQ(made.to, create.to);
  EXPECT_EQ(*made.configuration, *SomeConfiguration(0));
  EXPECT_EQ(made.revision, Revision(31));
  EXPECT_EQ(std::get<group::CreatedMessage>(content.messages[6].body).from, from);
}

TEST(Frame, CarriesHelloHeartbeatsAndTheirExceptions) {
  FrameWriter writer;
  FrameReader reader(kSelf, kPeer);
  Hello hello;
  hello.cluster_id = "c";
  hello.node = kPeer;
  hello.boot = 8;
  hello.min_version = 1;
  hello.max_version = 2;
  hello.to = kSelf;
  hello.software_version = "0.1";
  writer.Set(hello);
  lease::Heartbeat heartbeat;
  heartbeat.boot = 8;
  heartbeat.sent_at = lease::BootTime(123);
  heartbeat.confirmed_boot = 4;
  heartbeat.confirmed = 5;
  writer.Set(heartbeat);
  lease::HeartbeatAck ack;
  ack.boot = 8;
  ack.to_boot = 9;
  ack.sent_at = lease::BootTime(456);
  ack.version = 3;
  ack.complete = false;
  ack.newer.push_back({TableId(1), PartitionId(2), SomeConfiguration(4), Revision(5)});
  writer.Set(ack);
  const FrameContent content = Read(&reader, Finish(&writer));
  ASSERT_TRUE(content.hello && content.heartbeat && content.heartbeat_ack);
  EXPECT_EQ(content.hello->cluster_id, "c");
  EXPECT_EQ(content.hello->node, kPeer);
  EXPECT_EQ(content.hello->max_version, 2u);
  EXPECT_EQ(content.hello->to, kSelf);
  EXPECT_EQ(content.heartbeat->from, kPeer);
  EXPECT_EQ(content.heartbeat->sent_at, lease::BootTime(123));
  EXPECT_EQ(content.heartbeat->confirmed, 5u);
  EXPECT_EQ(content.heartbeat_ack->from, kPeer);
  EXPECT_EQ(content.heartbeat_ack->to_boot, 9u);
  EXPECT_FALSE(content.heartbeat_ack->complete);
  ASSERT_EQ(content.heartbeat_ack->newer.size(), 1u);
  EXPECT_EQ(content.heartbeat_ack->newer[0].partition, PartitionId(2));
  EXPECT_EQ(*content.heartbeat_ack->newer[0].configuration, *SomeConfiguration(4));
  // Nothing of it is in the next frame.
  const FrameContent next = Read(&reader, Finish(&writer));
  EXPECT_FALSE(next.hello || next.heartbeat || next.heartbeat_ack);
}

TEST(Frame, SendsAConfigurationOncePerStream) {
  FrameWriter writer;
  FrameReader reader(kSelf, kPeer);
  const auto configuration = SomeConfiguration(7);
  writer.Add(SomeAppend(PartitionId(5), configuration, {}));
  const std::string first = Finish(&writer);
  writer.Add(SomeAppend(PartitionId(5), configuration, {}));
  const std::string second = Finish(&writer);
  EXPECT_LT(second.size() + 40, first.size());
  const auto a = Read(&reader, first);
  const auto b = Read(&reader, second);
  EXPECT_EQ(std::get<Append>(a.messages[0].body).message.configuration,
            std::get<Append>(b.messages[0].body).message.configuration);
  // Another configuration goes out again.
  writer.Add(SomeAppend(PartitionId(5), SomeConfiguration(8), {}));
  const auto c = Read(&reader, Finish(&writer));
  EXPECT_EQ(std::get<Append>(c.messages[0].body).message.configuration->epoch, Epoch(8));
}

TEST(Frame, ForgetsConfigurationsOnBothSidesTogether) {
  FrameWriter writer;
  FrameReader reader(kSelf, kPeer);
  const auto configuration = SomeConfiguration(7);
  for (int round = 0; round < 3; ++round) {
    for (uint64_t p = 1; p <= kMaxSentConfigurations + 100; ++p) {
      writer.Add(SomeAppend(PartitionId(p), configuration, {}));
      if (p % 1000 == 0) (void)Read(&reader, Finish(&writer));
    }
  }
  (void)Read(&reader, Finish(&writer));
}

TEST(Frame, RefusesWhatNoReplicaSays) {
  const auto read = [](const GroupMessage& message) {
    FrameWriter writer;
    FrameReader reader(kSelf, kPeer);
    writer.Add(message);
    FrameContent content;
    return reader.Read(Finish(&writer), &content).ToString();
  };
  GroupMessage message = SomeAppend(PartitionId(1), SomeConfiguration(7), {{1, Bytes("x")}});
  auto& append = std::get<Append>(message.body).message;
  append.runs = {{Epoch(7), LogIndex(12)}};
  EXPECT_THAT(read(message), HasSubstr("runs"));
  append.runs = {{Epoch(8), LogIndex(11)}};
  EXPECT_THAT(read(message), HasSubstr("runs"));
  append.runs.clear();
  EXPECT_THAT(read(message), HasSubstr("runs"));
  append.runs = {{Epoch(7), LogIndex(11)}};
  append.epoch = Epoch(9);
  EXPECT_THAT(read(message), HasSubstr("configuration's epoch"));
}

TEST(Frame, SurvivesDamage) {
  FrameWriter writer;
  writer.Add(
      SomeAppend(PartitionId(5), SomeConfiguration(7), {{1, Bytes("abc")}, {2, Bytes("d")}}));
  const std::string frame = Finish(&writer);
  FrameContent content;
  for (size_t size = 1; size < frame.size(); ++size) {
    FrameReader reader(kSelf, kPeer);
    EXPECT_FALSE(reader.Read(frame.substr(0, size), &content).ok()) << size;
  }
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = frame;
    for (int k = 0; k < 3; ++k) damaged[random() % damaged.size()] = static_cast<char>(random());
    FrameReader reader(kSelf, kPeer);
    (void)reader.Read(damaged, &content);
  }
}

}  // namespace
}  // namespace onggi::transport
