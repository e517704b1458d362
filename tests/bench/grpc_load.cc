// A closed-loop gRPC load generator, as onggi_load is for HTTP: `--calls` calls are under way at
// any time, over `--connections` connections; each one that ends begins the next. Messages are made
// once and sent as bytes, so that the client costs as little as gRPC lets it.
//
//   onggi_grpc_load --port 7000 --calls 64 --connections 2 --duration 10
//                   --method get|put|floor --table t [--keys 100000] [--value-bytes 100]
//
// Puts never repeat: a put of what is there already would have nothing to log. `floor` asks
// grpc.health.v1, which answers without doing anything: what gRPC itself costs. Items are those of
// bench.py: pk (S), "key" and a number as wide as --keys - 1, and a text. Prints one line of JSON.

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>

#include "common/uuid.h"
#include "onggi/v1/key_value.pb.h"

namespace {

using Clock = std::chrono::steady_clock;
using Stub = grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>;

struct Settings {
  Settings() {}
  std::string host = "127.0.0.1";
  uint16_t port = 7000;
  size_t calls = 64;
  size_t connections = 2;
  size_t threads = 1;
  double duration = 10;
  double warmup = 1;
  std::string method = "get";
  std::string table = "t";
  uint64_t keys = 100'000;
  size_t value_bytes = 100;
};

/// What one thread has counted behind the warm-up.
struct Figures {
  std::vector<uint32_t> microseconds;
  uint64_t errors = 0;
  std::string error;
};

/// What stands in a put for a number that never repeats.
constexpr std::string_view kNumber = "000000000000";

/// Requests to be sent in turn, as bytes.
std::vector<std::string> Requests(const Settings& settings, std::string* path) {
  constexpr size_t kPrepared = 4096;
  if (settings.method == "floor") {
    *path = "/grpc.health.v1.Health/Check";
    return {""};
  }
  const bool put = settings.method == "put";
  *path = put ? "/onggi.v1.KeyValue/PutItem" : "/onggi.v1.KeyValue/GetItem";
  const size_t digits = std::to_string(settings.keys - 1).size();
  std::vector<std::string> requests;
  for (size_t i = 0; i < kPrepared; ++i) {
    const std::string number = std::to_string(onggi::FastRandom() % settings.keys);
    const std::string key = "key" + std::string(digits - number.size(), '0') + number;
    if (put) {
      onggi::v1::PutItemRequest request;
      request.set_table_name(settings.table);
      auto& item = *request.mutable_item()->mutable_attributes();
      item["pk"].set_s(key);
      item["value"].set_s(std::string(kNumber) + std::string(settings.value_bytes, 'x'));
      requests.push_back(request.SerializeAsString());
    } else {
      onggi::v1::GetItemRequest request;
      request.set_table_name(settings.table);
      (*request.mutable_key()->mutable_attributes())["pk"].set_s(key);
      requests.push_back(request.SerializeAsString());
    }
  }
  return requests;
}

/// The next number that never repeats, in the request's place for it.
grpc::ByteBuffer Numbered(std::string request) {
  static std::atomic<uint64_t> next{1};
  if (const size_t at = request.find(kNumber); at != std::string::npos) {
    char digits[kNumber.size() + 1];
    std::snprintf(digits, sizeof(digits), "%0*llu", static_cast<int>(kNumber.size()),
                  static_cast<unsigned long long>(next.fetch_add(1) % 1'000'000'000'000));
    request.replace(at, kNumber.size(), digits);
  }
  const grpc::Slice slice(request);
  return grpc::ByteBuffer(&slice, 1);
}

/// One call of the loop; begun again when it has ended.
struct Call {
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader;
  grpc::ByteBuffer response;
  grpc::Status status;
  Clock::time_point begun;
  size_t stub = 0;
};

void Run(const Settings& settings, size_t calls, Figures* figures) {
  std::string path;
  const std::vector<std::string> requests = Requests(settings, &path);
  std::vector<std::unique_ptr<Stub>> stubs;
  for (size_t i = 0; i < settings.connections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stubs.push_back(std::make_unique<Stub>(
        grpc::CreateCustomChannel(settings.host + ":" + std::to_string(settings.port),
                                  grpc::InsecureChannelCredentials(), arguments)));
  }
  grpc::CompletionQueue queue;
  std::vector<Call> slots(calls);
  size_t next = onggi::FastRandom() % requests.size();
  const auto begin = [&](Call& call) {
    call.context = std::make_unique<grpc::ClientContext>();
    call.begun = Clock::now();
    call.reader = stubs[call.stub]->PrepareUnaryCall(
        call.context.get(), path, Numbered(requests[next++ % requests.size()]), &queue);
    call.reader->StartCall();
    call.reader->Finish(&call.response, &call.status, &call);
  };
  const auto start = Clock::now();
  const auto counted_from = start + std::chrono::duration_cast<Clock::duration>(
                                        std::chrono::duration<double>(settings.warmup));
  const auto end = counted_from + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(settings.duration));
  for (size_t i = 0; i < calls; ++i) {
    slots[i].stub = i % stubs.size();
    begin(slots[i]);
  }
  void* tag = nullptr;
  bool ok = false;
  size_t open = calls;
  while (open > 0 && queue.Next(&tag, &ok)) {
    Call& call = *static_cast<Call*>(tag);
    const auto now = Clock::now();
    if (!call.status.ok()) {
      ++figures->errors;
      figures->error = call.status.error_message();
    }
    if (now >= counted_from && now < end) {
      figures->microseconds.push_back(static_cast<uint32_t>(
          std::chrono::duration_cast<std::chrono::microseconds>(now - call.begun).count()));
    }
    if (now < end) {
      begin(call);
    } else {
      --open;
    }
  }
  queue.Shutdown();
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app("gRPC load generator");
  app.add_option("--host", settings.host);
  app.add_option("--port", settings.port);
  app.add_option("--calls", settings.calls);
  app.add_option("--connections", settings.connections);
  app.add_option("--threads", settings.threads);
  app.add_option("--duration", settings.duration);
  app.add_option("--warmup", settings.warmup);
  app.add_option("--method", settings.method)->check(CLI::IsMember({"get", "put", "floor"}));
  app.add_option("--table", settings.table);
  app.add_option("--keys", settings.keys);
  app.add_option("--value-bytes", settings.value_bytes);
  CLI11_PARSE(app, argc, argv);

  std::vector<Figures> figures(settings.threads);
  std::vector<std::thread> threads;
  for (Figures& one : figures) {
    threads.emplace_back(Run, std::cref(settings), settings.calls / settings.threads, &one);
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<uint32_t> all;
  uint64_t errors = 0;
  std::string error;
  for (const Figures& one : figures) {
    all.insert(all.end(), one.microseconds.begin(), one.microseconds.end());
    errors += one.errors;
    if (!one.error.empty()) error = one.error;
  }
  std::sort(all.begin(), all.end());
  const auto at = [&all](double part) {
    return all.empty() ? 0u : all[static_cast<size_t>(part * static_cast<double>(all.size() - 1))];
  };
  std::printf(
      "{\"requests_per_second\": %.0f, \"p50_us\": %u, \"p99_us\": %u, \"errors\": %llu, "
      "\"error\": \"%s\"}\n",
      static_cast<double>(all.size()) / settings.duration, at(0.5), at(0.99),
      static_cast<unsigned long long>(errors), error.c_str());
  return errors == 0 ? 0 : 1;
}
