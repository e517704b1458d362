#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <future>
#include <utility>

namespace onggi {

/// Runs a coroutine on `executor` to its end, for the thread that starts and stops a role. Not on
/// one of the executor's threads.
template <class T>
T Await(boost::asio::any_io_executor executor, boost::asio::awaitable<T> coroutine) {
  std::promise<T> promise;
  boost::asio::co_spawn(executor, std::move(coroutine),
                        [&promise](std::exception_ptr error, T value) {
                          if (error) {
                            promise.set_exception(error);
                          } else {
                            promise.set_value(std::move(value));
                          }
                        });
  return promise.get_future().get();
}

}  // namespace onggi
