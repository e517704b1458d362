#include "replication/transport/stream.h"

#include "common/check.h"

namespace onggi::transport {

std::shared_ptr<Stream> Stream::Dial(Events* events, rpc::MessageStream::Executor executor,
                                     const rpc::MessageStream::Options& options,
                                     const std::string& endpoint, const std::string& name,
                                     const Hello& hello) {
  auto stream = std::make_shared<Stream>(events, true);
  stream->peer = hello.to;
  stream->reader = std::make_unique<FrameReader>(hello.node, hello.to);
  stream->writer = std::make_unique<FrameWriter>();
  stream->writer->Set(hello);
  stream->writing = true;
  stream->wire_ = rpc::MessageStream::Dial(executor, options, endpoint, kExchangeMethod, name);
  return stream;
}

std::shared_ptr<Stream> Stream::Accept(Events* events, std::shared_ptr<rpc::MessageStream> wire,
                                       NodeId self) {
  auto stream = std::make_shared<Stream>(events, false);
  stream->reader = std::make_unique<FrameReader>(self, NodeId());
  stream->writer = std::make_unique<FrameWriter>();
  stream->wire_ = std::move(wire);
  return stream;
}

void Stream::Begin() {
  size_t size = 0;
  // Not connected yet: OnWritten follows.
  CHECK(!Write(writer->Finish(&size)));
  wire_->Start(shared_from_this());
}

void Stream::Close(const grpc::Status& status, bool abort) {
  if (abort && (dialed_ || status.ok())) {
    wire_->Abort(status);
  } else {
    wire_->End(status);
  }
}

}  // namespace onggi::transport
