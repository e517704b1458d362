#include "replication/transport/frame.h"

#include <climits>

#include "common/check.h"
#include "common/proto/replication.pb.h"
#include "common/varint.h"
#include "replication/group/record.h"

namespace onggi::transport {
namespace {

namespace wire = proto::replication;

// Tags of Frame's fields: number << 3 | length-delimited.
constexpr char kHeadTag = 1 << 3 | 2;
constexpr char kPayloadsTag = 2 << 3 | 2;

/// Payloads below this are copied next to each other; a piece of its own costs more.
constexpr size_t kMinSharedPayload = 8 << 10;
/// What a message costs in a frame besides its payloads, roughly.
constexpr size_t kMessageOverhead = 128;
constexpr size_t kEntryOverhead = 8;
/// Names and reasons, which end up in logs.
constexpr size_t kMaxText = 512;

std::string_view Bytes(const Payload& payload) {
  return payload == nullptr ? std::string_view() : std::string_view(*payload);
}

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

void ToWire(const GroupMessage& message, const group::Configuration& configuration,
            proto::PartitionConfig* record) {
  record->set_table(message.table.value);
  record->set_partition(message.partition.value);
  group::ToRecord(configuration, record);
}

std::shared_ptr<const group::Configuration> FromWire(const proto::PartitionConfig& record) {
  return std::make_shared<const group::Configuration>(group::FromRecord(record));
}

wire::Ack::Kind ToWire(group::AckMessage::Kind kind) {
  switch (kind) {
    case group::AckMessage::Kind::kMatch: return wire::Ack::KIND_MATCH;
    case group::AckMessage::Kind::kMissing: return wire::Ack::KIND_MISSING;
    case group::AckMessage::Kind::kRefused: return wire::Ack::KIND_REFUSED;
    case group::AckMessage::Kind::kRebuild: return wire::Ack::KIND_REBUILD;
  }
  return wire::Ack::KIND_UNSPECIFIED;
}

Status Malformed(const char* what) { return Corruption(std::string("frame: ") + what); }

/// Skips a field of a later version.
bool SkipField(uint64_t tag, std::string_view* in) {
  uint64_t value;
  std::string_view bytes;
  switch (tag & 7) {
    case 0: return ReadVarint(in, &value);
    case 1:
    case 5: {
      const size_t size = (tag & 7) == 1 ? 8 : 4;
      if (in->size() < size) return false;
      in->remove_prefix(size);
      return true;
    }
    case 2: return ReadLengthPrefixed(in, &bytes);
    default: return false;
  }
}

/// The group CHECKs what its own code guarantees; what comes from a wire is looked at here.
bool ValidRuns(const group::AppendMessage& message) {
  if (message.last == message.previous.index) return message.runs.empty();
  if (message.runs.empty() ||
      message.runs.front().index.value != message.previous.index.value + 1 ||
      message.runs.front().epoch < message.previous.epoch) {
    return false;
  }
  for (size_t i = 1; i < message.runs.size(); ++i) {
    if (message.runs[i].index <= message.runs[i - 1].index ||
        message.runs[i].epoch <= message.runs[i - 1].epoch) {
      return false;
    }
  }
  return message.runs.back().index <= message.last && message.runs.back().epoch <= message.epoch;
}

/// Takes the entries' payloads from the front of `payloads`.
Status ReadAppend(const wire::Append& in, const group::Member& from,
                  std::shared_ptr<const group::Configuration> configuration,
                  std::string_view* payloads, Append* out) {
  group::AppendMessage& message = out->message;
  message.from = from;
  message.epoch = Epoch(in.epoch());
  message.configuration = std::move(configuration);
  message.revision = Revision(in.revision());
  message.previous = {Epoch(in.previous_epoch()), LogIndex(in.previous_index())};
  message.last = LogIndex(in.last());
  message.commit = LogIndex(in.commit());
  message.report_applied = LogIndex(in.report_applied());
  message.round = in.round();
  if (message.configuration->epoch != message.epoch) return Malformed("configuration's epoch");
  if (message.last < message.previous.index) return Malformed("entries end before they begin");
  const uint64_t count = message.last.value - message.previous.index.value;
  if (in.entry_types().size() != count || static_cast<uint64_t>(in.entry_sizes_size()) != count ||
      in.runs_size() % 2 != 0) {
    return Malformed("number of entries");
  }
  message.runs.reserve(static_cast<size_t>(in.runs_size() / 2));
  for (int i = 0; i < in.runs_size(); i += 2) {
    message.runs.push_back({Epoch(in.runs(i)), LogIndex(in.runs(i + 1))});
  }
  if (!ValidRuns(message)) return Malformed("runs");
  out->entries.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t size = in.entry_sizes(static_cast<int>(i));
    if (size > payloads->size()) return Malformed("payloads are cut short");
    out->entries[i].type = static_cast<uint8_t>(in.entry_types()[i]);
    if (size != 0) {
      out->entries[i].payload = std::make_shared<const std::string>(payloads->substr(0, size));
    }
    payloads->remove_prefix(size);
  }
  return Status::Ok();
}

Status ReadAck(const wire::Ack& in, const group::Member& from, group::AckMessage* out) {
  switch (in.kind()) {
    case wire::Ack::KIND_MATCH: out->kind = group::AckMessage::Kind::kMatch; break;
    case wire::Ack::KIND_MISSING: out->kind = group::AckMessage::Kind::kMissing; break;
    case wire::Ack::KIND_REFUSED:
      out->kind = group::AckMessage::Kind::kRefused;
      if (!in.has_configuration()) return Malformed("refused without a configuration");
      out->configuration = FromWire(in.configuration());
      break;
    case wire::Ack::KIND_REBUILD: out->kind = group::AckMessage::Kind::kRebuild; break;
    default: return Malformed("kind of acknowledgement");
  }
  out->from = from;
  out->boot = in.boot();
  out->epoch = Epoch(in.epoch());
  out->index = LogIndex(in.index());
  out->applied = LogIndex(in.applied());
  out->holds = LogIndex(in.holds());
  out->revision = Revision(in.revision());
  out->round = in.round();
  return Status::Ok();
}

Status ReadHeartbeatAck(const wire::HeartbeatAck& in, NodeId from, lease::HeartbeatAck* out) {
  out->from = from;
  out->boot = in.boot();
  out->to_boot = in.to_boot();
  out->sent_at = lease::BootTime(in.sent_at_ns());
  out->version = in.version();
  out->complete = in.complete();
  out->newer.reserve(static_cast<size_t>(in.newer_size()));
  for (const wire::NewerConfiguration& newer : in.newer()) {
    if (!newer.has_configuration()) return Malformed("an exception without a configuration");
    out->newer.push_back({TableId(newer.configuration().table()),
                          PartitionId(newer.configuration().partition()),
                          FromWire(newer.configuration()), Revision(newer.revision())});
  }
  return Status::Ok();
}

void ReadHello(const wire::Hello& in, Hello* out) {
  out->cluster_id = in.cluster_id().substr(0, kMaxText);
  out->node = NodeId(in.node());
  out->boot = in.boot();
  out->min_version = in.min_version();
  out->max_version = in.max_version();
  out->to = NodeId(in.to_node());
  out->software_version = in.software_version().substr(0, kMaxText);
}

}  // namespace

