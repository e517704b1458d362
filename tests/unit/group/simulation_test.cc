// A partition's replicas in one process under a seeded network, disk and metadata store. Everything
// that takes time is a task in a bag; each step runs, drops or repeats one at random. After every
// step the rules' promises are checked (replication.md, "What the tests must try").
//
// This is the group alone, without leases: promotion comes at moments at which no lease would allow
// it, which only reads would notice. Whole clusters run in tests/simulation.

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <sstream>

#include "replication/group/group.h"

namespace onggi::group {
namespace {

struct Item {
  Epoch epoch;
  uint64_t value = 0;
  bool operator==(const Item&) const = default;
};
using Items = std::vector<Item>;  ///< entry i at place i - 1

struct LogOperation {
  LogIndex drop_from;  ///< 0: an append
  Items items;
  LogPosition position;  ///< of an append's last
};

struct Replica {
  Member self;
  bool up = false;
  uint64_t boot = 0;
  Group group;
  Items log;                             ///< what the group believes to be in the log
  Items disk;                            ///< what is durable
  std::vector<LogOperation> operations;  ///< from `disk` to `log`
  Configuration disk_config;
  Revision disk_revision;
  std::vector<std::pair<std::shared_ptr<const Configuration>, Revision>> persists;
  LogIndex committed;
  LogIndex applied;
};

struct Swap {
  size_t asker = 0;
  uint64_t boot = 0;
  Configuration configuration;
  Revision expected;
  std::optional<SwapResult> result;  ///< once it has taken effect, or not
  bool answered = false;
};

struct Message {
  size_t to = 0;
  std::optional<AppendMessage> append;
  Items items;
  std::optional<AckMessage> ack;
};

class Simulation {
 public:
  Simulation(uint64_t seed, size_t replicas) : random_(seed), replicas_(replicas) {
    for (size_t i = 0; i < replicas; ++i) {
      replicas_[i].self = {NodeId(i + 1), ReplicaId(i + 101)};
      key_.in_sync.push_back(replicas_[i].self);
    }
    key_.epoch = Epoch(1);
    key_.primary = replicas_[0].self;
    key_.replication = static_cast<uint32_t>(replicas);
    key_.min_in_sync = static_cast<uint32_t>(replicas / 2 + 1);
    for (Replica& replica : replicas_) {
      replica.disk_config = key_;
      replica.disk_revision = revision_;
    }
    for (size_t i = 0; i < replicas; ++i) StartReplica(i);
  }

  /// Empty, or what went wrong.
  std::string Run(int steps) {
    for (int i = 0; i < steps && error_.empty(); ++i) {
      RandomStep();
      Check();
    }
    if (error_.empty()) Heal();
    return error_;
  }

  uint64_t commits() const { return history_.size(); }
  uint64_t reigns() const { return reigns_; }

 private:
  size_t Pick(size_t n) { return random_() % n; }
  bool Chance(uint64_t percent) { return random_() % 100 < percent; }
  void Fail(const std::string& what) {
    if (error_.empty()) error_ = what;
  }

  size_t Find(const Member& member) {
    for (size_t i = 0; i < replicas_.size(); ++i)
      if (replicas_[i].self == member) return i;
    ADD_FAILURE() << "no such member";
    return 0;
  }

  void StartReplica(size_t i) {
    Replica& replica = replicas_[i];
    replica.up = true;
    replica.boot = ++boots_;
    replica.group = Group();
    replica.log = replica.disk;
    replica.operations.clear();
    replica.persists.clear();
    replica.committed = replica.applied = LogIndex();
    Start start;
    start.self = replica.self;
    start.boot = replica.boot;
    for (size_t k = 0; k < replica.disk.size(); ++k) {
      if (k == 0 || replica.disk[k].epoch != replica.disk[k - 1].epoch)
        start.runs.push_back({replica.disk[k].epoch, LogIndex(k + 1)});
    }
    start.last = LogIndex(replica.disk.size());
    start.configuration = replica.disk_config;
    start.revision = replica.disk_revision;
    start.now = now_;
    if (Chance(50)) {  // it may have read the key already
      start.configuration = key_;
      start.revision = revision_;
    }
    Step(i, start);
  }

