#include "coordinator/table_jobs.h"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>

#include "common/log.h"
#include "replication/metadata/keys.h"

namespace onggi::coordinator {

namespace asio = boost::asio;
namespace keys = metadata::keys;

namespace {

constexpr auto kRetryInterval = std::chrono::milliseconds(200);

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

void Take(const std::string& key, const NextId& next, metadata::Transaction* transaction) {
  transaction->compares.push_back(metadata::Compare::At(key, next.revision));
  transaction->puts.push_back({key, keys::FormatId(next.id + 1)});
}

}  // namespace

TableJobs::TableJobs(metadata::MetadataStore& store, NodeId node, asio::any_io_executor executor)
    : store_(store), node_(node), executor_(std::move(executor)) {}

TableJobs::~TableJobs() = default;

asio::awaitable<Status> TableJobs::Start() {
  const std::string prefix(keys::kTablePrefix);
  Result<metadata::RangeResult> tables = co_await store_.RangePrefix(prefix);
  if (!tables.ok()) co_return std::move(tables).status();
  for (const auto& kv : tables->kvs) Consider(kv);
  watch_ = store_.Watch(prefix, Revision(tables->revision.value + 1), executor_,
                        [this](const metadata::WatchBatch& batch) {
                          // The embedded store keeps more history than can pile up here.
                          CHECK(!batch.compacted);
                          for (const auto& event : batch.events) {
                            if (event.type == metadata::WatchEvent::Type::kPut) Consider(event.kv);
                          }
                        });
  co_return Status::Ok();
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

void TableJobs::Consider(const metadata::KeyValue& kv) {
  proto::Table record;
  if (!record.ParseFromString(kv.value)) {
    log::Error("a table's record does not parse", "key", kv.key);
    return;
  }
  if (HasJob(record)) scope_.Spawn(executor_, Run(TableId(record.id())));
}

asio::awaitable<void> TableJobs::Run(TableId table) {
  for (;;) {
    const Status status = co_await Advance(table);
    if (status.ok() || status.code() == Code::kNotFound) co_return;
    if (status.code() == Code::kCorruption) {
      // Asking again does not mend it; the next write of the record, or a restart, looks again.
      log::Error("a table's job cannot go on", "table", table, "status", status);
      co_return;
    }
    if (status.code() != Code::kConditionFailed) {
      log::Warn("a table's job will be tried again", "table", table, "status", status);
    }
    asio::steady_timer timer(executor_, kRetryInterval);
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    if (status.code() != Code::kConditionFailed) co_await timer.async_wait(token);
    if (error || scope_.stopping()) co_return;
  }
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

  // Epoch 1 and boot 0: nobody has led it, so its replica may still be made empty (R9). The first
  // reign is epoch 2.
  proto::PartitionConfig config;
  config.set_partition(partition->id);
  config.set_table(record.id());
  config.set_epoch(1);
  config.mutable_primary()->set_node(node_.value);
  config.mutable_primary()->set_replica(replica->id);
  *config.add_in_sync() = config.primary();
  config.set_replication(1);
  config.set_min_in_sync(1);

  record.set_status(proto::TABLE_STATUS_ACTIVE);
  metadata::Transaction transaction;
  transaction.compares.push_back(metadata::Compare::At(kv.key, kv.mod_revision));
  transaction.puts.push_back({kv.key, record.SerializeAsString()});
  Take(next_partition, *partition, &transaction);
  Take(next_replica, *replica, &transaction);
  transaction.puts.push_back({keys::Partition(TableId(record.id()), PartitionId(partition->id)),
                              config.SerializeAsString()});
  co_return co_await Commit(std::move(transaction));
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
  co_return co_await Commit(std::move(transaction));
}

asio::awaitable<Status> TableJobs::Delete(metadata::KeyValue kv, proto::Table record) {
  const TableId table(record.id());
  const std::string prefix = keys::PartitionsOf(table);
  Result<metadata::RangeResult> partitions = co_await store_.RangePrefix(prefix);
  if (!partitions.ok()) co_return std::move(partitions).status();
  metadata::Transaction transaction;
  transaction.compares.push_back(metadata::Compare::At(kv.key, kv.mod_revision));
  for (auto& partition : partitions->kvs) transaction.deletes.push_back(std::move(partition.key));
  transaction.deletes.push_back(kv.key);
  transaction.deletes.push_back(keys::Name(record.account(), record.name()));
  co_return co_await Commit(std::move(transaction));
}

asio::awaitable<Status> TableJobs::Commit(metadata::Transaction transaction) {
  Result<metadata::TransactionResult> result = co_await store_.Commit(std::move(transaction));
  if (!result.ok()) co_return std::move(result).status();
  if (!result->succeeded) co_return Status(Code::kConditionFailed, "the catalog changed");
  co_return Status::Ok();
}

}  // namespace onggi::coordinator
