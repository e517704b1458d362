#include <rocksdb/write_batch.h>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <filesystem>

#include "common/log.h"
#include "replication/metadata/keys.h"
#include "server/partition/effects.h"
#include "server/partition/execute.h"
#include "server/partition/partition.h"
#include "server/partition/replica_check.h"
#include "server/storage/data_directory.h"

/// The life of Partition: opening, the group's actions, stopping.
namespace onggi::partition {

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

constexpr auto kTickInterval = std::chrono::milliseconds(100);
constexpr auto kStartDeadline = std::chrono::seconds(30);
constexpr auto kStopDeadline = std::chrono::seconds(10);
/// Log bytes read at once on replay: bounds memory, whatever the log holds.
constexpr size_t kReplayChunkBytes = size_t{8} << 20;

group::Member ToMember(const proto::ReplicaRef& ref) {
  return {NodeId(ref.node()), ReplicaId(ref.replica())};
}

void FromMember(const group::Member& member, proto::ReplicaRef* ref) {
  ref->set_node(member.node.value);
  ref->set_replica(member.replica.value);
}

group::Configuration ToConfiguration(const proto::PartitionConfig& record) {
  group::Configuration configuration;
  configuration.epoch = Epoch(record.epoch());
  configuration.primary = ToMember(record.primary());
  for (const auto& ref : record.in_sync()) configuration.in_sync.push_back(ToMember(ref));
  for (const auto& ref : record.learners()) configuration.learners.push_back(ToMember(ref));
  configuration.replication = record.replication();
  configuration.min_in_sync = record.min_in_sync();
  configuration.lease_released = record.lease_released();
  configuration.boot = record.boot();
  return configuration;
}

/// The record with its members replaced; range, table and partition stay.
std::string EncodeSwap(proto::PartitionConfig record, const group::Configuration& configuration) {
  record.set_epoch(configuration.epoch.value);
  FromMember(configuration.primary, record.mutable_primary());
  record.clear_in_sync();
  for (const auto& member : configuration.in_sync) FromMember(member, record.add_in_sync());
  record.clear_learners();
  for (const auto& member : configuration.learners) FromMember(member, record.add_learners());
  record.set_replication(configuration.replication);
  record.set_min_in_sync(configuration.min_in_sync);
  record.set_lease_released(configuration.lease_released);
  record.set_boot(configuration.boot);
  return record.SerializeAsString();
}

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Makes the replica's directory whole or not at all: REPLICA inside names it, durably, before any
/// reign can begin (R9).
Status MakeReplicaDirectory(const std::string& parent, const std::string& directory,
                            ReplicaId replica) {
  std::error_code error;
  const std::string fresh = directory + ".new";
  fs::remove_all(fresh, error);
  fs::create_directories(fresh, error);
  if (error) return IoError("create directory", fresh, error.value());
  RETURN_IF_ERROR(
      storage::WriteFileSynced(fresh + "/REPLICA", "onggi-replica 1 " + replica.ToString() + "\n"));
  RETURN_IF_ERROR(storage::SyncDirectory(fresh));
  fs::rename(fresh, directory, error);
  if (error) return IoError("rename", directory, error.value());
  return storage::SyncDirectory(parent);
}

}  // namespace

asio::awaitable<Status> Partition::OnBlockingPool(std::function<Status()> work) {
  auto initiate = [this, &work](auto handler) {
    using Handler = decltype(handler);
    auto shared = std::make_shared<Handler>(std::move(handler));
    auto task = [this, shared, &work] {
      Status status = work();
      asio::post(home_, [shared, status = std::move(status)]() mutable {
        std::move (*shared)(std::move(status));
      });
    };
    if (!environment_.blocking->TrySubmit(task)) {
      asio::post(home_, [shared] {
        std::move (*shared)(Unavailable("the disk has too much work queued"));
      });
    }
  };
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(Status)>(
      initiate, asio::use_awaitable);
}

