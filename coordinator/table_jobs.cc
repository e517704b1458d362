#include "coordinator/table_jobs.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <future>

#include "common/log.h"
#include "replication/metadata/keys.h"

namespace onggi::coordinator {

namespace asio = boost::asio;
namespace keys = metadata::keys;

namespace {

constexpr auto kMinRetry = std::chrono::milliseconds(200);
constexpr auto kMaxRetry = std::chrono::milliseconds(5'000);
/// Partitions of a deleted table in one transaction: each is a compare and a delete of the 128
/// operations that a transaction may have.
constexpr size_t kMaxDeletes = 50;

bool HasJob(const proto::Table& record) { return record.status() != proto::TABLE_STATUS_ACTIVE; }

/// The id that a next/<kind> counter gives now, and the compare and put that take it.
struct NextId {
  uint64_t id = 1;
  Revision revision;
};

asio::awaitable<Result<NextId>> ReadNext(metadata::MetadataStore& store, std::string key) {
  Result<metadata::KeyValue> kv = co_await store.Get(key);
  NextId next;
  if (!kv.ok()) {
    if (kv.status().code() == Code::kNotFound) co_return next;
    co_return std::move(kv).status();
  }
  const auto id = keys::ParseId(kv->value);
  if (!id) co_return Corruption(key + ": not an id");
  next.id = *id;
  next.revision = kv->mod_revision;
  co_return next;
}

void Take(const std::string& key, const NextId& next, uint64_t count,
          metadata::Transaction* transaction) {
  transaction->compares.push_back(metadata::Compare::At(key, next.revision));
  transaction->puts.push_back({key, keys::FormatId(next.id + count)});
}

}  // namespace

TableJobs::TableJobs(metadata::MetadataStore& store, NodeId node, asio::any_io_executor executor)
    : store_(store),
      placer_([node](const proto::Table&, metadata::Transaction*) {
        return std::vector<NodeId>{node};
      }),
      committer_(
          [this](metadata::Transaction transaction) { return Commit(std::move(transaction)); }),
      own_timers_(std::make_unique<AsioTimers>(executor)),
      timers_(*own_timers_),
      executor_(std::move(executor)) {}

TableJobs::TableJobs(metadata::MetadataStore& store, Placer placer, Committer committer,
                     Timers& timers, asio::any_io_executor executor)
    : store_(store),
      placer_(std::move(placer)),
      committer_(std::move(committer)),
      timers_(timers),
      executor_(std::move(executor)) {}

TableJobs::~TableJobs() = default;

asio::awaitable<Status> TableJobs::Start() {
  const std::string prefix(keys::kTablePrefix);
  Result<metadata::RangeResult> tables = co_await store_.RangePrefix(prefix);
  if (!tables.ok()) co_return std::move(tables).status();
  for (const auto& kv : tables->kvs) Consider(kv);
  Follow(Revision(tables->revision.value + 1));
  co_return Status::Ok();
}

void TableJobs::Follow(Revision from) {
  watch_ = store_.Watch(std::string(keys::kTablePrefix), from, executor_,
                        [this](const metadata::WatchBatch& batch) { OnBatch(batch); });
}

void TableJobs::OnBatch(const metadata::WatchBatch& batch) {
  if (batch.compacted) {
    scope_.Spawn(executor_, ReadAgain());
    return;
  }
  for (const auto& event : batch.events) {
    if (event.type == metadata::WatchEvent::Type::kPut) Consider(event.kv);
  }
}

/// The watch has fallen behind what the store keeps.
asio::awaitable<void> TableJobs::ReadAgain() {
  for (;;) {
    const Status status = co_await Start();
    if (status.ok()) co_return;
    co_await Sleep(timers_, kMaxRetry);
  }
}

void TableJobs::Stop() {
  std::promise<void> unwatched;
  asio::post(executor_, [this, &unwatched] {
    watch_.reset();
    unwatched.set_value();
  });
  unwatched.get_future().get();
  scope_.Stop();
}

asio::awaitable<void> TableJobs::AsyncStop() {
  watch_.reset();
  co_await scope_.AsyncStop();
  watch_.reset();  // ReadAgain may have made another one
}

void TableJobs::Consider(const metadata::KeyValue& kv) {
  proto::Table record;
  if (!record.ParseFromString(kv.value)) {
    log::Error("a table's record does not parse", "key", kv.key);
    return;
  }
  if (!HasJob(record)) return;
  const TableId table(record.id());
  if (!running_.insert(table).second) {
    again_.insert(table);
    return;
  }
  if (!scope_.Spawn(executor_, Run(table))) running_.erase(table);
}

asio::awaitable<void> TableJobs::Run(TableId table) {
  std::chrono::milliseconds pause = kMinRetry;
  for (;;) {
    const Status status = co_await Advance(table);
    if (status.ok() || status.code() == Code::kNotFound || status.code() == Code::kCorruption ||
        status.code() == Code::kNotPrimary) {
      // Asking again does not mend damage; the next write of the record, or a restart, looks again.
      if (status.code() == Code::kCorruption) {
        log::Error("a table's job cannot go on", "table", table, "status", status);
      }
      if (again_.erase(table) > 0) continue;
      break;
    }
    if (status.code() == Code::kConditionFailed) continue;
    log::Warn("a table's job will be tried again", "table", table, "status", status);
    co_await Sleep(timers_, pause);
    pause = std::min(pause * 2, kMaxRetry);
  }
  running_.erase(table);
}

asio::awaitable<Status> TableJobs::Advance(TableId table) {
  const std::string key = keys::Table(table);
  Result<metadata::KeyValue> kv = co_await store_.Get(key);
  if (!kv.ok()) co_return std::move(kv).status();
  proto::Table record;
  if (!record.ParseFromString(kv->value)) co_return Corruption(kv->key + ": does not parse");
  switch (record.status()) {
    case proto::TABLE_STATUS_CREATING: co_return co_await Create(*kv, record);
    case proto::TABLE_STATUS_UPDATING: co_return co_await FinishUpdate(*kv, record);
    case proto::TABLE_STATUS_DELETING: co_return co_await Delete(*kv, record);
    default: co_return Status::Ok();
  }
}

/// One transaction: the partition's key, the ids it took and the table's new status, so that an
/// ACTIVE table has its partitions whatever crashes.
asio::awaitable<Status> TableJobs::Create(metadata::KeyValue kv, proto::Table record) {
  const std::string next_partition = keys::NextPartition();
  const std::string next_replica = keys::NextReplica();
  Result<NextId> partition = co_await ReadNext(store_, next_partition);
  if (!partition.ok()) co_return std::move(partition).status();
  Result<NextId> replica = co_await ReadNext(store_, next_replica);
  if (!replica.ok()) co_return std::move(replica).status();

  metadata::Transaction transaction;
  const Result<std::vector<NodeId>> nodes = placer_(record, &transaction);
  if (!nodes.ok()) co_return nodes.status();
  const size_t replicas = nodes->size();

  // Boot 0: nobody has led it, so its replicas may still be made empty (R9).
  proto::PartitionConfig config;
  config.set_partition(partition->id);
  config.set_table(record.id());
  config.set_epoch(replicas == 1 ? 1 : 0);
  for (size_t i = 0; i < replicas; ++i) {
    proto::ReplicaRef* ref = config.add_in_sync();
    ref->set_node((*nodes)[i].value);
    ref->set_replica(replica->id + i);
  }
  *config.mutable_primary() = config.in_sync(0);
  config.set_replication(static_cast<uint32_t>(replicas));
  config.set_min_in_sync(static_cast<uint32_t>(replicas / 2 + 1));

  record.set_replication(static_cast<uint32_t>(replicas));
  record.set_status(proto::TABLE_STATUS_ACTIVE);
  transaction.compares.push_back(metadata::Compare::At(kv.key, kv.mod_revision));
  transaction.puts.push_back({kv.key, record.SerializeAsString()});
  Take(next_partition, *partition, 1, &transaction);
  Take(next_replica, *replica, replicas, &transaction);
  transaction.puts.push_back({keys::Partition(TableId(record.id()), PartitionId(partition->id)),
                              config.SerializeAsString()});
  co_return co_await committer_(std::move(transaction));
}

asio::awaitable<Status> TableJobs::FinishUpdate(metadata::KeyValue kv, proto::Table record) {
  proto::Table updated = record;
  if (!record.pending().empty() && !updated.ParseFromString(record.pending())) {
    co_return Corruption(kv.key + ": the pending record does not parse");
  }
  updated.clear_pending();
  updated.set_status(proto::TABLE_STATUS_ACTIVE);
  metadata::Transaction transaction;
  transaction.compares.push_back(metadata::Compare::At(kv.key, kv.mod_revision));
  transaction.puts.push_back({kv.key, updated.SerializeAsString()});
  co_return co_await committer_(std::move(transaction));
}

asio::awaitable<Status> TableJobs::Delete(metadata::KeyValue kv, proto::Table record) {
  const TableId table(record.id());
  const std::string prefix = keys::PartitionsOf(table);
  Result<metadata::RangeResult> partitions = co_await store_.RangePrefix(prefix);
  if (!partitions.ok()) co_return std::move(partitions).status();
  // Many go in several transactions. Compared, so that none is being split meanwhile: its child
  // would be left behind.
  std::vector<metadata::KeyValue>& left = partitions->kvs;
  for (;;) {
    metadata::Transaction transaction;
    transaction.compares.push_back(metadata::Compare::At(kv.key, kv.mod_revision));
    for (size_t i = 0; i < kMaxDeletes && !left.empty(); ++i) {
      transaction.compares.push_back(
          metadata::Compare::At(left.back().key, left.back().mod_revision));
      transaction.deletes.push_back(std::move(left.back().key));
      left.pop_back();
    }
    const bool last = left.empty();
    if (last) {
      transaction.deletes.push_back(kv.key);
      transaction.deletes.push_back(keys::Name(record.account(), record.name()));
    }
    const Status status = co_await committer_(std::move(transaction));
    if (!status.ok() || last) co_return status;
  }
}

asio::awaitable<Status> TableJobs::Commit(metadata::Transaction transaction) {
  Result<metadata::TransactionResult> result = co_await store_.Commit(std::move(transaction));
  if (!result.ok()) co_return std::move(result).status();
  if (!result->succeeded) co_return Status(Code::kConditionFailed, "the catalog changed");
  co_return Status::Ok();
}

}  // namespace onggi::coordinator
