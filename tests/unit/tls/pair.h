#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "common/tls/stream.h"

namespace onggi::tls {

/// Both ends of a connection, on one thread, once they have shaken hands.
class Pair {
 public:
  using Make = std::function<std::unique_ptr<Stream>(int fd)>;
  Pair(const Make& server, const Make& client) {
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets_) == 0);
    server_ = server(sockets_[0]);
    client_ = client(sockets_[1]);
    CHECK(server_ != nullptr && client_ != nullptr);
    using Shaken = Stream::Handshaken;
    Shaken calling = Shaken::kWantsWrite, accepting = Shaken::kWantsRead;
    const auto goes_on = [](Shaken is) {
      return is == Shaken::kWantsRead || is == Shaken::kWantsWrite;
    };
    for (int i = 0; i < 10; ++i) {
      if (goes_on(calling)) calling = client_->Handshake();
      if (goes_on(accepting)) accepting = server_->Handshake();
    }
    shaken_ = calling == Shaken::kDone && accepting == Shaken::kDone;
  }
  ~Pair() {
    server_.reset();
    client_.reset();
    ::close(sockets_[0]);
    ::close(sockets_[1]);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  bool shaken() const { return shaken_; }
  Stream& server() { return *server_; }
  Stream& client() { return *client_; }
  /// What either end has against the other.
  std::string error() const {
    return std::string(client_->error()) + "; " + std::string(server_->error());
  }
  /// The common name of the server's certificate, as the client has seen it.
  std::string shown() const {
    const std::vector<std::string> names = client_->PeerNames();
    return names.empty() ? "" : names.back();
  }

  /// Reads until there is nothing now; bytes read.
  static size_t Drain(Stream& stream) {
    std::string room(64 << 10, '\0');
    size_t total = 0;
    ssize_t n;
    while ((n = stream.Read(room)) > 0) total += static_cast<size_t>(n);
    CHECK(n < 0 && errno == EAGAIN);
    return total;
  }
  /// Writes what the socket takes of `bytes`; bytes written.
  static size_t Fill(Stream& stream, std::string_view bytes) {
    size_t total = 0;
    while (total < bytes.size()) {
      const ssize_t n = stream.Write(bytes.data() + total, bytes.size() - total);
      if (n < 0) {
        CHECK(errno == EAGAIN);
        break;
      }
      total += static_cast<size_t>(n);
    }
    return total;
  }

 private:
  int sockets_[2] = {-1, -1};
  std::unique_ptr<Stream> server_;
  std::unique_ptr<Stream> client_;
  bool shaken_ = false;
};

}  // namespace onggi::tls