Status Partition::OpenStore(AppliedState* applied) {
  const ReplicaId replica(config_.primary().replica());
  const std::string directory = Directory();
  // Only a partition that no process has ever led may be empty; a named replica that is gone is
  // lost.
  const bool fresh = config_.boot() == 0;
  std::error_code error;
  if (!fs::exists(directory, error)) {
    if (!fresh) {
      return Corruption(directory + ": missing: the catalog names a replica with data here");
    }
    RETURN_IF_ERROR(MakeReplicaDirectory(environment_.partitions_directory, directory, replica));
  }
  RETURN_IF_ERROR(CheckReplicaFile(directory, replica));
  storage::PartitionStore::Events events;
  // The store may close after its partition has gone: nothing here may touch `this`.
  events.on_flushed = [weak = weak_from_this(), pool = environment_.blocking] {
    (void)pool->TrySubmit([weak] {
      if (auto self = weak.lock()) self->TruncateLog();
    });
  };
  events.on_background_error = [id = id_](const Status& status) {
    log::Error("storage failed in the background", "partition", id, "status", status);
  };
  ASSIGN_OR_RETURN(store_, storage::PartitionStore::Open(*environment_.storage,
                                                         directory + "/store", fresh, events));
  if (fresh)
    RETURN_IF_ERROR(storage::SyncDirectory(directory));  // the catalog is about to rely on it
  storage::PinnedValue value;
  ASSIGN_OR_RETURN(const bool found, store_->Get(kAppliedKey, &value));
  if (found) {
    ASSIGN_OR_RETURN(*applied, AppliedState::Decode(value.view()));
  }
  applied->statistics.local_indexes.resize(schema_->local_indexes.size());
  return Status::Ok();
}

asio::awaitable<Status> Partition::Start() {
  auto applied = std::make_shared<AppliedState>();
  std::function<Status()> open = [this, applied] { return OpenStore(applied.get()); };
  Status opened = co_await OnBlockingPool(open);
  if (!opened.ok()) co_return opened;

  applied_ = {applied->epoch, applied->index};
  {
    std::lock_guard lock(statistics_mutex_);
    statistics_ = applied->statistics;
  }
  evaluated_ = applied->statistics;
  // What the state includes is no longer needed of the log; what follows must be there without a
  // gap.
  environment_.log->Truncate(id_, applied_.index);
  const LogIndex first = environment_.log->FirstIndex(id_);
  const LogIndex last = environment_.log->LastIndex(id_);
  group::Start start;
  start.base = applied_;
  start.last = applied_.index;
  if (last >= first && last > applied_.index) {
    if (first.value > applied_.index.value + 1) {
      co_return Corruption("partition " + id_.ToString() + ": the log begins at entry " +
                           first.ToString() + ", the store ends at " + applied_.index.ToString());
    }
    start.last = last;
    Epoch epoch;
    for (LogIndex index(applied_.index.value + 1); index <= last; ++index.value) {
      const Epoch here = environment_.log->EpochAt(id_, index);
      if (here == epoch) continue;
      epoch = here;
      start.runs.push_back({epoch, index});
    }
  }
  last_appended_ = start.runs.empty() ? applied_ : LogPosition{start.runs.back().epoch, start.last};
  start.self = ToMember(config_.primary());
  start.boot = environment_.boot;
  start.configuration = ToConfiguration(config_);
  start.revision = config_revision_;
  start.now = group::Time(NowMs());

  asio::steady_timer waiter(home_, kStartDeadline);
  waiter_ = &waiter;
  Step(start);
  Status status;
  while (!serving_.load(std::memory_order_relaxed)) {
    status = give_up_;
    if (!status.ok()) break;
    const LogIndex applied_before = applied_.index;
    if (commit_index_ > applied_before) {
      status = co_await ReplayCommitted();
      if (!status.ok()) break;
      ApplyCommitted();
      if (applied_.index > applied_before) continue;
    }
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    co_await waiter.async_wait(token);
    if (!error) {
      status = Unavailable("the partition could not take over in time");
      break;
    }
    waiter.expires_after(kStartDeadline);
  }
  waiter_ = nullptr;
  if (!status.ok()) stopping_ = true;  // what is still under way finds nobody
  co_return status;
}

void Partition::GiveUpStart(Status reason) {
  if (give_up_.ok()) give_up_ = std::move(reason);
  Wake();
}

/// Brings the store up to the commit index, or to the first entry that is still in memory.
asio::awaitable<Status> Partition::ReplayCommitted() {
  LogIndex up_to = commit_index_;
  if (!in_flight_.empty()) {
    up_to = std::min(up_to, LogIndex(in_flight_.front().position.index.value - 1));
  }
  if (up_to <= applied_.index) co_return Status::Ok();
  auto state = std::make_shared<AppliedState>();
  {
    std::lock_guard lock(statistics_mutex_);
    state->statistics = statistics_;
  }
  const LogPosition from = applied_;
  std::function<Status()> replay = [this, from, up_to, state] {
    return Replay(from, up_to, state.get());
  };
  Status status = co_await OnBlockingPool(replay);
  if (!status.ok()) co_return status;
  applied_ = {state->epoch, state->index};
  {
    std::lock_guard lock(statistics_mutex_);
    statistics_ = state->statistics;
  }
  evaluated_ = state->statistics;
  Step(group::Applied{applied_.index});
  co_return Status::Ok();
}

