#include "replication/transport/stream.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/slice.h>

#include "common/check.h"

namespace onggi::transport {
namespace {

constexpr const char* kMethod = "/onggi.proto.replication.ReplicationService/Exchange";

/// A slice that owns `value`, whose bytes are `bytes`, without copying them.
template <class T>
grpc::Slice Own(T value, std::string_view (*bytes)(const T&)) {
  auto* held = new T(std::move(value));
  const std::string_view view = bytes(*held);
  return grpc::Slice(
      const_cast<char*>(view.data()), view.size(),
      [](void* pointer) { delete static_cast<T*>(pointer); }, held);
}

grpc::ByteBuffer ToBuffer(std::vector<FramePiece> pieces) {
  std::vector<grpc::Slice> slices;
  slices.reserve(pieces.size());
  for (FramePiece& piece : pieces) {
    if (piece.payload != nullptr) {
      slices.push_back(Own<Payload>(std::move(piece.payload), [](const Payload& payload) {
        return std::string_view(*payload);
      }));
    } else {
      slices.push_back(Own<std::string>(std::move(piece.bytes), [](const std::string& bytes) {
        return std::string_view(bytes);
      }));
    }
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace

bool Stream::BeginOperation() {
  std::scoped_lock lock(mutex_);
  if (closed_) return false;
  ++starting_;
  return true;
}

void Stream::EndOperation() {
  grpc::Status status;
  {
    std::scoped_lock lock(mutex_);
    --starting_;
    if (!closed_ || ended_ || starting_ != 0) return;
    ended_ = true;
    status = status_;
  }
  EndOperations(status);
}

void Stream::Close(const grpc::Status& status, bool abort) {
  // Keeps the reactor while its last operations end.
  const std::shared_ptr<Stream> held = shared_from_this();
  {
    std::scoped_lock lock(mutex_);
    if (closed_) return;
    closed_ = true;
    status_ = status;
    ++starting_;  // the abort below is one more operation
  }
  // Without it, a peer that reads nothing would keep what is being written, and the stream,
  // forever.
  if (abort) Abort();
  EndOperation();
}

void Stream::Write(std::vector<FramePiece> pieces) {
  if (!BeginOperation()) return;
  outgoing_ = ToBuffer(std::move(pieces));
  StartWriting(&outgoing_);
  EndOperation();
}

void Stream::Read() {
  if (!BeginOperation()) return;
  incoming_.Clear();
  StartReading(&incoming_);
  EndOperation();
}

void Stream::ReadDone(bool ok) {
  if (!ok) {
    // The other side has ended, or the connection has. A client learns the status in OnDone, and
    // only then, so it must not cancel; a server's answer is nobody's any more.
    Close(grpc::Status::OK, !dialed_);
    return;
  }
  grpc::Slice slice;
  if (!incoming_.TrySingleSlice(&slice).ok() && !incoming_.DumpToSingleSlice(&slice).ok()) {
    Close({grpc::StatusCode::INTERNAL, "a frame without bytes"});
    return;
  }
  events_->OnFrame(self_, {reinterpret_cast<const char*>(slice.begin()), slice.size()});
  Read();
}

void Stream::WriteDone(bool ok) {
  outgoing_.Clear();
  // A failed write is followed by a failed read, which ends the stream.
  if (ok) events_->OnWritten(self_);
}

void Stream::AbortNow() {
  std::scoped_lock lock(mutex_);
  if (!done_) Abort();
}

void Stream::Done(const grpc::Status& status) {
  {
    std::scoped_lock lock(mutex_);
    done_ = true;
  }
  const std::shared_ptr<Stream> held = std::move(self_);
  events_->OnEnded(held, status);
}

// ClientStream ------------------------------------------------------------------------------------

std::shared_ptr<ClientStream> ClientStream::Make(Events* events,
                                                 std::shared_ptr<grpc::Channel> channel,
                                                 const Hello& hello) {
  std::shared_ptr<ClientStream> stream(new ClientStream(events, std::move(channel)));
  stream->self_ = stream;
  stream->peer = hello.to;
  stream->reader = std::make_unique<FrameReader>(hello.node, hello.to);
  stream->writer = std::make_unique<FrameWriter>();
  stream->writer->Set(hello);
  stream->writing = true;
  return stream;
}

void ClientStream::Begin() {
  // The stub is needed for the call only.
  grpc::GenericStub stub(channel_);
  stub.PrepareBidiStreamingCall(&context_, kMethod, grpc::StubOptions(), this);
  // Writes come from any thread: gRPC must not end the reactor under them.
  AddHold();
  size_t size = 0;
  Write(writer->Finish(&size));
  Read();
  StartCall();
}

const grpc::AuthContext& ClientStream::auth() const {
  if (auth_ == nullptr) auth_ = context_.auth_context();
  return *auth_;
}

void ClientStream::EndOperations(const grpc::Status&) { RemoveHold(); }

// ServerStream ------------------------------------------------------------------------------------

ServerStream::ServerStream(Events* events, grpc::CallbackServerContext* context)
    : Stream(events, false),
      context_(context),
      auth_(context->auth_context()),
      peer_address_(context->peer()) {}

std::shared_ptr<ServerStream> ServerStream::Make(Events* events,
                                                 grpc::CallbackServerContext* context,
                                                 NodeId self) {
  std::shared_ptr<ServerStream> stream(new ServerStream(events, context));
  stream->self_ = stream;
  stream->reader = std::make_unique<FrameReader>(self, NodeId());
  stream->writer = std::make_unique<FrameWriter>();
  return stream;
}

void ServerStream::OnCancel() { Close({grpc::StatusCode::CANCELLED, "cancelled"}); }

void ServerStream::OnDone() { Done(grpc::Status::OK); }

}  // namespace onggi::transport
