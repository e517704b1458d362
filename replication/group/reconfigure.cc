#include <algorithm>
#include <utility>

#include "common/check.h"
#include "replication/group/group.h"
#include "replication/group/mutation.h"

// What the primary asks for: who is in sync (R3, R4, R9), which keys the partition has (R13, R14),
// and who leads next (R8).

namespace onggi::group {

bool Group::Suspect(const Member& member) const {
  const auto it = progress_.find(member);
  if (it == progress_.end()) return true;
  const Progress& progress = it->second;
  if (progress.lost || progress.checkpoint || progress.rebuild) return true;
  return progress.waiting && now_ - progress.waiting_since >= kAckTimeout;
}

/// R3: matched through the commit index and through this reign's first entry.
bool Group::CaughtUp(const Member& member) const {
  const auto it = progress_.find(member);
  if (it == progress_.end() || epoch_start_ == LogIndex()) return false;
  if (Mutated(Mutation::kAddBeforeMatch)) return it->second.match > LogIndex();
  if (Mutated(Mutation::kAddAtCommit)) return it->second.boot != 0 && it->second.match >= commit_;
  return it->second.match >= std::max(commit_, epoch_start_);
}

/// Who is to be in sync: without those that do not answer, with learners that have caught up, never
/// fewer than the minimum.
Configuration Group::DesiredMembers() const {
  Configuration wanted = *config_;
  const auto usable = [&](const Member& learner) {
    if (!Ready(learner)) return false;
    // Whoever was replaced does not come back while the other is there.
    return !(replace_ && replace_->out == learner &&
             (wanted.InSync(replace_->in) || Ready(replace_->in)));
  };
  const auto ready = [&]() -> std::optional<Member> {
    for (const Member& learner : wanted.learners)
      if (usable(learner)) return learner;
    return std::nullopt;
  };
  const auto admit = [&](const Member& learner) {
    std::erase(wanted.learners, learner);
    wanted.in_sync.push_back(learner);
  };
  const auto remove = [&](const Member& member) {
    std::erase(wanted.in_sync, member);
    wanted.learners.push_back(member);
  };
  if (wanted_replication_ != 0 && wanted_replication_ < wanted.replication) {
    wanted.replication = wanted_replication_;
    wanted.min_in_sync = MinInSync(wanted_replication_);
  }
  for (const Member& member : config_->in_sync) {
    if (member == self_ || !Suspect(member)) continue;
    if (wanted.in_sync.size() <= wanted.min_in_sync && !Mutated(Mutation::kShrinkBelowMinimum)) {
      std::optional<Member> learner = ready();
      // Sooner the replaced one than none.
      if (!learner && replace_ && wanted.Learner(replace_->out) && Ready(replace_->out))
        learner = replace_->out;
      if (!learner) continue;
      admit(*learner);
    }
    remove(member);
  }
  if (wanted_replication_ > wanted.replication) {
    // R13: only in a swap that meets the new minimum; and that can do without as many as before.
    const auto more = static_cast<uint32_t>(
        std::count_if(wanted.learners.begin(), wanted.learners.end(), usable));
    const uint32_t minimum = MinInSync(wanted_replication_);
    if (wanted.in_sync.size() + more >= minimum && wanted.min_in_sync + more >= minimum) {
      wanted.replication = wanted_replication_;
      wanted.min_in_sync = minimum;
    }
  }
  while (wanted.in_sync.size() < wanted.replication) {
    const std::optional<Member> learner = ready();
    if (!learner) break;
    admit(*learner);
  }
  if (replace_ && replace_->out != self_ && wanted.InSync(replace_->out)) {
    if (wanted.InSync(replace_->in)) {
      if (wanted.in_sync.size() > wanted.min_in_sync) remove(replace_->out);
    } else if (wanted.Learner(replace_->in) && usable(replace_->in)) {
      admit(replace_->in);
      remove(replace_->out);
    }
  }
  for (size_t i = wanted.in_sync.size(); i-- > 0 && wanted.in_sync.size() > wanted.replication;) {
    const Member member = wanted.in_sync[i];
    if (member != self_) remove(member);
  }
  return wanted;
}

bool Group::HeldBy(const Member& member, LogIndex index) const {
  if (member == self_) return holds_ == index;
  const auto it = progress_.find(member);
  return it != progress_.end() && it->second.holds == index;
}

/// Adds the split or merge that is asked for, when it may be. Members are as they are.
bool Group::DesiredShape(Proposal* wanted) const {
  const Configuration& now = *config_;
  if (split_) {
    Configuration child;
    bool all = true;
    for (const Member& member : now.in_sync) {
      const auto id = split_->child_replicas.find(member);
      const bool held = id != split_->child_replicas.end() &&
                        (HeldBy(member, split_->index) || Mutated(Mutation::kSplitBeforeHeld));
      all = all && held;
      if (!held) continue;
      child.in_sync.push_back({member.node, id->second});
      // Best here, where the requests go on to; but this replica may have come with a checkpoint.
      if (member == self_ || child.in_sync.size() == 1) child.primary = child.in_sync.back();
    }
    const bool late = shape_since_ && now_ - *shape_since_ >= kAckTimeout;
    if (child.in_sync.size() < now.min_in_sync || !(all || late)) return false;
    child.epoch = Epoch(1);
    child.range_start = split_->key;
    child.range_end = now.range_end;
    child.replication = now.replication;
    child.min_in_sync = now.min_in_sync;
    wanted->configuration.range_end = split_->key;
    wanted->child = ChildPartition{split_->child, std::move(child)};
    return true;
  }
  if (merge_) {
    for (const Member& member : now.in_sync) {
      if (!HeldBy(member, merge_->index) && !Mutated(Mutation::kMergeBeforeHeld)) return false;
    }
    // Whoever is added from now on begins with a checkpoint that has the neighbour's data, and
    // whoever is behind goes: the log alone would not bring it there.
    if (log_.base().index < merge_->index) return false;
    wanted->configuration.learners.clear();
    wanted->configuration.range_end = merge_->range_end;
    wanted->right = RightPartition{merge_->right, merge_->right_revision};
    return true;
  }
  return false;
}

Group::Proposal Group::Desired() const {
  Proposal wanted;
  wanted.configuration = DesiredMembers();
  wanted.configuration.boot = boot_;
  wanted.configuration.lease_released = false;
  if (wanted.configuration.in_sync == config_->in_sync && serving_) DesiredShape(&wanted);
  return wanted;
}

void Group::MaybeReconfigure(Actions* actions) {
  if (role_ != Role::kPrimary || suspended_ || swap_in_flight_ || !outstanding_.empty()) return;
  if (epoch_start_ == LogIndex() || active_epoch_ != config_->epoch) return;
  const bool shape = split_.has_value() || merge_.has_value() || thawing_;
  const bool plain = wanted_replication_ == 0 || wanted_replication_ == config_->replication;
  if (config_->in_sync.size() == 1 && config_->learners.empty() && !shape && plain) return;
  Proposal wanted = Desired();
  if (wanted.configuration.in_sync != config_->in_sync || wanted.child || wanted.right ||
      wanted.configuration.replication != config_->replication || thawing_) {
    Ask(std::move(wanted), actions);
    return;
  }
  if (transfer_) MaybeTransfer(actions);
}

/// R11: something waits for a swap whose outcome does not come.
bool Group::Stuck() const {
  if (role_ != Role::kPrimary) return false;
  if (suspended_) return true;
  if (outstanding_.empty()) return false;
  const std::vector<Member> members = EffectiveSet();
  return std::any_of(members.begin(), members.end(),
                     [&](const Member& member) { return member != self_ && Suspect(member); });
}

// Transfer (R8). ----------------------------------------------------------------------------------

void Group::On(const Transfer& event, Actions* actions) {
  if (!serving() || event.target == self_ || !config_->InSync(event.target)) return;
  transfer_ = event.target;
  publish_ = true;
  MaybeTransfer(actions);
}

void Group::On(const CancelTransfer&, Actions*) {
  if (!transfer_) return;
  transfer_.reset();
  publish_ = true;
}

void Group::MaybeTransfer(Actions* actions) {
  if (!transfer_ || role_ != Role::kPrimary || suspended_ || swap_in_flight_) return;
  if (!outstanding_.empty() || active_epoch_ != config_->epoch || !serving_) return;
  const Member target = *transfer_;
  if (!config_->InSync(target) || Suspect(target)) {
    transfer_.reset();
    publish_ = true;
    return;
  }
  const Progress& progress = progress_.at(target);
  if (commit_ != log_.last() || progress.match != log_.last() || progress.boot == 0) return;
  Proposal proposal;
  proposal.configuration = *config_;
  proposal.configuration.primary = target;
  // The very process that has everything: it leads without a swap of its own.
  proposal.configuration.boot = progress.boot;
  proposal.configuration.lease_released = true;
  // Before the swap is asked for; whatever its outcome, this epoch is over for this process.
  GiveUp(config_->epoch, actions);
  Ask(std::move(proposal), actions);
}

// What a coordinator or the driver asks for. ------------------------------------------------------

void Group::On(const Replace& event, Actions* actions) {
  if (role_ != Role::kPrimary || event.out == self_ || !config_->InSync(event.out)) return;
  if (!config_->Names(event.in)) return;
  replace_ = event;
  replace_until_ = now_ + kReplaceFor;
  MaybeReconfigure(actions);
}

void Group::ForgetReplace() {
  replace_.reset();
  replace_until_.reset();
}

void Group::On(const SetReplication& event, Actions* actions) {
  CHECK(event.replication == 1 || event.replication == 3 || event.replication == 5);
  if (role_ != Role::kPrimary) return;
  wanted_replication_ = event.replication;
  MaybeReconfigure(actions);
}

/// Entries whose application the others are to report.
LogIndex Group::ReportIndex() const {
  if (split_) return split_->index;
  if (merge_) return merge_->index;
  if (freeze_ != LogIndex() && granted_ != revision_) return freeze_;
  return {};
}

void Group::On(const FinishSplit& event, Actions* actions) {
  if (role_ != Role::kPrimary || merge_) return;
  const Configuration& now = *config_;
  if (event.key <= now.range_start || (!now.range_end.empty() && event.key >= now.range_end))
    return;
  if (!split_) shape_since_ = now_;
  split_ = event;
  SendToAll(actions);
  MaybeReconfigure(actions);
}

void Group::On(const FinishMerge& event, Actions* actions) {
  if (role_ != Role::kPrimary || split_ || config_->range_end.empty()) return;
  if (!event.range_end.empty() && event.range_end <= config_->range_end) return;
  if (!merge_) shape_since_ = now_;
  merge_ = event;
  SendToAll(actions);
  MaybeReconfigure(actions);
}

/// A split that is applied has to be cut, whoever gave a merge up.
void Group::On(const CancelMerge&, Actions*) {
  merge_.reset();
  if (!split_) shape_since_.reset();
}

void Group::On(const Freeze& event, Actions* actions) {
  if (role_ != Role::kPrimary || thawing_) return;
  freeze_ = event.index;
  granted_ = Revision();
  SendToAll(actions);
  MaybeGrant(actions);
}

/// R14: nothing is admitted after the Freeze, every in-sync replica has all before it, and whoever
/// takes that back has to win an epoch first: the revision vouches for it.
void Group::MaybeGrant(Actions* actions) {
  if (freeze_ == LogIndex() || role_ != Role::kPrimary || !serving_ || suspended_ || thawing_)
    return;
  if (swap_in_flight_ || !outstanding_.empty() || active_epoch_ != config_->epoch) return;
  if (granted_ == revision_ || applied_ < freeze_) return;
  for (const Member& member : config_->in_sync) {
    if (member == self_) continue;
    const auto it = progress_.find(member);
    if (it == progress_.end() || it->second.applied < freeze_) return;
  }
  granted_ = revision_;
  actions->push_back(Frozen{freeze_, revision_});
}

void Group::On(const Thaw&, Actions* actions) {
  if (role_ != Role::kPrimary || !serving_) return;
  // A grant of an earlier reign, or on an earlier revision, is void.
  if (freeze_ == LogIndex() || granted_ != revision_ || Mutated(Mutation::kThawWithoutEpoch)) {
    freeze_ = LogIndex();
    actions->push_back(Thawed{});
    return;
  }
  thawing_ = true;
  MaybeReconfigure(actions);
}

}  // namespace onggi::group
