#pragma once

#include <boost/beast/http/basic_parser.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/http/message.h"
#include "common/http/server.h"

namespace onggi::http {

/// A growing byte array that always keeps kBodyPadding spare readable bytes behind its contents.
class PaddedBuffer {
 public:
  PaddedBuffer() = default;
  ~PaddedBuffer();
  PaddedBuffer(const PaddedBuffer&) = delete;
  PaddedBuffer& operator=(const PaddedBuffer&) = delete;

  char* data() { return data_; }
  size_t size() const { return size_; }
  /// Bytes allocated.
  size_t capacity() const { return capacity_; }
  /// Bytes that can be added without moving.
  size_t room() const { return capacity_ == 0 ? 0 : capacity_ - kBodyPadding - size_; }

  void set_size(size_t size) { size_ = size; }
  /// Makes room() at least `room`, moving the contents to exactly enough new memory.
  void Grow(size_t room);
  void Append(std::string_view bytes);
  /// Gives the memory back.
  void Free();

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

/// Takes requests out of a stream of bytes, one at a time, without copying: the views of request()
/// point into the buffer that the bytes were read into (a chunked body is gathered in a second
/// one).
///
/// No sockets here, so that tests and the fuzzer can feed it. One owner, one thread.
///
///     bytes = recv(reader.Prepare()); reader.Commit(bytes);
///     while (reader.Advance() == Step::kComplete) { answer(reader.request()); reader.Consume(); }
class RequestReader {
 public:
  enum class Step : uint8_t { kNeedMore, kComplete, kError };

  RequestReader(size_t max_header, size_t max_body);

  /// Room for the next bytes of the stream: never empty. May move what request() points to, and
  /// repairs its views.
  std::span<char> Prepare();
  /// The first `n` bytes of what Prepare gave hold data now.
  void Commit(size_t n) { in_.set_size(in_.size() + n); }

  /// Goes on with the current request. After kError nothing more can be read from the stream.
  Step Advance();
  ServerError error() const { return error_; }

  /// The current request; complete after kComplete, with method, target and headers once
  /// header_done().
  Request& request() { return request_; }
  bool header_done() const { return header_done_; }
  /// The client waits for "100 Continue" before it sends the body.
  bool awaits_continue() const { return header_done_ && expect_continue_ && !body_begun(); }
  void ContinueSent() { expect_continue_ = false; }
  /// The whole request is there.
  bool complete() const { return complete_; }
  /// Nothing of a next request has arrived.
  bool empty() const { return in_.size() == begin_ && !header_done_; }
  /// Bytes of the body that have arrived, and how many there will be (0 when chunked).
  uint64_t body_received() const;
  uint64_t body_expected() const { return content_length_; }

  /// Forgets the current request, which must be complete; its views end here.
  void Consume();

  /// Forgets everything, to begin with another stream, and gives back memory beyond a small buffer.
  void Reset();

  /// Bytes allocated.
  size_t capacity() const { return in_.capacity() + chunk_body_.capacity(); }

  /// A buffer starts with this size.
  static constexpr size_t kInitialBytes = 16 << 10;

 private:
  Step Fail(ServerError error);
  Step AdvanceHeader();
  Step AdvanceChunked();
  bool body_begun() const { return in_.size() > begin_ + header_length_; }
  void ForgetRequest();
  void Rebase(const char* old_begin, const char* old_end, ptrdiff_t delta);
  bool ParseHeader(std::string_view bytes);

  const size_t max_header_;
  const size_t max_body_;

  PaddedBuffer in_;
  size_t begin_ = 0;          ///< where the current request starts in in_
  size_t scanned_ = 0;        ///< bytes from begin_ known to hold no end of header
  size_t header_length_ = 0;  ///< with the empty line
  size_t raw_ = 0;            ///< chunked: where the undecoded bytes start in in_
  uint64_t content_length_ = 0;
  bool header_done_ = false;
  bool chunked_ = false;
  bool expect_continue_ = false;
  bool complete_ = false;
  ServerError error_ = ServerError::kMalformedRequest;

  PaddedBuffer chunk_body_;
  std::string folded_;  ///< values of folded headers, which the parser joins in its own memory
  std::vector<Header> headers_;
  Request request_;

  // Beast's parser: it reads the header in one call, and chunked bodies in as many as it takes.
  class Parser final : public boost::beast::http::basic_parser<true> {
   public:
    explicit Parser(RequestReader& reader) : reader_(reader) {}

   private:
    using error_code = boost::beast::error_code;
    using sv = boost::beast::string_view;
    void on_request_impl(boost::beast::http::verb method, sv method_text, sv target, int version,
                         error_code& ec) override;
    void on_response_impl(int, sv, int, error_code&) override {}
    void on_field_impl(boost::beast::http::field name, sv name_text, sv value,
                       error_code& ec) override;
    void on_header_impl(error_code&) override {}
    void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
    std::size_t on_body_impl(sv body, error_code&) override { return body.size(); }
    void on_chunk_header_impl(std::uint64_t, sv, error_code&) override {}
    std::size_t on_chunk_body_impl(std::uint64_t, sv body, error_code& ec) override;
    void on_finish_impl(error_code&) override {}

    RequestReader& reader_;
  };
  std::optional<Parser> parser_;
};

}  // namespace onggi::http
