// The fixed answer through our own HTTP server: what is left of the floor before any database work.
//
//   onggi_http_bench [--port N] [--threads N] [--answer-bytes N] [--coroutine]
//
// --coroutine answers from Handler::Handle behind one suspension instead of from TryHandle.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdio>

#include "common/check.h"
#include "common/http/server.h"

namespace {

class FixedAnswer final : public onggi::http::Handler {
 public:
  FixedAnswer(size_t bytes, bool coroutine) : answer_(bytes, 'x'), coroutine_(coroutine) {}

  bool TryHandle(onggi::http::Request&, onggi::http::Response& response) override {
    if (coroutine_) return false;
    Answer(response);
    return true;
  }

  boost::asio::awaitable<void> Handle(onggi::http::Request& request,
                                      onggi::http::Response& response) override {
    auto executor = request.io->get_executor();
    co_await boost::asio::post(executor, boost::asio::use_awaitable);
    Answer(response);
  }

 private:
  void Answer(onggi::http::Response& response) {
    response.content_type = "application/x-amz-json-1.0";
    response.body = answer_;
  }

  const std::string answer_;
  const bool coroutine_;
};

}  // namespace

int main(int argc, char** argv) {
  onggi::http::ServerOptions options;
  size_t threads = 1;
  size_t answer_bytes = 90;
  bool coroutine = false;
  CLI::App app("A fixed answer through Onggi's HTTP server");
  app.add_option("--port", options.port, "0: any free one");
  app.add_option("--threads", threads);
  app.add_option("--answer-bytes", answer_bytes);
  app.add_flag("--coroutine", coroutine);
  CLI11_PARSE(app, argc, argv);
  FixedAnswer handler(answer_bytes, coroutine);
  onggi::IoPool pool(threads);
  onggi::http::Server server(pool, handler, options);
  const onggi::Status status = server.Start();
  CHECK_MSG(status.ok(), status.ToString());
  std::printf("listening on %u\n", static_cast<unsigned>(server.port()));
  std::fflush(stdout);
  for (;;) pause();
}
