#include <algorithm>
#include <utility>

#include "common/check.h"
#include "replication/group/group.h"

// The primary's part of Group: reign, appends, commit, who is in sync.

namespace onggi::group {

void Group::BeginReign(const Configuration& previous, Actions* actions) {
  role_ = Role::kPrimary;
  reign_ = config_->epoch;
  epoch_start_ = LogIndex();
  active_epoch_ = Epoch();
  serving_ = false;
  progress_.clear();
  // Nobody but this replica could have been promised anything.
  const bool alone = previous.in_sync.size() == 1 && previous.in_sync.front() == self_;
  promises_out_ = alone || previous.lease_released;
  if (!promises_out_) actions->push_back(WaitPromises{reign_, previous.primary});
}

void Group::EndReign(Actions* actions) {
  if (role_ != Role::kPrimary) return;
  role_ = Role::kIdle;
  serving_ = false;
  epoch_start_ = LogIndex();
  active_epoch_ = Epoch();
  active_config_.reset();
  progress_.clear();
  actions->push_back(ReignEnded{});
}

void Group::On(const PromisesRunOut& event, Actions* actions) {
  if (role_ != Role::kPrimary || event.epoch != reign_) return;
  promises_out_ = true;
  AdvanceCommit(actions);
  MaybeServe(actions);
}

/// The newest configuration is durable here: entries and messages are of its epoch from now on.
void Group::ActivateEpoch(Actions* actions) {
  const bool new_epoch = active_epoch_ != config_->epoch;
  active_epoch_ = config_->epoch;
  active_config_ = config_;
  active_revision_ = revision_;
  RefreshProgress(new_epoch);
  if (epoch_start_ == LogIndex()) {
    // What a new reign cannot know to be committed, it commits again under this entry (R7).
    AppendOwn(AppendToLog::Source::kEpochStart, 1, actions);
    epoch_start_ = log_.last();
  } else if (new_epoch) {
    SendToAll(actions);  // every epoch opens with an Append, empty if need be (R1)
  } else {
    for (auto& [member, progress] : progress_)
      if (progress.match == LogIndex() && !progress.waiting) Send(member, progress, actions);
  }
  AdvanceCommit(actions);
  MaybeReconfigure(actions);
}

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
    if (inserted) progress.next = LogIndex(log_.last().value + 1);
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
  if (previous < log_.base().index) {
    progress.checkpoint = true;
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
    if (ack.epoch > config_->epoch && ack.configuration != nullptr)
      Learn(ack.configuration, ack.revision, actions);
    return;
  }
  if (role_ != Role::kPrimary || active_epoch_ == Epoch() || ack.epoch != active_epoch_) return;
  const auto it = progress_.find(ack.from);
  if (it == progress_.end()) return;
  Progress& progress = it->second;
  progress.lost = false;
  progress.checkpoint = false;
  if (ack.kind == AckMessage::Kind::kMissing) {
    const LogIndex next = std::clamp(ack.index, LogIndex(progress.match.value + 1), progress.next);
    // A message from before a resend, or one that overtook another: what is under way will do.
    if (next >= progress.next) return;
    progress.from = next;
    SendAgain(ack.from, progress, actions);
    return;
  }
  CHECK(ack.index <= log_.last());
  if (ack.index > progress.match) {
    progress.match = ack.index;
    progress.waiting_since = now_;
  }
  progress.from = LogIndex(progress.match.value + 1);
  progress.next = std::max(progress.next, progress.from);
  if (progress.from == progress.next) progress.waiting = false;
  AdvanceCommit(actions);
  MaybeReconfigure(actions);
}

