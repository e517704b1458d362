#include "common/http/compress.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "common/uuid.h"

namespace onggi::http {
namespace {

std::string Deflated(std::string_view data, int window) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, data.size()), 0);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

TEST(Compress, RoundTrips) {
  for (const size_t size : {0, 1, 100, 5000, 1 << 20}) {
    std::string data(size, 0);
    for (size_t i = 0; i < size; ++i) data[i] = static_cast<char>(FastRandom() % 7 * (i % 3));
    std::string packed;
    GzipCompress(data, &packed);
    std::string out;
    ASSERT_TRUE(Decompress(Encoding::kGzip, packed, size, &out).ok()) << size;
    EXPECT_EQ(out, data);
    EXPECT_GE(out.capacity(), out.size() + 64);
  }
}

TEST(Compress, ReadsBothFormsOfDeflate) {
  std::string out;
  ASSERT_TRUE(Decompress(Encoding::kDeflate, Deflated("hello", 15), 100, &out).ok());
  EXPECT_EQ(out, "hello");
  ASSERT_TRUE(Decompress(Encoding::kDeflate, Deflated("hello", -15), 100, &out).ok());
  EXPECT_EQ(out, "hello");
}

TEST(Compress, ReadsSeveralMembers) {
  std::string first;
  std::string second;
  GzipCompress("one ", &first);
  GzipCompress("two", &second);
  std::string out;
  ASSERT_TRUE(Decompress(Encoding::kGzip, first + second, 7, &out).ok());
  EXPECT_EQ(out, "one two");
}

TEST(Compress, StopsBombsAtTheBound) {
  std::string packed;
  GzipCompress(std::string(100 << 20, 'x'), &packed, 9);
  std::string out;
  EXPECT_EQ(Decompress(Encoding::kGzip, packed, 1 << 20, &out).code(), Code::kResourceExhausted);
  EXPECT_LE(out.capacity(), 3U << 20);
  EXPECT_EQ(Decompress(Encoding::kDeflate, Deflated(std::string(1000, 'x'), 15), 999, &out).code(),
            Code::kResourceExhausted);
  EXPECT_TRUE(
      Decompress(Encoding::kDeflate, Deflated(std::string(1000, 'x'), 15), 1000, &out).ok());
}

TEST(Compress, RefusesDamage) {
  std::string packed;
  GzipCompress("some text that is to be damaged", &packed);
  std::string out;
  for (size_t length = 0; length < packed.size(); ++length) {
    EXPECT_EQ(Decompress(Encoding::kGzip, packed.substr(0, length), 1000, &out).code(),
              Code::kInvalidArgument)
        << length;
  }
  EXPECT_FALSE(Decompress(Encoding::kGzip, packed + "rubbish", 1000, &out).ok());
  EXPECT_FALSE(Decompress(Encoding::kGzip, "not gzip", 1000, &out).ok());
  std::string flipped = packed;
  flipped[packed.size() - 6] = static_cast<char>(flipped[packed.size() - 6] ^ 1);  // the checksum
  EXPECT_FALSE(Decompress(Encoding::kGzip, flipped, 1000, &out).ok());
  EXPECT_FALSE(Decompress(Encoding::kUnsupported, "x", 1000, &out).ok());
  EXPECT_FALSE(Decompress(Encoding::kIdentity, "xx", 1, &out).ok());
}

TEST(Compress, ReadsHeaders) {
  EXPECT_EQ(ParseContentEncoding(""), Encoding::kIdentity);
  EXPECT_EQ(ParseContentEncoding(" GZip "), Encoding::kGzip);
  EXPECT_EQ(ParseContentEncoding("deflate"), Encoding::kDeflate);
  EXPECT_EQ(ParseContentEncoding("br"), Encoding::kUnsupported);
  EXPECT_TRUE(AcceptsGzip("gzip"));
  EXPECT_TRUE(AcceptsGzip("deflate, gzip;q=0.5, br"));
  EXPECT_TRUE(AcceptsGzip("*"));
  EXPECT_FALSE(AcceptsGzip(""));
  EXPECT_FALSE(AcceptsGzip("identity"));
  EXPECT_FALSE(AcceptsGzip("gzip;q=0, *"));
  EXPECT_FALSE(AcceptsGzip("*;q=0"));
}

}  // namespace
}  // namespace onggi::http
