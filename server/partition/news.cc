#include "server/partition/news.h"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace onggi::partition {

namespace asio = boost::asio;

// count_ and waited_ are sequentially consistent: either Tell() sees that somebody waits, or who is
// about to wait sees what was told.

void News::Tell() {
  ++count_;
  if (!waited_) return;
  std::vector<std::shared_ptr<asio::steady_timer>> timers;
  {
    std::lock_guard lock(mutex_);
    waited_ = false;
    timers.swap(timers_);
    told_.notify_all();
  }
  for (auto& timer : timers) {
    // There it is waited for by now: Wait() has gone from one to the other in one go.
    asio::post(timer->get_executor(), [timer] { timer->cancel(); });
  }
}

asio::awaitable<void> News::Wait(uint64_t count, SteadyTime deadline) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  const auto timer = std::make_shared<asio::steady_timer>(executor, deadline);
  {
    std::lock_guard lock(mutex_);
    waited_ = true;
    if (count_ != count) co_return;
    timers_.push_back(timer);
  }
  boost::system::error_code error;
  auto token = asio::redirect_error(asio::use_awaitable, error);
  co_await timer->async_wait(token);
  std::lock_guard lock(mutex_);
  std::erase(timers_, timer);  // at the deadline it is still there
}

void News::Block(uint64_t count, SteadyTime deadline) {
  std::unique_lock lock(mutex_);
  told_.wait_until(lock, deadline, [&] {
    waited_ = true;
    return count_ != count;
  });
}

}  // namespace onggi::partition
