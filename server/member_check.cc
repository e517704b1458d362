#include "server/member_check.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/log.h"

namespace onggi {
namespace {

using SteadyClock = std::chrono::steady_clock;
using tls::Stream;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

/// False: not until the deadline.
bool WaitFor(int fd, short events, SteadyClock::time_point deadline) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SteadyClock::now());
  pollfd poll{fd, events, 0};
  return left.count() > 0 && ::poll(&poll, 1, static_cast<int>(left.count())) > 0;
}

/// A connection to host:port; none: nobody answers there now.
std::optional<Socket> ConnectTo(const std::string& address, SteadyClock::time_point deadline) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) {
    return std::nullopt;
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, ::freeaddrinfo);
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    Socket socket(::socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (socket.fd() < 0) continue;
    if (::connect(socket.fd(), at->ai_addr, at->ai_addrlen) != 0 && errno != EINPROGRESS) continue;
    if (!WaitFor(socket.fd(), POLLOUT, deadline)) continue;
    int error = 0;
    socklen_t size = sizeof(error);
    if (::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) continue;
    return socket;
  }
  return std::nullopt;
}

/// Ok: both ends accept each other; kUnavailable: it could not be asked; kInvalidArgument: not so.
Status CheckMember(const proto::Node& member, tls::CertificateFiles& files,
                   SteadyClock::time_point deadline) {
  const auto refused = [&](std::string_view why) {
    return InvalidArgument("TLS with node " + std::to_string(member.id()) + " (" +
                           member.peer_address() + "): " + std::string(why));
  };
  const auto silent = [] { return Unavailable("no answer"); };
  const std::optional<Socket> socket = ConnectTo(member.peer_address(), deadline);
  if (!socket) return silent();
  const std::unique_ptr<Stream> stream = files.Connect(socket->fd(), member.certificate_name());
  if (stream == nullptr) return silent();
  for (;;) {
    const Stream::Handshaken shaken = stream->Handshake();
    if (shaken == Stream::Handshaken::kDone) break;
    if (shaken == Stream::Handshaken::kFailed) return refused(stream->error());
    if (shaken == Stream::Handshaken::kClosed) return silent();  // as one that stops does
    const short events = shaken == Stream::Handshaken::kWantsWrite ? POLLOUT : POLLIN;
    if (!WaitFor(socket->fd(), events, deadline)) return silent();
  }
  for (;;) {
    char first[64];
    const ssize_t count = stream->Read(first);
    if (count > 0) return Status::Ok();
    if (count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
      return refused("it does not accept this node's certificate");
    }
    const short events = stream->read_wants_write() ? POLLOUT : POLLIN;
    if (!WaitFor(socket->fd(), events, deadline)) return silent();
  }
}

}  // namespace

Status CheckMembers(std::span<const proto::Node> members, tls::CertificateFiles* files,
                    std::chrono::milliseconds patience) {
  Status refused;
  for (const proto::Node& member : members) {
    const std::string name = "node " + std::to_string(member.id());
    const bool speaks_tls = !member.certificate_name().empty();
    Status status;
    const auto deadline = SteadyClock::now() + patience;
    if (speaks_tls != (files != nullptr)) {
      // What is written of it may be of a process that is gone.
      if (!ConnectTo(member.peer_address(), deadline)) continue;
      status = InvalidArgument(speaks_tls ? name +
                                                " speaks TLS: --tls-ca, --tls-cert and --tls-key "
                                                "are missing here"
                                          : name + " does not speak TLS, this node does");
    } else if (files != nullptr) {
      status = CheckMember(member, *files, deadline);
    }
    if (status.ok()) return status;
    if (status.code() != Code::kInvalidArgument) continue;
    log::Warn("a member and this node do not accept each other", "status", status);
    if (refused.ok()) refused = std::move(status);
  }
  return refused;
}

}  // namespace onggi
