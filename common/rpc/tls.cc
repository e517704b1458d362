#include "common/rpc/tls.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include "common/text.h"
#include "common/tls/certificate_files.h"

namespace onggi::rpc {
namespace {

using Provider = grpc::experimental::FileWatcherCertificateProvider;

/// gRPC's file watcher only logs what is wrong with its files, and then every connection fails: say
/// it at the start instead.
Status CheckFiles(const TlsOptions& tls) {
  if (tls.cert_file.empty() != tls.key_file.empty()) {
    return InvalidArgument("TLS: certificate and key go together");
  }
  return tls::CertificateFiles::Check({tls.cert_file, tls.key_file, tls.ca_file});
}

/// What a server that asks for certificates cannot do without.
Status CheckServer(const TlsOptions& tls, ClientCertificate client) {
  if (tls.cert_file.empty()) return InvalidArgument("TLS: a server needs a certificate");
  if (tls.ca_file.empty() && client == ClientCertificate::kRequired) {
    return InvalidArgument("TLS: a server that asks for certificates needs their authorities");
  }
  return CheckFiles(tls);
}

std::shared_ptr<Provider> MakeProvider(const TlsOptions& tls) {
  const auto reload = std::chrono::duration_cast<std::chrono::seconds>(tls.reload_interval);
  const auto seconds = static_cast<unsigned>(std::max<int64_t>(1, reload.count()));
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
  RETURN_IF_ERROR(CheckServer(tls, client));
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

Result<std::shared_ptr<tls::CertificateFiles>> LoadCertificateFiles(const TlsOptions& tls) {
  RETURN_IF_ERROR(CheckServer(tls, ClientCertificate::kRequired));
  tls::CertificatePaths paths(tls.cert_file, tls.key_file, tls.ca_file);
  paths.poll_interval = tls.reload_interval;
  return tls::CertificateFiles::Load(paths, tls::kHttp2);
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
  return IsNamed(PeerNames(context), name);
}

bool IsNamed(const std::vector<std::string>& names, std::string_view name) {
  for (const std::string& held : names) {
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
