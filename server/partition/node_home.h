#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <utility>

#include "common/runtime.h"
#include "replication/lease/node_leases.h"
#include "replication/replica/environment.h"

namespace onggi::partition {

/// An io thread as the home of replicas. Shared by those that live on it.
class NodeHome final : public replica::Home {
 public:
  using Executor = boost::asio::io_context::executor_type;

  NodeHome(Executor executor, BlockingPool* blocking)
      : executor_(std::move(executor)), blocking_(blocking) {}

  const Executor& executor() const { return executor_; }

  replica::BootTime Now() const override { return lease::Now(); }
  void Post(std::function<void()> task) override { boost::asio::post(executor_, std::move(task)); }
  void Post(std::shared_ptr<replica::Runnable> target) override {
    boost::asio::post(executor_, [target = std::move(target)] { target->Run(); });
  }
  void PostAfter(std::chrono::milliseconds delay, std::function<void()> task) override {
    auto timer = std::make_unique<boost::asio::steady_timer>(executor_, delay);
    auto& waiting = *timer;
    waiting.async_wait([timer = std::move(timer), task = std::move(task)](const auto& error) {
      if (!error) task();
    });
  }
  bool Block(std::function<void()> work) override { return blocking_->TrySubmit(std::move(work)); }

 private:
  const Executor executor_;
  BlockingPool* const blocking_;
};

}  // namespace onggi::partition
