#include "server/model/value.h"

#include <algorithm>
#include <cassert>

#include "server/model/encoding.h"

namespace onggi::model {

using internal::LoadOffset;
using internal::TakeVarint;

std::string_view TypeName(Type type) {
  switch (type) {
    case Type::kNull: return "NULL";
    case Type::kBool: return "BOOL";
    case Type::kNumber: return "N";
    case Type::kString: return "S";
    case Type::kBinary: return "B";
    case Type::kStringSet: return "SS";
    case Type::kNumberSet: return "NS";
    case Type::kBinarySet: return "BS";
    case Type::kList: return "L";
    case Type::kMap: return "M";
  }
  return "";
}

std::optional<Type> TypeFromName(std::string_view name) {
  switch (name.size()) {
    case 1:
      switch (name[0]) {
        case 'S': return Type::kString;
        case 'N': return Type::kNumber;
        case 'B': return Type::kBinary;
        case 'M': return Type::kMap;
        case 'L': return Type::kList;
        default: return std::nullopt;
      }
    case 2:
      if (name[1] != 'S') return std::nullopt;
      switch (name[0]) {
        case 'S': return Type::kStringSet;
        case 'N': return Type::kNumberSet;
        case 'B': return Type::kBinarySet;
        default: return std::nullopt;
      }
    case 4:
      if (name == "BOOL") return Type::kBool;
      if (name == "NULL") return Type::kNull;
      return std::nullopt;
    default: return std::nullopt;
  }
}

Type ElementType(Type set_type) {
  switch (set_type) {
    case Type::kNumberSet: return Type::kNumber;
    case Type::kBinarySet: return Type::kBinary;
    default: return Type::kString;
  }
}

// ---- ValueView

bool ValueView::AsBool() const {
  assert(type() == Type::kBool);
  return encoded_[1] != 0;
}

std::string_view ValueView::AsString() const {
  assert(type() == Type::kString || type() == Type::kBinary);
  return encoded_.substr(1);
}

std::string_view ValueView::AsNumberEncoded() const {
  assert(type() == Type::kNumber);
  return encoded_.substr(1);
}

Number ValueView::AsNumber() const { return Number::FromEncoded(AsNumberEncoded()).value(); }

SetView ValueView::AsSet() const {
  assert(IsSet(type()));
  std::string_view rest = encoded_.substr(1);
  const uint32_t count = TakeVarint(&rest);
  return SetView(ElementType(type()), rest, count);
}

ListView ValueView::AsList() const {
  assert(type() == Type::kList);
  return ListView(encoded_.substr(1));
}

MapView ValueView::AsMap() const {
  assert(type() == Type::kMap);
  return MapView(encoded_.substr(1));
}

namespace {

size_t BilledMapContents(const MapView& map) {
  size_t size = 0;
  for (uint32_t i = 0; i < map.size(); ++i) {
    const MapView::Entry entry = map.at(i);
    size += entry.name.size() + entry.value.BilledSize();
  }
  return size;
}

}  // namespace

// Source: docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
size_t ValueView::BilledSize() const {
  switch (type()) {
    case Type::kNull:
    case Type::kBool: return 1;
    case Type::kNumber: return Number::BilledSize(AsNumberEncoded());
    case Type::kString:
    case Type::kBinary: return encoded_.size() - 1;
    case Type::kStringSet:
    case Type::kNumberSet:
    case Type::kBinarySet: {
      size_t size = 0;
      const bool numbers = type() == Type::kNumberSet;
      for (std::string_view element : AsSet()) {
        size += numbers ? Number::BilledSize(element) : element.size();
      }
      return size;
    }
    case Type::kList: {
      const ListView list = AsList();
      size_t size = 3 + list.size();
      for (uint32_t i = 0; i < list.size(); ++i) size += list.at(i).BilledSize();
      return size;
    }
    case Type::kMap: {
      const MapView map = AsMap();
      return 3 + map.size() + BilledMapContents(map);
    }
  }
  return 0;
}

namespace {

// UTF-8 of a stored string is valid: it was checked on its way in.
uint64_t Utf16Units(std::string_view utf8) {
  uint64_t units = 0;
  for (const char c : utf8) {
    const auto byte = static_cast<uint8_t>(c);
    units += (byte & 0xC0) != 0x80;  // one for each character,
    units += byte >= 0xF0;           // and another for those that need a surrogate pair
  }
  return units;
}

}  // namespace

std::optional<uint64_t> ValueView::FunctionSize() const {
  switch (type()) {
    case Type::kString: return Utf16Units(encoded_.substr(1));
    case Type::kBinary: return encoded_.size() - 1;
    case Type::kStringSet:
    case Type::kNumberSet:
    case Type::kBinarySet: return AsSet().size();
    case Type::kList: return AsList().size();
    case Type::kMap: return AsMap().size();
    default: return std::nullopt;
  }
}

int ValueView::Nesting() const {
  int deepest = 0;
  if (type() == Type::kList) {
    const ListView list = AsList();
    for (uint32_t i = 0; i < list.size(); ++i) deepest = std::max(deepest, list.at(i).Nesting());
    return deepest + 1;
  }
  if (type() == Type::kMap) {
    const MapView map = AsMap();
    for (uint32_t i = 0; i < map.size(); ++i) {
      deepest = std::max(deepest, map.at(i).value.Nesting());
    }
    return deepest + 1;
  }
  return 0;
}

int ValueView::Compare(ValueView a, ValueView b) {
  assert(a.type() == b.type());
  // All three payloads are in byte order, and string_view compares chars as unsigned.
  return a.encoded_.substr(1).compare(b.encoded_.substr(1));
}

// ---- SetView

void SetView::Iterator::Load() {
  if (rest_.empty()) {
    done_ = true;
    return;
  }
  const uint32_t size = TakeVarint(&rest_);
  current_ = rest_.substr(0, size);
  rest_.remove_prefix(size);
}

bool SetView::Contains(std::string_view payload) const {
  for (std::string_view element : *this) {
    const int order = element.compare(payload);
    if (order >= 0) return order == 0;
  }
  return false;
}

// ---- ListView and MapView

namespace {

// Splits a list's or map's payload into its directory and its contents.
void SplitPayload(std::string_view payload, uint32_t* count, uint8_t* width,
                  std::string_view* offsets, std::string_view* contents) {
  *count = TakeVarint(&payload);
  if (*count == 0) return;
  *width = static_cast<uint8_t>(payload[0]);
  const size_t size = static_cast<size_t>(*count) * *width;
  *offsets = payload.substr(1, size);
  *contents = payload.substr(1 + size);
}

// The bytes of element `index`: they end where the next one starts.
std::string_view Slice(std::string_view contents, std::string_view offsets, uint8_t width,
                       uint32_t count, uint32_t index) {
  const size_t start = LoadOffset(offsets.data(), width, index);
  const size_t end =
      index + 1 < count ? LoadOffset(offsets.data(), width, index + 1) : contents.size();
  return contents.substr(start, end - start);
}

}  // namespace

ListView::ListView(std::string_view payload) {
  SplitPayload(payload, &count_, &offset_width_, &offsets_, &values_);
}

ValueView ListView::at(uint32_t index) const {
  assert(index < count_);
  return ValueView(Slice(values_, offsets_, offset_width_, count_, index));
}

MapView::MapView(std::string_view payload) {
  SplitPayload(payload, &count_, &offset_width_, &offsets_, &entries_);
}

MapView::Entry MapView::at(uint32_t index) const {
  assert(index < count_);
  std::string_view entry = Slice(entries_, offsets_, offset_width_, count_, index);
  const uint32_t name_size = TakeVarint(&entry);
  return {entry.substr(0, name_size), ValueView(entry.substr(name_size))};
}

ValueView MapView::Find(std::string_view name) const {
  uint32_t low = 0;
  uint32_t high = count_;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const Entry entry = at(middle);
    const int order = entry.name.compare(name);
    if (order == 0) return entry.value;
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return {};
}

// ---- ItemView

ItemView::ItemView(std::string_view encoded) : encoded_(encoded) {
  if (!encoded.empty()) attributes_ = MapView(encoded.substr(1));
}

size_t ItemView::BilledSize() const { return BilledMapContents(attributes_); }

}  // namespace onggi::model
