#include "client/value.h"

#include <charconv>
#include <cmath>

namespace onggi::client {
namespace {

template <class Set>
void Fill(std::vector<std::string> values, Set* set) {
  for (std::string& value : values) set->add_values(std::move(value));
}

}  // namespace

Value::Value(double value) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
  proto_.set_n(std::string(text, end));
}

Value Number(std::string decimal) {
  AttributeValue value;
  value.set_n(std::move(decimal));
  return value;
}

Value Binary(std::string bytes) {
  AttributeValue value;
  value.set_b(std::move(bytes));
  return value;
}

Value StringSet(std::vector<std::string> values) {
  AttributeValue value;
  Fill(std::move(values), value.mutable_ss());
  return value;
}

Value NumberSet(std::vector<std::string> decimals) {
  AttributeValue value;
  Fill(std::move(decimals), value.mutable_ns());
  return value;
}

Value BinarySet(std::vector<std::string> values) {
  AttributeValue value;
  Fill(std::move(values), value.mutable_bs());
  return value;
}

Value List(std::vector<Value> values) {
  AttributeValue list;
  list.mutable_l();
  for (Value& value : values) *list.mutable_l()->add_values() = std::move(value).proto();
  return list;
}

Value Map(std::vector<std::pair<std::string, Value>> values) {
  AttributeValue map;
  auto& members = *map.mutable_m()->mutable_values();
  for (auto& [name, value] : values) members[name] = std::move(value).proto();
  return map;
}

Item MakeItem(std::vector<std::pair<std::string, Value>> attributes) {
  Item item;
  auto& members = *item.mutable_attributes();
  for (auto& [name, value] : attributes) members[name] = std::move(value).proto();
  return item;
}

const AttributeValue* Find(const Item& item, std::string_view name) {
  const auto it = item.attributes().find(std::string(name));
  return it == item.attributes().end() ? nullptr : &it->second;
}

std::string StringOr(const Item& item, std::string_view name, std::string otherwise) {
  const AttributeValue* value = Find(item, name);
  return value != nullptr && value->has_s() ? value->s() : otherwise;
}

int64_t IntOr(const Item& item, std::string_view name, int64_t otherwise) {
  const AttributeValue* value = Find(item, name);
  if (value == nullptr || !value->has_n()) return otherwise;
  const std::string& text = value->n();
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : otherwise;
}

double DoubleOr(const Item& item, std::string_view name, double otherwise) {
  const AttributeValue* value = Find(item, name);
  if (value == nullptr || !value->has_n()) return otherwise;
  const std::string& text = value->n();
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : otherwise;
}

bool BoolOr(const Item& item, std::string_view name, bool otherwise) {
  const AttributeValue* value = Find(item, name);
  return value != nullptr && value->has_boolean() ? value->boolean() : otherwise;
}

}  // namespace onggi::client
