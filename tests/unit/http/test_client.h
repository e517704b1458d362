#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace onggi::http {

/// A blocking socket with just enough HTTP to look at answers byte by byte. TlsClient
/// (tls_client.h) is one that speaks TLS.
class TestClient {
 public:
  explicit TestClient(uint16_t port, int receive_buffer = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer != 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    }
    const timeval timeout{10, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (port != 0) Connect(port);
  }
  virtual ~TestClient() { Close(); }
  TestClient(TestClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), in_(std::move(other.in_)) {}
  TestClient& operator=(TestClient&&) = delete;

  bool Connect(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    return connected_;
  }
  bool connected() const { return connected_; }

  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  /// Closes with a reset.
  void Reset() {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    Close();
  }
  void ShutdownWrite() { ::shutdown(fd_, SHUT_WR); }

  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = Write(bytes);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }

  struct Answer {
    int status = 0;
    std::map<std::string, std::string> headers;  ///< names in lower case
    std::string body;
  };

  /// The next answer, or nothing when the connection ends first (or says nothing for 10 s).
  std::optional<Answer> Read(bool head = false) {
    size_t end;
    while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
      if (!Fill()) return std::nullopt;
    }
    Answer answer;
    answer.status = std::atoi(in_.c_str() + 9);
    size_t at = in_.find("\r\n") + 2;
    while (at < end + 2) {
      const size_t eol = in_.find("\r\n", at);
      const size_t colon = in_.find(": ", at);
      std::string name = in_.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      answer.headers[name] = in_.substr(colon + 2, eol - colon - 2);
      at = eol + 2;
    }
    in_.erase(0, end + 4);
    if (answer.status == 100 || head) return answer;
    const auto length = answer.headers.find("content-length");
    const size_t wanted =
        length == answer.headers.end() ? 0 : std::strtoul(length->second.c_str(), nullptr, 10);
    while (in_.size() < wanted) {
      if (!Fill()) return std::nullopt;
    }
    answer.body = in_.substr(0, wanted);
    in_.erase(0, wanted);
    return answer;
  }

  /// True when the peer has closed (an orderly end or a reset) within the time.
  bool WaitClosed(std::chrono::milliseconds time = std::chrono::milliseconds(5000)) {
    const auto end = std::chrono::steady_clock::now() + time;
    const timeval step{0, 20'000};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &step, sizeof(step));
    while (std::chrono::steady_clock::now() < end) {
      char byte;
      const ssize_t n = ::recv(fd_, &byte, 1, 0);
      if (n == 0) return true;
      if (n < 0 && errno != EAGAIN && errno != EINTR) return true;
      if (n > 0) in_.push_back(byte);
    }
    return false;
  }

  int fd() const { return fd_; }
  const std::string& unread() const { return in_; }

 protected:
  virtual ssize_t Write(std::string_view bytes) {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  virtual ssize_t Fetch(char* bytes, size_t size) { return ::recv(fd_, bytes, size, 0); }

 private:
  bool Fill() {
    char bytes[65536];
    const ssize_t n = Fetch(bytes, sizeof(bytes));
    if (n <= 0) return false;
    in_.append(bytes, static_cast<size_t>(n));
    return true;
  }

  int fd_ = -1;
  bool connected_ = false;
  std::string in_;
};

inline std::string Post(std::string_view path, std::string_view body,
                        std::string_view headers = "") {
  std::string out = "POST ";
  out.append(path).append(" HTTP/1.1\r\nHost: h\r\n").append(headers).append("Content-Length: ");
  out.append(std::to_string(body.size())).append("\r\n\r\n").append(body);
  return out;
}

}  // namespace onggi::http
