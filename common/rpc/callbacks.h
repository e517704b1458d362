#pragma once

namespace onggi::rpc {

/// Starts the threads that run gRPC's callbacks, and keeps them until the process ends.
///
/// gRPC (1.51) shares them between all channels and servers, ends them with the last one, and now
/// and then aborts while it does (an assertion in grpc_completion_queue_next). Called by
/// everything here that makes either; cheap after the first time. Thread-safe.
void KeepCallbackThreads();

}  // namespace onggi::rpc
