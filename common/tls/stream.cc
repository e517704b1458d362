#include "common/tls/stream.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>

#include "common/check.h"

namespace onggi::tls {
namespace {

/// For TLS 1.2 (RFC 9325, 4.2): ephemeral keys and AEAD only. The suites of TLS 1.3 are all of that
/// kind.
constexpr char kCiphers[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/// Records that one Read takes at most, of 16 KB each, before others get their turn.
constexpr int kRecordsPerRead = 16;

/// ALPN: a client that names protocols must name ours.
int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_size,
                   const unsigned char* offered, unsigned offered_size, void* protocol) {
  const auto* ours = static_cast<const unsigned char*>(protocol);
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, ours, *ours + 1u, offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

void AddName(const ASN1_STRING* value, std::vector<std::string>* names) {
  if (value == nullptr) return;
  names->emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                      static_cast<size_t>(ASN1_STRING_length(value)));
}

}  // namespace

SSL_CTX* NewContext(const SSL_METHOD* method, const unsigned char* protocol) {
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> made(SSL_CTX_new(method), SSL_CTX_free);
  SSL_CTX* const context = made.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(context, 0) != 1 ||
      SSL_CTX_set_cipher_list(context, kCiphers) != 1 ||
      SSL_CTX_set_alpn_protos(context, protocol, *protocol + 1u) != 0) {
    return nullptr;
  }
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  // Partial writes let the connection see progress; its buffers may move between two tries.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // A read that saw no data comes back instead of going on for as long as the other side likes.
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  // One recv for a record instead of two, one of them for its first five bytes.
  SSL_CTX_set_read_ahead(context, 1);
  // Sessions are in the tickets that clients keep, not in memory of ours.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_alpn_select_cb(context, ChooseProtocol, const_cast<unsigned char*>(protocol));
  return made.release();
}

std::string_view LastError() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason == nullptr ? "unknown error" : reason;
}

Stream::Stream(SSL* ssl, int fd) : ssl_(ssl), fd_(fd) {
  BIO* const bio = BIO_new(SocketMethod());
  CHECK(bio != nullptr);
  BIO_set_data(bio, this);
  SSL_set_bio(ssl_, bio, bio);  // takes it over
}

Stream::~Stream() { SSL_free(ssl_); }

const BIO_METHOD* Stream::SocketMethod() {
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

int Stream::Receive(BIO* bio, char* data, size_t size, size_t* done) {
  auto* const stream = static_cast<Stream*>(BIO_get_data(bio));
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

int Stream::Send(BIO* bio, const char* data, size_t size, size_t* done) {
  auto* const stream = static_cast<Stream*>(BIO_get_data(bio));
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

Stream::End Stream::EndOf(int result) {
  if (result == SSL_ERROR_ZERO_RETURN) return End::kClosed;
  // Messages say how long they are, so an end without close_notify, which many leave out, cuts none
  // off unnoticed.
  if (socket_ended_) {
    ERR_clear_error();
    return End::kClosed;
  }
  error_ = LastError();
  return End::kFailed;
}

Stream::Handshaken Stream::Handshake() {
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

ssize_t Stream::Read(std::span<char> room) {
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

bool Stream::has_more() const {
  return end_ != End::kOpen || (!socket_empty_ && !read_wants_write_ && SSL_has_pending(ssl_));
}

ssize_t Stream::Write(const void* data, size_t size) {
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
    // WANT_READ cannot be: there is no renegotiation. After any failure the connection is at its
    // end.
    EndOf(result);
    end_ = End::kFailed;
  }
  errno = EPROTO;
  return -1;
}

void Stream::Shutdown() {
  // After a failure OpenSSL must not be asked for more.
  if (end_ == End::kFailed || !SSL_is_init_finished(ssl_)) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

std::vector<std::string> Stream::PeerNames() const {
  std::vector<std::string> names;
  const std::unique_ptr<X509, void (*)(X509*)> certificate(SSL_get1_peer_certificate(ssl_),
                                                           X509_free);
  if (certificate == nullptr) return names;
  const std::unique_ptr<GENERAL_NAMES, void (*)(GENERAL_NAMES*)> alternatives(
      static_cast<GENERAL_NAMES*>(
          X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)),
      GENERAL_NAMES_free);
  for (int i = 0; i < sk_GENERAL_NAME_num(alternatives.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(alternatives.get(), i);
    if (name->type == GEN_DNS) AddName(name->d.dNSName, &names);
    if (name->type == GEN_IPADD) {
      const int size = ASN1_STRING_length(name->d.iPAddress);
      char text[INET6_ADDRSTRLEN] = "";
      if (size == 4 || size == 16) {
        ::inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), text,
                    sizeof(text));
        names.emplace_back(text);
      }
    }
  }
  X509_NAME* const subject = X509_get_subject_name(certificate.get());
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0) AddName(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), &names);
  return names;
}

}  // namespace onggi::tls
