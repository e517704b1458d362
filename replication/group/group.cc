#include "replication/group/group.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "replication/group/mutation.h"

// What every role does: the log, and the part of a backup. Configurations and reigns are in
// reign.cc, the primary's entries in primary.cc, who is in sync in reconfigure.cc. "R" and a number
// refer to the rules in replication.md.

namespace onggi::group {

void Group::Step(const Event& event, Actions* actions) {
  if (gone_ && !std::holds_alternative<Stop>(event)) return;
  std::visit([&](const auto& e) { On(e, actions); }, event);
  if (publish_) Publish(actions);
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
  ask_commit_ = log_.last() > commit_;
  actions->push_back(PersistConfiguration{config_, revision_});
  Follow(actions);
}

void Group::On(const Stop&, Actions* actions) {
  EndReign(actions);
  role_ = Role::kIdle;
  gone_ = true;
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
  if (role_ != Role::kPrimary) return Acknowledge(actions);
  MaybeServe(actions);
  if (split_ || merge_) MaybeReconfigure(actions);
  MaybeGrant(actions);
}

void Group::On(const Holds& event, Actions* actions) {
  holds_ = event.index;
  if (role_ == Role::kPrimary) {
    MaybeReconfigure(actions);
  } else if (acked_ != LogIndex()) {
    report_applied_ = std::max(report_applied_, LogIndex(1));  // the primary waits for it
    Acknowledge(actions);
  }
}

void Group::On(const BaseAdvanced& event, Actions* actions) {
  CHECK(event.base.index <= commit_);
  log_.AdvanceBase(event.base);
  if (merge_) MaybeReconfigure(actions);
}

void Group::On(const CheckpointInstalled& event, Actions*) {
  CHECK(role_ != Role::kPrimary);
  CHECK(event.position.index >= commit_);
  log_ = EpochRuns(event.position, {}, event.position.index);
  pending_.clear();
  durable_ = commit_ = applied_ = event.position.index;
  verified_ = LogIndex();
  acked_ = LogIndex();
  ack_due_ = false;
  rebuild_ = false;
}

/// What this replica has is not to be trusted or not enough: whoever leads is told at its next
/// Append.
void Group::On(const Rebuild&, Actions* actions) {
  if (role_ == Role::kPrimary) GiveUp(std::max(config_->epoch, highest_asked_), actions);
  if (role_ == Role::kCandidate) role_ = Role::kBackup;
  rebuild_ = true;
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
    SendRefusal(message.from, actions);
    return;
  }
  // Nobody sends in an epoch that has not been granted: the message is authority enough (R1).
  if (message.revision > revision_ && message.configuration != nullptr &&
      message.configuration->epoch == message.epoch)
    Learn(message.configuration, message.revision, actions);
  if (message.epoch != config_->epoch || message.from != config_->primary) return;
  CHECK(role_ != Role::kPrimary);
  if (rebuild_) {
    AckMessage answer;
    answer.kind = AckMessage::Kind::kRebuild;
    answer.from = self_;
    answer.boot = boot_;
    answer.epoch = message.epoch;
    actions->push_back(SendAck{message.from, std::move(answer)});
    return;
  }
  if (!Verify(message, actions)) return;
  verified_ = std::max(verified_, message.last);
  primary_commit_ = std::max(primary_commit_, message.commit);
  report_applied_ = std::max(report_applied_, message.report_applied);
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
    answer.boot = boot_;
    answer.epoch = message.epoch;
    answer.round = message.round;
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
  if (role_ == Role::kPrimary || durable_config_epoch_ != config_->epoch || rebuild_) return;
  LogIndex match = std::min(verified_, durable_);
  bool answer = ack_due_ && verified_ <= durable_;
  if (Mutated(Mutation::kAcknowledgeBeforeSync)) {
    match = verified_;
    answer = ack_due_;
  }
  if (Mutated(Mutation::kAcknowledgeLast)) match = durable_;
  const bool report = report_applied_ != LogIndex() && applied_ >= report_applied_;
  if (!answer && !report && match <= acked_) return;
  if (answer) ack_due_ = false;
  if (report) report_applied_ = LogIndex();
  acked_ = match;
  AckMessage ack;
  ack.from = self_;
  ack.boot = boot_;
  ack.epoch = config_->epoch;
  ack.index = match;
  ack.applied = applied_;
  ack.holds = holds_;
  actions->push_back(SendAck{config_->primary, std::move(ack)});
}

/// One that begins anew in a process that lives, for which nobody connects again, has entries of
/// which it does not know whether they are committed; without writes no Append would say so.
void Group::AskForCommit(Actions* actions) const {
  if (role_ != Role::kBackup || config_->primary == self_ || config_->epoch == Epoch(0)) return;
  AckMessage ask;
  ask.kind = AckMessage::Kind::kMissing;
  ask.from = self_;
  ask.boot = boot_;
  ask.epoch = config_->epoch;
  ask.index = LogIndex(log_.last().value + 1);
  actions->push_back(SendAck{config_->primary, std::move(ask)});
}

/// Tells `to` of the configuration that this replica knows instead.
void Group::SendRefusal(const Member& to, Actions* actions) const {
  AckMessage refusal;
  refusal.kind = AckMessage::Kind::kRefused;
  refusal.from = self_;
  refusal.boot = boot_;
  refusal.epoch = config_->epoch;
  refusal.configuration = config_;
  refusal.revision = revision_;
  actions->push_back(SendAck{to, std::move(refusal)});
}

/// R2: never past what this epoch has verified; what lies behind may be another reign's.
void Group::AdvanceBackupCommit(Actions* actions) {
  const LogIndex verified = Mutated(Mutation::kCommitWithoutClamp) ? durable_ : verified_;
  const LogIndex commit = std::min({primary_commit_, verified, durable_});
  if (commit > commit_) SetCommit(commit, actions);
}

}  // namespace onggi::group