  void Crash(size_t i) {
    Replica& replica = replicas_[i];
    replica.up = false;
    // Any prefix of what was under way to the disk survives.
    for (size_t n = Pick(replica.operations.size() + 1); n > 0; --n) DoLogOperation(replica);
    for (size_t n = Pick(replica.persists.size() + 1); n > 0; --n) DoPersist(replica);
  }

  static LogPosition DoLogOperation(Replica& replica) {
    const LogOperation operation = std::move(replica.operations.front());
    replica.operations.erase(replica.operations.begin());
    if (operation.drop_from != LogIndex()) {
      replica.disk.resize(operation.drop_from.value - 1);
      return {};
    }
    replica.disk.insert(replica.disk.end(), operation.items.begin(), operation.items.end());
    return operation.position;
  }

  static Epoch DoPersist(Replica& replica) {
    replica.disk_config = *replica.persists.front().first;
    replica.disk_revision = replica.persists.front().second;
    replica.persists.erase(replica.persists.begin());
    return replica.disk_config.epoch;
  }

  void Step(size_t i, const Event& event, const Items* items = nullptr) {
    Replica& replica = replicas_[i];
    Actions actions;
    replica.group.Step(event, &actions);
    for (const Action& action : actions)
      std::visit([&](const auto& a) { Perform(i, a, event, items); }, action);
    if (replica.group.last_index().value != replica.log.size()) Fail("the group lost count");
  }

  // Actions.
  // -----------------------------------------------------------------------------------------

  void Perform(size_t i, const PersistConfiguration& action, const Event&, const Items*) {
    replicas_[i].persists.emplace_back(action.configuration, action.revision);
  }
  void Perform(size_t i, const DropSuffix& action, const Event&, const Items*) {
    Replica& replica = replicas_[i];
    replica.log.resize(action.from.value - 1);
    LogOperation operation;
    operation.drop_from = action.from;
    replica.operations.push_back(operation);
  }
  void Perform(size_t i, const AppendToLog& action, const Event& event, const Items* items) {
    Replica& replica = replicas_[i];
    LogOperation operation;
    for (uint64_t index = action.first.value; index <= action.last.value; ++index) {
      Item item;
      if (action.source == AppendToLog::Source::kMessage) {
        const auto& message = std::get<AppendReceived>(event).message;
        item = items->at(index - message.previous.index.value - 1);
      } else {
        item = {action.epoch, ++values_};
        // One primary, in one life, acts in an epoch.
        const auto actor = std::make_pair(i, replica.boot);
        const auto [it, first] = actors_.try_emplace(action.epoch, actor);
        if (it->second != actor) Fail("two primaries act in epoch " + action.epoch.ToString());
      }
      operation.items.push_back(item);
    }
    if (replica.log.size() + 1 != action.first.value) Fail("a gap in the log");
    replica.log.insert(replica.log.end(), operation.items.begin(), operation.items.end());
    operation.position = {operation.items.back().epoch, action.last};
    replica.operations.push_back(std::move(operation));
  }
  void Perform(size_t i, const SendAppend& action, const Event&, const Items*) {
    Message message;
    message.to = Find(action.to);
    message.append = action.message;
    const Items& log = replicas_[i].log;
    message.items.assign(log.begin() + static_cast<ptrdiff_t>(action.message.previous.index.value),
                         log.begin() + static_cast<ptrdiff_t>(action.message.last.value));
    if (message.items.size() > 1 && Chance(20)) {
      Message rest = message;
      const size_t keep = Pick(message.items.size());
      const LogIndex at(action.message.previous.index.value + keep);
      rest.append = SplitAppend(&*message.append, at);
      rest.items.erase(rest.items.begin(), rest.items.begin() + static_cast<ptrdiff_t>(keep));
      message.items.resize(keep);
      network_.push_back(std::move(rest));
    }
    network_.push_back(std::move(message));
  }
  void Perform(size_t, const SendAck& action, const Event&, const Items*) {
    Message message;
    message.to = Find(action.to);
    message.ack = action.message;
    network_.push_back(std::move(message));
  }
  void Perform(size_t i, const ProposeSwap& action, const Event&, const Items*) {
    Swap swap;
    swap.asker = i;
    swap.boot = replicas_[i].boot;
    swap.configuration = action.configuration;
    swap.expected = action.expected;
    swaps_.push_back(std::move(swap));
  }
  void Perform(size_t i, const ReadConfiguration&, const Event&, const Items*) {
    reads_.emplace_back(i, replicas_[i].boot);
  }
  void Perform(size_t i, const CommitAdvanced& action, const Event&, const Items*) {
    Replica& replica = replicas_[i];
    if (action.index <= replica.committed) Fail("the commit index went back");
    for (uint64_t k = replica.committed.value; k < action.index.value; ++k) {
      const Item& item = replica.log.at(k);
      if (k < history_.size()) {
        if (history_[k] != item) Fail("two histories at entry " + std::to_string(k + 1));
      } else {
        history_.push_back(item);
      }
    }
    if (action.index.value > replica.disk.size()) Fail("committed before it is durable here");
    replica.committed = action.index;
  }
  void Perform(size_t i, const WaitPromises& action, const Event&, const Items*) {
    promises_.push_back({i, replicas_[i].boot, action.epoch});
  }
  void Perform(size_t, const ReignBegan&, const Event&, const Items*) { ++reigns_; }
  /// Leases, resignations and what is asked of a primary are not simulated here.
  template <class Other>
  void Perform(size_t, const Other&, const Event&, const Items*) {}
  void Perform(size_t, const NeedsCheckpoint&, const Event&, const Items*) {
    Fail("no log here is ever truncated");
  }