size_t QueuedBytes(const GroupMessage& message) {
  size_t bytes = kMessageOverhead;
  if (const auto* append = std::get_if<Append>(&message.body)) {
    for (const Entry& entry : append->entries) {
      bytes += kEntryOverhead + Bytes(entry.payload).size();
    }
  }
  return bytes;
}

FrameWriter::FrameWriter()
    : head_(google::protobuf::Arena::CreateMessage<wire::FrameHead>(&arena_)) {}

FrameWriter::~FrameWriter() = default;

void FrameWriter::Set(const Hello& hello) {
  wire::Hello* out = head_->mutable_hello();
  out->set_cluster_id(hello.cluster_id);
  out->set_node(hello.node.value);
  out->set_boot(hello.boot);
  out->set_min_version(hello.min_version);
  out->set_max_version(hello.max_version);
  out->set_to_node(hello.to.value);
  out->set_software_version(hello.software_version);
}

void FrameWriter::SetGoodbye(std::string_view reason) {
  head_->mutable_goodbye()->set_reason(std::string(reason));
}

void FrameWriter::Set(const lease::Heartbeat& heartbeat) {
  wire::Heartbeat* out = head_->mutable_heartbeat();
  out->set_boot(heartbeat.boot);
  out->set_sent_at_ns(heartbeat.sent_at.count());
  out->set_confirmed_boot(heartbeat.confirmed_boot);
  out->set_confirmed(heartbeat.confirmed);
}

