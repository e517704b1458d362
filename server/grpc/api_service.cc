#include "server/grpc/api_service.h"

#include <charconv>
#include <mutex>

#include "common/log.h"
#include "common/uuid.h"
#include "onggi/v1/item.pb.h"
#include "server/dynamodb/parser_pool.h"
#include "server/dynamodb/schema.h"
#include "server/grpc/error.h"
#include "server/grpc/transcoder.h"

namespace onggi::grpc_api {
namespace {

using dynamodb::ApiError;
using dynamodb::ErrorType;
using dynamodb::Outcome;

/// A gRPC deadline as operations have it.
std::chrono::steady_clock::time_point DeadlineOf(const grpc::CallbackServerContext& context) {
  using std::chrono::steady_clock;
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) {
    return steady_clock::time_point::max();
  }
  const auto left = deadline - std::chrono::system_clock::now();
  constexpr auto kFar = std::chrono::hours(24);
  if (left > kFar) return steady_clock::time_point::max();
  return steady_clock::now() + std::chrono::duration_cast<steady_clock::duration>(left);
}

size_t ErrorBytesOf(const Metadata& metadata) {
  const std::string_view text = Find(metadata, "onggi-max-error-bytes");
  size_t bytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return kDefaultErrorBytes;
  }
  return std::clamp(bytes, kDefaultErrorBytes, kMaxErrorBytes);
}

/// The name that a client gives to a write, in metadata; none when there is none. Names of other
/// accounts, and those that nodes give (their boot number and a number of their own), cannot be met
/// with or made.
dynamodb::Outcome ReadWriteId(const Metadata& metadata, const dynamodb::Scope& scope,
                              partition::RequestId* id) {
  const std::string_view text = Find(metadata, "onggi-write-id");
  if (text.empty()) return {};
  const char* const middle = text.data() + text.size() / 2;
  const char* const end = text.data() + text.size();
  uint64_t boot = 0;
  const auto first = std::from_chars(text.data(), middle, boot, 16);
  const auto second = std::from_chars(middle, end, id->sequence, 16);
  if (text.size() != 32 || first.ptr != middle || second.ptr != end) {
    return dynamodb::ValidationError("onggi-write-id must be 32 hexadecimal digits");
  }
  const std::string digest =
      sigv4::Sha256Hex("onggi-write-id\n" + scope.account + "\n" + std::string(text.substr(0, 16)));
  std::from_chars(digest.data(), digest.data() + 16, id->boot, 16);
  if (id->boot == 0) id->boot = 1;
  return {};
}

/// Long messages are given to gRPC as they are, short ones copied.
grpc::Slice SliceOf(std::string&& wire) {
  constexpr size_t kCopied = 4096;
  if (wire.size() <= kCopied) return grpc::Slice(wire);
  auto* kept = new std::string(std::move(wire));
  return {kept->data(), kept->size(), [](void* p) { delete static_cast<std::string*>(p); }, kept};
}

}  // namespace

/// One method, and its figures: made when it is first called.
struct ApiService::Method {
  Method(const google::protobuf::MethodDescriptor& descriptor_, metrics::Registry& registry_)
      : descriptor(descriptor_), registry(registry_) {}

  void Count(grpc::StatusCode code, std::chrono::nanoseconds time, size_t in, size_t out) {
    std::call_once(made, [this] {
      const metrics::Labels labels = {{"method", descriptor.name()}};
      latency = &registry.AddLatency("onggi_grpc_request_duration_seconds",
                                     "From a call's last byte to its answer.", labels);
      bytes_in =
          &registry.AddCounter("onggi_grpc_request_bytes_total", "Bytes of requests.", labels);
      bytes_out =
          &registry.AddCounter("onggi_grpc_response_bytes_total", "Bytes of answers.", labels);
      ok = &registry.AddCounter("onggi_grpc_requests_total", "Calls answered, by gRPC code.",
                                {{"method", descriptor.name()}, {"code", "0"}});
    });
    latency->Observe(time);
    bytes_in->Add(in);
    bytes_out->Add(out);
    if (code == grpc::StatusCode::OK) return ok->Add();
    registry
        .AddCounter("onggi_grpc_requests_total", "Calls answered, by gRPC code.",
                    {{"method", descriptor.name()}, {"code", std::to_string(code)}})
        .Add();
  }

