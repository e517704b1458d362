#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "replication/group/group.h"

namespace onggi::group {

inline constexpr Member kA{NodeId(1), ReplicaId(11)};
inline constexpr Member kB{NodeId(2), ReplicaId(12)};
inline constexpr Member kC{NodeId(3), ReplicaId(13)};

/// Some process that led before.
inline constexpr uint64_t kAnotherBoot = 5;

inline LogPosition At(uint64_t epoch, uint64_t index) { return {Epoch(epoch), LogIndex(index)}; }

inline Configuration Config(uint64_t epoch, Member primary, std::vector<Member> in_sync,
                            std::vector<Member> learners = {}, uint64_t boot = kAnotherBoot) {
  Configuration config;
  config.epoch = Epoch(epoch);
  config.primary = primary;
  config.replication = in_sync.size() + learners.size() > 1 ? 3 : 1;
  config.min_in_sync = config.replication / 2 + 1;
  config.in_sync = std::move(in_sync);
  config.learners = std::move(learners);
  config.boot = boot;
  return config;
}

/// A group and what it asked for in the last step.
class Driver {
 public:
  static constexpr uint64_t kBoot = 77;

  void Do(const Event& event) {
    actions.clear();
    group.Step(event, &actions);
  }
  template <class T>
  const T* Find(size_t nth = 0) const {
    for (const Action& action : actions)
      if (const T* found = std::get_if<T>(&action); found != nullptr && nth-- == 0) return found;
    return nullptr;
  }
  template <class T>
  size_t Count() const {
    size_t count = 0;
    for (const Action& action : actions) count += std::holds_alternative<T>(action) ? 1 : 0;
    return count;
  }
  const AppendMessage* SentTo(const Member& member) const {
    for (const Action& action : actions)
      if (const auto* send = std::get_if<SendAppend>(&action); send && send->to == member)
        return &send->message;
    return nullptr;
  }

  void StartAs(Member self, const Configuration& config, uint64_t revision,
               std::vector<LogPosition> runs = {}, uint64_t last = 0) {
    Start start;
    start.self = self;
    start.boot = kBoot;
    start.runs = std::move(runs);
    start.last = LogIndex(last);
    start.configuration = config;
    start.revision = Revision(revision);
    Do(start);
  }
  // A swap just proposed succeeds, and is durable.
  void WinSwap(uint64_t revision) {
    SwapResult result;
    result.outcome = SwapResult::Outcome::kSucceeded;
    result.revision = Revision(revision);
    Do(result);
    Do(ConfigurationDurable{group.configuration().epoch});
  }
  void Swap(SwapResult::Outcome outcome) {
    SwapResult result;
    result.outcome = outcome;
    Do(result);
  }
  void Acked(Member from, uint64_t index, std::optional<uint64_t> epoch = std::nullopt) {
    AckReceived event;
    event.message.from = from;
    event.message.epoch = epoch ? Epoch(*epoch) : group.append_epoch();
    event.message.index = LogIndex(index);
    Do(event);
  }
  void Durable(uint64_t epoch, uint64_t index) { Do(LogDurable{At(epoch, index)}); }
  void Append(Member from, const Configuration& config, uint64_t revision, LogPosition previous,
              uint64_t last, std::vector<LogPosition> runs, uint64_t commit, uint64_t round = 1) {
    AppendReceived event;
    event.message.from = from;
    event.message.epoch = config.epoch;
    event.message.configuration = std::make_shared<const Configuration>(config);
    event.message.revision = Revision(revision);
    event.message.previous = previous;
    event.message.last = LogIndex(last);
    event.message.runs = std::move(runs);
    event.message.commit = LogIndex(commit);
    event.message.round = round;
    Do(event);
  }
  // Makes A the serving primary of {A, B, C} in epoch 2 at revision 11: entry 1 starts the epoch.
  void LeadThree() {
    StartAs(kA, Config(1, kA, {kA, kB, kC}), 10);
    WinSwap(11);
    Do(PromisesRunOut{Epoch(2)});
    Durable(2, 1);
    Acked(kB, 1);
    Acked(kC, 1);
    ASSERT_NE(Find<CommitAdvanced>(), nullptr);
    Do(Applied{LogIndex(1)});
    ASSERT_TRUE(group.serving());
  }

  Group group;
  Actions actions;
};

}  // namespace onggi::group
