#pragma once

#include <boost/asio/awaitable.hpp>
#include <optional>
#include <utility>

#include "client/client.h"

namespace onggi::client {

/// The pages of a Query or Scan, one after the other.
///
///     client::Pages<v1::QueryRequest> pages(client, query);
///     while (auto page = pages.Next()) {
///       if (!page->ok()) return page->error();
///       for (const client::Item& item : (*page)->items()) ...
///     }
///
/// One user at a time. After an error there are no further pages; `position()` is where another
/// Pages may go on. The client outlives it.
template <class Request>
class Pages {
 public:
  using Response = ResponseOf<Request>;

  Pages(Client& client, Request request, CallOptions options = {})
      : client_(client), request_(std::move(request)), options_(options) {}

  /// Waits for the next page; nothing after the last one. A page may be empty and yet not the last.
  std::optional<Result<Response>> Next() {
    if (done_) return std::nullopt;
    Result<Response> page = client_.Call(request_, options_).get();
    Advance(page);
    return page;
  }

  /// The same for coroutines.
  boost::asio::awaitable<std::optional<Result<Response>>> AsyncNext() {
    if (done_) co_return std::nullopt;
    Result<Response> page = co_await client_.AsyncCall(request_, options_);
    Advance(page);
    co_return std::optional<Result<Response>>(std::move(page));
  }

  /// The exclusive_start_key of the next page; null before the first and after the last.
  const Item* position() const {
    return !done_ && request_.has_exclusive_start_key() ? &request_.exclusive_start_key() : nullptr;
  }

 private:
  void Advance(const Result<Response>& page) {
    done_ = !page.ok() || !page->has_last_evaluated_key();
    if (!done_) *request_.mutable_exclusive_start_key() = page->last_evaluated_key();
  }

  Client& client_;
  Request request_;
  const CallOptions options_;
  bool done_ = false;
};

/// All items of a Query or Scan, for results that fit in memory; the first error instead.
template <class Request>
Result<std::vector<Item>> AllItems(Client& client, Request request, CallOptions options = {}) {
  std::vector<Item> items;
  Pages<Request> pages(client, std::move(request), options);
  while (auto page = pages.Next()) {
    if (!page->ok()) return page->error();
    for (Item& item : *(*page)->mutable_items()) items.push_back(std::move(item));
  }
  return items;
}

}  // namespace onggi::client
