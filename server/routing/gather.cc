#include "server/routing/gather.h"

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>

namespace onggi::routing {

namespace asio = boost::asio;

asio::awaitable<void> Gather::Wait() {
  auto initiate = [this](auto handler) {
    using Handler = decltype(handler);
    handler_ = new Handler(std::move(handler));
    resume_ = [](void* boxed) {
      std::unique_ptr<Handler> box(static_cast<Handler*>(boxed));
      Handler moved = std::move(*box);
      box.reset();
      std::move(moved)();
    };
    Resumptions resumptions;
    resumptions.Finish(this);
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(initiate,
                                                                       asio::use_awaitable);
}

void Resumptions::Finish(Gather* gather) {
  if (gather->remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (Target& target : targets_) {
    if (target.executor == gather->executor_) {
      target.tail->next_ = gather;
      target.tail = gather;
      return;
    }
  }
  targets_.push_back({gather->executor_, gather, gather});
}

void Resumptions::Post() {
  for (Target& target : targets_) {
    asio::post(target.executor, [head = target.head] {
      for (Gather* gather = head; gather != nullptr;) {
        Gather* const next = gather->next_;  // resuming ends the gather's life
        gather->resume_(gather->handler_);
        gather = next;
      }
    });
  }
  targets_.clear();
}

}  // namespace onggi::routing
