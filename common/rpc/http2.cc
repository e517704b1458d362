#include "common/rpc/http2.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "common/check.h"
#include "common/text.h"

namespace onggi::rpc {
namespace {

/// gRPC's prefix of a message: whether it is compressed, and its length, big-endian.
constexpr size_t kPrefixBytes = 5;
/// What may be on its way to us unasked. What comes is taken in at once, or left with TCP.
constexpr int32_t kWindowBytes = 16 << 20;
/// The largest DATA frame that we like to get; HTTP/2's own bound of 16 KB would cut messages up.
constexpr uint32_t kMaxFrameBytes = 1 << 20;
constexpr size_t kMaxMessageText = 4096;

std::string_view View(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

nghttp2_nv Header(std::string_view name, std::string_view value) {
  auto* const n = reinterpret_cast<uint8_t*>(const_cast<char*>(name.data()));
  auto* const v = reinterpret_cast<uint8_t*>(const_cast<char*>(value.data()));
  return {n, v, name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

/// As grpc-message is sent: all but printable ASCII, and '%', as %XX.
std::string PercentEncode(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text.substr(0, kMaxMessageText)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte <= 0x7e && c != '%') {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

size_t LengthIn(const char* prefix) {
  size_t length = 0;
  for (size_t i = 1; i < kPrefixBytes; ++i) {
    length = length << 8 | static_cast<unsigned char>(prefix[i]);
  }
  return length;
}

}  // namespace

struct Http2Session::Callbacks {
  static Http2Session& Of(void* data) { return *static_cast<Http2Session*>(data); }

  static int BeginHeaders(nghttp2_session* session, const nghttp2_frame* frame, void* data) {
    Http2Session& self = Of(data);
    if (!self.answers_ || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    if (self.stream_ == 0) {
      self.stream_ = frame->hd.stream_id;
    } else if (frame->hd.stream_id != self.stream_) {
      // A connection is for one call.
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                NGHTTP2_REFUSED_STREAM);
    }
    return 0;
  }

  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                      void* data) {
    Http2Session& self = Of(data);
    if (frame->hd.stream_id == self.stream_) {
      self.TakeHeader(View(name, name_size), View(value, value_size));
    }
    return 0;
  }

  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* data) {
    Http2Session& self = Of(data);
    if (frame->hd.stream_id != self.stream_ || self.stream_ == 0) return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && self.answers_ &&
        frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
      if (!self.is_grpc_) {
        self.fault_ = InvalidArgument("the request is not one of gRPC");
        return 0;
      }
      self.called_ = self.path_;
    }
    if (frame->hd.type == NGHTTP2_RST_STREAM && !self.ended_) {
      self.ended_.emplace(grpc::StatusCode::CANCELLED, "the other side has cancelled");
    }
    const bool last = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                      (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (last) self.OtherSideEnded();
    return 0;
  }

  static int OnChunk(nghttp2_session*, uint8_t, int32_t stream, const uint8_t* bytes, size_t size,
                     void* data) {
    Http2Session& self = Of(data);
    if (stream != self.stream_) return 0;
    return self.TakeChunk(View(bytes, size)) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
  }

  static int OnClose(nghttp2_session*, int32_t stream, uint32_t, void* data) {
    Http2Session& self = Of(data);
    if (stream != self.stream_) return 0;
    self.end_sent_ = true;
    if (!self.ended_) {
      self.ended_.emplace(grpc::StatusCode::CANCELLED, "the call has ended");
    }
    return 0;
  }

  static ssize_t Send(nghttp2_session*, const uint8_t* bytes, size_t size, int, void* data) {
    Http2Session& self = Of(data);
    if (self.out_->size() >= self.limit_) return NGHTTP2_ERR_WOULDBLOCK;
    self.out_->append(View(bytes, size));
    return static_cast<ssize_t>(size);
  }

  /// How much of the message goes into the next DATA frame; SendData copies it.
  static ssize_t Read(nghttp2_session* session, int32_t stream, uint8_t*, size_t room,
                      uint32_t* flags, nghttp2_data_source*, void* data) {
    Http2Session& self = Of(data);
    size_t size = 0;
    for (size_t i = self.next_piece_; i < self.pieces_.size() && size < room; ++i) {
      size += self.pieces_[i].view().size() - (i == self.next_piece_ ? self.piece_offset_ : 0);
    }
    size = std::min(size, room);
    if (size > 0) {
      *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
      return static_cast<ssize_t>(size);
    }
    if (!self.ending_) {
      self.deferred_ = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (self.answers_) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      const std::string code = std::to_string(self.end_status_.error_code());
      const std::string message = PercentEncode(self.end_status_.error_message());
      const std::array trailers = {Header("grpc-status", code), Header("grpc-message", message)};
      if (nghttp2_submit_trailer(session, stream, trailers.data(), trailers.size()) != 0) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
      }
    }
    return 0;
  }

  static int SendData(nghttp2_session*, nghttp2_frame*, const uint8_t* head, size_t size,
                      nghttp2_data_source*, void* data) {
    Http2Session& self = Of(data);
    if (self.out_->size() >= self.limit_) return NGHTTP2_ERR_WOULDBLOCK;
    constexpr size_t kHeadBytes = 9;
    self.out_->append(View(head, kHeadBytes));
    while (size > 0) {
      const std::string_view rest =
          self.pieces_[self.next_piece_].view().substr(self.piece_offset_);
      const size_t taken = std::min(size, rest.size());
      self.out_->append(rest.substr(0, taken));
      size -= taken;
      self.piece_offset_ += taken;
      if (taken == rest.size()) {
        ++self.next_piece_;
        self.piece_offset_ = 0;
      }
    }
    if (self.sent()) {
      self.pieces_.clear();
      self.next_piece_ = 0;
    }
    return 0;
  }

  static int OnSent(nghttp2_session*, const nghttp2_frame* frame, void* data) {
    Http2Session& self = Of(data);
    if (frame->hd.stream_id != self.stream_) return 0;
    const bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
                      (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA);
    if (last || frame->hd.type == NGHTTP2_RST_STREAM) self.end_sent_ = true;
    return 0;
  }

  static ssize_t FrameBytes(nghttp2_session*, uint8_t, int32_t, int32_t connection_window,
                            int32_t stream_window, uint32_t max_frame, void*) {
    return std::min({static_cast<int64_t>(connection_window), static_cast<int64_t>(stream_window),
                     static_cast<int64_t>(max_frame)});
  }
};

std::unique_ptr<Http2Session> Http2Session::Call(const std::string& method,
                                                 const std::string& authority, bool tls,
                                                 size_t max_message_bytes) {
  std::unique_ptr<Http2Session> made(new Http2Session(false, max_message_bytes));
  if (!made->Start()) return nullptr;
  const std::array headers = {
      Header(":method", "POST"),    Header(":scheme", tls ? "https" : "http"),
      Header(":path", method),      Header(":authority", authority),
      Header("te", "trailers"),     Header("content-type", "application/grpc"),
      Header("user-agent", "onggi")};
  nghttp2_data_provider source{};
  source.read_callback = Callbacks::Read;
  made->stream_ = nghttp2_submit_request(made->session_, nullptr, headers.data(), headers.size(),
                                         &source, nullptr);
  return made->stream_ > 0 ? std::move(made) : nullptr;
}

std::unique_ptr<Http2Session> Http2Session::Answer(size_t max_message_bytes) {
  std::unique_ptr<Http2Session> made(new Http2Session(true, max_message_bytes));
  return made->Start() ? std::move(made) : nullptr;
}

Http2Session::~Http2Session() { nghttp2_session_del(session_); }

bool Http2Session::Start() {
  nghttp2_session_callbacks* callbacks = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) return false;
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, Callbacks::BeginHeaders);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::OnHeader);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::OnFrame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::OnChunk);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::OnClose);
  nghttp2_session_callbacks_set_send_callback(callbacks, Callbacks::Send);
  nghttp2_session_callbacks_set_send_data_callback(callbacks, Callbacks::SendData);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, Callbacks::OnSent);
  nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, Callbacks::FrameBytes);
  const int made = answers_ ? nghttp2_session_server_new(&session_, callbacks, this)
                            : nghttp2_session_client_new(&session_, callbacks, this);
  nghttp2_session_callbacks_del(callbacks);
  if (made != 0) return false;
  const std::array<nghttp2_settings_entry, 3> settings = {{
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(kWindowBytes)},
      {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, kMaxFrameBytes},
  }};
  return nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) ==
             0 &&
         nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindowBytes) == 0;
}

