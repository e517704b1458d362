#include "common/rpc/stream.h"

#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>

#include "common/check.h"
#include "common/rpc/channel.h"
#include "common/rpc/status.h"

namespace onggi::rpc {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr size_t kReadBytes = size_t{256} << 10;
/// What is made of messages ahead of the socket.
constexpr size_t kMaxOutBytes = size_t{512} << 10;
/// A buffer that has grown beyond this is given back when it is empty.
constexpr size_t kKeptOutBytes = size_t{128} << 10;
/// Reads before others on the thread get their turn.
constexpr int kReadsInTurn = 4;

grpc::Status Lost() { return {grpc::StatusCode::UNAVAILABLE, "the connection was lost"}; }

}  // namespace

MessageStream::MessageStream(Socket socket, Options options)
    : executor_(socket.get_executor()),
      options_(std::move(options)),
      buffer_(new char[kReadBytes]),
      socket_(std::move(socket)),
      timer_(executor_) {}

MessageStream::~MessageStream() = default;

std::shared_ptr<MessageStream> MessageStream::Dial(Executor executor, Options options,
                                                   std::string endpoint, std::string method,
                                                   std::string name) {
  std::shared_ptr<MessageStream> stream(new MessageStream(Socket(executor), std::move(options)));
  stream->host_ = EndpointHost(endpoint);
  stream->port_ = endpoint.substr(std::min(endpoint.size(), endpoint.rfind(':') + 1));
  stream->method_ = std::move(method);
  stream->name_ = name.empty() ? stream->host_ : std::move(name);
  stream->peer_address_ = std::move(endpoint);
  return stream;
}

void MessageStream::Start(std::shared_ptr<Events> events) {
  std::scoped_lock lock(mutex_);
  CHECK(!started_);
  started_ = true;
  events_ = std::move(events);
  self_ = shared_from_this();
  const bool closed = state_ == State::kClosed;
  asio::post(executor_, [self = self_, closed] { closed ? self->Finish() : self->Connect(); });
}

std::shared_ptr<MessageStream> MessageStream::Answer(Socket socket, Options options,
                                                     Acceptor acceptor,
                                                     std::function<void()> on_closed) {
  std::shared_ptr<MessageStream> stream(new MessageStream(std::move(socket), std::move(options)));
  stream->self_ = stream;
  stream->started_ = true;
  stream->acceptor_ = std::move(acceptor);
  stream->on_closed_ = std::move(on_closed);
  error_code error;
  const auto from = stream->socket_.remote_endpoint(error);
  if (!error) {
    stream->peer_address_ = from.address().to_string() + ":" + std::to_string(from.port());
  }
  asio::post(stream->executor_, [stream] {
    stream->ExpireIn(stream->options_.connect_timeout, "not called in time");
    stream->OnConnected();
  });
  return stream;
}

/// Closes the stream after `delay`, unless the timer is set anew or it has closed before.
void MessageStream::ExpireIn(std::chrono::milliseconds delay, std::string why) {
  timer_.expires_after(delay);
  timer_.async_wait([self = shared_from_this(), why = std::move(why)](const error_code& error) {
    if (error) return;
    std::scoped_lock lock(self->mutex_);
    self->Close({grpc::StatusCode::UNAVAILABLE, why});
  });
}

// Beginning. --------------------------------------------------------------------------------------

