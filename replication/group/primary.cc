#include <algorithm>
#include <utility>

#include "common/check.h"
#include "replication/group/group.h"
#include "replication/group/mutation.h"

// The primary's entries: sending them, and what is committed.

namespace onggi::group {

/// Brings progress_ in line with everyone who is sent Appends: in sync, perhaps in sync, learners.
void Group::RefreshProgress(bool new_epoch) {
  std::vector<Member> members = EffectiveSet();
  members.insert(members.end(), config_->learners.begin(), config_->learners.end());
  std::erase_if(progress_, [&](const auto& entry) {
    return std::find(members.begin(), members.end(), entry.first) == members.end();
  });
  for (const Member& member : members) {
    if (member == self_) continue;
    const auto [it, inserted] = progress_.try_emplace(member);
    Progress& progress = it->second;
    if (inserted) progress.from = progress.next = LogIndex(log_.last().value + 1);
    if (!inserted && !new_epoch) continue;
    progress.match = LogIndex();  // only this epoch's acknowledgements count (R2)
    progress.from = progress.next;
  }
}

void Group::On(const Propose& event, Actions* actions) {
  CHECK(serving() && event.count > 0);
  AppendOwn(AppendToLog::Source::kProposal, event.count, actions);
}

void Group::AppendOwn(AppendToLog::Source source, uint64_t count, Actions* actions) {
  AppendToLog append;
  append.source = source;
  append.first = LogIndex(log_.last().value + 1);
  append.last = LogIndex(log_.last().value + count);
  append.epoch = active_epoch_;
  log_.Append(active_epoch_, append.last);
  pending_.push_back({log_.LastPosition(), append.last});
  actions->push_back(append);
  SendToAll(actions);
}

void Group::SendToAll(Actions* actions) {
  for (auto& [member, progress] : progress_) Send(member, progress, actions);
}

void Group::Send(const Member& to, Progress& progress, Actions* actions) {
  if (progress.checkpoint || progress.lost) return;
  const LogIndex previous(progress.next.value - 1);
  if (previous < log_.base().index || progress.rebuild) {
    if (config_->InSync(to)) {  // as a learner, once it is out of the set (R4)
      progress.rebuild = true;
      return;
    }
    progress.checkpoint = true;
    progress.waiting = false;
    actions->push_back(NeedsCheckpoint{to});
    return;
  }
  AppendMessage message;
  message.from = self_;
  message.epoch = active_epoch_;
  message.configuration = active_config_;
  message.revision = active_revision_;
  message.previous = {log_.EpochAt(previous), previous};
  message.last = log_.last();
  message.runs = log_.Between(previous, log_.last());
  message.commit = commit_;
  message.report_applied = ReportIndex();
  message.round = progress.round;
  progress.next = LogIndex(log_.last().value + 1);
  progress.sent_at = now_;
  if (!progress.waiting) progress.waiting_since = now_;
  progress.waiting = true;
  actions->push_back(SendAppend{to, std::move(message)});
}

void Group::SendAgain(const Member& to, Progress& progress, Actions* actions) {
  progress.next = progress.from;
  Send(to, progress, actions);
}

void Group::On(const AckReceived& event, Actions* actions) {
  const AckMessage& ack = event.message;
  if (ack.kind == AckMessage::Kind::kRefused) {
    if (config_ != nullptr && ack.configuration != nullptr && ack.revision > revision_)
      Learn(ack.configuration, ack.revision, actions);
    return;
  }
  if (role_ != Role::kPrimary || active_epoch_ == Epoch() || ack.epoch != active_epoch_) return;
  const auto it = progress_.find(ack.from);
  if (it == progress_.end()) return;
  Progress& progress = it->second;
  progress.lost = false;
  if (ack.kind == AckMessage::Kind::kRebuild) {
    if (progress.checkpoint) return;
    progress.rebuild = true;
    Send(ack.from, progress, actions);
    MaybeReconfigure(actions);
    return;
  }
  progress.checkpoint = false;
  progress.rebuild = false;
  if (ack.kind == AckMessage::Kind::kMissing) {
    LogIndex next = std::clamp(ack.index, LogIndex(progress.match.value + 1), progress.next);
    // It may only be feeling its way back: before a checkpoint, look whether it has the base.
    const LogIndex first(log_.base().index.value + 1);
    if (next < first && progress.from > first) next = first;
    if (next >= progress.next) {
      // One that overtook another: what is under way will do. Or, of no Append, one that has begun
      // and has everything: it only has to hear what is committed.
      if (ack.round == 0 && !progress.waiting) Send(ack.from, progress, actions);
      return;
    }
    // Every message behind a lost one is answered so. Those sent before we went back say nothing
    // about what was sent since.
    if (ack.round != 0 && ack.round < progress.round) return;
    ++progress.round;
    progress.from = next;
    SendAgain(ack.from, progress, actions);
    return;
  }
  CHECK(ack.index <= log_.last());
  if (ack.boot != progress.boot) {
    progress.boot = ack.boot;
    progress.applied = LogIndex();
    progress.holds = LogIndex();
    publish_ = true;
  }
  if (ack.applied >= progress.applied) {
    progress.applied = ack.applied;
    progress.holds = std::max(progress.holds, ack.holds);
  }
  if (ack.index > progress.match) {
    progress.match = ack.index;
    progress.waiting_since = now_;
  }
  progress.from = LogIndex(progress.match.value + 1);
  progress.next = std::max(progress.next, progress.from);
  if (progress.from == progress.next) progress.waiting = false;
  AdvanceCommit(actions);
  MaybeReconfigure(actions);
  MaybeGrant(actions);
}

/// Members of every configuration that might be in force (R2).
std::vector<Member> Group::EffectiveSet() const {
  std::vector<Member> members = config_->in_sync;
  for (const Proposal& asked : outstanding_) {
    for (const Member& member : asked.configuration.in_sync) {
      if (std::find(members.begin(), members.end(), member) == members.end())
        members.push_back(member);
    }
  }
  return members;
}

void Group::AdvanceCommit(Actions* actions) {
  if (role_ != Role::kPrimary || suspended_ || !promises_out_) return;
  if (epoch_start_ == LogIndex() || active_epoch_ != config_->epoch) return;
  if (config_->in_sync.size() < config_->min_in_sync) return;
  LogIndex commit = durable_;
  if (config_->in_sync.size() > 1 || !outstanding_.empty()) {
    std::vector<Member> members = EffectiveSet();
    if (Mutated(Mutation::kCommitWithoutOne)) members.pop_back();
    for (const Member& member : members) {
      if (member == self_) continue;
      const auto it = progress_.find(member);
      commit = std::min(commit, it == progress_.end() ? LogIndex() : it->second.match);
    }
  }
  if (commit <= commit_) return;
  SetCommit(commit, actions);
  // Nothing more is coming that would tell the others.
  if (commit_ == log_.last()) SendToAll(actions);
  if (transfer_) MaybeTransfer(actions);
}

void Group::On(const PeerConnected& event, Actions* actions) {
  const auto it = progress_.find(event.member);
  if (it == progress_.end()) return;
  it->second.lost = false;
  it->second.checkpoint = false;
  SendAgain(event.member, it->second, actions);
}

void Group::On(const PeerLost& event, Actions* actions) {
  const auto it = progress_.find(event.member);
  if (it == progress_.end()) return;
  it->second.lost = true;
  MaybeReconfigure(actions);
}

void Group::On(const CheckpointSent& event, Actions* actions) {
  const auto it = progress_.find(event.member);
  if (it == progress_.end()) return;
  Progress& progress = it->second;
  progress.checkpoint = false;
  progress.rebuild = false;
  progress.lost = false;
  progress.from = LogIndex(std::max(progress.match, event.position.index).value + 1);
  SendAgain(event.member, progress, actions);
}

// Time. -------------------------------------------------------------------------------------------

bool Group::NeedsTick() const {
  if (gone_) return false;
  if (ask_again_at_ || create_until_ || resign_again_at_ || shape_since_ || stuck_since_ ||
      replace_until_)
    return true;
  if (swap_in_flight_ || !outstanding_.empty() || transfer_ || thawing_) return true;
  if (ReportIndex() != LogIndex() && granted_ != revision_) return true;
  return std::any_of(progress_.begin(), progress_.end(), [](const auto& entry) {
    const Progress& progress = entry.second;
    return progress.waiting && !progress.lost && !progress.checkpoint;
  });
}

void Group::On(const Tick& event, Actions* actions) {
  if (clock_stale_ && event.now > now_) {
    // Whatever has begun since the last Tick was stamped with a time long past.
    const Time late = event.now - now_;
    for (auto& [member, progress] : progress_)
      progress.waiting_since = progress.sent_at = event.now;
    for (std::optional<Time>* at : {&ask_again_at_, &create_until_, &resign_again_at_,
                                    &shape_since_, &stuck_since_, &replace_until_}) {
      if (*at) **at += late;
    }
    resigned_at_ += late;
  }
  now_ = std::max(now_, event.now);
  if (replace_until_ && *replace_until_ <= now_) ForgetReplace();
  if (ask_again_at_ && *ask_again_at_ <= now_) AskAgain(actions);
  if (resign_again_at_ && *resign_again_at_ <= now_) SendResigns(actions);
  const bool probe = ReportIndex() != LogIndex();
  for (auto& [member, progress] : progress_) {
    if ((progress.waiting || probe) && now_ - progress.sent_at >= kRetryInterval)
      SendAgain(member, progress, actions);
  }
  MaybeReconfigure(actions);
  // R11. A swap that cannot be had only matters when something waits for it.
  if (Stuck()) {
    if (!stuck_since_) stuck_since_ = now_;
    if (now_ - *stuck_since_ >= kResignAfter) On(Resign{}, actions);
  } else {
    stuck_since_.reset();
  }
  clock_stale_ = !NeedsTick();
}

LogIndex Group::FirstNeeded() const {
  LogIndex first(log_.last().value + 1);
  for (const auto& [member, progress] : progress_) {
    if (!progress.lost && !progress.checkpoint) first = std::min(first, progress.from);
  }
  return first;
}

uint64_t Group::Lag() const {
  uint64_t lag = 0;
  if (role_ != Role::kPrimary || active_epoch_ == Epoch()) return 0;
  for (const Member& member : config_->in_sync) {
    const auto it = progress_.find(member);
    if (it != progress_.end()) lag = std::max(lag, log_.last().value - it->second.match.value);
  }
  return lag;
}

}  // namespace onggi::group
