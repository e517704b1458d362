#include "replication/replica/replica.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "replication/group/record.h"
#include "replication/metadata/keys.h"

namespace onggi::replica {

namespace {

constexpr auto kTickInterval = std::chrono::milliseconds(50);
/// What a log keeps beyond its own need for members that lag.
constexpr uint64_t kMaxKeptEntries = 200'000;
/// What the group's answer to a failed disk write waits for.
constexpr auto kPersistRetryInterval = std::chrono::milliseconds(100);

group::Time ToGroupTime(BootTime time) { return std::chrono::duration_cast<group::Time>(time); }

}  // namespace

Replica::Replica(ReplicaOptions options, StateMachine* machine)
    : options_(std::move(options)),
      id_(options_.partition),
      machine_(machine),
      home_(*options_.home),
      log_(*options_.log),
      key_(metadata::keys::Partition(options_.table, options_.partition)),
      lease_(options_.leases->Open(options_.table, options_.partition)) {
  CHECK(machine_ != nullptr && options_.boot != 0);
}

Replica::~Replica() = default;

Status Replica::Start(LogPosition applied, group::Configuration configuration, Revision revision) {
  CHECK(!started_);
  started_ = true;
  if (options_.configurations != nullptr) {
    if (auto known = options_.configurations->Find(id_);
        known.has_value() && known->revision > revision) {
      configuration = std::move(known->configuration);
      revision = known->revision;
    }
  }
  applied_ = applied;
  commit_ = applied.index;
  // What the state includes is no longer needed of the log; what follows must be there without a
  // gap.
  log_.Truncate(id_, applied.index);
  const LogIndex first = log_.FirstIndex(id_);
  const LogIndex last = log_.LastIndex(id_);
  group::Start start;
  start.base = applied;
  start.last = applied.index;
  if (last >= first && last > applied.index) {
    if (first.value > applied.index.value + 1) {
      stopped_ = true;
      return Corruption("partition " + id_.ToString() + ": the log begins at entry " +
                        first.ToString() + ", the store ends at " + applied.index.ToString());
    }
    start.last = last;
    Epoch epoch;
    for (LogIndex index(applied.index.value + 1); index <= last; ++index.value) {
      const Epoch here = log_.EpochAt(id_, index);
      if (here == epoch) continue;
      epoch = here;
      start.runs.push_back({epoch, index});
    }
  }
  log_base_ = flushed_.index = applied.index;
  window_.Reset(LogIndex(start.last.value + 1));
  start.self = options_.self;
  start.boot = options_.boot;
  start.configuration = std::move(configuration);
  start.revision = revision;
  start.now = ToGroupTime(home_.Now());
  Step(start);
  if (!stopped_) LookForPrimary();
  return Status::Ok();
}

void Replica::Stop() {
  if (stopped_) return;
  stopped_ = true;
  lease_->Release();
  if (started_) {
    group::Actions actions;
    group_.Step(group::Stop{}, &actions);
    const bool led = std::any_of(actions.begin(), actions.end(), [](const group::Action& action) {
      return std::holds_alternative<group::ReignEnded>(action);
    });
    if (led) machine_->OnReignEnded();
  }
  events_.clear();
  log_operations_.clear();
  peers_.clear();
}

/// Runs `work` where it may block, then `then` here, stopped or not.
bool Replica::Block(std::function<void()> work, std::function<void()> then) {
  const bool submitted =
      home_.Block([self = shared_from_this(), work = std::move(work), then = std::move(then)] {
        work();
        self->home_.Post([self, then] {
          --self->blocking_;
          then();
        });
      });
  if (submitted) ++blocking_;
  return submitted;
}

void Replica::Fatal(const Status& status) {
  if (stopped_) return;
  log::Error("a replica cannot go on", "partition", id_, "status", status);
  Stop();
  machine_->OnFatal(status);
}

// Steps. ------------------------------------------------------------------------------------------

/// An event that an action causes waits until the actions before it are done.
void Replica::Step(const group::Event& event) {
  if (stopped_) return;
  if (stepping_) {
    events_.push_back(event);
    return;
  }
  stepping_ = true;
  StepOne(event);
  while (!events_.empty() && !stopped_) {
    const group::Event next = std::move(events_.front());
    events_.pop_front();
    StepOne(next);
  }
  stepping_ = false;
  if (stopped_) return;
  durable_index_.store(group_.durable_index().value, std::memory_order_relaxed);
  commit_index_.store(group_.commit_index().value, std::memory_order_relaxed);
  ArmTick();
  Notify();
}

void Replica::StepOne(const group::Event& event) {
  actions_.clear();
  group_.Step(event, &actions_);
  for (const group::Action& action : actions_) {
    if (stopped_) return;
    std::visit([this](const auto& what) { Do(what); }, action);
  }
}

/// What makes the machine propose comes last, when the group has settled.
void Replica::Notify() {
  // A proposal made from within one of these calls brings no other call before that one has
  // returned: the machine would be in the middle of something.
  if (stepping_ || notifying_) return;
  notifying_ = true;
  while (!stopped_) {
    if (std::exchange(news_reign_, false)) {
      if (leading()) machine_->OnReignBegan(group_.append_epoch());
    } else if (std::exchange(news_applied_, false)) {
      lag_.store(group_.Lag(), std::memory_order_relaxed);
      machine_->OnApplied();
    } else if (std::exchange(news_thawed_, false)) {
      machine_->OnThawed();
    } else if (merge_refused_ != PartitionId()) {
      machine_->OnMergeRefused(std::exchange(merge_refused_, PartitionId()));
    } else {
      break;
    }
  }
  notifying_ = false;
}

void Replica::Do(const group::PersistConfiguration& action) {
  hint_node_.store(action.configuration->primary.node.value, std::memory_order_relaxed);
  hint_epoch_.store(action.configuration->epoch.value, std::memory_order_relaxed);
  machine_->OnConfiguration(action.configuration, action.revision);
  if (options_.configurations == nullptr) {
    Step(group::ConfigurationDurable{action.configuration->epoch});
    return;
  }
  to_persist_ = action;
  PersistNext();
}

/// One at a time; of those that wait only the newest matters.
void Replica::PersistNext() {
  if (persisting_ || !to_persist_.has_value() || stopped_) return;
  persisting_ = true;
  const group::PersistConfiguration action = *std::move(to_persist_);
  to_persist_.reset();
  auto done = [self = shared_from_this(), action](const Status& status) {
    self->home_.Post([self, action, status] {
      self->persisting_ = false;
      if (self->stopped_) return;
      if (!status.ok()) {
        if (!self->to_persist_.has_value()) self->to_persist_ = action;
        self->persisting_ = true;  // nothing may reach the log meanwhile
        self->home_.PostAfter(kPersistRetryInterval, [self] {
          self->persisting_ = false;
          self->PersistNext();
        });
        return;
      }
      self->PersistNext();
      if (!self->persisting_) self->RunLogOperations();
      self->Step(group::ConfigurationDurable{action.configuration->epoch});
    });
  };
  options_.configurations->AsyncPut(id_, *action.configuration, action.revision, std::move(done));
}

void Replica::Do(const group::DropSuffix& action) {
  window_.DropSuffix(action.from);
  machine_->OnSuffixDropped(action.from);
  LogOperation operation;
  operation.drop_from = action.from;
  QueueLogOperation(std::move(operation));
}

void Replica::Do(const group::AppendToLog& action) {
  if (action.source == group::AppendToLog::Source::kProposal) {
    // Propose() appended it before the group heard of it: a refused append must leave no trace.
    CHECK(action.first == action.last && LogIndex(action.last.value + 1) == window_.next());
    return;
  }
  LogOperation operation;
  if (action.source == group::AppendToLog::Source::kEpochStart) {
    const LogPosition position{action.epoch, action.last};
    window_.Push(position, kEpochStartEntry, Payload());
    operation.entries.push_back({position, kEpochStartEntry, Payload()});
  } else {
    CHECK(incoming_ != nullptr && action.first >= incoming_first_);
    for (LogIndex index = action.first; index <= action.last; ++index.value) {
      transport::Entry& entry = (*incoming_)[index.value - incoming_first_.value];
      const LogPosition position{group_.EpochAt(index), index};
      operation.bytes += entry.payload == nullptr ? 0 : entry.payload->size();
      window_.Push(position, entry.type, Payload(entry.payload));
      operation.entries.push_back({position, entry.type, Payload(std::move(entry.payload))});
    }
  }
  QueueLogOperation(std::move(operation));
}

Status Replica::Propose(uint8_t type, std::string payload, LogPosition* position) {
  CHECK(leading() && !stepping_);
  if (!log_operations_.empty()) return Unavailable("the log is behind");
  *position = next_position();
  const log::EntryView view{position->epoch, position->index, type, payload};
  RETURN_IF_ERROR(log_.Append(id_, std::span(&view, 1), shared_from_this()));
  window_.Push(*position, type, Payload(std::move(payload)));
  Step(group::Propose{1});
  return Status::Ok();
}

void Replica::Do(const group::ProposeSwap& action) {
  metadata::Transaction transaction;
  transaction.compares.push_back(metadata::Compare::At(key_, action.expected));
  transaction.puts.push_back({key_, group::Encode(options_.table, id_, action.configuration)});
  if (action.child.has_value()) {
    std::string child = metadata::keys::Partition(options_.table, action.child->partition);
    transaction.compares.push_back(metadata::Compare::Missing(child));
    transaction.puts.push_back(
        {std::move(child),
         group::Encode(options_.table, action.child->partition, action.child->configuration)});
  }
  if (action.right.has_value()) {
    std::string right = metadata::keys::Partition(options_.table, action.right->partition);
    transaction.compares.push_back(metadata::Compare::At(right, action.right->expected));
    transaction.deletes.push_back(std::move(right));
  }
  options_.metadata->AsyncCommit(
      std::move(transaction), [self = shared_from_this(), expected = action.expected](
                                  const Result<metadata::TransactionResult>& result) {
        using Outcome = group::SwapResult::Outcome;
        group::SwapResult event;
        if (result.ok() && result->succeeded) {
          event.outcome = Outcome::kSucceeded;
          event.revision = result->revision;
        } else if (result.ok()) {
          const bool own = std::any_of(result->current.begin(), result->current.end(),
                                       [&](const metadata::KeyValue& kv) {
                                         return kv.key == self->key_ && kv.mod_revision == expected;
                                       });
          event.outcome = own ? Outcome::kOtherRefused : Outcome::kRefused;
        }
        self->home_.Post([self, event] { self->Step(event); });
      });
}

void Replica::Do(const group::ReadConfiguration&) {
  options_.metadata->AsyncRange(
      key_, key_ + '\0', 1,
      [self = shared_from_this()](const Result<metadata::RangeResult>& result) {
        if (!result.ok()) return;  // asked again on a tick
        if (result->kvs.empty()) {
          self->home_.Post(
              [self, revision = result->revision] { self->Step(group::KeyDeleted{revision}); });
          return;
        }
        const auto record = group::ParseRecord(result->kvs[0].value);
        if (!record.ok()) {
          log::Error("a partition's configuration cannot be read", "key", self->key_, "status",
                     record.status());
          return;
        }
        group::ConfigurationSeen event{group::FromRecord(*record), result->kvs[0].mod_revision};
        self->home_.Post([self, event = std::move(event)] { self->Step(event); });
      });
}

void Replica::Do(const group::CommitAdvanced& action) {
  commit_ = std::max(commit_, action.index);
  if (apply_blocked_) machine_->OnCommitBlocked(commit_);
  ApplyCommitted();
}

void Replica::Do(const group::ReignBegan&) { news_reign_ = true; }

void Replica::Do(const group::ReignEnded&) {
  news_reign_ = false;
  peers_.clear();
  machine_->OnReignEnded();
}

void Replica::Do(const group::AdmissionChanged& action) {
  machine_->OnAdmissionChanged(action.serving);
  if (action.serving) news_applied_ = true;  // what waited may be proposed
}

void Replica::Do(const group::Removed&) { machine_->OnRemoved(); }
void Replica::Do(const group::Frozen& action) { machine_->OnFrozen(action.index, action.revision); }
void Replica::Do(const group::Thawed&) { news_thawed_ = true; }
void Replica::Do(const group::MergeRefused& action) { merge_refused_ = action.right; }

void Replica::ArmTick() {
  if (tick_armed_ || stopped_ || !group_.NeedsTick()) return;
  tick_armed_ = true;
  home_.PostAfter(kTickInterval, [self = shared_from_this()] {
    self->tick_armed_ = false;
    self->Step(group::Tick{ToGroupTime(self->home_.Now())});
  });
}

// What comes from outside. ------------------------------------------------------------------------

void Replica::OnConfigurationSeen(const group::Configuration& configuration, Revision revision) {
  if (revision > group_.revision()) Step(group::ConfigurationSeen{configuration, revision});
}

void Replica::OnKeyDeleted(Revision revision) { Step(group::KeyDeleted{revision}); }

void Replica::OnMessage(transport::GroupMessage message) {
  if (stopped_) return;
  if (auto* append = std::get_if<transport::Append>(&message.body)) {
    OnAppend(append);
  } else if (const auto* ack = std::get_if<group::AckMessage>(&message.body)) {
    OnAck(*ack);
    Step(group::AckReceived{*ack});
    PumpStream(ack->from);
  } else if (const auto* resign = std::get_if<group::ResignMessage>(&message.body)) {
    Step(group::ResignReceived{*resign});
  } else if (const auto* created = std::get_if<group::CreatedMessage>(&message.body)) {
    Step(group::ReplicaCreated{created->from});
  }
}

void Replica::OnAppend(transport::Append* append) {
  const group::AppendMessage& message = append->message;
  // What another partition of this process may say wrongly must not end this process.
  if (message.last.value - message.previous.index.value != append->entries.size()) return;
  if (!append->entries.empty()) {
    // R10: what has no room here is sent again when it has. Appends without entries go on, so that
    // a full disk is not taken for a dead replica's.
    if (options_.disk_low != nullptr && options_.disk_low->load(std::memory_order_relaxed)) return;
    if (installing_ || log_retry_armed_) return;
    if (window_.bytes() + log_operation_bytes_ > 2 * options_.max_window_bytes) return;
  }
  if (installing_) return;
  incoming_ = &append->entries;
  incoming_first_ = LogIndex(message.previous.index.value + 1);
  Step(group::AppendReceived{message});
  incoming_ = nullptr;
}

void Replica::OnFlushed(LogPosition position, bool force) {
  if (stopped_ || position.index > applied_.index) return;
  if (position.index > flushed_.index) flushed_ = position;
  LogIndex cut = flushed_.index;
  for (const auto& [member, peer] : peers_) {
    // A member that is being sent a checkpoint goes on from there.
    if (peer.checkpoint && peer.checkpoint_index != LogIndex())
      cut = std::min(cut, peer.checkpoint_index);
  }
  if (!force && group_.role() == group::Group::Role::kPrimary) {
    const uint64_t kept =
        applied_.index.value > kMaxKeptEntries ? applied_.index.value - kMaxKeptEntries : 0;
    cut = std::min(cut, LogIndex(std::max(group_.FirstNeeded().value - 1, kept)));
  }
  if (cut <= log_base_) return;
  const LogPosition base{cut == flushed_.index ? flushed_.epoch : group_.EpochAt(cut), cut};
  log_base_ = cut;
  Step(group::BaseAdvanced{base});
  log_.Truncate(id_, cut);
}

}  // namespace onggi::replica
