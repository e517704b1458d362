#include <sys/socket.h>

#include <cerrno>

#include "common/http/connection.h"
#include "common/log.h"
#include "common/tls/certificate_files.h"

/// How a connection begins where the server speaks TLS: it has header_timeout for the handshake,
/// and costs nothing of OpenSSL's before its first byte.
namespace onggi::http {

using boost::system::error_code;

void Connection::Start() {
  if (worker_.shared_.options.tls == nullptr) return WaitReadable();
  state_ = State::kHandshaking;
  WaitHandshake(boost::asio::socket_base::wait_read);
}

void Connection::WaitHandshake(boost::asio::socket_base::wait_type what) {
  socket_.async_wait(what, [this](const error_code& ec) { OnHandshake(ec); });
}

void Connection::OnHandshake(error_code ec) {
  const ServerMetrics& metrics = worker_.shared_.metrics;
  if (cut_) return Close();
  if (timed_out_) {
    Add(metrics.handshake_timeouts);
    return Close();
  }
  if (ec || worker_.draining_) return Close();
  if (tls_ == nullptr && !BeginTls()) return;
  switch (tls_->Handshake()) {
    case tls::Stream::Handshaken::kWantsRead:
      return WaitHandshake(boost::asio::socket_base::wait_read);
    case tls::Stream::Handshaken::kWantsWrite:
      return WaitHandshake(boost::asio::socket_base::wait_write);
    case tls::Stream::Handshaken::kClosed: Add(metrics.handshakes_vanished); return Close();
    case tls::Stream::Handshaken::kFailed: return OnHandshakeFailed();
    case tls::Stream::Handshaken::kDone: break;
  }
  Add(metrics.handshakes);
  state_ = State::kIdle;
  SetDeadline(std::chrono::steady_clock::now() + worker_.shared_.options.idle_timeout);
  // The first request may have come along with the handshake's end.
  ReadSome();
}

bool Connection::BeginTls() {
  char first = 0;
  const ssize_t n = ::recv(socket_.native_handle(), &first, 1, MSG_PEEK);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
    WaitHandshake(boost::asio::socket_base::wait_read);
    return false;
  }
  if (n <= 0) {
    // Nothing was asked for: somebody who looks whether the port is open.
    Close();
    return false;
  }
  if ((first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z')) {
    // A method and no handshake, whose first byte is 22. It is told so in the words that it knows.
    Add(worker_.shared_.metrics.plain_http);
    exchange_ = worker_.TakeExchange();
    state_ = State::kReading;
    AnswerError(ServerError::kPlainHttp);
    Process();
    return false;
  }
  tls_ = worker_.shared_.options.tls->Accept(socket_.native_handle());
  if (tls_ == nullptr) Close();
  return tls_ != nullptr;
}

void Connection::OnHandshakeFailed() {
  Add(worker_.shared_.metrics.handshake_errors);
  static log::RateLimit limit(std::chrono::seconds(10));
  if (const uint64_t times = limit.Allow()) {
    log::Warn("TLS handshake failed", "error", tls_->error(), "remote",
              remote_.address().to_string(), "times", times);
  }
  // OpenSSL has sent an alert; the client is to see it.
  Linger();
}

}  // namespace onggi::http
