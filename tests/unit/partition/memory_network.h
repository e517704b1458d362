#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "replication/checkpoint/checkpoint.h"
#include "replication/lease/node_leases.h"
#include "replication/metadata/metadata_store.h"
#include "replication/replica/environment.h"
#include "replication/transport/transport.h"

/// Nodes of one process talk as if over a network that can be cut, one way or both.
namespace onggi::partition {

class MemoryNetwork;

/// One node's end.
class MemoryTransport final : public transport::Transport {
 public:
  MemoryTransport(MemoryNetwork* network, NodeId self, uint64_t boot)
      : network_(network), self_(self), boot_(boot) {}
  bool Send(NodeId to, transport::GroupMessage message, uint64_t boot) override;
  bool Connected(NodeId peer) const override;
  uint64_t Boot(NodeId peer) const override;
  void SetPeers(std::map<NodeId, transport::Peer>) override {}

 private:
  MemoryNetwork* const network_;
  const NodeId self_;
  const uint64_t boot_;
};

class MemoryNetwork {
 public:
  MemoryNetwork() : clock_([this] { Beat(); }) {}
  ~MemoryNetwork() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    clock_.join();
  }

  /// Brings a node up: it connects to all that it has links to.
  void Attach(NodeId node, uint64_t boot, transport::MessageHandler* handler,
              std::shared_ptr<lease::NodeLeases> leases) {
    auto end = std::make_shared<End>();
    end->node = node;
    end->boot = boot;
    end->handler = handler;
    end->leases = std::move(leases);
    end->thread = std::thread([this, end] { Deliver(end); });
    std::lock_guard lock(mutex_);
    ends_[node] = end;
    for (const auto& [other, peer] : ends_) {
      if (other != node && Linked(node, other)) Connect(*end, *peer);
    }
  }
  /// Its process is gone; returns when nothing is delivered any more.
  void Detach(NodeId node) {
    std::shared_ptr<End> end;
    {
      std::lock_guard lock(mutex_);
      const auto found = ends_.find(node);
      if (found == ends_.end()) return;
      end = found->second;
      for (const auto& [other, peer] : ends_) {
        if (other != node) Disconnect(*end, *peer);
      }
      ends_.erase(found);
      end->stopping = true;
      end->news.notify_all();
    }
    end->thread.join();
  }

  /// Cuts or mends both ways; the connection closes.
  void SetLink(NodeId a, NodeId b, bool up) {
    std::lock_guard lock(mutex_);
    const auto link = std::minmax(a, b);
    up ? (void)cut_.erase(link) : (void)cut_.insert(link);
    const auto one = ends_.find(a), other = ends_.find(b);
    if (one == ends_.end() || other == ends_.end()) return;
    up ? Connect(*one->second, *other->second) : Disconnect(*one->second, *other->second);
  }
  void Isolate(NodeId node, bool isolated) {
    std::set<NodeId> others;
    {
      std::lock_guard lock(mutex_);
      for (const auto& [other, end] : ends_) others.insert(other);
      for (uint64_t other = 1; other <= 9; ++other) others.insert(NodeId(other));
    }
    others.erase(node);
    for (const NodeId other : others) SetLink(node, other, !isolated);
  }
  /// Loses, without a word, what goes from one to the other; heartbeats too.
  void SetSilent(NodeId from, NodeId to, bool silent) {
    std::lock_guard lock(mutex_);
    silent ? (void)silent_.insert({from, to}) : (void)silent_.erase({from, to});
  }
  /// Loses the messages of replicas that `drop` says.
  void SetDrop(std::function<bool(NodeId, NodeId, const transport::GroupMessage&)> drop) {
    std::lock_guard lock(mutex_);
    drop_ = std::move(drop);
  }

 private:
  friend class MemoryTransport;

  struct End {
    NodeId node;
    uint64_t boot = 0;
    transport::MessageHandler* handler = nullptr;
    std::shared_ptr<lease::NodeLeases> leases;
    std::set<NodeId> connected;
    std::deque<std::function<void(End&)>> queue;
    std::condition_variable news;
    bool stopping = false;
    std::thread thread;
  };

