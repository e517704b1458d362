#include "server/partition/partition_manager.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>
#include <thread>

#include "common/log.h"

/// PartitionManager: finding, opening, closing, and what has to be done now and then.
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

/// How long Find() waits for the map to catch up with the catalog: a table is ACTIVE in one
/// transaction with its partitions, but the two watches deliver on their own.
constexpr auto kMapWait = std::chrono::seconds(2);
constexpr auto kMapPoll = std::chrono::milliseconds(2);
/// Of a replica that has failed, so that a disk that goes on failing costs no reign after another.
constexpr auto kReopenPause = std::chrono::milliseconds(300);
/// How long an opening waits for readers of the same partition's last life to let go of its store.
constexpr auto kClosedWait = std::chrono::seconds(30);
/// And how soon it sees that the node stops.
constexpr auto kClosedLook = std::chrono::milliseconds(100);

asio::awaitable<bool> Pause(asio::steady_timer* timer, std::chrono::milliseconds time) {
  timer->expires_after(time);
  boost::system::error_code error;
  auto token = asio::redirect_error(asio::use_awaitable, error);
  co_await timer->async_wait(token);
  co_return !error;
}

}  // namespace

PartitionManager::PartitionManager(const PartitionEnvironment& environment, IoPool* io,
                                   ManagerOptions options)
    : environment_(environment), io_(io), options_(options) {
  if (environment_.leases == nullptr) {
    environment_.leases = std::make_shared<lease::NodeLeases>(
        environment_.node, environment_.boot, lease::Now(), /*restart_wait=*/!alone());
  }
  for (size_t i = 0; i < io_->size(); ++i) {
    homes_.push_back(std::make_shared<ThreadHome>(io_->executor(i), environment_.blocking));
  }
  log_ = std::make_shared<replica::StoreLog>(environment_.log);
}

PartitionManager::~PartitionManager() = default;

const std::shared_ptr<NodeHome>& PartitionManager::HomeOf(PartitionId partition) const {
  return homes_[partition.value % homes_.size()];
}

std::string PartitionManager::DirectoryOf(PartitionId partition) const {
  return environment_.partitions_directory + "/" + partition.ToString();
}

// Finding. ----------------------------------------------------------------------------------------

std::shared_ptr<PartitionManager::Slot> PartitionManager::FindSlot(
    TableId table, std::string_view key, std::shared_ptr<const TableSchema>* schema) const {
  const auto entry = tables_.find(table);
  if (entry == tables_.end()) return nullptr;
  const auto& slots = entry->second.slots;
  auto it = slots.upper_bound(key);
  if (it == slots.begin()) return nullptr;
  --it;
  const std::string& end = it->second->config.range_end();
  if (!end.empty() && key >= end) return nullptr;
  if (schema != nullptr) *schema = entry->second.schema;
  return it->second;
}

std::shared_ptr<PartitionManager::Slot> PartitionManager::FindSlot(PartitionId partition) const {
  std::shared_lock lock(mutex_);
  const auto found = partitions_.find(partition);
  return found == partitions_.end() ? nullptr : found->second;
}

std::shared_ptr<Partition> PartitionManager::TryFind(TableId table, std::string_view key) {
  std::shared_lock lock(mutex_);
  const std::shared_ptr<Slot> slot = FindSlot(table, key, nullptr);
  return slot == nullptr ? nullptr : slot->partition;
}

asio::awaitable<Result<std::shared_ptr<Partition>>> PartitionManager::Find(TableId table,
                                                                           std::string_view key) {
  const auto deadline = std::chrono::steady_clock::now() + kMapWait;
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (;;) {
    std::shared_ptr<Slot> slot;
    std::shared_ptr<const TableSchema> schema;
    {
      std::shared_lock lock(mutex_);
      if (stopping_) co_return Unavailable("the server is stopping");
      slot = FindSlot(table, key, &schema);
      if (slot != nullptr && slot->partition != nullptr) co_return slot->partition;
    }
    if (slot != nullptr && schema != nullptr) co_return co_await OpenSlot(slot);
    if (std::chrono::steady_clock::now() >= deadline) {
      co_return NotFound("no partition holds the key");
    }
    co_await Pause(&timer, kMapPoll);
  }
}

