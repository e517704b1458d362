#include <algorithm>
#include <utility>

#include "common/check.h"
#include "replication/group/group.h"
#include "replication/group/mutation.h"

// Configurations and swaps: how a reign begins, goes on and ends. "R" and a number refer to the
// rules in replication.md.

namespace onggi::group {

/// Whether a configuration seen is one of this primary's reign: its own proposal, or the present
/// one with other learners. Any other is a new reign (R1), even of the same primary: another may
/// have led between the two.
bool Group::Continues(const Configuration& configuration) const {
  if (role_ != Role::kPrimary || configuration.primary != self_) return false;
  if (configuration.boot != boot_ || configuration.epoch <= dead_epoch_) return false;
  if (configuration.epoch == config_->epoch) return true;
  return std::any_of(outstanding_.begin(), outstanding_.end(), [&](const Proposal& asked) {
    return asked.configuration.epoch == configuration.epoch &&
           asked.configuration.in_sync == configuration.in_sync &&
           asked.configuration.lease_released == configuration.lease_released;
  });
}

/// Whether a configuration seen makes this very process the primary: it asked, or was given a
/// transfer.
bool Group::Begins(const Configuration& configuration) const {
  return configuration.primary == self_ && configuration.boot == boot_ &&
         configuration.epoch > dead_epoch_ && configuration.epoch > config_->epoch;
}

/// The key has been seen at a higher mod_revision: only that settles every proposal made on the
/// previous one (R3).
void Group::Learn(std::shared_ptr<const Configuration> configuration, Revision revision,
                  Actions* actions) {
  if (revision <= revision_) return;
  CHECK(configuration->epoch >= config_->epoch);
  const bool continues = Continues(*configuration);
  const bool begins = !continues && Begins(*configuration);
  const bool asked =
      std::any_of(outstanding_.begin(), outstanding_.end(), [&](const Proposal& proposal) {
        return proposal.configuration.epoch == configuration->epoch &&
               proposal.configuration.boot == configuration->boot &&
               proposal.configuration.primary == configuration->primary;
      });
  const bool was_candidate = role_ == Role::kCandidate;
  const std::shared_ptr<const Configuration> previous = config_;
  outstanding_.clear();
  suspended_ = false;
  reading_ = false;
  ask_again_at_.reset();
  stuck_since_.reset();
  config_ = std::move(configuration);
  revision_ = revision;
  publish_ = true;
  if (config_->epoch > dead_epoch_) resign_again_at_.reset();
  if (config_->epoch > Epoch(0)) create_until_.reset();
  actions->push_back(PersistConfiguration{config_, revision_});
  if (config_->primary != previous->primary) {
    LearnedPrimary learned;
    learned.previous = previous->primary;
    learned.previous_epoch = previous->epoch;
    learned.configuration = config_;
    learned.revision = revision_;
    // A swap compares the revision, so what follows one's own proposal follows directly.
    learned.skipped = !asked && config_->epoch.value > previous->epoch.value + 1;
    actions->push_back(std::move(learned));
  }
  if (continues) {  // ConfigurationDurable goes on from here
    if (replace_ && !(config_->Names(replace_->out) && config_->Names(replace_->in)))
      ForgetReplace();
    if (split_ && config_->range_end == split_->key) split_.reset();
    if (merge_ && config_->range_end == merge_->range_end) merge_.reset();
    if (!split_ && !merge_) shape_since_.reset();
    if (thawing_) {
      thawing_ = false;
      freeze_ = LogIndex();
      actions->push_back(Thawed{});
    }
    return;
  }
  EndReign(actions);
  if (config_->epoch != previous->epoch) {
    verified_ = LogIndex();
    primary_commit_ = LogIndex();
    acked_ = LogIndex();
    ack_due_ = false;
    report_applied_ = LogIndex();
  }
  if (begins) return BeginReign(actions);
  const bool again = was_candidate && config_->epoch == previous->epoch;
  Follow(actions);
  if (previous->Names(self_) && !config_->Names(self_)) actions->push_back(Removed{});
  if (again && role_ == Role::kBackup && config_->InSync(self_) && !rebuild_) AskForReign(actions);
  if (asked && config_->lease_released && config_->primary != self_) {
    // A transfer: whoever is to lead learns of it at once.
    SendRefusal(config_->primary, actions);
  }
}

/// Takes the place that the configuration gives this replica.
void Group::Follow(Actions* actions) {
  role_ = config_->Names(self_) ? Role::kBackup : Role::kIdle;
  if (config_->primary != self_ || !config_->InSync(self_) || rebuild_) return;
  if (Mutated(Mutation::kResumeReign) && config_->epoch > Epoch(0)) return BeginReign(actions);
  // Named primary, but not in this process: it leads nothing that an earlier one led (R7).
  AskForReign(actions);
}

void Group::On(const ConfigurationSeen& event, Actions* actions) {
  if (event.revision > revision_) {
    Learn(std::make_shared<const Configuration>(event.configuration), event.revision, actions);
    return;
  }
  if (Mutated(Mutation::kSettleByReading) && !swap_in_flight_ && role_ == Role::kPrimary) {
    outstanding_.clear();
    suspended_ = reading_ = false;
    publish_ = true;
    ask_again_at_.reset();
    AdvanceCommit(actions);
    MaybeReconfigure(actions);
    return;
  }
  // An unchanged key settles nothing (R3). After a refusal it must have changed: ask again.
  if (reading_) ask_again_at_ = now_ + kRetryInterval;
}

void Group::On(const KeyDeleted& event, Actions* actions) {
  if (event.revision <= revision_) return;
  EndReign(actions);
  role_ = Role::kIdle;
  gone_ = true;
  outstanding_.clear();
  ask_again_at_.reset();
  resign_again_at_.reset();
  create_until_.reset();
  actions->push_back(Removed{});
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
      Learn(std::make_shared<const Configuration>(outstanding_.back().configuration),
            event.revision, actions);
      break;
    case SwapResult::Outcome::kRefused:
      // The key is not what this replica takes it for: no commit and no answer until it is read.
      suspended_ = true;
      publish_ = true;
      AskToRead(actions);
      break;
    case SwapResult::Outcome::kOtherRefused: {
      CHECK(outstanding_.back().right.has_value());
      const PartitionId right = outstanding_.back().right->partition;
      outstanding_.pop_back();  // those before it may still be in force
      publish_ = true;
      if (merge_ && merge_->right == right) merge_.reset();
      if (!merge_ && !split_) shape_since_.reset();
      actions->push_back(MergeRefused{right});
      if (outstanding_.empty()) {
        AdvanceCommit(actions);
        MaybeReconfigure(actions);
      } else {
        ask_again_at_ = now_ + kRetryInterval;
      }
      break;
    }
    case SwapResult::Outcome::kUnknown:
      ask_again_at_ = now_ + kRetryInterval;
      if (Mutated(Mutation::kSettleByReading)) AskToRead(actions);
      break;
  }
}

