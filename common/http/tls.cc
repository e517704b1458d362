#include "common/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <cerrno>
#include <ctime>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/pem.h"
#include "common/runtime.h"

namespace onggi::http {
namespace {

/// For TLS 1.2 (RFC 9325, 4.2): ephemeral keys and AEAD only. The suites of TLS 1.3 are all of that
/// kind.
constexpr char kCiphers[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/// Records that one Read takes at most, of 16 KB each, before others get their turn.
constexpr int kRecordsPerRead = 16;

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using Context = std::unique_ptr<SSL_CTX, FreeContext>;

/// OpenSSL's word for what went wrong last, which is constant memory; empties the queue.
std::string_view LastError() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason == nullptr ? "unknown error" : reason;
}

/// ALPN (RFC 7301): a client that names protocols must name ours.
int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_size,
                   const unsigned char* offered, unsigned offered_size, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kOurs, sizeof(kOurs) - 1, offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

/// A context with everything but the certificate.
Context NewContext() {
  Context made(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* const context = made.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(context, 0) != 1 ||
      SSL_CTX_set_cipher_list(context, kCiphers) != 1) {
    return nullptr;
  }
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  // Partial writes let the connection see progress; its buffers may move between two tries.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // A read that saw no data comes back instead of going on for as long as a client likes.
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  // One recv for a record instead of two, one of them for its first five bytes.
  SSL_CTX_set_read_ahead(context, 1);
  // Sessions are in the tickets that clients keep, not in memory of ours.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_alpn_select_cb(context, ChooseProtocol, nullptr);
  return made;
}

int64_t ExpiryOf(const X509& certificate) {
  std::tm time{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time) != 1) return 0;
  return ::timegm(&time);
}

std::string SubjectOf(const X509& certificate) {
  char text[256] = "";
  X509_NAME_oneline(X509_get_subject_name(&certificate), text, sizeof(text));
  return text;
}

}  // namespace

// -- TlsStream
// -------------------------------------------------------------------------------------

TlsStream::TlsStream(SSL* ssl, int fd) : ssl_(ssl), fd_(fd) {
  BIO* const bio = BIO_new(SocketMethod());
  CHECK(bio != nullptr);
  BIO_set_data(bio, this);
  SSL_set_bio(ssl_, bio, bio);  // takes it over
  SSL_set_accept_state(ssl_);
}

TlsStream::~TlsStream() { SSL_free(ssl_); }

const BIO_METHOD* TlsStream::SocketMethod() {
  // OpenSSL's own socket BIO would raise SIGPIPE, and not tell an empty socket from an ended one.
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
    CHECK(made != nullptr);
    BIO_meth_set_read_ex(made, Receive);
    BIO_meth_set_write_ex(made, Send);
    BIO_meth_set_ctrl(made, [](BIO*, int command, long, void*) -> long {
      return command == BIO_CTRL_FLUSH ? 1 : 0;
    });
    return made;
  }();
  return method;
}

int TlsStream::Receive(BIO* bio, char* data, size_t size, size_t* done) {
  auto* const stream = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  ssize_t n;
  do {
    n = ::recv(stream->fd_, data, size, 0);
  } while (n < 0 && errno == EINTR);
  if (n > 0) {
    *done = static_cast<size_t>(n);
    return 1;
  }
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    stream->socket_empty_ = true;
    BIO_set_retry_read(bio);
  } else {
    stream->socket_ended_ = true;
  }
  return 0;
}

