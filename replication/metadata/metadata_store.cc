#include "replication/metadata/metadata_store.h"

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <set>
#include <utility>

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;

constexpr size_t kMaxOperations = 128;
constexpr size_t kMaxTransactionBytes = 1536u << 10;

/// Awaits a callback that comes on another thread; `start` is given the function to call.
template <class Answer, class Start>
asio::awaitable<Answer> Await(const Start& start) {
  // Through a pointer: completion signatures want default-constructible results. `start` outlives
  // this: its caller awaits.
  const auto initiate = [&start](auto handler) {
    auto executor = asio::get_associated_executor(handler);
    auto work = asio::make_work_guard(executor);
    // std::function copies: the handler, which cannot be copied, goes behind a pointer.
    auto shared = std::make_shared<decltype(handler)>(std::move(handler));
    start([shared, executor, work = std::move(work)](Answer result) mutable {
      auto box = std::make_shared<Answer>(std::move(result));
      asio::post(executor, [shared, box]() mutable { std::move (*shared)(std::move(box)); });
      work.reset();
    });
  };
  auto token = asio::use_awaitable;
  auto box =
      co_await asio::async_initiate<const asio::use_awaitable_t<>, void(std::shared_ptr<Answer>)>(
          initiate, token);
  co_return std::move(*box);
}

}  // namespace

asio::awaitable<Result<RangeResult>> MetadataStore::Range(std::string start, std::string end,
                                                          size_t limit) {
  const auto call = [&](RangeCallback callback) {
    AsyncRange(std::move(start), std::move(end), limit, std::move(callback));
  };
  co_return co_await Await<Result<RangeResult>>(call);
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
  co_return co_await Await<Result<TransactionResult>>(call);
}

asio::awaitable<Result<std::unique_ptr<LeaseHandle>>> MetadataStore::GrantLease(
    std::chrono::seconds ttl, std::function<void()> lost) {
  asio::any_io_executor executor = co_await asio::this_coro::executor;
  const auto call = [&](LeaseCallback callback) {
    AsyncGrantLease(ttl, std::move(executor), std::move(lost), std::move(callback));
  };
  co_return co_await Await<Result<std::unique_ptr<LeaseHandle>>>(call);
}

asio::awaitable<Status> MetadataStore::RevokeLease(LeaseId lease) {
  const auto call = [&](StatusCallback callback) { AsyncRevokeLease(lease, std::move(callback)); };
  co_return co_await Await<Status>(call);
}

Status CheckLimits(const Transaction& transaction) {
  size_t bytes = 0;
  std::set<std::string_view> keys;
  for (const Put& put : transaction.puts) {
    bytes += put.key.size() + put.value.size();
    keys.insert(put.key);
  }
  keys.insert(transaction.deletes.begin(), transaction.deletes.end());
  const size_t operations = transaction.puts.size() + transaction.deletes.size();
  if (operations > kMaxOperations || transaction.compares.size() > kMaxOperations ||
      bytes > kMaxTransactionBytes)
    return InvalidArgument("a metadata transaction over the limit of size");
  if (keys.size() != operations || keys.contains(""))
    return InvalidArgument("a metadata transaction with an empty key, or one key twice");
  return {};
}

}  // namespace onggi::metadata
