#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"
#include "replication/group/mutation.h"
#include "replication/group/record.h"
#include "server/partition/effects.h"
#include "server/partition/partition.h"
#include "server/partition/replica_check.h"
#include "server/partition/replica_files.h"

/// The life of Partition: opening, stopping, flushing.
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

/// Without news for this long a lone replica's start fails; with others its place may be elsewhere
/// by now, and whoever asks is told.
constexpr std::chrono::milliseconds kStartDeadline = std::chrono::seconds(30);
constexpr std::chrono::milliseconds kJoinDeadline = std::chrono::seconds(3);
constexpr std::chrono::milliseconds kStopDeadline = std::chrono::seconds(10);
constexpr std::chrono::milliseconds kStopPoll{1};
/// What finds the pool's queue full tries again this soon.
constexpr std::chrono::milliseconds kPlacePoll{10};
constexpr std::chrono::milliseconds kResumeInterval{1'000};

}  // namespace

/// Queues `task` for a thread that may block, waiting for a place until `deadline` or until the
/// start is given up; then `refuse` is called. Whoever waits for the partition waits no longer than
/// his own deadline; the queue keeps its bound.
void Partition::BlockWhenPossible(std::function<void()> task, std::function<void()> refuse,
                                  replica::BootTime deadline) {
  if (place_.home->Block(task)) return;
  if (!give_up_.ok() || place_.home->Now() >= deadline) return refuse();
  place_.home->PostAfter(
      kPlacePoll, [self = shared_from_this(), task = std::move(task), refuse = std::move(refuse),
                   deadline] { self->BlockWhenPossible(task, refuse, deadline); });
}

asio::awaitable<Status> Partition::OnBlockingPool(std::function<Status()> work,
                                                  std::chrono::milliseconds patience) {
  const replica::BootTime deadline = place_.home->Now() + patience;
  auto initiate = [this, &work, deadline](auto handler) {
    using Handler = decltype(handler);
    auto shared = std::make_shared<Handler>(std::move(handler));
    auto task = [this, shared, &work] {
      Status status = work();
      asio::post(home_, [shared, status = std::move(status)]() mutable {
        std::move (*shared)(std::move(status));
      });
    };
    auto refuse = [this, shared] {
      asio::post(home_, [shared] {
        std::move (*shared)(Unavailable("the disk has too much work queued"));
      });
    };
    BlockWhenPossible(task, refuse, deadline);
  };
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(Status)>(
      initiate, asio::use_awaitable);
}

storage::PartitionStore::Events Partition::StoreEvents() {
  storage::PartitionStore::Events events;
  // The store may close after its partition has gone: nothing here may touch `this`.
  events.on_flushed = [weak = weak_from_this(), home = place_.home] {
    (void)home->Block([weak] {
      if (auto self = weak.lock()) self->NewsOfFlush(/*force=*/false);
    });
  };
  events.on_background_error = [id = id_, weak = weak_from_this(),
                                home = home_](const Status& status) {
    log::Error("storage failed in the background", "partition", id, "status", status);
    // Not held here: RocksDB's thread may not be the one that closes its database.
    asio::post(home, [weak] {
      const auto self = weak.lock();
      if (self != nullptr && !std::exchange(self->resuming_, true)) self->ResumeLater();
    });
  };
  return events;
}

/// Nobody may write for a long time, and what is not flushed keeps the log from being cut: the
/// store is resumed until that succeeds, whoever else does so too. RocksDB comes back from a full
/// disk; from any other error of the disk it does not, and is opened again: what it had not flushed
/// is in the log, and what it has is in files that were synced.
void Partition::ResumeLater() {
  place_.home->PostAfter(kResumeInterval, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->resuming_ = !self->stopping_ && self->replica_ != nullptr && !self->replica_->stopped() &&
                      self->OpenedStore() && self->store().failed();
    if (!self->resuming_) return;
    if (self->store().ResumeHangs(self->environment_.resume_patience)) {
      self->GiveUpStore(Status(Code::kIoError, "it does not resume"));
      return;
    }
    (void)self->place_.home->Block([self] {
      const Status resumed = self->store().Resume();
      if (resumed.code() != Code::kIoError) return;  // damage shows when something is applied
      asio::post(self->home_, [self, resumed] { self->GiveUpStore(resumed); });
    });
    self->ResumeLater();
  });
}

