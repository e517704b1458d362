#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/rpc/stream.h"
#include "replication/transport/frame.h"

namespace onggi::transport {

inline constexpr const char* kExchangeMethod =
    "/onggi.proto.replication.ReplicationService/Exchange";

/// One end of a stream of frames, and what the transport knows of it. Lives until OnEnded, the last
/// event. Thread-safe where it says so.
class Stream final : public rpc::MessageStream::Events,
                     public std::enable_shared_from_this<Stream> {
 public:
  /// Told what happens, on the stream's executor, one at a time.
  class Events {
   public:
    virtual ~Events() = default;
    /// The next frame is read once this has returned.
    virtual void OnFrame(const std::shared_ptr<Stream>& stream, std::string_view frame) = 0;
    /// The frame that Write() did not take at once has been taken over: another may be written.
    virtual void OnWritten(const std::shared_ptr<Stream>& stream) = 0;
    /// Last. `status`: the other side's word, or what broke the stream.
    virtual void OnEnded(const std::shared_ptr<Stream>& stream, const grpc::Status& status) = 0;
  };

  /// The calling end, to node hello.to, which begins with `hello`. Begin() connects.
  static std::shared_ptr<Stream> Dial(Events* events, rpc::MessageStream::Executor executor,
                                      const rpc::MessageStream::Options& options,
                                      const std::string& endpoint, const std::string& name,
                                      const Hello& hello);
  /// The answering end, at node `self`, of what `wire` is the call of.
  static std::shared_ptr<Stream> Accept(Events* events, std::shared_ptr<rpc::MessageStream> wire,
                                        NodeId self);
  Stream(Events* events, bool dialed) : events_(events), dialed_(dialed) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Of a dialed one: events may come from here on. Once.
  void Begin();

  /// Writes a frame; the one before has been taken over. True: so has this one, and OnWritten does
  /// not follow. Dropped, and false, once closed. Any thread.
  bool Write(std::vector<FramePiece> pieces) { return wire_->Write(std::move(pieces)); }

  /// Ends the stream; with `abort` at once: what is being written may be lost. On the answering
  /// side the other is told `status`, if it still listens. The first call counts. Any thread.
  void Close(const grpc::Status& status, bool abort = true);

  bool dialed() const { return dialed_; }
  /// Of the other side's certificate; empty without TLS.
  const std::vector<std::string>& peer_names() const { return wire_->peer_names(); }
  const std::string& peer_address() const { return wire_->peer_address(); }

  void OnMessage(std::string_view message) override {
    events_->OnFrame(shared_from_this(), message);
  }
  void OnWritten() override { events_->OnWritten(shared_from_this()); }
  void OnEnded(const grpc::Status& status) override {
    events_->OnEnded(shared_from_this(), status);
  }

  // Owned by the transport, under its rules.
  // --------------------------------------------------------

  NodeId peer;               ///< 0 until the Hello of an accepted one
  bool established = false;  ///< the other's Hello was accepted
  bool writing = false;      ///< a frame that was written has not been taken over
  std::chrono::steady_clock::time_point begun_at = std::chrono::steady_clock::now();
  std::unique_ptr<FrameReader> reader;
  std::unique_ptr<FrameWriter> writer;

 private:
  Events* const events_;
  const bool dialed_;
  std::shared_ptr<rpc::MessageStream> wire_;
};

}  // namespace onggi::transport
