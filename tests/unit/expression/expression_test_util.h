#pragma once

#include <simdjson.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "server/expression/expression.h"
#include "server/model/json.h"

namespace onggi::expression {

/// The encoded value of {"S": "x"} and the like.
inline std::string Value(std::string_view json) {
  simdjson::dom::parser parser;
  std::string value;
  const Status status = model::ParseValue(parser.parse(std::string(json)), &value);
  CHECK_MSG(status.ok(), status.message());
  return value;
}

/// The encoded item of {"name": {"S": "x"}}.
inline std::string Item(std::string_view json) {
  simdjson::dom::parser parser;
  std::string item;
  const Status status = model::ParseItem(parser.parse(std::string(json)), &item);
  CHECK_MSG(status.ok(), status.message());
  return item;
}

/// An item as DynamoDB JSON, attributes in order of name.
inline std::string Json(std::string_view item) {
  std::string json;
  model::WriteItem(model::ItemView(item), &json);
  return json;
}

/// The placeholders that the tables of these tests use. All values are there under fixed names;
/// tests of unused ones make their own.
inline Placeholders CommonPlaceholders() {
  static const std::pair<const char*, const char*> kValues[] = {
      {":v", R"({"N":"1"})"},
      {":w", R"({"N":"2"})"},
      {":five", R"({"N":"5.0"})"},
      {":s", R"({"S":"x"})"},
      {":he", R"({"S":"he"})"},
      {":ell", R"({"S":"ell"})"},
      {":hello", R"({"S":"hello"})"},
      {":empty", R"({"S":""})"},
      {":typeN", R"({"S":"N"})"},
      {":b", R"({"B":"YQ=="})"},
      {":bhe", R"({"B":"aGU="})"},
      {":ss", R"({"SS":["c","b"]})"},
      {":sab", R"({"SS":["b","a"]})"},
      {":ns", R"({"NS":["1"]})"},
      {":l", R"({"L":[{"N":"7"}]})"},
      {":none", R"({"L":[]})"},
      {":l9", R"({"L":[{"N":"9.0"}]})"},
      {":m", R"({"M":{}})"},
      {":t", R"({"BOOL":true})"},
      {":z", R"({"NULL":true})"},
  };
  Placeholders placeholders;
  for (const auto& [name, json] : kValues) placeholders.AddValue(name, Value(json));
  placeholders.AddName("#name", "name");
  placeholders.AddName("#a", "a");
  placeholders.AddName("#dotted", "a.b");
  placeholders.AddName("#0", "x");
  return placeholders;
}

/// `parts` `count` times with `separator` between them.
inline std::string Repeat(std::string_view part, int count, std::string_view separator = "") {
  std::string text;
  for (int i = 0; i < count; ++i) {
    if (i > 0) text += separator;
    text += part;
  }
  return text;
}

}  // namespace onggi::expression
