#include "common/http/compress.h"

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "common/check.h"
#include "common/http/message.h"

namespace onggi::http {
namespace {

// Window bits as zlib wants them: +16 for the gzip wrapper, negative for none.
constexpr int kGzipWindow = 15 + 16;
constexpr int kZlibWindow = 15;
constexpr int kRawWindow = -15;

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// One stream after the other: gzip may have several members.
Status Inflate(int window, std::string_view input, size_t max_output, std::string* output) {
  z_stream stream{};
  if (inflateInit2(&stream, window) != Z_OK) return {Code::kResourceExhausted, "inflateInit2"};
  struct Guard {
    z_stream& stream;
    ~Guard() { inflateEnd(&stream); }
  } guard{stream};
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
  stream.avail_in = static_cast<uInt>(input.size());
  size_t used = 0;
  output->clear();
  for (;;) {
    if (used == output->size()) {
      if (used > max_output) return {Code::kResourceExhausted, "the decoded body is too large"};
      // One byte above the bound shows that it was passed.
      const size_t wanted = std::max<size_t>({4096, input.size() * 4, used * 2});
      output->resize(std::min(wanted, max_output + 1));
    }
    stream.next_out = reinterpret_cast<Bytef*>(output->data() + used);
    stream.avail_out = static_cast<uInt>(output->size() - used);
    const int result = inflate(&stream, Z_NO_FLUSH);
    used = output->size() - stream.avail_out;
    if (used > max_output) return {Code::kResourceExhausted, "the decoded body is too large"};
    if (result == Z_STREAM_END) {
      if (stream.avail_in == 0) break;
      if (window != kGzipWindow) return InvalidArgument("rubbish behind the compressed body");
      if (inflateReset(&stream) != Z_OK) return InvalidArgument("the compressed body is damaged");
      continue;
    }
    if (result == Z_OK && (stream.avail_in > 0 || stream.avail_out == 0)) continue;
    if (result == Z_OK || result == Z_BUF_ERROR) {
      return InvalidArgument("the compressed body is cut off");
    }
    return InvalidArgument("the compressed body is damaged");
  }
  output->resize(used);
  return Status::Ok();
}

}  // namespace

Encoding ParseContentEncoding(std::string_view value) {
  value = Trim(value);
  if (value.empty() || EqualsIgnoreCase(value, "identity")) return Encoding::kIdentity;
  if (EqualsIgnoreCase(value, "gzip") || EqualsIgnoreCase(value, "x-gzip")) return Encoding::kGzip;
  if (EqualsIgnoreCase(value, "deflate")) return Encoding::kDeflate;
  return Encoding::kUnsupported;
}

bool AcceptsGzip(std::string_view accept_encoding) {
  bool any = false;  // what "*" says, unless gzip is named
  while (!accept_encoding.empty()) {
    const size_t comma = accept_encoding.find(',');
    std::string_view item = Trim(accept_encoding.substr(0, comma));
    accept_encoding =
        comma == std::string_view::npos ? std::string_view() : accept_encoding.substr(comma + 1);
    const size_t semicolon = item.find(';');
    const std::string_view coding = Trim(item.substr(0, semicolon));
    bool wanted = true;
    if (semicolon != std::string_view::npos) {
      const std::string_view weight = Trim(item.substr(semicolon + 1));
      if (weight.starts_with("q=") || weight.starts_with("Q=")) {
        wanted = std::strtod(std::string(weight.substr(2)).c_str(), nullptr) > 0;
      }
    }
    if (EqualsIgnoreCase(coding, "gzip") || EqualsIgnoreCase(coding, "x-gzip")) return wanted;
    if (coding == "*") any = wanted;
  }
  return any;
}

Status Decompress(Encoding encoding, std::string_view input, size_t max_output,
                  std::string* output) {
  // zlib counts in 32 bits; our bodies are bounded far below.
  if (input.size() > UINT32_MAX / 8 || max_output > UINT32_MAX / 2) {
    return {Code::kResourceExhausted, "the compressed body is too large"};
  }
  Status status;
  switch (encoding) {
    case Encoding::kIdentity:
      if (input.size() > max_output) {
        return {Code::kResourceExhausted, "the decoded body is too large"};
      }
      output->assign(input);
      break;
    case Encoding::kGzip: status = Inflate(kGzipWindow, input, max_output, output); break;
    case Encoding::kDeflate:
      // RFC 9110 means zlib's form by "deflate"; some clients send the raw one.
      status = Inflate(kZlibWindow, input, max_output, output);
      if (status.code() == Code::kInvalidArgument) {
        const Status raw = Inflate(kRawWindow, input, max_output, output);
        if (raw.code() != Code::kInvalidArgument) status = raw;
      }
      break;
    case Encoding::kUnsupported: return InvalidArgument("unsupported Content-Encoding");
  }
  RETURN_IF_ERROR(status);
  const size_t size = output->size();
  output->resize(size + kBodyPadding);
  output->resize(size);
  return Status::Ok();
}

void GzipCompress(std::string_view input, std::string* output, int level) {
  CHECK(input.size() < UINT32_MAX / 2);
  // Setting a stream up costs more than compressing a small body with it.
  struct Deflater {
    explicit Deflater(int l) : level(l) {
      CHECK(deflateInit2(&stream, l, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    }
    ~Deflater() { deflateEnd(&stream); }
    Deflater(const Deflater&) = delete;
    Deflater& operator=(const Deflater&) = delete;
    z_stream stream{};
    const int level;
  };
  thread_local std::unique_ptr<Deflater> deflater;
  if (!deflater || deflater->level != level) {
    deflater = std::make_unique<Deflater>(level);
  } else {
    CHECK(deflateReset(&deflater->stream) == Z_OK);
  }
  z_stream& stream = deflater->stream;
  output->resize(deflateBound(&stream, input.size()));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(output->data());
  stream.avail_out = static_cast<uInt>(output->size());
  CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  output->resize(output->size() - stream.avail_out);
}

}  // namespace onggi::http