  // Steps.
  // -------------------------------------------------------------------------------------------

  void RandomStep() {
    const uint64_t dice = random_() % 1000;
    if (dice < 420) return Deliver(/*faulty=*/true);
    const size_t i = Pick(replicas_.size());
    Replica& replica = replicas_[i];
    if (dice < 560) return DiskStep(i);
    if (dice < 640) return ApplyStep(i);
    if (dice < 700) return SwapStep(/*faulty=*/true);
    if (dice < 725) return ReadStep();
    if (dice < 730) return WatchStep(i);
    if (dice < 840) {
      if (replica.up && replica.group.serving()) Step(i, Propose{1 + Pick(3)});
      return;
    }
    if (dice < 930) {
      now_ += Time(Pick(150));
      if (replica.up) Step(i, Tick{now_});
      return;
    }
    if (dice < 950) return PromiseStep();
    if (dice < 965) {
      if (replica.up) Step(i, Promote{});
      return;
    }
    if (dice < 980) {
      if (!replica.up) return;
      const Member peer = replicas_[Pick(replicas_.size())].self;
      if (Chance(50)) {
        Step(i, PeerLost{peer});
      } else {
        Step(i, PeerConnected{peer});
      }
      return;
    }
    if (dice < 990) {
      if (replica.up) Crash(i);
      return;
    }
    if (!replica.up) StartReplica(i);
  }

  void Deliver(bool faulty) {
    if (network_.empty()) return;
    const size_t place = Pick(network_.size());
    Message message = network_[place];
    if (!faulty || !Chance(10)) network_.erase(network_.begin() + static_cast<ptrdiff_t>(place));
    if (faulty && Chance(15)) return;
    if (!replicas_[message.to].up) return;
    if (message.append) {
      AppendReceived event;
      event.message = *message.append;
      Step(message.to, event, &message.items);
    } else {
      AckReceived event;
      event.message = *message.ack;
      Step(message.to, event);
    }
  }

