#pragma once

#include <sys/uio.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <ctime>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/http/request_reader.h"
#include "common/http/server.h"
#include "common/metrics.h"
#include "common/tls/stream.h"

namespace onggi::http {

/// The server's metrics; all nullptr when there is no registry.
struct ServerMetrics {
  void Register(metrics::Registry& registry, const std::string& endpoint, bool tls);

  metrics::Counter* accepted = nullptr;
  metrics::Counter* refused = nullptr;
  metrics::Counter* accept_errors = nullptr;
  metrics::Counter* requests = nullptr;
  metrics::Counter* bytes_in = nullptr;
  metrics::Counter* bytes_out = nullptr;
  metrics::Counter* idle_timeouts = nullptr;
  metrics::Counter* read_timeouts = nullptr;
  metrics::Counter* write_timeouts = nullptr;
  metrics::Counter* errors = nullptr;    ///< requests the server itself refused
  metrics::Counter* vanished = nullptr;  ///< clients that went away before their answer

  // With TLS only.
  metrics::Counter* handshakes = nullptr;
  metrics::Counter* handshake_timeouts = nullptr;
  metrics::Counter* handshakes_vanished = nullptr;
  metrics::Counter* handshake_errors = nullptr;
  metrics::Counter* plain_http = nullptr;  ///< HTTP instead of a handshake
};

inline void Add(metrics::Counter* counter, uint64_t n = 1) {
  if (counter != nullptr) counter->Add(n);
}

/// What every connection of one server shares.
struct ServerShared {
  ServerShared(Handler& h, ServerOptions o) : handler(h), options(std::move(o)) {}
  Handler& handler;
  const ServerOptions options;
  ServerMetrics metrics;
  std::atomic<uint64_t> buffered{0};  ///< bytes of request buffers beyond the free part of each
  std::atomic<size_t> connections{0};
  std::function<void()> on_empty;  ///< a connection ended; called on its io thread
};

/// What a connection needs while it has a request in hand. Idle connections have none, so that ten
/// thousand of them cost little; each worker keeps a few used ones.
struct Exchange {
  Exchange(size_t max_header, size_t max_body) : reader(max_header, max_body) {}
  RequestReader reader;
  Response response;
  std::string out;  ///< heads and small bodies not yet sent
  size_t out_sent = 0;
  bool body_pending = false;  ///< response.body is to be sent behind `out`
  size_t body_sent = 0;
  uint64_t charged = 0;  ///< of ServerShared::buffered
};

class Connection;

/// The part of the server that belongs to one io thread: its connections, their deadlines (a hashed
/// wheel, Varghese and Lauck 1987, whose entries move only when they come due) and spare exchanges.
/// Every function runs on that thread but those marked otherwise.
class Worker {
 public:
  Worker(ServerShared& shared, boost::asio::io_context& io, size_t index);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Any thread: the connections handed over and not ended.
  std::atomic<size_t> load{0};

  /// Takes over an accepted, non-blocking socket.
  void AddConnection(int fd, const boost::asio::ip::tcp::endpoint& remote);

  /// Closes the idle and tells the others to end with the answer in hand.
  void StartDrain();
  /// Cuts connections that are reading or writing.
  void Cut();

 private:
  friend class Connection;

  struct Bucket {
    Connection* first = nullptr;
  };
  static constexpr size_t kBuckets = 512;

  std::unique_ptr<Exchange> TakeExchange();
  void ReturnExchange(std::unique_ptr<Exchange> exchange);

  void Link(Connection* connection);
  void Unlink(Connection* connection);
  void Remove(Connection* connection);
  int64_t TickOf(SteadyTime time) const;
  void ArmTimer();
  void OnTick();

  /// "Server: ...\r\nDate: ...\r\n", made anew each second.
  std::string_view CommonHeaders();

  ServerShared& shared_;
  boost::asio::io_context& io_;
  const size_t index_;
  boost::asio::basic_waitable_timer<std::chrono::steady_clock,
                                    boost::asio::wait_traits<std::chrono::steady_clock>,
                                    boost::asio::io_context::executor_type>
      timer_;
  bool timer_armed_ = false;
  bool draining_ = false;
  const SteadyTime epoch_;
  int64_t current_tick_ = 0;
  std::vector<Bucket> wheel_;
  size_t count_ = 0;
  std::vector<std::unique_ptr<Exchange>> spare_;
  time_t headers_second_ = 0;
  std::string common_headers_;
};

/// One client. A state machine with exactly one thing outstanding at any time: a wait for the
/// socket to be readable or writable, or a handler; whoever completes it goes on or deletes the
/// connection.
///
/// With TLS (common/tls/stream.h) it begins with a handshake (handshake.cc); from then on only the
/// two calls that touch the socket differ, Receive and Send.
class Connection {
 public:
  using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp,
                                                  boost::asio::io_context::executor_type>;

  Connection(Worker& worker, Socket socket, const boost::asio::ip::tcp::endpoint& remote);

  void Start();
  void Drain();
  void Cut();

 private:
  friend class Worker;

  enum class State : uint8_t { kHandshaking, kIdle, kReading, kHandling, kWriting, kLingering };

  void WaitHandshake(boost::asio::socket_base::wait_type what);
  void OnHandshake(boost::system::error_code ec);
  /// Looks at the client's first byte, and makes tls_ if TLS begins with it. False: the connection
  /// waits, or ends, or is deleted.
  bool BeginTls();
  void OnHandshakeFailed();

  /// OnReadable as soon as Receive may have something.
  void WaitReadable();
  void WaitWritable();
  void OnReadable(boost::system::error_code ec);
  void OnWritable(boost::system::error_code ec);
  void OnHandled(std::exception_ptr error);
  void OnDeadline();

  /// recv(2) and send(2), or sendmsg(2) where there are two parts; through TLS where there is TLS.
  ssize_t Receive(std::span<char> room);
  ssize_t Send(iovec* parts, size_t count);

  void ReadSome();
  /// Answers what has arrived, until more is needed; then waits for that. May delete this.
  void Process();
  /// True when the answer is in place; false when the handler runs on its own now.
  bool Dispatch();
  void StartHandle();
  void AnswerError(ServerError error);
  /// Puts head and body in line to be sent.
  void FinishResponse();
  enum class Sent : uint8_t { kAll, kBlocked, kFailed };
  Sent Flush();
  /// After Flush said kAll. May delete this.
  void AfterFlush();
  void Linger();
  void Close();
  void SetDeadline(SteadyTime deadline);
  void SetReadDeadline();
  void SetWriteDeadline();
  /// Bytes that the client's side has not acknowledged.
  int Unacknowledged();
  bool Charge();

  Worker& worker_;
  Socket socket_;
  const boost::asio::ip::tcp::endpoint remote_;
  std::unique_ptr<tls::Stream> tls_;  ///< from the client's first byte on
  std::unique_ptr<Exchange> exchange_;
  State state_ = State::kIdle;
  bool close_after_write_ = false;
  bool timed_out_ = false;
  bool cut_ = false;
  int unacknowledged_ = 0;  ///< when the write deadline was set
  uint64_t lingered_bytes_ = 0;
  SteadyTime request_start_;  ///< first byte of the request being read

  // The wheel's.
  SteadyTime deadline_ = SteadyTime::max();
  int64_t wheel_tick_ = 0;
  Connection* next_ = nullptr;
  Connection* previous_ = nullptr;
};

}  // namespace onggi::http
