#include "common/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <mutex>
#include <unordered_map>

#include "common/check.h"
#include "common/text.h"

namespace onggi::sigv4 {
namespace {

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

constexpr std::string_view kTerminator = "aws4_request";

std::string Hex(const Digest& digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(2 * digest.size());
  for (const unsigned char byte : digest) {
    out.push_back(kDigits[byte >> 4]);
    out.push_back(kDigits[byte & 15]);
  }
  return out;
}

Digest Hmac(std::string_view key, std::string_view data) {
  Digest digest;
  unsigned int length = digest.size();
  const unsigned char* done = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                                   reinterpret_cast<const unsigned char*>(data.data()), data.size(),
                                   digest.data(), &length);
  CHECK(done != nullptr && length == digest.size());
  return digest;
}

std::string_view AsText(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

Digest SigningKey(std::string_view secret, const CredentialScope& scope) {
  const Digest date = Hmac("AWS4" + std::string(secret), scope.date);
  const Digest region = Hmac(AsText(date), scope.region);
  const Digest service = Hmac(AsText(region), scope.service);
  return Hmac(AsText(service), kTerminator);
}

std::string ScopeText(const CredentialScope& scope) {
  return scope.date + "/" + scope.region + "/" + scope.service + "/" + std::string(kTerminator);
}

std::string SignWithKey(const Digest& key, const CredentialScope& scope, std::string_view amz_date,
                        std::string_view canonical_request) {
  std::string text(kAlgorithm);
  text.append("\n").append(amz_date).append("\n").append(ScopeText(scope)).append("\n");
  text.append(Sha256Hex(canonical_request));
  return Hex(Hmac(AsText(key), text));
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view FindHeader(const RequestView& request, std::string_view name) {
  for (const auto& [key, value] : request.headers) {
    if (EqualsIgnoreCase(key, name)) return Trim(value);
  }
  return {};
}

/// The decoded value of a query parameter; nothing when it is absent.
std::optional<std::string> FindParameter(std::string_view query, std::string_view name) {
  for (const std::string_view pair : Split(query, '&')) {
    const size_t equals = pair.find('=');
    if (PercentDecode(pair.substr(0, equals)) != name) continue;
    return equals == std::string_view::npos ? std::string()
                                            : PercentDecode(pair.substr(equals + 1));
  }
  return std::nullopt;
}

/// Without dot segments and doubled slashes, as RFC 3986 6.2.2.3 and AWS want it.
std::string NormalizePath(std::string_view path) {
  std::vector<std::string_view> kept;
  for (const std::string_view part : Split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!kept.empty()) kept.pop_back();
    } else {
      kept.push_back(part);
    }
  }
  std::string out;
  for (const std::string_view part : kept) out.append("/").append(part);
  if (out.empty() || path.ends_with('/')) out.push_back('/');
  return out;
}

std::string CanonicalQuery(std::string_view query, bool without_signature) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const std::string_view pair : Split(query, '&')) {
    if (pair.empty()) continue;
    const size_t equals = pair.find('=');
    const std::string name = PercentDecode(pair.substr(0, equals));
    if (without_signature && name == "X-Amz-Signature") continue;
    const std::string value =
        equals == std::string_view::npos ? std::string() : PercentDecode(pair.substr(equals + 1));
    pairs.emplace_back(UriEncode(name), UriEncode(value));
  }
  std::sort(pairs.begin(), pairs.end());
  std::string out;
  for (const auto& [name, value] : pairs) {
    if (!out.empty()) out.push_back('&');
    out.append(name).append("=").append(value);
  }
  return out;
}

/// Trimmed, with runs of spaces made one.
void AppendCanonicalValue(std::string& out, std::string_view value) {
  bool space = false;
  for (const char c : Trim(value)) {
    if (c == ' ' && space) continue;
    space = c == ' ';
    out.push_back(c);
  }
}

AuthResult Fail(AuthError error, std::string message) { return {error, std::move(message)}; }

