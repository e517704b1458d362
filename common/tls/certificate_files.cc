#include "common/tls/certificate_files.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <vector>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/pem.h"
#include "common/runtime.h"

namespace onggi::tls {
namespace {

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

bool IsAddress(const std::string& name) {
  in6_addr address;
  return ::inet_pton(AF_INET, name.c_str(), &address) == 1 ||
         ::inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

bool Expect(SSL* ssl, const std::string& name) {
  if (IsAddress(name)) {
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1;
  }
  return SSL_set1_host(ssl, name.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
}

Status CannotUse(const std::string& path) {
  return InvalidArgument("TLS: cannot use " + path + ": " + std::string(LastError()));
}

}  // namespace

struct CertificateFiles::Texts {
  std::string chain, key, authorities;
  bool operator==(const Texts&) const = default;
};

struct CertificateFiles::Content {
  std::vector<pem::Certificate> chain;
  pem::PrivateKey key;
  std::vector<pem::Certificate> authorities;
};

void CertificateFiles::FreeContext::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }

CertificateFiles::CertificateFiles(CertificatePaths paths, const unsigned char* protocol)
    : paths_(std::move(paths)), protocol_(protocol) {}

Result<std::shared_ptr<CertificateFiles>> CertificateFiles::Load(CertificatePaths paths,
                                                                 const unsigned char* protocol) {
  std::shared_ptr<CertificateFiles> made(new CertificateFiles(std::move(paths), protocol));
  RETURN_IF_ERROR(made->Refresh());
  made->watcher_ = std::thread([files = made.get()] { files->Watch(); });
  return made;
}

CertificateFiles::~CertificateFiles() {
  {
    std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

Status CertificateFiles::Check(const CertificatePaths& paths) {
  ASSIGN_OR_RETURN(const Texts texts, Read(paths));
  return Parse(texts, paths).status();
}

// Files. ------------------------------------------------------------------------------------------

Result<CertificateFiles::Texts> CertificateFiles::Read(const CertificatePaths& paths) {
  Texts texts;
  if (!paths.ca_file.empty()) {
    ASSIGN_OR_RETURN(texts.authorities, pem::ReadFile(paths.ca_file));
  }
  if (!paths.cert_file.empty()) {
    ASSIGN_OR_RETURN(texts.chain, pem::ReadFile(paths.cert_file));
  }
  if (!paths.key_file.empty()) {
    ASSIGN_OR_RETURN(texts.key, pem::ReadFile(paths.key_file));
  }
  return texts;
}

Result<CertificateFiles::Content> CertificateFiles::Parse(const Texts& texts,
                                                          const CertificatePaths& paths) {
  Content content;
  if (!paths.ca_file.empty()) {
    ASSIGN_OR_RETURN(content.authorities, pem::ParseCertificates(texts.authorities, paths.ca_file));
  }
  if (!paths.cert_file.empty()) {
    ASSIGN_OR_RETURN(content.chain, pem::ParseCertificates(texts.chain, paths.cert_file));
  }
  if (!paths.key_file.empty()) {
    ASSIGN_OR_RETURN(content.key, pem::ParsePrivateKey(texts.key, paths.key_file));
  }
  if (!content.chain.empty() && content.key != nullptr) {
    RETURN_IF_ERROR(
        pem::CheckPair(*content.chain.front(), *content.key, paths.cert_file, paths.key_file));
  }
  return content;
}

Result<CertificateFiles::Context> CertificateFiles::MakeContext(const SSL_METHOD* method,
                                                                const Content& content) const {
  Context context(NewContext(method, protocol_));
  if (context == nullptr) return Internal("TLS: " + std::string(LastError()));
  ERR_clear_error();
  if (SSL_CTX_use_certificate(context.get(), content.chain.front().get()) != 1) {
    return CannotUse(paths_.cert_file);
  }
  for (size_t i = 1; i < content.chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context.get(), content.chain[i].get()) != 1) {
      return CannotUse(paths_.cert_file);
    }
  }
  if (SSL_CTX_use_PrivateKey(context.get(), content.key.get()) != 1) {
    return CannotUse(paths_.key_file);
  }
  if (content.authorities.empty()) return context;
  X509_STORE* const store = SSL_CTX_get_cert_store(context.get());
  for (const pem::Certificate& authority : content.authorities) {
    if (X509_STORE_add_cert(store, authority.get()) != 1) return CannotUse(paths_.ca_file);
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return context;
}

Status CertificateFiles::Refresh() {
  ASSIGN_OR_RETURN(Texts texts, Read(paths_));
  if (texts_ != nullptr && texts == *texts_) return Status::Ok();
  ASSIGN_OR_RETURN(const Content content, Parse(texts, paths_));
  if (content.chain.empty() || content.key == nullptr) {
    return InvalidArgument("TLS: a server needs a certificate");
  }
  ASSIGN_OR_RETURN(Context accepting, MakeContext(TLS_server_method(), content));
  Context calling;
  if (!content.authorities.empty()) {
    ASSIGN_OR_RETURN(calling, MakeContext(TLS_client_method(), content));
  }
  texts_ = std::make_unique<Texts>(std::move(texts));
  const X509& leaf = *content.chain.front();
  expires_.store(ExpiryOf(leaf), std::memory_order_relaxed);
  const auto expiry = std::chrono::system_clock::from_time_t(expires());
  log::Info("certificate read", "file", paths_.cert_file, "subject", SubjectOf(leaf), "expires",
            FormatHttpDate(expiry));
  if (expiry < std::chrono::system_clock::now()) {
    log::Warn("the certificate has expired: clients will refuse it", "file", paths_.cert_file);
  }
  {
    std::scoped_lock lock(mutex_);
    accepting_.swap(accepting);
    calling_.swap(calling);
  }
  generation_.fetch_add(1, std::memory_order_release);
  return Status::Ok();
}

void CertificateFiles::Watch() {
  SetThreadName("certificates");
  std::string complaint;
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, paths_.poll_interval, [this] { return stopping_; })) {
    lock.unlock();
    // Once for each fault: it is looked at again and again.
    if (const Status read = Refresh(); read.ok()) {
      complaint.clear();
    } else if (read.message() != complaint) {
      complaint = read.message();
      log::Warn("new certificate not taken; the one from before stays", "status", read);
    }
    lock.lock();
  }
}

// Ends of connections. ----------------------------------------------------------------------------

std::unique_ptr<Stream> CertificateFiles::Accept(int fd) {
  SSL* ssl = nullptr;
  {
    std::scoped_lock lock(mutex_);
    ssl = SSL_new(accepting_.get());
  }
  if (ssl == nullptr) {
    ERR_clear_error();
    return nullptr;
  }
  SSL_set_accept_state(ssl);
  return std::make_unique<Stream>(ssl, fd);
}

std::unique_ptr<Stream> CertificateFiles::Connect(int fd, const std::string& name) {
  CHECK(!paths_.ca_file.empty());
  SSL* ssl = nullptr;
  {
    std::scoped_lock lock(mutex_);
    ssl = SSL_new(calling_.get());
  }
  if (ssl == nullptr || !Expect(ssl, name)) {
    SSL_free(ssl);
    ERR_clear_error();
    return nullptr;
  }
  SSL_set_connect_state(ssl);
  return std::make_unique<Stream>(ssl, fd);
}

}  // namespace onggi::tls
