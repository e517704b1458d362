#include <boost/asio/this_coro.hpp>

#include "server/expression/codec.h"
#include "server/routing/attempts.h"
#include "server/routing/network.h"
#include "server/routing/router.h"
#include "server/routing/wire.h"

/// Pages and figures of Router.
namespace onggi::routing {

namespace asio = boost::asio;

namespace {

constexpr auto kFiguresTimeout = std::chrono::seconds(2);
/// With more partitions elsewhere than this a table's figures are kept for a while.
constexpr size_t kFewPartitions = 64;

/// What RecentWrites knows the range by: the one collection that it is in, or nothing in
/// particular.
std::string_view CollectionOf(const PageQuery& query) {
  constexpr size_t kHashBytes = 8;
  const std::string_view lower = query.lower;
  if (lower.size() < kHashBytes || !std::string_view(query.upper).starts_with(lower.substr(0, 8))) {
    return {};
  }
  return lower;
}

/// Takes the answer of another node as if it had been read here.
Status TakePage(const PageQuery& query, proto::RoutedPageResult* result, PageSink* sink,
                PageFigures* figures, std::string* reached) {
  for (const std::string& item : result->items()) RETURN_IF_ERROR(model::ValidateItem(item));
  if (!result->last_entry().empty()) RETURN_IF_ERROR(model::ValidateItem(result->last_entry()));
  if (!query.count_only) {
    for (const std::string& item : result->items()) sink->Take(model::ItemView(item));
  }
  figures->matched += result->matched();
  figures->scanned += result->scanned();
  figures->read_bytes += result->read_bytes();
  figures->page_bytes += result->page_bytes();
  figures->fetched_steps += result->fetched_steps();
  figures->last_entry = std::move(*result->mutable_last_entry());
  *reached = std::move(*result->mutable_reached());
  return Status::Ok();
}

}  // namespace

asio::awaitable<Status> Router::ReadPage(const PageQuery& query, PageSink* sink,
                                         PageFigures* figures) {
  PageQuery rest = query;
  rest.deadline = DeadlineOf(query.deadline);
  while (rest.upper.empty() || rest.lower < rest.upper) {
    // Each piece that is read makes the range smaller: it may take as many tries as the first.
    Attempts attempts(rest.deadline);
    std::string reached;
    Status status = co_await ReadPiece(rest, &attempts, sink, figures, &reached);
    if (!status.ok() || figures->full() || reached.empty()) co_return status;
    (rest.reverse ? rest.upper : rest.lower) = std::move(reached);
  }
  co_return Status::Ok();
}

asio::awaitable<Status> Router::ReadPiece(const PageQuery& query, Attempts* attempts,
                                          PageSink* sink, PageFigures* figures,
                                          std::string* reached) {
  std::vector<NodeId> tried;
  for (;;) {
    attempts->connects = connects_.load();
    const RouteMap::RoutePtr route = query.reverse ? map_->FindBelow(query.table, query.upper)
                                                   : map_->Find(query.table, query.lower);
    Status status;
    bool unfinished = false;
    if (route == nullptr) {
      status = NotFound("no partition holds the key");
    } else {
      // Some key of the partition: where it begins, if the range ends in it.
      std::string inside = query.reverse ? std::string(route->start()) : query.lower;
      const bool fresh = attempts->tries == 0 && recent_.Has(query.table, CollectionOf(query));
      NodeId node = ReplicaFor(*route, query.consistent, fresh, &tried);
      if (node == options_.self && route->primary() != node &&
          local_->TryFind(query.table, inside) == nullptr) {
        OpenLater(query.table, route->partition(), inside);
        node = ReplicaFor(*route, query.consistent, false, &tried);
      }
      if (node == NodeId()) {
        status = Unavailable("no replica of the partition can be reached");
      } else if (node != options_.self) {
        status = co_await ReadRemotePiece(query, *route, node, sink, figures, reached);
      } else {
        auto partition = co_await OpenLocal(query.table, std::move(inside), attempts->deadline);
        if (!partition.ok()) {
          status = std::move(partition).status();
        } else {
          const uint64_t before = figures->scanned;
          status =
              co_await ReadPartitionPage(**partition, query, &stopping_, sink, figures, reached);
          unfinished = figures->scanned != before;
          if (IsMisplaced(status)) (void)LearnFrom(**partition, query.table, map_);
        }
      }
    }
    BlameTheNode(RevisionOf(route), &status);
    if (!MayRetryRead(status) || unfinished) co_return status;
    const bool from_above = query.reverse && route != nullptr;
    attempts->WentBy(query.table, from_above ? route->start() : query.lower, RevisionOf(route));
    if (!co_await Pause(status, attempts)) co_return status;
  }
}

asio::awaitable<Status> Router::ReadRemotePiece(const PageQuery& query, const Route& route,
                                                NodeId node, PageSink* sink, PageFigures* figures,
                                                std::string* reached) {
  const auto connection = network_ == nullptr ? nullptr : network_->Find(node);
  if (connection == nullptr) co_return Unavailable("not connected to node " + node.ToString());
  // Only what is left of the page is asked for.
  PageQuery rest = query;
  if (query.limit != 0) rest.limit = query.limit - figures->scanned;
  rest.max_bytes = query.max_bytes - figures->page_bytes;
  Gather gather(co_await asio::this_coro::executor);
  const SteadyTime start = std::chrono::steady_clock::now();
  PageCall call;
  call.gather = &gather;
  call.deadline = query.deadline;
  call.partition = route.partition();
  call.wants_primary = query.consistent;
  call.query = &rest;
  if (query.filter != nullptr) expression::EncodeCondition(*query.filter, &call.filter);
  gather.Add();
  connection->Start(&call, start);
  connection->Flush();
  co_await gather.Wait();
  if (counters_ != nullptr) {
    counters_->pages.Add();
    counters_->page_time.Observe(std::chrono::steady_clock::now() - start);
  }
  if (!call.status.ok()) co_return call.status;
  Status status = ErrorFromWire(call.result.has_error(), call.result.error());
  if (!status.ok()) {
    Learn(call.result.error());
    co_return status;
  }
  co_return TakePage(query, &call.result, sink, figures, reached);
}

// -- Figures. ---------------------------------------------------------------------------------

struct Router::CachedFigures {
  SteadyTime at;  ///< when all were asked for
  std::unordered_map<PartitionId, partition::PartitionStatistics> partitions;
};

asio::awaitable<partition::PartitionStatistics> Router::Figures(TableId table) {
  const SteadyTime now = std::chrono::steady_clock::now();
  std::shared_ptr<CachedFigures> cached;
  {
    std::lock_guard lock(mutex_);
    if (const auto known = figures_.find(table); known != figures_.end()) cached = known->second;
  }
  auto fresh = std::make_shared<CachedFigures>();
  fresh->at = now;
  const std::vector<RouteMap::RoutePtr> routes = map_->RoutesOf(table);
  Gather gather(co_await asio::this_coro::executor);
  std::map<NodeId, FiguresCall> calls;
  const bool use_cache = routes.size() > kFewPartitions && cached != nullptr &&
                         now < cached->at + options_.figures_age;
  for (const auto& route : routes) {
    if (use_cache || route->primary() == options_.self) continue;
    calls[route->primary()].partitions.push_back(route->partition());
  }
  if (use_cache) fresh->at = cached->at;
  for (auto& [node, call] : calls) {
    const auto connection = network_ == nullptr ? nullptr : network_->Find(node);
    if (connection == nullptr) continue;
    call.table = table;
    call.gather = &gather;
    call.deadline = now + kFiguresTimeout;
    gather.Add();
    connection->Start(&call, now);
    connection->Flush();
  }
  for (const auto& route : routes) {
    if (route->primary() != options_.self) continue;
    auto partition = co_await OpenLocal(table, std::string(route->start()), now + kFiguresTimeout);
    if (partition.ok()) fresh->partitions[route->partition()] = (*partition)->statistics();
  }
  co_await gather.Wait();
  for (auto& [node, call] : calls) {
    if (!call.status.ok()) continue;
    for (const proto::PartitionFigures& one : call.result.partitions()) {
      fresh->partitions[PartitionId(one.partition())] = FiguresFromWire(one);
    }
  }
  partition::PartitionStatistics sum;
  for (const auto& route : routes) {
    auto found = fresh->partitions.find(route->partition());
    if (found == fresh->partitions.end() && cached != nullptr) {
      const auto before = cached->partitions.find(route->partition());
      if (before != cached->partitions.end()) {
        found = fresh->partitions.insert(*before).first;
      }
    }
    if (found != fresh->partitions.end()) AddFigures(found->second, &sum);
  }
  std::lock_guard lock(mutex_);
  if (routes.empty() || (calls.empty() && !use_cache)) {
    figures_.erase(table);  // all of it is here: nothing to be remembered
  } else {
    figures_[table] = std::move(fresh);
  }
  co_return sum;
}

}  // namespace onggi::routing