asio::awaitable<Result<std::shared_ptr<Partition>>> PartitionManager::FindPartition(
    PartitionId partition) {
  const std::shared_ptr<Slot> slot = FindSlot(partition);
  if (slot == nullptr) co_return NotFound("no replica of the partition is here");
  co_return co_await OpenSlot(slot);
}

asio::awaitable<Result<std::vector<std::shared_ptr<Partition>>>> PartitionManager::PartitionsOf(
    TableId table) {
  std::vector<std::shared_ptr<Partition>> partitions;
  std::vector<std::shared_ptr<Slot>> slots;
  {
    std::shared_lock lock(mutex_);
    const auto entry = tables_.find(table);
    if (entry == tables_.end() || entry->second.schema == nullptr) co_return partitions;
    for (const auto& [start, slot] : entry->second.slots) slots.push_back(slot);
  }
  for (const auto& slot : slots) {
    Result<std::shared_ptr<Partition>> opened = co_await OpenSlot(slot);
    if (!opened.ok()) co_return std::move(opened).status();
    partitions.push_back(*std::move(opened));
  }
  co_return partitions;
}

// Opening. ----------------------------------------------------------------------------------------

asio::awaitable<PartitionManager::OpenResult> PartitionManager::OpenSlot(
    std::shared_ptr<Slot> slot) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto initiate = [this, &slot, &executor](auto handler) {
    using Handler = decltype(handler);
    auto shared = std::make_shared<Handler>(std::move(handler));
    OpenSlot(slot, [shared, executor](OpenResult result) {
      asio::post(executor, [shared, result = std::move(result)]() mutable {
        std::move (*shared)(std::move(result));
      });
    });
  };
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(OpenResult)>(
      initiate, asio::use_awaitable);
}

/// Answers, from here or later on any thread, with the open partition or why there is none.
void PartitionManager::OpenSlot(const std::shared_ptr<Slot>& slot, OpenCallback answer) {
  Status refusal;
  std::shared_ptr<Partition> open;
  bool start = false;
  {
    std::unique_lock lock(mutex_);
    if (stopping_) {
      refusal = Unavailable("the server is stopping");
    } else if (slot->dropped) {
      refusal = NotFound("the table was deleted");
    } else if (slot->lost) {
      refusal = {Code::kNotPrimary, "the replica is lost: its data is not whole on this disk"};
    } else if (slot->partition != nullptr) {
      open = slot->partition;
    } else if (std::chrono::steady_clock::now() < slot->failed_at + kReopenPause) {
      refusal = Unavailable("the replica has just failed: it is opened again in a moment");
    } else {
      slot->waiters.push_back(answer);
      start = !slot->opening;
      slot->opening = true;
    }
  }
  if (!refusal.ok()) {
    answer(refusal);
  } else if (open != nullptr) {
    answer(open);
  } else if (start) {
    const std::shared_ptr<NodeHome>& home = HomeOf(slot->id);
    if (!scope_.Spawn(home->executor(), RunOpen(slot, home))) {
      AnswerWaiters(slot.get(), Unavailable("the server is stopping"));
    }
  }
}

void PartitionManager::AnswerWaiters(Slot* slot, const OpenResult& result) {
  std::vector<OpenCallback> waiters;
  {
    std::unique_lock lock(mutex_);
    slot->opening = false;
    slot->starting = nullptr;
    waiters.swap(slot->waiters);
  }
  for (const auto& waiter : waiters) waiter(result);
}

/// Until nobody holds the store of the partition's last life: RocksDB takes each but once.
asio::awaitable<Status> PartitionManager::AwaitClosed(std::shared_ptr<News> closed) {
  const auto deadline = std::chrono::steady_clock::now() + kClosedWait;
  while (closed->count() == 0) {
    const SteadyTime now = std::chrono::steady_clock::now();
    if (scope_.stopping() || now >= deadline)
      co_return Unavailable("the partition is being closed");
    co_await closed->Wait(0, now + kClosedLook);
  }
  co_return Status::Ok();
}

