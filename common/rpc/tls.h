#pragma once

#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace onggi::tls {
class CertificateFiles;
}

namespace onggi::rpc {

/// Where the PEM files of TLS are. The files are read again every `reload_interval`: new
/// connections use what is there then, so certificates are renewed without a restart. Replace key
/// and certificate together (rename the directory, or a symbolic link to it).
struct TlsOptions {
  TlsOptions() {}
  TlsOptions(std::string ca, std::string cert, std::string key)
      : ca_file(std::move(ca)), cert_file(std::move(cert)), key_file(std::move(key)) {}

  std::string ca_file;    ///< authorities that a peer's certificate must come from
  std::string cert_file;  ///< our chain, leaf first; a client may have none
  std::string key_file;   ///< of the leaf; goes with cert_file
  std::chrono::milliseconds reload_interval{60'000};  ///< gRPC's library: in whole seconds

  /// No file is named: plain text.
  bool disabled() const { return ca_file.empty() && cert_file.empty() && key_file.empty(); }
};

/// Credentials of a client. Disabled: plain text. Without cert_file only the server proves who it
/// is. kInvalidArgument when the files cannot be read, are no PEM, or key and certificate do not
/// belong together.
Result<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(const TlsOptions& tls);

/// What a server wants of those who call.
enum class ClientCertificate : uint8_t {
  kRequired,  ///< services of the cluster: a certificate of ca_file's authorities
  kOptional,  ///< checked when there is one
};

/// Credentials of a server; errors as above, and without cert_file (unless disabled).
Result<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsOptions& tls, ClientCertificate client = ClientCertificate::kRequired);

/// The files for streams that this process carries itself (rpc::MessageStream): both ends show a
/// certificate and check the other's. Errors as above, and without authorities.
Result<std::shared_ptr<tls::CertificateFiles>> LoadCertificateFiles(const TlsOptions& tls);

/// The names in the other side's certificate: DNS and address alternatives, and its common name.
/// Empty without TLS or certificate.
std::vector<std::string> PeerNames(const grpc::AuthContext& context);

/// Whether a certificate with these names carries `name`: one of them equals it, without regard to
/// case, or is a wildcard for its first label ("*.nodes.example").
bool IsNamed(const std::vector<std::string>& names, std::string_view name);

/// The same of the other side's certificate.
bool PeerIsNamed(const grpc::AuthContext& context, std::string_view name);

}  // namespace onggi::rpc
