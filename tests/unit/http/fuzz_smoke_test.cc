// The fuzz target on some thousands of damaged requests, so that every build tries it; the real
// fuzzing is tests/fuzz.

#include <gtest/gtest.h>

#include "common/uuid.h"
#include "tests/fuzz/http_fuzz.cc"  // NOLINT: it has nothing but its entry point

namespace onggi::http {
namespace {

TEST(HttpFuzz, SurvivesDamagedRequests) {
  const std::vector<std::string> seeds = {
      "\x04GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n",
      "\x07POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.0\r\n\r\n",
      "\x03POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nwiki\r\n0\r\nT: x\r\n\r\n",
      "\x05GET http://h/x HTTP/1.1\r\nA: one\r\n two\r\nContent-Length: 0\r\n\r\n",
      "\x01"
      "AWS4-HMAC-SHA256 Credential=AK/20150830/r/s/aws4_request, SignedHeaders=host;a, "
      "Signature=00"};
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = seeds[FastRandom() % seeds.size()];
    if (FastRandom() % 2 == 0) bytes += seeds[FastRandom() % seeds.size()].substr(1);
    for (uint64_t edits = FastRandom() % 4; edits > 0; --edits) {
      const size_t at = FastRandom() % bytes.size();
      switch (FastRandom() % 4) {
        case 0: bytes[at] = static_cast<char>(FastRandom()); break;
        case 1: bytes.erase(at, FastRandom() % 8); break;
        case 2: bytes.insert(at, FastRandom() % 6000, '1'); break;
        default: bytes.insert(at, bytes.substr(at, FastRandom() % 30)); break;
      }
      if (bytes.empty()) bytes = "x";
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
}

}  // namespace
}  // namespace onggi::http
