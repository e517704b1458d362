#include "server/routing/route_map.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>

#include "common/log.h"
#include "replication/metadata/keys.h"

namespace onggi::routing {

namespace asio = boost::asio;

namespace {

constexpr auto kReloadInterval = std::chrono::milliseconds(200);

}  // namespace

bool Route::InSync(NodeId node) const {
  for (const proto::ReplicaRef& replica : config.in_sync()) {
    if (NodeId(replica.node()) == node) return true;
  }
  return false;
}

RouteMap::RouteMap(metadata::MetadataStore& store, asio::any_io_executor executor)
    : store_(store), executor_(std::move(executor)) {}

RouteMap::~RouteMap() = default;

Status RouteMap::Start() {
  std::promise<Result<metadata::RangeResult>> promise;
  store_.AsyncRange(
      std::string(metadata::keys::kPartitionPrefix),
      metadata::PrefixEnd(metadata::keys::kPartitionPrefix), 0,
      [&promise](Result<metadata::RangeResult> result) { promise.set_value(std::move(result)); });
  ASSIGN_OR_RETURN(const metadata::RangeResult all, promise.get_future().get());
  for (const metadata::KeyValue& kv : all.kvs) {
    proto::PartitionConfig config;
    if (!config.ParseFromString(kv.value)) return Corruption(kv.key + ": does not parse");
  }
  Replace(all);
  std::promise<void> watching;
  asio::post(executor_, [&] {
    Watch(Revision(all.revision.value + 1));
    watching.set_value();
  });
  watching.get_future().get();
  return Status::Ok();
}

void RouteMap::Stop() {
  scope_.RequestStop();
  std::promise<void> unwatched;
  asio::post(executor_, [&] {
    watch_.reset();
    unwatched.set_value();
  });
  unwatched.get_future().get();
  scope_.Stop();
}

void RouteMap::Watch(Revision from) {
  watch_ = store_.Watch(std::string(metadata::keys::kPartitionPrefix), from, executor_,
                        [this](const metadata::WatchBatch& batch) { OnBatch(batch); });
}

/// One batch is whole revisions: a split's two keys become visible together.
void RouteMap::OnBatch(const metadata::WatchBatch& batch) {
  if (batch.compacted) {
    (void)scope_.Spawn(executor_, Reload());
    return;
  }
  std::vector<RoutePtr> changed;
  {
    std::unique_lock lock(mutex_);
    for (const metadata::WatchEvent& event : batch.events) {
      if (event.type == metadata::WatchEvent::Type::kDelete) {
        if (const auto key = metadata::keys::ParsePartition(event.kv.key)) {
          RemoveLocked(key->table, key->partition, event.kv.mod_revision);
        }
        continue;
      }
      proto::PartitionConfig config;
      if (!config.ParseFromString(event.kv.value)) {
        log::Error("a partition's record does not parse", "key", event.kv.key);
        continue;
      }
      if (RoutePtr route = PutLocked(std::move(config), event.kv.mod_revision)) {
        changed.push_back(std::move(route));
      }
    }
    watched_ = std::max(watched_, batch.revision);
  }
  if (!listener_) return;
  for (const RoutePtr& route : changed) listener_(route);
}

asio::awaitable<void> RouteMap::Reload() {
  watch_.reset();
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (;;) {
    auto all = co_await store_.RangePrefix(std::string(metadata::keys::kPartitionPrefix));
    if (scope_.stopping()) co_return;
    if (all.ok()) {
      Replace(*all);
      Watch(Revision(all->revision.value + 1));
      co_return;
    }
    log::Warn("cannot read the partition map again", "status", all.status());
    timer.expires_after(kReloadInterval);
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    co_await timer.async_wait(token);
    if (error || scope_.stopping()) co_return;
  }
}

void RouteMap::Replace(const metadata::RangeResult& all) {
  std::vector<RoutePtr> changed;
  {
    std::unique_lock lock(mutex_);
    std::unordered_map<TableId, TableRoutes> before;
    before.swap(tables_);
    for (const metadata::KeyValue& kv : all.kvs) {
      proto::PartitionConfig config;
      if (!config.ParseFromString(kv.value)) continue;
      changed.push_back(PutLocked(std::move(config), kv.mod_revision));
    }
    // What was learned of a later revision stays.
    for (auto& [table, routes] : before) {
      for (auto& [start, route] : routes.ranges) {
        if (route->revision > all.revision) PutLocked(route->config, route->revision);
      }
    }
    watched_ = std::max(watched_, all.revision);
  }
  if (!listener_) return;
  for (const RoutePtr& route : changed) {
    if (route != nullptr) listener_(route);
  }
}

/// A range is one partition's: what stands in it besides is older (a merge's right half, a parent
/// that has been split), or it is the newcomer that is out of date.
RouteMap::RoutePtr RouteMap::PutLocked(proto::PartitionConfig config, Revision revision) {
  TableRoutes& table = tables_[TableId(config.table())];
  Ranges& ranges = table.ranges;
  const PartitionId id(config.partition());
  const std::string start = config.range_start();
  const std::string end = config.range_end();
  if (const auto known = table.partitions.find(id); known != table.partitions.end()) {
    if (known->second->revision >= revision) return nullptr;
    ranges.erase(std::string(known->second->start()));
    table.partitions.erase(known);
  }
  auto it = ranges.lower_bound(start);
  if (it != ranges.end() && it->first == start && it->second->revision > revision) return nullptr;
  while (it != ranges.end() && (end.empty() || it->first < end)) {
    if (it->second->revision >= revision) {
      ++it;
      continue;
    }
    table.partitions.erase(it->second->partition());
    it = ranges.erase(it);
  }
  auto route = std::make_shared<Route>();
  route->config = std::move(config);
  route->revision = revision;
  ranges[start] = route;
  table.partitions[id] = route;
  return route;
}

void RouteMap::RemoveLocked(TableId table, PartitionId partition, Revision revision) {
  const auto entry = tables_.find(table);
  if (entry == tables_.end()) return;
  const auto known = entry->second.partitions.find(partition);
  if (known == entry->second.partitions.end() || known->second->revision >= revision) return;
  entry->second.ranges.erase(std::string(known->second->start()));
  entry->second.partitions.erase(known);
  if (entry->second.ranges.empty()) tables_.erase(entry);
}

RouteMap::RoutePtr RouteMap::Find(TableId table, std::string_view key) const {
  std::shared_lock lock(mutex_);
  const auto entry = tables_.find(table);
  if (entry == tables_.end()) return nullptr;
  const Ranges& ranges = entry->second.ranges;
  auto it = ranges.upper_bound(key);
  if (it == ranges.begin()) return nullptr;
  --it;
  return it->second->Holds(key) ? it->second : nullptr;
}

RouteMap::RoutePtr RouteMap::FindBelow(TableId table, std::string_view upper) const {
  std::shared_lock lock(mutex_);
  const auto entry = tables_.find(table);
  if (entry == tables_.end()) return nullptr;
  const Ranges& ranges = entry->second.ranges;
  auto it = upper.empty() ? ranges.end() : ranges.lower_bound(upper);
  if (it == ranges.begin()) return nullptr;
  --it;
  const std::string_view end = it->second->end();
  const bool reaches = end.empty() || (!upper.empty() && end >= upper);
  return reaches ? it->second : nullptr;
}

std::vector<RouteMap::RoutePtr> RouteMap::RoutesOf(TableId table) const {
  std::vector<RoutePtr> routes;
  std::shared_lock lock(mutex_);
  const auto entry = tables_.find(table);
  if (entry == tables_.end()) return routes;
  routes.reserve(entry->second.ranges.size());
  for (const auto& [start, route] : entry->second.ranges) routes.push_back(route);
  return routes;
}

RouteMap::RoutePtr RouteMap::FindPartition(TableId table, PartitionId partition) const {
  std::shared_lock lock(mutex_);
  const auto entry = tables_.find(table);
  if (entry == tables_.end()) return nullptr;
  const auto known = entry->second.partitions.find(partition);
  return known == entry->second.partitions.end() ? nullptr : known->second;
}

bool RouteMap::Learn(const proto::PartitionConfig& config, Revision revision) {
  RoutePtr route;
  {
    std::unique_lock lock(mutex_);
    if (revision <= watched_) return false;
    route = PutLocked(config, revision);
  }
  if (route != nullptr && listener_) listener_(route);
  return route != nullptr;
}

size_t RouteMap::size() const {
  std::shared_lock lock(mutex_);
  size_t count = 0;
  for (const auto& [table, routes] : tables_) count += routes.ranges.size();
  return count;
}

}  // namespace onggi::routing