void MessageStream::Connect() {
  if (std::scoped_lock lock(mutex_); state_ == State::kClosed) return;
  ExpireIn(options_.connect_timeout, "not connected in time");
  const auto connected = [self = shared_from_this()](const error_code& error) {
    {
      std::scoped_lock lock(self->mutex_);
      if (self->state_ == State::kClosed) return;
      if (error) {
        self->Close({grpc::StatusCode::UNAVAILABLE,
                     "cannot connect to " + self->peer_address_ + ": " + error.message()});
        return;
      }
    }
    self->OnConnected();
  };
  using boost::asio::ip::tcp;
  error_code error;
  const auto address = asio::ip::make_address(host_, error);
  const int port = std::atoi(port_.c_str());
  if (!error && port > 0 && port < 65536) {
    socket_.async_connect(tcp::endpoint(address, static_cast<uint16_t>(port)), connected);
    return;
  }
  using Resolver = asio::ip::basic_resolver<tcp, Executor>;
  const auto resolver = std::make_shared<Resolver>(executor_);
  resolver->async_resolve(
      host_, port_,
      [self = shared_from_this(), resolver, connected](const error_code& failed,
                                                       const Resolver::results_type& found) {
        {
          std::scoped_lock lock(self->mutex_);
          if (self->state_ == State::kClosed) return;
        }
        if (failed) return connected(failed);
        asio::async_connect(
            self->socket_, found,
            [connected](const error_code& result, const tcp::endpoint&) { connected(result); });
      });
}

void MessageStream::OnConnected() {
  error_code error;
  socket_.native_non_blocking(true, error);
  socket_.set_option(asio::ip::tcp::no_delay(true), error);
  socket_.set_option(asio::socket_base::keep_alive(true), error);
  fd_ = socket_.native_handle();
  {
    std::scoped_lock lock(mutex_);
    if (state_ == State::kClosed) return;
    if (options_.tls != nullptr) {
      tls_ = acceptor_ != nullptr ? options_.tls->Accept(fd_) : options_.tls->Connect(fd_, name_);
      if (tls_ == nullptr) {
        Close({grpc::StatusCode::RESOURCE_EXHAUSTED, "no memory for TLS"});
        return;
      }
      state_ = State::kShaking;
    } else {
      StartSession();
    }
  }
  if (options_.tls != nullptr) return Shake();
  if (Tell()) WaitToRead();
}

void MessageStream::Shake() {
  using Shaken = tls::Stream::Handshaken;
  auto wait = asio::socket_base::wait_read;
  {
    std::scoped_lock lock(mutex_);
    if (state_ != State::kShaking) return;
    const Shaken shaken = tls_->Handshake();
    if (shaken == Shaken::kDone) {
      peer_names_ = tls_->PeerNames();
      StartSession();
    } else if (shaken == Shaken::kFailed) {
      Close({grpc::StatusCode::UNAVAILABLE,
             "TLS handshake with " + peer_address_ + ": " + std::string(tls_->error())});
      return;
    } else if (shaken == Shaken::kClosed) {
      Close(Lost());
      return;
    } else if (shaken == Shaken::kWantsWrite) {
      wait = asio::socket_base::wait_write;
    }
  }
  if (std::unique_lock lock(mutex_); state_ != State::kShaking) {
    lock.unlock();
    return OnReadable();  // the last flight may have brought more
  }
  socket_.async_wait(wait, [self = shared_from_this()](const error_code& error) {
    if (!error) self->Shake();
  });
}

void MessageStream::StartSession() {
  session_ = acceptor_ != nullptr ? Http2Session::Answer(options_.max_message_bytes)
                                  : Http2Session::Call(method_, host_ + ":" + port_,
                                                       tls_ != nullptr, options_.max_message_bytes);
  if (session_ == nullptr) {
    Close({grpc::StatusCode::RESOURCE_EXHAUSTED, "no memory for HTTP/2"});
    return;
  }
  state_ = State::kOpen;
  if (acceptor_ == nullptr) {
    asio::post(executor_, [self = shared_from_this()] { self->timer_.cancel(); });
  }
  if (writing_) session_->Send(std::exchange(early_, {}));
  Pump();
}

// Reading. ----------------------------------------------------------------------------------------

void MessageStream::WaitToRead() {
  socket_.async_wait(asio::socket_base::wait_read,
                     [self = shared_from_this()](const error_code& error) {
                       if (!error) self->OnReadable();
                     });
}

ssize_t MessageStream::ReadSome() {
  if (tls_ != nullptr) return tls_->Read({buffer_.get(), kReadBytes});
  ssize_t n;
  do {
    n = ::recv(fd_, buffer_.get(), kReadBytes, 0);
  } while (n < 0 && errno == EINTR);
  return n;
}