  bool Linked(NodeId a, NodeId b) const { return !cut_.contains(std::minmax(a, b)); }
  void Push(End& end, std::function<void(End&)> what) {
    end.queue.push_back(std::move(what));
    end.news.notify_one();
  }
  void Connect(End& a, End& b) {
    if (!a.connected.insert(b.node).second) return;
    b.connected.insert(a.node);
    Push(a, [peer = b.node, boot = b.boot](End& end) { end.handler->OnPeerConnected(peer, boot); });
    Push(b, [peer = a.node, boot = a.boot](End& end) { end.handler->OnPeerConnected(peer, boot); });
  }
  void Disconnect(End& a, End& b) {
    if (a.connected.erase(b.node) == 0) return;
    b.connected.erase(a.node);
    Push(a, [peer = b.node](End& end) { end.handler->OnPeerLost(peer); });
    Push(b, [peer = a.node](End& end) { end.handler->OnPeerLost(peer); });
  }

  bool Send(NodeId from, uint64_t from_boot, NodeId to, transport::GroupMessage message,
            uint64_t boot) {
    std::lock_guard lock(mutex_);
    const auto source = ends_.find(from), target = ends_.find(to);
    if (source == ends_.end() || target == ends_.end()) return false;
    if (source->second->boot != from_boot || !source->second->connected.contains(to)) return false;
    if (boot != 0 && target->second->boot != boot) return false;
    if (silent_.contains({from, to}) || (drop_ && drop_(from, to, message))) return true;
    auto shared = std::make_shared<transport::GroupMessage>(std::move(message));
    Push(*target->second, [from, from_boot, shared](End& end) {
      end.handler->OnMessage(from, from_boot, std::move(*shared));
    });
    return true;
  }

  void Deliver(const std::shared_ptr<End>& end) {
    std::unique_lock lock(mutex_);
    for (;;) {
      end->news.wait(lock, [&] { return end->stopping || !end->queue.empty(); });
      if (end->stopping) return;
      const auto what = std::move(end->queue.front());
      end->queue.pop_front();
      lock.unlock();
      what(*end);
      lock.lock();
    }
  }

  /// Heartbeats of every pair.
  void Beat() {
    for (;;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      std::unique_lock lock(mutex_);
      if (stopping_) return;
      const bool heartbeat = ++beats_ % 4 == 0;
      for (const auto& [node, end] : ends_) {
        for (const auto& [other, peer] : ends_) {
          if (other != node && heartbeat && Linked(node, other)) Connect(*end, *peer);
        }
      }
      for (const auto& [node, end] : ends_) {
        // As the transport does: a silent connection is given up, and made again.
        for (const NodeId lost : end->leases->TakeLapsed(lease::Now())) {
          if (const auto peer = ends_.find(lost); peer != ends_.end()) {
            Disconnect(*end, *peer->second);
          }
        }
        if (!heartbeat) continue;
        for (const NodeId peer : end->connected) {
          const auto beat = end->leases->OnSendHeartbeat(peer, lease::Now());
          if (!beat.has_value() || silent_.contains({node, peer})) continue;
          Push(*ends_[peer], [this, beat = *beat](End& self) { OnHeartbeat(self, beat); });
        }
      }
    }
  }
  void OnHeartbeat(End& self, const lease::Heartbeat& beat) {
    const lease::HeartbeatAck ack = self.leases->OnHeartbeat(beat, lease::Now());
    std::lock_guard lock(mutex_);
    const auto target = ends_.find(beat.from);
    if (target == ends_.end() || !self.connected.contains(beat.from)) return;
    if (target->second->boot != ack.to_boot || silent_.contains({self.node, beat.from})) return;
    Push(*target->second, [ack](End& end) {
      for (auto& newer : end.leases->OnHeartbeatAck(ack)) {
        end.handler->OnNewerConfiguration(ack.from, std::move(newer));
      }
    });
  }

  std::mutex mutex_;
  bool stopping_ = false;
  uint64_t beats_ = 0;
  std::map<NodeId, std::shared_ptr<End>> ends_;
  std::set<std::pair<NodeId, NodeId>> cut_;
  std::set<std::pair<NodeId, NodeId>> silent_;
  std::function<bool(NodeId, NodeId, const transport::GroupMessage&)> drop_;
  std::thread clock_;  ///< last: it uses all the others
};

inline bool MemoryTransport::Send(NodeId to, transport::GroupMessage message, uint64_t boot) {
  return network_->Send(self_, boot_, to, std::move(message), boot);
}
inline bool MemoryTransport::Connected(NodeId peer) const { return Boot(peer) != 0; }
inline uint64_t MemoryTransport::Boot(NodeId peer) const {
  std::lock_guard lock(network_->mutex_);
  const auto self = network_->ends_.find(self_);
  const auto other = network_->ends_.find(peer);
  if (self == network_->ends_.end() || other == network_->ends_.end()) return 0;
  return self->second->connected.contains(peer) ? other->second->boot : 0;
}

