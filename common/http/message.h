#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/text.h"

namespace onggi::http {

enum class Method : uint8_t { kGet, kHead, kPost, kPut, kDelete, kOptions, kPatch, kOther };

std::string_view MethodName(Method method);

/// Readable bytes behind every body, for simdjson (simdjson::SIMDJSON_PADDING is 32 or 64).
inline constexpr size_t kBodyPadding = 64;

struct Header {
  std::string_view name;   ///< as sent; compare without case
  std::string_view value;  ///< without leading and trailing white space
};

using onggi::EqualsIgnoreCase;
using onggi::PercentDecode;

/// What a handler knows of a request between TryHandle() and Handle(). Of the handler's own kind.
class RequestState {
 public:
  virtual ~RequestState() = default;
};

/// A request as its handler sees it. Every view points into the connection's buffers and is valid
/// until the answer is complete (until TryHandle returns true or the Handle coroutine ends), on the
/// connection's thread or any other.
class Request {
 public:
  Method method = Method::kOther;
  std::string_view method_name;
  std::string_view target;  ///< as sent: "/path?query"
  std::string_view path;    ///< target without the query; not decoded
  std::string_view query;   ///< behind the '?', not decoded; empty when there is none
  int version = 11;         ///< 10 or 11
  bool keep_alive = true;   ///< whether the client wants the connection to stay

  std::span<const Header> headers;

  /// The whole body, as sent (Content-Encoding is not undone). kBodyPadding bytes behind its end
  /// are readable.
  std::string_view body;
  /// body.data() is writable: parsers that work in place may change the bytes of the body.
  char* mutable_body = nullptr;

  /// When the last byte of the request had arrived.
  SteadyTime arrival;
  /// When the first byte of the request had arrived.
  SteadyTime first_byte;
  boost::asio::ip::tcp::endpoint remote;
  /// Which io thread the connection belongs to, and its executor.
  size_t io_index = 0;
  boost::asio::io_context* io = nullptr;
  /// 52 characters, new for every request.
  std::string request_id;
  /// Left by a TryHandle() that returns false, taken by Handle(), so that it need not begin again.
  std::unique_ptr<RequestState> state;

  /// The first header of this name (any case), or nothing.
  std::optional<std::string_view> Find(std::string_view name) const;
  /// Find, or "" when there is none.
  std::string_view Get(std::string_view name) const { return Find(name).value_or(""); }
};

/// The answer under construction. Reused from request to request; the handler changes what it
/// needs.
class Response {
 public:
  int status = 200;
  /// Empty: no Content-Type is sent.
  std::string_view content_type;  ///< must point to constant memory, or into this object's body
  std::string body;
  /// False: close the connection behind the answer.
  bool keep_alive = true;
  /// Sends no Content-Length and no body (for 204 and 304 this is so by itself).
  bool no_body = false;

  /// Appends a header, as it is: neither may hold line ends. Content-Length, Connection, Date and
  /// Content-Type are the server's business.
  void AddHeader(std::string_view name, std::string_view value) {
    headers_.append(name).append(": ").append(value).append("\r\n");
  }
  std::string_view headers() const { return headers_; }

  /// Empties everything; memory of the body beyond kKeptBodyBytes is given back.
  void Clear();

  static constexpr size_t kKeptBodyBytes = 256 << 10;

 private:
  std::string headers_;
};

/// The reason phrase: "OK", "Bad Request"; "Unknown" for a status without one.
std::string_view ReasonPhrase(int status);

}  // namespace onggi::http