void FrameWriter::Set(const lease::HeartbeatAck& ack) {
  wire::HeartbeatAck* out = head_->mutable_heartbeat_ack();
  out->Clear();
  out->set_boot(ack.boot);
  out->set_to_boot(ack.to_boot);
  out->set_sent_at_ns(ack.sent_at.count());
  out->set_version(ack.version);
  out->set_complete(ack.complete);
  for (const lease::NewerConfiguration& newer : ack.newer) {
    wire::NewerConfiguration* added = out->add_newer();
    proto::PartitionConfig* record = added->mutable_configuration();
    record->set_table(newer.table.value);
    record->set_partition(newer.partition.value);
    group::ToRecord(*newer.configuration, record);
    added->set_revision(newer.revision.value);
  }
}

void FrameWriter::AddAppend(const GroupMessage& message, const Append& append) {
  wire::GroupMessage* out = head_->add_messages();
  out->set_table(message.table.value);
  out->set_partition(message.partition.value);
  out->set_to(message.to.value);
  const group::AppendMessage& in = append.message;
  CHECK(in.configuration != nullptr &&
        in.last.value - in.previous.index.value == append.entries.size());
  out->set_from(in.from.replica.value);
  wire::Append* body = out->mutable_append();
  body->set_epoch(in.epoch.value);
  std::shared_ptr<const group::Configuration>& sent = sent_[message.partition];
  if (sent != in.configuration) {
    ToWire(message, *in.configuration, body->mutable_configuration());
    sent = in.configuration;
  }
  body->set_revision(in.revision.value);
  body->set_previous_epoch(in.previous.epoch.value);
  body->set_previous_index(in.previous.index.value);
  body->set_last(in.last.value);
  for (const LogPosition& run : in.runs) {
    body->add_runs(run.epoch.value);
    body->add_runs(run.index.value);
  }
  body->set_commit(in.commit.value);
  body->set_report_applied(in.report_applied.value);
  body->set_round(in.round);
  std::string* types = body->mutable_entry_types();
  types->reserve(append.entries.size());
  for (const Entry& entry : append.entries) {
    types->push_back(static_cast<char>(entry.type));
    const size_t size = Bytes(entry.payload).size();
    body->add_entry_sizes(static_cast<uint32_t>(size));
    payload_bytes_ += size;
    if (size != 0) entries_.push_back(entry);
  }
}

void FrameWriter::Add(const GroupMessage& message) {
  if (const auto* append = std::get_if<Append>(&message.body)) {
    AddAppend(message, *append);
    return;
  }
  wire::GroupMessage* out = head_->add_messages();
  out->set_table(message.table.value);
  out->set_partition(message.partition.value);
  out->set_to(message.to.value);
  std::visit(Overloaded{
                 [](const Append&) {},
                 [&](const group::AckMessage& in) {
                   out->set_from(in.from.replica.value);
                   wire::Ack* body = out->mutable_ack();
                   body->set_kind(ToWire(in.kind));
                   body->set_boot(in.boot);
                   body->set_epoch(in.epoch.value);
                   body->set_index(in.index.value);
                   body->set_applied(in.applied.value);
                   body->set_holds(in.holds.value);
                   if (in.configuration != nullptr) {
                     ToWire(message, *in.configuration, body->mutable_configuration());
                   }
                   body->set_revision(in.revision.value);
                   body->set_round(in.round);
                 },
                 [&](const group::ResignMessage& in) {
                   out->set_from(in.from.replica.value);
                   out->mutable_resign()->set_epoch(in.epoch.value);
                 },
                 [&](const group::CreateMessage& in) {
                   out->set_from(in.from.replica.value);
                   out->set_to(in.to.replica.value);
                   wire::Create* body = out->mutable_create();
                   ToWire(message, *in.configuration, body->mutable_configuration());
                   body->set_revision(in.revision.value);
                 },
                 [&](const group::CreatedMessage& in) {
                   out->set_from(in.from.replica.value);
                   out->mutable_created();
                 },
             },
             message.body);
}

std::vector<FramePiece> FrameWriter::Finish(size_t* size) {
  const size_t head_bytes = head_->ByteSizeLong();
  std::vector<FramePiece> pieces;
  FramePiece piece;
  piece.bytes.reserve(head_bytes + 16 + std::min(payload_bytes_, size_t{64} << 10));
  piece.bytes.push_back(kHeadTag);
  AppendVarint(head_bytes, &piece.bytes);
  CHECK(head_->AppendToString(&piece.bytes));
  if (payload_bytes_ != 0) {
    piece.bytes.push_back(kPayloadsTag);
    AppendVarint(payload_bytes_, &piece.bytes);
  }
  *size = 0;
  for (Entry& entry : entries_) {
    if (entry.payload->size() < kMinSharedPayload) {
      piece.bytes.append(*entry.payload);
      continue;
    }
    if (!piece.bytes.empty()) {
      *size += piece.bytes.size();
      pieces.push_back(std::move(piece));
      piece = FramePiece();
    }
    *size += entry.payload->size();
    piece.payload = std::move(entry.payload);
    pieces.push_back(std::move(piece));
    piece = FramePiece();
  }
  if (!piece.bytes.empty()) {
    *size += piece.bytes.size();
    pieces.push_back(std::move(piece));
  }
  entries_.clear();
  payload_bytes_ = 0;
  arena_.Reset();
  head_ = google::protobuf::Arena::CreateMessage<wire::FrameHead>(&arena_);
  if (sent_.size() >= kMaxSentConfigurations) {
    sent_.clear();
    head_->set_forget_configurations(true);
  }
  return pieces;
}

