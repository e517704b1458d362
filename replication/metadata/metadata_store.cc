#include "replication/metadata/metadata_store.h"

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <optional>
#include <utility>

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;

/// Awaits a callback that comes on another thread; `start` is given the function to call.
template <class T, class Start>
asio::awaitable<Result<T>> Await(const Start& start) {
  // Through a pointer: completion signatures want default-constructible results. `start` outlives
  // this: its caller awaits.
  const auto initiate = [&start](auto handler) {
    auto executor = asio::get_associated_executor(handler);
    auto work = asio::make_work_guard(executor);
    // std::function copies: the handler, which cannot be copied, goes behind a pointer.
    auto shared = std::make_shared<decltype(handler)>(std::move(handler));
    start([shared, executor, work = std::move(work)](Result<T> result) mutable {
      auto box = std::make_shared<Result<T>>(std::move(result));
      asio::post(executor, [shared, box]() mutable { std::move (*shared)(std::move(box)); });
      work.reset();
    });
  };
  auto token = asio::use_awaitable;
  auto box = co_await asio::async_initiate<const asio::use_awaitable_t<>,
                                           void(std::shared_ptr<Result<T>>)>(initiate, token);
  co_return std::move(*box);
}

}  // namespace

asio::awaitable<Result<RangeResult>> MetadataStore::Range(std::string start, std::string end,
                                                          size_t limit) {
  const auto call = [&](RangeCallback callback) {
    AsyncRange(std::move(start), std::move(end), limit, std::move(callback));
  };
  co_return co_await Await<RangeResult>(call);
}

asio::awaitable<Result<RangeResult>> MetadataStore::RangePrefix(std::string prefix) {
  std::string end = PrefixEnd(prefix);
  co_return co_await Range(std::move(prefix), std::move(end));
}

asio::awaitable<Result<KeyValue>> MetadataStore::Get(std::string key) {
  std::string end = key + '\0';
  Result<RangeResult> range = co_await Range(key, std::move(end), 1);
  if (!range.ok()) co_return range.status();
  if (range->kvs.empty()) co_return NotFound("metadata key " + key + " does not exist");
  co_return std::move(range->kvs.front());
}

asio::awaitable<Result<TransactionResult>> MetadataStore::Commit(Transaction transaction) {
  const auto call = [&](TransactionCallback callback) {
    AsyncCommit(std::move(transaction), std::move(callback));
  };
  co_return co_await Await<TransactionResult>(call);
}

std::string PrefixEnd(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<unsigned char>(end.back()) == 0xff) end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

}  // namespace onggi::metadata
