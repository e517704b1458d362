#include "server/routing/router.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>

#include "common/uuid.h"
#include "server/routing/attempts.h"
#include "server/routing/network.h"
#include "server/routing/wire.h"

namespace onggi::routing {

namespace asio = boost::asio;

using partition::Partition;
using PartitionPtr = std::shared_ptr<Partition>;

Router::Router(RouterOptions options, partition::Directory* local, RouteMap* map, Network* network,
               metrics::Registry* registry)
    : options_(options),
      local_(local),
      map_(map),
      network_(network),
      counters_(registry == nullptr ? nullptr : std::make_unique<Counters>(registry)) {
  map_->SetListener([this](const RouteMap::RoutePtr& route) { OnRouteChanged(route); });
  if (network_ == nullptr) return;
  network_->SetConnectedListener([this](NodeId) {
    changes_.fetch_add(1);
    WakeSleepers();
  });
}

Router::~Router() {
  Stop();
  scope_.Stop();
}

void Router::Stop() {
  stopping_.store(true);
  scope_.RequestStop();
  WakeSleepers();
}

SteadyTime Router::DeadlineOf(SteadyTime asked) const {
  return std::min(asked, std::chrono::steady_clock::now() + options_.default_timeout);
}

void Router::Learn(const proto::RoutedError& error) {
  for (const proto::RoutedConfig& hint : error.configs()) {
    if (map_->Learn(hint.config(), Revision(hint.mod_revision())) && counters_ != nullptr) {
      counters_->corrections.Add();
    }
  }
}

/// What was asked of a node that no longer leads is asked of the one that does.
void Router::OnRouteChanged(const RouteMap::RoutePtr& route) {
  changes_.fetch_add(1);
  WakeSleepers();
  if (network_ == nullptr) return;
  const Status moved(Code::kUnknownOutcome, "the partition has another primary now");
  for (const auto& connection : network_->Connections()) {
    if (connection->peer() == route->primary() || connection->calls() == 0) continue;
    connection->Abandon(
        [&](const PendingCall& call) {
          return call.wants_primary && call.partition == route->partition();
        },
        moved);
  }
}

// -- Waiting for another try. -----------------------------------------------------------------

struct Router::Sleeper {
  explicit Sleeper(asio::any_io_executor executor) : timer(std::move(executor)) {}
  asio::steady_timer timer;
};

void Router::WakeSleepers() {
  std::list<std::shared_ptr<Sleeper>> sleepers;
  {
    std::lock_guard lock(mutex_);
    sleepers.swap(sleepers_);
  }
  for (auto& sleeper : sleepers) {
    const auto executor = sleeper->timer.get_executor();
    asio::post(executor, [sleeper = std::move(sleeper)] { sleeper->timer.cancel(); });
  }
}

asio::awaitable<bool> Router::Pause(const Status& status, Attempts* attempts) {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (stopping_.load() || now >= attempts->deadline) co_return false;
  if (status.code() == Code::kNotFound && now >= attempts->started + options_.map_wait) {
    co_return false;
  }
  ++attempts->tries;
  if (counters_ != nullptr) counters_->OfRetry(status).Add();
  const auto sleeper = std::make_shared<Sleeper>(co_await asio::this_coro::executor);
  {
    std::lock_guard lock(mutex_);
    if (attempts->changes != changes_.load()) co_return true;
    sleepers_.push_back(sleeper);
  }
  sleeper->timer.expires_at(std::min(now + attempts->NextBackoff(), attempts->deadline));
  boost::system::error_code error;
  auto token = asio::redirect_error(asio::use_awaitable, error);
  co_await sleeper->timer.async_wait(token);
  {
    std::lock_guard lock(mutex_);
    sleepers_.remove(sleeper);
  }
  co_return !stopping_.load();
}

// -- This node's replicas. --------------------------------------------------------------------

asio::awaitable<Result<PartitionPtr>> Router::OpenLocal(TableId table, std::string key,
                                                        SteadyTime deadline) {
  if (PartitionPtr open = local_->TryFind(table, key)) co_return open;
  // Opening takes as long as it takes; who waits for it does not.
  struct Opening {
    explicit Opening(asio::any_io_executor executor) : timer(std::move(executor)) {}
    asio::steady_timer timer;
    std::optional<Result<PartitionPtr>> result;
  };
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  const auto opening = std::make_shared<Opening>(executor);
  opening->timer.expires_at(deadline);
  constexpr auto open = [](partition::Directory* local, TableId table_id, std::string inside,
                           std::shared_ptr<Opening> state) -> asio::awaitable<void> {
    state->result.emplace(co_await local->Find(table_id, inside));
    state->timer.cancel();
  };
  if (!scope_.Spawn(executor, open(local_, table, std::move(key), opening))) {
    co_return Unavailable("the node is stopping");
  }
  if (!opening->result) {
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    co_await opening->timer.async_wait(token);
  }
  if (opening->result) co_return std::move(*opening->result);
  co_return Unavailable("the partition was not opened in time");
}

bool Router::TryGet(RoutedRead* read) {
  const PartitionPtr partition = local_->TryFind(read->table, read->key);
  if (partition == nullptr || (read->consistent && !partition->serving())) return false;
  read->status = partition->Get(read->key, read->consistent, &read->item.pinned_);
  read->item.remote_ = false;
  return !IsMisplaced(read->status);
}

// -- Reads of items. --------------------------------------------------------------------------

NodeId Router::ReplicaFor(const Route& route, bool consistent, std::vector<NodeId>* tried) const {
  if (consistent) return route.primary();
  std::vector<NodeId> near, far;
  for (const proto::ReplicaRef& replica : route.config.in_sync()) {
    const NodeId node(replica.node());
    if (std::find(tried->begin(), tried->end(), node) != tried->end()) continue;
    if (node == options_.self) {
      tried->push_back(node);
      return node;
    }
    if (network_ == nullptr || network_->Find(node) == nullptr) continue;
    (network_->IsNear(node) ? near : far).push_back(node);
  }
  const std::vector<NodeId>& choice = near.empty() ? far : near;
  if (choice.empty()) {
    tried->clear();  // a new round, after a pause
    return NodeId();
  }
  const NodeId node = choice[FastRandom() % choice.size()];
  tried->push_back(node);
  return node;
}

/// One try of several reads: those of this node are done, the others under way until Finish().
class Router::ReadRound {
 public:
  ReadRound(Router* router, asio::any_io_executor executor)
      : router_(*router), gather_(std::move(executor)) {}

