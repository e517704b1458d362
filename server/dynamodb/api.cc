#include "server/dynamodb/api.h"

#include <array>
#include <charconv>
#include <vector>

#include "common/crc32.h"
#include "common/http/compress.h"
#include "common/log.h"
#include "server/dynamodb/parser_pool.h"
#include "server/dynamodb/schema.h"

namespace onggi::dynamodb {
namespace {

constexpr std::string_view kJson10 = "application/x-amz-json-1.0";
constexpr std::string_view kJson = "application/json";
constexpr std::string_view kTargetPrefix = "DynamoDB_20120810.";
constexpr std::string_view kStreamsPrefix = "DynamoDBStreams_20120810.";
constexpr std::string_view kStreamsOperations[] = {"DescribeStream", "GetRecords",
                                                   "GetShardIterator", "ListStreams"};
constexpr std::string_view kNotHere = "<UnknownOperationException/>\n";

// Past this many credentials seen, further ones get a scope of their own per request.
constexpr size_t kMaxScopes = 10'000;

enum Result_ : uint8_t { kOk, kClientError, kServerError, kResults };
constexpr std::string_view kResultNames[] = {"ok", "client_error", "server_error"};

std::string_view MediaType(const http::Request& request) {
  std::string_view type = request.Get("content-type");
  type = type.substr(0, type.find(';'));
  while (!type.empty() && type.back() == ' ') type.remove_suffix(1);
  return type;
}

void AppendCrcHeader(http::Response& response) {
  char digits[12];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), Crc32(response.body));
  response.AddHeader("x-amz-crc32", std::string_view(digits, static_cast<size_t>(end - digits)));
}

/// What a target that the DynamoDB API does not have answers: the streams API exists, and is not
/// built.
ApiError UnknownTarget(std::string_view target) {
  if (target.starts_with(kStreamsPrefix)) {
    target.remove_prefix(kStreamsPrefix.size());
    for (const std::string_view operation : kStreamsOperations) {
      if (target == operation) return NotSupported(operation);
    }
  }
  return {ErrorType::kUnknownOperation, {}, {}};
}

/// A header value that may be echoed: anything but control characters.
bool IsPrintable(std::string_view value) {
  for (const char c : value) {
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) return false;
  }
  return true;
}

/// An access key as part of a catalog key: letters, digits, '_' and '-' stand for themselves.
void AppendAccountPart(std::string_view text, std::string* out) {
  constexpr char kHex[] = "0123456789abcdef";
  for (const char c : text.substr(0, 128)) {
    const auto byte = static_cast<uint8_t>(c);
    const bool plain = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                       (byte >= '0' && byte <= '9') || byte == '_' || byte == '-';
    if (plain) {
      out->push_back(c);
    } else {
      out->append({'%', kHex[byte >> 4], kHex[byte & 15]});
    }
  }
}

}  // namespace

ErrorType ErrorTypeOf(sigv4::AuthError error) {
  switch (error) {
    case sigv4::AuthError::kMissingAuthenticationToken:
      return ErrorType::kMissingAuthenticationToken;
    case sigv4::AuthError::kIncompleteSignature: return ErrorType::kIncompleteSignature;
    case sigv4::AuthError::kUnrecognizedClient: return ErrorType::kUnrecognizedClient;
    case sigv4::AuthError::kNone:
    case sigv4::AuthError::kInvalidSignature: break;
  }
  return ErrorType::kInvalidSignature;
}

/// One request between its first header and its answer.
struct Api::Call final : http::RequestState {
  const OperationTable::Entry* entry = nullptr;
  ParserLease parser;
  std::string decoded_body;  ///< of a compressed request
  std::shared_ptr<const Scope> scope;
  CallContext context;
  Input input;
};

/// Figures of one operation. Made on first use: a server that is never asked holds none.
struct Api::Meters {
  struct OfResult {
    metrics::Counter* count;
    metrics::Histogram* latency;
  };

  Meters(metrics::Registry& registry_, std::string operation_)
      : registry(registry_), operation(std::move(operation_)) {}

