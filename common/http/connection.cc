#include "common/http/connection.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <limits>

#include "common/log.h"
#include "common/uuid.h"

namespace onggi::http {
namespace {

using boost::system::error_code;

/// Bodies up to this size are copied behind their head, so that one plain send takes both.
constexpr size_t kCopiedBody = 32 << 10;
/// Answers to pipelined requests are collected up to this many bytes before they are sent.
constexpr size_t kFlushBytes = 64 << 10;
/// Reads of one connection before others get their turn.
constexpr int kReadsPerTurn = 16;
/// What a refused client may still send while it is being told so.
constexpr uint64_t kLingerBytes = 64 << 20;

std::string_view StatusLine(int status, std::string* scratch) {
  switch (status) {
    case 200: return "HTTP/1.1 200 OK\r\n";
    case 400: return "HTTP/1.1 400 Bad Request\r\n";
    default: break;
  }
  *scratch = "HTTP/1.1 " + std::to_string(status) + " ";
  scratch->append(ReasonPhrase(status)).append("\r\n");
  return *scratch;
}

int DefaultStatus(ServerError error) {
  switch (error) {
    case ServerError::kMalformedRequest: return 400;
    case ServerError::kHeaderTooLarge: return 431;
    case ServerError::kBodyTooLarge: return 413;
    case ServerError::kUnsupportedEncoding: return 501;
    case ServerError::kRequestTimeout: return 408;
    case ServerError::kOverloaded: return 503;
    case ServerError::kPlainHttp: return 400;
  }
  return 500;
}

void AppendNumber(std::string& out, uint64_t value) {
  char digits[20];
  char* at = digits + sizeof(digits);
  do {
    *--at = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  out.append(at, static_cast<size_t>(digits + sizeof(digits) - at));
}

}  // namespace

Connection::Connection(Worker& worker, Socket socket, const boost::asio::ip::tcp::endpoint& remote)
    : worker_(worker), socket_(std::move(socket)), remote_(remote) {}

void Connection::WaitReadable() {
  auto what = boost::asio::socket_base::wait_read;
  if (tls_ != nullptr) {
    if (tls_->has_more()) {
      // Behind what else this thread has to do: others get their turn.
      return boost::asio::post(worker_.io_, [this] { OnReadable(error_code()); });
    }
    if (tls_->read_wants_write()) what = boost::asio::socket_base::wait_write;
  }
  socket_.async_wait(what, [this](const error_code& ec) { OnReadable(ec); });
}

void Connection::WaitWritable() {
  socket_.async_wait(boost::asio::socket_base::wait_write,
                     [this](const error_code& ec) { OnWritable(ec); });
}

void Connection::Close() {
  if (tls_ != nullptr) tls_->Shutdown();
  worker_.Remove(this);
}

ssize_t Connection::Receive(std::span<char> room) {
  if (tls_ != nullptr) return tls_->Read(room);
  return ::recv(socket_.native_handle(), room.data(), room.size(), 0);
}

ssize_t Connection::Send(iovec* parts, size_t count) {
  if (tls_ != nullptr) return tls_->Write(parts[0].iov_base, parts[0].iov_len);
  if (count == 1) {
    return ::send(socket_.native_handle(), parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL);
  }
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  return ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL);
}

void Connection::SetDeadline(SteadyTime deadline) {
  deadline_ = deadline;
  // The wheel looks at a connection no later than its place says; a later deadline waits for that.
  if (deadline != SteadyTime::max() && worker_.TickOf(deadline) + 1 < wheel_tick_) {
    worker_.Unlink(this);
    worker_.Link(this);
  }
}

void Connection::SetReadDeadline() {
  const ServerOptions& options = worker_.shared_.options;
  const RequestReader& reader = exchange_->reader;
  if (!reader.header_done()) {
    SetDeadline(request_start_ + options.header_timeout);
    return;
  }
  const uint64_t bytes = std::max(reader.body_expected(), reader.body_received());
  const uint64_t rate = std::max<uint64_t>(options.min_body_rate, 1);
  SetDeadline(request_start_ + options.body_timeout +
              std::chrono::milliseconds(bytes * 1000 / rate));
}

int Connection::Unacknowledged() {
  int bytes = 0;
  return ::ioctl(socket_.native_handle(), SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

void Connection::SetWriteDeadline() {
  unacknowledged_ = Unacknowledged();
  SetDeadline(std::chrono::steady_clock::now() + worker_.shared_.options.write_timeout);
}

bool Connection::Charge() {
  constexpr uint64_t kFree = 64 << 10;
  Exchange& exchange = *exchange_;
  const uint64_t capacity = exchange.reader.capacity();
  const uint64_t excess = capacity > kFree ? capacity - kFree : 0;
  if (excess <= exchange.charged) return true;
  const uint64_t added = excess - exchange.charged;
  exchange.charged = excess;
  return worker_.shared_.buffered.fetch_add(added, std::memory_order_relaxed) + added <=
         worker_.shared_.options.max_buffered;
}

void Connection::OnReadable(error_code ec) {
  if (cut_) return Close();
  if (timed_out_) {
    timed_out_ = false;
    if (state_ != State::kReading) {
      if (state_ == State::kIdle) Add(worker_.shared_.metrics.idle_timeouts);
      return Close();
    }
    Add(worker_.shared_.metrics.read_timeouts);
    AnswerError(ServerError::kRequestTimeout);
    return Process();
  }
  // A drain wakes idle connections: what they had sent until now is still answered.
  if (ec && !(worker_.draining_ && state_ == State::kIdle)) return Close();
  if (state_ == State::kLingering) return Linger();
  ReadSome();
}

void Connection::ReadSome() {
  const bool idle = exchange_ == nullptr;
  if (idle) exchange_ = worker_.TakeExchange();
  for (int turn = 0;; ++turn) {
    const std::span<char> room = exchange_->reader.Prepare();
    if (!Charge()) {
      AnswerError(ServerError::kOverloaded);
      return Process();
    }
    const ssize_t n = Receive(room);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) {
        if (!idle) Add(worker_.shared_.metrics.vanished);
        return Close();
      }
      if (turn > 0) return Process();
      if (idle) {
        worker_.ReturnExchange(std::move(exchange_));
        if (worker_.draining_) return Close();
      }
      return WaitReadable();
    }
    if (n == 0) {
      if (!idle) Add(worker_.shared_.metrics.vanished);
      return Close();
    }
    Add(worker_.shared_.metrics.bytes_in, static_cast<uint64_t>(n));
    if (state_ == State::kIdle) {
      state_ = State::kReading;
      request_start_ = std::chrono::steady_clock::now();
    }
    exchange_->reader.Commit(static_cast<size_t>(n));
    // A full buffer means that there may be more; a request in the buffer comes first.
    const RequestReader& reader = exchange_->reader;
    if (static_cast<size_t>(n) < room.size() || turn >= kReadsPerTurn || !reader.header_done() ||
        reader.body_received() >= reader.body_expected()) {
      return Process();
    }
  }
}

void Connection::Process() {
  for (;;) {
    Exchange& exchange = *exchange_;
    if (exchange.body_pending || exchange.out.size() > kFlushBytes || close_after_write_) {
      const Sent sent = Flush();
      if (sent == Sent::kFailed) return Close();
      if (sent == Sent::kBlocked) return WaitWritable();
    }
    if (close_after_write_) return Linger();
    switch (exchange.reader.Advance()) {
      case RequestReader::Step::kComplete:
        if (!Dispatch()) return;
        continue;
      case RequestReader::Step::kError: AnswerError(exchange.reader.error()); continue;
      case RequestReader::Step::kNeedMore: break;
    }
    if (exchange.reader.awaits_continue()) {
      exchange.reader.ContinueSent();
      exchange.out.append("HTTP/1.1 100 Continue\r\n\r\n");
    }
    const Sent sent = Flush();
    if (sent == Sent::kFailed) return Close();
    if (sent == Sent::kBlocked) return WaitWritable();
    return AfterFlush();
  }
}

void Connection::AfterFlush() {
  if (exchange_->reader.empty()) {
    worker_.ReturnExchange(std::move(exchange_));
    state_ = State::kIdle;
    if (worker_.draining_ || cut_) return Close();
    // Coarse on purpose: the start of this turn is soon enough.
    SetDeadline(request_start_ + worker_.shared_.options.idle_timeout);
    return WaitReadable();
  }
  if (cut_) return Close();
  state_ = State::kReading;
  SetReadDeadline();
  WaitReadable();
}

bool Connection::Dispatch() {
  Exchange& exchange = *exchange_;
  Request& request = exchange.reader.request();
  ServerShared& shared = worker_.shared_;
  request.arrival = std::chrono::steady_clock::now();
  request.first_byte = request_start_;
  // The next request of this connection begins no earlier than now.
  request_start_ = request.arrival;
  request.remote = remote_;
  request.io_index = worker_.index_;
  request.io = &worker_.io_;
  NewRequestId(&request.request_id);
  Add(shared.metrics.requests);
  try {
    if (shared.handler.TryHandle(request, exchange.response)) {
      FinishResponse();
      return true;
    }
  } catch (const std::exception& e) {
    log::Error("request handler threw", "request_id", request.request_id, "error", e.what());
    exchange.response.Clear();
    exchange.response.status = 500;
    exchange.response.keep_alive = false;
    FinishResponse();
    return true;
  }
  StartHandle();
  return false;
}

void Connection::StartHandle() {
  state_ = State::kHandling;
  // Earlier answers need not wait for this one. A failure shows again when this one is sent.
  Flush();
  SetDeadline(SteadyTime::max());
  auto coroutine = worker_.shared_.handler.Handle(exchange_->reader.request(), exchange_->response);
  boost::asio::co_spawn(boost::asio::any_io_executor(worker_.io_.get_executor()),
                        std::move(coroutine),
                        [this](std::exception_ptr error) { OnHandled(std::move(error)); });
}

void Connection::OnHandled(std::exception_ptr error) {
  Exchange& exchange = *exchange_;
  if (error) {
    std::string what = "unknown exception";
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      what = e.what();
    } catch (...) {  // NOLINT: named above
    }
    log::Error("request handler threw", "request_id", exchange.reader.request().request_id, "error",
               what);
    exchange.response.Clear();
    exchange.response.status = 500;
    exchange.response.keep_alive = false;
  }
  // The idle and read deadlines of what follows count from here.
  request_start_ = std::chrono::steady_clock::now();
  state_ = State::kReading;
  FinishResponse();
  Process();
}