bool AllDigits(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// "20130524T000000Z"; nothing when it is not that, or no such time.
std::optional<WallTime> ParseAmzDate(std::string_view text) {
  if (text.size() != 16 || text[8] != 'T' || text[15] != 'Z') return std::nullopt;
  if (!AllDigits(text.substr(0, 8)) || !AllDigits(text.substr(9, 6))) return std::nullopt;
  const auto number = [&](size_t at, size_t length) {
    int value = 0;
    for (size_t i = 0; i < length; ++i) value = value * 10 + (text[at + i] - '0');
    return value;
  };
  // The clock counts nanoseconds since 1970 in 64 bits: further years would overflow it.
  if (number(0, 4) < 1900 || number(0, 4) > 2200) return std::nullopt;
  const std::chrono::year_month_day day(std::chrono::year(number(0, 4)),
                                        std::chrono::month(static_cast<unsigned>(number(4, 2))),
                                        std::chrono::day(static_cast<unsigned>(number(6, 2))));
  if (!day.ok() || number(9, 2) > 23 || number(11, 2) > 59 || number(13, 2) > 60) {
    return std::nullopt;
  }
  return WallTime(std::chrono::sys_days(day)) + std::chrono::hours(number(9, 2)) +
         std::chrono::minutes(number(11, 2)) + std::chrono::seconds(number(13, 2));
}

/// "15 min." as the service says; odd lengths in seconds.
std::string Window(std::chrono::seconds window) {
  if (window.count() % 60 == 0) return std::to_string(window.count() / 60) + " min.";
  return std::to_string(window.count()) + " sec.";
}

struct Skew {
  WallTime now;
  std::chrono::seconds allowed;
};

AuthResult CheckTime(const Authorization& authorization, WallTime signed_at, const Skew& skew) {
  const auto allowed = authorization.expires.value_or(skew.allowed);
  if (signed_at < skew.now - allowed) {
    return Fail(AuthError::kInvalidSignature,
                "Signature expired: " + authorization.amz_date + " is now earlier than " +
                    FormatAmzDate(skew.now - allowed) + " (" + FormatAmzDate(skew.now) + " - " +
                    Window(allowed) + ")");
  }
  if (signed_at > skew.now + skew.allowed) {
    return Fail(AuthError::kInvalidSignature,
                "Signature not yet current: " + authorization.amz_date + " is still later than " +
                    FormatAmzDate(skew.now + skew.allowed) + " (" + FormatAmzDate(skew.now) +
                    " + " + Window(skew.allowed) + ")");
  }
  return {};
}

/// The parts as they stand in the header or the query.
struct RawAuthorization {
  std::string algorithm;
  std::string credential;
  std::string signature;
  std::string signed_headers;
  std::string expires;
};

AuthResult ReadHeader(const RequestView& request, std::string_view header, RawAuthorization& raw,
                      Authorization& out) {
  const size_t space = header.find(' ');
  raw.algorithm = std::string(header.substr(0, space));
  std::string_view rest = space == std::string_view::npos ? "" : header.substr(space + 1);
  bool has_credential = false;
  bool has_signature = false;
  bool has_headers = false;
  while (!rest.empty()) {
    const size_t end = rest.find_first_of(", ");
    const std::string_view item = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (item.empty()) continue;
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      return Fail(
          AuthError::kIncompleteSignature,
          "'" + std::string(item) +
              "' not a valid key=value pair (missing equal-sign) in Authorization header: '" +
              std::string(header) + "'.");
    }
    const std::string_view key = item.substr(0, equals);
    const std::string value(item.substr(equals + 1));
    if (key == "Credential") raw.credential = value, has_credential = !value.empty();
    if (key == "Signature") raw.signature = value, has_signature = !value.empty();
    if (key == "SignedHeaders") raw.signed_headers = value, has_headers = true;
  }
  std::string_view date = FindHeader(request, "x-amz-date");
  if (date.empty()) date = FindHeader(request, "date");
  out.amz_date = std::string(date);
  out.security_token = std::string(FindHeader(request, "x-amz-security-token"));
  std::string message;
  const auto require = [&](bool present, std::string_view name) {
    if (present) return;
    message.append("Authorization header requires '").append(name).append("' parameter. ");
  };
  require(has_credential, "Credential");
  require(has_signature, "Signature");
  require(has_headers, "SignedHeaders");
  if (date.empty()) {
    message +=
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
  }
  if (message.empty()) return {};
  return Fail(AuthError::kIncompleteSignature, message + "Authorization=" + std::string(header));
}

