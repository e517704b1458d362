#include "common/http/request_reader.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "common/check.h"

namespace onggi::http {
namespace {

namespace beast = boost::beast::http;

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

Method MethodOf(beast::verb verb) {
  switch (verb) {
    case beast::verb::get: return Method::kGet;
    case beast::verb::head: return Method::kHead;
    case beast::verb::post: return Method::kPost;
    case beast::verb::put: return Method::kPut;
    case beast::verb::delete_: return Method::kDelete;
    case beast::verb::options: return Method::kOptions;
    case beast::verb::patch: return Method::kPatch;
    default: return Method::kOther;
  }
}

/// Whether a byte may stand in a method (RFC 9110, 5.6.2), to tell other protocols at once.
bool IsTokenChar(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
         (c != 0 && std::strchr("!#$%&'*+-.^_`|~", c) != nullptr);
}

/// Splits the target; an absolute form ("http://host/path") counts as its path.
void SplitTarget(Request& request) {
  std::string_view path = request.target;
  if (!path.empty() && path[0] != '/') {
    const size_t scheme = path.find("://");
    if (scheme <= 5) {  // npos is not
      const size_t slash = path.find_first_of("/?", scheme + 3);
      path = slash == std::string_view::npos ? std::string_view("/") : path.substr(slash);
    }
  }
  const size_t mark = path.find('?');
  request.path = path.substr(0, mark);
  request.query = mark == std::string_view::npos ? std::string_view() : path.substr(mark + 1);
  if (request.path.empty()) request.path = "/";
}

}  // namespace

PaddedBuffer::~PaddedBuffer() { std::free(data_); }

void PaddedBuffer::Grow(size_t room_wanted) {
  if (room() >= room_wanted && capacity_ != 0) return;
  const size_t capacity = size_ + room_wanted + kBodyPadding;
  char* data = static_cast<char*>(std::realloc(data_, capacity));
  if (data == nullptr) throw std::bad_alloc();
  data_ = data;
  capacity_ = capacity;
}

void PaddedBuffer::Append(std::string_view bytes) {
  if (capacity_ == 0 || room() < bytes.size()) {
    Grow(std::max({bytes.size(), size_, size_t{4096}}));
  }
  std::memcpy(data_ + size_, bytes.data(), bytes.size());
  size_ += bytes.size();
}

void PaddedBuffer::Free() {
  std::free(data_);
  data_ = nullptr;
  size_ = capacity_ = 0;
}

void RequestReader::Parser::on_request_impl(beast::verb method, sv method_text, sv target,
                                            int version, error_code&) {
  Request& request = reader_.request_;
  request.method = MethodOf(method);
  request.method_name = View(method_text);
  request.target = View(target);
  request.version = version;
}

void RequestReader::Parser::on_field_impl(beast::field name, sv name_text, sv value,
                                          error_code& ec) {
  if (reader_.header_done_) return;  // a trailer of a chunked body
  std::string_view text = View(value);
  const char* begin = reader_.in_.data();
  const std::less<const char*> less;
  if (!text.empty() &&
      (less(text.data(), begin) || !less(text.data(), begin + reader_.in_.size()))) {
    // A folded header: Beast joined its lines in memory of its own. folded_ never moves: it was
    // given room for the whole header.
    const size_t at = reader_.folded_.size();
    if (reader_.folded_.capacity() < reader_.header_length_) {
      reader_.folded_.reserve(reader_.header_length_);
    }
    if (at + text.size() > reader_.folded_.capacity()) {
      ec = beast::error::header_limit;
      return;
    }
    reader_.folded_.append(text);
    text = std::string_view(reader_.folded_).substr(at);
  }
  switch (name) {
    case beast::field::transfer_encoding:
      if (!EqualsIgnoreCase(text, "chunked")) reader_.error_ = ServerError::kUnsupportedEncoding;
      break;
    case beast::field::expect:
      if (EqualsIgnoreCase(text, "100-continue")) reader_.expect_continue_ = true;
      break;
    default: break;
  }
  reader_.headers_.push_back({View(name_text), text});
}

std::size_t RequestReader::Parser::on_chunk_body_impl(std::uint64_t, sv body, error_code&) {
  reader_.chunk_body_.Append(View(body));
  return body.size();
}

RequestReader::RequestReader(size_t max_header, size_t max_body)
    : max_header_(max_header), max_body_(max_body) {
  headers_.reserve(24);
}

uint64_t RequestReader::body_received() const {
  if (!header_done_) return 0;
  return chunked_ ? chunk_body_.size() : in_.size() - begin_ - header_length_;
}

void RequestReader::Rebase(const char* old_begin, const char* old_end, ptrdiff_t delta) {
  if (delta == 0 || !header_done_) return;
  const auto fix = [&](std::string_view& view) {
    const std::less<const char*> less;
    if (less(view.data(), old_begin) || less(old_end, view.data())) return;
    view = std::string_view(view.data() + delta, view.size());
  };
  fix(request_.method_name);
  fix(request_.target);
  fix(request_.path);
  fix(request_.query);
  for (Header& header : headers_) {
    fix(header.name);
    fix(header.value);
  }
}

std::span<char> RequestReader::Prepare() {
  // Smaller reads than this are not worth a system call.
  constexpr size_t kMinRoom = 2048;
  if (begin_ == in_.size() && !header_done_) {
    begin_ = 0;
    in_.set_size(0);
  }
  size_t wanted = kMinRoom;
  if (header_done_ && !chunked_) {
    const uint64_t total = begin_ + header_length_ + content_length_;
    if (total > in_.size()) wanted = std::min<uint64_t>(wanted, total - in_.size());
  }
  if (in_.capacity() != 0 && in_.room() >= wanted) {
    return {in_.data() + in_.size(), in_.room()};
  }
  if (begin_ > 0) {
    char* base = in_.data();
    std::memmove(base, base + begin_, in_.size() - begin_);
    Rebase(base + begin_, base + in_.size(), -static_cast<ptrdiff_t>(begin_));
    in_.set_size(in_.size() - begin_);
    if (raw_ != 0) raw_ -= begin_;
    begin_ = 0;
  }
  if (in_.capacity() == 0 || in_.room() < wanted) {
    size_t room = in_.capacity() == 0 ? kInitialBytes - kBodyPadding : std::max(in_.size(), wanted);
    if (header_done_ && !chunked_) {
      // Double, so that a client must send bytes to make us hold memory; but not past the end.
      const uint64_t missing = header_length_ + content_length_ - in_.size();
      room = static_cast<size_t>(std::min<uint64_t>(missing, std::max<uint64_t>(room, 64 << 10)));
    }
    char* old = in_.data();
    const size_t size = in_.size();
    // Compared as numbers below: the old memory is gone by then.
    in_.Grow(room);
    if (old != nullptr) Rebase(old, old + size, in_.data() - old);
  }
  return {in_.data() + in_.size(), in_.room()};
}

RequestReader::Step RequestReader::Fail(ServerError error) {
  error_ = error;
  request_.headers = headers_;
  if (request_.path.empty() && !request_.target.empty()) SplitTarget(request_);
  request_.body = {};
  request_.mutable_body = nullptr;
  request_.keep_alive = false;
  return Step::kError;
}

bool RequestReader::ParseHeader(std::string_view bytes) {
  parser_.emplace(*this);
  parser_->header_limit(std::numeric_limits<uint32_t>::max());
  parser_->body_limit(boost::none);
  boost::beast::error_code ec;
  const size_t used = parser_->put(boost::asio::const_buffer(bytes.data(), bytes.size()), ec);
  if (ec || used != bytes.size() || !parser_->is_header_done()) return false;
  chunked_ = parser_->chunked();
  content_length_ = chunked_ ? 0 : parser_->content_length().value_or(0);
  request_.keep_alive = parser_->keep_alive();
  return true;
}

RequestReader::Step RequestReader::AdvanceHeader() {
  // RFC 9112, 2.2: an empty line before the request line is to be ignored.
  while (scanned_ == 0 && in_.size() - begin_ >= 2 && in_.data()[begin_] == '\r' &&
         in_.data()[begin_ + 1] == '\n') {
    begin_ += 2;
  }
  const size_t available = in_.size() - begin_;
  if (available == 0) return Step::kNeedMore;
  const char* start = in_.data() + begin_;
  const std::string_view unread(start, available);
  const size_t end = unread.find("\r\n\r\n", scanned_);
  if (end == std::string_view::npos) {
    if (scanned_ == 0 && !IsTokenChar(*start) && *start != '\r') {
      return Fail(ServerError::kMalformedRequest);
    }
    if (available > max_header_) return Fail(ServerError::kHeaderTooLarge);
    scanned_ = available < 3 ? 0 : available - 3;
    return Step::kNeedMore;
  }
  header_length_ = end + 4;
  if (header_length_ > max_header_) return Fail(ServerError::kHeaderTooLarge);
  headers_.clear();
  folded_.clear();
  expect_continue_ = false;
  error_ = ServerError::kMalformedRequest;
  if (!ParseHeader(unread.substr(0, header_length_))) {
    return Fail(ServerError::kMalformedRequest);
  }
  request_.headers = headers_;
  SplitTarget(request_);
  if (error_ == ServerError::kUnsupportedEncoding) return Fail(error_);
  if (chunked_ && request_.version < 11) return Fail(ServerError::kMalformedRequest);
  if (content_length_ > max_body_) return Fail(ServerError::kBodyTooLarge);
  header_done_ = true;
  raw_ = begin_ + header_length_;
  if (chunked_) {
    chunk_body_.set_size(0);
    parser_->body_limit(max_body_);
    parser_->eager(true);
  }
  return Step::kComplete;
}

RequestReader::Step RequestReader::AdvanceChunked() {
  // Longer chunk extensions or trailers than this are an attack.
  constexpr size_t kMaxUndecoded = 16 << 10;
  // Beast's parser asserts that it has this much once it has seen the last chunk's size; a message
  // that is not complete always has at least "0\r\n\r\n" to come, so waiting for it costs nothing.
  constexpr size_t kLeastRest = 5;
  while (!parser_->is_done()) {
    const std::string_view rest(in_.data() + raw_, in_.size() - raw_);
    if (rest.empty()) break;
    // Only behind a zero: anything else that is short is judged at once.
    const size_t digit = rest.find_first_not_of("\r\n");
    if (rest.size() < kLeastRest && digit != rest.npos && rest[digit] == '0') break;
    boost::beast::error_code ec;
    const size_t used =
        parser_->put(boost::asio::const_buffer(in_.data() + raw_, in_.size() - raw_), ec);
    raw_ += used;
    if (ec == beast::error::need_more) break;
    if (ec == beast::error::body_limit) return Fail(ServerError::kBodyTooLarge);
    if (ec) return Fail(ServerError::kMalformedRequest);
  }
  if (parser_->is_done()) {
    // An empty body has readable bytes behind it too.
    static constexpr char kEmptyBody[kBodyPadding] = {};
    request_.body = chunk_body_.size() == 0
                        ? std::string_view(kEmptyBody, 0)
                        : std::string_view(chunk_body_.data(), chunk_body_.size());
    request_.mutable_body = chunk_body_.data();
    complete_ = true;
    return Step::kComplete;
  }
  const size_t undecoded = in_.size() - raw_;
  if (undecoded > kMaxUndecoded) return Fail(ServerError::kMalformedRequest);
  // Decoded bytes are not kept: the buffer stays small however long the body is.
  const size_t keep = begin_ + header_length_;
  std::memmove(in_.data() + keep, in_.data() + raw_, undecoded);
  in_.set_size(keep + undecoded);
  raw_ = keep;
  return Step::kNeedMore;
}

RequestReader::Step RequestReader::Advance() {
  if (complete_) return Step::kComplete;
  if (!header_done_) {
    if (const Step step = AdvanceHeader(); step != Step::kComplete) return step;
  }
  if (chunked_) return AdvanceChunked();
  if (in_.size() - begin_ - header_length_ < content_length_) return Step::kNeedMore;
  request_.mutable_body = in_.data() + begin_ + header_length_;
  request_.body = std::string_view(request_.mutable_body, content_length_);
  complete_ = true;
  return Step::kComplete;
}

void RequestReader::ForgetRequest() {
  scanned_ = raw_ = header_length_ = 0;
  content_length_ = 0;
  header_done_ = chunked_ = complete_ = expect_continue_ = false;
  chunk_body_.set_size(0);
  headers_.clear();
  request_.method = Method::kOther;
  request_.method_name = request_.target = request_.path = request_.query = {};
  request_.headers = {};
  request_.body = {};
  request_.mutable_body = nullptr;
}

void RequestReader::Consume() {
  CHECK(complete_);
  begin_ = chunked_ ? raw_ : begin_ + header_length_ + content_length_;
  ForgetRequest();
  if (begin_ == in_.size()) {
    begin_ = 0;
    in_.set_size(0);
  }
}

void RequestReader::Reset() {
  in_.set_size(0);
  begin_ = 0;
  ForgetRequest();
  if (in_.capacity() > 4 * kInitialBytes) in_.Free();
  if (chunk_body_.capacity() > kInitialBytes) chunk_body_.Free();
  if (folded_.capacity() > kInitialBytes) std::string().swap(folded_);
  if (headers_.capacity() > 128) {
    std::vector<Header>().swap(headers_);
    headers_.reserve(24);
  }
}

}  // namespace onggi::http
