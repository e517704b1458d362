#include "common/crc32.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace onggi {
namespace internal {
namespace {

constexpr uint32_t kPolynomial = 0xEDB88320;

/// kTables[k][b]: the state after byte b and k zero bytes.
constexpr std::array<std::array<uint32_t, 256>, 8> MakeTables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 255];
    }
  }
  return tables;
}
constexpr auto kTables = MakeTables();

/// Continues from the inverted state.
uint32_t Tables(const char* data, size_t size, uint32_t state) {
  while (size >= 8) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    word ^= state;  // little-endian machines only; checked below
    state = kTables[7][word & 255] ^ kTables[6][(word >> 8) & 255] ^
            kTables[5][(word >> 16) & 255] ^ kTables[4][(word >> 24) & 255] ^
            kTables[3][(word >> 32) & 255] ^ kTables[2][(word >> 40) & 255] ^
            kTables[1][(word >> 48) & 255] ^ kTables[0][word >> 56];
    data += 8;
    size -= 8;
  }
  while (size-- > 0) {
    state = (state >> 8) ^ kTables[0][(state ^ static_cast<unsigned char>(*data++)) & 255];
  }
  return state;
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

#if defined(__x86_64__)

/// x^n mod P in the bit-reflected form that carry-less multiplication of reflected values wants:
/// the product of two reflected numbers comes out shifted by one bit, which the exponents allow
/// for.
consteval int64_t FoldConstant(int exponent) {
  uint32_t remainder = 0x80000000;  // x^0, reflected
  for (int i = 0; i < exponent; ++i) {
    remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? kPolynomial : 0);
  }
  return static_cast<int64_t>(static_cast<uint64_t>(remainder) << 1);
}

__attribute__((target("pclmul,sse4.1"))) inline __m128i Load(const char* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

__attribute__((target("pclmul,sse4.1"))) inline __m128i Fold(__m128i lane, __m128i by) {
  return _mm_xor_si128(_mm_clmulepi64_si128(lane, by, 0x00), _mm_clmulepi64_si128(lane, by, 0x11));
}

/// Bytes in multiples of 16, at least 64. Folds four lanes of 128 bits, then one, and leaves the
/// last 16 bytes to the tables: simpler than Barrett's reduction and as fast for our sizes.
__attribute__((target("pclmul,sse4.1"))) uint32_t Folded(const char* data, size_t size,
                                                         uint32_t state) {
  // A lane is moved ahead by 512 (four lanes) or 128 bits; its high and low halves by 64 bits more
  // or less.
  const __m128i by_512 = _mm_set_epi64x(FoldConstant(512 - 32), FoldConstant(512 + 32));
  const __m128i by_128 = _mm_set_epi64x(FoldConstant(128 - 32), FoldConstant(128 + 32));
  __m128i a = _mm_xor_si128(Load(data), _mm_cvtsi32_si128(static_cast<int>(state)));
  __m128i b = Load(data + 16);
  __m128i c = Load(data + 32);
  __m128i d = Load(data + 48);
  data += 64;
  size -= 64;
  while (size >= 64) {
    a = _mm_xor_si128(Fold(a, by_512), Load(data));
    b = _mm_xor_si128(Fold(b, by_512), Load(data + 16));
    c = _mm_xor_si128(Fold(c, by_512), Load(data + 32));
    d = _mm_xor_si128(Fold(d, by_512), Load(data + 48));
    data += 64;
    size -= 64;
  }
  a = _mm_xor_si128(Fold(a, by_128), b);
  a = _mm_xor_si128(Fold(a, by_128), c);
  a = _mm_xor_si128(Fold(a, by_128), d);
  while (size >= 16) {
    a = _mm_xor_si128(Fold(a, by_128), Load(data));
    data += 16;
    size -= 16;
  }
  alignas(16) char last[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(last), a);
  return Tables(last, sizeof(last), 0);
}

#endif

}  // namespace

uint32_t Crc32Tables(std::string_view data, uint32_t crc) {
  return ~Tables(data.data(), data.size(), ~crc);
}

}  // namespace internal

uint32_t Crc32(std::string_view data, uint32_t crc) {
#if defined(__x86_64__)
  static const bool folds = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  if (folds && data.size() >= 64) {
    const size_t bulk = data.size() & ~size_t{15};
    const uint32_t state = internal::Folded(data.data(), bulk, ~crc);
    return ~internal::Tables(data.data() + bulk, data.size() - bulk, state);
  }
#endif
  return internal::Crc32Tables(data, crc);
}

}  // namespace onggi
