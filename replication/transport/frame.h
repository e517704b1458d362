#pragma once

#include <google/protobuf/arena.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/rpc/http2.h"
#include "common/status.h"
#include "replication/transport/transport.h"

namespace onggi::proto::replication {
class FrameHead;
}

/// Frames of the stream between two nodes: proto::replication::Frame, put together and taken apart
/// by hand so that payloads are copied once on each side (large ones only by the receiver).
namespace onggi::transport {

/// Wire versions that this program speaks (docs/formats.md).
inline constexpr uint32_t kMinWireVersion = 1;
inline constexpr uint32_t kMaxWireVersion = 1;

/// First on a stream, from either side.
struct Hello {
  std::string cluster_id;
  NodeId node;
  uint64_t boot = 0;
  uint32_t min_version = 0;
  uint32_t max_version = 0;
  NodeId to;  ///< the node that is meant
  std::string software_version;
};

/// A piece of a frame: `bytes`, which it owns, or an entry's payload, shared.
using FramePiece = rpc::MessagePiece;

/// The sender forgets what configurations the receiver has once a frame begins with this many.
inline constexpr size_t kMaxSentConfigurations = 16'384;

/// Encodes the frames of one stream. One thread at a time.
class FrameWriter {
 public:
  FrameWriter();
  ~FrameWriter();
  FrameWriter(const FrameWriter&) = delete;
  FrameWriter& operator=(const FrameWriter&) = delete;

  void Set(const Hello& hello);
  void SetGoodbye(std::string_view reason);
  void Set(const lease::Heartbeat& heartbeat);
  void Set(const lease::HeartbeatAck& ack);
  void Add(const GroupMessage& message);

  /// What was set and added as one frame, in pieces; the next is empty again. The size of all
  /// pieces goes to `size`.
  std::vector<FramePiece> Finish(size_t* size);

 private:
  void AddAppend(const GroupMessage& message, const Append& append);

  google::protobuf::Arena arena_;
  proto::replication::FrameHead* head_;
  std::vector<Entry> entries_;  ///< whose payloads follow the head
  size_t payload_bytes_ = 0;
  /// What the receiver has of each partition: held, so that an equal pointer is the same.
  std::unordered_map<PartitionId, std::shared_ptr<const group::Configuration>> sent_;
};

/// What one frame brought, in the order in which it is to be taken in.
struct FrameContent {
  std::optional<Hello> hello;
  std::optional<std::string> goodbye;
  std::optional<lease::HeartbeatAck> heartbeat_ack;
  std::optional<lease::Heartbeat> heartbeat;
  std::vector<GroupMessage> messages;
};

/// Decodes the frames of one stream. One thread at a time.
class FrameReader {
 public:
  /// Of the stream from `peer` to `self`.
  FrameReader(NodeId self, NodeId peer) : self_(self), peer_(peer) {}
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;

  /// kCorruption for bytes that are no frame, or say what no replica says; the stream is to be
  /// closed then. `content` is replaced, and keeps no reference to `frame`.
  Status Read(std::string_view frame, FrameContent* content);

  void set_peer(NodeId peer) { peer_ = peer; }

 private:
  /// More than a sender can have sent before it makes both sides forget.
  static constexpr size_t kMaxConfigurations = 4 * kMaxSentConfigurations;

  const NodeId self_;
  NodeId peer_;
  google::protobuf::Arena arena_;
  std::unordered_map<PartitionId, std::shared_ptr<const group::Configuration>> received_;
};

}  // namespace onggi::transport
