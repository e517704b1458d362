#pragma once

namespace onggi::rpc {

/// Makes gRPC part of this process, once: its errors go to our log, its timers keep to the
/// monotonic clock (KeepSteadyWaits), and the threads that run its callbacks are started and kept
/// until the process ends.
///
/// gRPC (1.51) shares those threads between all channels and servers, ends them with the last one,
/// and now and then aborts while it does (an assertion in grpc_completion_queue_next). Called by
/// everything here that makes either; cheap after the first time. Thread-safe.
void PrepareGrpc();

}  // namespace onggi::rpc
