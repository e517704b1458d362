#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "common/proto/error.pb.h"
#include "common/rpc/server.h"
#include "onggi/v1/cluster.grpc.pb.h"
#include "onggi/v1/key_value.grpc.pb.h"

namespace onggi::client {

/// A server of onggi.v1 in the test's process that answers as it is told, and keeps what it was
/// asked.
class FakeServer {
 public:
  struct Asked {
    std::string method;
    std::multimap<std::string, std::string> metadata;
    std::string Metadata(const std::string& key) const {
      const auto it = metadata.find(key);
      return it == metadata.end() ? "" : it->second;
    }
  };
  /// Given the number of the call, from 0: what it ends with.
  using Script = std::function<grpc::Status(size_t)>;

  FakeServer() : key_value_(*this), cluster_(*this), server_(rpc::ServerOptions()) {
    server_.AddService(&key_value_);
    server_.AddService(&cluster_);
    CHECK(server_.Start().ok());
  }
  ~FakeServer() { Stop(); }

  void Stop() {
    cluster_.End();
    server_.Stop(std::chrono::milliseconds(0));
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(server_.port()); }
  void SetScript(Script script) {
    std::scoped_lock lock(mutex_);
    script_ = std::move(script);
  }
  void SetMap(v1::PartitionMap map) {
    std::scoped_lock lock(mutex_);
    map_ = std::move(map);
  }
  /// Sends an update to every watcher.
  void Send(const v1::PartitionMap& update) { cluster_.Send(update); }
  std::vector<Asked> asked() const {
    std::scoped_lock lock(mutex_);
    return asked_;
  }
  size_t CountOf(const std::string& method) const {
    std::scoped_lock lock(mutex_);
    return static_cast<size_t>(
        std::ranges::count_if(asked_, [&](const Asked& a) { return a.method == method; }));
  }

  static grpc::Status ErrorStatus(grpc::StatusCode code, const v1::Error& error) {
    proto::ErrorStatus status;
    status.set_code(code);
    proto::ErrorDetail* detail = status.add_details();
    detail->set_type_url("type.googleapis.com/onggi.v1.Error");
    detail->set_value(error.SerializeAsString());
    return {code, error.type() + ": " + error.message(), status.SerializeAsString()};
  }
  static grpc::Status ErrorStatus(grpc::StatusCode code, const std::string& type,
                                  const std::string& message = "") {
    v1::Error error;
    error.set_type(type);
    error.set_message(message);
    return ErrorStatus(code, error);
  }

 private:
  grpc::Status Take(const char* method, grpc::CallbackServerContext* context) {
    Script script;
    size_t number = 0;
    {
      std::scoped_lock lock(mutex_);
      Asked asked{method, {}};
      for (const auto& [key, value] : context->client_metadata()) {
        asked.metadata.emplace(std::string(key.data(), key.size()),
                               std::string(value.data(), value.size()));
      }
      number = calls_++;
      asked_.push_back(std::move(asked));
      script = script_;
    }
    context->AddInitialMetadata("onggi-request-id", "REQUEST" + std::to_string(number));
    return script ? script(number) : grpc::Status::OK;
  }

  class KeyValue final : public v1::KeyValue::CallbackService {
   public:
    explicit KeyValue(FakeServer& server) : server_(server) {}
    grpc::ServerUnaryReactor* GetItem(grpc::CallbackServerContext* context,
                                      const v1::GetItemRequest*,
                                      v1::GetItemResponse* response) override {
      (*response->mutable_item()->mutable_attributes())["from"].set_s(server_.address());
      return Answer("GetItem", context);
    }
    grpc::ServerUnaryReactor* PutItem(grpc::CallbackServerContext* context,
                                      const v1::PutItemRequest*, v1::PutItemResponse*) override {
      return Answer("PutItem", context);
    }
    grpc::ServerUnaryReactor* UpdateItem(grpc::CallbackServerContext* context,
                                         const v1::UpdateItemRequest*,
                                         v1::UpdateItemResponse*) override {
      return Answer("UpdateItem", context);
    }
    grpc::ServerUnaryReactor* Query(grpc::CallbackServerContext* context,
                                    const v1::QueryRequest* request,
                                    v1::QueryResponse* response) override {
      // Three pages: 0, 1, 2.
      int page = 0;
      if (request->has_exclusive_start_key()) {
        page = std::stoi(request->exclusive_start_key().attributes().at("page").n()) + 1;
      }
      (*response->add_items()->mutable_attributes())["page"].set_n(std::to_string(page));
      if (page < 2) {
        (*response->mutable_last_evaluated_key()->mutable_attributes())["page"].set_n(
            std::to_string(page));
      }
      return Answer("Query", context);
    }

   private:
    grpc::ServerUnaryReactor* Answer(const char* method, grpc::CallbackServerContext* context) {
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      reactor->Finish(server_.Take(method, context));
      return reactor;
    }
    FakeServer& server_;
  };

  /// Streams to its watchers what it is given, one message at a time.
  class Cluster final : public v1::Cluster::CallbackService {
   public:
    explicit Cluster(FakeServer& server) : server_(server) {}

    grpc::ServerWriteReactor<v1::PartitionMap>* WatchMap(grpc::CallbackServerContext* context,
                                                         const v1::WatchMapRequest*) override {
      const grpc::Status status = server_.Take("WatchMap", context);
      auto* stream = new Stream(*this);
      std::scoped_lock lock(mutex_);
      if (!status.ok() || ended_) {
        stream->Finish(status.ok() ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "") : status);
        return stream;
      }
      streams_.push_back(stream);
      std::scoped_lock map_lock(server_.mutex_);
      stream->Send(server_.map_);
      return stream;
    }
    void Send(const v1::PartitionMap& update) {
      std::scoped_lock lock(mutex_);
      for (Stream* stream : streams_) stream->Send(update);
    }
    void End() {
      std::scoped_lock lock(mutex_);
      ended_ = true;
      for (Stream* stream : streams_) stream->End();
      streams_.clear();
    }

   private:
    struct Stream final : grpc::ServerWriteReactor<v1::PartitionMap> {
      explicit Stream(Cluster& owner_) : owner(owner_) {}
      void Send(const v1::PartitionMap& message) {
        std::scoped_lock lock(mutex);
        queue.push_back(message);
        if (queue.size() == 1) StartWrite(&queue.front());
      }
      void End() {
        std::scoped_lock lock(mutex);
        if (std::exchange(over, true)) return;
        Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "ends"));
      }
      void OnWriteDone(bool ok) override {
        std::scoped_lock lock(mutex);
        queue.pop_front();
        if (ok && !queue.empty() && !over) StartWrite(&queue.front());
      }
      void OnCancel() override {
        {
          std::scoped_lock lock(owner.mutex_);
          std::erase(owner.streams_, this);
        }
        End();
      }
      void OnDone() override { delete this; }
      Cluster& owner;
      std::mutex mutex;
      bool over = false;
      std::deque<v1::PartitionMap> queue;
    };
    FakeServer& server_;
    std::mutex mutex_;
    bool ended_ = false;
    std::vector<Stream*> streams_;
  };

  mutable std::mutex mutex_;
  Script script_;
  size_t calls_ = 0;
  std::vector<Asked> asked_;
  v1::PartitionMap map_;
  KeyValue key_value_;
  Cluster cluster_;
  rpc::RpcServer server_;
};

}  // namespace onggi::client
