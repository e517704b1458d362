#pragma once

#include <cstdint>

/// Mistakes that the simulator makes on purpose, to see whether its checks would notice them. They
/// exist only where ONGGI_MUTATIONS is defined (tests/simulation compiles these sources once more);
/// everywhere else Mutated() is the constant false.
namespace onggi::group {

enum class Mutation : uint8_t {
  kNone,
  kCommitWithoutOne,       ///< R2: one member's acknowledgement is not waited for
  kAddBeforeMatch,         ///< R3: a replica is added that has not caught up
  kServeWithoutLease,      ///< R5: strong reads look at no lease
  kForgetPromises,         ///< R5, R7: no promise and no restart wait is waited out
  kSkipEpochStart,         ///< R7: serves before the epoch-start entry
  kAddAtCommit,            ///< R3: matches the commit index, not the epoch start
  kAcknowledgeBeforeSync,  ///< R1
  kAcknowledgeLast,        ///< R1: the last index instead of the match
  kCommitWithoutClamp,     ///< R2: a backup's commit index is what the primary sent
  kSettleByReading,        ///< R3: an unchanged key settles an unknown swap
  kResumeReign,            ///< R7: a restarted process leads on
  kLeaseWithoutEpoch,      ///< R5: acknowledgements except no partition
  kLeaseOfAnotherProcess,  ///< R5: a lease counts whoever of the node gave it
  kServeAfterGivingUp,     ///< R8, R11: strong reads go on after a transfer or a resignation
  kShrinkBelowMinimum,     ///< R4
  kSplitBeforeHeld,        ///< R13: the child is named before every replica has it
  kMergeBeforeHeld,        ///< R14: the range grows before every replica has the data
  kThawWithoutEpoch,       ///< R14: a grant is taken back without a new epoch
  // Of server/partition, over the shipped stores.
  kForgetRequests,   ///< R12: a new reign does not know what was applied before it
  kIgnoreLatch,      ///< a write is evaluated against the store, whatever is on its way
  kCutUnflushedLog,  ///< the log is cut behind what is applied, not what is on the disk
  kChildUnflushed,   ///< R13: a child counts as made before it is durable
  kAdmitPastSplit,   ///< R13: writes past a split's key are admitted when it is proposed
  kSkipOnRecovery,   ///< R9: the first entry behind the state is not applied again
};

#ifdef ONGGI_MUTATIONS
inline Mutation active_mutation = Mutation::kNone;
inline bool Mutated(Mutation mutation) { return active_mutation == mutation; }
#else
constexpr bool Mutated(Mutation) { return false; }
#endif

}  // namespace onggi::group
