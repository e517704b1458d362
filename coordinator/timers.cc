#include "coordinator/timers.h"

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>

namespace onggi::coordinator {

namespace asio = boost::asio;

Timers::Handle AsioTimers::After(std::chrono::milliseconds delay, std::function<void()> callback) {
  auto timer = std::make_shared<asio::steady_timer>(executor_, delay);
  // A timer that has fired and waits for its turn is not cancelled any more: the weak pointer is.
  timer->async_wait([weak = std::weak_ptr(timer), callback = std::move(callback)](auto error) {
    if (!error && !weak.expired()) callback();
  });
  return timer;
}

asio::awaitable<void> Sleep(Timers& timers, std::chrono::milliseconds delay) {
  const auto initiate = [&timers, delay](auto handler) {
    using Handler = decltype(handler);
    struct State {
      explicit State(Handler h) : handler(std::move(h)) {}
      Handler handler;
      Timers::Handle timer;
      bool done = false;
    };
    auto slot = asio::get_associated_cancellation_slot(handler);
    auto state = std::make_shared<State>(std::move(handler));
    const auto finish = [](const std::shared_ptr<State>& s, boost::system::error_code error) {
      if (std::exchange(s->done, true)) return;
      // Held until the handler has run, since this may be the timer's own callback.
      auto executor = asio::get_associated_executor(s->handler);
      asio::post(executor, [s, error] {
        s->timer.reset();
        std::move(s->handler)(error);
      });
    };
    if (slot.is_connected()) {
      slot.assign([state, finish](asio::cancellation_type) {
        finish(state, asio::error::operation_aborted);
      });
    }
    state->timer = timers.After(delay, [state, finish] { finish(state, {}); });
  };
  const auto token = asio::use_awaitable;
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void(boost::system::error_code)>(
      initiate, token);
}

}  // namespace onggi::coordinator
