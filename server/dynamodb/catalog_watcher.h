#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <memory>

#include "common/async_scope.h"
#include "common/status.h"
#include "replication/metadata/metadata_store.h"
#include "server/dynamodb/catalog.h"

namespace onggi::dynamodb {

/// Keeps a Catalog equal to the table records of the metadata store.
///
/// Made by main after the store, stopped before it. Its state belongs to `executor`, which must be
/// a strand or a single thread; Start() and Stop() may be called from elsewhere. A watch that fell
/// too far behind (compacted) reads the whole range again; while the store is unavailable the
/// catalog stays as it was, and reading is retried.
class CatalogWatcher {
 public:
  /// `store` and `catalog` must outlive it.
  CatalogWatcher(metadata::MetadataStore& store, Catalog& catalog,
                 boost::asio::any_io_executor executor);
  ~CatalogWatcher();
  CatalogWatcher(const CatalogWatcher&) = delete;
  CatalogWatcher& operator=(const CatalogWatcher&) = delete;

  /// Reads every record, then follows. Returns once the catalog holds all tables. kCorruption: a
  /// record does not parse; kUnavailable and kIoError as the store says.
  boost::asio::awaitable<Status> Start();

  /// Ends the watch and joins what runs. Not from `executor`'s own thread.
  void Stop();

 private:
  boost::asio::awaitable<Status> Load();
  boost::asio::awaitable<void> Reload();
  void OnBatch(const metadata::WatchBatch& batch);

  metadata::MetadataStore& store_;
  Catalog& catalog_;
  const boost::asio::any_io_executor executor_;
  AsyncScope scope_;
  std::unique_ptr<metadata::WatchHandle> watch_;  // of executor_
};

}  // namespace onggi::dynamodb
