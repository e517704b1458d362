#pragma once

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace onggi::tls {

/// One end of a TLS connection, over a non-blocking socket that it does not own and that outlives
/// it. It reads and writes that socket itself (a BIO over recv and send, without buffers in
/// between) and never waits: whoever owns it waits for the socket and calls again.
///
/// Used by one thread at a time. While nothing is under way it keeps no record buffers
/// (SSL_MODE_RELEASE_BUFFERS, which its context has set).
class Stream {
 public:
  /// Takes `ssl` over, whose state (accept or connect) is set.
  Stream(SSL* ssl, int fd);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  enum class Handshaken : uint8_t {
    kDone,
    kWantsRead,   ///< again when the socket is readable
    kWantsWrite,  ///< again when the socket is writable
    kClosed,      ///< the other side went away
    kFailed,      ///< error() says why; the other side has been sent an alert where TLS has one
  };
  Handshaken Handshake();
  /// Why the handshake failed, in OpenSSL's words.
  std::string_view error() const { return error_; }

  // After the handshake.

  /// As recv(2): 0 when the other side has ended, or -1 and errno, EAGAIN when there is nothing
  /// now. Otherwise less than `room` only when that was all, or after a quarter of a megabyte.
  ssize_t Read(std::span<char> room);
  /// Read may have more to give although the socket has nothing: do not wait for that.
  bool has_more() const;
  /// Read said EAGAIN because it had to write (an answer to a key update): wait for that.
  bool read_wants_write() const { return read_wants_write_; }

  /// As send(2), of at least one byte. After EAGAIN the next call begins with the same bytes (at
  /// the same place or another).
  ssize_t Write(const void* data, size_t size);

  /// Tells the other side that nothing more comes (close_notify), if the socket takes it at once.
  void Shutdown();

  /// The names in the other side's certificate: DNS and address alternatives, and its common name.
  /// Empty without one.
  std::vector<std::string> PeerNames() const;

 private:
  enum class End : uint8_t { kOpen, kClosed, kFailed };

  /// What OpenSSL's failed call `result` says of the connection, for all but "again".
  End EndOf(int result);

  static const BIO_METHOD* SocketMethod();
  static int Receive(BIO* bio, char* data, size_t size, size_t* done);
  static int Send(BIO* bio, const char* data, size_t size, size_t* done);

  SSL* const ssl_;
  const int fd_;
  End end_ = End::kOpen;
  bool socket_empty_ = false;  ///< the last recv of the last call found nothing
  bool socket_ended_ = false;  ///< recv has returned 0, or failed
  bool read_wants_write_ = false;
  std::string_view error_;
};

/// Protocols as ALPN names them (RFC 7301), their length before them.
inline constexpr unsigned char kHttp1[] = "\x08http/1.1";
inline constexpr unsigned char kHttp2[] = "\x02h2";

/// What every context has in common: TLS 1.2 and 1.3 with forward secrecy and AEAD only, no
/// renegotiation, partial writes, and `protocol` as the only one spoken (ALPN, as above; it
/// lives as long as the context). nullptr when there is no memory.
SSL_CTX* NewContext(const SSL_METHOD* method, const unsigned char* protocol);

/// OpenSSL's word for what went wrong last, which is constant memory; empties its queue.
std::string_view LastError();

}  // namespace onggi::tls
