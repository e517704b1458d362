#include "common/http/server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <vector>

#include "common/check.h"
#include "common/http/connection.h"
#include "common/log.h"
#include "common/tls/certificate_files.h"

namespace onggi::http {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

constexpr std::string_view kRefusal =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n"
    "Retry-After: 1\r\nConnection: close\r\n\r\nToo many connections\n";

/// The same where a handshake is expected: the fatal alert internal_error, which has no TLS around
/// it yet (RFC 8446, 6).
constexpr std::string_view kTlsRefusal("\x15\x03\x03\x00\x02\x02\x50", 7);

}  // namespace

void ServerMetrics::Register(metrics::Registry& registry, const std::string& endpoint, bool tls) {
  const metrics::Labels labels = {{"endpoint", endpoint}};
  const auto with = [&](std::string_view key, std::string_view value) {
    metrics::Labels all = labels;
    all.emplace_back(key, value);
    return all;
  };
  accepted = &registry.AddCounter("onggi_http_connections_accepted_total", "Connections accepted.",
                                  labels);
  refused = &registry.AddCounter("onggi_http_connections_refused_total",
                                 "Connections refused at the limit on connections.", labels);
  accept_errors = &registry.AddCounter("onggi_http_accept_errors_total",
                                       "Failed accept calls, such as for want of files.", labels);
  requests =
      &registry.AddCounter("onggi_http_requests_total", "Requests given to a handler.", labels);
  bytes_in = &registry.AddCounter("onggi_http_received_bytes_total", "Bytes received.", labels);
  bytes_out = &registry.AddCounter("onggi_http_sent_bytes_total", "Bytes sent.", labels);
  const std::string timeouts = "onggi_http_timeouts_total";
  const std::string timeouts_help = "Connections closed because the client was too slow, by phase.";
  idle_timeouts = &registry.AddCounter(timeouts, timeouts_help, with("phase", "idle"));
  read_timeouts = &registry.AddCounter(timeouts, timeouts_help, with("phase", "read"));
  write_timeouts = &registry.AddCounter(timeouts, timeouts_help, with("phase", "write"));
  errors = &registry.AddCounter("onggi_http_refused_requests_total",
                                "Requests refused before a handler saw them: malformed, too large, "
                                "too slow or for want of memory.",
                                labels);
  vanished = &registry.AddCounter("onggi_http_vanished_clients_total",
                                  "Clients gone in the middle of a request or an answer.", labels);
  if (!tls) return;
  handshakes =
      &registry.AddCounter("onggi_http_tls_handshakes_total", "TLS handshakes done.", labels);
  const std::string failures = "onggi_http_tls_handshake_failures_total";
  const std::string failures_help = "TLS handshakes that failed, by reason.";
  const auto reason = [&](std::string_view value) {
    return &registry.AddCounter(failures, failures_help, with("reason", value));
  };
  handshake_timeouts = reason("timeout");
  handshakes_vanished = reason("vanished");
  handshake_errors = reason("error");
  plain_http = reason("plain_http");
}

class Server::Impl {
 public:
  Impl(IoPool& pool, Handler& handler, ServerOptions options, metrics::Registry* registry)
      : pool_(pool),
        shared_(handler, std::move(options)),
        acceptor_(pool.executor(0)),
        retry_(pool.executor(0)) {
    if (registry != nullptr) {
      const std::shared_ptr<tls::CertificateFiles>& tls = shared_.options.tls;
      shared_.metrics.Register(*registry, shared_.options.name, tls != nullptr);
      const metrics::Labels labels = {{"endpoint", shared_.options.name}};
      open_gauge_ = &registry->AddGauge("onggi_http_connections", "Open connections.", labels);
      buffered_gauge_ = &registry->AddGauge("onggi_http_buffered_bytes",
                                            "Bytes of request buffers beyond 64 KB each.", labels);
      if (tls != nullptr) {
        registry->AddGaugeCallback("onggi_http_tls_certificate_expiry_seconds",
                                   "When the certificate that is shown expires, since 1970.",
                                   labels, [tls] { return static_cast<double>(tls->expires()); });
      }
    }
    shared_.on_empty = [this] { OnConnectionEnded(); };
    for (size_t i = 0; i < pool.size(); ++i) {
      workers_.push_back(std::make_unique<Worker>(shared_, pool.context(i), i));
    }
  }