  const google::protobuf::MethodDescriptor& descriptor;
  metrics::Registry& registry;
  const dynamodb::OperationTable::Entry* entry = nullptr;
  const MessagePlan* input = nullptr;
  const MessagePlan* output = nullptr;
  std::once_flag made;
  metrics::Histogram* latency = nullptr;
  metrics::Counter* bytes_in = nullptr;
  metrics::Counter* bytes_out = nullptr;
  metrics::Counter* ok = nullptr;
};

/// One call; deletes itself when gRPC is done with it.
class ApiService::Call final : public grpc::ServerUnaryReactor {
 public:
  Call(ApiService& service, Method& method, grpc::CallbackServerContext* context,
       const grpc::ByteBuffer* request, grpc::ByteBuffer* response)
      : service_(service),
        method_(method),
        context_(*context),
        request_(*request),
        response_(*response),
        started_(std::chrono::steady_clock::now()) {
    in_flight_ = service_.calls_.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  ~Call() override { service_.calls_.fetch_sub(1, std::memory_order_relaxed); }

  void OnDone() override { delete this; }
  void OnCancel() override {}  // the operation runs to its end: a write that was begun happens

  /// Answers at once, or leaves the call to a coroutine.
  void Begin() {
    NewRequestId(&request_id_);
    context_.AddInitialMetadata("onggi-request-id", request_id_);
    if (Outcome outcome = Prepare(); !outcome.ok()) return Answer(std::move(outcome));
    dynamodb::Operation& operation = *method_.entry->operation;
    if (operation.HasFastPath()) {
      if (auto ran = operation.TryRun(call_, input_, &body_)) return Answer(std::move(*ran));
      body_.clear();
    }
    if (!service_.scope_.Spawn(service_.io_.NextExecutor(), Run())) {
      Answer(ApiError{ErrorType::kServiceUnavailable, "The server is stopping", {}});
    }
  }

 private:
  /// The order is that of the HTTP API: the body's form, credentials, types, constraints.
  Outcome Prepare() {
    if (in_flight_ > service_.options_.max_calls) {
      return ApiError{ErrorType::kThrottling, "Too many requests are under way", {}};
    }
    Outcome read = ReadRequest();
    if (Outcome outcome = Authenticate(); !outcome.ok()) return outcome;
    if (!read.ok()) return read;
    if (Outcome outcome = dynamodb::ValidateInput(*method_.entry->model, input_.object());
        !outcome.ok()) {
      return outcome;
    }
    if (method_.entry->operation == nullptr) {
      return dynamodb::NotSupported(method_.entry->model->name);
    }
    call_.scope = scope_.get();
    call_.catalog = &service_.api_.catalog();
    call_.operation = method_.entry->model->name;
    call_.request_id = request_id_;
    call_.host = Find(context_.client_metadata(), "host");
    call_.deadline = DeadlineOf(context_);
    return ReadWriteId(context_.client_metadata(), *scope_, &call_.write_id);
  }

  Outcome ReadRequest() {
    // The parser copies what it finds, so that its text need not stay.
    thread_local std::string json;
    json.clear();
    grpc::Slice storage;
    std::string_view wire;
    if (!BytesOf(request_, &storage, &wire)) return dynamodb::SerializationError({});
    const Status status = WireToJson(*method_.input, wire, service_.options_.max_json, &json);
    if (status.code() == Code::kResourceExhausted) {
      return ApiError{ErrorType::kRequestTooLarge, "The request is too large", {}};
    }
    if (!status.ok()) return dynamodb::SerializationError(status.message());
    json.reserve(json.size() + simdjson::SIMDJSON_PADDING);
    simdjson::dom::element document;
    simdjson::dom::object object;
    const bool bad =
        parser_->parse(json.data(), json.size(), /*realloc_if_needed=*/false).get(document) ||
        document.get(object);
    if (json.capacity() > dynamodb::ParserLease::kKeptCapacity) std::string().swap(json);
    if (bad) return dynamodb::SerializationError("text that is not UTF-8");
    input_ = dynamodb::Input(object);
    return {};
  }

  Outcome Authenticate() {
    std::string access_key;
    const Metadata& metadata = context_.client_metadata();
    if (Outcome outcome = service_.credentials_.Check(metadata, &access_key); !outcome.ok()) {
      return outcome;
    }
    scope_ = service_.api_.ScopeFor(access_key, Find(metadata, "onggi-region"));
    return {};
  }

  boost::asio::awaitable<void> Run() {
    // A stopping scope throws out of the operation: then this answers.
    struct Finisher {
      explicit Finisher(Call* to) : call(to) {}
      Finisher(const Finisher&) = delete;
      Finisher& operator=(const Finisher&) = delete;
      ~Finisher() {
        if (call != nullptr) {
          call->Answer(ApiError{ErrorType::kServiceUnavailable, "The server is stopping", {}});
        }
      }
      Call* call;
    };
    Finisher finisher(this);
    Outcome outcome = co_await method_.entry->operation->Run(call_, input_, &body_);
    finisher.call = nullptr;
    Answer(std::move(outcome));
  }

  /// The end of the call: nothing of it may be touched afterwards.
  void Answer(Outcome outcome) {
    std::string wire;
    if (outcome.ok()) outcome = WriteResponse(&wire);
    const size_t size = wire.size();
    grpc::Status status;
    if (outcome.ok()) {
      if (size >= service_.options_.min_compressed &&
          Find(context_.client_metadata(), "onggi-compress") == "gzip") {
        context_.set_compression_algorithm(GRPC_COMPRESS_GZIP);
      }
      const grpc::Slice slice = SliceOf(std::move(wire));
      response_ = grpc::ByteBuffer(&slice, 1);
    } else {
      status =
          ToGrpc(outcome.error(), service_.error_plan_, ErrorBytesOf(context_.client_metadata()));
      Log(outcome.error());
    }
    method_.Count(status.error_code(), std::chrono::steady_clock::now() - started_,
                  request_.Length(), size);
    Finish(status);
  }

  Outcome WriteResponse(std::string* wire) {
    if (body_.empty()) return {};  // TagResource and UntagResource have nothing to say
    dynamodb::ParserLease parser;
    body_.reserve(body_.size() + simdjson::SIMDJSON_PADDING);
    simdjson::dom::element document;
    if (parser->parse(body_.data(), body_.size(), /*realloc_if_needed=*/false).get(document)) {
      log::Error("an answer is no JSON", "operation", method_.entry->model->name);
      return ApiError{ErrorType::kInternalServerError, "Internal server error", {}};
    }
    wire->reserve(body_.size());
    JsonToWire(*method_.output, document, wire);
    return {};
  }

  void Log(const ApiError& error) {
    const dynamodb::ErrorInfo& info = dynamodb::InfoOf(error.type);
    if (info.http_status < 500) {
      return log::Debug("request refused", "request_id", request_id_, "operation",
                        method_.entry->model->name, "error", info.name, "message", error.message);
    }
    static log::RateLimit limit(std::chrono::seconds(1));
    if (const uint64_t times = limit.Allow()) {
      log::Warn("request failed", "request_id", request_id_, "operation",
                method_.entry->model->name, "error", info.name, "message", error.message, "times",
                times);
    }
  }

  ApiService& service_;
  Method& method_;
  grpc::CallbackServerContext& context_;
  const grpc::ByteBuffer& request_;
  grpc::ByteBuffer& response_;
  const std::chrono::steady_clock::time_point started_;
  size_t in_flight_ = 0;
  std::string request_id_;
  std::string body_;
  dynamodb::ParserLease parser_;
  std::shared_ptr<const dynamodb::Scope> scope_;
  dynamodb::CallContext call_;
  dynamodb::Input input_;
};

ApiService::ApiService(const google::protobuf::ServiceDescriptor& service, dynamodb::Api& api,
                       IoPool& io, metrics::Registry& registry, ApiServiceOptions options)
    : api_(api),
      io_(io),
      options_(options),
      credentials_(api.options().secrets),
      error_plan_(plans_.Add(*v1::Error::descriptor())) {
  for (int i = 0; i < service.method_count(); ++i) {
    const google::protobuf::MethodDescriptor& descriptor = *service.method(i);
    auto method = std::make_unique<Method>(descriptor, registry);
    method->entry = api.operations().Find(descriptor.name());
    CHECK(method->entry != nullptr);
    method->input = &plans_.Add(*descriptor.input_type(), method->entry->model->input);
    method->output = &plans_.Add(*descriptor.output_type());
    Method* const raw = method.get();
    AddUnary(service.full_name(), descriptor.name(),
             [this, raw](grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                         grpc::ByteBuffer* response) {
               auto* call = new Call(*this, *raw, context, request, response);
               call->Begin();
               return call;
             });
    methods_.push_back(std::move(method));
  }
}

ApiService::~ApiService() = default;

}  // namespace onggi::grpc_api
