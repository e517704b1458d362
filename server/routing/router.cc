#include "server/routing/router.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/container/small_vector.hpp>
#include <list>

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
    connects_.fetch_add(1);
    WakeSleepers(nullptr);
  });
}

Router::~Router() {
  Stop();
  scope_.Stop();
}

void Router::Stop() {
  stopping_.store(true);
  scope_.RequestStop();
  WakeSleepers(nullptr);
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
  WakeSleepers(route.get());
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
  Sleeper(asio::any_io_executor executor, const Attempts& attempts)
      : timer(std::move(executor)), table(attempts.table), key(attempts.key) {}
  asio::steady_timer timer;
  const TableId table;
  const std::string key;
};

void Router::WakeSleepers(const Route* route) {
  std::list<std::shared_ptr<Sleeper>> woken;
  {
    std::lock_guard lock(mutex_);
    for (auto it = sleepers_.begin(); it != sleepers_.end();) {
      const auto next = std::next(it);
      const Sleeper& sleeper = **it;
      if (route == nullptr || (route->table() == sleeper.table && route->Holds(sleeper.key))) {
        woken.splice(woken.end(), sleepers_, it);
      }
      it = next;
    }
  }
  for (auto& sleeper : woken) {
    const auto executor = sleeper->timer.get_executor();
    asio::post(executor, [sleeper = std::move(sleeper)] { sleeper->timer.cancel(); });
  }
}