  const OfResult& Of(Result_ result) {
    std::call_once(made[result], [&] {
      const metrics::Labels labels = {{"operation", operation},
                                      {"outcome", std::string(kResultNames[result])}};
      results[result].count =
          &registry.AddCounter("onggi_dynamodb_requests_total", "Requests answered.", labels);
      results[result].latency =
          &registry.AddLatency("onggi_dynamodb_request_duration_seconds",
                               "From a request's last byte to its answer.", labels);
      // The rate of a counter that begins at one would miss its first error.
      registry.AddCounter(
          "onggi_dynamodb_requests_total", "Requests answered.",
          {{"operation", operation}, {"outcome", std::string(kResultNames[kServerError])}});
    });
    return results[result];
  }

  void CountBytes(size_t in, size_t out) {
    std::call_once(bytes_made, [&] {
      const metrics::Labels labels = {{"operation", operation}};
      bytes_in = &registry.AddCounter("onggi_dynamodb_request_bytes_total",
                                      "Bytes of request bodies.", labels);
      bytes_out = &registry.AddCounter("onggi_dynamodb_response_bytes_total",
                                       "Bytes of response bodies.", labels);
    });
    bytes_in->Add(in);
    bytes_out->Add(out);
  }

  metrics::Registry& registry;
  const std::string operation;
  std::array<std::once_flag, kResults> made;
  std::array<OfResult, kResults> results{};
  std::once_flag bytes_made;
  metrics::Counter* bytes_in = nullptr;
  metrics::Counter* bytes_out = nullptr;
};

Api::Api(ApiOptions options, Catalog& catalog, OperationTable operations,
         metrics::Registry& registry, Clock& clock)
    : options_(std::move(options)),
      catalog_(catalog),
      operations_(std::move(operations)),
      registry_(registry),
      default_scope_(
          std::make_shared<const Scope>(Scope{"default", options_.region, options_.account_id})),
      health_("healthy: dynamodb." + options_.region + ".amazonaws.com "),
      unknown_meters_(std::make_unique<Meters>(registry, "unknown")) {
  if (options_.secrets) {
    sigv4::VerifyOptions verify;
    verify.service = "dynamodb";
    verifier_ = std::make_unique<sigv4::Verifier>(options_.secrets, verify, clock);
  }
  for (const auto& [name, entry] : operations_.entries()) {
    meters_.emplace(entry.model, std::make_unique<Meters>(registry, name));
  }
}

Api::~Api() = default;

bool Api::TryHandle(http::Request& request, http::Response& response) {
  if (AnswerPlain(request, response)) return true;
  const OperationTable::Entry* entry = FindTarget(request);
  if (entry != nullptr && entry->operation != nullptr && !entry->operation->HasFastPath()) {
    return false;
  }
  Call call;
  call.entry = entry;
  Outcome outcome = Begin(request, call);
  if (outcome.ok()) {
    std::optional<Outcome> ran =
        call.entry->operation->TryRun(call.context, call.input, &response.body);
    if (!ran) {
      response.body.clear();
      request.state = std::make_unique<Call>(std::move(call));
      return false;
    }
    outcome = std::move(*ran);
  }
  Finish(request, call, std::move(outcome), response);
  return true;
}

boost::asio::awaitable<void> Api::Handle(http::Request& request, http::Response& response) {
  // What a fast path refused comes here half done, and plain requests when a caller skips
  // TryHandle.
  std::unique_ptr<http::RequestState> begun = std::move(request.state);
  if (begun == nullptr && AnswerPlain(request, response)) co_return;
  Call call = begun == nullptr ? Call() : std::move(static_cast<Call&>(*begun));
  Outcome outcome;
  if (begun == nullptr) {
    call.entry = FindTarget(request);
    outcome = Begin(request, call);
  }
  begun.reset();
  if (outcome.ok()) {
    outcome = co_await call.entry->operation->Run(call.context, call.input, &response.body);
  }
  Finish(request, call, std::move(outcome), response);
}

void Api::AddCommonHeaders(const http::Request& request, http::Response& response) {
  response.AddHeader("x-amzn-RequestId", request.request_id);
  if (request.Find("origin")) {
    response.AddHeader("Access-Control-Allow-Origin", "*");
    response.AddHeader("Access-Control-Expose-Headers", "x-amzn-RequestId,x-amz-crc32");
  }
}

