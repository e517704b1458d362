#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/proto/catalog.pb.h"
#include "common/status.h"
#include "replication/metadata/metadata_store.h"

namespace onggi::metadata {

/// What a data directory says about whose it is. A new one says nothing but its disk id.
struct NodeIdentity {
  NodeIdentity() {}
  std::string cluster_id;  ///< empty: never joined any
  NodeId node;             ///< 0: never joined
  std::string disk_id;     ///< random, made with the directory
  /// The processes that may have registered with this directory last, this one included: made
  /// durable before it registers. Empty: not looked at.
  std::vector<uint64_t> boots;
};

/// The outcome of joining: to be made durable in the data directory before anything else is done.
struct Membership {
  Membership() {}
  proto::Cluster cluster;
  proto::Node node;
  Revision node_revision;  ///< mod_revision of the node's key
};

/// Oldest and newest version of the messages between members, and of what is on their disks, that
/// this program knows.
proto::VersionRange SupportedWireVersions();
proto::VersionRange SupportedDiskVersions();

/// kConditionFailed, with both versions in words, unless a program that knows these ones knows what
/// is in force in the cluster. Part of RegisterNode; coordinators, who register nowhere, ask it at
/// their start.
Status CheckInForce(const proto::Cluster& cluster, const proto::VersionRange& wire,
                    const proto::VersionRange& disk);

/// The cluster's record. Where there is none, it is made, unless `expected_id` is not empty: a
/// member of another cluster does not found one. kConditionFailed, with both ids, when it is
/// another cluster than expected.
boost::asio::awaitable<Result<proto::Cluster>> EnsureCluster(MetadataStore& store,
                                                             std::string expected_id,
                                                             const Clock& clock);

/// Registers this process of a node, in one transaction. `description` gives zone, addresses,
/// certificate name, software version, boot and capacity; versions default to what this program
/// supports; the rest is the catalog's.
///
/// A directory that never joined becomes a new node: its id is in the answer. A wiped disk is such
/// a directory: whatever replicas its machine had before are lost with the old node, which is
/// marked DEAD if it had the same rpc address (its replicas are then replaced without delay) and is
/// not alive.
///
/// Refused with kConditionFailed and the reason: the directory is of another cluster; the catalog
/// has no such node, or it was decommissioned; the disk is not the one that the node joined with (a
/// copy, or an old directory); a version in force, or a member's, is not one of ours; another node
/// with this rpc address is alive. Other errors are the store's: ask again.
///
/// Afterwards put the leased key keys::Alive (KeepAlive below).
boost::asio::awaitable<Result<Membership>> RegisterNode(MetadataStore& store, NodeIdentity identity,
                                                        proto::Node description,
                                                        const Clock& clock);

/// The nodes whose leases are held now, but `self`.
boost::asio::awaitable<Result<std::vector<proto::Node>>> LivingMembers(MetadataStore& store,
                                                                       NodeId self);

/// Holds keys::Alive(node) for as long as it runs: grants a lease, puts the key, and begins again
/// whenever the lease is lost. Never returns but by cancellation, which revokes the lease.
boost::asio::awaitable<void> KeepAlive(MetadataStore& store, NodeId node, uint64_t boot,
                                       std::chrono::seconds ttl);

/// How long a dead process still seems alive to the coordinator. Failover does not wait for it.
inline constexpr std::chrono::seconds kNodeLease{10};

}  // namespace onggi::metadata