AuthResult ReadQuery(const RequestView& request, RawAuthorization& raw, Authorization& out) {
  std::string message;
  const auto take = [&](std::string_view name) {
    std::string value = FindParameter(request.query, name).value_or("");
    if (value.empty()) {
      message.append("AWS query-string parameters must include '").append(name).append("'. ");
    }
    return value;
  };
  raw.algorithm = take("X-Amz-Algorithm");
  raw.credential = take("X-Amz-Credential");
  raw.signature = take("X-Amz-Signature");
  raw.signed_headers = take("X-Amz-SignedHeaders");
  out.amz_date = take("X-Amz-Date");
  out.presigned = true;
  out.security_token = FindParameter(request.query, "X-Amz-Security-Token").value_or("");
  raw.expires = FindParameter(request.query, "X-Amz-Expires").value_or("");
  if (message.empty()) return {};
  return Fail(AuthError::kIncompleteSignature, message + "Re-examine the query-string parameters.");
}

/// Everything that can be said without keys, in the service's order.
AuthResult Parse(const RequestView& request, const std::optional<Skew>& skew, Authorization* out) {
  *out = Authorization();
  const std::string_view header = FindHeader(request, "authorization");
  const bool in_query = FindParameter(request.query, "X-Amz-Algorithm").has_value();
  if (!header.empty() && in_query) {
    return Fail(AuthError::kInvalidSignature,
                "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP "
                "header.");
  }
  if (!in_query && !header.starts_with("AWS4-")) {
    return Fail(AuthError::kMissingAuthenticationToken, "Request is missing Authentication Token");
  }
  RawAuthorization raw;
  AuthResult result =
      in_query ? ReadQuery(request, raw, *out) : ReadHeader(request, header, raw, *out);
  if (!result.ok()) return result;
  out->signature = raw.signature;

  const std::optional<WallTime> signed_at = ParseAmzDate(out->amz_date);
  if (!signed_at) {
    return Fail(AuthError::kIncompleteSignature,
                "Date must be in ISO-8601 'basic format'. Got '" + out->amz_date +
                    "'. See http://en.wikipedia.org/wiki/ISO_8601");
  }
  if (!raw.expires.empty()) {
    int64_t seconds = 0;
    const char* end = raw.expires.data() + raw.expires.size();
    const auto [at, error] = std::from_chars(raw.expires.data(), end, seconds);
    if (error != std::errc() || at != end || seconds < 1 || seconds > 7 * 86400) {
      return Fail(
          AuthError::kIncompleteSignature,
          "X-Amz-Expires must be a number of seconds from 1 to 604800, not '" + raw.expires + "'");
    }
    out->expires = std::chrono::seconds(seconds);
  }
  if (skew) {
    if (result = CheckTime(*out, *signed_at, *skew); !result.ok()) return result;
  }
  for (const std::string_view name : Split(raw.signed_headers, ';')) {
    if (!name.empty()) out->signed_headers.push_back(Lower(name));
  }
  if (std::find(out->signed_headers.begin(), out->signed_headers.end(), "host") ==
      out->signed_headers.end()) {
    return Fail(AuthError::kInvalidSignature,
                "'Host' must be a 'SignedHeader' in the AWS Authorization.");
  }
  if (raw.algorithm != kAlgorithm) {
    return Fail(AuthError::kIncompleteSignature, "Unsupported AWS 'algorithm': '" + raw.algorithm +
                                                     "' (only AWS4-HMAC-SHA256 for now). ");
  }
  std::string_view credential = raw.credential;
  while (credential.ends_with('/')) credential.remove_suffix(1);
  const std::vector<std::string_view> parts = Split(credential, '/');
  if (parts.size() != 5) {
    return Fail(AuthError::kIncompleteSignature,
                "Credential must have exactly 5 slash-delimited elements, e.g. "
                "keyid/date/region/service/term, got '" +
                    raw.credential + "'");
  }
  out->scope.access_key = parts[0];
  out->scope.date = parts[1];
  out->scope.region = parts[2];
  out->scope.service = parts[3];
  if (parts[4] != kTerminator) {
    return Fail(AuthError::kInvalidSignature,
                "Credential should be scoped with a valid terminator: 'aws4_request', not '" +
                    std::string(parts[4]) + "'. ");
  }
  return {};
}

}  // namespace

