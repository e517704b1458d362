#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/config.h"
#include "common/http/message.h"
#include "common/runtime.h"
#include "common/status.h"

namespace onggi::metrics {
class Registry;
}

namespace onggi::tls {
class CertificateFiles;
}

namespace onggi::http {

/// Why the server itself must answer. The API layer words the answer (Handler::HandleError).
enum class ServerError : uint8_t {
  kMalformedRequest,     ///< not HTTP/1.x as RFC 9112 defines it; default answer 400
  kHeaderTooLarge,       ///< more than ServerOptions::max_header; 431
  kBodyTooLarge,         ///< more than ServerOptions::max_body; 413
  kUnsupportedEncoding,  ///< a Transfer-Encoding other than chunked; 501
  kRequestTimeout,       ///< header or body did not arrive in time; 408
  kOverloaded,           ///< body buffers of all connections reached their bound; 503
  kPlainHttp,            ///< HTTP without TLS on a port that speaks TLS; 400, without TLS
};

/// What answers requests.
///
/// Shared by every io thread, so its state must be thread-safe or per thread (Request::io_index).
/// Must outlive the server. Neither function may throw: an exception that escapes ends the
/// connection after a 500 without a body, and is logged.
class Handler {
 public:
  virtual ~Handler() = default;

  /// The fast path: true when `response` is complete. Called on the connection's io thread and must
  /// not block. On false nothing may have been changed, and Handle is called.
  virtual bool TryHandle(Request& request, Response& response) {
    (void)request, (void)response;
    return false;
  }

  /// Runs on the connection's executor; the answer is sent when it ends. The connection reads
  /// nothing meanwhile, so at most one runs per connection. It is not cancelled when the client
  /// goes away: a write that was begun is finished.
  virtual boost::asio::awaitable<void> Handle(Request& request, Response& response) = 0;

  /// Words the answer to a request that the server must refuse; `response.status` holds the default
  /// status and the connection is closed behind it. `request` has its method, target and headers
  /// when they had been read (otherwise they are empty), never a body.
  virtual void HandleError(ServerError error, const Request& request, Response& response) {
    (void)error, (void)request, (void)response;
  }
};

struct ServerOptions {
  ServerOptions() {}
  std::string bind = "127.0.0.1";  ///< a numeric IPv4 or IPv6 address
  uint16_t port = 0;               ///< 0: any free one, see Server::port()
  int backlog = 4096;
  Bytes max_header = KiB(64);
  Bytes max_body = MiB(16);
  /// Bytes of request buffers beyond 64 KB each, of all connections together; past it: kOverloaded.
  Bytes max_buffered = MiB(512);
  /// Connections at once; past it a new one is answered 503 and closed. 0: the limit on open files
  /// less `reserved_files`.
  size_t max_connections = 0;
  size_t reserved_files = 512;
  std::chrono::milliseconds idle_timeout{60'000};  ///< between requests
  /// From a request's first byte to its header's end; as long for a TLS handshake, from the
  /// accepted connection on.
  std::chrono::milliseconds header_timeout{10'000};
  /// For the body: this long, plus the time its bytes take at `min_body_rate`.
  std::chrono::milliseconds body_timeout{15'000};
  Bytes min_body_rate = KiB(16);  ///< bytes a second
  std::chrono::milliseconds write_timeout{
      30'000};  ///< without any progress of the client's reading
  std::chrono::milliseconds linger_timeout{2'000};  ///< for a refused client to read the answer
  std::chrono::milliseconds tick{100};              ///< how coarsely timeouts are noticed
  std::string server_header = "Server";             ///< value of the Server header; empty: none
  std::shared_ptr<tls::CertificateFiles> tls;       ///< nullptr: plain HTTP
  /// Prefix of metric names is onggi_http_, with the label endpoint=<name>.
  std::string name = "aws";
};

/// An HTTP/1.1 server (RFC 9110, 9112): keep-alive, pipelining with answers in order, Expect:
/// 100-continue, chunked request bodies, HTTP/1.0; over TLS with ServerOptions::tls.
///
/// Made by main; Start() once, Stop() once, both on a thread that is not one of the pool's. Each
/// connection belongs to one io thread for its life; an idle one holds a few hundred bytes and no
/// buffer (with TLS some KB of OpenSSL's besides, but nothing before its first byte). Thread-safe
/// but for Start and Stop.
class Server {
 public:
  /// `pool` and `handler` must outlive it. `registry` may be nullptr: no metrics.
  Server(IoPool& pool, Handler& handler, ServerOptions options,
         metrics::Registry* registry = nullptr);
  /// Stop() with no time to drain, if it was not stopped.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Listens; connections are accepted from now on. IoError when the address is taken.
  Status Start();

  /// The port listened on. Only after Start.
  uint16_t port() const;

  /// Stops listening, closes idle connections, lets the others finish the requests that they have
  /// sent (answered with Connection: close), and past `drain` cuts those still reading or writing.
  /// Returns when every connection and every handler has ended: handlers are never abandoned.
  void Stop(std::chrono::milliseconds drain = std::chrono::milliseconds(5000));

  /// Open connections now.
  size_t connections() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace onggi::http