Status FrameReader::Read(std::string_view frame, FrameContent* content) {
  *content = FrameContent();
  std::string_view head_bytes;
  std::string_view payloads;
  while (!frame.empty()) {
    uint64_t tag;
    if (!ReadVarint(&frame, &tag)) return Malformed("tag");
    bool read;
    if (tag == kHeadTag) {
      read = ReadLengthPrefixed(&frame, &head_bytes);
    } else if (tag == kPayloadsTag) {
      read = ReadLengthPrefixed(&frame, &payloads);
    } else {
      read = SkipField(tag, &frame);
    }
    if (!read) return Malformed("cut short");
  }
  arena_.Reset();
  auto* head = google::protobuf::Arena::CreateMessage<wire::FrameHead>(&arena_);
  if (head_bytes.size() > INT_MAX ||
      !head->ParseFromArray(head_bytes.data(), static_cast<int>(head_bytes.size()))) {
    return Malformed("head");
  }
  if (head->has_hello()) ReadHello(head->hello(), &content->hello.emplace());
  if (head->has_goodbye()) content->goodbye = head->goodbye().reason().substr(0, kMaxText);
  if (head->has_heartbeat_ack()) {
    RETURN_IF_ERROR(
        ReadHeartbeatAck(head->heartbeat_ack(), peer_, &content->heartbeat_ack.emplace()));
  }
  if (head->has_heartbeat()) {
    lease::Heartbeat& heartbeat = content->heartbeat.emplace();
    heartbeat.from = peer_;
    heartbeat.boot = head->heartbeat().boot();
    heartbeat.sent_at = lease::BootTime(head->heartbeat().sent_at_ns());
    heartbeat.confirmed_boot = head->heartbeat().confirmed_boot();
    heartbeat.confirmed = head->heartbeat().confirmed();
  }
  if (head->forget_configurations()) received_.clear();
  content->messages.reserve(static_cast<size_t>(head->messages_size()));
  for (const wire::GroupMessage& in : head->messages()) {
    GroupMessage out;
    out.table = TableId(in.table());
    out.partition = PartitionId(in.partition());
    out.to = ReplicaId(in.to());
    const group::Member from{peer_, ReplicaId(in.from())};
    switch (in.body_case()) {
      case wire::GroupMessage::kAppend: {
        std::shared_ptr<const group::Configuration>& known = received_[out.partition];
        if (in.append().has_configuration()) known = FromWire(in.append().configuration());
        if (known == nullptr) return Malformed("no configuration");
        if (received_.size() > kMaxConfigurations) return Malformed("too many configurations");
        RETURN_IF_ERROR(
            ReadAppend(in.append(), from, known, &payloads, &out.body.emplace<Append>()));
        break;
      }
      case wire::GroupMessage::kAck:
        RETURN_IF_ERROR(ReadAck(in.ack(), from, &out.body.emplace<group::AckMessage>()));
        break;
      case wire::GroupMessage::kResign: {
        auto& resign = out.body.emplace<group::ResignMessage>();
        resign.from = from;
        resign.epoch = Epoch(in.resign().epoch());
        break;
      }
      case wire::GroupMessage::kCreate: {
        if (!in.create().has_configuration()) return Malformed("no configuration");
        auto& create = out.body.emplace<group::CreateMessage>();
        create.from = from;
        create.to = {self_, out.to};
        create.configuration = FromWire(in.create().configuration());
        create.revision = Revision(in.create().revision());
        break;
      }
      case wire::GroupMessage::kCreated:
        out.body.emplace<group::CreatedMessage>().from = from;
        break;
      case wire::GroupMessage::BODY_NOT_SET:
        continue;  // of a later version: the sender does without an answer
    }
    content->messages.push_back(std::move(out));
  }
  if (!payloads.empty()) return Malformed("payloads left over");
  return Status::Ok();
}

}  // namespace onggi::transport