std::string_view AuthErrorName(AuthError error) {
  switch (error) {
    case AuthError::kNone: return "";
    case AuthError::kMissingAuthenticationToken: return "MissingAuthenticationTokenException";
    case AuthError::kIncompleteSignature: return "IncompleteSignatureException";
    case AuthError::kUnrecognizedClient: return "UnrecognizedClientException";
    case AuthError::kInvalidSignature: return "InvalidSignatureException";
  }
  return "";
}

std::string Sha256Hex(std::string_view data) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(data.data()), data.size(), digest.data());
  return Hex(digest);
}

std::string UriEncode(std::string_view text, bool encode_slash) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~' || (c == '/' && !encode_slash);
    if (plain) {
      out.push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out.push_back('%');
      out.push_back(kDigits[byte >> 4]);
      out.push_back(kDigits[byte & 15]);
    }
  }
  return out;
}

std::optional<CredentialScope> ParseCredentialScope(std::string_view credential) {
  const std::vector<std::string_view> parts = Split(credential, '/');
  if (parts.size() != 5 || parts[4] != kTerminator) return std::nullopt;
  CredentialScope scope;
  scope.access_key = parts[0];
  scope.date = parts[1];
  scope.region = parts[2];
  scope.service = parts[3];
  return scope;
}

std::optional<CredentialScope> PeekScope(std::string_view authorization_header,
                                         std::string_view query) {
  constexpr std::string_view kName = "Credential=";
  if (const size_t at = authorization_header.find(kName); at != std::string_view::npos) {
    const std::string_view rest = authorization_header.substr(at + kName.size());
    return ParseCredentialScope(rest.substr(0, rest.find_first_of(", ")));
  }
  if (query.empty()) return std::nullopt;
  const std::optional<std::string> credential = FindParameter(query, "X-Amz-Credential");
  return credential ? ParseCredentialScope(*credential) : std::nullopt;
}

AuthResult ParseAuthorization(const RequestView& request, Authorization* out) {
  return Parse(request, std::nullopt, out);
}

std::string CanonicalRequest(const RequestView& request,
                             std::span<const std::string> signed_headers,
                             std::string_view payload_hash, bool without_signature) {
  std::string out(request.method);
  out.append("\n").append(UriEncode(NormalizePath(request.path), /*encode_slash=*/false));
  out.append("\n").append(CanonicalQuery(request.query, without_signature)).append("\n");
  std::vector<std::string> names(signed_headers.begin(), signed_headers.end());
  std::sort(names.begin(), names.end());
  std::string joined;
  for (const std::string& name : names) {
    if (!joined.empty()) joined.push_back(';');
    joined.append(name);
    out.append(name).push_back(':');
    bool first = true;
    for (const auto& [key, value] : request.headers) {
      if (!EqualsIgnoreCase(key, name)) continue;
      if (!first) out.push_back(',');
      first = false;
      AppendCanonicalValue(out, value);
    }
    out.push_back('\n');
  }
  out.append("\n").append(joined).append("\n").append(payload_hash);
  return out;
}

std::string Sign(std::string_view secret_key, const CredentialScope& scope,
                 std::string_view amz_date, std::string_view canonical_request) {
  return SignWithKey(SigningKey(secret_key, scope), scope, amz_date, canonical_request);
}

/// Derived keys by everything they derive from, so that a changed secret needs no invalidation.
class Verifier::KeyCache {
 public:
  Digest Get(std::string_view secret, const CredentialScope& scope) {
    std::string id(secret);
    for (const std::string* part : {&scope.date, &scope.region, &scope.service}) {
      id.push_back('\0');
      id.append(*part);
    }
    {
      std::scoped_lock lock(mutex_);
      if (const auto found = keys_.find(id); found != keys_.end()) return found->second;
    }
    const Digest key = SigningKey(secret, scope);
    std::scoped_lock lock(mutex_);
    // Regions and services are the client's words: bounded, and rebuilt at little cost.
    if (keys_.size() >= kMaxKeys) keys_.clear();
    keys_.emplace(std::move(id), key);
    return key;
  }

 private:
  static constexpr size_t kMaxKeys = 1024;
  std::mutex mutex_;
  std::unordered_map<std::string, Digest> keys_;  // guarded by mutex_
};

Verifier::Verifier(SecretLookup lookup, VerifyOptions options, Clock& clock)
    : lookup_(std::move(lookup)),
      options_(std::move(options)),
      clock_(clock),
      keys_(std::make_unique<KeyCache>()) {}