  Status Start() {
    const ServerOptions& options = shared_.options;
    const std::string where = options.bind + ":" + std::to_string(options.port);
    const size_t files = RaiseOpenFileLimit();
    max_connections_ = options.max_connections;
    const size_t allowed =
        files > 2 * options.reserved_files ? files - options.reserved_files : files / 2;
    if (max_connections_ == 0 || max_connections_ > allowed) max_connections_ = allowed;

    error_code ec;
    const auto address = boost::asio::ip::make_address(options.bind, ec);
    if (ec) return InvalidArgument("not a numeric address to listen on: " + options.bind);
    const tcp::endpoint endpoint(address, options.port);
    acceptor_.open(endpoint.protocol(), ec);
    if (ec) return IoError("socket", where, ec.value());
    acceptor_.set_option(boost::asio::socket_base::reuse_address(true), ec);
    acceptor_.bind(endpoint, ec);
    if (ec) return IoError("bind", where, ec.value());
    acceptor_.listen(options.backlog, ec);
    if (ec) return IoError("listen", where, ec.value());
    acceptor_.native_non_blocking(true, ec);
    if (ec) return IoError("fcntl", where, ec.value());
    port_ = acceptor_.local_endpoint(ec).port();
    started_ = true;
    boost::asio::post(pool_.executor(0), [this] { WaitAccept(); });
    return Status::Ok();
  }

  void Stop(std::chrono::milliseconds drain) {
    if (!started_) return;
    started_ = false;
    CHECK(pool_.current() == IoPool::kNotAnIoThread);
    RunOn(0, [this] {
      stopping_ = true;
      error_code ignored;
      acceptor_.close(ignored);
      retry_.cancel();
    });
    for (size_t i = 0; i < workers_.size(); ++i) RunOn(i, [this, i] { workers_[i]->StartDrain(); });
    {
      std::unique_lock lock(mutex_);
      draining_ = true;
      empty_.wait_for(lock, drain, [this] { return connections() == 0; });
    }
    if (connections() != 0) {
      for (size_t i = 0; i < workers_.size(); ++i) RunOn(i, [this, i] { workers_[i]->Cut(); });
      std::unique_lock lock(mutex_);
      empty_.wait(lock, [this] { return connections() == 0; });
    }
    // Nothing refers to us behind the waits that were cancelled. Twice: the last connection reports
    // its end from within a handler, and what that handler cancels is queued when it returns.
    for (int round = 0; round < 2; ++round) {
      for (size_t i = 0; i < workers_.size(); ++i) RunOn(i, [] {});
    }
  }

  uint16_t port() const { return port_; }
  size_t connections() const { return shared_.connections.load(); }

 private:
  template <class Function>
  void RunOn(size_t index, Function function) {
    std::latch done(1);
    boost::asio::post(pool_.executor(index), [&] {
      function();
      done.count_down();
    });
    done.wait();
  }

  void OnConnectionEnded() {
    if (open_gauge_ != nullptr) {
      open_gauge_->Set(static_cast<int64_t>(connections()));
      buffered_gauge_->Set(static_cast<int64_t>(shared_.buffered.load(std::memory_order_relaxed)));
    }
    if (!draining_.load() || connections() != 0) return;
    std::scoped_lock lock(mutex_);
    empty_.notify_all();
  }

  void WaitAccept() {
    if (stopping_) return;
    acceptor_.async_wait(boost::asio::socket_base::wait_read, [this](const error_code& ec) {
      if (!ec && !stopping_) AcceptSome();
    });
  }