/// The replica begins anew, from what its disk has.
void Partition::GiveUpStore(const Status& why) {
  if (stopping_ || replica_->stopped()) return;
  log::Error("a store is opened again", "partition", id_, "status", why);
  replica_->Stop();
  OnFatal(why);
}

void Partition::UseStore(std::unique_ptr<storage::PartitionStore> store) {
  store_.store(store.get(), std::memory_order_release);
  stores_.push_back(std::move(store));
}

Status Partition::OpenStore(AppliedState* applied) {
  // What its last life here has appended is in the log from now on, for the replica to begin with:
  // one that failed had entries under way.
  RETURN_IF_ERROR(place_.log->Flush());
  const std::string directory = Directory();
  // Only a partition that no process has ever led may be empty; a named replica that is gone is
  // lost.
  // (A split's child has data, and not the whole key space.)
  const bool fresh =
      config_.boot() == 0 &&
      (config_.epoch() == 0 || (config_.range_start().empty() && config_.range_end().empty()));
  const storage::Files& files = environment_.storage->files();
  if (!files.Exists(directory)) {
    if (!fresh || NodeId(config_.primary().node()) != environment_.node) {
      return Corruption(directory + ": missing: the catalog names a replica with data here");
    }
    RETURN_IF_ERROR(MakeReplicaDirectory(*environment_.storage, environment_.partitions_directory,
                                         directory, place_.replica, /*lazily=*/true));
  }
  RETURN_IF_ERROR(CheckReplicaFile(files, directory, place_.replica));
  ASSIGN_OR_RETURN(const std::string path, StorePath(files, directory));
  RETURN_IF_ERROR(RemoveOldStores(files, directory));
  ASSIGN_OR_RETURN(
      auto store, storage::PartitionStore::Open(*environment_.storage, path, fresh, StoreEvents()));
  if (fresh) RETURN_IF_ERROR(files.SyncDirectory(directory));  // the catalog is about to rely on it
  UseStore(std::move(store));
  storage::PinnedValue value;
  ASSIGN_OR_RETURN(const bool found, this->store().Get(kAppliedKey, &value));
  if (found) {
    ASSIGN_OR_RETURN(*applied, AppliedState::Decode(value.view()));
  }
  applied->statistics.local_indexes.resize(schema_->local_indexes.size());
  RETURN_IF_ERROR(LoadShape());
  installed_holds_ = installed_split_.has_value() && HoldsChild(*installed_split_);
  return TrimForeign(config_.range_start(), config_.range_end(), installed_absorb_.has_value());
}

asio::awaitable<Status> Partition::Start() {
  auto applied = std::make_shared<AppliedState>();
  std::function<Status()> open = [this, applied] { return OpenStore(applied.get()); };
  Status opened = co_await OnBlockingPool(open, kStartDeadline);
  if (!opened.ok()) co_return opened;
  {
    std::lock_guard lock(statistics_mutex_);
    statistics_ = applied->statistics;
  }
  applied_index_.store(applied->index.value, std::memory_order_relaxed);
  replica::ReplicaOptions options;
  options.partition = id_;
  options.table = schema_->id;
  options.self = {environment_.node, place_.replica};
  options.boot = environment_.boot;
  options.home = place_.home;
  options.log = place_.log;
  options.metadata = environment_.metadata;
  options.configurations = environment_.configurations;
  options.transport = environment_.transport;
  options.leases = environment_.leases;
  options.checkpoints = environment_.checkpoints;
  options.checkpoint_directory = environment_.partitions_directory + "/outgoing";
  options.disk_low = environment_.disk_low;
  options.max_window_bytes = 2 * kMaxUncommittedBytes;
  replica_ = std::make_shared<replica::Replica>(std::move(options), this);
  split_ = installed_split_;
  absorb_ = installed_absorb_;
  const bool alone = environment_.transport == nullptr;
  const replica::BootTime join_deadline = place_.home->Now() + kJoinDeadline;
  LogPosition from{applied->epoch, applied->index};
  if (group::Mutated(group::Mutation::kSkipOnRecovery) && place_.log->LastIndex(id_) > from.index) {
    ++from.index.value;
    from.epoch = place_.log->EpochAt(id_, from.index);
  }
  Status status = replica_->Start(from, group::FromRecord(config_), config_revision_);
  if (status.ok()) {
    if (const std::optional<LogIndex> holds = OnInstalled()) {
      replica_->Ask(group::Holds{*holds});
    }
    FinishSplit();
  }
  if (status.ok()) unknown_until_.store(replica_->last_index().value);
  while (status.ok() && !Settled()) {
    status = give_up_;
    if (!status.ok()) break;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        std::max(join_deadline - place_.home->Now(), replica::BootTime(0)));
    const bool news = co_await waiter_.Wait(alone ? kStartDeadline : left);
    if (news) continue;
    if (!alone) break;
    status = Unavailable("the partition could not take over in time");
  }
  if (status.ok()) status = give_up_;
  if (!status.ok()) {
    stopping_ = true;  // what is still under way finds nobody
    replica_->Stop();
  }
  co_return status;
}

