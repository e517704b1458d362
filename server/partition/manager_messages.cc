#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>
#include <utility>

#include "common/log.h"
#include "replication/group/record.h"
#include "replication/metadata/keys.h"
#include "server/partition/partition_manager.h"
#include "server/partition/replica_files.h"

/// PartitionManager: what other nodes say, and what it means that one is gone.
namespace onggi::partition {

namespace asio = boost::asio;

namespace {

/// Messages that wait for one partition to open; others are sent again.
constexpr size_t kMaxWaitingMessages = 64;
/// How long applying Absorb waits for the neighbour on its node to apply the Freeze.
constexpr auto kFrozenWait = std::chrono::seconds(3);
/// A replica that has failed within this long, and is not open, cannot lead.
constexpr auto kFailing = std::chrono::seconds(5);

}  // namespace

/// On the partition's home, if it has a replica by then.
void PartitionManager::Deliver(const std::shared_ptr<Partition>& partition, Delivery delivery) {
  asio::post(HomeOf(partition->id())->executor(), [partition, delivery = std::move(delivery)] {
    if (replica::Replica* const replica = partition->replica()) delivery(*replica);
  });
}

/// To all open partitions that are wanted, one message per home.
void PartitionManager::ForEachOpen(const std::function<bool(const Slot&)>& wanted,
                                   const Delivery& delivery) {
  std::vector<std::vector<std::shared_ptr<Partition>>> by_home(homes_.size());
  {
    std::shared_lock lock(mutex_);
    if (stopping_) return;
    for (const auto& [id, slot] : partitions_) {
      const auto& partition = slot->partition != nullptr ? slot->partition : slot->starting;
      if (partition != nullptr && wanted(*slot)) {
        by_home[id.value % homes_.size()].push_back(partition);
      }
    }
  }
  for (size_t i = 0; i < by_home.size(); ++i) {
    if (by_home[i].empty()) continue;
    asio::post(homes_[i]->executor(), [partitions = std::move(by_home[i]), delivery] {
      for (const auto& partition : partitions) {
        if (replica::Replica* const replica = partition->replica()) delivery(*replica);
      }
    });
  }
}

void PartitionManager::OnMessage(NodeId from, uint64_t boot, transport::GroupMessage message) {
  const PartitionId id = message.partition;
  if (const auto* create = std::get_if<group::CreateMessage>(&message.body)) {
    OnCreate(from, boot, *create, message.table, id);
    return;
  }
  auto* append = std::get_if<transport::Append>(&message.body);
  std::shared_ptr<Slot> slot = FindSlot(id);
  if ((slot == nullptr || slot->replica != message.to) && append != nullptr &&
      append->message.configuration != nullptr) {
    // A new member hears of it from its primary before it does from the map.
    proto::PartitionConfig config;
    config.set_table(message.table.value);
    config.set_partition(id.value);
    group::ToRecord(*append->message.configuration, &config);
    Learn(std::move(config), append->message.revision);
    slot = FindSlot(id);
  }
  if (slot == nullptr || slot->replica != message.to) return;
  std::shared_ptr<Partition> open;
  {
    std::unique_lock lock(mutex_);
    if (!started_ || stopping_ || slot->lost) return;
    open = slot->partition != nullptr ? slot->partition : slot->starting;
    if (open == nullptr) {
      // An answer to what an earlier life asked is nothing to open for.
      if (append == nullptr && !std::holds_alternative<group::ResignMessage>(message.body)) return;
      size_t& waiting = waiting_messages_[id];
      if (waiting >= kMaxWaitingMessages) return;
      ++waiting;
    }
  }
  // Copied by the function object, never by the way.
  auto shared = std::make_shared<transport::GroupMessage>(std::move(message));
  const Delivery delivery = [shared](replica::Replica& replica) {
    replica.OnMessage(std::move(*shared));
  };
  if (open != nullptr) {
    Deliver(open, delivery);
    return;
  }
  OpenSlot(slot, [this, id, delivery](const OpenResult& opened) {
    {
      std::unique_lock lock(mutex_);
      const auto waiting = waiting_messages_.find(id);
      if (waiting != waiting_messages_.end() && --waiting->second == 0) {
        waiting_messages_.erase(waiting);
      }
    }
    if (opened.ok()) Deliver(*opened, delivery);
  });
}

/// The first replicas of a new partition (meeting of the primary-to-be with the others): made
/// empty, for nobody has led it, and answered once durable.
void PartitionManager::OnCreate(NodeId from, uint64_t boot, const group::CreateMessage& create,
                                TableId table, PartitionId partition) {
  if (create.configuration == nullptr || create.to.node != environment_.node) return;
  proto::PartitionConfig config;
  config.set_table(table.value);
  config.set_partition(partition.value);
  group::ToRecord(*create.configuration, &config);
  Learn(std::move(config), create.revision);
  const std::shared_ptr<Slot> slot = FindSlot(partition);
  if (slot == nullptr) return;
  {
    // Asked again until it is answered: what waits for etcd and the disk already is enough, or many
    // new partitions at once would fill the queue with each other's repetitions.
    std::unique_lock lock(mutex_);
    if (!answering_.insert(partition).second) return;
  }
  // The message may be old: an empty replica may come into being only while nobody has led.
  const std::string key = metadata::keys::Partition(table, partition);
  ++blocking_tasks_;
  environment_.metadata->AsyncRange(
      key, key + '\0', 1, [=, this](const Result<metadata::RangeResult>& result) {
        const bool submitted = result.ok() && environment_.blocking->TrySubmit([=, this] {
          bool led = true;
          if (!result->kvs.empty()) {
            const auto record = group::ParseRecord(result->kvs[0].value);
            led = !record.ok() || record->epoch() != 0 ||
                  !group::FromRecord(*record).Names(create.to);
          }
          AnswerCreate(slot, create, from, boot, led);
          Answered(partition);
        });
        if (!submitted) Answered(partition);  // asked again
      });
}

void PartitionManager::Answered(PartitionId partition) {
  {
    std::unique_lock lock(mutex_);
    answering_.erase(partition);
  }
  --blocking_tasks_;
}

/// On the blocking pool. Led since: what is not here by now is lost, never empty.
void PartitionManager::AnswerCreate(const std::shared_ptr<Slot>& slot,
                                    const group::CreateMessage& create, NodeId from, uint64_t boot,
                                    bool led) {
  {
    std::shared_lock lock(mutex_);
    if (!started_ || stopping_ || slot->dropped || slot->replica != create.to.replica) return;
  }
  Status made;
  if (led) {
    const Result<ReplicaId> there =
        ReadReplicaFile(environment_.storage->files(), DirectoryOf(slot->id));
    if (!there.ok()) {
      made = there.status();
    } else if (*there != create.to.replica) {
      made = {Code::kAlreadyExists, "replica " + there->ToString() + " is there"};
    }
  } else {
    made = CreateReplica(slot->table, slot->id, create.to.replica);
  }
  if (made.code() == Code::kUnavailable) return;  // asked again
  if (!made.ok()) {
    log::Warn("a new partition's replica is not made", "partition", slot->id, "status", made);
    return;
  }
  transport::GroupMessage answer;
  answer.table = slot->table;
  answer.partition = slot->id;
  answer.to = create.from.replica;
  answer.body = group::CreatedMessage{create.to};
  environment_.transport->Send(from, std::move(answer), boot);
}

void PartitionManager::OnNewerConfiguration(NodeId, lease::NewerConfiguration newer) {
  if (newer.configuration == nullptr) return;
  proto::PartitionConfig config;
  config.set_table(newer.table.value);
  config.set_partition(newer.partition.value);
  group::ToRecord(*newer.configuration, &config);
  Learn(std::move(config), newer.revision);
}

void PartitionManager::OnPeerConnected(NodeId peer, uint64_t) {
  ForEachOpen([](const Slot&) { return true; },
              [peer](replica::Replica& replica) { replica.OnPeerConnected(peer); });
}

void PartitionManager::OnPeerLost(NodeId peer) {
  ForEachOpen([](const Slot&) { return true; },
              [peer](replica::Replica& replica) { replica.OnPeerLost(peer); });
  TakeOver(peer);
}

/// A partition that has just opened may have missed that its primary is gone.
void PartitionManager::CheckPrimary(const std::shared_ptr<Partition>& partition) {
  if (alone()) return;
  const NodeId primary = partition->primary_hint().node;
  if (primary == NodeId() || primary == environment_.node) return;
  if (environment_.transport->Connected(primary)) return;
  Deliver(partition, [primary](replica::Replica& replica) { replica.OnPeerLost(primary); });
}

/// Has the partitions led by `lost` (0: by any node that is not connected) looked after in which
/// this node is in sync: the open ones consider it themselves, closed ones are opened first, a few
/// at a time. With 0, also those that are led from here with fewer in sync than they need: the
/// request that would open them could not be answered before others have taken copies.
void PartitionManager::TakeOver(NodeId lost) {
  std::vector<std::shared_ptr<Slot>> closed;
  std::vector<std::shared_ptr<Partition>> open;
  std::map<NodeId, bool> connected;
  {
    std::shared_lock lock(mutex_);
    if (stopping_ || !started_) return;
    for (const auto& [id, slot] : partitions_) {
      const NodeId primary(slot->config.primary().node());
      if (slot->lost || slot->opening) continue;
      if (primary == environment_.node) {
        // Learners wait for their primary, who may have restarted, and perhaps nobody else asks.
        const bool waited_for =
            slot->config.learners_size() > 0 ||
            slot->config.in_sync_size() < static_cast<int>(slot->config.min_in_sync());
        if (lost == NodeId() && waited_for && slot->partition == nullptr) closed.push_back(slot);
        continue;
      }
      if (lost != NodeId()) {
        if (primary != lost || slot->partition != nullptr) continue;
      } else {
        const auto [known, asked] = connected.try_emplace(primary, true);
        if (asked) known->second = environment_.transport->Connected(primary);
        if (known->second) continue;
      }
      const bool in_sync = std::any_of(slot->config.in_sync().begin(), slot->config.in_sync().end(),
                                       [&](const proto::ReplicaRef& member) {
                                         return NodeId(member.node()) == environment_.node;
                                       });
      if (!in_sync) continue;
      if (slot->partition != nullptr) {
        open.push_back(slot->partition);
      } else {
        closed.push_back(slot);
      }
    }
  }
  for (const auto& partition : open) CheckPrimary(partition);
  if (closed.empty()) return;
  scope_.Spawn(io_->NextExecutor(), RunTakeOver(std::move(closed), lost));
}

/// R11: this node's replica leads by the map, and cannot: it is lost, or its disk keeps it from
/// being opened again after it failed. (If it is, it asks for a reign of its own first, R7.)
void PartitionManager::ResignLost() {
  std::vector<std::pair<NodeId, transport::GroupMessage>> resignations;
  const SteadyTime failing = std::chrono::steady_clock::now() - kFailing;
  {
    std::shared_lock lock(mutex_);
    if (stopping_) return;
    for (const auto& [id, slot] : partitions_) {
      const group::Member self{environment_.node, slot->replica};
      // One that is being opened may lead already.
      const bool shut = slot->partition == nullptr && !slot->opening;
      const bool cannot = slot->lost || (shut && slot->failed_at > failing);
      if (!cannot || group::FromRecord(slot->config.primary()) != self) continue;
      for (const proto::ReplicaRef& ref : slot->config.in_sync()) {
        const group::Member member = group::FromRecord(ref);
        if (member == self) continue;
        transport::GroupMessage message;
        message.table = slot->table;
        message.partition = id;
        message.to = member.replica;
        message.body = group::ResignMessage{self, Epoch(slot->config.epoch())};
        resignations.emplace_back(member.node, std::move(message));
      }
    }
  }
  for (auto& [node, message] : resignations) {
    environment_.transport->Send(node, std::move(message));
  }
}

/// RunOpen() goes on to CheckPrimary().
asio::awaitable<void> PartitionManager::RunTakeOver(std::vector<std::shared_ptr<Slot>> slots,
                                                    NodeId) {
  auto next = std::make_shared<std::atomic<size_t>>(0);
  auto all = std::make_shared<std::vector<std::shared_ptr<Slot>>>(std::move(slots));
  // Each of the first few leads to the next when it is done.
  auto open_next = std::make_shared<std::function<void()>>();
  std::weak_ptr<std::function<void()>> weak = open_next;
  *open_next = [this, next, all, weak] {
    const size_t index = next->fetch_add(1);
    const auto self = weak.lock();
    if (index >= all->size() || self == nullptr || scope_.stopping()) return;
    // Not from within: one that is open, or refused, is answered at once.
    OpenSlot((*all)[index], [this, self](const OpenResult&) {
      asio::post(io_->executor(0), [self] { (*self)(); });
    });
  };
  for (size_t i = 0; i < options_.max_failover_opens; ++i) (*open_next)();
  co_return;
}

// PartitionHost. ----------------------------------------------------------------------------------

void PartitionManager::OnConfiguration(TableId table, PartitionId partition,
                                       const KnownConfiguration& known) {
  std::unique_lock lock(mutex_);
  const auto found = partitions_.find(partition);
  if (found == partitions_.end() || known.revision <= found->second->revision) return;
  const std::shared_ptr<Slot> slot = found->second;
  proto::PartitionConfig config;
  config.set_table(table.value);
  config.set_partition(partition.value);
  group::ToRecord(known.configuration, &config);
  // That it names this node no more, the group says: Removed.
  const std::string old_start = slot->config.range_start();
  slot->config = std::move(config);
  slot->revision = known.revision;
  if (old_start != slot->config.range_start()) PlaceSlot(slot, old_start);
}

void PartitionManager::OnReplicaRemoved(TableId, PartitionId partition) {
  // Not from within a call of the replica.
  asio::post(io_->executor(0), [this, partition] { DropPartition(partition); });
}

void PartitionManager::OnReplicaFailed(TableId, PartitionId partition, const Status& status) {
  std::shared_ptr<Partition> open;
  {
    std::unique_lock lock(mutex_);
    const auto found = partitions_.find(partition);
    if (found == partitions_.end()) return;
    const std::shared_ptr<Slot> slot = found->second;
    if (status.code() == Code::kCorruption && !alone()) slot->lost = true;
    slot->failed_at = std::chrono::steady_clock::now();
    open = std::move(slot->partition);
    slot->partition = nullptr;
  }
  if (open == nullptr) return;
  scope_.Spawn(HomeOf(partition)->executor(), StopPartition(open, /*dropped=*/false));
}

void PartitionManager::OnChildMade(PartitionId child, ReplicaId replica) {
  std::unique_lock lock(mutex_);
  if (!partitions_.contains(child)) unnamed_[child] = replica;
}

std::shared_ptr<const Partition> PartitionManager::FindFrozen(PartitionId partition,
                                                              LogIndex freeze) {
  const std::shared_ptr<Slot> slot = FindSlot(partition);
  if (slot == nullptr) return nullptr;
  const auto deadline = std::chrono::steady_clock::now() + kFrozenWait;
  auto asked = std::make_shared<std::promise<OpenResult>>();
  auto answer = asked->get_future();
  OpenSlot(slot, [asked](OpenResult opened) { asked->set_value(std::move(opened)); });
  if (answer.wait_until(deadline) != std::future_status::ready) return nullptr;
  const OpenResult opened = answer.get();
  if (!opened.ok()) return nullptr;
  News& news = (*opened)->news();
  for (;;) {
    const uint64_t seen = news.count();
    if ((*opened)->frozen_at() == freeze) return *opened;
    if (std::chrono::steady_clock::now() >= deadline) return nullptr;
    news.Block(seen, deadline);
  }
}

// Checkpoints. ------------------------------------------------------------------------------------

Status PartitionManager::Accept(const checkpoint::CheckpointInfo& info) {
  const std::shared_ptr<Slot> slot = FindSlot(info.partition);
  if (slot == nullptr || slot->replica != info.to.replica) {
    return NotFound("no such replica is here");
  }
  std::shared_lock lock(mutex_);
  if (stopping_ || !started_) return Unavailable("the node is starting or stopping");
  if (slot->lost) return Corruption("the replica is lost");
  return Status::Ok();
}

void PartitionManager::Install(checkpoint::CheckpointInfo info, std::function<void(Status)> done) {
  const std::shared_ptr<Slot> slot = FindSlot(info.partition);
  if (slot == nullptr || slot->replica != info.to.replica) {
    done(NotFound("no such replica is here"));
    return;
  }
  OpenSlot(slot, [this, info, done = std::move(done)](const OpenResult& opened) {
    if (!opened.ok()) {
      done(opened.status());
      return;
    }
    Deliver(*opened, [info, done](replica::Replica& replica) {
      replica.InstallCheckpoint(info.epoch, info.position, info.directory, done);
    });
  });
}

}  // namespace onggi::partition