void Group::AskToRead(Actions* actions) {
  reading_ = true;
  ask_again_at_ = now_ + kRetryInterval;
  actions->push_back(ReadConfiguration{});
}

/// Asks for the proposal in an epoch that nobody has asked for on this revision.
void Group::Ask(Proposal proposal, Actions* actions) {
  CHECK(!swap_in_flight_);
  proposal.configuration.epoch =
      Epoch(std::max({config_->epoch, highest_asked_, log_.LastPosition().epoch}).value + 1);
  highest_asked_ = proposal.configuration.epoch;
  outstanding_.push_back(proposal);
  swap_in_flight_ = true;
  swap_revision_ = revision_;
  ask_again_at_.reset();
  // Whoever may come in has to give its lease from now on (R3).
  Publish(actions);
  actions->push_back(ProposeSwap{std::move(proposal.configuration), revision_,
                                 std::move(proposal.child), std::move(proposal.right)});
}

/// Asks for a new epoch with this replica as the primary (R6, R7).
void Group::AskForReign(Actions* actions) {
  role_ = Role::kCandidate;
  if (swap_in_flight_) {  // of an earlier configuration: its answer comes first
    ask_again_at_ = now_ + kRetryInterval;
    return;
  }
  Proposal proposal;
  Configuration& wanted = proposal.configuration;
  wanted = *config_;
  wanted.primary = self_;
  wanted.boot = boot_;
  const Member old = config_->primary;
  if (config_->epoch == Epoch(0)) {
    if (!Create(actions)) return;
    std::erase_if(wanted.in_sync, [&](const Member& member) {
      return member != self_ && created_.count(member) == 0;
    });
  } else if (old != self_ && wanted.in_sync.size() > wanted.min_in_sync) {
    // R4: never fewer than min_in_sync, even if the old primary stays until a learner is ready.
    std::erase(wanted.in_sync, old);
    wanted.learners.push_back(old);
  }
  // Nobody has a lease where nobody ever led, or where only this replica ever had one.
  wanted.lease_released = config_->boot == 0 || (config_->lease_released && old == self_ &&
                                                 config_->in_sync == std::vector<Member>{self_});
  Ask(std::move(proposal), actions);
}