/// Members of every configuration that might be in force (R2).
std::vector<Member> Group::EffectiveSet() const {
  std::vector<Member> members = config_->in_sync;
  for (const Configuration& asked : outstanding_) {
    for (const Member& member : asked.in_sync) {
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
    for (const Member& member : EffectiveSet()) {
      if (member == self_) continue;
      const auto it = progress_.find(member);
      commit = std::min(commit, it == progress_.end() ? LogIndex() : it->second.match);
    }
  }
  if (commit <= commit_) return;
  SetCommit(commit, actions);
  // Nothing more is coming that would tell the others.
  if (commit_ == log_.last()) SendToAll(actions);
}

void Group::MaybeServe(Actions* actions) {
  if (role_ != Role::kPrimary || serving_ || !promises_out_) return;
  if (epoch_start_ == LogIndex() || applied_ < epoch_start_) return;
  serving_ = true;
  actions->push_back(ReignBegan{active_epoch_});
}

// Who is in sync (R4). ----------------------------------------------------------------------------

bool Group::Suspect(const Member& member) const {
  const auto it = progress_.find(member);
  if (it == progress_.end()) return true;
  const Progress& progress = it->second;
  return progress.lost || (progress.waiting && now_ - progress.waiting_since >= kAckTimeout);
}

/// R3: matched through the commit index and through this reign's first entry.
bool Group::CaughtUp(const Member& member) const {
  const auto it = progress_.find(member);
  return it != progress_.end() && epoch_start_ != LogIndex() &&
         it->second.match >= std::max(commit_, epoch_start_);
}

/// The configuration to ask for: without those that do not answer, with learners that have caught
/// up, never fewer in sync than the minimum.
Configuration Group::Desired() const {
  Configuration wanted = *config_;
  const auto ready = [&]() -> std::optional<Member> {
    for (const Member& learner : wanted.learners)
      if (CaughtUp(learner) && !Suspect(learner)) return learner;
    return std::nullopt;
  };
  const auto admit = [&](const Member& learner) {
    std::erase(wanted.learners, learner);
    wanted.in_sync.push_back(learner);
  };
  for (const Member& member : config_->in_sync) {
    if (member == self_ || !Suspect(member)) continue;
    if (wanted.in_sync.size() <= wanted.min_in_sync) {
      const std::optional<Member> learner = ready();
      if (!learner) continue;
      admit(*learner);
    }
    std::erase(wanted.in_sync, member);
    wanted.learners.push_back(member);
  }
  while (wanted.in_sync.size() < wanted.replication) {
    const std::optional<Member> learner = ready();
    if (!learner) break;
    admit(*learner);
  }
  return wanted;
}

void Group::MaybeReconfigure(Actions* actions) {
  if (role_ != Role::kPrimary || suspended_ || swap_in_flight_ || !outstanding_.empty()) return;
  if (epoch_start_ == LogIndex() || active_epoch_ != config_->epoch) return;
  if (config_->in_sync.size() == 1 && config_->learners.empty()) return;
  Configuration wanted = Desired();
  if (wanted.in_sync != config_->in_sync) Ask(std::move(wanted), actions);
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
  progress.lost = false;
  progress.from = LogIndex(std::max(progress.match, event.position.index).value + 1);
  SendAgain(event.member, progress, actions);
}

// Time. -------------------------------------------------------------------------------------------

bool Group::NeedsTick() const {
  if (ask_again_at_) return true;
  return std::any_of(progress_.begin(), progress_.end(), [](const auto& entry) {
    const Progress& progress = entry.second;
    return progress.waiting && !progress.lost && !progress.checkpoint;
  });
}

void Group::On(const Tick& event, Actions* actions) {
  if (clock_stale_) {
    // Whatever has begun since the last Tick was stamped with a time long past.
    for (auto& [member, progress] : progress_)
      progress.waiting_since = progress.sent_at = event.now;
    if (ask_again_at_) ask_again_at_ = event.now + kRetryInterval;
  }
  now_ = std::max(now_, event.now);
  if (ask_again_at_ && *ask_again_at_ <= now_) AskAgain(actions);
  for (auto& [member, progress] : progress_) {
    if (progress.waiting && now_ - progress.sent_at >= kRetryInterval)
      SendAgain(member, progress, actions);
  }
  MaybeReconfigure(actions);
  clock_stale_ = !NeedsTick();
}

}  // namespace onggi::group
