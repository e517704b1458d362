#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/async_stream.h>

#include <deque>
#include <memory>
#include <utility>

#include "replication/metadata/etcd_client.h"

namespace onggi::metadata::etcd {

/// One gRPC stream both ways, through its end: requests are written in order, messages are read one
/// after the other. Lives on the loop's thread.
///
/// Whoever made it lets go of it with Detach(), and is told nothing more; it lives on until gRPC's
/// operations have run out.
template <class Request, class Response>
class Stream : public std::enable_shared_from_this<Stream<Request, Response>> {
 public:
  Stream(Client* client, Endpoint* endpoint) : client_(client), endpoint_(endpoint) {}
  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void Write(Request request) {
    writes_.push_back(std::move(request));
    Flush();
  }
  virtual void Detach() {
    attached_ = false;
    context_.TryCancel();
  }
  Endpoint* endpoint() const { return endpoint_; }

 protected:
  using ReaderWriter = grpc::ClientAsyncReaderWriter<Request, Response>;

  /// Of whoever made it, while it is attached. OnEnd() is the last.
  virtual void OnMessage(const Response& message) = 0;
  virtual void OnEnd(const grpc::Status& status) = 0;

  /// Once. `open` is the stub's call: (context, queue, tag) -> ReaderWriter.
  template <class Open>
  void Begin(Open open) {
    ++endpoint_->streams;
    self_ = this->shared_from_this();
    client_->Prepare(&context_);
    AddOperation();
    stream_ = open(&context_, client_->loop().queue(), &started_);
  }
  /// For one more operation of gRPC, whose end releases it.
  void AddOperation() { ++operations_; }
  void Release() {
    if (--operations_ > 0) return;
    --endpoint_->streams;
    const std::shared_ptr<Stream> last = std::move(self_);
  }
  Client* client() const { return client_; }

 private:
  void Flush() {
    if (!open_ || writing_ || writes_.empty() || !attached_) return;
    writing_ = true;
    AddOperation();
    stream_->Write(writes_.front(), &written_);
  }
  void Read() {
    AddOperation();
    stream_->Read(&response_, &read_);
  }
  void Finish() {
    if (!attached_ || finishing_) return;
    finishing_ = true;
    AddOperation();
    stream_->Finish(&status_, &finished_);
  }

  void OnStarted(bool ok) {
    open_ = ok;
    if (ok && attached_) {
      Read();
      Flush();
    } else {
      Finish();
    }
    Release();
  }
  void OnRead(bool ok) {
    if (ok && attached_) {
      client_->Alive(endpoint_);
      OnMessage(response_);
      if (attached_) Read();
    } else {
      Finish();
    }
    Release();
  }
  void OnWritten(bool ok) {
    writing_ = false;
    if (!writes_.empty()) writes_.pop_front();
    if (ok) Flush();  // otherwise the read fails, too
    Release();
  }
  void OnFinished(bool /*ok*/) {
    if (attached_) OnEnd(status_);
    Release();
  }

  Client* const client_;
  Endpoint* const endpoint_;
  std::shared_ptr<Stream> self_;  ///< while gRPC has operations
  int operations_ = 0;
  bool attached_ = true;
  grpc::ClientContext context_;
  std::unique_ptr<ReaderWriter> stream_;
  Response response_;
  grpc::Status status_;
  std::deque<Request> writes_;
  bool open_ = false;
  bool writing_ = false;
  bool finishing_ = false;

  MemberTag<Stream, &Stream::OnStarted> started_{this};
  MemberTag<Stream, &Stream::OnRead> read_{this};
  MemberTag<Stream, &Stream::OnWritten> written_{this};
  MemberTag<Stream, &Stream::OnFinished> finished_{this};
};

}  // namespace onggi::metadata::etcd
