#include "common/uuid.h"

#include <sys/random.h>

#include <array>
#include <bit>
#include <cstring>
#include <string_view>

#include "common/check.h"

namespace onggi {
namespace {

void FillRandom(void* out, size_t size) {
  char* at = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t n = getrandom(at, size, 0);
    if (n < 0 && errno == EINTR) continue;
    CHECK(n > 0);
    at += n;
    size -= static_cast<size_t>(n);
  }
}

/// xoshiro256** 1.0 (Blackman and Vigna, 2018).
class Xoshiro {
 public:
  Xoshiro() { FillRandom(state_.data(), sizeof(state_)); }

  uint64_t Next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

 private:
  std::array<uint64_t, 4> state_;
};

Xoshiro& Generator() {
  thread_local Xoshiro generator;
  return generator;
}

// The service's ids are base-32 with the extended hex alphabet; the second half never changes.
constexpr std::string_view kAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUV";
constexpr std::string_view kSuffix = "VV4KQNSO5AEMVJF66Q9ASUAAJG";
constexpr size_t kRandomLength = kRequestIdLength - kSuffix.size();

}  // namespace

uint64_t FastRandom() { return Generator().Next(); }

void NewRequestId(std::string* id) {
  id->resize(kRequestIdLength);
  char* out = id->data();
  Xoshiro& generator = Generator();
  uint64_t bits = 0;
  int left = 0;
  for (size_t i = 0; i < kRandomLength; ++i) {
    if (left == 0) {
      bits = generator.Next();
      left = 12;
    }
    out[i] = kAlphabet[bits & 31];
    bits >>= 5;
    --left;
  }
  std::memcpy(out + kRandomLength, kSuffix.data(), kSuffix.size());
}

std::string NewRequestId() {
  std::string id;
  NewRequestId(&id);
  return id;
}

std::string NewUuid() {
  std::array<uint8_t, 16> bytes;
  FillRandom(bytes.data(), bytes.size());
  bytes[6] = static_cast<uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<uint8_t>((bytes[8] & 0x3f) | 0x80);
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  out.reserve(36);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out.push_back('-');
    out.push_back(kHex[bytes[i] >> 4]);
    out.push_back(kHex[bytes[i] & 15]);
  }
  return out;
}

}  // namespace onggi
