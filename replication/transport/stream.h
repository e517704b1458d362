#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/client_callback.h>
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>

#include "common/ids.h"
#include "common/status.h"
#include "replication/transport/frame.h"

namespace onggi::transport {

/// One end of a gRPC stream of frames: what the calling and the answering side have in common, and
/// the care that gRPC's reactors want (no operation after the last word, one read and one write at
/// a time).
///
/// Lives until it has ended: OnEnded is the last event, after which gRPC lets go of it. Thread-safe
/// where it says so.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  /// Told what happens, on gRPC's threads: frames one at a time, writes one at a time.
  class Events {
   public:
    virtual ~Events() = default;
    /// The next frame is read once this has returned.
    virtual void OnFrame(const std::shared_ptr<Stream>& stream, std::string_view frame) = 0;
    /// The frame given to Write() has been taken over: another may be written.
    virtual void OnWritten(const std::shared_ptr<Stream>& stream) = 0;
    /// Last. `status`: the other side's word, or what broke the stream.
    virtual void OnEnded(const std::shared_ptr<Stream>& stream, const grpc::Status& status) = 0;
  };

  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Starts it: events may come from here on. Once.
  virtual void Begin() = 0;

  /// Instead of Begin.
  void Forget() { self_ = nullptr; }

  /// Writes a frame; the one before has been OnWritten. Dropped once closed. Any thread.
  void Write(std::vector<FramePiece> pieces);

  /// Ends the stream, at once: what is being written may be lost. On the answering side the other
  /// is told `status`, if it still listens. The first call counts. Any thread.
  void Close(const grpc::Status& status, bool abort = true);

  /// For one that was closed without: what is being written is lost. Any thread.
  void AbortNow();

  bool dialed() const { return dialed_; }
  virtual const grpc::AuthContext& auth() const = 0;
  virtual std::string peer_address() const = 0;

  // Owned by the transport, under its rules.
  // --------------------------------------------------------

  NodeId peer;               ///< 0 until the Hello of an accepted one
  bool established = false;  ///< the other's Hello was accepted
  bool writing = false;      ///< a Write has not been OnWritten
  std::chrono::steady_clock::time_point begun_at = std::chrono::steady_clock::now();
  std::unique_ptr<FrameReader> reader;
  std::unique_ptr<FrameWriter> writer;

 protected:
  Stream(Events* events, bool dialed) : events_(events), dialed_(dialed) {}

  // gRPC's operations, never after EndOperations.
  virtual void StartReading(grpc::ByteBuffer* into) = 0;
  virtual void StartWriting(const grpc::ByteBuffer* from) = 0;
  virtual void Abort() = 0;
  /// No operation will be started any more.
  virtual void EndOperations(const grpc::Status& status) = 0;

  void Read();
  void ReadDone(bool ok);
  void WriteDone(bool ok);
  void Done(const grpc::Status& status);

  Events* const events_;
  /// From the first operation until OnEnded.
  std::shared_ptr<Stream> self_;

 private:
  bool BeginOperation();
  void EndOperation();

  const bool dialed_;
  std::mutex mutex_;
  int starting_ = 0;     // guarded by mutex_: operations whose call has not returned
  bool closed_ = false;  // guarded by mutex_
  bool ended_ = false;   // guarded by mutex_: EndOperations was called
  bool done_ = false;    // guarded by mutex_: gRPC has let go
  grpc::Status status_;  // guarded by mutex_: of Close
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
};

/// Calls another node.
class ClientStream final : public Stream,
                           public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  /// A call whose first frame is `hello`.
  static std::shared_ptr<ClientStream> Make(Events* events, std::shared_ptr<grpc::Channel> channel,
                                            const Hello& hello);

  void Begin() override;

  const grpc::AuthContext& auth() const override;
  std::string peer_address() const override { return context_.peer(); }

  void OnReadDone(bool ok) override { ReadDone(ok); }
  void OnWriteDone(bool ok) override { WriteDone(ok); }
  void OnDone(const grpc::Status& status) override { Done(status); }

 private:
  ClientStream(Events* events, std::shared_ptr<grpc::Channel> channel)
      : Stream(events, true), channel_(std::move(channel)) {}

  void StartReading(grpc::ByteBuffer* into) override { StartRead(into); }
  void StartWriting(const grpc::ByteBuffer* from) override { StartWrite(from); }
  void Abort() override { context_.TryCancel(); }
  void EndOperations(const grpc::Status& status) override;

  const std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  mutable std::shared_ptr<const grpc::AuthContext> auth_;
};

/// Answers another node.
class ServerStream final : public Stream,
                           public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  static std::shared_ptr<ServerStream> Make(Events* events, grpc::CallbackServerContext* context,
                                            NodeId self);

  void Begin() override { Read(); }

  const grpc::AuthContext& auth() const override { return *auth_; }
  std::string peer_address() const override { return peer_address_; }

  void OnReadDone(bool ok) override { ReadDone(ok); }
  void OnWriteDone(bool ok) override { WriteDone(ok); }
  void OnCancel() override;
  void OnDone() override;

 private:
  ServerStream(Events* events, grpc::CallbackServerContext* context);

  void StartReading(grpc::ByteBuffer* into) override { StartRead(into); }
  void StartWriting(const grpc::ByteBuffer* from) override { StartWrite(from); }
  void Abort() override { context_->TryCancel(); }
  void EndOperations(const grpc::Status& status) override { Finish(status); }

  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<const grpc::AuthContext> auth_;
  const std::string peer_address_;
};

}  // namespace onggi::transport
