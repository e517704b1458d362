#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "replication/group/messages.h"
#include "replication/lease/node_leases.h"

/// Messages between the nodes of a cluster: what the replicas of all partitions say to each other.
namespace onggi::transport {

/// Bytes of a log entry, shared: sending them to two peers copies them nowhere.
using Payload = std::shared_ptr<const std::string>;

/// One entry of an Append; its index and epoch follow from the message's.
struct Entry {
  uint8_t type = 0;
  Payload payload;  ///< null is empty
};

/// `entries` are those of (message.previous.index, message.last], one for each.
struct Append {
  group::AppendMessage message;
  std::vector<Entry> entries;
};

struct GroupMessage {
  TableId table;
  PartitionId partition;
  /// The replica that is meant; a node that has another one of the partition drops the message.
  ReplicaId to;
  std::variant<Append, group::AckMessage, group::ResignMessage, group::CreateMessage,
               group::CreatedMessage>
      body;
};

/// Bytes that a message counts toward the bound of its peer's queue.
size_t QueuedBytes(const GroupMessage& message);

/// Another node, as the registry has it.
struct Peer {
  Peer() = default;
  Peer(std::string endpoint_, std::string certificate_name_)
      : endpoint(std::move(endpoint_)), certificate_name(std::move(certificate_name_)) {}
  std::string endpoint;          ///< "host:port" of its gRPC server
  std::string certificate_name;  ///< that its certificate must carry; empty: the endpoint's host
  bool operator==(const Peer&) const = default;
};

/// Told what arrives. Called on transport threads, for one peer one call at a time and in this
/// order: OnPeerConnected, what arrives over that connection, OnPeerLost. Be quick, post to your
/// own executor; Send() may be called from here, SetPeers() may not.
class MessageHandler {
 public:
  virtual ~MessageHandler() = default;

  /// A message of the process `boot` of node `from`.
  virtual void OnMessage(NodeId from, uint64_t boot, GroupMessage message) = 0;
  /// What one frame brought has been handed over: a chance to post it together.
  virtual void OnMessagesEnd(NodeId /*from*/) {}
  /// An acknowledgement of a heartbeat said so (R5): for the partition's replica, if there is one.
  /// Its lease is fenced already.
  virtual void OnNewerConfiguration(NodeId from, lease::NewerConfiguration newer) = 0;
  /// A connection was made: whatever was under way over an earlier one is lost.
  virtual void OnPeerConnected(NodeId peer, uint64_t boot) = 0;
  /// The connection closed, the peer fell silent, or its lease lapsed (R4). It is being dialed
  /// again.
  virtual void OnPeerLost(NodeId peer) = 0;
};

/// Carries messages to other nodes. Thread-safe.
class Transport {
 public:
  virtual ~Transport() = default;

  /// Queues a message, in order with those before it, except that acknowledgements (all but
  /// Appends) overtake Appends. Never blocks. False, and the message is dropped: the peer is not
  /// connected, or its queue is at its bound (Appends only), or `boot` is not 0 and the peer's
  /// process is another one. True says only that it was queued: a connection that breaks loses what
  /// it had, and the handler hears of it.
  virtual bool Send(NodeId to, GroupMessage message, uint64_t boot = 0) = 0;

  virtual bool Connected(NodeId peer) const = 0;
  /// The process that the peer is connected as; 0: not connected.
  virtual uint64_t Boot(NodeId peer) const = 0;

  /// The nodes to keep connected, this one left out or not; replaces those before. Connections to
  /// nodes that are gone, or whose endpoint or name has changed, are closed. Not from a handler.
  virtual void SetPeers(std::map<NodeId, Peer> peers) = 0;
};

}  // namespace onggi::transport
