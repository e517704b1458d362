#include "tests/simulation/model_machine.h"

#include <algorithm>
#include <utility>

#include "tests/simulation/cluster.h"
#include "tests/simulation/process.h"

namespace onggi::simulation {

ModelMachine::ModelMachine(Process* process, PartitionId partition, ReplicaId replica,
                           const State& state)
    : Machine(replica), process_(process), partition_(partition), state_(state) {
  if (state_.applied.index == LogIndex()) state_.end = process_->FirstEnd(partition_);
  process_->truth().Begins(partition_, state_.applied, state_.Hash());
}

/// On the replica's home, not from within its calls.
void ModelMachine::Later(std::function<void()> run) {
  process_->PostTo(partition_, replica_id(), std::move(run));
}

void ModelMachine::Started() { Holds(); }

/// What this disk has of the latest split or merge.
void ModelMachine::Holds() {
  if (state_.split) {
    const Operation& split = process_->truth().operation(state_.split->operation);
    const auto child = process_->disk().images.find(split.child);
    const auto named = split.child_replicas.find({process_->id(), replica_id()});
    if (child != process_->disk().images.end() && named != split.child_replicas.end() &&
        named->second == child->second.replica)
      replica_->Ask(group::Holds{state_.split->index});
  } else if (state_.absorbed) {
    replica_->Ask(group::Holds{state_.absorbed->index});
  }
}

std::string ModelMachine::Describe() const {
  std::string text = " frozen " + state_.frozen.ToString() + " end '" + state_.end + "'";
  if (busy_with_shape()) text += " busy";
  if (leads_) text += " leads";
  if (moving_) text += " moving " + *moving_;
  if (freezing_) text += " freezing";
  if (thawing_) text += " thawing";
  if (absorbing_) text += " absorbing";
  if (merging_) text += " merging";
  if (state_.split) {
    const Operation& split = process_->truth().operation(state_.split->operation);
    text += " split " + state_.split->index.ToString() + " child " + split.child.ToString() + ":";
    for (const auto& [parent, child] : split.child_replicas) {
      text +=
          " " + parent.node.ToString() + "/" + parent.replica.ToString() + "=" + child.ToString();
    }
    const auto image = process_->disk().images.find(split.child);
    if (image != process_->disk().images.end()) text += " here " + image->second.replica.ToString();
  }
  return text;
}

// Requests. ---------------------------------------------------------------------------------------

bool ModelMachine::Serves(const std::string& key) const {
  if (removed_ || configuration_ == nullptr || configuration_->epoch == Epoch()) return false;
  if (!InRange(key, configuration_->range_start, configuration_->range_end)) return false;
  // The range grows once key and log say so, and shrinks when the log does.
  return state_.end.empty() || key < state_.end;
}

void ModelMachine::Write(const Request& request, Done done) {
  const std::string& key = request.key;
  if (!leads_ || !replica_->leading() || !Serves(key) || freezing_ || state_.frozen != LogIndex() ||
      (moving_ && key >= *moving_)) {
    return done(Outcome::kRefused, 0, 0);
  }
  uint64_t version = 1;
  if (const auto latch = latches_.find(key); latch != latches_.end()) {
    version = latch->second.first + 1;
  } else if (const auto old = state_.data.find(key); old != state_.data.end()) {
    version = old->second.version + 1;
  }
  Operation operation;
  operation.key = key;
  operation.version = version;
  operation.value = request.value;
  // Known before the proposal: with one replica it may be committed within it.
  LogPosition position = replica_->next_position();
  if (!Propose(process_->truth().Add(std::move(operation)), &position))
    return done(Outcome::kRefused, 0, 0);
  latches_[key] = {version, position.index};
  pending_[position.index] = {key, version, request.value, std::move(done)};
}

bool ModelMachine::Propose(uint64_t operation, LogPosition* position) {
  process_->truth().Acts(partition_, replica_->next_position().epoch, process_->id(),
                         process_->boot());
  return replica_->Propose(kOperationEntry, std::to_string(operation), position).ok();
}

std::optional<Version> ModelMachine::StrongRead(const std::string& key) const {
  if (!Serves(key) || state_.frozen != LogIndex() || !replica_->ServesStrongReads())
    return std::nullopt;
  const auto found = state_.data.find(key);
  return found == state_.data.end() ? Version() : found->second;
}

void ModelMachine::Split(const std::string& key, PartitionId child,
                         std::map<NodeId, ReplicaId> replicas) {
  if (!leads_ || !replica_->leading() || configuration_ == nullptr) return;
  Operation operation;
  if (state_.split && !moving_) {  // too few had been there
    operation = process_->truth().operation(state_.split->operation);
    if (operation.child != child) return;
  } else {
    if (busy_with_shape() || key <= configuration_->range_start || !Serves(key)) return;
    operation.type = Operation::Type::kSplit;
    operation.key = key;
    operation.child = child;
    operation.end = configuration_->range_end;
  }
  for (const auto* members : {&configuration_->in_sync, &configuration_->learners}) {
    for (const group::Member& member : *members) {
      if (replicas.count(member.node) != 0)
        operation.child_replicas.try_emplace({member.node, member.replica}, replicas[member.node]);
    }
  }
  LogPosition position;
  moving_ = operation.key;
  if (!Propose(process_->truth().Add(std::move(operation)), &position)) moving_.reset();
}

std::optional<Machine::Cutting> ModelMachine::cutting() const {
  if (!state_.split) return std::nullopt;
  const Operation& split = process_->truth().operation(state_.split->operation);
  return Cutting{split.key, split.child, split.child_replicas};
}

void ModelMachine::Freeze() {
  if (!leads_ || !replica_->leading() || busy_with_shape()) return;
  Operation operation;
  operation.type = Operation::Type::kFreeze;
  LogPosition position;
  freezing_ = true;
  if (!Propose(process_->truth().Add(std::move(operation)), &position)) freezing_ = false;
  ThawLater();
}

/// A merge that does not come about must not keep the range away for good.
void ModelMachine::ThawLater() {
  process_->After(seconds(2), [this, self = replica_] {
    if (leads_ && (state_.frozen != LogIndex() || freezing_)) Thaw();
    if (leads_ && (state_.frozen != LogIndex() || freezing_)) ThawLater();
  });
}

void ModelMachine::Thaw() {
  if (!leads_ || state_.frozen == LogIndex()) return;
  replica_->Ask(group::Thaw{});
}

void ModelMachine::OnThawed() {
  grant_.reset();
  if (!leads_ || !replica_->leading() || thawing_ || state_.frozen == LogIndex()) return;
  Operation operation;
  operation.type = Operation::Type::kThaw;
  LogPosition position;
  thawing_ = Propose(process_->truth().Add(std::move(operation)), &position);
}

void ModelMachine::Absorb(PartitionId right, const group::Configuration& right_configuration,
                          LogIndex freeze, Revision grant) {
  if (!leads_ || !replica_->leading() || busy_with_shape() || configuration_ == nullptr) return;
  if (configuration_->range_end != right_configuration.range_start) return;
  Operation operation;
  operation.type = Operation::Type::kAbsorb;
  operation.right = right;
  operation.freeze = freeze;
  operation.start = right_configuration.range_start;
  operation.end = right_configuration.range_end;
  LogPosition position;
  absorbing_ = true;
  right_grant_ = grant;
  if (!Propose(process_->truth().Add(std::move(operation)), &position)) absorbing_ = false;
  process_->After(seconds(3), [this, self = replica_] {
    if (!leads_ || !absorbing_) return;
    absorbing_ = false;
    replica_->Ask(group::CancelMerge{});
  });
}

// What is committed. ------------------------------------------------------------------------------

Status ModelMachine::Apply(std::span<const replica::CommittedEntry> entries) {
  // What changes the shape is flushed as it is applied.
  const auto flushes = [&](const replica::CommittedEntry& entry) {
    if (entry.type != kOperationEntry) return false;
    const uint64_t id = std::stoull(std::string(entry.payload));
    return process_->truth().operation(id).type != Operation::Type::kWrite;
  };
  if (!process_->DiskTakes() && std::any_of(entries.begin(), entries.end(), flushes)) {
    return {Code::kOutOfSpace, "the disk takes nothing"};
  }
  for (const replica::CommittedEntry& entry : entries) RETURN_IF_ERROR(ApplyOne(entry));
  return Status::Ok();
}

Status ModelMachine::ApplyOne(const replica::CommittedEntry& entry) {
  if (entry.position.index.value != state_.applied.index.value + 1) {
    process_->truth().Fail("a gap in what is applied");
    return Internal("gap");
  }
  state_.applied = entry.position;
  if (entry.type == kOperationEntry) {
    const uint64_t id = std::stoull(std::string(entry.payload));
    RETURN_IF_ERROR(ApplyOperation(process_->truth().operation(id), id, entry.position.index));
  }
  process_->truth().Applies(partition_, entry.position, entry.payload, state_.Hash());
  const auto pending = pending_.find(entry.position.index);
  if (pending != pending_.end()) {
    const Pending done = std::move(pending->second);
    pending_.erase(pending);
    const auto latch = latches_.find(done.key);
    if (latch != latches_.end() && latch->second.second == entry.position.index)
      latches_.erase(latch);
    done.done(Outcome::kOk, done.version, done.value);
  }
  return Status::Ok();
}

Status ModelMachine::ApplyOperation(const Operation& operation, uint64_t id, LogIndex index) {
  if (operation.type != Operation::Type::kWrite) process_->Tempting(partition_);
  switch (operation.type) {
    case Operation::Type::kWrite:
      state_.data[operation.key] = {operation.version, operation.value};
      process_->truth().Wrote(operation.key, operation.version, operation.value);
      break;
    case Operation::Type::kSplit: {
      state_.split = State::Split{index, id};
      state_.end = operation.key;
      moving_.reset();
      // The child first, and both durable: a replay would find the child's log begun.
      MakeChild();
      FlushState();
      Later([this] {
        Holds();
        FinishShape();
      });
      break;
    }
    case Operation::Type::kFreeze:
      state_.frozen = index;
      freezing_ = false;
      if (leads_) Later([this, index] { replica_->Ask(group::Freeze{index}); });
      break;
    case Operation::Type::kThaw:
      state_.frozen = LogIndex();
      thawing_ = false;
      grant_.reset();
      break;
    case Operation::Type::kAbsorb:
      state_.absorbed.reset();
      // Otherwise the merge has come to nothing, or this replica is no part of it.
      if (!process_->FrozenAt(operation.right, operation.freeze)) break;
      state_.absorbed = State::Absorbed{index, id, {}};
      for (const auto& [key, version] : process_->StateOf(operation.right).data) {
        if (InRange(key, operation.start, operation.end)) state_.absorbed->data[key] = version;
      }
      FlushState();  // a replay would find the neighbour gone
      Later([this, index] {
        FlushState();
        replica_->OnFlushed(state_.applied, /*force=*/true);
        Holds();
        if (absorbing_) FinishAbsorb(index);
      });
      break;
    case Operation::Type::kMerged:
      if (!state_.absorbed) {
        process_->truth().Fail("node " + process_->id().ToString() + " partition " +
                               partition_.ToString() + ": lacks what a merge brought");
        return Internal("merge");
      }
      state_.data.erase(state_.data.lower_bound(operation.start), state_.data.end());
      state_.data.insert(state_.absorbed->data.begin(), state_.absorbed->data.end());
      state_.absorbed.reset();
      state_.end = operation.end;
      merging_ = false;
      FlushState();
      break;
  }
  return Status::Ok();
}

/// This node's replica of the child, if it is named and not there.
void ModelMachine::MakeChild() {
  const Operation& split = process_->truth().operation(state_.split->operation);
  State child;
  // Not an empty log's: an empty replica must not pass for one that has this.
  child.applied = {Epoch(1), LogIndex(1)};
  child.end = split.end;
  for (const auto& [key, version] : state_.data) {
    if (InRange(key, split.key, split.end)) child.data[key] = version;
  }
  process_->MakeChild(split, replica_id(), std::move(child));
}

/// On the primary: has the metadata key follow the log.
void ModelMachine::FinishShape() {
  if (!leads_ || !state_.split) return;
  const Operation& operation = process_->truth().operation(state_.split->operation);
  group::FinishSplit finish;
  finish.index = state_.split->index;
  finish.key = operation.key;
  finish.child = operation.child;
  finish.child_replicas = operation.child_replicas;
  replica_->Ask(finish);
}

void ModelMachine::FinishAbsorb(LogIndex index) {
  if (!leads_ || !state_.absorbed) return;
  const Operation& operation = process_->truth().operation(state_.absorbed->operation);
  group::FinishMerge finish;
  finish.index = index;
  finish.right = operation.right;
  finish.right_revision = right_grant_;
  finish.range_end = operation.end;
  replica_->Ask(finish);
}

/// On the primary: has the log follow the metadata key, which has grown.
void ModelMachine::FinishMerge() {
  if (!leads_ || merging_ || state_.split || configuration_->range_end == state_.end) return;
  if (!replica_->leading()) return;
  if (!state_.absorbed ||
      process_->truth().operation(state_.absorbed->operation).end != configuration_->range_end) {
    process_->truth().Fail("partition " + partition_.ToString() +
                           ": the primary lacks what a merge brought");
    return;
  }
  Operation operation = process_->truth().operation(state_.absorbed->operation);
  operation.type = Operation::Type::kMerged;
  LogPosition position;
  merging_ = Propose(process_->truth().Add(std::move(operation)), &position);
  if (!merging_) process_->After(milliseconds(50), [this, self = replica_] { FinishMerge(); });
}

// Reigns. -----------------------------------------------------------------------------------------

void ModelMachine::OnReignBegan(Epoch epoch) {
  process_->truth().Acts(partition_, epoch, process_->id(), process_->boot());
  process_->Tempting(partition_);
  leads_ = true;
  Later([this] {
    FinishShape();
    FinishMerge();
    if (state_.frozen != LogIndex()) Thaw();  // whoever froze it has lost its reign
  });
  if (state_.frozen != LogIndex()) ThawLater();
}

/// What was not asked for while there was doubt.
void ModelMachine::OnAdmissionChanged(bool serving) {
  if (serving && leads_ && state_.absorbed) Later([this] { FinishMerge(); });
}

void ModelMachine::OnReignEnded() {
  leads_ = false;
  moving_.reset();
  freezing_ = false;
  thawing_ = false;
  absorbing_ = false;
  merging_ = false;
  grant_.reset();
  latches_.clear();
  for (auto& [index, pending] : std::exchange(pending_, {})) pending.done(Outcome::kUnknown, 0, 0);
}

void ModelMachine::OnConfiguration(std::shared_ptr<const group::Configuration> configuration,
                                   Revision) {
  configuration_ = std::move(configuration);
  const std::string& end = configuration_->range_end;
  if (state_.split) {
    const std::string& key = process_->truth().operation(state_.split->operation).key;
    if (!end.empty() && end <= key) {
      state_.split.reset();
      state_.data.erase(state_.data.lower_bound(key), state_.data.end());
    }
  }
  if (state_.absorbed && end == process_->truth().operation(state_.absorbed->operation).end) {
    absorbing_ = false;
    Later([this] { FinishMerge(); });
  }
}

void ModelMachine::OnRemoved() {
  removed_ = true;
  process_->RemoveLater(partition_, replica_id());
}

void ModelMachine::OnFatal(const Status& status) {
  if (process_->MayFail(status)) return process_->ReopenLater(partition_, replica_id());
  process_->truth().Fail("node " + process_->id().ToString() + " partition " +
                         partition_.ToString() + ": " + status.ToString());
}

void ModelMachine::OnFrozen(LogIndex index, Revision revision) {
  if (index == state_.frozen) grant_ = Grant{index, revision};
}

void ModelMachine::OnMergeRefused(PartitionId) { absorbing_ = false; }

void ModelMachine::Flush(bool force) {
  FlushState();
  replica_->OnFlushed(state_.applied, force);
}

// Checkpoints. ------------------------------------------------------------------------------------

void ModelMachine::FlushState() {
  Image& image = process_->disk().images[partition_];
  image.replica = replica_id();
  image.state = state_;
  process_->Changed(partition_);
}

Result<LogPosition> ModelMachine::MakeCheckpoint(const std::string& directory) {
  if (!process_->DiskTakes()) return Status(Code::kOutOfSpace, "the disk takes nothing");
  process_->checkpoints()[directory] = state_;
  return state_.applied;
}

void ModelMachine::DropCheckpoint(const std::string& directory) {
  process_->checkpoints().erase(directory);
}

Result<LogPosition> ModelMachine::InstallCheckpoint(const std::string& directory) {
  if (!process_->DiskTakes()) return Status(Code::kOutOfSpace, "the disk takes nothing");
  const auto found = process_->checkpoints().find(directory);
  if (found == process_->checkpoints().end()) return NotFound(directory);
  state_ = found->second;
  process_->checkpoints().erase(found);
  process_->truth().Begins(partition_, state_.applied, state_.Hash());
  if (configuration_ != nullptr) OnConfiguration(configuration_, Revision());
  if (state_.split) MakeChild();
  FlushState();
  process_->Tempting(partition_);
  Later([this] { Holds(); });
  return state_.applied;
}

}  // namespace onggi::simulation
