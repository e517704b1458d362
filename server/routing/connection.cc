#include "server/routing/connection.h"

#include <algorithm>
#include <boost/asio/post.hpp>

namespace onggi::routing {
namespace {

/// A frame that has grown beyond this gives its memory back.
constexpr size_t kKeptFrameBytes = size_t{256} << 10;

uint32_t MillisecondsLeft(SteadyTime deadline, SteadyTime now) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(left, 1, 3'600'000));
}

/// A call's id is its slot and how often the slot was used before.
uint64_t IdOf(size_t index, uint32_t generation) {
  return (uint64_t{generation} << 32 | index) + 1;
}

}  // namespace

Connection::Connection(ConnectionEvents* events, ConnectionLimits limits, proto::RoutingHello hello)
    : events_(events),
      limits_(limits),
      hello_(std::move(hello)),
      last_heard_(std::chrono::steady_clock::now()) {}

// -- Sending. ---------------------------------------------------------------------------------

proto::RoutingFrame* Connection::FrameFor(size_t size) {
  if (waiting_.empty() ||
      (waiting_.back()->bytes > 0 && waiting_.back()->bytes + size > limits_.max_frame_bytes)) {
    waiting_.push_back(spare_ != nullptr ? std::move(spare_) : std::make_unique<Frame>());
  }
  waiting_.back()->bytes += size;
  return &waiting_.back()->message;
}

Connection::Frame* Connection::NextToWrite() {
  if (writing_ != nullptr || broken_ || waiting_.empty()) return nullptr;
  writing_ = std::move(waiting_.front());
  waiting_.pop_front();
  ++frames_started_;
  frames_sent_.store(frames_started_, std::memory_order_relaxed);
  queued_bytes_.fetch_sub(writing_->request_bytes, std::memory_order_relaxed);
  answer_bytes_.fetch_sub(writing_->answer_bytes, std::memory_order_relaxed);
  return writing_.get();
}

void Connection::SayHello() {
  std::lock_guard lock(mutex_);
  if (said_hello_ || broken_) return;
  said_hello_ = true;
  auto frame = std::make_unique<Frame>();
  *frame->message.mutable_hello() = hello_;
  waiting_.push_front(std::move(frame));
}

void Connection::Flush() {
  Frame* frame;
  {
    std::lock_guard lock(mutex_);
    frame = NextToWrite();
  }
  WriteOut(frame);
}

/// Frame after frame, for as long as the stream takes them at once.
void Connection::WriteOut(Frame* frame) {
  while (frame != nullptr && StartWrite(&frame->message)) {
    std::lock_guard lock(mutex_);
    TakeBack();
    frame = NextToWrite();
  }
}

void Connection::FlushSoon(const boost::asio::any_io_executor& executor) {
  const std::thread::id self = std::this_thread::get_id();
  if (flusher_.exchange(self) == self) return;
  boost::asio::post(executor, [connection = shared_from_this(), self] {
    std::thread::id due = self;
    connection->flusher_.compare_exchange_strong(due, std::thread::id());
    connection->Flush();
  });
}

void Connection::TakeBack() {
  std::unique_ptr<Frame> written = std::move(writing_);
  if (written->bytes > kKeptFrameBytes || spare_ != nullptr) return;
  written->message.Clear();
  written->bytes = written->request_bytes = written->answer_bytes = 0;
  spare_ = std::move(written);
}

void Connection::OnWritten() {
  Frame* next;
  {
    std::lock_guard lock(mutex_);
    TakeBack();
    next = NextToWrite();
  }
  WriteOut(next);
}

