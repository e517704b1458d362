#include "common/http/request_reader.h"

#include <gtest/gtest.h>

#include <cstring>

namespace onggi::http {
namespace {

/// Feeds `bytes` in pieces of `step` and lists what comes out.
std::vector<std::string> Read(std::string_view bytes, size_t step) {
  RequestReader reader(64 << 10, 1 << 20);
  std::vector<std::string> seen;
  size_t at = 0;
  while (at < bytes.size()) {
    const std::span<char> room = reader.Prepare();
    const size_t n = std::min({step, room.size(), bytes.size() - at});
    std::memcpy(room.data(), bytes.data() + at, n);
    at += n;
    reader.Commit(n);
    for (;;) {
      const RequestReader::Step result = reader.Advance();
      if (result == RequestReader::Step::kNeedMore) break;
      if (result == RequestReader::Step::kError) {
        seen.push_back("error " + std::to_string(static_cast<int>(reader.error())));
        return seen;
      }
      const Request& request = reader.request();
      std::string line(request.method_name);
      line.append("|").append(request.path).append("|").append(request.query);
      for (const Header& header : request.headers) {
        line.append("|").append(header.name).append("=").append(header.value);
      }
      line.append("|").append(request.body);
      seen.push_back(line);
      reader.Consume();
    }
  }
  seen.push_back(reader.empty() ? "end" : "rest");
  return seen;
}

TEST(RequestReader, DoesNotCareHowBytesArrive) {
  const std::string bytes =
      "GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n"
      "\r\nPOST http://host/abs?q HTTP/1.1\r\nContent-Length: 3\r\nX-Empty:\r\n\r\nxyz"
      "POST / HTTP/1.1\r\nTransfer-Encoding: "
      "chunked\r\n\r\n4\r\nwiki\r\n5;e=\"x\"\r\npedia\r\n0\r\n"
      "Trailer: t\r\n\r\n"
      "PUT /x HTTP/1.0\r\nA:   b  c  \r\n\r\n";
  const std::vector<std::string> expected = {
      "GET|/a|b=c|Host=h|", "POST|/abs|q|Content-Length=3|X-Empty=|xyz",
      "POST|/||Transfer-Encoding=chunked|wikipedia", "PUT|/x||A=b  c|", "end"};
  for (size_t step = 1; step < 64; ++step) EXPECT_EQ(Read(bytes, step), expected) << step;
  EXPECT_EQ(Read(bytes, 100'000), expected);
}

TEST(RequestReader, JoinsFoldedHeaders) {
  EXPECT_EQ(Read("GET / HTTP/1.1\r\nA: one\r\n two\r\nB: x\r\n y\r\n\r\n", 5),
            (std::vector<std::string>{"GET|/||A=one two|B=x y|", "end"}));
}

TEST(RequestReader, GrowsForBigBodiesAndShrinksAgain) {
  RequestReader reader(64 << 10, 16 << 20);
  const std::string request =
      "POST / HTTP/1.1\r\nX: y\r\nContent-Length: 10000000\r\n\r\n" + std::string(10'000'000, 'z');
  size_t at = 0;
  while (reader.Advance() == RequestReader::Step::kNeedMore) {
    const std::span<char> room = reader.Prepare();
    const size_t n = std::min(room.size(), request.size() - at);
    std::memcpy(room.data(), request.data() + at, n);
    at += n;
    reader.Commit(n);
    // No more than twice what has arrived.
    ASSERT_LE(reader.capacity(), 2 * at + (128 << 10));
  }
  EXPECT_EQ(reader.request().body.size(), 10'000'000U);
  EXPECT_EQ(reader.request().Get("x"), "y");
  EXPECT_EQ(reader.request().method_name, "POST");
  reader.Consume();
  reader.Reset();
  EXPECT_LE(reader.capacity(), 64U << 10);
}

TEST(RequestReader, KeepsViewsThroughMoves) {
  // The header is read; then the buffer must grow, and with it every view.
  RequestReader reader(64 << 10, 1 << 20);
  std::string head =
      "POST /path?query HTTP/1.1\r\nFolded: a\r\n b\r\nContent-Length: 500000\r\n\r\n";
  std::memcpy(reader.Prepare().data(), head.data(), head.size());
  reader.Commit(head.size());
  EXPECT_EQ(reader.Advance(), RequestReader::Step::kNeedMore);
  for (size_t sent = 0; sent < 500'000;) {
    const std::span<char> room = reader.Prepare();
    const size_t n = std::min(room.size(), 500'000 - sent);
    std::memset(room.data(), 'x', n);
    reader.Commit(n);
    sent += n;
  }
  ASSERT_EQ(reader.Advance(), RequestReader::Step::kComplete);
  EXPECT_EQ(reader.request().path, "/path");
  EXPECT_EQ(reader.request().query, "query");
  EXPECT_EQ(reader.request().Get("FOLDED"), "a b");
  EXPECT_EQ(reader.request().Get("content-length"), "500000");
}

TEST(Message, DecodesPercents) {
  EXPECT_EQ(PercentDecode("%41+%42%zz%4"), "A+B%zz%4");
  EXPECT_EQ(PercentDecode("a+b%2B", true), "a b+");
  EXPECT_EQ(PercentDecode("%00").size(), 1U);
  EXPECT_TRUE(EqualsIgnoreCase("X-Amz-Date", "x-aMZ-dATE"));
  EXPECT_FALSE(EqualsIgnoreCase("@", "`"));
}

}  // namespace
}  // namespace onggi::http