void MessageStream::OnReadable() {
  for (int turn = 0; turn < kReadsInTurn; ++turn) {
    bool more = false;
    {
      std::scoped_lock lock(mutex_);
      if (state_ == State::kClosed) return;
      const ssize_t n = ReadSome();
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      if (n <= 0) {
        Close(Lost());
        return;
      }
      more = tls_ != nullptr ? tls_->has_more() : static_cast<size_t>(n) == kReadBytes;
      const Status status = session_->Receive({buffer_.get(), static_cast<size_t>(n)}, &incoming_);
      Pump();  // what HTTP/2 has to answer
      if (!status.ok()) {
        Close(ToGrpc(status));
        return;
      }
    }
    if (acceptor_ != nullptr) TakeCall();
    if (!Tell()) return;
    if (!more) break;
  }
  // Bytes that TLS holds already make no socket readable.
  bool held;
  {
    std::scoped_lock lock(mutex_);
    if (state_ == State::kClosed) return;
    held = tls_ != nullptr && tls_->has_more();
  }
  if (held) {
    asio::post(executor_, [self = shared_from_this()] { self->OnReadable(); });
  } else {
    WaitToRead();
  }
}

/// The other side has said which method it calls.
void MessageStream::TakeCall() {
  std::string method;
  {
    std::scoped_lock lock(mutex_);
    if (state_ != State::kOpen || !session_->called()) return;
    method = *session_->called();
    session_->Accept();
  }
  timer_.cancel();
  const Acceptor acceptor = std::exchange(acceptor_, nullptr);
  grpc::Status refusal(grpc::StatusCode::UNAVAILABLE, "refused");
  events_ = acceptor(shared_from_this(), method, &refusal);
  std::scoped_lock lock(mutex_);
  if (events_ == nullptr) EndLocked(refusal);
  if (state_ != State::kClosed) Pump();
}

bool MessageStream::Tell() {
  std::vector<IncomingMessage> messages;
  {
    std::scoped_lock lock(mutex_);
    if (state_ == State::kClosed) return false;
    messages.swap(incoming_);
  }
  for (const IncomingMessage& message : messages) {
    {
      std::scoped_lock lock(mutex_);
      if (state_ != State::kOpen) break;
    }
    if (events_ != nullptr) events_->OnMessage(message.view());
  }
  bool written;
  {
    std::scoped_lock lock(mutex_);
    messages.clear();
    if (incoming_.empty()) incoming_.swap(messages);  // for its memory
    written = std::exchange(written_, false) && state_ == State::kOpen;
    if (state_ != State::kClosed && session_ != nullptr && session_->ended()) {
      const grpc::Status ended = *session_->ended();
      // A caller that has said its last is told that we have too.
      if (method_.empty() && ended.ok() && state_ == State::kOpen) {
        EndLocked(ended);
        Pump();
      } else if (!method_.empty() || !ended.ok()) {
        Close(ended);
      }
    }
    if (state_ == State::kClosed) return false;
  }
  if (written && events_ != nullptr) events_->OnWritten();
  return true;
}

// Writing. ----------------------------------------------------------------------------------------

bool MessageStream::Write(std::vector<MessagePiece> pieces) {
  std::scoped_lock lock(mutex_);
  if (state_ == State::kEnding || state_ == State::kClosed) return false;
  CHECK(!writing_);
  writing_ = true;
  if (session_ == nullptr) {
    early_ = std::move(pieces);
    owes_written_ = true;
    return false;
  }
  session_->Send(std::move(pieces));
  if (!waits_to_write_) Pump();
  if (!writing_) return true;
  owes_written_ = true;
  return false;
}

