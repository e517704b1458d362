#include "server/partition/node_home.h"

#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "replication/lease/node_leases.h"

namespace onggi::partition {

namespace asio = boost::asio;

replica::BootTime ThreadHome::Now() const { return lease::Now(); }

void ThreadHome::Post(std::function<void()> task) { asio::post(executor_, std::move(task)); }

void ThreadHome::Post(std::shared_ptr<replica::Runnable> target) {
  asio::post(executor_, [target = std::move(target)] { target->Run(); });
}

void ThreadHome::PostAfter(std::chrono::milliseconds delay, std::function<void()> task) {
  auto timer = std::make_unique<asio::steady_timer>(executor_, delay);
  auto& waiting = *timer;
  waiting.async_wait([timer = std::move(timer), task = std::move(task)](const auto& error) {
    if (!error) task();
  });
}

asio::awaitable<bool> Waiter::Wait(std::chrono::milliseconds time) {
  auto initiate = [this, time](auto handler) {
    using Handler = decltype(handler);
    auto shared = std::make_shared<Handler>(std::move(handler));
    // Posted: whoever wakes it is in the middle of something.
    resume_ = [shared, executor = home_->executor()](bool woken) {
      asio::post(executor, [shared, woken] { std::move (*shared)(woken); });
    };
    home_->PostAfter(time, [this, wait = ++waits_, alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired() && wait == waits_) Finish(false);
    });
  };
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(bool)>(
      initiate, asio::use_awaitable);
}

void Waiter::Finish(bool woken) {
  if (const auto resume = std::exchange(resume_, nullptr)) resume(woken);
}

}  // namespace onggi::partition