bool Api::AnswerPlain(const http::Request& request, http::Response& response) {
  const bool post = request.method == http::Method::kPost;
  if (post) {
    if (request.body.empty()) return false;
    const std::string_view type = MediaType(request);
    if (http::EqualsIgnoreCase(type, kJson10) || http::EqualsIgnoreCase(type, kJson)) return false;
  }
  AddCommonHeaders(request, response);
  if (request.method == http::Method::kOptions && request.Find("origin")) {
    if (const auto headers = request.Find("access-control-request-headers");
        headers && IsPrintable(*headers)) {
      response.AddHeader("Access-Control-Allow-Headers", *headers);
    }
    if (const auto method = request.Find("access-control-request-method");
        method && IsPrintable(*method)) {
      response.AddHeader("Access-Control-Allow-Methods", *method);
    }
    response.AddHeader("Access-Control-Max-Age", "172800");
    return true;
  }
  if (request.method == http::Method::kGet || request.method == http::Method::kHead) {
    response.body = health_;
    AppendCrcHeader(response);
    return true;
  }
  response.status = 404;
  response.body = kNotHere;
  AppendCrcHeader(response);
  return true;
}

const OperationTable::Entry* Api::FindTarget(const http::Request& request) const {
  std::string_view target = request.Get("x-amz-target");
  if (!target.starts_with(kTargetPrefix)) return nullptr;
  target.remove_prefix(kTargetPrefix.size());
  return operations_.Find(target);
}

Outcome Api::ReadBody(const http::Request& request, Call& call) {
  std::string_view body = request.body;
  const http::Encoding encoding = http::ParseContentEncoding(request.Get("content-encoding"));
  if (encoding != http::Encoding::kIdentity) {
    const Status status = http::Decompress(encoding, body, options_.max_body, &call.decoded_body);
    if (status.code() == Code::kResourceExhausted) {
      return ApiError{ErrorType::kRequestTooLarge, {}, {}};
    }
    if (!status.ok()) return SerializationError({});
    body = call.decoded_body;
  }
  simdjson::dom::element document;
  simdjson::dom::object object;
  // Both kinds of body have readable bytes behind their end: nothing is copied.
  if (body.empty() ||
      call.parser->parse(reinterpret_cast<const uint8_t*>(body.data()), body.size(), false)
          .get(document) ||
      document.get(object)) {
    return SerializationError({});
  }
  call.input = Input(object);
  return {};
}

Outcome Api::Authenticate(const http::Request& request, Call& call) {
  if (verifier_ != nullptr) {
    thread_local std::vector<std::pair<std::string_view, std::string_view>> headers;
    headers.clear();
    for (const http::Header& header : request.headers)
      headers.emplace_back(header.name, header.value);
    sigv4::RequestView view;
    view.method = request.method_name;
    view.path = request.path;
    view.query = request.query;
    view.headers = headers;
    view.body = request.body;
    sigv4::Authorization authorization;
    sigv4::AuthResult result =
        verifier_->Verify(view, options_.isolate_accounts ? &authorization : nullptr);
    if (!result.ok()) {
      return ApiError{ErrorTypeOf(result.error), std::move(result.message), {}};
    }
    call.scope = options_.isolate_accounts
                     ? ScopeOf(authorization.scope.access_key, authorization.scope.region)
                     : default_scope_;
    return {};
  }
  call.scope = default_scope_;
  if (options_.isolate_accounts) {
    if (const auto scope = sigv4::PeekScope(request.Get("authorization"), request.query)) {
      call.scope = ScopeOf(scope->access_key, scope->region);
    }
  }
  return {};
}

std::shared_ptr<const Scope> Api::ScopeFor(std::string_view access_key, std::string_view region) {
  if (!options_.isolate_accounts || access_key.empty()) return default_scope_;
  return ScopeOf(access_key, region.empty() ? std::string_view(options_.region) : region);
}

std::shared_ptr<const Scope> Api::ScopeOf(std::string_view access_key, std::string_view region) {
  std::string account;
  AppendAccountPart(access_key, &account);
  account += '@';
  AppendAccountPart(region, &account);
  {
    std::shared_lock lock(scopes_mutex_);
    if (const auto it = scopes_.find(account); it != scopes_.end()) return it->second;
  }
  auto scope = std::make_shared<const Scope>(
      Scope{account, std::string(region.substr(0, 128)), options_.account_id});
  std::unique_lock lock(scopes_mutex_);
  if (scopes_.size() >= kMaxScopes) return scope;
  return scopes_.emplace(std::move(account), std::move(scope)).first->second;
}

