#include "server/dynamodb/catalog_watcher.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <future>

#include "common/log.h"
#include "replication/metadata/keys.h"

namespace onggi::dynamodb {
namespace {

constexpr std::chrono::milliseconds kRetryDelay{200};

}  // namespace

CatalogWatcher::CatalogWatcher(metadata::MetadataStore& store, Catalog& catalog,
                               boost::asio::any_io_executor executor)
    : store_(store), catalog_(catalog), executor_(std::move(executor)) {}

CatalogWatcher::~CatalogWatcher() { Stop(); }

boost::asio::awaitable<Status> CatalogWatcher::Start() {
  return boost::asio::co_spawn(executor_, Load(), boost::asio::use_awaitable);
}

boost::asio::awaitable<Status> CatalogWatcher::Load() {
  std::string prefix(metadata::keys::kTablePrefix);
  Result<metadata::RangeResult> range = co_await store_.RangePrefix(prefix);
  if (!range.ok()) co_return range.status();
  std::vector<std::pair<proto::Table, Revision>> records;
  for (const metadata::KeyValue& kv : range->kvs) {
    proto::Table record;
    if (!record.ParseFromString(kv.value)) {
      co_return Corruption("catalog record " + kv.key + " does not parse");
    }
    records.emplace_back(std::move(record), kv.mod_revision);
  }
  catalog_.Reset(records, range->revision);
  watch_ = store_.Watch(prefix, Revision(range->revision.value + 1), executor_,
                        [this](const metadata::WatchBatch& batch) { OnBatch(batch); });
  co_return Status::Ok();
}

void CatalogWatcher::OnBatch(const metadata::WatchBatch& batch) {
  if (batch.compacted) {
    log::Warn("catalog watch fell behind; reading the catalog again");
    scope_.Spawn(executor_, Reload());
    return;
  }
  for (const metadata::WatchEvent& event : batch.events) {
    if (event.type == metadata::WatchEvent::Type::kDelete) {
      if (const auto id = metadata::keys::ParseTable(event.kv.key)) {
        catalog_.RemoveWatched(*id, event.kv.mod_revision);
      }
      continue;
    }
    proto::Table record;
    if (!record.ParseFromString(event.kv.value)) {
      // The old state of that one table stays: a newer one may be readable.
      log::Error("catalog record does not parse", "key", event.kv.key);
      continue;
    }
    catalog_.PutWatched(record, event.kv.mod_revision);
  }
  catalog_.SetWatched(batch.revision);
}

boost::asio::awaitable<void> CatalogWatcher::Reload() {
  watch_.reset();
  boost::asio::steady_timer timer(executor_);
  while (!scope_.stopping()) {
    const Status status = co_await Load();
    if (status.ok()) co_return;
    log::Warn("catalog could not be read; trying again", "error", status);
    timer.expires_after(kRetryDelay);
    co_await timer.async_wait(boost::asio::use_awaitable);
  }
}

void CatalogWatcher::Stop() {
  scope_.Stop();
  if (watch_ == nullptr) return;
  // The handle must die on its executor, so that no batch is under way behind our back.
  std::promise<void> done;
  boost::asio::post(executor_, [this, &done] {
    watch_.reset();
    done.set_value();
  });
  done.get_future().wait();
}

}  // namespace onggi::dynamodb