/// Epoch 0: the replicas that are named may still have to be made. True once enough are there: all,
/// or the minimum when the others let themselves be waited for.
bool Group::Create(Actions* actions) {
  if (!create_until_) create_until_ = now_ + kAckTimeout;
  size_t there = 1;
  for (const Member& member : config_->in_sync) {
    if (member == self_) continue;
    if (created_.count(member) != 0) {
      ++there;
      continue;
    }
    actions->push_back(SendCreate{CreateMessage{self_, member, config_, revision_}});
  }
  if (there == config_->in_sync.size()) return true;
  if (now_ >= *create_until_ && there >= config_->min_in_sync) return true;
  ask_again_at_ = now_ + kRetryInterval;
  return false;
}

void Group::On(const ReplicaCreated& event, Actions* actions) {
  if (config_ == nullptr || config_->epoch != Epoch(0) || !config_->InSync(event.member)) return;
  if (!created_.insert(event.member).second) return;
  if (role_ != Role::kCandidate || swap_in_flight_ || !outstanding_.empty()) return;
  if (created_.size() + 1 >= config_->in_sync.size()) AskForReign(actions);
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
  if (role_ == Role::kPrimary) {
    if (!outstanding_.empty()) Ask(Desired(), actions);
    return;
  }
  // A candidate; or after a transfer or a resignation, when the key may name this replica for good.
  if (role_ == Role::kCandidate || (config_->primary == self_ && config_->InSync(self_)))
    AskForReign(actions);
}

void Group::On(const Promote&, Actions* actions) {
  if (role_ != Role::kBackup || !config_->InSync(self_) || rebuild_) return;
  if (config_->primary == self_ || swap_in_flight_) return;  // it has asked, or is about to
  AskForReign(actions);
}

void Group::On(const ConfigurationDurable& event, Actions* actions) {
  if (event.epoch != config_->epoch) return;
  durable_config_epoch_ = event.epoch;
  if (role_ == Role::kPrimary) {
    ActivateEpoch(actions);
  } else {
    Acknowledge(actions);
    if (std::exchange(ask_commit_, false)) AskForCommit(actions);
  }
}

// A reign. ----------------------------------------------------------------------------------------

void Group::BeginReign(Actions* actions) {
  role_ = Role::kPrimary;
  reign_ = config_->epoch;
  // Promises to whoever led before, as this node knows them.
  promises_out_ = config_->lease_released || Mutated(Mutation::kForgetPromises);
  if (!promises_out_) actions->push_back(WaitPromises{reign_});
}

