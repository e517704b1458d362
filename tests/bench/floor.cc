// The floor: a plain Boost.Beast server with one fixed answer, written the way Beast's own examples
// are, so that a benchmark can say how much of what this machine can do is left.
//
//   onggi_floor [--port N] [--threads N] [--answer-bytes N] [--durable FILE]
//
// With --durable each body is appended to FILE, and its answer waits for an fdatasync that covers
// it: one sync at a time, each taking every body that arrived during the one before. Prints
// "listening on PORT" and runs until it is killed.

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <cstdio>

#include "common/check.h"
#include "common/runtime.h"

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

/// Batches bodies into one file, one fdatasync for all that wait.
class DurableFile {
 public:
  explicit DurableFile(const std::string& path)
      : fd_(open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644)) {
    CHECK_MSG(fd_ >= 0, path);
    thread_ = std::thread([this] { Run(); });
  }

  ~DurableFile() {
    {
      std::scoped_lock lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
    close(fd_);
  }

  void Append(const std::string& body, std::function<void()> done) {
    bool was_empty;
    {
      std::scoped_lock lock(mutex_);
      was_empty = waiting_.empty();
      bytes_ += body;
      waiting_.push_back(std::move(done));
    }
    if (was_empty) wake_.notify_one();
  }

 private:
  void Run() {
    for (;;) {
      std::string bytes;
      std::vector<std::function<void()>> waiting;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
        if (waiting_.empty()) return;
        bytes.swap(bytes_);
        waiting.swap(waiting_);
      }
      for (size_t at = 0; at < bytes.size();) {
        const ssize_t n = write(fd_, bytes.data() + at, bytes.size() - at);
        CHECK(n > 0);
        at += static_cast<size_t>(n);
      }
      CHECK(fdatasync(fd_) == 0);
      for (auto& done : waiting) done();
    }
  }

  const int fd_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::string bytes_;                           // guarded by mutex_
  std::vector<std::function<void()>> waiting_;  // guarded by mutex_
  bool stopping_ = false;                       // guarded by mutex_
  std::thread thread_;
};

struct Settings {
  Settings() {}
  uint16_t port = 0;
  size_t threads = 1;
  size_t answer_bytes = 90;
  std::string durable;
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, const std::string& answer, DurableFile* file)
      : stream_(std::move(socket)), answer_(answer), file_(file) {}

  void Read() {
    parser_.emplace();
    parser_->body_limit(16 << 20);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](error_code ec, size_t) {
                       if (!ec) self->OnRead();
                     });
  }

 private:
  void OnRead() {
    if (file_ == nullptr) return Write();
    file_->Append(parser_->get().body(), [self = shared_from_this()] {
      asio::post(self->stream_.get_executor(), [self] { self->Write(); });
    });
  }

  void Write() {
    response_ = http::response<http::string_body>(http::status::ok, 11);
    response_.set(http::field::server, "floor");
    response_.set(http::field::content_type, "application/x-amz-json-1.0");
    response_.keep_alive(parser_->get().keep_alive());
    response_.body() = answer_;
    response_.prepare_payload();
    http::async_write(stream_, response_, [self = shared_from_this()](error_code ec, size_t) {
      if (!ec && self->response_.keep_alive()) self->Read();
    });
  }

  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> response_;
  const std::string& answer_;
  DurableFile* file_;
};

/// Accepts for every thread in turn.
class Listener {
 public:
  Listener(onggi::IoPool& pool, const Settings& settings, const std::string& answer,
           DurableFile* file)
      : pool_(pool),
        acceptor_(pool.context(0), tcp::endpoint(asio::ip::address_v4::loopback(), settings.port)),
        answer_(answer),
        file_(file) {}

  uint16_t port() const { return acceptor_.local_endpoint().port(); }

  void Accept() {
    acceptor_.async_accept(pool_.context(next_), [this](error_code ec, tcp::socket socket) {
      if (!ec) {
        socket.set_option(tcp::no_delay(true), ec);
        auto executor = socket.get_executor();
        auto session = std::make_shared<Session>(std::move(socket), answer_, file_);
        asio::post(executor, [session] { session->Read(); });
      }
      next_ = (next_ + 1) % pool_.size();
      Accept();
    });
  }

 private:
  onggi::IoPool& pool_;
  tcp::acceptor acceptor_;
  const std::string& answer_;
  DurableFile* file_;
  size_t next_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app("A fixed-answer Boost.Beast server: the floor of every benchmark");
  app.add_option("--port", settings.port, "0: any free one");
  app.add_option("--threads", settings.threads);
  app.add_option("--answer-bytes", settings.answer_bytes, "Length of every answer's body");
  app.add_option("--durable", settings.durable, "Append bodies to this file and sync it");
  CLI11_PARSE(app, argc, argv);

  onggi::RaiseOpenFileLimit();
  const std::string answer(settings.answer_bytes, 'x');
  std::unique_ptr<DurableFile> file;
  if (!settings.durable.empty()) file = std::make_unique<DurableFile>(settings.durable);
  onggi::IoPool pool(settings.threads, "floor");
  Listener listener(pool, settings, answer, file.get());
  asio::post(pool.context(0), [&] { listener.Accept(); });
  std::printf("listening on %u\n", static_cast<unsigned>(listener.port()));
  std::fflush(stdout);
  for (;;) pause();
}
