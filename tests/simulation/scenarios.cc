#include <algorithm>
#include <utility>

#include "tests/simulation/cluster.h"
#include "tests/simulation/runner.h"

// Runs that are written down: courses of events for mistakes that chance finds rarely, and the
// seeds that found faults when the code had them.

namespace onggi::simulation {

namespace {

using group::Mutation;

constexpr PartitionId kFirst{1};
constexpr PartitionId kSecond{2};
constexpr const char* kLow = "k1a";   ///< in the first partition of one or two
constexpr const char* kHigh = "k7a";  ///< in the second of two

/// A quiet cluster of three, whose first partition is led.
class Stage {
 public:
  explicit Stage(size_t partitions = 1, size_t message_bytes = Profile().message_bytes,
                 bool in_order = false)
      : cluster_(7, Quiet(partitions, message_bytes, in_order)) {
    cluster_.Begin();
    for (uint64_t i = 1; i <= partitions; ++i) {
      if (!Until(seconds(3), [&] { return cluster_.Primary(PartitionId(i)) != nullptr; }))
        problem_ = "nobody leads";
    }
    Write(Leader(), kLow);
    cluster_.RunFor(milliseconds(500));
  }

  Cluster& operator*() { return cluster_; }
  Cluster* operator->() { return &cluster_; }

  NodeId Leader(PartitionId partition = kFirst) {
    const auto key = cluster_.Key(partition);
    return key ? key->primary.node : NodeId();
  }
  group::Member MemberOn(NodeId node, PartitionId partition = kFirst) {
    const auto key = cluster_.Key(partition);
    for (const group::Member& member : key->in_sync)
      if (member.node == node) return member;
    return {};
  }
  std::vector<NodeId> Others(NodeId node) {
    std::vector<NodeId> others;
    for (const auto& other : cluster_.nodes())
      if (other->id != node) others.push_back(other->id);
    return others;
  }
  bool Until(Time time, const std::function<bool()>& done) { return cluster_.RunFor(time, done); }
  /// Waits for a primary on another node than this, that admits writes.
  NodeId Successor(NodeId old) {
    const bool found =
        Until(seconds(4), [&] { return Leader() != old && cluster_.Primary(kFirst) != nullptr; });
    if (!found) problem_ = "nobody takes over";
    return Leader();
  }
  /// A write that has to be admitted.
  void Write(NodeId node, const char* key) {
    if (!cluster_.Write(node, key)) problem_ = "a write is refused";
  }
  void Fail(std::string what) { problem_ = std::move(what); }
  bool ok() const { return problem_.empty(); }

  /// From here on the node gets and gives nothing but heartbeats.
  void OnlyHeartbeats(NodeId node) {
    cluster_.drop_if = [node](NodeId from, NodeId to, const Packet& packet) {
      return (from == node || to == node) &&
             std::holds_alternative<transport::GroupMessage>(packet);
    };
  }

  std::string End() {
    if (!cluster_.truth().error().empty()) return cluster_.truth().error();
    // A scenario that does not come about tests nothing.
    if (!problem_.empty()) return std::string(kAnotherWay) + ": " + problem_;
    return cluster_.Finish();
  }

 private:
  static Profile Quiet(size_t partitions, size_t message_bytes, bool in_order) {
    Profile profile;
    profile.partitions = partitions;
    profile.message_bytes = message_bytes;
    profile.between_requests = Time(0);
    if (in_order) profile.most_delay = profile.least_delay;
    return profile;
  }