void Connection::AnswerError(ServerError error) {
  Exchange& exchange = *exchange_;
  Request& request = exchange.reader.request();
  request.arrival = std::chrono::steady_clock::now();
  request.first_byte = request_start_;
  request.remote = remote_;
  request.io_index = worker_.index_;
  request.io = &worker_.io_;
  NewRequestId(&request.request_id);
  Add(worker_.shared_.metrics.errors);
  Response& response = exchange.response;
  response.Clear();
  response.status = DefaultStatus(error);
  try {
    worker_.shared_.handler.HandleError(error, request, response);
  } catch (const std::exception& e) {
    log::Error("error handler threw", "error", e.what());
    response.Clear();
    response.status = 500;
  }
  response.keep_alive = false;
  FinishResponse();
}

void Connection::FinishResponse() {
  Exchange& exchange = *exchange_;
  const Request& request = exchange.reader.request();
  Response& response = exchange.response;
  const bool keep_alive = request.keep_alive && response.keep_alive && !worker_.draining_ && !cut_;
  const bool bodyless =
      response.no_body || response.status == 204 || response.status == 304 || response.status < 200;
  std::string scratch;
  std::string& out = exchange.out;
  out.append(StatusLine(response.status, &scratch)).append(worker_.CommonHeaders());
  if (!response.content_type.empty()) {
    out.append("Content-Type: ").append(response.content_type).append("\r\n");
  }
  if (!bodyless) {
    out.append("Content-Length: ");
    AppendNumber(out, response.body.size());
    out.append("\r\n");
  }
  if (!keep_alive) {
    out.append("Connection: close\r\n");
    close_after_write_ = true;
  } else if (request.version < 11) {
    out.append("Connection: keep-alive\r\n");
  }
  out.append(response.headers()).append("\r\n");
  const bool send_body = !bodyless && request.method != Method::kHead && !response.body.empty();
  if (!close_after_write_ || exchange.reader.complete()) exchange.reader.Consume();
  if (send_body && response.body.size() > kCopiedBody) {
    exchange.body_pending = true;
    exchange.body_sent = 0;
    return;
  }
  if (send_body) out.append(response.body);
  response.Clear();
}

