#include "common/tls/stream.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <openssl/crypto.h>

#include <atomic>
#include <cstdlib>

#include "common/check.h"
#include "common/tls/certificate_files.h"
#include "tests/unit/common/certificates.h"
#include "tests/unit/tls/pair.h"

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

TEST(TlsStream, KeepsNoRecordBuffersWhileNothingIsUnderWay) {
  ASSERT_TRUE(counted);
  const TestDirectory directory;
  const TestCertificate made = PemAuthority(directory.path()).Issue("server");
  const auto files =
      CertificateFiles::Load({made.cert_file, made.key_file, made.ca_file}, kHttp1).value();
  Pair pair([&](int fd) { return files->Accept(fd); },
            [&](int fd) { return files->Connect(fd, "server"); });
  ASSERT_TRUE(pair.shaken()) << pair.error();
  const std::string bytes(50'000, 'x');
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Pair::Fill(pair.client(), bytes), bytes.size());
    EXPECT_EQ(Pair::Drain(pair.server()), bytes.size());
    ASSERT_EQ(Pair::Fill(pair.server(), bytes), bytes.size());
    EXPECT_EQ(Pair::Drain(pair.client()), bytes.size());
    // The client has read the session tickets, the last of the handshake, in the first round: that
    // leaves it a buffer until it writes again.
    if (i > 0) EXPECT_EQ(RecordBuffers::held(), 0);
  }
  // What is under way has its buffer, and gives it back.
  const std::string large(8 << 20, 'y');
  size_t sent = Pair::Fill(pair.client(), large), received = 0;
  ASSERT_LT(sent, large.size());
  EXPECT_EQ(RecordBuffers::held(), 1);
  while (received < large.size()) {
    const size_t more = Pair::Drain(pair.server());
    ASSERT_GT(more, 0u);
    received += more;
    sent += Pair::Fill(pair.client(), std::string_view(large).substr(sent));
  }
  EXPECT_EQ(RecordBuffers::held(), 0);
}

}  // namespace
}  // namespace onggi::tls