  void DiskStep(size_t i) {
    Replica& replica = replicas_[i];
    if (!replica.up) return;
    // A configuration is on disk before anything appended after it.
    if (!replica.persists.empty()) return Step(i, ConfigurationDurable{DoPersist(replica)});
    if (replica.operations.empty()) return;
    LogPosition position;
    for (size_t n = 1 + Pick(replica.operations.size()); n > 0; --n) {
      const bool drop = replica.operations.front().drop_from != LogIndex();
      // Completions are joined only within a run of appends.
      if (drop && position.index != LogIndex()) break;
      position = DoLogOperation(replica);
    }
    if (position.index != LogIndex()) Step(i, LogDurable{position});
  }

  void ApplyStep(size_t i) {
    Replica& replica = replicas_[i];
    if (!replica.up || replica.applied >= replica.committed) return;
    replica.applied = replica.committed;
    Step(i, Applied{replica.applied});
  }

  void SwapStep(bool faulty) {
    if (swaps_.empty()) return;
    const size_t place = Pick(swaps_.size());
    Swap& swap = swaps_[place];
    const bool asker_waits =
        !swap.answered && replicas_[swap.asker].up && replicas_[swap.asker].boot == swap.boot;
    if (!swap.result) {
      if (faulty && Chance(10)) {
        // The asker gives up; the swap may still take effect, even after the asker has crashed.
        swap.answered = true;
        const size_t asker = swap.asker;
        if (asker_waits) Step(asker, SwapResult{});
        return;
      }
      SwapResult result;
      result.outcome = SwapResult::Outcome::kRefused;
      if (revision_ == swap.expected && !(faulty && swap.answered && Chance(30))) {
        if (swap.configuration.epoch <= key_.epoch) Fail("an epoch given twice");
        key_ = swap.configuration;
        revision_ = Revision(revision_.value + 1);
        result.outcome = SwapResult::Outcome::kSucceeded;
        result.revision = revision_;
        if (key_.in_sync.size() < key_.min_in_sync) Fail("fewer in sync than the minimum");
      }
      swap.result = result;
      return;
    }
    SwapResult result = *swap.result;
    const size_t asker = swap.asker;
    swaps_.erase(swaps_.begin() + static_cast<ptrdiff_t>(place));
    if (!asker_waits) return;
    if (faulty && Chance(15)) result = SwapResult();
    Step(asker, result);
  }

  void ReadStep() {
    if (reads_.empty()) return;
    const auto [i, boot] = reads_.front();
    reads_.erase(reads_.begin());
    if (!replicas_[i].up || replicas_[i].boot != boot) return;
    ConfigurationSeen seen;
    seen.configuration = key_;
    seen.revision = revision_;
    Step(i, seen);
  }

  /// The node's watch shows the key, perhaps long after it changed.
  void WatchStep(size_t i) {
    ConfigurationSeen seen;
    seen.configuration = key_;
    seen.revision = revision_;
    if (replicas_[i].up) Step(i, seen);
  }

  void PromiseStep() {
    if (promises_.empty()) return;
    const auto [i, boot, epoch] = promises_.back();
    promises_.pop_back();
    if (replicas_[i].up && replicas_[i].boot == boot) Step(i, PromisesRunOut{epoch});
  }

  // Checks.
  // ------------------------------------------------------------------------------------------

  /// Every committed entry is on the disk of every replica that may become primary.
  void Check() {
    for (const Member& member : key_.in_sync) {
      const Items& disk = replicas_[Find(member)].disk;
      if (disk.size() < history_.size() ||
          !std::equal(history_.begin(), history_.end(), disk.begin())) {
        Fail("a committed entry is missing on in-sync replica " + member.replica.ToString());
        return;
      }
    }
  }

