#pragma once

#include <cstdint>

namespace onggi {

// What nodes and coordinators go by alike.

/// The most that a merge copies, in bytes: both partitions take no writes meanwhile, and a request
/// waits for 10 s at the longest. A node refuses to copy more, and a coordinator does not ask it
/// to.
inline constexpr uint64_t kMergeCopyLimitBytes = uint64_t{128} << 20;

}  // namespace onggi
