#include <string>

#include "replication/group/group.h"

namespace onggi::group {

namespace {

std::string ToString(const Member& member) {
  return member.node.ToString() + "/" + member.replica.ToString();
}

}  // namespace

std::string Group::Describe() const {
  static constexpr const char* kRoles[] = {"idle", "backup", "candidate", "primary"};
  if (config_ == nullptr) return "not started";
  std::string text = kRoles[static_cast<size_t>(role_)];
  const auto say = [&](bool holds, const std::string& what) {
    if (holds) text += ", " + what;
  };
  text += " of epoch " + config_->epoch.ToString() + " at revision " + revision_.ToString();
  text += ": last " + log_.last().ToString() + ", durable " + durable_.ToString() + ", commit " +
          commit_.ToString() + ", applied " + applied_.ToString() + ", base " +
          log_.base().index.ToString();
  say(serving(), "serving");
  say(gone_, "gone");
  say(rebuild_, "to be rebuilt");
  say(suspended_, "suspended by a refused swap");
  say(role_ == Role::kPrimary && !promises_out_, "waiting for promises");
  say(durable_config_epoch_ != config_->epoch, "its configuration not durable");
  say(role_ == Role::kPrimary && active_epoch_ != config_->epoch,
      "active in epoch " + active_epoch_.ToString());
  say(!outstanding_.empty(), std::to_string(outstanding_.size()) + " swaps outstanding");
  say(swap_in_flight_, "a swap in flight");
  say(reading_, "reading the key");
  say(dead_epoch_ != Epoch(), "given up epoch " + dead_epoch_.ToString());
  say(transfer_.has_value(), "transferring");
  say(replace_.has_value(), "replacing");
  say(split_.has_value(), "splitting");
  say(merge_.has_value(), "merging");
  say(freeze_ != LogIndex(), "frozen");
  say(thawing_, "thawing");
  if (role_ != Role::kPrimary) {
    return text + ", verified " + verified_.ToString() + ", acknowledged " + acked_.ToString();
  }
  for (const auto& [member, progress] : progress_) {
    text += "; " + ToString(member) + " match " + progress.match.ToString() + ", next " +
            progress.next.ToString() + ", applied " + progress.applied.ToString() + ", boot " +
            std::to_string(progress.boot);
    say(progress.holds != LogIndex(), "holds " + progress.holds.ToString());
    say(progress.waiting, "waiting");
    say(progress.lost, "lost");
    say(progress.checkpoint, "awaiting a checkpoint");
    say(progress.rebuild, "to be rebuilt");
  }
  return text;
}

}  // namespace onggi::group
