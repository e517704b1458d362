#pragma once

#include <grpcpp/support/status.h>

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common/rpc/http2.h"
#include "common/status.h"
#include "common/tls/certificate_files.h"
#include "common/tls/stream.h"

namespace onggi::rpc {

/// One end of a gRPC call in which both sides stream messages, on a connection of its own, driven
/// by an io thread of ours instead of by gRPC's library.
///
/// On the wire it is gRPC over HTTP/2 (nghttp2), with mutual TLS: a gRPC client can call the one
/// end, and a gRPC server answer the other. The library takes each message through a poller, a
/// queue and a thread for callbacks; where two nodes exchange thousands of small messages a second,
/// those switches between threads cost more than the messages (docs/performance-cluster.md). Here a
/// message is written by the thread that has it, if the socket takes it, and read by the one that
/// waits for the socket.
///
/// Lifecycle: Dial makes the calling end, StreamServer the answering one. It keeps itself alive
/// until OnEnded, the last event. Owner of its state: a lock, held while the socket is read or
/// written, and never while anybody is told anything; events come on the executor, one at a time.
/// Bounds: one message of max_message_bytes that comes, what one Write was given, and 512 KB on
/// their way to the socket; what is not read stays with the sender (TCP, and HTTP/2's windows).
class MessageStream final : public std::enable_shared_from_this<MessageStream> {
 public:
  using Executor = boost::asio::io_context::executor_type;

  class Events {
   public:
    virtual ~Events() = default;
    /// The next is read once this has returned.
    virtual void OnMessage(std::string_view message) = 0;
    /// What Write did not take at once has been taken over by the system: another may be written.
    virtual void OnWritten() = 0;
    /// Last. What End or Abort was given, the other side's word, or what broke the stream.
    virtual void OnEnded(const grpc::Status& status) = 0;
  };

  struct Options {
    Options() {}
    /// Of mutual TLS (LoadCertificateFiles); null: plain text.
    std::shared_ptr<tls::CertificateFiles> tls;
    size_t max_message_bytes = 64u << 20;
    /// To connect, shake hands and be called.
    std::chrono::milliseconds connect_timeout{2'000};
    /// What the other side has to take in what was written before End().
    std::chrono::milliseconds linger{200};
  };

  /// The calling end of a call of `method` ("/package.Service/Method") at `endpoint` ("host:port").
  /// `name`: what the server's certificate must carry; empty: the endpoint's host. Nothing happens
  /// before Start().
  static std::shared_ptr<MessageStream> Dial(Executor executor, Options options,
                                             std::string endpoint, std::string method,
                                             std::string name);
  /// Connects, and tells `events` from here on; OnEnded comes in any case. Of a dialed one, once.
  void Start(std::shared_ptr<Events> events);
  ~MessageStream();
  MessageStream(const MessageStream&) = delete;
  MessageStream& operator=(const MessageStream&) = delete;

  /// Writes a message; the one before has been taken over. True: this one has been too, and
  /// OnWritten does not follow. Any thread. Once ended: dropped, and false.
  bool Write(std::vector<MessagePiece> pieces);

  /// Ends the stream after what was written. The answering side tells the other `status`. The first
  /// call of this or Abort counts. Any thread.
  void End(const grpc::Status& status);
  /// Ends it at once: what is being written may be lost. Any thread.
  void Abort(const grpc::Status& status);

  /// The names in the other side's certificate. From the first event on.
  const std::vector<std::string>& peer_names() const { return peer_names_; }
  /// The other side's "address:port", as far as known. From the first event on.
  const std::string& peer_address() const { return peer_address_; }

 private:
  friend class StreamServer;
  /// Whom an accepted call is for: null refuses it with the status.
  using Acceptor =
      std::function<std::shared_ptr<Events>(const std::shared_ptr<MessageStream>& stream,
                                            const std::string& method, grpc::Status* refusal)>;
  using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, Executor>;

  enum class State : uint8_t {
    kConnecting,
    kShaking,  ///< hands, of TLS
    kOpen,
    kEnding,  ///< End(): what was written goes out; what comes is dropped
    kClosed,
  };

  MessageStream(Socket socket, Options options);
  /// The answering end of a call on a connected socket; `on_closed` is called at its very end.
  static std::shared_ptr<MessageStream> Answer(Socket socket, Options options, Acceptor acceptor,
                                               std::function<void()> on_closed);

  // On the executor.
  void Connect();
  void OnConnected();
  void Shake();
  void WaitToRead();
  void OnReadable();
  void TakeCall();
  /// Tells what has happened; false: the stream is at its end.
  bool Tell();
  void Finish();
  void ExpireIn(std::chrono::milliseconds delay, std::string why);

  // With the lock held; any thread.
  void StartSession();
  ssize_t ReadSome();
  ssize_t WriteSome();
  /// Writes what there is until the socket takes no more.
  void Pump();
  void EndLocked(const grpc::Status& status);
  void Close(const grpc::Status& status);

  const Executor executor_;
  const Options options_;
  const std::unique_ptr<char[]> buffer_;
  Socket socket_;
  boost::asio::basic_waitable_timer<std::chrono::steady_clock,
                                    boost::asio::wait_traits<std::chrono::steady_clock>, Executor>
      timer_;
  std::string host_, port_, method_, name_;  ///< of a dialed one
  Acceptor acceptor_;                        ///< of an answering one, until it is called
  std::function<void()> on_closed_;
  std::shared_ptr<Events> events_;
  std::shared_ptr<MessageStream> self_;  ///< until Finish()
  std::vector<std::string> peer_names_;
  std::string peer_address_;
  int fd_ = -1;

  std::mutex mutex_;
  // Guarded by mutex_.
  State state_ = State::kConnecting;
  bool started_ = false;
  std::unique_ptr<tls::Stream> tls_;
  std::unique_ptr<Http2Session> session_;
  std::vector<MessagePiece> early_;  ///< written before there was a session
  std::string out_;                  ///< on its way to the socket
  size_t out_sent_ = 0;              ///< of it
  bool writing_ = false;             ///< a Write has not been taken over
  bool owes_written_ = false;        ///< and OnWritten is to follow it
  bool written_ = false;             ///< OnWritten is due
  bool waits_to_write_ = false;
  bool write_failed_ = false;  ///< for good; reading ends the stream
  bool shut_ = false;          ///< our side of the connection
  grpc::Status end_;           ///< what OnEnded will say
  std::vector<IncomingMessage> incoming_;
};

}  // namespace onggi::rpc