/// Copies checkpoints from node to node.
class MemoryCheckpoints final : public replica::CheckpointSender {
 public:
  using Find = std::function<checkpoint::CheckpointReceiver*(NodeId)>;
  MemoryCheckpoints(NodeId self, std::string scratch, Find find)
      : self_(self), scratch_(std::move(scratch)), find_(std::move(find)) {}
  ~MemoryCheckpoints() override { Join(); }
  void Join() {
    std::vector<std::thread> threads;
    {
      std::lock_guard lock(mutex_);
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }
  void Send(const group::Member& to, TableId table, PartitionId partition, Epoch epoch,
            std::string directory, LogPosition position,
            std::function<void(Status)> done) override {
    std::lock_guard lock(mutex_);
    ++sent;
    threads_.emplace_back([=, this] {
      checkpoint::CheckpointReceiver* const receiver = find_(to.node);
      if (receiver == nullptr) {
        done(Unavailable("no such node"));
        return;
      }
      checkpoint::CheckpointInfo info;
      info.from = self_;
      info.to = to;
      info.table = table;
      info.partition = partition;
      info.epoch = epoch;
      info.position = position;
      if (const Status accepted = receiver->Accept(info); !accepted.ok()) {
        done(accepted);
        return;
      }
      info.directory = scratch_ + "-" + std::to_string(sent) + "-" + to.replica.ToString();
      std::error_code error;
      std::filesystem::copy(directory, info.directory, error);
      if (error) {
        done(Unavailable(error.message()));
        return;
      }
      receiver->Install(info, done);
    });
  }
  std::atomic<int> sent{0};

 private:
  const NodeId self_;
  const std::string scratch_;
  const Find find_;
  std::mutex mutex_;
  std::vector<std::thread> threads_;  // guarded by mutex_
};

/// A node's client of the metadata store, which can be cut off or lose answers.
class CutStore final : public metadata::MetadataStore {
 public:
  explicit CutStore(metadata::MetadataStore* base) : base_(base) {}
  std::atomic<bool> cut{false};           ///< requests are not done
  std::atomic<bool> lose_answers{false};  ///< transactions are done, and nobody hears of it
  std::atomic<bool> blind{false};         ///< nothing can be read, and watches say nothing
  std::atomic<size_t> ranges{0};          ///< that were asked for
  /// Returns when every request has been answered.
  void Drain() const {
    while (outstanding_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  void AsyncRange(std::string start, std::string end, size_t limit,
                  RangeCallback callback) override {
    ++ranges;
    if (cut || blind) return Later([callback] { callback(Unavailable("cut")); });
    ++outstanding_;
    base_->AsyncRange(std::move(start), std::move(end), limit, [this, callback](auto result) {
      callback(std::move(result));
      --outstanding_;
    });
  }
  void AsyncCommit(metadata::Transaction transaction, TransactionCallback callback) override {
    if (cut) return Later([callback] { callback(Unavailable("cut")); });
    ++outstanding_;
    base_->AsyncCommit(std::move(transaction),
                       [this, callback, lose = lose_answers.load()](auto result) {
                         if (lose) {
                           callback(Status(Code::kUnknownOutcome, "lost"));
                         } else {
                           callback(std::move(result));
                         }
                         --outstanding_;
                       });
  }
  std::unique_ptr<metadata::WatchHandle> Watch(std::string prefix, Revision from,
                                               boost::asio::any_io_executor executor,
                                               WatchCallback callback) override {
    auto seen = [this, callback = std::move(callback)](const auto& news) {
      if (!blind) callback(news);
    };
    return base_->Watch(std::move(prefix), from, std::move(executor), std::move(seen));
  }
  void AsyncGrantLease(std::chrono::seconds ttl, boost::asio::any_io_executor executor,
                       std::function<void()> lost, LeaseCallback callback) override {
    base_->AsyncGrantLease(ttl, std::move(executor), std::move(lost), std::move(callback));
  }
  void AsyncRevokeLease(metadata::LeaseId lease, StatusCallback callback) override {
    base_->AsyncRevokeLease(lease, std::move(callback));
  }

 private:
  /// Never from within the call.
  void Later(std::function<void()> call) {
    ++outstanding_;
    base_->AsyncRange("!", "\"", 1, [this, call](const auto&) {
      call();
      --outstanding_;
    });
  }
  metadata::MetadataStore* const base_;
  std::atomic<int> outstanding_{0};
};

}  // namespace onggi::partition