Outcome Api::Begin(const http::Request& request, Call& call) {
  // The order is the service's: JSON, operation, credentials, types, constraints.
  Outcome read = ReadBody(request, call);
  const bool no_body = request.body.empty();
  if (!read.ok() && !no_body) return read;
  if (call.entry == nullptr) return UnknownTarget(request.Get("x-amz-target"));
  if (Outcome outcome = Authenticate(request, call); !outcome.ok()) return outcome;
  if (!read.ok()) return read;
  if (Outcome outcome = ValidateInput(*call.entry->model, call.input.object()); !outcome.ok()) {
    return outcome;
  }
  if (call.entry->operation == nullptr) return NotSupported(call.entry->model->name);
  call.context.scope = call.scope.get();
  call.context.catalog = &catalog_;
  call.context.operation = call.entry->model->name;
  call.context.request_id = request.request_id;
  call.context.host = request.Get("host");
  call.context.deadline = request.arrival + options_.request_timeout;
  return {};
}

void Api::Finish(const http::Request& request, Call& call, Outcome outcome,
                 http::Response& response) {
  if (!outcome.ok()) {
    const ErrorInfo& info = InfoOf(outcome.error().type);
    response.status = info.http_status;
    if (outcome.error().type == ErrorType::kRequestTooLarge) {
      response.body.clear();
    } else {
      response.body = RenderError(outcome.error());
    }
  }
  response.content_type =
      http::EqualsIgnoreCase(MediaType(request), kJson10) || request.body.empty() ? kJson10 : kJson;
  AddCommonHeaders(request, response);
  if (response.body.size() >= options_.min_gzip_body &&
      http::AcceptsGzip(request.Get("accept-encoding"))) {
    std::string compressed;
    http::GzipCompress(response.body, &compressed);
    response.body.swap(compressed);
    response.AddHeader("Content-Encoding", "gzip");
  }
  AppendCrcHeader(response);
  Count(request, call, outcome, response.body.size());
}

void Api::Count(const http::Request& request, const Call& call, const Outcome& outcome,
                size_t bytes_out) {
  Meters& meters =
      call.entry == nullptr ? *unknown_meters_ : *meters_.find(call.entry->model)->second;
  Result_ result = kOk;
  if (!outcome.ok()) {
    const ErrorInfo& info = InfoOf(outcome.error().type);
    result = info.http_status >= 500 ? kServerError : kClientError;
    registry_
        .AddCounter("onggi_dynamodb_errors_total", "Errors answered, by type.",
                    {{"operation", meters.operation}, {"type", std::string(info.name)}})
        .Add();
    if (result == kServerError) {
      static log::RateLimit limit(std::chrono::seconds(1));
      if (const uint64_t times = limit.Allow()) {
        log::Warn("request failed", "request_id", request.request_id, "operation", meters.operation,
                  "error", info.name, "message", outcome.error().message, "times", times);
      }
    } else {
      log::Debug("request refused", "request_id", request.request_id, "operation", meters.operation,
                 "error", info.name, "message", outcome.error().message);
    }
  }
  const auto elapsed = std::chrono::steady_clock::now() - request.arrival;
  const Meters::OfResult& of = meters.Of(result);
  of.count->Add();
  of.latency->Observe(std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed));
  meters.CountBytes(request.body.size(), bytes_out);
  if (result == kOk && log::Enabled(log::Level::kDebug)) {
    log::Debug("request answered", "request_id", request.request_id, "operation", meters.operation,
               "bytes_out", bytes_out, "elapsed_ms", elapsed);
  }
}

void Api::HandleError(http::ServerError error, const http::Request& request,
                      http::Response& response) {
  if (!request.request_id.empty()) AddCommonHeaders(request, response);
  if (error == http::ServerError::kOverloaded) {
    response.body = RenderError(
        {ErrorType::kServiceUnavailable, "The server is overloaded. Please try again.", {}});
  } else if (error == http::ServerError::kPlainHttp) {
    response.body = RenderError({ErrorType::kValidation,
                                 "Client sent an HTTP request to an HTTPS server: the endpoint "
                                 "begins with https://.",
                                 {}});
  } else {
    return;  // too large a body is answered by its status alone, as the service does
  }
  response.content_type = kJson10;
  AppendCrcHeader(response);
}

}  // namespace onggi::dynamodb