Status Partition::Replay(LogPosition from, LogIndex up_to, AppliedState* state) {
  state->epoch = from.epoch;
  state->index = from.index;
  while (state->index < up_to) {
    ASSIGN_OR_RETURN(
        const std::vector<log::Entry> entries,
        environment_.log->Read(id_, LogIndex(state->index.value + 1), kReplayChunkBytes));
    if (entries.empty()) {
      return Corruption("partition " + id_.ToString() + ": the log lacks entry " +
                        std::to_string(state->index.value + 1));
    }
    rocksdb::WriteBatch batch;
    for (const log::Entry& entry : entries) {
      if (entry.index > up_to) break;
      switch (static_cast<EntryType>(entry.type)) {
        case EntryType::kEpochStart: break;
        case EntryType::kWrites:
          RETURN_IF_ERROR(ReplayEffects(entry.payload, &batch, &state->statistics));
          break;
        default:
          return Corruption("partition " + id_.ToString() + ": entry " + entry.index.ToString() +
                            " is of a type newer than this program");
      }
      state->epoch = entry.epoch;
      state->index = entry.index;
    }
    std::string encoded;
    state->EncodeTo(&encoded);
    batch.Put(rocksdb::Slice(kAppliedKey.data(), kAppliedKey.size()), encoded);
    RETURN_IF_ERROR(store_->Apply(&batch));
  }
  return Status::Ok();
}

void Partition::Step(const group::Event& event) {
  if (stopping_) return;  // news of what was under way at the end
  // Actions may cause further steps; each runs its own list, in order.
  group::Actions actions = std::move(actions_);
  actions.clear();
  group_.Step(event, &actions);
  for (const group::Action& action : actions) {
    if (const auto* append = std::get_if<group::AppendToLog>(&action)) {
      Do(*append);
    } else if (const auto* swap = std::get_if<group::ProposeSwap>(&action)) {
      Do(*swap);
    } else if (std::holds_alternative<group::ReadConfiguration>(action)) {
      ReadConfiguration();
    } else if (const auto* persist = std::get_if<group::PersistConfiguration>(&action)) {
      // The embedded metadata store is on this disk and has synced the swap.
      Step(group::ConfigurationDurable{persist->configuration->epoch});
    } else if (const auto* commit = std::get_if<group::CommitAdvanced>(&action)) {
      commit_index_ = std::max(commit_index_, commit->index);
      ApplyCommitted();
    } else if (const auto* promises = std::get_if<group::WaitPromises>(&action)) {
      // R5: replication 1 made no promises to anyone.
      CHECK(config_.replication() == 1);
      Step(group::PromisesRunOut{promises->epoch});
    } else if (std::holds_alternative<group::ReignBegan>(action)) {
      serving_.store(!stopping_, std::memory_order_release);
      Wake();
    } else if (std::holds_alternative<group::ReignEnded>(action)) {
      EndReign();
    } else {
      // SendAppend, SendAck, DropSuffix, NeedsCheckpoint: one replica has no peers.
      CHECK(config_.replication() > 1);
    }
  }
  actions_ = std::move(actions);
  ArmTick();
}

void Partition::Do(group::AppendToLog action) {
  if (action.source == group::AppendToLog::Source::kProposal) {
    // CloseBatch() appended it before it proposed it: a refused append must leave no trace here.
    CHECK(action.last == last_appended_.index && action.first == action.last);
    return;
  }
  CHECK(action.source == group::AppendToLog::Source::kEpochStart);
  Entry entry;
  entry.position = {action.epoch, action.last};
  entry.type = EntryType::kEpochStart;
  const log::EntryView view{action.epoch, action.last, static_cast<uint8_t>(entry.type), {}};
  const Status appended = environment_.log->Append(id_, std::span(&view, 1), shared_from_this());
  if (!appended.ok()) {
    // Nothing else is appended before it, so it can wait for the disk; Start() has a deadline.
    auto timer = std::make_shared<asio::steady_timer>(home_, kTickInterval);
    timer->async_wait([self = shared_from_this(), timer, action](const auto& error) {
      if (!error && !self->stopping_) self->Do(action);
    });
    return;
  }
  last_appended_ = entry.position;
  in_flight_.push_back(std::move(entry));
}

