#include "replication/group/group.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

// What every role does: configurations, swaps, and the part of a backup. The primary's part is in
// primary.cc. "R" and a number refer to the rules in replication.md.

namespace onggi::group {

void Group::Step(const Event& event, Actions* actions) {
  std::visit([&](const auto& e) { On(e, actions); }, event);
}

void Group::On(const Start& event, Actions* actions) {
  CHECK(config_ == nullptr && event.boot != 0);
  self_ = event.self;
  boot_ = event.boot;
  now_ = event.now;
  log_ = EpochRuns(event.base, event.runs, event.last);
  durable_ = event.last;
  commit_ = event.base.index;
  applied_ = event.base.index;
  config_ = std::make_shared<const Configuration>(event.configuration);
  revision_ = event.revision;
  actions->push_back(PersistConfiguration{config_, revision_});
  Follow(actions);
}

void Group::On(const Stop&, Actions* actions) {
  EndReign(actions);
  role_ = Role::kIdle;
}

// Configurations and swaps. -----------------------------------------------------------------------

/// Whether a configuration seen continues, or begins, this process's own reign.
bool Group::Mine(const Configuration& configuration) const {
  if (configuration.primary != self_ || configuration.boot != boot_) return false;
  if (role_ == Role::kPrimary && configuration.epoch == config_->epoch) return true;
  return std::any_of(outstanding_.begin(), outstanding_.end(), [&](const Configuration& asked) {
    return asked.epoch == configuration.epoch;
  });
}

/// The key has been seen at a higher mod_revision: only that settles every proposal made on the
/// previous one (R3).
void Group::Learn(std::shared_ptr<const Configuration> configuration, Revision revision,
                  Actions* actions) {
  if (revision <= revision_) return;
  CHECK(configuration->epoch >= config_->epoch);
  const bool mine = Mine(*configuration);
  const bool new_epoch = configuration->epoch != config_->epoch;
  const std::shared_ptr<const Configuration> previous = config_;
  outstanding_.clear();
  suspended_ = false;
  reading_ = false;
  ask_again_at_.reset();
  config_ = std::move(configuration);
  revision_ = revision;
  actions->push_back(PersistConfiguration{config_, revision_});
  if (mine) {
    // A primary's own proposal continues its reign: ConfigurationDurable goes on from here.
    if (role_ != Role::kPrimary) BeginReign(*previous, actions);
    return;
  }
  EndReign(actions);
  if (new_epoch) {
    verified_ = LogIndex();
    primary_commit_ = LogIndex();
    acked_ = LogIndex();
    ack_due_ = false;
  }
  Follow(actions);
}

/// Takes the place that the configuration gives this replica.
void Group::Follow(Actions* actions) {
  const bool named = config_->InSync(self_) || config_->Learner(self_);
  role_ = named ? Role::kBackup : Role::kIdle;
  // Named primary, but not by a swap of this process: it leads nothing that an earlier one led
  // (R7).
  if (config_->primary == self_ && config_->InSync(self_)) AskForReign(actions);
}

void Group::On(const ConfigurationSeen& event, Actions* actions) {
  if (event.revision > revision_) {
    Learn(std::make_shared<const Configuration>(event.configuration), event.revision, actions);
    return;
  }
  // An unchanged key settles nothing (R3). After a refusal it must have changed: ask again.
  if (reading_) ask_again_at_ = now_ + kRetryInterval;
}

void Group::On(const SwapResult& event, Actions* actions) {
  CHECK(swap_in_flight_);
  swap_in_flight_ = false;
  if (swap_revision_ != revision_) {
    // The key has been seen at a higher revision since: this proposal is settled already.
    if (role_ == Role::kPrimary) MaybeReconfigure(actions);
    if (role_ == Role::kCandidate && outstanding_.empty()) AskForReign(actions);
    return;
  }
  switch (event.outcome) {
    case SwapResult::Outcome::kSucceeded:
      CHECK(event.revision > revision_);
      Learn(std::make_shared<const Configuration>(outstanding_.back()), event.revision, actions);
      break;
    case SwapResult::Outcome::kRefused:
      // The key is not what this replica takes it for: no commit and no answer until it is read.
      suspended_ = true;
      AskToRead(actions);
      break;
    case SwapResult::Outcome::kUnknown: ask_again_at_ = now_ + kRetryInterval; break;
  }
}

void Group::AskToRead(Actions* actions) {
  reading_ = true;
  ask_again_at_ = now_ + kRetryInterval;
  actions->push_back(ReadConfiguration{});
}

void Group::Ask(Configuration configuration, Actions* actions) {
  CHECK(!swap_in_flight_);
  configuration.epoch =
      Epoch(std::max({config_->epoch, highest_asked_, log_.LastPosition().epoch}).value + 1);
  configuration.boot = boot_;
  configuration.lease_released = false;
  highest_asked_ = configuration.epoch;
  outstanding_.push_back(configuration);
  swap_in_flight_ = true;
  swap_revision_ = revision_;
  ask_again_at_.reset();
  actions->push_back(ProposeSwap{std::move(configuration), revision_});
}

/// Asks for a new epoch with this replica as the primary (R6, R7).
void Group::AskForReign(Actions* actions) {
  role_ = Role::kCandidate;
  if (swap_in_flight_) {  // of an earlier configuration: its answer comes first
    ask_again_at_ = now_ + kRetryInterval;
    return;
  }
  Configuration wanted = *config_;
  const Member old = wanted.primary;
  wanted.primary = self_;
  // R4: never fewer than min_in_sync, even if the old primary has to stay until a learner is ready.
  if (old != self_ && wanted.in_sync.size() > wanted.min_in_sync) {
    std::erase(wanted.in_sync, old);
    wanted.learners.push_back(old);
  }
  Ask(std::move(wanted), actions);
}

void Group::AskAgain(Actions* actions) {
  ask_again_at_.reset();
  if (reading_) return AskToRead(actions);
  if (swap_in_flight_) {
    ask_again_at_ = now_ + kRetryInterval;
    return;
  }
  // After an unknown outcome: winning another swap on the same revision settles it, even one that
  // changes only the epoch (R3).
  if (role_ == Role::kCandidate) return AskForReign(actions);
  if (role_ == Role::kPrimary && !outstanding_.empty()) Ask(Desired(), actions);
}

void Group::On(const Promote&, Actions* actions) {
  if (role_ != Role::kBackup || !config_->InSync(self_)) return;
  AskForReign(actions);
}

void Group::On(const ConfigurationDurable& event, Actions* actions) {
  if (event.epoch != config_->epoch) return;
  durable_config_epoch_ = event.epoch;
  if (role_ == Role::kPrimary) {
    ActivateEpoch(actions);
  } else {
    Acknowledge(actions);
  }
}

// The log. ----------------------------------------------------------------------------------------

void Group::On(const LogDurable& event, Actions* actions) {
  // Completions come in order, so the first that fits is the one, even if the same entry was
  // dropped and appended again.
  const auto it = std::find_if(pending_.begin(), pending_.end(), [&](const PendingAppend& pending) {
    return pending.last == event.position;
  });
  if (it == pending_.end()) return;
  for (auto done = pending_.begin(); done <= it; ++done)
    durable_ = std::max(durable_, std::min(done->effective, log_.last()));
  pending_.erase(pending_.begin(), it + 1);
  if (role_ == Role::kPrimary) {
    AdvanceCommit(actions);
    return;
  }
  Acknowledge(actions);
  AdvanceBackupCommit(actions);
}

void Group::On(const Applied& event, Actions* actions) {
  CHECK(event.index <= commit_);
  applied_ = std::max(applied_, event.index);
  MaybeServe(actions);
}

void Group::On(const BaseAdvanced& event, Actions*) {
  CHECK(event.base.index <= commit_);
  log_.AdvanceBase(event.base);
}

void Group::On(const CheckpointInstalled& event, Actions*) {
  CHECK(role_ != Role::kPrimary);
  CHECK(event.position.index >= commit_);
  log_ = EpochRuns(event.position, {}, event.position.index);
  pending_.clear();
  durable_ = commit_ = applied_ = event.position.index;
  verified_ = LogIndex();
  acked_ = LogIndex();
}

void Group::SetCommit(LogIndex index, Actions* actions) {
  CHECK(index > commit_ && index <= durable_);
  commit_ = index;
  actions->push_back(CommitAdvanced{index});
}

// Backup. -----------------------------------------------------------------------------------------

void Group::On(const AppendReceived& event, Actions* actions) {
  const AppendMessage& message = event.message;
  if (config_ == nullptr || message.from == self_) return;
  if (message.epoch < config_->epoch) {
    if (durable_config_epoch_ != config_->epoch) return;
    AckMessage refusal;
    refusal.kind = AckMessage::Kind::kRefused;
    refusal.from = self_;
    refusal.epoch = config_->epoch;
    refusal.configuration = config_;
    refusal.revision = revision_;
    actions->push_back(SendAck{message.from, std::move(refusal)});
    return;
  }
  // Nobody sends in an epoch that has not been granted: the message is authority enough (R1).
  if (message.epoch > config_->epoch && message.configuration != nullptr &&
      message.configuration->epoch == message.epoch)
    Learn(message.configuration, message.revision, actions);
  if (message.epoch != config_->epoch || message.from != config_->primary) return;
  CHECK(role_ != Role::kPrimary);
  if (!Verify(message, actions)) return;
  verified_ = std::max(verified_, message.last);
  primary_commit_ = std::max(primary_commit_, message.commit);
  ack_due_ = true;
  Acknowledge(actions);
  AdvanceBackupCommit(actions);
}

/// Makes the log match the message: afterwards it has all the message's entries, though perhaps not
/// durable yet. False, with an answer, when the previous entry is not there.
bool Group::Verify(const AppendMessage& message, Actions* actions) {
  const LogIndex base = log_.base().index;
  const LogIndex previous = message.previous.index;
  const bool missing = previous > log_.last();
  // What lies below the base has been committed, and so equals what the primary has.
  const bool differs =
      !missing && previous >= base && log_.EpochAt(previous) != message.previous.epoch;
  if (missing || differs) {
    CHECK(missing || previous > commit_);
    if (durable_config_epoch_ != config_->epoch) return false;
    AckMessage answer;
    answer.kind = AckMessage::Kind::kMissing;
    answer.from = self_;
    answer.epoch = message.epoch;
    // Of an epoch that differs, the whole run may: go back before it.
    answer.index = missing ? LogIndex(log_.last().value + 1)
                           : std::max(log_.RunStart(previous), LogIndex(commit_.value + 1));
    actions->push_back(SendAck{message.from, std::move(answer)});
    return false;
  }
  // A matching or longer log is never shortened: only from the first entry that differs.
  for (size_t i = 0; i < message.runs.size(); ++i) {
    const Epoch epoch = message.runs[i].epoch;
    const LogIndex end =
        i + 1 < message.runs.size() ? LogIndex(message.runs[i + 1].index.value - 1) : message.last;
    LogIndex at = std::max(message.runs[i].index, LogIndex(base.value + 1));
    while (at <= end && at <= log_.last() && log_.EpochAt(at) == epoch) at = LogIndex(at.value + 1);
    if (at > end) continue;
    if (at <= log_.last()) {
      CHECK(at > commit_ && at > verified_);
      log_.DropSuffix(at);
      durable_ = std::min(durable_, log_.last());
      for (PendingAppend& pending : pending_)
        pending.effective = std::min(pending.effective, log_.last());
      actions->push_back(DropSuffix{at});
    }
    for (; i < message.runs.size(); ++i) {
      const LogIndex up_to = i + 1 < message.runs.size()
                                 ? LogIndex(message.runs[i + 1].index.value - 1)
                                 : message.last;
      log_.Append(message.runs[i].epoch, up_to);
    }
    pending_.push_back({log_.LastPosition(), message.last});
    AppendToLog append;
    append.source = AppendToLog::Source::kMessage;
    append.first = at;
    append.last = message.last;
    append.epoch = log_.LastPosition().epoch;
    actions->push_back(append);
  }
  return true;
}

/// Acknowledges what this epoch's Appends have verified, as far as it is durable: never simply the
/// last entry, which may be another epoch's (R1).
void Group::Acknowledge(Actions* actions) {
  if (role_ == Role::kPrimary || durable_config_epoch_ != config_->epoch) return;
  const LogIndex match = std::min(verified_, durable_);
  const bool answer = ack_due_ && verified_ <= durable_;
  if (!answer && match <= acked_) return;
  if (answer) ack_due_ = false;
  acked_ = match;
  AckMessage ack;
  ack.from = self_;
  ack.epoch = config_->epoch;
  ack.index = match;
  actions->push_back(SendAck{config_->primary, std::move(ack)});
}

/// R2: never past what this epoch has verified; what lies behind may be another reign's.
void Group::AdvanceBackupCommit(Actions* actions) {
  const LogIndex commit = std::min({primary_commit_, verified_, durable_});
  if (commit > commit_) SetCommit(commit, actions);
}

AppendMessage SplitAppend(AppendMessage* message, LogIndex at) {
  CHECK(at >= message->previous.index && at < message->last);
  AppendMessage rest = *message;
  const auto after =
      std::upper_bound(message->runs.begin(), message->runs.end(), LogIndex(at.value + 1),
                       [](LogIndex index, const LogPosition& run) { return index < run.index; });
  const auto keep =
      std::upper_bound(message->runs.begin(), message->runs.end(), at,
                       [](LogIndex index, const LogPosition& run) { return index < run.index; });
  const bool any = keep != message->runs.begin();
  rest.previous = any ? LogPosition{std::prev(keep)->epoch, at} : message->previous;
  rest.runs.assign(std::prev(after), message->runs.end());
  rest.runs.front().index = LogIndex(at.value + 1);
  message->runs.erase(keep, message->runs.end());
  message->last = at;
  return rest;
}

}  // namespace onggi::group
