#include "common/tls/stream.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "common/check.h"
#include "tests/unit/common/certificates.h"

namespace onggi::tls {
namespace {

/// What OpenSSL holds of blocks in which a whole record fits: the buffers that it reads into and
/// writes from. (Resident memory would tell the same roughly, and nothing under a sanitizer.)
class RecordBuffers {
 public:
  static int held() { return held_; }
  /// OpenSSL takes its memory from here. Before it has taken any.
  static bool Count() { return CRYPTO_set_mem_functions(Allocate, Reallocate, Free) == 1; }

 private:
  static constexpr size_t kRecordBytes = 16 << 10;

  static void Add(void* block, int count) {
    if (::malloc_usable_size(block) >= kRecordBytes) held_ += count;
  }
  static void* Allocate(size_t size, const char*, int) {
    void* const block = std::malloc(size);
    Add(block, 1);
    return block;
  }
  static void* Reallocate(void* block, size_t size, const char*, int) {
    Add(block, -1);
    void* const moved = std::realloc(block, size);
    CHECK(moved != nullptr || size == 0);
    Add(moved, 1);
    return moved;
  }
  static void Free(void* block, const char*, int) {
    Add(block, -1);
    std::free(block);
  }

  static inline std::atomic<int> held_{0};
};

const bool counted = RecordBuffers::Count();

constexpr unsigned char kProtocol[] = "\x04test";

/// Both ends of a connection, on one thread.
class TlsStream : public testing::Test {
 protected:
  void SetUp() override {
    const TestCertificate made = PemAuthority(directory_.path()).Issue("server");
    SSL_CTX* const server = NewContext(TLS_server_method(), kProtocol);
    SSL_CTX* const client = NewContext(TLS_client_method(), kProtocol);
    ASSERT_EQ(SSL_CTX_use_certificate_chain_file(server, made.cert_file.c_str()), 1);
    ASSERT_EQ(SSL_CTX_use_PrivateKey_file(server, made.key_file.c_str(), SSL_FILETYPE_PEM), 1);
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets_), 0);
    SSL* const answering = SSL_new(server);
    SSL* const calling = SSL_new(client);
    SSL_CTX_free(server);
    SSL_CTX_free(client);
    SSL_set_accept_state(answering);
    SSL_set_connect_state(calling);
    server_ = std::make_unique<Stream>(answering, sockets_[0]);
    client_ = std::make_unique<Stream>(calling, sockets_[1]);
    bool client_done = false, server_done = false;
    for (int i = 0; i < 10 && !(client_done && server_done); ++i) {
      client_done = client_done || client_->Handshake() == Stream::Handshaken::kDone;
      server_done = server_done || server_->Handshake() == Stream::Handshaken::kDone;
    }
    ASSERT_TRUE(client_done && server_done) << client_->error() << server_->error();
  }
  ~TlsStream() override {
    ::close(sockets_[0]);
    ::close(sockets_[1]);
  }

  /// Reads until there is nothing now; bytes read.
  static size_t Drain(Stream* stream) {
    std::string room(64 << 10, '\0');
    size_t total = 0;
    ssize_t n;
    while ((n = stream->Read(room)) > 0) total += static_cast<size_t>(n);
    EXPECT_TRUE(n < 0 && errno == EAGAIN);
    return total;
  }
  /// Writes what the socket takes of `bytes`; bytes written.
  static size_t Fill(Stream* stream, std::string_view bytes) {
    size_t total = 0;
    while (total < bytes.size()) {
      const ssize_t n = stream->Write(bytes.data() + total, bytes.size() - total);
      if (n < 0) {
        EXPECT_EQ(errno, EAGAIN);
        break;
      }
      total += static_cast<size_t>(n);
    }
    return total;
  }

  TestDirectory directory_;
  int sockets_[2] = {-1, -1};
  std::unique_ptr<Stream> server_;
  std::unique_ptr<Stream> client_;
};

TEST_F(TlsStream, KeepsNoRecordBuffersWhileNothingIsUnderWay) {
  ASSERT_TRUE(counted);
  const std::string bytes(50'000, 'x');
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Fill(client_.get(), bytes), bytes.size());
    EXPECT_EQ(Drain(server_.get()), bytes.size());
    ASSERT_EQ(Fill(server_.get(), bytes), bytes.size());
    EXPECT_EQ(Drain(client_.get()), bytes.size());
    // The client has read the session tickets, the last of the handshake, in the first round: that
    // leaves it a buffer until it writes again.
    if (i > 0) EXPECT_EQ(RecordBuffers::held(), 0);
  }
  // What is under way has its buffer, and gives it back.
  const std::string large(8 << 20, 'y');
  size_t sent = Fill(client_.get(), large), received = 0;
  ASSERT_LT(sent, large.size());
  EXPECT_EQ(RecordBuffers::held(), 1);
  while (received < large.size()) {
    const size_t more = Drain(server_.get());
    ASSERT_GT(more, 0u);
    received += more;
    sent += Fill(client_.get(), std::string_view(large).substr(sent));
  }
  EXPECT_EQ(RecordBuffers::held(), 0);
}

}  // namespace
}  // namespace onggi::tls