asio::awaitable<void> PartitionManager::RunOpen(std::shared_ptr<Slot> slot,
                                                std::shared_ptr<NodeHome> home) {
  // Runs to its end whatever stops around it: its waiters must be answered, its partition stopped.
  const asio::disable_cancellation none;
  co_await asio::this_coro::reset_cancellation_state(none);
  std::shared_ptr<News> closed;
  {
    std::unique_lock lock(mutex_);
    closed = slot->closed;
  }
  Status started;
  if (closed != nullptr) started = co_await AwaitClosed(closed);
  std::shared_ptr<Partition> partition;
  {
    std::unique_lock lock(mutex_);
    const auto table = tables_.find(slot->table);
    if (table == tables_.end() || table->second.schema == nullptr) {
      started = Unavailable("the table is not known here yet");
    }
    if (started.ok()) {
      PartitionPlace place;
      place.home = home;
      place.log = log_;
      place.host = this;
      place.replica = slot->replica;
      place.closed = std::make_shared<News>();
      slot->closed = place.closed;
      partition = std::make_shared<Partition>(environment_, std::move(place), table->second.schema,
                                              slot->config, slot->revision);
      if (!stopping_ && !slot->dropped) slot->starting = partition;
    }
  }
  if (partition == nullptr) {
    bool gone;
    {
      std::shared_lock lock(mutex_);
      gone = slot->dropped;
    }
    if (gone) {
      RemoveLog(slot->id);
      RemoveDirectory(slot->id, slot->replica);
      started = NotFound("the table was deleted");
    }
    AnswerWaiters(slot.get(), started);
    co_return;
  }
  if (slot->starting != nullptr) started = co_await partition->Start();
  bool dropped, stopping;
  {
    std::unique_lock lock(mutex_);
    dropped = slot->dropped;
    stopping = stopping_;
    slot->starting = nullptr;
    slot->active_at = std::chrono::steady_clock::now();
    if (started.ok() && !dropped && !stopping) slot->partition = partition;
    if (started.code() == Code::kCorruption && !alone()) slot->lost = true;
    if (started.code() == Code::kIoError) slot->failed_at = std::chrono::steady_clock::now();
  }
  if (dropped) {
    co_await StopPartition(partition, /*dropped=*/true);
    started = NotFound("the table was deleted");
  } else if (stopping) {
    co_await StopPartition(partition, /*dropped=*/false);
    started = Unavailable("the server is stopping");
  } else if (!started.ok()) {
    log::Error("cannot open a partition", "partition", partition->id(), "status", started);
  }
  if (started.ok()) {
    AnswerWaiters(slot.get(), partition);
    CheckPrimary(partition);
  } else {
    AnswerWaiters(slot.get(), started);
  }
}

/// Not cut short when the scope stops: what is in flight must be answered.
asio::awaitable<void> PartitionManager::StopPartition(std::shared_ptr<Partition> partition,
                                                      bool dropped) {
  const asio::disable_cancellation none;
  co_await asio::this_coro::reset_cancellation_state(none);
  if (dropped) partition->RemoveFilesOnClose();
  co_await partition->Stop(/*flush=*/!dropped);
  if (dropped) RemoveLog(partition->id());
}

// Now and then. -----------------------------------------------------------------------------------

