#include <simdjson.h>

#include "server/model/encoding.h"
#include "server/model/value.h"

namespace onggi::model {
namespace {

using internal::LoadOffset;
using internal::OffsetWidth;
using internal::TakeVarintChecked;

bool IsUtf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

Status Damaged(const char* what) { return Corruption(std::string("malformed item: ") + what); }

Status CheckValue(std::string_view encoded, int levels);

Status CheckNumber(std::string_view encoded) {
  return Number::IsValidEncoding(encoded) ? Status::Ok() : Damaged("number");
}

Status CheckSet(Type type, std::string_view payload) {
  uint32_t count;
  if (!TakeVarintChecked(&payload, &count) || count == 0) return Damaged("set count");
  std::string_view previous;
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t size;
    if (!TakeVarintChecked(&payload, &size) || size > payload.size()) {
      return Damaged("set element size");
    }
    const std::string_view element = payload.substr(0, size);
    payload.remove_prefix(size);
    if (i > 0 && element <= previous) return Damaged("set order");
    if (type == Type::kNumberSet) RETURN_IF_ERROR(CheckNumber(element));
    if (type == Type::kStringSet && !IsUtf8(element)) return Damaged("set element is not UTF-8");
    previous = element;
  }
  return payload.empty() ? Status::Ok() : Damaged("bytes after a set");
}

// The directory in front of a list's or map's contents: canonical, and every element inside.
struct Directory {
  uint32_t count = 0;
  uint8_t width = 0;
  const char* offsets = nullptr;
  std::string_view contents;

  std::string_view At(uint32_t index) const {
    const uint32_t start = LoadOffset(offsets, width, index);
    const size_t end = index + 1 < count ? LoadOffset(offsets, width, index + 1) : contents.size();
    return contents.substr(start, end - start);
  }
};

Status ReadDirectory(std::string_view payload, Directory* directory) {
  if (!TakeVarintChecked(&payload, &directory->count)) return Damaged("directory count");
  if (directory->count == 0) {
    return payload.empty() ? Status::Ok() : Damaged("bytes after an empty directory");
  }
  if (payload.empty()) return Damaged("directory width");
  const auto width = static_cast<uint8_t>(payload[0]);
  payload.remove_prefix(1);
  if (width != 1 && width != 2 && width != 4) return Damaged("directory width");
  const uint64_t size = uint64_t{directory->count} * width;
  if (size > payload.size()) return Damaged("directory size");
  directory->width = width;
  directory->offsets = payload.data();
  directory->contents = payload.substr(size);
  if (directory->contents.size() > UINT32_MAX) return Damaged("directory size");
  uint32_t previous = 0;
  for (uint32_t i = 0; i < directory->count; ++i) {
    const uint32_t offset = LoadOffset(directory->offsets, width, i);
    if (i == 0 ? offset != 0 : offset <= previous) return Damaged("directory order");
    previous = offset;
  }
  if (previous >= directory->contents.size()) return Damaged("directory end");
  if (width != OffsetWidth(previous)) return Damaged("directory width");
  return Status::Ok();
}

Status CheckList(std::string_view payload, int levels) {
  Directory directory;
  RETURN_IF_ERROR(ReadDirectory(payload, &directory));
  for (uint32_t i = 0; i < directory.count; ++i) {
    RETURN_IF_ERROR(CheckValue(directory.At(i), levels));
  }
  return Status::Ok();
}

Status CheckMap(std::string_view payload, int levels) {
  Directory directory;
  RETURN_IF_ERROR(ReadDirectory(payload, &directory));
  std::string_view previous;
  for (uint32_t i = 0; i < directory.count; ++i) {
    std::string_view entry = directory.At(i);
    uint32_t name_size;
    if (!TakeVarintChecked(&entry, &name_size) || name_size > entry.size()) {
      return Damaged("name size");
    }
    const std::string_view name = entry.substr(0, name_size);
    if (name.empty() || name.size() > kMaxAttributeNameSize) return Damaged("name size");
    if (name <= previous) return Damaged("name order");
    if (!IsUtf8(name)) return Damaged("name is not UTF-8");
    RETURN_IF_ERROR(CheckValue(entry.substr(name_size), levels));
    previous = name;
  }
  return Status::Ok();
}

// `levels` is how many levels of lists and maps may still open: the bound of the recursion.
Status CheckValue(std::string_view encoded, int levels) {
  if (encoded.empty()) return Damaged("empty value");
  const std::string_view payload = encoded.substr(1);
  const auto type = static_cast<Type>(encoded[0]);
  switch (type) {
    case Type::kNull: return payload.empty() ? Status::Ok() : Damaged("null");
    case Type::kBool:
      return payload.size() == 1 && static_cast<uint8_t>(payload[0]) <= 1 ? Status::Ok()
                                                                          : Damaged("bool");
    case Type::kNumber: return CheckNumber(payload);
    case Type::kString: return IsUtf8(payload) ? Status::Ok() : Damaged("string is not UTF-8");
    case Type::kBinary: return Status::Ok();
    case Type::kStringSet:
    case Type::kNumberSet:
    case Type::kBinarySet: return CheckSet(type, payload);
    case Type::kList: return levels > 0 ? CheckList(payload, levels - 1) : Damaged("nesting");
    case Type::kMap: return levels > 0 ? CheckMap(payload, levels - 1) : Damaged("nesting");
  }
  return Damaged("type");
}

}  // namespace

Status ValidateItem(std::string_view encoded) {
  if (encoded.empty()) return Damaged("empty");
  if (static_cast<uint8_t>(encoded[0]) != kItemFormat) {
    return Corruption("item has format " + std::to_string(static_cast<uint8_t>(encoded[0])) +
                      ", this program knows format " + std::to_string(kItemFormat));
  }
  return CheckMap(encoded.substr(1), kMaxNesting - 1);
}

Status ValidateValue(std::string_view encoded) { return CheckValue(encoded, kMaxNesting); }

}  // namespace onggi::model
