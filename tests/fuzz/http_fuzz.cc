// Feeds bytes to the request reader in pieces, as a socket might, and checks what it promises:
// views inside its own memory, readable padding, and the same requests however the bytes arrive.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "common/check.h"
#include "common/http/compress.h"
#include "common/http/request_reader.h"
#include "common/sigv4.h"

namespace {

using onggi::http::RequestReader;

/// What the requests said, up to the first error; nothing when there was one.
std::optional<std::string> Replay(const uint8_t* data, size_t size, size_t step) {
  RequestReader reader(4096, 8192);
  std::string seen;
  size_t at = 0;
  while (at < size) {
    const std::span<char> room = reader.Prepare();
    CHECK(!room.empty());
    const size_t n = std::min({step, room.size(), size - at});
    std::memcpy(room.data(), data + at, n);
    at += n;
    reader.Commit(n);
    for (;;) {
      const RequestReader::Step result = reader.Advance();
      if (result == RequestReader::Step::kNeedMore) break;
      const onggi::http::Request& request = reader.request();
      // Copied: a sanitizer sees views that dangle.
      seen.append(request.method_name).append(request.target).append(request.path);
      for (const auto& header : request.headers) seen.append(header.name).append(header.value);
      if (result == RequestReader::Step::kError) return std::nullopt;
      CHECK(request.body.size() <= 8192);
      seen.append(request.body);
      const std::string padded(request.body.data(),
                               request.body.size() + onggi::http::kBodyPadding);
      CHECK(padded.starts_with(request.body));
      reader.Consume();
    }
    CHECK(reader.capacity() < (1 << 20));
  }
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t step = 1 + data[0] % 37;
  ++data, --size;
  const auto pieces = Replay(data, size, step);
  const auto whole = Replay(data, size, std::max<size_t>(size, 1));
  // Limits may strike at different bytes; without an error both saw the same.
  if (pieces && whole) CHECK(*pieces == *whole);

  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string out;
  (void)onggi::http::Decompress(onggi::http::Encoding::kGzip, text, 4096, &out);
  (void)onggi::http::Decompress(onggi::http::Encoding::kDeflate, text, 4096, &out);
  (void)onggi::http::AcceptsGzip(text);
  onggi::sigv4::RequestView request;
  const std::pair<std::string_view, std::string_view> headers[] = {{"authorization", text},
                                                                   {"host", "h"}};
  request.headers = headers;
  request.query = text;
  onggi::sigv4::Authorization authorization;
  (void)onggi::sigv4::ParseAuthorization(request, &authorization);
  request.headers = {};
  (void)onggi::sigv4::ParseAuthorization(request, &authorization);
  return 0;
}
