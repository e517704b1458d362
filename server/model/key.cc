#include "server/model/key.h"

#include <cassert>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace onggi::model {
namespace {

std::string_view Payload(ValueView value) {
  assert(value.type() == Type::kNumber || value.type() == Type::kString ||
         value.type() == Type::kBinary);
  return value.encoded().substr(1);
}

// A zero byte becomes 00 FF and the end is 00 01, so a string that ends sorts before any that goes
// on.
void AppendEscaped(std::string_view bytes, std::string* out) {
  while (!bytes.empty()) {
    const void* zero = std::memchr(bytes.data(), 0, bytes.size());
    if (zero == nullptr) {
      out->append(bytes);
      break;
    }
    const size_t run = static_cast<const char*>(zero) - bytes.data() + 1;
    out->append(bytes.substr(0, run));
    out->push_back('\xFF');
    bytes.remove_prefix(run);
  }
  out->append("\x00\x01", 2);
}

}  // namespace

uint64_t HashPartitionKey(ValueView partition_key) {
  const std::string_view payload = Payload(partition_key);
  return XXH3_64bits(payload.data(), payload.size());
}

void AppendCollectionPrefix(ValueView partition_key, std::string* out) {
  const uint64_t hash = HashPartitionKey(partition_key);
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(hash >> (56 - 8 * i));
  out->append(bytes, sizeof(bytes));
  AppendTerminated(partition_key, out);
}

void AppendSortKey(ValueView sort_key, std::string* out) { out->append(Payload(sort_key)); }

void AppendTerminated(ValueView value, std::string* out) {
  if (value.type() == Type::kNumber) {
    out->append(Payload(value));  // prefix-free as it is
  } else {
    AppendEscaped(Payload(value), out);
  }
}

std::string EncodeKey(ValueView partition_key, ValueView sort_key) {
  std::string key;
  key.reserve(16 + partition_key.encoded().size() + sort_key.encoded().size());
  AppendCollectionPrefix(partition_key, &key);
  if (sort_key.valid()) AppendSortKey(sort_key, &key);
  return key;
}

}  // namespace onggi::model
