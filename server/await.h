#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>
#include <future>
#include <utility>

namespace onggi {

/// Runs a coroutine on `executor` to its end, for the thread that starts and stops a role. Not on
/// one of the executor's threads.
template <class T>
T Await(boost::asio::any_io_executor executor, boost::asio::awaitable<T> coroutine) {
  std::promise<T> promise;
  // T need not have a default, which Asio would ask of a coroutine's own result.
  constexpr auto run = [](boost::asio::awaitable<T> body,
                          std::promise<T>* result) -> boost::asio::awaitable<void> {
    result->set_value(co_await std::move(body));
  };
  boost::asio::co_spawn(executor, run(std::move(coroutine), &promise),
                        [&promise](std::exception_ptr error) {
                          if (error) promise.set_exception(error);
                        });
  return promise.get_future().get();
}

/// Runs `work` on `executor` and waits for it, likewise.
template <class Work>
void RunOn(boost::asio::any_io_executor executor, Work work) {
  boost::asio::post(executor, boost::asio::use_future(std::move(work))).get();
}

}  // namespace onggi