Verifier::~Verifier() = default;

AuthResult Verifier::Verify(const RequestView& request, Authorization* out) {
  Authorization local;
  Authorization& authorization = out != nullptr ? *out : local;
  const Skew skew{clock_.WallNow(), options_.max_skew};
  AuthResult result = Parse(request, skew, &authorization);
  if (!result.ok()) return result;
  const CredentialScope& scope = authorization.scope;

  std::string message;
  if (!options_.region.empty() && scope.region != options_.region) {
    message += "Credential should be scoped to a valid region, not '" + scope.region + "'. ";
  }
  if (!options_.service.empty() && scope.service != options_.service) {
    message += "Credential should be scoped to correct service: '" + options_.service + "'. ";
  }
  const std::string day = authorization.amz_date.substr(0, 8);
  if (scope.date != day) {
    message +=
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
        "from HTTP: '" +
        scope.date + "' != '" + day + "', from '" + authorization.amz_date + "'.";
  }
  if (!message.empty()) return Fail(AuthError::kInvalidSignature, std::move(message));

  const std::optional<std::string> secret = lookup_(scope.access_key);
  // Session tokens are issued by nobody here.
  if (!secret || !authorization.security_token.empty()) {
    return Fail(AuthError::kUnrecognizedClient,
                "The security token included in the request is invalid.");
  }

  bool is_unsigned = false;
  if (options_.allow_unsigned_payload) {
    is_unsigned = FindHeader(request, "x-amz-content-sha256") == kUnsignedPayload ||
                  (authorization.presigned &&
                   FindParameter(request.query, "X-Amz-Content-Sha256") == kUnsignedPayload);
  }
  const std::string payload_hash =
      is_unsigned ? std::string(kUnsignedPayload) : Sha256Hex(request.body);
  const std::string canonical = CanonicalRequest(request, authorization.signed_headers,
                                                 payload_hash, authorization.presigned);
  const std::string expected =
      SignWithKey(keys_->Get(*secret, scope), scope, authorization.amz_date, canonical);
  if (authorization.signature.size() != expected.size() ||
      CRYPTO_memcmp(authorization.signature.data(), expected.data(), expected.size()) != 0) {
    return Fail(AuthError::kInvalidSignature,
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service "
                "documentation for details.");
  }
  return {};
}

std::string AuthorizationHeader(const RequestView& request, const CredentialScope& scope,
                                std::string_view secret_key) {
  std::vector<std::string> names;
  for (const auto& [name, value] : request.headers) names.push_back(Lower(name));
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string joined;
  for (const std::string& name : names) joined.append(joined.empty() ? "" : ";").append(name);
  const bool is_unsigned = FindHeader(request, "x-amz-content-sha256") == kUnsignedPayload;
  const std::string canonical = CanonicalRequest(
      request, names, is_unsigned ? std::string(kUnsignedPayload) : Sha256Hex(request.body), false);
  std::string out(kAlgorithm);
  out.append(" Credential=").append(scope.access_key).append("/").append(ScopeText(scope));
  out.append(", SignedHeaders=").append(joined).append(", Signature=");
  out.append(Sign(secret_key, scope, FindHeader(request, "x-amz-date"), canonical));
  return out;
}

std::string PresignedQuery(const RequestView& request, const CredentialScope& scope,
                           std::string_view secret_key, std::string_view amz_date,
                           std::chrono::seconds expires) {
  std::string added = "X-Amz-Algorithm=" + std::string(kAlgorithm);
  added += "&X-Amz-Credential=" + UriEncode(scope.access_key + "/" + ScopeText(scope));
  added.append("&X-Amz-Date=").append(amz_date);
  added += "&X-Amz-Expires=" + std::to_string(expires.count()) + "&X-Amz-SignedHeaders=host";
  const std::string query =
      request.query.empty() ? added : std::string(request.query) + "&" + added;
  RequestView whole = request;
  whole.query = query;
  const std::array<std::string, 1> names = {"host"};
  const std::string canonical = CanonicalRequest(whole, names, Sha256Hex(request.body), false);
  return added + "&X-Amz-Signature=" + Sign(secret_key, scope, amz_date, canonical);
}

}  // namespace onggi::sigv4
