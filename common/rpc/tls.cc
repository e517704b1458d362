#include "common/rpc/tls.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "common/text.h"

namespace onggi::rpc {
namespace {

using Provider = grpc::experimental::FileWatcherCertificateProvider;

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
struct FreeX509 {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

Result<std::string> ReadAll(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file || text.empty()) {
    return InvalidArgument("TLS: cannot read " + path +
                           (errno != 0 ? std::string(": ") + std::strerror(errno) : ": empty"));
  }
  return text;
}

Result<std::unique_ptr<X509, FreeX509>> ReadCertificate(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadAll(path));
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  std::unique_ptr<X509, FreeX509> certificate(
      PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (!certificate) return InvalidArgument("TLS: no PEM certificate in " + path);
  return certificate;
}

/// gRPC's file watcher only logs what is wrong with its files, and then every connection fails: say
/// it at the start instead.
Status CheckFiles(const TlsOptions& tls) {
  if (!tls.ca_file.empty()) RETURN_IF_ERROR(ReadCertificate(tls.ca_file).status());
  if (tls.cert_file.empty() != tls.key_file.empty()) {
    return InvalidArgument("TLS: certificate and key go together");
  }
  if (tls.cert_file.empty()) return Status::Ok();
  ASSIGN_OR_RETURN(const auto certificate, ReadCertificate(tls.cert_file));
  ASSIGN_OR_RETURN(const std::string text, ReadAll(tls.key_file));
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  // The empty password callback keeps OpenSSL from asking on the terminal for an encrypted key.
  const std::unique_ptr<EVP_PKEY, FreeKey> key(PEM_read_bio_PrivateKey(
      bio.get(), nullptr, [](char*, int, int, void*) { return 0; }, nullptr));
  if (!key) return InvalidArgument("TLS: no PEM private key without a password in " + tls.key_file);
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return InvalidArgument("TLS: " + tls.key_file + " is not the key of " + tls.cert_file);
  }
  return Status::Ok();
}

std::shared_ptr<Provider> MakeProvider(const TlsOptions& tls) {
  const auto seconds = static_cast<unsigned>(std::max<int64_t>(1, tls.reload_interval.count()));
  return std::make_shared<Provider>(tls.key_file, tls.cert_file, tls.ca_file, seconds);
}

}  // namespace

Result<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(const TlsOptions& tls) {
  if (tls.disabled()) return grpc::InsecureChannelCredentials();
  RETURN_IF_ERROR(CheckFiles(tls));
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(MakeProvider(tls));
  // Without our own authorities gRPC uses the system's.
  if (!tls.ca_file.empty()) options.watch_root_certs();
  if (!tls.cert_file.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

Result<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(const TlsOptions& tls,
                                                                       ClientCertificate client) {
  if (tls.disabled()) return grpc::InsecureServerCredentials();
  if (tls.cert_file.empty()) return InvalidArgument("TLS: a server needs a certificate");
  if (tls.ca_file.empty() && client == ClientCertificate::kRequired) {
    return InvalidArgument("TLS: a server that asks for certificates needs their authorities");
  }
  RETURN_IF_ERROR(CheckFiles(tls));
  grpc::experimental::TlsServerCredentialsOptions options(MakeProvider(tls));
  options.watch_identity_key_cert_pairs();
  if (!tls.ca_file.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(client == ClientCertificate::kRequired
                                      ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                      : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

std::vector<std::string> PeerNames(const grpc::AuthContext& context) {
  std::vector<std::string> names;
  if (!context.IsPeerAuthenticated()) return names;
  for (const char* property : {"x509_subject_alternative_name", "x509_common_name"}) {
    for (const grpc::string_ref& value : context.FindPropertyValues(property)) {
      names.emplace_back(value.data(), value.size());
    }
  }
  return names;
}

bool PeerIsNamed(const grpc::AuthContext& context, std::string_view name) {
  for (const std::string& held : PeerNames(context)) {
    if (EqualsIgnoreCase(held, name)) return true;
    const size_t dot = name.find('.');
    if (held.starts_with("*.") && dot != std::string_view::npos && dot > 0 &&
        EqualsIgnoreCase(std::string_view(held).substr(1), name.substr(dot))) {
      return true;
    }
  }
  return false;
}

}  // namespace onggi::rpc
