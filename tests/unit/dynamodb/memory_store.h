#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "replication/metadata/metadata_store.h"

namespace onggi::dynamodb {

/// A metadata store in memory for tests, on one thread: callbacks are posted to `context`.
class MemoryStore final : public metadata::MetadataStore {
 public:
  explicit MemoryStore(boost::asio::io_context& context) : context_(context) {}

  void AsyncRange(std::string start, std::string end, size_t limit,
                  RangeCallback callback) override {
    if (!fault.ok()) return Answer(std::move(callback), Result<metadata::RangeResult>(fault));
    metadata::RangeResult result;
    result.revision = revision_;
    for (auto it = kvs_.lower_bound(start); it != kvs_.end() && (end.empty() || it->first < end);
         ++it) {
      if (limit != 0 && result.kvs.size() == limit) {
        result.more = true;
        break;
      }
      result.kvs.push_back(it->second);
    }
    Answer(std::move(callback), Result<metadata::RangeResult>(std::move(result)));
  }

  void AsyncCommit(metadata::Transaction transaction, TransactionCallback callback) override {
    if (!fault.ok()) return Answer(std::move(callback), Result<metadata::TransactionResult>(fault));
    if (before_commit) std::exchange(before_commit, nullptr)();
    Answer(std::move(callback), Result<metadata::TransactionResult>(Apply(transaction)));
  }

  std::unique_ptr<metadata::WatchHandle> Watch(std::string prefix, Revision /*from*/,
                                               boost::asio::any_io_executor executor,
                                               WatchCallback callback) override {
    auto state = std::make_shared<WatchState>();
    state->prefix = std::move(prefix);
    state->executor = std::move(executor);
    state->callback = std::move(callback);
    watches_.push_back(state);
    return std::make_unique<Handle>(state);
  }

  /// Nothing in this folder has a lease.
  void AsyncGrantLease(std::chrono::seconds /*ttl*/, boost::asio::any_io_executor /*executor*/,
                       std::function<void()> /*lost*/, LeaseCallback callback) override {
    callback(Unavailable("this store grants no leases"));
  }
  void AsyncRevokeLease(metadata::LeaseId /*lease*/, StatusCallback callback) override {
    callback(Status());
  }

  metadata::TransactionResult Apply(const metadata::Transaction& transaction) {
    metadata::TransactionResult result;
    result.succeeded = true;
    for (const metadata::Compare& compare : transaction.compares) {
      const auto it = kvs_.find(compare.key);
      const Revision now = it == kvs_.end() ? Revision() : it->second.mod_revision;
      if (now != compare.mod_revision) result.succeeded = false;
    }
    if (!result.succeeded) {
      for (const metadata::Compare& compare : transaction.compares) {
        if (const auto it = kvs_.find(compare.key); it != kvs_.end()) {
          result.current.push_back(it->second);
        }
      }
      result.revision = revision_;
      return result;
    }
    revision_ = Revision(revision_.value + 1);
    result.revision = revision_;
    metadata::WatchBatch batch;
    batch.revision = revision_;
    for (const metadata::Put& put : transaction.puts) {
      metadata::KeyValue& kv = kvs_[put.key];
      kv.key = put.key;
      kv.value = put.value;
      kv.mod_revision = revision_;
      batch.events.push_back({metadata::WatchEvent::Type::kPut, kv});
    }
    for (const std::string& key : transaction.deletes) {
      kvs_.erase(key);
      metadata::KeyValue kv;
      kv.key = key;
      kv.mod_revision = revision_;
      batch.events.push_back({metadata::WatchEvent::Type::kDelete, kv});
    }
    Notify(batch);
    return result;
  }

  void PutNow(std::string key, std::string value) {
    metadata::Transaction transaction;
    transaction.puts.push_back({std::move(key), std::move(value)});
    Apply(transaction);
  }
  void DeleteNow(std::string key) {
    metadata::Transaction transaction;
    transaction.deletes.push_back(std::move(key));
    Apply(transaction);
  }

  /// What every request answers while it is not ok.
  Status fault;
  /// Runs once, ahead of the next commit: another writer's change.
  std::function<void()> before_commit;
  /// While false, watches are told nothing.
  bool deliver = true;

  /// Tells every watch that it has fallen behind; it ends.
  void Compact() {
    metadata::WatchBatch batch;
    batch.compacted = true;
    const auto watches = std::exchange(watches_, {});
    for (const auto& weak : watches) Deliver(weak, batch);
  }

 private:
  struct WatchState {
    std::string prefix;
    boost::asio::any_io_executor executor;
    WatchCallback callback;
  };
  struct Handle final : metadata::WatchHandle {
    explicit Handle(std::shared_ptr<WatchState> s) : state(std::move(s)) {}
    std::shared_ptr<WatchState> state;
  };

  template <class Callback, class Answered>
  void Answer(Callback callback, Answered answered) {
    boost::asio::post(context_, [callback = std::move(callback),
                                 answered = std::make_shared<Answered>(std::move(answered))] {
      callback(std::move(*answered));
    });
  }

  void Deliver(const std::weak_ptr<WatchState>& weak, metadata::WatchBatch batch) {
    const auto state = weak.lock();
    if (state == nullptr) return;
    boost::asio::post(state->executor, [weak, batch = std::move(batch)] {
      if (const auto alive = weak.lock()) alive->callback(batch);
    });
  }

  void Notify(const metadata::WatchBatch& batch) {
    if (!deliver) return;
    for (const auto& weak : watches_) {
      const auto state = weak.lock();
      if (state == nullptr) continue;
      metadata::WatchBatch filtered;
      filtered.revision = batch.revision;
      for (const auto& event : batch.events) {
        if (event.kv.key.starts_with(state->prefix)) filtered.events.push_back(event);
      }
      if (!filtered.events.empty()) Deliver(weak, std::move(filtered));
    }
  }

  boost::asio::io_context& context_;
  std::map<std::string, metadata::KeyValue> kvs_;
  Revision revision_{1};
  std::vector<std::weak_ptr<WatchState>> watches_;
};

}  // namespace onggi::dynamodb
