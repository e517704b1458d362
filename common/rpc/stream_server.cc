#include "common/rpc/stream_server.h"

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <unordered_map>

#include "common/check.h"
#include "common/log.h"
#include "common/rpc/channel.h"

namespace onggi::rpc {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

/// Without a file descriptor left, or memory, accepting is tried again after this.
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

}  // namespace

struct StreamServer::Shared : std::enable_shared_from_this<Shared> {
  explicit Shared(IoPool* pool)
      : io(pool), acceptor(pool->executor(0)), pause(acceptor.get_executor()) {}

  IoPool* const io;
  std::map<std::string, Acceptor> methods;
  MessageStream::Options options;
  asio::basic_socket_acceptor<tcp, IoPool::Executor> acceptor;
  asio::steady_timer pause;

  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by mutex.
  bool stopping = false;
  uint64_t next = 0;
  std::unordered_map<uint64_t, std::weak_ptr<MessageStream>> streams;
  std::set<uint64_t> waiting;  ///< of them: not called yet

  void Accept();
  void Take(MessageStream::Socket socket);
  std::shared_ptr<MessageStream::Events> OnCall(uint64_t id,
                                                const std::shared_ptr<MessageStream>& stream,
                                                const std::string& method, grpc::Status* refusal);
};

void StreamServer::Shared::Accept() {
  acceptor.async_accept(
      io->NextExecutor(),
      [self = shared_from_this()](const error_code& error, MessageStream::Socket socket) {
        if (error == asio::error::operation_aborted) return;
        if (!error) {
          self->Take(std::move(socket));
          self->Accept();
          return;
        }
        self->pause.expires_after(kAcceptPause);
        self->pause.async_wait([self](const error_code& cancelled) {
          if (!cancelled && self->acceptor.is_open()) self->Accept();
        });
      });
}

void StreamServer::Shared::Take(MessageStream::Socket socket) {
  std::scoped_lock lock(mutex);
  if (stopping || streams.size() >= kMaxConnections || waiting.size() >= kMaxWaiting) {
    static log::RateLimit limit(std::chrono::seconds(10));
    if (const uint64_t times = stopping ? 0 : limit.Allow()) {
      log::Warn("too many connections of nodes", "connections", streams.size(), "waiting",
                waiting.size(), "times", times);
    }
    return;
  }
  const uint64_t id = ++next;
  waiting.insert(id);
  // Its own executor runs it: nothing comes before it is in the table.
  const auto called = [self = shared_from_this(), id](const std::shared_ptr<MessageStream>& stream,
                                                      const std::string& method,
                                                      grpc::Status* refusal) {
    return self->OnCall(id, stream, method, refusal);
  };
  const auto closed = [self = shared_from_this(), id] {
    std::scoped_lock closing(self->mutex);
    self->waiting.erase(id);
    self->streams.erase(id);
    self->changed.notify_all();
  };
  streams[id] = MessageStream::Answer(std::move(socket), options, called, closed);
}

std::shared_ptr<MessageStream::Events> StreamServer::Shared::OnCall(
    uint64_t id, const std::shared_ptr<MessageStream>& stream, const std::string& method,
    grpc::Status* refusal) {
  {
    std::scoped_lock lock(mutex);
    waiting.erase(id);
    if (stopping) {
      *refusal = {grpc::StatusCode::UNAVAILABLE, "the node is stopping"};
      return nullptr;
    }
  }
  const auto found = methods.find(method);
  if (found == methods.end()) {
    *refusal = {grpc::StatusCode::UNIMPLEMENTED, "no method " + method + " is here"};
    return nullptr;
  }
  return found->second(stream, refusal);
}

StreamServer::StreamServer(IoPool* io, MessageStream::Options options)
    : shared_(std::make_shared<Shared>(io)) {
  shared_->options = std::move(options);
}

StreamServer::~StreamServer() { Stop(); }

void StreamServer::Add(const std::string& method, Acceptor acceptor) {
  CHECK(port_ == 0);
  shared_->methods[method] = std::move(acceptor);
}

Status StreamServer::Start(const std::string& address) {
  const std::string host = EndpointHost(address);
  const std::string port = address.substr(address.rfind(':') + 1);
  const auto failed = [&](const error_code& error) {
    return Status(Code::kIoError, "cannot listen on " + address + ": " + error.message());
  };
  error_code error;
  asio::io_context resolving;
  tcp::resolver resolver(resolving);
  const auto found = resolver.resolve(host, port, tcp::resolver::passive, error);
  if (error || found.empty()) return failed(error);
  const tcp::endpoint endpoint = found.begin()->endpoint();
  auto& acceptor = shared_->acceptor;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    error_code ignored;
    acceptor.close(ignored);
    return failed(error);
  }
  port_ = acceptor.local_endpoint().port();
  asio::post(acceptor.get_executor(), [shared = shared_] { shared->Accept(); });
  return Status::Ok();
}

void StreamServer::Stop() {
  std::vector<std::shared_ptr<MessageStream>> open;
  {
    std::scoped_lock lock(shared_->mutex);
    if (std::exchange(shared_->stopping, true)) return;
    for (const auto& [id, weak] : shared_->streams) {
      if (auto stream = weak.lock()) open.push_back(std::move(stream));
    }
  }
  if (port_ != 0) {
    asio::post(shared_->acceptor.get_executor(), [shared = shared_] {
      error_code error;
      shared->acceptor.close(error);
      shared->pause.cancel();
    });
  }
  for (const auto& stream : open) {
    stream->End({grpc::StatusCode::UNAVAILABLE, "the node is stopping"});
  }
  open.clear();
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [this] { return shared_->streams.empty(); });
}

}  // namespace onggi::rpc