/// Flushes the partitions that keep the log from shrinking, opening those that nobody has asked for
/// since the start.
asio::awaitable<void> PartitionManager::Maintain() {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  bool disk_was_low = false;
  for (;;) {
    if (!co_await Pause(&timer, options_.maintenance_interval) || scope_.stopping()) co_return;
    RemoveLeftLogs();
    for (const PartitionId id : environment_.log->Pinning(options_.log_limit_bytes)) {
      const std::shared_ptr<Slot> found = FindSlot(id);
      if (found == nullptr) continue;
      OpenResult partition = co_await OpenSlot(found);
      if (partition.ok()) FlushLater(*std::move(partition));
    }
    // Full write buffers count as used space: on the disk they take less, and the log behind them
    // goes.
    const bool disk_low = environment_.disk_low->load(std::memory_order_relaxed);
    if (disk_low && !disk_was_low) {
      std::shared_lock lock(mutex_);
      for (const auto& [id, slot] : partitions_) {
        if (slot->partition != nullptr) FlushLater(slot->partition);
      }
    }
    disk_was_low = disk_low;
    CloseIdle();
    if (alone()) continue;
    TakeOver(NodeId());
    ResignLost();
  }
}

void PartitionManager::CloseIdle() {
  const SteadyTime now = std::chrono::steady_clock::now();
  std::vector<std::shared_ptr<Partition>> idle;
  {
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    for (const auto& [id, slot] : partitions_) {
      if (slot->partition == nullptr) continue;
      slot->partition->load().Update(now);
      const uint64_t activity = slot->partition->activity();
      if (activity != slot->activity || slot->partition->queued_writes() > 0) {
        slot->activity = activity;
        slot->active_at = now;
      } else if (options_.idle_close.count() > 0 && now - slot->active_at > options_.idle_close) {
        idle.push_back(std::move(slot->partition));
        slot->partition = nullptr;
      }
    }
  }
  for (auto& partition : idle) {
    const PartitionId id = partition->id();
    proto::ReplicaStatus figures;
    partition->Describe(&figures);  // may read files
    {
      std::unique_lock lock(mutex_);
      if (const auto slot = partitions_.find(id); slot != partitions_.end()) {
        slot->second->figures = figures;
      }
    }
    scope_.Spawn(HomeOf(id)->executor(), StopPartition(std::move(partition), /*dropped=*/false));
  }
}

void PartitionManager::FlushLater(std::shared_ptr<Partition> partition) {
  (void)environment_.blocking->TrySubmit([partition = std::move(partition)] {
    if (const Status status = partition->Flush(); !status.ok()) {
      log::Warn("cannot flush a partition", "partition", partition->id(), "status", status);
    }
  });
}

void PartitionManager::Stop() {
  std::vector<std::shared_ptr<Partition>> open;
  {
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    for (auto& [id, slot] : partitions_) {
      if (slot->partition != nullptr) open.push_back(std::move(slot->partition));
      slot->partition = nullptr;
      if (slot->starting == nullptr) continue;
      asio::post(HomeOf(id)->executor(), [starting = slot->starting] {
        starting->GiveUpStart(Unavailable("the server is stopping"));
      });
    }
  }
  // The watches end on their own executor.
  std::promise<void> unwatched;
  asio::post(io_->executor(0), [this, &unwatched] {
    table_watch_.reset();
    partition_watch_.reset();
    unwatched.set_value();
  });
  unwatched.get_future().get();
  scope_.Stop();
  AsyncScope stops;
  for (auto& partition : open) {
    const PartitionId id = partition->id();
    stops.Spawn(HomeOf(id)->executor(), StopPartition(std::move(partition), /*dropped=*/false));
  }
  std::promise<void> joined;
  asio::co_spawn(
      io_->context(0), [&stops]() -> asio::awaitable<void> { co_await stops.AsyncJoin(); },
      [&joined](std::exception_ptr) { joined.set_value(); });
  joined.get_future().get();
  while (blocking_tasks_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::unique_lock lock(mutex_);
  tables_.clear();
  partitions_.clear();
}

size_t PartitionManager::open_partitions() const {
  std::shared_lock lock(mutex_);
  size_t count = 0;
  for (const auto& [id, slot] : partitions_) count += slot->partition != nullptr;
  return count;
}

size_t PartitionManager::queued_writes() const {
  std::shared_lock lock(mutex_);
  size_t count = 0;
  for (const auto& [id, slot] : partitions_) {
    if (slot->partition != nullptr) count += slot->partition->queued_writes();
  }
  return count;
}

}  // namespace onggi::partition
