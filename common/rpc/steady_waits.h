#pragma once

namespace onggi::rpc {

/// Makes gRPC's timers keep to the monotonic clock, in every program that calls this.
///
/// Abseil before its release of August 2023 turns the time that a wait on a condition variable has
/// left into a moment of the wall clock, and gRPC's threads wait so (grpc/grpc#32176). When the
/// wall clock is put back by an hour, they wait for an hour too long: no deadline of a call passes,
/// no dead connection is noticed, no completion queue returns in time. With newer libraries this
/// does nothing.
///
/// Thread-safe, cheap.
void KeepSteadyWaits();

}  // namespace onggi::rpc