// Receiving. --------------------------------------------------------------------------------------

Status Http2Session::Receive(std::string_view bytes, std::vector<IncomingMessage>* messages) {
  messages_ = messages;
  const ssize_t taken = nghttp2_session_mem_recv(
      session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  messages_ = nullptr;
  if (!fault_.ok()) return fault_;
  if (taken < 0) {
    return InvalidArgument(std::string("HTTP/2: ") + nghttp2_strerror(static_cast<int>(taken)));
  }
  // After a fault nghttp2 only waits to say GOAWAY.
  if (nghttp2_session_want_read(session_) == 0 && !ended_) {
    return Unavailable("HTTP/2: the connection is at its end");
  }
  return Status::Ok();
}

bool Http2Session::TakeChunk(std::string_view chunk) {
  while (!chunk.empty()) {
    const bool fresh = partial_.empty();
    if (fresh && chunk.size() >= kPrefixBytes && chunk[0] == 0) {
      const size_t length = LengthIn(chunk.data());
      if (length <= max_message_bytes_ && chunk.size() >= kPrefixBytes + length) {
        IncomingMessage message;
        message.in_place = chunk.substr(kPrefixBytes, length);
        message.whole_in_place = true;
        messages_->push_back(std::move(message));
        chunk.remove_prefix(kPrefixBytes + length);
        continue;
      }
    }
    const size_t wanted =
        partial_.size() < kPrefixBytes ? kPrefixBytes : kPrefixBytes + LengthIn(partial_.data());
    const size_t taken = std::min(wanted - partial_.size(), chunk.size());
    partial_.append(chunk.substr(0, taken));
    chunk.remove_prefix(taken);
    if (partial_.size() < kPrefixBytes) return true;
    if (partial_[0] != 0) {
      fault_ = InvalidArgument("a message that is compressed, which was not agreed on");
      return false;
    }
    const size_t length = LengthIn(partial_.data());
    if (length > max_message_bytes_) {
      fault_ = {Code::kResourceExhausted, "a message of " + std::to_string(length) +
                                              " bytes, more than " +
                                              std::to_string(max_message_bytes_)};
      return false;
    }
    if (partial_.size() < kPrefixBytes + length) continue;
    IncomingMessage message;
    message.owned = std::move(partial_);
    message.owned.erase(0, kPrefixBytes);
    messages_->push_back(std::move(message));
    partial_.clear();
  }
  return true;
}

void Http2Session::TakeHeader(std::string_view name, std::string_view value) {
  if (name == ":path") {
    path_.assign(value);
  } else if (name == ":status") {
    std::from_chars(value.data(), value.data() + value.size(), http_status_);
  } else if (name == "content-type") {
    is_grpc_ = value.starts_with("application/grpc");
  } else if (name == "grpc-status") {
    int status = grpc::StatusCode::UNKNOWN;
    std::from_chars(value.data(), value.data() + value.size(), status);
    grpc_status_ = status;
  } else if (name == "grpc-message") {
    grpc_message_ = PercentDecode(value.substr(0, 3 * kMaxMessageText));
  }
}

void Http2Session::OtherSideEnded() {
  if (ended_) return;
  if (answers_) {
    ended_.emplace(grpc::Status::OK);
  } else if (grpc_status_) {
    ended_.emplace(static_cast<grpc::StatusCode>(*grpc_status_), grpc_message_);
  } else {
    ended_.emplace(
        grpc::StatusCode::UNKNOWN,
        "the answer, of HTTP status " + std::to_string(http_status_) + ", has no status of gRPC");
  }
}

// Sending. ----------------------------------------------------------------------------------------

void Http2Session::Accept() {
  const std::array headers = {Header(":status", "200"), Header("content-type", "application/grpc")};
  nghttp2_data_provider source{};
  source.read_callback = Callbacks::Read;
  nghttp2_submit_response(session_, stream_, headers.data(), headers.size(), &source);
}

void Http2Session::Send(std::vector<MessagePiece> pieces) {
  CHECK(sent());
  size_t length = 0;
  for (const MessagePiece& piece : pieces) length += piece.view().size();
  CHECK(length <= UINT32_MAX);
  MessagePiece prefix;
  prefix.bytes.assign(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) {
    prefix.bytes += static_cast<char>(length >> shift & 0xff);
  }
  pieces_ = std::move(pieces);
  std::erase_if(pieces_, [](const MessagePiece& piece) { return piece.view().empty(); });
  pieces_.insert(pieces_.begin(), std::move(prefix));
  next_piece_ = piece_offset_ = 0;
  if (std::exchange(deferred_, false)) nghttp2_session_resume_data(session_, stream_);
}

void Http2Session::End(const grpc::Status& status) {
  if (std::exchange(ending_, true)) return;
  end_status_ = status;
  if (std::exchange(deferred_, false)) nghttp2_session_resume_data(session_, stream_);
}

void Http2Session::Cancel() {
  if (stream_ == 0) return;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream_, NGHTTP2_CANCEL);
}

bool Http2Session::finished() const { return end_sent_; }

bool Http2Session::Produce(std::string* out, size_t limit) {
  out_ = out;
  limit_ = limit;
  const int result = nghttp2_session_send(session_);
  out_ = nullptr;
  return result == 0;
}

}  // namespace onggi::rpc
