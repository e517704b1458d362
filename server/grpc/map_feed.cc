#include "server/grpc/map_feed.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>

#include "common/log.h"
#include "replication/metadata/keys.h"

namespace onggi::grpc_api {
namespace {

namespace keys = metadata::keys;

constexpr std::chrono::milliseconds kRetryDelay{200};
// Removals that are remembered; who is further behind gets the complete map.
constexpr size_t kMaxRemoved = 1024;

bool Usable(const proto::Table& record) {
  return record.status() == proto::TABLE_STATUS_ACTIVE ||
         record.status() == proto::TABLE_STATUS_UPDATING;
}

void SetKey(const proto::KeyAttribute& from, v1::MapKeyAttribute* to) {
  to->set_name(from.name());
  to->set_type(from.type());
}

}  // namespace

MapFeed::MapFeed(metadata::MetadataStore& store, boost::asio::any_io_executor executor)
    : store_(store), executor_(std::move(executor)) {}

MapFeed::~MapFeed() { Stop(); }

boost::asio::awaitable<Status> MapFeed::Start() {
  for (const std::string_view prefix :
       {keys::kTablePrefix, keys::kPartitionPrefix, keys::kNodePrefix}) {
    auto load = Load(std::string(prefix));
    Status status =
        co_await boost::asio::co_spawn(executor_, std::move(load), boost::asio::use_awaitable);
    if (!status.ok()) co_return status;
  }
  co_return Status::Ok();
}

boost::asio::awaitable<Status> MapFeed::Load(std::string prefix) {
  Result<metadata::RangeResult> range = co_await store_.RangePrefix(prefix);
  if (!range.ok()) co_return range.status();
  {
    std::scoped_lock lock(mutex_);
    // What is there no more goes; what is there is put, and changes nothing if it is the same.
    std::set<std::string, std::less<>> present;
    for (const metadata::KeyValue& kv : range->kvs) present.insert(kv.key);
    std::vector<std::string> gone;
    for (const auto& [id, table] : tables_) {
      if (table.known) gone.push_back(keys::Table(id));
      for (const auto& [partition, config] : table.partitions) {
        gone.push_back(keys::Partition(id, partition));
      }
    }
    for (const auto& [id, node] : nodes_) gone.push_back(keys::Node(id));
    for (const std::string& key : gone) {
      if (key.starts_with(prefix) && !present.contains(key)) Erase(key, range->revision);
    }
    for (const metadata::KeyValue& kv : range->kvs) Put(kv);
  }
  watches_[prefix] =
      store_.Watch(prefix, Revision(range->revision.value + 1), executor_,
                   [this, prefix](const metadata::WatchBatch& batch) { OnBatch(prefix, batch); });
  Tell();
  co_return Status::Ok();
}

void MapFeed::OnBatch(const std::string& prefix, const metadata::WatchBatch& batch) {
  if (batch.compacted) {
    log::Warn("partition map watch fell behind; reading again", "prefix", prefix);
    scope_.Spawn(executor_, Reload(prefix));
    return;
  }
  {
    std::scoped_lock lock(mutex_);
    for (const metadata::WatchEvent& event : batch.events) {
      if (event.type == metadata::WatchEvent::Type::kDelete) {
        Erase(event.kv.key, event.kv.mod_revision);
      } else {
        Put(event.kv);
      }
    }
  }
  Tell();
}

boost::asio::awaitable<void> MapFeed::Reload(std::string prefix) {
  watches_.erase(prefix);
  boost::asio::steady_timer timer(executor_);
  while (!scope_.stopping()) {
    const Status status = co_await Load(prefix);
    if (status.ok()) co_return;
    log::Warn("partition map could not be read; trying again", "error", status);
    timer.expires_after(kRetryDelay);
    co_await timer.async_wait(boost::asio::use_awaitable);
  }
}

void MapFeed::Stop() {
  scope_.Stop();
  if (watches_.empty()) return;
  std::promise<void> done;
  boost::asio::post(executor_, [this, &done] {
    watches_.clear();
    done.set_value();
  });
  done.get_future().wait();
}

uint64_t MapFeed::Advance(Revision revision) {
  revision_ = std::max(revision_, revision.value);
  return ++position_;
}

void MapFeed::Put(const metadata::KeyValue& kv) {
  if (const auto id = keys::ParseTable(kv.key)) return PutTable(*id, kv);
  if (const auto id = keys::ParseNode(kv.key)) return PutNode(*id, kv);
  const auto id = keys::ParsePartition(kv.key);
  if (!id) return;
  proto::PartitionConfig config;
  if (!config.ParseFromString(kv.value)) {
    return log::Error("partition record does not parse", "key", kv.key);
  }
  Table& table = tables_[id->table];
  proto::PartitionConfig& known = table.partitions[id->partition];
  if (known.SerializeAsString() == kv.value) return;
  known = std::move(config);
  table.changed = Advance(kv.mod_revision);
  table.made = nullptr;
}

void MapFeed::PutTable(TableId id, const metadata::KeyValue& kv) {
  proto::Table record;
  if (!record.ParseFromString(kv.value)) {
    return log::Error("catalog record does not parse", "key", kv.key);
  }
  Table& table = tables_[id];
  if (table.known && Usable(table.record) && !Usable(record)) {
    Forget({Advance(kv.mod_revision), false, id.value, table.record.account()});
  }
  // A change that clients do not see is none.
  const bool same =
      table.known && Usable(table.record) == Usable(record) && table.record.name() == record.name();
  table.record = std::move(record);
  table.known = true;
  if (same) return;
  table.changed = Advance(kv.mod_revision);
  table.made = nullptr;
}

void MapFeed::PutNode(NodeId id, const metadata::KeyValue& kv) {
  proto::Node record;
  if (!record.ParseFromString(kv.value)) {
    return log::Error("node record does not parse", "key", kv.key);
  }
  v1::MapNode made;
  made.set_id(id.value);
  made.set_zone(record.zone());
  if (record.state() != proto::NODE_STATE_DEAD &&
      record.state() != proto::NODE_STATE_DECOMMISSIONED) {
    made.set_grpc_address(record.rpc_address());
    made.set_aws_address(record.aws_address());
    made.set_certificate_name(record.certificate_name());
  }
  Node& node = nodes_[id];
  if (node.changed != 0 && node.made.SerializeAsString() == made.SerializeAsString()) return;
  node.made = std::move(made);
  node.changed = Advance(kv.mod_revision);
}

void MapFeed::Erase(const std::string& key, Revision revision) {
  if (const auto id = keys::ParseNode(key)) {
    if (nodes_.erase(*id) != 0) Forget({Advance(revision), true, id->value, {}});
    return;
  }
  if (const auto id = keys::ParseTable(key)) {
    const auto it = tables_.find(*id);
    if (it == tables_.end()) return;
    if (it->second.known) {
      Forget({Advance(revision), false, id->value, it->second.record.account()});
    }
    it->second.known = false;
    if (it->second.partitions.empty()) tables_.erase(it);
    return;
  }
  const auto id = keys::ParsePartition(key);
  if (!id) return;
  const auto it = tables_.find(id->table);
  if (it == tables_.end() || it->second.partitions.erase(id->partition) == 0) return;
  it->second.changed = Advance(revision);
  it->second.made = nullptr;
  if (!it->second.known && it->second.partitions.empty()) tables_.erase(it);
}

void MapFeed::Forget(Removed removed) {
  removed_.push_back(std::move(removed));
  while (removed_.size() > kMaxRemoved) {
    forgotten_ = removed_.front().position;
    removed_.pop_front();
  }
}

uint64_t MapFeed::position() const {
  std::scoped_lock lock(mutex_);
  return position_;
}

bool MapFeed::Shows(const Filter& filter, const Table& table) {
  return table.known && Usable(table.record) && table.record.account() == filter.account &&
         (filter.names.empty() || filter.names.contains(table.record.name()));
}

const std::shared_ptr<const v1::MapTable>& MapFeed::Made(TableId id, const Table& table) {
  if (table.made != nullptr) return table.made;
  auto made = std::make_shared<v1::MapTable>();
  made->set_id(id.value);
  made->set_name(table.record.name());
  SetKey(table.record.partition_key(), made->mutable_partition_key());
  if (table.record.has_sort_key()) SetKey(table.record.sort_key(), made->mutable_sort_key());
  std::vector<const proto::PartitionConfig*> ordered;
  for (const auto& [partition, config] : table.partitions) ordered.push_back(&config);
  std::ranges::sort(
      ordered, [](const auto* a, const auto* b) { return a->range_start() < b->range_start(); });
  for (const proto::PartitionConfig* config : ordered) {
    v1::MapPartition& partition = *made->add_partitions();
    partition.set_id(config->partition());
    partition.set_range_start(config->range_start());
    partition.set_range_end(config->range_end());
    partition.set_epoch(config->epoch());
    partition.set_primary_node(config->primary().node());
    for (const proto::ReplicaRef& replica : config->in_sync()) {
      partition.add_nodes(replica.node());
    }
  }
  table.made = std::move(made);
  return table.made;
}

uint64_t MapFeed::Collect(const Filter& filter, uint64_t since, v1::PartitionMap* out) const {
  std::scoped_lock lock(mutex_);
  if (since < forgotten_ || since > position_) since = 0;
  out->Clear();
  out->set_revision(static_cast<int64_t>(revision_));
  out->set_complete(since == 0);
  for (const auto& [id, node] : nodes_) {
    if (node.changed > since) *out->add_nodes() = node.made;
  }
  for (const auto& [id, table] : tables_) {
    if (table.changed > since && Shows(filter, table)) *out->add_tables() = *Made(id, table);
  }
  if (since != 0) {
    const auto first = std::ranges::upper_bound(removed_, since, {}, &Removed::position);
    for (auto it = first; it != removed_.end(); ++it) {
      if (it->is_node) {
        out->add_removed_nodes(it->id);
      } else if (it->account == filter.account) {
        out->add_removed_tables(it->id);
      }
    }
  }
  return position_;
}

uint64_t MapFeed::AddListener(std::function<void()> listener) {
  std::scoped_lock lock(listeners_mutex_);
  listeners_.emplace(next_listener_, std::move(listener));
  return next_listener_++;
}

void MapFeed::RemoveListener(uint64_t id) {
  std::scoped_lock lock(listeners_mutex_);
  listeners_.erase(id);
}

void MapFeed::Tell() {
  std::scoped_lock lock(listeners_mutex_);
  for (const auto& [id, listener] : listeners_) listener();
}

}  // namespace onggi::grpc_api
