#include <utility>

#include "tests/simulation/cluster.h"
#include "tests/simulation/process_parts.h"

// Process: what goes to other nodes.

namespace onggi::simulation {

namespace {

/// Answers once: at the latest when nobody is left who could.
class Answer {
 public:
  explicit Answer(std::function<void(Status)> done) : done_(std::move(done)) {}
  ~Answer() { Give(Unavailable("the receiver has gone")); }
  void Give(const Status& status) {
    if (done_) std::exchange(done_, nullptr)(status);
  }

 private:
  std::function<void(Status)> done_;
};

}  // namespace

bool Process::Link::Send(NodeId to, transport::GroupMessage message, uint64_t boot) {
  const uint64_t connected = process_->BootOf(to);
  if (connected == 0 || (boot != 0 && boot != connected)) return false;
  process_->Send(to, std::move(message));
  return true;
}

void Process::Sender::Send(const group::Member& to, TableId, PartitionId partition, Epoch epoch,
                           std::string directory, LogPosition position,
                           std::function<void(Status)> done) {
  Cluster& cluster = *process_->cluster_;
  CheckpointDelivery delivery{to, partition, epoch, position, {}, {}, {}};
  if (process_->shipped_ != nullptr) {
    delivery.files = process_->shipped_->disks().Take(directory);
  } else {
    delivery.state = process_->checkpoints_[directory];
  }
  const NodeId from = process_->id();
  auto answer = std::make_shared<Answer>(
      [weak = process_->weak_from_this(), done = std::move(done)](const Status& status) {
        if (const auto process = weak.lock()) process->Post([done, status] { done(status); });
      });
  const Time delay = cluster.random().Between(milliseconds(20), milliseconds(400));
  cluster.scheduler().After(delay, [&cluster, from, delivery, answer]() mutable {
    Process* target = cluster.ProcessOf(delivery.to.node);
    if (target == nullptr || !cluster.Reaches(from, delivery.to.node)) {
      answer->Give(Unavailable("not reached"));
      return;
    }
    // Its answer may be lost on the way back.
    delivery.done = [&cluster, from, to = delivery.to.node, answer](const Status& status) {
      answer->Give(cluster.Reaches(to, from) ? status : Unavailable("no answer"));
    };
    target->InstallCheckpoint(delivery);
  });
}

}  // namespace onggi::simulation
