#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <functional>
#include <string>

#include "common/check.h"
#include "tests/unit/http/test_client.h"

namespace onggi::http {

/// A TestClient that speaks TLS and takes no certificate but those of `ca_file` (none: any).
class TlsClient final : public TestClient {
 public:
  explicit TlsClient(uint16_t port, const std::string& ca_file = "",
                     const std::function<void(SSL*)>& prepare = {}, int receive_buffer = 0)
      : TestClient(port, receive_buffer), context_(SSL_CTX_new(TLS_client_method())) {
    CHECK(context_ != nullptr);
    if (!ca_file.empty()) {
      CHECK(SSL_CTX_load_verify_locations(context_, ca_file.c_str(), nullptr) == 1);
      SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    }
    ssl_ = SSL_new(context_);
    if (prepare) prepare(ssl_);
    SSL_set_fd(ssl_, fd());
    ERR_clear_error();
    handshaken_ = SSL_connect(ssl_) == 1;
    if (!handshaken_) {
      const char* reason = ERR_reason_error_string(ERR_peek_last_error());
      error_ = reason == nullptr ? "no error" : reason;
    }
  }
  ~TlsClient() override {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }

  bool handshaken() const { return handshaken_; }
  /// Why not, in OpenSSL's words.
  const std::string& error() const { return error_; }
  SSL* ssl() const { return ssl_; }

  /// Waits for the end of the server's side; true when it was an orderly one (close_notify).
  bool ClosedInOrder() {
    char bytes[4096];
    int n;
    while ((n = SSL_read(ssl_, bytes, sizeof(bytes))) > 0) {
    }
    return SSL_get_error(ssl_, n) == SSL_ERROR_ZERO_RETURN;
  }

 protected:
  ssize_t Write(std::string_view bytes) override {
    return SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
  }
  ssize_t Fetch(char* bytes, size_t size) override {
    return SSL_read(ssl_, bytes, static_cast<int>(size));
  }

 private:
  SSL_CTX* const context_;
  SSL* ssl_ = nullptr;
  bool handshaken_ = false;
  std::string error_;
};

}  // namespace onggi::http