  /// Sends the read to a node.
  void Send(RoutedRead* read, const Route& route, NodeId node, SteadyTime deadline) {
    const auto connection = router_.network_ == nullptr ? nullptr : router_.network_->Find(node);
    if (connection == nullptr) {
      read->status = Unavailable("not connected to node " + node.ToString());
      return;
    }
    const SteadyTime now = std::chrono::steady_clock::now();
    GetCall& call = calls_.emplace_back();
    reads_.push_back(read);
    call.gather = &gather_;
    call.partition = route.partition();
    call.table = read->table;
    call.key = read->key;
    call.consistent = read->consistent;
    call.wants_primary = read->consistent;
    call.deadline = deadline;
    // Another replica may be quicker.
    if (!read->consistent && route.config.in_sync_size() > 1) {
      call.deadline = std::min(deadline, now + router_.options_.replica_patience);
    }
    gather_.Add();
    connection->Start(&call, now);
    if (std::find(connections_.begin(), connections_.end(), connection) == connections_.end()) {
      connections_.push_back(connection);
    }
  }

  asio::awaitable<void> Finish() {
    if (calls_.empty()) co_return;
    for (const auto& connection : connections_) connection->Flush();
    const SteadyTime start = std::chrono::steady_clock::now();
    co_await gather_.Wait();
    if (router_.counters_ != nullptr) {
      router_.counters_->gets.Add(calls_.size());
      router_.counters_->get_time.Observe(std::chrono::steady_clock::now() - start);
    }
    for (size_t i = 0; i < calls_.size(); ++i) Take(&calls_[i], reads_[i]);
  }

 private:
  void Take(GetCall* call, RoutedRead* read) {
    read->status = call->status;
    if (!call->status.ok()) return;
    read->status = ErrorFromWire(call->result.has_error(), call->result.error());
    if (!read->status.ok()) {
      router_.Learn(call->result.error());
      return;
    }
    ReadItem& item = read->item;
    item.remote_ = true;
    item.found_ = call->result.has_item();
    item.bytes_ = std::move(*call->result.mutable_item());
    if (item.found_) read->status = model::ValidateItem(item.bytes_);
  }

  Router& router_;
  Gather gather_;
  std::deque<GetCall> calls_;
  std::vector<RoutedRead*> reads_;  ///< of the calls
  std::vector<std::shared_ptr<Connection>> connections_;
};

asio::awaitable<void> Router::Get(std::span<RoutedRead> reads, SteadyTime deadline) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  Attempts attempts(DeadlineOf(deadline));
  std::vector<std::vector<NodeId>> tried(reads.size());
  std::vector<size_t> open(reads.size());
  for (size_t i = 0; i < open.size(); ++i) open[i] = i;
  for (;;) {
    attempts.changes = changes_.load();
    ReadRound round(this, executor);
    for (const size_t i : open) {
      RoutedRead& read = reads[i];
      read.status = Status::Ok();
      const RouteMap::RoutePtr route = map_->Find(read.table, read.key);
      if (route == nullptr) {
        read.status = NotFound("no partition holds the key");
        continue;
      }
      const NodeId node = ReplicaFor(*route, read.consistent, &tried[i]);
      if (node == NodeId()) {
        read.status = Unavailable("no replica of the partition can be reached");
      } else if (node != options_.self) {
        round.Send(&read, *route, node, attempts.deadline);
      } else if (!TryGet(&read)) {
        auto partition = co_await OpenLocal(read.table, std::string(read.key), attempts.deadline);
        if (!partition.ok()) {
          read.status = std::move(partition).status();
        } else {
          read.status = (*partition)->Get(read.key, read.consistent, &read.item.pinned_);
          read.item.remote_ = false;
          if (IsMisplaced(read.status)) (void)LearnFrom(**partition, read.table, map_);
        }
      }
    }
    co_await round.Finish();
    std::erase_if(open, [&](size_t i) { return !MayRetryRead(reads[i].status); });
    if (open.empty()) co_return;
    if (!co_await Pause(reads[open.front()].status, &attempts)) co_return;
  }
}

}  // namespace onggi::routing