asio::awaitable<bool> Router::Pause(const Status& status, Attempts* attempts) {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (stopping_.load() || now >= attempts->deadline) co_return false;
  if (status.code() != Code::kNotFound) {
    attempts->missing_since.reset();
  } else if (!attempts->missing_since.has_value()) {
    // A node that has just come back knows less than it will in a moment, however long the request
    // has waited for it.
    attempts->missing_since = now;
  } else if (now >= *attempts->missing_since + options_.map_wait) {
    co_return false;
  }
  ++attempts->tries;
  if (counters_ != nullptr) counters_->OfRetry(status).Add();
  const auto sleeper = std::make_shared<Sleeper>(co_await asio::this_coro::executor, *attempts);
  {
    std::lock_guard lock(mutex_);
    sleepers_.push_back(sleeper);
  }
  // In this order: what changes from here on wakes.
  if (RevisionOf(map_->Find(attempts->table, attempts->key)) == attempts->revision &&
      attempts->connects == connects_.load() && !stopping_.load()) {
    sleeper->timer.expires_at(std::min(now + attempts->NextBackoff(), attempts->deadline));
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    co_await sleeper->timer.async_wait(token);
  }
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

void Router::OpenLater(TableId table, PartitionId partition, std::string key) {
  if (local_->TryFind(table, key) != nullptr) return;  // open, and not fit to be read now
  {
    std::lock_guard lock(mutex_);
    if (!opening_.insert(partition).second) return;
  }
  constexpr auto open = [](Router* router, TableId table_id, PartitionId id,
                           std::string inside) -> asio::awaitable<void> {
    (void)co_await router->local_->Find(table_id, inside);
    std::lock_guard lock(router->mutex_);
    router->opening_.erase(id);
  };
  const auto executor = map_->executor();
  if (scope_.Spawn(executor, open(this, table, partition, std::move(key)))) return;
  std::lock_guard lock(mutex_);
  opening_.erase(partition);
}

bool Router::TryGet(RoutedRead* read) { return ReadHere(read, /*fresh=*/network_ != nullptr); }

bool Router::ReadHere(RoutedRead* read, bool fresh) {
  const PartitionPtr partition = local_->TryFind(read->table, read->key);
  if (partition == nullptr) return false;
  if (!partition->serving() &&
      (read->consistent || (fresh && recent_.Has(read->table, read->key)))) {
    return false;
  }
  read->status = partition->Get(read->key, read->consistent, &read->item.pinned_);
  read->item.remote_ = false;
  return !IsMisplaced(read->status);
}

// -- Reads of items. --------------------------------------------------------------------------

NodeId Router::ReplicaFor(const Route& route, bool consistent, bool fresh,
                          std::vector<NodeId>* tried) const {
  if (consistent) return route.primary();
  const auto reachable = [this](NodeId node) {
    return node == options_.self || (network_ != nullptr && network_->Find(node) != nullptr);
  };
  if (fresh && tried->empty() && reachable(route.primary())) {
    tried->push_back(route.primary());
    return route.primary();
  }
  std::vector<NodeId> near, far;
  for (const proto::ReplicaRef& replica : route.config.in_sync()) {
    const NodeId node(replica.node());
    if (std::find(tried->begin(), tried->end(), node) != tried->end()) continue;
    if (node == options_.self) {
      tried->push_back(node);
      return node;
    }
    if (!reachable(node)) continue;
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
  ReadRound(Router* router, const asio::any_io_executor& executor)
      : router_(*router), executor_(executor), gather_(executor) {}

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
    for (const auto& connection : connections_) connection->FlushSoon(executor_);
    const SteadyTime start = std::chrono::steady_clock::now();
    co_await gather_.Wait();
    if (router_.counters_ != nullptr) {
      router_.counters_->gets.Add(calls_.size());
      router_.counters_->get_time.Observe(std::chrono::steady_clock::now() - start);
    }
    auto read = reads_.begin();
    for (GetCall& call : calls_) Take(&call, *read++);
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
  const asio::any_io_executor executor_;
  Gather gather_;
  std::list<GetCall> calls_;                              ///< they stay where they are
  boost::container::small_vector<RoutedRead*, 4> reads_;  ///< of the calls
  boost::container::small_vector<std::shared_ptr<Connection>, 2> connections_;
};

asio::awaitable<void> Router::Get(std::span<RoutedRead> reads, SteadyTime deadline) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  Attempts attempts(DeadlineOf(deadline));
  std::vector<std::vector<NodeId>> tried(reads.size());
  boost::container::small_vector<Revision, 4> revisions(reads.size());
  boost::container::small_vector<size_t, 4> open(reads.size());
  for (size_t i = 0; i < open.size(); ++i) open[i] = i;
  for (;;) {
    attempts.connects = connects_.load();
    ReadRound round(this, executor);
    for (const size_t i : open) {
      RoutedRead& read = reads[i];
      read.status = Status::Ok();
      const RouteMap::RoutePtr route = map_->Find(read.table, read.key);
      revisions[i] = RevisionOf(route);
      if (route == nullptr) {
        read.status = NotFound("no partition holds the key");
        continue;
      }
      const bool fresh = attempts.tries == 0 && recent_.Has(read.table, read.key);
      for (;;) {
        const NodeId node = ReplicaFor(*route, read.consistent, fresh, &tried[i]);
        if (node == NodeId()) {
          read.status = Unavailable("no replica of the partition can be reached");
          break;
        }
        if (node != options_.self) {
          round.Send(&read, *route, node, attempts.deadline);
          break;
        }
        if (ReadHere(&read, fresh)) break;
        if (route->primary() != options_.self) {
          // Others are quicker than opening it is.
          OpenLater(read.table, route->partition(), std::string(read.key));
          continue;
        }
        auto partition = co_await OpenLocal(read.table, std::string(read.key), attempts.deadline);
        if (!partition.ok()) {
          read.status = std::move(partition).status();
        } else {
          read.status = (*partition)->Get(read.key, read.consistent, &read.item.pinned_);
          read.item.remote_ = false;
          if (IsMisplaced(read.status)) (void)LearnFrom(**partition, read.table, map_);
        }
        break;
      }
    }
    co_await round.Finish();
    for (const size_t i : open) BlameTheNode(revisions[i], &reads[i].status);
    const auto done = [&](size_t i) { return !MayRetryRead(reads[i].status); };
    open.erase(std::remove_if(open.begin(), open.end(), done), open.end());
    if (open.empty()) co_return;
    const RoutedRead& next = reads[open.front()];
    attempts.WentBy(next.table, next.key, revisions[open.front()]);
    if (!co_await Pause(next.status, &attempts)) co_return;
  }
}

}  // namespace onggi::routing