  /// Without further faults the partition takes and commits a write, and all become equal.
  void Heal() {
    for (size_t i = 0; i < replicas_.size(); ++i)
      if (!replicas_[i].up) StartReplica(i);
    for (size_t i = 0; i < replicas_.size(); ++i)
      for (const Replica& peer : replicas_) Step(i, PeerConnected{peer.self});
    const size_t before = history_.size();
    bool proposed = false;
    for (int round = 0; round < 400 && error_.empty(); ++round) {
      now_ += Time(25);
      for (size_t i = 0; i < replicas_.size(); ++i) {
        Step(i, Tick{now_});
        WatchStep(i);
        while (!replicas_[i].persists.empty() || !replicas_[i].operations.empty()) DiskStep(i);
        ApplyStep(i);
      }
      for (size_t n = network_.size(); n > 0; --n) Deliver(/*faulty=*/false);
      for (size_t n = 2 * swaps_.size(); n > 0; --n) SwapStep(/*faulty=*/false);
      while (!reads_.empty()) ReadStep();
      while (!promises_.empty()) PromiseStep();
      Check();
      for (size_t i = 0; i < replicas_.size() && round > 200; ++i) {
        if (!proposed && replicas_[i].group.serving()) {
          Step(i, Propose{1});
          proposed = true;
        }
      }
    }
    if (!proposed || history_.size() == before)
      Fail("no write goes through after healing:" + Describe());
    for (const Replica& replica : replicas_) {
      if (replica.committed.value != history_.size())
        Fail("replica " + replica.self.replica.ToString() + " stays behind: " +
             replica.committed.ToString() + " of " + std::to_string(history_.size()));
    }
    if (key_.in_sync.size() != replicas_.size()) Fail("not everyone is in sync after healing");
  }

  std::string Describe() const {
    std::ostringstream out;
    out << " key epoch " << key_.epoch.value << " revision " << revision_.value << " primary "
        << key_.primary.node.value << " in sync";
    for (const Member& member : key_.in_sync) out << " " << member.node.value;
    for (const Replica& replica : replicas_) {
      const Group& group = replica.group;
      out << "; replica " << replica.self.node.value << ": role " << static_cast<int>(group.role())
          << " epoch " << group.configuration().epoch.value << " revision "
          << group.revision().value << " last " << group.last_index().value << " durable "
          << group.durable_index().value << " commit " << group.commit_index().value
          << (group.serving() ? " serving" : "");
    }
    return out.str();
  }

  struct Promise {
    size_t replica;
    uint64_t boot;
    Epoch epoch;
  };

  std::mt19937_64 random_;
  std::vector<Replica> replicas_;
  Configuration key_;
  Revision revision_{1};
  Time now_{0};
  std::vector<Message> network_;
  std::vector<Swap> swaps_;
  std::vector<std::pair<size_t, uint64_t>> reads_;
  std::vector<Promise> promises_;
  std::map<Epoch, std::pair<size_t, uint64_t>> actors_;
  Items history_;  ///< committed by anyone
  uint64_t values_ = 0;
  uint64_t boots_ = 0;
  uint64_t reigns_ = 0;
  std::string error_;
};

// ONGGI_SEED=n runs that seed alone, ONGGI_SEEDS=n as many.
void RunSeeds(size_t replicas, uint64_t seeds, int steps) {
  const char* one = std::getenv("ONGGI_SEED");
  const char* many = std::getenv("ONGGI_SEEDS");
  const uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  if (many != nullptr) seeds = std::strtoull(many, nullptr, 10);
  const uint64_t last = one != nullptr ? first : seeds;
  uint64_t commits = 0;
  uint64_t reigns = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    Simulation simulation(seed, replicas);
    const std::string error = simulation.Run(steps);
    ASSERT_EQ(error, "") << "replay: ONGGI_SEED=" << seed << " group_test --gtest_filter="
                         << ::testing::UnitTest::GetInstance()->current_test_info()->name();
    commits += simulation.commits();
    reigns += simulation.reigns();
  }
  // The world is not so hostile that nothing happens.
  if (one == nullptr) {
    EXPECT_GT(commits, (last - first + 1) * 10);
    EXPECT_GT(reigns, (last - first + 1) * 2);
  }
}

TEST(GroupSimulation, OneReplicaLosesNothing) { RunSeeds(1, 100, 1500); }
TEST(GroupSimulation, ThreeReplicasAgree) { RunSeeds(3, 150, 4000); }
TEST(GroupSimulation, FiveReplicasAgree) { RunSeeds(5, 60, 12000); }

}  // namespace
}  // namespace onggi::group