  Cluster cluster_;
  std::string problem_;
};

/// R5: a primary that slept through its replacement gets heartbeats acknowledged again, and nothing
/// else: the acknowledgements have to say so.
std::string SleepsThroughItsReplacement() {
  Stage stage;
  const NodeId old = stage.Leader();
  stage->CutMetadata(old, true);
  stage->Pause(old, seconds(60));
  const NodeId next = stage.Successor(old);
  stage.OnlyHeartbeats(old);
  stage->Unpause(old);
  stage->RunFor(milliseconds(600));
  stage.Write(next, kLow);
  stage->RunFor(milliseconds(400));
  return stage.End();
}

/// R5: the same, and those who replaced it have forgotten it.
std::string ReplacedByTheForgetful() {
  Stage stage;
  const NodeId old = stage.Leader();
  stage->CutMetadata(old, true);
  stage->Pause(old, seconds(60));
  stage.Successor(old);
  for (const NodeId other : stage.Others(old)) {
    stage->CrashNode(other);
    stage->StartNode(other);
  }
  stage->RunFor(milliseconds(50));
  const NodeId next = stage.Successor(old);
  stage.OnlyHeartbeats(old);
  stage->Unpause(old);
  stage->RunFor(milliseconds(600));
  stage.Write(next, kLow);
  stage->RunFor(milliseconds(400));
  return stage.End();
}

/// R5, R7: two nodes that restart have promised the third what they cannot remember.
std::string PromisesAreForgotten() {
  Stage stage;
  const NodeId old = stage.Leader();
  stage->CutMetadata(old, true);
  stage->Isolate(old, true);
  for (const NodeId other : stage.Others(old)) {
    stage->CrashNode(other);
    stage->StartNode(other);
  }
  stage->RunFor(milliseconds(20));
  const NodeId next = stage.Successor(old);
  stage.Write(next, kLow);
  stage->RunFor(milliseconds(400));
  return stage.End();
}

/// R8: the answer to the swap of a transfer is lost, and the new primary can do without the old one
/// while that still has its leases.
std::string TransfersWithoutAnAnswer() {
  Stage stage;
  const NodeId old = stage.Leader();
  const NodeId next = stage.Others(old).front();
  stage->late_if = [old](NodeId node, const metadata::Transaction&) -> std::optional<Time> {
    if (node != old) return std::nullopt;
    return milliseconds(1);
  };
  Machine* primary = stage->Primary(kFirst);
  primary->replica().Ask(group::Transfer{stage.MemberOn(next)});
  if (!stage.Until(seconds(1), [&] { return stage.Leader() == next; })) stage.Fail("no transfer");
  stage->CutMetadata(old, true);
  stage->Isolate(old, true);
  for (const NodeId other : stage.Others(old)) stage->ProcessOf(other)->Disconnect(old);
  if (!stage.Until(milliseconds(500), [&] { return stage->Primary(kFirst) != nullptr; }))
    stage.Fail("the new primary waits");
  stage.Write(next, kLow);
  stage->RunFor(milliseconds(300));
  return stage.End();
}

/// R11: a primary that is stuck resigns; its successor waits for nothing.
std::string ResignsWithoutTheStore() {
  Stage stage;
  const NodeId old = stage.Leader();
  const std::vector<NodeId> others = stage.Others(old);
  stage->CutMetadata(old, true);
  stage->CrashNode(others[1]);  // what it would have to remove
  const NodeId next = stage.Successor(old);
  stage.Write(next, kLow);
  stage->RunFor(milliseconds(300));
  return stage.End();
}

/// R3: the swap that adds a member takes effect after the asker has read that it had not.
std::string AddsAMemberAfterAll() {
  Stage stage;
  const NodeId leader = stage.Leader();
  const NodeId third = stage.Others(leader)[1];
  stage->CrashNode(third);
  if (!stage.Until(seconds(3), [&] { return stage->Key(kFirst)->in_sync.size() == 2; }))
    stage.Fail("nobody is removed");
  bool once = false;
  stage->late_if = [&](NodeId node, const metadata::Transaction&) -> std::optional<Time> {
    if (node != leader || std::exchange(once, true)) return std::nullopt;
    return seconds(2);
  };
  stage->StartNode(third);
  if (!stage.Until(seconds(3), [&] { return once; })) stage.Fail("nobody is added");
  // Gone before the answer that is none: the primary would like to do without it.
  stage->Isolate(third, true);
  for (const NodeId other : stage.Others(third)) stage->ProcessOf(other)->Disconnect(third);
  stage->RunFor(milliseconds(30));
  stage.Write(leader, kLow);
  stage->RunFor(seconds(3));
  return stage.End();
}

/// R7: a primary restarts faster than anybody notices, with a swap of its earlier life under way.
std::string RestartsAsIfNothingHadHappened() {
  Stage stage;
  const NodeId leader = stage.Leader();
  for (int i = 0; i < 5; ++i) {
    (void)stage->Write(stage.Leader(), kLow);
    stage->RunFor(milliseconds(1));
    stage->CrashNode(leader);
    stage->StartNode(leader);
    stage.Until(seconds(5), [&] { return stage->Primary(kFirst) != nullptr; });
  }
  return stage.End();
}

/// The same of all nodes, of which only the primary's stays away.
std::string StartsWithoutItsPrimary() {
  Stage stage;
  const NodeId old = stage.Leader();
  for (const auto& node : stage->nodes()) stage->CrashNode(node->id);
  for (const NodeId other : stage.Others(old)) stage->StartNode(other);
  const NodeId next = stage.Successor(old);
  stage.Write(next, kLow);
  stage->RunFor(milliseconds(300));
  return stage.End();
}

/// R14: a merge's transaction arrives late, when the right neighbour could have gone on with its
/// life.
std::string MergesLate() {
  Stage stage(2);
  const NodeId home = stage.Leader(kFirst);
  if (stage.Leader(kSecond) != home) {
    stage->Primary(kSecond)->replica().Ask(group::Transfer{stage.MemberOn(home, kSecond)});
    if (!stage.Until(seconds(1), [&] {
          Machine* right = stage->Primary(kSecond);
          return stage.Leader(kSecond) == home && right != nullptr;
        }))
      stage.Fail("the primaries do not meet");
  }
  stage.Write(home, kHigh);
  stage->RunFor(milliseconds(100));
  Machine* left = stage->Primary(kFirst);
  Machine* right = stage->Primary(kSecond);
  right->Freeze();
  if (!stage.Until(seconds(1), [&] { return right->grant().has_value(); })) {
    stage.Fail("no grant");
    return stage.End();
  }
  bool once = false;
  stage->late_if = [&](NodeId, const metadata::Transaction& transaction) -> std::optional<Time> {
    if (transaction.deletes.empty() || std::exchange(once, true)) return std::nullopt;
    return seconds(4);
  };
  left->Absorb(kSecond, *stage->Key(kSecond), right->grant()->freeze, right->grant()->revision);
  if (!stage.Until(seconds(1), [&] { return once; })) stage.Fail("no merge is asked for");
  stage->CutMetadata(home, true);
  for (int i = 0; i < 35; ++i) {
    stage->RunFor(milliseconds(100));
    (void)stage->Write(home, kHigh);
  }
  stage->RunFor(seconds(1));
  return stage.End();
}

/// R1, R2: a member that was cut off with entries that never came to be gets, of what took their
/// place, only the part before them: it can vouch for that much and commit that much.
std::string HearsTheBeginningOnly() {
  Stage stage(1, /*message_bytes=*/1);  // an entry in each message
  const NodeId old = stage.Leader();
  const NodeId behind = stage.Others(old)[0];
  const NodeId next = stage.Others(old)[1];
  const auto append_of = [](const Packet& packet) -> const transport::Append* {
    const auto* message = std::get_if<transport::GroupMessage>(&packet);
    return message == nullptr ? nullptr : std::get_if<transport::Append>(&message->body);
  };
  // One that all have, and nobody hears that they do.
  stage->drop_if = [&](NodeId from, NodeId to, const Packet& packet) {
    const auto* message = std::get_if<transport::GroupMessage>(&packet);
    return from == next && to == old && message != nullptr &&
           std::holds_alternative<group::AckMessage>(message->body);
  };
  const uint64_t common = stage->Primary(kFirst)->replica().commit_index() + 1;
  stage.Write(old, kLow);
  stage->RunFor(milliseconds(20));
  // What comes now reaches that member alone.
  stage->drop_if = [&](NodeId, NodeId to, const Packet& packet) {
    return append_of(packet) != nullptr && to == next;
  };
  constexpr uint64_t kLost = 8;
  for (uint64_t i = 0; i < kLost; ++i) stage.Write(old, kLow);
  stage->RunFor(milliseconds(20));
  stage->Isolate(behind, true);
  stage->CutMetadata(behind, true);
  stage->CrashNode(old);
  stage->drop_if = nullptr;
  if (!stage.Until(seconds(4), [&] { return stage.Leader() == next; })) stage.Fail("no successor");
  stage->StartNode(old);
  if (!stage.Until(seconds(4), [&] { return stage->Primary(kFirst) != nullptr; })) {
    stage.Fail("the two do not go on");
    return stage.End();
  }
  // As many as it has, so that it could be taken for one that has them.
  const auto committed = [&] { return stage->Primary(kFirst)->replica().commit_index(); };
  while (committed() < common + kLost && stage.ok()) {
    stage.Write(next, kLow);
    stage->RunFor(milliseconds(20));
  }
  // What would take the place of its entries never arrives, and so nothing behind that either.
  bool heard = false;
  stage->drop_if = [&](NodeId from, NodeId to, const Packet& packet) {
    const auto* message = std::get_if<transport::GroupMessage>(&packet);
    const auto* ack = message == nullptr ? nullptr : std::get_if<group::AckMessage>(&message->body);
    // From then on it asks for nothing.
    if (ack != nullptr && from == behind && ack->kind == group::AckMessage::Kind::kMissing)
      return heard;
    const transport::Append* append = append_of(packet);
    if (append == nullptr || to != behind) return false;
    heard = heard || (append->message.last.value <= common && !append->entries.empty());
    return append->message.previous.index.value == common;
  };
  stage->Isolate(behind, false);
  stage->CutMetadata(behind, false);
  stage->RunFor(milliseconds(900));
  if (!heard) stage.Fail("it hears nothing");
  stage.Write(next, kLow);
  stage->RunFor(milliseconds(500));
  stage->drop_if = nullptr;
  return stage.End();
}

/// Each message behind a lost one says what is missing; that is sent again once, from memory.
std::string SendsAgainOnce() {
  Stage stage(1, /*message_bytes=*/1, /*in_order=*/true);  // an entry in each message
  const NodeId leader = stage.Leader();
  const NodeId behind = stage.Others(leader)[0];
  constexpr uint64_t kWrites = 40;
  uint64_t sent = 0;
  bool lost = false;
  stage->drop_if = [&](NodeId, NodeId to, const Packet& packet) {
    const auto* message = std::get_if<transport::GroupMessage>(&packet);
    const auto* append =
        message == nullptr ? nullptr : std::get_if<transport::Append>(&message->body);
    if (append == nullptr || to != behind) return false;
    sent += append->entries.size();
    return !append->entries.empty() && !std::exchange(lost, true);
  };
  for (uint64_t i = 0; i < kWrites; ++i) stage.Write(leader, kLow);
  stage->RunFor(milliseconds(150));  // less than a time without an answer makes it send again
  if (!lost) stage.Fail("nothing was lost");
  if (sent < kWrites || sent > 3 * kWrites) {
    stage.Fail(std::to_string(sent) + " entries sent for " + std::to_string(kWrites));
  }
  stage->drop_if = nullptr;
  return stage.End();
}

Scenario Seed(uint64_t seed, int generation, const char* what) {
  return {"seed " + std::to_string(seed) + " (" + what + ")",
          [=] { return RunSeed(seed, /*verbose=*/false, generation); }, Mutation::kNone};
}

}  // namespace

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario> scenarios = {
      {"sleeps through its replacement", SleepsThroughItsReplacement, Mutation::kLeaseWithoutEpoch},
      {"replaced by the forgetful", ReplacedByTheForgetful, Mutation::kLeaseOfAnotherProcess},
      {"promises are forgotten", PromisesAreForgotten, Mutation::kForgetPromises},
      {"transfers without an answer", TransfersWithoutAnAnswer, Mutation::kServeAfterGivingUp},
      {"resigns without the store", ResignsWithoutTheStore, Mutation::kNone},
      {"adds a member after all", AddsAMemberAfterAll, Mutation::kSettleByReading},
      {"restarts as if nothing had happened", RestartsAsIfNothingHadHappened,
       Mutation::kResumeReign},
      {"starts without its primary", StartsWithoutItsPrimary, Mutation::kNone},
      {"merges late", MergesLate, Mutation::kThawWithoutEpoch},
      {"hears the beginning only", HearsTheBeginningOnly, Mutation::kCommitWithoutClamp},
      {"hears the beginning only", HearsTheBeginningOnly, Mutation::kAcknowledgeLast},
      {"sends again once", SendsAgainOnce, Mutation::kNone},
      Seed(41, 1, "a primary whose disk was lost"),
      Seed(112, 1, "a late checkpoint took away acknowledged entries"),
      Seed(366, 1, "members replaced between split and cut"),
      Seed(1128, 1, "the learner that everybody waits for waits to ask for a checkpoint"),
      Seed(1746, 4, "the key grew while there was doubt, and the log did not follow"),
      Seed(41, 5, "a split that could not be done kept a repair away"),
      Seed(7915, 5,
           "asked for fewer replicas, again and again, where a lost one kept it from that"),
      // Over shipped partitions.
      Seed(672, 4, "Merged was proposed twice as a reign began, and all replicas gave up"),
      Seed(1496, 4, "a split cut long ago, found again inside a range that had grown"),
      Seed(816, 4, "a split whose members were replaced was not proposed again"),
      Seed(1728, 4, "giving up a merge forgot a split"),
      Seed(1944, 4, "what was counted of the left side corrected the sum of a merge"),
      Seed(2404, 4, "a split applied late, when it was cut, passed for the next one"),
      Seed(70664, 4, "a merge was granted again while a split was proposed, and forgot the split"),
      Seed(1676, 4, "a merge with the grant of a Freeze that its data was older than"),
      Seed(232, 5, "a batch that the log refused behind a change of shape ended the process"),
      Seed(2000, 5, "what could not be read passed for what is not there, and was removed"),
      Seed(2812, 5, "opened again over entries that were still under way"),
  };
  return scenarios;
}

}  // namespace onggi::simulation
