#include "server/grpc/credentials.h"

#include <openssl/crypto.h>

#include "common/text.h"

namespace onggi::grpc_api {
namespace {

constexpr std::string_view kBearer = "Bearer ";

/// Takes as long for a wrong secret as for the right one.
bool SameSecret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

std::string_view Find(const Metadata& metadata, std::string_view key) {
  const auto it = metadata.find(grpc::string_ref(key.data(), key.size()));
  if (it == metadata.end()) return {};
  return {it->second.data(), it->second.size()};
}

dynamodb::Outcome Credentials::Check(const Metadata& metadata, std::string* access_key) const {
  using dynamodb::ApiError;
  using dynamodb::ErrorType;
  std::string_view token = Find(metadata, "authorization");
  if (token.empty()) {
    if (!required()) return {};
    return ApiError{
        ErrorType::kMissingAuthenticationToken, "Request is missing Authentication Token", {}};
  }
  const bool bearer =
      token.size() > kBearer.size() && EqualsIgnoreCase(token.substr(0, kBearer.size()), kBearer);
  if (bearer) token.remove_prefix(kBearer.size());
  const size_t colon = token.find(':');
  if (!bearer || colon == 0 || colon == std::string_view::npos) {
    if (!required()) return {};
    return ApiError{
        ErrorType::kIncompleteSignature, "Authorization must be 'Bearer ACCESSKEY:SECRET'", {}};
  }
  access_key->assign(token.substr(0, colon));
  if (!required()) return {};
  const auto secret = secrets_(*access_key);
  if (!secret) {
    return ApiError{ErrorType::kUnrecognizedClient,
                    "The security token included in the request is invalid.",
                    {}};
  }
  if (!SameSecret(*secret, token.substr(colon + 1))) {
    return ApiError{ErrorType::kInvalidSignature,
                    "The secret key sent does not belong to the access key sent. Check your AWS "
                    "Secret Access Key.",
                    {}};
  }
  return {};
}

}  // namespace onggi::grpc_api
