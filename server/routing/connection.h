#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/proto/routing.pb.h"
#include "common/status.h"
#include "server/routing/gather.h"

namespace onggi::routing {

class Connection;

/// A request on its way to another node. Lives in the frame of the coroutine that waits for it,
/// which finds the answer, or why there is none, in it.
class PendingCall {
 public:
  PendingCall() = default;
  virtual ~PendingCall() = default;
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;

  /// Who waits. Set before Connection::Start().
  Gather* gather = nullptr;
  SteadyTime deadline;
  /// What the map may say of before the answer is there (Connection::Abandon).
  PartitionId partition;
  bool wants_primary = false;

  /// Ok: answered. Else nothing is known of the answer but this: kUnavailable, the peer has not
  /// seen the request; kUnknownOutcome, it may have; kDeadlineExceeded, the time is over and it may
  /// have; kResourceExhausted, it was not sent: too much is waiting already.
  Status status;

  /// Bytes that it adds to a frame, roughly.
  virtual size_t Size() const = 0;
  /// Adds the request to a frame. Views that it is made of are not needed after that.
  virtual void AddTo(proto::RoutingFrame* frame, uint64_t id, uint32_t timeout_ms) = 0;

  // The answer, taken out of the frame. One of them is overridden; another kind of answer is a
  // fault of the peer.
  virtual bool Take(proto::RoutedGetResult*) { return false; }
  virtual bool Take(proto::RoutedWriteResult*) { return false; }
  virtual bool Take(proto::RoutedPageResult*) { return false; }
  virtual bool Take(proto::RoutedFiguresResult*) { return false; }
};

struct ConnectionLimits {
  ConnectionLimits() {}
  /// A frame is closed at this size; one request may take a frame beyond it by its own size.
  size_t max_frame_bytes = size_t{1} << 20;
  /// Requests of ours that wait to be sent; more are refused.
  size_t max_queued_bytes = size_t{64} << 20;
  /// Requests of ours without an answer; more are refused.
  size_t max_calls = 65'536;
  /// Answers of ours that wait to be sent; requests that come while there are more are refused.
  size_t max_answer_bytes = size_t{64} << 20;
  /// Nothing has come for this long though answers are due: a ping is sent. As long again without
  /// anything: the connection is given up.
  std::chrono::milliseconds silence{1'000};
};

/// What is told of a connection. Calls come on the stream's thread, in its order.
class ConnectionEvents {
 public:
  virtual ~ConnectionEvents() = default;
  /// The other side has introduced itself. Not ok: the connection ends with it.
  virtual Status OnHello(const std::shared_ptr<Connection>& connection,
                         const proto::RoutingHello& hello) = 0;
  /// Both sides have introduced themselves: calls may be started.
  virtual void OnReady(const std::shared_ptr<Connection>& connection) = 0;
  /// Requests of the other side. The frame may be taken apart.
  virtual void OnRequests(const std::shared_ptr<Connection>& connection,
                          proto::RoutingFrame* frame) = 0;
  /// It has ended; nothing follows. Once, if OnHello was called or the dialing failed.
  virtual void OnClosed(const std::shared_ptr<Connection>& connection, const Status& reason) = 0;
};

/// One Exchange stream with one peer, from either of its ends: our requests and their answers, its
/// requests and ours, all in the frames of one stream. While a frame is being written everything
/// gathers in the next one.
///
/// Made by Network; the stream keeps it alive until it has ended. Thread-safe: one lock, never held
/// while the stream is called or anybody is told anything.
///
/// Failure: when the stream ends every call without an answer ends (PendingCall::status).
/// Bounds: ConnectionLimits.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  virtual ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// The peer; 0 before its hello, where the peer dialed.
  NodeId peer() const { return NodeId(peer_.load(std::memory_order_relaxed)); }
  void set_peer(NodeId peer) { peer_.store(peer.value, std::memory_order_relaxed); }

  /// Sends the call, at once or with the next frame. It is finished (Gather) exactly once, from
  /// here or later, on any thread. `now`: the present. The frame may wait for Flush().
  void Start(PendingCall* call, SteadyTime now);

  /// Adds an answer, or anything else, to the frame that gathers; `size` in bytes, roughly. It goes
  /// with Flush(). Nothing happens once the stream has ended.
  template <class Function>
  void Add(size_t size, Function function) {
    std::lock_guard lock(mutex_);
    if (broken_) return;
    function(FrameFor(size));
    waiting_.back()->answer_bytes += size;
    answer_bytes_.fetch_add(size, std::memory_order_relaxed);
  }

