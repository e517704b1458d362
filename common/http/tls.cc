#include "common/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ctime>

#include "common/clock.h"
#include "common/log.h"
#include "common/pem.h"
#include "common/runtime.h"

namespace onggi::http {
namespace {

/// ALPN's name of HTTP/1.1, its length before it.
constexpr unsigned char kHttp1[] = "\x08http/1.1";

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using Context = std::unique_ptr<SSL_CTX, FreeContext>;

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

std::unique_ptr<tls::Stream> TlsContext::NewStream(int fd) {
  SSL* ssl = nullptr;
  {
    std::lock_guard lock(mutex_);
    ssl = SSL_new(context_);
  }
  if (ssl == nullptr) {
    ERR_clear_error();
    return nullptr;
  }
  SSL_set_accept_state(ssl);
  return std::make_unique<tls::Stream>(ssl, fd);
}

Result<bool> TlsContext::ReadFiles() {
  ASSIGN_OR_RETURN(std::string chain_text, pem::ReadFile(files_.cert_file));
  ASSIGN_OR_RETURN(std::string key_text, pem::ReadFile(files_.key_file));
  if (chain_text == read_chain_ && key_text == read_key_) return false;
  ASSIGN_OR_RETURN(const auto chain, pem::ParseCertificates(chain_text, files_.cert_file));
  ASSIGN_OR_RETURN(const auto key, pem::ParsePrivateKey(key_text, files_.key_file));
  RETURN_IF_ERROR(pem::CheckPair(*chain.front(), *key, files_.cert_file, files_.key_file));
  const Context context(tls::NewContext(TLS_server_method(), kHttp1));
  if (context == nullptr) return Internal("TLS: " + std::string(tls::LastError()));
  if (SSL_CTX_use_certificate(context.get(), chain.front().get()) != 1) {
    return InvalidArgument("TLS: cannot use " + files_.cert_file + ": " +
                           std::string(tls::LastError()));
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) != 1) {
      return InvalidArgument("TLS: cannot use " + files_.cert_file + ": " +
                             std::string(tls::LastError()));
    }
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1) {
    return InvalidArgument("TLS: cannot use " + files_.key_file + ": " +
                           std::string(tls::LastError()));
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
  SSL_CTX_up_ref(context.get());
  context_ = context.get();
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
