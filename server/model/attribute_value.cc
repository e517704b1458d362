#include "server/model/attribute_value.h"

#include <algorithm>

#include "common/check.h"
#include "server/model/encoding.h"

namespace onggi::model {

using internal::AppendMapPayload;
using internal::AppendVarint;
using internal::BeginEntry;
using internal::MapEntry;
using internal::WrapListPayload;

namespace {

AttributeValue Make(Type type, std::string_view payload) {
  std::string bytes;
  bytes.reserve(1 + payload.size());
  bytes.push_back(static_cast<char>(type));
  bytes.append(payload);
  return AttributeValue(AttributeValue::Encoded{std::move(bytes)});
}

void AppendPayload(const AttributeMap& attributes, std::string* out) {
  std::string buffer;
  std::vector<MapEntry> entries;
  entries.reserve(attributes.size());
  for (const auto& [name, value] : attributes) {
    MapEntry entry = BeginEntry(name, &buffer);
    value.EncodeTo(&buffer);
    entry.size = static_cast<uint32_t>(buffer.size()) - entry.offset;
    entries.push_back(entry);
  }
  AppendMapPayload(buffer, entries, out);
}

}  // namespace

AttributeValue AttributeValue::Null() { return Make(Type::kNull, {}); }

AttributeValue AttributeValue::Bool(bool value) {
  const char payload = value ? 1 : 0;
  return Make(Type::kBool, {&payload, 1});
}

AttributeValue AttributeValue::Of(const Number& number) {
  return Make(Type::kNumber, number.encoded());
}

AttributeValue AttributeValue::String(std::string_view text) { return Make(Type::kString, text); }

AttributeValue AttributeValue::Binary(std::string_view bytes) { return Make(Type::kBinary, bytes); }

AttributeValue AttributeValue::Set(Type type, std::vector<std::string> elements) {
  CHECK(IsSet(type));
  std::sort(elements.begin(), elements.end());
  elements.erase(std::unique(elements.begin(), elements.end()), elements.end());
  std::string bytes(1, static_cast<char>(type));
  AppendVarint(static_cast<uint32_t>(elements.size()), &bytes);
  for (const std::string& element : elements) {
    AppendVarint(static_cast<uint32_t>(element.size()), &bytes);
    bytes.append(element);
  }
  return AttributeValue(Encoded{std::move(bytes)});
}

Type AttributeValue::type() const {
  if (std::holds_alternative<AttributeList>(state_)) return Type::kList;
  if (std::holds_alternative<AttributeMap>(state_)) return Type::kMap;
  return ValueView(std::get<Encoded>(state_).bytes).type();
}

AttributeList& AttributeValue::MutableList() {
  CHECK(type() == Type::kList);
  if (const Encoded* encoded = std::get_if<Encoded>(&state_)) {
    const ListView view = ValueView(encoded->bytes).AsList();
    AttributeList list;
    list.reserve(view.size());
    for (uint32_t i = 0; i < view.size(); ++i) list.emplace_back(view.at(i));
    state_ = std::move(list);
  }
  return std::get<AttributeList>(state_);
}

AttributeMap& AttributeValue::MutableMap() {
  CHECK(type() == Type::kMap);
  if (const Encoded* encoded = std::get_if<Encoded>(&state_)) {
    AttributeMap map = DecodeAttributes(ValueView(encoded->bytes).AsMap());
    state_ = std::move(map);
  }
  return std::get<AttributeMap>(state_);
}

int AttributeValue::Nesting() const {
  int deepest = 0;
  if (const auto* list = std::get_if<AttributeList>(&state_)) {
    for (const AttributeValue& value : *list) deepest = std::max(deepest, value.Nesting());
    return deepest + 1;
  }
  if (const auto* map = std::get_if<AttributeMap>(&state_)) {
    for (const auto& [name, value] : *map) deepest = std::max(deepest, value.Nesting());
    return deepest + 1;
  }
  return ValueView(std::get<Encoded>(state_).bytes).Nesting();
}

void AttributeValue::EncodeTo(std::string* out) const {
  if (const Encoded* encoded = std::get_if<Encoded>(&state_)) {
    out->append(encoded->bytes);
    return;
  }
  if (const auto* map = std::get_if<AttributeMap>(&state_)) {
    out->push_back(static_cast<char>(Type::kMap));
    AppendPayload(*map, out);
    return;
  }
  const auto& list = std::get<AttributeList>(state_);
  out->push_back(static_cast<char>(Type::kList));
  const size_t start = out->size();
  std::vector<uint32_t> offsets;
  offsets.reserve(list.size());
  for (const AttributeValue& value : list) {
    offsets.push_back(static_cast<uint32_t>(out->size() - start));
    value.EncodeTo(out);
  }
  WrapListPayload(start, offsets, out);
}

std::string AttributeValue::Encode() const {
  std::string bytes;
  EncodeTo(&bytes);
  return bytes;
}

AttributeMap DecodeAttributes(const MapView& attributes) {
  AttributeMap map;
  for (uint32_t i = 0; i < attributes.size(); ++i) {
    const MapView::Entry entry = attributes.at(i);
    map.emplace_hint(map.end(), std::string(entry.name), AttributeValue(entry.value));
  }
  return map;
}

std::string EncodeItem(const AttributeMap& attributes) {
  std::string bytes(1, static_cast<char>(kItemFormat));
  AppendPayload(attributes, &bytes);
  return bytes;
}

void MapBuilder::Clear() {
  buffer_.clear();
  entries_.clear();
}

void MapBuilder::Add(std::string_view name, std::string_view encoded_value) {
  MapEntry entry = BeginEntry(name, &buffer_);
  buffer_.append(encoded_value);
  entry.size = static_cast<uint32_t>(buffer_.size()) - entry.offset;
  entries_.push_back(entry);
}

void MapBuilder::FinishValue(std::string* out) {
  out->push_back(static_cast<char>(Type::kMap));
  AppendMapPayload(buffer_, entries_, out);
}

void MapBuilder::FinishItem(std::string* out) {
  out->push_back(static_cast<char>(kItemFormat));
  AppendMapPayload(buffer_, entries_, out);
}

}  // namespace onggi::model