void Connection::Start(PendingCall* call, SteadyTime now) {
  const size_t size = call->Size();
  {
    std::lock_guard lock(mutex_);
    if (broken_ || !ready_) {
      call->status = Unavailable("not connected to node " + peer().ToString());
    } else if (queued_bytes() + size > limits_.max_queued_bytes || calls() >= limits_.max_calls) {
      call->status = {Code::kResourceExhausted,
                      "too many requests are waiting for node " + peer().ToString()};
    } else {
      size_t index;
      if (free_slots_.empty()) {
        index = slots_.size();
        slots_.emplace_back();
      } else {
        index = free_slots_.back();
        free_slots_.pop_back();
      }
      if (call_count_.fetch_add(1, std::memory_order_relaxed) == 0) {
        last_heard_ = std::max(last_heard_, now);  // nothing was due before
      }
      Slot& slot = slots_[index];
      slot.call = call;
      slot.deadline = call->deadline;
      call->AddTo(FrameFor(size), IdOf(index, slot.generation),
                  MillisecondsLeft(call->deadline, now));
      waiting_.back()->request_bytes += size;
      queued_bytes_.fetch_add(size, std::memory_order_relaxed);
      slot.frame = frames_started_ + waiting_.size();
      return;
    }
  }
  Resumptions resumptions;
  resumptions.Finish(call->gather);
}

// -- Ends of calls. ---------------------------------------------------------------------------

PendingCall* Connection::TakeCall(uint64_t id) {
  const uint64_t index = (id - 1) & UINT32_MAX;
  if (id == 0 || index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  if (slot.call == nullptr || IdOf(index, slot.generation) != id) return nullptr;
  PendingCall* const call = slot.call;
  FreeSlot(index);
  return call;
}

void Connection::FreeSlot(size_t index) {
  Slot& slot = slots_[index];
  slot.call = nullptr;
  ++slot.generation;
  free_slots_.push_back(static_cast<uint32_t>(index));
  call_count_.fetch_sub(1, std::memory_order_relaxed);
}

void Connection::EndCall(size_t index, const Status& reason, std::vector<PendingCall*>* ended) {
  const Slot& slot = slots_[index];
  PendingCall* const call = slot.call;
  if (slot.frame > frames_started_) {
    call->status = Unavailable(reason.message());  // whatever the reason: it was never sent
  } else {
    call->status = reason;
  }
  ended->push_back(call);
  FreeSlot(index);
}

void Connection::Abandon(const std::function<bool(const PendingCall&)>& matches,
                         const Status& reason) {
  std::vector<PendingCall*> ended;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].call == nullptr || !matches(*slots_[i].call)) continue;
      const uint64_t id = IdOf(i, slots_[i].generation);
      EndCall(i, reason, &ended);
      if (!broken_) FrameFor(10)->add_cancelled(id);
    }
  }
  if (ended.empty()) return;
  {
    Resumptions resumptions;
    for (PendingCall* call : ended) resumptions.Finish(call->gather);
  }
  Flush();
}

void Connection::Tick(SteadyTime now) {
  std::vector<PendingCall*> ended;
  bool give_up = false;
  {
    std::lock_guard lock(mutex_);
    if (broken_) return;
    const Status late(Code::kDeadlineExceeded,
                      "node " + peer().ToString() + " did not answer in time");
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].call == nullptr || slots_[i].deadline > now) continue;
      const uint64_t id = IdOf(i, slots_[i].generation);
      EndCall(i, late, &ended);
      FrameFor(10)->add_cancelled(id);
    }
    if (ready_ && calls() == 0) {
      // Nothing is due.
    } else if (pinged_ > last_heard_) {
      give_up = now - pinged_ > limits_.silence;
    } else if (now - last_heard_ > limits_.silence) {
      pinged_ = now;
      if (said_hello_) FrameFor(10)->set_ping(1);
    }
  }
  {
    Resumptions resumptions;
    for (PendingCall* call : ended) resumptions.Finish(call->gather);
  }
  if (give_up) {
    Close(Unavailable("node " + peer().ToString() + " does not answer"));
  } else {
    Flush();
  }
}

// -- Receiving. -------------------------------------------------------------------------------

