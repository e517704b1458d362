#include "common/rpc/tls_sessions.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <fstream>
#include <iterator>

#include "common/log.h"
#include "common/tls/stream.h"

namespace onggi::rpc {
namespace {

constexpr unsigned char kHttp2[] = "\x02h2";

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

using Context = std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)>;

Result<SSL_CTX*> MakeContext(const SSL_METHOD* method, const TlsOptions& tls) {
  Context made(tls::NewContext(method, kHttp2), SSL_CTX_free);
  SSL_CTX* const context = made.get();
  ERR_clear_error();
  const auto failed = [](const std::string& file) {
    return InvalidArgument("TLS: " + file + ": " + std::string(tls::LastError()));
  };
  if (context == nullptr) return Status(Code::kResourceExhausted, "TLS: no memory");
  if (SSL_CTX_load_verify_file(context, tls.ca_file.c_str()) != 1) return failed(tls.ca_file);
  if (SSL_CTX_use_certificate_chain_file(context, tls.cert_file.c_str()) != 1) {
    return failed(tls.cert_file);
  }
  if (SSL_CTX_use_PrivateKey_file(context, tls.key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return failed(tls.key_file);
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return made.release();
}

bool IsAddress(const std::string& name) {
  in6_addr address;
  return ::inet_pton(AF_INET, name.c_str(), &address) == 1 ||
         ::inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

}  // namespace

Result<std::shared_ptr<TlsSessions>> TlsSessions::Load(const TlsOptions& tls) {
  if (tls.cert_file.empty()) return InvalidArgument("TLS: a server needs a certificate");
  if (tls.ca_file.empty()) {
    return InvalidArgument("TLS: a server that asks for certificates needs their authorities");
  }
  // Its messages are better than OpenSSL's.
  RETURN_IF_ERROR(MakeServerCredentials(tls).status());
  std::shared_ptr<TlsSessions> made(new TlsSessions(tls));
  RETURN_IF_ERROR(made->ReadFiles());
  return made;
}

TlsSessions::~TlsSessions() {
  SSL_CTX_free(accepting_);
  SSL_CTX_free(calling_);
}

Status TlsSessions::ReadFiles() {
  read_at_ = std::chrono::steady_clock::now();
  std::vector<std::string> texts = {ReadText(tls_.ca_file), ReadText(tls_.cert_file),
                                    ReadText(tls_.key_file)};
  if (texts == texts_) return Status::Ok();
  ASSIGN_OR_RETURN(SSL_CTX* const accepting, MakeContext(TLS_server_method(), tls_));
  const Context held(accepting, SSL_CTX_free);
  ASSIGN_OR_RETURN(SSL_CTX* const calling, MakeContext(TLS_client_method(), tls_));
  SSL_CTX_free(accepting_);
  SSL_CTX_free(calling_);
  SSL_CTX_up_ref(accepting);
  accepting_ = accepting;
  calling_ = calling;
  texts_ = std::move(texts);
  return Status::Ok();
}

void TlsSessions::Renew() {
  if (std::chrono::steady_clock::now() - read_at_ < tls_.reload_interval) return;
  if (const Status status = ReadFiles(); !status.ok()) {
    log::Warn("the certificate from before stays in use", "status", status);
  }
}

SSL* TlsSessions::Accept() {
  std::scoped_lock lock(mutex_);
  Renew();
  SSL* const session = SSL_new(accepting_);
  if (session != nullptr) SSL_set_accept_state(session);
  return session;
}

SSL* TlsSessions::Connect(const std::string& name) {
  std::scoped_lock lock(mutex_);
  Renew();
  SSL* const session = SSL_new(calling_);
  if (session == nullptr) return nullptr;
  SSL_set_connect_state(session);
  const bool set = IsAddress(name)
                       ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name.c_str()) == 1
                       : SSL_set1_host(session, name.c_str()) == 1 &&
                             SSL_set_tlsext_host_name(session, name.c_str()) == 1;
  if (set) return session;
  SSL_free(session);
  return nullptr;
}

}  // namespace onggi::rpc