Connection::Sent Connection::Flush() {
  Exchange& exchange = *exchange_;
  for (;;) {
    iovec parts[2];
    size_t count = 0;
    if (exchange.out_sent < exchange.out.size()) {
      parts[count++] = {exchange.out.data() + exchange.out_sent,
                        exchange.out.size() - exchange.out_sent};
    }
    if (exchange.body_pending && exchange.body_sent < exchange.response.body.size()) {
      parts[count++] = {exchange.response.body.data() + exchange.body_sent,
                        exchange.response.body.size() - exchange.body_sent};
    }
    if (count == 0) break;
    const ssize_t n = Send(parts, count);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        if (state_ == State::kHandling) return Sent::kBlocked;
        state_ = State::kWriting;
        SetWriteDeadline();
        return cut_ ? Sent::kFailed : Sent::kBlocked;
      }
      Add(worker_.shared_.metrics.vanished);
      return Sent::kFailed;
    }
    size_t sent = static_cast<size_t>(n);
    Add(worker_.shared_.metrics.bytes_out, sent);
    const size_t of_out = std::min(sent, exchange.out.size() - exchange.out_sent);
    exchange.out_sent += of_out;
    exchange.body_sent += sent - of_out;
  }
  exchange.out.clear();
  exchange.out_sent = 0;
  if (exchange.body_pending) {
    exchange.body_pending = false;
    exchange.response.Clear();
  }
  return Sent::kAll;
}

