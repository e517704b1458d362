#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "replication/metadata/embedded_store.h"
#include "replication/metadata/etcd_store.h"
#include "replication/metadata/metadata_store.h"
#include "replication/metadata/simulated_store.h"
#include "tests/unit/metadata/etcd_cluster.h"

namespace onggi::metadata {

/// Virtual time for the simulated store: runs what is scheduled, in order.
class VirtualTime {
 public:
  SimulatedScheduler Scheduler() {
    return [this](std::chrono::milliseconds delay, std::function<void()> run) {
      events_.emplace(std::pair(now_ + delay, ++last_), std::move(run));
    };
  }
  bool Step() {
    if (events_.empty()) return false;
    auto event = events_.extract(events_.begin());
    now_ = event.key().first;
    event.mapped()();
    return true;
  }
  void RunFor(std::chrono::milliseconds time) {
    const auto end = now_ + time;
    while (!events_.empty() && events_.begin()->first.first <= end) Step();
    now_ = end;
  }
  std::chrono::milliseconds now() const { return now_; }

 private:
  std::chrono::milliseconds now_{0};
  uint64_t last_ = 0;
  std::map<std::pair<std::chrono::milliseconds, uint64_t>, std::function<void()>> events_;
};

/// A value that a callback brings, from whichever thread.
template <class T>
class Box {
 public:
  void Put(T value) {
    const std::lock_guard lock(mutex_);
    ++times_;
    value_.emplace(std::move(value));
  }
  int times() const {
    const std::lock_guard lock(mutex_);
    return times_;
  }
  T Take() {
    const std::lock_guard lock(mutex_);
    return std::move(*value_);
  }

