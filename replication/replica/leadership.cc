#include <algorithm>
#include <utility>

#include "replication/replica/replica.h"

// Replica: leases, promises and promotion (R5 to R7, R11), and checkpoints that arrive.

namespace onggi::replica {

namespace {

/// After a promotion that led nowhere (a swap refused, an old primary that came back).
constexpr auto kPromotionRetry = std::chrono::milliseconds(500);

std::chrono::milliseconds Until(BootTime then, BootTime now) {
  // Rounded up: a timer that fires early would find nothing run out.
  return std::chrono::ceil<std::chrono::milliseconds>(std::max(then - now, BootTime(0)));
}

}  // namespace

void Replica::Do(const group::LearnedPrimary& action) {
  lease_->OnLearnedPrimary(action, home_.Now());
  LookForPrimary();
}

/// Of a primary that has not been connected to since it is known, no loss would be told.
void Replica::LookForPrimary() {
  const NodeId node = group_.configuration().primary.node;
  primary_lost_ = options_.transport != nullptr && node != options_.self.node &&
                  !options_.transport->Connected(node);
  ConsiderPromotion();
}

void Replica::Do(const group::PrimaryResigned& action) {
  lease_->OnResigned(action);
  if (group_.configuration().primary == action.primary) {
    primary_lost_ = true;
    ConsiderPromotion();
  }
  CheckPromises();
}

void Replica::Do(const group::HoldLease& action) { lease_->Hold(action); }
void Replica::Do(const group::ReleaseLease&) { lease_->Release(); }

void Replica::Do(const group::WaitPromises& action) {
  waiting_promises_ = action.epoch;
  CheckPromises();
}

/// Answers WaitPromises when the time has come.
void Replica::CheckPromises() {
  if (waiting_promises_ == Epoch() || stopped_) return;
  const BootTime now = home_.Now();
  const BootTime until = lease_->promises_until();
  if (until <= now) {
    Step(group::PromisesRunOut{std::exchange(waiting_promises_, Epoch())});
    return;
  }
  if (promises_armed_) return;
  promises_armed_ = true;
  home_.PostAfter(Until(until, now), [self = shared_from_this()] {
    self->promises_armed_ = false;
    self->CheckPromises();
  });
}

void Replica::OnPeerLost(NodeId node) {
  if (stopped_) return;
  const group::Configuration configuration = group_.configuration();
  for (const auto* members : {&configuration.in_sync, &configuration.learners}) {
    for (const group::Member& member : *members) {
      if (member.node == node) Step(group::PeerLost{member});
    }
  }
  if (stopped_ || group_.configuration().primary.node != node) return;
  primary_lost_ = true;
  ConsiderPromotion();
}

void Replica::OnPeerConnected(NodeId node) {
  if (stopped_) return;
  if (group_.configuration().primary.node == node) primary_lost_ = false;
  const group::Configuration configuration = group_.configuration();
  for (const auto* members : {&configuration.in_sync, &configuration.learners}) {
    for (const group::Member& member : *members) {
      if (member.node != node) continue;
      if (const auto peer = peers_.find(member); peer != peers_.end()) {
        peer->second.stream.reset();
        peer->second.checkpoint_failures = 0;
      }
      Step(group::PeerConnected{member});
    }
  }
}

/// Takes over once the promise to the lost primary's node has run out and this candidate's turn has
/// come (R6); as often as it takes while the primary is lost.
void Replica::ConsiderPromotion() {
  if (!primary_lost_ || promotion_armed_ || stopped_) return;
  if (group_.role() != group::Group::Role::kBackup) return;
  const auto time = lease_->PromotionTime(group_.configuration(), options_.self);
  if (!time.has_value()) return;
  const BootTime now = home_.Now();
  std::chrono::milliseconds delay = Until(*time, now);
  if (delay.count() == 0) {
    Step(group::Promote{});
    if (stopped_) return;
    delay = kPromotionRetry;
  }
  promotion_armed_ = true;
  home_.PostAfter(delay, [self = shared_from_this()] {
    self->promotion_armed_ = false;
    self->ConsiderPromotion();
  });
}

// Checkpoints that arrive. ------------------------------------------------------------------------

void Replica::InstallCheckpoint(Epoch epoch, LogPosition position, std::string directory,
                                std::function<void(Status)> done) {
  Status refusal;
  if (stopped_ || installing_ || alone_) {
    refusal = Unavailable("the replica is busy or closing");
  } else if (epoch < group_.configuration().epoch) {
    refusal = {Code::kConditionFailed, "the checkpoint is of an earlier reign"};
  } else if (group_.role() == group::Group::Role::kPrimary ||
             group_.role() == group::Group::Role::kCandidate) {
    refusal = {Code::kConditionFailed, "this replica leads"};
  } else if (position.index <= group_.commit_index() || group_.Has(position)) {
    // It has acknowledged what lies behind, perhaps as a member by now: that must stay.
    refusal = {Code::kAlreadyExists, "this replica has more than the checkpoint"};
  }
  if (!refusal.ok()) {
    // Older than what is here is as good as installed.
    done(refusal.code() == Code::kAlreadyExists ? Status::Ok() : refusal);
    return;
  }
  installing_ = true;
  auto answer = std::make_shared<std::function<void(Status)>>(std::move(done));
  auto status = std::make_shared<Status>();
  const bool submitted =
      Block([this, position, directory, status] { *status = ReplaceState(position, directory); },
            [this, position, status, answer] {
              OnCheckpointInstalled(position, *status);
              (*answer)(*status);
            });
  if (!submitted) {
    installing_ = false;
    (*answer)(Unavailable("the disk has too much work queued"));
  }
}

/// On a thread that may block. The old log goes first: a crash in between leaves a learner that is
/// behind, never a log that does not fit its state.
Status Replica::ReplaceState(LogPosition position, const std::string& directory) {
  RETURN_IF_ERROR(log_.RemoveGroup(id_));
  RETURN_IF_ERROR(log_.Flush());
  ASSIGN_OR_RETURN(const LogPosition installed, machine_->InstallCheckpoint(directory));
  if (installed == position) return Status::Ok();
  return Corruption("the checkpoint's state is not at the position it was sent for");
}

void Replica::OnCheckpointInstalled(LogPosition position, const Status& status) {
  if (stopped_) return;
  installing_ = false;
  if (!status.ok()) {
    // The log may be gone already, and what the group takes for durable with it.
    Fatal(status);
    return;
  }
  log_operations_.clear();
  log_operation_bytes_ = 0;
  log_.Truncate(id_, position.index);
  window_.Reset(LogIndex(position.index.value + 1));
  applied_ = flushed_ = position;
  log_base_ = position.index;
  commit_ = std::max(commit_, position.index);
  // First: what the group knows to be committed is applied in the step that follows.
  const std::optional<LogIndex> holds = machine_->OnInstalled();
  Step(group::CheckpointInstalled{position});
  if (!stopped_ && holds.has_value()) Step(group::Holds{*holds});
}

}  // namespace onggi::replica