  void AcceptSome() {
    // Bounded, so that a flood of connections does not starve those that this thread serves.
    constexpr int kAcceptsPerTurn = 128;
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
      tcp::endpoint remote;
      auto length = static_cast<socklen_t>(remote.capacity());
      const int fd = ::accept4(acceptor_.native_handle(), remote.data(), &length,
                               SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) {
        if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) break;
        return PauseAccepting(errno);
      }
      remote.resize(length);
      if (connections() >= max_connections_) {
        Refuse(fd);
        continue;
      }
      Hand(fd, remote);
    }
    WaitAccept();
  }

  /// Out of files or memory: the listening socket stays readable, so trying at once would spin.
  /// Waiting clients stay in the backlog.
  void PauseAccepting(int error_number) {
    Add(shared_.metrics.accept_errors);
    if (const uint64_t times = accept_warning_.Allow()) {
      log::Warn("cannot accept connections; trying again", "error",
                error_code(error_number, boost::system::system_category()).message(), "times",
                times, "connections", connections());
    }
    retry_.expires_after(std::chrono::milliseconds(50));
    retry_.async_wait([this](const error_code& ec) {
      if (!ec && !stopping_) AcceptSome();
    });
  }

  void Refuse(int fd) {
    Add(shared_.metrics.refused);
    if (const uint64_t times = refuse_warning_.Allow()) {
      log::Warn("connection refused: too many", "limit", max_connections_, "times", times);
    }
    const std::string_view answer = shared_.options.tls == nullptr ? kRefusal : kTlsRefusal;
    [[maybe_unused]] const ssize_t n = ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
    ::shutdown(fd, SHUT_WR);
    // Bytes that have arrived and stay unread would turn the close into a reset.
    char waste[4096];
    while (::recv(fd, waste, sizeof(waste), 0) > 0) {
    }
    ::close(fd);
  }

  void Hand(int fd, const tcp::endpoint& remote) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    Add(shared_.metrics.accepted);
    const size_t open = shared_.connections.fetch_add(1, std::memory_order_relaxed) + 1;
    if (open_gauge_ != nullptr) open_gauge_->Set(static_cast<int64_t>(open));
    // The least loaded thread; in turn among equals.
    size_t best = next_;
    for (size_t i = 0; i < workers_.size(); ++i) {
      const size_t at = (next_ + i) % workers_.size();
      if (workers_[at]->load.load(std::memory_order_relaxed) <
          workers_[best]->load.load(std::memory_order_relaxed)) {
        best = at;
      }
    }
    next_ = (best + 1) % workers_.size();
    Worker* worker = workers_[best].get();
    worker->load.fetch_add(1, std::memory_order_relaxed);
    boost::asio::dispatch(pool_.executor(best),
                          [worker, fd, remote] { worker->AddConnection(fd, remote); });
  }

  IoPool& pool_;
  ServerShared shared_;
  metrics::Gauge* open_gauge_ = nullptr;
  metrics::Gauge* buffered_gauge_ = nullptr;
  std::vector<std::unique_ptr<Worker>> workers_;
  size_t max_connections_ = 0;
  uint16_t port_ = 0;
  bool started_ = false;

  // Of io thread 0.
  boost::asio::basic_socket_acceptor<tcp, IoPool::Executor> acceptor_;
  boost::asio::basic_waitable_timer<std::chrono::steady_clock,
                                    boost::asio::wait_traits<std::chrono::steady_clock>,
                                    IoPool::Executor>
      retry_;
  bool stopping_ = false;
  size_t next_ = 0;
  log::RateLimit accept_warning_{std::chrono::seconds(10)};
  log::RateLimit refuse_warning_{std::chrono::seconds(10)};

  std::mutex mutex_;
  std::condition_variable empty_;
  std::atomic<bool> draining_{false};
};

Server::Server(IoPool& pool, Handler& handler, ServerOptions options, metrics::Registry* registry)
    : impl_(std::make_unique<Impl>(pool, handler, std::move(options), registry)) {}

Server::~Server() { impl_->Stop(std::chrono::milliseconds(0)); }

Status Server::Start() { return impl_->Start(); }
uint16_t Server::port() const { return impl_->port(); }
void Server::Stop(std::chrono::milliseconds drain) { impl_->Stop(drain); }
size_t Server::connections() const { return impl_->connections(); }

}  // namespace onggi::http
