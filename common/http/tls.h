#pragma once

#include <openssl/bio.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>

#include "common/status.h"

namespace onggi::http {

/// One client's TLS on the server's side, over a non-blocking socket that it does not own and that
/// outlives it. It reads and writes that socket itself (a BIO over recv and send, without buffers
/// in between) and never waits: whoever owns it waits for the socket and calls again.
///
/// Made by TlsContext, used by one thread. While nothing is under way it keeps no record buffers
/// (SSL_MODE_RELEASE_BUFFERS).
class TlsStream {
 public:
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  enum class Handshaken : uint8_t {
    kDone,
    kWantsRead,   ///< again when the socket is readable
    kWantsWrite,  ///< again when the socket is writable
    kClosed,      ///< the client went away
    kFailed,      ///< error() says why; the client has been sent an alert where TLS has one
  };
  Handshaken Handshake();
  /// Why the handshake failed, in OpenSSL's words.
  std::string_view error() const { return error_; }

  // After the handshake.

  /// As recv(2): 0 when the client has ended its side, or -1 and errno, EAGAIN when there is
  /// nothing now. Otherwise less than `room` only when that was all, or after a quarter of a
  /// megabyte.
  ssize_t Read(std::span<char> room);
  /// Read may have more to give although the socket has nothing: do not wait for that.
  bool has_more() const;
  /// Read said EAGAIN because it had to write (an answer to a key update): wait for that.
  bool read_wants_write() const { return read_wants_write_; }

  /// As send(2), of at least one byte. After EAGAIN the next call begins with the same bytes (at
  /// the same place or another).
  ssize_t Write(const void* data, size_t size);

  /// Tells the client that nothing more comes (close_notify), if the socket takes it at once.
  void Shutdown();

 private:
  friend class TlsContext;
  enum class End : uint8_t { kOpen, kClosed, kFailed };

  TlsStream(SSL* ssl, int fd);
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

/// Where the PEM files of a server's certificate are.
struct TlsFiles {
  TlsFiles() {}
  TlsFiles(std::string cert, std::string key)
      : cert_file(std::move(cert)), key_file(std::move(key)) {}
  std::string cert_file;  ///< the chain, leaf first
  std::string key_file;   ///< of the leaf
  std::chrono::milliseconds poll_interval{1000};
};

/// What every TLS connection of a server has in common: certificate, key and rules (TLS 1.2 and 1.3
/// with forward secrecy and AEAD only, ALPN http/1.1, stateless session tickets).
///
/// A thread of its own looks at the files every second and takes what is new: connections made from
/// then on are shown the new certificate, and no restart is needed. Files that cannot be read, or
/// do not belong together (one of the two has been replaced and the other not yet), are left alone
/// with a warning; the certificate from before stays. Thread-safe.
class TlsContext {
 public:
  /// kInvalidArgument, naming the file, when the files cannot be read, are no PEM, or do not belong
  /// together.
  static Result<std::shared_ptr<TlsContext>> Load(TlsFiles files);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  /// The server's end of a connection. nullptr when there is no memory.
  std::unique_ptr<TlsStream> NewStream(int fd);

  /// When the certificate that is shown now expires, in seconds since 1970.
  int64_t expires() const { return expires_.load(std::memory_order_relaxed); }

 private:
  explicit TlsContext(TlsFiles files) : files_(std::move(files)) {}
  /// Reads the files; true when they were new and are used now.
  Result<bool> ReadFiles();
  void Watch();

  const TlsFiles files_;
  std::string
      read_chain_;  ///< text of the files when they were last read; the thread's, after Load
  std::string read_key_;
  std::atomic<int64_t> expires_{0};
  std::mutex mutex_;
  SSL_CTX* context_ = nullptr;  // guarded by mutex_; streams hold references of their own
  bool stopping_ = false;       // guarded by mutex_
  std::condition_variable wake_;
  std::thread watcher_;
};

}  // namespace onggi::http
