#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"

namespace onggi::http {

enum class Encoding : uint8_t { kIdentity, kGzip, kDeflate, kUnsupported };

/// What a Content-Encoding value names ("" and "identity" are kIdentity).
Encoding ParseContentEncoding(std::string_view value);

/// Whether an Accept-Encoding value allows gzip with a weight above 0.
bool AcceptsGzip(std::string_view accept_encoding);

/// Decodes `input`, whole, into `*output` (replaced). Gzip may have several members; "deflate" is
/// read in its zlib and its raw form. InvalidArgument when the data is damaged, cut off or followed
/// by rubbish; ResourceExhausted when the output would pass `max_output` bytes (nothing beyond is
/// decoded). The output has 64 readable bytes behind its end (capacity), zeroed.
Status Decompress(Encoding encoding, std::string_view input, size_t max_output,
                  std::string* output);

/// Replaces `*output` with `input` as one gzip member. `level` 1 (fast) to 9.
void GzipCompress(std::string_view input, std::string* output, int level = 1);

}  // namespace onggi::http