template <class Result>
void Connection::TakeAnswers(google::protobuf::RepeatedPtrField<Result>* results,
                             Resumptions* resumptions) {
  if (results->empty()) return;
  thread_local std::vector<PendingCall*> calls;
  calls.clear();
  {
    std::lock_guard lock(mutex_);
    for (const Result& result : *results) calls.push_back(TakeCall(result.id()));
  }
  bool fits = true;
  for (int i = 0; i < results->size(); ++i) {
    PendingCall* const call = calls[static_cast<size_t>(i)];
    if (call == nullptr) continue;  // nobody waits any more
    if (!call->Take(results->Mutable(i))) {
      call->status = {Code::kUnknownOutcome, "an answer that makes no sense"};
      fits = false;
    }
    resumptions->Finish(call->gather);
  }
  if (!fits) Close(Corruption("an answer that makes no sense"));
}

Status Connection::Meet(const proto::RoutingFrame& frame) {
  if (!frame.has_hello()) return {Code::kInvalidArgument, "the first frame has no hello"};
  RETURN_IF_ERROR(events_->OnHello(shared_from_this(), frame.hello()));
  SayHello();
  {
    std::lock_guard lock(mutex_);
    ready_ = true;
    last_heard_ = std::chrono::steady_clock::now();
  }
  Flush();
  events_->OnReady(shared_from_this());
  return Status::Ok();
}

void Connection::OnFrame(proto::RoutingFrame* frame) {
  bool met;
  {
    std::lock_guard lock(mutex_);
    if (broken_) return;
    met = ready_;
    if (calls() > 0) last_heard_ = std::chrono::steady_clock::now();
  }
  if (!met) {
    if (const Status status = Meet(*frame); !status.ok()) Refuse(status);
    return;
  }
  if (frame->ping() != 0) {
    Add(10, [frame](proto::RoutingFrame* out) { out->set_pong(frame->ping()); });
  }
  {
    Resumptions resumptions;
    TakeAnswers(frame->mutable_got(), &resumptions);
    TakeAnswers(frame->mutable_written(), &resumptions);
    TakeAnswers(frame->mutable_read(), &resumptions);
    TakeAnswers(frame->mutable_counted(), &resumptions);
  }
  if (!frame->gets().empty() || !frame->writes().empty() || !frame->pages().empty() ||
      !frame->figures().empty() || !frame->cancelled().empty()) {
    events_->OnRequests(shared_from_this(), frame);
  }
  Flush();
}

// -- The end. ---------------------------------------------------------------------------------

void Connection::Close(const Status& reason) {
  {
    std::lock_guard lock(mutex_);
    if (broken_) return;
    broken_ = true;
    reason_ = reason;
  }
  CancelStream(reason);
}

void Connection::Refuse(const Status& reason) {
  {
    std::lock_guard lock(mutex_);
    if (broken_) return;
    broken_ = true;
    reason_ = reason;
  }
  if (CanRefuse()) {
    RefuseStream(reason);
  } else {
    CancelStream(reason);
  }
}

void Connection::OnBroken() {
  std::vector<PendingCall*> ended;
  {
    std::lock_guard lock(mutex_);
    if (!broken_) reason_ = Unavailable("the connection was lost");
    broken_ = true;
    ended_.store(true, std::memory_order_release);
    const Status lost(Code::kUnknownOutcome,
                      "node " + peer().ToString() + ": " + reason_.message());
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].call != nullptr) EndCall(i, lost, &ended);
    }
    waiting_.clear();
    queued_bytes_.store(0, std::memory_order_relaxed);
    answer_bytes_.store(0, std::memory_order_relaxed);
  }
  Resumptions resumptions;
  for (PendingCall* call : ended) resumptions.Finish(call->gather);
}

void Connection::OnEnded(const Status& status) {
  Status reason;
  {
    std::lock_guard lock(mutex_);
    reason = status.ok() || !reason_.ok() ? reason_ : status;
    // The peer's own words say more than that the connection was lost.
    if (!status.ok() && reason_.message() == "the connection was lost") reason = status;
  }
  events_->OnClosed(shared_from_this(), reason);
}

}  // namespace onggi::routing