void Partition::Do(const group::ProposeSwap& action) {
  const std::string key = metadata::keys::Partition(schema_->id, id_);
  metadata::Transaction transaction;
  transaction.compares.push_back(metadata::Compare::At(key, action.expected));
  transaction.puts.push_back({key, EncodeSwap(config_, action.configuration)});
  environment_.metadata->AsyncCommit(
      std::move(transaction),
      [self = shared_from_this()](Result<metadata::TransactionResult> result) {
        group::SwapResult event;
        if (result.ok()) {
          event.outcome = result->succeeded ? group::SwapResult::Outcome::kSucceeded
                                            : group::SwapResult::Outcome::kRefused;
          event.revision = result->revision;
        }
        asio::post(self->home_, [self, event] {
          if (!self->stopping_) self->Step(event);
        });
      });
}

void Partition::ReadConfiguration() {
  const std::string key = metadata::keys::Partition(schema_->id, id_);
  environment_.metadata->AsyncRange(
      key, key + '\0', 1, [self = shared_from_this()](Result<metadata::RangeResult> result) {
        if (!result.ok()) return;  // asked again on a tick
        if (result->kvs.empty()) {
          asio::post(self->home_,
                     [self] { self->GiveUpStart(NotFound("the partition was dropped")); });
          return;
        }
        proto::PartitionConfig record;
        if (!record.ParseFromString(result->kvs[0].value)) return;
        group::ConfigurationSeen event{ToConfiguration(record), result->kvs[0].mod_revision};
        asio::post(self->home_, [self, event] {
          if (!self->stopping_) self->Step(event);
        });
      });
}

/// R12: what is appended may still be committed by whoever leads next; what is not was never asked.
void Partition::EndReign() {
  serving_.store(false, std::memory_order_release);
  for (Entry& entry : in_flight_) {
    FailTasks(&entry.tasks,
              {Code::kUnknownOutcome, "the partition moved while the write was on its way"});
  }
  if (!effects_.empty() || !open_.tasks.empty()) {
    effects_ = EffectWriter();
    AbandonBatch({Code::kNotPrimary, "the partition is not served here now"});
  }
  Wake();
}

void Partition::ArmTick() {
  if (tick_armed_ || stopping_ || !group_.NeedsTick()) return;
  tick_armed_ = true;
  auto timer = std::make_shared<asio::steady_timer>(home_, kTickInterval);
  timer->async_wait([self = shared_from_this(), timer](const auto& error) {
    self->tick_armed_ = false;
    if (!error && !self->stopping_) self->Step(group::Tick{group::Time(NowMs())});
  });
}

void Partition::Wake() {
  if (waiter_ != nullptr) waiter_->cancel();
}

asio::awaitable<void> Partition::Stop(bool flush) {
  serving_.store(false, std::memory_order_release);
  const auto deadline = std::chrono::steady_clock::now() + kStopDeadline;
  asio::steady_timer timer(home_);
  CloseBatch();
  // A store that cannot apply has answered its writes already; the log keeps them for the next
  // start. After a start that failed (stopping_) there is nothing to answer.
  while (!in_flight_.empty() && !apply_blocked_ && !stopping_ &&
         std::chrono::steady_clock::now() < deadline) {
    timer.expires_after(std::chrono::milliseconds(1));
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    co_await timer.async_wait(token);
  }
  stopping_ = true;
  group::Actions ignored;
  if (group_.role() != group::Group::Role::kIdle) group_.Step(group::Stop{}, &ignored);
  EndReign();
  Drain();  // refuses what still waits
  // A store that has failed (a full disk) would fail again; the log has what it lacks.
  if (flush && store_ != nullptr && !apply_blocked_ && !store_->failed()) {
    std::function<Status()> work = [this] { return Flush(); };
    const Status flushed = co_await OnBlockingPool(work);
    // Not fatal: the log still has what the flush would have made durable.
    if (!flushed.ok()) log::Warn("flush on stop failed", "partition", id_, "status", flushed);
  }
}

/// Runs on the blocking pool after a flush: the log is cut behind what the disk now has.
void Partition::TruncateLog() {
  std::string value;
  Result<bool> found = store_->GetPersisted(kAppliedKey, &value);
  if (!found.ok() || !*found) return;
  const Result<AppliedState> state = AppliedState::Decode(value);
  if (state.ok()) environment_.log->Truncate(id_, state->index);
}

}  // namespace onggi::partition
