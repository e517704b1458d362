#pragma once

#include <grpcpp/support/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

struct nghttp2_session;

namespace onggi::rpc {

/// A part of a message to be sent: `bytes`, which it owns, or a payload, shared.
struct MessagePiece {
  std::string bytes;
  std::shared_ptr<const std::string> payload;
  std::string_view view() const { return payload != nullptr ? *payload : bytes; }
};

/// A message that has come: in the bytes that were given to Receive, or in its own.
struct IncomingMessage {
  std::string_view in_place;
  std::string owned;
  bool whole_in_place = false;
  std::string_view view() const { return whole_in_place ? in_place : std::string_view(owned); }
};

/// One end of one gRPC call of streams over HTTP/2 (RFC 9113; grpc.io, "gRPC over HTTP2"), as bytes
/// in and bytes out: no socket, no thread, no clock. nghttp2 has the protocol; this is the one call
/// on it, its messages and its status. Not thread-safe.
class Http2Session {
 public:
  /// The calling end: the request is the first thing that Produce gives.
  static std::unique_ptr<Http2Session> Call(const std::string& method, const std::string& authority,
                                            bool tls, size_t max_message_bytes);
  /// The answering end.
  static std::unique_ptr<Http2Session> Answer(size_t max_message_bytes);
  ~Http2Session();
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;

  /// Takes in what has come, and adds the messages that are complete. Views of them are good as
  /// long as `bytes`. Not ok: the connection is of no use any more.
  Status Receive(std::string_view bytes, std::vector<IncomingMessage>* messages);

  /// Answering: the method that is called ("/package.Service/Method"), once it is.
  const std::optional<std::string>& called() const { return called_; }
  /// Answering: takes the call on. Before anything is sent.
  void Accept();

  /// Once the other side has sent its last: its status (calling), or Ok.
  const std::optional<grpc::Status>& ended() const { return ended_; }

  /// Sends a message, once what Send was given before is out (sent()).
  void Send(std::vector<MessagePiece> pieces);
  /// Nothing of what Send was given is left.
  bool sent() const { return next_piece_ == pieces_.size(); }

  /// Ends our side after what is being sent: with a status (answering), or without (calling).
  void End(const grpc::Status& status);
  /// Ends the call at once.
  void Cancel();
  /// What End or Cancel had to say is produced.
  bool finished() const;

  /// Adds what is to be sent to `out`, until it has `limit` bytes or more. False on a fault of
  /// ours or lack of memory.
  bool Produce(std::string* out, size_t limit);

 private:
  struct Callbacks;

  Http2Session(bool answers, size_t max_message_bytes)
      : answers_(answers), max_message_bytes_(max_message_bytes) {}
  bool Start();
  bool TakeChunk(std::string_view chunk);
  void TakeHeader(std::string_view name, std::string_view value);
  void OtherSideEnded();

  const bool answers_;
  const size_t max_message_bytes_;
  nghttp2_session* session_ = nullptr;
  int32_t stream_ = 0;  ///< 0: not called yet

  // Receiving.
  std::optional<std::string> called_;
  std::string path_;
  bool is_grpc_ = false;
  std::optional<int> grpc_status_;
  std::string grpc_message_;
  int http_status_ = 0;
  std::optional<grpc::Status> ended_;
  std::string partial_;  ///< of a message whose end has not come
  std::vector<IncomingMessage>* messages_ = nullptr;
  Status fault_;

  // Sending.
  std::vector<MessagePiece> pieces_;
  size_t next_piece_ = 0;
  size_t piece_offset_ = 0;
  bool deferred_ = false;  ///< nghttp2 waits for more
  bool ending_ = false;
  bool end_sent_ = false;
  grpc::Status end_status_;
  std::string* out_ = nullptr;
  size_t limit_ = 0;
};

}  // namespace onggi::rpc
