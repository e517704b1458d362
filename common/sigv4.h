#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"

/// AWS Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
namespace onggi::sigv4 {

inline constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";
inline constexpr std::string_view kUnsignedPayload = "UNSIGNED-PAYLOAD";
inline constexpr std::chrono::minutes kMaxSkew{15};

/// The request as far as a signature covers it. Views must outlive the call.
struct RequestView {
  RequestView() {}
  std::string_view method;
  std::string_view path;   ///< as sent, still percent-encoded
  std::string_view query;  ///< as sent, without '?'
  /// Name and value of every header, in the order they were sent.
  std::span<const std::pair<std::string_view, std::string_view>> headers;
  std::string_view body;
};

/// access key / date / region / service / aws4_request
struct CredentialScope {
  std::string access_key;
  std::string date;  ///< "20130524"
  std::string region;
  std::string service;
};

/// What a request says about who signed it. Not verified.
struct Authorization {
  CredentialScope scope;
  std::vector<std::string> signed_headers;      ///< lower case, in the order given
  std::string signature;                        ///< 64 hex digits, as given
  std::string amz_date;                         ///< "20130524T000000Z"
  std::string security_token;                   ///< X-Amz-Security-Token; empty when absent
  std::optional<std::chrono::seconds> expires;  ///< presigned form only
  bool presigned = false;
};

enum class AuthError : uint8_t {
  kNone,
  kMissingAuthenticationToken,  ///< neither an Authorization header nor presigned parameters
  kIncompleteSignature,         ///< malformed; the message says what is missing
  kUnrecognizedClient,          ///< no such access key, or a session token nobody issued
  kInvalidSignature,            ///< wrong signature, or out of time; the message says which
};

/// The outcome: kNone, or an error with the service's message.
struct AuthResult {
  AuthError error = AuthError::kNone;
  std::string message;
  bool ok() const { return error == AuthError::kNone; }
};

/// The service's name of an error: "MissingAuthenticationTokenException" and so on.
std::string_view AuthErrorName(AuthError error);

/// Reads the Authorization header or the presigned query. On kNone `*out` is complete; otherwise it
/// holds what could be read.
AuthResult ParseAuthorization(const RequestView& request, Authorization* out);

/// "AKID/20130524/us-east-1/dynamodb/aws4_request". Nothing when it has another form.
std::optional<CredentialScope> ParseCredentialScope(std::string_view credential);

/// The credential scope of a request, from the header or the query, without any other check; for
/// telling accounts apart where nothing is verified.
std::optional<CredentialScope> PeekScope(std::string_view authorization_header,
                                         std::string_view query);

/// The secret key of an access key, or nothing when there is no such key. Thread-safe.
using SecretLookup = std::function<std::optional<std::string>(std::string_view access_key)>;

struct VerifyOptions {
  VerifyOptions() {}
  /// Empty: any. Otherwise the scope's service must be this (as the service does: a wrong one is an
  /// InvalidSignature with a message that names both).
  std::string service;
  std::string region;  ///< empty: any
  /// Whether x-amz-content-sha256: UNSIGNED-PAYLOAD (or a presigned request) leaves the body out.
  bool allow_unsigned_payload = true;
  std::chrono::seconds max_skew = kMaxSkew;
};

/// Verifies signatures; keeps derived signing keys. Thread-safe.
class Verifier {
 public:
  Verifier(SecretLookup lookup, VerifyOptions options, Clock& clock = Clock::System());
  ~Verifier();

  /// On success fills `*out` (may be nullptr) with what the request said.
  AuthResult Verify(const RequestView& request, Authorization* out = nullptr);

 private:
  class KeyCache;
  const SecretLookup lookup_;
  const VerifyOptions options_;
  Clock& clock_;
  std::unique_ptr<KeyCache> keys_;
};

/// The canonical request of `request` with these signed headers (lower case, sorted) and this
/// payload hash. `path` is encoded once more, as every service but S3 wants.
/// `without_signature` drops X-Amz-Signature from the query (presigned form).
std::string CanonicalRequest(const RequestView& request,
                             std::span<const std::string> signed_headers,
                             std::string_view payload_hash, bool without_signature);

/// The lower-case hex signature of a canonical request.
std::string Sign(std::string_view secret_key, const CredentialScope& scope,
                 std::string_view amz_date, std::string_view canonical_request);

/// For clients: the value of the Authorization header for `request`, which must already have its
/// headers Host and X-Amz-Date; every header in it is signed.
std::string AuthorizationHeader(const RequestView& request, const CredentialScope& scope,
                                std::string_view secret_key);

/// For clients: the query string to append to make `request` (with a Host header) presigned.
std::string PresignedQuery(const RequestView& request, const CredentialScope& scope,
                           std::string_view secret_key, std::string_view amz_date,
                           std::chrono::seconds expires);

/// Lower-case hex SHA-256.
std::string Sha256Hex(std::string_view data);

/// RFC 3986 percent-encoding of everything but unreserved characters; '/' too if `encode_slash`.
std::string UriEncode(std::string_view text, bool encode_slash = true);

}  // namespace onggi::sigv4
