#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "common/http/server.h"
#include "common/metrics.h"
#include "tests/unit/http/test_client.h"

namespace onggi::http {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// What each path answers is at its `if`.
class TestHandler final : public Handler {
 public:
  bool TryHandle(Request& request, Response& response) override {
    if (request.path.starts_with("/async")) return false;
    if (request.path == "/throw") throw std::runtime_error("on purpose");
    if (request.path == "/big") {
      response.body.assign(8 << 20, 'b');
    } else if (request.path == "/thread") {
      response.body = std::to_string(request.io_index);
    } else if (request.path == "/close") {
      response.keep_alive = false;
    } else if (request.path == "/no-content") {
      response.status = 204;
    } else if (request.path == "/padding") {
      // Reads what it may read behind the body.
      const std::string copy(request.body.data(), request.body.size() + kBodyPadding);
      response.body = copy.size() == request.body.size() + kBodyPadding ? "ok" : "no";
    } else if (request.path == "/id") {
      response.body = request.request_id;
    } else {
      Echo(request, response);
    }
    return true;
  }

  boost::asio::awaitable<void> Handle(Request& request, Response& response) override {
    if (request.path == "/async-throw") throw std::runtime_error("on purpose");
    if (request.path == "/async-wait") {
      ++waiting;
      boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
      while (!release) {
        timer.expires_after(milliseconds(5));
        co_await timer.async_wait(boost::asio::use_awaitable);
      }
      --waiting;
    } else if (request.path == "/async-slow") {
      boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
      timer.expires_after(milliseconds(20));
      co_await timer.async_wait(boost::asio::use_awaitable);
    } else if (request.path == "/async-big") {
      response.body.assign(8 << 20, 'b');
      co_return;
    }
    Echo(request, response);
  }

  void HandleError(ServerError error, const Request& request, Response& response) override {
    response.content_type = "text/plain";
    response.body = "error " + std::to_string(static_cast<int>(error)) + " for " +
                    std::string(request.path) + " " + std::string(request.Get("x-mark"));
  }

  std::atomic<bool> release{false};
  std::atomic<int> waiting{0};

 private:
  static void Echo(const Request& request, Response& response) {
    response.content_type = "text/plain";
    response.AddHeader("X-Target", request.target);
    response.body.assign(request.method_name).append(" ").append(request.body);
  }
};

class HttpServer : public ::testing::Test {
 protected:
  void StartServer(size_t threads = 1) {
    options_.tick = milliseconds(10);
    pool_ = std::make_unique<IoPool>(threads);
    server_ = std::make_unique<Server>(*pool_, handler_, options_, &registry_);
    const Status status = server_->Start();
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  void TearDown() override {
    handler_.release = true;
    if (server_) server_->Stop(milliseconds(100));
    server_.reset();
    pool_.reset();
  }
  uint64_t Metric(const std::string& name, metrics::Labels labels = {}) {
    labels.emplace_back("endpoint", "aws");
    return registry_.AddCounter(name, "", labels).Value();
  }
  template <class Condition>
  static bool Eventually(Condition condition) {
    const auto end = steady_clock::now() + std::chrono::seconds(20);
    while (!condition() && steady_clock::now() < end) {
      std::this_thread::sleep_for(milliseconds(2));
    }
    return condition();
  }
  void WaitForConnections(size_t count) {
    Eventually([&] { return server_->connections() == count; });
    ASSERT_EQ(server_->connections(), count);
  }

  ServerOptions options_;
  TestHandler handler_;
  metrics::Registry registry_;
  std::unique_ptr<IoPool> pool_;
  std::unique_ptr<Server> server_;
};

}  // namespace onggi::http
