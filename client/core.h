#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "client/client.h"
#include "client/partition_map.h"
#include "client/retry.h"
#include "onggi/v1/cluster.grpc.pb.h"

namespace onggi::client {

/// Stubs over one connection.
struct Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : key_value(v1::KeyValue::NewStub(channel)),
        tables(v1::Tables::NewStub(channel)),
        cluster(v1::Cluster::NewStub(channel)) {}
  std::unique_ptr<v1::KeyValue::Stub> key_value;
  std::unique_ptr<v1::Tables::Stub> tables;
  std::unique_ptr<v1::Cluster::Stub> cluster;
};

/// One node (or endpoint), and its connections.
class Node {
 public:
  Node(std::string address, std::vector<std::shared_ptr<grpc::Channel>> channels);

  const std::string& address() const { return address_; }
  /// Connections in turn.
  Stubs& stubs() { return *stubs_[next_.fetch_add(1, std::memory_order_relaxed) % stubs_.size()]; }

  /// It did not answer: others are preferred for a while.
  void MarkFailed();
  void MarkGood() { failed_until_.store(0, std::memory_order_relaxed); }
  bool failing() const;

 private:
  const std::string address_;
  std::vector<std::unique_ptr<Stubs>> stubs_;
  std::atomic<size_t> next_{0};
  std::atomic<int64_t> failed_until_{0};  ///< steady clock, nanoseconds
};

/// A call under way, to be cancelled. The client waits for its destruction.
class LiveCall {
 public:
  virtual ~LiveCall() = default;
  virtual void Cancel() = 0;
};

/// Where an item request is to go.
struct Route {
  const std::string* table = nullptr;  ///< null: anywhere
  const v1::Item* key = nullptr;
  bool primary = true;  ///< false: any node that has the data
};

class MapWatch;

/// What a client's calls share: nodes, map, quota, the thread for pauses. Owned by Client; calls
/// refer to it and are gone before it.
class Client::Core {
 public:
  explicit Core(ClientOptions options, std::shared_ptr<grpc::ChannelCredentials> credentials);
  ~Core();

  /// Cancels every call, waits for them, joins the thread.
  void Stop();

  const ClientOptions& options() const { return options_; }
  boost::asio::io_context& io() { return io_; }
  RetryQuota& quota() { return quota_; }
  PartitionMap& map() { return map_; }

  /// The node to ask; `avoid` (may be empty) has just failed, and is asked only if there is no
  /// other.
  std::shared_ptr<Node> Pick(const Route& route, std::string_view avoid);
  /// Any node, for the map.
  std::shared_ptr<Node> PickAny(std::string_view avoid) { return Pick(Route(), avoid); }

  /// Credentials and what else every call carries.
  void Prepare(grpc::ClientContext* context) const;
  /// "onggi-write-id" of one write, for all its tries.
  std::string NewWriteId();

  /// False: too many, or stopping.
  bool Enter(const std::shared_ptr<LiveCall>& call);
  void Leave(LiveCall* call);

 private:
  std::shared_ptr<Node> NodeAt(const std::string& address);
  std::shared_ptr<Node> FirstGood(const std::vector<std::string>& addresses,
                                  std::string_view avoid);

  const ClientOptions options_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  const uint64_t boot_;
  std::atomic<uint64_t> next_write_{1};
  std::atomic<size_t> turn_{0};
  RetryQuota quota_;
  PartitionMap map_;

  std::mutex nodes_mutex_;
  std::unordered_map<std::string, std::shared_ptr<Node>> nodes_;  // guarded by nodes_mutex_

  std::mutex calls_mutex_;
  std::condition_variable calls_changed_;
  std::unordered_map<LiveCall*, std::weak_ptr<LiveCall>> calls_;  // guarded by calls_mutex_
  bool stopping_ = false;                                         // guarded by calls_mutex_

  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  std::thread thread_;
  std::unique_ptr<MapWatch> watch_;
};

}  // namespace onggi::client