 private:
  mutable std::mutex mutex_;
  int times_ = 0;
  std::optional<T> value_;
};

/// One kind of store, and the passing of its time.
class Backend {
 public:
  virtual ~Backend() = default;
  /// Another client of the same key space (the embedded store has but one: the same again).
  virtual std::shared_ptr<MetadataStore> Connect(size_t max_pending = 10'000) = 0;
  /// Makes events up to now unavailable to watches that start.
  virtual void Compact() = 0;
  virtual bool simulated() const { return false; }
  virtual bool etcd() const { return false; }

  boost::asio::io_context& io() { return io_; }

  /// Lets time pass until `done`; false after 20 s.
  bool RunUntil(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      io_.restart();
      if (io_.poll() == 0 && !Advance())
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return true;
  }
  virtual void RunFor(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    RunUntil([end] { return std::chrono::steady_clock::now() >= end; });
  }

  // Requests, waited for.

  Result<TransactionResult> Commit(MetadataStore& store, Transaction transaction) {
    auto box = std::make_shared<Box<Result<TransactionResult>>>();
    store.AsyncCommit(std::move(transaction),
                      [box](Result<TransactionResult> result) { box->Put(std::move(result)); });
    if (!RunUntil([&] { return box->times() > 0; })) return Internal("never answered");
    return box->Take();
  }
  Result<RangeResult> Range(MetadataStore& store, std::string start, std::string end,
                            size_t limit = 0) {
    auto box = std::make_shared<Box<Result<RangeResult>>>();
    store.AsyncRange(std::move(start), std::move(end), limit,
                     [box](Result<RangeResult> result) { box->Put(std::move(result)); });
    if (!RunUntil([&] { return box->times() > 0; })) return Internal("never answered");
    return box->Take();
  }
  Result<std::unique_ptr<LeaseHandle>> Grant(
      MetadataStore& store, std::chrono::seconds ttl, std::function<void()> lost = [] {}) {
    auto box = std::make_shared<Box<Result<std::unique_ptr<LeaseHandle>>>>();
    store.AsyncGrantLease(ttl, io_.get_executor(), std::move(lost),
                          [box](auto result) { box->Put(std::move(result)); });
    if (!RunUntil([&] { return box->times() > 0; })) return Internal("never answered");
    return box->Take();
  }
  Status Revoke(MetadataStore& store, LeaseId lease) {
    auto box = std::make_shared<Box<Status>>();
    store.AsyncRevokeLease(lease, [box](Status status) { box->Put(std::move(status)); });
    if (!RunUntil([&] { return box->times() > 0; })) return Internal("never answered");
    return box->Take();
  }
  Result<TransactionResult> Put(MetadataStore& store, std::string key, std::string value,
                                LeaseId lease = LeaseId()) {
    Transaction transaction;
    transaction.puts.push_back({std::move(key), std::move(value), lease});
    return Commit(store, std::move(transaction));
  }
  Result<TransactionResult> Delete(MetadataStore& store, std::string key) {
    Transaction transaction;
    transaction.deletes.push_back(std::move(key));
    return Commit(store, std::move(transaction));
  }
  /// "key=value" of all keys with the prefix, or the error.
  std::vector<std::string> Show(MetadataStore& store, const std::string& prefix = "") {
    const Result<RangeResult> range = Range(store, prefix, PrefixEnd(prefix));
    if (!range.ok()) return {range.status().ToString()};
    std::vector<std::string> all;
    for (const KeyValue& kv : range->kvs) all.push_back(kv.key + "=" + kv.value);
    return all;
  }

 protected:
  /// Brings the next event of virtual time. False: time passes by itself.
  virtual bool Advance() { return false; }

  boost::asio::io_context io_;
};

class EmbeddedBackend : public Backend {
 public:
  EmbeddedBackend() {
    directory_ = std::filesystem::temp_directory_path() /
                 ("onggi_conformance_test." + std::to_string(::getpid()));
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  ~EmbeddedBackend() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::shared_ptr<MetadataStore> Connect(size_t max_pending) override {
    if (store_ == nullptr) {
      EmbeddedOptions options((directory_ / "metadata").string());
      options.max_pending = max_pending;
      options.max_history_events = 500;
      options.max_history_bytes = 16u << 20;
      auto store = EmbeddedStore::Open(options);
      if (!store.ok()) {
        ADD_FAILURE() << store.status().ToString();
        return nullptr;
      }
      store_ = std::move(*store);
    }
    return store_;
  }
  void Compact() override {
    for (int i = 0; i < 10; ++i) {
      Transaction transaction;
      for (int j = 0; j < 60; ++j) {
        transaction.puts.push_back({"history/" + std::to_string(j), "", LeaseId()});
      }
      EXPECT_TRUE(Commit(*store_, std::move(transaction)).ok());
    }
  }

 private:
  std::filesystem::path directory_;
  std::shared_ptr<EmbeddedStore> store_;
};

class SimulatedBackend : public Backend {
 public:
  std::shared_ptr<MetadataStore> Connect(size_t max_pending) override {
    return SimulatedStore::Connect(cluster_, max_pending);
  }
  void Compact() override { cluster_->Compact(Revision(cluster_->ReadNow().revision.value)); }
  bool simulated() const override { return true; }
  void RunFor(std::chrono::milliseconds time) override {
    const auto end = time_.now() + time;
    while (time_.now() < end) {
      time_.RunFor(std::chrono::milliseconds(1));
      io_.restart();
      io_.poll();
    }
  }

 protected:
  bool Advance() override { return time_.Step(); }

 private:
  VirtualTime time_;
  std::shared_ptr<SimulatedCluster> cluster_ = SimulatedCluster::Create(time_.Scheduler(), 7);
};

/// One cluster of three for all tests, each under a prefix of its own.
class EtcdBackend : public Backend {
 public:
  static EtcdCluster* Cluster() {
    static std::unique_ptr<EtcdCluster> cluster = std::make_unique<EtcdCluster>();
    return cluster.get();
  }

  std::shared_ptr<MetadataStore> Connect(size_t max_pending) override {
    EtcdOptions options = Cluster()->ClientOptions();
    options.key_prefix = prefix_;
    options.max_pending = max_pending;
    auto store = EtcdStore::Open(options);
    if (!store.ok()) {
      ADD_FAILURE() << store.status().ToString();
      return nullptr;
    }
    return std::shared_ptr<EtcdStore>(std::move(*store));
  }
  void Compact() override {
    const std::shared_ptr<MetadataStore> store = Connect(10);
    const Result<TransactionResult> last = Put(*store, "last", "");
    ASSERT_TRUE(last.ok());
    EXPECT_TRUE(Cluster()->Control({"compact", last->revision.ToString()}));
  }
  bool etcd() const override { return true; }

 private:
  static std::string NextPrefix() {
    static int count = 0;
    return "test" + std::to_string(count++) + "/";
  }
  const std::string prefix_ = NextPrefix();
};

}  // namespace onggi::metadata