/// Is this replica what it is going to be? One that leads, or is about to, has to serve first.
bool Partition::Settled() const {
  if (serving_.load(std::memory_order_relaxed)) return true;
  const group::Group& group = replica_->group();
  return group.role() == group::Group::Role::kBackup ||
         group.configuration().primary != group::Member{environment_.node, place_.replica};
}

void Partition::GiveUpStart(Status reason) {
  if (give_up_.ok()) give_up_ = std::move(reason);
  Wake();
}

asio::awaitable<void> Partition::Stop(bool flush) {
  serving_.store(false, std::memory_order_release);
  stopping_walks_.store(true);
  Waiter stopping_waiter(place_.home.get());
  const replica::BootTime deadline = place_.home->Now() + kStopDeadline;
  if (replica_ != nullptr) {
    CloseBatch();
    // A store that cannot apply has answered its writes already; the log keeps them for the next
    // start. After a start that failed (stopping_) there is nothing to answer.
    // Nor does anybody wait for an entry without writes, which would keep the last nodes of a
    // cluster that stops.
    const auto awaited = [](const Entry& entry) {
      return !entry.tasks.empty() || !entry.retries.empty();
    };
    while (std::any_of(in_flight_.begin(), in_flight_.end(), awaited) &&
           !replica_->apply_blocked() && !stopping_ && place_.home->Now() < deadline) {
      (void)co_await stopping_waiter.Wait(kStopPoll);
    }
  }
  stopping_ = true;
  const bool blocked = replica_ != nullptr && replica_->apply_blocked();
  if (replica_ != nullptr) replica_->Stop();
  OnReignEnded();
  Drain();  // refuses what still waits
  // A store that has failed is not flushed below, and what waits for it to resume may wait for
  // ever.
  if (OpenedStore() && (blocked || store().failed())) store().Interrupt();
  while (replica_ != nullptr && replica_->busy()) (void)co_await stopping_waiter.Wait(kStopPoll);
  // A store that has failed (a full disk) would fail again; the log has what it lacks.
  if (flush && OpenedStore() && !blocked && !store().failed()) {
    std::function<Status()> work = [this] { return Flush(); };
    const Status flushed = co_await OnBlockingPool(work, kStopDeadline);
    // Not fatal: the log still has what the flush would have made durable.
    if (!flushed.ok()) log::Warn("flush on stop failed", "partition", id_, "status", flushed);
  }
}

Result<LogPosition> Partition::PersistedPosition() const {
  if (!OpenedStore()) return NotFound("the store is not open");
  std::string value;
  ASSIGN_OR_RETURN(const bool found, store().GetPersisted(kAppliedKey, &value));
  if (!found) return LogPosition();
  ASSIGN_OR_RETURN(const AppliedState state, AppliedState::Decode(value));
  return LogPosition{state.epoch, state.index};
}

/// Runs on the blocking pool after a flush: the log may be cut behind what the disk now has.
void Partition::NewsOfFlush(bool force) {
  const Result<LogPosition> persisted = PersistedPosition();
  if (!persisted.ok() || persisted->index == LogIndex()) return;
  const LogPosition position = *persisted;
  // Weakly: what is left in the queue of a node that has stopped outlives what a partition needs.
  asio::post(home_, [weak = weak_from_this(), position, force] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    if (self->stopping_) {
      // The replica hears nothing any more, and needs nothing of it.
      self->place_.log->Truncate(self->id_, position.index);
    } else if (self->replica_ != nullptr) {
      const bool early = group::Mutated(group::Mutation::kCutUnflushedLog);
      self->replica_->OnFlushed(early ? self->replica_->applied() : position, force);
    }
  });
}

}  // namespace onggi::partition