  /// Starts to write what has gathered, unless a frame is on its way, behind which it goes.
  void Flush();

  /// The same, once what is ready to run on `executor` now has run: what that adds goes in the same
  /// frame, and a frame costs more than what is in it.
  void FlushSoon(const boost::asio::any_io_executor& executor);

  /// May requests of the peer be carried out? False while it does not read what it asked for.
  bool accepts() const {
    return answer_bytes_.load(std::memory_order_relaxed) < limits_.max_answer_bytes;
  }

  /// Has the stream ended? Then nobody waits for answers any more, and who asked may have asked
  /// again elsewhere.
  bool ended() const { return ended_.load(std::memory_order_acquire); }

  /// Ends the calls that match, as if the stream had ended for them alone.
  void Abandon(const std::function<bool(const PendingCall&)>& matches, const Status& reason);

  /// Ends calls whose time is over; sends pings; gives up on a silent peer. Now and then.
  void Tick(SteadyTime now);

  /// Ends the stream: OnClosed follows.
  void Close(const Status& reason);

  size_t calls() const { return call_count_.load(std::memory_order_relaxed); }
  size_t queued_bytes() const { return queued_bytes_.load(std::memory_order_relaxed); }
  uint64_t frames_sent() const { return frames_sent_.load(std::memory_order_relaxed); }

 protected:
  Connection(ConnectionEvents* events, ConnectionLimits limits, proto::RoutingHello hello);

  /// Puts our hello before everything else. Once.
  void SayHello();

  // What the stream does. One write at a time.
  /// True: the frame has been taken over, and OnWritten does not follow.
  virtual bool StartWrite(const proto::RoutingFrame* frame) = 0;
  /// Ends the call; OnBroken and OnEnded follow.
  virtual void CancelStream(const Status& reason) = 0;
  /// The same after what was written, and the peer is told why. Where CanRefuse().
  virtual void RefuseStream(const Status& reason) = 0;
  virtual bool CanRefuse() const = 0;

  // What happens on the stream.
  void OnFrame(proto::RoutingFrame* frame);
  void OnWritten();
  /// Nothing more will be read.
  void OnBroken();
  /// The call is over. `status`: as gRPC has it; ok where it does not know.
  void OnEnded(const Status& status);

 private:
  struct Frame {
    proto::RoutingFrame message;
    size_t bytes = 0;
    // Of them. What is neither (pings, cancellations) counts toward no bound.
    size_t request_bytes = 0;
    size_t answer_bytes = 0;
  };
  struct Slot {
    PendingCall* call = nullptr;
    uint32_t generation = 0;
    uint64_t frame = 0;  ///< the number of the frame that carries it
    SteadyTime deadline;
  };

  void WriteOut(Frame* frame);

  // With the lock held.
  proto::RoutingFrame* FrameFor(size_t size);
  Frame* NextToWrite();
  void TakeBack();
  PendingCall* TakeCall(uint64_t id);
  void FreeSlot(size_t index);
  void EndCall(size_t index, const Status& reason, std::vector<PendingCall*>* ended);

  template <class Result>
  void TakeAnswers(google::protobuf::RepeatedPtrField<Result>* results, Resumptions* resumptions);
  Status Meet(const proto::RoutingFrame& frame);
  void Refuse(const Status& reason);

  ConnectionEvents* const events_;
  const ConnectionLimits limits_;
  const proto::RoutingHello hello_;
  std::atomic<uint64_t> peer_{0};
  std::atomic<size_t> call_count_{0};
  std::atomic<size_t> queued_bytes_{0};  ///< of requests
  std::atomic<size_t> answer_bytes_{0};
  std::atomic<uint64_t> frames_sent_{0};
  std::atomic<bool> ended_{false};
  /// The thread whose FlushSoon() is still to come; that of another does not hold up its own.
  std::atomic<std::thread::id> flusher_{};

  std::mutex mutex_;
  // Guarded by mutex_.
  std::deque<std::unique_ptr<Frame>> waiting_;
  std::unique_ptr<Frame> writing_;  ///< with the stream
  std::unique_ptr<Frame> spare_;    ///< written, kept for its memory
  uint64_t frames_started_ = 0;     ///< given to the stream
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  bool said_hello_ = false;
  bool ready_ = false;   ///< the peer's hello is there
  bool broken_ = false;  ///< nothing is written any more
  Status reason_;        ///< why broken
  SteadyTime last_heard_;
  SteadyTime pinged_;  ///< when the last ping that nothing has followed went; or long ago
};

}  // namespace onggi::routing
