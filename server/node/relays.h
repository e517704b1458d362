#pragma once

#include <atomic>
#include <functional>
#include <utility>

#include "common/status.h"
#include "replication/checkpoint/checkpoint.h"
#include "replication/transport/transport.h"

/// Transport and partitions need each other to be made: the transport is given a relay first, and
/// the partitions are behind it before anything arrives.
namespace onggi::node {

/// Passes what arrives on to `target`, which is set before the transport starts.
class MessageRelay final : public transport::MessageHandler {
 public:
  void SetTarget(transport::MessageHandler* target) { target_.store(target); }

  void OnMessage(NodeId from, uint64_t boot, transport::GroupMessage message) override {
    target()->OnMessage(from, boot, std::move(message));
  }
  void OnMessagesEnd(NodeId from) override { target()->OnMessagesEnd(from); }
  void OnNewerConfiguration(NodeId from, lease::NewerConfiguration newer) override {
    target()->OnNewerConfiguration(from, std::move(newer));
  }
  void OnPeerConnected(NodeId peer, uint64_t boot) override {
    target()->OnPeerConnected(peer, boot);
  }
  void OnPeerLost(NodeId peer) override { target()->OnPeerLost(peer); }

 private:
  transport::MessageHandler* target() const { return target_.load(std::memory_order_acquire); }
  std::atomic<transport::MessageHandler*> target_{nullptr};
};

/// The same for checkpoints.
class CheckpointRelay final : public checkpoint::CheckpointReceiver {
 public:
  void SetTarget(checkpoint::CheckpointReceiver* target) { target_.store(target); }

  Status Accept(const checkpoint::CheckpointInfo& info) override {
    return target_.load()->Accept(info);
  }
  void Install(checkpoint::CheckpointInfo info, std::function<void(Status)> done) override {
    target_.load()->Install(std::move(info), std::move(done));
  }

 private:
  std::atomic<checkpoint::CheckpointReceiver*> target_{nullptr};
};

}  // namespace onggi::node
