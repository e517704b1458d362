#pragma once

#include <cstdint>
#include <string>

namespace onggi {

/// 64 bits from a generator per thread (xoshiro256**, seeded by the operating system). Fast, safe
/// on any thread, not for secrets.
uint64_t FastRandom();

/// Length of a request id.
inline constexpr size_t kRequestIdLength = 52;

/// Replaces `*id` with a new request id in the service's form: 52 characters of A-Z and 0-9. Reuses
/// the string's capacity.
void NewRequestId(std::string* id);
std::string NewRequestId();

/// A random UUID, version 4, lower case: "8c3ae1b2-...", as in table ids. From the operating
/// system's generator.
std::string NewUuid();

}  // namespace onggi
