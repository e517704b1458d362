#include "server/partition/execute.h"

#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace onggi::partition {

namespace asio = boost::asio;

void Completions::Finish(WriteTask::Join* join) {
  if (join->remaining.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (Target& target : targets_) {
    if (target.executor == join->executor) {
      target.tail->next = join;
      target.tail = join;
      return;
    }
  }
  targets_.push_back({join->executor, join, join});
}

void Completions::Post() {
  for (Target& target : targets_) {
    asio::post(target.executor, [head = target.head] {
      for (WriteTask::Join* join = head; join != nullptr;) {
        WriteTask::Join* const next = join->next;  // resuming ends the join's life
        join->resume(join->handler);
        join = next;
      }
    });
  }
  targets_.clear();
}

asio::awaitable<void> Execute(std::span<WriteTask> tasks) {
  if (tasks.empty()) co_return;
  WriteTask::Join join;
  join.executor = co_await asio::this_coro::executor;
  join.remaining.store(tasks.size(), std::memory_order_relaxed);
  auto initiate = [&join, tasks](auto handler) {
    using Handler = decltype(handler);
    join.handler = new Handler(std::move(handler));
    join.resume = [](void* boxed) {
      std::unique_ptr<Handler> box(static_cast<Handler*>(boxed));
      Handler moved = std::move(*box);
      box.reset();
      std::move(moved)();
    };
    for (WriteTask& task : tasks) {
      task.join_ = &join;
      task.next_ = nullptr;
    }
    for (WriteTask& task : tasks) task.partition->Submit(&task);
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(initiate,
                                                                       asio::use_awaitable);
}

}  // namespace onggi::partition
