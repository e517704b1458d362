#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/ids.h"
#include "replication/group/configuration.h"

/// What the replicas of a partition say to each other. A transport carries every field as it is,
/// and the partition besides; links may lose, repeat and reorder.
namespace onggi::group {

/// Append of R1. The payloads of (previous.index, last] travel beside it: the group never sees
/// them.
struct AppendMessage {
  Member from;
  Epoch epoch;
  /// The configuration of `epoch` and the key's mod_revision, the receiver's authority.
  std::shared_ptr<const Configuration> configuration;
  Revision revision;
  LogPosition previous;
  LogIndex last;  ///< previous.index: no entries
  /// Epochs of the entries: the first index of each run, ascending. Empty without entries.
  std::vector<LogPosition> runs;
  LogIndex commit;
  /// Not 0: acknowledge again once everything up to here is applied.
  LogIndex report_applied;
  /// How often the sender had gone back, in this epoch, because an entry was missing, from 1 on.
  /// 0: of a version that does not say.
  uint64_t round = 0;
};

/// Answer to an Append.
struct AckMessage {
  enum class Kind : uint8_t {
    kMatch,  ///< `index`: the last entry that an Append of `epoch` verified, durable
    /// The previous entry is not there: go on from `index` (at most). Of no Append (round 0): what
    /// is committed of the entries before `index`?
    kMissing,
    kRefused,  ///< the receiver knows the higher `epoch`: `configuration`
    kRebuild,  ///< the receiver can only go on from a checkpoint
  };
  Kind kind = Kind::kMatch;
  Member from;
  /// Process that acknowledges. A lease of its node counts for the partition only if it comes from
  /// the same one: another process may have forgotten what this one knew.
  uint64_t boot = 0;
  Epoch epoch;
  LogIndex index;
  LogIndex applied;                                    ///< kMatch: applied here
  LogIndex holds;                                      ///< kMatch: what the latest Holds said
  uint64_t round = 0;                                  ///< kMissing: of the Append; 0: of none
  std::shared_ptr<const Configuration> configuration;  ///< kRefused only
  Revision revision;                                   ///< kRefused only
};

/// R11: `from` never acts in `epoch` or below again.
struct ResignMessage {
  Member from;
  Epoch epoch;
};

/// Of a partition that nobody has led: have the replica `to` made, empty and durable, before it is
/// counted on. For the node, which answers CreatedMessage once its disk has it (or had it). Before
/// it makes one, it reads the key, linearizably: only while that is in epoch 0 and names the
/// replica may it be empty. (A node that lost its disk must not put an empty replica in a full
/// one's place; if the key still says epoch 0, nothing that the lost one had can have been
/// committed.)
struct CreateMessage {
  Member from;
  Member to;
  std::shared_ptr<const Configuration> configuration;  ///< epoch 0
  Revision revision;
};
struct CreatedMessage {
  Member from;  ///< the new replica
};

/// Cuts an Append in two before it is sent: `message` keeps the entries through `at`, which lies in
/// [previous.index, last); the rest is returned.
AppendMessage SplitAppend(AppendMessage* message, LogIndex at);

}  // namespace onggi::group