int TlsStream::Send(BIO* bio, const char* data, size_t size, size_t* done) {
  auto* const stream = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  ssize_t n;
  do {
    n = ::send(stream->fd_, data, size, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n >= 0) {
    *done = static_cast<size_t>(n);
    return 1;
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    BIO_set_retry_write(bio);
  } else {
    stream->socket_ended_ = true;
  }
  return 0;
}

TlsStream::End TlsStream::EndOf(int result) {
  if (result == SSL_ERROR_ZERO_RETURN) return End::kClosed;
  // Requests say how long they are, so an end without close_notify, which many clients leave out,
  // cuts none off unnoticed.
  if (socket_ended_) {
    ERR_clear_error();
    return End::kClosed;
  }
  error_ = LastError();
  return End::kFailed;
}

TlsStream::Handshaken TlsStream::Handshake() {
  socket_empty_ = false;
  ERR_clear_error();
  const int done = SSL_do_handshake(ssl_);
  if (done == 1) return Handshaken::kDone;
  const int result = SSL_get_error(ssl_, done);
  if (result == SSL_ERROR_WANT_READ) return Handshaken::kWantsRead;
  if (result == SSL_ERROR_WANT_WRITE) return Handshaken::kWantsWrite;
  end_ = EndOf(result);
  return end_ == End::kClosed ? Handshaken::kClosed : Handshaken::kFailed;
}

ssize_t TlsStream::Read(std::span<char> room) {
  socket_empty_ = read_wants_write_ = false;
  size_t total = 0;
  for (int i = 0; i < kRecordsPerRead && total < room.size() && end_ == End::kOpen; ++i) {
    size_t n = 0;
    ERR_clear_error();
    const int done = SSL_read_ex(ssl_, room.data() + total, room.size() - total, &n);
    if (done == 1) {
      total += n;
      if (!SSL_has_pending(ssl_)) break;
      continue;
    }
    const int result = SSL_get_error(ssl_, done);
    if (result == SSL_ERROR_WANT_READ) {
      // Otherwise a record without data was read, and another may be there.
      if (socket_empty_ || !SSL_has_pending(ssl_)) break;
    } else if (result == SSL_ERROR_WANT_WRITE) {
      read_wants_write_ = true;
      break;
    } else {
      end_ = EndOf(result);
    }
  }
  if (total > 0) return static_cast<ssize_t>(total);
  if (end_ == End::kClosed) return 0;
  errno = end_ == End::kFailed ? EPROTO : EAGAIN;
  return -1;
}

bool TlsStream::has_more() const {
  return end_ != End::kOpen || (!socket_empty_ && !read_wants_write_ && SSL_has_pending(ssl_));
}

ssize_t TlsStream::Write(const void* data, size_t size) {
  if (end_ != End::kFailed) {
    size_t n = 0;
    ERR_clear_error();
    const int done = SSL_write_ex(ssl_, data, size, &n);
    if (done == 1) return static_cast<ssize_t>(n);
    const int result = SSL_get_error(ssl_, done);
    if (result == SSL_ERROR_WANT_WRITE) {
      errno = EAGAIN;
      return -1;
    }
    // WANT_READ is a client that began a message of the handshake's (a key update) and left it at
    // that, against RFC 8446, 5.1. After any failure the connection is at its end.
    EndOf(result);
    end_ = End::kFailed;
  }
  errno = EPROTO;
  return -1;
}

void TlsStream::Shutdown() {
  // After a failure OpenSSL must not be asked for more.
  if (end_ == End::kFailed || !SSL_is_init_finished(ssl_)) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

// -- TlsContext
// ------------------------------------------------------------------------------------

Result<std::shared_ptr<TlsContext>> TlsContext::Load(TlsFiles files) {
  std::shared_ptr<TlsContext> made(new TlsContext(std::move(files)));
  RETURN_IF_ERROR(made->ReadFiles().status());
  made->watcher_ = std::thread([context = made.get()] { context->Watch(); });
  return made;
}

TlsContext::~TlsContext() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (watcher_.joinable()) watcher_.join();
  SSL_CTX_free(context_);
}

std::unique_ptr<TlsStream> TlsContext::NewStream(int fd) {
  SSL* ssl = nullptr;
  {
    std::lock_guard lock(mutex_);
    ssl = SSL_new(context_);
  }
  if (ssl == nullptr) {
    ERR_clear_error();
    return nullptr;
  }
  return std::unique_ptr<TlsStream>(new TlsStream(ssl, fd));
}

Result<bool> TlsContext::ReadFiles() {
  ASSIGN_OR_RETURN(std::string chain_text, pem::ReadFile(files_.cert_file));
  ASSIGN_OR_RETURN(std::string key_text, pem::ReadFile(files_.key_file));
  if (chain_text == read_chain_ && key_text == read_key_) return false;
  ASSIGN_OR_RETURN(const auto chain, pem::ParseCertificates(chain_text, files_.cert_file));
  ASSIGN_OR_RETURN(const auto key, pem::ParsePrivateKey(key_text, files_.key_file));
  RETURN_IF_ERROR(pem::CheckPair(*chain.front(), *key, files_.cert_file, files_.key_file));
  Context context = NewContext();
  if (context == nullptr) return Internal("TLS: " + std::string(LastError()));
  if (SSL_CTX_use_certificate(context.get(), chain.front().get()) != 1) {
    return InvalidArgument("TLS: cannot use " + files_.cert_file + ": " + std::string(LastError()));
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) != 1) {
      return InvalidArgument("TLS: cannot use " + files_.cert_file + ": " +
                             std::string(LastError()));
    }
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1) {
    return InvalidArgument("TLS: cannot use " + files_.key_file + ": " + std::string(LastError()));
  }
  read_chain_ = std::move(chain_text);
  read_key_ = std::move(key_text);
  expires_.store(ExpiryOf(*chain.front()), std::memory_order_relaxed);
  const auto expiry = std::chrono::system_clock::from_time_t(expires());
  log::Info("certificate read", "file", files_.cert_file, "subject", SubjectOf(*chain.front()),
            "expires", FormatHttpDate(expiry));
  if (expiry < std::chrono::system_clock::now()) {
    log::Warn("the certificate has expired: clients will refuse it", "file", files_.cert_file);
  }
  std::lock_guard lock(mutex_);
  SSL_CTX_free(context_);
  context_ = context.release();
  return true;
}

void TlsContext::Watch() {
  SetThreadName("certificates");
  std::string complaint;
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, files_.poll_interval, [this] { return stopping_; })) {
    lock.unlock();
    const Result<bool> read = ReadFiles();
    // Once for each fault: it is looked at every second.
    if (read.ok()) {
      complaint.clear();
    } else if (read.status().message() != complaint) {
      complaint = read.status().message();
      log::Warn("new certificate not taken; the one from before stays", "status", read.status());
    }
    lock.lock();
  }
}

}  // namespace onggi::http