void Connection::OnWritable(error_code ec) {
  if (timed_out_) {
    Add(worker_.shared_.metrics.write_timeouts);
    cut_ = true;
  }
  if (cut_) {
    // The kernel would keep the rest for a client that does not read.
    // Not Asio's set_option, whose destructor would undo it.
    const linger hard{1, 0};
    ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    return Close();
  }
  if (ec) return Close();
  state_ = State::kReading;
  const Sent sent = Flush();
  if (sent == Sent::kFailed) return Close();
  if (sent == Sent::kBlocked) return WaitWritable();
  Process();
}

void Connection::Linger() {
  // Closing a socket with unread bytes resets it, and the client might never see the answer: so the
  // rest of what it sends is thrown away for a while (RFC 9112, 9.6).
  if (state_ != State::kLingering) {
    state_ = State::kLingering;
    if (tls_ != nullptr) {
      tls_->Shutdown();
      // What still comes is thrown away as it is.
      tls_.reset();
    }
    error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
    if (exchange_) worker_.ReturnExchange(std::move(exchange_));
    request_start_ = std::chrono::steady_clock::now();
  }
  if (cut_) return Close();
  thread_local std::vector<char> waste(64 << 10);
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    const ssize_t n = ::recv(socket_.native_handle(), waste.data(), waste.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (n <= 0) return Close();
    lingered_bytes_ += static_cast<uint64_t>(n);
    if (lingered_bytes_ > kLingerBytes) return Close();
  }
  const auto timeout = worker_.shared_.options.linger_timeout;
  SetDeadline(std::min(std::chrono::steady_clock::now() + timeout, request_start_ + 10 * timeout));
  WaitReadable();
}

void Connection::OnDeadline() {
  deadline_ = SteadyTime::max();
  if (state_ == State::kHandling) return;
  if (state_ == State::kWriting && Unacknowledged() < unacknowledged_) {
    // A slow reader: the socket turns writable only when a third of its buffer is free.
    return SetWriteDeadline();
  }
  timed_out_ = true;
  error_code ignored;
  socket_.cancel(ignored);
}

void Connection::Drain() {
  // Others notice when they finish the request in hand.
  if (state_ != State::kIdle && state_ != State::kHandshaking) return;
  error_code ignored;
  socket_.cancel(ignored);
}

void Connection::Cut() {
  cut_ = true;
  if (state_ == State::kHandling) return;
  error_code ignored;
  socket_.cancel(ignored);
}

}  // namespace onggi::http
