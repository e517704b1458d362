#pragma once

#include <grpcpp/support/string_ref.h>

#include <map>
#include <string>
#include <string_view>

#include "common/sigv4.h"
#include "server/dynamodb/error.h"

namespace onggi::grpc_api {

using Metadata = std::multimap<grpc::string_ref, grpc::string_ref>;

/// The value of a key of the metadata, the first one if there are several; empty without it.
std::string_view Find(const Metadata& metadata, std::string_view key);

/// Who calls: "authorization: Bearer ACCESSKEY:SECRET", checked against the access keys that the
/// HTTP API verifies signatures with. The secret itself is sent, so a server that asks for
/// credentials must be reached through TLS. Thread-safe.
class Credentials {
 public:
  /// Without `secrets` everybody may call, and what is sent only says which account is meant.
  explicit Credentials(sigv4::SecretLookup secrets) : secrets_(std::move(secrets)) {}

  bool required() const { return static_cast<bool>(secrets_); }

  /// `*access_key` is who calls; empty when nobody has to say. Errors:
  /// MissingAuthenticationTokenException, IncompleteSignatureException (another scheme, or no
  /// colon), UnrecognizedClientException, InvalidSignatureException (wrong secret).
  dynamodb::Outcome Check(const Metadata& metadata, std::string* access_key) const;

 private:
  const sigv4::SecretLookup secrets_;
};

}  // namespace onggi::grpc_api
