#include <algorithm>
#include <utility>

#include "common/log.h"
#include "replication/replica/replica.h"

// Replica: what it sends, from the window, from the log or as a checkpoint.

namespace onggi::replica {

namespace {

/// A stream without news for this long begins again where the group says.
constexpr auto kStreamTimeout = std::chrono::seconds(1);
constexpr auto kReadRetryInterval = std::chrono::milliseconds(50);
constexpr auto kMinCheckpointRetry = std::chrono::milliseconds(500);
// A partition may be waiting for just this learner.
constexpr auto kMaxCheckpointRetry = std::chrono::milliseconds(2'000);

}  // namespace

void Replica::Do(const group::SendAppend& action) {
  if (options_.transport == nullptr) return;
  Peer& peer = peers_[action.to];
  if (peer.epoch != action.message.epoch) {
    peer.epoch = action.message.epoch;
    peer.match = LogIndex();
    peer.stream.reset();
  }
  peer.round = action.message.round;
  if (peer.stream == nullptr && action.message.previous.index >= log_base_ &&
      LogIndex(action.message.previous.index.value + 1) >= window_.first()) {
    SendFromWindow(action.to, action.message);
    return;
  }
  StreamAppend(action.to, &peer, action.message);
}

bool Replica::SendMessage(const group::Member& to, transport::GroupMessage message, uint64_t boot) {
  if (options_.transport == nullptr) return false;
  message.table = options_.table;
  message.partition = id_;
  message.to = to.replica;
  return options_.transport->Send(to.node, std::move(message), boot);
}

bool Replica::SendPart(const group::Member& to, group::AppendMessage message,
                       std::vector<transport::Entry> entries) {
  transport::Append append;
  append.message = std::move(message);
  append.entries = std::move(entries);
  transport::GroupMessage out;
  out.body = std::move(append);
  if (SendMessage(to, std::move(out))) return true;
  // A reign that begins may not know yet who is gone.
  if (!options_.transport->Connected(to.node)) Step(group::PeerLost{to});
  return false;
}

void Replica::Do(const group::SendAck& action) {
  transport::GroupMessage out;
  out.body = action.message;
  SendMessage(action.to, std::move(out));
}

void Replica::Do(const group::SendResign& action) {
  transport::GroupMessage out;
  out.body = action.message;
  SendMessage(action.to, std::move(out));
}

void Replica::Do(const group::SendCreate& action) {
  transport::GroupMessage out;
  out.body = action.message;
  SendMessage(action.message.to, std::move(out));
}

/// All at once: what the window holds is bounded, and what a connection does not take, the group
/// sends again.
void Replica::SendFromWindow(const group::Member& to, group::AppendMessage message) {
  for (;;) {
    std::vector<transport::Entry> entries;
    size_t bytes = 0;
    LogIndex index = message.previous.index;
    while (index < message.last) {
      Window::Entry& entry = window_.At(LogIndex(index.value + 1));
      if (!entries.empty() && bytes + entry.payload.size() > options_.max_message_bytes) break;
      bytes += entry.payload.size();
      entries.push_back({entry.type, entry.payload.Share()});
      ++index.value;
    }
    if (index == message.last) {
      SendPart(to, std::move(message), std::move(entries));
      return;
    }
    group::AppendMessage rest = group::SplitAppend(&message, index);
    if (!SendPart(to, std::move(message), std::move(entries))) return;
    message = std::move(rest);
  }
}

// From the log. -----------------------------------------------------------------------------------

/// A member that is behind is sent the log a read at a time, as it acknowledges. The group sees one
/// Append, and sends it again while the stream still runs: then the stream goes on, unless it has
/// had no news for a while.
void Replica::StreamAppend(const group::Member& to, Peer* peer, group::AppendMessage message) {
  const BootTime now = home_.Now();
  if (peer->stream != nullptr && now - peer->stream->progress < kStreamTimeout) {
    group::AppendMessage& current = peer->stream->message;
    const LogIndex sent = current.previous.index;
    if (message.last <= sent) return;
    if (message.previous.index < sent) {
      current = group::SplitAppend(&message, sent);
    } else if (message.previous.index == sent) {
      current = std::move(message);
    } else if (message.last > current.last) {
      // What follows what is still to be sent.
      if (message.previous.index > current.last) return;  // sent again later
      if (message.previous.index < current.last) {
        message = group::SplitAppend(&message, current.last);
      }
      auto from = message.runs.begin();
      if (!current.runs.empty() && !message.runs.empty() &&
          current.runs.back().epoch == from->epoch) {
        ++from;
      }
      current.runs.insert(current.runs.end(), from, message.runs.end());
      current.last = message.last;
      current.commit = message.commit;
      current.report_applied = message.report_applied;
      current.round = message.round;
    }
  } else {
    const bool reading = peer->stream != nullptr && peer->stream->reading;
    peer->stream = std::make_unique<Stream>();
    peer->stream->message = std::move(message);
    peer->stream->reading = reading;
    peer->stream->progress = now;
  }
  PumpStream(to);
}

void Replica::PumpStream(const group::Member& to) {
  const auto found = peers_.find(to);
  if (found == peers_.end() || found->second.stream == nullptr) return;
  Stream& stream = *found->second.stream;
  if (stream.reading || stream.unacknowledged_bytes >= options_.max_stream_bytes) return;
  const LogIndex from(stream.message.previous.index.value + 1);
  if (stream.message.previous.index == stream.message.last || from >= window_.first()) {
    // The rest is in memory.
    group::AppendMessage message = std::move(stream.message);
    found->second.stream.reset();
    SendFromWindow(to, std::move(message));
    return;
  }
  stream.reading = true;
  const Epoch epoch = stream.message.epoch;
  auto read = std::make_shared<Result<std::vector<log::Entry>>>(std::vector<log::Entry>());
  const bool submitted =
      Block([this, from, read] { *read = log_.Read(id_, from, options_.max_message_bytes); },
            [this, to, epoch, from, read] { OnStreamRead(to, epoch, from, std::move(*read)); });
  if (submitted) return;
  home_.PostAfter(kReadRetryInterval, [self = shared_from_this(), to] {
    const auto peer = self->peers_.find(to);
    if (self->stopped_ || peer == self->peers_.end() || peer->second.stream == nullptr) return;
    peer->second.stream->reading = false;
    self->PumpStream(to);
  });
}

void Replica::OnStreamRead(const group::Member& to, Epoch epoch, LogIndex from,
                           Result<std::vector<log::Entry>> read) {
  const auto found = peers_.find(to);
  if (stopped_ || found == peers_.end() || found->second.stream == nullptr) return;
  Stream& stream = *found->second.stream;
  stream.reading = false;
  if (stream.message.epoch != epoch || stream.message.previous.index.value + 1 != from.value) {
    PumpStream(to);  // it has begun again meanwhile
    return;
  }
  if (!read.ok() || read->empty()) {
    // Cut since; the group sends again, and finds that it takes a checkpoint.
    found->second.stream.reset();
    return;
  }
  std::vector<transport::Entry> entries;
  size_t bytes = 0;
  LogIndex last = stream.message.previous.index;
  for (log::Entry& entry : *read) {
    if (entry.index > stream.message.last) break;
    // A suffix that was dropped and written anew between: the message says what was meant.
    if (entry.epoch != group_.EpochAt(entry.index)) break;
    last = entry.index;
    bytes += entry.payload.size();
    entries.push_back({entry.type, std::make_shared<const std::string>(std::move(entry.payload))});
  }
  if (entries.empty()) {
    found->second.stream.reset();
    return;
  }
  group::AppendMessage part = stream.message;
  if (last < part.last) {
    stream.message = group::SplitAppend(&part, last);
  } else {
    stream.message.previous = {group_.EpochAt(last), last};
    stream.message.runs.clear();
  }
  stream.unacknowledged.emplace_back(last, bytes);
  stream.unacknowledged_bytes += bytes;
  stream.progress = home_.Now();
  const bool done = stream.message.previous.index == stream.message.last;
  if (!SendPart(to, std::move(part), std::move(entries)) || done) {
    if (const auto again = peers_.find(to); again != peers_.end()) again->second.stream.reset();
    return;
  }
  PumpStream(to);
}

void Replica::OnAck(const group::AckMessage& ack) {
  const auto found = peers_.find(ack.from);
  if (found == peers_.end() || ack.epoch != found->second.epoch) return;
  Peer& peer = found->second;
  if (ack.kind == group::AckMessage::Kind::kMissing) {
    // As the group has it: what is sent now was not what found something missing.
    if (ack.round == 0 || ack.round >= peer.round) peer.stream.reset();
    return;
  }
  if (ack.kind != group::AckMessage::Kind::kMatch) return;
  if (ack.index > peer.match) peer.match = ack.index;
  if (peer.stream == nullptr) return;
  Stream& stream = *peer.stream;
  while (!stream.unacknowledged.empty() && stream.unacknowledged.front().first <= ack.index) {
    stream.unacknowledged_bytes -= stream.unacknowledged.front().second;
    stream.unacknowledged.pop_front();
    stream.progress = home_.Now();
  }
}

// Checkpoints. ------------------------------------------------------------------------------------

void Replica::Do(const group::NeedsCheckpoint& action) {
  if (options_.checkpoints == nullptr) return;
  Peer& peer = peers_[action.to];
  peer.stream.reset();
  if (peer.checkpoint) return;
  peer.checkpoint = true;
  MakeCheckpoint(action.to);
}

void Replica::MakeCheckpoint(const group::Member& to) {
  if (stopped_) return;
  const Epoch epoch = group_.append_epoch();
  std::string directory = options_.checkpoint_directory + "/" + id_.ToString() + "-" +
                          to.replica.ToString() + "-" + epoch.ToString();
  auto position = std::make_shared<Result<LogPosition>>(LogPosition());
  const bool submitted =
      Block([this, directory, position] { *position = machine_->MakeCheckpoint(directory); },
            [this, to, epoch, directory, position] {
              OnCheckpointMade(to, epoch, directory, *position);
            });
  if (!submitted) {
    OnCheckpointSent(to, std::string(), LogPosition(), Unavailable("the disk has too much queued"));
  }
}

void Replica::OnCheckpointMade(const group::Member& to, Epoch epoch, std::string directory,
                               Result<LogPosition> position) {
  const auto peer = peers_.find(to);
  if (stopped_ || peer == peers_.end() || epoch != group_.append_epoch()) {
    OnCheckpointSent(to, std::move(directory), LogPosition(), Unavailable("the reign has ended"));
    return;
  }
  if (!position.ok()) {
    OnCheckpointSent(to, std::move(directory), LogPosition(), position.status());
    return;
  }
  peer->second.checkpoint_index = position->index;  // the log stays from here on
  auto done = [self = shared_from_this(), to, directory, at = *position](const Status& status) {
    self->home_.Post(
        [self, to, directory, at, status] { self->OnCheckpointSent(to, directory, at, status); });
  };
  options_.checkpoints->Send(to, options_.table, id_, epoch, directory, *position, std::move(done));
}

void Replica::OnCheckpointSent(const group::Member& to, std::string directory, LogPosition position,
                               const Status& status) {
  if (!directory.empty()) {
    // Not dropped now, it is replaced by the next, or goes with the next start.
    if (!stopped_) (void)Block([this, directory] { machine_->DropCheckpoint(directory); }, [] {});
  }
  const auto found = peers_.find(to);
  if (stopped_ || found == peers_.end() || !found->second.checkpoint) return;
  Peer& peer = found->second;
  if (status.ok()) {
    peer.checkpoint = false;
    peer.checkpoint_failures = 0;
    Step(group::CheckpointSent{to, position});
    return;
  }
  log::Warn("a checkpoint did not arrive", "partition", id_, "node", to.node, "status", status);
  peer.checkpoint_index = LogIndex();
  auto delay = kMinCheckpointRetry * (1 << std::min(peer.checkpoint_failures++, 6));
  delay = std::min(delay, kMaxCheckpointRetry);
  home_.PostAfter(delay, [self = shared_from_this(), to] {
    const auto again = self->peers_.find(to);
    if (self->stopped_ || again == self->peers_.end() || !again->second.checkpoint) return;
    if (self->group_.configuration().Names(to)) {
      self->MakeCheckpoint(to);
    } else {
      self->peers_.erase(again);
    }
  });
}

}  // namespace onggi::replica