ssize_t MessageStream::WriteSome() {
  const char* const data = out_.data() + out_sent_;
  const size_t size = out_.size() - out_sent_;
  if (tls_ != nullptr) return tls_->Write(data, size);
  ssize_t n;
  do {
    n = ::send(fd_, data, size, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n;
}

void MessageStream::Pump() {
  if (session_ == nullptr || state_ == State::kClosed || write_failed_) return;
  for (;;) {
    while (out_sent_ < out_.size()) {
      const ssize_t n = WriteSome();
      if (n >= 0) {
        out_sent_ += static_cast<size_t>(n);
        continue;
      }
      if (errno != EAGAIN && errno != EWOULDBLOCK) {
        // Reading comes to the end of it, and hears what the other side said last: it may have
        // closed the connection right behind that, and be gone before we answer what came before.
        write_failed_ = true;
        ::shutdown(fd_, SHUT_RDWR);
        return;
      }
      if (waits_to_write_) return;
      waits_to_write_ = true;
      asio::post(executor_, [self = shared_from_this()] {
        if (std::scoped_lock closed(self->mutex_); self->state_ == State::kClosed) return;
        self->socket_.async_wait(asio::socket_base::wait_write, [self](const error_code& error) {
          if (error) return;
          {
            std::scoped_lock again(self->mutex_);
            self->waits_to_write_ = false;
            self->Pump();
          }
          self->Tell();
        });
      });
      return;
    }
    if (out_.capacity() > kKeptOutBytes) {
      out_ = std::string();
    } else {
      out_.clear();
    }
    out_sent_ = 0;
    if (!session_->Produce(&out_, kMaxOutBytes)) {
      Close({grpc::StatusCode::INTERNAL, "HTTP/2 cannot go on"});
      return;
    }
    if (out_.empty()) break;
  }
  if (writing_ && session_->sent()) {
    writing_ = false;
    if (std::exchange(owes_written_, false)) written_ = true;
  }
  if (state_ == State::kEnding && session_->finished() && !shut_) {
    // The other side closes the connection when it has read that; bytes of its own that we have not
    // read would otherwise take ours from it.
    shut_ = true;
    if (tls_ != nullptr) tls_->Shutdown();
    ::shutdown(fd_, SHUT_WR);
  }
}

// The end. ----------------------------------------------------------------------------------------

void MessageStream::End(const grpc::Status& status) {
  std::scoped_lock lock(mutex_);
  EndLocked(status);
  if (!waits_to_write_) Pump();
}

void MessageStream::EndLocked(const grpc::Status& status) {
  if (state_ == State::kEnding || state_ == State::kClosed) return;
  // Nobody has called, or been called.
  if (session_ == nullptr || (method_.empty() && !session_->called())) return Close(status);
  state_ = State::kEnding;
  end_ = status;
  session_->End(status);
  asio::post(executor_, [self = shared_from_this()] {
    if (std::scoped_lock lock(self->mutex_); self->state_ == State::kClosed) return;
    self->ExpireIn(self->options_.linger, "");
  });
}

void MessageStream::Abort(const grpc::Status& status) {
  std::scoped_lock lock(mutex_);
  if (state_ == State::kClosed) return;
  if (session_ != nullptr && !waits_to_write_) {
    session_->Cancel();
    Pump();  // as far as the socket takes it
  }
  Close(status);
}

void MessageStream::Close(const grpc::Status& status) {
  if (state_ == State::kClosed) return;
  if (state_ != State::kEnding) end_ = status;
  state_ = State::kClosed;
  if (!started_) return;
  // For nothing that runs now: events come one at a time.
  asio::post(executor_, [self = shared_from_this()] { self->Finish(); });
}

void MessageStream::Finish() {
  grpc::Status end;
  {
    std::scoped_lock lock(mutex_);
    if (tls_ != nullptr && !shut_) tls_->Shutdown();
    end = end_;
    early_.clear();
    incoming_.clear();
  }
  timer_.cancel();
  error_code error;
  socket_.close(error);
  acceptor_ = nullptr;
  if (const std::shared_ptr<Events> events = std::move(events_)) events->OnEnded(end);
  if (const auto on_closed = std::exchange(on_closed_, nullptr)) on_closed();
  self_.reset();
}

}  // namespace onggi::rpc
