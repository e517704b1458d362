#pragma once

#include <cstdint>
#include <string_view>

namespace onggi {

/// CRC-32 (IEEE 802.3, reflected polynomial 0xEDB88320, as zlib's crc32) of `data`, continuing from
/// `crc` (0 to begin). As X-Amz-Crc32 carries it. Uses carry-less multiplication where the
/// processor has it (Gopal et al., "Fast CRC Computation Using PCLMULQDQ", Intel 2009), otherwise
/// eight tables.
uint32_t Crc32(std::string_view data, uint32_t crc = 0);

namespace internal {
/// The table version alone, for tests and other processors.
uint32_t Crc32Tables(std::string_view data, uint32_t crc);
}  // namespace internal

}  // namespace onggi