void Group::EndReign(Actions* actions) {
  if (role_ != Role::kPrimary) return;
  role_ = Role::kIdle;
  serving_ = false;
  told_serving_ = false;
  epoch_start_ = LogIndex();
  active_epoch_ = Epoch();
  active_config_.reset();
  progress_.clear();
  transfer_.reset();
  wanted_replication_ = 0;
  ForgetReplace();
  split_.reset();
  merge_.reset();
  shape_since_.reset();
  stuck_since_.reset();
  freeze_ = LogIndex();
  granted_ = Revision();
  thawing_ = false;
  publish_ = true;
  actions->push_back(ReignEnded{});
}

void Group::On(const PromisesRunOut& event, Actions* actions) {
  if (role_ != Role::kPrimary || event.epoch != reign_ || promises_out_) return;
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
  MaybeServe(actions);
  MaybeReconfigure(actions);
  MaybeGrant(actions);
}

void Group::MaybeServe(Actions* actions) {
  if (role_ != Role::kPrimary || serving_ || !promises_out_) return;
  if (epoch_start_ == LogIndex()) return;
  if (applied_ < epoch_start_ && !Mutated(Mutation::kSkipEpochStart)) return;
  serving_ = true;
  told_serving_ = true;
  publish_ = true;
  actions->push_back(ReignBegan{active_epoch_});
  MaybeReconfigure(actions);
}

/// Tells the driver whether proposals are admitted, and whose leases a strong read needs.
void Group::Publish(Actions* actions) {
  publish_ = false;
  const bool reigns = role_ == Role::kPrimary && serving_;
  if (reigns && told_serving_ != serving()) {
    told_serving_ = serving();
    actions->push_back(AdmissionChanged{told_serving_});
  }
  if (!reigns || suspended_) {
    const bool given_up =
        config_ != nullptr && config_->primary == self_ && config_->epoch <= dead_epoch_;
    if (given_up && Mutated(Mutation::kServeAfterGivingUp)) return;
    if (held_) actions->push_back(ReleaseLease{});
    held_.reset();
    return;
  }
  HoldLease hold;
  hold.epoch = config_->epoch;
  for (const Member& member : EffectiveSet()) {
    if (member == self_) continue;
    const auto it = progress_.find(member);
    hold.members.push_back({member.node, it == progress_.end() ? 0 : it->second.boot});
  }
  if (held_ && held_->epoch == hold.epoch && held_->members == hold.members) return;
  held_ = hold;
  actions->push_back(std::move(hold));
}

// Giving it up. -----------------------------------------------------------------------------------

/// From here on this process leads nothing in `epoch` or below, whatever the key says.
void Group::GiveUp(Epoch epoch, Actions* actions) {
  dead_epoch_ = std::max(dead_epoch_, epoch);
  EndReign(actions);
  role_ = Role::kBackup;
  ask_again_at_.reset();
  Publish(actions);
}

void Group::On(const Resign&, Actions* actions) {
  if (role_ != Role::kPrimary) return;
  GiveUp(std::max(config_->epoch, highest_asked_), actions);
  suspended_ = false;
  reading_ = false;
  resigned_at_ = now_;
  SendResigns(actions);
}

/// The promise of the others holds as long as this node lives, so they have to hear of it.
void Group::SendResigns(Actions* actions) {
  resign_again_at_ = now_ + kRetryInterval;
  for (const std::vector<Member>* members : {&config_->in_sync, &config_->learners}) {
    for (const Member& member : *members)
      if (member != self_) actions->push_back(SendResign{member, {self_, dead_epoch_}});
  }
  // Nobody takes it: then this replica does, in a higher epoch.
  if (now_ - resigned_at_ >= kResignAfter && role_ == Role::kBackup && config_->InSync(self_) &&
      config_->primary == self_ && !swap_in_flight_ && !rebuild_) {
    AskForReign(actions);
  }
}

void Group::On(const ResignReceived& event, Actions* actions) {
  if (config_ == nullptr || event.message.from == self_) return;
  actions->push_back(PrimaryResigned{event.message.from, event.message.epoch});
}

}  // namespace onggi::group
